//! S-AZ-10 and S-AZ-11: a policy that changes under load is always one whole policy, and connections that are open
//! already do not outlive their right to be.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::CidrRange,
            listener::v3::{Filter, FilterChain, FilterChainMatch, filter},
            rbac::v3::rbac::Action,
        },
        extensions::filters::network::rbac::v3::Rbac as NetworkRbac,
    },
    google::protobuf::{Any, UInt32Value},
};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};
use tonic::Status;
use weft_proxy::{
    Config,
    config::{ForeignXds, XdsMode},
};
use weft_xds::{
    Node, Resource, Resources,
    server::{Peer, Source, Subscription},
};

use crate::{
    mesh::{
        LIMIT, get, read_head, status, try_head,
        xds::{Speak, any, cluster, direct, http, listener, managed, plain_chain, tcp, vhost},
    },
    origin::{Origin, addresses},
    rules::{anything, http_rbac, path_and_below, paths_matter, rbac},
};

/// An xDS server with one set of resources for everybody.
struct Server {
    resources: watch::Sender<Arc<Resources>>,
}

impl Source for Server {
    fn subscribe(&self, _: &Peer, _: &Node) -> Result<Subscription, Status> {
        Ok(Subscription { resources: self.resources.subscribe(), report: Box::new(|_| {}) })
    }
}

impl Server {
    fn put(&self, version: &str, resources: Vec<(&str, Any)>) {
        let mut builder = Resources::builder();
        for (name, body) in resources {
            builder.put(Resource::new(name, body));
        }
        self.resources.send_replace(Arc::new(builder.build(version)));
    }
}

/// A proxy that is fed by a server of the test's.
struct Fed {
    server: Arc<Server>,
    stop: tokio_util::sync::CancellationToken,
    thread: Option<std::thread::JoinHandle<Result<(), weft_proxy::ProxyError>>>,
    _state: tempfile::TempDir,
}

impl Fed {
    async fn start() -> Fed {
        let server = Arc::new(Server { resources: watch::Sender::default() });
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let incoming = tonic::transport::server::TcpIncoming::from(socket);
        let service = weft_xds::server::service(Arc::clone(&server) as Arc<dyn Source>);
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        let state = tempfile::tempdir().unwrap();
        let mut config = Config::new("default", "edge", state.path().to_owned());
        config.foreign = Some(ForeignXds { address, tls: None, mode: XdsMode::Delta });
        config.workers = 2;
        config.signals = false;
        config.drain = weft_proxy::Drain { delay: Duration::ZERO, timeout: Duration::from_millis(500) };
        (config.ports.outbound, config.ports.inbound, config.ports.metrics) = (None, None, None);
        config.ports.admin = Some("127.0.0.1:0".parse().unwrap());
        let stop = config.stop.clone();
        let (sender, ready) = std::sync::mpsc::channel();
        config.on_ready = Some(Box::new(move |ports| sender.send(ports).unwrap()));
        let thread = Some(std::thread::spawn(move || weft_proxy::run(config)));
        ready.recv_timeout(LIMIT).unwrap();
        Fed { server, stop, thread, _state: state }
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for a fact; how long it took.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < LIMIT, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

/// A version of the policy: it denies its own path and `/never`, and answers all else with its name.
fn version(name: &'static str, at: SocketAddr) -> Vec<(&'static str, Any)> {
    let denied = [path_and_below(&format!("/{name}"), false), path_and_below("/never", false)].concat();
    let manager = http("web", vec![vhost("all", &["*"], vec![direct("/", 200, name)])], None);
    let manager = managed(manager, |manager| {
        paths_matter(manager);
        manager.http_filters.insert(0, http_rbac(Some(rbac(Action::Deny, denied)), None));
    });
    vec![("web", listener("web", at, vec![plain_chain(manager)]))]
}

/// S-AZ-10, short: 200 toggles under load. What version `a` refuses only version `b` may answer, and the other way
/// round; what both refuse nobody answers, ever. Then: 20 pushes of a deny, each in force within 500 ms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_is_judged_by_one_whole_version() {
    let at = addresses(21, 1)[0];
    let fed = Fed::start().await;
    fed.server.put("0", version("a", at));
    until("the first table", async || TcpStream::connect(at).await.is_ok()).await;
    until("an answer", async || get(at, "h", "/b").await.ends_with('a')).await;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let mut load = tokio::task::JoinSet::new();
    for path in ["/a", "/b", "/never", "/never"] {
        let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
        load.spawn(async move {
            let stream = TcpStream::connect(at).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            let (mut denied, mut answered) = (0_u64, 0_u64);
            while !stop.load(Ordering::Relaxed) {
                let request = Request::get(format!("http://h{path}")).body(Empty::<Bytes>::new()).unwrap();
                let response =
                    tokio::time::timeout(LIMIT, sender.send_request(request)).await.unwrap().unwrap();
                let status = response.status().as_u16();
                let body = response.into_body().collect().await.unwrap().to_bytes();
                asked.fetch_add(1, Ordering::Relaxed);
                match status {
                    403 => denied += 1,
                    200 => {
                        answered += 1;
                        assert_ne!(path, "/never", "a window without a policy: {body:?}");
                        assert_ne!(
                            path.as_bytes()[1..],
                            body[..],
                            "judged by one version, answered by the other"
                        );
                    }
                    other => panic!("{path}: {other} {body:?}"),
                }
            }
            (path, denied, answered)
        });
    }
    for toggle in 1..=200_u32 {
        fed.server.put(&toggle.to_string(), version(if toggle % 2 == 1 { "b" } else { "a" }, at));
        tokio::time::sleep(Duration::from_millis(15)).await;
        // No worker died of an assertion: then there is no need to go on.
        assert!(load.try_join_next().is_none(), "toggle {toggle}");
    }
    stop.store(true, Ordering::Relaxed);
    let judged = load.join_all().await;
    eprintln!("S-AZ-10: {} requests over 200 toggles: {judged:?}", asked.load(Ordering::Relaxed));
    for (path, denied, answered) in judged {
        assert!(
            denied > 100 && (path == "/never" || answered > 100),
            "{path}: {denied} denied, {answered} answered"
        );
    }
    let mut slowest = Duration::ZERO;
    for round in 0..20 {
        let (name, path) = if round % 2 == 0 { ("b", "/b") } else { ("a", "/a") };
        fed.server.put(&format!("r{round}"), version(name, at));
        let took = until("the deny", async || get(at, "h", path).await.starts_with("HTTP/1.1 403")).await;
        slowest = slowest.max(took);
    }
    eprintln!("S-AZ-10: slowest deny in force after {slowest:?}");
    assert!(slowest <= Duration::from_millis(500), "{slowest:?}");
}

fn bytes_port(at: SocketAddr, origin: &Origin, denied: bool) -> Vec<(&'static str, Any)> {
    let rules = rbac(if denied { Action::Deny } else { Action::Allow }, vec![anything()]);
    let filter =
        NetworkRbac { rules: Some(rules), stat_prefix: "bytes".to_owned(), ..NetworkRbac::default() };
    let rbac = Filter {
        name: "envoy.filters.network.rbac".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(any(&filter))),
    };
    let filters = vec![rbac, tcp("app")];
    let chain = FilterChain { name: "plain".to_owned(), filters, ..FilterChain::default() };
    vec![
        ("app", cluster("app", &[origin.address], Speak::Tcp, None)),
        ("bytes", listener("bytes", at, vec![chain])),
    ]
}

/// S-AZ-11, HTTP: on connections that were open before, the next request is denied, by HTTP/1 and by HTTP/2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_deny_holds_for_the_next_request_of_an_open_connection() {
    let at = addresses(22, 1)[0];
    let fed = Fed::start().await;
    fed.server.put("0", version("b", at));
    until("the first table", async || TcpStream::connect(at).await.is_ok()).await;
    until("an answer", async || get(at, "h", "/a/x").await.ends_with('b')).await;
    let stream = TcpStream::connect(at).await.unwrap();
    let (mut h2, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = || Request::get("http://h/a/x").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(h2.send_request(request()).await.unwrap().status(), 200);
    let mut h1 = TcpStream::connect(at).await.unwrap();
    let ask = b"GET /a/x HTTP/1.1\r\nhost: h\r\n\r\n";
    h1.write_all(ask).await.unwrap();
    assert!(read_head(&mut h1).await.starts_with("HTTP/1.1 200"));
    h1.read_u8().await.unwrap(); // the answer's one byte

    fed.server.put("1", version("a", at));
    until("the deny, for new connections", async || get(at, "h", "/a/x").await.starts_with("HTTP/1.1 403"))
        .await;
    // Two workers may differ by a moment.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(h2.send_request(request()).await.unwrap().status(), 403, "HTTP/2");
    h1.write_all(ask).await.unwrap();
    assert!(read_head(&mut h1).await.starts_with("HTTP/1.1 403"), "HTTP/1");
}

/// S-AZ-11, TCP: a new deny refuses new connections at once and cuts those that are open within five seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_deny_refuses_new_tcp_connections_and_cuts_open_ones() {
    let at = addresses(23, 1)[0];
    let (fed, origin) = (Fed::start().await, Origin::start().await);
    fed.server.put("0", bytes_port(at, &origin, false));
    let mut open = None;
    until("a connection that is answered", async || {
        let Ok(mut stream) = TcpStream::connect(at).await else { return false };
        let asked = stream.write_all(b"hello\r\n\r\n").await.is_ok();
        let answered = asked && matches!(stream.read(&mut [0; 1024]).await, Ok(1..));
        open = Some(stream);
        answered
    })
    .await;
    let mut open = open.unwrap();
    fed.server.put("1", bytes_port(at, &origin, true));
    let refused = async || {
        let Ok(mut stream) = TcpStream::connect(at).await else { return false };
        let _ = stream.write_all(b"hello\r\n\r\n").await;
        matches!(stream.read(&mut [0; 16]).await, Ok(0) | Err(_))
    };
    until("the deny, for new connections", refused).await;
    let cut = tokio::time::timeout(Duration::from_secs(5), open.read(&mut [0; 16])).await;
    assert!(matches!(cut, Ok(Ok(0) | Err(_))), "an open TCP connection outlives the deny: {cut:?}");
}

/// Asks on a connection that stays; the body of six bytes, if it is still served.
async fn ask(stream: &mut TcpStream) -> Option<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.ok()?;
    try_head(stream).await.filter(|head| status(head) == 200)?;
    let mut body = [0; 6];
    stream.read_exact(&mut body).await.ok()?;
    Some(String::from_utf8_lossy(&body).into_owned())
}

/// A chain without a name is the same chain wherever it stands in its listener, and no other is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_stays_with_its_chain_wherever_that_stands() {
    let at = addresses(24, 1)[0];
    let chain = |body: &str, only: Option<&str>| {
        let filter = http(body, vec![vhost("all", &["*"], vec![direct("/", 200, body)])], None);
        let filter_chain_match = only.map(|address| FilterChainMatch {
            source_prefix_ranges: vec![CidrRange {
                address_prefix: address.to_owned(),
                prefix_len: Some(UInt32Value { value: 32 }),
            }],
            ..FilterChainMatch::default()
        });
        FilterChain { filter_chain_match, filters: vec![filter], ..FilterChain::default() }
    };
    let fed = Fed::start().await;
    let put = |version: &str, chains| fed.server.put(version, vec![("web", listener("web", at, chains))]);
    put("0", vec![chain("public", None)]);
    until("the first table", async || TcpStream::connect(at).await.is_ok()).await;
    until("an answer", async || get(at, "h", "/").await.ends_with("public")).await;
    let mut open = TcpStream::connect(at).await.unwrap();
    assert_eq!(ask(&mut open).await.as_deref(), Some("public"));

    let others = || chain("others", Some("203.0.113.7"));
    put("1", vec![others(), chain("PUBLIC", None)]);
    until("the second version", async || get(at, "h", "/").await.ends_with("PUBLIC")).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(ask(&mut open).await.as_deref(), Some("PUBLIC"), "its chain has a new place");
    put("2", vec![others()]);
    until("the third version", async || !get(at, "h", "/").await.starts_with("HTTP/1.1 200")).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(ask(&mut open).await, None, "its chain is gone");
}

/// What a network policy refuses now, an open connection of HTTP gets no more either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_network_deny_ends_open_http_connections() {
    let at = addresses(25, 1)[0];
    let web = |denied: bool| {
        let rules = rbac(if denied { Action::Deny } else { Action::Allow }, vec![anything()]);
        let filter =
            NetworkRbac { rules: Some(rules), stat_prefix: "web".to_owned(), ..NetworkRbac::default() };
        let rbac = Filter {
            name: "envoy.filters.network.rbac".to_owned(),
            config_type: Some(filter::ConfigType::TypedConfig(any(&filter))),
        };
        let manager = http("web", vec![vhost("all", &["*"], vec![direct("/", 200, "served")])], None);
        let chain =
            FilterChain { name: "plain".to_owned(), filters: vec![rbac, manager], ..FilterChain::default() };
        vec![("web", listener("web", at, vec![chain]))]
    };
    let fed = Fed::start().await;
    fed.server.put("0", web(false));
    until("the first table", async || TcpStream::connect(at).await.is_ok()).await;
    until("an answer", async || get(at, "h", "/").await.ends_with("served")).await;
    let mut open = TcpStream::connect(at).await.unwrap();
    assert_eq!(ask(&mut open).await.as_deref(), Some("served"));
    fed.server.put("1", web(true));
    until("the deny, for new connections", async || !get(at, "h", "/").await.starts_with("HTTP/1.1 200"))
        .await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(ask(&mut open).await, None);
}

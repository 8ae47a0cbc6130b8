//! A certificate that the control plane takes back: nobody who shows it gets in from then on, and what it had open ends,
//! on both sides of a connection and over whatever is spoken. The others notice nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is a failed test, also in the helpers"
)]

mod mesh;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use mesh::{
    App, Ca, LIMIT, Proxy, control,
    control::Plan,
    echo, eventually, free_port, get, id, metric, read_head,
    xds::{Speak, cluster, http, listener, member_chain, plain_chain, tcp, to, vhost},
};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use weft_identity::{Bundle, IdentityMatch, Svid, tls};
use weft_proxy::{
    Config, Ports, PortsWanted, ProxyError, certificates::Identity, static_config::StaticResources,
};
use weft_xds::{Any, Resource, Resources};

const WEB: &str = "p80.mesh.internal";
const BYTES: &str = "p90.mesh.internal";
/// For what begins, and for what is open.
const NEW_MAX: Duration = Duration::from_secs(2);
const OPEN_MAX: Duration = Duration::from_secs(10);

/// A proxy that has joined a control plane which is in the test's hands.
struct Joined {
    control: control::Control,
    ports: Ports,
    state: PathBuf,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<Result<(), ProxyError>>>,
}

impl Joined {
    async fn start(
        ca: &Ca,
        service: &str,
        table: impl Fn(SocketAddr, SocketAddr) -> Resources + Send + Sync + 'static,
    ) -> Joined {
        let plan = Plan {
            ca: ca.clone(),
            service: service.to_owned(),
            first_ttl: Duration::from_secs(3600),
            table: Arc::new(table),
        };
        let control = control::Control::start(&plan, "127.0.0.1:0".parse().unwrap()).await;
        let state = std::env::temp_dir().join(format!("weft-revocation-{:x}", fastrand::u64(..)));
        let mut config = Config::new("default", service, state.clone());
        config.control = Some(weft_proxy::Control {
            address: format!("https://{}", control.address),
            token: Some(plan.token()),
        });
        let any = Some("127.0.0.1:0".parse().unwrap());
        config.ports = PortsWanted { outbound: any, inbound: any, admin: any, metrics: any };
        config.drain = weft_proxy::Drain { delay: Duration::ZERO, timeout: Duration::from_secs(2) };
        config.signals = false;
        config.workers = 2;
        let stop = config.stop.clone();
        let (sender, ready) = std::sync::mpsc::channel();
        config.on_ready = Some(Box::new(move |ports| sender.send(ports).unwrap()));
        let thread = Some(std::thread::spawn(move || weft_proxy::run(config)));
        let ports = ready.recv_timeout(LIMIT).unwrap();
        let admin = ports.admin.unwrap();
        eventually("the first table", async || get(admin, "x", "/ready").await.ends_with("LIVE\n")).await;
        let joined = Joined { control, ports, state, stop, thread };
        eventually("the link", async || joined.control.seen.lock().unwrap().hello.is_some()).await;
        joined
    }

    fn inbound(&self) -> SocketAddr {
        self.ports.inbound.unwrap()
    }

    fn outbound(&self) -> SocketAddr {
        self.ports.outbound.unwrap()
    }

    async fn metric(&self, name: &str) -> u64 {
        metric(self.ports.admin.unwrap(), name).await
    }

    /// How many are on the list that the proxy goes by.
    async fn revoked(&self) -> String {
        let page = get(self.ports.admin.unwrap(), "x", "/certs").await;
        let line = page.lines().find(|line| line.contains("\"revoked\"")).unwrap_or_default();
        line.trim().trim_end_matches(',').to_owned()
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

fn resources(all: Vec<(&str, Any)>) -> Resources {
    let mut builder = Resources::builder();
    for (name, body) in all {
        builder.put(Resource::new(name, body));
    }
    builder.build("test")
}

/// `be`, before an app of each kind.
async fn callee(ca: &Ca) -> Joined {
    let (app, bytes) = (App::start().await.address, echo().await);
    Joined::start(ca, "be", move |_, inbound| {
        let web = http("inbound|80", vec![vhost("all", &["*"], vec![to("/", "inbound|80")])], None);
        let chains =
            vec![member_chain(WEB, &["h2", "http/1.1"], web), member_chain(BYTES, &[], tcp("inbound|90"))];
        resources(vec![
            ("inbound|80", cluster("inbound|80", &[app], Speak::Http1, None)),
            ("inbound|90", cluster("inbound|90", &[bytes], Speak::Tcp, None)),
            ("inbound", listener("inbound", inbound, chains)),
        ])
    })
    .await
}

type Identified = (Svid, Bundle);

/// A member's connection to `be`.
async fn connect(
    (svid, bundle): &Identified,
    at: SocketAddr,
    sni: &str,
    alpn: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
    let config = tls::client_config(svid, bundle, IdentityMatch::TrustDomain, alpn).unwrap();
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    let stream = TcpStream::connect(at).await?;
    tokio_rustls::TlsConnector::from(config).connect(name, stream).await
}

async fn ask(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), path: &str) -> io::Result<String> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: be\r\n\r\n").as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}

/// A new connection of this member; whether it gets an answer.
async fn gets_in(member: &Identified, at: SocketAddr) -> bool {
    let asking = async {
        let mut stream = connect(member, at, WEB, &["http/1.1"]).await?;
        ask(&mut stream, "/healthy").await
    };
    tokio::time::timeout(LIMIT, asking).await.expect("a verdict in time").is_ok()
}

/// Reads until it is over; whether it was cut rather than ended, and after how long.
async fn ended(mut stream: impl AsyncReadExt + Unpin, since: Instant) -> Duration {
    let mut rest = Vec::new();
    let reading = stream.read_to_end(&mut rest);
    let _ = tokio::time::timeout(OPEN_MAX + LIMIT, reading).await.expect("an end");
    since.elapsed()
}

/// A stalled answer over HTTP/2; gives its body's end.
async fn stalled_h2(stream: TlsStream<TcpStream>) -> h2::RecvStream {
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = ::http::Request::get("http://be/stall").body(()).unwrap();
    let (answer, _) = send.send_request(request, true).unwrap();
    let mut body = tokio::time::timeout(LIMIT, answer).await.unwrap().unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "first");
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_caller_is_refused_and_what_it_has_open_is_cut() {
    let ca = Ca::new();
    let be = callee(&ca).await;
    let (bad, good) = (ca.identity("fe"), ca.identity("fe"));
    let at = be.inbound();
    be.control.say(ca.crl(&[]).into());
    assert!(gets_in(&bad, at).await && gets_in(&good, at).await);
    // Idle, in the middle of an answer, and bytes, of one who goes and one who stays.
    let mut idle = connect(&bad, at, WEB, &["http/1.1"]).await.unwrap();
    assert!(ask(&mut idle, "/healthy").await.is_ok());
    let mut stalled = connect(&bad, at, WEB, &["http/1.1"]).await.unwrap();
    assert!(ask(&mut stalled, "/stall").await.unwrap().starts_with("HTTP/1.1 200 "));
    let mut waiting = connect(&bad, at, WEB, &["http/1.1"]).await.unwrap();
    waiting.write_all(b"GET /slow HTTP/1.1\r\nhost: be\r\n\r\n").await.unwrap();
    let h2 = stalled_h2(connect(&bad, at, WEB, &["h2"]).await.unwrap()).await;
    let mut upgraded = connect(&bad, at, WEB, &["http/1.1"]).await.unwrap();
    upgraded
        .write_all(b"GET /ws HTTP/1.1\r\nhost: be\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        .await
        .unwrap();
    let mut switched = Vec::new();
    while !switched.ends_with(b"\r\n\r\n") {
        switched.push(upgraded.read_u8().await.unwrap());
    }
    assert!(switched.starts_with(b"HTTP/1.1 101 "));
    let mut bytes = connect(&bad, at, BYTES, &[]).await.unwrap();
    let mut kept = connect(&good, at, WEB, &["http/1.1"]).await.unwrap();
    let mut kept_bytes = connect(&good, at, BYTES, &[]).await.unwrap();
    for stream in [&mut bytes, &mut kept_bytes] {
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    }
    assert!(ask(&mut kept, "/healthy").await.is_ok());

    let said = Instant::now();
    be.control.say(ca.crl(&[&bad.0]).into());
    while gets_in(&bad, at).await {
        assert!(said.elapsed() < NEW_MAX, "a new connection is still let in");
    }
    assert!(said.elapsed() < NEW_MAX, "{:?}", said.elapsed());
    let h2 = async {
        let mut h2 = h2;
        while let Some(Ok(_)) = h2.data().await {}
        said.elapsed()
    };
    let (idle, stalled, waiting, upgraded, bytes, h2) = tokio::join!(
        ended(idle, said),
        ended(stalled, said),
        ended(waiting, said),
        ended(upgraded, said),
        ended(bytes, said),
        tokio::time::timeout(OPEN_MAX + LIMIT, h2),
    );
    let all = [idle, stalled, waiting, upgraded, bytes, h2.expect("an end")];
    println!("refused and ended after {all:?}");
    // An answer to `/slow` would come after 5 s.
    assert!(all.iter().all(|after| *after < Duration::from_secs(4)), "{all:?}");

    assert!(gets_in(&good, at).await, "another certificate of the same identity");
    assert!(ask(&mut kept, "/healthy").await.is_ok(), "and its connections go on");
    kept_bytes.write_all(b"y").await.unwrap();
    assert_eq!(kept_bytes.read_u8().await.unwrap(), b'y');
    assert!(be.metric("weft_connections_revoked").await >= all.len() as u64);
    assert!(be.metric("weft_tls_failures{listener=inbound,reason=revoked}").await >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_list_changes_nothing_and_the_last_one_is_kept_for_the_next_start() {
    let ca = Ca::new();
    let be = callee(&ca).await;
    let (bad, good) = (ca.identity("fe"), ca.identity("fe"));
    let at = be.inbound();
    be.control.say(ca.crl(&[&bad.0]).into());
    eventually("the list", async || be.revoked().await == "\"revoked\": 1").await;
    let list = |crl_der: &[u8], issuer_der: &[u8]| weft_link::Crl {
        lists: vec![weft_link::SignedList { crl_der: crl_der.to_vec(), issuer_der: issuer_der.to_vec() }],
    };
    let mut damaged = ca.crl(&[]).lists.remove(0);
    let last = damaged.crl_der.len() - 1;
    damaged.crl_der[last] ^= 1;
    for garbage in [
        weft_link::Crl { lists: Vec::new() },
        list(b"", b""),
        list(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &damaged.issuer_der),
        list(&damaged.crl_der, &damaged.issuer_der),
        Ca::new().crl(&[]),
    ] {
        be.control.say(garbage.into());
    }
    // Read after all of them, as they come in order.
    be.control.say(ca.crl(&[&bad.0, &ca.identity("x").0]).into());
    eventually("the next list", async || be.revoked().await == "\"revoked\": 2").await;
    assert!(!gets_in(&bad, at).await && gets_in(&good, at).await);
    be.control.say(list(b"junk", b"junk").into());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!gets_in(&bad, at).await && gets_in(&good, at).await);

    let known = |state: &Path| {
        let identity = Identity::open(state, None, "default", "be").unwrap();
        identity.credentials().map(|credentials| credentials.bundle.revokes(bad.0.serial_hex()))
    };
    assert_eq!(known(&be.state), Some(true), "without a word of the control plane");
    std::fs::write(be.state.join("identity/crl.pem"), "damaged").unwrap();
    assert_eq!(known(&be.state), Some(false), "a damaged list costs no identity");
}

/// `fe`, which calls `be` over HTTP/1, HTTP/2 and bytes.
async fn caller(ca: &Ca, be: SocketAddr, bytes_at: SocketAddr) -> Joined {
    Joined::start(ca, "fe", move |outbound, _| {
        let hosts =
            vec![vhost("h1", &["h1"], vec![to("/", "h1")]), vhost("h2", &["h2"], vec![to("/", "h2")])];
        let web = plain_chain(http("outbound", hosts, None));
        resources(vec![
            ("h1", cluster("h1", &[be], Speak::Http1, Some((WEB, &id("be"))))),
            ("h2", cluster("h2", &[be], Speak::Http2, Some((WEB, &id("be"))))),
            ("bytes", cluster("bytes", &[be], Speak::Tcp, Some((BYTES, &id("be"))))),
            ("outbound", listener("outbound", outbound, vec![web])),
            ("bytes-out", listener("bytes-out", bytes_at, vec![plain_chain(tcp("bytes"))])),
        ])
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_callee_is_called_no_more_and_its_answers_end() {
    let ca = Ca::new();
    let (app, echo) = (App::start().await.address, echo().await);
    let (at, bytes_at) = (free_port(), free_port());
    let identity = ca.identity("be");
    let web = http("inbound|80", vec![vhost("all", &["*"], vec![to("/", "inbound|80")])], None);
    let chains =
        vec![member_chain(WEB, &["h2", "http/1.1"], web), member_chain(BYTES, &[], tcp("inbound|90"))];
    let _be = Proxy::start(
        "be",
        StaticResources {
            identity: Some(identity.clone()),
            listeners: vec![listener("inbound", at, chains)],
            clusters: vec![
                cluster("inbound|80", &[app], Speak::Http1, None),
                cluster("inbound|90", &[echo], Speak::Tcp, None),
            ],
            ..StaticResources::default()
        },
    );
    let fe = caller(&ca, at, bytes_at).await;
    let mut stalled = Vec::new();
    for host in ["h1", "h2"] {
        assert!(get(fe.outbound(), host, "/healthy").await.starts_with("HTTP/1.1 503 "), "the app says so");
        let mut stream = TcpStream::connect(fe.outbound()).await.unwrap();
        stream.write_all(format!("GET /stall HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "), "{host}");
        stalled.push(stream);
    }
    let mut bytes = TcpStream::connect(bytes_at).await.unwrap();
    bytes.write_all(b"x").await.unwrap();
    assert_eq!(bytes.read_u8().await.unwrap(), b'x');

    let said = Instant::now();
    fe.control.say(ca.crl(&[&identity.0]).into());
    let mut ends = vec![ended(bytes, said).await];
    for stream in stalled {
        ends.push(ended(stream, said).await);
    }
    println!("ended after {ends:?}");
    assert!(ends.iter().all(|after| *after < OPEN_MAX), "{ends:?}");
    let refused = Instant::now();
    for host in ["h1", "h2"] {
        let answer = get(fe.outbound(), host, "/").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{host}: {answer}");
        assert!(!answer.contains("GET / "), "the app has not seen it: {answer}");
    }
    assert!(refused.elapsed() < NEW_MAX);
    assert!(fe.metric("weft_connections_revoked").await >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_whose_certificate_ends_is_asked_to_come_with_the_next() {
    const TTL: Duration = Duration::from_secs(3);
    let ca = Ca::new();
    let be = callee(&ca).await;
    let member = ca.short_identity("fe", TTL);
    let began = Instant::now();
    let mut kept = connect(&member, be.inbound(), WEB, &["http/1.1"]).await.unwrap();
    let mut bytes = connect(&member, be.inbound(), BYTES, &[]).await.unwrap();
    let stream = connect(&member, be.inbound(), WEB, &["h2"]).await.unwrap();
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    let ending = tokio::spawn(connection);
    let request = ::http::Request::get("http://be/healthy").body(()).unwrap();
    assert_eq!(send.send_request(request, true).unwrap().0.await.unwrap().status(), 503);
    assert!(!ask(&mut kept, "/healthy").await.unwrap().to_lowercase().contains("connection: close"));
    assert!(began.elapsed() < TTL, "the machine is too slow to see it");
    // The CA's seconds are whole ones.
    tokio::time::sleep(TTL).await;
    assert!(ask(&mut kept, "/healthy").await.unwrap().to_lowercase().contains("connection: close"));
    tokio::time::timeout(LIMIT, ending).await.expect("a GOAWAY").unwrap().unwrap();
    drop(send);
    // Bytes are not a request: what a rotation cuts, no client could do again.
    bytes.write_all(b"x").await.unwrap();
    assert_eq!(bytes.read_u8().await.unwrap(), b'x');
}

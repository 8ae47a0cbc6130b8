//! A proxy that joins a control plane: token, xDS, measurements, agent socket. The control plane is a small fake that
//! speaks the real protocols.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is a failed test, also in the helpers"
)]

mod mesh;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use http::uri::PathAndQuery;
use mesh::{
    App, Ca, LIMIT, get,
    xds::{Speak, cluster, direct, http, listener, member_chain, plain_chain, to, vhost},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};
use weft_identity::{JoinToken, SpiffeId, TokenSecret, tls};
use weft_link::{
    Ack, Cell, Down, Hello, JoinRequest, JoinResponse, LinkServer, LinkService, RenewRequest, Up, Welcome, up,
};
use weft_proxy::{
    Config, Control, PortsWanted,
    workload_api::{Empty, X509SvidResponse},
};
use weft_xds::{
    Node, Resource, Resources,
    server::{Peer, Source, Subscription},
};

const FIRST_TTL: Duration = Duration::from_secs(8);

/// What the fake control plane saw.
#[derive(Default)]
struct Seen {
    hello: Option<Hello>,
    cells: Vec<Cell>,
    left: bool,
    renewals: u32,
}

struct FakeControl {
    ca: Ca,
    token: String,
    seen: Arc<Mutex<Seen>>,
}

impl FakeControl {
    fn sign(
        &self,
        csr_der: &[u8],
        namespace: &str,
        service: &str,
        ttl: Duration,
    ) -> Result<Response<JoinResponse>, Status> {
        let id = SpiffeId::service(&self.ca.trust_domain(), namespace, service).unwrap();
        let chain = self.ca.sign_for(csr_der, &id, ttl).map_err(Status::invalid_argument)?;
        Ok(Response::new(JoinResponse {
            chain_der: chain.iter().map(|der| der.to_vec()).collect(),
            bundle_pem: self.ca.bundle().to_pem(),
            trust_domain: self.ca.trust_domain().as_str().to_owned(),
        }))
    }
}

#[tonic::async_trait]
impl LinkService for FakeControl {
    type ConnectStream = std::pin::Pin<Box<dyn Stream<Item = Result<Down, Status>> + Send>>;

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let request = request.into_inner();
        if request.token != self.token {
            return Err(Status::unauthenticated("unknown token"));
        }
        // Renewed before the test is over.
        self.sign(&request.csr_der, &request.namespace, &request.service, FIRST_TTL)
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<JoinResponse>, Status> {
        self.seen.lock().unwrap().renewals += 1;
        self.sign(&request.into_inner().csr_der, "default", "be", Duration::from_secs(3600))
    }

    async fn connect(
        &self,
        request: Request<Streaming<Up>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut incoming = request.into_inner();
        let seen = Arc::clone(&self.seen);
        let bundle_pem = self.ca.bundle().to_pem();
        let (down, answers) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            let _ = down.send(Ok(Welcome { lease_seconds: 15, bundle_pem }.into())).await;
            while let Some(Ok(message)) = incoming.next().await {
                let ack = match message.message {
                    Some(up::Message::Hello(hello)) => {
                        seen.lock().unwrap().hello = Some(hello);
                        continue;
                    }
                    Some(up::Message::Buckets(buckets)) => {
                        seen.lock().unwrap().cells.extend(buckets.cells);
                        Ack { start_unix: buckets.start_unix, sequence: buckets.sequence }
                    }
                    Some(up::Message::Leave(_)) => {
                        seen.lock().unwrap().left = true;
                        continue;
                    }
                    _ => continue,
                };
                let _ = down.send(Ok(ack.into())).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

/// Gives every node the resources for the addresses that it says are its own.
struct Config1 {
    app: SocketAddr,
    resources: tokio::sync::watch::Sender<Arc<Resources>>,
}

impl Source for Config1 {
    fn subscribe(&self, _: &Peer, node: &Node) -> Result<Subscription, Status> {
        use envoy_types::pb::google::protobuf::value::Kind;
        let field = |name: &str| node.metadata.as_ref().unwrap().fields[name].kind.clone().unwrap();
        let (Kind::StringValue(outbound), Kind::NumberValue(port)) =
            (field("outbound_address"), field("inbound_port"))
        else {
            panic!("the node's metadata")
        };
        let inbound: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
        self.resources.send_replace(Arc::new(table(outbound.parse().unwrap(), inbound, self.app, "one")));
        Ok(Subscription { resources: self.resources.subscribe(), report: Box::new(|_| {}) })
    }
}

fn table(outbound: SocketAddr, inbound: SocketAddr, app: SocketAddr, text: &str) -> Resources {
    let own = mesh::id("be");
    let sni = "p8080.mesh.internal";
    let hosts = vec![
        vhost("direct", &["direct"], vec![direct("/", 200, text)]),
        vhost("be", &["be"], vec![to("/", "outbound|80|be.default")]),
    ];
    let web = http("inbound|8080", vec![vhost("all", &["*"], vec![to("/", "inbound|8080")])], None);
    let mut builder = Resources::builder();
    for (name, body) in [
        ("inbound|8080", cluster("inbound|8080", &[app], Speak::Http1, None)),
        (
            "outbound|80|be.default",
            cluster("outbound|80|be.default", &[inbound], Speak::Http2, Some((sni, &own))),
        ),
        ("outbound", listener("outbound", outbound, vec![plain_chain(http("outbound", hosts, None))])),
        ("inbound", listener("inbound", inbound, vec![member_chain(sni, &["h2", "http/1.1"], web)])),
    ] {
        builder.put(Resource::new(name, body));
    }
    builder.build("test")
}

/// Accepts TLS with an optional client certificate, as port 7701 does.
async fn serve(ca: &Ca, link: FakeControl, source: Arc<Config1>) -> SocketAddr {
    let (svid, bundle) = ca.control();
    let config = tls::server_config_optional_client(&svid, &bundle, tls::ALPN_H2).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, accepted) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, sender) = (TlsAcceptor::from(Arc::clone(&config)), sender.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = sender.send(Ok::<_, std::io::Error>(Tls(stream))).await;
                }
            });
        }
    });
    let server = Server::builder()
        .add_service(LinkServer::new(link))
        .add_service(weft_xds::server::service(source as Arc<dyn Source>));
    tokio::spawn(server.serve_with_incoming(ReceiverStream::new(accepted)));
    address
}

/// tonic wants to know of a connection what we do not need here.
struct Tls(tokio_rustls::server::TlsStream<tokio::net::TcpStream>);

impl tonic::transport::server::Connected for Tls {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl tokio::io::AsyncRead for Tls {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Tls {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + LIMIT;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_joins_serves_measures_and_leaves() {
    let ca = Ca::new();
    let app = App::start().await;
    let token = JoinToken {
        secret: TokenSecret::from_random([7; 32]),
        bundle: ca.bundle(),
        namespace: "default".to_owned(),
        service: "be".to_owned(),
        expires: SystemTime::now() + Duration::from_secs(60),
    }
    .encode();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let source = Arc::new(Config1 { app: app.address, resources: tokio::sync::watch::Sender::default() });
    let fake = FakeControl { ca: ca.clone(), token: token.clone(), seen: Arc::clone(&seen) };
    let control = serve(&ca, fake, Arc::clone(&source)).await;

    let state = std::env::temp_dir().join(format!("weft-joined-{:x}", fastrand::u64(..)));
    let mut config = Config::new("default", "be", state.clone());
    config.control = Some(Control { address: format!("https://{control}"), token: Some(token) });
    config.node.labels.insert("version".to_owned(), "v2".to_owned());
    let any = Some("127.0.0.1:0".parse().unwrap());
    config.ports = PortsWanted { outbound: Some(0), inbound: Some(0), admin: any, metrics: any };
    config.drain = weft_proxy::Drain { delay: Duration::ZERO, timeout: Duration::from_secs(2) };
    config.signals = false;
    let stop = config.stop.clone();
    let (sender, ready) = std::sync::mpsc::channel();
    config.on_ready = Some(Box::new(move |ports| sender.send(ports).unwrap()));
    let proxy = std::thread::spawn(move || weft_proxy::run(config));
    let ports = ready.recv_timeout(LIMIT).unwrap();
    let (outbound, admin) = (ports.outbound.unwrap(), ports.admin.unwrap());
    let joined = std::time::Instant::now();

    eventually("the first table", async || get(admin, "x", "/ready").await.ends_with("LIVE\n")).await;
    assert!(get(outbound, "direct", "/").await.ends_with("one"));
    for _ in 0..3 {
        let answer = get(outbound, "be", "/x").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    // A change is followed; a bad one is refused and changes nothing.
    let changed = table(outbound, ports.inbound.unwrap(), app.address, "two");
    source.resources.send_replace(Arc::new(changed));
    eventually("the second table", async || get(outbound, "direct", "/").await.ends_with("two")).await;
    let mut broken = Resources::builder();
    broken.put(Resource::new("outbound", listener("outbound", outbound, Vec::new())));
    source.resources.send_replace(Arc::new(broken.build("broken")));
    eventually("the refusal", async || {
        !get(admin, "x", "/config_dump").await.contains("\"last_nack\": null")
    })
    .await;
    assert!(get(outbound, "direct", "/").await.ends_with("two"));

    // Every request is counted once, at the callee.
    eventually("the measurements", async || {
        seen.lock().unwrap().cells.iter().map(|cell| cell.requests).sum::<u64>() >= 3
    })
    .await;
    {
        let seen = seen.lock().unwrap();
        let hello = seen.hello.as_ref().unwrap();
        assert_eq!((hello.service.as_str(), hello.labels["version"].as_str()), ("be", "v2"));
        assert_eq!(hello.inbound_port, u32::from(ports.inbound.unwrap().port()));
        for cell in &seen.cells {
            let place =
                (cell.caller.as_str(), cell.service.as_str(), cell.version.as_str(), cell.direction.as_str());
            assert_eq!(place, ("default/be", "default/be", "v2", "inbound"));
            assert_eq!((cell.code, cell.tls.as_str(), cell.grpc_status), (200, "mtls", -1));
        }
        assert_eq!(seen.cells.iter().map(|cell| cell.requests).sum::<u64>(), 3);
    }

    // The agent's socket gives the identity to local apps, if they ask properly.
    let socket = ports.agent.unwrap();
    let svid = fetch(&socket, true).await.unwrap();
    assert_eq!(svid.svids[0].spiffe_id, mesh::id("be"));
    assert_eq!(fetch(&socket, false).await.unwrap_err().code(), tonic::Code::InvalidArgument);

    let metrics = get(ports.metrics.unwrap(), "x", "/metrics").await;
    assert!(metrics.contains("weft_requests_total{code=\"2xx\",listener=\"inbound\"} 3"), "{metrics}");

    // The certificate is renewed in time; requests go on with the new one, after the old one has expired too.
    let first = svid.svids[0].x509_svid.clone();
    eventually("the renewal", async || {
        fetch(&socket, true).await.unwrap().svids[0].x509_svid != first && seen.lock().unwrap().renewals == 1
    })
    .await;
    tokio::time::sleep(FIRST_TTL.saturating_sub(joined.elapsed())).await;
    let answer = get(outbound, "be", "/x").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    stop.cancel();
    tokio::task::spawn_blocking(move || proxy.join().unwrap().unwrap()).await.unwrap();
    assert!(seen.lock().unwrap().left);
    assert!(!socket.exists());
    std::fs::remove_dir_all(&state).unwrap();
}

async fn fetch(socket: &std::path::Path, header: bool) -> Result<X509SvidResponse, Status> {
    let socket = socket.to_owned();
    let channel = tonic::transport::Endpoint::from_static("http://agent")
        .connect_with_connector(tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
        }))
        .await
        .unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let mut request = Request::new(Empty {});
    if header {
        request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    }
    let path = PathAndQuery::from_static("/SpiffeWorkloadAPI/FetchX509SVID");
    let codec = tonic_prost::ProstCodec::<Empty, X509SvidResponse>::default();
    let mut answers = client.server_streaming(request, path, codec).await?.into_inner();
    answers.message().await.map(Option::unwrap)
}

//! A small control plane that speaks the real protocols over real TLS: join, renew, link and xDS on one port.
//!
//! It lives on a runtime of its own, so that stopping it closes all its connections at once, as `kill -9` would.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{broadcast, watch},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};
use weft_identity::{JoinToken, SpiffeId, TokenSecret, tls};
use weft_link::{
    Ack, Cell, Down, Hello, JoinRequest, JoinResponse, LinkServer, LinkService, RenewRequest, Up, Welcome, up,
};
use weft_xds::{
    Node, Resources,
    server::{Peer, Source, Subscription},
};

use super::Ca;

/// What it saw.
#[derive(Default)]
pub struct Seen {
    pub hello: Option<Hello>,
    pub cells: Vec<Cell>,
    pub left: bool,
    pub renewals: u32,
    /// Each health that was told.
    pub health: Vec<String>,
    /// Since when the proxy's disk has its last known good, unix seconds.
    pub kept: Option<u64>,
}

/// The resources of a proxy with these outbound and inbound addresses.
pub type Table = Arc<dyn Fn(SocketAddr, SocketAddr) -> Resources + Send + Sync>;

pub struct Control {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Seen>>,
    resources: watch::Sender<Arc<Resources>>,
    downs: broadcast::Sender<Down>,
    runtime: Option<Runtime>,
}

/// What a control plane is made of; the same for its next start.
#[derive(Clone)]
pub struct Plan {
    pub ca: Ca,
    /// The service that joins.
    pub service: String,
    /// Of the first certificate; renewed ones live an hour.
    pub first_ttl: Duration,
    pub table: Table,
}

impl Plan {
    /// A token for the plan's service.
    pub fn token(&self) -> String {
        JoinToken {
            secret: TokenSecret::from_random([7; 32]),
            bundle: self.ca.bundle(),
            namespace: "default".to_owned(),
            service: self.service.clone(),
            expires: SystemTime::now() + Duration::from_secs(60),
        }
        .encode()
    }
}

impl Control {
    /// Starts on `at`; its port may still be in the hands of who had it before.
    pub async fn start(plan: &Plan, at: SocketAddr) -> Control {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (resources, downs) = (watch::Sender::default(), broadcast::Sender::new(16));
        let link = Link { plan: plan.clone(), seen: Arc::clone(&seen), downs: downs.clone() };
        let source = Arc::new(Tables { table: Arc::clone(&plan.table), resources: resources.clone() });
        let (svid, bundle) = plan.ca.control();
        let config = tls::server_config_optional_client(&svid, &bundle, tls::ALPN_H2).unwrap();
        let (ready, bound) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            let listener = loop {
                match TcpListener::bind(at).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            ready.send(listener.local_addr().unwrap()).unwrap();
            let (sender, accepted) = tokio::sync::mpsc::channel(16);
            let server = Server::builder()
                .add_service(LinkServer::new(link))
                .add_service(weft_xds::server::service(source as Arc<dyn Source>));
            tokio::spawn(server.serve_with_incoming(ReceiverStream::new(accepted)));
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
        let address = tokio::time::timeout(super::LIMIT, bound).await.expect("the port in time").unwrap();
        Control { address, seen, resources, downs, runtime: Some(runtime) }
    }

    /// Gives every proxy these resources now.
    pub fn publish(&self, resources: Resources) {
        self.resources.send_replace(Arc::new(resources));
    }

    /// Says this on every link.
    pub fn say(&self, down: Down) {
        self.downs.send(down).unwrap();
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Link {
    plan: Plan,
    seen: Arc<Mutex<Seen>>,
    downs: broadcast::Sender<Down>,
}

impl Link {
    fn sign(&self, csr_der: &[u8], ttl: Duration) -> Result<Response<JoinResponse>, Status> {
        let Plan { ca, service, .. } = &self.plan;
        let id = SpiffeId::service(&ca.trust_domain(), "default", service).unwrap();
        let chain = ca.sign_for(csr_der, &id, ttl).map_err(Status::invalid_argument)?;
        Ok(Response::new(JoinResponse {
            chain_der: chain.iter().map(|der| der.to_vec()).collect(),
            bundle_pem: ca.bundle().to_pem(),
            trust_domain: ca.trust_domain().as_str().to_owned(),
        }))
    }
}

#[tonic::async_trait]
impl LinkService for Link {
    type ConnectStream = std::pin::Pin<Box<dyn Stream<Item = Result<Down, Status>> + Send>>;

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let request = request.into_inner();
        let known = request.token.parse::<JoinToken>().is_ok_and(|token| token.service == self.plan.service);
        if !known {
            return Err(Status::unauthenticated("unknown token"));
        }
        self.sign(&request.csr_der, self.plan.first_ttl)
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<JoinResponse>, Status> {
        self.seen.lock().unwrap().renewals += 1;
        self.sign(&request.into_inner().csr_der, Duration::from_secs(3600))
    }

    async fn connect(
        &self,
        request: Request<Streaming<Up>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut incoming = request.into_inner();
        let seen = Arc::clone(&self.seen);
        let bundle_pem = self.plan.ca.bundle().to_pem();
        let mut said = self.downs.subscribe();
        let (down, answers) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            let _ = down.send(Ok(Welcome { lease_seconds: 15, bundle_pem }.into())).await;
            loop {
                let message = tokio::select! {
                    message = incoming.next() => message,
                    Ok(said) = said.recv() => {
                        let _ = down.send(Ok(said)).await;
                        continue;
                    }
                };
                let Some(Ok(message)) = message else { return };
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
                    Some(up::Message::Health(health)) => {
                        seen.lock().unwrap().health.push(health.status);
                        continue;
                    }
                    Some(up::Message::Kept(kept)) => {
                        seen.lock().unwrap().kept = Some(kept.confirmed_unix);
                        continue;
                    }
                    Some(up::Message::Connections(_)) | None => continue,
                };
                let _ = down.send(Ok(ack.into())).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

/// Gives every node the resources for the addresses that it says are its own.
struct Tables {
    table: Table,
    resources: watch::Sender<Arc<Resources>>,
}

impl Source for Tables {
    fn subscribe(&self, _: &Peer, node: &Node) -> Result<Subscription, Status> {
        use envoy_types::pb::google::protobuf::value::Kind;
        let field = |name: &str| node.metadata.as_ref().unwrap().fields[name].kind.clone().unwrap();
        let (Kind::StringValue(outbound), Kind::NumberValue(port)) =
            (field("outbound_address"), field("inbound_port"))
        else {
            panic!("the node's metadata")
        };
        let inbound: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
        self.resources.send_replace(Arc::new((self.table)(outbound.parse().unwrap(), inbound)));
        Ok(Subscription { resources: self.resources.subscribe(), report: Box::new(|_| {}) })
    }
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

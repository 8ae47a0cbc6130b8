//! A mesh of two proxies in one process: certificates, apps, proxies, and a client that writes bytes.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod control;
pub mod member;
pub mod pair;
pub mod usage;
pub mod xds;

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use weft_identity::{Bundle, Issuer, PrivateKey, Revoked, SpiffeId, Svid, TrustDomain, revocation::Reason};
use weft_link::SignedList;
use weft_proxy::{Config, ProxyError, static_config::StaticResources};

/// Nothing here takes longer, or it hangs.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The CA of a test.
#[derive(Clone)]
pub struct Ca {
    issuer: Arc<Issuer>,
    trust_domain: TrustDomain,
}

impl Ca {
    pub fn new() -> Ca {
        let trust_domain = TrustDomain::new("mesh.internal").unwrap();
        let (issuer, _) = Issuer::create(&trust_domain, SystemTime::now()).unwrap();
        Ca { issuer: Arc::new(issuer), trust_domain }
    }

    pub fn identity(&self, service: &str) -> (Svid, Bundle) {
        self.svid(&SpiffeId::service(&self.trust_domain, "default", service).unwrap())
    }

    /// The control plane's own.
    pub fn control(&self) -> (Svid, Bundle) {
        self.svid(&SpiffeId::control(&self.trust_domain))
    }

    fn svid(&self, id: &SpiffeId) -> (Svid, Bundle) {
        self.svid_for(id, Duration::from_secs(3600))
    }

    fn svid_for(&self, id: &SpiffeId, ttl: Duration) -> (Svid, Bundle) {
        let key = PrivateKey::generate().unwrap();
        let chain = self.sign_for(&key.csr_der(id).unwrap(), id, ttl).unwrap();
        (Svid::new(chain, key).unwrap(), self.bundle())
    }

    /// One that ends soon.
    pub fn short_identity(&self, service: &str, ttl: Duration) -> (Svid, Bundle) {
        self.svid_for(&SpiffeId::service(&self.trust_domain, "default", service).unwrap(), ttl)
    }

    pub fn sign(&self, csr: &[u8], id: &SpiffeId) -> Result<Vec<CertificateDer<'static>>, String> {
        self.sign_for(csr, id, Duration::from_secs(3600))
    }

    pub fn sign_for(
        &self,
        csr: &[u8],
        id: &SpiffeId,
        ttl: Duration,
    ) -> Result<Vec<CertificateDer<'static>>, String> {
        let issued = self.issuer.issue(csr, id, SystemTime::now(), ttl, rand16());
        issued.map(|issued| issued.chain).map_err(|error| error.to_string())
    }

    pub fn bundle(&self) -> Bundle {
        self.issuer.bundle().clone()
    }

    /// What a control plane says once it has taken these back.
    pub fn crl(&self, revoked: &[&Svid]) -> weft_link::Crl {
        let revoked: Vec<_> = revoked
            .iter()
            .map(|svid| Revoked {
                serial_hex: svid.serial_hex().to_owned(),
                at: SystemTime::now(),
                reason: Reason::KeyCompromise,
            })
            .collect();
        let crl = self.issuer.crl(&revoked, SystemTime::now()).unwrap();
        let lists = crl.lists().iter();
        let lists =
            lists.map(|list| SignedList { crl_der: list.der.clone(), issuer_der: list.issuer.to_vec() });
        weft_link::Crl { lists: lists.collect() }
    }

    pub fn trust_domain(&self) -> TrustDomain {
        self.trust_domain.clone()
    }
}

fn rand16() -> [u8; 16] {
    fastrand::u128(..).to_be_bytes()
}

pub fn id(service: &str) -> String {
    format!("spiffe://mesh.internal/ns/default/sa/{service}")
}

/// A port that was free a moment ago.
pub fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// A proxy on threads of its own; dropped, it drains and ends.
pub struct Proxy {
    pub admin: SocketAddr,
    pub state: PathBuf,
    stop: CancellationToken,
    thread: Option<JoinHandle<Result<(), ProxyError>>>,
}

impl Proxy {
    pub fn start(service: &str, resources: StaticResources) -> Proxy {
        Proxy::try_start(service, resources).unwrap()
    }

    pub fn try_start(service: &str, resources: StaticResources) -> Result<Proxy, ProxyError> {
        let state = std::env::temp_dir().join(format!("weft-proxy-{service}-{:x}", fastrand::u64(..)));
        let mut config = Config::new("default", service, state.clone());
        config.resources = resources;
        config.signals = false;
        config.workers = 2;
        config.drain = weft_proxy::Drain { delay: Duration::ZERO, timeout: Duration::from_secs(2) };
        config.ports.outbound = None;
        config.ports.inbound = None;
        config.ports.admin = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.ports.metrics = None;
        let stop = config.stop.clone();
        let (sender, ready) = std::sync::mpsc::channel();
        config.on_ready = Some(Box::new(move |ports| {
            let _ = sender.send(ports);
        }));
        let thread = std::thread::spawn(move || weft_proxy::run(config));
        match ready.recv_timeout(LIMIT) {
            Ok(ports) => Ok(Proxy { admin: ports.admin.unwrap(), state, stop, thread: Some(thread) }),
            Err(_) => Err(thread.join().unwrap().unwrap_err()),
        }
    }

    /// Stops it and waits.
    pub fn stop(mut self) {
        self.end().unwrap();
    }

    fn end(&mut self) -> Result<(), ProxyError> {
        self.stop.cancel();
        let ended = self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap());
        let _ = std::fs::remove_dir_all(&self.state);
        ended
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.end();
        }
    }
}

type AppBody = BoxBody<Bytes, Infallible>;

/// An app that answers what it saw.
pub struct App {
    pub address: SocketAddr,
    /// Requests to `/flaky`.
    pub flaky: Arc<AtomicU32>,
    /// Bodies that came, to any path that shows its request.
    pub bodies: Arc<Mutex<Vec<String>>>,
}

impl App {
    pub async fn start() -> App {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let flaky = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&flaky);
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let came = Arc::clone(&bodies);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, came) = (Arc::clone(&seen), Arc::clone(&came));
                let service = hyper::service::service_fn(move |request| {
                    app(request, Arc::clone(&seen), Arc::clone(&came))
                });
                tokio::spawn(async move {
                    let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection_with_upgrades(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        App { address, flaky, bodies }
    }
}

async fn app(
    request: Request<Incoming>,
    flaky: Arc<AtomicU32>,
    bodies: Arc<Mutex<Vec<String>>>,
) -> Result<Response<AppBody>, Infallible> {
    let path = request.uri().path().to_owned();
    Ok(match path.as_str() {
        "/ws" => {
            tokio::spawn(async move {
                let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
                let mut buffer = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..count]).await.unwrap();
                }
            });
            let mut response = Response::new(text(""));
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", "upgrade".parse().unwrap());
            response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
            response
        }
        "/trailers" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let frames = [Ok(Frame::data(Bytes::from_static(b"body"))), Ok(Frame::trailers(trailers))];
            Response::new(BodyExt::boxed(StreamBody::new(stream::iter(frames))))
        }
        "/flaky" => {
            let count = flaky.fetch_add(1, Ordering::SeqCst);
            let mut response = Response::new(text("flaky"));
            if count % 3 != 2 {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        }
        // Says that it goes on, and does not.
        "/stall" => {
            let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"first")))]);
            Response::new(BodyExt::boxed(StreamBody::new(first.chain(stream::pending()))))
        }
        "/soon" => {
            tokio::time::sleep(Duration::from_millis(400)).await;
            Response::new(text("soon"))
        }
        "/broken" => {
            let mut response = Response::new(text("broken"));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
        // Well for those who know its name.
        "/healthy" => {
            let mut response = Response::new(text(""));
            let host = request.headers().get("host").and_then(|host| host.to_str().ok());
            if host.or(request.uri().host()) != Some("checked") {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        }
        "/grpc.health.v1.Health/Check" => {
            let asked = request.into_body().collect().await.unwrap().to_bytes();
            let status = if asked.ends_with(b"checked") { 1 } else { 2 };
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let frames =
                [Ok(Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status]))), Ok(Frame::trailers(trailers))];
            Response::new(BodyExt::boxed(StreamBody::new(stream::iter(frames))))
        }
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Response::new(text("slow"))
        }
        _ => {
            let mut shown = format!("{} {}\n", request.method(), request.uri());
            let mut names: Vec<_> = request.headers().iter().collect();
            names.sort_by_key(|(name, _)| name.as_str().to_owned());
            for (name, value) in names {
                shown.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
            }
            let body = request.into_body().collect().await.unwrap().to_bytes();
            bodies.lock().unwrap().push(String::from_utf8_lossy(&body).into_owned());
            shown.push_str(&String::from_utf8_lossy(&body));
            Response::new(text(&shown))
        }
    })
}

fn text(text: &str) -> AppBody {
    Full::from(text.to_owned()).boxed()
}

/// A TCP app that sends back what it gets.
pub async fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    address
}

/// Writes a request and reads until the other side closes.
pub async fn send(to: SocketAddr, request: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(LIMIT, exchange).await.expect("an answer in time")
}

/// A GET that asks for the connection to be closed.
pub async fn get(to: SocketAddr, host: &str, path: &str) -> String {
    send(to, &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await
}

/// Reads a head from a connection that stays open; `None` where that ends before.
pub async fn try_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Reads an answer's head from a connection that stays open.
pub async fn read_head(stream: &mut TcpStream) -> String {
    tokio::time::timeout(LIMIT, try_head(stream)).await.expect("a head in time").expect("a whole head")
}

/// Of an answer; 0: it is none.
pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The sum of the lines that begin so, by the admin page, which must answer at once at any load.
pub async fn metric(admin: SocketAddr, name: &str) -> u64 {
    let asked = tokio::time::timeout(Duration::from_secs(2), get(admin, "a", "/stats"));
    let stats = asked.await.expect("the admin page answers");
    let lines = stats.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Waits until it holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + LIMIT;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

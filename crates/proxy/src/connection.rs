//! One connection: first bytes → filter chain → TLS → codec, or bytes to be copied.
//!
//! Whatever fails here closes the connection and is counted; an answer needs HTTP, and HTTP needs a chain. What later
//! requests want to know of their connection is resolved once, into [`Peer`].

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use http::HeaderValue;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use weft_identity::tls::peer_id;
use weft_routing::{
    Codec, ConnectionView, FilterChain, HttpConfig, Listener, NetworkFilter, Route, TransportProtocol, authorize,
    table::BoundRoutes,
};
use weft_telemetry::buckets::{SeriesId, SeriesKey};
use weft_wire::{Progress, Protocol, tls_hello};

use crate::{
    access_log::AccessLog,
    drain::Drain,
    http::{h1, h2, request},
    live::{ClusterLabels, Live},
    meters::ListenerMeters,
    net::{Prefixed, original_dst::original_dst},
    tcp,
    worker::{Direction, Role, Worker},
};

/// For the first bytes and for the handshake.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(5);
const TLS_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const SERIES_CACHED_MAX: usize = 64;

/// What is known of a connection, for all of its requests.
pub struct Peer {
    pub worker: Rc<Worker>,
    pub remote: SocketAddr,
    pub local: SocketAddr,
    /// Where the caller wanted to go before a redirect, else `local`.
    pub destination: SocketAddr,
    pub server_name: Option<String>,
    /// The verified SPIFFE id.
    pub principal: Option<String>,
    /// `NS/NAME` of the verified caller, else empty.
    caller: String,
    pub tls: &'static str,
    pub tls_version: &'static str,
    /// Ready to be sent to the app.
    pub client_cert: Option<HeaderValue>,
    pub direction: Direction,
    drain: Rc<Drain>,
    pub meters: ListenerMeters,
    pub access_logs: Vec<Rc<AccessLog>>,
    pub open_requests: Rc<Cell<u32>>,
    /// Bytes came that are no request yet; for the head's timeout.
    pub heard: Arc<AtomicBool>,
    listener: Arc<str>,
    chain: Arc<str>,
    view: RefCell<Option<Rc<ChainView>>>,
    series: RefCell<Vec<CachedSeries>>,
}

/// A chain's HTTP settings as one table has them.
pub struct ChainView {
    pub live: Rc<Live>,
    pub config: Arc<HttpConfig>,
    pub routes: Arc<BoundRoutes>,
}

struct CachedSeries {
    // Both are kept alive here, so that an address is never that of another route.
    route: Option<Arc<Route>>,
    cluster: Option<Arc<str>>,
    id: SeriesId,
}

/// What the first bytes said.
struct Seen {
    transport: TransportProtocol,
    server_name: Option<String>,
    alpn: Vec<Vec<u8>>,
}

/// Serves one accepted connection until it ends.
pub async fn serve(worker: Rc<Worker>, role: Role, bound: SocketAddr, mut stream: TcpStream, remote: SocketAddr) {
    let drain = Rc::clone(worker.drain(role));
    let _counted = drain.connection();
    let live = worker.live();
    let Some(accepting) = live.table().listeners.iter().find(|one| one.bind_to_port && one.address == Some(bound))
    else {
        return unconfigured(&worker, role, stream).await;
    };
    let Ok(local) = stream.local_addr() else { return };
    let redirected = (accepting.use_original_dst || accepting.original_dst)
        .then(|| original_dst(&stream, local))
        .flatten();
    let destination = redirected.unwrap_or(local);
    let listener = match redirected {
        Some(wanted) if accepting.use_original_dst => live.table().listener_for(wanted).unwrap_or(accepting),
        _ => accepting,
    };
    let Some(meters) = live.meters(&listener.name) else { return };
    worker.shard.borrow_mut().add(meters.connections, 1);
    let mut first = BytesMut::new();
    let seen = match inspect(listener, &mut stream, &mut first).await {
        Ok(seen) => seen,
        Err(error) => {
            tracing::debug!(%remote, %error, "a connection ended before it said what it is");
            return;
        }
    };
    let alpn: Vec<&[u8]> = seen.alpn.iter().map(Vec::as_slice).collect();
    let view = ConnectionView {
        destination,
        source: remote,
        transport: seen.transport,
        server_name: seen.server_name.as_deref(),
        application_protocols: &alpn,
    };
    let Some(chain) = listener.find_chain(&view) else {
        worker.shard.borrow_mut().add(meters.no_chain, 1);
        tracing::debug!(%remote, listener = %listener.name, "no filter chain takes this connection");
        return;
    };
    let mut peer = Peer {
        access_logs: access_logs(&worker, chain),
        remote,
        local,
        destination,
        server_name: seen.server_name,
        principal: None,
        caller: String::new(),
        tls: "none",
        tls_version: "",
        client_cert: None,
        direction: match role {
            Role::Inbound => Direction::Inbound,
            _ if *listener.name == *"inbound" => Direction::Inbound,
            _ => Direction::Outbound,
        },
        drain,
        meters,
        open_requests: Rc::default(),
        heard: Arc::default(),
        listener: Arc::clone(&listener.name),
        chain: Arc::clone(&chain.name),
        view: RefCell::default(),
        series: RefCell::default(),
        worker: Rc::clone(&worker),
    };
    let stream = Prefixed::new(first, stream);
    let Some(wanted) = &chain.tls else {
        return serve_chain(Rc::new(peer), chain, stream, None).await;
    };
    let config = match worker.server_configs.get(wanted, worker.credentials().as_ref()) {
        Ok(config) => config,
        Err(error) => {
            tracing::warn!(%remote, %error, "a connection is refused");
            worker.shard.borrow_mut().add(meters.tls_failures, 1);
            return;
        }
    };
    let tls = match timeout(TLS_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(tls)) => tls,
        failed => {
            let error = failed.map_or_else(|_| "no handshake in time".to_owned(), |done| done.err().map_or_else(String::new, |error| error.to_string()));
            worker.shard.borrow_mut().add(meters.tls_failures, 1);
            tracing::info!(%remote, error, "a TLS handshake failed");
            return;
        }
    };
    let session = tls.get_ref().1;
    peer.on_tls(session);
    let h2 = session.alpn_protocol().map(|name| name == b"h2");
    serve_chain(Rc::new(peer), chain, tls, h2).await;
}

/// `h2`: what ALPN agreed on, if it was spoken.
async fn serve_chain<T>(peer: Rc<Peer>, chain: &FilterChain, io: T, h2: Option<bool>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let open = OpenConnection::new(&peer);
    if !admitted(&peer, chain) {
        peer.worker.shard.borrow_mut().add(peer.meters.denied, 1);
        return;
    }
    match &chain.filter {
        NetworkFilter::Tcp(config) => tcp::proxy::serve(&peer, config, io).await,
        NetworkFilter::Http(config) => serve_http(&peer, config, io, h2).await,
    }
    drop(open);
}

async fn serve_http<T>(peer: &Rc<Peer>, config: &HttpConfig, mut io: T, h2: Option<bool>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let idle_timeout = config.timeouts.idle.unwrap_or(IDLE_TIMEOUT);
    let mut first = BytesMut::new();
    let h2 = match (config.codec, h2) {
        (Codec::Http2, _) | (Codec::Auto, Some(true)) => true,
        (Codec::Http1, _) | (Codec::Auto, Some(false)) => false,
        // A client may open a connection long before it speaks.
        (Codec::Auto, None) => match timeout(idle_timeout, speaks_h2(&mut io, &mut first)).await {
            Ok(Ok(h2)) => h2,
            _ => return,
        },
    };
    let io = Prefixed::new(first, io);
    let drain = Rc::clone(&peer.drain);
    let answering = Rc::clone(peer);
    let answer = move |request| request::serve(Rc::clone(&answering), request);
    if h2 {
        h2::serve(io, &drain, answer).await;
    } else {
        h1::serve(io, peer, idle_timeout, &drain, answer).await;
    }
}

async fn speaks_h2<T: AsyncRead + Unpin>(io: &mut T, first: &mut BytesMut) -> io::Result<bool> {
    loop {
        match weft_wire::detect(first) {
            Progress::Done(protocol) => return Ok(protocol == Protocol::Http2),
            Progress::More if first.len() >= weft_wire::detect::LINE_BYTES_MAX => return Ok(false),
            Progress::More => read_more(io, first).await?,
        }
    }
}

/// Looks at the first bytes if a chain's choice needs them.
async fn inspect(listener: &Listener, stream: &mut TcpStream, first: &mut BytesMut) -> io::Result<Seen> {
    let raw = || Seen { transport: TransportProtocol::RawBuffer, server_name: None, alpn: Vec::new() };
    let chains = || listener.chains.iter().chain(&listener.default_chain);
    let needed = listener.tls_inspector
        || listener.http_inspector
        || chains().any(|chain| {
            let wants = &chain.matches;
            wants.transport_protocol.is_some()
                || !wants.server_names.is_empty()
                || !wants.application_protocols.is_empty()
        });
    if !needed {
        // A lone TLS chain needs no look: its handshake tells.
        let tls = chains().all(|chain| chain.tls.is_some());
        let transport = if tls { TransportProtocol::Tls } else { TransportProtocol::RawBuffer };
        return Ok(Seen { transport, ..raw() });
    }
    let limit = listener.listener_filters_timeout.filter(|limit| !limit.is_zero()).unwrap_or(FIRST_BYTES_TIMEOUT);
    match timeout(limit, look(stream, first)).await {
        Ok(seen) => seen,
        // The server speaks first, perhaps.
        Err(_) if listener.continue_on_listener_filters_timeout => Ok(raw()),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn look(stream: &mut TcpStream, first: &mut BytesMut) -> io::Result<Seen> {
    loop {
        let plain = |alpn: &[u8]| Seen {
            transport: TransportProtocol::RawBuffer,
            server_name: None,
            alpn: vec![alpn.to_vec()],
        };
        match weft_wire::detect(first) {
            Progress::Done(Protocol::Http1) => return Ok(plain(b"http/1.1")),
            Progress::Done(Protocol::Http2) => return Ok(plain(b"h2c")),
            Progress::Done(Protocol::Other) => return Ok(Seen { alpn: Vec::new(), ..plain(b"") }),
            Progress::Done(Protocol::Tls) => match tls_hello::parse(first) {
                Ok(Progress::Done(hello)) => {
                    return Ok(Seen {
                        transport: TransportProtocol::Tls,
                        server_name: hello.server_name,
                        alpn: hello.alpn,
                    });
                }
                Ok(Progress::More) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            },
            Progress::More => {}
        }
        read_more(stream, first).await?;
    }
}

async fn read_more<T: AsyncRead + Unpin>(io: &mut T, first: &mut BytesMut) -> io::Result<()> {
    first.reserve(2048);
    match io.read_buf(first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// The chain's network policies, before a byte goes on.
fn admitted(peer: &Peer, chain: &FilterChain) -> bool {
    chain.network_rbac.iter().all(|filter| {
        let Some(rules) = &filter.rules else { return true };
        let verdict = authorize::decide(rules, &peer.policy_input(None));
        if !verdict.allow {
            tracing::info!(
                remote = %peer.remote,
                principal = peer.principal.as_deref().unwrap_or(""),
                policy = verdict.policy_name().unwrap_or("none allows it"),
                "a connection is denied"
            );
        }
        verdict.allow
    })
}

/// Before the first table nothing may pass: the outbound side says so, the inbound side closes.
async fn unconfigured(worker: &Rc<Worker>, role: Role, stream: TcpStream) {
    if role == Role::Outbound {
        request::answer_unconfigured(worker, stream).await;
    }
}

fn access_logs(worker: &Worker, chain: &FilterChain) -> Vec<Rc<AccessLog>> {
    match &chain.filter {
        NetworkFilter::Http(config) => worker.access_logs.open(&config.access_log),
        NetworkFilter::Tcp(config) => worker.access_logs.open(&config.access_log),
    }
}

impl Peer {
    fn on_tls(&mut self, session: &rustls::ServerConnection) {
        self.tls = "tls";
        self.tls_version = match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        };
        if let Some(name) = session.server_name() {
            self.server_name = Some(name.to_ascii_lowercase());
        }
        let Some(Ok(id)) = session.peer_certificates().map(peer_id) else {
            return;
        };
        self.tls = "mtls";
        if let (Some(namespace), Some(name)) = (id.namespace(), id.service_account()) {
            self.caller = format!("{namespace}/{name}");
        }
        let own = self.worker.credentials();
        let by = own.as_ref().map_or("", |own| own.svid.id().as_str());
        self.client_cert = HeaderValue::try_from(format!("By={by};URI={}", id.as_str())).ok();
        self.principal = Some(id.as_str().to_owned());
    }

    /// The chain as the newest table has it; `None` when it is gone, and with it the right to be served.
    pub fn view(&self) -> Option<Rc<ChainView>> {
        let live = self.worker.live();
        if let Some(view) = &*self.view.borrow()
            && view.live.generation() == live.generation()
        {
            return Some(Rc::clone(view));
        }
        let view = self.renewed_view(live).map(Rc::new);
        self.view.replace(view.clone());
        view
    }

    #[cold]
    fn renewed_view(&self, live: Rc<Live>) -> Option<ChainView> {
        let listener = live.table().listener(&self.listener)?;
        let chain =
            listener.chains.iter().chain(&listener.default_chain).find(|chain| chain.name == self.chain)?;
        let NetworkFilter::Http(config) = &chain.filter else { return None };
        let routes = Arc::clone(live.table().routes(config.routes.key())?);
        Some(ChainView { config: Arc::clone(config), routes, live })
    }

    /// The port that the caller meant: between members the SNI names the app's.
    pub fn destination_port(&self) -> u16 {
        self.server_name
            .as_deref()
            .and_then(|name| name.strip_prefix('p')?.split_once('.')?.0.parse().ok())
            .unwrap_or_else(|| self.destination.port())
    }

    pub fn policy_input<'a>(&'a self, head: Option<&'a weft_routing::HeadView<'a>>) -> authorize::PolicyInput<'a> {
        authorize::PolicyInput {
            head,
            principal: self.principal.as_deref(),
            authenticated: self.principal.is_some(),
            source_ip: self.remote.ip(),
            remote_ip: self.remote.ip(),
            destination_ip: self.destination.ip(),
            destination_port: self.destination_port(),
            server_name: self.server_name.as_deref(),
        }
    }

    /// Where a request is measured: here when it is for our own app, or for a service outside the mesh.
    pub fn series(&self, route: Option<&Arc<Route>>, cluster: Option<&ClusterLabels>) -> Option<SeriesId> {
        let external = cluster.and_then(|cluster| cluster.external.as_ref());
        if self.direction == Direction::Outbound && external.is_none() {
            return None; // its callee counts it
        }
        let mut cached = self.series.borrow_mut();
        let same_route = |known: &CachedSeries| match (&known.route, route) {
            (Some(known), Some(route)) => Arc::ptr_eq(known, route),
            (None, None) => true,
            _ => false,
        };
        let same_cluster = |known: &CachedSeries| match (&known.cluster, cluster) {
            (Some(known), Some(cluster)) => Arc::ptr_eq(known, &cluster.name),
            (None, None) => true,
            _ => false,
        };
        if let Some(known) = cached.iter().find(|known| same_route(known) && same_cluster(known)) {
            return Some(known.id);
        }
        let settings = &self.worker.settings;
        let route_name = route.map_or_else(String::new, |route| route.name.to_string());
        let key = match (self.direction, external, cluster) {
            (Direction::Outbound, Some(service), Some(cluster)) => SeriesKey {
                caller: settings.service.to_string(),
                service: service.clone(),
                version: String::new(),
                route: route_name,
                tls: if cluster.tls { "tls" } else { "none" }.to_owned(),
                direction: "external".to_owned(),
            },
            _ => SeriesKey {
                caller: self.caller.clone(),
                service: settings.service.to_string(),
                version: settings.version.to_string(),
                route: route_name,
                tls: self.tls.to_owned(),
                direction: "inbound".to_owned(),
            },
        };
        let id = self.worker.window.borrow_mut().series(key);
        if cached.len() >= SERIES_CACHED_MAX {
            cached.clear();
        }
        cached.push(CachedSeries {
            route: route.cloned(),
            cluster: cluster.map(|cluster| Arc::clone(&cluster.name)),
            id,
        });
        Some(id)
    }

    /// A request's head was read whole.
    pub fn on_head(&self) {
        self.heard.store(false, Ordering::Relaxed);
    }
}

/// Holds the gauge of open connections up.
struct OpenConnection(Rc<Peer>);

impl OpenConnection {
    fn new(peer: &Rc<Peer>) -> OpenConnection {
        peer.worker.shard.borrow_mut().gauge_add(peer.meters.open, 1);
        OpenConnection(Rc::clone(peer))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.worker.shard.borrow_mut().gauge_add(self.0.meters.open, -1);
    }
}

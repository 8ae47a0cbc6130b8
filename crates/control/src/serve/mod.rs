//! Port 7701: xDS and link for proxies, gRPC over TLS.
//!
//! A connection is accepted, shakes hands (a client certificate is optional, because first contact
//! has none, but one that is shown must be good), and its peer's SPIFFE id goes into each request's
//! extensions. [`ads`] and [`link`] decide what that identity may ask for; nothing here does.

pub mod ads;
pub mod link;
pub mod views;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use weft_identity::Svid;
use weft_xds::server::Peer;

use crate::api::audit::Entry;
use crate::connections;
use crate::core::Core;
use crate::inventory::Asker;
use views::Views;

/// How long a peer may take for the TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Connections served at once.
const CONNECTIONS_MAX: usize = 20_000;
/// A silent connection is asked whether it lives, and given up when it doesn't answer.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// For what a revoked member is told before it is cut.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Streams of one connection.
const STREAMS_MAX: u32 = 100;

/// The identity of a connection's peer, and until when.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// Its SPIFFE id; nobody before the first certificate.
    pub id: Option<weft_identity::SpiffeId>,
    /// The end of its certificate.
    pub expires: Option<SystemTime>,
    /// The serial number of its certificate, in hex; empty without one.
    pub serial: String,
    /// Its address.
    pub from: Option<SocketAddr>,
}

impl Caller {
    /// As whoever asks for a certificate.
    fn asker(&self) -> Asker {
        Asker { serial: self.serial.clone(), from: self.from.map(|from| from.to_string()) }
    }
}

/// Serves until `shutdown`.
pub fn start(
    core: &Arc<Core>,
    views: &Arc<Views>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let listener = tokio::net::TcpListener::from_std(listener).context("take over the xDS port")?;
    let tls = own_certificate(core, shutdown.clone())?;
    let source = Arc::new(ads::Ads::new(core.clone(), views.clone()));
    let routes = tonic::service::Routes::new(weft_xds::server::service(source))
        .add_service(weft_link::LinkServer::new(link::Link::new(core.clone(), shutdown.clone())))
        .prepare();
    Ok(tokio::spawn(accept(core.clone(), listener, tls, routes, shutdown)))
}

/// The control plane's own certificate, renewed in time.
fn own_certificate(
    core: &Arc<Core>,
    shutdown: CancellationToken,
) -> anyhow::Result<watch::Receiver<Arc<rustls::ServerConfig>>> {
    // `None`: a new one.
    let make = |core: &Core, svid: Option<Svid>| -> anyhow::Result<(Svid, Arc<rustls::ServerConfig>)> {
        let ttl = core.now().mesh.certificates.ttl.get();
        let addresses: Vec<IpAddr> =
            core.config.advertise.into_iter().chain([core.config.xds.ip()]).collect();
        let svid = match svid {
            Some(svid) => svid,
            None => core.authority.own_svid(&addresses, SystemTime::now(), ttl)?,
        };
        let config =
            weft_identity::tls::server_config_optional_client(&svid, &core.authority.bundle(), &["h2"])?;
        Ok((svid, config))
    };
    let mut bundles = core.authority.bundles();
    let (mut svid, config) = make(core, None).context("make the control plane's own certificate")?;
    let (sender, receiver) = watch::channel(config);
    let core = core.clone();
    tokio::spawn(async move {
        note_own(&core, &svid).await;
        loop {
            let at = svid.renew_at(fastrand::f64());
            let wait = at.duration_since(SystemTime::now()).unwrap_or_default().max(Duration::from_secs(1));
            let kept = tokio::select! {
                () = tokio::time::sleep(wait) => None,
                // Who is believed has changed: new connections are to be judged by it.
                Ok(()) = bundles.changed() => {
                    let revoked = bundles.borrow_and_update().revokes(svid.serial_hex());
                    (!revoked).then(|| svid.clone())
                }
                () = shutdown.cancelled() => return,
            };
            match make(&core, kept) {
                Ok((renewed, config)) => {
                    sender.send_replace(config);
                    if renewed.serial_hex() != svid.serial_hex() {
                        note_own(&core, &renewed).await;
                    }
                    svid = renewed;
                }
                Err(error) => {
                    tracing::error!(%error, "can't renew the control plane's own certificate; trying again");
                    tokio::time::sleep(Duration::from_secs(10)).await;
                }
            }
        }
    });
    Ok(receiver)
}

async fn note_own(core: &Core, svid: &Svid) {
    let now = SystemTime::now();
    core.authority.record_own(core.store.as_ref(), svid, now).await;
    let object = format!("certificate {} of {}", svid.serial_hex(), svid.id());
    let entry = Entry {
        who: "control",
        peer: String::new(),
        verb: "issue",
        object: &object,
        result: 200,
        reason: "",
        revision: None,
    };
    core.audit.change(&entry, now);
}

async fn accept(
    core: Arc<Core>,
    listener: tokio::net::TcpListener,
    tls: watch::Receiver<Arc<rustls::ServerConfig>>,
    routes: tonic::service::Routes,
    shutdown: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of files, most likely: wait for some to close.
                    tracing::warn!(%error, "can't accept on the xDS port");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = shutdown.cancelled() => break,
        };
        let Ok(permit) = room.clone().try_acquire_owned() else { continue };
        let config = tls.borrow().clone();
        let (core, routes, shutdown) = (core.clone(), routes.clone(), shutdown.clone());
        connections.spawn(async move {
            if let Err(error) = connection(&core, stream, config, routes, shutdown).await {
                tracing::debug!(%error, "a connection to the xDS port ended");
            }
            drop(permit);
        });
    }
    connections.close();
    // Streams end when they see the shutdown; what doesn't is cut off with the runtime.
    let _ = timeout(Duration::from_secs(2), connections.wait()).await;
}

async fn connection(
    core: &Core,
    stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
    routes: tonic::service::Routes,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let stream =
        timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await.context("no TLS handshake in time")??;
    let mut caller = caller(stream.get_ref().1.peer_certificates().unwrap_or_default())?;
    caller.from = Some(remote);
    let revoked = revoked(core, caller.serial.clone());
    let id = caller.id.as_ref().map_or("", |id| id.as_str());
    let _held = core.connections.hold(connections::accepted(local, remote, stream.get_ref().1, id));
    let peer = Peer(caller.id.as_ref().map(|id| id.as_str().to_owned()));
    let service = routes.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(caller.clone());
        request.map(tonic::body::Body::new)
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => Ok(ended?),
        () = revoked => {
            core.counters.count("connection_cut", "revoked");
            tracing::warn!(%remote, "a member's certificate is revoked: its connection is cut");
            Ok(())
        }
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            Ok(serving.await?)
        }
    }
}

/// Waits until the certificate of this serial number is revoked, and then until its holder can have heard of it: a
/// proxy that knows does not start with it again.
async fn revoked(core: &Core, serial: String) {
    let mut bundles = core.authority.bundles();
    // The sender lives as long as the core.
    if serial.is_empty() || bundles.wait_for(|bundle| bundle.revokes(&serial)).await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(LAST_WORDS).await;
}

fn caller(chain: &[rustls_pki_types::CertificateDer<'_>]) -> anyhow::Result<Caller> {
    if chain.is_empty() {
        return Ok(Caller::default());
    }
    let id = weft_identity::tls::peer_id(chain)?;
    let leaf = weft_identity::certificate::Leaf::parse(&chain[0])?;
    Ok(Caller { id: Some(id), expires: Some(leaf.not_after), serial: leaf.serial_hex, from: None })
}

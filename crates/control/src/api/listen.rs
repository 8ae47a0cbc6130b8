//! The API's two doors: a TCP port that speaks TLS and, to loopback, plain HTTP too; and a Unix socket.
//!
//! One task a connection, a bound on how many. TLS is told from plain HTTP by the first byte, which
//! is looked at and left in the socket.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::Api;
use super::auth::Peer;
use super::users::ClientCertificate;

const CONNECTIONS_MAX: usize = 4096;
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
const STREAMS_MAX: u32 = 250;
/// The record type of a TLS handshake; no HTTP method begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// Starts accepting at both doors. The task ends when `shutdown` has come and the connections are gone.
pub(crate) fn start(api: Arc<Api>, listener: TcpListener, socket: &Path) -> anyhow::Result<JoinHandle<()>> {
    listener.set_nonblocking(true).context("the API's listener")?;
    let tcp = tokio::net::TcpListener::from_std(listener).context("the API's listener")?;
    let unix = UnixDoor::open(socket)?;
    Ok(tokio::spawn(accept(api, tcp, unix)))
}

async fn accept(api: Arc<Api>, tcp: tokio::net::TcpListener, unix: UnixDoor) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = tcp.accept() => accepted.map(|(stream, _)| Door::Tcp(stream)),
            accepted = unix.listener.accept() => accepted.map(|(stream, _)| Door::Unix(stream)),
            () = api.shutdown.cancelled() => break,
        };
        let door = match accepted {
            Ok(door) => door,
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to come back.
                tracing::warn!(%error, "the API can't accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Above the bound the connection is closed at once, which a client sees and retries.
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(max = CONNECTIONS_MAX, "too many connections to the API");
            continue;
        };
        let api = api.clone();
        connections.spawn(async move {
            match door {
                Door::Tcp(stream) => serve_tcp(api, stream).await,
                Door::Unix(stream) => serve_unix(api, stream).await,
            }
            drop(place);
        });
    }
    connections.close();
    connections.wait().await;
}

enum Door {
    Tcp(TcpStream),
    Unix(UnixStream),
}

async fn serve_tcp(api: Arc<Api>, mut stream: TcpStream) {
    let (Ok(remote), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
    // Frames of a watch are small and must not wait for each other.
    let _ = stream.set_nodelay(true);
    let mut first = [0_u8; 1];
    match timeout(FIRST_BYTE_TIMEOUT, stream.peek(&mut first)).await {
        Ok(Ok(1)) => {}
        _ => return,
    }
    if first[0] == TLS_HANDSHAKE {
        let config = match api.certificate.config(SystemTime::now()) {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the API has no serving certificate");
                return;
            }
        };
        match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await {
            Ok(Ok(stream)) => {
                let presented = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let certificate = match presented.map(ClientCertificate::read).transpose() {
                    Ok(certificate) => certificate,
                    Err(error) => {
                        tracing::debug!(%remote, error = format!("{error:#}"), "an unreadable client certificate");
                        return;
                    }
                };
                serve_http(api, stream, Peer::Tcp { remote, local, certificate }).await;
            }
            Ok(Err(error)) => tracing::debug!(%remote, %error, "a TLS handshake with the API failed"),
            Err(_) => tracing::debug!(%remote, "a TLS handshake with the API took too long"),
        }
    } else if remote.ip().to_canonical().is_loopback() {
        serve_http(api, stream, Peer::Tcp { remote, local, certificate: None }).await;
    } else {
        // A token must not cross the network in the clear.
        let refusal = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 44\r\n\r\nUse https: plain HTTP is for loopback only.\n";
        let _ = timeout(HANDSHAKE_TIMEOUT, stream.write_all(refusal)).await;
    }
}

async fn serve_unix(api: Arc<Api>, stream: UnixStream) {
    // The file's mode already says it; the kernel's word on the peer holds even if somebody loosened it.
    let own = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own || peer.uid() == 0 => serve_http(api, stream, Peer::Owner).await,
        Ok(peer) => tracing::warn!(uid = peer.uid(), "another user opened the control socket; refused"),
        Err(error) => tracing::warn!(%error, "the control socket's peer is unknown; refused"),
    }
}

async fn serve_http(api: Arc<Api>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
    let shutdown = api.shutdown.clone();
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let api = api.clone();
        async move {
            let request = request.map(axum::body::Body::new);
            Ok::<_, std::convert::Infallible>(super::gate::answer(api, peer, request).await)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(Duration::from_secs(30));
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(peer = peer.label(), error, "a connection to the API broke");
            }
        }
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(DRAIN_TIMEOUT, connection).await;
        }
    }
}

/// The owner's socket; its file goes with it.
struct UnixDoor {
    listener: UnixListener,
    path: PathBuf,
}

impl UnixDoor {
    fn open(path: &Path) -> anyhow::Result<UnixDoor> {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            anyhow::bail!(
                "{} is in use: another control plane runs with this state directory",
                path.display()
            );
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove the old socket {}", path.display()));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).with_context(|| {
            format!(
                "listen on {} (a socket's path has at most 107 bytes; choose a shorter --state)",
                path.display()
            )
        })?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .with_context(|| format!("protect {}", path.display()))?;
        Ok(UnixDoor { listener, path: path.to_owned() })
    }
}

impl Drop for UnixDoor {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

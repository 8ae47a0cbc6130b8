//! HTTP/1.1 on hyper, both ends. Nothing else in this crate names hyper's HTTP/1 types' settings.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1 as client_conn, server::conn::http1 as server_conn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_routing::HttpConfig;

use super::body::{ResponseBody, TryBody};
use crate::{drain::Drain, peer::Peer, upstream::pool::Held};

/// The head of a request, decoded, with cookies.
pub const HEAD_BYTES_MAX: usize = 60 * 1024;
pub const HEADERS_MAX: usize = 100;
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// The least buffer that hyper takes for a head.
const HEAD_BYTES_MIN: usize = 8 * 1024;

/// For how long a connection may carry no request.
pub fn idle_timeout(config: &HttpConfig) -> Duration {
    // Zero switches it off: nothing is for ever, but a hundred years are.
    match config.timeouts.idle {
        Some(limit) if limit.is_zero() => Duration::from_secs(3600 * 24 * 36500),
        Some(limit) => limit,
        None => IDLE_TIMEOUT,
    }
}

/// How often a connection is looked at, so that a limit is not missed by more than half of it.
pub fn look_interval(limit: Duration) -> Duration {
    (limit / 2).clamp(Duration::from_millis(50), HEAD_TIMEOUT / 2)
}

/// Speaks HTTP/1.1 to an endpoint; the connection lives in a task of its own until it ends, and lets go of `held` then.
pub async fn client<T>(io: T, held: Held) -> Result<client_conn::SendRequest<TryBody>, hyper::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = client_conn::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake::<_, TryBody>(TokioIo::new(io))
        .await?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "an upstream HTTP/1 connection ended");
        }
        drop(held);
    });
    Ok(sender)
}

/// Serves one connection until it ends, or until the drain lets the open request finish.
pub async fn serve<T, F, R>(io: T, peer: &Peer, config: &HttpConfig, drain: &Drain, answer: F)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Result<Response<ResponseBody>, std::convert::Infallible>> + 'static,
{
    let io = Watched { io, heard: Arc::clone(&peer.heard) };
    let connection =
        server(config).serve_connection(TokioIo::new(io), hyper::service::service_fn(answer)).with_upgrades();
    tokio::pin!(connection);
    let mut draining = std::pin::pin!(drain.started());
    let mut drained = false;
    let mut quiet = Quiet::default();
    // hyper's own head timer also runs while a connection is idle, so the time is kept here.
    let idle_timeout = idle_timeout(config);
    let head_timeout =
        config.timeouts.request_headers.filter(|limit| !limit.is_zero()).unwrap_or(HEAD_TIMEOUT);
    let mut ticks = tokio::time::interval(look_interval(idle_timeout.min(head_timeout)));
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a downstream HTTP/1 connection ended");
                }
                return;
            }
            () = draining.as_mut(), if !drained => {
                drained = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = ticks.tick() => match quiet.look(peer, idle_timeout, head_timeout) {
                Verdict::Fine => {}
                Verdict::SlowHead => return,
                Verdict::Idle => connection.as_mut().graceful_shutdown(),
            },
        }
    }
}

/// Answers every request of a connection alike, without a look at it.
pub async fn serve_fixed<T>(io: T, drain: &Drain, answer: impl Fn() -> Response<ResponseBody>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service =
        hyper::service::service_fn(|_| std::future::ready(Ok::<_, std::convert::Infallible>(answer())));
    let connection = server_conn::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = drain.started() => {}
    }
}

fn server(config: &HttpConfig) -> server_conn::Builder {
    let limits = &config.limits;
    let head_bytes_max = limits.head_kib_max.map_or(HEAD_BYTES_MAX, |kib| kib as usize * 1024);
    let mut builder = server_conn::Builder::new();
    builder
        .half_close(true)
        .max_headers(limits.headers_max.map_or(HEADERS_MAX, |max| max as usize))
        .max_buf_size(head_bytes_max.max(HEAD_BYTES_MIN))
        .timer(TokioTimer::new())
        .header_read_timeout(None);
    builder
}

/// For how long a connection has carried no request.
#[derive(Default)]
pub struct Quiet {
    since: Option<Instant>,
    head_since: Option<Instant>,
}

enum Verdict {
    Fine,
    /// A head has been coming for too long.
    SlowHead,
    Idle,
}

impl Quiet {
    /// Whether the connection has carried no request for that long.
    pub fn for_too_long(&mut self, peer: &Peer, idle_timeout: Duration) -> bool {
        if peer.open_requests.get() > 0 {
            self.since = None;
            return false;
        }
        let now = Instant::now();
        now - *self.since.get_or_insert(now) >= idle_timeout
    }

    fn look(&mut self, peer: &Peer, idle_timeout: Duration, head_timeout: Duration) -> Verdict {
        if peer.open_requests.get() > 0 {
            *self = Quiet::default();
            return Verdict::Fine;
        }
        let now = Instant::now();
        if peer.heard.load(Ordering::Relaxed) {
            let since = *self.head_since.get_or_insert(now);
            return if now - since >= head_timeout { Verdict::SlowHead } else { Verdict::Fine };
        }
        self.head_since = None;
        if self.for_too_long(peer, idle_timeout) { Verdict::Idle } else { Verdict::Fine }
    }
}

/// Notes that bytes came.
struct Watched<T> {
    io: T,
    heard: Arc<AtomicBool>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.heard.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

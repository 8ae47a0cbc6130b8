//! HTTP/2 on hyper and h2, both ends, with the windows and limits of a sidecar.

use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http2 as client_conn, server::conn::http2 as server_conn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use weft_routing::{HttpConfig, UpstreamHttp};

use super::{
    body::{ResponseBody, TryBody},
    h1::{HEAD_TIMEOUT, idle_timeout},
    inbound::Inbound,
};
use crate::{drain::Drain, local_exec::LocalExec, peer::Peer, upstream::pool::Held};

pub const STREAMS_MAX: u32 = 100;
pub const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
pub const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const HEAD_BYTES_MAX: u32 = super::h1::HEAD_BYTES_MAX as u32;
/// A peer that is gone without a word is noticed after this and the timeout.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a cluster says about HTTP/2.
#[derive(Clone, Copy)]
pub struct Settings {
    pub streams_max: u32,
    stream_window: u32,
    connection_window: u32,
}

impl Settings {
    pub fn of(options: &UpstreamHttp) -> Settings {
        Settings {
            streams_max: options.http2_streams_max.unwrap_or(STREAMS_MAX).min(STREAMS_MAX),
            stream_window: options.http2_stream_window.unwrap_or(STREAM_WINDOW_BYTES),
            connection_window: options.http2_connection_window.unwrap_or(CONNECTION_WINDOW_BYTES),
        }
    }
}

/// Speaks HTTP/2 to an endpoint; the connection lives in a task of its own until it ends, and lets go of `held` then.
pub async fn client<T>(
    io: T,
    settings: Settings,
    held: Held,
) -> Result<client_conn::SendRequest<TryBody>, hyper::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = client_conn::Builder::new(LocalExec)
        .timer(TokioTimer::new())
        .initial_stream_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_header_list_size(HEAD_BYTES_MAX)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .handshake::<_, TryBody>(TokioIo::new(io))
        .await?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an upstream HTTP/2 connection ended");
        }
        drop(held);
    });
    Ok(sender)
}

/// Serves one connection until it ends; a drain sends GOAWAY and lets open streams finish.
pub async fn serve<T, F, R>(io: T, peer: &Peer, config: &HttpConfig, drain: &Drain, answer: F)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Inbound>) -> R + 'static,
    R: Future<Output = Response<ResponseBody>> + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let answering = answer(request.map(Inbound::H2));
        async { Ok::<_, std::convert::Infallible>(answering.await) }
    });
    let limits = &config.limits;
    let connection = server_conn::Builder::new(LocalExec)
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams_max.unwrap_or(STREAMS_MAX))
        .initial_stream_window_size(limits.http2_stream_window.unwrap_or(STREAM_WINDOW_BYTES))
        .initial_connection_window_size(limits.http2_connection_window.unwrap_or(CONNECTION_WINDOW_BYTES))
        .max_header_list_size(limits.head_kib_max.map_or(HEAD_BYTES_MAX, |kib| kib * 1024))
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    let mut draining = std::pin::pin!(drain.started());
    let mut leaving = false;
    let idle_timeout = idle_timeout(config);
    let mut quiet = Quiet::default();
    // So that the limit is not missed by more than half of it.
    let mut ticks =
        tokio::time::interval((idle_timeout / 2).clamp(Duration::from_millis(50), HEAD_TIMEOUT / 2));
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = draining.as_mut(), if !leaving => {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = ticks.tick(), if !leaving => {
                if quiet.for_too_long(peer, idle_timeout) {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a downstream HTTP/2 connection ended");
    }
}

/// For how long a connection has carried no request.
#[derive(Default)]
struct Quiet {
    since: Option<Instant>,
}

impl Quiet {
    /// Whether the connection has carried no request for that long.
    fn for_too_long(&mut self, peer: &Peer, idle_timeout: Duration) -> bool {
        if peer.open_requests.get() > 0 {
            self.since = None;
            return false;
        }
        let now = Instant::now();
        now - *self.since.get_or_insert(now) >= idle_timeout
    }
}

//! HTTP/2 on hyper and h2, both ends, with the windows and limits of a sidecar.

use std::time::Duration;

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http2 as client_conn, server::conn::http2 as server_conn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::{ResponseBody, TryBody};
use crate::{drain::Drain, local_exec::LocalExec};

pub const STREAMS_MAX: u32 = 100;
pub const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
pub const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const HEAD_BYTES_MAX: u32 = super::h1::HEAD_BYTES_MAX as u32;
/// A peer that is gone without a word is noticed after this and the timeout.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Speaks HTTP/2 to an endpoint; the connection lives in a task of its own until it ends.
pub async fn client<T>(io: T) -> Result<client_conn::SendRequest<TryBody>, hyper::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = client_conn::Builder::new(LocalExec)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .handshake::<_, TryBody>(TokioIo::new(io))
        .await?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an upstream HTTP/2 connection ended");
        }
    });
    Ok(sender)
}

/// Serves one connection until it ends; a drain sends GOAWAY and lets open streams finish.
pub async fn serve<T, F, R>(io: T, drain: &Drain, answer: F)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> R + 'static,
    R: Future<Output = Result<Response<ResponseBody>, std::convert::Infallible>> + 'static,
{
    let service = hyper::service::service_fn(answer);
    let connection = server_conn::Builder::new(LocalExec)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.started() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a downstream HTTP/2 connection ended");
    }
}

//! HTTP/1.1 and 1.0 by our own codec, both ends: [`server`] for clients' connections, [`client`] for endpoints'.
//!
//! `weft_wire::http1` reads and writes the bytes; here are the sockets, the clock, and the way between the codec's ranges
//! and the types that the pipeline works with.

pub mod client;
pub mod date;
mod decode;
mod encode;
pub mod heads;
pub mod io;
pub mod server;
pub mod shared;

use std::time::Duration;

use weft_routing::HttpConfig;
use weft_wire::http1::Limits;

use super::forward::STREAM_IDLE;

/// The head of a request, decoded, with cookies.
pub const HEAD_BYTES_MAX: usize = 60 * 1024;
pub const HEADERS_MAX: usize = 100;
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Gives back what this worker keeps for the next request.
pub fn release_buffers() {
    io::release();
    heads::release();
}

/// For how long a connection may carry no request.
pub fn idle_timeout(config: &HttpConfig) -> Duration {
    // Zero switches it off: nothing is for ever, but a hundred years are.
    match config.timeouts.idle {
        Some(limit) if limit.is_zero() => Duration::from_secs(3600 * 24 * 36500),
        Some(limit) => limit,
        None => IDLE_TIMEOUT,
    }
}

/// For how long a head may come.
pub fn head_timeout(config: &HttpConfig) -> Duration {
    config.timeouts.request_headers.filter(|limit| !limit.is_zero()).unwrap_or(HEAD_TIMEOUT)
}

/// For how long a client may take nothing of its answer; `None`: for ever.
pub fn write_timeout(config: &HttpConfig) -> Option<Duration> {
    Some(config.timeouts.stream_idle.unwrap_or(STREAM_IDLE)).filter(|limit| !limit.is_zero())
}

/// What a listener takes of a request.
pub fn limits(config: &HttpConfig) -> Limits {
    let limits = &config.limits;
    Limits {
        head_bytes_max: limits.head_kib_max.map_or(HEAD_BYTES_MAX as u32, |kib| kib.saturating_mul(1024)),
        fields_max: limits.headers_max.unwrap_or(HEADERS_MAX as u32),
        ..Limits::DEFAULT
    }
}

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

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, Weak},
    time::Duration,
};

use weft_routing::{ConnectionLife, HttpConfig};
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
    weft_wire::http2::hpack::release();
    heads::release();
    server::release();
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

/// What a connection is held to. Those of one chain share it.
pub struct Bounds {
    pub limits: Limits,
    pub life: ConnectionLife,
    pub idle_timeout: Duration,
    /// For how long a head may come.
    pub head_timeout: Duration,
    /// For how long a client may take nothing of its answer; `None`: for ever.
    pub write_timeout: Option<Duration>,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            limits: Limits::DEFAULT,
            life: ConnectionLife::default(),
            idle_timeout: IDLE_TIMEOUT,
            head_timeout: HEAD_TIMEOUT,
            write_timeout: Some(STREAM_IDLE),
        }
    }
}

impl Bounds {
    fn of(config: &HttpConfig) -> Bounds {
        let (head, stream) = (config.timeouts.request_headers, config.timeouts.stream_idle);
        Bounds {
            limits: limits(config),
            life: config.limits.life,
            idle_timeout: idle_timeout(config),
            head_timeout: head.filter(|limit| !limit.is_zero()).unwrap_or(HEAD_TIMEOUT),
            write_timeout: Some(stream.unwrap_or(STREAM_IDLE)).filter(|limit| !limit.is_zero()),
        }
    }
}

/// The bounds of the chains that have connections.
#[derive(Default)]
pub struct KnownBounds(RefCell<Vec<(Weak<HttpConfig>, Rc<Bounds>)>>);

impl KnownBounds {
    pub fn of(&self, config: &Arc<HttpConfig>) -> Rc<Bounds> {
        let mut known = self.0.borrow_mut();
        // No other has this address, as long as it is kept here.
        if let Some((_, bounds)) = known.iter().find(|(chain, _)| chain.as_ptr() == Arc::as_ptr(config)) {
            return Rc::clone(bounds);
        }
        known.retain(|(chain, _)| chain.strong_count() > 0);
        let bounds = Rc::new(Bounds::of(config));
        known.push((Arc::downgrade(config), Rc::clone(&bounds)));
        bounds
    }
}

/// What a listener takes of a request.
fn limits(config: &HttpConfig) -> Limits {
    let limits = &config.limits;
    Limits {
        head_bytes_max: limits.head_kib_max.map_or(HEAD_BYTES_MAX as u32, |kib| kib.saturating_mul(1024)),
        fields_max: limits.headers_max.unwrap_or(HEADERS_MAX as u32),
        ..Limits::DEFAULT
    }
}

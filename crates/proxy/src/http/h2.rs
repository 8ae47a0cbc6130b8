//! HTTP/2, both ends, with the windows and limits of a sidecar.

pub mod bells;
pub mod client;
pub mod codec;
pub mod guarded;
pub mod server;
pub mod streams;

use std::{cell::Cell, pin::pin, rc::Rc, time::Duration};

use weft_routing::{ConnectionLife, Http2Keepalive, Http2Options, HttpConfig, UpstreamHttp, jittered};
use weft_wire::http2_guard::Guard;

use self::{
    codec::Pings,
    guarded::{Guarded, OnFlood},
};
use crate::{meters, peer::Peer};

pub const STREAMS_MAX: u32 = 100;
pub const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
pub const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const HEAD_BYTES_MAX: u32 = super::h1::HEAD_BYTES_MAX as u32;
/// A peer that is gone without a word is noticed after this and the timeout.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What any living peer has read by then.
const READ_SOON_BYTES: u64 = 64 * 1024;

/// What a cluster says about HTTP/2.
#[derive(Clone, Copy)]
pub struct Settings {
    pub streams_max: u32,
    pub life: ConnectionLife,
    options: Http2Options,
}

impl Settings {
    pub fn of(http: &UpstreamHttp) -> Settings {
        Settings {
            streams_max: http.http2.streams_max.unwrap_or(STREAMS_MAX).min(STREAMS_MAX),
            life: http.life,
            options: http.http2,
        }
    }
}

/// When a silent peer is asked whether it is still there, and for how long it may think about it.
fn keep_alive(said: Option<Http2Keepalive>, random: u64) -> (Option<Duration>, Duration) {
    match said {
        None => (Some(KEEP_ALIVE_INTERVAL), KEEP_ALIVE_TIMEOUT),
        Some(said) => {
            let interval = said.interval.map(|interval| jittered(interval, said.jitter_percent, random));
            (interval, said.timeout)
        }
    }
}

/// Waits until a peer that has been silent for an interval does not answer a PING either. `used`: whether anybody cares.
/// One that may have much to read before the PING has as long as `behind`: what lies in the kernels' buffers moves
/// unseen.
async fn still_there(
    pings: Pings,
    heard: Rc<Cell<bool>>,
    interval: Option<Duration>,
    limit: Duration,
    behind: Duration,
    used: impl Fn() -> bool,
) {
    let Some(interval) = interval else { return std::future::pending().await };
    let limit = limit.max(Duration::from_millis(1));
    loop {
        tokio::time::sleep(interval).await;
        if heard.take() || !used() {
            continue;
        }
        let mut left = if pings.unproven() > READ_SOON_BYTES { limit.max(behind) } else { limit };
        let mut answered = pin!(pings.ping());
        while tokio::time::timeout(limit.min(left), answered.as_mut()).await.is_err() && !heard.take() {
            left = left.saturating_sub(limit);
            if left.is_zero() {
                tracing::debug!("an HTTP/2 peer does not answer");
                return;
            }
        }
    }
}

/// Puts a client's connection under guard.
pub fn guard<T>(io: T, peer: &Rc<Peer>, config: &HttpConfig) -> Guarded<T> {
    let limits = guarded::limits(&config.limits.http2);
    Guarded::new(io, Guard::server(limits), on_flood(peer))
}

/// Counts the floods of this peer's listener.
fn on_flood(peer: &Rc<Peer>) -> OnFlood {
    let peer = Rc::clone(peer);
    Rc::new(move |flood| {
        let counter =
            meters::http2_floods(&peer.worker.settings.registry, peer.listener_name(), flood.label());
        peer.worker.shard.borrow_mut().add(counter, 1);
        tracing::info!(remote = %peer.remote(), %flood, "an HTTP/2 connection is ended");
    })
}

//! Options of HTTP that listeners and clusters share.

use std::time::Duration;

/// HTTP/2, towards callers or endpoints. `None`: as the proxy does it by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Http2Options {
    pub streams_max: Option<u32>,
    pub stream_window: Option<u32>,
    pub connection_window: Option<u32>,
    /// Upgrades go as extended CONNECT (RFC 8441).
    pub extended_connect: bool,
    /// Frames in a row that are empty and end no stream.
    pub empty_frames_max: Option<u32>,
    pub priorities_per_stream_max: Option<u32>,
    pub window_updates_per_data_max: Option<u32>,
    pub keepalive: Option<Http2Keepalive>,
}

/// PINGs to a peer that is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2Keepalive {
    /// `None`: no PINGs are sent.
    pub interval: Option<Duration>,
    pub timeout: Duration,
    /// By how much of itself the interval grows at random.
    pub jitter_percent: u32,
}

/// How long a connection is used; it ends between requests, never within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionLife {
    pub duration_max: Option<Duration>,
    /// By how much of itself the duration grows at random.
    pub jitter_percent: u32,
    pub requests_max: Option<u32>,
}

impl ConnectionLife {
    /// When a connection that opens now leaves, after how long; `None`: never.
    pub fn duration(&self, random: u64) -> Option<Duration> {
        self.duration_max.map(|duration| jittered(duration, self.jitter_percent, random))
    }
}

/// Up to that much more, so that what began together does not end together.
pub fn jittered(duration: Duration, percent: u32, random: u64) -> Duration {
    let millionths = u64::from(percent.min(100)) * 10_000;
    let more = u32::try_from(random % (millionths + 1)).unwrap_or(0);
    duration + duration / 1_000_000 * more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_adds_up_to_its_share_and_never_takes() {
        let hour = Duration::from_secs(3600);
        assert_eq!(jittered(hour, 0, u64::MAX), hour);
        assert_eq!(jittered(hour, 15, 0), hour);
        assert_eq!(jittered(hour, 15, 150_000), hour.mul_f64(1.15));
        for random in (0..10_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let found = jittered(hour, 15, random);
            assert!(found >= hour && found <= hour.mul_f64(1.15), "{found:?}");
        }
        assert_eq!(ConnectionLife::default().duration(7), None);
    }
}

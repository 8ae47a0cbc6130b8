//! Waiting for facts.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

/// Polls `fact` until it is `Some`, for at most `patience`; fails the test by name otherwise.
#[track_caller]
pub fn eventually<T>(what: &str, patience: Duration, mut fact: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = fact() {
            return value;
        }
        #[expect(clippy::panic, reason = "this is how a test fails")]
        if Instant::now() > deadline {
            panic!("waited {patience:?} in vain for: {what}");
        }
        pause(Duration::from_millis(20));
    }
}

/// Between two looks at the world.
#[expect(clippy::disallowed_methods, reason = "a test's own thread, not a worker's")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A port that is free on 127.0.0.1 now. Used where a port must be known before its process starts.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_or(0, |a| a.port())
}

/// A loopback address that no other test process uses at the same time, and no other `number` of this one:
/// for peers whose ports must be known before they start.
pub fn own_loopback(number: u8) -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 100_u8.saturating_add(number), high, low.clamp(1, 254))
}

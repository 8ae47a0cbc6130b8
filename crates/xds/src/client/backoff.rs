//! How long to wait before the next attempt: exponential, full jitter, so that a thousand
//! clients of a restarted control plane do not come back as one.

use std::time::Duration;

const INITIAL: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// `jitter` is uniform in 0..1 and comes from the caller.
    pub fn failed(&mut self, jitter: f64) -> Duration {
        let ceiling = INITIAL.saturating_mul(1 << self.failures.min(16)).min(MAX);
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(jitter.clamp(0.0, 1.0))
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_100_ms_to_5_s_and_starts_over_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..8).map(|_| backoff.failed(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.failed(0.5).as_millis(), 2500);
        backoff.succeeded();
        assert_eq!(backoff.failed(0.25).as_millis(), 25);
    }
}

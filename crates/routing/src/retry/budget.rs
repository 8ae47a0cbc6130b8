//! How much of the traffic may be retries: a share of the requests, plus a small constant rate.
//!
//! Without it, retries multiply an outage: each layer of callers doubles the load on the layer below.

use std::time::Duration;

/// Two purses, counted in thousandths of a retry. The constant one is spent first.
#[derive(Debug, Clone)]
pub struct Budget {
    percent: u32,
    per_second: u32,
    constant: u64,
    earned: u64,
    last: Duration,
}

/// Retries that a quiet time can save up: an old calm must not pay for a new storm.
const EARNED_MAX: u64 = 100;
const ONE: u64 = 1000;

impl Default for Budget {
    /// 20 % + 10/s.
    fn default() -> Self {
        Budget::new(20, 10)
    }
}

impl Budget {
    pub fn new(percent: u32, per_second: u32) -> Budget {
        Budget { percent, per_second, constant: u64::from(per_second) * ONE, earned: 0, last: Duration::ZERO }
    }

    /// Each first try earns its share.
    pub fn deposit(&mut self) {
        self.earned = (self.earned + u64::from(self.percent) * ONE / 100).min(EARNED_MAX * ONE);
    }

    /// True if one more retry is in the budget; it is spent then.
    pub fn withdraw(&mut self, now: Duration) -> bool {
        self.refill(now);
        for purse in [&mut self.constant, &mut self.earned] {
            if let Some(rest) = purse.checked_sub(ONE) {
                *purse = rest;
                return true;
            }
        }
        false
    }

    /// The constant purse holds one second's worth.
    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.last);
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let gained = millis.saturating_mul(u64::from(self.per_second));
        if gained > 0 {
            self.constant = self.constant.saturating_add(gained).min(u64::from(self.per_second) * ONE);
            self.last = now;
        }
    }
}

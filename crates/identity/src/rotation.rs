//! When to renew: somewhere between 50 and 70 % of a certificate's life, so that a fleet that started
//! together doesn't renew together, and an authority that is down has 30 % of a life to come back.

use std::time::{Duration, SystemTime};

/// How far NotBefore lies before the moment of issue, for members whose clocks are behind.
pub const BACKDATED: Duration = Duration::from_secs(5 * 60);

/// The moment to renew a certificate; `jitter` from 0 to 1, drawn anew for each certificate.
///
/// Life counts from the moment of issue, which is [`BACKDATED`] after NotBefore; else a certificate of a
/// minute would be due before it was made. A foreign certificate whose whole life is no longer than that
/// counts from NotBefore.
pub fn renew_at(not_before: SystemTime, not_after: SystemTime, jitter: f64) -> SystemTime {
    let issued = match not_before + BACKDATED {
        issued if issued < not_after => issued,
        _ => not_before,
    };
    let life = not_after.duration_since(issued).unwrap_or_default();
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.5 };
    issued + life.mul_f64(0.5 + 0.2 * jitter)
}

/// How long to wait until then: nothing, when the moment has passed.
pub fn renew_in(not_before: SystemTime, not_after: SystemTime, jitter: f64, now: SystemTime) -> Duration {
    renew_at(not_before, not_after, jitter).duration_since(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn at(s: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + seconds(s)
    }

    #[test]
    fn renewal_lies_between_50_and_70_percent_of_life() {
        // (NotBefore, NotAfter, jitter, renewal)
        for (not_before, not_after, jitter, expected) in [
            (0, 300 + 1000, 0.0, 300 + 500),
            (0, 300 + 1000, 0.5, 300 + 600),
            (0, 300 + 1000, 1.0, 300 + 700),
            (0, 300 + 1000, 7.0, 300 + 700),
            (0, 300 + 1000, f64::NAN, 300 + 600),
            (0, 300 + 86_400, 0.0, 300 + 43_200),
            // A certificate of 60 s is due 30 to 42 s after it was issued, not at once.
            (0, 300 + 60, 0.0, 300 + 30),
            (0, 300 + 60, 1.0, 300 + 42),
            // A foreign one that isn't backdated and lives for 100 s.
            (0, 100, 0.0, 50),
            // Nonsense is due at once, not never.
            (1000, 10, 0.5, 1000),
        ] {
            assert_eq!(
                renew_at(at(not_before), at(not_after), jitter),
                at(expected),
                "{not_before} {not_after} {jitter}"
            );
        }
    }

    #[test]
    fn what_is_overdue_is_due_now() {
        assert_eq!(renew_in(at(0), at(1300), 0.0, at(5000)), Duration::ZERO);
        assert_eq!(renew_in(at(0), at(1300), 0.0, at(100)), seconds(700));
    }
}

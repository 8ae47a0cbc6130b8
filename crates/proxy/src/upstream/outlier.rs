//! Passive health: an endpoint that fails again and again is left alone for a while.
//!
//! Each worker judges by what it saw itself: nothing is shared, and an endpoint that is ill is ill for all of them
//! soon. Only failures in a row count; statistics over many endpoints are not made.

use std::{cell::Cell, time::Instant};

use weft_routing::OutlierDetection;

/// How a try ended, as far as the endpoint's health is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Good,
    /// 500, 501, 505 and up.
    ServerError,
    /// 502, 503, 504.
    GatewayError,
    /// No answer: not connected, reset, too late.
    LocalFailure,
}

impl Outcome {
    /// By the answer's status; a gRPC status of a refused call counts as the HTTP status that it stands for.
    pub fn of(status: u16, grpc_status: Option<i32>) -> Outcome {
        match (status, grpc_status) {
            (502..=504, _) | (_, Some(4 | 14)) => Outcome::GatewayError,
            (500.., _) | (_, Some(2 | 13 | 15)) => Outcome::ServerError,
            _ => Outcome::Good,
        }
    }
}

/// What a worker remembers of one endpoint.
#[derive(Debug, Default)]
pub struct Memory {
    errors: Cell<u32>,
    gateway_errors: Cell<u32>,
    local_failures: Cell<u32>,
    ejected_until: Cell<Option<Instant>>,
    /// When the last ejection ended.
    returned: Cell<Option<Instant>>,
    /// Ejections, each of which makes the next one longer; good times make it shorter again.
    ejections: Cell<u32>,
}

impl Memory {
    pub fn is_ejected(&self, now: impl FnOnce() -> Instant) -> bool {
        let Some(until) = self.ejected_until.get() else { return false };
        if now() < until {
            return true;
        }
        self.ejected_until.set(None);
        self.returned.set(Some(until));
        false
    }

    pub fn ejected_until(&self) -> Option<Instant> {
        self.ejected_until.get()
    }

    /// Takes note; true if the endpoint should be ejected. `random` decides where only a share is enforced.
    pub fn note(&self, settings: &OutlierDetection, outcome: Outcome, random: u64) -> bool {
        let (local, external) = match outcome {
            Outcome::LocalFailure if settings.split_local_origin => (true, Outcome::Good),
            Outcome::LocalFailure => (false, Outcome::GatewayError),
            other => (false, other),
        };
        if local {
            return past(&self.local_failures, settings.consecutive_local_origin_failure, 100, random);
        }
        self.local_failures.set(0);
        let count = |cell: &Cell<u32>, failed: bool, threshold: u32, enforced: u32| {
            if !failed {
                cell.set(0);
            }
            failed && past(cell, threshold, enforced, random)
        };
        let gateway = count(
            &self.gateway_errors,
            external == Outcome::GatewayError,
            settings.consecutive_gateway_failure,
            settings.enforcing_consecutive_gateway_failure_percent,
        );
        let errors = count(
            &self.errors,
            external != Outcome::Good,
            settings.consecutive_5xx,
            settings.enforcing_consecutive_5xx_percent,
        );
        gateway || errors
    }

    /// Leaves the endpoint alone from `now` on.
    pub fn eject(&self, settings: &OutlierDetection, now: Instant) {
        let good_intervals = self.returned.get().map_or(0, |returned| {
            let good = now.saturating_duration_since(returned).as_millis();
            u32::try_from(good / settings.interval.as_millis().max(1)).unwrap_or(u32::MAX)
        });
        let ejections = self.ejections.get().saturating_sub(good_intervals) + 1;
        self.ejections.set(ejections);
        let time = settings.base_ejection.saturating_mul(ejections).min(settings.max_ejection);
        self.ejected_until.set(Some(now + time));
        for count in [&self.errors, &self.gateway_errors, &self.local_failures] {
            count.set(0);
        }
    }
}

/// One more failure; true at the threshold. 0 is off.
fn past(count: &Cell<u32>, threshold: u32, enforced_percent: u32, random: u64) -> bool {
    count.set(count.get() + 1);
    if threshold == 0 || count.get() < threshold {
        return false;
    }
    count.set(0);
    random % 100 < u64::from(enforced_percent)
}

/// Whether one more of `total` endpoints may be ejected; the first one may be, unless the share is 0.
pub fn may_eject(ejected: usize, total: usize, settings: &OutlierDetection) -> bool {
    ejected * 100 < total * settings.max_ejection_percent as usize
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings() -> OutlierDetection {
        OutlierDetection {
            consecutive_5xx: 3,
            consecutive_gateway_failure: 2,
            consecutive_local_origin_failure: 2,
            split_local_origin: false,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(50),
            max_ejection_percent: 50,
            enforcing_consecutive_5xx_percent: 100,
            enforcing_consecutive_gateway_failure_percent: 0,
        }
    }

    fn noted(settings: &OutlierDetection, outcomes: &[Outcome]) -> Vec<bool> {
        let memory = Memory::default();
        outcomes.iter().map(|outcome| memory.note(settings, *outcome, 0)).collect()
    }

    #[test]
    fn failures_in_a_row_eject() {
        use Outcome::{GatewayError, Good, LocalFailure, ServerError};
        let usual = settings();
        assert_eq!(noted(&usual, &[ServerError, GatewayError, LocalFailure]), [false, false, true]);
        assert_eq!(noted(&usual, &[ServerError, ServerError, Good, ServerError]), [false; 4]);
        let gateway = OutlierDetection { enforcing_consecutive_gateway_failure_percent: 100, ..settings() };
        assert_eq!(noted(&gateway, &[GatewayError, GatewayError]), [false, true]);
        let split = OutlierDetection { split_local_origin: true, ..settings() };
        assert_eq!(
            noted(&split, &[LocalFailure, ServerError, LocalFailure, LocalFailure]),
            [false, false, false, true]
        );
        let off = OutlierDetection { consecutive_5xx: 0, ..settings() };
        assert_eq!(noted(&off, &[ServerError; 9]), [false; 9]);
    }

    #[test]
    fn ejections_grow_and_are_forgiven() {
        let (memory, settings, start) = (Memory::default(), settings(), Instant::now());
        let ejected = |after: u64| memory.is_ejected(|| start + Duration::from_secs(after));
        memory.eject(&settings, start);
        assert!(ejected(29) && !ejected(30));
        memory.eject(&settings, start + Duration::from_secs(31));
        assert!(ejected(80) && !ejected(81), "twice the base, but at most the maximum");
        memory.eject(&settings, start + Duration::from_secs(1000));
        assert!(ejected(1029) && !ejected(1030), "a long good time is remembered too");
    }

    #[test]
    fn some_endpoints_stay() {
        let settings = settings();
        let possible: Vec<bool> = (0..4).map(|ejected| may_eject(ejected, 4, &settings)).collect();
        assert_eq!(possible, [true, true, false, false]);
        assert!(!may_eject(0, 4, &OutlierDetection { max_ejection_percent: 0, ..settings }));
        assert_eq!(Outcome::of(200, Some(14)), Outcome::GatewayError);
    }
}

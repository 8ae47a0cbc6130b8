//! An endpoint that refuses connections is left alone for a moment, whatever the cluster's policies say.
//!
//! A refusal is quick, so the endpoint that is gone would always be the one with the least under way. The moments grow
//! while it keeps refusing, and each ends with one request that looks again; the first success forgets all.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// What a worker remembers of an endpoint's refusals.
#[derive(Debug, Default)]
pub struct Quarantine {
    refusals: Cell<u32>,
    /// The last refusal that counted.
    refused: Cell<Option<Instant>>,
    until: Cell<Option<Instant>>,
}

impl Quarantine {
    pub fn holds(&self, now: Instant) -> bool {
        self.until.get().is_some_and(|until| now < until)
    }

    /// A connection was not to be had; the end of the quarantine. Refusals at the same time are one.
    pub fn refuse(&self, now: Instant) -> Instant {
        let seen = |refused: Instant| now.saturating_duration_since(refused) < self.time();
        if !self.refused.get().is_some_and(seen) {
            self.refusals.set(self.refusals.get().saturating_add(1));
            self.refused.set(Some(now));
        }
        self.extend(now)
    }

    pub fn until(&self) -> Option<Instant> {
        self.until.get()
    }

    /// Somebody looks again: the others wait for what it finds. The time of it; `None`: there is nothing to find out.
    pub fn probe(&self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        (self.refusals.get() > 0).then(|| {
            let now = now();
            self.extend(now);
            now
        })
    }

    /// True if that ends the quarantine.
    pub fn reached(&self) -> bool {
        let refused = self.refusals.replace(0) > 0;
        if refused {
            self.refused.set(None);
            self.until.set(None);
        }
        refused
    }

    fn extend(&self, now: Instant) -> Instant {
        let until = now + self.time();
        self.until.set(Some(until));
        until
    }

    fn time(&self) -> Duration {
        let doublings = self.refusals.get().saturating_sub(1).min(16);
        FIRST.saturating_mul(1 << doublings).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_refused_and_ends_with_a_success() {
        let (quarantine, start) = (Quarantine::default(), Instant::now());
        let at = |millis: u64| start + Duration::from_millis(millis);
        assert!(!quarantine.holds(start) && quarantine.probe(|| start).is_none());
        // A burst counts as one.
        for millis in 0..5 {
            quarantine.refuse(at(millis));
        }
        assert!(quarantine.holds(at(100)) && !quarantine.holds(at(104)));
        assert_eq!(quarantine.probe(|| at(110)), Some(at(110)));
        assert_eq!(quarantine.until(), Some(at(210)), "one looks, the others wait");
        assert_eq!(quarantine.refuse(at(111)), at(311), "twice as long");
        let mut now = at(311);
        for _ in 0..40 {
            now = quarantine.refuse(now);
        }
        assert!(quarantine.holds(now - Duration::from_millis(1)));
        assert_eq!(quarantine.refuse(now), now + LONGEST);
        quarantine.reached();
        assert!(!quarantine.holds(now) && quarantine.probe(|| now).is_none());
    }
}

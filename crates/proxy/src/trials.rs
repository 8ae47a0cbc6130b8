//! Policies on trial: what passes and they would have refused, counted by policy and caller.
//!
//! Each worker finds its counters again without a lock; the registry bounds how many there are. Lines of the log are
//! bounded too: a policy on trial may be about every request.

use std::{collections::HashMap, time::Duration};

use weft_telemetry::{Counter, Registry};

/// Beyond it all are forgotten, and found again as they are needed.
const KNOWN_MAX: usize = 4096;
/// Lines that a worker logs in a second.
const LINES_MAX: u32 = 10;
/// A caller that showed no certificate.
pub const UNKNOWN_CALLER: &str = "unknown";

/// One worker's.
#[derive(Default)]
pub struct Trials {
    known: HashMap<Box<str>, Counter, foldhash::fast::RandomState>,
    /// Used again for each look-up.
    key: String,
    lines: Lines,
}

#[derive(Default)]
struct Lines {
    second: u64,
    written: u32,
    left_out: u64,
}

impl Trials {
    /// Where a refusal by this policy of this caller would be counted.
    pub fn counter(&mut self, registry: &Registry, policy: &str, caller: &str) -> Counter {
        self.key.clear();
        self.key.push_str(policy);
        self.key.push('\n');
        self.key.push_str(caller);
        if let Some(known) = self.known.get(self.key.as_str()) {
            return *known;
        }
        let counter = registry.counter(
            "weft_authorization_would_deny",
            "Requests and connections that passed and that policies on trial (dry run, audit) would have refused.",
            &[("policy", policy), ("caller", caller)],
        );
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(self.key.as_str().into(), counter);
        counter
    }

    /// Whether a line may be written now, and how many were left out before it.
    pub fn line(&mut self, now: Duration) -> Option<u64> {
        let lines = &mut self.lines;
        if lines.second != now.as_secs() {
            *lines = Lines { second: now.as_secs(), written: 0, left_out: lines.left_out };
        }
        if lines.written >= LINES_MAX {
            lines.left_out += 1;
            return None;
        }
        lines.written += 1;
        Some(std::mem::take(&mut lines.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_policy_and_caller_are_the_same_counter() {
        let (registry, mut trials) = (Registry::new(), Trials::default());
        let first = trials.counter(&registry, "AccessPolicy/default/p", "default/fe");
        assert_eq!(trials.counter(&registry, "AccessPolicy/default/p", "default/fe"), first);
        assert_ne!(trials.counter(&registry, "AccessPolicy/default/p", "default/be"), first);
        assert_ne!(trials.counter(&registry, "AccessPolicy/default/q", "default/fe"), first);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let (registry, mut trials) = (Registry::new(), Trials::default());
        for caller in 0..=KNOWN_MAX {
            trials.counter(&registry, "AccessPolicy/default/p", &format!("default/{caller}"));
        }
        assert_eq!(trials.known.len(), 1);
        assert!(registry.folded() > 0, "the registry has its own bound");
    }

    #[test]
    fn a_second_has_ten_lines_and_the_next_one_says_how_many_are_missing() {
        let mut trials = Trials::default();
        let at = Duration::from_secs(7);
        let written: Vec<_> = (0..15).filter_map(|_| trials.line(at)).collect();
        assert_eq!(written, [0; 10]);
        assert_eq!(trials.line(Duration::from_secs(8)), Some(5));
        assert_eq!(trials.line(Duration::from_secs(8)), Some(0));
    }
}

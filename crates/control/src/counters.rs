//! Counters of happenings at the control plane's edge: each refusal is a log line and a count with
//! its reason, so that an attack or a broken roll-out is visible.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// Different reasons counted; later ones share `other`.
const LABELS_MAX: usize = 256;

/// Counts by (what, reason), for example (`join_refused`, `replayed`).
#[derive(Debug, Default)]
pub struct Counters {
    counts: Mutex<BTreeMap<(&'static str, String), u64>>,
}

impl Counters {
    /// Adds one.
    pub fn count(&self, what: &'static str, reason: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let key = (what, reason.to_owned());
        let key = if counts.len() >= LABELS_MAX && !counts.contains_key(&key) {
            (what, "other".to_owned())
        } else {
            key
        };
        *counts.entry(key).or_default() += 1;
    }

    /// The count of one reason.
    pub fn get(&self, what: &'static str, reason: &str) -> u64 {
        let counts = self.counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        counts.get(&(what, reason.to_owned())).copied().unwrap_or(0)
    }

    /// All counts, sorted.
    pub fn all(&self) -> Vec<(&'static str, String, u64)> {
        let counts = self.counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        counts.iter().map(|((what, reason), n)| (*what, reason.clone(), *n)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_reason_and_stays_bounded() {
        let counters = Counters::default();
        for i in 0..LABELS_MAX * 2 {
            counters.count("join_refused", &i.to_string());
        }
        counters.count("join_refused", "1");
        assert_eq!(counters.get("join_refused", "1"), 2);
        assert_eq!(counters.get("join_refused", "other"), LABELS_MAX as u64);
        assert!(counters.all().len() <= LABELS_MAX + 1);
    }
}

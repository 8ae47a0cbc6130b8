//! Decisions that hold for every request that agrees in what the policy reads.
//!
//! Keys are the parts themselves, compared in full: two requests never share a decision by a hash alone.
//! Two halves take turns: when the young one is full, the old one goes, and what is asked for moves up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::decision::Decision;

/// Longer keys are not worth their memory.
const KEY_BYTES_MAX: usize = 8 * 1024;
/// What an entry costs beside its key.
const ENTRY_BYTES: usize = 256;

type Half = HashMap<Box<[u8]>, Entry, foldhash::fast::RandomState>;

struct Entry {
    decision: Arc<Decision>,
    until_ns: i64,
}

/// One worker's decisions.
pub struct DecisionCache {
    young: Half,
    old: Half,
    young_bytes: usize,
    bytes_max: usize,
    ttl_ns: i64,
}

impl std::fmt::Debug for DecisionCache {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("DecisionCache").field("entries", &self.len()).finish_non_exhaustive()
    }
}

impl DecisionCache {
    /// Holds at most `bytes_max`, and no decision for longer than `ttl`.
    pub fn new(bytes_max: usize, ttl: Duration) -> Self {
        Self {
            young: Half::default(),
            old: Half::default(),
            young_bytes: 0,
            bytes_max,
            ttl_ns: i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX),
        }
    }

    /// How many decisions are held, of any age.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.young = Half::default();
        self.old = Half::default();
        self.young_bytes = 0;
    }

    pub(crate) fn get(&mut self, key: &[u8], now_ns: i64) -> Option<Arc<Decision>> {
        if let Some(entry) = self.young.get(key) {
            return entry.at(now_ns, self.ttl_ns);
        }
        let (key, entry) = self.old.remove_entry(key)?;
        let decision = entry.at(now_ns, self.ttl_ns)?;
        self.insert(key, entry);
        Some(decision)
    }

    pub(crate) fn put(&mut self, key: &[u8], decision: Arc<Decision>, now_ns: i64) {
        if key.len() > KEY_BYTES_MAX {
            return;
        }
        self.insert(Box::from(key), Entry { decision, until_ns: now_ns.saturating_add(self.ttl_ns) });
    }

    fn insert(&mut self, key: Box<[u8]>, entry: Entry) {
        let bytes = key.len() + ENTRY_BYTES + entry.decision.weight();
        if bytes > self.bytes_max / 2 {
            return;
        }
        if self.young_bytes + bytes > self.bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(key, entry).is_none() {
            self.young_bytes += bytes;
        }
    }
}

impl Entry {
    /// A clock that went back makes an entry old too.
    fn at(&self, now_ns: i64, ttl_ns: i64) -> Option<Arc<Decision>> {
        let left = self.until_ns.saturating_sub(now_ns);
        (0 < left && left <= ttl_ns).then(|| Arc::clone(&self.decision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Reason;

    fn decision() -> Arc<Decision> {
        Arc::new(Decision::deny(Reason::Denied, ""))
    }

    #[test]
    fn entries_end_with_their_time() {
        let mut cache = DecisionCache::new(1 << 20, Duration::from_nanos(100));
        cache.put(b"a", decision(), 1000);
        assert!(cache.get(b"a", 1000).is_some());
        assert!(cache.get(b"a", 1099).is_some());
        assert!(cache.get(b"a", 1100).is_none());
        assert!(cache.get(b"a", 0).is_none(), "the clock went back");
        assert!(cache.get(b"b", 1000).is_none());
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let max = 64 * 1024;
        let mut cache = DecisionCache::new(max, Duration::from_secs(1));
        cache.put(b"kept", decision(), 0);
        for number in 0..10_000_u32 {
            cache.put(&number.to_le_bytes(), decision(), 0);
            assert!(cache.get(b"kept", 0).is_some());
        }
        assert!(cache.len() * ENTRY_BYTES <= max, "{} entries", cache.len());
        assert!(cache.len() > 50);
        cache.put(&[0; KEY_BYTES_MAX + 1], decision(), 0);
        assert!(cache.get(&[0; KEY_BYTES_MAX + 1], 0).is_none());
        cache.clear();
        assert!(cache.is_empty());
    }
}

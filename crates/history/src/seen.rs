//! Exactly once: which increments have been counted.
//!
//! A proxy numbers its increments of a window (proxy, window start, sequence) and sends each until it
//! is acknowledged. [`Seen::judge`] says whether one is new. Sequences are kept as ranges, so a proxy
//! that sends in order costs one range a window. A window older than what is remembered is refused:
//! better late counts lost than counted twice.
//!
//! It is persisted in blocks of 10 minutes a proxy: only the block that changes is written again.

use std::collections::{BTreeMap, BTreeSet};

use crate::codec::{DecodeError, Input, put, put_bytes};

/// How long increments are remembered, and how late one may come.
pub const KEPT_SECONDS: u64 = 6 * 3600;
/// How far ahead of the control plane's clock a proxy's may be.
pub const AHEAD_SECONDS_MAX: u64 = 600;
/// Ranges of one window: a proxy that leaves more gaps is refused until they close.
pub const RANGES_MAX: usize = 64;

const BLOCK_SECONDS: u64 = 600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Count it, and remember.
    New,
    /// It was counted before: acknowledge it again, don't count.
    Repeat,
    /// Older than what is remembered: acknowledge, count as late, don't count.
    TooOld,
    /// Further ahead than clocks may differ, or no room: refuse.
    Refused,
}

/// The name of a persisted block.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeenKey {
    pub proxy: String,
    pub block_start: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenBlob {
    pub key: SeenKey,
    pub bytes: Vec<u8>,
}

/// Inclusive ranges, in order, never touching.
type Ranges = Vec<(u64, u64)>;

/// What has been counted, of all proxies.
pub struct Seen {
    blocks: BTreeMap<SeenKey, BTreeMap<u64, Ranges>>,
    dirty: BTreeSet<SeenKey>,
    blocks_max: usize,
}

impl Seen {
    /// `proxies_max`: how many proxies' blocks it keeps (each of the whole 6 h).
    pub fn new(proxies_max: usize) -> Self {
        let blocks_max = proxies_max.saturating_mul((KEPT_SECONDS / BLOCK_SECONDS) as usize + 2);
        Self { blocks: BTreeMap::new(), dirty: BTreeSet::new(), blocks_max }
    }

    /// Judges an increment and, when it is new, remembers it. `now` in Unix seconds.
    pub fn judge(&mut self, now: u64, proxy: &str, window_start: u64, sequence: u64) -> Verdict {
        if window_start < now.saturating_sub(KEPT_SECONDS) {
            return Verdict::TooOld;
        }
        if window_start > now.saturating_add(AHEAD_SECONDS_MAX) {
            return Verdict::Refused;
        }
        let key =
            SeenKey { proxy: proxy.to_owned(), block_start: window_start - window_start % BLOCK_SECONDS };
        if !self.blocks.contains_key(&key) && self.blocks.len() >= self.blocks_max {
            return Verdict::Refused;
        }
        let ranges = self.blocks.entry(key.clone()).or_default().entry(window_start).or_default();
        let verdict = insert(ranges, sequence);
        if verdict == Verdict::New {
            self.dirty.insert(key);
        }
        verdict
    }

    /// Forgets what is too old to be judged, and answers which blocks to delete.
    pub fn expire(&mut self, now: u64) -> Vec<SeenKey> {
        let horizon = now.saturating_sub(KEPT_SECONDS);
        let gone: Vec<SeenKey> =
            self.blocks.keys().filter(|key| key.block_start + BLOCK_SECONDS <= horizon).cloned().collect();
        for key in &gone {
            self.blocks.remove(key);
            self.dirty.remove(key);
        }
        gone
    }

    /// The blocks that changed since the last call, as bytes to persist before acknowledging.
    pub fn take_dirty(&mut self) -> Vec<SeenBlob> {
        std::mem::take(&mut self.dirty)
            .into_iter()
            .filter_map(|key| {
                let bytes = encode(&key, self.blocks.get(&key)?);
                Some(SeenBlob { key, bytes })
            })
            .collect()
    }

    /// Takes back what `take_dirty` gave.
    ///
    /// # Errors
    /// When the bytes are damaged or of a newer version.
    pub fn load(&mut self, bytes: &[u8]) -> Result<SeenKey, DecodeError> {
        let (key, windows) = decode(bytes)?;
        self.blocks.insert(key.clone(), windows);
        Ok(key)
    }

    /// The newest window that a proxy counted in, and its greatest sequence there.
    pub fn last(&self, proxy: &str) -> Option<(u64, u64)> {
        let from = SeenKey { proxy: proxy.to_owned(), block_start: 0 };
        let to = SeenKey { proxy: proxy.to_owned(), block_start: u64::MAX };
        let (_, windows) = self.blocks.range(from..=to).next_back()?;
        let (start, ranges) = windows.last_key_value()?;
        Some((*start, ranges.last()?.1))
    }

    /// The newest window that each proxy counted in.
    pub fn last_windows(&self) -> BTreeMap<String, u64> {
        let newest = |windows: &BTreeMap<u64, Ranges>| windows.last_key_value().map(|(start, _)| *start);
        // In order of proxy, then time: the last of a proxy stays.
        self.blocks.iter().filter_map(|(key, windows)| Some((key.proxy.clone(), newest(windows)?))).collect()
    }

    /// How many blocks are remembered.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }
}

fn insert(ranges: &mut Ranges, sequence: u64) -> Verdict {
    // The first range that ends at or after the one before `sequence`: the only ones it can touch are
    // this and the next.
    let at = ranges.partition_point(|(_, last)| last.saturating_add(1) < sequence);
    let Some((first, last)) = ranges.get(at).copied() else {
        return push(ranges, at, sequence);
    };
    if (first..=last).contains(&sequence) {
        return Verdict::Repeat;
    }
    if last.checked_add(1) == Some(sequence) {
        ranges[at].1 = sequence;
        // It may have closed the gap to the next range.
        if let Some((next_first, next_last)) = ranges.get(at + 1).copied()
            && sequence.checked_add(1) == Some(next_first)
        {
            ranges[at].1 = next_last;
            ranges.remove(at + 1);
        }
        return Verdict::New;
    }
    if sequence.checked_add(1) == Some(first) {
        ranges[at].0 = sequence;
        return Verdict::New;
    }
    push(ranges, at, sequence)
}

fn push(ranges: &mut Ranges, at: usize, sequence: u64) -> Verdict {
    if ranges.len() >= RANGES_MAX {
        return Verdict::Refused;
    }
    ranges.insert(at, (sequence, sequence));
    Verdict::New
}

fn encode(key: &SeenKey, windows: &BTreeMap<u64, Ranges>) -> Vec<u8> {
    let mut out = vec![1];
    put_bytes(&mut out, key.proxy.as_bytes());
    put(&mut out, key.block_start);
    put(&mut out, windows.len() as u64);
    for (start, ranges) in windows {
        put(&mut out, start - key.block_start);
        put(&mut out, ranges.len() as u64);
        let mut end = 0;
        for (first, last) in ranges {
            put(&mut out, first - end);
            put(&mut out, last - first);
            end = *last;
        }
    }
    out
}

fn decode(bytes: &[u8]) -> Result<(SeenKey, BTreeMap<u64, Ranges>), DecodeError> {
    const OVERFLOW: DecodeError = DecodeError::Damaged("a sequence is too large");
    let mut input = Input::versioned(bytes)?;
    let key = SeenKey { proxy: input.text()?.to_owned(), block_start: input.number()? };
    let mut windows = BTreeMap::new();
    for _ in 0..input.number()? {
        let start = key.block_start.checked_add(input.number()?).ok_or(OVERFLOW)?;
        let mut ranges = Ranges::new();
        let mut end = 0_u64;
        for _ in 0..input.number()? {
            let first = end.checked_add(input.number()?).ok_or(OVERFLOW)?;
            let last = first.checked_add(input.number()?).ok_or(OVERFLOW)?;
            ranges.push((first, last));
            end = last;
        }
        windows.insert(start, ranges);
    }
    input.end()?;
    Ok((key, windows))
}

#[cfg(test)]
mod tests;

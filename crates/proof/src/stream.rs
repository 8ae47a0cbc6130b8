//! One direction of a connection: its segments in order, each byte once.
//!
//! What comes twice counts once, by sequence numbers: sent again, or seen on two devices. What comes early waits, within
//! a bound. What does not come at all was lost by the capture, and is said to be.

use std::collections::BTreeMap;

use crate::record::{Follower, Side};

/// What may wait for a segment before it is taken to be lost.
const EARLY_BYTES_MAX: usize = 1 << 20;
const EARLY_SEGMENTS_MAX: usize = 1024;
/// No window is larger: a number farther away is nobody's.
const WINDOW_BYTES_MAX: u64 = 1 << 30;

/// One direction.
#[derive(Debug)]
pub struct Direction {
    side: Side,
    follower: Option<Follower>,
    /// The place of the next byte. Its low 32 bits are TCP's number, so that places only grow.
    next: u64,
    early: BTreeMap<u64, Vec<u8>>,
    early_bytes: usize,
    /// The number of its SYN, if that was seen: then its first byte is known to be the first.
    first: Option<u32>,
}

impl Direction {
    pub fn new(side: Side) -> Direction {
        Direction { side, follower: None, next: 0, early: BTreeMap::new(), early_bytes: 0, first: None }
    }

    pub fn follower(&self) -> Option<&Follower> {
        self.follower.as_ref()
    }

    /// The number of the SYN that it began with, if it was seen.
    pub fn first(&self) -> Option<u32> {
        self.first
    }

    /// Takes a segment.
    pub fn on_segment(&mut self, sequence: u32, syn: bool, payload: &[u8]) {
        let number = sequence;
        // A SYN has a number of its own, before the first byte.
        let sequence = sequence.wrapping_add(u32::from(syn));
        if self.follower.is_none() {
            if !syn && payload.is_empty() {
                return; // such a segment may carry an old number: a probe of an idle connection
            }
            self.next = (1 << 32) | u64::from(sequence);
            self.first = syn.then_some(number);
            self.follower = Some(match syn {
                true => Follower::from_start(self.side),
                false => Follower::joining(self.side),
            });
        }
        if payload.is_empty() {
            return;
        }
        let ahead = i64::from(sequence.wrapping_sub(self.next as u32) as i32);
        let Some(at) = self.next.checked_add_signed(ahead) else { return };
        if ahead.unsigned_abs() > WINDOW_BYTES_MAX {
            return;
        }
        let known = self.next.saturating_sub(at);
        let fresh = usize::try_from(known).ok().and_then(|known| payload.get(known..)).unwrap_or_default();
        if fresh.is_empty() {
            return;
        }
        if at <= self.next {
            self.take(fresh);
            self.take_early();
            return;
        }
        let longer = self.early.get(&at).is_none_or(|old| old.len() < fresh.len());
        if longer {
            let old = self.early.insert(at, fresh.to_vec());
            self.early_bytes = self.early_bytes + fresh.len() - old.map_or(0, |old| old.len());
        }
        while self.early_bytes > EARLY_BYTES_MAX || self.early.len() > EARLY_SEGMENTS_MAX {
            self.skip_hole();
        }
    }

    /// No more segments come.
    pub fn finish(&mut self) {
        while !self.early.is_empty() {
            self.skip_hole();
        }
        if let Some(follower) = &mut self.follower {
            follower.finish();
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.next += bytes.len() as u64;
        if let Some(follower) = &mut self.follower {
            follower.feed(bytes);
        }
    }

    fn take_early(&mut self) {
        while let Some(entry) = self.early.first_entry() {
            if *entry.key() > self.next {
                return;
            }
            let (at, bytes) = entry.remove_entry();
            self.early_bytes -= bytes.len();
            let known = usize::try_from(self.next - at).unwrap_or(usize::MAX);
            if let Some(fresh) = bytes.get(known..) {
                self.take(fresh);
            }
        }
    }

    /// What is missing before the first segment that waits is not to be had.
    fn skip_hole(&mut self) {
        if let Some((at, _)) = self.early.first_key_value() {
            let hole = at.saturating_sub(self.next);
            if let Some(follower) = self.follower.as_mut().filter(|_| hole > 0) {
                follower.gap(hole);
            }
            self.next += hole;
        }
        self.take_early();
    }
}

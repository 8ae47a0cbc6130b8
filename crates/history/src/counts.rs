//! What is counted in a cell, and the log-linear buckets of its durations.
//!
//! 32 steps in each power of two: a bucket is never wider than 1/32 of its lower bound. Durations are
//! microseconds. Here they are sparse pairs, sorted by bucket, since most cells hold few.

/// The number of buckets; a bucket's index is below it.
pub const BUCKETS: u32 = 1920;

/// The bucket of a value.
pub const fn bucket(value: u64) -> u32 {
    if value < 32 {
        return value as u32;
    }
    let exponent = 63 - value.leading_zeros();
    (exponent - 4) * 32 + ((value >> (exponent - 5)) & 31) as u32
}

/// The least value of a bucket. Indexes beyond the last answer the last one's.
pub const fn lower_bound(index: u32) -> u64 {
    let index = if index < BUCKETS { index } else { BUCKETS - 1 };
    if index < 32 {
        return index as u64;
    }
    ((32 + index % 32) as u64) << (index / 32 - 1)
}

/// The greatest value of a bucket.
pub const fn upper_bound(index: u32) -> u64 {
    if index + 1 >= BUCKETS { u64::MAX } else { lower_bound(index + 1) - 1 }
}

/// Exact counts of one cell (or a sum of cells).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    pub errors: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// `(bucket, count)`, sorted, each bucket once, no zeros; see [`Counts::with_durations`].
    pub durations: Vec<(u32, u64)>,
}

impl Counts {
    /// Takes pairs as they come from the network: in any order, repeated, out of range.
    #[must_use]
    pub fn with_durations(mut self, pairs: impl IntoIterator<Item = (u32, u64)>) -> Self {
        let mut pairs: Vec<(u32, u64)> =
            pairs.into_iter().filter(|(index, count)| *index < BUCKETS && *count > 0).collect();
        pairs.sort_unstable_by_key(|(index, _)| *index);
        pairs.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = kept.1.saturating_add(later.1);
            }
            same
        });
        self.durations = pairs;
        self
    }

    pub fn observe(&mut self, micros: u64) {
        let index = bucket(micros);
        match self.durations.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(at) => self.durations[at].1 = self.durations[at].1.saturating_add(1),
            Err(at) => self.durations.insert(at, (index, 1)),
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn merge(&mut self, other: &Counts) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.request_bytes = self.request_bytes.saturating_add(other.request_bytes);
        self.response_bytes = self.response_bytes.saturating_add(other.response_bytes);
        if other.durations.is_empty() {
            return;
        }
        let mut merged = Vec::with_capacity(self.durations.len() + other.durations.len());
        let (mut ours, mut theirs) = (self.durations.as_slice(), other.durations.as_slice());
        while let (Some(left), Some(right)) = (ours.first(), theirs.first()) {
            if left.0 == right.0 {
                merged.push((left.0, left.1.saturating_add(right.1)));
                (ours, theirs) = (&ours[1..], &theirs[1..]);
            } else if left.0 < right.0 {
                merged.push(*left);
                ours = &ours[1..];
            } else {
                merged.push(*right);
                theirs = &theirs[1..];
            }
        }
        merged.extend_from_slice(ours);
        merged.extend_from_slice(theirs);
        self.durations = merged;
    }

    /// The duration below which the share `q` (0 to 1) lies: its bucket's upper bound, so at most 1/32
    /// too much. `None` when no duration was counted.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let count = self.durations.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        if count == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut below = 0_u64;
        for (index, count) in &self.durations {
            below = below.saturating_add(*count);
            if below >= rank {
                return Some(upper_bound(*index));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_the_formula() {
        for (value, index) in
            [(0, 0), (31, 31), (32, 32), (63, 63), (64, 64), (65, 64), (66, 65), (1000, 190)]
        {
            assert_eq!(bucket(value), index, "bucket of {value}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        for index in 0..BUCKETS {
            assert_eq!(bucket(lower_bound(index)), index);
            assert_eq!(bucket(upper_bound(index)), index);
        }
    }

    #[test]
    fn a_bucket_is_at_most_a_thirty_second_wide() {
        for index in 0..BUCKETS - 1 {
            let width = lower_bound(index + 1) - lower_bound(index);
            assert!(width == 1 || width * 32 <= lower_bound(index), "bucket {index}");
        }
    }

    #[test]
    fn pairs_from_outside_are_put_in_order() {
        let counts = Counts::default().with_durations([(5, 1), (2, 3), (5, 2), (7, 0), (BUCKETS, 9)]);
        assert_eq!(counts.durations, [(2, 3), (5, 3)]);
    }
}

//! Durations, log-linear: 32 steps in each power of two, so a bucket is never wider than 1/32 of its
//! lower bound, from 0 to the end of `u64` in 1920 buckets.
//!
//! Values are microseconds. The buckets are allocated by the octave (32 at a time) when first used: a
//! service whose requests take 1 to 30 ms costs 5 octaves of 256 bytes, not 15 KiB.

const STEPS: usize = 32;
const OCTAVES: usize = 60;

/// The number of buckets; a bucket's index is below it.
pub const BUCKETS: usize = STEPS * OCTAVES;

/// The bucket of a value.
pub const fn index(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let exponent = 63 - value.leading_zeros() as usize;
    (exponent - 4) * STEPS + ((value >> (exponent - 5)) & 31) as usize
}

/// The least value of a bucket. Indexes beyond the last bucket answer the last one's.
pub const fn lower_bound(index: usize) -> u64 {
    let index = if index < BUCKETS { index } else { BUCKETS - 1 };
    if index < STEPS {
        return index as u64;
    }
    let exponent = index / STEPS + 4;
    ((STEPS + index % STEPS) as u64) << (exponent - 5)
}

/// The greatest value of a bucket.
pub const fn upper_bound(index: usize) -> u64 {
    if index + 1 >= BUCKETS { u64::MAX } else { lower_bound(index + 1) - 1 }
}

type Octave = Box<[u64; STEPS]>;

/// Counts of values by bucket, with their exact sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    octaves: Box<[Option<Octave>; OCTAVES]>,
    count: u64,
    sum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { octaves: Box::new([const { None }; OCTAVES]), count: 0, sum: 0 }
    }
}

impl Histogram {
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one value.
    pub fn observe(&mut self, value: u64) {
        self.add_bucket(index(value), 1);
        self.sum = self.sum.saturating_add(value);
    }

    fn add_bucket(&mut self, index: usize, count: u64) {
        let Some(octave) = self.octaves.get_mut(index / STEPS) else { return };
        let octave = octave.get_or_insert_with(|| Box::new([0; STEPS]));
        octave[index % STEPS] = octave[index % STEPS].saturating_add(count);
        self.count = self.count.saturating_add(count);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn sum(&self) -> u64 {
        self.sum
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The buckets that hold something, in order: `(index, count)`.
    pub fn pairs(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.octaves
            .iter()
            .enumerate()
            .filter_map(|(octave, counts)| counts.as_ref().map(|counts| (octave, counts)))
            .flat_map(|(octave, counts)| {
                counts
                    .iter()
                    .enumerate()
                    .filter(|(_, count)| **count > 0)
                    .map(move |(step, count)| ((octave * STEPS + step) as u32, *count))
            })
    }

    /// From sparse pairs, as they travel. Indexes of no bucket are left out; the sum is what the
    /// buckets' middles make, since pairs don't carry it.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (u32, u64)>) -> Self {
        let mut histogram = Self::new();
        for (index, count) in pairs {
            let index = index as usize;
            if index < BUCKETS {
                histogram.add_bucket(index, count);
                let middle = lower_bound(index).midpoint(upper_bound(index));
                histogram.sum = histogram.sum.saturating_add(middle.saturating_mul(count));
            }
        }
        histogram
    }

    pub fn merge(&mut self, other: &Histogram) {
        for (index, count) in other.pairs() {
            self.add_bucket(index as usize, count);
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// The value below which the share `q` (0 to 1) of the values lies: the upper bound of its bucket,
    /// so at most 1/32 too much. `None` when empty.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).clamp(1, self.count);
        let mut below = 0;
        for (index, count) in self.pairs() {
            below += count;
            if below >= rank {
                return Some(upper_bound(index as usize));
            }
        }
        None
    }

    /// How many values lie in buckets up to and including the one of `bound`.
    pub fn count_to(&self, bound: u64) -> u64 {
        let last = index(bound) as u32;
        self.pairs().take_while(|(index, _)| *index <= last).map(|(_, count)| count).sum()
    }

    /// Empties it and keeps its memory, for what is taken each second.
    pub fn clear(&mut self) {
        for octave in self.octaves.iter_mut().flatten() {
            octave.fill(0);
        }
        self.count = 0;
        self.sum = 0;
    }
}

#[cfg(test)]
mod tests;

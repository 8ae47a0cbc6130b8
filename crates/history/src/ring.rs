//! Windows of one length, with their packed cells.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::Counts;
use crate::codec;

/// How long a window is, and for how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    /// 10 s, for 6 h.
    Seconds10,
    /// 1 min, for 48 h.
    Minute1,
    /// 10 min, for 30 d.
    Minutes10,
}

impl Resolution {
    /// Finest first.
    pub const ALL: [Resolution; 3] = [Resolution::Seconds10, Resolution::Minute1, Resolution::Minutes10];

    pub const fn seconds(self) -> u64 {
        match self {
            Resolution::Seconds10 => 10,
            Resolution::Minute1 => 60,
            Resolution::Minutes10 => 600,
        }
    }

    pub const fn kept_seconds(self) -> u64 {
        match self {
            Resolution::Seconds10 => 6 * 3600,
            Resolution::Minute1 => 48 * 3600,
            Resolution::Minutes10 => 30 * 24 * 3600,
        }
    }

    /// The start of the window that holds `time`.
    pub const fn start_of(self, time: u64) -> u64 {
        time - time % self.seconds()
    }

    /// The oldest window start that is still kept at `now`: a multiple of the longest window, so that
    /// where the short windows end, the longer ones begin.
    pub const fn horizon(self, now: u64) -> u64 {
        Resolution::Minutes10.start_of(now.saturating_sub(self.kept_seconds()))
    }

    pub(crate) fn of_seconds(seconds: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|resolution| resolution.seconds() == seconds)
    }
}

/// Index of an interned series.
pub(crate) type SeriesId = u32;

pub(crate) type Cells = HashMap<SeriesId, Box<[u8]>>;

pub(crate) struct Ring {
    pub resolution: Resolution,
    pub windows: BTreeMap<u64, Cells>,
    /// In all windows.
    pub cells: usize,
    /// Windows that changed since they were last given out.
    pub dirty: BTreeSet<u64>,
}

impl Ring {
    pub fn new(resolution: Resolution) -> Self {
        Self { resolution, windows: BTreeMap::new(), cells: 0, dirty: BTreeSet::new() }
    }

    /// Adds to the window that holds `time`.
    pub fn add(&mut self, time: u64, series: SeriesId, counts: &Counts) {
        let start = self.resolution.start_of(time);
        let cells = self.windows.entry(start).or_default();
        let packed = match cells.get(&series) {
            // What is unpacked was packed here, so this can't fail; if it did, the new counts stand.
            Some(packed) => match codec::unpack_whole(packed) {
                Ok(mut sum) => {
                    sum.merge(counts);
                    codec::pack(&sum)
                }
                Err(_) => codec::pack(counts),
            },
            None => codec::pack(counts),
        };
        if cells.insert(series, packed).is_none() {
            self.cells += 1;
        }
        self.dirty.insert(start);
    }

    /// Drops windows before `horizon` and answers their starts.
    pub fn expire(&mut self, horizon: u64) -> Vec<u64> {
        let kept = self.windows.split_off(&horizon);
        let gone = std::mem::replace(&mut self.windows, kept);
        self.cells -= gone.values().map(HashMap::len).sum::<usize>();
        self.dirty = self.dirty.split_off(&horizon);
        gone.into_keys().collect()
    }
}

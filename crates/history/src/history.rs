//! The history itself: interned series, three rings, and what of them is not yet persisted.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::codec::{self, DecodeError};
use crate::ring::{Resolution, Ring, SeriesId};
use crate::{Counts, Series};

/// How far ahead of now a window may start: clocks differ a little.
const AHEAD_SECONDS_MAX: u64 = 600;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Series kept apart. Beyond it new ones are folded by service and code, beyond twice it refused.
    pub series_max: usize,
    /// Cells in all windows, about 100 bytes each. Beyond it everything is folded by service and code,
    /// beyond twice it refused, until windows expire.
    pub cells_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { series_max: 20_000, cells_max: 5_000_000 }
    }
}

/// What became of an added cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    Counted,
    /// Counted under its service and code only: too many series.
    Folded,
    /// Not counted: older than anything kept, or too far ahead of now.
    OutOfTime,
    /// Not counted: too many series even for folding.
    Refused,
}

/// The name of a persisted window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowKey {
    pub resolution: Resolution,
    pub start: u64,
}

/// A window as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    pub key: WindowKey,
    pub bytes: Vec<u8>,
}

/// What the history says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub series: usize,
    pub cells: usize,
    /// Requests that were counted in a folded series.
    pub folded_requests: u64,
    /// Requests that were not counted, for want of room or out of time.
    pub dropped_requests: u64,
}

/// Counts of all services, by window.
pub struct History {
    limits: Limits,
    ids: HashMap<Arc<Series>, SeriesId>,
    pub(crate) series: Vec<Option<Arc<Series>>>,
    free: Vec<SeriesId>,
    pub(crate) rings: [Ring; 3],
    /// The newest time anyone told us; 0 before the first.
    pub(crate) now: u64,
    /// Longer windows whose bytes were loaded, while loading.
    loaded: BTreeSet<WindowKey>,
    folded_requests: u64,
    dropped_requests: u64,
}

impl Default for History {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl History {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ids: HashMap::new(),
            series: Vec::new(),
            free: Vec::new(),
            rings: Resolution::ALL.map(Ring::new),
            now: 0,
            loaded: BTreeSet::new(),
            folded_requests: 0,
            dropped_requests: 0,
        }
    }

    /// Adds counts to the window that holds `window_start` (Unix seconds), at all resolutions that
    /// still keep it. Call [`History::expire`] regularly: it is how the history knows the time.
    pub fn add(&mut self, window_start: u64, series: &Series, counts: &Counts) -> Added {
        let out_of_time = self.now > 0
            && (window_start > self.now.saturating_add(AHEAD_SECONDS_MAX)
                || window_start < Resolution::Minutes10.horizon(self.now));
        if out_of_time {
            self.dropped_requests = self.dropped_requests.saturating_add(counts.requests);
            return Added::OutOfTime;
        }
        let cells = self.cells();
        let interned = if cells < self.limits.cells_max {
            self.intern(series)
        } else if cells < self.limits.cells_max.saturating_mul(2) {
            self.intern(&series.folded()).map(|(id, _)| (id, Added::Folded))
        } else {
            None
        };
        let Some((id, added)) = interned else {
            self.dropped_requests = self.dropped_requests.saturating_add(counts.requests);
            return Added::Refused;
        };
        if added == Added::Folded {
            self.folded_requests = self.folded_requests.saturating_add(counts.requests);
        }
        for ring in &mut self.rings {
            if ring.resolution.start_of(window_start) >= ring.resolution.horizon(self.now) {
                ring.add(window_start, id, counts);
            }
        }
        added
    }

    fn intern(&mut self, series: &Series) -> Option<(SeriesId, Added)> {
        if let Some(id) = self.ids.get(series) {
            return Some((*id, Added::Counted));
        }
        if self.ids.len() < self.limits.series_max {
            return Some((self.new_series(series.clone()), Added::Counted));
        }
        let folded = series.folded();
        if let Some(id) = self.ids.get(&folded) {
            return Some((*id, Added::Folded));
        }
        let room = self.ids.len() < self.limits.series_max.saturating_mul(2);
        room.then(|| (self.new_series(folded), Added::Folded))
    }

    fn new_series(&mut self, series: Series) -> SeriesId {
        let series = Arc::new(series);
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.series.push(None);
                self.series.len() as SeriesId - 1
            }
        };
        self.series[id as usize] = Some(Arc::clone(&series));
        self.ids.insert(series, id);
        id
    }

    /// Tells the time, drops what is older than it is kept, and answers the names of the dropped
    /// windows so that their bytes can be deleted. Time never goes back here.
    pub fn expire(&mut self, now: u64) -> Vec<WindowKey> {
        self.now = self.now.max(now);
        let mut gone = Vec::new();
        for ring in &mut self.rings {
            let resolution = ring.resolution;
            let starts = ring.expire(resolution.horizon(self.now));
            gone.extend(starts.into_iter().map(|start| WindowKey { resolution, start }));
        }
        // A series lives as long as a 10-minute window names it: finer ones are kept for less.
        if gone.iter().any(|key| key.resolution == Resolution::Minutes10) {
            self.free_unused_series();
        }
        gone
    }

    fn free_unused_series(&mut self) {
        let used: HashSet<SeriesId> = self
            .rings
            .iter()
            .flat_map(|ring| ring.windows.values())
            .flat_map(|cells| cells.keys().copied())
            .collect();
        for (id, slot) in self.series.iter_mut().enumerate() {
            let id = id as SeriesId;
            if let Some(series) = slot.take_if(|_| !used.contains(&id)) {
                self.ids.remove(&series);
                self.free.push(id);
            }
        }
    }

    /// Windows to persist: each 10 s window that changed, and each longer one that changed and is
    /// complete by `now` (until then its 10 s windows say the same). What it gives must be persisted
    /// together, or not acknowledged.
    pub fn take_dirty(&mut self, now: u64) -> Vec<Blob> {
        let mut blobs = Vec::new();
        for place in 0..self.rings.len() {
            let resolution = self.rings[place].resolution;
            let due: Vec<u64> = self.rings[place]
                .dirty
                .iter()
                .copied()
                .filter(|start| resolution == Resolution::Seconds10 || start + resolution.seconds() <= now)
                .collect();
            for start in due {
                self.rings[place].dirty.remove(&start);
                let key = WindowKey { resolution, start };
                blobs.extend(self.encode_window(key).map(|bytes| Blob { key, bytes }));
            }
        }
        blobs
    }

    /// Marks windows as not persisted after all (the write failed).
    pub fn mark_dirty(&mut self, keys: impl IntoIterator<Item = WindowKey>) {
        for key in keys {
            if let Some(ring) = self.rings.iter_mut().find(|ring| ring.resolution == key.resolution)
                && ring.windows.contains_key(&key.start)
            {
                ring.dirty.insert(key.start);
            }
        }
    }

    fn encode_window(&self, key: WindowKey) -> Option<Vec<u8>> {
        let ring = self.rings.iter().find(|ring| ring.resolution == key.resolution)?;
        let mut cells: Vec<(&Series, &[u8])> = ring
            .windows
            .get(&key.start)?
            .iter()
            .filter_map(|(id, packed)| Some((self.series.get(*id as usize)?.as_deref()?, &**packed)))
            .collect();
        cells.sort_by_key(|(series, _)| *series);
        let seconds = u8::try_from(key.resolution.seconds() / 10).unwrap_or(u8::MAX);
        Some(codec::encode_window(seconds, key.start, cells.into_iter()))
    }

    /// Takes back a window that `take_dirty` gave; in any order, into a new history. After the last,
    /// call [`History::finish_load`].
    ///
    /// # Errors
    /// When the bytes are damaged or of a newer version; nothing of them is counted then.
    pub fn load(&mut self, bytes: &[u8]) -> Result<WindowKey, DecodeError> {
        let window = codec::decode_window(bytes)?;
        let resolution = Resolution::of_seconds(u64::from(window.resolution) * 10)
            .ok_or(DecodeError::Damaged("a window of no known length"))?;
        let start = window.start;
        if resolution.start_of(start) != start {
            return Err(DecodeError::Damaged("a window starts where none does"));
        }
        for (series, counts) in &window.cells {
            let Some((id, _)) = self.intern(series) else {
                self.dropped_requests = self.dropped_requests.saturating_add(counts.requests);
                continue;
            };
            if let Some(ring) = self.rings.iter_mut().find(|ring| ring.resolution == resolution) {
                ring.add(start, id, counts);
            }
        }
        if let Some(ring) = self.rings.iter_mut().find(|ring| ring.resolution == resolution) {
            ring.dirty.remove(&start);
        }
        let key = WindowKey { resolution, start };
        self.loaded.insert(key);
        Ok(key)
    }

    /// Rebuilds the longer windows that were still open when the bytes were written, from their 10 s
    /// windows. They are persisted with the next `take_dirty`.
    pub fn finish_load(&mut self) {
        let loaded = std::mem::take(&mut self.loaded);
        let [fine, longer @ ..] = &mut self.rings;
        for (start, cells) in &fine.windows {
            for ring in longer.iter_mut() {
                let key = WindowKey { resolution: ring.resolution, start: ring.resolution.start_of(*start) };
                if loaded.contains(&key) {
                    continue;
                }
                for (id, packed) in cells {
                    if let Ok(counts) = codec::unpack_whole(packed) {
                        ring.add(*start, *id, &counts);
                    }
                }
            }
        }
    }

    fn cells(&self) -> usize {
        self.rings.iter().map(|ring| ring.cells).sum()
    }

    pub fn stats(&self) -> Stats {
        Stats {
            series: self.ids.len(),
            cells: self.cells(),
            folded_requests: self.folded_requests,
            dropped_requests: self.dropped_requests,
        }
    }
}

#[cfg(test)]
mod tests;

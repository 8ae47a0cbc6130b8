//! Counting without contention: handles resolved once, plain adds in a worker's own arrays.
//!
//! The [`Registry`] gives each (metric, label set) a handle, valid in every worker; that takes a lock
//! and happens when a table is built. A worker owns a [`Shard`]: adding is an indexed add of plain
//! memory, no hashing, no lock, no atomic. To publish, the worker copies its arrays into a
//! [`Snapshot`] on request (a mailbox message) and goes on; whoever asked gives all the snapshots to
//! [`Registry::merge`].
//!
//! Label sets per metric are bounded: beyond `series_max` a new one gets the folded series, whose
//! labels all read `other`, and `weft_telemetry_folded_series` says how many were.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Histogram;

/// The default of how many label sets one metric may have.
pub const SERIES_MAX: usize = 2000;
/// What the labels of the folded series read.
pub const FOLDED: &str = "other";

/// A handle of a counter: an index into every shard's array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Counter(u32);
/// A handle of a gauge. Shards' gauges add up: a worker counts what it has, the merge what all have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gauge(u32);
/// A handle of a histogram of microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    Counter,
    Gauge,
    /// Kept in microseconds, shown in seconds.
    Histogram,
}

/// A metric: what a scrape calls it. `name` is without `_total`; a histogram's ends in `_seconds`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub help: &'static str,
    pub unit: Option<&'static str>,
    pub kind: Type,
}

/// A metric's label names with values, by name.
pub type Labels = Vec<(&'static str, String)>;

struct Family {
    metric: Metric,
    series: HashMap<Labels, u32>,
    folded: Option<u32>,
    folded_count: u64,
}

#[derive(Default)]
struct Index {
    families: Vec<Family>,
    by_name: HashMap<&'static str, usize>,
    /// The next handle of each kind of array.
    next: [u32; 3],
    /// Registrations that came with a name already taken by another type.
    clashes: u64,
}

/// The one place that knows which handle is which series. Clones share it.
#[derive(Clone)]
pub struct Registry {
    index: Arc<Mutex<Index>>,
    series_max: usize,
}

impl Default for Registry {
    fn default() -> Self {
        Self::with_series_max(SERIES_MAX)
    }
}

impl Registry {
    pub fn new() -> Self {
        Self::default()
    }

    /// `series_max`: how many label sets one metric may have before they fold.
    pub fn with_series_max(series_max: usize) -> Self {
        Self { index: Arc::default(), series_max }
    }

    /// The handle of a counter with these labels: the same one for the same labels.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Counter {
        Counter(self.register(Metric { name, help, unit: None, kind: Type::Counter }, labels))
    }

    /// Like [`Registry::counter`], of a unit (`bytes`), which the name then ends in.
    pub fn counter_of(
        &self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Counter {
        Counter(self.register(Metric { name, help, unit: Some(unit), kind: Type::Counter }, labels))
    }

    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        Gauge(self.register(Metric { name, help, unit: None, kind: Type::Gauge }, labels))
    }

    /// A histogram of durations; `name` ends in `_seconds`.
    pub fn timing(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Timing {
        Timing(self.register(Metric { name, help, unit: Some("seconds"), kind: Type::Histogram }, labels))
    }

    /// A new, empty shard. Each worker takes one.
    pub fn shard(&self) -> Shard {
        Shard::default()
    }

    /// How many registrations were folded for want of room, in all metrics.
    pub fn folded(&self) -> u64 {
        self.lock().families.iter().map(|family| family.folded_count).sum()
    }

    /// Adds up what the workers published, series by series.
    pub fn merge(&self, snapshots: &[Snapshot]) -> Merged {
        let index = self.lock();
        let mut families: Vec<MergedFamily> =
            index.families.iter().map(|family| family.merge(snapshots)).collect();
        families.push(MergedFamily::of_folds(&index));
        families.sort_by_key(|family| family.metric.name);
        Merged { families }
    }

    fn register(&self, metric: Metric, labels: &[(&'static str, &str)]) -> u32 {
        let mut guard = self.lock();
        let index = &mut *guard;
        let kind = metric.kind;
        let place = match index.by_name.get(metric.name) {
            Some(place) => *place,
            None => {
                let place = index.families.len();
                index.by_name.insert(metric.name, place);
                index.families.push(Family { metric, series: HashMap::new(), folded: None, folded_count: 0 });
                place
            }
        };
        let Index { families, next, clashes, .. } = index;
        let next = &mut next[kind as usize];
        let mut take = || {
            let handle = *next;
            *next += 1;
            handle
        };
        let family = &mut families[place];
        if family.metric.kind != kind {
            // One name, two types: our own mistake. The handle counts into a slot nobody shows.
            debug_assert!(false, "metric {} registered as two types", family.metric.name);
            *clashes += 1;
            return take();
        }
        let mut labels: Labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        labels.sort_unstable();
        if let Some(handle) = family.series.get(&labels) {
            return *handle;
        }
        if family.series.len() < self.series_max {
            let handle = take();
            family.series.insert(labels, handle);
            return handle;
        }
        family.folded_count += 1;
        if let Some(handle) = family.folded {
            return handle;
        }
        let handle = take();
        family.folded = Some(handle);
        let labels = labels.into_iter().map(|(name, _)| (name, FOLDED.to_owned())).collect();
        family.series.insert(labels, handle);
        handle
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // What the lock guards is whole between any two statements, so a panic elsewhere spoils nothing.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Family {
    fn merge(&self, snapshots: &[Snapshot]) -> MergedFamily {
        let mut series: Vec<(Labels, Value)> = self
            .series
            .iter()
            .map(|(labels, handle)| {
                let at = *handle as usize;
                let value = match self.metric.kind {
                    Type::Counter => Value::Counter(
                        snapshots
                            .iter()
                            .filter_map(|s| s.counters.get(at))
                            .fold(0, |sum, n| sum.wrapping_add(*n)),
                    ),
                    Type::Gauge => Value::Gauge(
                        snapshots
                            .iter()
                            .filter_map(|s| s.gauges.get(at))
                            .fold(0, |sum, n| sum.wrapping_add(*n)),
                    ),
                    Type::Histogram => {
                        let mut merged = Histogram::new();
                        for histogram in snapshots.iter().filter_map(|s| s.timings.get(at)) {
                            merged.merge(histogram);
                        }
                        Value::Histogram(merged)
                    }
                };
                (labels.clone(), value)
            })
            .collect();
        series.sort_by(|left, right| left.0.cmp(&right.0));
        MergedFamily { metric: self.metric.clone(), series }
    }
}

/// One worker's counts. Owned by it alone; all methods are plain memory.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    counters: Vec<u64>,
    gauges: Vec<i64>,
    timings: Vec<Histogram>,
}

/// A copy of a shard, to be sent to whoever merges.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    counters: Vec<u64>,
    gauges: Vec<i64>,
    timings: Vec<Histogram>,
}

impl Shard {
    pub fn add(&mut self, counter: Counter, n: u64) {
        let at = counter.0 as usize;
        match self.counters.get_mut(at) {
            Some(slot) => *slot = slot.wrapping_add(n),
            None => grow(&mut self.counters, at, |slot| *slot = n),
        }
    }

    pub fn gauge_add(&mut self, gauge: Gauge, n: i64) {
        let at = gauge.0 as usize;
        match self.gauges.get_mut(at) {
            Some(slot) => *slot = slot.wrapping_add(n),
            None => grow(&mut self.gauges, at, |slot| *slot = n),
        }
    }

    pub fn gauge_set(&mut self, gauge: Gauge, value: i64) {
        let at = gauge.0 as usize;
        match self.gauges.get_mut(at) {
            Some(slot) => *slot = value,
            None => grow(&mut self.gauges, at, |slot| *slot = value),
        }
    }

    pub fn observe(&mut self, timing: Timing, micros: u64) {
        let at = timing.0 as usize;
        match self.timings.get_mut(at) {
            Some(slot) => slot.observe(micros),
            None => grow(&mut self.timings, at, |slot| slot.observe(micros)),
        }
    }

    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(counter.0 as usize).copied().unwrap_or(0)
    }

    pub fn gauge(&self, gauge: Gauge) -> i64 {
        self.gauges.get(gauge.0 as usize).copied().unwrap_or(0)
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            counters: self.counters.clone(),
            gauges: self.gauges.clone(),
            timings: self.timings.clone(),
        }
    }
}

/// The first use of a handle that is younger than the array.
#[cold]
fn grow<T: Default>(slots: &mut Vec<T>, at: usize, write: impl FnOnce(&mut T)) {
    slots.resize_with(at + 1, T::default);
    write(&mut slots[at]);
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Counter(u64),
    Gauge(i64),
    Histogram(Histogram),
}

#[derive(Clone, Debug)]
pub struct MergedFamily {
    pub metric: Metric,
    pub series: Vec<(Labels, Value)>,
}

impl MergedFamily {
    fn of_folds(index: &Index) -> Self {
        let series = index
            .families
            .iter()
            .filter(|family| family.folded_count > 0)
            .map(|family| {
                (vec![("metric", family.metric.name.to_owned())], Value::Counter(family.folded_count))
            })
            .collect();
        let metric = Metric {
            name: "weft_telemetry_folded_series",
            help: "Label sets that were counted as `other`, for want of room.",
            unit: None,
            kind: Type::Counter,
        };
        Self { metric, series }
    }
}

/// All shards together, in name order: what a scrape shows.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    pub families: Vec<MergedFamily>,
}

#[cfg(test)]
mod tests;

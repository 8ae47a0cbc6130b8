//! Measurement cells of a worker: who called what with which outcome, in windows of 10 s.
//!
//! A worker interns the labels it knows when the route is known ([`Window::series`], once per
//! connection or table), and records each request behind that id; the status code joins the key by a
//! short scan. [`Window::take_increments`] empties it, each second: what is taken has not been taken
//! before, so increments of the same window add up.
//!
//! It does not number or keep what it gave: the sender does, until the control plane has it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::Histogram;

/// The length of a window; windows begin at multiples of it in Unix time.
pub const WINDOW_SECONDS: u64 = 10;
/// Windows that may wait to be taken; the oldest are lost (and counted) beyond it.
pub const CLOSED_MAX: usize = 36;
/// What stands for a caller, version or route that found no room.
pub const FOLDED: &str = "(other)";

/// The key of a measurement cell, less the outcome. Empty caller: unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    /// `NAMESPACE/NAME`.
    pub caller: String,
    /// `NAMESPACE/NAME`.
    pub service: String,
    pub version: String,
    pub route: String,
    /// `mtls`, `tls` or `none`.
    pub tls: String,
    /// `inbound`, or `external` when counted at the caller.
    pub direction: String,
}

/// The whole key: a series and an outcome.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellKey {
    pub series: Arc<SeriesKey>,
    /// The HTTP status; 0 for a TCP connection.
    pub code: u32,
    /// -1 for none.
    pub grpc_status: i32,
}

/// What was counted in a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    pub requests: u64,
    pub errors: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Microseconds.
    pub durations: Histogram,
}

impl Cell {
    pub fn merge(&mut self, other: &Cell) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.request_bytes = self.request_bytes.saturating_add(other.request_bytes);
        self.response_bytes = self.response_bytes.saturating_add(other.response_bytes);
        self.durations.merge(&other.durations);
    }
}

/// An interned [`SeriesKey`], valid in the window that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeriesId(u32);

/// One request's (or connection's) outcome.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub code: u32,
    pub grpc_status: i32,
    /// A failure without a 5xx status (a reset stream, a failed connection).
    pub failed: bool,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub duration_micros: u64,
}

/// What was counted in (a part of) one window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Increment {
    /// Unix seconds, a multiple of [`WINDOW_SECONDS`].
    pub start_unix: u64,
    pub cells: Vec<(CellKey, Cell)>,
}

struct Outcome {
    code: u32,
    grpc_status: i32,
    cell: Cell,
}

/// One worker's cells. Owned by it alone.
pub struct Window {
    ids: HashMap<Arc<SeriesKey>, SeriesId>,
    series: Vec<(Arc<SeriesKey>, Vec<Outcome>)>,
    /// Series that counted something since the last take, each once.
    touched: Vec<SeriesId>,
    start_unix: u64,
    closed: Vec<Increment>,
    series_max: usize,
    folded: u64,
    lost_requests: u64,
}

impl Window {
    /// `series_max`: how many series it keeps apart before new ones fold.
    pub fn new(series_max: usize) -> Self {
        Self {
            ids: HashMap::new(),
            series: Vec::new(),
            touched: Vec::new(),
            start_unix: 0,
            closed: Vec::new(),
            series_max,
            folded: 0,
            lost_requests: 0,
        }
    }

    /// The id of a series: the same for the same key. Beyond `series_max` the caller, version and
    /// route read [`FOLDED`], and beyond twice that the service too, so that totals stay true.
    pub fn series(&mut self, key: SeriesKey) -> SeriesId {
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let key = if self.series.len() < self.series_max { key } else { self.fold(key) };
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = SeriesId(self.series.len() as u32);
        let key = Arc::new(key);
        self.ids.insert(Arc::clone(&key), id);
        self.series.push((key, Vec::new()));
        id
    }

    fn fold(&mut self, mut key: SeriesKey) -> SeriesKey {
        self.folded += 1;
        key.caller = FOLDED.to_owned();
        key.version = FOLDED.to_owned();
        key.route = FOLDED.to_owned();
        if self.series.len() >= self.series_max * 2 {
            key = SeriesKey {
                service: FOLDED.to_owned(),
                tls: FOLDED.to_owned(),
                direction: FOLDED.to_owned(),
                ..key
            };
        }
        key
    }

    /// How many times a series was folded for want of room.
    pub fn folded(&self) -> u64 {
        self.folded
    }

    /// Requests in windows that nobody took in time.
    pub fn lost_requests(&self) -> u64 {
        self.lost_requests
    }

    /// Counts one sample in the window of `now_unix` (seconds). When time steps back a window is opened
    /// again: what it then counts is one more increment of it.
    pub fn record(&mut self, now_unix: u64, series: SeriesId, sample: &Sample) {
        self.turn(now_unix);
        let Some((_, outcomes)) = self.series.get_mut(series.0 as usize) else { return };
        if outcomes.is_empty() {
            self.touched.push(series);
        }
        let found = outcomes
            .iter()
            .position(|outcome| outcome.code == sample.code && outcome.grpc_status == sample.grpc_status);
        let at = found.unwrap_or_else(|| {
            outcomes.push(Outcome {
                code: sample.code,
                grpc_status: sample.grpc_status,
                cell: Cell::default(),
            });
            outcomes.len() - 1
        });
        let cell = &mut outcomes[at].cell;
        cell.requests += 1;
        cell.errors += u64::from(sample.failed || sample.code >= 500);
        cell.request_bytes = cell.request_bytes.saturating_add(sample.request_bytes);
        cell.response_bytes = cell.response_bytes.saturating_add(sample.response_bytes);
        cell.durations.observe(sample.duration_micros);
    }

    /// Everything counted since the last take, oldest window first: the open one's increments and
    /// those of windows that ended meanwhile. Empty windows are left out.
    pub fn take_increments(&mut self, now_unix: u64) -> Vec<Increment> {
        self.turn(now_unix);
        self.close();
        std::mem::take(&mut self.closed)
    }

    fn turn(&mut self, now_unix: u64) {
        let start = now_unix - now_unix % WINDOW_SECONDS;
        if start != self.start_unix {
            self.close();
            self.start_unix = start;
        }
    }

    fn close(&mut self) {
        let mut cells = Vec::new();
        for id in self.touched.drain(..) {
            let Some((key, outcomes)) = self.series.get_mut(id.0 as usize) else { continue };
            for outcome in outcomes.drain(..) {
                let key =
                    CellKey { series: Arc::clone(key), code: outcome.code, grpc_status: outcome.grpc_status };
                cells.push((key, outcome.cell));
            }
        }
        if cells.is_empty() {
            return;
        }
        self.closed.push(Increment { start_unix: self.start_unix, cells });
        if self.closed.len() > CLOSED_MAX {
            let lost = self.closed.remove(0);
            self.lost_requests += lost.cells.iter().map(|(_, cell)| cell.requests).sum::<u64>();
        }
    }
}

/// Adds up what several workers took: one increment a window, oldest first, each cell once. What only
/// one worker counted is handed on as it is.
pub fn merge(taken: impl IntoIterator<Item = Increment>) -> Vec<Increment> {
    let mut windows: BTreeMap<u64, Vec<Vec<(CellKey, Cell)>>> = BTreeMap::new();
    for increment in taken {
        windows.entry(increment.start_unix).or_default().push(increment.cells);
    }
    windows.into_iter().map(|(start_unix, parts)| Increment { start_unix, cells: summed(parts) }).collect()
}

fn summed(parts: Vec<Vec<(CellKey, Cell)>>) -> Vec<(CellKey, Cell)> {
    let mut parts = parts.into_iter();
    let mut cells = parts.next().unwrap_or_default();
    if parts.len() == 0 {
        return cells;
    }
    let mut places: HashMap<CellKey, usize> =
        cells.iter().enumerate().map(|(place, (key, _))| (key.clone(), place)).collect();
    for (key, cell) in parts.flatten() {
        match places.get(&key).and_then(|place| cells.get_mut(*place)) {
            Some((_, known)) => known.merge(&cell),
            None => {
                places.insert(key.clone(), cells.len());
                cells.push((key, cell));
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests;

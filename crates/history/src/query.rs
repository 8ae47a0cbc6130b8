//! Questions: sums over a span of time, by some of the dimensions.
//!
//! A span is cut into the longest whole windows that fit and shorter ones at its ends; that is exact,
//! since a longer window is the sum of its shorter ones. The span's ends are rounded outwards to
//! windows that are still kept: 10 s within the last 6 h, 1 min within 48 h, else 10 min.

use std::collections::{BTreeMap, HashMap};

use crate::codec;
use crate::history::History;
use crate::ring::{Cells, Resolution};
use crate::series::INBOUND;
use crate::{Counts, Series};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    Caller,
    Service,
    Version,
    Route,
    Code,
    GrpcStatus,
    Tls,
    Direction,
}

impl Dimension {
    pub const ALL: [Dimension; 8] = [
        Dimension::Caller,
        Dimension::Service,
        Dimension::Version,
        Dimension::Route,
        Dimension::Code,
        Dimension::GrpcStatus,
        Dimension::Tls,
        Dimension::Direction,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Dimension::Caller => "caller",
            Dimension::Service => "service",
            Dimension::Version => "version",
            Dimension::Route => "route",
            Dimension::Code => "code",
            Dimension::GrpcStatus => "grpc_status",
            Dimension::Tls => "tls",
            Dimension::Direction => "direction",
        }
    }

    /// By its name, as `--by` says it.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dimension| dimension.name() == name)
    }
}

/// Which requests to a service are meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Callee {
    /// `NAMESPACE/NAME`, as the series has it.
    pub service: String,
    /// Only those that this version of it took; `None`: any, and none at all.
    pub version: Option<String>,
    /// Who counted them.
    pub counted: Counted,
}

/// Who counted a request: each is counted once, by the callee's proxy when it came there, else by the
/// caller's (to a service outside the mesh, or to a member that it could not reach).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    ByCallee,
    ByCaller,
    ByEither,
}

impl Callee {
    /// All requests to a service.
    pub fn named(service: impl Into<String>) -> Self {
        Self { service: service.into(), version: None, counted: Counted::ByEither }
    }

    fn is(&self, series: &Series) -> bool {
        let inbound = series.direction == INBOUND;
        self.service == series.service
            && self.version.as_ref().is_none_or(|version| *version == series.version)
            && match self.counted {
                Counted::ByCallee => inbound,
                Counted::ByCaller => !inbound,
                Counted::ByEither => true,
            }
    }
}

/// What is asked. Times are Unix seconds, `to` is exclusive; `None` filters nothing.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// A request to any of these; empty: to any service.
    pub callees: Vec<Callee>,
    pub caller: Option<String>,
    pub direction: Option<String>,
    pub from: u64,
    pub to: u64,
    pub by: Vec<Dimension>,
}

/// The values of a row in the dimensions asked for; the others are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    pub caller: Option<String>,
    pub service: Option<String>,
    pub version: Option<String>,
    pub route: Option<String>,
    pub code: Option<u32>,
    pub grpc_status: Option<i32>,
    pub tls: Option<String>,
    pub direction: Option<String>,
}

impl Group {
    fn of(series: &Series, by: &[Dimension]) -> Self {
        let mut group = Self::default();
        for dimension in by {
            match dimension {
                Dimension::Caller => group.caller = Some(series.caller.clone()),
                Dimension::Service => group.service = Some(series.service.clone()),
                Dimension::Version => group.version = Some(series.version.clone()),
                Dimension::Route => group.route = Some(series.route.clone()),
                Dimension::Code => group.code = Some(series.code),
                Dimension::GrpcStatus => group.grpc_status = Some(series.grpc_status),
                Dimension::Tls => group.tls = Some(series.tls.clone()),
                Dimension::Direction => group.direction = Some(series.direction.clone()),
            }
        }
        group
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub group: Group,
    /// Its `quantile` answers microseconds.
    pub counts: Counts,
}

/// Rows in the order of their groups, over `from..to`, which may be wider than asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub from: u64,
    pub to: u64,
    pub rows: Vec<Row>,
    pub total: Counts,
}

/// Traffic from one service to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    /// The caller; empty when unknown.
    pub from: String,
    pub to: String,
    pub counts: Counts,
    /// Requests by status code.
    pub codes: BTreeMap<u32, u64>,
    /// Requests by `mtls`, `tls` and `none`.
    pub tls: BTreeMap<String, u64>,
}

impl Edge {
    /// Takes another edge's counts in.
    pub fn merge(&mut self, other: &Edge) {
        self.counts.merge(&other.counts);
        for (code, requests) in &other.codes {
            *self.codes.entry(*code).or_default() += requests;
        }
        for (tls, requests) in &other.tls {
            *self.tls.entry(tls.clone()).or_default() += requests;
        }
    }

    /// The weakest encryption that any request of the edge had.
    pub fn weakest_tls(&self) -> &str {
        ["none", "tls", "mtls"].into_iter().find(|tls| self.tls.contains_key(*tls)).unwrap_or("none")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edges {
    pub from: u64,
    pub to: u64,
    pub edges: Vec<Edge>,
}

impl History {
    pub fn query(&self, query: &Query) -> Answer {
        let wanted = |series: &Series| {
            (query.callees.is_empty() || query.callees.iter().any(|callee| callee.is(series)))
                && query.caller.as_ref().is_none_or(|caller| *caller == series.caller)
                && query.direction.as_ref().is_none_or(|direction| *direction == series.direction)
        };
        let (from, to, sums) = self.sum(query.from, query.to, wanted);
        let mut groups: BTreeMap<Group, Counts> = BTreeMap::new();
        let mut total = Counts::default();
        for (series, counts) in sums {
            total.merge(&counts);
            groups.entry(Group::of(series, &query.by)).or_default().merge(&counts);
        }
        let rows = groups.into_iter().map(|(group, counts)| Row { group, counts }).collect();
        Answer { from, to, rows, total }
    }

    /// Who called whom, in order of names.
    pub fn edges(&self, from: u64, to: u64) -> Edges {
        let (from, to, sums) = self.sum(from, to, |_| true);
        let mut edges: BTreeMap<(&str, &str), Edge> = BTreeMap::new();
        for (series, counts) in sums {
            let edge = edges.entry((&series.caller, &series.service)).or_default();
            *edge.codes.entry(series.code).or_default() += counts.requests;
            *edge.tls.entry(series.tls.clone()).or_default() += counts.requests;
            edge.counts.merge(&counts);
        }
        let edges = edges
            .into_iter()
            .map(|((from, to), edge)| Edge { from: from.to_owned(), to: to.to_owned(), ..edge })
            .collect();
        Edges { from, to, edges }
    }

    /// The counts of each wanted series over a span, and the span as rounded.
    fn sum(
        &self,
        from: u64,
        to: u64,
        wanted: impl Fn(&Series) -> bool,
    ) -> (u64, u64, Vec<(&Series, Counts)>) {
        let (from, to) = self.span(from, to);
        let mut sums: HashMap<u32, Sum> = HashMap::new();
        let wanted: Vec<bool> =
            self.series.iter().map(|series| series.as_deref().is_some_and(&wanted)).collect();
        for cells in self.windows(from, to) {
            for (id, packed) in cells {
                if wanted.get(*id as usize).copied().unwrap_or(false) {
                    sums.entry(*id).or_default().add(packed);
                }
            }
        }
        let sums = sums
            .into_iter()
            .filter_map(|(id, sum)| Some((self.series.get(id as usize)?.as_deref()?, sum.counts())))
            .collect();
        (from, to, sums)
    }

    /// Rounds outwards to windows that are kept.
    fn span(&self, from: u64, to: u64) -> (u64, u64) {
        let from = from.max(Resolution::Minutes10.horizon(self.now));
        let from = self.kept_at(from).start_of(from);
        let to = to.max(from);
        let resolution = self.kept_at(to);
        let to = to.checked_next_multiple_of(resolution.seconds()).unwrap_or(to);
        (from, to)
    }

    /// The finest resolution that still keeps `time`.
    fn kept_at(&self, time: u64) -> Resolution {
        Resolution::ALL
            .into_iter()
            .find(|resolution| time >= resolution.horizon(self.now))
            .unwrap_or(Resolution::Minutes10)
    }

    /// The cells of the windows that make up a span, each moment once.
    fn windows(&self, from: u64, to: u64) -> Vec<&Cells> {
        let mut found = Vec::new();
        // Every moment with counts lies in a window of the longest kind: skip what is before the first
        // and after the last.
        let [.., longest] = &self.rings;
        let (Some(first), Some(last)) = (longest.windows.keys().next(), longest.windows.keys().next_back())
        else {
            return found;
        };
        let mut at = from.max(*first);
        let to = to.min(last.saturating_add(longest.resolution.seconds()));
        while at < to {
            let fits = self.rings.iter().rev().find(|ring| {
                let seconds = ring.resolution.seconds();
                at.is_multiple_of(seconds) && at + seconds <= to && at >= ring.resolution.horizon(self.now)
            });
            let Some(ring) = fits else {
                // An end inside of a window that is only kept longer; `span` makes that impossible.
                debug_assert!(false, "no window at {at} in {from}..{to}");
                break;
            };
            found.extend(ring.windows.get(&at));
            at += ring.resolution.seconds();
        }
        found
    }
}

/// A sum of packed cells, dense up to the highest bucket seen.
#[derive(Default)]
struct Sum {
    counts: Counts,
    buckets: Vec<u64>,
}

impl Sum {
    fn add(&mut self, packed: &[u8]) {
        let buckets = &mut self.buckets;
        let flat = codec::unpack(packed, |index, count| {
            let index = index as usize;
            if index >= buckets.len() {
                buckets.resize(index + 1, 0);
            }
            buckets[index] = buckets[index].saturating_add(count);
        });
        // Packed here, so it unpacks; a cell that didn't would count nothing.
        if let Ok(flat) = flat {
            self.counts.merge(&flat);
        }
    }

    fn counts(self) -> Counts {
        let pairs = self.buckets.into_iter().enumerate().map(|(index, count)| (index as u32, count));
        self.counts.with_durations(pairs)
    }
}

#[cfg(test)]
mod tests;

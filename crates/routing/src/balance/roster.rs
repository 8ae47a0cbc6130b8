//! The endpoints of one moment, and which of them may be chosen, kept so that a choice walks over none.
//!
//! What changes now and then (a health check's word, an ejection, a refused connection) is told by
//! [`Roster::set`]; a pick then only reads sums and counts.

use std::ops::Range;
use std::sync::Arc;

use super::line::Line;
use crate::types::{Endpoint, Endpoints, Health};

/// One worker's knowledge of one list of endpoints; indices are of `Endpoints::all`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Roster {
    endpoints: Arc<Endpoints>,
    standings: Vec<Standing>,
    pub(super) tiers: Vec<Tier>,
}

/// What the worker has seen of an endpoint. The control plane's word is added here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// False: it failed its health checks or is ejected.
    pub healthy: bool,
    /// False: it refused connections a moment ago, and is chosen only if no others are left.
    pub calm: bool,
}

/// The endpoints of one priority.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tier {
    range: Range<usize>,
    /// All but those that are leaving, which are not counted as members.
    pub members: Lines,
    /// Those of them that are in good health.
    pub usable: Lines,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lines {
    pub all: Line,
    pub calm: Line,
}

impl Roster {
    pub fn new(endpoints: Arc<Endpoints>, standing: impl Fn(usize) -> Standing) -> Roster {
        let standings: Vec<Standing> = (0..endpoints.all.len()).map(standing).collect();
        let line = |range: &Range<usize>, counts: fn(&Endpoint, Standing) -> bool| {
            let members = endpoints.all.get(range.clone()).into_iter().flatten();
            let standings = standings.get(range.clone()).into_iter().flatten();
            Line::new(members.zip(standings).map(|(endpoint, standing)| match counts(endpoint, *standing) {
                true => u64::from(endpoint.weight),
                false => 0,
            }))
        };
        let tier = |range: &Range<usize>| Tier {
            range: range.clone(),
            members: Lines {
                all: line(range, |endpoint, _| counted(endpoint)),
                calm: line(range, |endpoint, standing| counted(endpoint) && standing.calm),
            },
            usable: Lines {
                all: line(range, usable),
                calm: line(range, |endpoint, standing| usable(endpoint, standing) && standing.calm),
            },
        };
        let tiers = endpoints.priorities.iter().map(tier).collect();
        Roster { endpoints, standings, tiers }
    }

    pub fn endpoints(&self) -> &Arc<Endpoints> {
        &self.endpoints
    }

    /// What is seen of an endpoint has changed.
    pub fn set(&mut self, index: usize, now: Standing) {
        let (Some(standing), Some(endpoint)) = (self.standings.get_mut(index), self.endpoints.all.get(index))
        else {
            return;
        };
        let before = std::mem::replace(standing, now);
        if before == now {
            return;
        }
        let Some(tier) = self.tiers.iter_mut().find(|tier| tier.range.contains(&index)) else { return };
        let place = index - tier.range.start;
        let share = |counts: bool| if counts { u64::from(endpoint.weight) } else { 0 };
        let change = |line: &mut Line, counts: &dyn Fn(Standing) -> bool| {
            line.change(place, share(counts(before)), share(counts(now)));
        };
        change(&mut tier.members.calm, &|standing| counted(endpoint) && standing.calm);
        change(&mut tier.usable.all, &|standing| usable(endpoint, standing));
        change(&mut tier.usable.calm, &|standing| usable(endpoint, standing) && standing.calm);
    }
}

impl Tier {
    pub fn place(&self, index: usize) -> Option<usize> {
        self.range.contains(&index).then(|| index - self.range.start)
    }

    pub fn index(&self, place: usize) -> usize {
        self.range.start + place
    }
}

fn counted(endpoint: &Endpoint) -> bool {
    endpoint.health != Health::Draining && endpoint.weight > 0
}

fn usable(endpoint: &Endpoint, standing: Standing) -> bool {
    endpoint.health.usable() && endpoint.weight > 0 && standing.healthy
}

//! The endpoints of one cluster on one worker, and who of them may be chosen now.
//!
//! Health checks, ejections and quarantines tell [`Members`] what changed; those that end by themselves are on a heap by
//! their ends. So a pick looks at no endpoint but the ones that it considers, however many there are.

use std::{cmp::Reverse, collections::BinaryHeap, net::SocketAddr, rc::Rc, sync::Arc, time::Instant};

use smallvec::SmallVec;
use weft_routing::{
    BalancePolicy, Endpoints,
    balance::{Balancer, Roster, Situation, Standing},
};

use super::cluster::EndpointState;

#[cfg(test)]
mod tests;

pub type States = Rc<Vec<Option<Rc<EndpointState>>>>;

/// The endpoints of one moment; `states[i]` belongs to `Endpoints::all[i]`.
#[derive(Default)]
pub struct Members {
    roster: Roster,
    states: States,
    /// Indices of states, by address.
    by_address: Vec<u32>,
    /// When an ejection or quarantine may end, and whose it is.
    ends: BinaryHeap<Reverse<(Instant, usize)>>,
    ejected: usize,
}

impl Members {
    pub fn new(endpoints: Arc<Endpoints>, states: Vec<Option<Rc<EndpointState>>>) -> Members {
        let now = Instant::now();
        let mut by_address: Vec<(SocketAddr, u32)> = (0u32..)
            .zip(&states)
            .filter_map(|(index, state)| Some((state.as_ref()?.address, index)))
            .collect();
        by_address.sort_unstable();
        let roster = Roster::new(endpoints, |index| match states.get(index) {
            Some(Some(state)) => standing(state, now),
            _ => Standing { healthy: false, calm: true },
        });
        let mut members = Members {
            roster,
            states: Rc::new(states),
            by_address: by_address.into_iter().map(|(_, index)| index).collect(),
            ends: BinaryHeap::new(),
            ejected: 0,
        };
        let states = Rc::clone(&members.states);
        for (index, state) in states.iter().enumerate() {
            let Some(state) = state else { continue };
            state.index.set(index);
            state.ejected.set(false);
            state.looked_at.set(None);
            members.refresh_at(index, now);
        }
        members
    }

    pub fn endpoints(&self) -> &Arc<Endpoints> {
        self.roster.endpoints()
    }

    pub fn states(&self) -> &States {
        &self.states
    }

    /// Those that are left alone for their failures, as of the last [`Members::settle`].
    pub fn ejected(&self) -> usize {
        self.ejected
    }

    /// Takes note of what ended by itself until now. Nothing is asked, not even the time, while nothing can end.
    pub fn settle(&mut self) {
        if !self.ends.is_empty() {
            self.settle_at(Instant::now());
        }
    }

    #[cold]
    fn settle_at(&mut self, now: Instant) {
        while let Some(Reverse((end, index))) = self.ends.peek().copied()
            && end <= now
        {
            self.ends.pop();
            if let Some(state) = self.state(index) {
                state.looked_at.set(None);
            }
            self.refresh_at(index, now);
        }
    }

    pub fn pick(
        &self,
        balancer: &mut Balancer,
        policy: BalancePolicy,
        panic_threshold_percent: f64,
        tried: &[SocketAddr],
        random: u64,
    ) -> Option<&Rc<EndpointState>> {
        let tried: SmallVec<[usize; 8]> = tried.iter().flat_map(|address| self.places(*address)).collect();
        let active = |index: usize| self.state(index).map_or(0, |state| state.active.get());
        let situation = Situation { active: &active, tried: &tried, panic_threshold_percent };
        let pick = balancer.pick(policy, &self.roster, &situation, random)?;
        self.state(pick.index)
    }

    /// Something of the endpoint has changed; of one that is no member any more, nobody cares.
    pub fn refresh(&mut self, endpoint: &EndpointState, now: Instant) {
        let index = endpoint.index.get();
        if self.state(index).is_some_and(|state| std::ptr::eq(&**state, endpoint)) {
            self.refresh_at(index, now);
        }
    }

    fn refresh_at(&mut self, index: usize, now: Instant) {
        let Some(Some(state)) = self.states.get(index) else { return };
        let ejected = state.memory.is_ejected(|| now);
        let was = state.ejected.replace(ejected);
        self.ejected = self.ejected + usize::from(ejected) - usize::from(was);
        self.roster.set(index, standing(state, now));
        let ends = [state.memory.ejected_until(), state.quarantine.until()];
        let Some(end) = ends.into_iter().flatten().filter(|end| now < *end).min() else { return };
        // A later end is found when the earlier one comes.
        if state.looked_at.get().is_none_or(|known| end < known) {
            state.looked_at.set(Some(end));
            self.ends.push(Reverse((end, index)));
        }
    }

    /// All with this address; two names may have the same.
    pub fn at(&self, address: SocketAddr) -> SmallVec<[Rc<EndpointState>; 1]> {
        self.places(address).filter_map(|index| self.state(index).cloned()).collect()
    }

    fn places(&self, address: SocketAddr) -> impl Iterator<Item = usize> {
        let of = move |index: u32| self.state(index as usize).map(|state| state.address);
        let start = self.by_address.partition_point(|index| of(*index) < Some(address));
        let from = self.by_address.get(start..).unwrap_or_default();
        from.iter().take_while(move |index| of(**index) == Some(address)).map(|index| *index as usize)
    }

    fn state(&self, index: usize) -> Option<&Rc<EndpointState>> {
        self.states.get(index)?.as_ref()
    }
}

fn standing(state: &EndpointState, now: Instant) -> Standing {
    Standing {
        healthy: state.healthy.get() && !state.memory.is_ejected(|| now),
        calm: !state.quarantine.holds(now),
    }
}

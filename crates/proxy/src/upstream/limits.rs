//! What a cluster may carry at once: its circuit breakers.
//!
//! A limit that somebody set below Envoy's default holds for the whole proxy: the workers share its count. The
//! defaults only guard against runaways; they hold for each worker, so that the common road shares nothing. Requests of
//! both priorities are counted together, against the limit of their own.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use weft_routing::{Cluster, RoutingPriority, Thresholds};

/// The counts that the workers of this proxy share, for one cluster.
#[derive(Debug, Default)]
pub struct SharedCounts {
    requests: Arc<AtomicU32>,
    retries: Arc<AtomicU32>,
    connections: Arc<AtomicU32>,
    pending: Arc<AtomicU32>,
}

/// Whether a cluster's limits are to hold for all workers together.
pub fn shares_counts(cluster: &Cluster) -> bool {
    let usual = Thresholds::default();
    [cluster.limits.default, cluster.limits.high].iter().any(|limits| {
        limits.requests_max < usual.requests_max
            || limits.connections_max < usual.connections_max
            || limits.pending_max < usual.pending_max
            || limits.retries_max < usual.retries_max
    })
}

/// A number of things under way.
#[derive(Clone)]
pub enum Count {
    Own(Rc<Cell<u32>>),
    Shared(Arc<AtomicU32>),
}

impl Count {
    pub fn get(&self) -> u32 {
        match self {
            Count::Own(count) => count.get(),
            Count::Shared(count) => count.load(Ordering::Relaxed),
        }
    }

    /// One more, whatever the limit.
    pub fn raise(&self) -> Raised {
        match self {
            Count::Own(count) => count.set(count.get() + 1),
            Count::Shared(count) => drop(count.fetch_add(1, Ordering::Relaxed)),
        }
        Raised(self.clone())
    }

    /// One more, unless there are `max`.
    pub fn raise_below(&self, max: u32) -> Option<Raised> {
        match self {
            Count::Own(count) if count.get() >= max => None,
            Count::Own(_) => Some(self.raise()),
            Count::Shared(count) if count.fetch_add(1, Ordering::Relaxed) >= max => {
                count.fetch_sub(1, Ordering::Relaxed);
                None
            }
            Count::Shared(_) => Some(Raised(self.clone())),
        }
    }
}

/// A number that is one higher for as long as this lives.
pub struct Raised(Count);

impl Raised {
    pub fn new(count: &Rc<Cell<u32>>) -> Raised {
        Count::Own(Rc::clone(count)).raise()
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        match &self.0 {
            Count::Own(count) => count.set(count.get() - 1),
            Count::Shared(count) => drop(count.fetch_sub(1, Ordering::Relaxed)),
        }
    }
}

/// One cluster's counts, as a worker sees them.
pub struct Counts {
    /// Requests and tunnels.
    pub requests: Count,
    /// Tries that are not a request's first.
    pub retries: Count,
    pub connections: Count,
    /// Requests that wait for a connection.
    pub pending: Count,
}

impl Counts {
    pub fn new(shared: Option<&Arc<SharedCounts>>) -> Counts {
        let count = |of: fn(&SharedCounts) -> &Arc<AtomicU32>| match shared {
            Some(shared) => Count::Shared(Arc::clone(of(shared))),
            None => Count::Own(Rc::default()),
        };
        Counts {
            requests: count(|shared| &shared.requests),
            retries: count(|shared| &shared.retries),
            connections: count(|shared| &shared.connections),
            pending: count(|shared| &shared.pending),
        }
    }

    /// Whether one more retry may be under way.
    pub fn may_retry(&self, limits: &Thresholds) -> bool {
        let max = match limits.retry_budget {
            Some(budget) => {
                let share = u64::from(self.requests.get()) * u64::from(budget.percent) / 100;
                u32::try_from(share).unwrap_or(u32::MAX).max(budget.concurrency_min)
            }
            None => limits.retries_max,
        };
        self.retries.get() < max
    }
}

/// The limits for a route's priority.
pub fn thresholds(cluster: &Cluster, priority: RoutingPriority) -> &Thresholds {
    match priority {
        RoutingPriority::Default => &cluster.limits.default,
        RoutingPriority::High => &cluster.limits.high,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

    use weft_routing::RetryBudgetLimits;

    use super::*;

    #[test]
    fn a_limit_lets_in_what_it_says_and_no_more() {
        let shared = Arc::new(SharedCounts::default());
        let (one, other) = (Counts::new(Some(&shared)), Counts::new(Some(&shared)));
        let own = Counts::new(None);
        for (first, second) in [(&one, &other), (&own, &own)] {
            let held = first.requests.raise_below(2).unwrap();
            let _more = second.requests.raise_below(2).unwrap();
            assert!(first.requests.raise_below(2).is_none());
            drop(held);
            assert!(second.requests.raise_below(2).is_some());
            assert_eq!(first.requests.get(), 1);
        }
    }

    #[test]
    fn a_retry_budget_grows_with_the_requests() {
        let counts = Counts::new(None);
        let budget = Some(RetryBudgetLimits { percent: 50, concurrency_min: 1 });
        let limits = Thresholds { retry_budget: budget, ..Thresholds::default() };
        assert!(counts.may_retry(&limits));
        let _retry = counts.retries.raise();
        assert!(!counts.may_retry(&limits));
        let _requests: Vec<Raised> = (0..4).map(|_| counts.requests.raise()).collect();
        assert!(counts.may_retry(&limits));
    }
}

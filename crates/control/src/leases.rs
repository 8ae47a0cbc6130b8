//! Which joined workloads are alive.
//!
//! A proxy's link stream holds its lease; when the stream breaks the workload has [`LEASE`] to come
//! back, then its object is deleted. Leases live in memory: a push per renewal would be waste, and
//! after a restart of the control plane every joined workload in the store simply gets one lease of
//! grace. Workloads that nobody joined (written by a user) have no lease and are left alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::snapshot::ServiceId;

/// How long a workload outlives its stream.
pub const LEASE: Duration = Duration::from_secs(15);

#[derive(Debug)]
struct Lease {
    state: State,
    /// Whose it is; unknown after a restart, when only the store knows.
    identity: Option<String>,
}

#[derive(Debug)]
enum State {
    /// A stream holds it; the number says which, so that an older stream's end changes nothing.
    Held(u64),
    /// No stream; gone at this instant.
    Until(Instant),
}

#[derive(Debug, Default)]
struct Table {
    leases: BTreeMap<ServiceId, Lease>,
    holders: u64,
}

/// All leases, by the workload's namespace and name.
#[derive(Debug, Default)]
pub struct Leases {
    table: Mutex<Table>,
}

/// A stream's hold on a lease; dropping it starts the clock.
#[derive(Debug)]
pub struct Hold {
    leases: Arc<Leases>,
    workload: ServiceId,
    holder: u64,
}

impl Leases {
    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A stream takes (or takes over) the lease, unless another identity has it.
    pub fn hold(self: &Arc<Self>, workload: ServiceId, identity: &str) -> Option<Hold> {
        let mut table = self.table();
        let owner = table.leases.get(&workload).and_then(|lease| lease.identity.as_deref());
        if owner.is_some_and(|owner| owner != identity) {
            return None;
        }
        table.holders += 1;
        let holder = table.holders;
        let lease = Lease { state: State::Held(holder), identity: Some(identity.to_owned()) };
        table.leases.insert(workload.clone(), lease);
        drop(table);
        Some(Hold { leases: self.clone(), workload, holder })
    }

    /// A joined workload without a stream: one lease of grace from now.
    pub fn grace(&self, workload: ServiceId, now: Instant) {
        let lease = Lease { state: State::Until(now + LEASE), identity: None };
        self.table().leases.entry(workload).or_insert(lease);
    }

    /// The workloads whose time is over; they are forgotten here.
    pub fn expired(&self, now: Instant) -> Vec<ServiceId> {
        let mut table = self.table();
        let over: Vec<ServiceId> = table
            .leases
            .iter()
            .filter(|(_, lease)| matches!(lease.state, State::Until(end) if end <= now))
            .map(|(workload, _)| workload.clone())
            .collect();
        for workload in &over {
            table.leases.remove(workload);
        }
        over
    }
}

impl Hold {
    /// The proxy says that it leaves. Whether this stream still held the lease.
    pub fn release(self) -> bool {
        let mut table = self.leases.table();
        let lease = table.leases.get(&self.workload);
        let ours =
            lease.is_some_and(|lease| matches!(lease.state, State::Held(holder) if holder == self.holder));
        if ours {
            table.leases.remove(&self.workload);
        }
        ours
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut table = self.leases.table();
        if let Some(lease) = table.leases.get_mut(&self.workload)
            && matches!(lease.state, State::Held(holder) if holder == self.holder)
        {
            lease.state = State::Until(Instant::now() + LEASE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "spiffe://mesh.internal/ns/default/sa/fe";

    fn fe() -> ServiceId {
        ServiceId::new("default", "fe-1")
    }

    #[test]
    fn another_identity_gets_no_hold() {
        let leases = Arc::new(Leases::default());
        let hold = leases.hold(fe(), ID).unwrap();
        let other = "spiffe://mesh.internal/ns/default/sa/be2";
        assert!(leases.hold(fe(), other).is_none());
        assert!(hold.release());
        assert!(leases.hold(fe(), other).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_stream_leaves_a_lease_of_time() {
        let leases = Arc::new(Leases::default());
        let hold = leases.hold(fe(), ID).unwrap();
        tokio::time::advance(LEASE * 3).await;
        assert_eq!(leases.expired(Instant::now()), []);
        drop(hold);
        tokio::time::advance(LEASE / 2).await;
        assert_eq!(leases.expired(Instant::now()), []);
        tokio::time::advance(LEASE / 2).await;
        assert_eq!(leases.expired(Instant::now()), [fe()]);
        assert_eq!(leases.expired(Instant::now()), []);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_older_stream_changes_nothing() {
        let leases = Arc::new(Leases::default());
        let older = leases.hold(fe(), ID).unwrap();
        let newer = leases.hold(fe(), ID).unwrap();
        drop(older);
        tokio::time::advance(LEASE * 2).await;
        assert_eq!(leases.expired(Instant::now()), []);
        assert!(newer.release());
        tokio::time::advance(LEASE * 2).await;
        assert_eq!(leases.expired(Instant::now()), []);
    }

    #[tokio::test(start_paused = true)]
    async fn grace_after_a_restart_is_one_lease_and_never_takes_a_held_one() {
        let leases = Arc::new(Leases::default());
        let _hold = leases.hold(fe(), ID).unwrap();
        let be = ServiceId::new("default", "be-1");
        leases.grace(fe(), Instant::now());
        leases.grace(be.clone(), Instant::now());
        tokio::time::advance(LEASE).await;
        assert_eq!(leases.expired(Instant::now()), [be]);
    }
}

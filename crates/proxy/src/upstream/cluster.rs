//! One cluster as one worker sees it: its endpoints with their pools and loads, its balancer, budget and limits.
//!
//! The state outlives a table as long as the cluster itself did not change, so a new route does not cost connections;
//! an endpoint's state outlives its list as long as its address is in the next one.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use weft_routing::{
    Address, Cluster, ClusterKind, Endpoint, Endpoints, Health, UpstreamProtocol, balance::Balancer,
    retry::Budget,
};

use super::{
    connect::{ConnectError, TlsSettings},
    limits::{Counts, SharedCounts},
    members::{Members, States},
    outlier::{self, Outcome},
    pool::{Pool, Version},
    probe::Probes,
    quarantine::Quarantine,
    tls,
};
use crate::{certificates::Credentials, meters::ClusterMeters};

/// Retries a cluster may add: 20 % of its requests, and 10 a second for when there are few.
const RETRY_BUDGET_PERCENT: u32 = 20;
const RETRY_BUDGET_PER_SECOND: u32 = 10;

/// Places of an ORIGINAL_DST cluster that are remembered; those in use stay.
const ORIGINALS_MAX: usize = 4096;

/// A cluster's state on this worker.
pub struct ClusterState {
    pub cluster: Arc<Cluster>,
    pub meters: ClusterMeters,
    pub budget: RefCell<Budget>,
    /// Health checks by members, of an app of ours.
    pub probes: Probes,
    /// What is under way, for the circuit breakers.
    pub counts: Counts,
    /// Endpoints of ORIGINAL_DST clusters: the places that callers wanted to go to.
    originals: RefCell<HashMap<SocketAddr, Rc<EndpointState>>>,
    members: RefCell<Members>,
    balancer: RefCell<Balancer>,
    tls: RefCell<TlsCache>,
}

/// An endpoint's connections and load on this worker.
pub struct EndpointState {
    pub endpoint: RefCell<Arc<Endpoint>>,
    pub address: SocketAddr,
    pub pool: Pool,
    pub active: Rc<Cell<u32>>,
    /// The last word of the active health check.
    pub healthy: Cell<bool>,
    /// What outlier detection remembers.
    pub memory: outlier::Memory,
    pub quarantine: Quarantine,
    /// Its place among the members, what they know of it, and when they look again.
    pub index: Cell<usize>,
    pub ejected: Cell<bool>,
    pub looked_at: Cell<Option<Instant>>,
    /// Connections open, idle ones too.
    pub connections: Rc<Cell<u32>>,
}

#[derive(Default)]
struct TlsCache {
    revision: u64,
    /// By [`tls::Alpn`].
    made: [Option<TlsSettings>; tls::Alpn::COUNT],
}

impl ClusterState {
    pub fn new(
        cluster: Arc<Cluster>,
        endpoints: Option<Arc<Endpoints>>,
        meters: ClusterMeters,
        shared: Option<&Arc<SharedCounts>>,
    ) -> ClusterState {
        let state = ClusterState {
            cluster,
            meters,
            budget: RefCell::new(Budget::new(RETRY_BUDGET_PERCENT, RETRY_BUDGET_PER_SECOND)),
            probes: Probes::default(),
            counts: Counts::new(shared),
            originals: RefCell::default(),
            members: RefCell::default(),
            balancer: RefCell::default(),
            tls: RefCell::default(),
        };
        state.set_endpoints(endpoints.unwrap_or_default());
        state
    }

    /// Takes a new list; endpoints that stay keep their connections.
    pub fn set_endpoints(&self, endpoints: Arc<Endpoints>) {
        let old = {
            let members = self.members.borrow();
            if Arc::ptr_eq(members.endpoints(), &endpoints) {
                return;
            }
            Rc::clone(members.states())
        };
        let mut known: HashMap<SocketAddr, &Rc<EndpointState>> =
            old.iter().flatten().map(|state| (state.address, state)).collect();
        let states = endpoints
            .all
            .iter()
            .map(|endpoint| {
                let Address::Ip(address) = endpoint.address else {
                    return None; // not resolved yet, or a Unix socket, which no road here leads to
                };
                Some(match known.remove(&address) {
                    Some(state) => {
                        state.endpoint.replace(Arc::clone(endpoint));
                        Rc::clone(state)
                    }
                    None => Rc::new(EndpointState::new(Arc::clone(endpoint), address)),
                })
            })
            .collect();
        self.members.replace(Members::new(endpoints, states));
    }

    /// Chooses an endpoint, away from those that were `tried` or refuse connections. `None`: there is none to try (UH).
    /// `original` is where the caller wanted to go before it was redirected here.
    pub fn pick(
        &self,
        tried: &[SocketAddr],
        random: u64,
        original: Option<SocketAddr>,
    ) -> Option<Rc<EndpointState>> {
        if let ClusterKind::OriginalDst = self.cluster.kind {
            return self.original(original?);
        }
        let mut members = self.members.borrow_mut();
        members.settle();
        let picked = {
            let mut balancer = self.balancer.borrow_mut();
            let cluster = &self.cluster;
            let panic = cluster.panic_threshold_percent;
            Rc::clone(members.pick(&mut balancer, cluster.balance, panic, tried, random)?)
        };
        if let Some(probed) = picked.quarantine.probe(Instant::now) {
            members.refresh(&picked, probed);
        }
        Some(picked)
    }

    /// Whether an endpoint is left that is neither `tried` nor `last`.
    pub fn has_untried(&self, tried: &[SocketAddr], last: SocketAddr) -> bool {
        let members = self.members.borrow();
        members
            .states()
            .iter()
            .flatten()
            .any(|state| state.address != last && !tried.contains(&state.address))
    }

    /// Whether a connection to an endpoint was to be had.
    pub fn note_connection<T>(&self, endpoint: &EndpointState, opened: &Result<T, ConnectError>) {
        match opened {
            Ok(_) => self.reached(endpoint),
            Err(ConnectError::Overflow) => {}
            Err(_) => {
                let now = Instant::now();
                endpoint.quarantine.refuse(now);
                self.members.borrow_mut().refresh(endpoint, now);
            }
        }
    }

    fn reached(&self, endpoint: &EndpointState) {
        if endpoint.quarantine.reached() {
            self.members.borrow_mut().refresh(endpoint, Instant::now());
        }
    }

    #[cold]
    fn original(&self, address: SocketAddr) -> Option<Rc<EndpointState>> {
        let mut originals = self.originals.borrow_mut();
        if originals.len() >= ORIGINALS_MAX {
            originals.retain(|_, state| state.active.get() > 0);
        }
        if !originals.contains_key(&address) && originals.len() >= ORIGINALS_MAX {
            return None;
        }
        let state = originals.entry(address).or_insert_with(|| {
            let endpoint = Endpoint {
                address: Address::Ip(address),
                hostname: None,
                weight: 1,
                health: Health::Unknown,
                priority: 0,
                locality: None,
                health_check_port: None,
                labels: Vec::new(),
            };
            Rc::new(EndpointState::new(Arc::new(endpoint), address))
        });
        Some(Rc::clone(state))
    }

    /// How a try ended: an endpoint that fails too often is left alone for a while.
    pub fn note(&self, endpoint: &EndpointState, outcome: Outcome, random: u64) {
        if outcome != Outcome::LocalFailure {
            self.reached(endpoint);
        }
        let Some(settings) = &self.cluster.outlier else { return };
        if !endpoint.memory.note(settings, outcome, random) {
            return;
        }
        let now = Instant::now();
        let mut members = self.members.borrow_mut();
        members.settle();
        if outlier::may_eject(members.ejected(), members.states().len(), settings) {
            tracing::warn!(cluster = %self.cluster.name, address = %endpoint.address, "an endpoint is ejected");
            endpoint.memory.eject(settings, now);
            members.refresh(endpoint, now);
        }
    }

    /// Requests that the control plane wants dropped, by their shares.
    pub fn drops(&self, random: impl Fn() -> u64) -> bool {
        let members = self.members.borrow();
        members.endpoints().drops.iter().any(|(_, millionths)| random() % 1_000_000 < u64::from(*millionths))
    }

    /// What the active health check found.
    pub fn set_health(&self, address: SocketAddr, healthy: bool) {
        let found = self.members.borrow().at(address);
        for state in found {
            state.healthy.set(healthy);
            self.members.borrow_mut().refresh(&state, Instant::now());
            if !healthy && self.cluster.close_connections_on_health_failure {
                state.pool.clear();
            }
        }
    }

    pub fn endpoints(&self) -> Vec<Rc<EndpointState>> {
        self.states().iter().flatten().cloned().collect()
    }

    fn states(&self) -> States {
        Rc::clone(self.members.borrow().states())
    }

    /// The version to speak to this cluster, when the caller spoke `downstream`.
    pub fn version(&self, downstream: http::Version) -> Version {
        match self.cluster.http.protocol {
            UpstreamProtocol::Http1 => Version::Http1,
            UpstreamProtocol::Http2 => Version::Http2,
            UpstreamProtocol::Downstream if downstream == http::Version::HTTP_2 => Version::Http2,
            UpstreamProtocol::Downstream => Version::Http1,
            // Over TLS we offer what we then speak; h2 is the better of the two and members all have it.
            UpstreamProtocol::Auto if self.cluster.tls.is_some() => Version::Http2,
            UpstreamProtocol::Auto => Version::Http1,
        }
    }

    /// TLS settings for new connections; made once for each revision of the credentials.
    pub fn tls_settings(
        &self,
        alpn: tls::Alpn,
        credentials: Option<&Arc<Credentials>>,
    ) -> Result<Option<TlsSettings>, ConnectError> {
        let Some(wanted) = &self.cluster.tls else {
            return Ok(None);
        };
        let revision = credentials.map_or(0, |credentials| credentials.revision);
        let mut cache = self.tls.borrow_mut();
        if cache.revision != revision {
            *cache = TlsCache { revision, ..TlsCache::default() };
        }
        if let Some(settings) = &cache.made[alpn as usize] {
            return Ok(Some(settings.clone()));
        }
        let settings = tls::settings(wanted, alpn, credentials)?;
        cache.made[alpn as usize] = Some(settings.clone());
        Ok(Some(settings))
    }

    /// The cluster is gone or has new settings: what it carries is finished, idle connections close.
    pub fn retire(&self) {
        for state in self.states().iter().flatten() {
            state.pool.clear();
        }
    }

    pub fn sweep(&self, now: Instant, idle_timeout: Duration) {
        for state in self.originals.borrow().values() {
            state.pool.sweep(now, idle_timeout);
        }
        for state in self.states().iter().flatten() {
            state.pool.sweep(now, idle_timeout);
        }
    }
}

impl EndpointState {
    pub fn new(endpoint: Arc<Endpoint>, address: SocketAddr) -> EndpointState {
        EndpointState {
            endpoint: RefCell::new(endpoint),
            address,
            pool: Pool::new(address),
            active: Rc::default(),
            healthy: Cell::new(true),
            memory: outlier::Memory::default(),
            quarantine: Quarantine::default(),
            index: Cell::default(),
            ejected: Cell::default(),
            looked_at: Cell::default(),
            connections: Rc::default(),
        }
    }
}

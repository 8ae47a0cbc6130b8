//! Configuration: xDS in, one routing table out to every worker.
//!
//! Each resource is decoded by `weft-routing`; a problem refuses the whole update with `resource: path: message`, and
//! what was there before stays. What is accepted waits until everything it names is there (a route to a cluster without
//! endpoints would be a 503), then goes to every worker at once; a listener whose routes are not there waits alone. A
//! change of endpoints alone takes the short way.
//!
//! What is in force is also what [`crate::lkg`] keeps on disk; after a restart the set from there is in force, and
//! *stale*, until the control plane has confirmed each of its resources. Secrets (the certificates that clusters show to
//! servers outside the mesh) are never on that disk: until they come again those clusters get no connections.

mod datagrams;
mod decoded;
mod publish;
mod restored;
mod sockets;
mod update;
mod waiting;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use weft_routing::{
    Cluster, Endpoints, Listener, RouteConfig, Strictness,
    table::{RoutingTable, Staged},
};
use weft_xds::{
    Resource,
    client::{Event, Handler, Subscriber, Update},
};

use crate::{
    lkg,
    net::Reserved,
    upstream::limits::SharedCounts,
    worker::{Mailbox, Role},
};

pub use decoded::nack;

/// How long a set that names what is not there waits before it is used all the same.
pub const DANGLING_GRACE: Duration = Duration::from_secs(5);
/// Attempts at a control plane that went away, at the usual pace of the xDS client (some ten seconds).
const QUICK_ATTEMPTS: u32 = 8;
/// Between two attempts after those, at least, and up to a fifth more.
const SLOW_INTERVAL: Duration = Duration::from_secs(5);

/// The types that make a configuration, in the order in which one names the next.
const KINDS: [&str; 4] = [weft_xds::CDS, weft_xds::EDS, weft_xds::LDS, weft_xds::RDS];

/// The one owner of the configuration; the xDS client, the DNS resolver and the admin page share it.
#[derive(Clone)]
pub struct ConfigFeed(Arc<Mutex<State>>);

struct State {
    strictness: Strictness,
    staged: Staged,
    /// Each resource of the staged set as it came: an unchanged one keeps its compiled form (and the workers their
    /// pools), and the disk gets these bytes.
    received: HashMap<(&'static str, Arc<str>), Arc<Resource>>,
    /// Of the set that came from the disk: what the control plane has not spoken of yet.
    unconfirmed: HashSet<(&'static str, Arc<str>)>,
    /// When the control plane last stood behind what is in force.
    confirmed: Option<SystemTime>,
    table: Option<RoutingTable>,
    /// What the staged set has that the table has not.
    dirty: bool,
    dirty_since: Option<Instant>,
    /// That is nothing but listeners that wait for their routes.
    waiting: bool,
    /// Since when route configurations are missing, each by itself.
    routes_missing: HashMap<Arc<str>, Instant>,
    /// The table names clusters or routes that are not there.
    dangling: bool,
    /// By cluster, of those by DNS alone.
    resolved: HashMap<Arc<str>, Arc<Endpoints>>,
    /// What the workers count together; kept from table to table.
    counts: HashMap<Arc<str>, Arc<SharedCounts>>,
    workers: Vec<Mailbox>,
    /// Sockets of listeners, by address; those of the flags stay for ever.
    bound: HashSet<SocketAddr>,
    permanent: HashSet<SocketAddr>,
    /// Open, and not the workers' yet: no table has their listener.
    opened: Vec<Reserved>,
    datagrams: datagrams::Datagrams,
    /// Sockets that workers have got so far.
    listens: usize,
    subscriber: Option<Subscriber>,
    status: FeedStatus,
    changed: tokio::sync::watch::Sender<u64>,
    /// Whether the control plane answers.
    reachable: tokio::sync::watch::Sender<bool>,
    /// Attempts since it last did, and how much longer than usual to wait before the next one.
    failures: u32,
    pause: Duration,
}

/// For the admin pages.
#[derive(Debug, Clone, Default)]
pub struct FeedStatus {
    pub connected: bool,
    pub last_error: Option<String>,
    /// By type: the version that is in force.
    pub versions: BTreeMap<String, String>,
    pub last_nack: Option<String>,
    pub tables: u64,
    /// What is in force comes from the disk, and the control plane has not confirmed all of it since.
    pub stale: bool,
    pub lkg: lkg::Status,
}

impl ConfigFeed {
    pub fn new(workers: Vec<Mailbox>, strictness: Strictness) -> ConfigFeed {
        ConfigFeed(Arc::new(Mutex::new(State {
            strictness,
            staged: Staged::default(),
            received: HashMap::new(),
            unconfirmed: HashSet::new(),
            confirmed: None,
            table: None,
            dirty: false,
            dirty_since: None,
            waiting: false,
            routes_missing: HashMap::new(),
            dangling: false,
            resolved: HashMap::new(),
            counts: HashMap::new(),
            workers,
            bound: HashSet::new(),
            permanent: HashSet::new(),
            opened: Vec::new(),
            datagrams: datagrams::Datagrams::default(),
            listens: 0,
            subscriber: None,
            status: FeedStatus::default(),
            changed: tokio::sync::watch::Sender::new(0),
            reachable: tokio::sync::watch::Sender::new(false),
            failures: 0,
            pause: Duration::ZERO,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each update is applied whole or not at all, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This address is ours already: no listener opens it again.
    pub fn hold(&self, address: SocketAddr) {
        let mut state = self.state();
        state.permanent.insert(address);
        state.bound.insert(address);
    }

    /// A socket for a listener of datagrams, if one comes.
    pub fn keep_datagrams(&self, address: SocketAddr, socket: std::net::UdpSocket) {
        self.state().datagrams.kept.insert(address, socket);
    }

    /// Hands sockets that were opened before any configuration came to the workers.
    pub fn listen(&self, role: Role, reserved: Reserved) {
        let mut state = self.state();
        state.permanent.insert(reserved.address);
        state.hand_out(role, reserved);
    }

    pub fn set_subscriber(&self, subscriber: Subscriber) {
        let mut state = self.state();
        state.subscriber = Some(subscriber);
        state.subscribe(); // to what a set from the disk names
    }

    /// Before the next attempt, on top of the xDS client's own back-off.
    pub fn pause(&self) -> Duration {
        self.state().pause
    }

    /// Whether the control plane answers: one of a proxy's streams knocks for all.
    pub fn reachable(&self) -> tokio::sync::watch::Receiver<bool> {
        self.state().reachable.subscribe()
    }

    /// Told each time a new table is in force; the value counts them.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.state().changed.subscribe()
    }

    pub fn status(&self) -> FeedStatus {
        let state = self.state();
        let mut status = state.status.clone();
        status.stale = state.stale();
        status.lkg.age = status.lkg.age_at(SystemTime::now(), state.confirmed_at());
        status
    }

    /// Takes what the disk holds, whole or not at all, before the control plane was heard.
    pub fn restore(&self, good: &lkg::Good) -> Result<(), String> {
        let mut state = self.state();
        let result = state.restore(good);
        if result.is_err() {
            state.forget();
        }
        result
    }

    /// What is in force, for the disk; `None` while it is not whole or not confirmed.
    pub fn good(&self) -> Option<lkg::Good> {
        let state = self.state();
        let mut versions = state.status.versions.clone();
        versions.remove(weft_xds::types::short(weft_xds::SDS));
        Some(lkg::Good {
            confirmed: state.confirmed_at().filter(|_| state.whole())?,
            versions,
            resources: state.received.values().cloned().collect(),
        })
    }

    /// The disk has the set that was confirmed then, or could not take it.
    pub fn note_lkg(&self, change: impl FnOnce(&mut lkg::Status)) {
        change(&mut self.state().status.lkg);
    }

    /// The clusters in force.
    pub fn clusters(&self) -> Vec<Arc<Cluster>> {
        let state = self.state();
        let table = state.table.iter();
        table.flat_map(|table| table.clusters().map(|(_, slot)| Arc::clone(&slot.cluster))).collect()
    }

    /// The clusters in force with their endpoints, as resolved.
    pub fn clusters_with_endpoints(&self) -> Vec<(Arc<Cluster>, Option<Arc<Endpoints>>)> {
        let state = self.state();
        let Some(table) = &state.table else { return Vec::new() };
        table
            .clusters()
            .map(|(_, slot)| {
                let endpoints = state.resolved.get(&slot.cluster.name).or(slot.endpoints.as_ref()).cloned();
                (Arc::clone(&slot.cluster), endpoints)
            })
            .collect()
    }

    pub fn listeners(&self) -> Vec<Arc<Listener>> {
        self.state().staged.listeners.values().cloned().collect()
    }

    pub fn route_configs(&self) -> Vec<Arc<RouteConfig>> {
        self.state().staged.routes.values().cloned().collect()
    }

    /// Takes a whole set at once, e.g. from a file or a test.
    pub fn set_static(&self, staged: Staged) -> Result<(), String> {
        let mut state = self.state();
        let listeners: Vec<Arc<Listener>> = staged.listeners.values().cloned().collect();
        sockets::apart(listeners.iter())?;
        state.bind(&listeners)?;
        state.staged = staged;
        state.dirty = true;
        state.do_without_routes(|_| true);
        state.publish(true);
        Ok(())
    }

    /// What DNS says of a cluster's endpoints now; of no use once another cluster has its name.
    pub fn set_resolved(&self, cluster: &Arc<Cluster>, endpoints: Arc<Endpoints>) {
        let mut state = self.state();
        let Some(table) = &state.table else { return };
        let slot = table.cluster_index(&cluster.name).and_then(|index| table.cluster(index));
        if slot.is_some_and(|slot| Arc::ptr_eq(&slot.cluster, cluster)) {
            state.resolved.insert(Arc::clone(&cluster.name), endpoints);
            state.send_table();
        }
    }

    /// Names in use are told to everybody; a set that dangles for too long is used as it is.
    pub fn tick(&self) {
        let mut state = self.state();
        if state.dirty && state.dirty_since.is_some_and(|since| since.elapsed() > DANGLING_GRACE) {
            // A server that is away may have them, and the first table waits for what the server says of them.
            let gave_up = state.status.connected && state.table.is_some() && state.give_up_routes();
            if gave_up || !state.waiting {
                state.publish(true);
            }
        }
    }
}

impl Handler for ConfigFeed {
    fn apply(&mut self, type_url: &str, update: Update) -> Result<(), String> {
        let mut state = self.state();
        let applied = state.apply(type_url, &update);
        if let Err(text) = &applied {
            tracing::warn!(type_url = weft_xds::types::short(type_url), text, "a configuration is refused");
            state.status.last_nack = Some(text.clone());
        }
        applied
    }

    fn event(&mut self, event: Event) {
        let mut state = self.state();
        match event {
            Event::Connected => {
                tracing::info!("connected to the control plane");
                state.status.connected = true;
                state.status.last_error = None;
                (state.failures, state.pause) = (0, Duration::ZERO);
                state.dirty_since = state.dirty_since.map(|_| Instant::now());
                state.routes_missing.values_mut().for_each(|since| *since = Instant::now());
                state.reachable.send_replace(true);
            }
            Event::Disconnected { error, retry_in } => {
                if state.status.connected || state.status.last_error.is_none() {
                    tracing::warn!(
                        error,
                        ?retry_in,
                        "no connection to the control plane; the last configuration serves on"
                    );
                }
                state.confirmed = state.confirmed_at();
                state.status.connected = false;
                state.status.last_error = Some(error);
                state.failures += 1;
                if state.failures > QUICK_ATTEMPTS {
                    let interval = SLOW_INTERVAL.mul_f64(1.0 + fastrand::f64() / 5.0);
                    state.pause = interval.saturating_sub(retry_in);
                }
                state.reachable.send_if_modified(|reachable| std::mem::replace(reachable, false));
            }
            Event::InitialFetchTimeout { type_url, names } => state.give_up_waiting(&type_url, &names),
        }
    }
}

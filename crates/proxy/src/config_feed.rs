//! Configuration: xDS in, one routing table out to every worker.
//!
//! Each resource is decoded by `weft-routing`; a problem refuses the whole update with `resource: path: message`, and
//! what was there before stays. What is accepted waits until everything it names is there (a route to a cluster without
//! endpoints would be a 503), then goes to every worker at once. A change of endpoints alone takes the short way.
//!
//! What is in force is also what [`crate::lkg`] keeps on disk; after a restart the set from there is in force, and
//! *stale*, until the control plane has confirmed each of its resources. Secrets (the certificates that clusters show to
//! servers outside the mesh) are never on that disk: until they come again those clusters get no connections.

mod datagrams;
mod decoded;
mod restored;
mod sockets;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use weft_routing::{
    Cluster, Endpoints, Listener, RouteConfig, Strictness,
    table::{Inconsistency, References, RoutingTable, Staged},
};
use weft_xds::{
    Resource,
    client::{Event, Handler, Names, Subscriber, Update},
};

use crate::{
    live::Published,
    lkg,
    net::Reserved,
    upstream::limits::SharedCounts,
    worker::{Command, Mailbox, Role},
};

pub use decoded::nack;

use decoded::Decoded;

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
    /// The table names clusters that are not there.
    dangling: bool,
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
        state.bind(&listeners)?;
        state.staged = staged;
        state.dirty = true;
        state.publish(true);
        Ok(())
    }

    /// What DNS says of a cluster's endpoints now.
    pub fn set_resolved(&self, cluster: &Arc<str>, endpoints: Arc<Endpoints>) {
        let mut state = self.state();
        state.resolved.insert(Arc::clone(cluster), endpoints);
        state.send_table();
    }

    /// Names in use are told to everybody; a set that dangles for too long is used as it is.
    pub fn tick(&self) {
        let mut state = self.state();
        if state.dirty && state.dirty_since.is_some_and(|since| since.elapsed() > DANGLING_GRACE) {
            state.publish(true);
        }
    }
}

impl State {
    fn apply(&mut self, type_url: &str, update: &Update) -> Result<(), String> {
        let kind = KINDS
            .into_iter()
            .chain([weft_xds::SDS])
            .find(|known| *known == type_url)
            .ok_or_else(|| format!("{type_url}: a type that this proxy did not ask for"))?;
        let fresh: Vec<&Arc<Resource>> = update
            .added
            .iter()
            .filter(|resource| {
                let held = self.received.get(&(kind, Arc::from(resource.name.as_str())));
                held.is_none_or(|held| held.version != resource.version)
            })
            .collect();
        let decoded = Decoded::of(kind, &fresh, self.strictness)?;
        if let Decoded::Listeners(listeners) = &decoded {
            self.addresses_differ(listeners, update)?;
            self.bind(listeners)?;
        }
        let short = match &decoded {
            Decoded::Endpoints(endpoints) if !self.dirty && !update.full && update.removed.is_empty() => {
                Some(endpoints.clone())
            }
            _ => None,
        };
        self.commit(decoded);
        for resource in fresh.iter().filter(|_| kind != weft_xds::SDS) {
            self.received.insert((kind, Arc::from(resource.name.as_str())), Arc::clone(resource));
        }
        self.remove(kind, update);
        for resource in &update.added {
            self.unconfirmed.remove(&(kind, Arc::from(resource.name.as_str())));
        }
        self.status.versions.insert(weft_xds::types::short(kind).to_owned(), update.version.clone());
        self.subscribe();
        match short {
            Some(endpoints) if self.table.is_some() && self.staged.missing() == Default::default() => {
                for endpoints in endpoints {
                    self.table = self
                        .table
                        .as_ref()
                        .map(|table| table.with_endpoints(&endpoints.name, Some(Arc::clone(&endpoints))));
                }
                self.send_table();
            }
            _ => {
                self.dirty = true;
                self.publish(false);
            }
        }
        self.confirmed = self.confirmed_now().or(self.confirmed);
        Ok(())
    }

    fn commit(&mut self, decoded: Decoded) {
        let staged = &mut self.staged;
        match decoded {
            Decoded::Clusters(all) => {
                staged.clusters.extend(all.into_iter().map(|one| (one.name.clone(), one)))
            }
            Decoded::Endpoints(all) => {
                staged.endpoints.extend(all.into_iter().map(|one| (one.name.clone(), one)))
            }
            Decoded::Listeners(all) => {
                staged.listeners.extend(all.into_iter().map(|one| (one.name.clone(), one)))
            }
            Decoded::Routes(all) => staged.routes.extend(all.into_iter().map(|one| (one.name.clone(), one))),
            Decoded::Secrets(all) => staged
                .secrets
                .extend(all.into_iter().map(|one| (one.name.clone(), Some(Arc::clone(&one.certificate))))),
        }
    }

    fn remove(&mut self, kind: &'static str, update: &Update) {
        let stays = stays(update);
        let staged = &mut self.staged;
        match kind {
            weft_xds::CDS => staged.clusters.retain(|name, _| stays(name)),
            weft_xds::EDS => staged.endpoints.retain(|name, _| stays(name)),
            weft_xds::LDS => staged.listeners.retain(|name, _| stays(name)),
            // Gone is gone: what names it gets no more connections, and holds up nothing.
            weft_xds::SDS => {
                for (_, secret) in staged.secrets.iter_mut().filter(|(name, _)| !stays(name)) {
                    *secret = None;
                }
            }
            _ => staged.routes.retain(|name, _| stays(name)),
        }
        self.received.retain(|(of, name), _| *of != kind || stays(name));
        self.unconfirmed.retain(|(of, name)| *of != kind || stays(name));
    }

    /// Drops what nothing names any more, also as it came: should it be named again, it must be read again.
    fn prune(&mut self) {
        self.staged.prune();
        let staged = &self.staged;
        let kept = |kind: &str, name: &Arc<str>| match kind {
            weft_xds::EDS => staged.endpoints.contains_key(name),
            weft_xds::RDS => staged.routes.contains_key(name),
            _ => true,
        };
        self.received.retain(|(kind, name), _| kept(kind, name));
        self.unconfirmed.retain(|(kind, name)| kept(kind, name));
    }

    /// Asks for what the listeners and clusters name.
    fn subscribe(&self) {
        let Some(subscriber) = &self.subscriber else { return };
        let references = self.staged.references();
        let names =
            |set: std::collections::BTreeSet<Arc<str>>| Names::only(set.iter().map(|name| name.to_string()));
        subscriber.set(weft_xds::EDS, names(references.load_assignments));
        subscriber.set(weft_xds::RDS, names(references.route_configs));
        subscriber.set(weft_xds::SDS, names(references.secrets));
    }

    /// Sends a table if the staged set is whole. `dangling`: also if routes name clusters that are not there.
    fn publish(&mut self, dangling: bool) {
        let mut missing = self.staged.missing();
        if dangling {
            self.do_without(std::mem::take(&mut missing.secrets));
        }
        let warm = missing == References::default();
        let found = self.staged.consistent().err().unwrap_or_default();
        let usable = found.is_empty() || {
            let only_clusters = found
                .iter()
                .all(|one| matches!(one, Inconsistency::Route { .. } | Inconsistency::Tcp { .. }));
            if dangling && only_clusters {
                for one in &found {
                    tracing::warn!(%one, "the configuration is used although it names what is not there");
                }
            }
            dangling && only_clusters
        };
        if self.staged.listeners.is_empty() || !warm || !usable {
            self.dirty_since.get_or_insert_with(Instant::now);
            return;
        }
        self.prune();
        self.staged.bind_secrets();
        let table = self.staged.build(self.table.as_ref());
        self.resolved.retain(|name, _| self.staged.clusters.contains_key(name));
        self.table = Some(table);
        self.dirty = false;
        self.dirty_since = None;
        self.dangling = !found.is_empty();
        self.send_table();
        self.unbind();
        self.hand_out_opened();
    }

    fn send_table(&mut self) {
        let Some(table) = &self.table else { return };
        let published = Arc::new(Published::new(table.clone(), self.resolved.clone(), &mut self.counts));
        for worker in &self.workers {
            worker.send(Command::Table(Arc::clone(&published)));
        }
        self.status.tables += 1;
        self.changed.send_modify(|count| *count += 1);
    }

    /// Clusters that name these open no connections until they come.
    fn do_without(&mut self, secrets: impl IntoIterator<Item = Arc<str>>) {
        for name in secrets {
            tracing::warn!(
                secret = &*name,
                "the secret is not here; clusters that show it get no connections until it comes"
            );
            self.staged.secrets.entry(name).or_default();
        }
    }

    /// The server has not said a word of these: they count as empty, so that they do not hold up the rest.
    fn give_up_waiting(&mut self, type_url: &str, names: &[String]) {
        if type_url == weft_xds::SDS {
            self.do_without(names.iter().map(|name| Arc::from(name.as_str())));
            self.dirty = true;
            self.publish(false);
        }
        if type_url == weft_xds::EDS {
            for name in names {
                tracing::warn!(name, "no endpoints came in time; the cluster starts empty");
                let name: Arc<str> = Arc::from(name.as_str());
                self.unconfirmed.remove(&(weft_xds::EDS, Arc::clone(&name)));
                self.staged
                    .endpoints
                    .entry(Arc::clone(&name))
                    .or_insert_with(|| Arc::new(no_endpoints(name)));
            }
            self.dirty = true;
            self.publish(false);
        }
    }
}

fn no_endpoints(name: Arc<str>) -> Endpoints {
    Endpoints { name, ..Endpoints::default() }
}

/// Whether a resource is still there after an update.
fn stays(update: &Update) -> impl Fn(&Arc<str>) -> bool {
    let named: HashSet<&str> = update.added.iter().map(|resource| resource.name.as_str()).collect();
    let removed: HashSet<&str> = update.removed.iter().map(String::as_str).collect();
    move |name| !removed.contains(&**name) && (!update.full || named.contains(&**name))
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

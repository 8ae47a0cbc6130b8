//! Configuration: xDS in, one routing table out to every worker.
//!
//! Each resource is decoded by `weft-routing`; a problem refuses the whole update with `resource: path: message`, and
//! what was there before stays. What is accepted waits until everything it names is there (a route to a cluster without
//! endpoints would be a 503), then goes to every worker at once. A change of endpoints alone takes the short way.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use weft_routing::{
    Cluster, Endpoints, Listener, Problem, RouteConfig, Strictness, Warning,
    table::{Inconsistency, RoutingTable, Staged},
};
use weft_xds::{
    Resource,
    client::{Event, Handler, Names, Subscriber, Update},
};

use crate::{
    live::Published,
    net::{Reserved, reserve},
    upstream::limits::SharedCounts,
    worker::{Command, Mailbox, Role},
};

/// Problems in one NACK; more would not be read.
const PROBLEMS_SHOWN_MAX: usize = 20;
/// How long a set that names what is not there waits before it is used all the same.
pub const DANGLING_GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// The one owner of the configuration; the xDS client, the DNS resolver and the admin page share it.
#[derive(Clone)]
pub struct ConfigFeed(Arc<Mutex<State>>);

struct State {
    strictness: Strictness,
    staged: Staged,
    /// Version of each resource as it was decoded, so that an unchanged one keeps its compiled form (and the workers
    /// their pools).
    versions: HashMap<(&'static str, Arc<str>), String>,
    table: Option<RoutingTable>,
    /// What the staged set has that the table has not.
    dirty: bool,
    dirty_since: Option<Instant>,
    resolved: HashMap<Arc<str>, Arc<Endpoints>>,
    /// What the workers count together; kept from table to table.
    counts: HashMap<Arc<str>, Arc<SharedCounts>>,
    workers: Vec<Mailbox>,
    /// Sockets of listeners, by address; those of the flags stay for ever.
    bound: HashSet<SocketAddr>,
    permanent: HashSet<SocketAddr>,
    subscriber: Option<Subscriber>,
    status: FeedStatus,
    changed: tokio::sync::watch::Sender<u64>,
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
}

impl ConfigFeed {
    pub fn new(workers: Vec<Mailbox>, strictness: Strictness) -> ConfigFeed {
        ConfigFeed(Arc::new(Mutex::new(State {
            strictness,
            staged: Staged::default(),
            versions: HashMap::new(),
            table: None,
            dirty: false,
            dirty_since: None,
            resolved: HashMap::new(),
            counts: HashMap::new(),
            workers,
            bound: HashSet::new(),
            permanent: HashSet::new(),
            subscriber: None,
            status: FeedStatus::default(),
            changed: tokio::sync::watch::Sender::new(0),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each update is applied whole or not at all, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands sockets that were opened before any configuration came to the workers.
    pub fn listen(&self, role: Role, reserved: Reserved) {
        let mut state = self.state();
        state.permanent.insert(reserved.address);
        state.hand_out(role, reserved);
    }

    pub fn set_subscriber(&self, subscriber: Subscriber) {
        self.state().subscriber = Some(subscriber);
    }

    /// Told each time a new table is in force; the value counts them.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.state().changed.subscribe()
    }

    pub fn status(&self) -> FeedStatus {
        self.state().status.clone()
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
    fn hand_out(&mut self, role: Role, reserved: Reserved) {
        self.bound.insert(reserved.address);
        for (worker, socket) in self.workers.iter().zip(reserved.sockets) {
            worker.send(Command::Listen { role, address: reserved.address, socket });
        }
    }

    /// Opens the sockets of new listeners, all or none.
    fn bind(&mut self, listeners: &[Arc<Listener>]) -> Result<(), String> {
        let mut opened: Vec<Reserved> = Vec::new();
        for listener in listeners.iter().filter(|listener| listener.bind_to_port) {
            let Some(address) = listener.address else { continue };
            if self.bound.contains(&address) || opened.iter().any(|reserved| reserved.address == address) {
                continue;
            }
            let purpose = format!("listener {}", listener.name);
            let reserved = reserve(address, self.workers.len(), &purpose)
                .map_err(|error| format!("{}: address: {error}", listener.name))?;
            opened.push(reserved);
        }
        for reserved in opened {
            self.hand_out(Role::Configured, reserved);
        }
        Ok(())
    }

    /// Closes sockets that no listener wants any more.
    fn unbind(&mut self) {
        let wanted: HashSet<SocketAddr> =
            self.staged.listeners.values().filter_map(|listener| listener.address).collect();
        let gone: Vec<SocketAddr> = self
            .bound
            .iter()
            .filter(|address| !wanted.contains(address) && !self.permanent.contains(address))
            .copied()
            .collect();
        for address in gone {
            self.bound.remove(&address);
            for worker in &self.workers {
                worker.send(Command::Unlisten(address));
            }
        }
    }

    fn apply(&mut self, type_url: &str, update: &Update) -> Result<(), String> {
        let kind = [weft_xds::CDS, weft_xds::EDS, weft_xds::LDS, weft_xds::RDS]
            .into_iter()
            .find(|known| *known == type_url)
            .ok_or_else(|| format!("{type_url}: a type that this proxy did not ask for"))?;
        let fresh: Vec<&Arc<Resource>> = update
            .added
            .iter()
            .filter(|resource| {
                self.versions.get(&(kind, Arc::from(resource.name.as_str()))) != Some(&resource.version)
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
        self.commit(kind, decoded);
        for resource in &fresh {
            self.versions.insert((kind, Arc::from(resource.name.as_str())), resource.version.clone());
        }
        self.remove(kind, update);
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
        Ok(())
    }

    fn commit(&mut self, kind: &'static str, decoded: Decoded) {
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
        }
        debug_assert!(!kind.is_empty());
    }

    /// Two listeners on one address would take each other's connections by the order of their names.
    fn addresses_differ(&self, fresh: &[Arc<Listener>], update: &Update) -> Result<(), String> {
        let stays = stays(update);
        let replaced: HashSet<&str> = fresh.iter().map(|listener| &*listener.name).collect();
        let kept =
            self.staged.listeners.values().filter(|old| stays(&old.name) && !replaced.contains(&*old.name));
        let mut holders: HashMap<SocketAddr, &str> = HashMap::new();
        for listener in kept.chain(fresh) {
            let Some(address) = listener.address else { continue };
            if let Some(holder) = holders.insert(address, &listener.name) {
                return Err(format!(
                    "{}: address: {address} is also the address of listener {holder}",
                    listener.name
                ));
            }
        }
        Ok(())
    }

    fn remove(&mut self, kind: &'static str, update: &Update) {
        let stays = stays(update);
        let staged = &mut self.staged;
        match kind {
            weft_xds::CDS => staged.clusters.retain(|name, _| stays(name)),
            weft_xds::EDS => staged.endpoints.retain(|name, _| stays(name)),
            weft_xds::LDS => staged.listeners.retain(|name, _| stays(name)),
            _ => staged.routes.retain(|name, _| stays(name)),
        }
        self.versions.retain(|(of, name), _| *of != kind || stays(name));
    }

    /// Asks for what the listeners and clusters name.
    fn subscribe(&self) {
        let Some(subscriber) = &self.subscriber else { return };
        let references = self.staged.references();
        let names =
            |set: std::collections::BTreeSet<Arc<str>>| Names::only(set.iter().map(|name| name.to_string()));
        subscriber.set(weft_xds::EDS, names(references.load_assignments));
        subscriber.set(weft_xds::RDS, names(references.route_configs));
    }

    /// Sends a table if the staged set is whole. `dangling`: also if routes name clusters that are not there.
    fn publish(&mut self, dangling: bool) {
        let missing = self.staged.missing();
        let warm = missing.route_configs.is_empty() && missing.load_assignments.is_empty();
        let consistent = match self.staged.consistent() {
            Ok(()) => true,
            Err(found) => {
                let only_clusters = found
                    .iter()
                    .all(|one| matches!(one, Inconsistency::Route { .. } | Inconsistency::Tcp { .. }));
                if dangling && only_clusters {
                    for one in &found {
                        tracing::warn!(%one, "the configuration is used although it names what is not there");
                    }
                }
                dangling && only_clusters
            }
        };
        if self.staged.listeners.is_empty() || !warm || !consistent {
            self.dirty_since.get_or_insert_with(Instant::now);
            return;
        }
        self.staged.prune();
        let table = self.staged.build(self.table.as_ref());
        self.resolved.retain(|name, _| self.staged.clusters.contains_key(name));
        self.table = Some(table);
        self.dirty = false;
        self.dirty_since = None;
        self.send_table();
        self.unbind();
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

    /// The server has not said a word of these: they count as empty, so that they do not hold up the rest.
    fn give_up_waiting(&mut self, type_url: &str, names: &[String]) {
        if type_url == weft_xds::EDS {
            for name in names {
                tracing::warn!(name, "no endpoints came in time; the cluster starts empty");
                let name: Arc<str> = Arc::from(name.as_str());
                let empty = Endpoints { name: Arc::clone(&name), ..Endpoints::default() };
                self.staged.endpoints.entry(name).or_insert_with(|| Arc::new(empty));
            }
            self.dirty = true;
            self.publish(false);
        }
    }
}

/// Whether a resource is still there after an update.
fn stays(update: &Update) -> impl Fn(&Arc<str>) -> bool {
    let named: HashSet<&str> = update.added.iter().map(|resource| resource.name.as_str()).collect();
    let removed: HashSet<&str> = update.removed.iter().map(String::as_str).collect();
    move |name| !removed.contains(&**name) && (!update.full || named.contains(&**name))
}

/// An update's resources after reading.
enum Decoded {
    Clusters(Vec<Arc<Cluster>>),
    Endpoints(Vec<Arc<Endpoints>>),
    Listeners(Vec<Arc<Listener>>),
    Routes(Vec<Arc<RouteConfig>>),
}

impl Decoded {
    /// All problems of all resources, as the text of a NACK.
    fn of(kind: &str, resources: &[&Arc<Resource>], strictness: Strictness) -> Result<Decoded, String> {
        Ok(match kind {
            weft_xds::CDS => Decoded::Clusters(all(
                resources,
                |any| weft_routing::cluster(any, strictness),
                |found| &found.name,
            )?),
            weft_xds::EDS => Decoded::Endpoints(all(
                resources,
                |any| weft_routing::load_assignment(any, strictness),
                |found| &found.name,
            )?),
            weft_xds::LDS => Decoded::Listeners(all(
                resources,
                |any| weft_routing::listener(any, strictness),
                |found| &found.name,
            )?),
            _ => Decoded::Routes(all(
                resources,
                |any| weft_routing::route_config(any, strictness),
                |found| &found.name,
            )?),
        })
    }
}

fn all<T>(
    resources: &[&Arc<Resource>],
    decode: impl Fn(&weft_xds::Any) -> Result<weft_routing::Decoded<T>, Vec<Problem>>,
    name: impl Fn(&T) -> &str,
) -> Result<Vec<Arc<T>>, String> {
    let mut values = Vec::with_capacity(resources.len());
    let mut problems = Vec::new();
    for resource in resources {
        match decode(&resource.body) {
            // Under another name it would take the place of a resource that nobody meant to change.
            Ok(decoded) if name(&decoded.value) != resource.name => problems.push(Problem {
                resource: resource.name.clone(),
                path: String::new(),
                message: format!("its body has another name, {:?}", name(&decoded.value)),
            }),
            Ok(decoded) => {
                decoded.warnings.iter().for_each(warn);
                values.push(Arc::new(decoded.value));
            }
            Err(found) => {
                problems.extend(found.into_iter().map(|problem| match problem.resource.is_empty() {
                    // Bytes that don't decode have no name of their own.
                    true => Problem { resource: resource.name.clone(), ..problem },
                    false => problem,
                }))
            }
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(nack(&problems)) }
}

fn warn(warning: &Warning) {
    tracing::warn!(%warning, "a field of the configuration is passed over");
}

/// `resource: path: message`, a line each.
pub fn nack(problems: &[Problem]) -> String {
    let mut lines: Vec<String> = problems.iter().take(PROBLEMS_SHOWN_MAX).map(Problem::to_string).collect();
    if problems.len() > PROBLEMS_SHOWN_MAX {
        lines.push(format!("and {} more", problems.len() - PROBLEMS_SHOWN_MAX));
    }
    lines.join("\n")
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
            }
            Event::Disconnected { error, retry_in } => {
                if state.status.connected || state.status.last_error.is_none() {
                    tracing::warn!(
                        error,
                        ?retry_in,
                        "no connection to the control plane; the last configuration serves on"
                    );
                }
                state.status.connected = false;
                state.status.last_error = Some(error);
            }
            Event::InitialFetchTimeout { type_url, names } => state.give_up_waiting(&type_url, &names),
        }
    }
}

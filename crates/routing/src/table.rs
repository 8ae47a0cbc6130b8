//! The routing table: all resources together, references bound, for a worker to ask.
//!
//! [`Staged`] gathers resources as they come, says what is still missing and whether all fits;
//! `build` freezes it. Clusters keep their index from table to table as long as they live, so that
//! a worker's pools and balancers, kept by index, survive.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::types::{
    Certificate, Cluster, ClusterChoice, ClusterKind, ClusterRef, Endpoints, FilterChain, Listener,
    NetworkFilter, RouteConfig, RouteSource,
};

#[cfg(test)]
mod tests;

type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Resources as received, not yet in use.
#[derive(Debug, Clone, Default)]
pub struct Staged {
    pub listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    pub routes: BTreeMap<Arc<str>, Arc<RouteConfig>>,
    pub clusters: BTreeMap<Arc<str>, Arc<Cluster>>,
    /// By EDS name.
    pub endpoints: BTreeMap<Arc<str>, Arc<Endpoints>>,
    /// None: nobody waits for it any more; what names it gets no connection.
    pub secrets: BTreeMap<Arc<str>, Option<Arc<Certificate>>>,
}

/// Names that must be subscribed: those wanted, whether here or not, and those not here yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    pub route_configs: BTreeSet<Arc<str>>,
    pub load_assignments: BTreeSet<Arc<str>>,
    pub secrets: BTreeSet<Arc<str>>,
}

/// Something that names what is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistency {
    #[error(
        "route configuration {config}: virtual host {vhost}, route {route}: cluster {cluster} is not known"
    )]
    Route { config: Arc<str>, vhost: Arc<str>, route: Arc<str>, cluster: Arc<str> },
    #[error("listener {listener}: chain {chain}: cluster {cluster} is not known")]
    Tcp { listener: Arc<str>, chain: Arc<str>, cluster: Arc<str> },
    #[error("listener {listener}: route configuration {config} is not here")]
    RouteConfig { listener: Arc<str>, config: Arc<str> },
    #[error("cluster {cluster}: load assignment {name} is not here")]
    LoadAssignment { cluster: Arc<str>, name: Arc<str> },
}

/// Slot of a cluster, the same from table to table while the cluster lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterIndex(pub u32);

/// A route configuration whose cluster references are bound to slots.
#[derive(Debug, Clone)]
pub struct BoundRoutes {
    pub config: Arc<RouteConfig>,
    /// By `ClusterRef`; None: no such cluster.
    clusters: Vec<Option<ClusterIndex>>,
}

impl BoundRoutes {
    pub fn cluster(&self, reference: ClusterRef) -> Option<ClusterIndex> {
        self.clusters.get(reference.0 as usize).copied().flatten()
    }
}

#[derive(Debug, Clone)]
pub struct ClusterSlot {
    pub cluster: Arc<Cluster>,
    /// None: not yet received (EDS), or not known beforehand (ORIGINAL_DST).
    pub endpoints: Option<Arc<Endpoints>>,
}

/// What every worker holds; replaced as a whole, old ones die with their last request.
#[derive(Debug, Clone, Default)]
pub struct RoutingTable {
    pub listeners: Vec<Arc<Listener>>,
    routes: FastMap<Arc<str>, Arc<BoundRoutes>>,
    slots: Vec<Option<ClusterSlot>>,
    by_name: FastMap<Arc<str>, ClusterIndex>,
}

impl Staged {
    /// All names that this set refers to.
    pub fn references(&self) -> References {
        let mut references = References::default();
        references.route_configs.extend(self.listeners.values().flat_map(|one| one.route_configs()).cloned());
        for cluster in self.clusters.values() {
            if let ClusterKind::Eds { service_name } = &cluster.kind {
                references.load_assignments.insert(service_name.clone());
            }
            references.secrets.extend(cluster.secret().map(|secret| secret.name.clone()));
        }
        references
    }

    /// Of those, what is not here yet.
    pub fn missing(&self) -> References {
        let References { mut route_configs, mut load_assignments, mut secrets } = self.references();
        route_configs.retain(|name| !self.routes.contains_key(name));
        load_assignments.retain(|name| !self.endpoints.contains_key(name));
        secrets.retain(|name| !self.secrets.contains_key(name));
        References { route_configs, load_assignments, secrets }
    }

    /// Gives each cluster the secret that it names, as it is now. Another certificate makes it another cluster: its
    /// connections are opened anew, and those of before end with their requests.
    pub fn bind_secrets(&mut self) {
        for cluster in self.clusters.values_mut() {
            let Some(held) = cluster.secret() else { continue };
            let now = self.secrets.get(&held.name).cloned().flatten();
            if held.certificate != now {
                *cluster = Arc::new(cluster.with_secret(now));
            }
        }
    }

    /// Drops routes, endpoints and secrets that nothing refers to any more.
    pub fn prune(&mut self) {
        let references = self.references();
        self.routes.retain(|name, _| references.route_configs.contains(name));
        self.endpoints.retain(|name, _| references.load_assignments.contains(name));
        self.secrets.retain(|name, _| references.secrets.contains(name));
    }

    /// Everything that names what is not there; empty: the set may be used.
    pub fn consistent(&self) -> Result<(), Vec<Inconsistency>> {
        let mut found = Vec::new();
        for listener in self.listeners.values() {
            let Some(udp) = listener.udp.as_ref().filter(|udp| !self.clusters.contains_key(&udp.cluster))
            else {
                continue;
            };
            found.push(Inconsistency::Tcp {
                listener: listener.name.clone(),
                chain: "udp_proxy".into(),
                cluster: udp.cluster.clone(),
            });
        }
        for (listener, chain) in self.chains() {
            match &chain.filter {
                NetworkFilter::Tcp(tcp) => {
                    for cluster in choice_names(&tcp.clusters) {
                        if !self.clusters.contains_key(cluster) {
                            found.push(Inconsistency::Tcp {
                                listener: listener.name.clone(),
                                chain: chain.name.clone(),
                                cluster: cluster.clone(),
                            });
                        }
                    }
                }
                NetworkFilter::Http(http) => match &http.routes {
                    RouteSource::Inline { config, .. } => self.unknown_clusters(config, &mut found),
                    RouteSource::Rds(name) => match self.routes.get(name) {
                        // Checked with the others below.
                        Some(_) => {}
                        None => found.push(Inconsistency::RouteConfig {
                            listener: listener.name.clone(),
                            config: name.clone(),
                        }),
                    },
                },
            }
        }
        for config in self.routes.values() {
            self.unknown_clusters(config, &mut found);
        }
        for cluster in self.clusters.values() {
            if let ClusterKind::Eds { service_name } = &cluster.kind
                && !self.endpoints.contains_key(service_name)
            {
                found.push(Inconsistency::LoadAssignment {
                    cluster: cluster.name.clone(),
                    name: service_name.clone(),
                });
            }
        }
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    fn unknown_clusters(&self, config: &RouteConfig, found: &mut Vec<Inconsistency>) {
        for vhost in &config.vhosts {
            for route in &vhost.routes {
                for cluster in route.clusters() {
                    if !self.clusters.contains_key(cluster) {
                        found.push(Inconsistency::Route {
                            config: config.name.clone(),
                            vhost: vhost.name.clone(),
                            route: route.name.clone(),
                            cluster: cluster.clone(),
                        });
                    }
                }
            }
        }
    }

    fn chains(&self) -> impl Iterator<Item = (&Arc<Listener>, &Arc<FilterChain>)> {
        self.listeners.values().flat_map(|listener| listener.all_chains().map(move |chain| (listener, chain)))
    }

    /// Freezes the set. Clusters that `previous` had keep their slots.
    pub fn build(&self, previous: Option<&RoutingTable>) -> RoutingTable {
        let mut slots: Vec<Option<ClusterSlot>> = Vec::new();
        let mut by_name: FastMap<Arc<str>, ClusterIndex> = FastMap::default();
        let mut fresh = Vec::new();
        for (name, cluster) in &self.clusters {
            let slot = ClusterSlot { cluster: cluster.clone(), endpoints: self.endpoints_of(cluster) };
            match previous.and_then(|table| table.by_name.get(name)) {
                Some(index) => {
                    let at = index.0 as usize;
                    if slots.len() <= at {
                        slots.resize_with(at + 1, || None);
                    }
                    if let Some(place) = slots.get_mut(at) {
                        *place = Some(slot);
                    }
                    by_name.insert(name.clone(), *index);
                }
                None => fresh.push((name, slot)),
            }
        }
        // Slots of clusters that went with this very table stay empty once, so that no worker
        // mistakes the new one for the old.
        let used: BTreeSet<u32> =
            previous.iter().flat_map(|table| table.by_name.values()).map(|index| index.0).collect();
        let mut next = 0u32;
        for (name, slot) in fresh {
            while used.contains(&next) || slots.get(next as usize).is_some_and(Option::is_some) {
                next += 1;
            }
            let at = next as usize;
            if slots.len() <= at {
                slots.resize_with(at + 1, || None);
            }
            if let Some(place) = slots.get_mut(at) {
                *place = Some(slot);
            }
            by_name.insert(name.clone(), ClusterIndex(next));
        }
        let bind = |config: &Arc<RouteConfig>| {
            Arc::new(BoundRoutes {
                config: config.clone(),
                clusters: config.cluster_names.iter().map(|name| by_name.get(name).copied()).collect(),
            })
        };
        let mut routes: FastMap<Arc<str>, Arc<BoundRoutes>> =
            self.routes.iter().map(|(name, config)| (name.clone(), bind(config))).collect();
        for (_, chain) in self.chains() {
            if let NetworkFilter::Http(http) = &chain.filter
                && let RouteSource::Inline { key, config } = &http.routes
            {
                routes.insert(key.clone(), bind(config));
            }
        }
        RoutingTable { listeners: self.listeners.values().cloned().collect(), routes, slots, by_name }
    }

    fn endpoints_of(&self, cluster: &Cluster) -> Option<Arc<Endpoints>> {
        match &cluster.kind {
            ClusterKind::Eds { service_name } => self.endpoints.get(service_name).cloned(),
            ClusterKind::Static(endpoints)
            | ClusterKind::StrictDns(endpoints)
            | ClusterKind::LogicalDns(endpoints) => Some(endpoints.clone()),
            ClusterKind::OriginalDst => None,
        }
    }
}

impl RoutingTable {
    /// By `HttpConfig::routes.key()`.
    pub fn routes(&self, key: &str) -> Option<&Arc<BoundRoutes>> {
        self.routes.get(key)
    }

    pub fn cluster(&self, index: ClusterIndex) -> Option<&ClusterSlot> {
        self.slots.get(index.0 as usize)?.as_ref()
    }

    /// For TCP filters (once a connection) and clusters named by a header.
    pub fn cluster_index(&self, name: &str) -> Option<ClusterIndex> {
        self.by_name.get(name).copied()
    }

    pub fn clusters(&self) -> impl Iterator<Item = (ClusterIndex, &ClusterSlot)> {
        (0u32..).zip(&self.slots).filter_map(|(index, slot)| Some((ClusterIndex(index), slot.as_ref()?)))
    }

    /// Slots that an index may have: sizes a worker's arrays.
    pub fn slots_len(&self) -> usize {
        self.slots.len()
    }

    pub fn listener(&self, name: &str) -> Option<&Arc<Listener>> {
        self.listeners.iter().find(|listener| *listener.name == *name)
    }

    /// The listener that takes over a connection caught on its way to `destination`: the address,
    /// else the port on any address. None: the one that accepted it keeps it.
    pub fn listener_for(&self, destination: SocketAddr) -> Option<&Arc<Listener>> {
        let by = |fits: &dyn Fn(SocketAddr) -> bool| {
            self.listeners.iter().find(|listener| listener.address.is_some_and(fits))
        };
        by(&|address| address == destination)
            .or_else(|| by(&|address| address.ip().is_unspecified() && address.port() == destination.port()))
    }

    /// The short way: the same table with other endpoints for one EDS name.
    #[must_use]
    pub fn with_endpoints(&self, name: &str, endpoints: Option<Arc<Endpoints>>) -> RoutingTable {
        let mut table = self.clone();
        for slot in table.slots.iter_mut().flatten() {
            if let ClusterKind::Eds { service_name } = &slot.cluster.kind
                && **service_name == *name
            {
                slot.endpoints.clone_from(&endpoints);
            }
        }
        table
    }
}

impl Listener {
    fn all_chains(&self) -> impl Iterator<Item = &Arc<FilterChain>> {
        self.chains.iter().chain(&self.default_chain)
    }

    /// Those that it names and does not hold itself.
    pub fn route_configs(&self) -> impl Iterator<Item = &Arc<str>> {
        self.all_chains().filter_map(|chain| match &chain.filter {
            NetworkFilter::Http(http) => match &http.routes {
                RouteSource::Rds(name) => Some(name),
                RouteSource::Inline { .. } => None,
            },
            NetworkFilter::Tcp(_) => None,
        })
    }
}

fn choice_names(choice: &ClusterChoice) -> Vec<&Arc<str>> {
    match choice {
        ClusterChoice::One { name, .. } => vec![name],
        ClusterChoice::Weighted { clusters, .. } => clusters.iter().map(|cluster| &cluster.name).collect(),
        ClusterChoice::Header(_) => Vec::new(),
    }
}

impl crate::types::Route {
    /// Every cluster that the route may send to, mirrors too.
    pub fn clusters(&self) -> Vec<&Arc<str>> {
        match &self.action {
            crate::types::RouteAction::Forward(forward) => {
                let mut names = choice_names(&forward.clusters);
                names.extend(forward.mirrors.iter().map(|mirror| &mirror.name));
                names
            }
            _ => Vec::new(),
        }
    }
}

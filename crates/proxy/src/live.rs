//! The routing table in force on one worker: the shared table, and this worker's state for each of its clusters.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use weft_routing::{
    Cluster, Endpoints,
    table::{ClusterIndex, RoutingTable},
};
use weft_telemetry::Registry;

use crate::{
    meters::{ClusterMeters, ListenerMeters},
    upstream::{
        cluster::ClusterState,
        limits::{SharedCounts, shares_counts},
    },
};

/// What the config feed sends to every worker.
#[derive(Debug, Default)]
pub struct Published {
    pub table: RoutingTable,
    /// Endpoints of clusters by DNS, once their names are resolved.
    pub resolved: HashMap<Arc<str>, Arc<Endpoints>>,
    /// Of clusters whose limits hold for all workers together.
    pub counts: HashMap<Arc<str>, Arc<SharedCounts>>,
    pub generation: u64,
}

static GENERATION: AtomicU64 = AtomicU64::new(1);

impl Published {
    pub fn new(
        table: RoutingTable,
        resolved: HashMap<Arc<str>, Arc<Endpoints>>,
        counts: &mut HashMap<Arc<str>, Arc<SharedCounts>>,
    ) -> Published {
        counts.retain(|name, _| table.cluster_index(name).is_some());
        for (_, slot) in table.clusters().filter(|(_, slot)| shares_counts(&slot.cluster)) {
            counts.entry(slot.cluster.name.clone()).or_default();
        }
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        Published { table, resolved, counts: counts.clone(), generation }
    }
}

/// A worker's view of one published table.
#[derive(Default)]
pub struct Live {
    published: Arc<Published>,
    clusters: Vec<Option<Slot>>,
    /// By listener name; a few, looked up once a connection.
    meters: HashMap<Arc<str>, Rc<ListenerMeters>>,
}

#[derive(Clone)]
struct Slot {
    state: Rc<ClusterState>,
    labels: Rc<ClusterLabels>,
}

/// What a record says of a cluster, and how requests to it are measured here.
pub struct ClusterLabels {
    pub name: Arc<str>,
    /// `NS/NAME` of an external service, whose requests are counted here.
    pub external: Option<String>,
    /// `NS/NAME` of the Service that the caller wanted, whose members' proxies count what reaches them.
    pub member: Option<String>,
    pub tls: bool,
}

impl Live {
    /// The next view; states of clusters that did not change go over to it.
    pub fn after(previous: &Live, published: &Arc<Published>, registry: &Registry) -> Live {
        let mut clusters = vec![None; published.table.slots_len()];
        for (index, slot) in published.table.clusters() {
            let endpoints = published.resolved.get(&slot.cluster.name).or(slot.endpoints.as_ref()).cloned();
            let kept = previous
                .clusters
                .get(index.0 as usize)
                .and_then(Option::as_ref)
                .filter(|kept| Arc::ptr_eq(&kept.state.cluster, &slot.cluster));
            let place = match kept {
                Some(kept) => {
                    kept.state.set_endpoints(endpoints.unwrap_or_default());
                    kept.clone()
                }
                None => Slot {
                    state: Rc::new(ClusterState::new(
                        Arc::clone(&slot.cluster),
                        endpoints,
                        ClusterMeters::new(registry, &slot.cluster.name),
                        shares_counts(&slot.cluster)
                            .then(|| published.counts.get(&slot.cluster.name))
                            .flatten(),
                    )),
                    labels: Rc::new(ClusterLabels::of(&slot.cluster)),
                },
            };
            if let Some(empty) = clusters.get_mut(index.0 as usize) {
                *empty = Some(place);
            }
        }
        for (old, new) in
            previous.clusters.iter().zip(clusters.iter().map(Some).chain(std::iter::repeat(None)))
        {
            let kept = |old: &Slot| {
                new.and_then(Option::as_ref).is_some_and(|new| Rc::ptr_eq(&old.state, &new.state))
            };
            if let Some(old) = old.as_ref().filter(|old| !kept(old)) {
                old.state.retire();
            }
        }
        let meters = published
            .table
            .listeners
            .iter()
            .map(|listener| {
                let known = previous.meters.get(&listener.name).cloned();
                (
                    listener.name.clone(),
                    known.unwrap_or_else(|| Rc::new(ListenerMeters::new(registry, &listener.name))),
                )
            })
            .collect();
        Live { published: Arc::clone(published), clusters, meters }
    }

    pub fn table(&self) -> &RoutingTable {
        &self.published.table
    }

    /// 0 before the first table.
    pub fn generation(&self) -> u64 {
        self.published.generation
    }

    pub fn cluster(&self, index: ClusterIndex) -> Option<(&Rc<ClusterState>, &Rc<ClusterLabels>)> {
        let slot = self.clusters.get(index.0 as usize)?.as_ref()?;
        Some((&slot.state, &slot.labels))
    }

    pub fn cluster_named(&self, name: &str) -> Option<&Rc<ClusterState>> {
        let index = self.table().cluster_index(name)?;
        self.cluster(index).map(|(state, _)| state)
    }

    pub fn clusters(&self) -> impl Iterator<Item = &Rc<ClusterState>> {
        self.clusters.iter().flatten().map(|slot| &slot.state)
    }

    pub fn meters(&self, listener: &str) -> Option<Rc<ListenerMeters>> {
        self.meters.get(listener).cloned()
    }
}

impl ClusterLabels {
    fn of(cluster: &Cluster) -> ClusterLabels {
        ClusterLabels {
            name: Arc::clone(&cluster.name),
            external: external_service(&cluster.name),
            member: member_service(&cluster.name),
            tls: cluster.tls.is_some(),
        }
    }
}

/// `external|PORT|NAME.NS` is the service `NS/NAME`.
fn external_service(cluster: &str) -> Option<String> {
    named_service(cluster.strip_prefix("external|")?)
}

/// `outbound|PORT|NAME.NS` is the member `NS/NAME`, or the Service that chooses one.
fn member_service(cluster: &str) -> Option<String> {
    named_service(cluster.strip_prefix("outbound|")?)
}

/// `PORT|NAME.NS`.
fn named_service(text: &str) -> Option<String> {
    let (_, host) = text.split_once('|')?;
    let (name, namespace) = host.rsplit_once('.')?;
    Some(format!("{namespace}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::{external_service, member_service};

    #[test]
    fn external_clusters_name_their_service() {
        assert_eq!(external_service("external|443|be3.default").as_deref(), Some("default/be3"));
        assert_eq!(external_service("outbound|80|be1.default"), None);
        assert_eq!(external_service("external|443|nameonly"), None);
        assert_eq!(member_service("outbound|80|be1-v1.default").as_deref(), Some("default/be1-v1"));
    }
}

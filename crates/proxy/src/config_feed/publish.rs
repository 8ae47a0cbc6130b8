//! From the staged set to the table that every worker gets: at once when the set is whole, in the end also if it dangles.
//! Listeners that wait for their routes keep nothing else back, see [`super::waiting`].

use std::{sync::Arc, time::Instant};

use weft_routing::{
    Cluster, ClusterKind, Endpoints,
    table::{Inconsistency, References},
};

use super::State;
use crate::{live::Published, worker::Command};

impl State {
    /// Sends a table if what the staged set names is there. `dangling`: also if clusters are missing that routes name.
    pub(super) fn publish(&mut self, dangling: bool) {
        if dangling {
            self.do_without(self.staged.missing().secrets);
        }
        self.waiting = false;
        self.note_missing_routes();
        self.staged.bind_secrets();
        let part = self.ready_part();
        let ready = part.as_ref().unwrap_or(&self.staged);
        let warm = ready.missing() == References::default();
        let found = ready.consistent().err().unwrap_or_default();
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
        // No listeners yet, or none any more.
        let begun = self.table.is_some() || !ready.listeners.is_empty();
        if !begun || !warm || !usable {
            self.dirty_since.get_or_insert_with(Instant::now);
            return;
        }
        let table = match &part {
            Some(part) => part.build(self.table.as_ref()),
            None => {
                self.prune();
                self.staged.build(self.table.as_ref())
            }
        };
        self.resolved.retain(|name, _| {
            let slot = table.cluster_index(name).and_then(|index| table.cluster(index));
            slot.is_some_and(|slot| is_by_name(&slot.cluster))
        });
        self.table = Some(table);
        self.waiting = part.is_some();
        self.dirty = self.waiting;
        self.dirty_since = self.dirty_since.or_else(|| Some(Instant::now())).filter(|_| self.dirty);
        self.dangling = !found.is_empty() || self.lacks_routes();
        self.send_table();
        self.unbind();
        self.hand_out_opened();
    }

    pub(super) fn send_table(&mut self) {
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
    pub(super) fn give_up_waiting(&mut self, type_url: &str, names: &[String]) {
        if type_url == weft_xds::SDS {
            self.do_without(names.iter().map(|name| Arc::from(name.as_str())));
            self.dirty = true;
            self.publish(false);
        }
        if type_url == weft_xds::RDS {
            self.do_without_routes(|missing| names.iter().any(|name| **name == **missing));
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

/// Its endpoints are what DNS says.
fn is_by_name(cluster: &Cluster) -> bool {
    matches!(cluster.kind, ClusterKind::StrictDns(_) | ClusterKind::LogicalDns(_))
}

pub(super) fn no_endpoints(name: Arc<str>) -> Endpoints {
    Endpoints { name, ..Endpoints::default() }
}

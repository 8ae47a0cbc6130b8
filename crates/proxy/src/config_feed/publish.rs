//! From the staged set to the table that every worker gets: at once when the set is whole, in the end also if it dangles.

use std::{sync::Arc, time::Instant};

use weft_routing::{
    Endpoints,
    table::{Inconsistency, References},
};

use super::State;
use crate::{live::Published, worker::Command};

impl State {
    /// Sends a table if the staged set is whole. `dangling`: also if routes name clusters that are not there.
    pub(super) fn publish(&mut self, dangling: bool) {
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

pub(super) fn no_endpoints(name: Arc<str>) -> Endpoints {
    Endpoints { name, ..Endpoints::default() }
}

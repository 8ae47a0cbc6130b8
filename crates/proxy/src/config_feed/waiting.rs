//! Listeners whose route configurations have not come: each waits alone, and what it is to replace serves on. After
//! [`super::DANGLING_GRACE`] it is served without those routes, so that its requests are 404s until they come.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use weft_routing::{
    Listener, RouteConfig,
    table::{RoutingTable, Staged},
};

use super::{DANGLING_GRACE, State};

impl State {
    /// The staged set as far as it need not wait; `None`: all of it. The first table waits for everything.
    pub(super) fn ready_part(&self) -> Option<Staged> {
        let missing = self.staged.missing().route_configs;
        let table = self.table.as_ref().filter(|_| !missing.is_empty())?;
        Some(without_waiting(&self.staged, &missing, table))
    }

    pub(super) fn note_missing_routes(&mut self) {
        let missing = self.staged.missing().route_configs;
        self.routes_missing.retain(|name, _| missing.contains(name));
        for name in missing {
            self.routes_missing.entry(name).or_insert_with(Instant::now);
        }
    }

    /// True: some have been missing for too long.
    pub(super) fn give_up_routes(&mut self) -> bool {
        let late = |since: &Instant| since.elapsed() > DANGLING_GRACE;
        let late: Vec<Arc<str>> = self
            .routes_missing
            .iter()
            .filter(|(_, since)| late(since))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        self.do_without_routes(|name| late.contains(name));
        !late.is_empty()
    }

    /// What the server may yet say of these is in nobody's way any more.
    pub(super) fn do_without_routes(&mut self, which: impl Fn(&Arc<str>) -> bool) {
        for name in self.staged.missing().route_configs.into_iter().filter(which) {
            tracing::warn!(
                route_configuration = &*name,
                "it is not here; listeners that name it answer 404 until it comes"
            );
            let empty = Arc::new(RouteConfig::without_routes(Arc::clone(&name)));
            self.staged.routes.insert(name, empty);
        }
    }

    /// Whether a listener names routes that never came.
    pub(super) fn lacks_routes(&self) -> bool {
        self.staged.routes.keys().any(|name| !self.received.contains_key(&(weft_xds::RDS, Arc::clone(name))))
    }

    /// Those that want a socket: of the staged set, and of the table, in which older ones may serve on.
    pub(super) fn wanted_listeners(&self) -> impl Iterator<Item = &Arc<Listener>> {
        let serving = self.table.iter().flat_map(|table| &table.listeners);
        self.staged.listeners.values().chain(serving)
    }
}

fn without_waiting(staged: &Staged, missing: &BTreeSet<Arc<str>>, table: &RoutingTable) -> Staged {
    let mut ready = staged.clone();
    ready.listeners.retain(|_, listener| !listener.route_configs().any(|name| missing.contains(name)));
    let mut older: Vec<&Arc<Listener>> = Vec::new();
    for name in staged.listeners.keys().filter(|name| !ready.listeners.contains_key(*name)) {
        // Another one may have its address now.
        let still = |old: &&Arc<Listener>| !ready.listeners.values().any(|new| meet(old, new));
        older.extend(table.listener(name).filter(still));
    }
    for listener in older {
        for name in listener.route_configs() {
            if let Some(bound) = table.routes(name) {
                ready.routes.entry(Arc::clone(name)).or_insert_with(|| Arc::clone(&bound.config));
            }
        }
        ready.listeners.insert(Arc::clone(&listener.name), Arc::clone(listener));
    }
    ready.prune();
    ready
}

/// Whether they have an address in common.
fn meet(one: &Listener, other: &Listener) -> bool {
    let datagrams = |listener: &Listener| listener.udp.as_ref().map(|udp| udp.address);
    (one.address.is_some() && one.address == other.address)
        || (one.udp.is_some() && datagrams(one) == datagrams(other))
}

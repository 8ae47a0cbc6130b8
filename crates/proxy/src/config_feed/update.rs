//! One update of xDS: taken into the staged set whole or not at all, and what it names is asked for.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use weft_xds::{
    Resource,
    client::{Names, Update},
};

use super::{KINDS, State, decoded::Decoded, publish::no_endpoints};

impl State {
    pub(super) fn apply(&mut self, type_url: &str, update: &Update) -> Result<(), String> {
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

    pub(super) fn commit(&mut self, decoded: Decoded) {
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
            // A cluster that still names them keeps what it had, and one that had nothing waits no longer.
            weft_xds::EDS => {
                for name in update.removed.iter().map(|name| Arc::from(name.as_str())) {
                    let empty = || Arc::new(no_endpoints(Arc::clone(&name)));
                    staged.endpoints.entry(Arc::clone(&name)).or_insert_with(empty);
                }
            }
            weft_xds::LDS => staged.listeners.retain(|name, _| stays(name)),
            // Gone is gone: what names it gets no more connections, and holds up nothing.
            weft_xds::SDS => {
                for (_, secret) in staged.secrets.iter_mut().filter(|(name, _)| !stays(name)) {
                    *secret = None;
                }
            }
            _ => staged.routes.retain(|name, _| stays(name)),
        }
        self.received.retain(|(of, name), _| *of != kind || kind == weft_xds::EDS || stays(name));
        self.unconfirmed.retain(|(of, name)| *of != kind || stays(name));
    }

    /// Drops what nothing names any more, also as it came: should it be named again, it must be read again.
    pub(super) fn prune(&mut self) {
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
    pub(super) fn subscribe(&self) {
        let Some(subscriber) = &self.subscriber else { return };
        let references = self.staged.references();
        let names = |set: BTreeSet<Arc<str>>| Names::only(set.iter().map(|name| name.to_string()));
        subscriber.set(weft_xds::EDS, names(references.load_assignments));
        subscriber.set(weft_xds::RDS, names(references.route_configs));
        subscriber.set(weft_xds::SDS, names(references.secrets));
    }
}

/// Whether a resource is still there after an update.
pub(super) fn stays(update: &Update) -> impl Fn(&Arc<str>) -> bool {
    let named: HashSet<&str> = update.added.iter().map(|resource| resource.name.as_str()).collect();
    let removed: HashSet<&str> = update.removed.iter().map(String::as_str).collect();
    move |name| !removed.contains(&**name) && (!update.full || named.contains(&**name))
}

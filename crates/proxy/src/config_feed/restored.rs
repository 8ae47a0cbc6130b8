//! The set from the disk, and since when the control plane stands behind what is in force.

use std::{sync::Arc, time::SystemTime};

use weft_routing::table::Staged;
use weft_xds::Resource;

use super::{KINDS, State, decoded::Decoded, publish::no_endpoints};
use crate::lkg;

impl State {
    /// The road of `apply` for a whole set at once.
    pub(super) fn restore(&mut self, good: &lkg::Good) -> Result<(), String> {
        let mut decoded = Vec::new();
        for kind in KINDS {
            let of_kind: Vec<&Arc<Resource>> =
                good.resources.iter().filter(|resource| resource.type_url() == kind).collect();
            decoded.push(Decoded::of(kind, &of_kind, self.strictness)?);
        }
        for decoded in &decoded {
            if let Decoded::Listeners(listeners) = decoded {
                self.bind(listeners)?;
            }
        }
        for decoded in decoded {
            self.commit(decoded);
        }
        for resource in &good.resources {
            let kind = KINDS.into_iter().find(|kind| *kind == resource.type_url());
            let key = (kind.ok_or("a resource of an unknown type")?, Arc::from(resource.name.as_str()));
            self.unconfirmed.insert(key.clone());
            self.received.insert(key, Arc::clone(resource));
        }
        let missing = self.staged.missing();
        if !missing.route_configs.is_empty() {
            return Err("it is not whole".to_owned());
        }
        // A cluster whose endpoints never came was in force as an empty one.
        for name in missing.load_assignments {
            self.staged.endpoints.insert(Arc::clone(&name), Arc::new(no_endpoints(name)));
        }
        self.status.versions.clone_from(&good.versions);
        self.confirmed = Some(good.confirmed);
        if self.staged.listeners.is_empty() {
            // What was in force when it was written had none either.
            self.table.get_or_insert_default();
        }
        self.dirty = true;
        self.publish(true);
        Ok(())
    }

    /// As before `restore`.
    pub(super) fn forget(&mut self) {
        self.staged = Staged::default();
        self.received.clear();
        self.unconfirmed.clear();
        self.confirmed = None;
        self.status.versions.clear();
        (self.dirty, self.dirty_since) = (false, None);
        self.unbind();
    }

    pub(super) fn stale(&self) -> bool {
        !self.unconfirmed.is_empty()
    }

    /// Now, if the control plane stands behind what is in force.
    pub(super) fn confirmed_now(&self) -> Option<SystemTime> {
        (self.whole() && self.status.connected).then(SystemTime::now)
    }

    /// All that was received is in force, fits together, and comes from the control plane.
    pub(super) fn whole(&self) -> bool {
        self.table.is_some() && !self.dirty && !self.dangling && !self.stale()
    }

    pub(super) fn confirmed_at(&self) -> Option<SystemTime> {
        self.confirmed_now().or(self.confirmed)
    }
}

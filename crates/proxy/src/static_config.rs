//! Resources that are there from the start, as a bootstrap (or a test) gives them.

use std::{fmt, sync::Arc};

use weft_identity::{Bundle, Svid};
use weft_routing::{Problem, Strictness, table::Staged};
use weft_xds::Any;

use crate::config_feed::nack;

/// Static resources, still as xDS.
#[derive(Default)]
pub struct StaticResources {
    pub listeners: Vec<Any>,
    pub routes: Vec<Any>,
    pub clusters: Vec<Any>,
    pub endpoints: Vec<Any>,
    /// An identity without a control plane; it is not renewed.
    pub identity: Option<(Svid, Bundle)>,
}

impl fmt::Debug for StaticResources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticResources")
            .field("listeners", &self.listeners.len())
            .field("clusters", &self.clusters.len())
            .finish_non_exhaustive()
    }
}

impl StaticResources {
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty() && self.clusters.is_empty()
    }

    /// Read as if they had come by xDS, with all problems.
    pub fn staged(&self, strictness: Strictness) -> Result<Staged, String> {
        let mut staged = Staged::default();
        let mut problems: Vec<Problem> = Vec::new();
        for any in &self.clusters {
            match weft_routing::cluster(any, strictness) {
                Ok(one) => drop(staged.clusters.insert(one.value.name.clone(), Arc::new(one.value))),
                Err(found) => problems.extend(found),
            }
        }
        for any in &self.endpoints {
            match weft_routing::load_assignment(any, strictness) {
                Ok(one) => drop(staged.endpoints.insert(one.value.name.clone(), Arc::new(one.value))),
                Err(found) => problems.extend(found),
            }
        }
        for any in &self.routes {
            match weft_routing::route_config(any, strictness) {
                Ok(one) => drop(staged.routes.insert(one.value.name.clone(), Arc::new(one.value))),
                Err(found) => problems.extend(found),
            }
        }
        for any in &self.listeners {
            match weft_routing::listener(any, strictness) {
                Ok(one) => drop(staged.listeners.insert(one.value.name.clone(), Arc::new(one.value))),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(staged) } else { Err(nack(&problems)) }
    }
}

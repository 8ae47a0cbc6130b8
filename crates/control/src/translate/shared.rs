//! What many views have in common, made once a snapshot: the whole way out.
//!
//! Nothing of it depends on which instance asks, only on whom it may hear of ([`Reach`]), on the namespace that
//! its names and routes are read in, and on what it can do. Instances of a service always share it, and so do
//! services of one namespace that are invited to the same places. What is left for each view is its own inbound
//! side and the address of its outbound listener.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use envoy_types::pb::envoy::config::listener::v3::Listener;
use weft_model::Finding;
use weft_xds::{Resource, Resources};

use super::reach::Reach;
use super::view::{ProxyKind, ProxyView};
use super::{Made, clusters, external, listeners, routes};
use crate::snapshot::Snapshot;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Scope {
    namespace: String,
    kind: ProxyKind,
    secrets: bool,
    tunnels: bool,
    reach: Reach,
}

/// The way out of one scope.
#[derive(Debug)]
pub struct Part {
    /// Clusters, endpoints, routes, virtual addresses, secrets.
    pub resources: Vec<Arc<Resource>>,
    /// The outbound listener, still without an address.
    pub outbound: Listener,
    /// What could not be carried out.
    pub findings: Vec<Finding>,
}

/// The parts of one snapshot that somebody has asked for.
#[derive(Debug)]
pub struct Shared {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    parts: Mutex<HashMap<Scope, Arc<Part>>>,
}

impl Shared {
    /// None yet.
    pub fn new(snapshot: Arc<Snapshot>) -> Shared {
        Shared { snapshot, parts: Mutex::default() }
    }

    /// How many scopes there were.
    pub fn len(&self) -> usize {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nobody has asked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part for a view.
    pub fn part(&self, view: &ProxyView, reach: &Reach) -> Arc<Part> {
        let scope = Scope {
            namespace: view.namespace.clone(),
            kind: view.kind,
            secrets: view.secrets,
            tunnels: view.tunnels,
            reach: reach.clone(),
        };
        // Held while it is made: of many that come at once one makes it, and the others wait for less time
        // than they would take themselves.
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = parts.get(&scope) {
            return Arc::clone(found);
        }
        let made = Arc::new(part(&self.snapshot, view, reach));
        parts.insert(scope, Arc::clone(&made));
        made
    }
}

/// Makes a part. Of the view only what is in a scope may be read here.
pub fn part(snapshot: &Snapshot, view: &ProxyView, reach: &Reach) -> Part {
    let mut made = Made { snapshot, view, builder: Resources::builder(), findings: Vec::new() };
    clusters::build(&mut made, reach);
    external::build(&mut made, reach);
    let outbound = listeners::build(&mut made, reach);
    routes::build(&mut made, reach);
    let resources = made.builder.build("").iter().cloned().collect();
    Part { resources, outbound, findings: made.findings }
}

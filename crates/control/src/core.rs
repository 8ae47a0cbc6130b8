//! What every part of the control plane shares: one `Arc<Core>`.
//!
//! Nothing here decides anything. The store is the truth, the snapshot is the newest picture of it
//! (made by the one task that owns the World), and the other members each own one kind of state.
//! Parts read the snapshot and write the store; no part writes another part's state.

use std::sync::Arc;

use tokio::sync::watch;
use weft_store::Store;

use crate::api::audit::Audit;
use crate::authority::Authority;
use crate::config::Config;
use crate::connections::Connections;
use crate::counters::Counters;
use crate::leases::Leases;
use crate::measure::Measure;
use crate::proxies::Proxies;
use crate::serve::views::Views;
use crate::snapshot::Snapshot;

/// The shared parts of a running control plane.
pub struct Core {
    /// The settings that this control plane was started with.
    pub config: Config,
    /// Where all objects live.
    pub store: Arc<dyn Store>,
    /// The newest picture of the store; never empties because a source failed.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// What each proxy has acknowledged, for `weft status`.
    pub proxies: Arc<Proxies>,
    /// Who is connected with whom, for who asks.
    pub connections: Arc<Connections>,
    /// The resources of every live view.
    pub views: Arc<Views>,
    /// The recorded traffic: durable counts and the questions about them.
    pub history: Arc<Measure>,
    /// The embedded CA: join tokens, SVIDs, the trust bundle.
    pub authority: Arc<Authority>,
    /// Who changed what, who got a certificate, and who was refused.
    pub(crate) audit: Arc<Audit>,
    /// Which joined workloads are alive.
    pub leases: Arc<Leases>,
    /// Refusals and other happenings, by reason.
    pub counters: Arc<Counters>,
    /// The trust domain of all identities issued here.
    pub trust_domain: String,
    /// The zone of mesh names, `mesh.internal`.
    pub zone: String,
}

impl Core {
    /// The newest snapshot, as of now.
    pub fn now(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }
}

//! The resources of every view that somebody is subscribed to, kept new.
//!
//! One task translates each live view once a snapshot, with what views have in common made once for all
//! of them. A view whose resources come out the same is not told anything, so a change reaches only whom it
//! concerns.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use tokio::sync::watch;
use weft_model::Finding;
use weft_xds::Resources;
use weft_xds::resources::Builder;

use crate::proxies::Proxies;
use crate::snapshot::Snapshot;
use crate::translate::shared::Shared;
use crate::translate::view::ProxyView;
use crate::translate::{self, Translation};

struct Live {
    resources: watch::Sender<Arc<Resources>>,
    findings: Vec<Finding>,
}

/// All views in use.
pub struct Views {
    snapshot: watch::Receiver<Arc<Snapshot>>,
    proxies: Arc<Proxies>,
    live: Mutex<BTreeMap<ProxyView, Live>>,
    /// Of the newest snapshot that anybody was served.
    shared: Mutex<Arc<Shared>>,
}

impl Views {
    /// None yet.
    pub fn new(snapshot: watch::Receiver<Arc<Snapshot>>, proxies: Arc<Proxies>) -> Views {
        let shared = Mutex::new(Arc::new(Shared::new(snapshot.borrow().clone())));
        Views { snapshot, proxies, live: Mutex::default(), shared }
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<ProxyView, Live>> {
        self.live.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn shared(&self, snapshot: &Arc<Snapshot>) -> Arc<Shared> {
        let mut shared = self.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !Arc::ptr_eq(&shared.snapshot, snapshot) {
            *shared = Arc::new(Shared::new(snapshot.clone()));
        }
        Arc::clone(&shared)
    }

    /// The resources of a view, now and whenever they change.
    pub fn subscribe(&self, view: &ProxyView) -> watch::Receiver<Arc<Resources>> {
        let mut live = self.live();
        if let Some(found) = live.get(view) {
            return found.resources.subscribe();
        }
        let snapshot = self.snapshot.borrow().clone();
        let shared = self.shared(&snapshot);
        let Translation { resources, findings } =
            translate::for_view_shared(&shared, view, Resources::builder());
        self.proxies.offered(&name(view), &resources.version, SystemTime::now());
        let (sender, receiver) = watch::channel(Arc::new(resources));
        live.insert(view.clone(), Live { resources: sender, findings });
        receiver
    }

    /// What translation found, over all live views.
    pub fn findings(&self) -> Vec<Finding> {
        let live = self.live();
        let mut all: Vec<Finding> = live.values().flat_map(|view| view.findings.iter().cloned()).collect();
        all.sort_by(|a, b| (&a.object, a.code, &a.message).cmp(&(&b.object, b.code, &b.message)));
        all.dedup_by(|a, b| (&a.object, a.code, &a.message) == (&b.object, b.code, &b.message));
        all
    }

    /// Follows the snapshots; ends when there will be no more.
    pub async fn run(self: Arc<Self>) {
        let mut snapshots = self.snapshot.clone();
        while snapshots.changed().await.is_ok() {
            let snapshot = snapshots.borrow_and_update().clone();
            let shared = self.shared(&snapshot);
            for (view, previous) in self.forget_unused() {
                // Between two views others get their turn: a big mesh must not stall the streams.
                tokio::task::yield_now().await;
                let made = translate::for_view_shared(&shared, &view, Builder::after(previous.clone()));
                self.publish(&view, &previous, made);
            }
        }
    }

    fn forget_unused(&self) -> Vec<(ProxyView, Arc<Resources>)> {
        let mut live = self.live();
        live.retain(|_, view| view.resources.receiver_count() > 0);
        live.iter().map(|(view, live)| (view.clone(), live.resources.borrow().clone())).collect()
    }

    fn publish(&self, view: &ProxyView, previous: &Resources, made: Translation) {
        let mut live = self.live();
        let Some(found) = live.get_mut(view) else { return };
        found.findings = made.findings;
        if same(previous, &made.resources) {
            return;
        }
        self.proxies.offered(&name(view), &made.resources.version, SystemTime::now());
        found.resources.send_replace(Arc::new(made.resources));
    }
}

/// Whether only the label differs.
fn same(a: &Resources, b: &Resources) -> bool {
    a.types()
        .map(|(url, of_type)| (url, &of_type.version))
        .eq(b.types().map(|(url, of_type)| (url, &of_type.version)))
}

fn name(view: &ProxyView) -> String {
    format!("{}/{}", view.namespace, view.workload)
}

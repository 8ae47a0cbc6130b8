//! From the store's watch to the newest `Arc<Snapshot>`.
//!
//! One task owns the [`World`]. It gathers changes until the store has been quiet for a moment, or
//! for at most [`WAIT_MAX`], then makes one snapshot of them all: a hundred objects applied together
//! are one push, and a single one reaches traffic in a few hundredths of a second. When the watch
//! ends the World stays as it is; the task watches again from the revision that it has.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};
use weft_store::{CommitError, Selector, Store, Transaction, Watch};

use crate::snapshot::Snapshot;
use crate::vip;
use crate::world::World;

/// Quiet for so long: enough.
const QUIET: Duration = Duration::from_millis(20);
/// Waited so long since the first change: enough, quiet or not.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Between two tries to watch a store that is away.
const RETRY: Duration = Duration::from_millis(500);

/// Runs until the last reader of the snapshots has gone.
pub async fn run(store: Arc<dyn Store>, mut world: World, snapshots: watch::Sender<Arc<Snapshot>>) {
    while !snapshots.is_closed() {
        let from = world.revision();
        let mut changes = match store.watch_or_reset(from, Selector::all()).await {
            Ok(changes) => changes,
            Err(error) => {
                warn!(%error, "can't watch the store; serving on with what is known");
                sleep(RETRY).await;
                continue;
            }
        };
        follow(&store, &mut world, &mut changes, &snapshots).await;
        if !snapshots.is_closed() {
            warn!("the store's watch ended; serving on with what is known");
            sleep(RETRY).await;
        }
    }
}

async fn follow(
    store: &Arc<dyn Store>,
    world: &mut World,
    changes: &mut Watch,
    snapshots: &watch::Sender<Arc<Snapshot>>,
) {
    loop {
        let first = tokio::select! {
            batch = changes.next() => batch,
            () = snapshots.closed() => return,
        };
        let Some(first) = first else { return };
        let changed = world.apply(first);
        if !changed {
            continue;
        }
        let deadline = Instant::now() + WAIT_MAX;
        let mut ended = false;
        loop {
            let wait = QUIET.min(deadline.saturating_duration_since(Instant::now()));
            match timeout(wait, changes.next()).await {
                Ok(Some(batch)) => {
                    world.apply(batch);
                }
                Ok(None) => {
                    ended = true;
                    break;
                }
                Err(_quiet) => break,
            }
        }
        publish(store, world, snapshots).await;
        if ended {
            return;
        }
    }
}

async fn publish(store: &Arc<dyn Store>, world: &mut World, snapshots: &watch::Sender<Arc<Snapshot>>) {
    let wanted = vip::allocate(world);
    let snapshot = world.snapshot();
    debug!(revision = snapshot.revision, objects = snapshot.objects.len(), "snapshot");
    snapshots.send_replace(Arc::new(snapshot));
    for assignment in wanted {
        let write = Transaction::update(assignment.key.clone(), assignment.at, assignment.value);
        match store.commit(write).await {
            Ok(_) => {}
            // Somebody changed the object meanwhile: its event is on the way, and brings us back here.
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => warn!(key = %assignment.key, %error, "can't note the virtual address"),
        }
    }
}

#[cfg(test)]
mod tests;

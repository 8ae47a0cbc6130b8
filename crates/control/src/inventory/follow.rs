//! From the store's revocations to the list that members have.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weft_identity::Revoked;
use weft_identity::revocation::REVOKED_MAX;
use weft_store::{Selector, Store, StoreError};

use super::{REVOKED, Revocation, revoked, sweep};
use crate::authority::Authority;
use crate::core::Core;
use crate::seed::INTERNAL_GROUP;

/// Between two looks at what has expired, and at records that could not be written.
const LOOK: Duration = Duration::from_secs(30);
/// Revocations that come so close are told together.
const GATHER: Duration = Duration::from_millis(50);
/// Between two tries to watch a store that is away.
const RETRY: Duration = Duration::from_millis(500);

/// Signs a list of what is revoked now, if it is another one.
pub(crate) async fn look(
    authority: &Authority,
    store: &dyn Store,
    now: SystemTime,
) -> Result<(), StoreError> {
    let _alone = authority.looking().lock().await;
    let mut records: Vec<Revocation> = revoked(store, now).await?.into_values().collect();
    // No list at all would be worse than one without those that end first.
    if let Some(beyond) = records.len().checked_sub(REVOKED_MAX).filter(|beyond| *beyond > 0) {
        tracing::error!(
            beyond,
            "more certificates are revoked than a list takes; those that end first are left out"
        );
        records.sort_by_key(|one| std::cmp::Reverse(one.not_after));
        records.truncate(REVOKED_MAX);
    }
    let mut all: Vec<Revoked> = records
        .into_iter()
        .map(|one| Revoked {
            serial_hex: one.of,
            at: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(one.at)).unwrap_or(now),
            reason: one.reason,
        })
        .collect();
    all.sort_by(|one, other| one.serial_hex.cmp(&other.serial_hex));
    authority.set_revoked(all, now);
    Ok(())
}

/// Follows the store for ever.
pub(crate) async fn run(core: Arc<Core>) {
    loop {
        let selector = Selector::kind(INTERNAL_GROUP, REVOKED);
        let mut changes = match core.store.watch_or_reset(None, selector).await {
            Ok(changes) => changes,
            Err(error) => {
                tracing::warn!(%error, "can't watch what is revoked; the list in force stays");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        while changes.next().await.is_some() {
            // What is taken back together is one list.
            tokio::time::sleep(GATHER).await;
            look_again(&core).await;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Keeps the records in bounds, for ever.
pub(crate) async fn keep(core: Arc<Core>) {
    loop {
        tokio::time::sleep(LOOK).await;
        core.authority.waiting().flush(core.store.as_ref()).await;
        if let Err(error) = sweep(core.store.as_ref(), SystemTime::now()).await {
            tracing::warn!(%error, "the records of certificates can't be read");
        }
        // What has expired leaves the list.
        look_again(&core).await;
    }
}

async fn look_again(core: &Core) {
    if let Err(error) = look(&core.authority, core.store.as_ref(), SystemTime::now()).await {
        tracing::warn!(%error, "what is revoked can't be read; the list in force stays");
    }
}

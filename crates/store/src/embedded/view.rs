//! What readers see: all values and the changes that watchers may still want.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use super::Limits;
use crate::{Batch, Change, Revision, Selector, Stored};

/// The changes of one committed transaction.
#[derive(Debug)]
pub struct Revised {
    pub revision: Revision,
    pub changes: Vec<Change>,
    /// What the log's limit counts it as.
    pub bytes: usize,
}

/// The state after some revision.
#[derive(Default)]
pub struct View {
    revision: Revision,
    /// Changes up to and including this revision are forgotten.
    compacted: Revision,
    /// By encoded key: the order of keys.
    objects: BTreeMap<Vec<u8>, Stored>,
    log: VecDeque<Arc<Revised>>,
    log_bytes: usize,
}

impl View {
    /// As it was read from disk.
    pub fn new(
        revision: Revision,
        compacted: Revision,
        objects: BTreeMap<Vec<u8>, Stored>,
        log: VecDeque<Arc<Revised>>,
    ) -> Self {
        let log_bytes = log.iter().map(|revised| revised.bytes).sum();
        Self { revision, compacted, objects, log, log_bytes }
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    pub fn get(&self, key: &[u8]) -> Option<&Stored> {
        self.objects.get(key)
    }

    pub fn list(&self, selector: &Selector) -> Vec<Stored> {
        let prefix = selector.prefix();
        self.objects
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(_, stored)| stored)
            .filter(|stored| selector.matches(&stored.key))
            .cloned()
            .collect()
    }

    /// The next changes after `cursor` that the selector names, and the revision they account for.
    fn changes(&self, cursor: Revision, selector: &Selector, changes_max: usize) -> (Vec<Change>, Revision) {
        let first = self.log.partition_point(|revised| revised.revision <= cursor);
        let mut changes = Vec::new();
        for revised in self.log.range(first..) {
            changes.extend(revised.changes.iter().filter(|change| selector.matches(&change.key)).cloned());
            if changes.len() >= changes_max {
                return (changes, revised.revision);
            }
        }
        (changes, self.revision)
    }

    /// Makes a durable transaction visible.
    pub fn apply(&mut self, revised: Arc<Revised>) {
        self.revision = revised.revision;
        for change in &revised.changes {
            let key = change.key.encode();
            match &change.after {
                Some(stored) => {
                    self.objects.insert(key, stored.clone());
                }
                None => {
                    self.objects.remove(&key);
                }
            }
        }
        if !revised.changes.is_empty() {
            self.log_bytes += revised.bytes;
            self.log.push_back(revised);
        }
    }

    pub fn compact(&mut self, compacted: Revision) {
        self.compacted = self.compacted.max(compacted);
        while let Some(oldest) = self.log.pop_front_if(|oldest| oldest.revision <= self.compacted) {
            self.log_bytes -= oldest.bytes;
        }
    }

    /// Where to compact to once `coming` is added, if the log is then too large: the older half goes,
    /// so that this does not happen with each commit.
    pub fn due(&self, coming: &[Arc<Revised>], limits: &Limits) -> Option<Revision> {
        let coming = || coming.iter().filter(|revised| !revised.changes.is_empty());
        let count = self.log.len() + coming().count();
        let bytes = self.log_bytes + coming().map(|revised| revised.bytes).sum::<usize>();
        if count <= limits.log_revisions_max && bytes <= limits.log_bytes_max {
            return None;
        }
        let (mut count, mut bytes, mut compacted) = (count, bytes, self.compacted);
        for revised in self.log.iter().chain(coming()) {
            if count <= limits.log_revisions_max / 2 && bytes <= limits.log_bytes_max / 2 {
                break;
            }
            count -= 1;
            bytes -= revised.bytes;
            compacted = revised.revision;
        }
        Some(compacted)
    }
}

/// The view as readers and the writer share it.
pub struct Shared {
    view: RwLock<View>,
    limits: Limits,
}

impl Shared {
    pub fn new(view: View, limits: Limits) -> Self {
        Self { view: RwLock::new(view), limits }
    }

    // The writer changes the view by whole transactions and nothing in `apply` panics, so a poisoned
    // lock still guards a whole view.
    pub fn read(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watcher's place.
pub struct Subscription {
    shared: Arc<Shared>,
    /// The revision it knows; `None` before its first `Reset`.
    cursor: Option<Revision>,
    selector: Selector,
    revision: watch::Receiver<Revision>,
}

impl Subscription {
    pub fn new(
        shared: Arc<Shared>,
        cursor: Option<Revision>,
        selector: Selector,
        revision: watch::Receiver<Revision>,
    ) -> Self {
        Self { shared, cursor, selector, revision }
    }

    /// The next batch, with the subscription that gives the one after it; `None` when the store closed.
    pub async fn step(mut self) -> Option<(Batch, Self)> {
        loop {
            // Before looking: a commit after the look wakes the wait below.
            self.revision.borrow_and_update();
            if let Some(batch) = self.look() {
                return Some((batch, self));
            }
            if self.revision.changed().await.is_err() {
                // What was committed before the end is still told.
                let batch = self.look()?;
                return Some((batch, self));
            }
        }
    }

    fn look(&mut self) -> Option<Batch> {
        let view = self.shared.read();
        match self.cursor {
            Some(cursor) if cursor >= view.compacted() => {
                let (changes, revision) =
                    view.changes(cursor, &self.selector, self.shared.limits.batch_changes_max);
                self.cursor = Some(revision);
                (!changes.is_empty()).then_some(Batch::Changes { revision, changes })
            }
            _ => {
                let revision = view.revision();
                self.cursor = Some(revision);
                Some(Batch::Reset { revision, objects: view.list(&self.selector) })
            }
        }
    }
}

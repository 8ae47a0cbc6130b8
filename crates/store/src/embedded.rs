//! The embedded engine: one file (redb), one process, everything readable held in memory.
//!
//! ```text
//! commit ─► queue ─► writer thread: check, stage, one redb transaction for many commits, fsync
//!                        └─► view (memory) ─► get, list, watch
//! ```
//!
//! Readers never touch the disk, so they go on when it fails, and they see a transaction only once it
//! is durable. The writer is the only one that changes the view. A watcher is a place in the view's
//! log of changes, not a queue: a slow one costs nothing and, once the log was compacted past it,
//! gets a `Reset`. The log is bounded by count and bytes; the price of all this is memory for all
//! values, which for a control plane is what it holds anyway.

mod file;
mod group;
mod record;
mod view;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{CommitError, Key, Revision, Selector, Store, StoreError, Stored, Transaction, Watch};
use file::Opener;
use view::{Shared, Subscription};
use writer::{Command, Writer};

/// What the engine keeps and takes at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Commits that wait for the writer; more wait in `commit`.
    pub queue_max: usize,
    pub value_bytes_max: usize,
    pub transaction_writes_max: usize,
    pub transaction_bytes_max: usize,
    /// Changes that are kept for watchers; the older half goes when either is exceeded.
    pub log_revisions_max: usize,
    pub log_bytes_max: usize,
    /// Changes in one batch of a watch; one transaction's are never split.
    pub batch_changes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_max: 1024,
            value_bytes_max: 8 << 20,
            transaction_writes_max: 10_000,
            transaction_bytes_max: 32 << 20,
            log_revisions_max: 50_000,
            log_bytes_max: 32 << 20,
            batch_changes_max: 1000,
        }
    }
}

/// An open store. Dropping it finishes what is queued and closes the file.
pub struct Embedded {
    shared: Arc<Shared>,
    commands: Option<mpsc::Sender<Command>>,
    revision: watch::Receiver<Revision>,
    writer: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens or makes the file, checking all of it: the time grows with its size.
    ///
    /// # Errors
    /// When another process has it, it is newer than this binary, damaged, or not a store.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, Limits::default())
    }

    /// # Errors
    /// As [`Embedded::open`].
    pub fn open_with(path: &Path, limits: Limits) -> Result<Self, StoreError> {
        Self::start(Opener::file(path), limits)
    }

    fn start(opener: Opener, limits: Limits) -> Result<Self, StoreError> {
        let (database, view) = opener.open()?;
        let (revision_sender, revision) = watch::channel(view.revision());
        let shared = Arc::new(Shared::new(view, limits));
        let (commands, queue) = mpsc::channel(limits.queue_max.max(1));
        let writer = Writer::new(database, opener, Arc::clone(&shared), revision_sender, limits);
        let thread = std::thread::Builder::new()
            .name("weft-store".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(StoreError::Io)?;
        Ok(Self { shared, commands: Some(commands), revision, writer: Some(thread) })
    }

    /// Asks the writer; `None` when it is gone.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        let commands = self.commands.as_ref().ok_or(Gone::BeforeAsked)?;
        commands.send(command(reply)).await.map_err(|_| Gone::BeforeAsked)?;
        answer.await.map_err(|_| Gone::BeforeAnswered)
    }
}

/// When the writer thread went away.
enum Gone {
    BeforeAsked,
    BeforeAnswered,
}

const CLOSED: &str = "its writer has stopped; restart the control plane";

impl Store for Embedded {
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move {
            match self.ask(|reply| Command::Commit { transaction, reply }).await {
                Ok(answer) => answer,
                Err(Gone::BeforeAsked) => Err(CommitError::Unavailable(CLOSED.to_owned())),
                Err(Gone::BeforeAnswered) => Err(CommitError::Unknown),
            }
        })
    }

    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Option<Stored>, StoreError>> {
        let found = self.shared.read().get(&key.encode()).cloned();
        Box::pin(async move { Ok(found) })
    }

    fn list(&self, selector: &Selector) -> BoxFuture<'_, Result<(Vec<Stored>, Revision), StoreError>> {
        let selector = selector.clone();
        Box::pin(async move {
            let view = self.shared.read();
            Ok((view.list(&selector), view.revision()))
        })
    }

    fn watch(&self, from: Option<Revision>, selector: Selector) -> BoxFuture<'_, Result<Watch, StoreError>> {
        Box::pin(async move {
            if let Some(asked) = from {
                let view = self.shared.read();
                let (compacted, current) = (view.compacted(), view.revision());
                if asked < compacted {
                    return Err(StoreError::Compacted { asked, compacted });
                }
                if asked > current {
                    return Err(StoreError::Ahead { asked, current });
                }
            }
            let subscription =
                Subscription::new(Arc::clone(&self.shared), from, selector, self.revision.clone());
            Ok(Watch::new(futures_util::stream::unfold(subscription, Subscription::step)))
        })
    }

    fn compact(&self, keep_after: Revision) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(async move {
            self.ask(|reply| Command::Compact { keep_after, reply })
                .await
                .map_err(|_| StoreError::Unavailable(CLOSED.to_owned()))?
        })
    }

    fn revision(&self) -> Revision {
        self.shared.read().revision()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Without senders the writer finishes its queue and closes the file; waiting for it means that
        // the path can be opened again when this returns.
        self.commands = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer ended by a panic");
        }
    }
}

#[cfg(test)]
mod tests;

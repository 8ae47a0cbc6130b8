//! What the mesh was told, kept: a small key-value store with one order of revisions.
//!
//! A [`Store`] holds opaque values under [`Key`]s. Every committed [`Transaction`] gets one revision,
//! strictly greater than all before it; `commit` compares and swaps by [`Expect`], all or nothing; a
//! [`Watch`] gives each later revision once and in order, or says [`Batch::Reset`] and starts over from
//! the whole. That is all an engine promises, and `contract` is the test suite that holds it to it.
//!
//! The store does not know what an object is: values are bytes, and nothing here parses them.

mod batch;
pub mod contract;
pub mod embedded;
mod error;
mod key;

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use batch::{Batch, Change, Watch};
pub use error::{CommitError, StoreError};
pub use key::{Key, Selector};

/// The place of a committed transaction in the one order of all of them; 0 is the empty store.
pub type Revision = u64;

/// A value as it stands at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub key: Key,
    /// The revision that made this key (again, if it was deleted before).
    pub created: Revision,
    /// The revision that last wrote it.
    pub modified: Revision,
    pub value: Arc<[u8]>,
}

/// What must be true for a transaction to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    Absent(Key),
    /// The key exists and was last written at this revision.
    At(Key, Revision),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Put(Key, Vec<u8>),
    /// Deleting what is absent changes nothing and is no error; say [`Expect::At`] if it must exist.
    Delete(Key),
}

impl Write {
    pub fn key(&self) -> &Key {
        match self {
            Write::Put(key, _) | Write::Delete(key) => key,
        }
    }
}

/// Conditions and writes that happen together or not at all. A key may be written once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    pub expect: Vec<Expect>,
    pub writes: Vec<Write>,
}

impl Transaction {
    /// Makes `key`, which must not exist.
    pub fn create(key: Key, value: Vec<u8>) -> Self {
        Self { expect: vec![Expect::Absent(key.clone())], writes: vec![Write::Put(key, value)] }
    }

    /// Replaces `key`, last written at `at`.
    pub fn update(key: Key, at: Revision, value: Vec<u8>) -> Self {
        Self { expect: vec![Expect::At(key.clone(), at)], writes: vec![Write::Put(key, value)] }
    }

    /// Deletes `key`, last written at `at`.
    pub fn delete(key: Key, at: Revision) -> Self {
        Self { expect: vec![Expect::At(key.clone(), at)], writes: vec![Write::Delete(key)] }
    }

    /// Writes `key`, whatever was there.
    pub fn put(key: Key, value: Vec<u8>) -> Self {
        Self { expect: Vec::new(), writes: vec![Write::Put(key, value)] }
    }
}

/// An engine. All of them mean the same; see [`contract`].
pub trait Store: Send + Sync + 'static {
    /// Returns once the transaction is durable. An error other than [`CommitError::Unknown`] means
    /// that nothing of it happened. Dropping the future leaves open whether it happens.
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Revision, CommitError>>;

    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Option<Stored>, StoreError>>;

    /// All that the selector names, in key order, and the revision at which that was so.
    fn list(&self, selector: &Selector) -> BoxFuture<'_, Result<(Vec<Stored>, Revision), StoreError>>;

    /// `None`: a [`Batch::Reset`] first, then each change after it. `Some(r)`: each change after `r`;
    /// refused with [`StoreError::Compacted`] when they are no longer known. A watcher that falls
    /// behind a later compaction gets a `Reset` in its stream.
    fn watch(&self, from: Option<Revision>, selector: Selector) -> BoxFuture<'_, Result<Watch, StoreError>>;

    /// Like [`Store::watch`], but where `from` can't be continued the watch starts with a `Reset`.
    fn watch_or_reset(
        &self,
        from: Option<Revision>,
        selector: Selector,
    ) -> BoxFuture<'_, Result<Watch, StoreError>> {
        Box::pin(async move {
            match self.watch(from, selector.clone()).await {
                Err(StoreError::Compacted { .. } | StoreError::Ahead { .. }) => {
                    self.watch(None, selector).await
                }
                other => other,
            }
        })
    }

    /// Forgets the changes up to and including `keep_after` (values stay). Answers the revision up to
    /// which changes are now forgotten: never beyond the present one, never less than before.
    fn compact(&self, keep_after: Revision) -> BoxFuture<'_, Result<Revision, StoreError>>;

    /// The newest committed revision that readers see.
    fn revision(&self) -> Revision;
}

/// Opens an engine by what `--store` says: a path, `file:PATH`, or `embedded:PATH`.
///
/// # Errors
/// When the engine is not one of ours or its file can't be opened.
pub fn open(url_or_path: &str) -> Result<Arc<dyn Store>, StoreError> {
    let path = match url_or_path.split_once(':') {
        Some(("file" | "embedded", rest)) => rest.strip_prefix("//").unwrap_or(rest),
        Some((engine, _)) if matches!(engine, "etcd" | "kubernetes") => {
            return Err(StoreError::UnknownEngine { engine: engine.to_owned() });
        }
        None if url_or_path == "kubernetes" => {
            return Err(StoreError::UnknownEngine { engine: url_or_path.to_owned() });
        }
        Some((engine, rest)) if rest.starts_with("//") => {
            return Err(StoreError::UnknownEngine { engine: engine.to_owned() });
        }
        _ => url_or_path,
    };
    Ok(Arc::new(embedded::Embedded::open(Path::new(path))?))
}

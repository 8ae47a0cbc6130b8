//! What a watcher is told.

use std::fmt;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, Stream};

use crate::{Key, Revision, Stored};

/// One write that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub revision: Revision,
    pub key: Key,
    /// The value before, `None` if the key was made by this change.
    pub before: Option<Arc<[u8]>>,
    /// What stands there now, `None` if it was deleted.
    pub after: Option<Stored>,
}

/// One step of a watch. A revision's changes are never split over two batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Forget all you know: this is everything the selector names, as of `revision`.
    Reset { revision: Revision, objects: Vec<Stored> },
    /// In order of revision; `revision` is the newest that this batch accounts for.
    Changes { revision: Revision, changes: Vec<Change> },
}

impl Batch {
    pub fn revision(&self) -> Revision {
        match self {
            Batch::Reset { revision, .. } | Batch::Changes { revision, .. } => *revision,
        }
    }
}

/// A running watch. Dropping it ends it; dropping a pending `next` loses nothing.
pub struct Watch {
    batches: BoxStream<'static, Batch>,
}

impl Watch {
    pub fn new(batches: impl Stream<Item = Batch> + Send + 'static) -> Self {
        Self { batches: batches.boxed() }
    }

    /// Waits for the next batch; `None` when the store was closed.
    pub async fn next(&mut self) -> Option<Batch> {
        self.batches.next().await
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Watch")
    }
}

//! What can go wrong, said so that the caller knows whether anything happened.

use std::io;
use std::path::PathBuf;

use crate::{Key, Revision};

/// Why a transaction did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// `expected` and `found`: the revision that last wrote the key, 0 when it is absent.
    #[error("{key}: expected {}, found {}", at(*.expected), at(*.found))]
    Conflict { key: Key, expected: Revision, found: Revision },
    #[error("this transaction can't be: {0}")]
    Invalid(String),
    #[error("the transaction is too large: {0}")]
    TooLarge(String),
    /// The disk or the store's quota is full; nothing was written.
    #[error("the store is full: free some space on its disk, then try again")]
    Full(#[source] io::Error),
    /// An I/O error; nothing of the transaction is visible.
    #[error("the store can't write")]
    Io(#[source] io::Error),
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The engine can't tell whether the transaction happened (a lost answer): read before trying again.
    #[error("the store did not answer whether the transaction happened: read it back before trying again")]
    Unknown,
}

fn at(revision: Revision) -> String {
    match revision {
        0 => "none".to_owned(),
        revision => format!("revision {revision}"),
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The changes after `asked` are no longer all known; list and watch again.
    #[error("revision {asked} is compacted: changes are known after revision {compacted} only")]
    Compacted { asked: Revision, compacted: Revision },
    /// `asked` is of another store or of a future that was lost (a restored backup).
    #[error("revision {asked} has not happened yet: the store is at {current}")]
    Ahead { asked: Revision, current: Revision },
    #[error("{path}: another process has this store open; stop it, or give this one its own --state")]
    InUse { path: PathBuf },
    #[error(
        "{path}: written by a newer weft (store format {found}, this binary knows up to {known}); start the newer binary, see `weft upgrade`"
    )]
    TooNew { path: PathBuf, found: u64, known: u64 },
    #[error("{path}: the store's file is damaged ({detail}); move it away and restore a copy, or start anew")]
    Damaged { path: PathBuf, detail: String },
    #[error("{path}: not a store of weft ({detail})")]
    Foreign { path: PathBuf, detail: String },
    #[error("open the store {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("read the store")]
    Io(#[source] io::Error),
    #[error("the store is not available: {0}")]
    Unavailable(String),
    #[error("no store engine {engine:?} in this binary: give a path for the embedded one")]
    UnknownEngine { engine: String },
}

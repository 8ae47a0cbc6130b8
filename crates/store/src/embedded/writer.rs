//! The writer thread: the only one that changes anything.
//!
//! It takes what waits in the queue, stages it over the view, and writes all of it in one redb
//! transaction with one fsync; each commit keeps its own revision and its own verdict. Answers go out
//! after the fsync, also the refusals: a refusal may rest on a commit of the same group.
//!
//! After an I/O error redb takes no more; the file is opened again, and what it then says decides
//! what happened: a group is on disk whole or not at all.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::Database;
use tokio::sync::{mpsc, oneshot, watch};

use super::Limits;
use super::file::{LOG, META, META_COMPACTED, META_REVISION, OBJECTS, Opener};
use super::group::{Group, Stage, size};
use super::record;
use super::view::Shared;
use crate::{CommitError, Revision, StoreError, Transaction};

/// Commits that share one fsync.
const GROUP_MAX: usize = 256;
const GROUP_BYTES_MAX: usize = 8 << 20;
/// What a commit needs of the disk: so many times its size, and the pages on the way to it.
const ROOM_PER_BYTE: u64 = 4;
const ROOM_BYTES_MIN: u64 = 64 << 10;
/// How long a file that could not be opened again is left alone.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

pub enum Command {
    Commit { transaction: Transaction, reply: oneshot::Sender<Result<Revision, CommitError>> },
    Compact { keep_after: Revision, reply: oneshot::Sender<Result<Revision, StoreError>> },
}

pub struct Writer {
    /// `None` after an I/O error, until the file could be opened again.
    database: Option<Database>,
    opener: Opener,
    reopen_after: Option<Instant>,
    shared: Arc<Shared>,
    revision: watch::Sender<Revision>,
    limits: Limits,
}

/// A commit with its verdict, to be told when the group is durable.
type Judged = (oneshot::Sender<Result<Revision, CommitError>>, Result<Revision, CommitError>);

impl Writer {
    pub fn new(
        database: Database,
        opener: Opener,
        shared: Arc<Shared>,
        revision: watch::Sender<Revision>,
        limits: Limits,
    ) -> Self {
        Self { database: Some(database), opener, reopen_after: None, shared, revision, limits }
    }

    /// Until every sender is gone and the queue is empty.
    pub fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut next = None;
        while let Some(command) = next.take().or_else(|| queue.blocking_recv()) {
            match command {
                Command::Compact { keep_after, reply } => {
                    // Whoever asked may have gone; the compaction stands.
                    let _ = reply.send(self.compact(keep_after));
                }
                Command::Commit { transaction, reply } => {
                    let mut group = vec![(transaction, reply)];
                    let mut bytes = size(&group[0].0);
                    while group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
                        match queue.try_recv() {
                            Ok(Command::Commit { transaction, reply }) => {
                                bytes += size(&transaction);
                                group.push((transaction, reply));
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.commit(group);
                }
            }
        }
    }

    fn commit(&mut self, commits: Vec<(Transaction, oneshot::Sender<Result<Revision, CommitError>>)>) {
        if let Err(error) = self.ensure_open() {
            for (_, reply) in commits {
                let _ = reply.send(Err(CommitError::Unavailable(error.clone())));
            }
            return;
        }
        let mut judged: Vec<Judged> = Vec::with_capacity(commits.len());
        let group = {
            let view = self.shared.read();
            let mut stage = Stage::new(&view, &self.limits);
            for (transaction, reply) in commits {
                judged.push((reply, stage.judge(transaction)));
            }
            stage.into_group()
        };
        let written = if group.revised.is_empty() { Ok(()) } else { self.write(group) };
        for (reply, verdict) in judged {
            let answer = match (&written, verdict) {
                (Ok(()), verdict) => verdict,
                // What is wrong in itself is wrong without the others too.
                (Err(_), Err(error @ (CommitError::Invalid(_) | CommitError::TooLarge(_)))) => Err(error),
                (Err(failure), _) => Err(failure.for_one()),
            };
            let _ = reply.send(answer);
        }
    }

    fn compact(&mut self, keep_after: Revision) -> Result<Revision, StoreError> {
        self.ensure_open().map_err(StoreError::Unavailable)?;
        let (revision, compacted) = {
            let view = self.shared.read();
            (view.revision(), view.compacted())
        };
        let target = keep_after.min(revision);
        if target <= compacted {
            return Ok(compacted);
        }
        self.write(Group { base: revision, revision, revised: Vec::new(), compacted: Some(target) })
            .map_err(|failure| match failure {
                Failure::Nothing { source, .. } => StoreError::Io(source),
                Failure::Unknown => StoreError::Unavailable("its disk failed while compacting".to_owned()),
            })?;
        Ok(target)
    }

    /// Makes a group durable, then visible.
    fn write(&mut self, group: Group) -> Result<(), Failure> {
        let Some(database) = &self.database else { return Err(Failure::Unknown) };
        // Asked beforehand, since redb takes nothing more once a write failed.
        if self.opener.free_bytes().is_some_and(|free| free < group.bytes() * ROOM_PER_BYTE + ROOM_BYTES_MIN)
        {
            return Err(Failure::nothing(io::ErrorKind::StorageFull.into()));
        }
        // redb may panic on pages that something else damaged under it: that is an I/O error like others.
        let written = catch_unwind(AssertUnwindSafe(|| write_group(database, &group))).unwrap_or_else(|_| {
            Err(WriteFailure::InCommit(io::Error::other("the file's pages contradict each other").into()))
        });
        match written {
            Ok(()) => {
                self.publish(&group);
                Ok(())
            }
            Err(failure) => self.after_failure(&group, failure),
        }
    }

    fn publish(&self, group: &Group) {
        let mut view = self.shared.write();
        for revised in &group.revised {
            view.apply(Arc::clone(revised));
        }
        if let Some(compacted) = group.compacted {
            view.compact(compacted);
        }
        drop(view);
        self.revision.send_replace(group.revision);
    }

    /// redb takes nothing more after an error: open the file again and let it say what happened.
    fn after_failure(&mut self, group: &Group, failure: WriteFailure) -> Result<(), Failure> {
        let (error, maybe_written) = match failure {
            WriteFailure::BeforeCommit(error) => (error, false),
            WriteFailure::InCommit(error) => (error, true),
        };
        tracing::error!(%error, "the store could not write");
        let source = match error {
            redb::Error::Io(source) => source,
            other => io::Error::other(other),
        };
        self.database = None;
        match self.reopen() {
            // Commits of the group are visible by now if the disk has them.
            Ok(revision) if revision >= group.revision && revision > group.base => Ok(()),
            Err(_) if maybe_written => Err(Failure::Unknown),
            Ok(_) | Err(_) => Err(Failure::nothing(source)),
        }
    }

    fn ensure_open(&mut self) -> Result<(), String> {
        if self.database.is_some() {
            return Ok(());
        }
        if self.reopen_after.is_some_and(|at| Instant::now() < at) {
            return Err("its disk failed a moment ago".to_owned());
        }
        self.reopen()
            .map(|_| ())
            .map_err(|error| format!("its disk failed and its file can't be opened: {error}"))
    }

    /// Opens the file again; what it has beyond the view becomes visible. Answers its revision.
    fn reopen(&mut self) -> Result<Revision, StoreError> {
        let opened = self.opener.open();
        let (database, disk) =
            opened.inspect_err(|_| self.reopen_after = Some(Instant::now() + REOPEN_PAUSE))?;
        let known = self.shared.read().revision();
        let revision = disk.revision();
        if revision < known {
            self.reopen_after = Some(Instant::now() + REOPEN_PAUSE);
            return Err(StoreError::Unavailable(format!(
                "the file is at revision {revision}, but {known} was acknowledged"
            )));
        }
        if revision > known {
            *self.shared.write() = disk;
            self.revision.send_replace(revision);
        }
        self.database = Some(database);
        self.reopen_after = None;
        Ok(revision)
    }
}

/// Why a group was not written.
enum Failure {
    Nothing { source: io::Error, full: bool },
    Unknown,
}

impl Failure {
    fn nothing(source: io::Error) -> Self {
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        Failure::Nothing { source, full }
    }

    /// The same for each commit of the group: an `io::Error` can't be cloned, its kind and text can.
    fn for_one(&self) -> CommitError {
        match self {
            Failure::Nothing { source, full: true } => CommitError::Full(copy(source)),
            Failure::Nothing { source, full: false } => CommitError::Io(copy(source)),
            Failure::Unknown => CommitError::Unknown,
        }
    }
}

fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

enum WriteFailure {
    /// Nothing of it can be on the disk.
    BeforeCommit(redb::Error),
    InCommit(redb::Error),
}

fn write_group(database: &Database, group: &Group) -> Result<(), WriteFailure> {
    let write = database.begin_write().map_err(|error| WriteFailure::BeforeCommit(error.into()))?;
    fill(&write, group).map_err(WriteFailure::BeforeCommit)?;
    write.commit().map_err(|error| WriteFailure::InCommit(error.into()))
}

fn fill(write: &redb::WriteTransaction, group: &Group) -> Result<(), redb::Error> {
    let mut objects = write.open_table(OBJECTS)?;
    let mut log = write.open_table(LOG)?;
    let mut meta = write.open_table(META)?;
    for revised in group.revised.iter().filter(|revised| !revised.changes.is_empty()) {
        for change in &revised.changes {
            let key = change.key.encode();
            match &change.after {
                Some(stored) => {
                    objects.insert(key.as_slice(), record::encode_object(stored).as_slice())?;
                }
                None => {
                    objects.remove(key.as_slice())?;
                }
            }
        }
        log.insert(revised.revision, record::encode_changes(&revised.changes).as_slice())?;
    }
    meta.insert(META_REVISION, group.revision)?;
    if let Some(compacted) = group.compacted {
        log.retain_in(..=compacted, |_, _| false)?;
        meta.insert(META_COMPACTED, compacted)?;
    }
    Ok(())
}

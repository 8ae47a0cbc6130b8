//! Recorded traffic: what proxies measured, durable before it is acknowledged.
//!
//! One thread owns the file (redb blocks). It gathers increments for at most [`GATHER`], writes the
//! windows and the marks "this was counted" in ONE transaction, waits for the disk, and only then
//! acknowledges. So a kill at any moment loses nothing that a proxy has forgotten, and what it sends
//! again is counted once. Questions read the history in memory, which the file rebuilds at start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::sync::oneshot;
use weft_history::{Counts, History, Seen, Series, Verdict};
use weft_link::{Buckets, Cell};

use crate::clock;
use crate::files;

/// How long increments are gathered for one write.
const GATHER: Duration = Duration::from_millis(100);
/// Between two looks for what is too old.
const EXPIRE_EVERY: Duration = Duration::from_secs(30);
/// Increments that may wait for the writer; a proxy beyond that is told to send again.
const QUEUE_MAX: usize = 4096;
/// Proxies whose increments are told apart.
const PROXIES_MAX: usize = 10_000;

/// The key: resolution in seconds, start.
const WINDOWS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("windows.v1");
/// The key: proxy, start of the block.
const SEEN: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("seen.v1");

/// Why the record can't be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The file.
    #[error("the history {}: {source}; move it away to start with an empty one", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// redb's word.
        #[source]
        source: redb::Error,
    },
    /// A window or a mark in it.
    #[error("the history {} is damaged: {source}; move it away to start with an empty one", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: weft_history::DecodeError,
    },
    /// The rest: permissions, threads.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// What became of an increment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Durable (now or before): the proxy may forget it.
    Durable,
    /// Not now: the proxy keeps it and sends it again.
    Later,
}

struct Increment {
    proxy: String,
    buckets: Buckets,
    done: oneshot::Sender<Taken>,
}

/// The history and its file.
pub struct Measure {
    history: Arc<Mutex<History>>,
    increments: mpsc::SyncSender<Increment>,
    path: PathBuf,
}

impl Measure {
    /// Opens (or makes) the file, reads all of it, and starts the writer.
    pub fn open(path: &Path, now: SystemTime) -> Result<Measure, MeasureError> {
        files::private_file(path)?;
        let fail = |source: redb::Error| MeasureError::Open { path: path.to_owned(), source };
        let database = Database::create(path).map_err(|error| fail(error.into()))?;
        let (mut history, mut seen) = load(&database, path)?;
        history.expire(clock::unix(now));
        seen.expire(clock::unix(now));
        let history = Arc::new(Mutex::new(history));
        let (increments, queue) = mpsc::sync_channel(QUEUE_MAX);
        let writer = Writer {
            database,
            history: history.clone(),
            seen,
            unwritten: Writes::default(),
            expired: Instant::now(),
        };
        std::thread::Builder::new()
            .name("weft-history".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|error| anyhow::anyhow!("start the history's thread: {error}"))?;
        Ok(Measure { history, increments, path: path.to_owned() })
    }

    /// Counts one message of a proxy; answers when that is durable.
    pub async fn add(&self, proxy: &str, buckets: Buckets) -> Taken {
        let (done, taken) = oneshot::channel();
        let increment = Increment { proxy: proxy.to_owned(), buckets, done };
        if self.increments.try_send(increment).is_err() {
            return Taken::Later;
        }
        taken.await.unwrap_or(Taken::Later)
    }

    /// The history, to ask it something.
    pub fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    /// Where it is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn load(database: &Database, path: &Path) -> Result<(History, Seen), MeasureError> {
    let mut history = History::default();
    let mut seen = Seen::new(PROXIES_MAX);
    let fail = |source: redb::Error| MeasureError::Open { path: path.to_owned(), source };
    let damaged = |source| MeasureError::Damaged { path: path.to_owned(), source };
    let read = database.begin_read().map_err(|error| fail(error.into()))?;
    match read.open_table(WINDOWS) {
        Ok(windows) => {
            for entry in windows.iter().map_err(|error| fail(error.into()))? {
                let (_, bytes) = entry.map_err(|error| fail(error.into()))?;
                history.load(bytes.value()).map_err(damaged)?;
            }
        }
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(fail(error.into())),
    }
    match read.open_table(SEEN) {
        Ok(blocks) => {
            for entry in blocks.iter().map_err(|error| fail(error.into()))? {
                let (_, bytes) = entry.map_err(|error| fail(error.into()))?;
                seen.load(bytes.value()).map_err(damaged)?;
            }
        }
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(fail(error.into())),
    }
    history.finish_load();
    Ok((history, seen))
}

/// What one transaction does; `None` deletes. Newer writes of a key replace older ones.
#[derive(Default)]
struct Writes {
    windows: BTreeMap<(u64, u64), Option<Vec<u8>>>,
    seen: BTreeMap<(String, u64), Option<Vec<u8>>>,
}

impl Writes {
    fn is_empty(&self) -> bool {
        self.windows.is_empty() && self.seen.is_empty()
    }
}

struct Writer {
    database: Database,
    history: Arc<Mutex<History>>,
    seen: Seen,
    /// Of a transaction that failed: goes with the next, so that memory and disk meet again.
    unwritten: Writes,
    expired: Instant,
}

impl Writer {
    fn run(mut self, queue: &mpsc::Receiver<Increment>) {
        loop {
            let mut waiting = Vec::new();
            match queue.recv_timeout(EXPIRE_EVERY) {
                Ok(first) => self.count(first, &mut waiting),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let until = Instant::now() + GATHER;
            while !waiting.is_empty() {
                match queue.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(next) => self.count(next, &mut waiting),
                    Err(_) => break,
                }
            }
            self.gather();
            let written = self.write();
            for done in waiting {
                // Its proxy may have gone meanwhile; it will send again and be counted once.
                let _ = done.send(if written { Taken::Durable } else { Taken::Later });
            }
        }
    }

    fn count(&mut self, increment: Increment, waiting: &mut Vec<oneshot::Sender<Taken>>) {
        let Increment { proxy, buckets, done } = increment;
        let now = clock::unix(SystemTime::now());
        match self.seen.judge(now, &proxy, buckets.start_unix, buckets.sequence) {
            Verdict::New => {
                let mut history = lock(&self.history);
                for cell in &buckets.cells {
                    history.add(buckets.start_unix, &series(cell), &counts(cell));
                }
                waiting.push(done);
            }
            // Counted before, but perhaps in a write that failed: it waits for this one too.
            Verdict::Repeat => waiting.push(done),
            Verdict::TooOld => {
                tracing::warn!(
                    proxy,
                    start = buckets.start_unix,
                    "measurements older than what is remembered"
                );
                let _ = done.send(Taken::Durable);
            }
            Verdict::Refused => {
                tracing::warn!(
                    proxy,
                    start = buckets.start_unix,
                    "measurements refused: a clock far ahead, or too many"
                );
                let _ = done.send(Taken::Later);
            }
        }
    }

    /// What has changed since the last write, and what is too old to keep.
    fn gather(&mut self) {
        let now = clock::unix(SystemTime::now());
        let mut history = lock(&self.history);
        for blob in history.take_dirty(now) {
            self.unwritten.windows.insert((blob.key.resolution.seconds(), blob.key.start), Some(blob.bytes));
        }
        for blob in self.seen.take_dirty() {
            self.unwritten.seen.insert((blob.key.proxy, blob.key.block_start), Some(blob.bytes));
        }
        if self.expired.elapsed() >= EXPIRE_EVERY {
            self.expired = Instant::now();
            for key in history.expire(now) {
                self.unwritten.windows.insert((key.resolution.seconds(), key.start), None);
            }
            for key in self.seen.expire(now) {
                self.unwritten.seen.insert((key.proxy, key.block_start), None);
            }
        }
    }

    fn write(&mut self) -> bool {
        if self.unwritten.is_empty() {
            return true;
        }
        match commit(&self.database, &self.unwritten) {
            Ok(()) => {
                self.unwritten = Writes::default();
                true
            }
            Err(error) => {
                tracing::error!(%error, "can't write the history; nothing is acknowledged until it works again");
                false
            }
        }
    }
}

fn commit(database: &Database, writes: &Writes) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut windows = transaction.open_table(WINDOWS)?;
        for (key, bytes) in &writes.windows {
            match bytes {
                Some(bytes) => windows.insert(key, bytes.as_slice())?,
                None => windows.remove(key)?,
            };
        }
        let mut seen = transaction.open_table(SEEN)?;
        for ((proxy, block), bytes) in &writes.seen {
            match bytes {
                Some(bytes) => seen.insert((proxy.as_str(), *block), bytes.as_slice())?,
                None => seen.remove((proxy.as_str(), *block))?,
            };
        }
    }
    // redb's default durability: on disk when this returns.
    transaction.commit()?;
    Ok(())
}

fn series(cell: &Cell) -> Series {
    Series {
        caller: cell.caller.clone(),
        service: cell.service.clone(),
        version: cell.version.clone(),
        route: cell.route.clone(),
        code: cell.code,
        grpc_status: cell.grpc_status,
        tls: cell.tls.clone(),
        direction: cell.direction.clone(),
    }
}

fn counts(cell: &Cell) -> Counts {
    let sums = Counts {
        requests: cell.requests,
        errors: cell.errors,
        request_bytes: cell.request_bytes,
        response_bytes: cell.response_bytes,
        ..Counts::default()
    };
    sums.with_durations(cell.durations.iter().map(|bin| (bin.index, bin.count)))
}

#[cfg(test)]
mod tests;

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

pub mod gaps;

use gaps::{Gap, Gaps};

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
/// The key: proxy, start of the gap.
const GAPS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("gaps.v1");

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

/// What the writer is told.
enum Work {
    Count(Increment),
    /// A gap may have been found: write it. When the queue is full nothing is lost, a busy writer looks by itself.
    Gap,
}

/// The history and its file.
pub struct Measure {
    history: Arc<Mutex<History>>,
    gaps: Arc<Mutex<Gaps>>,
    /// The last window of each proxy that the file knew at the start.
    last_windows: BTreeMap<String, u64>,
    work: mpsc::SyncSender<Work>,
    path: PathBuf,
}

impl Measure {
    /// Opens (or makes) the file, reads all of it, and starts the writer.
    pub fn open(path: &Path, now: SystemTime) -> Result<Measure, MeasureError> {
        files::private_file(path)?;
        let fail = |source: redb::Error| MeasureError::Open { path: path.to_owned(), source };
        let database = Database::create(path).map_err(|error| fail(error.into()))?;
        let Loaded { mut history, mut seen, mut gaps } = load(&database, path)?;
        history.expire(clock::unix(now));
        seen.expire(clock::unix(now));
        gaps.expire(clock::unix(now));
        let last_windows = seen.last_windows();
        let history = Arc::new(Mutex::new(history));
        let gaps = Arc::new(Mutex::new(gaps));
        let (work, queue) = mpsc::sync_channel(QUEUE_MAX);
        let writer = Writer {
            database,
            history: history.clone(),
            gaps: gaps.clone(),
            seen,
            unwritten: Writes::default(),
            expired: Instant::now(),
        };
        std::thread::Builder::new()
            .name("weft-history".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|error| anyhow::anyhow!("start the history's thread: {error}"))?;
        Ok(Measure { history, gaps, last_windows, work, path: path.to_owned() })
    }

    /// Counts one message of a proxy; answers when that is durable.
    pub async fn add(&self, proxy: &str, buckets: Buckets) -> Taken {
        let (done, taken) = oneshot::channel();
        let increment = Increment { proxy: proxy.to_owned(), buckets, done };
        if self.work.try_send(Work::Count(increment)).is_err() {
            return Taken::Later;
        }
        taken.await.unwrap_or(Taken::Later)
    }

    /// The history, to ask it something.
    pub fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    /// A proxy that counts said hello; `started` tells its processes apart (0: it doesn't say).
    pub fn opened(&self, proxy: &str, service: &str, started: u64, now: SystemTime) {
        lock(&self.gaps).opened(proxy, service, started, clock::unix(now));
        let _ = self.work.try_send(Work::Gap);
    }

    /// It leaves in good order.
    pub fn left(&self, proxy: &str) {
        lock(&self.gaps).left(proxy);
    }

    /// Its stream ended.
    pub fn closed(&self, proxy: &str, now: SystemTime) {
        lock(&self.gaps).closed(proxy, clock::unix(now));
    }

    /// Its lease ended: it is not coming back.
    pub fn vanished(&self, proxy: &str, now: SystemTime) {
        lock(&self.gaps).vanished(proxy, clock::unix(now));
        let _ = self.work.try_send(Work::Gap);
    }

    /// After a start: a proxy that had not left when the control plane ended.
    pub fn expected(&self, proxy: &str, service: &str, now: SystemTime) {
        let last = self.last_windows.get(proxy).copied();
        lock(&self.gaps).expected(proxy, service, last, clock::unix(now));
    }

    /// Where counts may be missing, the newest first.
    pub fn gaps(&self, from: u64, to: u64, now: SystemTime) -> Vec<Gap> {
        lock(&self.gaps).between(from, to, clock::unix(now))
    }

    /// Where it is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Loaded {
    history: History,
    seen: Seen,
    gaps: Gaps,
}

fn load(database: &Database, path: &Path) -> Result<Loaded, MeasureError> {
    let mut history = History::default();
    let mut seen = Seen::new(PROXIES_MAX);
    let mut gaps = Gaps::default();
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
    match read.open_table(GAPS) {
        Ok(rows) => {
            for entry in rows.iter().map_err(|error| fail(error.into()))? {
                let (_, bytes) = entry.map_err(|error| fail(error.into()))?;
                gaps.load(bytes.value());
            }
        }
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(fail(error.into())),
    }
    history.finish_load();
    Ok(Loaded { history, seen, gaps })
}

/// What one transaction does; `None` deletes. Newer writes of a key replace older ones.
#[derive(Default)]
struct Writes {
    windows: BTreeMap<(u64, u64), Option<Vec<u8>>>,
    seen: BTreeMap<(String, u64), Option<Vec<u8>>>,
    gaps: BTreeMap<(String, u64), Option<Vec<u8>>>,
}

impl Writes {
    fn is_empty(&self) -> bool {
        self.windows.is_empty() && self.seen.is_empty() && self.gaps.is_empty()
    }
}

struct Writer {
    database: Database,
    history: Arc<Mutex<History>>,
    gaps: Arc<Mutex<Gaps>>,
    seen: Seen,
    /// Of a transaction that failed: goes with the next, so that memory and disk meet again.
    unwritten: Writes,
    expired: Instant,
}

impl Writer {
    fn run(mut self, queue: &mpsc::Receiver<Work>) {
        loop {
            let mut waiting = Vec::new();
            match queue.recv_timeout(EXPIRE_EVERY) {
                Ok(Work::Count(first)) => self.count(first, &mut waiting),
                Ok(Work::Gap) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let until = Instant::now() + GATHER;
            while !waiting.is_empty() {
                match queue.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(Work::Count(next)) => self.count(next, &mut waiting),
                    Ok(Work::Gap) => {}
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
        let last = self.seen.last(&proxy).map(|(_, sequence)| sequence);
        match self.seen.judge(now, &proxy, buckets.start_unix, buckets.sequence) {
            Verdict::New => {
                lock(&self.gaps).counted(&proxy, last, buckets.sequence, now);
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
        let mut gaps = lock(&self.gaps);
        self.unwritten.gaps.extend(gaps.take_dirty());
        for blob in self.seen.take_dirty() {
            self.unwritten.seen.insert((blob.key.proxy, blob.key.block_start), Some(blob.bytes));
        }
        if self.expired.elapsed() >= EXPIRE_EVERY {
            self.expired = Instant::now();
            gaps.expire(now);
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
        let mut gaps = transaction.open_table(GAPS)?;
        for ((proxy, from), bytes) in &writes.gaps {
            match bytes {
                Some(bytes) => gaps.insert((proxy.as_str(), *from), bytes.as_slice())?,
                None => gaps.remove((proxy.as_str(), *from))?,
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

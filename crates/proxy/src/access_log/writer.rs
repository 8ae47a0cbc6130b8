//! The one thread that writes the access logs of all workers, so that a slow disk holds up nobody's requests.
//!
//! Each log of a worker has two buffers: one is filled while the other is written, and they change places by a channel of
//! fixed size, without an allocation. A disk that does not keep up leaves the worker with a full buffer; its next lines
//! are dropped and counted. All files share the thread: while one stands still, the lines of the others wait too.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use weft_routing::AccessLogTarget;

/// Buffers and orders on their way; each log of a worker has one or two.
const ON_THE_WAY_MAX: usize = 256;
/// A file that could not be opened is tried again after this time.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// At the end, for what is still to be written.
const LAST_WRITES_TIMEOUT: Duration = Duration::from_secs(2);

enum Order {
    Write(Lines),
    Reopen,
}

/// What one log of one worker has gathered.
struct Lines {
    log: Arc<Shared>,
    bytes: Vec<u8>,
}

/// One log of one worker, as its two sides know it.
struct Shared {
    target: AccessLogTarget,
    /// Empty buffers on their way back.
    back: SyncSender<Vec<u8>>,
    lost: AtomicU64,
}

/// The road to the writing thread. Clones share it; the thread ends after the last of them.
#[derive(Clone)]
pub struct Writer {
    orders: SyncSender<Order>,
}

/// Waits for the thread.
pub struct Written {
    thread: JoinHandle<()>,
    ended: Receiver<()>,
}

/// A worker's end of one log.
pub struct Outlet {
    writer: Writer,
    shared: Arc<Shared>,
    empty: Receiver<Vec<u8>>,
}

impl Writer {
    pub fn start() -> io::Result<(Writer, Written)> {
        let (orders, received) = sync_channel(ON_THE_WAY_MAX);
        let (ending, ended) = sync_channel(1);
        let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            write_all(&received);
            let _ = ending.send(());
        })?;
        Ok((Writer { orders }, Written { thread, ended }))
    }

    pub fn outlet(&self, target: AccessLogTarget) -> Outlet {
        let (back, empty) = sync_channel(2);
        let shared = Arc::new(Shared { target, back, lost: AtomicU64::new(0) });
        Outlet { writer: self.clone(), shared, empty }
    }

    /// Opens the files anew: somebody has moved them away.
    pub fn reopen(&self) {
        // Without room the thread stands still at one of them, and nothing else would help.
        let _ = self.orders.try_send(Order::Reopen);
    }
}

impl Written {
    /// After the last [`Writer`] is gone: waits until all is written, or nothing moves for too long.
    pub fn wait(self) {
        match self.ended.recv_timeout(LAST_WRITES_TIMEOUT) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => drop(self.thread.join()),
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!("the last lines of the access log are not written")
            }
        }
    }
}

impl Outlet {
    /// Gives the bytes to the thread and leaves an empty buffer, if it is there and the thread takes them: `false`
    /// means that nothing has changed.
    pub fn hand_over(&self, filled: &mut Vec<u8>, first: bool) -> bool {
        let empty = match self.empty.try_recv() {
            Ok(empty) => empty,
            Err(_) if first => Vec::with_capacity(filled.capacity()),
            Err(_) => return false,
        };
        let bytes = std::mem::replace(filled, empty);
        let sent = self.writer.orders.try_send(Order::Write(Lines { log: Arc::clone(&self.shared), bytes }));
        let Err(unsent) = sent else { return true };
        let (std::sync::mpsc::TrySendError::Full(order) | std::sync::mpsc::TrySendError::Disconnected(order)) =
            unsent;
        if let Order::Write(lines) = order {
            let empty = std::mem::replace(filled, lines.bytes);
            let _ = self.shared.back.try_send(empty);
        }
        false
    }

    pub fn lose(&self, lines: u64) {
        self.shared.lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// Lines that were lost since it was last asked.
    pub fn lost(&self) -> u64 {
        self.shared.lost.swap(0, Ordering::Relaxed)
    }
}

/// The files, each open once, as long as the thread runs.
#[derive(Default)]
struct Files {
    open: HashMap<PathBuf, File>,
    failed: HashMap<PathBuf, Instant>,
}

fn write_all(orders: &Receiver<Order>) {
    let mut files = Files::default();
    let mut said: Option<Instant> = None;
    while let Ok(order) = orders.recv() {
        match order {
            Order::Write(mut lines) => {
                if let Err(error) = files.write(&lines) {
                    lines.log.lost.fetch_add(newlines(&lines.bytes), Ordering::Relaxed);
                    if let Some(error) = error
                        && said.is_none_or(|said| said.elapsed() >= RETRY_INTERVAL)
                    {
                        said = Some(Instant::now());
                        tracing::warn!(%error, target = ?lines.log.target, "access log lines were lost");
                    }
                }
                lines.bytes.clear();
                lines.bytes.shrink_to(super::BUFFER_BYTES * 2);
                // A worker that has ended wants none.
                let _ = lines.log.back.try_send(lines.bytes);
            }
            Order::Reopen => files = Files::default(),
        }
    }
}

impl Files {
    /// An error that was said already is `None`.
    fn write(&mut self, lines: &Lines) -> Result<(), Option<io::Error>> {
        match &lines.log.target {
            AccessLogTarget::Stdout => io::stdout().write_all(&lines.bytes).map_err(Some),
            AccessLogTarget::Stderr => io::stderr().write_all(&lines.bytes).map_err(Some),
            AccessLogTarget::File(path) => self.file(path)?.write_all(&lines.bytes).map_err(Some),
        }
    }

    fn file(&mut self, path: &Path) -> Result<&mut File, Option<io::Error>> {
        if !self.open.contains_key(path) {
            let failed = self.failed.get(path).copied();
            if failed.is_some_and(|at| at.elapsed() < RETRY_INTERVAL) {
                return Err(None);
            }
            match OpenOptions::new().create(true).append(true).open(path) {
                Ok(file) => {
                    self.failed.remove(path);
                    self.open.insert(path.to_owned(), file);
                }
                Err(error) => {
                    self.failed.insert(path.to_owned(), Instant::now());
                    // Said when it begins.
                    return Err(failed.is_none().then_some(error));
                }
            }
        }
        self.open.get_mut(path).ok_or(None)
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

//! Who changed what, and who was refused: one JSON line each in `STATE/audit.jsonl`.
//!
//! Written before the answer goes out. Each line carries the SHA-256 of the line before it (`prev`),
//! also across files, and `STATE/audit.head` says what the last line is: [`verify`] finds a line that
//! was altered, taken out, or cut off the end. Whoever can write both files can forge both; to hold
//! against the machine's owner, ship the lines elsewhere as they come.
//!
//! Room for lines is reserved on the disk before a change is made, so that no change goes unrecorded:
//! without room, [`Audit::ready`] says so and the change is refused. Refusals are bounded by the
//! second, so that knocking cannot fill the disk; the next line says how many were left out.

mod chain;
mod list;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use anyhow::Context as _;
use serde_json::json;
use weft_store::Revision;

use crate::clock;
use crate::files;
use chain::Head;
pub use chain::{Verified, verify};
pub(crate) use list::{Asked, Listed, list};

/// The log's name in the state directory; older files are `audit.1.jsonl` (the newest of them) and so on.
pub(crate) const AUDIT_FILE: &str = "audit.jsonl";
/// What the last line is.
pub(crate) const HEAD_FILE: &str = "audit.head";
/// A larger file is put aside. 32 of these hold some 1.5 million lines: a change every 20 s for a year.
const FILE_BYTES_MAX: u64 = 16 << 20;
const FILES_KEPT_MAX: usize = 32;
/// What is reserved on the disk beyond the last line before a change is made.
const ROOM_BYTES: u64 = 128 << 10;
const REFUSALS_PER_SECOND_MAX: u32 = 20;
const TEXT_BYTES_MAX: usize = 512;

/// One happening.
pub(crate) struct Entry<'a> {
    pub(crate) who: &'a str,
    pub(crate) peer: String,
    pub(crate) verb: &'a str,
    pub(crate) object: &'a str,
    pub(crate) result: u16,
    pub(crate) reason: &'a str,
    pub(crate) revision: Option<Revision>,
}

pub(crate) struct Audit {
    log: Mutex<Log>,
}

struct Log {
    state: PathBuf,
    file: File,
    head_file: File,
    head: Head,
    bytes: u64,
    bytes_max: u64,
    kept_max: usize,
    /// The last line could not be written: no change before one can.
    failing: bool,
    second: u64,
    refusals: u32,
    left_out: u64,
}

impl Audit {
    pub(crate) fn open(state: &Path) -> anyhow::Result<Audit> {
        Self::open_with(state, FILE_BYTES_MAX, FILES_KEPT_MAX)
    }

    fn open_with(state: &Path, bytes_max: u64, kept_max: usize) -> anyhow::Result<Audit> {
        let path = state.join(AUDIT_FILE);
        files::private_file(&path)?;
        files::private_file(&state.join(HEAD_FILE))?;
        let head_file = OpenOptions::new()
            .write(true)
            .open(state.join(HEAD_FILE))
            .with_context(|| format!("open {}", state.join(HEAD_FILE).display()))?;
        let head = chain::resume(state).with_context(|| format!("read {}", path.display()))?;
        let file = append_to(&path).with_context(|| format!("open {}", path.display()))?;
        let bytes = file.metadata().with_context(|| format!("read {}", path.display()))?.len();
        let log = Log {
            state: state.to_owned(),
            file,
            head_file,
            head,
            bytes,
            bytes_max,
            kept_max,
            failing: false,
            second: 0,
            refusals: 0,
            left_out: 0,
        };
        Ok(Audit { log: Mutex::new(log) })
    }

    /// Whether a change that is made now can be written down; why not, if not.
    pub(crate) fn ready(&self) -> io::Result<()> {
        self.lock().reserve()
    }

    /// A change, done or not.
    pub(crate) fn change(&self, entry: &Entry<'_>, now: SystemTime) {
        self.lock().write(entry, now);
    }

    /// A request of somebody who may not.
    pub(crate) fn refusal(&self, entry: &Entry<'_>, now: SystemTime) {
        let mut log = self.lock();
        let second = clock::unix(now);
        if log.second != second {
            log.second = second;
            log.refusals = 0;
        }
        log.refusals += 1;
        if log.refusals > REFUSALS_PER_SECOND_MAX {
            log.left_out += 1;
        } else {
            log.write(entry, now);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        // A panic while holding it leaves the log as usable as before.
        self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Log {
    fn write(&mut self, entry: &Entry<'_>, now: SystemTime) {
        let mut line = json!({
            "time": clock::rfc3339(now),
            "who": shortened(entry.who),
            "peer": entry.peer,
            "verb": entry.verb,
            "object": shortened(entry.object),
            "result": entry.result,
            "revision": entry.revision,
            "seq": self.head.seq + 1,
            "prev": self.head.hash,
        });
        if !entry.reason.is_empty() {
            line["reason"] = shortened(entry.reason).into();
        }
        if self.left_out > 0 {
            line["refusals_left_out"] = self.left_out.into();
        }
        match self.append(&line.to_string()) {
            Ok(()) => self.left_out = 0,
            Err(error) => {
                self.failing = true;
                tracing::error!(%error, verb = entry.verb, object = entry.object, "the audit log can't be written");
            }
        }
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        if self.bytes >= self.bytes_max {
            self.rotate()?;
        }
        let whole = format!("{line}\n");
        if let Err(error) = self.file.write_all(whole.as_bytes()) {
            // Half a line would join the next one to it.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += whole.len() as u64;
        self.head.seq += 1;
        self.head.hash = chain::hash(line.as_bytes());
        self.failing = false;
        self.head.write(&mut self.head_file)
    }

    /// `audit.jsonl` becomes `audit.1.jsonl`, that one `audit.2.jsonl`; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        let place = |number: usize| self.state.join(chain::file_name(number));
        let last = self.kept_max;
        if fs::exists(place(last))? {
            let dropped = fs::read(place(last))?;
            fs::remove_file(place(last))?;
            self.head.first += chain::entries(&dropped);
        }
        for number in (0..last).rev() {
            match fs::rename(place(number), place(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        files::private_file(&place(0)).map_err(io::Error::other)?;
        self.file = append_to(&place(0))?;
        self.bytes = 0;
        Ok(())
    }

    fn reserve(&mut self) -> io::Result<()> {
        let full = || {
            io::Error::new(
                io::ErrorKind::StorageFull,
                "the audit log has no room on its disk; free some space, then try again",
            )
        };
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::KEEP_SIZE, self.bytes, ROOM_BYTES)
        {
            Ok(()) => Ok(()),
            // Not every file system can; then its free blocks say it.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                let disk = rustix::fs::fstatvfs(&self.file)?;
                let free = disk.f_bavail.saturating_mul(disk.f_frsize);
                if self.failing || (disk.f_blocks > 0 && free < 4 * ROOM_BYTES) {
                    Err(full())
                } else {
                    Ok(())
                }
            }
            Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => Err(full()),
            Err(other) => Err(other.into()),
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).open(path)
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;

//! Who changed what, and who was refused: one JSON line each in `STATE/audit.jsonl`.
//!
//! Written before the answer goes out. Refusals of strangers are bounded, so that knocking cannot
//! fill the disk; the next line that is written says how many were left out.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;

use anyhow::Context as _;
use serde_json::json;
use weft_store::Revision;

use crate::clock;
use crate::files;

/// The log's name in the state directory.
pub(crate) const AUDIT_FILE: &str = "audit.jsonl";
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
    file: File,
    second: u64,
    refusals: u32,
    left_out: u64,
}

impl Audit {
    pub(crate) fn open(state: &Path) -> anyhow::Result<Audit> {
        let path = state.join(AUDIT_FILE);
        files::private_file(&path)?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        Ok(Audit { log: Mutex::new(Log { file, second: 0, refusals: 0, left_out: 0 }) })
    }

    /// A change, done or not.
    pub(crate) fn change(&self, entry: &Entry<'_>, now: SystemTime) {
        self.lock().write(entry, now);
    }

    /// A request of somebody whom we don't know.
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
            "who": entry.who,
            "peer": entry.peer,
            "verb": entry.verb,
            "object": shortened(entry.object),
            "result": entry.result,
            "revision": entry.revision,
        });
        if !entry.reason.is_empty() {
            line["reason"] = shortened(entry.reason).into();
        }
        if self.left_out > 0 {
            line["refusals_left_out"] = self.left_out.into();
        }
        let mut bytes = line.to_string().into_bytes();
        bytes.push(b'\n');
        match self.file.write_all(&bytes) {
            Ok(()) => self.left_out = 0,
            Err(error) => {
                tracing::error!(%error, verb = entry.verb, object = entry.object, "the audit log can't be written")
            }
        }
    }
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is its message")]
    use super::*;

    #[test]
    fn knocking_does_not_fill_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(dir.path()).unwrap();
        let now = SystemTime::now();
        let entry = |verb| Entry {
            who: "nobody",
            peer: "127.0.0.1:1".to_owned(),
            verb,
            object: "/api\nforged line",
            result: 401,
            reason: "",
            revision: None,
        };
        for _ in 0..REFUSALS_PER_SECOND_MAX + 5 {
            audit.refusal(&entry("GET"), now);
        }
        audit.change(&entry("create"), now);
        let text = std::fs::read_to_string(dir.path().join(AUDIT_FILE)).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len() as u32, REFUSALS_PER_SECOND_MAX + 1);
        assert_eq!(lines[lines.len() - 1]["refusals_left_out"], 5);
        assert_eq!(lines[0]["object"], "/api\nforged line");
    }
}

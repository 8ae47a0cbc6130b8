//! The chain of hashes over the lines, and its check. A line's hash is that of its bytes as they stand
//! in the file, so that nobody need agree on how JSON is written.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AUDIT_FILE, HEAD_FILE};

/// Problems told; more say no more.
const PROBLEMS_MAX: usize = 20;

/// What the last line is, and the first that is still kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) seq: u64,
    /// The number of the oldest line that rotation left.
    pub(super) first: u64,
    /// Of the last line; empty before the first.
    pub(super) hash: String,
}

impl Head {
    /// In place and of constant length: the head of a moment ago or this one, in one sector.
    pub(super) fn write(&self, file: &mut File) -> io::Result<()> {
        let text = format!(r#"{{"seq":{},"first":{},"hash":"{}"}}"#, self.seq, self.first, self.hash);
        let text = format!("{text:<159}\n");
        file.write_all_at(text.as_bytes(), 0)
    }
}

pub(super) fn hash(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file of this age; 0 is the one that is written.
pub(super) fn file_name(age: usize) -> String {
    match age {
        0 => AUDIT_FILE.to_owned(),
        age => format!("audit.{age}.jsonl"),
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// A line that is an entry, with its number.
pub(super) fn numbered(line: &[u8]) -> Option<(u64, Value)> {
    let value: Value = serde_json::from_slice(line).ok()?;
    Some((value["seq"].as_u64()?, value))
}

/// Lines that carry a number.
pub(super) fn entries(bytes: &[u8]) -> u64 {
    lines(bytes).filter(|line| numbered(line).is_some()).count() as u64
}

/// Where to go on after a restart; a line that a crash cut short is ended, and stays.
pub(super) fn resume(state: &Path) -> io::Result<Head> {
    let path = state.join(AUDIT_FILE);
    let bytes = std::fs::read(&path)?;
    if !bytes.is_empty() && bytes.last() != Some(&b'\n') {
        std::fs::OpenOptions::new().append(true).open(&path)?.write_all(b"\n")?;
    }
    let stored: Option<Head> =
        std::fs::read(state.join(HEAD_FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let mut head = stored.unwrap_or_default();
    // The lines are the truth, the head is a moment behind after a crash; but a line that is gone
    // must not be forgotten because we were started again.
    if let Some((seq, _)) = lines(&bytes).filter_map(numbered).last()
        && seq > head.seq
    {
        head.seq = seq;
    }
    if let Some(last) = lines(&bytes).last() {
        head.hash = hash(last);
    }
    head.first = head.first.max(1);
    Ok(head)
}

/// What the check of an audit log found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Whether every line that was written is there and as it was written.
    pub ok: bool,
    /// The lines that were read.
    pub entries: u64,
    /// The number of the oldest one; greater than 1 when older files were rotated away.
    pub first: u64,
    /// The number of the newest one.
    pub last: u64,
    /// What is wrong, by file and line.
    pub problems: Vec<String>,
}

/// Checks the log of a state directory.
///
/// # Errors
/// When a file of it can't be read.
pub fn verify(state: &Path) -> anyhow::Result<Verified> {
    let mut files = Vec::new();
    for age in 0..=super::FILES_KEPT_MAX {
        match std::fs::read(state.join(file_name(age))) {
            Ok(bytes) => files.push((file_name(age), bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => anyhow::bail!("read {}: {error}", state.join(file_name(age)).display()),
        }
    }
    files.reverse();
    let head = std::fs::read(state.join(HEAD_FILE)).ok();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), &**bytes)).collect();
    Ok(check(&files, head.as_deref()))
}

/// The same, pure: files from the oldest to the newest, and the head's text.
pub(super) fn check(files: &[(&str, &[u8])], head: Option<&[u8]>) -> Verified {
    let mut found = Verified::default();
    let mut before: Option<String> = None;
    let head: Option<Head> = head.and_then(|text| serde_json::from_slice(text).ok());
    let mut at_head = None;
    for (name, bytes) in files {
        for (number, line) in lines(bytes).enumerate() {
            let place = format!("{name}:{}", number + 1);
            // A line that a crash cut short is no JSON; the next line's `prev` vouches for it.
            if let Some((seq, value)) = numbered(line) {
                let prev = value["prev"].as_str().unwrap_or_default();
                if before.as_deref().is_some_and(|before| before != prev) {
                    found.problems.push(format!(
                        "{place}: entry {seq} does not follow the line before it: one of them was altered, or lines were taken out between them"
                    ));
                } else if found.last != 0 && seq != found.last + 1 {
                    found.problems.push(format!("{place}: entry {seq} comes after entry {}", found.last));
                }
                if found.entries == 0 {
                    found.first = seq;
                }
                found.entries += 1;
                found.last = seq;
                if head.as_ref().is_some_and(|head| head.seq == seq) {
                    at_head = Some(hash(line));
                }
            }
            before = Some(hash(line));
        }
    }
    match head {
        None if found.entries > 0 => {
            found
                .problems
                .push(format!("{HEAD_FILE} is missing or unreadable: whether the end is whole is not known"));
        }
        Some(head) if head.seq > found.last => found.problems.push(format!(
            "the end is missing: the last entry is {}, but {} were written",
            found.last, head.seq
        )),
        Some(head) if found.entries > 0 && head.first < found.first => found.problems.push(format!(
            "the beginning is missing: it starts at entry {}, rotation left those from {}",
            found.first, head.first
        )),
        // A torn line after the last entry changes the head's hash, not the entry.
        Some(head)
            if head.seq > 0
                && at_head.is_some_and(|hash| hash != head.hash)
                && before.as_ref() != Some(&head.hash) =>
        {
            found.problems.push(format!("entry {} is not the one that was written", head.seq));
        }
        _ => {}
    }
    found.problems.truncate(PROBLEMS_MAX);
    found.ok = found.problems.is_empty();
    found
}

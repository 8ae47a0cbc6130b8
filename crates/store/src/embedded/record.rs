//! Records as bytes: an object in the table of objects, a revision's changes in the log.
//!
//! Lengths are little-endian `u32`, revisions `u64`. What doesn't decode is damage, never a panic.

use std::sync::Arc;

use crate::{Change, Key, Revision, Stored};

pub fn encode_object(stored: &Stored) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + stored.value.len());
    out.extend_from_slice(&stored.created.to_le_bytes());
    out.extend_from_slice(&stored.modified.to_le_bytes());
    out.extend_from_slice(&stored.value);
    out
}

pub fn decode_object(key: &[u8], bytes: &[u8]) -> Option<Stored> {
    let mut input = Input(bytes);
    let (created, modified) = (input.revision()?, input.revision()?);
    Some(Stored { key: Key::decode(key)?, created, modified, value: Arc::from(input.0) })
}

const HAS_BEFORE: u8 = 1;
const HAS_AFTER: u8 = 2;

/// All changes of one revision. The revision itself is the record's key.
pub fn encode_changes(changes: &[Change]) -> Vec<u8> {
    let mut out = Vec::new();
    for change in changes {
        let before = change.before.as_ref().map_or(0, |_| HAS_BEFORE);
        let after = change.after.as_ref().map_or(0, |_| HAS_AFTER);
        out.push(before | after);
        put(&mut out, &change.key.encode());
        if let Some(before) = &change.before {
            put(&mut out, before);
        }
        if let Some(after) = &change.after {
            out.extend_from_slice(&after.created.to_le_bytes());
            put(&mut out, &after.value);
        }
    }
    out
}

pub fn decode_changes(revision: Revision, bytes: &[u8]) -> Option<Vec<Change>> {
    let mut input = Input(bytes);
    let mut changes = Vec::new();
    while !input.0.is_empty() {
        let [flags] = *input.take(1)? else { return None };
        if flags & !(HAS_BEFORE | HAS_AFTER) != 0 {
            return None;
        }
        let key = Key::decode(input.bytes()?)?;
        let before = if flags & HAS_BEFORE == 0 { None } else { Some(Arc::from(input.bytes()?)) };
        let after = if flags & HAS_AFTER == 0 {
            None
        } else {
            let created = input.revision()?;
            let value = Arc::from(input.bytes()?);
            Some(Stored { key: key.clone(), created, modified: revision, value })
        };
        changes.push(Change { revision, key, before, after });
    }
    Some(changes)
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    // The limits keep every part far below 4 GiB.
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn revision(&mut self) -> Option<Revision> {
        Some(Revision::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
        self.take(usize::try_from(count).ok()?)
    }
}

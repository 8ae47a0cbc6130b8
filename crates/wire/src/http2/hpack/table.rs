//! The decoder's dynamic table (RFC 7541 2.3.2): the last fields that the peer chose to keep, newest first.
//!
//! Its fields are ready to be given away by a count on their memory. Whoever holds such a field holds on to at most
//! [`COPIES_BYTES`]: values stand together, in the order in which they will be dropped again, so that what they take
//! follows the table's size.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::HeaderName;

use super::{FIELD_BYTES, Field, Pseudo};

const COPIES_BYTES: usize = 1024;
/// A longer value has memory of its own.
const COPY_BYTES_MAX: usize = COPIES_BYTES / 4;

/// The name of a field, for others that refer to it.
#[derive(Clone)]
pub enum Name {
    Pseudo(Pseudo),
    Header(HeaderName),
    Malformed,
}

pub struct Entry {
    pub field: Field,
    /// Of a field that is malformed by its value alone: the name is as good as any.
    name: Option<Box<Name>>,
    pub name_bytes: u32,
    pub bytes: u32,
}

impl Entry {
    pub const fn new(field: Field, name_bytes: usize, value_bytes: usize) -> Entry {
        let bytes = (name_bytes + value_bytes + FIELD_BYTES) as u32;
        Entry { field, name: None, name_bytes: name_bytes as u32, bytes }
    }

    pub fn name(&self) -> Name {
        match &self.field {
            Field::Pseudo(name, _) => Name::Pseudo(*name),
            Field::Header(name, _) => Name::Header(name.clone()),
            Field::Malformed => self.name.as_deref().cloned().unwrap_or(Name::Malformed),
        }
    }

    /// For a field with a malformed value.
    pub fn named(mut self, name: Name) -> Entry {
        self.name = (!matches!(name, Name::Malformed)).then(|| Box::new(name));
        self
    }
}

pub struct Table {
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
    copies: BytesMut,
}

impl Table {
    pub fn new(bytes_max: usize) -> Table {
        Table { entries: VecDeque::new(), bytes: 0, bytes_max, copies: BytesMut::new() }
    }

    pub fn resize(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.shrink(bytes_max);
    }

    /// From 0, the newest.
    pub fn get(&self, age: usize) -> Option<&Entry> {
        self.entries.get(age)
    }

    /// Memory for the value of an entry that is to come.
    pub fn copied(&mut self, value: &[u8]) -> Bytes {
        if value.is_empty() || value.len() > COPY_BYTES_MAX {
            return Bytes::copy_from_slice(value);
        }
        if self.copies.capacity() < value.len() {
            self.copies.reserve(COPIES_BYTES);
        }
        self.copies.extend_from_slice(value);
        self.copies.split().freeze()
    }

    /// Makes room for an entry of this size. It has no place if it is larger than the table, which is empty then.
    pub fn make_room(&mut self, bytes: usize) -> bool {
        self.shrink(self.bytes_max.saturating_sub(bytes));
        bytes <= self.bytes_max
    }

    /// After `make_room`.
    pub fn insert(&mut self, entry: Entry) {
        self.bytes += entry.bytes as usize;
        self.entries.push_front(entry);
    }

    fn shrink(&mut self, bytes: usize) {
        while self.bytes > bytes {
            let Some(oldest) = self.entries.pop_back() else { break };
            self.bytes -= oldest.bytes as usize;
        }
    }
}

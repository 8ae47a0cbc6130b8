//! The encoder's dynamic table, made for the question "where is this field": by hashes, without an allocation.
//!
//! Hashes only say where to look, so it is of no use to a peer to know them: at worst a field is not found and written
//! out.

use std::collections::VecDeque;

use super::{FIELD_BYTES, TABLE_BYTES, statics};

/// As many as fit; a number of an entry is below.
const ENTRIES_MAX: usize = TABLE_BYTES / FIELD_BYTES;
/// Places to look up; at most half of them are taken.
const SLOTS: usize = 2 * ENTRIES_MAX;
/// Places next to each other that a hash may stand at.
const PROBES: usize = 4;
/// Hashes that are remembered. The place says which one a new one takes over.
const SEEN: usize = 64;

/// Of a field: its name alone and all of it.
#[derive(Clone, Copy)]
pub struct Hashes {
    pub name: u64,
    pub field: u64,
}

/// A field's name: its index in the static table, or its text.
#[derive(Clone, Copy)]
pub enum Name<'a> {
    Static(u8),
    Text(&'a [u8]),
}

impl Name<'_> {
    fn index(self) -> u8 {
        match self {
            Name::Static(index) => index,
            Name::Text(_) => 0,
        }
    }

    /// Nothing if the static table has it.
    pub fn text(&self) -> &[u8] {
        match self {
            Name::Static(_) => &[],
            Name::Text(text) => text,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Name::Static(index) => statics::FIELDS
                .get(usize::from(index).wrapping_sub(1))
                .map_or(0, |entry| entry.name_bytes as usize),
            Name::Text(text) => text.len(),
        }
    }
}

struct Entry {
    /// Of the name in the static table; 0 if its text is here.
    index: u8,
    name_bytes: u16,
    /// What the table counts.
    bytes: u16,
    /// The name, and the value behind it.
    text: Box<[u8]>,
}

impl Entry {
    fn is(&self, name: Name<'_>, value: &[u8]) -> bool {
        self.has_name(name) && self.text.get(usize::from(self.name_bytes)..) == Some(value)
    }

    fn has_name(&self, name: Name<'_>) -> bool {
        match name {
            Name::Static(index) => self.index == index,
            Name::Text(text) => {
                self.index == 0 && self.text.get(..usize::from(self.name_bytes)) == Some(text)
            }
        }
    }
}

/// From hashes to the numbers of entries. What is found is compared with the entry: it may be one of the past, whose
/// number has come again since.
struct Places {
    numbers: [u8; SLOTS],
    /// By number.
    hashes: [u32; ENTRIES_MAX],
}

impl Places {
    const EMPTY: Places = Places { numbers: [0; SLOTS], hashes: [0; ENTRIES_MAX] };

    /// The number of the entry with this hash of which that is true.
    #[inline]
    fn find(&self, hash: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        for probe in 0..PROBES {
            let number = usize::from(self.numbers[place(hash, probe)]) % ENTRIES_MAX;
            if self.hashes[number] == (hash >> 32) as u32 && is_it(number) {
                return Some(number);
            }
        }
        None
    }

    /// Puts a hash where its like stands, else where one that is gone stands, else at its first place.
    fn insert(&mut self, hash: u64, number: usize, is_gone: impl Fn(usize) -> bool) {
        let mut chosen = None;
        for probe in 0..PROBES {
            let at = place(hash, probe);
            let there = usize::from(self.numbers[at]) % ENTRIES_MAX;
            let is_gone = is_gone(there);
            if !is_gone && self.hashes[there] == (hash >> 32) as u32 {
                chosen = Some(at);
                break;
            }
            if is_gone && chosen.is_none() {
                chosen = Some(at);
            }
        }
        self.numbers[chosen.unwrap_or(place(hash, 0))] = number as u8;
        self.hashes[number] = (hash >> 32) as u32;
    }
}

pub struct Table {
    /// Newest first.
    entries: VecDeque<Entry>,
    /// The number of the next entry: that of one which is long gone, as there are never that many.
    next: usize,
    bytes: usize,
    bytes_max: usize,
    /// None as long as nothing was kept.
    places: Option<Box<(Places, Places)>>,
    seen: [u32; SEEN],
}

impl Table {
    pub fn new() -> Table {
        Table {
            entries: VecDeque::new(),
            next: 0,
            bytes: 0,
            bytes_max: TABLE_BYTES,
            places: None,
            seen: [0; SEEN],
        }
    }

    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub fn resize(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max.min(TABLE_BYTES);
        self.shrink(self.bytes_max);
    }

    /// The index of a field.
    #[inline]
    pub fn find(&self, hash: u64, name: Name<'_>, value: &[u8]) -> Option<usize> {
        let (fields, _) = self.places.as_deref()?;
        let is_it = |number| self.entry(number).is_some_and(|entry| entry.is(name, value));
        fields.find(hash, is_it).map(|number| self.index(number))
    }

    /// The index of a field with this name.
    pub fn find_name(&self, hash: u64, name: Name<'_>) -> Option<usize> {
        if let Name::Static(index) = name {
            return Some(usize::from(index));
        }
        let (_, names) = self.places.as_deref()?;
        let is_it = |number| self.entry(number).is_some_and(|entry| entry.has_name(name));
        names.find(hash, is_it).map(|number| self.index(number))
    }

    fn entry(&self, number: usize) -> Option<&Entry> {
        self.entries.get(age(self.next, number))
    }

    fn index(&self, number: usize) -> usize {
        statics::COUNT + 1 + age(self.next, number)
    }

    /// Whether one of the last few that were asked for was the same.
    pub fn was_seen(&mut self, hash: u64) -> bool {
        let place = &mut self.seen[hash as usize % SEEN];
        let seen = (hash >> 32) as u32;
        std::mem::replace(place, seen) == seen
    }

    /// Whether a field may have a place: a large one would push out many. No name of the static table is longer than 27.
    #[inline]
    pub fn takes(&self, name: Name<'_>, value: &[u8]) -> bool {
        name.text().len() + value.len() + FIELD_BYTES + 27 <= self.bytes_max / 4 * 3
    }

    /// A field that the table takes.
    pub fn insert(&mut self, hashes: Hashes, name: Name<'_>, value: &[u8]) {
        let bytes = name.bytes() + value.len() + FIELD_BYTES;
        self.shrink(self.bytes_max.saturating_sub(bytes));
        let (number, count) = (self.next, self.entries.len());
        let is_gone = |other| age(number, other) >= count;
        let places = self.places.get_or_insert_with(|| Box::new((Places::EMPTY, Places::EMPTY)));
        places.0.insert(hashes.field, number, is_gone);
        let text = name.text();
        if name.index() == 0 {
            places.1.insert(hashes.name, number, is_gone);
        }
        self.bytes += bytes;
        self.entries.push_front(Entry {
            index: name.index(),
            name_bytes: text.len() as u16,
            bytes: bytes as u16,
            text: [text, value].concat().into(),
        });
        self.next = (number + 1) % ENTRIES_MAX;
    }

    fn shrink(&mut self, bytes: usize) {
        while self.bytes > bytes {
            let Some(oldest) = self.entries.pop_back() else { break };
            self.bytes -= usize::from(oldest.bytes);
        }
    }
}

/// How many came since the entry with this number.
fn age(next: usize, number: usize) -> usize {
    next.wrapping_sub(number + 1) % ENTRIES_MAX
}

fn place(hash: u64, probe: usize) -> usize {
    (hash as usize).wrapping_add(probe) % SLOTS
}

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A name's: names that are as long, and begin and end alike, share their places.
#[inline]
pub fn hash_of_name(name: Name<'_>) -> u64 {
    match name {
        Name::Static(index) => u64::from(index).wrapping_mul(ODD),
        Name::Text(text) => ends(ODD.wrapping_add(text.len() as u64), text),
    }
}

/// A field's, by its value and the hash of its name.
#[inline]
pub fn hash_of_field(name: u64, value: &[u8]) -> u64 {
    let mut state = name ^ ODD.wrapping_add(value.len() as u64);
    let mut rest = value;
    while rest.len() > 16
        && let Some((pair, tail)) = rest.split_first_chunk::<16>()
    {
        state = ends(state, pair);
        rest = tail;
    }
    ends(state, rest)
}

/// Sixteen bytes by the two halves of a product, of less some twice.
#[inline]
fn ends(state: u64, text: &[u8]) -> u64 {
    let (low, high) = match (text.first_chunk(), text.last_chunk()) {
        (Some(low), Some(high)) => (u64::from_le_bytes(*low), u64::from_le_bytes(*high)),
        _ => match (text.first_chunk(), text.last_chunk()) {
            (Some(low), Some(high)) => {
                (u64::from(u32::from_le_bytes(*low)), u64::from(u32::from_le_bytes(*high)))
            }
            _ => (text.iter().fold(0, |low, byte| low << 8 | u64::from(*byte)), 0),
        },
    };
    let product = u128::from(low ^ ODD) * u128::from(high ^ state);
    product as u64 ^ (product >> 64) as u64
}

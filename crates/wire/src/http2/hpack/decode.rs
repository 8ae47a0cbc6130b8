//! Blocks to fields.
//!
//! Copies of literals stand together in memory that the thread keeps for all its connections: it is used again once all
//! of them are gone, so that most blocks allocate nothing and a connection that waits holds its table alone.

use std::cell::Cell;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue};

use super::{
    FIELD_BYTES, Field, HpackError, Pseudo, TABLE_BYTES, huffman, integer, statics,
    table::{Entry, Name, Table},
};

/// Copies that stand together; as much as the last of them can keep alive.
const COPIES_BYTES: usize = 8 * 1024;
/// A longer value has memory of its own.
const COPY_BYTES_MAX: usize = COPIES_BYTES / 4;
/// What the thread keeps to write decoded text to.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// The memory of a thread.
#[derive(Default)]
struct Memory {
    /// What the Huffman code says, until it is copied.
    text: Vec<u8>,
    /// Two, so that the older one is free again when the other is full.
    copies: [BytesMut; 2],
}

thread_local! {
    static MEMORY: Cell<Option<Box<Memory>>> = const { Cell::new(None) };
}

/// Keeps no memory of this thread that nobody uses just now.
#[cold]
pub fn release() {
    drop(Memory::take());
}

impl Memory {
    /// For a block. Who asks for it a second time before it is put back has one of its own.
    fn take() -> Box<Memory> {
        MEMORY.try_with(Cell::take).ok().flatten().unwrap_or_default()
    }

    fn put_back(mut self: Box<Memory>) {
        if self.text.len() > TEXT_BYTES_MAX {
            self.text = Vec::new();
        }
        let _ = MEMORY.try_with(|memory| memory.set(Some(self)));
    }
}

fn copied([copies, older]: &mut [BytesMut; 2], value: &[u8]) -> Bytes {
    if value.is_empty() || value.len() > COPY_BYTES_MAX {
        return Bytes::copy_from_slice(value);
    }
    if copies.capacity() < value.len() {
        std::mem::swap(copies, older);
        copies.reserve(COPIES_BYTES);
    }
    copies.extend_from_slice(value);
    copies.split().freeze()
}

/// Reads the blocks of one direction of a connection, all of them and in their order.
///
/// Our SETTINGS say nothing of its table, so a peer may make it as large as [`TABLE_BYTES`] and no larger.
pub struct Decoder {
    table: Table,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder { table: Table::new(TABLE_BYTES) }
    }

    /// Decodes a whole block. Its fields go to `field` in their order, with their size (name, value and 32). All of the
    /// block is decoded, also after a field that is malformed, so that the table stays in step.
    pub fn decode(&mut self, block: &[u8], mut field: impl FnMut(Field, usize)) -> Result<(), HpackError> {
        let mut rest = block;
        self.updates(&mut rest)?;
        let mut memory = Memory::take();
        let decoded = loop {
            let Some((&first, tail)) = rest.split_first() else { break Ok(()) };
            rest = tail;
            // Told apart here, since a field from a table is what most fields are.
            if first & 0x80 != 0 {
                match integer::decode(&mut rest, first, 0x7f).and_then(|index| self.entry(index)) {
                    Ok(entry) => field(entry.field.clone(), entry.bytes as usize),
                    Err(error) => break Err(error),
                }
            } else {
                match self.literal(&mut memory, &mut rest, first) {
                    Ok((literal, bytes)) => field(literal, bytes),
                    Err(error) => break Err(error),
                }
            }
        };
        memory.put_back();
        decoded
    }

    fn updates(&mut self, rest: &mut &[u8]) -> Result<(), HpackError> {
        while let Some((&first, tail)) = rest.split_first()
            && first & 0xe0 == 0x20
        {
            *rest = tail;
            let bytes_max = integer::decode(rest, first, 0x1f)?;
            if bytes_max > TABLE_BYTES {
                return Err(HpackError::UpdateTooLarge);
            }
            self.table.resize(bytes_max);
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<&Entry, HpackError> {
        // 0 is in neither.
        statics::FIELDS
            .get(index.wrapping_sub(1))
            .or_else(|| self.table.get(index.wrapping_sub(statics::COUNT + 1)))
            .ok_or(HpackError::Index)
    }

    fn literal(
        &mut self,
        memory: &mut Memory,
        rest: &mut &[u8],
        first: u8,
    ) -> Result<(Field, usize), HpackError> {
        let kept = first & 0x40 != 0;
        let low = match first & 0x60 {
            0x20 => return Err(HpackError::UpdateMisplaced),
            0 => 0x0f,
            _ => 0x3f,
        };
        let Memory { text, copies } = memory;
        let (name, name_bytes) = match integer::decode(rest, first, low)? {
            0 => {
                let name = string(rest, text)?;
                (name_of(name), name.len())
            }
            index => {
                let entry = self.entry(index)?;
                (entry.name(), entry.name_bytes as usize)
            }
        };
        let value = string(rest, text)?;
        let bytes = name_bytes + value.len() + FIELD_BYTES;
        if kept && self.table.make_room(bytes) {
            let field = match is_value(value) {
                true => field_of(name.clone(), self.table.copied(value)),
                false => Field::Malformed,
            };
            let entry = Entry::new(field.clone(), name_bytes, value.len());
            self.table.insert(if matches!(field, Field::Malformed) { entry.named(name) } else { entry });
            return Ok((field, bytes));
        }
        let mut field = match is_value(value) {
            true => field_of(name, copied(copies, value)),
            false => Field::Malformed,
        };
        if let Field::Header(_, value) = &mut field {
            // Not for any table on the way either.
            value.set_sensitive(first & 0x10 != 0 && !kept);
        }
        Ok((field, bytes))
    }
}

/// Takes a string from the block, as it stands there or decoded to `text`.
fn string<'t, 'b: 't>(rest: &mut &'b [u8], text: &'t mut Vec<u8>) -> Result<&'t [u8], HpackError> {
    let Some((&first, tail)) = rest.split_first() else { return Err(HpackError::Truncated) };
    *rest = tail;
    let bytes = integer::decode(rest, first, 0x7f)?;
    let Some((string, tail)) = rest.split_at_checked(bytes) else { return Err(HpackError::Truncated) };
    *rest = tail;
    if first & 0x80 == 0 {
        return Ok(string);
    }
    let room = huffman::decoded_bytes_max(bytes);
    if text.len() < room {
        text.resize(room.next_power_of_two(), 0);
    }
    let decoded = huffman::decode(string, text).and_then(|bytes| text.get(..bytes));
    decoded.ok_or(HpackError::Huffman)
}

fn name_of(name: &[u8]) -> Name {
    match name.first() {
        Some(b':') => Pseudo::of(name).map_or(Name::Malformed, Name::Pseudo),
        // `http` takes it, though it is no character of a token.
        _ if name.contains(&b'"') => Name::Malformed,
        // Takes no upper case, and nothing empty.
        _ => HeaderName::from_lowercase(name).map_or(Name::Malformed, Name::Header),
    }
}

/// What is left is no control characters, which `http` looks for.
fn is_value(value: &[u8]) -> bool {
    !matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

fn field_of(name: Name, value: Bytes) -> Field {
    match name {
        Name::Header(name) => match HeaderValue::from_maybe_shared(value) {
            Ok(value) => Field::Header(name, value),
            Err(_) => Field::Malformed,
        },
        Name::Pseudo(name) => {
            let bad = value
                .iter()
                .fold(false, |bad, byte| bad | (*byte < b' ' && *byte != b'\t') | (*byte == 0x7f));
            if bad { Field::Malformed } else { Field::Pseudo(name, value) }
        }
        Name::Malformed => Field::Malformed,
    }
}

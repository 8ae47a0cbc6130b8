//! Fields to blocks.
//!
//! What goes into the table is what was there before: a field that is seen a second time, or the second value of a name
//! that has no index. Values that somebody could guess one by one, by how long a block is, are never kept (RFC 7541 7.1).

use http::{HeaderName, HeaderValue};

use super::{
    Pseudo, TABLE_BYTES, huffman, integer,
    lookup::{Hashes, Name, Table, hash_of_field, hash_of_name},
    statics,
};

/// A shorter cookie could be guessed.
const COOKIE_BYTES_MIN: usize = 20;

/// How a literal starts: the bits above its number, and those of the number.
const KEPT: (u8, u8) = (0x40, 0x3f);
const NOT_KEPT: (u8, u8) = (0, 0x0f);
const NEVER_KEPT: (u8, u8) = (0x10, 0x0f);

/// Writes the blocks of one direction of a connection. Each one that was begun must reach the peer, in their order.
pub struct Encoder {
    table: Table,
    /// What the peer has to be told: the smallest size since the last block, and the one that is now.
    update: Option<(usize, usize)>,
    /// Values that no table keeps are written as they are.
    plain: bool,
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder::new()
    }
}

impl Encoder {
    pub fn new() -> Encoder {
        Encoder { table: Table::new(), update: None, plain: false }
    }

    /// Writes values that no table keeps as they are, where the Huffman code would be shorter: a quarter more bytes of
    /// them, for some 19 instructions a byte here and 13 at the peer.
    pub fn set_plain(&mut self, plain: bool) {
        self.plain = plain;
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE; more than [`TABLE_BYTES`] is not used. The next [`Encoder::begin`] tells
    /// the peer.
    pub fn set_table_bytes_max(&mut self, bytes: usize) {
        let bytes = bytes.min(TABLE_BYTES);
        let smallest = self.update.map_or(self.table.bytes_max(), |(smallest, _)| smallest).min(bytes);
        self.update = Some((smallest, bytes));
    }

    /// Starts a block.
    #[inline]
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((smallest, last)) = self.update.take() {
            self.resize(out, smallest);
            self.resize(out, last);
        }
    }

    fn resize(&mut self, out: &mut Vec<u8>, bytes: usize) {
        if bytes != self.table.bytes_max() {
            self.table.resize(bytes);
            integer::encode(out, 0x20, 0x1f, bytes);
        }
    }

    pub fn pseudo(&mut self, out: &mut Vec<u8>, name: Pseudo, value: &[u8]) {
        if let Some(index) = statics::index(name, value) {
            return out.push(0x80 | index);
        }
        match statics::index_of_pseudo(name) {
            Some(index) => self.field(out, Name::Static(index), value),
            None => self.field(out, Name::Text(b":protocol"), value),
        }
    }

    pub fn header(&mut self, out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
        let field = match statics::index_of(name) {
            Some(index) => Name::Static(index),
            None => Name::Text(name.as_str().as_bytes()),
        };
        if value.is_sensitive() {
            self.secret(out, field, value.as_bytes());
        } else {
            self.field(out, field, value.as_bytes());
        }
    }

    fn field(&mut self, out: &mut Vec<u8>, name: Name<'_>, value: &[u8]) {
        let kept = self.table.takes(name, value);
        if let Name::Static(index) = name {
            match index {
                statics::ACCEPT_ENCODING if value == statics::ACCEPT_ENCODING_VALUE => {
                    return out.push(0x80 | statics::ACCEPT_ENCODING);
                }
                statics::AUTHORIZATION | statics::PROXY_AUTHORIZATION => {
                    return self.secret(out, name, value);
                }
                statics::COOKIE | statics::SET_COOKIE if value.len() < COOKIE_BYTES_MIN => {
                    return self.secret(out, name, value);
                }
                _ => {}
            }
        }
        let mut hashes = Hashes { name: hash_of_name(name), field: 0 };
        // Not even looked for if it cannot be there.
        if kept {
            hashes.field = hash_of_field(hashes.name, value);
            if let Some(index) = self.table.find(hashes.field, name, value) {
                return integer::encode(out, 0x80, 0x7f, index);
            }
        }
        let index = self.table.find_name(hashes.name, name);
        if kept && self.is_worth_keeping(hashes, name, value, index) {
            literal(out, KEPT, name, index, value, false);
            self.table.insert(hashes, name, value);
        } else {
            literal(out, NOT_KEPT, name, index, value, self.plain);
        }
    }

    fn is_worth_keeping(
        &mut self,
        hashes: Hashes,
        name: Name<'_>,
        value: &[u8],
        index: Option<usize>,
    ) -> bool {
        match name {
            // A query is new most times, or has something to guess.
            Name::Static(statics::PATH) if value.contains(&b'?') => false,
            Name::Static(_) => self.table.was_seen(hashes.field),
            // A name that keeps coming is worth a place with whatever value it has.
            Name::Text(_) => {
                let name_seen = index.is_none() && self.table.was_seen(hashes.name);
                self.table.was_seen(hashes.field) || name_seen
            }
        }
    }

    fn secret(&mut self, out: &mut Vec<u8>, name: Name<'_>, value: &[u8]) {
        let index = self.table.find_name(hash_of_name(name), name);
        literal(out, NEVER_KEPT, name, index, value, self.plain);
    }
}

/// A field that is written out; its name by `index` if it has one.
fn literal(
    out: &mut Vec<u8>,
    (mark, low): (u8, u8),
    name: Name<'_>,
    index: Option<usize>,
    value: &[u8],
    plain: bool,
) {
    match index {
        Some(index) => integer::encode(out, mark, low, index),
        None => {
            out.push(mark);
            string(out, name.text(), false);
        }
    }
    string(out, value, plain);
}

fn string(out: &mut Vec<u8>, text: &[u8], plain: bool) {
    if !plain {
        let bytes = huffman::encoded_bytes(text);
        if bytes < text.len() {
            integer::encode(out, 0x80, 0x7f, bytes);
            return huffman::encode(text, out);
        }
    }
    integer::encode(out, 0, 0x7f, text.len());
    out.extend_from_slice(text);
}

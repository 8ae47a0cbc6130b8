//! Header compression for HTTP/2 (RFC 7541): fields as few bytes, by a table that both ends keep.
//!
//! [`Decoder`] reads a whole block and gives its fields as what the proxy works with, ready made: a field from a table is
//! a count more on its memory, a literal is copied once, to where the others of the thread stand. A block that cannot be
//! read is a [`HpackError`] and ends the connection, since from then on the tables differ; a field that HTTP does not
//! allow is [`Field::Malformed`] and ends its message alone, so it is read to the end and kept in step.
//!
//! [`Encoder`] writes fields. It looks them up without an allocation, and takes only those into the table that it sees
//! for the second time: values that are new with each request would push out what is worth its place.
//!
//! What the peer can make us hold: its table's size and a small factor for our form of it, and no more of a block than
//! its fields. Which fields a message must have, and how many, is the connection's to judge.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

mod decode;
mod encode;
mod huffman;
mod integer;
mod lookup;
mod statics;
mod table;
#[cfg(test)]
mod tests;

pub use decode::{Decoder, release};
pub use encode::Encoder;

/// The size of both tables until a SETTINGS frame says otherwise, and the largest that we use.
pub const TABLE_BYTES: usize = 4096;

/// What a field counts above its name and value (RFC 7541 4.1).
const FIELD_BYTES: usize = 32;

/// A field of the request or status line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
}

impl Pseudo {
    fn of(name: &[u8]) -> Option<Pseudo> {
        Some(match name {
            b":method" => Pseudo::Method,
            b":scheme" => Pseudo::Scheme,
            b":authority" => Pseudo::Authority,
            b":path" => Pseudo::Path,
            b":protocol" => Pseudo::Protocol,
            b":status" => Pseudo::Status,
            _ => return None,
        })
    }
}

/// One field of a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Field {
    /// The value has the characters of a field's value; what it means nobody has looked at.
    Pseudo(Pseudo, Bytes),
    /// Sensitive if the peer asks that it is never kept in a table; [`Encoder::header`] asks the next hop likewise.
    Header(HeaderName, HeaderValue),
    /// No name or value that HTTP allows: upper case, an empty name, an unknown pseudo-header, control characters, a
    /// space or tab at either end of the value (RFC 9113 8.2.1). The message is malformed, the block is not.
    Malformed,
}

/// Why a block cannot be read: a connection error of type COMPRESSION_ERROR.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
pub enum HpackError {
    #[error("a header block that ends inside of a field")]
    Truncated,
    #[error("a header field by an index that no table has")]
    Index,
    #[error("a number in a header block that is too long")]
    Integer,
    #[error("text in a header block that is no Huffman code")]
    Huffman,
    #[error("a header table made larger than our settings allow")]
    UpdateTooLarge,
    #[error("a header table resized after the first field of a block")]
    UpdateMisplaced,
}

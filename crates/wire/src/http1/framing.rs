//! How long a message is, decided once when its head is complete (RFC 9112 section 6.3).

use super::{
    refusal::Refusal,
    semantics::{Encoding, Seen},
};

/// Where the body of a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// The head is all.
    #[default]
    None,
    /// So many bytes.
    Length(u64),
    Chunked,
    /// A response that ends with its connection.
    UntilClose,
    /// HTTP is over: after CONNECT's 2xx or a 101 all bytes, those behind the head first, belong to another protocol.
    Tunnel,
}

impl Framing {
    /// There is nothing to read behind the head.
    pub fn is_empty(self) -> bool {
        matches!(self, Framing::None | Framing::Length(0))
    }
}

/// What a head says of its length. Not the same as [`Framing`]: an answer to HEAD tells the length of what GET would
/// answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Announce {
    #[default]
    Nothing,
    Length(u64),
    Chunked,
}

impl From<Framing> for Announce {
    fn from(framing: Framing) -> Announce {
        match framing {
            Framing::Length(length) => Announce::Length(length),
            Framing::Chunked => Announce::Chunked,
            Framing::None | Framing::UntilClose | Framing::Tunnel => Announce::Nothing,
        }
    }
}

/// `Content-Length` and `Transfer-Encoding` together. RFC 9112 lets a proxy forward both if it takes one away and closes
/// afterwards; here such a message is refused, in both directions.
#[inline]
pub(super) fn announced(seen: &Seen, http11: bool) -> Result<Announce, Refusal> {
    match (seen.encoding, seen.length) {
        (Encoding::Absent, None) => Ok(Announce::Nothing),
        (Encoding::Absent, Some(length)) => Ok(Announce::Length(length)),
        (_, Some(_)) => Err(Refusal::LengthAndEncoding),
        // RFC 9112 section 6.1: with HTTP/1.0 the framing is faulty.
        _ if !http11 => Err(Refusal::MisplacedEncoding),
        (Encoding::Chunked, None) => Ok(Announce::Chunked),
        (Encoding::Unknown, None) => Err(Refusal::UnknownEncoding),
    }
}

/// A request's body.
#[inline]
pub(super) fn request(announced: Announce, bodiless: bool) -> Result<Framing, Refusal> {
    match announced {
        Announce::Nothing => Ok(Framing::None),
        // RFC 9110 sections 9.3.6 and 9.3.8: CONNECT and TRACE have none. A length of zero says the same.
        Announce::Length(0) if bodiless => Ok(Framing::None),
        Announce::Length(_) if bodiless => Err(Refusal::MisplacedBody),
        Announce::Chunked if bodiless => Err(Refusal::MisplacedEncoding),
        Announce::Length(length) => Ok(Framing::Length(length)),
        Announce::Chunked => Ok(Framing::Chunked),
    }
}

/// What a response answers, as far as its framing depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// The request's method was HEAD.
    pub head: bool,
    /// The request's method was CONNECT.
    pub connect: bool,
    /// The request went out with `Connection: upgrade`.
    pub upgrade: bool,
}

/// A response's body and what its head may say of it.
pub(super) fn response(
    announced: Announce,
    asked: Asked,
    status: u16,
) -> Result<(Framing, Announce), Refusal> {
    Ok(match (status, announced) {
        (101, _) => (Framing::Tunnel, Announce::Nothing),
        (200..=299, _) if asked.connect => (Framing::Tunnel, Announce::Nothing),
        // RFC 9112 section 6.1, RFC 9110 section 8.6: neither may have either. A length of zero is a common slip.
        (100..=199 | 204, Announce::Chunked) => return Err(Refusal::MisplacedEncoding),
        (100..=199 | 204, Announce::Length(1..)) => return Err(Refusal::MisplacedBody),
        (100..=199 | 204, _) => (Framing::None, Announce::Nothing),
        (304, Announce::Chunked) => (Framing::None, Announce::Nothing),
        (304, announced) => (Framing::None, announced),
        (_, announced) if asked.head => (Framing::None, announced),
        (_, Announce::Nothing) => (Framing::UntilClose, Announce::Nothing),
        (_, Announce::Length(length)) => (Framing::Length(length), announced),
        (_, Announce::Chunked) => (Framing::Chunked, announced),
    })
}

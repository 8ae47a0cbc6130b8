//! What the fields of framing and connection say, noted line by line, and the authority's grammar.

use std::net::Ipv6Addr;

use super::{
    field::Span,
    limits::LISTED_MAX,
    name::{FieldId, same},
    refusal::Refusal,
    scan,
};

const CLOSE: u8 = 1;
const KEEP_ALIVE: u8 = 2;
const UPGRADE: u8 = 4;

/// What `Transfer-Encoding` says, all its lines together (RFC 9112 section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Encoding {
    #[default]
    Absent,
    Chunked,
    /// A well-formed list with another coding.
    Unknown,
}

/// How often a field came, as far as anybody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Once {
    #[default]
    Absent,
    /// With its place in the list of fields.
    At(u32),
    Repeated,
}

impl Once {
    fn note(&mut self, index: usize) {
        *self = if *self == Once::Absent { Once::At(index as u32) } else { Once::Repeated };
    }

    pub(super) fn index(self) -> Option<usize> {
        match self {
            Once::At(index) => Some(index as usize),
            Once::Absent | Once::Repeated => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Expect {
    #[default]
    Nothing,
    Continue,
    Unknown,
}

/// The sum of the fields that the codec reads.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) host: Once,
    pub(super) length: Option<u64>,
    pub(super) encoding: Encoding,
    pub(super) expect: Expect,
    pub(super) upgrade: Once,
    /// `TE: trailers`.
    pub(super) te_trailers: bool,
    options: u8,
    listed_count: u8,
    listed: [Span; LISTED_MAX],
}

impl Seen {
    #[inline]
    pub(super) fn clear(&mut self) {
        // The names behind the count stay: nobody looks at them.
        self.host = Once::Absent;
        self.length = None;
        self.encoding = Encoding::Absent;
        self.expect = Expect::Nothing;
        self.upgrade = Once::Absent;
        self.te_trailers = false;
        self.options = 0;
        self.listed_count = 0;
    }

    /// `Connection: close`.
    pub(super) fn closes(&self) -> bool {
        self.options & CLOSE != 0
    }

    pub(super) fn keeps_alive(&self) -> bool {
        self.options & KEEP_ALIVE != 0
    }

    /// `Connection: upgrade`.
    pub(super) fn upgrades(&self) -> bool {
        self.options & UPGRADE != 0
    }

    /// RFC 9112 section 9.3.
    pub(super) fn persists(&self, http11: bool) -> bool {
        !self.closes() && (http11 || self.keeps_alive())
    }

    #[inline]
    pub(super) fn lists_names(&self) -> bool {
        self.listed_count > 0
    }

    pub(super) fn listed(&self) -> &[Span] {
        self.listed.get(..usize::from(self.listed_count)).unwrap_or_default()
    }

    /// Takes a complete line. `index` is its place in the list of fields.
    pub(super) fn note(
        &mut self,
        id: FieldId,
        value: Span,
        bytes: &[u8],
        index: usize,
    ) -> Result<(), Refusal> {
        let text = value.of(bytes);
        match id {
            FieldId::Host => self.host.note(index),
            FieldId::ContentLength => self.note_length(text)?,
            FieldId::TransferEncoding => self.note_encoding(text)?,
            FieldId::Connection => self.note_connection(value, bytes)?,
            FieldId::Upgrade => self.upgrade.note(index),
            FieldId::Expect => {
                let known = self.expect != Expect::Unknown && same(text, b"100-continue");
                self.expect = if known { Expect::Continue } else { Expect::Unknown };
            }
            FieldId::Te => self.te_trailers |= asks_for_trailers(text),
            _ => {}
        }
        Ok(())
    }

    /// A list of equal numbers is one number (RFC 9112 section 6.3); the writer emits it once.
    fn note_length(&mut self, text: &[u8]) -> Result<(), Refusal> {
        for part in text.split(|byte| *byte == b',') {
            let length = decimal(trim(part)).ok_or(Refusal::BadLength)?;
            if self.length.is_some_and(|before| before != length) {
                return Err(Refusal::LengthsDiffer);
            }
            self.length = Some(length);
        }
        Ok(())
    }

    fn note_encoding(&mut self, text: &[u8]) -> Result<(), Refusal> {
        for part in text.split(|byte| *byte == b',') {
            let coding = trim(part);
            if !scan::is_token(coding) || self.encoding == Encoding::Chunked {
                return Err(Refusal::BadEncoding); // no coding may follow chunked
            }
            let chunked = same(coding, b"chunked") && self.encoding == Encoding::Absent;
            self.encoding = if chunked { Encoding::Chunked } else { Encoding::Unknown };
        }
        Ok(())
    }

    fn note_connection(&mut self, value: Span, bytes: &[u8]) -> Result<(), Refusal> {
        let mut start = value.start as usize;
        for part in value.of(bytes).split(|byte| *byte == b',') {
            let option = trim(part);
            let behind = start + part.len() + 1;
            match option.len() {
                0 => {} // RFC 9110 section 5.6.1.2: empty elements are read over
                5 if same(option, b"close") => self.options |= CLOSE,
                10 if same(option, b"keep-alive") => self.options |= KEEP_ALIVE,
                7 if same(option, b"upgrade") => self.options |= UPGRADE,
                2 if same(option, b"te") => {}
                _ if !scan::is_token(option) => return Err(Refusal::BadConnection),
                _ => {
                    let before = part.iter().take_while(|byte| is_space(**byte)).count();
                    let slot = self.listed.get_mut(usize::from(self.listed_count));
                    *slot.ok_or(Refusal::BadConnection)? =
                        Span::new(start + before, start + before + option.len());
                    self.listed_count += 1;
                }
            }
            start = behind;
        }
        Ok(())
    }
}

/// RFC 9110 section 10.1.4; a weight behind the word does not matter.
fn asks_for_trailers(text: &[u8]) -> bool {
    text.split(|byte| *byte == b',')
        .filter_map(|part| part.split(|byte| *byte == b';').next())
        .any(|word| same(trim(word), b"trailers"))
}

fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Without OWS. Not `trim_ascii`: that takes CR, LF and form feed too.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Digits only, and a number that a signed reader behind us can hold too.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let digits = |number: u64, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0, digits).filter(|number| *number <= i64::MAX as u64)
}

/// A host with or without a port, as `Host`, an absolute target or CONNECT names it (RFC 9110 sections 4.2, 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    pub host: &'a [u8],
    pub port: Option<u16>,
    /// A colon without a port stood at the end; it means nothing and is not sent on.
    pub bare_colon: bool,
}

impl<'a> Authority<'a> {
    /// Names of letters, digits and `-._~`, IPv4, IPv6 in brackets. No user, no escape, no zone.
    pub(super) fn parse(text: &'a [u8]) -> Result<Authority<'a>, Refusal> {
        let host_bytes = match text.first() {
            Some(b'[') => bracketed(text).ok_or(Refusal::BadHost)?,
            _ => scan::host_end(text, 0),
        };
        let (host, rest) = text.split_at_checked(host_bytes).ok_or(Refusal::BadHost)?;
        if host.is_empty() {
            return Err(Refusal::BadHost);
        }
        let port = match rest {
            [] | [b':'] => None,
            [b':', digits @ ..] if digits.len() <= 5 => {
                let port = decimal(digits).and_then(|port| u16::try_from(port).ok());
                Some(port.ok_or(Refusal::BadHost)?)
            }
            _ => return Err(Refusal::BadHost),
        };
        Ok(Authority { host, port, bare_colon: rest == b":" })
    }
}

/// The length of `[IPv6]` at the beginning.
#[cold]
fn bracketed(text: &[u8]) -> Option<usize> {
    let close = text.iter().position(|byte| *byte == b']')?;
    let address = std::str::from_utf8(text.get(1..close)?).ok()?;
    address.parse::<Ipv6Addr>().ok()?;
    Some(close + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_that_fit() {
        for (text, number) in [
            (&b"0"[..], Some(0)),
            (b"0003", Some(3)),
            (b"9223372036854775807", Some(i64::MAX as u64)),
            (b"9223372036854775808", None),
            (b"18446744073709551619", None),
            (b"", None),
            (b"+3", None),
            (b"-0", None),
            (b"0x3", None),
            (b"3 ", None),
            (b"3_0", None),
        ] {
            assert_eq!(decimal(text), number, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn authorities_are_hosts_with_ports() {
        for (text, port) in [
            (&b"a"[..], None),
            (b"a.b-c_d~", None),
            (b"a:80", Some(80)),
            (b"a:0080", Some(80)),
            (b"a:", None),
            (b"127.0.0.1:1", Some(1)),
            (b"[::1]:65535", Some(65535)),
            (b"[::ffff:1.2.3.4]", None),
        ] {
            let parsed = Authority::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!(parsed.port, port);
        }
        for text in [
            &b""[..],
            b":80",
            b"u@a",
            b"a b",
            b"a:80x",
            b"a:80:80",
            b"a:65536",
            b"a:000080",
            b"a\0.b",
            b"a,b",
            b"a/b",
            b"a%20b",
            b"[::1",
            b"[::1]x",
            b"[fe80::1%eth0]",
            b"[]",
            b"[a]",
            b"::1",
            b"a\xffb",
            b"a:-1",
        ] {
            assert_eq!(Authority::parse(text), Err(Refusal::BadHost), "{}", String::from_utf8_lossy(text));
        }
    }
}

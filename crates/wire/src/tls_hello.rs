//! The server name and the offered protocols of a TLS ClientHello, read without a TLS stack.
//!
//! The proxy needs both before it can choose a filter chain, and for pass-through it never speaks TLS at all. The
//! hello may be cut anywhere: into TCP segments and into several TLS records. Input is bounded by
//! [`HELLO_BYTES_MAX`]. Nothing is verified here; the TLS stack reads the same bytes again when we terminate.

use crate::Progress;

/// A hello (with its record headers) that is longer is refused.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

const RECORD_HEADER_BYTES: usize = 5;
const CONTENT_HANDSHAKE: u8 = 22;
const HANDSHAKE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
const NAME_TYPE_HOST: u8 = 0;
const SERVER_NAME_BYTES_MAX: usize = 255;

/// What the filter-chain choice wants to know of a hello.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name in lower case, if one was sent; without the dot at its end that RFC 6066 section 3 forbids.
    pub server_name: Option<String>,
    /// The protocols offered by ALPN in the client's order, e.g. `h2`, `http/1.1`.
    pub alpn: Vec<Vec<u8>>,
}

/// Why bytes are not a ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    #[error("the bytes are not a TLS handshake record")]
    NotTls,
    #[error("the first handshake message is not a ClientHello")]
    NotClientHello,
    #[error("the ClientHello is longer than {HELLO_BYTES_MAX} bytes")]
    TooLong,
    #[error("the ClientHello is malformed")]
    Malformed,
}

/// Reads a hello from all the bytes received so far. They are not consumed: TLS needs them again.
pub fn parse(bytes: &[u8]) -> Result<Progress<ClientHello>, HelloError> {
    let message = match handshake_message(bytes)? {
        Progress::More if bytes.len() >= HELLO_BYTES_MAX => return Err(HelloError::TooLong),
        Progress::More => return Ok(Progress::More),
        Progress::Done(message) => message,
    };
    read_hello(&message).ok_or(HelloError::Malformed).map(Progress::Done)
}

/// Joins the handshake message's fragments, without the 4 bytes of its header.
fn handshake_message(bytes: &[u8]) -> Result<Progress<Vec<u8>>, HelloError> {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        check_record_start(rest)?;
        let Some((header, body)) = rest.split_at_checked(RECORD_HEADER_BYTES) else {
            return Ok(Progress::More);
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 {
            return Err(HelloError::Malformed);
        }
        let fragment = &body[..length.min(body.len())];
        message.extend_from_slice(fragment);
        if message.first().is_some_and(|kind| *kind != HANDSHAKE_CLIENT_HELLO) {
            return Err(HelloError::NotClientHello);
        }
        if let [_, a, b, c, ..] = message[..] {
            let body_bytes = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if body_bytes > HELLO_BYTES_MAX {
                return Err(HelloError::TooLong);
            }
            if message.len() >= 4 + body_bytes {
                message.truncate(4 + body_bytes);
                message.drain(..4);
                return Ok(Progress::Done(message));
            }
        }
        if body.len() <= length {
            return Ok(Progress::More);
        }
        rest = &body[length..];
    }
}

/// Judges as many header bytes as there are, so that a wrong first byte needs no second.
fn check_record_start(bytes: &[u8]) -> Result<(), HelloError> {
    match bytes {
        [kind, ..] if *kind != CONTENT_HANDSHAKE => Err(HelloError::NotTls),
        [_, major, ..] if *major != 3 => Err(HelloError::NotTls),
        _ => Ok(()),
    }
}

/// `None` is "malformed": some length points outside its field.
fn read_hello(message: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(message);
    reader.take(2 + 32)?; // version, random
    reader.vector8()?; // session id
    reader.vector16()?; // cipher suites
    reader.vector8()?; // compression methods
    let mut hello = ClientHello::default();
    if reader.0.is_empty() {
        return Some(hello); // TLS 1.2 allows a hello without extensions
    }
    let mut extensions = Reader(reader.vector16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let body = extensions.vector16()?;
        match kind {
            EXTENSION_SERVER_NAME if hello.server_name.is_none() => hello.server_name = server_name(body)?,
            EXTENSION_ALPN if hello.alpn.is_empty() => hello.alpn = protocols(body)?,
            // Twice the same extension is forbidden by RFC 8446 section 4.2; two names could fool us.
            EXTENSION_SERVER_NAME | EXTENSION_ALPN => return None,
            _ => {}
        }
    }
    Some(hello)
}

fn server_name(body: &[u8]) -> Option<Option<String>> {
    let mut list = Reader(Reader(body).vector16()?);
    while !list.0.is_empty() {
        let kind = list.number8()?;
        let name = list.vector16()?;
        if kind == NAME_TYPE_HOST {
            let plain = !name.is_empty()
                && name.len() <= SERVER_NAME_BYTES_MAX
                && name.iter().all(u8::is_ascii_graphic);
            let name = name.strip_suffix(b".").unwrap_or(name);
            return plain.then(|| Some(String::from_utf8_lossy(name).to_ascii_lowercase()));
        }
    }
    Some(None)
}

fn protocols(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = Reader(Reader(body).vector16()?);
    let mut found = Vec::new();
    while !list.0.is_empty() {
        found.push(list.vector8()?.to_vec());
    }
    Some(found)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn number8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let count = self.number8()?;
        self.take(usize::from(count))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let count = self.number16()?;
        self.take(usize::from(count))
    }
}

#[cfg(test)]
#[path = "tls_hello/tests.rs"]
mod tests;

//! What a ServerHello says: the version and the cipher that both ends agreed on.
//!
//! It is sent in the clear, so that whoever sees the handshake knows. A HelloRetryRequest looks like one and is followed
//! by the real one.

use crate::record::Side;

/// A hello with post-quantum key shares is 2 KiB; what is longer is not read.
const HELLO_BYTES_MAX: usize = 16 * 1024;
const MESSAGE_HEADER_BYTES: usize = 4;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;
/// RFC 8446 section 4.1.3: the random of a HelloRetryRequest.
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// What was agreed on, in TLS's own numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerHello {
    pub version: u16,
    pub cipher: u16,
    /// Of the key exchange; TLS 1.2 says it elsewhere.
    pub group: Option<u16>,
    retry: bool,
}

/// Collects the handshake messages of one direction until the hello is there.
#[derive(Debug)]
pub struct Hellos {
    expected: u8,
    wanted: bool,
    bytes: Vec<u8>,
    found: Option<ServerHello>,
}

impl Hellos {
    pub fn of(side: Side) -> Hellos {
        let expected = match side {
            Side::Client => CLIENT_HELLO,
            Side::Server => SERVER_HELLO,
        };
        Hellos { expected, wanted: side == Side::Server, bytes: Vec::new(), found: None }
    }

    /// The first byte of the first handshake message.
    pub fn expected(&self) -> u8 {
        self.expected
    }

    pub fn server_hello(&self) -> Option<&ServerHello> {
        self.found.as_ref().filter(|hello| !hello.retry)
    }

    /// The next bytes of handshake records.
    pub fn push(&mut self, fragment: &[u8]) {
        if !self.wanted {
            return;
        }
        self.bytes.extend_from_slice(fragment);
        while self.wanted {
            let [kind, a, b, c, ..] = self.bytes[..] else { return };
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if kind != SERVER_HELLO || length > HELLO_BYTES_MAX {
                return self.cut();
            }
            let Some(message) = self.bytes.get(MESSAGE_HEADER_BYTES..MESSAGE_HEADER_BYTES + length) else {
                return;
            };
            self.found = parse(message);
            match self.found {
                Some(ServerHello { retry: true, .. }) => {
                    self.bytes.drain(..MESSAGE_HEADER_BYTES + length);
                }
                _ => self.cut(),
            }
        }
    }

    /// What comes next cannot be read.
    pub fn cut(&mut self) {
        self.wanted = false;
        self.bytes = Vec::new();
    }
}

/// A ServerHello without its header. `None`: some length points outside its field.
pub fn parse(message: &[u8]) -> Option<ServerHello> {
    let (version, rest) = number(message)?;
    let (random, rest) = rest.split_at_checked(32)?;
    let (session_bytes, rest) = rest.split_first()?;
    let (_, rest) = rest.split_at_checked(usize::from(*session_bytes))?;
    let (cipher, rest) = number(rest)?;
    let (_compression, rest) = rest.split_first()?;
    let mut hello = ServerHello { version, cipher, group: None, retry: random == RETRY };
    if rest.is_empty() {
        return Some(hello);
    }
    let (mut extensions, _) = vector(rest)?;
    while !extensions.is_empty() {
        let (kind, rest) = number(extensions)?;
        let (body, rest) = vector(rest)?;
        match kind {
            SUPPORTED_VERSIONS => hello.version = number(body)?.0,
            KEY_SHARE => hello.group = Some(number(body)?.0),
            _ => {}
        }
        extensions = rest;
    }
    Some(hello)
}

fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*number), rest))
}

fn vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = number(bytes)?;
    rest.split_at_checked(usize::from(length))
}

//! An HTTP/2 client that writes whatever it is told: raw frames, HPACK as literals only.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

/// A request's four pseudo header fields.
pub const GET: [(&[u8], &[u8]); 4] =
    [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")];

#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block of literals that are not indexed and not Huffman coded.
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            integer(&mut out, 0, 7, text.len());
            out.extend_from_slice(text);
        }
    }
    out
}

/// HPACK's integer behind `bits` bits of prefix.
pub fn integer(out: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let most = (1_usize << bits) - 1;
    if value < most {
        out.push(first | value as u8);
        return;
    }
    out.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        out.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    out.push(rest as u8);
}

pub struct Client {
    pub stream: TcpStream,
    /// The other side has ended the connection, and all that it said was read.
    pub closed: bool,
    bytes: Vec<u8>,
}

impl Client {
    /// Connects, sends preface and settings; header tables are off, so that answers can be read without one.
    pub fn connect(to: SocketAddr, settings: &[(u16, u32)]) -> Client {
        let stream = crate::edge::connect(to);
        let mut client = Client { stream, closed: false, bytes: Vec::new() };
        let mut payload = Vec::new();
        for (id, value) in settings.iter().chain(&[(1, 0)]) {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        hello.extend(frame(SETTINGS, 0, 0, &payload));
        assert!(client.send(&hello));
        client
    }

    /// False when the other side took no more.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub fn request(&mut self, stream: u32, fields: &[(&[u8], &[u8])], end: bool) -> bool {
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.send(&frame(HEADERS, flags, stream, &block(fields)))
    }

    /// The next frame; `None` at the end of the connection, or when nothing came for `patience`.
    pub fn next(&mut self, patience: Duration) -> Option<Frame> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(frame) = self.parse() {
                return Some(frame);
            }
            let left = deadline.checked_duration_since(Instant::now())?.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).ok()?;
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(count @ 1..) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return None;
                }
                _ => {
                    self.closed = true;
                    return None;
                }
            }
        }
    }

    fn parse(&mut self) -> Option<Frame> {
        let head = self.bytes.get(..9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let payload = self.bytes.get(9..9 + length)?.to_vec();
        self.bytes.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }

    /// How the stream ended.
    pub fn end_of(&mut self, stream: u32) -> End {
        let mut code = 0;
        let mut body = Vec::new();
        while let Some(frame) = self.next(crate::mesh::LIMIT) {
            match frame.kind {
                GOAWAY => return End::GoAway(error_code(&frame.payload[4..])),
                SETTINGS if frame.flags & ACK == 0 => drop(self.send(&self::frame(SETTINGS, ACK, 0, &[]))),
                RST_STREAM if frame.stream == stream => {
                    return if code == 0 { End::Reset(error_code(&frame.payload)) } else { End::Cut(code) };
                }
                HEADERS if frame.stream == stream => code = status(&frame.payload).unwrap_or(code),
                DATA if frame.stream == stream => body.extend_from_slice(&frame.payload),
                _ => {}
            }
            if frame.stream == stream && matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0
            {
                return End::Status(code, String::from_utf8_lossy(&body).into_owned());
            }
        }
        End::Closed
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Status(u16, String),
    /// A head, then no end.
    Cut(u16),
    Reset(u32),
    GoAway(u32),
    Closed,
}

pub fn error_code(payload: &[u8]) -> u32 {
    payload.get(..4).map_or(u32::MAX, |four| u32::from_be_bytes(four.try_into().unwrap()))
}

/// The status, which is the first field of a head; `None` for trailers.
fn status(block: &[u8]) -> Option<u16> {
    let mut block = block;
    while block.first().is_some_and(|byte| byte >> 5 == 1) {
        block = &block[1..]; // a table size of less than 31
    }
    let first = *block.first()?;
    if first & 0x80 != 0 {
        return [200, 204, 206, 304, 400, 404, 500].get(usize::from(first & 0x7f).checked_sub(8)?).copied();
    }
    // A literal whose name is `:status` of the static table.
    let name = if first & 0x40 != 0 { first & 0x3f } else { first & 0x0f };
    if !(8..=14).contains(&name) {
        return None;
    }
    let length = *block.get(1)?;
    let text = block.get(2..2 + usize::from(length & 0x7f))?;
    if length & 0x80 == 0 {
        return std::str::from_utf8(text).ok()?.parse().ok();
    }
    // Digits in Huffman's code: five bits for 0, 1, 2, six for the others.
    let bits = text.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let mut left = text.len() as u32 * 8;
    let mut number = 0;
    for _ in 0..3 {
        let five = bits >> left.checked_sub(5)? & 0x1f;
        let digit = if five <= 2 {
            left -= 5;
            five
        } else {
            left = left.checked_sub(6)?;
            (bits >> left & 0x3f).checked_sub(0x19)? + 3
        };
        number = number * 10 + digit;
    }
    u16::try_from(number).ok()
}

//! Follows one direction of a connection, TLS record by TLS record.
//!
//! From the first byte on, a byte is in a record or it is plaintext, and what follows plaintext is plaintext too. Where
//! the beginning was not seen, or bytes are missing, a place is looked for from which several records follow one
//! another without a byte between them; ciphertext looks like that by chance once in 2^70. What stands before that place
//! is the rest of one record at most, and is counted as skipped; where no such place is found, nothing is proved, and
//! what can't be ciphertext is plaintext.
//!
//! Framing is all that can be seen from outside. That there is encryption inside is what the handshake and the proxies'
//! lists are for.

use crate::hello::Hellos;

/// RFC 8446 allows 2^14 + 256 bytes in a record, RFC 5246 2^14 + 2048.
pub const RECORD_BYTES_MAX: usize = (1 << 14) + 2048;
const HEADER_BYTES: usize = 5;
/// Headers that must follow one another where a stream is joined.
const HEADERS_TO_JOIN: usize = 3;
/// How much of a stream is kept to find that place: it begins somewhere in a record.
const JOIN_BYTES_MAX: usize = (HEADERS_TO_JOIN + 1) * (HEADER_BYTES + RECORD_BYTES_MAX);
/// Fewer bytes may look like anything.
const TELLING_BYTES_MIN: usize = 48;
const CHI_SQUARED_MAX: u64 = 100;
/// Of plaintext, to tell the protocol.
const HEAD_BYTES_MAX: usize = 32;

/// Two bytes, encrypted with the longest of paddings.
const ALERT_BYTES_MAX: usize = 2 + 256;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const CHANGE_CIPHER_SPEC: u8 = 20;

/// Which end of the connection speaks here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// What became of the bytes of one direction, or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// In TLS records, with their headers.
    pub tls: u64,
    /// In none.
    pub plaintext: u64,
    /// Of a stream whose beginning was not seen, and of which it could not be said what it is.
    pub unproven: u64,
    /// The rest of the record that a stream was joined in.
    pub skipped: u64,
    /// On the connection, and not in the capture.
    pub lost: u64,
    /// Records of application data, which come after a handshake.
    pub records: u64,
}

impl Counts {
    /// All that was captured.
    pub fn seen(&self) -> u64 {
        self.tls + self.plaintext + self.unproven + self.skipped
    }

    pub fn add(&mut self, other: &Counts) {
        self.tls += other.tls;
        self.plaintext += other.plaintext;
        self.unproven += other.unproven;
        self.skipped += other.skipped;
        self.lost += other.lost;
        self.records += other.records;
    }
}

/// One direction of one connection.
#[derive(Debug)]
pub struct Follower {
    state: State,
    counts: Counts,
    hellos: Hellos,
    /// The beginning of what is no TLS.
    plaintext_head: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// Before a header, or in one.
    Header {
        bytes: [u8; HEADER_BYTES],
        have: usize,
        first: bool,
    },
    /// In a record. `first`: the next byte must say that this is a hello.
    Body {
        left: usize,
        handshake: bool,
        first: bool,
    },
    /// Not known where in a record this is. No place before `from` is one to join at.
    Joining {
        bytes: Vec<u8>,
        from: usize,
    },
    Plaintext,
}

const AT_HEADER: State = State::Header { bytes: [0; HEADER_BYTES], have: 0, first: false };

impl Follower {
    /// Of a stream that is seen from its first byte on.
    pub fn from_start(side: Side) -> Follower {
        let state = State::Header { bytes: [0; HEADER_BYTES], have: 0, first: true };
        Follower::new(state, Hellos::of(side))
    }

    /// Of a stream that was there before.
    pub fn joining(side: Side) -> Follower {
        Follower::new(State::Joining { bytes: Vec::new(), from: 0 }, Hellos::of(side))
    }

    fn new(state: State, hellos: Hellos) -> Follower {
        Follower { state, counts: Counts::default(), hellos, plaintext_head: Vec::new() }
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    pub fn hellos(&self) -> &Hellos {
        &self.hellos
    }

    /// How the plaintext begins; empty if there is none.
    pub fn plaintext_head(&self) -> &[u8] {
        &self.plaintext_head
    }

    /// The next bytes.
    pub fn feed(&mut self, mut data: &[u8]) {
        while let Some((byte, rest)) = data.split_first() {
            match &mut self.state {
                State::Header { bytes, have, first } => {
                    let (first, index) = (*first, *have);
                    if let Some(place) = bytes.get_mut(index) {
                        *place = *byte;
                    }
                    *have += 1;
                    let (header, have) = (*bytes, *have);
                    data = rest;
                    if !may_be_header(header.get(..have).unwrap_or_default(), first) {
                        self.on_plaintext(header.get(..have).unwrap_or_default());
                    } else if have == HEADER_BYTES {
                        self.on_header(header, first);
                    }
                }
                State::Body { handshake: true, first: true, .. } if *byte != self.hellos.expected() => {
                    // It only looked like a record.
                    self.counts.tls -= HEADER_BYTES as u64;
                    self.counts.plaintext += HEADER_BYTES as u64;
                    self.on_plaintext(data);
                    return;
                }
                State::Body { left, handshake, first } => {
                    let count = data.len().min(*left);
                    let (body, rest) = data.split_at(count);
                    if *handshake {
                        self.hellos.push(body);
                    }
                    *first = false;
                    *left -= count;
                    self.counts.tls += count as u64;
                    data = rest;
                    if *left == 0 {
                        self.state = AT_HEADER;
                    }
                }
                State::Joining { bytes, .. } => {
                    bytes.extend_from_slice(data);
                    self.join();
                    return;
                }
                State::Plaintext => {
                    self.on_plaintext(data);
                    return;
                }
            }
        }
    }

    /// So many bytes were on the connection and not in the capture.
    pub fn gap(&mut self, bytes: u64) {
        self.counts.lost += bytes;
        self.hellos.cut();
        if let State::Joining { .. } = &self.state {
            self.give_up_joining();
        }
        match &mut self.state {
            // The record's own header says that they are in it.
            State::Body { left, .. } if bytes <= *left as u64 => {
                *left -= usize::try_from(bytes).unwrap_or(*left);
                if *left == 0 {
                    self.state = AT_HEADER;
                }
            }
            State::Plaintext => {}
            _ => {
                self.settle_header();
                self.state = State::Joining { bytes: Vec::new(), from: 0 };
            }
        }
    }

    /// No more bytes come. A record that is cut off by that is one all the same.
    pub fn finish(&mut self) {
        if let State::Joining { .. } = &self.state {
            self.give_up_joining();
        }
        self.settle_header();
    }

    fn on_header(&mut self, header: [u8; HEADER_BYTES], first: bool) {
        self.counts.tls += HEADER_BYTES as u64;
        let kind = header[0];
        self.counts.records += u64::from(kind == APPLICATION_DATA);
        let left = body_bytes(&header);
        let handshake = kind == HANDSHAKE;
        self.state = if left == 0 { AT_HEADER } else { State::Body { left, handshake, first } };
    }

    fn on_plaintext(&mut self, bytes: &[u8]) {
        self.counts.plaintext += bytes.len() as u64;
        let room = HEAD_BYTES_MAX.saturating_sub(self.plaintext_head.len());
        self.plaintext_head.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        self.state = State::Plaintext;
    }

    /// A header that does not go on.
    fn settle_header(&mut self) {
        if let State::Header { have, .. } = &self.state {
            self.counts.tls += *have as u64;
            self.state = AT_HEADER;
        }
    }

    fn join(&mut self) {
        let State::Joining { bytes, from } = &mut self.state else { return };
        let full = bytes.len() >= JOIN_BYTES_MAX;
        while *from < bytes.len() {
            match chain(bytes.get(*from..).unwrap_or_default()) {
                Chain::Broken => *from += 1,
                Chain::Open { headers } if headers < HEADERS_TO_JOIN => {
                    if !full {
                        return; // more bytes will tell
                    }
                    *from += 1;
                }
                Chain::Open { .. } => {
                    let (bytes, from) = (std::mem::take(bytes), *from);
                    self.joined(&bytes, from);
                    return;
                }
            }
            // More than the rest of one record stands before it.
            if *from >= HEADER_BYTES + RECORD_BYTES_MAX {
                let bytes = std::mem::take(bytes);
                self.on_plaintext(&bytes);
                return;
            }
        }
    }

    /// With what there is: a lone record that begins where the capture does, or two that follow one another to the end.
    fn give_up_joining(&mut self) {
        let State::Joining { bytes, .. } = &mut self.state else { return };
        let bytes = std::mem::take(bytes);
        let found = (0..bytes.len()).find(|from| match chain(bytes.get(*from..).unwrap_or_default()) {
            Chain::Open { headers } => headers >= if *from == 0 { 1 } else { 2 },
            Chain::Broken => false,
        });
        match found {
            Some(from) => self.joined(&bytes, from),
            None if is_no_ciphertext(&bytes) => self.on_plaintext(&bytes),
            None => {
                self.counts.unproven += bytes.len() as u64;
                if self.plaintext_head.is_empty() {
                    self.plaintext_head =
                        bytes.get(..HEAD_BYTES_MAX.min(bytes.len())).unwrap_or_default().to_vec();
                }
                self.state = State::Joining { bytes: Vec::new(), from: 0 };
            }
        }
    }

    fn joined(&mut self, bytes: &[u8], from: usize) {
        // Before application data stands the rest of some, before anything else a handshake that may be readable.
        let (before, after) = bytes.split_at_checked(from).unwrap_or_default();
        if after.first() == Some(&APPLICATION_DATA) && is_no_ciphertext(before) {
            return self.on_plaintext(bytes);
        }
        // A hello stands where a connection begins: what comes before it is in no record.
        let is_hello =
            after.first() == Some(&HANDSHAKE) && after.get(HEADER_BYTES) == Some(&self.hellos.expected());
        if from > 0 && is_hello {
            return self.on_plaintext(bytes);
        }
        self.counts.skipped += from as u64;
        self.state = AT_HEADER;
        self.feed(after);
    }
}

/// Whether a record's header may begin like this. The first one of a connection carries a hello, or a refusal.
fn may_be_header(bytes: &[u8], first: bool) -> bool {
    let kind = bytes.first().is_none_or(|kind| match first {
        true => matches!(*kind, HANDSHAKE | ALERT),
        false => matches!(*kind, CHANGE_CIPHER_SPEC..=APPLICATION_DATA),
    });
    let version =
        bytes.get(1).is_none_or(|major| *major == 3) && bytes.get(2).is_none_or(|minor| *minor <= 4);
    // A refusal before there are keys is a level and a word (RFC 8446 section 6).
    let length_max = if first && bytes.first() == Some(&ALERT) { 2 } else { RECORD_BYTES_MAX };
    let length = bytes.len() < HEADER_BYTES || body_bytes(bytes) <= length_max;
    kind && version && length
}

fn body_bytes(header: &[u8]) -> usize {
    match header {
        [_, _, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    }
}

/// Ciphertext is as random as anything: half-bytes that are much too seldom or too often are something else. Of a random
/// text this says so once in 2^45 (chi-squared of 15 degrees of freedom).
fn is_no_ciphertext(bytes: &[u8]) -> bool {
    if bytes.len() < TELLING_BYTES_MIN {
        return false;
    }
    let mut counts = [0u64; 16];
    for byte in bytes {
        if let Some(count) = counts.get_mut(usize::from(byte >> 4)) {
            *count += 1;
        }
    }
    let total = bytes.len() as u64;
    // Sum of (count - total / 16)^2 / (total / 16), times 16 * total.
    let squares: u64 = counts.iter().map(|count| (16 * count).abs_diff(total).pow(2)).sum();
    squares > CHI_SQUARED_MAX * 16 * total
}

enum Chain {
    /// Something between two records is none.
    Broken,
    /// Records to the end, with so many whole headers.
    Open { headers: usize },
}

/// Records one after another from the first byte on.
fn chain(mut bytes: &[u8]) -> Chain {
    let mut headers = 0;
    while let Some(kind) = bytes.first() {
        let version_fits = bytes.get(1).is_none_or(|major| *major == 3)
            && bytes.get(2).is_none_or(|minor| matches!(*minor, 1 | 3));
        let length_max = match *kind {
            CHANGE_CIPHER_SPEC => 1,
            ALERT => ALERT_BYTES_MAX,
            HANDSHAKE | APPLICATION_DATA => RECORD_BYTES_MAX,
            _ => return Chain::Broken,
        };
        if !version_fits {
            return Chain::Broken;
        }
        if bytes.len() < HEADER_BYTES {
            break;
        }
        let length = body_bytes(bytes);
        if length == 0 || length > length_max {
            return Chain::Broken;
        }
        headers += 1;
        if headers == HEADERS_TO_JOIN {
            break;
        }
        bytes = bytes.get(HEADER_BYTES + length..).unwrap_or_default();
    }
    Chain::Open { headers }
}

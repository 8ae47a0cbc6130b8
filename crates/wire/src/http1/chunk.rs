//! The chunked coding (RFC 9112 section 7.1), both ways.
//!
//! Reading is strict: a size is 1 to 16 hex digits, lines end with CRLF, extensions follow their grammar and are bounded,
//! also in relation to the data. Nothing of a chunk's head is handed on: the writer makes its own.

use super::{limits::Limits, refusal::Refusal, scan};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// Before the first digit.
    #[default]
    Size,
    Digits,
    /// White space behind the size or an extension: only `;` may follow.
    BeforeSemicolon,
    BeforeName,
    Name,
    BeforeEquals,
    BeforeValue,
    Value,
    Quoted,
    QuotedPair,
    BehindQuoted,
    HeadLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
}

/// What the next bytes of a chunked body are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Data from this place on, at most so many bytes.
    Data(usize, u64),
    /// All was read; more bytes are needed.
    More,
    /// The trailer section begins at this place.
    Trailers(usize),
}

/// Where in the chunked coding a reader stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ChunkReader {
    stage: Stage,
    digits: u8,
    size: u64,
    extension_bytes: u32,
    /// By how much extensions have outweighed data so far.
    overhead: u64,
}

impl ChunkReader {
    /// Reads on at the beginning of `bytes`, to the next data or to the trailers.
    pub(super) fn next(&mut self, bytes: &[u8], limits: &Limits) -> Result<Next, Refusal> {
        let mut at = 0;
        loop {
            match self.stage {
                Stage::Data if self.size > 0 => return Ok(Next::Data(at, self.size)),
                Stage::Data => self.stage = Stage::DataCr,
                Stage::Trailers => return Ok(Next::Trailers(at)),
                _ => {}
            }
            let Some(byte) = bytes.get(at) else { return Ok(Next::More) };
            self.step(*byte, limits)?;
            at += 1;
        }
    }

    /// So many bytes of the data were taken.
    pub(super) fn took(&mut self, bytes: u64) {
        self.size = self.size.saturating_sub(bytes);
    }

    #[inline]
    fn step(&mut self, byte: u8, limits: &Limits) -> Result<(), Refusal> {
        self.stage = match (self.stage, byte) {
            (Stage::Size | Stage::Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if self.digits == 16 {
                    return Err(Refusal::BadChunk);
                }
                self.digits += 1;
                self.size = self.size << 4 | u64::from((byte as char).to_digit(16).unwrap_or(0));
                Stage::Digits
            }
            (Stage::Digits, b'\r') => Stage::HeadLf,
            (Stage::HeadLf, b'\n') => return self.head_done(limits),
            (Stage::DataCr, b'\r') => Stage::DataLf,
            (Stage::DataLf, b'\n') => Stage::Size,
            (Stage::Digits, b';' | b' ' | b'\t') => return self.extension(byte, limits),
            (Stage::Size | Stage::Digits | Stage::HeadLf | Stage::DataCr | Stage::DataLf, _) => {
                return Err(Refusal::BadChunk);
            }
            _ => return self.extension(byte, limits),
        };
        Ok(())
    }

    fn head_done(&mut self, limits: &Limits) -> Result<(), Refusal> {
        if self.size > i64::MAX as u64 {
            return Err(Refusal::BadChunk);
        }
        self.overhead = (self.overhead + u64::from(self.extension_bytes)).saturating_sub(self.size);
        if self.overhead > u64::from(limits.chunk_overhead_bytes_max) {
            return Err(Refusal::BadExtension);
        }
        self.stage = if self.size == 0 { Stage::Trailers } else { Stage::Data };
        self.digits = 0;
        self.extension_bytes = 0;
        Ok(())
    }

    /// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`, read over.
    #[cold]
    fn extension(&mut self, byte: u8, limits: &Limits) -> Result<(), Refusal> {
        self.extension_bytes += 1;
        if self.extension_bytes > limits.chunk_extension_bytes_max {
            return Err(Refusal::BadExtension);
        }
        let token = scan::is_token_byte(byte);
        self.stage = match (self.stage, byte) {
            (Stage::Digits | Stage::BeforeSemicolon, b' ' | b'\t') => Stage::BeforeSemicolon,
            (Stage::Digits | Stage::BeforeSemicolon, b';') => Stage::BeforeName,
            (Stage::BeforeName, b' ' | b'\t') => Stage::BeforeName,
            (Stage::BeforeName | Stage::Name, _) if token => Stage::Name,
            (Stage::Name | Stage::BeforeEquals, b'=') => Stage::BeforeValue,
            (Stage::Name | Stage::BeforeEquals, b' ' | b'\t') => Stage::BeforeEquals,
            (Stage::BeforeValue, b' ' | b'\t') => Stage::BeforeValue,
            (Stage::BeforeValue, b'"') => Stage::Quoted,
            (Stage::BeforeValue | Stage::Value, _) if token => Stage::Value,
            (Stage::Quoted, b'"') => Stage::BehindQuoted,
            (Stage::Quoted, b'\\') => Stage::QuotedPair,
            (Stage::Quoted | Stage::QuotedPair, _) if scan::is_value(&[byte]) => Stage::Quoted,
            (Stage::Value | Stage::BehindQuoted, b' ' | b'\t') => Stage::BeforeSemicolon,
            (Stage::Name | Stage::BeforeEquals | Stage::Value | Stage::BehindQuoted, b';') => {
                Stage::BeforeName
            }
            (Stage::Name | Stage::Value | Stage::BehindQuoted, b'\r') => Stage::HeadLf,
            _ => return Err(Refusal::BadExtension),
        };
        Ok(())
    }
}

/// The head of a chunk: `1a3` CRLF. The data and [`CHUNK_END`] follow it, best in the same vectored write.
#[derive(Debug, Clone, Copy)]
pub struct ChunkHead {
    text: [u8; 18],
    start: u8,
}

/// Behind the data of each chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// Behind the last chunk, if there are no trailers.
pub const BODY_END: &[u8] = b"0\r\n\r\n";

impl ChunkHead {
    /// `None` for an empty chunk: that would end the body.
    pub fn new(data_bytes: usize) -> Option<ChunkHead> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = *b"0000000000000000\r\n";
        let mut start = 16;
        let mut rest = data_bytes;
        while rest > 0 {
            start -= 1;
            text[start] = DIGITS[rest & 0xf];
            rest >>= 4;
        }
        (data_bytes > 0).then_some(ChunkHead { text, start: start as u8 })
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(usize::from(self.start)..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_heads_are_the_shortest_hex() {
        for (bytes, text) in [(1, "1\r\n"), (0x1a3, "1a3\r\n"), (usize::MAX, "ffffffffffffffff\r\n")] {
            let head = ChunkHead::new(bytes).unwrap();
            assert_eq!(head.as_bytes(), text.as_bytes());
        }
        assert!(ChunkHead::new(0).is_none());
    }
}

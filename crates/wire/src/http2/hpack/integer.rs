//! Numbers: in the low bits of a first byte, and in more bytes of seven bits if they do not fit (RFC 7541 5.1).

use super::HpackError;

/// Bytes after the first. No length or index that we take needs more, and none can overflow.
const MORE_MAX: u32 = 4;

/// The number that starts in `first`; `low` has the bits of its prefix. What follows is taken from `rest`.
#[inline]
pub fn decode(rest: &mut &[u8], first: u8, low: u8) -> Result<usize, HpackError> {
    let value = first & low;
    if value < low { Ok(usize::from(value)) } else { decode_more(rest, usize::from(low)) }
}

fn decode_more(rest: &mut &[u8], mut value: usize) -> Result<usize, HpackError> {
    for number in 0..MORE_MAX {
        let Some((byte, tail)) = rest.split_first() else { return Err(HpackError::Truncated) };
        *rest = tail;
        value += usize::from(byte & 0x7f) << (7 * number);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(HpackError::Integer)
}

/// Writes `value`; `mark` has the bits above the prefix.
#[inline]
pub fn encode(out: &mut Vec<u8>, mark: u8, low: u8, value: usize) {
    match u8::try_from(value) {
        Ok(value) if value < low => out.push(mark | value),
        _ => encode_more(out, mark | low, value - usize::from(low)),
    }
}

fn encode_more(out: &mut Vec<u8>, first: u8, mut value: usize) {
    out.push(first);
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

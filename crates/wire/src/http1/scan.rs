//! Looks for the first byte that ends a name, a value or a target: values and targets eight bytes a step.
//!
//! Each function answers with the place of the first byte that does not belong, or with the end of the slice.

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const VALUE: u8 = 4;
const HOST: u8 = 8;

/// Which grammars a byte belongs to.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let mut class = 0;
        let alphanumeric = b.is_ascii_alphanumeric();
        // RFC 9110 section 5.6.2.
        if alphanumeric || in_list(b, b"!#$%&'*+-.^_`|~") {
            class |= TOKEN;
        }
        // RFC 3986 section 2, and those printable bytes that browsers send unescaped. A fragment or a backslash never.
        if b > 0x20 && b < 0x7f && b != b'#' && b != b'\\' {
            class |= TARGET;
        }
        // RFC 9110 section 5.5: HTAB, SP, VCHAR, obs-text.
        if b == b'\t' || (b >= 0x20 && b != 0x7f) {
            class |= VALUE;
        }
        // RFC 3986's unreserved: no escape and no delimiter in a name that policies compare.
        if alphanumeric || in_list(b, b"-._~") {
            class |= HOST;
        }
        table[byte] = class;
        byte += 1;
    }
    table
}

const fn in_list(byte: u8, list: &[u8]) -> bool {
    let mut at = 0;
    while at < list.len() {
        if list[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

#[inline]
fn is(byte: u8, class: u8) -> bool {
    CLASS[byte as usize] & class != 0
}

/// RFC 9110 `tchar`.
#[inline]
pub(super) fn is_token_byte(byte: u8) -> bool {
    is(byte, TOKEN)
}

pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && token_end(text, 0) == text.len()
}

pub(super) fn is_value(text: &[u8]) -> bool {
    value_end(text, 0) == text.len()
}

pub(super) fn is_target(text: &[u8]) -> bool {
    !text.is_empty() && target_end(text, 0) == text.len()
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<8>().map(|chunk| u64::from_le_bytes(*chunk))
}

/// The place of the lowest marked byte of `mask`.
#[inline]
fn first(mask: u64) -> usize {
    (mask.trailing_zeros() / 8) as usize
}

/// Marks bytes that equal `byte`. Exact up to the first marked one, which is all that is asked.
#[inline]
fn equal(word: u64, byte: u8) -> u64 {
    let zero = word ^ (LOW * byte as u64);
    zero.wrapping_sub(LOW) & !zero & HIGH
}

/// Marks bytes below `limit` (at most 128). Exact up to the first marked one.
#[inline]
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(LOW * limit as u64) & !word & HIGH
}

/// The end of a token that begins at `at`: a method or a field name. Names are short: byte by byte costs less than words.
#[inline]
pub(super) fn token_end(bytes: &[u8], at: usize) -> usize {
    tail(bytes, at, TOKEN)
}

/// The end of a host's name or IPv4 address that begins at `at`.
#[inline]
pub(super) fn host_end(bytes: &[u8], at: usize) -> usize {
    tail(bytes, at, HOST)
}

/// The end of a field value or reason phrase that begins at `at`: the first control byte that is no tab.
#[inline]
pub(super) fn value_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = word(bytes, at) {
        let control = below(word, 0x20) | equal(word, 0x7f);
        if control == 0 {
            at += 8;
            continue;
        }
        at += first(control);
        if bytes.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
    tail(bytes, at, VALUE)
}

/// The end of a request target that begins at `at`.
#[inline]
pub(super) fn target_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = word(bytes, at) {
        let other =
            below(word, 0x21) | equal(word, 0x7f) | equal(word, b'#') | equal(word, b'\\') | (word & HIGH);
        if other != 0 {
            return at + first(other);
        }
        at += 8;
    }
    tail(bytes, at, TARGET)
}

#[inline]
fn tail(bytes: &[u8], mut at: usize, class: u8) -> usize {
    while bytes.get(at).is_some_and(|byte| is(*byte, class)) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each byte at each place of a word and behind it, against the table.
    #[test]
    fn wide_steps_agree_with_the_table() {
        type Scan = fn(&[u8], usize) -> usize;
        let scans: [(Scan, u8); 4] =
            [(token_end, TOKEN), (host_end, HOST), (value_end, VALUE), (target_end, TARGET)];
        for (scan, class) in scans {
            for byte in 0..=255u8 {
                for place in 0..19 {
                    for follower in [b'a', b'-', 0x01, 0x21, 0x7f, 0x80, 0xff] {
                        let mut text = [b'x'; 24];
                        text[place] = byte;
                        text[place + 1] = follower;
                        let expected = text.iter().position(|byte| !is(*byte, class)).unwrap_or(text.len());
                        assert_eq!(scan(&text, 0), expected, "byte {byte:#x} at {place}, then {follower:#x}");
                    }
                }
            }
        }
    }

    #[test]
    fn classes_follow_the_grammars() {
        assert_eq!((0..=255u8).filter(|byte| is_token_byte(*byte)).count(), 77);
        assert_eq!((0..=255u8).filter(|byte| is_value(&[*byte])).count(), 256 - 32 - 1 + 1);
        for byte in b"\0\t\r\n #\\\x7f\x80\xff" {
            assert!(!is_target(&[*byte]), "{byte:#x}");
        }
    }
}

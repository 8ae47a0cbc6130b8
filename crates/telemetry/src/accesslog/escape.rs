//! Bytes of a peer, made harmless: what is printable stays, the rest is spelled out.

/// For a text line. Control characters (also C1 and the line separators of Unicode), quotes and
/// backslashes are escaped, invalid UTF-8 as `\xNN`.
pub fn text(bytes: &[u8], out: &mut Vec<u8>) {
    if plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                other if unsafe_to_show(other) => unicode(other, out),
                other => push(other, out),
            }
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
}

/// The common case: nothing to escape. Blocks without a branch in them, which the compiler does in wide registers; the
/// last one overlaps the one before.
fn plain(bytes: &[u8]) -> bool {
    if let Some(last) = bytes.last_chunk::<16>() {
        return bytes.as_chunks::<16>().0.iter().all(block_is_plain) && block_is_plain(last);
    }
    match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => block_is_plain(first) && block_is_plain(last),
        _ => bytes.iter().all(|byte| block_is_plain(&[*byte])),
    }
}

#[inline]
fn block_is_plain<const N: usize>(block: &[u8; N]) -> bool {
    let escaped = |byte: u8| !matches!(byte, b' '..=b'~') | (byte == b'"') | (byte == b'\\');
    !block.iter().fold(false, |any, byte| any | escaped(*byte))
}

/// For the inside of a JSON string. Invalid UTF-8 becomes the text `\xNN`.
pub fn json(bytes: &[u8], out: &mut Vec<u8>) {
    if plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                other if unsafe_to_show(other) => {
                    let mut units = [0; 2];
                    for unit in other.encode_utf16(&mut units) {
                        out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                    }
                }
                other => push(other, out),
            }
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\\\x{byte:02x}").as_bytes());
        }
    }
}

/// Controls, and what breaks or turns a line around in a reader that knows Unicode.
fn unsafe_to_show(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn unicode(character: char, out: &mut Vec<u8>) {
    let code = u32::from(character);
    let shown = if code < 0x80 { format!("\\x{code:02x}") } else { format!("\\u{{{code:x}}}") };
    out.extend_from_slice(shown.as_bytes());
}

fn push(character: char, out: &mut Vec<u8>) {
    let mut buffer = [0; 4];
    out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn no_byte_hides_at_any_place() {
        for length in 1..40 {
            for place in 0..length {
                for byte in 0..=255_u8 {
                    let mut text = vec![b'a'; length];
                    text[place] = byte;
                    let shown = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
                    assert_eq!(plain(&text), shown, "byte {byte:#x} at {place} of {length}");
                }
            }
        }
        assert!(plain(b""));
    }
}

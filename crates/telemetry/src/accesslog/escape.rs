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

/// The common case: nothing to escape. Blocks without a branch in them, which the compiler does in wide registers.
fn plain(bytes: &[u8]) -> bool {
    let escaped = |byte: u8| !matches!(byte, b' '..=b'~') | (byte == b'"') | (byte == b'\\');
    let (blocks, rest) = bytes.as_chunks::<16>();
    blocks.iter().all(|block| !block.iter().fold(false, |any, byte| any | escaped(*byte)))
        && !rest.iter().fold(false, |any, byte| any | escaped(*byte))
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

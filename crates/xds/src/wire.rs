//! The least of protobuf's wire format: fields of a message, as slices.

/// One field: its number, its payload where it is length-delimited, and all of its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    pub number: u32,
    pub payload: Option<&'a [u8]>,
    pub bytes: &'a [u8],
}

/// Splits a message into its fields; `None` when it is not one (or uses groups, which xDS does not).
pub fn fields(mut message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let (field, rest) = field(message)?;
        fields.push(field);
        message = rest;
    }
    Some(fields)
}

/// The string in field 1: where every xDS resource carries its name.
pub fn name(mut message: &[u8]) -> Option<&str> {
    let mut name = None;
    while !message.is_empty() {
        let (field, rest) = field(message)?;
        if field.number == 1 {
            name = Some(field.payload?);
        }
        message = rest;
    }
    std::str::from_utf8(name?).ok()
}

/// The name that damaged bytes begin with, so that a refusal can say which resource it was.
pub fn name_so_far(mut message: &[u8]) -> Option<&str> {
    while let Some((found, rest)) = field(message) {
        if found.number == 1 {
            return std::str::from_utf8(found.payload?).ok().filter(|name| !name.is_empty());
        }
        message = rest;
    }
    None
}

fn field(message: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (tag, after_tag) = varint(message)?;
    let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
    let (payload, rest) = match tag & 7 {
        0 => (None, varint(after_tag)?.1),
        1 => (None, after_tag.get(8..)?),
        2 => {
            let (length, body) = varint(after_tag)?;
            let (payload, rest) = body.split_at_checked(usize::try_from(length).ok()?)?;
            (Some(payload), rest)
        }
        5 => (None, after_tag.get(4..)?),
        _ => return None,
    };
    let bytes = message.get(..message.len() - rest.len())?;
    Some((Field { number, payload, bytes }, rest))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

/// Writes a length-delimited field.
pub fn put_payload(out: &mut Vec<u8>, number: u32, payload: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

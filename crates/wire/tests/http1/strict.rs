//! A second reader: slow, literal, and without mercy. It shares nothing with the codec, not even a table.
//!
//! It takes exactly one message in the one form that the writer is meant to emit, and knows no leniency at all, so what
//! it accepts no reader can take for something else.

#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub start: Vec<String>,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, Vec<u8>)>,
}

type Read<T> = Result<T, String>;

fn line<'a>(rest: &mut &'a [u8]) -> Read<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == b'\r' || *byte == b'\n').ok_or("no line end")?;
    let line = &rest[..end];
    *rest = rest[end..].strip_prefix(b"\r\n").ok_or("a line end that is not CRLF")?;
    Ok(line)
}

fn fields(rest: &mut &[u8]) -> Read<Vec<(String, Vec<u8>)>> {
    let mut fields = Vec::new();
    loop {
        let line = line(rest)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or("no colon")?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        if name.is_empty() || !name.iter().all(token) {
            return Err("a name that is no token".into());
        }
        let value = value.strip_prefix(b" ").ok_or("not one space behind the colon")?;
        let edges = [value.first(), value.last()];
        if edges.iter().flatten().any(|byte| matches!(byte, b' ' | b'\t')) {
            return Err("white space around a value".into());
        }
        if value.iter().any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f) {
            return Err("a control byte in a value".into());
        }
        fields.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()));
    }
}

fn all<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|(own, _)| own == name).map(|(_, value)| &value[..]).collect()
}

fn body(rest: &mut &[u8], fields: &[(String, Vec<u8>)], until_close: bool) -> Read<(Vec<u8>, bool)> {
    let (lengths, encodings) = (all(fields, "content-length"), all(fields, "transfer-encoding"));
    match (&lengths[..], &encodings[..]) {
        ([], []) if until_close => Ok((std::mem::take(rest).to_vec(), false)),
        ([], []) => Ok((Vec::new(), false)),
        ([length], []) => {
            let digits = std::str::from_utf8(length).map_err(|_| "a length that is no text")?;
            let number: usize = digits.parse().map_err(|_| "a length that is no number")?;
            if number.to_string() != digits {
                return Err("a length in an odd form".into());
            }
            let (data, behind) = rest.split_at_checked(number).ok_or("a body that is too short")?;
            *rest = behind;
            Ok((data.to_vec(), false))
        }
        ([], [b"chunked"]) => chunks(rest).map(|data| (data, true)),
        _ => Err("more than one word on the length".into()),
    }
}

fn chunks(rest: &mut &[u8]) -> Read<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let digits = std::str::from_utf8(line(rest)?).map_err(|_| "a chunk size that is no text")?;
        let size = usize::from_str_radix(digits, 16).map_err(|_| "a chunk size that is no number")?;
        if format!("{size:x}") != digits {
            return Err("a chunk size in an odd form".into());
        }
        if size == 0 {
            return Ok(data);
        }
        let (chunk, behind) = rest.split_at_checked(size).ok_or("a chunk that is too short")?;
        data.extend_from_slice(chunk);
        *rest = behind.strip_prefix(b"\r\n").ok_or("a chunk without its end")?;
    }
}

fn message(start: &[u8], mut rest: &[u8], bodiless: bool, until_close: bool) -> Read<Message> {
    let start = std::str::from_utf8(start).map_err(|_| "a start line that is no text")?;
    let fields = fields(&mut rest)?;
    for hop in ["keep-alive", "proxy-connection"] {
        if !all(&fields, hop).is_empty() {
            return Err(format!("a field of another hop: {hop}"));
        }
    }
    let (body, chunked) = if bodiless { (Vec::new(), false) } else { body(&mut rest, &fields, until_close)? };
    let trailers = if chunked { self::fields(&mut rest)? } else { Vec::new() };
    for name in ["content-length", "transfer-encoding", "host", "connection", "authorization", "set-cookie"] {
        if !all(&trailers, name).is_empty() {
            return Err(format!("a trailer that nobody may send: {name}"));
        }
    }
    if !rest.is_empty() {
        return Err(format!("{} bytes behind the end", rest.len()));
    }
    Ok(Message { start: start.split(' ').map(str::to_owned).collect(), fields, body, trailers })
}

/// Exactly one request.
pub fn request(bytes: &[u8]) -> Read<Message> {
    let mut rest = bytes;
    let start = line(&mut rest)?;
    let message = message(start, rest, start.starts_with(b"CONNECT "), false)?;
    let [method, target, version] = &message.start[..] else { return Err("not three words".into()) };
    if version != "HTTP/1.1" || method.is_empty() || target.is_empty() {
        return Err("an odd request line".into());
    }
    if target.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#' || byte == b'\\') {
        return Err("an odd target".into());
    }
    let [host] = all(&message.fields, "host")[..] else { return Err("not one Host".into()) };
    if host.iter().any(|byte| !byte.is_ascii_alphanumeric() && !b"-._~:[]".contains(byte)) {
        return Err("an odd Host".into());
    }
    Ok(message)
}

/// Exactly one response; `bodiless` for an answer to HEAD and for a tunnel.
pub fn response(bytes: &[u8], bodiless: bool) -> Read<Message> {
    let mut rest = bytes;
    let start = line(&mut rest)?;
    let code = start.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or("an odd status line")?;
    let code: u16 = String::from_utf8_lossy(code).parse().map_err(|_| "a status that is no number")?;
    if start.get(12) != Some(&b' ') {
        return Err("no space behind the status".into());
    }
    let bodiless = bodiless || matches!(code, 100..=199 | 204 | 304);
    let start = &start[..12];
    let message = message(start, rest, bodiless, true)?;
    if matches!(code, 100..=199 | 204) && !all(&message.fields, "content-length").is_empty() {
        return Err("a length where none may be".into());
    }
    Ok(message)
}

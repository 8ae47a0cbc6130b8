//! A strict reader of HTTP/1.1 requests (RFC 9112), written for the audit of what the proxy sends: it knows no mercy and
//! shares no code with the product. What it calls a problem, some origin would read in another way than the proxy did.

/// Chunks, header lines and the like that one message may have; more is the proxy's fault.
const HEADERS_MAX: usize = 1000;

/// One whole request.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Request {
    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.headers.iter().filter(|(field, _)| field == name);
        fields.map(|(_, value)| value.as_str()).collect()
    }

    pub fn one(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

/// The first request in `bytes` and its length; `None`: more bytes are needed.
pub fn read(bytes: &[u8]) -> Result<Option<(Request, usize)>, String> {
    let mut at = 0;
    let Some(line) = line(bytes, &mut at)? else { return Ok(None) };
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return Err(format!("request line {}", show(line))) };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(format!("method {}", show(method)));
    }
    if version != b"HTTP/1.1" {
        return Err(format!("version {}", show(version)));
    }
    let form = matches!(target, [b'/', ..])
        || (target == b"*" && method == b"OPTIONS")
        || (method == b"CONNECT" && target.contains(&b':'));
    if !form || !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(format!("target {}", show(target)));
    }
    let Some(headers) = fields(bytes, &mut at)? else { return Ok(None) };
    let mut request = Request { method: show(method), target: show(target), headers, ..Request::default() };
    let hosts = request.all("host");
    if hosts.len() != 1 || !is_host(hosts[0]) {
        return Err(format!("hosts {hosts:?}"));
    }
    let (lengths, codings) = (request.all("content-length"), request.all("transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => {}
        ([length], []) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let length: Option<usize> = length.parse().ok().filter(|_| digits);
            let end = length.and_then(|length| at.checked_add(length));
            let end = end.ok_or_else(|| format!("content-length {lengths:?}"))?;
            let Some(body) = bytes.get(at..end) else { return Ok(None) };
            request.body = body.to_vec();
            at = end;
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => {
            let Some(()) = chunks(bytes, &mut at, &mut request)? else { return Ok(None) };
        }
        _ => return Err(format!("content-length {lengths:?} and transfer-encoding {codings:?}")),
    }
    Ok(Some((request, at)))
}

fn chunks(bytes: &[u8], at: &mut usize, request: &mut Request) -> Result<Option<()>, String> {
    loop {
        let Some(size) = line(bytes, at)? else { return Ok(None) };
        let text = show(size);
        let plain = (1..=8).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
        let length = usize::from_str_radix(&text, 16).ok().filter(|_| plain);
        let length = length.ok_or_else(|| format!("chunk size {text}"))?;
        if length == 0 {
            let Some(trailers) = fields(bytes, at)? else { return Ok(None) };
            let framing = ["content-length", "transfer-encoding", "host", "trailer", "connection"];
            if let Some((name, _)) = trailers.iter().find(|(name, _)| framing.contains(&name.as_str())) {
                return Err(format!("trailer {name}"));
            }
            request.trailers = trailers;
            return Ok(Some(()));
        }
        let Some(data) = bytes.get(*at..*at + length + 2) else { return Ok(None) };
        if !data.ends_with(b"\r\n") {
            return Err("a chunk without its end".to_owned());
        }
        request.body.extend_from_slice(&data[..length]);
        *at += length + 2;
    }
}

/// Header lines to the empty one.
fn fields(bytes: &[u8], at: &mut usize) -> Result<Option<Vec<(String, String)>>, String> {
    let mut fields = Vec::new();
    loop {
        let Some(line) = line(bytes, at)? else { return Ok(None) };
        if line.is_empty() {
            return Ok(Some(fields));
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.ok_or_else(|| format!("no colon in {}", show(line)))?);
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(format!("field name {}", show(name)));
        }
        let value = &value[1..];
        if !value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)) {
            return Err(format!("field value {}", show(value)));
        }
        fields.push((show(name).to_ascii_lowercase(), show(value.trim_ascii())));
        if fields.len() > HEADERS_MAX {
            return Err("too many fields".to_owned());
        }
    }
}

/// One line, which must end with CR LF and hold no other of the two, and no NUL.
fn line<'a>(bytes: &'a [u8], at: &mut usize) -> Result<Option<&'a [u8]>, String> {
    let rest = &bytes[(*at).min(bytes.len())..];
    let end = rest.iter().position(|byte| *byte == b'\n');
    let line = &rest[..end.unwrap_or(rest.len())];
    let odd = |line: &[u8]| line.iter().any(|byte| matches!(byte, b'\r' | 0));
    let Some(end) = end else {
        // The last byte may be the CR of an end that is still to come.
        let sure = &line[..line.len().saturating_sub(1)];
        return if odd(sure) { Err(format!("CR or NUL in {}", show(line))) } else { Ok(None) };
    };
    let Some(line) = line.strip_suffix(b"\r") else { return Err(format!("bare LF after {}", show(line))) };
    if odd(line) {
        return Err(format!("CR or NUL in {}", show(line)));
    }
    *at += end + 1;
    Ok(Some(line))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_host(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte))
}

/// Bytes as text, one character a byte.
pub fn show(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

#[test]
fn the_reader_is_strict() {
    let whole = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET";
    let (request, length) = read(whole).unwrap().unwrap();
    assert_eq!((request.body.as_slice(), length), (&b"abc"[..], whole.len() - 3));
    let chunked =
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n";
    assert_eq!(read(chunked).unwrap().unwrap().0.trailers.len(), 1);
    for end in 0..chunked.len() {
        assert!(read(&chunked[..end]).unwrap().is_none(), "{end} bytes are not enough");
    }
    for bad in [
        &b"GET / HTTP/1.1\nHost: a\n\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nx: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nx : a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: b\r\n\r\n",
        b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert!(read(bad).is_err(), "{}", show(bad));
    }
}

//! Heads: fields as they come out of a block to a request, an answer or trailers, and back (RFC 9113 section 8).

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::hpack::{Encoder, Field, Pseudo};

/// The `:protocol` of an extended CONNECT (RFC 8441 section 4), an extension of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol(pub Bytes);

/// Why a head is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("a malformed head: {0}")]
    Malformed(&'static str),
    #[error("a head of more bytes or fields than allowed")]
    TooLarge,
    #[error("a :path of more bytes than allowed")]
    PathTooLong,
}

use HeadError::Malformed;

/// Of `:path`.
const PATH_BYTES_MAX: usize = 8 * 1024;
/// Of `:method`.
const METHOD_BYTES_MAX: usize = 32;

/// A head in the making.
pub(super) struct Builder {
    bytes_left: usize,
    fields_left: u32,
    error: Option<HeadError>,
    method: Option<Bytes>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
    protocol: Option<Bytes>,
    status: Option<Bytes>,
    headers: HeaderMap,
    has_pseudo: bool,
    regular: bool,
    length: Option<u64>,
    expects: bool,
}

/// What a name means to the codec, told by few comparisons.
fn is_of_connection(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.len() {
        7 => name == "upgrade",
        10 => name == "connection" || name == "keep-alive",
        16 => name == "proxy-connection",
        17 => name == "transfer-encoding",
        _ => false,
    }
}

impl Builder {
    pub fn new(headers: HeaderMap, bytes_max: u32, fields_max: u32) -> Builder {
        Builder {
            bytes_left: bytes_max as usize,
            fields_left: fields_max,
            error: None,
            method: None,
            scheme: None,
            authority: None,
            path: None,
            protocol: None,
            status: None,
            headers,
            has_pseudo: false,
            regular: false,
            length: None,
            expects: false,
        }
    }

    /// Takes the next field; after an error all others go unseen.
    pub fn add(&mut self, field: Field, size: usize) {
        if self.error.is_some() {
            return;
        }
        let Some(left) = self.bytes_left.checked_sub(size) else {
            self.error = Some(HeadError::TooLarge);
            return;
        };
        self.bytes_left = left;
        let added = match field {
            Field::Pseudo(pseudo, value) => self.add_pseudo(pseudo, value),
            Field::Header(name, value) => self.add_header(name, value),
            Field::Malformed => Err(Malformed("a field that HTTP does not allow")),
        };
        if let Err(error) = added {
            self.error = Some(error);
        }
    }

    fn add_pseudo(&mut self, pseudo: Pseudo, value: Bytes) -> Result<(), HeadError> {
        if self.regular {
            return Err(Malformed("a pseudo-header after others"));
        }
        self.has_pseudo = true;
        let place = match pseudo {
            Pseudo::Method => &mut self.method,
            Pseudo::Scheme => &mut self.scheme,
            Pseudo::Authority => &mut self.authority,
            Pseudo::Path => &mut self.path,
            Pseudo::Protocol => &mut self.protocol,
            Pseudo::Status => &mut self.status,
        };
        if place.replace(value).is_some() {
            return Err(Malformed("a pseudo-header twice"));
        }
        Ok(())
    }

    fn add_header(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeadError> {
        self.regular = true;
        if is_of_connection(&name) {
            return Err(Malformed("a field of HTTP/1's connections"));
        }
        match name.as_str() {
            "te" if value != "trailers" => return Err(Malformed("TE other than trailers")),
            "content-length" => {
                let length = length(&value).ok_or(Malformed("a wrong Content-Length"))?;
                if self.length.replace(length).is_some_and(|known| known != length) {
                    return Err(Malformed("two Content-Lengths"));
                }
            }
            "expect" => self.expects = value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
            // Crumbs of one field (RFC 9113 section 8.2.3); their bytes count.
            "cookie" => self.fields_left = self.fields_left.saturating_add(1),
            _ => {}
        }
        self.fields_left = self.fields_left.checked_sub(1).ok_or(HeadError::TooLarge)?;
        self.headers.try_append(name, value).map_err(|_| HeadError::TooLarge)?;
        Ok(())
    }

    /// How much more of a head there may be.
    pub fn bytes_left(&self) -> usize {
        self.bytes_left
    }

    /// Whether the client waits for a 100 before it sends the body.
    pub fn expects(&self) -> bool {
        self.expects
    }

    fn whole(&self) -> Result<(), HeadError> {
        self.error.map_or(Ok(()), Err)
    }

    /// A request's, and how long its body says it is.
    pub fn request(mut self, extended_connect: bool) -> Result<(Request<()>, Option<u64>), HeadError> {
        self.whole()?;
        if self.status.is_some() {
            return Err(Malformed(":status in a request"));
        }
        let method = self.method.take().ok_or(Malformed("no :method"))?;
        if method.len() > METHOD_BYTES_MAX {
            return Err(Malformed("a :method that nobody knows"));
        }
        let method = Method::from_bytes(&method).map_err(|_| Malformed("a wrong :method"))?;
        let is_connect = method == Method::CONNECT;
        if self.protocol.is_some() && !(is_connect && extended_connect) {
            return Err(Malformed(":protocol where nobody asked for it"));
        }
        let uri = if is_connect && self.protocol.is_none() {
            self.connect_target()?
        } else {
            self.target(&method)?
        };
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers;
        if let Some(protocol) = self.protocol {
            request.extensions_mut().insert(Protocol(protocol));
        }
        Ok((request, self.length))
    }

    /// RFC 9113 section 8.5.
    fn connect_target(&mut self) -> Result<Uri, HeadError> {
        if self.scheme.is_some() || self.path.is_some() {
            return Err(Malformed("a CONNECT with :scheme or :path"));
        }
        let authority = self.authority()?.ok_or(Malformed("a CONNECT without :authority"))?;
        Ok(Uri::from(authority))
    }

    fn target(&mut self, method: &Method) -> Result<Uri, HeadError> {
        let path = self.path.take().ok_or(Malformed("no :path"))?;
        if path.len() > PATH_BYTES_MAX {
            return Err(HeadError::PathTooLong);
        }
        let is_path = match path.first() {
            Some(b'/') => true,
            Some(b'*') => path.len() == 1 && *method == Method::OPTIONS,
            _ => false,
        };
        // A fragment is no part of it (RFC 9110 section 7.1), and would be cut off unseen.
        if !is_path || !path.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
            return Err(Malformed("a wrong :path"));
        }
        let path = PathAndQuery::from_maybe_shared(path).map_err(|_| Malformed("a wrong :path"))?;
        let scheme = match self.scheme.take().as_deref() {
            Some(b"http") => Scheme::HTTP,
            Some(b"https") => Scheme::HTTPS,
            Some(other) => Scheme::try_from(other).map_err(|_| Malformed("a wrong :scheme"))?,
            None => return Err(Malformed("no :scheme")),
        };
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(path);
        parts.authority = self.authority()?;
        if parts.authority.is_some() {
            parts.scheme = Some(scheme); // an URI has one only with the other
        }
        Uri::from_parts(parts).map_err(|_| Malformed("a wrong target"))
    }

    fn authority(&mut self) -> Result<Option<Authority>, HeadError> {
        let Some(authority) = self.authority.take() else { return Ok(None) };
        if authority.is_empty() || authority.contains(&b'@') {
            return Err(Malformed("a wrong :authority"));
        }
        let authority = Authority::from_maybe_shared(authority);
        authority.map(Some).map_err(|_| Malformed("a wrong :authority"))
    }

    /// An answer's, and how long its body says it is.
    pub fn response(mut self) -> Result<(Response<()>, Option<u64>), HeadError> {
        self.whole()?;
        let status = self.status.take().ok_or(Malformed("no :status"))?;
        let others = [&self.method, &self.scheme, &self.authority, &self.path, &self.protocol];
        if others.into_iter().any(Option::is_some) {
            return Err(Malformed("a request's pseudo-header in an answer"));
        }
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_bytes(&status).map_err(|_| Malformed("a wrong :status"))?;
        *response.version_mut() = Version::HTTP_2;
        *response.headers_mut() = self.headers;
        Ok((response, self.length))
    }

    pub fn trailers(self) -> Result<HeaderMap, HeadError> {
        self.whole()?;
        if self.has_pseudo {
            return Err(Malformed("a pseudo-header in trailers"));
        }
        Ok(self.headers)
    }
}

/// Digits only (RFC 9110 section 8.6).
fn length(value: &HeaderValue) -> Option<u64> {
    let digits = value.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// What a request's head says.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    pub method: &'a Method,
    /// `scheme` and `path` are not said by a CONNECT without a protocol.
    pub scheme: &'a str,
    pub authority: Option<&'a [u8]>,
    pub path: &'a str,
    /// Of an extended CONNECT.
    pub protocol: Option<&'a [u8]>,
    pub headers: &'a HeaderMap,
}

impl<'a> From<&'a Request<()>> for RequestHead<'a> {
    fn from(request: &'a Request<()>) -> RequestHead<'a> {
        let uri = request.uri();
        RequestHead {
            method: request.method(),
            scheme: uri.scheme_str().unwrap_or("http"),
            authority: uri.authority().map(|authority| authority.as_str().as_bytes()),
            path: uri.path_and_query().map_or("/", PathAndQuery::as_str),
            protocol: request.extensions().get().map(|Protocol(protocol)| &protocol[..]),
            headers: request.headers(),
        }
    }
}

/// Writes a request's head.
pub(super) fn write_request(encoder: &mut Encoder, out: &mut Vec<u8>, head: &RequestHead<'_>) {
    encoder.begin(out);
    let whole = *head.method != Method::CONNECT || head.protocol.is_some();
    encoder.pseudo(out, Pseudo::Method, head.method.as_str().as_bytes());
    if whole {
        encoder.pseudo(out, Pseudo::Scheme, head.scheme.as_bytes());
    }
    if let Some(authority) = head.authority {
        encoder.pseudo(out, Pseudo::Authority, authority);
    }
    if whole {
        encoder.pseudo(out, Pseudo::Path, if head.path.is_empty() { "/" } else { head.path }.as_bytes());
    }
    if let Some(protocol) = head.protocol {
        encoder.pseudo(out, Pseudo::Protocol, protocol);
    }
    write_fields(encoder, out, head.headers);
}

/// Writes an answer's head.
pub(super) fn write_response(
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &HeaderMap,
) {
    encoder.begin(out);
    encoder.pseudo(out, Pseudo::Status, status.as_str().as_bytes());
    write_fields(encoder, out, headers);
}

pub(super) fn write_trailers(encoder: &mut Encoder, out: &mut Vec<u8>, trailers: &HeaderMap) {
    encoder.begin(out);
    write_fields(encoder, out, trailers);
}

/// What HTTP/2 has no place for stays out, whoever put it there (RFC 9113 section 8.2.2).
fn write_fields(encoder: &mut Encoder, out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        let is_te = name.as_str() == "te" && value != "trailers";
        if !is_te && !is_of_connection(name) {
            encoder.header(out, name, value);
        }
    }
}

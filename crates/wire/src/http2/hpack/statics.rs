//! The static table (RFC 7541 appendix A), as fields ready to be given away.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};

use super::{Field, Pseudo, table::Entry};

/// The dynamic table goes on from here.
pub const COUNT: usize = FIELDS.len();

/// The first index is 1.
pub static FIELDS: [Entry; 61] = [
    pseudo(Pseudo::Authority, ":authority", ""),
    pseudo(Pseudo::Method, ":method", "GET"),
    pseudo(Pseudo::Method, ":method", "POST"),
    pseudo(Pseudo::Path, ":path", "/"),
    pseudo(Pseudo::Path, ":path", "/index.html"),
    pseudo(Pseudo::Scheme, ":scheme", "http"),
    pseudo(Pseudo::Scheme, ":scheme", "https"),
    pseudo(Pseudo::Status, ":status", "200"),
    pseudo(Pseudo::Status, ":status", "204"),
    pseudo(Pseudo::Status, ":status", "206"),
    pseudo(Pseudo::Status, ":status", "304"),
    pseudo(Pseudo::Status, ":status", "400"),
    pseudo(Pseudo::Status, ":status", "404"),
    pseudo(Pseudo::Status, ":status", "500"),
    field("accept-charset", ""),
    field("accept-encoding", "gzip, deflate"),
    field("accept-language", ""),
    field("accept-ranges", ""),
    field("accept", ""),
    field("access-control-allow-origin", ""),
    field("age", ""),
    field("allow", ""),
    field("authorization", ""),
    field("cache-control", ""),
    field("content-disposition", ""),
    field("content-encoding", ""),
    field("content-language", ""),
    field("content-length", ""),
    field("content-location", ""),
    field("content-range", ""),
    field("content-type", ""),
    field("cookie", ""),
    field("date", ""),
    field("etag", ""),
    field("expect", ""),
    field("expires", ""),
    field("from", ""),
    field("host", ""),
    field("if-match", ""),
    field("if-modified-since", ""),
    field("if-none-match", ""),
    field("if-range", ""),
    field("if-unmodified-since", ""),
    field("last-modified", ""),
    field("link", ""),
    field("location", ""),
    field("max-forwards", ""),
    field("proxy-authenticate", ""),
    field("proxy-authorization", ""),
    field("range", ""),
    field("referer", ""),
    field("refresh", ""),
    field("retry-after", ""),
    field("server", ""),
    field("set-cookie", ""),
    field("strict-transport-security", ""),
    field("transfer-encoding", ""),
    field("user-agent", ""),
    field("vary", ""),
    field("via", ""),
    field("www-authenticate", ""),
];

const fn pseudo(pseudo: Pseudo, name: &'static str, value: &'static str) -> Entry {
    Entry::new(Field::Pseudo(pseudo, Bytes::from_static(value.as_bytes())), name.len(), value.len())
}

const fn field(name: &'static str, value: &'static str) -> Entry {
    let field = Field::Header(HeaderName::from_static(name), HeaderValue::from_static(value));
    Entry::new(field, name.len(), value.len())
}

/// The index of a field whose value is there too, as most requests and answers have some.
pub fn index(name: Pseudo, value: &[u8]) -> Option<u8> {
    Some(match (name, value) {
        (Pseudo::Method, b"GET") => 2,
        (Pseudo::Method, b"POST") => 3,
        (Pseudo::Path, b"/") => 4,
        (Pseudo::Path, b"/index.html") => 5,
        (Pseudo::Scheme, b"http") => 6,
        (Pseudo::Scheme, b"https") => 7,
        (Pseudo::Status, b"200") => 8,
        (Pseudo::Status, b"204") => 9,
        (Pseudo::Status, b"206") => 10,
        (Pseudo::Status, b"304") => 11,
        (Pseudo::Status, b"400") => 12,
        (Pseudo::Status, b"404") => 13,
        (Pseudo::Status, b"500") => 14,
        _ => return None,
    })
}

/// An index that has this name.
pub fn index_of_pseudo(name: Pseudo) -> Option<u8> {
    Some(match name {
        Pseudo::Authority => 1,
        Pseudo::Method => 2,
        Pseudo::Path => PATH,
        Pseudo::Scheme => 6,
        Pseudo::Status => 8,
        Pseudo::Protocol => return None,
    })
}

pub const PATH: u8 = 4;
pub const AUTHORIZATION: u8 = 23;
pub const COOKIE: u8 = 32;
pub const PROXY_AUTHORIZATION: u8 = 49;
pub const SET_COOKIE: u8 = 55;
/// The only header that has a value there.
pub const ACCEPT_ENCODING: u8 = 16;
pub const ACCEPT_ENCODING_VALUE: &[u8] = b"gzip, deflate";

/// The index of this name: a jump by the number that `http` keeps for a name it knows.
pub fn index_of(name: &HeaderName) -> Option<u8> {
    Some(match *name {
        header::ACCEPT_CHARSET => 15,
        header::ACCEPT_ENCODING => ACCEPT_ENCODING,
        header::ACCEPT_LANGUAGE => 17,
        header::ACCEPT_RANGES => 18,
        header::ACCEPT => 19,
        header::ACCESS_CONTROL_ALLOW_ORIGIN => 20,
        header::AGE => 21,
        header::ALLOW => 22,
        header::AUTHORIZATION => AUTHORIZATION,
        header::CACHE_CONTROL => 24,
        header::CONTENT_DISPOSITION => 25,
        header::CONTENT_ENCODING => 26,
        header::CONTENT_LANGUAGE => 27,
        header::CONTENT_LENGTH => 28,
        header::CONTENT_LOCATION => 29,
        header::CONTENT_RANGE => 30,
        header::CONTENT_TYPE => 31,
        header::COOKIE => COOKIE,
        header::DATE => 33,
        header::ETAG => 34,
        header::EXPECT => 35,
        header::EXPIRES => 36,
        header::FROM => 37,
        header::HOST => 38,
        header::IF_MATCH => 39,
        header::IF_MODIFIED_SINCE => 40,
        header::IF_NONE_MATCH => 41,
        header::IF_RANGE => 42,
        header::IF_UNMODIFIED_SINCE => 43,
        header::LAST_MODIFIED => 44,
        header::LINK => 45,
        header::LOCATION => 46,
        header::MAX_FORWARDS => 47,
        header::PROXY_AUTHENTICATE => 48,
        header::PROXY_AUTHORIZATION => PROXY_AUTHORIZATION,
        header::RANGE => 50,
        header::REFERER => 51,
        header::REFRESH => 52,
        header::RETRY_AFTER => 53,
        header::SERVER => 54,
        header::SET_COOKIE => SET_COOKIE,
        header::STRICT_TRANSPORT_SECURITY => 56,
        header::TRANSFER_ENCODING => 57,
        header::USER_AGENT => 58,
        header::VARY => 59,
        header::VIA => 60,
        header::WWW_AUTHENTICATE => 61,
        _ => return None,
    })
}

//! Which protocol starts with these bytes?
//!
//! A listener that takes captured traffic must tell TLS, HTTP/2 with prior knowledge and HTTP/1 from anything else
//! without stalling: a verdict comes as soon as the bytes allow one, and at the latest after [`LINE_BYTES_MAX`].
//! Protocols where the server speaks first send nothing; the caller's timer decides those, not this file.

use crate::Progress;

/// The longest first line that is read to find out whether an unknown method is HTTP/1. Longer means "not HTTP".
pub const LINE_BYTES_MAX: usize = 8 * 1024;

const METHOD_BYTES_MAX: usize = 24;
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const METHODS: [&[u8]; 9] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];

/// What a connection's first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A TLS record of type handshake.
    Tls,
    /// The HTTP/2 connection preface, in clear.
    Http2,
    /// An HTTP/1 request line.
    Http1,
    /// None of these: bytes to be copied.
    Other,
}

/// Tells the protocol from all the bytes received so far.
pub fn detect(bytes: &[u8]) -> Progress<Protocol> {
    let Some(&first) = bytes.first() else {
        return Progress::More;
    };
    if first == 0x16 {
        return tls(bytes);
    }
    match is_http2(bytes) {
        Progress::More => Progress::More,
        Progress::Done(true) => Progress::Done(Protocol::Http2),
        Progress::Done(false) => http1(bytes),
    }
}

/// Whether it is TLS, for who asks no more than that: the first byte tells, but of TLS itself.
pub fn is_tls(bytes: &[u8]) -> Progress<bool> {
    match bytes.first() {
        None => Progress::More,
        Some(0x16) => match tls(bytes) {
            Progress::More => Progress::More,
            Progress::Done(protocol) => Progress::Done(protocol == Protocol::Tls),
        },
        Some(_) => Progress::Done(false),
    }
}

/// Whether it is HTTP/2, for who takes anything else for HTTP/1.
pub fn is_http2(bytes: &[u8]) -> Progress<bool> {
    if bytes.len() < H2_PREFACE.len() && H2_PREFACE.starts_with(bytes) {
        return Progress::More;
    }
    Progress::Done(bytes.starts_with(H2_PREFACE))
}

/// A record header is type (22), then version 3.0 to 3.4. A second byte is enough: the minor version is not trusted.
fn tls(bytes: &[u8]) -> Progress<Protocol> {
    match bytes.get(1) {
        None => Progress::More,
        Some(3) => Progress::Done(Protocol::Tls),
        Some(_) => Progress::Done(Protocol::Other),
    }
}

fn http1(bytes: &[u8]) -> Progress<Protocol> {
    let method_bytes = bytes.iter().take_while(|byte| is_method_byte(**byte)).count();
    if method_bytes == 0 || method_bytes > METHOD_BYTES_MAX {
        return Progress::Done(Protocol::Other);
    }
    match bytes.get(method_bytes) {
        None => Progress::More,
        Some(b' ') if METHODS.contains(&&bytes[..method_bytes]) => Progress::Done(Protocol::Http1),
        // An unknown method could be SMTP's `HELO example`: only the end of the line tells.
        Some(b' ') => http1_line(bytes),
        Some(_) => Progress::Done(Protocol::Other),
    }
}

fn http1_line(bytes: &[u8]) -> Progress<Protocol> {
    let line = match bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') {
        Some(end) => &bytes[..end],
        None if bytes.len() < LINE_BYTES_MAX => return Progress::More,
        None => return Progress::Done(Protocol::Other),
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let http = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
    Progress::Done(if http { Protocol::Http1 } else { Protocol::Other })
}

/// Methods of the wild are upper case; a lower-case word is more probably another protocol.
fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict at the end, and that no shorter prefix says anything else.
    fn check(bytes: &[u8], expected: Progress<Protocol>) {
        assert_eq!(detect(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        for end in 0..bytes.len() {
            let early = detect(&bytes[..end]);
            assert!(early == Progress::More || early == expected, "prefix of {end} bytes said {early:?}");
        }
    }

    #[test]
    fn first_bytes_name_the_protocol() {
        use Progress::{Done, More};
        check(b"", More);
        check(b"GET / HTTP/1.1\r\n", Done(Protocol::Http1));
        check(b"CONNECT a:1 HTTP/1.1\r\n", Done(Protocol::Http1));
        check(b"PROPFIND /x HTTP/1.1\r\n", Done(Protocol::Http1));
        check(b"PROPFIND /x HTTP/1.0\n", Done(Protocol::Http1));
        check(b"PROPFIND /x", More);
        check(b"HELO example.org\r\n", Done(Protocol::Other));
        check(b"PING\r\n", Done(Protocol::Other));
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Done(Protocol::Http2));
        check(b"PRI * HTTP/2.0\r\n", More);
        check(b"\x16\x03\x01\x02\x00", Done(Protocol::Tls));
        check(b"\x16\x01", Done(Protocol::Other));
        check(b"\x00\x01\x02", Done(Protocol::Other));
        check(b"*1\r\n$4\r\nPING\r\n", Done(Protocol::Other));
        check(b"get / HTTP/1.1\r\n", Done(Protocol::Other));
    }

    #[test]
    fn who_asks_less_waits_for_less() {
        use Progress::{Done, More};
        for bytes in [&b"H"[..], b"PRI", b"12345", b"SET key value", b"\0"] {
            assert_eq!(is_tls(bytes), Done(false));
        }
        assert_eq!(
            [b"", &b"\x16"[..], b"\x16\x03", b"\x16\x04"].map(is_tls),
            [More, More, Done(true), Done(false)]
        );
        for bytes in [&b"G"[..], b"PO", b"PRI * HTTP/1.1", b"\x16", b"ABC x"] {
            assert_eq!(is_http2(bytes), Done(false));
        }
        assert_eq!([b"", &b"P"[..], &H2_PREFACE[..23]].map(is_http2), [More, More, More]);
        assert_eq!(is_http2(H2_PREFACE), Done(true));
    }

    #[test]
    fn endless_line_is_given_up() {
        let mut line = b"ABC ".to_vec();
        line.resize(LINE_BYTES_MAX - 1, b'x');
        assert_eq!(detect(&line), Progress::More);
        line.push(b'x');
        assert_eq!(detect(&line), Progress::Done(Protocol::Other));
    }

    #[test]
    fn endless_method_is_given_up() {
        assert_eq!(detect(&[b'A'; METHOD_BYTES_MAX + 1]), Progress::Done(Protocol::Other));
    }
}

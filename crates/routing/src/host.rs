//! The authority of a request in one canonical form: lower case, no trailing dot, its port apart.
//!
//! Routing, authorization, logs and the bytes sent upstream all use this form, so that no two of
//! them can see different hosts.

use std::borrow::Cow;

/// Bytes that stand in a name as it should be. A look-up costs half of the comparisons.
static PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

/// Longest name that DNS can hold, with room for brackets and a port.
const AUTHORITY_BYTES_MAX: usize = 255 + 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostProblem {
    #[error("the authority is empty")]
    Empty,
    #[error("the authority is longer than {AUTHORITY_BYTES_MAX} bytes")]
    TooLong,
    #[error("the authority holds a character that no host has")]
    Character,
    #[error("the port is not a number from 1 to 65535")]
    Port,
    #[error("the brackets do not hold an IPv6 address")]
    Ipv6,
}

/// Lower case, without a trailing dot; the port stays. Borrowed if nothing changes.
pub fn canonical(authority: &str) -> Result<Cow<'_, str>, HostProblem> {
    if authority.is_empty() {
        return Err(HostProblem::Empty);
    }
    if authority.len() > AUTHORITY_BYTES_MAX {
        return Err(HostProblem::TooLong);
    }
    // Most are names as they should be, without a port.
    if authority.bytes().all(|byte| PLAIN[usize::from(byte)]) && !authority.ends_with('.') {
        return Ok(Cow::Borrowed(authority));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']').ok_or(HostProblem::Ipv6)?;
            let (inside, after) = rest.split_at(end);
            inside.parse::<std::net::Ipv6Addr>().map_err(|_| HostProblem::Ipv6)?;
            let port = match &after[1..] {
                "" => None,
                text => Some(text.strip_prefix(':').ok_or(HostProblem::Ipv6)?),
            };
            (&authority[..end + 2], port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err(HostProblem::Empty);
    }
    if !host.starts_with('[') && !host.bytes().all(is_host_byte) {
        return Err(HostProblem::Character);
    }
    let port = match port {
        // `host:` is legal in RFC 3986 and means no port.
        None | Some("") => None,
        Some(text) => Some(parse_port(text).ok_or(HostProblem::Port)?),
    };
    // One dot only: `a..` is no name, and stripping both would make a second pass differ.
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.is_empty() || name.ends_with('.') {
        return Err(HostProblem::Empty);
    }
    let same = name.len() == host.len() && !host.bytes().any(|byte| byte.is_ascii_uppercase());
    let plain_port = match port {
        None => authority.len() == host.len(),
        Some(_) => !authority[host.len() + 1..].starts_with('0'),
    };
    if same && plain_port {
        return Ok(Cow::Borrowed(authority));
    }
    let name = name.to_ascii_lowercase();
    Ok(Cow::Owned(match port {
        None => name,
        Some(port) => format!("{name}:{port}"),
    }))
}

/// Host and port of a canonical authority. Brackets stay with the host.
pub fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        // The colons of `[::1]` are not before a port.
        Some((host, port)) if !port.contains(']') => match parse_port(port) {
            Some(port) => (host, Some(port)),
            None => (authority, None),
        },
        _ => (authority, None),
    }
}

pub fn without_port(authority: &str) -> &str {
    split_port(authority).0
}

fn parse_port(text: &str) -> Option<u16> {
    // `u16::from_str` would take `+80`.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|port| *port != 0)
}

/// Names in the wild hold underscores; `*` is only for configuration, `%` and `@` are attacks.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::{HostProblem, canonical, split_port, without_port};

    #[test]
    fn authorities_become_canonical() {
        let cases = [
            ("be1", Ok("be1")),
            ("BE1.Default", Ok("be1.default")),
            ("be1.", Ok("be1")),
            ("be1.:80", Ok("be1:80")),
            ("be1:", Ok("be1")),
            ("be1:0080", Ok("be1:80")),
            ("10.0.0.1:8080", Ok("10.0.0.1:8080")),
            ("[::1]:80", Ok("[::1]:80")),
            ("[FE80::A]", Ok("[fe80::a]")),
            ("a_b", Ok("a_b")),
            ("", Err(HostProblem::Empty)),
            (":80", Err(HostProblem::Empty)),
            (".", Err(HostProblem::Empty)),
            ("a..", Err(HostProblem::Empty)),
            ("be1:0", Err(HostProblem::Port)),
            ("be1:65536", Err(HostProblem::Port)),
            ("be1:+80", Err(HostProblem::Port)),
            ("be1:80:80", Err(HostProblem::Port)),
            ("user@be1", Err(HostProblem::Character)),
            ("be1/x", Err(HostProblem::Character)),
            ("be 1", Err(HostProblem::Character)),
            ("be1\r\nx", Err(HostProblem::Character)),
            ("bé1", Err(HostProblem::Character)),
            ("b%65", Err(HostProblem::Character)),
            ("[::1", Err(HostProblem::Ipv6)),
            ("[::1]x", Err(HostProblem::Ipv6)),
            ("[be1]", Err(HostProblem::Ipv6)),
        ];
        for (text, expected) in cases {
            let found = canonical(text);
            assert_eq!(found.as_deref().map_err(|problem| *problem), expected, "{text:?}");
            if let Ok(once) = found {
                assert_eq!(canonical(&once).as_deref(), Ok(&*once), "twice: {text:?}");
            }
        }
        assert_eq!(canonical(&"a".repeat(300)), Err(HostProblem::TooLong));
    }

    #[test]
    fn the_port_comes_off() {
        assert_eq!(split_port("be1:80"), ("be1", Some(80)));
        assert_eq!(split_port("[::1]"), ("[::1]", None));
        assert_eq!(split_port("[::1]:80"), ("[::1]", Some(80)));
        assert_eq!(split_port("be1:x"), ("be1:x", None));
        assert_eq!(without_port("be1.default:8080"), "be1.default");
    }
}

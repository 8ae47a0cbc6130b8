//! The PROXY protocol, versions 1 and 2: the first bytes by which a proxy says for whom it opened the connection.
//!
//! Reading is to the letter wherever a sender could want to be read in two ways: one form of a number, one space, one
//! line end. A header that says nothing of its source (`UNKNOWN`, `LOCAL`, other families) is a header all the same: it
//! is taken off, and the connection's own address counts. Extensions of version 2 (TLVs, its checksum among them) are
//! measured and skipped. What [`parse`] believes is only as good as the network's other end: whoever may connect may say
//! any address.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::Progress;

/// A header that is longer is refused. The addresses need 232 bytes at most; the rest is room for extensions.
pub const HEADER_BYTES_MAX: usize = 4096;

/// The specification's longest line, with its end.
const LINE_BYTES_MAX: usize = 107;
const LINE_START: &[u8] = b"PROXY ";
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_BYTES: usize = 16;
const TLV_HEADER_BYTES: usize = 3;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
const IPV4_BYTES: usize = 12;
const IPV6_BYTES: usize = 36;
const UNIX_BYTES: usize = 216;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub source: SocketAddr,
    /// Where the source had connected to.
    pub destination: SocketAddr,
}

/// One header; the connection's own bytes follow after `bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub version: Version,
    /// None: the sender speaks for itself, or for somebody without an IP address.
    pub addresses: Option<Addresses>,
    pub bytes: usize,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Nothing of it is there: the bytes may be the connection's own.
    #[error("the connection does not start with a PROXY header")]
    Absent,
    #[error("the PROXY line is longer than {LINE_BYTES_MAX} bytes, or does not end with CR LF")]
    Line,
    #[error("the PROXY line is neither UNKNOWN nor TCP4 or TCP6 with two addresses and two ports")]
    Text,
    #[error("the PROXY header is longer than {HEADER_BYTES_MAX} bytes")]
    TooLong,
    #[error("the PROXY header has an unknown version, command, family or transport")]
    Unknown,
    #[error("a length inside of the PROXY header points outside of it")]
    Length,
}

/// The version whose first bytes these are; `None` says that they are no header's.
pub fn version(bytes: &[u8]) -> Progress<Option<Version>> {
    let starts = |start: &[u8]| {
        let common = bytes.len().min(start.len());
        bytes[..common] == start[..common]
    };
    let whole = |version, start: &[u8]| match bytes.len() < start.len() {
        true => Progress::More,
        false => Progress::Done(Some(version)),
    };
    if bytes.is_empty() {
        return Progress::More;
    }
    match () {
        () if starts(LINE_START) => whole(Version::V1, LINE_START),
        () if starts(SIGNATURE) => whole(Version::V2, SIGNATURE),
        () => Progress::Done(None),
    }
}

/// Reads a header from all the bytes received so far.
pub fn parse(bytes: &[u8]) -> Result<Progress<Header>, HeaderError> {
    match version(bytes) {
        Progress::More => Ok(Progress::More),
        Progress::Done(None) => Err(HeaderError::Absent),
        Progress::Done(Some(Version::V1)) => parse_line(bytes),
        Progress::Done(Some(Version::V2)) => parse_binary(bytes),
    }
}

fn parse_line(bytes: &[u8]) -> Result<Progress<Header>, HeaderError> {
    let Some(end) = bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(Progress::More) } else { Err(HeaderError::Line) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(HeaderError::Line)?;
    let line = std::str::from_utf8(&line[LINE_START.len()..]).map_err(|_| HeaderError::Text)?;
    let header = |addresses| Progress::Done(Header { version: Version::V1, addresses, bytes: end + 1 });
    // What follows UNKNOWN is to be ignored.
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Ok(header(None));
    }
    addresses_of_line(line).map(|addresses| header(Some(addresses))).ok_or(HeaderError::Text)
}

fn addresses_of_line(line: &str) -> Option<Addresses> {
    let mut words = line.split(' ');
    let family = words.next()?;
    let address = |word: &str| match family {
        "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let (source, destination) = (address(words.next()?)?, address(words.next()?)?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    Some(Addresses {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

/// Digits alone and no needless zero: `+80` and `080` are numbers to some readers only.
fn port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    plain.then(|| word.parse().ok()).flatten()
}

fn parse_binary(bytes: &[u8]) -> Result<Progress<Header>, HeaderError> {
    // Each byte is judged as soon as it is there.
    let Some(&command) = bytes.get(SIGNATURE.len()) else { return Ok(Progress::More) };
    if command != LOCAL && command != PROXY {
        return Err(HeaderError::Unknown);
    }
    let Some(&family) = bytes.get(SIGNATURE.len() + 1) else { return Ok(Progress::More) };
    if command == PROXY && (family >> 4 > 3 || family & 0x0f > 2) {
        return Err(HeaderError::Unknown);
    }
    let Some([high, low]) = bytes.get(SIGNATURE.len() + 2..FIXED_BYTES) else { return Ok(Progress::More) };
    let end = FIXED_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
    if end > HEADER_BYTES_MAX {
        return Err(HeaderError::TooLong);
    }
    let Some(body) = bytes.get(FIXED_BYTES..end) else { return Ok(Progress::More) };
    let addresses = if command == LOCAL { None } else { addresses_of_body(family, body)? };
    Ok(Progress::Done(Header { version: Version::V2, addresses, bytes: end }))
}

fn addresses_of_body(family: u8, body: &[u8]) -> Result<Option<Addresses>, HeaderError> {
    let address_bytes = match family >> 4 {
        1 => IPV4_BYTES,
        2 => IPV6_BYTES,
        3 => UNIX_BYTES,
        // What follows "unspecified" is to be ignored.
        _ => return Ok(None),
    };
    let (addresses, mut extensions) = body.split_at_checked(address_bytes).ok_or(HeaderError::Length)?;
    while !extensions.is_empty() {
        let (header, rest) = extensions.split_at_checked(TLV_HEADER_BYTES).ok_or(HeaderError::Length)?;
        let length = usize::from(u16::from_be_bytes([header[1], header[2]]));
        extensions = rest.get(length..).ok_or(HeaderError::Length)?;
    }
    let pair = match family {
        TCP_OVER_IPV4 => pair::<4>(addresses).map(|(ips, ports)| (ips.map(IpAddr::from), ports)),
        TCP_OVER_IPV6 => pair::<16>(addresses).map(|(ips, ports)| (ips.map(IpAddr::from), ports)),
        // Datagrams and Unix sockets are nobody's source of a TCP connection.
        _ => None,
    };
    Ok(pair.map(|([source, destination], [source_port, destination_port])| Addresses {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    }))
}

/// Two addresses of `N` bytes, then two ports.
fn pair<const N: usize>(bytes: &[u8]) -> Option<([[u8; N]; 2], [u16; 2])> {
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let [a, b, c, d] = rest.first_chunk::<4>()?;
    Some(([*source, *destination], [u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])]))
}

/// The header to send first; without addresses it says that we speak for ourselves.
pub fn header(version: Version, addresses: Option<Addresses>) -> Vec<u8> {
    let addresses = addresses.map(one_family);
    match version {
        Version::V1 => line(addresses),
        Version::V2 => binary(addresses),
    }
}

/// Both of IPv4, or both of IPv6: a header knows one family.
fn one_family(addresses: Addresses) -> Addresses {
    let Addresses { source, destination } = addresses;
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let same = from.is_ipv4() == to.is_ipv4();
    let wide = |ip: IpAddr| match ip {
        IpAddr::V4(ip) if !same => IpAddr::V6(ip.to_ipv6_mapped()),
        _ => ip,
    };
    Addresses {
        source: SocketAddr::new(wide(from), source.port()),
        destination: SocketAddr::new(wide(to), destination.port()),
    }
}

fn line(addresses: Option<Addresses>) -> Vec<u8> {
    let mut line = String::with_capacity(LINE_BYTES_MAX);
    let _ = match addresses {
        None => write!(line, "PROXY UNKNOWN\r\n"),
        Some(Addresses { source, destination }) => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            write!(line, "PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port())
        }
    };
    line.into_bytes()
}

fn binary(addresses: Option<Addresses>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FIXED_BYTES + IPV6_BYTES);
    bytes.extend_from_slice(SIGNATURE);
    let Some(Addresses { source, destination }) = addresses else {
        bytes.extend_from_slice(&[LOCAL, 0, 0, 0]);
        return bytes;
    };
    let (family, length) = match source {
        SocketAddr::V4(_) => (TCP_OVER_IPV4, IPV4_BYTES as u8),
        SocketAddr::V6(_) => (TCP_OVER_IPV6, IPV6_BYTES as u8),
    };
    bytes.extend_from_slice(&[PROXY, family, 0, length]);
    for ip in [source.ip(), destination.ip()] {
        match ip {
            IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
        }
    }
    bytes.extend_from_slice(&source.port().to_be_bytes());
    bytes.extend_from_slice(&destination.port().to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests;

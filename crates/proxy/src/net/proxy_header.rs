//! Takes the PROXY header off a connection, before anybody else looks at its bytes.

use std::{io, net::IpAddr};

use bytes::{Buf, BytesMut};
use tokio::net::TcpStream;
use weft_routing::{Listener, ProxyProtocol};
use weft_wire::{
    Progress,
    proxy_protocol::{self, Addresses, HeaderError, Version},
};

use crate::connection::read_more;

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("this listener takes no PROXY header of this version")]
    Version,
    #[error("no whole PROXY header in time")]
    Timeout,
    #[error("the connection ended before its PROXY header did")]
    Ended(#[source] io::Error),
}

impl Unread {
    /// For a metric.
    pub fn label(&self) -> &'static str {
        match self {
            Unread::Header(HeaderError::Absent) => "absent",
            Unread::Header(_) => "malformed",
            Unread::Version => "version",
            Unread::Timeout => "timeout",
            Unread::Ended(_) => "ended",
        }
    }
}

/// The addresses that the header names; the connection's own bytes are left in `first`. Of somebody who is not believed
/// nothing is read: what might be a header is then a bad beginning of something else.
pub async fn read(
    listener: &Listener,
    remote: IpAddr,
    stream: &mut TcpStream,
    first: &mut BytesMut,
) -> Result<Option<Addresses>, Unread> {
    let Some(wanted) = listener.proxy_protocol.as_ref().filter(|wanted| believes(wanted, remote)) else {
        return Ok(None);
    };
    loop {
        if let Progress::Done(verdict) = judge(wanted, first)? {
            let Some((addresses, bytes)) = verdict else { return Ok(None) };
            first.advance(bytes);
            return Ok(addresses);
        }
        read_more(stream, first).await.map_err(Unread::Ended)?;
    }
}

fn believes(wanted: &ProxyProtocol, remote: IpAddr) -> bool {
    // A listener of IPv6 sees callers of IPv4 as addresses of IPv6.
    let remote = remote.to_canonical();
    wanted.from.as_ref().is_none_or(|from| from.iter().any(|network| network.contains(&remote)))
}

type Taken = Option<(Option<Addresses>, usize)>;

/// None: the bytes are the connection's own.
fn judge(wanted: &ProxyProtocol, bytes: &[u8]) -> Result<Progress<Taken>, Unread> {
    let version = match proxy_protocol::version(bytes) {
        Progress::More => return Ok(Progress::More),
        Progress::Done(version) => version,
    };
    let taken = match version {
        None => false,
        Some(Version::V1) => wanted.takes_v1,
        Some(Version::V2) => wanted.takes_v2,
    };
    match (taken, version) {
        (true, _) => {}
        // As in Envoy: a version that is not taken is then not looked for either.
        (false, _) if wanted.optional => return Ok(Progress::Done(None)),
        (false, Some(_)) => return Err(Unread::Version),
        (false, None) => return Err(HeaderError::Absent.into()),
    }
    Ok(match proxy_protocol::parse(bytes)? {
        Progress::More => Progress::More,
        Progress::Done(header) => Progress::Done(Some((header.addresses, header.bytes))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_what_the_listener_says() {
        let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /";
        let binary = [&proxy_protocol::header(Version::V2, None)[..], b"GET /"].concat();
        let plain = b"GET / HTTP/1.1\r\n";
        let said = |optional, takes_v1, takes_v2, bytes: &[u8]| match judge(
            &ProxyProtocol { from: None, optional, takes_v1, takes_v2 },
            bytes,
        ) {
            Ok(Progress::More) => "more",
            Ok(Progress::Done(None)) => "its own",
            Ok(Progress::Done(Some((None, 16)))) => "local",
            Ok(Progress::Done(Some((Some(_), 36)))) => "said",
            Ok(Progress::Done(Some(_))) => "wrong length",
            Err(unread) => unread.label(),
        };
        assert_eq!(said(false, true, true, line), "said");
        assert_eq!(said(false, true, true, &binary), "local");
        assert_eq!(said(false, true, true, plain), "absent");
        assert_eq!(said(true, true, true, plain), "its own");
        assert_eq!(said(true, true, true, line), "said");
        assert_eq!(said(false, false, true, line), "version");
        assert_eq!(said(true, false, true, line), "its own");
        assert_eq!(said(false, true, false, &binary), "version");
        assert_eq!(said(true, true, true, b"PROXY TCP9\r\n"), "malformed");
        assert_eq!(said(true, true, true, b"PRO"), "more");
    }

    #[test]
    fn whom_nobody_named_is_not_believed() {
        let from = Some(["192.0.2.0/28", "2001:db8::/64"].map(|net| net.parse().unwrap()).into());
        let wanted = ProxyProtocol { from, optional: false, takes_v1: true, takes_v2: true };
        let said = |text: &str| believes(&wanted, text.parse().unwrap());
        assert!(said("192.0.2.15") && said("::ffff:192.0.2.1") && said("2001:db8::9"));
        assert!(!said("192.0.2.16") && !said("2001:db8:0:1::9") && !said("127.0.0.1"));
        assert!(believes(&ProxyProtocol { from: None, ..wanted.clone() }, [127, 0, 0, 1].into()));
    }
}

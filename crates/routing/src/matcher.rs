//! Which filter chain takes a connection, which route takes a request.
//!
//! Both are pure comparisons with what the caller shows ([`ConnectionView`], [`HeadView`]). A route
//! configuration is asked once per request: one look-up of the host, then of the first of its routes that fits.

mod chain;
mod choice;
mod edit;
mod index;
mod route;
#[cfg(test)]
mod tests;
mod text;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::types::{HeaderKey, Route, TransportProtocol, VirtualHost};

pub use choice::Picked;
pub use edit::apply as apply_edits;
pub(crate) use index::RouteIndex;

/// A connection after the first bytes were peeked at, for the choice of its filter chain.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionView<'a> {
    /// Where the caller wanted to go (before a redirect), else the local address.
    pub destination: SocketAddr,
    /// For whom it is: its other end, or whom its PROXY header names.
    pub source: SocketAddr,
    /// Its other end.
    pub direct: SocketAddr,
    pub transport: TransportProtocol,
    /// SNI, lower case.
    pub server_name: Option<&'a str>,
    /// ALPN offered, or what was detected (`http/1.1`, `h2c`).
    pub application_protocols: &'a [&'a [u8]],
}

/// The canonical head of a request: after `path::canonical` and `host::canonical`.
#[derive(Debug, Clone, Copy)]
pub struct HeadView<'a> {
    pub method: &'a Method,
    pub scheme: &'a str,
    /// Lower case, with its port if it had one.
    pub authority: &'a str,
    /// Without the query.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// `:protocol` of an extended CONNECT.
    pub protocol: Option<&'a str>,
    /// The caller showed a certificate, and it was checked.
    pub tls_presented: bool,
    pub tls_validated: bool,
}

/// What `RouteConfig::find` found.
#[derive(Debug, Clone, Copy)]
pub struct Match<'a> {
    pub vhost: &'a VirtualHost,
    pub route: &'a Arc<Route>,
    pub vhost_index: u32,
    pub route_index: u32,
}

impl<'a> HeadView<'a> {
    /// A header's value, several joined with commas as Envoy does.
    pub fn header(&self, key: &HeaderKey) -> Option<Cow<'a, str>> {
        let name = match key {
            HeaderKey::Method => return Some(Cow::Borrowed(self.method.as_str())),
            HeaderKey::Authority => return Some(Cow::Borrowed(self.authority)),
            HeaderKey::Path => return Some(self.path_and_query()),
            HeaderKey::Scheme => return Some(Cow::Borrowed(self.scheme)),
            HeaderKey::Protocol => return self.protocol.map(Cow::Borrowed),
            HeaderKey::Name(name) => name,
        };
        let headers: &'a HeaderMap = self.headers;
        let mut values = headers.get_all(name).into_iter();
        let first = String::from_utf8_lossy(values.next()?.as_bytes());
        let mut joined = match values.next() {
            None => return Some(first),
            Some(second) => format!("{first},{}", String::from_utf8_lossy(second.as_bytes())),
        };
        for value in values {
            joined.push(',');
            joined.push_str(&String::from_utf8_lossy(value.as_bytes()));
        }
        Some(Cow::Owned(joined))
    }

    fn path_and_query(&self) -> Cow<'a, str> {
        match self.query {
            None => Cow::Borrowed(self.path),
            Some(query) => Cow::Owned(format!("{}?{query}", self.path)),
        }
    }
}

/// True if `address` is loopback or the same machine, for `SAME_IP_OR_LOOPBACK`.
pub(crate) fn local(source: IpAddr, destination: IpAddr) -> bool {
    source.is_loopback() || source == destination
}

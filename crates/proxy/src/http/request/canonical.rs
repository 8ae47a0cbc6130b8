//! The one form of a request's authority and path, and the requests that have none.

use std::borrow::Cow;

use http::{
    HeaderValue, Method, StatusCode, Version,
    header::{CONTENT_LENGTH, HOST},
    request::Parts,
    uri::PathAndQuery,
};
use smallvec::SmallVec;
use weft_routing::{
    StripPort, host,
    matcher::HeadView,
    path::{self, Slashes},
};

use super::{Reason, bad_request};
use crate::{
    peer::{ChainView, Peer},
    record::flags,
};

/// Longest request target.
const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Authority and path in their one form. A path that did not change is not copied.
pub struct CanonicalHead {
    authority: SmallVec<[u8; 48]>,
    /// `None`: as in the request. Else the canonical path, without the query.
    path: Option<String>,
}

impl CanonicalHead {
    pub(super) fn of(parts: &Parts, view: &ChainView, peer: &Peer) -> Result<CanonicalHead, Reason> {
        let mut hosts = parts.headers.get_all(HOST).iter();
        let (host, more) = (hosts.next(), hosts.next());
        if more.is_some() {
            return Err(bad_request("two_host_headers"));
        }
        // Of an absolute target and a Host header the target counts (RFC 9112 section 3.2.2).
        let authority = match (parts.uri.authority(), host) {
            (Some(authority), _) => authority.as_str(),
            (None, Some(host)) => host.to_str().map_err(|_| bad_request("host_not_ascii"))?,
            (None, None) => return Err(bad_request("no_host")),
        };
        let canonical = host::canonical(authority).map_err(|_| bad_request("bad_authority"))?;
        let mut authority = SmallVec::from_slice(canonical.as_bytes());
        // A CONNECT's port is what it is about.
        if view.config.strip_port != StripPort::Keep && parts.method != Method::CONNECT {
            let (name, port) = host::split_port(&canonical);
            if view.config.strip_port == StripPort::Any || port == Some(peer.destination.port()) {
                authority.truncate(name.len());
            }
        }
        if parts.method == Method::CONNECT {
            return Ok(CanonicalHead { authority, path: None });
        }
        let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        if target.len() > TARGET_BYTES_MAX {
            let status = StatusCode::URI_TOO_LONG;
            return Err(Reason::new(status, flags::PROTOCOL, "uri_too_long", "the URI is too long\n"));
        }
        let canonical = path::canonical(target, Slashes::of(&view.config.path));
        let path = match canonical.map_err(|_| bad_request("bad_path"))?.path {
            Cow::Borrowed(_) => None,
            Cow::Owned(path) => Some(path),
        };
        Ok(CanonicalHead { authority, path })
    }

    pub fn authority(&self) -> &str {
        std::str::from_utf8(&self.authority).unwrap_or_default()
    }

    /// The path to route by and to send.
    pub fn path<'a>(&'a self, parts: &'a Parts) -> &'a str {
        match &self.path {
            Some(path) => path,
            None if parts.method == Method::CONNECT => "",
            None => parts.uri.path(),
        }
    }

    pub fn is_rewritten(&self) -> bool {
        self.path.is_some()
    }

    pub(super) fn view<'a>(&'a self, parts: &'a Parts, peer: &Peer) -> HeadView<'a> {
        HeadView {
            method: &parts.method,
            scheme: if peer.tls == "none" { "http" } else { "https" },
            authority: self.authority(),
            path: self.path(parts),
            query: parts.uri.query(),
            headers: &parts.headers,
            protocol: None,
            tls_presented: peer.principal.is_some(),
            tls_validated: peer.principal.is_some(),
        }
    }
}

/// Refuses what another reader may take for something else, and the codec below lets pass.
pub(super) fn unequivocal(parts: &Parts) -> Result<(), Reason> {
    if parts.version != Version::HTTP_2 {
        return Ok(()); // `wire::http1` has seen to it
    }
    let headers = &parts.headers;
    if headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(bad_request("two_content_lengths"));
    }
    // RFC 9113 section 8.2.1: an HTTP/1 reader would take the spaces away, others not.
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let padded =
        |value: &HeaderValue| is_space(value.as_bytes().first()) || is_space(value.as_bytes().last());
    if headers.values().any(padded) { Err(bad_request("padded_value")) } else { Ok(()) }
}

//! A record's line in the access logs: what is kept of the heads for it, and how it is written.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Version,
    header::HOST,
    uri::{Authority, PathAndQuery},
};
use smallvec::SmallVec;
use weft_telemetry::accesslog::{self, Named, Side};

use super::{Details, RequestRecord};
use crate::{access_log::AccessLog, peer::Peer};

/// What the log lines may name of the heads: handles, not copies, and of the fields only those that a format asks for.
#[derive(Default)]
pub struct LogFields {
    /// None: what came was no request.
    pub method: Option<http::Method>,
    /// Of an absolute target, else the Host field counts.
    pub authority: Option<Authority>,
    pub host: Option<HeaderValue>,
    pub path: Option<PathAndQuery>,
    pub protocol: &'static str,
    pub transport_failure: Box<str>,
    request: Kept,
    response: Kept,
    trailers: Kept,
}

/// The values of the fields that the connection's logs name, log by log.
type Kept = SmallVec<[Option<HeaderValue>; 4]>;

impl LogFields {
    pub fn of<B>(request: &Request<B>) -> LogFields {
        LogFields {
            method: Some(request.method().clone()),
            authority: request.uri().authority().cloned(),
            host: request.headers().get(HOST).cloned(),
            path: request.uri().path_and_query().cloned(),
            protocol: match request.version() {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            },
            ..LogFields::default()
        }
    }

    fn authority(&self) -> &str {
        match (&self.authority, &self.host) {
            (Some(authority), _) => authority.as_str(),
            (None, Some(host)) => host.to_str().unwrap_or_default(),
            (None, None) => "",
        }
    }
}

fn keep(kept: &mut Kept, headers: &HeaderMap, peer: &Peer, names: fn(&AccessLog) -> &[HeaderName]) {
    kept.clear();
    for log in &peer.access_logs {
        let names = names(log);
        if names.is_empty() {
            continue;
        }
        let first = kept.len();
        kept.resize(first + names.len(), None);
        // A walk is cheaper than a look-up for each name, each of which is hashed.
        for (name, value) in headers {
            if let Some(place) = names.iter().position(|known| known == name)
                && let Some(room @ None) = kept.get_mut(first + place)
            {
                *room = Some(value.clone());
            }
        }
    }
}

impl RequestRecord {
    /// Keeps what the logs name of an answer's head.
    pub fn keep_response(&mut self, headers: &HeaderMap) {
        if let Some(log) = &mut self.log {
            keep(&mut log.response, headers, &self.peer, |log| &log.names.response);
        }
    }

    /// Keeps what the logs name of a request's head: as it came, and then as it goes on, with its id.
    pub fn keep_request(&mut self, headers: &HeaderMap) {
        if let Some(log) = &mut self.log {
            keep(&mut log.request, headers, &self.peer, |log| &log.names.request);
        }
    }

    pub(super) fn keep_trailers(&mut self, trailers: &HeaderMap) {
        if let Some(log) = &mut self.log {
            keep(&mut log.trailers, trailers, &self.peer, |log| &log.names.trailers);
        }
    }

    pub(super) fn write_log(&self, fields: &LogFields, duration_micros: u64) {
        let peer = &self.peer;
        let line = accesslog::Record {
            start_micros: peer.worker.unix_micros(self.started),
            duration_micros,
            protocol: fields.protocol,
            method: fields.method.as_ref().map_or("", http::Method::as_str),
            authority: fields.authority(),
            path: fields.path.as_ref().map_or("", PathAndQuery::as_str),
            response_code: self.status,
            response_code_details: self.details(),
            response_flags: self.flags,
            bytes_received: self.request_bytes,
            bytes_sent: self.response_bytes,
            grpc_status: (self.grpc_status >= 0).then_some(self.grpc_status),
            response_micros: self.response_micros,
            upstream_host: self.upstream_host,
            upstream_cluster: self.cluster.as_ref().map_or("", |labels| &labels.name),
            upstream_transport_failure_reason: &fields.transport_failure,
            upstream_attempts: self.tries,
            downstream_remote_address: Some(peer.remote()),
            downstream_local_address: Some(peer.local),
            requested_server_name: peer.server_name.as_deref().unwrap_or(""),
            downstream_peer_uri_san: peer.principal.as_deref().unwrap_or(""),
            downstream_tls_version: peer.tls_version,
            route_name: self.route.as_ref().map_or("", |route| &route.name),
            ..accesslog::Record::default()
        };
        let (mut request, mut response, mut trailers) =
            (&fields.request[..], &fields.response[..], &fields.trailers[..]);
        for log in &peer.access_logs {
            let headers = Shown {
                request: cut(&mut request, log.names.request.len()),
                response: cut(&mut response, log.names.response.len()),
                trailers: cut(&mut trailers, log.names.trailers.len()),
            };
            log.write(&accesslog::Record { headers: &headers, ..line });
        }
    }

    fn details(&self) -> &str {
        match &self.details {
            Details::ViaUpstream => "via_upstream",
            Details::Fixed(text) => text,
            Details::Denied(policy) => policy,
            Details::Text(text) => text,
        }
    }
}

/// The first of what is left; nothing where nothing was kept.
fn cut<'a>(left: &mut &'a [Option<HeaderValue>], count: usize) -> &'a [Option<HeaderValue>] {
    let (first, rest) = left.split_at_checked(count).unwrap_or_default();
    *left = rest;
    first
}

/// The values kept for one log, by the places of its names.
struct Shown<'a> {
    request: &'a [Option<HeaderValue>],
    response: &'a [Option<HeaderValue>],
    trailers: &'a [Option<HeaderValue>],
}

impl accesslog::Headers for Shown<'_> {
    fn value(&self, side: Side, named: &Named) -> Option<&[u8]> {
        let values = match side {
            Side::Request => self.request,
            Side::Response => self.response,
            Side::Trailer => self.trailers,
        };
        values.get(named.place)?.as_ref().map(HeaderValue::as_bytes)
    }
}

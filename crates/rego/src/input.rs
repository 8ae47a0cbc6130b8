//! A request as Envoy's `ext_authz` shows it to OPA: the document that policies know as `input`.
//!
//! The shape is that of `envoy.service.auth.v3.CheckRequest` in JSON names, without the fields that hold
//! nothing, and beside it what OPA's plugin adds: `parsed_path`, `parsed_query`, `parsed_body`,
//! `truncated_body`, `version`, `source_principal`. Only what a policy reads is built.

use std::net::IpAddr;

use regorus::Value;
use regorus::value::Object;

use crate::body;
use crate::reads::{Reads, part};
use crate::url;

/// A request, borrowed from whoever holds it. Nothing is checked here again: the strings are those that the
/// router matched and that go upstream.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The proxy's own number of the request.
    pub id: &'a str,
    /// `GET`.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The authority, as `Host` or `:authority` said it.
    pub authority: &'a str,
    /// Path and query, as the router saw them.
    pub path: &'a str,
    /// `HTTP/1.1`, `HTTP/2`.
    pub protocol: &'a str,
    /// Names and values in the order in which they came, without pseudo-headers.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body's length as announced, -1 where nobody said.
    pub size: i64,
    /// The body, where the proxy held it; see [`Reads::needs_body`].
    pub body: Option<Body<'a>>,
    /// Who calls.
    pub source: Peer<'a>,
    /// Who is called.
    pub destination: Peer<'a>,
    /// The name that the client's TLS asked for, or empty.
    pub sni: &'a str,
    /// What the route adds by configuration.
    pub extensions: &'a [(&'a str, &'a str)],
}

/// A body, or its beginning.
#[derive(Debug, Clone, Copy)]
pub struct Body<'a> {
    /// What was held.
    pub bytes: &'a [u8],
    /// Whether more followed that was not held.
    pub truncated: bool,
}

/// One end of the connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Peer<'a> {
    /// Without an address there is none in the document.
    pub address: Option<IpAddr>,
    /// Of the address.
    pub port: u16,
    /// The verified identity, a SPIFFE id; empty without one.
    pub principal: &'a str,
    /// The verified certificate as PEM, URL-encoded; empty without one.
    pub certificate: &'a str,
}

macro_rules! names {
    ($($field:ident = $text:literal),* $(,)?) => {
        /// The document's keys, made once a worker.
        #[derive(Debug, Clone)]
        pub(crate) struct Names { $($field: Value),* }
        impl Names {
            pub(crate) fn new() -> Self {
                Self { $($field: Value::from($text)),* }
            }
        }
    };
}

names! {
    attributes = "attributes", request = "request", http = "http", id = "id", method = "method",
    path = "path", host = "host", scheme = "scheme", protocol = "protocol", size = "size", body = "body",
    headers = "headers", time = "time", seconds = "seconds", nanos = "nanos", source = "source",
    destination = "destination", address = "address", socket_address = "socketAddress",
    port = "portValue", principal = "principal", certificate = "certificate",
    extensions = "contextExtensions", tls_session = "tlsSession", sni = "sni",
    parsed_path = "parsed_path", parsed_query = "parsed_query", parsed_body = "parsed_body",
    truncated_body = "truncated_body", version = "version", source_principal = "source_principal",
    ext_authz = "ext_authz", v3 = "v3", encoding = "encoding", protojson = "protojson",
}

const PARTIAL: &str = "x-envoy-auth-partial-body";

/// The document, as far as `reads` says that somebody looks at it, or why the request can't be judged.
pub(crate) fn build(
    names: &Names,
    reads: &Reads,
    request: &Request<'_>,
    now_ns: i64,
) -> Result<Value, String> {
    let mut input = Object::new();
    input.insert(names.attributes.clone(), attributes(names, reads, request, now_ns));
    let (path, query) = url::split(request.path);
    if reads.has(part::PARSED_PATH) {
        let segments = url::segments(path).map_err(|why| format!("path: {why}"))?;
        let segments: Vec<Value> = segments.into_iter().map(Value::from).collect();
        input.insert(names.parsed_path.clone(), Value::from(segments));
    }
    if reads.has(part::PARSED_QUERY) {
        let pairs = url::pairs(query).map_err(|why| format!("query: {why}"))?;
        input.insert(names.parsed_query.clone(), body::grouped(pairs));
    }
    if reads.has(part::PARSED_BODY) {
        let framing = |name: &str| joined(request, name);
        let parsed = body::parse(request.body.as_ref(), &framing)?;
        input.insert(names.truncated_body.clone(), Value::Bool(parsed.truncated));
        input.insert(names.parsed_body.clone(), parsed.value);
    }
    if reads.has(part::SOURCE_PRINCIPAL) && !request.source.principal.is_empty() {
        input.insert(names.source_principal.clone(), Value::from(request.source.principal));
    }
    let mut version = Object::new();
    version.insert(names.ext_authz.clone(), names.v3.clone());
    version.insert(names.encoding.clone(), names.protojson.clone());
    input.insert(names.version.clone(), version.into_value());
    Ok(input.into_value())
}

fn attributes(names: &Names, reads: &Reads, request: &Request<'_>, now_ns: i64) -> Value {
    let mut attributes = Object::new();
    let mut whole = Object::new();
    whole.insert(names.http.clone(), http(names, reads, request));
    if reads.has(part::TIME) {
        let mut time = Object::new();
        time.insert(names.seconds.clone(), Value::from(now_ns.div_euclid(1_000_000_000)));
        time.insert(names.nanos.clone(), Value::from(now_ns.rem_euclid(1_000_000_000)));
        whole.insert(names.time.clone(), time.into_value());
    }
    attributes.insert(names.request.clone(), whole.into_value());
    let ends = [
        (&names.source, &request.source, part::SOURCE),
        (&names.destination, &request.destination, part::DESTINATION),
    ];
    for (name, end, parts) in ends {
        if reads.has(parts) {
            attributes.insert(name.clone(), peer(names, end));
        }
    }
    if reads.has(part::EXTENSIONS) && !request.extensions.is_empty() {
        let pairs = request.extensions.iter().map(|(name, value)| (Value::from(*name), Value::from(*value)));
        attributes.insert(names.extensions.clone(), pairs.collect::<Object>().into_value());
    }
    if reads.has(part::SNI) && !request.sni.is_empty() {
        let mut session = Object::new();
        session.insert(names.sni.clone(), Value::from(request.sni));
        attributes.insert(names.tls_session.clone(), session.into_value());
    }
    attributes.into_value()
}

fn http(names: &Names, reads: &Reads, request: &Request<'_>) -> Value {
    let mut http = Object::new();
    let texts = [
        (part::ID, &names.id, request.id),
        (part::METHOD, &names.method, request.method),
        (part::PATH, &names.path, request.path),
        (part::HOST, &names.host, request.authority),
        (part::SCHEME, &names.scheme, request.scheme),
        (part::PROTOCOL, &names.protocol, request.protocol),
    ];
    for (part, name, text) in texts {
        if reads.has(part) && !text.is_empty() {
            http.insert(name.clone(), Value::from(text));
        }
    }
    if reads.has(part::SIZE) && request.size != 0 {
        http.insert(names.size.clone(), Value::from(request.size));
    }
    if reads.has(part::BODY)
        && let Some(body) = request.body.filter(|body| !body.bytes.is_empty())
    {
        http.insert(names.body.clone(), Value::from(String::from_utf8_lossy(body.bytes).as_ref()));
    }
    let mut headers = Object::new();
    if reads.has(part::HEADERS) {
        for (name, value) in all(request) {
            headers.insert(Value::from(name), Value::from(value));
        }
    } else {
        for name in reads.headers() {
            if let Some(value) = joined(request, name) {
                headers.insert(Value::from(name.as_str()), Value::from(value));
            }
        }
    }
    http.insert(names.headers.clone(), headers.into_value());
    http.into_value()
}

/// One header as Envoy shows it: several values of a name with commas between, cookies with semicolons.
fn joined(request: &Request<'_>, wanted: &str) -> Option<String> {
    match wanted {
        ":method" => return Some(request.method.to_owned()),
        ":path" => return Some(request.path.to_owned()),
        ":authority" => return Some(request.authority.to_owned()),
        ":scheme" => return Some(request.scheme.to_owned()),
        // The proxy's own word, never the client's.
        PARTIAL => return request.body.map(|body| body.truncated.to_string()),
        _ => {}
    }
    if wanted.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut values = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
    let first = values.next()?;
    let mut text = String::from_utf8_lossy(first.1).into_owned();
    for (_, value) in values {
        text.push_str(separator(wanted));
        text.push_str(&String::from_utf8_lossy(value));
    }
    Some(text)
}

fn separator(name: &str) -> &'static str {
    if name == "cookie" { "; " } else { "," }
}

fn all(request: &Request<'_>) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::with_capacity(request.headers.len() + 5);
    for name in [":authority", ":method", ":path", ":scheme", PARTIAL] {
        if let Some(value) = joined(request, name) {
            headers.push((name.to_owned(), value));
        }
    }
    let mut lower: Vec<(String, &[u8])> =
        request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), *value)).collect();
    lower.retain(|(name, _)| name != PARTIAL);
    // Stable: the values of one name keep their order.
    lower.sort_by(|left, right| left.0.cmp(&right.0));
    for (name, value) in lower {
        let value = String::from_utf8_lossy(value);
        match headers.last_mut() {
            Some((last, text)) if *last == name => {
                text.push_str(separator(&name));
                text.push_str(&value);
            }
            _ => headers.push((name, value.into_owned())),
        }
    }
    headers
}

fn peer(names: &Names, peer: &Peer<'_>) -> Value {
    let mut object = Object::new();
    if let Some(address) = peer.address {
        let mut socket = Object::new();
        socket.insert(names.address.clone(), Value::from(address.to_string()));
        if peer.port != 0 {
            socket.insert(names.port.clone(), Value::from(u64::from(peer.port)));
        }
        let mut outer = Object::new();
        outer.insert(names.socket_address.clone(), socket.into_value());
        object.insert(names.address.clone(), outer.into_value());
    }
    if !peer.principal.is_empty() {
        object.insert(names.principal.clone(), Value::from(peer.principal));
    }
    if !peer.certificate.is_empty() {
        object.insert(names.certificate.clone(), Value::from(peer.certificate));
    }
    object.into_value()
}

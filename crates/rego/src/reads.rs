//! What of a request a policy can see at all: found once, from its text.
//!
//! The answer serves three ends. What nobody reads is not built for a decision. Two requests that agree in
//! all that is read get the same decision, so it can be kept. And the proxy learns whether it must hold a body.
//! Every reference in every module counts, also where no rule reaches it, and a reference whose path is
//! computed counts as all that lies below: the set is never too small.

use crate::input::Request;
use crate::syntax::{Seen, Tree};

/// A part of a request, as one bit.
pub(crate) mod part {
    pub(crate) const METHOD: u32 = 1;
    pub(crate) const PATH: u32 = 1 << 1;
    pub(crate) const QUERY: u32 = 1 << 2;
    pub(crate) const HOST: u32 = 1 << 3;
    pub(crate) const SCHEME: u32 = 1 << 4;
    pub(crate) const PROTOCOL: u32 = 1 << 5;
    pub(crate) const SIZE: u32 = 1 << 6;
    pub(crate) const BODY: u32 = 1 << 7;
    pub(crate) const SOURCE_ADDRESS: u32 = 1 << 8;
    pub(crate) const SOURCE_PRINCIPAL: u32 = 1 << 9;
    pub(crate) const SOURCE_CERTIFICATE: u32 = 1 << 10;
    pub(crate) const DESTINATION_ADDRESS: u32 = 1 << 11;
    pub(crate) const DESTINATION_PRINCIPAL: u32 = 1 << 12;
    pub(crate) const DESTINATION_CERTIFICATE: u32 = 1 << 13;
    pub(crate) const SNI: u32 = 1 << 14;
    pub(crate) const EXTENSIONS: u32 = 1 << 15;
    pub(crate) const HEADERS: u32 = 1 << 16;
    pub(crate) const ID: u32 = 1 << 17;
    pub(crate) const TIME: u32 = 1 << 18;
    /// Raw body and what of it the engine gets parsed.
    pub(crate) const PARSED_BODY: u32 = 1 << 19;
    pub(crate) const PARSED_PATH: u32 = 1 << 20;
    pub(crate) const PARSED_QUERY: u32 = 1 << 21;
    pub(crate) const EVERYTHING: u32 = (1 << 22) - 1;
    pub(crate) const SOURCE: u32 = SOURCE_ADDRESS | SOURCE_PRINCIPAL | SOURCE_CERTIFICATE;
    pub(crate) const DESTINATION: u32 = DESTINATION_ADDRESS | DESTINATION_PRINCIPAL | DESTINATION_CERTIFICATE;
}

/// What a policy reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reads {
    parts: u32,
    /// Headers that are read by name, in lower case as the input has them, sorted.
    headers: Vec<String>,
    /// Why its decisions can't be kept, if so.
    fleeting: Option<String>,
}

impl Reads {
    /// Of all modules together. `fleeting` names a builtin whose answer changes with time.
    pub(crate) fn of(trees: &[Tree], fleeting: Option<&str>) -> Self {
        let mut reads = Self { parts: 0, headers: Vec::new(), fleeting: None };
        for tree in trees {
            let mut see = |seen: Seen<'_>| {
                if let Seen::Chain(chain) = seen {
                    let path = tree.resolve(&chain);
                    if path.first().is_some_and(|root| root == "input") {
                        reads.path(path.get(1..).unwrap_or_default());
                    }
                }
            };
            for rule in &tree.rules {
                tree.visit(&rule.tree, &mut see);
            }
        }
        reads.headers.sort();
        reads.headers.dedup();
        reads.fleeting = match fleeting {
            Some(name) => Some(format!("it calls {name}")),
            None if reads.parts & part::TIME != 0 => Some("it reads the request's time".to_owned()),
            None if reads.parts & part::ID != 0 => Some("it reads the request's id".to_owned()),
            None => None,
        };
        reads
    }

    /// Whether a decision holds for every later request that agrees in what is read; if not, why.
    pub fn cacheable(&self) -> Result<(), &str> {
        self.fleeting.as_deref().map_or(Ok(()), Err)
    }

    /// Whether the request's body must be held until the decision.
    pub fn needs_body(&self) -> bool {
        self.parts & (part::BODY | part::PARSED_BODY) != 0
    }

    pub(crate) fn has(&self, part: u32) -> bool {
        self.parts & part != 0
    }

    pub(crate) fn headers(&self) -> &[String] {
        &self.headers
    }

    fn path(&mut self, path: &[String]) {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        self.parts |= match path.as_slice() {
            ["attributes", "request", "http", "headers", name, ..] => return self.header(name),
            ["attributes", "request", "http", field, ..] => match *field {
                "method" => part::METHOD,
                "path" => part::PATH | part::QUERY,
                "host" => part::HOST,
                "scheme" => part::SCHEME,
                "protocol" => part::PROTOCOL,
                "size" => part::SIZE,
                "body" | "rawBody" => part::BODY,
                // Pseudo-headers stand among them.
                "headers" => {
                    part::HEADERS | part::METHOD | part::PATH | part::QUERY | part::HOST | part::SCHEME
                }
                "id" => part::ID,
                _ => 0,
            },
            ["attributes", "request", "time", ..] => part::TIME,
            ["attributes", "source", "address", ..] => part::SOURCE_ADDRESS,
            ["attributes", "source", "principal", ..] | ["source_principal", ..] => part::SOURCE_PRINCIPAL,
            ["attributes", "source", "certificate", ..] => part::SOURCE_CERTIFICATE,
            ["attributes", "source"] => part::SOURCE,
            ["attributes", "destination", "address", ..] => part::DESTINATION_ADDRESS,
            ["attributes", "destination", "principal", ..] => part::DESTINATION_PRINCIPAL,
            ["attributes", "destination", "certificate", ..] => part::DESTINATION_CERTIFICATE,
            ["attributes", "destination"] => part::DESTINATION,
            ["attributes", "contextExtensions", ..] => part::EXTENSIONS,
            ["attributes", "tlsSession", ..] => part::SNI,
            ["parsed_path", ..] => part::PARSED_PATH,
            ["parsed_query", ..] => part::PARSED_QUERY,
            ["parsed_body", ..] | ["truncated_body", ..] => part::PARSED_BODY,
            [] | ["attributes"] | ["attributes", "request"] | ["attributes", "request", "http"] => {
                part::EVERYTHING
            }
            // The input has nothing of this name, whatever the request.
            _ => 0,
        };
    }

    fn header(&mut self, name: &str) {
        match name {
            ":method" => self.parts |= part::METHOD,
            ":path" => self.parts |= part::PATH | part::QUERY,
            ":authority" => self.parts |= part::HOST,
            ":scheme" => self.parts |= part::SCHEME,
            _ => {}
        }
        self.headers.push(name.to_owned());
    }

    /// Writes all that is read of `request` to `key`, each part with its length, so that two requests have
    /// one key only if they agree in every part.
    pub(crate) fn key(&self, request: &Request<'_>, key: &mut Vec<u8>) {
        let mut put = |bytes: &[u8]| {
            key.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
            key.extend_from_slice(bytes);
        };
        let (path, query) = crate::url::split(request.path);
        let texts = [
            (part::METHOD, request.method),
            (part::PATH | part::PARSED_PATH, path),
            (part::QUERY | part::PARSED_QUERY, query),
            (part::HOST, request.authority),
            (part::SCHEME, request.scheme),
            (part::PROTOCOL, request.protocol),
            (part::SOURCE_PRINCIPAL, request.source.principal),
            (part::SOURCE_CERTIFICATE, request.source.certificate),
            (part::DESTINATION_PRINCIPAL, request.destination.principal),
            (part::DESTINATION_CERTIFICATE, request.destination.certificate),
            (part::SNI, request.sni),
        ];
        for (part, text) in texts {
            if self.has(part) {
                put(text.as_bytes());
            }
        }
        // `path` alone tells `/a?` from `/a`.
        if self.has(part::PATH | part::QUERY) {
            put(&[u8::from(request.path.len() > path.len())]);
        }
        for (part, peer) in
            [(part::SOURCE_ADDRESS, &request.source), (part::DESTINATION_ADDRESS, &request.destination)]
        {
            if self.has(part) {
                match peer.address {
                    Some(std::net::IpAddr::V4(address)) => put(&address.octets()),
                    Some(std::net::IpAddr::V6(address)) => put(&address.octets()),
                    None => put(&[]),
                }
                put(&peer.port.to_le_bytes());
            }
        }
        if self.has(part::SIZE) {
            put(&request.size.to_le_bytes());
        }
        if self.has(part::EXTENSIONS) {
            put(&request.extensions.len().to_le_bytes());
            for (name, value) in request.extensions {
                put(name.as_bytes());
                put(value.as_bytes());
            }
        }
        if self.has(part::HEADERS) {
            put(&request.headers.len().to_le_bytes());
            for (name, value) in request.headers {
                put(name.as_bytes());
                put(value);
            }
        }
        let framing = ["content-type", "content-length", "x-envoy-auth-partial-body"];
        let framing = self.has(part::PARSED_BODY).then_some(framing).into_iter().flatten();
        for wanted in self.headers.iter().map(String::as_str).chain(framing) {
            let mut values: u32 = 0;
            for (_, value) in request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)) {
                put(value);
                values += 1;
            }
            // Behind the values: it tells where one header's end and the next one's begin.
            put(&values.to_le_bytes());
        }
        if self.needs_body() {
            put(&[match &request.body {
                None => 0,
                Some(body) if body.truncated => 1,
                Some(_) => 2,
            }]);
            put(request.body.as_ref().map_or(&[], |body| body.bytes));
        }
        if self.headers.iter().any(|name| name == "x-envoy-auth-partial-body") || self.has(part::HEADERS) {
            put(&[request.body.as_ref().map_or(0, |body| 1 + u8::from(body.truncated))]);
        }
    }
}

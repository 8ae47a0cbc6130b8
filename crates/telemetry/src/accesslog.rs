//! One request, one line: Envoy's format language, read once and rendered from a borrowed record.
//!
//! [`Format::parse`] turns the operators (`%REQ(:METHOD)%`) into ops and refuses what it doesn't know
//! by name and column. Rendering can't fail and can't be tricked: whatever a peer sent, the line has
//! no line break, no terminal escape and (as JSON) no end of string in it.
//!
//! A path is logged without its query string unless [`Format::with_query`] says so: query strings
//! carry secrets.

mod address;
mod escape;
mod json;
mod ops;
mod parse;

use std::net::SocketAddr;

use ops::Op;
pub use ops::{Named, Side};

/// What is known of one request when it ends. Empty text and `None` show as `-`.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Unix time at which the request (or TCP connection) began.
    pub start_micros: u64,
    pub duration_micros: u64,
    /// `HTTP/1.1`, `HTTP/2`; empty for TCP.
    pub protocol: &'a str,
    pub method: &'a str,
    pub authority: &'a str,
    /// With the query string, as received.
    pub path: &'a str,
    /// 0 when no response was sent.
    pub response_code: u16,
    pub response_code_details: &'a str,
    /// Envoy's short flags, `,` between: `UH`, `NR`.
    pub response_flags: &'a str,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub grpc_status: Option<i32>,
    /// Until the upstream's response head, from the start.
    pub response_micros: Option<u64>,
    pub upstream_host: Option<SocketAddr>,
    pub upstream_cluster: &'a str,
    pub upstream_local_address: Option<SocketAddr>,
    pub upstream_transport_failure_reason: &'a str,
    pub upstream_attempts: u32,
    pub downstream_remote_address: Option<SocketAddr>,
    pub downstream_local_address: Option<SocketAddr>,
    pub requested_server_name: &'a str,
    pub downstream_peer_uri_san: &'a str,
    pub downstream_local_uri_san: &'a str,
    pub downstream_tls_version: &'a str,
    pub upstream_peer_uri_san: &'a str,
    pub route_name: &'a str,
    pub connection_termination_details: &'a str,
    pub connection_id: u64,
    pub headers: &'a dyn Headers,
}

/// Where a record's headers are looked up: by name (in lower case), or by place where only the named ones were kept.
pub trait Headers {
    fn value(&self, side: Side, named: &Named) -> Option<&[u8]>;
}

/// No headers (a TCP connection).
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn value(&self, _side: Side, _named: &Named) -> Option<&[u8]> {
        None
    }
}

impl Default for Record<'_> {
    fn default() -> Self {
        Self {
            start_micros: 0,
            duration_micros: 0,
            protocol: "",
            method: "",
            authority: "",
            path: "",
            response_code: 0,
            response_code_details: "",
            response_flags: "",
            bytes_received: 0,
            bytes_sent: 0,
            grpc_status: None,
            response_micros: None,
            upstream_host: None,
            upstream_cluster: "",
            upstream_local_address: None,
            upstream_transport_failure_reason: "",
            upstream_attempts: 0,
            downstream_remote_address: None,
            downstream_local_address: None,
            requested_server_name: "",
            downstream_peer_uri_san: "",
            downstream_local_uri_san: "",
            downstream_tls_version: "",
            upstream_peer_uri_san: "",
            route_name: "",
            connection_termination_details: "",
            connection_id: 0,
            headers: &NoHeaders,
        }
    }
}

/// Why a format can't be used. Columns count characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("access log format, column {column}: {message}")]
pub struct FormatError {
    pub column: usize,
    pub message: String,
}

/// Envoy's own default, less its ending line break.
pub const DEFAULT_TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
     %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
     \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \
     \"%UPSTREAM_HOST%\"";

/// A format, ready to render.
#[derive(Clone, Debug)]
pub struct Format {
    shape: Shape,
    /// By [`Side`].
    names: [Vec<String>; 3],
    query: bool,
}

/// Room for a usual line, so that it does not grow bit by bit.
const LINE_BYTES: usize = 256;

#[derive(Clone, Debug)]
enum Shape {
    Text(Vec<Op>),
    Json(Vec<(String, Vec<Op>)>),
}

impl Format {
    /// Gives each name its place.
    fn of(mut shape: Shape) -> Self {
        let mut names = <[Vec<String>; 3]>::default();
        let ops: Vec<&mut Op> = match &mut shape {
            Shape::Text(ops) => ops.iter_mut().collect(),
            Shape::Json(members) => members.iter_mut().flat_map(|(_, ops)| ops).collect(),
        };
        for op in ops {
            let Op::Header { first, other, .. } = op else { continue };
            for named in [Some(first), other.as_mut()].into_iter().flatten() {
                let Some(side) = named.side() else { continue };
                let known = &mut names[side as usize];
                named.place = known.iter().position(|name| *name == named.name).unwrap_or_else(|| {
                    known.push(named.name.clone());
                    known.len() - 1
                });
            }
        }
        Self { shape, names, query: false }
    }

    /// Reads a text format.
    ///
    /// # Errors
    /// On the first operator that is unknown or malformed, with its column.
    pub fn parse(format: &str) -> Result<Self, FormatError> {
        Ok(Self::of(Shape::Text(parse::parse(format)?)))
    }

    /// Envoy's default line.
    pub fn text() -> Self {
        // The constant parses (a test says so); an empty format would still give one line a request.
        Self::parse(DEFAULT_TEXT).unwrap_or_else(|_| Self::of(Shape::Text(Vec::new())))
    }

    /// One JSON object a line, with the default keys.
    pub fn json() -> Self {
        Self::json_of(json::DEFAULT_KEYS.iter().map(|(key, format)| (*key, *format)))
            .unwrap_or_else(|_| Self::of(Shape::Json(Vec::new())))
    }

    /// One JSON object a line: keys and the format of each value (Envoy's `json_format`). A value of a
    /// single numeric operator is a number, an absent single value is `null`.
    ///
    /// # Errors
    /// As [`Format::parse`], with the key in the message.
    pub fn json_of<'a>(keys: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, FormatError> {
        let mut members = Vec::new();
        for (key, format) in keys {
            let ops = parse::parse(format).map_err(|error| FormatError {
                message: format!("{} (key {key:?})", error.message),
                ..error
            })?;
            members.push((key.to_owned(), ops));
        }
        Ok(Self::of(Shape::Json(members)))
    }

    /// Whether paths keep their query string.
    #[must_use]
    pub fn with_query(mut self, query: bool) -> Self {
        self.query = query;
        self
    }

    /// The names that [`Headers`] will be asked for on one side, by place, so that whoever keeps headers for the line
    /// keeps no others.
    pub fn header_names(&self, side: Side) -> &[String] {
        &self.names[side as usize]
    }

    /// Appends the record's line to `out`, with its line break.
    pub fn render(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        let view = ops::View { record, query: self.query };
        match &self.shape {
            Shape::Text(ops) => {
                out.reserve(LINE_BYTES);
                for op in ops {
                    op.text(&view, out);
                }
            }
            Shape::Json(members) => json::object(members, &view, out),
        }
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests;

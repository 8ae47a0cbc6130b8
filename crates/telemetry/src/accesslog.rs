//! One request, one line: Envoy's format language, read once and rendered from a borrowed record.
//!
//! [`Format::parse`] turns the operators (`%REQ(:METHOD)%`) into ops and refuses what it doesn't know
//! by name and column. Rendering can't fail and can't be tricked: whatever a peer sent, the line has
//! no line break, no terminal escape and (as JSON) no end of string in it.
//!
//! A path is logged without its query string unless [`Format::with_query`] says so: query strings
//! carry secrets.

mod escape;
mod json;
mod ops;
mod parse;

use ops::Op;

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
    pub upstream_host: &'a str,
    pub upstream_cluster: &'a str,
    pub upstream_local_address: &'a str,
    pub upstream_transport_failure_reason: &'a str,
    pub upstream_attempts: u32,
    pub downstream_remote_address: &'a str,
    pub downstream_local_address: &'a str,
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

/// Where a record's headers are looked up; names come in lower case.
pub trait Headers {
    fn request(&self, name: &str) -> Option<&[u8]>;
    fn response(&self, name: &str) -> Option<&[u8]>;
    fn trailer(&self, _name: &str) -> Option<&[u8]> {
        None
    }
}

/// No headers (a TCP connection).
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn request(&self, _name: &str) -> Option<&[u8]> {
        None
    }
    fn response(&self, _name: &str) -> Option<&[u8]> {
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
            upstream_host: "",
            upstream_cluster: "",
            upstream_local_address: "",
            upstream_transport_failure_reason: "",
            upstream_attempts: 0,
            downstream_remote_address: "",
            downstream_local_address: "",
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
    query: bool,
}

#[derive(Clone, Debug)]
enum Shape {
    Text(Vec<Op>),
    Json(Vec<(String, Vec<Op>)>),
}

impl Format {
    /// Reads a text format.
    ///
    /// # Errors
    /// On the first operator that is unknown or malformed, with its column.
    pub fn parse(format: &str) -> Result<Self, FormatError> {
        Ok(Self { shape: Shape::Text(parse::parse(format)?), query: false })
    }

    /// Envoy's default line.
    pub fn text() -> Self {
        // The constant parses (a test says so); an empty format would still give one line a request.
        Self::parse(DEFAULT_TEXT).unwrap_or(Self { shape: Shape::Text(Vec::new()), query: false })
    }

    /// One JSON object a line, with the default keys.
    pub fn json() -> Self {
        Self::json_of(json::DEFAULT_KEYS.iter().map(|(key, format)| (*key, *format)))
            .unwrap_or(Self { shape: Shape::Json(Vec::new()), query: false })
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
        Ok(Self { shape: Shape::Json(members), query: false })
    }

    /// Whether paths keep their query string.
    #[must_use]
    pub fn with_query(mut self, query: bool) -> Self {
        self.query = query;
        self
    }

    /// Appends the record's line to `out`, with its line break.
    pub fn render(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        let view = ops::View { record, query: self.query };
        match &self.shape {
            Shape::Text(ops) => {
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

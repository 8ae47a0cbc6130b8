//! Why a message is refused, and what the one who sent a request is told.

/// The reason for which a message was refused. The connection that it came on carries nothing more after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    #[error("a line ends with LF alone (RFC 9112 section 2.2)")]
    BareLf,
    #[error("a CR stands without its LF (RFC 9112 section 2.2)")]
    BareCr,
    #[error("the method is no token")]
    BadMethod,
    #[error("the method is longer than any known one")]
    LongMethod,
    #[error("the request target has a byte that no target may have, or a form that its method may not have")]
    BadTarget,
    #[error("the request target is too long")]
    LongTarget,
    #[error("the protocol version is malformed")]
    BadVersion,
    #[error("the protocol version is neither HTTP/1.0 nor HTTP/1.1")]
    UnknownVersion,
    #[error("the status line is malformed")]
    BadStatus,
    #[error("a field name is no token followed by a colon")]
    BadFieldName,
    #[error("a field value has a control byte")]
    BadFieldValue,
    #[error("a field is folded over lines (RFC 9112 section 5.2)")]
    Folded,
    #[error("the head is too long")]
    LongHead,
    #[error("the head has too many fields")]
    ManyFields,
    #[error("an HTTP/1.1 request has no Host")]
    NoHost,
    #[error("a request has more than one Host")]
    ManyHosts,
    #[error("the Host or the authority is malformed")]
    BadHost,
    #[error("the Host differs from the authority of the request target")]
    HostDiffers,
    #[error("the Content-Length is no decimal number that fits")]
    BadLength,
    #[error("the Content-Lengths differ")]
    LengthsDiffer,
    #[error("both Content-Length and Transfer-Encoding are there")]
    LengthAndEncoding,
    #[error("the Transfer-Encoding is malformed, or names chunked twice or not last")]
    BadEncoding,
    #[error("the Transfer-Encoding names a coding other than chunked")]
    UnknownEncoding,
    #[error("a Transfer-Encoding where none may be: HTTP/1.0, CONNECT, TRACE, 1xx or 204")]
    MisplacedEncoding,
    #[error("Connection is malformed or lists too many names")]
    BadConnection,
    #[error("Connection names a field that all recipients need")]
    ConnectionNamesEndToEnd,
    #[error("an expectation other than 100-continue")]
    UnknownExpectation,
    #[error("a body where none may be")]
    MisplacedBody,
    #[error("a 101 that was not asked for, or without its fields")]
    MisplacedSwitch,
    #[error("too many informational responses")]
    ManyInterim,
    #[error("a chunk's head or end is malformed")]
    BadChunk,
    #[error("chunk extensions are malformed or too long")]
    BadExtension,
    #[error("the trailer section is too long or has too many fields")]
    LongTrailers,
    #[error("the message ended before its end")]
    Truncated,
}

impl Refusal {
    /// A word for counters and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Refusal::BareLf => "bare_lf",
            Refusal::BareCr => "bare_cr",
            Refusal::BadMethod => "bad_method",
            Refusal::LongMethod => "long_method",
            Refusal::BadTarget => "bad_target",
            Refusal::LongTarget => "long_target",
            Refusal::BadVersion => "bad_version",
            Refusal::UnknownVersion => "unknown_version",
            Refusal::BadStatus => "bad_status",
            Refusal::BadFieldName => "bad_field_name",
            Refusal::BadFieldValue => "bad_field_value",
            Refusal::Folded => "folded",
            Refusal::LongHead => "long_head",
            Refusal::ManyFields => "many_fields",
            Refusal::NoHost => "no_host",
            Refusal::ManyHosts => "many_hosts",
            Refusal::BadHost => "bad_host",
            Refusal::HostDiffers => "host_differs",
            Refusal::BadLength => "bad_length",
            Refusal::LengthsDiffer => "lengths_differ",
            Refusal::LengthAndEncoding => "length_and_encoding",
            Refusal::BadEncoding => "bad_encoding",
            Refusal::UnknownEncoding => "unknown_encoding",
            Refusal::MisplacedEncoding => "misplaced_encoding",
            Refusal::BadConnection => "bad_connection",
            Refusal::ConnectionNamesEndToEnd => "connection_names_end_to_end",
            Refusal::UnknownExpectation => "unknown_expectation",
            Refusal::MisplacedBody => "misplaced_body",
            Refusal::MisplacedSwitch => "misplaced_switch",
            Refusal::ManyInterim => "many_interim",
            Refusal::BadChunk => "bad_chunk",
            Refusal::BadExtension => "bad_extension",
            Refusal::LongTrailers => "long_trailers",
            Refusal::Truncated => "truncated",
        }
    }

    /// The status to answer a refused request with. A refused response is answered with 502 whatever its fault.
    pub const fn status(self) -> u16 {
        match self {
            Refusal::LongTarget => 414,
            Refusal::UnknownExpectation => 417,
            Refusal::LongHead | Refusal::ManyFields | Refusal::LongTrailers => 431,
            Refusal::LongMethod | Refusal::UnknownEncoding => 501,
            Refusal::UnknownVersion => 505,
            _ => 400,
        }
    }
}

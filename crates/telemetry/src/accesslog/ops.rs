//! The operators, compiled: each knows its field of the record.

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use super::{Record, escape};

#[derive(Clone, Debug)]
pub enum Op {
    /// What stands between operators: the operator's own text, shown as it is.
    Literal(String),
    Field(Field),
    StartTime(Option<String>),
    /// Try the first header, then the other; cut to so many bytes.
    Header {
        of: Side,
        first: String,
        other: Option<String>,
        bytes_max: usize,
        query: Query,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Request,
    Response,
    Trailer,
}

/// Whether a path operator may show the query string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    AsTheFormatSays,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Protocol,
    ResponseCode,
    ResponseCodeDetails,
    ResponseFlags,
    BytesReceived,
    BytesSent,
    Duration,
    ResponseDuration,
    GrpcStatus,
    GrpcStatusNumber,
    UpstreamHost,
    UpstreamHostWithoutPort,
    UpstreamCluster,
    UpstreamLocalAddress,
    UpstreamTransportFailureReason,
    UpstreamRequestAttemptCount,
    UpstreamPeerUriSan,
    DownstreamRemoteAddress,
    DownstreamRemoteAddressWithoutPort,
    DownstreamRemotePort,
    DownstreamLocalAddress,
    DownstreamLocalAddressWithoutPort,
    DownstreamLocalPort,
    DownstreamPeerUriSan,
    DownstreamLocalUriSan,
    DownstreamTlsVersion,
    RequestedServerName,
    RouteName,
    ConnectionTerminationDetails,
    ConnectionId,
}

/// Every name that [`Field`] answers to.
pub const FIELDS: [(&str, Field); 32] = [
    ("PROTOCOL", Field::Protocol),
    ("RESPONSE_CODE", Field::ResponseCode),
    ("RESPONSE_CODE_DETAILS", Field::ResponseCodeDetails),
    ("RESPONSE_FLAGS", Field::ResponseFlags),
    ("BYTES_RECEIVED", Field::BytesReceived),
    ("BYTES_SENT", Field::BytesSent),
    ("DURATION", Field::Duration),
    ("RESPONSE_DURATION", Field::ResponseDuration),
    ("GRPC_STATUS", Field::GrpcStatus),
    ("GRPC_STATUS_NUMBER", Field::GrpcStatusNumber),
    ("UPSTREAM_HOST", Field::UpstreamHost),
    ("UPSTREAM_REMOTE_ADDRESS", Field::UpstreamHost),
    ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Field::UpstreamHostWithoutPort),
    ("UPSTREAM_CLUSTER", Field::UpstreamCluster),
    ("UPSTREAM_LOCAL_ADDRESS", Field::UpstreamLocalAddress),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", Field::UpstreamTransportFailureReason),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Field::UpstreamRequestAttemptCount),
    ("UPSTREAM_PEER_URI_SAN", Field::UpstreamPeerUriSan),
    ("DOWNSTREAM_REMOTE_ADDRESS", Field::DownstreamRemoteAddress),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Field::DownstreamRemoteAddressWithoutPort),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Field::DownstreamRemoteAddress),
    ("DOWNSTREAM_REMOTE_PORT", Field::DownstreamRemotePort),
    ("DOWNSTREAM_LOCAL_ADDRESS", Field::DownstreamLocalAddress),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Field::DownstreamLocalAddressWithoutPort),
    ("DOWNSTREAM_LOCAL_PORT", Field::DownstreamLocalPort),
    ("DOWNSTREAM_PEER_URI_SAN", Field::DownstreamPeerUriSan),
    ("DOWNSTREAM_LOCAL_URI_SAN", Field::DownstreamLocalUriSan),
    ("DOWNSTREAM_TLS_VERSION", Field::DownstreamTlsVersion),
    ("REQUESTED_SERVER_NAME", Field::RequestedServerName),
    ("ROUTE_NAME", Field::RouteName),
    ("CONNECTION_TERMINATION_DETAILS", Field::ConnectionTerminationDetails),
    ("CONNECTION_ID", Field::ConnectionId),
];

/// A record as a format sees it.
pub struct View<'a> {
    pub record: &'a Record<'a>,
    pub query: bool,
}

pub enum Value<'a> {
    /// Ours or a peer's: always escaped.
    Bytes(&'a [u8]),
    Number(i128),
    Time(String),
    /// The format's own text.
    Literal(&'a str),
}

impl Value<'_> {
    pub fn is_number(&self) -> bool {
        matches!(self, Value::Number(_))
    }

    pub fn json(&self, out: &mut Vec<u8>) {
        match self {
            Value::Bytes(bytes) => escape::json(bytes, out),
            Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Value::Time(text) => escape::json(text.as_bytes(), out),
            Value::Literal(text) => escape::json(text.as_bytes(), out),
        }
    }
}

impl Op {
    /// `None` when the record has nothing there.
    pub fn value<'a>(&'a self, view: &'a View<'a>) -> Option<Value<'a>> {
        match self {
            Op::Literal(text) => Some(Value::Literal(text)),
            Op::StartTime(format) => {
                Some(Value::Time(start_time(view.record.start_micros, format.as_deref())))
            }
            Op::Field(field) => field.value(view.record),
            Op::Header { of, first, other, bytes_max, query } => {
                let bytes = header(view, *of, first, *query)
                    .or_else(|| header(view, *of, other.as_deref()?, *query))?;
                Some(Value::Bytes(cut(bytes, *bytes_max)))
            }
        }
    }

    pub fn text(&self, view: &View<'_>, out: &mut Vec<u8>) {
        match self.value(view) {
            Some(Value::Bytes(bytes)) => escape::text(bytes, out),
            Some(Value::Number(number)) => out.extend_from_slice(number.to_string().as_bytes()),
            Some(Value::Time(text)) => escape::text(text.as_bytes(), out),
            Some(Value::Literal(text)) => out.extend_from_slice(text.as_bytes()),
            None => out.push(b'-'),
        }
    }
}

/// At most so many bytes, and no half character at the end of what was whole text.
fn cut(bytes: &[u8], bytes_max: usize) -> &[u8] {
    let Some(short) = bytes.get(..bytes_max) else { return bytes };
    match std::str::from_utf8(short) {
        Err(error) if error.error_len().is_none() => &short[..error.valid_up_to()],
        _ => short,
    }
}

fn header<'a>(view: &View<'a>, of: Side, name: &str, query: Query) -> Option<&'a [u8]> {
    let record = view.record;
    let found = match (of, name) {
        (Side::Request, ":method") => some(record.method),
        (Side::Request, ":authority") => some(record.authority),
        (Side::Request, ":path") => some(record.path),
        (Side::Request, name) => record.headers.request(name),
        (Side::Response, name) => record.headers.response(name),
        (Side::Trailer, name) => record.headers.trailer(name),
    }?;
    // Each of them holds a path: any would leak what another hides.
    let path = of == Side::Request
        && matches!(name, ":path" | "x-envoy-original-path" | "x-original-path" | "referer");
    if path && (query == Query::Never || !view.query) {
        let end = found.iter().position(|byte| *byte == b'?').unwrap_or(found.len());
        return Some(&found[..end]);
    }
    Some(found)
}

fn some(text: &str) -> Option<&[u8]> {
    (!text.is_empty()).then_some(text.as_bytes())
}

impl Field {
    fn value<'a>(self, record: &Record<'a>) -> Option<Value<'a>> {
        let text = |text: &'a str| some(text).map(Value::Bytes);
        let number = |number: u64| Some(Value::Number(i128::from(number)));
        match self {
            Field::Protocol => text(record.protocol),
            Field::ResponseCode => number(u64::from(record.response_code)),
            Field::ResponseCodeDetails => text(record.response_code_details),
            Field::ResponseFlags => text(record.response_flags),
            Field::BytesReceived => number(record.bytes_received),
            Field::BytesSent => number(record.bytes_sent),
            Field::Duration => number(record.duration_micros / 1000),
            Field::ResponseDuration => number(record.response_micros? / 1000),
            Field::GrpcStatus => Some(match record.grpc_status? {
                status @ 0..=16 => Value::Literal(GRPC_STATUS[status as usize]),
                other => Value::Number(i128::from(other)),
            }),
            Field::GrpcStatusNumber => Some(Value::Number(i128::from(record.grpc_status?))),
            Field::UpstreamHost => text(record.upstream_host),
            Field::UpstreamHostWithoutPort => text(host(record.upstream_host)),
            Field::UpstreamCluster => text(record.upstream_cluster),
            Field::UpstreamLocalAddress => text(record.upstream_local_address),
            Field::UpstreamTransportFailureReason => text(record.upstream_transport_failure_reason),
            Field::UpstreamRequestAttemptCount => number(u64::from(record.upstream_attempts)),
            Field::UpstreamPeerUriSan => text(record.upstream_peer_uri_san),
            Field::DownstreamRemoteAddress => text(record.downstream_remote_address),
            Field::DownstreamRemoteAddressWithoutPort => text(host(record.downstream_remote_address)),
            Field::DownstreamRemotePort => number(port(record.downstream_remote_address)?),
            Field::DownstreamLocalAddress => text(record.downstream_local_address),
            Field::DownstreamLocalAddressWithoutPort => text(host(record.downstream_local_address)),
            Field::DownstreamLocalPort => number(port(record.downstream_local_address)?),
            Field::DownstreamPeerUriSan => text(record.downstream_peer_uri_san),
            Field::DownstreamLocalUriSan => text(record.downstream_local_uri_san),
            Field::DownstreamTlsVersion => text(record.downstream_tls_version),
            Field::RequestedServerName => text(record.requested_server_name),
            Field::RouteName => text(record.route_name),
            Field::ConnectionTerminationDetails => text(record.connection_termination_details),
            Field::ConnectionId => number(record.connection_id),
        }
    }
}

const GRPC_STATUS: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

fn port(address: &str) -> Option<u64> {
    address.rsplit_once(':')?.1.parse().ok()
}

/// RFC 3339 with milliseconds in UTC, or as a strftime format says.
pub fn start_time(micros: u64, format: Option<&str>) -> String {
    let time = i64::try_from(micros)
        .ok()
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let zoned = time.to_zoned(TimeZone::UTC);
    strtime::format(format.unwrap_or(START_TIME), &zoned).unwrap_or_else(|_| time.to_string())
}

const START_TIME: &str = "%Y-%m-%dT%H:%M:%S.%3fZ";

/// Whether a strftime format can be rendered; a format's fields don't depend on the time.
pub fn start_time_problem(format: &str) -> Option<String> {
    let zoned = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    strtime::format(format, &zoned).err().map(|error| error.to_string())
}

//! The operators, compiled: each knows its field of the record.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use super::{Record, address, escape};

#[derive(Clone, Debug)]
pub enum Op {
    /// What stands between operators: the operator's own text, shown as it is.
    Literal(String),
    Field(Field),
    StartTime(Option<String>),
    /// Try the first header, then the other; cut to so many bytes.
    Header {
        first: Named,
        other: Option<Named>,
        bytes_max: usize,
        query: Query,
    },
}

/// A header's name, and what is known of it.
#[derive(Clone, Debug)]
pub struct Named {
    pub name: String,
    /// Its place in [`Format::header_names`](super::Format::header_names) of its side.
    pub place: usize,
    source: Source,
    /// Its value holds a path, and with it perhaps a query string.
    is_path: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Method,
    Authority,
    Path,
    Headers(Side),
}

impl Named {
    pub fn new(of: Side, name: String) -> Named {
        let source = match (of, name.as_str()) {
            (Side::Request, ":method") => Source::Method,
            (Side::Request, ":authority") => Source::Authority,
            (Side::Request, ":path") => Source::Path,
            _ => Source::Headers(of),
        };
        // Each of them holds a path: any would leak what another hides.
        let is_path = of == Side::Request
            && matches!(name.as_str(), ":path" | "x-envoy-original-path" | "x-original-path" | "referer");
        Named { name, place: 0, source, is_path }
    }

    /// The side whose headers it is looked up in.
    pub fn side(&self) -> Option<Side> {
        match self.source {
            Source::Headers(side) => Some(side),
            _ => None,
        }
    }

    fn value<'a>(&self, view: &View<'a>, query: Query) -> Option<&'a [u8]> {
        let record = view.record;
        let found = match self.source {
            Source::Method => some(record.method),
            Source::Authority => some(record.authority),
            Source::Path => some(record.path),
            Source::Headers(side) => record.headers.value(side, self),
        }?;
        if self.is_path && (query == Query::Never || !view.query) {
            let end = found.iter().position(|byte| *byte == b'?').unwrap_or(found.len());
            return Some(&found[..end]);
        }
        Some(found)
    }
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
    Number(u64),
    Status(i32),
    Address(SocketAddr),
    Ip(IpAddr),
    /// Ours, and made of plain characters only.
    Plain(&'a str),
    /// Unix microseconds, and how to show them.
    Time(u64, Option<&'a str>),
    /// The format's own text.
    Literal(&'a str),
}

impl Value<'_> {
    pub fn is_number(&self) -> bool {
        matches!(self, Value::Number(_) | Value::Status(_))
    }

    pub fn json(&self, out: &mut Vec<u8>) {
        match self {
            Value::Bytes(bytes) => escape::json(bytes, out),
            Value::Literal(text) => escape::json(text.as_bytes(), out),
            Value::Time(micros, Some(format)) => {
                escape::json(start_time(*micros, format).as_bytes(), out);
            }
            other => other.plain(out),
        }
    }

    #[inline(always)]
    pub fn text(&self, out: &mut Vec<u8>) {
        match self {
            Value::Bytes(bytes) => escape::text(bytes, out),
            Value::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Value::Time(micros, Some(format)) => {
                escape::text(start_time(*micros, format).as_bytes(), out);
            }
            other => other.plain(out),
        }
    }

    /// What needs no escaping in any shape.
    #[inline]
    fn plain(&self, out: &mut Vec<u8>) {
        match self {
            Value::Number(number) => {
                out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes());
            }
            Value::Status(status) => {
                out.extend_from_slice(itoa::Buffer::new().format(*status).as_bytes());
            }
            Value::Time(micros, _) => rfc3339(*micros, out),
            Value::Address(address) => address::with_port(*address, out),
            Value::Ip(address) => address::without_port(*address, out),
            Value::Plain(text) => out.extend_from_slice(text.as_bytes()),
            Value::Bytes(_) | Value::Literal(_) => {}
        }
    }
}

impl Op {
    /// `None` when the record has nothing there. Inlined, so that what is known here of the kind is known to who shows it.
    #[inline(always)]
    pub fn value<'a>(&'a self, view: &'a View<'a>) -> Option<Value<'a>> {
        match self {
            Op::Literal(text) => Some(Value::Literal(text)),
            Op::StartTime(format) => Some(Value::Time(view.record.start_micros, format.as_deref())),
            Op::Field(field) => field.value(view.record),
            Op::Header { first, other, bytes_max, query } => {
                let bytes = first.value(view, *query).or_else(|| other.as_ref()?.value(view, *query))?;
                Some(Value::Bytes(cut(bytes, *bytes_max)))
            }
        }
    }

    #[inline]
    pub fn text(&self, view: &View<'_>, out: &mut Vec<u8>) {
        match self {
            Op::Literal(text) => out.extend_from_slice(text.as_bytes()), // every other operator
            _ => self.value_as_text(view, out),
        }
    }

    fn value_as_text(&self, view: &View<'_>, out: &mut Vec<u8>) {
        match self.value(view) {
            Some(value) => value.text(out),
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

fn some(text: &str) -> Option<&[u8]> {
    (!text.is_empty()).then_some(text.as_bytes())
}

impl Field {
    #[inline(always)]
    fn value<'a>(self, record: &Record<'a>) -> Option<Value<'a>> {
        let text = |text: &'a str| some(text).map(Value::Bytes);
        let plain = |text: &'a str| (!text.is_empty()).then_some(Value::Plain(text));
        let number = |number: u64| Some(Value::Number(number));
        let address = |address: Option<SocketAddr>| address.map(Value::Address);
        let ip = |address: Option<SocketAddr>| address.map(|address| Value::Ip(address.ip()));
        let port = |address: Option<SocketAddr>| Some(Value::Number(address?.port().into()));
        match self {
            Field::Protocol => plain(record.protocol),
            Field::ResponseCode => number(u64::from(record.response_code)),
            Field::ResponseCodeDetails => text(record.response_code_details),
            Field::ResponseFlags => plain(record.response_flags),
            Field::BytesReceived => number(record.bytes_received),
            Field::BytesSent => number(record.bytes_sent),
            Field::Duration => number(record.duration_micros / 1000),
            Field::ResponseDuration => number(record.response_micros? / 1000),
            Field::GrpcStatus => Some(match record.grpc_status? {
                status @ 0..=16 => Value::Literal(GRPC_STATUS[status as usize]),
                other => Value::Status(other),
            }),
            Field::GrpcStatusNumber => Some(Value::Status(record.grpc_status?)),
            Field::UpstreamHost => address(record.upstream_host),
            Field::UpstreamHostWithoutPort => ip(record.upstream_host),
            Field::UpstreamCluster => text(record.upstream_cluster),
            Field::UpstreamLocalAddress => address(record.upstream_local_address),
            Field::UpstreamTransportFailureReason => text(record.upstream_transport_failure_reason),
            Field::UpstreamRequestAttemptCount => number(u64::from(record.upstream_attempts)),
            Field::UpstreamPeerUriSan => text(record.upstream_peer_uri_san),
            Field::DownstreamRemoteAddress => address(record.downstream_remote_address),
            Field::DownstreamRemoteAddressWithoutPort => ip(record.downstream_remote_address),
            Field::DownstreamRemotePort => port(record.downstream_remote_address),
            Field::DownstreamLocalAddress => address(record.downstream_local_address),
            Field::DownstreamLocalAddressWithoutPort => ip(record.downstream_local_address),
            Field::DownstreamLocalPort => port(record.downstream_local_address),
            Field::DownstreamPeerUriSan => text(record.downstream_peer_uri_san),
            Field::DownstreamLocalUriSan => text(record.downstream_local_uri_san),
            Field::DownstreamTlsVersion => plain(record.downstream_tls_version),
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

fn timestamp(micros: u64) -> Timestamp {
    i64::try_from(micros)
        .ok()
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// As far as the seconds, with the point behind them.
type ToTheSecond = [u8; 20];

thread_local! {
    /// The newest second that was shown.
    static SECOND: Cell<(u64, ToTheSecond)> = const { Cell::new((u64::MAX, [0; 20])) };
}

/// RFC 3339 with milliseconds in UTC. It is in every line, and most lines are of the second of the one before.
fn rfc3339(micros: u64, out: &mut Vec<u8>) {
    let (second, milli) = (micros / 1_000_000, micros / 1000 % 1000);
    let (known, mut text) = SECOND.get();
    if known != second {
        text = to_the_second(micros);
        SECOND.set((second, text));
    }
    out.extend_from_slice(&text);
    let digit = |place: u64| b'0' + (milli / place % 10) as u8;
    out.extend_from_slice(&[digit(100), digit(10), digit(1), b'Z']);
}

fn to_the_second(micros: u64) -> ToTheSecond {
    let time = TimeZone::UTC.to_datetime(timestamp(micros));
    let mut text = *b"0000-00-00T00:00:00.";
    let mut put = |place: usize, digits: usize, mut number: u32| {
        for digit in text[place..place + digits].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    };
    put(0, 4, u32::try_from(time.year()).unwrap_or(0));
    put(5, 2, time.month().unsigned_abs().into());
    put(8, 2, time.day().unsigned_abs().into());
    put(11, 2, time.hour().unsigned_abs().into());
    put(14, 2, time.minute().unsigned_abs().into());
    put(17, 2, time.second().unsigned_abs().into());
    text
}

/// In UTC, as a strftime format says.
fn start_time(micros: u64, format: &str) -> String {
    let time = timestamp(micros);
    strtime::format(format, &time.to_zoned(TimeZone::UTC)).unwrap_or_else(|_| time.to_string())
}

/// Whether a strftime format can be rendered; a format's fields don't depend on the time.
pub fn start_time_problem(format: &str) -> Option<String> {
    let zoned = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    strtime::format(format, &zoned).err().map(|error| error.to_string())
}

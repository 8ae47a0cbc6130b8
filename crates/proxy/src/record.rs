//! The one record of a request (or connection), whatever its end: written on drop.
//!
//! Every exit of `http/request.rs` and `connection.rs` passes here, also a client that leaves in the middle. From it
//! come the metrics, the measurement cell for the control plane, and the access log's line.
//!
//! # Counted once
//!
//! A request between members passes two proxies, and one of them counts it:
//!
//! - The **callee's** proxy counts every request whose head it read, with the answer that it gave (direction
//!   `inbound`). Each try of a request is one for the callee: it did the work.
//! - The **caller's** proxy counts a request none of whose tries a callee's proxy can have read: no endpoint, no
//!   connection, a limit met, a refused stream, a connection that broke under it without a word. The row names the
//!   Service that was wanted and has the code that the caller got (direction `external`: counted at the caller).
//! - A caller that gives up waiting leaves the count to the callee, which read the head. The callee knows from the
//!   try's timeout, which came with it ([`EXPECTED_TIMEOUT`]), that this was a timeout: code 504 and not 0.
//! - Requests to services outside the mesh are counted by the caller, once, whatever the number of tries.
//! - Health checks are nobody's traffic: the callee's proxy answers them ([`crate::upstream::probe`]).
//!
//! What this leaves: a callee's proxy that stands still for ever without its connections breaking counts nothing, and
//! a connection that the network cuts between two living proxies counts its open requests on both sides.

mod log;

use std::{
    cell::{Cell, RefCell},
    ops::{Deref, DerefMut},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use weft_routing::Route;
use weft_telemetry::buckets::Sample;

use crate::{
    http::grpc::Rpc,
    live::ClusterLabels,
    peer::Peer,
    upstream::{limits::Raised, pool::InUse},
};

pub use log::LogFields;

/// Envoy's short response flags, those that we have.
pub mod flags {
    pub const NO_ROUTE: &str = "NR";
    pub const NO_HEALTHY_UPSTREAM: &str = "UH";
    pub const CONNECT_FAILURE: &str = "UF";
    pub const TIMEOUT: &str = "UT";
    pub const STREAM_IDLE: &str = "SI";
    pub const DROPPED: &str = "DO";
    pub const CONNECTION_TERMINATION: &str = "UC";
    pub const RESET: &str = "UR";
    pub const RETRIES_EXHAUSTED: &str = "URX";
    pub const OVERFLOW: &str = "UO";
    pub const NO_CLUSTER: &str = "NC";
    pub const CLIENT_LEFT: &str = "DC";
    /// Envoy has no flag for its RBAC filter either: the details say it.
    pub const DENIED: &str = "";
    pub const PROTOCOL: &str = "DPE";
    pub const OVERLOAD: &str = "OM";
    pub const UPSTREAM_PROTOCOL: &str = "UPE";
}

/// What is left of a try's time, in milliseconds, told by the caller's proxy to the callee's and to nobody else.
pub const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
/// How many tries came before, told with each that is not the first: gRPC's name for it. An app that hands it on with
/// its own calls keeps a chain's retries from multiplying.
pub const PREVIOUS_TRIES: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");
/// A caller's clock for a try starts before the callee's, by a way through two kernels.
const TIMEOUT_SLACK: Duration = Duration::from_millis(25);

/// What is known of a request so far.
pub struct RequestRecord {
    peer: Rc<Peer>,
    started: Instant,
    pub route: Option<Arc<Route>>,
    /// Set once a cluster was chosen.
    pub cluster: Option<Rc<ClusterLabels>>,
    pub status: u16,
    pub grpc_status: i32,
    pub rpc: Rpc,
    pub flags: &'static str,
    pub details: Details,
    pub response_bytes: u64,
    pub tries: u32,
    pub response_micros: Option<u64>,
    pub upstream_host: Option<std::net::SocketAddr>,
    /// The answer was given whole.
    pub complete: bool,
    /// A failure that has no 5xx status.
    pub failed: bool,
    pub request_body: Option<crate::http::body::RequestBody>,
    /// Bytes of a tunnel from the client.
    pub request_bytes: u64,
    /// The connection that the answer comes on.
    pub lease: Option<UsedLease>,
    /// What the access log wants of the head; only where there is an access log.
    pub log: Option<LogFields>,
    pub kind: Kind,
    /// Lowered with the record: the peer's, the cluster's and the endpoint's counts of open requests.
    pub raised: [Option<Raised>; 3],
    /// The request's id, where the answer is to say it.
    pub request_id: Option<HeaderValue>,
    pub reach: Cell<Reach>,
    /// For how long the caller waits.
    pub expected_timeout: Option<Duration>,
}

/// How far a request came, which decides who counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Nobody follows its tries: a tunnel, which is the callee's as soon as an endpoint carries it.
    Tunnel,
    /// No proxy of a callee can have read it.
    Here,
    /// One may have.
    Callee,
}

/// Whose record this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request,
    Connection,
    /// Of a member's proxy: nobody's traffic.
    HealthCheck,
}

/// Why the answer is what it is; the log's `RESPONSE_CODE_DETAILS`.
#[derive(Debug, Clone, Default)]
pub enum Details {
    #[default]
    ViaUpstream,
    Fixed(&'static str),
    /// The deciding access policy: for the log, never for the caller.
    Denied(Arc<str>),
    Text(Box<str>),
}

/// A connection in use, and where it goes back to.
pub struct UsedLease {
    pub lease: InUse,
    /// The answer came while the request was still being sent: an upstream that does so may take the rest of the body
    /// for a request of its own, whose answer would then be the next caller's. Such a connection is used up.
    pub early: bool,
    pub endpoint: Rc<crate::upstream::cluster::EndpointState>,
}

/// A request's record, in a room that the worker lends: the next request takes it again.
pub struct Recording {
    /// Full from the first to the last moment of this value.
    room: Option<Box<Option<RequestRecord>>>,
}

/// Rooms that a worker keeps for its next requests.
const ROOMS_MAX: usize = 64;

thread_local! {
    #[expect(clippy::vec_box, reason = "they move between here and their requests, and are large")]
    static ROOMS: RefCell<Vec<Box<Option<RequestRecord>>>> = const { RefCell::new(Vec::new()) };
}

impl Recording {
    pub fn start(peer: &Rc<Peer>, kind: Kind) -> Recording {
        let mut room = ROOMS.with_borrow_mut(Vec::pop).unwrap_or_default();
        *room = Some(RequestRecord::start(peer, kind));
        Recording { room: Some(room) }
    }
}

impl Deref for Recording {
    type Target = RequestRecord;

    fn deref(&self) -> &RequestRecord {
        match self.room.as_deref() {
            Some(Some(record)) => record,
            _ => unreachable!("only a drop empties it"),
        }
    }
}

impl DerefMut for Recording {
    fn deref_mut(&mut self) -> &mut RequestRecord {
        match self.room.as_deref_mut() {
            Some(Some(record)) => record,
            _ => unreachable!("only a drop empties it"),
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let Some(mut room) = self.room.take() else { return };
        *room = None; // writes the record
        // A thread that ends has no rooms any more.
        let _ = ROOMS.try_with(|rooms| {
            let mut rooms = rooms.borrow_mut();
            if rooms.len() < ROOMS_MAX {
                rooms.push(room);
            }
        });
    }
}

impl RequestRecord {
    pub fn start(peer: &Rc<Peer>, kind: Kind) -> RequestRecord {
        peer.drain.on_request();
        RequestRecord {
            started: Instant::now(),
            route: None,
            cluster: None,
            status: 0,
            grpc_status: -1,
            rpc: Rpc::No,
            flags: "",
            details: Details::default(),
            response_bytes: 0,
            tries: 0,
            response_micros: None,
            upstream_host: None,
            complete: false,
            failed: false,
            request_body: None,
            request_bytes: 0,
            lease: None,
            log: None,
            kind,
            raised: [Some(Raised::new(&peer.open_requests)), None, None],
            request_id: None,
            reach: Cell::new(Reach::Tunnel),
            expected_timeout: None,
            peer: Rc::clone(peer),
        }
    }

    pub fn peer(&self) -> &Rc<Peer> {
        &self.peer
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    /// The upstream's head is here.
    pub fn on_response(&mut self, status: http::StatusCode, headers: &HeaderMap) {
        self.status = status.as_u16();
        self.response_micros = Some(micros(self.started));
        if self.rpc.has_status()
            && let Some(code) = grpc_status(headers)
        {
            self.grpc_status = code;
        }
        self.keep_response(headers);
    }

    pub fn on_trailers(&mut self, trailers: &HeaderMap) {
        if let Some(code) = grpc_status(trailers) {
            self.grpc_status = code;
        }
        self.keep_trailers(trailers);
    }

    /// The upstream's connection or stream broke inside the body.
    pub fn on_upstream_broken(&mut self) {
        self.flags = flags::CONNECTION_TERMINATION;
        self.details = Details::Fixed("upstream_reset_after_response_started");
        self.failed = true;
    }

    /// A body was not what its protocol says, and the client is told so by this status: whatever comes yet of the
    /// answer is not read.
    pub fn on_wrong_body(&mut self, flags: &'static str, details: &'static str, grpc_status: i32) {
        self.flags = flags;
        self.details = Details::Fixed(details);
        self.grpc_status = grpc_status;
        self.failed = true;
        self.lease = None;
    }

    /// The answer took too long, or nothing moved for too long.
    pub fn on_too_late(&mut self, flags: &'static str, details: &'static str) {
        self.flags = flags;
        self.details = Details::Fixed(details);
        self.failed = true;
    }

    /// Whether the proxy of a member may have counted it.
    fn callee_counts(&self) -> bool {
        match self.reach.get() {
            Reach::Tunnel => self.raised[2].is_some(),
            Reach::Here => false,
            Reach::Callee => true,
        }
    }

    /// The end of a request that nobody waits for any more.
    #[cold]
    fn on_abandoned(&mut self, waited: Duration) {
        self.failed = true;
        if std::thread::panicking() {
            self.status = 500;
            self.details = Details::Fixed("panic");
        } else if self.status == 0
            && self.expected_timeout.is_some_and(|limit| waited + TIMEOUT_SLACK >= limit)
        {
            self.status = 504;
            self.flags = flags::TIMEOUT;
            self.details = Details::Fixed("caller_gave_up");
        } else if self.flags.is_empty() {
            self.flags = flags::CLIENT_LEFT;
            self.details = Details::Fixed("downstream_remote_disconnect");
        }
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let now = Instant::now();
        if let Some(UsedLease { lease: InUse::H1 { connection, generation }, endpoint, early: false }) =
            self.lease.take()
            && self.complete
        {
            endpoint.pool.give_back(connection, generation, now);
        }
        let duration = now.saturating_duration_since(self.started);
        if !self.complete && !self.failed {
            self.on_abandoned(duration);
        }
        if let Some(body) = &self.request_body {
            self.request_bytes += body.bytes();
        }
        let duration_micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let peer = &self.peer;
        peer.drain.on_request_end();
        let worker = &peer.worker;
        // In a panic it may be borrowed, and a second panic would end the process.
        if let Ok(mut shard) = worker.shard.try_borrow_mut() {
            if self.kind == Kind::HealthCheck {
                shard.add(peer.meters.health_checks, 1);
            } else {
                shard.add(peer.meters.requests(self.status), 1);
                shard.observe(peer.meters.duration, duration_micros);
            }
        }
        let series = match self.kind {
            Kind::HealthCheck => None,
            _ => peer.series(self.route.as_ref(), self.cluster.as_deref(), self.callee_counts()),
        };
        if let Some(series) = series {
            let sample = Sample {
                code: u32::from(self.status),
                grpc_status: self.grpc_status,
                failed: self.failed,
                request_bytes: self.request_bytes,
                response_bytes: self.response_bytes,
                duration_micros,
            };
            let now = worker.unix_micros(now) / 1_000_000;
            worker.window.borrow_mut().record(now, series, &sample);
        }
        if let Some(log) = self.log.take() {
            self.write_log(&log, duration_micros);
        }
    }
}

//! The messages of `weft.link.v1`, as prost reads and writes them.
//!
//! The field numbers here ARE the protocol: a number is never given a new meaning, a removed field leaves its
//! number unused, and a new field must be one that an older peer may ignore. Absent strings and numbers are
//! empty and zero, as always in proto3.

use std::collections::HashMap;

/// First contact of a proxy: a join token instead of a certificate.
///
/// ```proto
/// message JoinRequest { string token = 1; bytes csr_der = 2; string service = 3; string namespace = 4; }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
#[prost(skip_debug)]
pub struct JoinRequest {
    /// The join token's text, `weft1.…`.
    #[prost(string, tag = "1")]
    pub token: String,
    /// The PKCS#10 request, DER.
    #[prost(bytes = "vec", tag = "2")]
    pub csr_der: Vec<u8>,
    /// The service that the caller wants to be.
    #[prost(string, tag = "3")]
    pub service: String,
    /// The namespace of that service.
    #[prost(string, tag = "4")]
    pub namespace: String,
}

// By hand, because the token is a secret: it must not reach a log by way of `{:?}`.
impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinRequest")
            .field("token", &"[secret]")
            .field("csr_der_bytes", &self.csr_der.len())
            .field("service", &self.service)
            .field("namespace", &self.namespace)
            .finish()
    }
}

/// A new certificate for the identity that the connection's certificate already proves.
///
/// ```proto
/// message RenewRequest { bytes csr_der = 1; }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct RenewRequest {
    /// The PKCS#10 request, DER; of a new key.
    #[prost(bytes = "vec", tag = "1")]
    pub csr_der: Vec<u8>,
}

/// The answer to both [`JoinRequest`] and [`RenewRequest`].
///
/// ```proto
/// message JoinResponse { repeated bytes chain_der = 1; string bundle_pem = 2; string trust_domain = 3; }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct JoinResponse {
    /// The leaf first, then the intermediates, DER; without the root.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub chain_der: Vec<Vec<u8>>,
    /// The roots of the trust domain, PEM.
    #[prost(string, tag = "2")]
    pub bundle_pem: String,
    /// The name of the trust domain.
    #[prost(string, tag = "3")]
    pub trust_domain: String,
}

/// What a proxy sends on its stream. The first message is always [`Hello`].
///
/// ```proto
/// message Up {
///   oneof message {
///     Hello hello = 1; Buckets buckets = 2; Leave leave = 3; Health health = 4; Kept kept = 5;
///     Connections connections = 6;
///   }
/// }
/// ```
#[derive(Clone, PartialEq, prost::Message)]
pub struct Up {
    /// `None` is a kind of message that a newer proxy knows: to be ignored.
    #[prost(oneof = "up::Message", tags = "1, 2, 3, 4, 5, 6")]
    pub message: Option<up::Message>,
}

/// The kinds of [`Up`].
pub mod up {
    /// What one [`super::Up`] carries.
    #[expect(
        clippy::large_enum_variant,
        reason = "there is one Hello a stream, and messages are short-lived"
    )]
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Message {
        /// Who is here: the first message of each stream.
        #[prost(message, tag = "1")]
        Hello(super::Hello),
        /// What was measured.
        #[prost(message, tag = "2")]
        Buckets(super::Buckets),
        /// The proxy drains: take it out of the endpoints now.
        #[prost(message, tag = "3")]
        Leave(super::Leave),
        /// Its app's health changed.
        #[prost(message, tag = "4")]
        Health(super::Health),
        /// Its disk has a newer last known good.
        #[prost(message, tag = "5")]
        Kept(super::Kept),
        /// A page of its connections, as asked for.
        #[prost(message, tag = "6")]
        Connections(super::Connections),
    }
}

/// What the control plane sends on a proxy's stream. The first message is [`Welcome`] or [`Refused`].
///
/// ```proto
/// message Down {
///   oneof message {
///     Welcome welcome = 1; Ack ack = 2; Bundle bundle = 3; Refused refused = 4; Crl crl = 5;
///     ListConnections list_connections = 6;
///   }
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Down {
    /// `None` is a kind of message that a newer control plane knows: to be ignored.
    #[prost(oneof = "down::Message", tags = "1, 2, 3, 4, 5, 6")]
    pub message: Option<down::Message>,
}

/// The kinds of [`Down`].
pub mod down {
    /// What one [`super::Down`] carries.
    #[derive(Clone, PartialEq, Eq, Hash, prost::Oneof)]
    pub enum Message {
        /// The hello was taken.
        #[prost(message, tag = "1")]
        Welcome(super::Welcome),
        /// One [`super::Buckets`] is durable.
        #[prost(message, tag = "2")]
        Ack(super::Ack),
        /// The trust bundle changed.
        #[prost(message, tag = "3")]
        Bundle(super::Bundle),
        /// The stream ends, and why.
        #[prost(message, tag = "4")]
        Refused(super::Refused),
        /// What is revoked changed.
        #[prost(message, tag = "5")]
        Crl(super::Crl),
        /// A question: which connections are there.
        #[prost(message, tag = "6")]
        ListConnections(super::ListConnections),
    }
}

/// One running instance: what its `Workload` object is made of.
///
/// ```proto
/// message Hello {
///   string workload_name = 1; string namespace = 2; string service = 3; map<string, string> labels = 4;
///   string address = 5; uint32 inbound_port = 6; repeated Port ports = 7; string kind = 8;
///   string version = 9; Locality locality = 10; string health = 11; uint64 started = 12;
/// }
/// ```
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Hello {
    /// The workload's name, kept over restarts.
    #[prost(string, tag = "1")]
    pub workload_name: String,
    /// Its namespace; must be the one of its certificate.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Its service; must be the one of its certificate.
    #[prost(string, tag = "3")]
    pub service: String,
    /// Its labels, without `app`, which the control plane sets.
    #[prost(map = "string, string", tag = "4")]
    pub labels: HashMap<String, String>,
    /// The address at which other members reach it.
    #[prost(string, tag = "5")]
    pub address: String,
    /// The port of its proxy's mTLS listener.
    #[prost(uint32, tag = "6")]
    pub inbound_port: u32,
    /// The ports of its app.
    #[prost(message, repeated, tag = "7")]
    pub ports: Vec<Port>,
    /// `weft`, `envoy` or `grpc`.
    #[prost(string, tag = "8")]
    pub kind: String,
    /// The proxy's version, e.g. `0.1.0`.
    #[prost(string, tag = "9")]
    pub version: String,
    /// Where it runs, when known.
    #[prost(message, optional, tag = "10")]
    pub locality: Option<Locality>,
    /// How its app is now, as in [`Health`]; empty when nobody looks, which leaves what is known of it as it is.
    #[prost(string, tag = "11")]
    pub health: String,
    /// When this process started, in unix microseconds: another number under the same name is another process. No
    /// increment of it has a lower `sequence`. 0 when it doesn't say.
    #[prost(uint64, tag = "12")]
    pub started: u64,
}

/// A port of an app.
///
/// ```proto
/// message Port { string name = 1; uint32 port = 2; }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Port {
    /// Its name in the service, or empty.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The number at which the app listens.
    #[prost(uint32, tag = "2")]
    pub port: u32,
}

/// Where an instance runs.
///
/// ```proto
/// message Locality { string region = 1; string zone = 2; string subzone = 3; }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Locality {
    /// E.g. `eu-central-1`.
    #[prost(string, tag = "1")]
    pub region: String,
    /// E.g. `eu-central-1a`.
    #[prost(string, tag = "2")]
    pub zone: String,
    /// E.g. a rack.
    #[prost(string, tag = "3")]
    pub subzone: String,
}

/// Increments of one 10 s window. (proxy, `start_unix`, `sequence`) names this message for ever, so a resend
/// counts once.
///
/// ```proto
/// message Buckets { uint64 start_unix = 1; uint64 sequence = 2; repeated Cell cells = 3; }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Buckets {
    /// The start of the window, in unix seconds; a multiple of 10.
    #[prost(uint64, tag = "1")]
    pub start_unix: u64,
    /// Counts the messages of this proxy; kept in its state, so that it never repeats within a window.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// What was added since the last sequence; at most [`crate::CELLS_MAX`].
    #[prost(message, repeated, tag = "3")]
    pub cells: Vec<Cell>,
}

/// The requests of one window that agree in all of caller, service, version, route, code, gRPC status, TLS,
/// direction.
///
/// ```proto
/// message Cell {
///   string caller = 1; string service = 2; string version = 3; string route = 4; uint32 code = 5;
///   sint32 grpc_status = 6; string tls = 7; string direction = 8;
///   uint64 requests = 9; uint64 errors = 10; uint64 request_bytes = 11; uint64 response_bytes = 12;
///   repeated Bin durations = 13;
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Cell {
    /// `NS/NAME` of the caller's service; empty when it is unknown.
    #[prost(string, tag = "1")]
    pub caller: String,
    /// `NS/NAME` of the called service.
    #[prost(string, tag = "2")]
    pub service: String,
    /// The `version` label of the instance that answered; empty without one.
    #[prost(string, tag = "3")]
    pub version: String,
    /// The route's name, `NS/ROUTE#RULE`; empty when none was found.
    #[prost(string, tag = "4")]
    pub route: String,
    /// The HTTP status; 0 for a TCP connection.
    #[prost(uint32, tag = "5")]
    pub code: u32,
    /// The gRPC status; -1 when the call was not gRPC. Beware: the message's default is 0, which is gRPC's
    /// OK.
    #[prost(sint32, tag = "6")]
    pub grpc_status: i32,
    /// `mtls`, `tls` or `none`.
    #[prost(string, tag = "7")]
    pub tls: String,
    /// `inbound` (counted by the callee) or `external` (counted by the caller).
    #[prost(string, tag = "8")]
    pub direction: String,
    /// Requests, or connections for TCP.
    #[prost(uint64, tag = "9")]
    pub requests: u64,
    /// Those with a code of 500 or more, or that failed without one.
    #[prost(uint64, tag = "10")]
    pub errors: u64,
    /// Body bytes of the requests.
    #[prost(uint64, tag = "11")]
    pub request_bytes: u64,
    /// Body bytes of the responses.
    #[prost(uint64, tag = "12")]
    pub response_bytes: u64,
    /// The non-empty bins of the duration histogram, in microseconds.
    #[prost(message, repeated, tag = "13")]
    pub durations: Vec<Bin>,
}

/// One non-empty bin of a duration histogram.
///
/// ```proto
/// message Bin { uint32 index = 1; uint64 count = 2; }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Bin {
    /// The index of the log-linear bin, 0 to 1919.
    #[prost(uint32, tag = "1")]
    pub index: u32,
    /// How many durations fell into it.
    #[prost(uint64, tag = "2")]
    pub count: u64,
}

/// The proxy drains.
///
/// ```proto
/// message Leave {}
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Leave {}

/// The health of the proxy's app.
///
/// ```proto
/// message Health { string status = 1; }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Health {
    /// `Healthy`, `Unhealthy`, `Draining` or `Unknown`, as in `Workload.spec.health`.
    #[prost(string, tag = "1")]
    pub status: String,
}

/// The configuration that the proxy would serve on after a restart without its control plane.
///
/// ```proto
/// message Kept { uint64 confirmed_unix = 1; }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Kept {
    /// When the control plane last stood behind it, as its disk has it, in unix seconds.
    #[prost(uint64, tag = "1")]
    pub confirmed_unix: u64,
}

/// The hello was taken; the workload exists for as long as the stream lives, and one lease longer.
///
/// ```proto
/// message Welcome { uint32 lease_seconds = 1; string bundle_pem = 2; }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Welcome {
    /// How long the workload is kept after its stream broke.
    #[prost(uint32, tag = "1")]
    pub lease_seconds: u32,
    /// The trust bundle of now, PEM.
    #[prost(string, tag = "2")]
    pub bundle_pem: String,
}

/// One [`Buckets`] is durable: the proxy may forget it.
///
/// ```proto
/// message Ack { uint64 start_unix = 1; uint64 sequence = 2; }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Ack {
    /// The `start_unix` of that message.
    #[prost(uint64, tag = "1")]
    pub start_unix: u64,
    /// The `sequence` of that message.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
}

/// The trust bundle changed.
///
/// ```proto
/// message Bundle { string bundle_pem = 1; }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Bundle {
    /// All roots to trust from now on, PEM.
    #[prost(string, tag = "1")]
    pub bundle_pem: String,
}

/// The certificates that are revoked: all of them, each time; after the [`Welcome`] and after each change. Whoever
/// does not believe it keeps the last one that it believed.
///
/// ```proto
/// message Crl { repeated SignedList lists = 1; }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Crl {
    /// One of each CA that has certificates; they say the same.
    #[prost(message, repeated, tag = "1")]
    pub lists: Vec<SignedList>,
}

/// A list of what is revoked, as one CA signed it.
///
/// ```proto
/// message SignedList { bytes crl_der = 1; bytes issuer_der = 2; }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct SignedList {
    /// X.509 CRL, DER.
    #[prost(bytes = "vec", tag = "1")]
    pub crl_der: Vec<u8>,
    /// The certificate of the CA, DER.
    #[prost(bytes = "vec", tag = "2")]
    pub issuer_der: Vec<u8>,
}

/// Which connections does the proxy have? It answers with [`Connections`], of which the last one says so; an older proxy
/// does not answer.
///
/// ```proto
/// message ListConnections { uint64 id = 1; uint32 remember_seconds = 2; }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct ListConnections {
    /// To be repeated in the answer.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// For so long, connections that close are to be remembered for the next such question; 0 asks for nothing more.
    #[prost(uint32, tag = "2")]
    pub remember_seconds: u32,
}

/// A page of a proxy's connections: the open ones, and those that closed while it remembered them.
///
/// ```proto
/// message Connections {
///   uint64 id = 1; repeated Connection connections = 2; bool last = 3; string identity = 4; uint64 missed = 5;
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Connections {
    /// The question's.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// At most [`crate::CONNECTIONS_MAX`].
    #[prost(message, repeated, tag = "2")]
    pub connections: Vec<Connection>,
    /// There is no page after this one.
    #[prost(bool, tag = "3")]
    pub last: bool,
    /// The proxy's own SPIFFE id.
    #[prost(string, tag = "4")]
    pub identity: String,
    /// Connections that it could not remember; said once, on the last page.
    #[prost(uint64, tag = "5")]
    pub missed: u64,
}

/// One TCP connection of a proxy.
///
/// ```proto
/// message Connection {
///   string local = 1; string remote = 2; bool accepted = 3; uint32 version = 4; uint32 cipher = 5; uint32 group = 6;
///   string peer = 7; uint64 opened_unix = 8; bool closed = 9;
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Connection {
    /// Its end here, `ADDRESS:PORT`.
    #[prost(string, tag = "1")]
    pub local: String,
    /// Its other end.
    #[prost(string, tag = "2")]
    pub remote: String,
    /// The other end opened it.
    #[prost(bool, tag = "3")]
    pub accepted: bool,
    /// TLS's number of the version, e.g. 0x0304; 0 without TLS.
    #[prost(uint32, tag = "4")]
    pub version: u32,
    /// TLS's number of the cipher suite.
    #[prost(uint32, tag = "5")]
    pub cipher: u32,
    /// TLS's number of the key exchange's group.
    #[prost(uint32, tag = "6")]
    pub group: u32,
    /// The other end's SPIFFE id, as verified; empty if it showed none.
    #[prost(string, tag = "7")]
    pub peer: String,
    /// When it was opened, in unix seconds.
    #[prost(uint64, tag = "8")]
    pub opened_unix: u64,
    /// It is over.
    #[prost(bool, tag = "9")]
    pub closed: bool,
}

/// The control plane ends the stream on purpose; trying again at once is of no use.
///
/// ```proto
/// message Refused { string reason = 1; }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Refused {
    /// A sentence for the operator of the proxy.
    #[prost(string, tag = "1")]
    pub reason: String,
}

impl From<up::Message> for Up {
    fn from(message: up::Message) -> Up {
        Up { message: Some(message) }
    }
}

impl From<down::Message> for Down {
    fn from(message: down::Message) -> Down {
        Down { message: Some(message) }
    }
}

macro_rules! wrapped {
    ($outer:ident, $module:ident: $($kind:ident),+) => { $(
        impl From<$kind> for $outer {
            fn from(message: $kind) -> $outer {
                $module::Message::$kind(message).into()
            }
        }
    )+ };
}
wrapped!(Up, up: Hello, Buckets, Leave, Health, Kept, Connections);
wrapped!(Down, down: Welcome, Ack, Bundle, Refused, Crl, ListConnections);

#[cfg(test)]
mod tests;

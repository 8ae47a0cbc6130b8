//! Where connections come in: listeners, filter chains, TLS towards the caller, filters, access logs.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{ConnectionLife, Http2Options, NetworkRbac, Rbac, RouteConfig, SanMatch, Stamp};

#[derive(Debug, Clone)]
pub struct Listener {
    pub name: Arc<str>,
    /// None for an ApiListener (a proxyless client's), and for datagrams, which have theirs in `udp`.
    pub address: Option<SocketAddr>,
    /// Where the address is `::`, callers by IPv4 come in too.
    pub ipv4_compat: bool,
    /// False: no socket of its own, it takes over what a `use_original_dst` listener hands it.
    pub bind_to_port: bool,
    /// Connections go to the listener of their original destination, if there is one; else they stay here.
    pub use_original_dst: bool,
    /// `envoy.filters.listener.tls_inspector` is there: peek for TLS, SNI and ALPN.
    pub tls_inspector: bool,
    /// `envoy.filters.listener.http_inspector` is there.
    pub http_inspector: bool,
    /// `envoy.filters.listener.proxy_protocol`, or our own filter of that name, is there: connections begin with a
    /// PROXY header.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// `envoy.filters.listener.original_dst` is there: read the destination before the redirect.
    pub original_dst: bool,
    pub listener_filters_timeout: Option<Duration>,
    pub continue_on_listener_filters_timeout: bool,
    pub chains: Vec<Arc<FilterChain>>,
    pub default_chain: Option<Arc<FilterChain>>,
    /// It takes datagrams, and there are no chains.
    pub udp: Option<Arc<UdpConfig>>,
    pub stamp: Option<Arc<Stamp>>,
}

/// `envoy.filters.udp_listener.udp_proxy`: datagrams of one source go to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpConfig {
    pub address: SocketAddr,
    pub cluster: Arc<str>,
    /// A source that neither sends nor gets anything for so long is forgotten.
    pub idle_timeout: Duration,
}

/// Which PROXY headers a listener takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Who is believed: connections from there begin with a header, all others are their own from the first byte.
    /// None: everybody, as in Envoy.
    pub from: Option<Arc<[IpNet]>>,
    /// A connection without a header is served too, with its own addresses.
    pub optional: bool,
    pub takes_v1: bool,
    pub takes_v2: bool,
}

/// A version of the PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    V1,
    V2,
}

#[derive(Debug, Clone)]
pub struct FilterChain {
    /// As configured, else `LISTENER/chain`, and of what it matches: its place among others says nothing of it.
    pub name: Arc<str>,
    pub matches: ChainMatch,
    pub tls: Option<Arc<DownstreamTls>>,
    /// Checked before the filter; in order.
    pub network_rbac: Vec<NetworkRbac>,
    pub filter: NetworkFilter,
    pub transport_socket_connect_timeout: Option<Duration>,
    pub stamp: Option<Arc<Stamp>>,
}

/// What a connection must look like for the chain. Empty = any.
#[derive(Debug, Clone, Default)]
pub struct ChainMatch {
    pub destination_port: Option<u16>,
    pub prefix_ranges: Vec<IpNet>,
    pub server_names: Vec<ServerName>,
    pub transport_protocol: Option<TransportProtocol>,
    pub application_protocols: Vec<Arc<[u8]>>,
    pub source: SourceType,
    pub source_prefix_ranges: Vec<IpNet>,
    /// Of the connection's other end, whatever a PROXY header says.
    pub direct_source_prefix_ranges: Vec<IpNet>,
    pub source_ports: Vec<u16>,
}

impl FilterChain {
    /// Whether a connection that a chain of this name took, under these terms, may stay: no less was asked of its client,
    /// and it comes from where this one takes connections from.
    pub fn keeps(&self, terms: Option<&Arc<DownstreamTls>>, source: IpAddr, direct: IpAddr) -> bool {
        let asked_as_much = match (terms, &self.tls) {
            (Some(then), Some(now)) => Arc::ptr_eq(then, now) || now.client.asks_no_more_than(&then.client),
            (then, now) => then.is_none() && now.is_none(),
        };
        let among = |ranges: &[IpNet], address: IpAddr| {
            ranges.is_empty() || ranges.iter().any(|range| range.contains(&address.to_canonical()))
        };
        asked_as_much
            && among(&self.matches.source_prefix_ranges, source)
            && among(&self.matches.direct_source_prefix_ranges, direct)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerName {
    Exact(Arc<str>),
    /// `*.example.com`, kept as `.example.com`.
    Suffix(Arc<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SourceType {
    #[default]
    Any,
    SameIpOrLoopback,
    External,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportProtocol {
    Tls,
    RawBuffer,
}

#[derive(Debug, Clone)]
pub enum NetworkFilter {
    Http(Arc<HttpConfig>),
    Tcp(Arc<TcpConfig>),
}

impl NetworkFilter {
    pub fn is_http(&self) -> bool {
        matches!(self, NetworkFilter::Http(_))
    }
}

#[derive(Debug, Clone, Default)]
pub struct DownstreamTls {
    pub certificates: CertificateSource,
    pub client: ClientCertificate,
    pub alpn: Vec<Arc<[u8]>>,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub enum ClientCertificate {
    #[default]
    NotAsked,
    /// Checked when given.
    Optional(Validation),
    Required(Validation),
}

impl ClientCertificate {
    /// Whether who was taken by `then` is taken by this too.
    fn asks_no_more_than(&self, then: &ClientCertificate) -> bool {
        use ClientCertificate::{NotAsked, Optional, Required};
        match (then, self) {
            (_, NotAsked) => true,
            (Required(then), Required(now) | Optional(now)) | (Optional(then), Optional(now)) => {
                let fewer = now.names.is_empty()
                    || !then.names.is_empty() && then.names.iter().all(|name| now.names.contains(name));
                then.ca == now.ca && fewer
            }
            (NotAsked, _) | (Optional(_), Required(_)) => false,
        }
    }
}

/// Whose certificate is shown.
#[derive(Debug, Clone, Default)]
pub enum CertificateSource {
    #[default]
    None,
    /// SDS secret name; `default` is the proxy's own SVID.
    Sds(Arc<str>),
    /// A certificate provider instance of the bootstrap (gRPC clients).
    Provider {
        instance: Arc<str>,
        certificate: Arc<str>,
    },
    Inline(Vec<Certificate>),
    /// Another one than the proxy's own, for a server outside the mesh.
    Secret(NamedSecret),
}

/// A secret that comes over the same stream, by its name.
#[derive(Debug, Clone)]
pub struct NamedSecret {
    pub name: Arc<str>,
    /// None: it is not here, and without it there is no connection.
    pub certificate: Option<Arc<Certificate>>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    pub chain: DataSource,
    pub key: DataSource,
}

// By hand: the key must not reach a log or a page by way of `{:?}`.
impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("chain", &self.chain).field("key", &"[secret]").finish()
    }
}

/// A secret as received.
#[derive(Debug, Clone)]
pub struct Secret {
    pub name: Arc<str>,
    pub certificate: Arc<Certificate>,
}

/// Which certificates of the other side are taken.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Validation {
    pub ca: CaSource,
    /// At least one subject alternative name must fit one of these. Empty: any name of the trust roots.
    pub names: Vec<SanMatch>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub enum CaSource {
    /// No trust roots: the other side is not checked.
    #[default]
    None,
    /// SDS secret name; `ROOTCA` is the bundle of the proxy's own identity.
    Sds(Arc<str>),
    Provider {
        instance: Arc<str>,
        certificate: Arc<str>,
    },
    Inline(DataSource),
    /// The trust roots of the machine.
    System,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSource {
    File(PathBuf),
    Bytes(Arc<[u8]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TlsVersion {
    /// Not set: whoever builds the TLS config decides.
    #[default]
    Auto,
    V1_2,
    V1_3,
}

#[derive(Debug, Clone)]
pub struct HttpConfig {
    pub stat_prefix: Arc<str>,
    pub codec: Codec,
    pub routes: RouteSource,
    /// In order; the router, always last, is not listed.
    pub filters: Vec<HttpFilter>,
    pub access_log: Vec<AccessLogConfig>,
    pub path: PathPolicy,
    pub underscores: Underscores,
    pub strip_port: StripPort,
    pub upgrades: Upgrades,
    pub timeouts: HttpTimeouts,
    pub limits: HttpLimits,
    pub server_name: Option<Arc<str>>,
    pub server_header: ServerHeader,
    /// The peer's address is the client's (an edge); else X-Forwarded-For is believed.
    pub use_remote_address: bool,
    pub xff_trusted_hops: u32,
    pub skip_xff_append: bool,
    pub via: Option<Arc<str>>,
    pub request_id: RequestIdPolicy,
    pub forward_client_cert: ForwardClientCert,
    /// None: a connection manager has no metadata; the chain's stamp stands for it.
    pub stamp: Option<Arc<Stamp>>,
}

/// What becomes of header fields with a `_` in their names. Many an app reads `x_role` and `x-role` as one, while
/// policies and other proxies tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Underscores {
    /// They are names like others.
    #[default]
    Allow,
    /// The request is refused.
    Refuse,
    /// The field goes, the request goes on.
    Drop,
}

#[derive(Debug, Clone)]
pub enum RouteSource {
    /// Inside the listener. `key` is how `RoutingTable::routes` finds its bound form.
    Inline { key: Arc<str>, config: Arc<RouteConfig> },
    /// By name, from the route discovery.
    Rds(Arc<str>),
}

impl RouteSource {
    /// The name to ask `RoutingTable::routes` with.
    pub fn key(&self) -> &Arc<str> {
        match self {
            RouteSource::Inline { key, .. } => key,
            RouteSource::Rds(name) => name,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// Told by ALPN, else by the first bytes.
    #[default]
    Auto,
    Http1,
    Http2,
}

#[derive(Debug, Clone)]
pub enum HttpFilter {
    Rbac(HttpRbac),
    /// `envoy.filters.http.grpc_web`: requests in gRPC-Web go on as gRPC. Filters behind it see them as such.
    GrpcWeb,
}

impl HttpFilter {
    /// Its rules, if it is one that refuses.
    pub fn rbac(&self) -> Option<&HttpRbac> {
        match self {
            HttpFilter::Rbac(rbac) => Some(rbac),
            HttpFilter::GrpcWeb => None,
        }
    }
}

/// One `envoy.filters.http.rbac`.
#[derive(Debug, Clone)]
pub struct HttpRbac {
    /// None: nothing is enforced.
    pub rules: Option<Arc<Rbac>>,
    /// Decided and reported, never enforced.
    pub shadow: Option<Arc<Rbac>>,
    pub stat_prefix: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathPolicy {
    pub merge_slashes: bool,
    pub escaped_slashes: EscapedSlashes,
}

/// What happens to `%2F` and `%5C` in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EscapedSlashes {
    #[default]
    Keep,
    /// 400.
    Refuse,
    UnescapeAndForward,
    UnescapeAndRedirect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StripPort {
    #[default]
    Keep,
    /// Only where it is the listener's own port.
    Matching,
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Upgrades {
    pub websocket: bool,
    pub connect: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HttpTimeouts {
    /// Of a connection without streams.
    pub idle: Option<Duration>,
    pub stream_idle: Option<Duration>,
    pub request_headers: Option<Duration>,
    pub max_stream: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HttpLimits {
    pub head_kib_max: Option<u32>,
    pub headers_max: Option<u32>,
    pub life: ConnectionLife,
    pub http2: Http2Options,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerHeader {
    #[default]
    Overwrite,
    AppendIfAbsent,
    PassThrough,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestIdPolicy {
    pub generate: bool,
    pub preserve_external: bool,
    pub in_response: bool,
}

impl Default for RequestIdPolicy {
    fn default() -> Self {
        RequestIdPolicy { generate: true, preserve_external: false, in_response: false }
    }
}

/// What becomes of `x-forwarded-client-cert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardClientCert {
    #[default]
    Sanitize,
    ForwardOnly,
    AppendForward,
    SanitizeSet,
    AlwaysForwardOnly,
}

#[derive(Debug, Clone)]
pub struct TcpConfig {
    pub stat_prefix: Arc<str>,
    pub clusters: super::ClusterChoice,
    pub access_log: Vec<AccessLogConfig>,
    pub idle_timeout: Option<Duration>,
    /// At least 1.
    pub connect_attempts_max: u32,
    /// The authority of the CONNECT by which a connection goes to the upstream. None: as it is.
    pub tunnel: Option<http::uri::Authority>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AccessLogConfig {
    pub target: AccessLogTarget,
    pub format: AccessLogFormat,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogTarget {
    Stdout,
    Stderr,
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq)]
pub enum AccessLogFormat {
    /// Envoy's default line.
    Default,
    /// Envoy's format text with `%COMMAND%`s.
    Text(Arc<str>),
    /// Object whose string values are format texts.
    Json(serde_json::Value),
}

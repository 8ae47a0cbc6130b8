//! Where a request goes: route configurations, virtual hosts, routes, retries, header edits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use regex::Regex;

use super::{HeaderMatch, QueryMatch, Stamp};
use crate::matcher::RouteIndex;

type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Built by `route_config()`; asked by `RouteConfig::find`.
#[derive(Debug, Clone, Default)]
pub struct RouteConfig {
    pub name: Arc<str>,
    pub vhosts: Vec<VirtualHost>,
    pub edits: HeaderEdits,
    pub ignore_port_in_host_matching: bool,
    /// From outermost (route configuration) to innermost, or the other way round: `most_specific_header_mutations_wins`.
    pub most_specific_edits_win: bool,
    /// Every cluster that a route names, once; `ClusterRef` is an index into this.
    pub cluster_names: Vec<Arc<str>>,
    pub(crate) domains: Domains,
}

impl RouteConfig {
    /// Every request to it is a 404.
    pub fn without_routes(name: Arc<str>) -> RouteConfig {
        RouteConfig { name, ..RouteConfig::default() }
    }
}

/// Index of domains, all lower case.
#[derive(Debug, Clone, Default)]
pub(crate) struct Domains {
    pub exact: FastMap<Box<str>, u32>,
    /// `*.x` by `.x`, longest first.
    pub suffixes: Vec<(Box<str>, u32)>,
    /// `x.*` by `x.`, longest first.
    pub prefixes: Vec<(Box<str>, u32)>,
    pub any: Option<u32>,
}

#[derive(Debug, Clone)]
pub struct VirtualHost {
    pub name: Arc<str>,
    pub domains: Vec<Arc<str>>,
    pub routes: Vec<Arc<Route>>,
    /// Of `routes`, which stay as they are.
    pub(crate) index: RouteIndex,
    pub edits: HeaderEdits,
    pub require_tls: RequireTls,
    /// Adds `x-envoy-attempt-count` to what is sent upstream.
    pub attempt_count_in_request: bool,
    pub attempt_count_in_response: bool,
    pub stamp: Option<Arc<Stamp>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequireTls {
    #[default]
    No,
    /// Requests without TLS from elsewhere get a redirect.
    ExternalOnly,
    All,
}

#[derive(Debug, Clone)]
pub struct Route {
    /// `NS/ROUTE#RULE`, for metrics and logs.
    pub name: Arc<str>,
    pub matcher: RouteMatch,
    pub action: RouteAction,
    pub edits: HeaderEdits,
    pub stamp: Option<Arc<Stamp>>,
}

#[derive(Debug, Clone)]
pub struct RouteMatch {
    pub path: PathMatch,
    pub ignore_case: bool,
    pub headers: Vec<HeaderMatch>,
    pub query: Vec<QueryMatch>,
    /// Only requests with `content-type: application/grpc*`.
    pub grpc: bool,
    /// Of the connection's TLS: None = any.
    pub tls_presented: Option<bool>,
    pub tls_validated: Option<bool>,
    /// Share of the requests that match, in millionths; 1,000,000 = all.
    pub fraction_millionths: u32,
}

#[derive(Debug, Clone)]
pub enum PathMatch {
    Prefix(Arc<str>),
    Exact(Arc<str>),
    /// Anchored; over the path without its query.
    Regex(Regex),
    /// The path is this, or goes on after it with `/`.
    SeparatedPrefix(Arc<str>),
    /// Only CONNECT (and extended CONNECT).
    Connect,
}

#[derive(Debug, Clone)]
pub enum RouteAction {
    Forward(Forward),
    Redirect(Redirect),
    Respond(DirectResponse),
    /// For servers without a proxy: never forwards.
    NonForwarding,
}

#[derive(Debug, Clone)]
pub struct Forward {
    pub clusters: ClusterChoice,
    /// When the chosen cluster is not there: 503 or 404.
    pub cluster_not_found: StatusCode,
    pub path: PathRewrite,
    pub host: HostRewrite,
    /// Sends the original host as `x-forwarded-host` when it is rewritten.
    pub append_x_forwarded_host: bool,
    /// Until the response is complete. None: not set (15 s); zero: no limit.
    pub timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub max_stream: Option<Duration>,
    pub retry: Option<Arc<RetryPolicy>>,
    pub mirrors: Vec<Mirror>,
    pub upgrades: RouteUpgrades,
    pub priority: RoutingPriority,
}

/// A cluster by its index in `RouteConfig::cluster_names`; `RoutingTable` binds it to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterRef(pub u32);

#[derive(Debug, Clone)]
pub enum ClusterChoice {
    One {
        name: Arc<str>,
        cluster: ClusterRef,
    },
    /// By weight; `pick` takes a random number.
    Weighted {
        clusters: Vec<WeightedCluster>,
        total: u64,
    },
    /// By a request's header.
    Header(HeaderName),
}

#[derive(Debug, Clone)]
pub struct WeightedCluster {
    pub name: Arc<str>,
    pub cluster: ClusterRef,
    pub weight: u32,
    pub edits: HeaderEdits,
    pub host: HostRewrite,
}

#[derive(Debug, Clone)]
pub struct Mirror {
    pub name: Arc<str>,
    pub cluster: ClusterRef,
    pub fraction_millionths: u32,
}

#[derive(Debug, Clone, Default)]
pub enum PathRewrite {
    #[default]
    Keep,
    /// The matched prefix (or path) is replaced.
    Prefix(Arc<str>),
    /// First to last match, `\1` in the substitution already turned into `${1}`.
    Regex { pattern: Regex, substitution: Arc<str> },
}

#[derive(Debug, Clone, Default)]
pub enum HostRewrite {
    #[default]
    Keep,
    Literal(HeaderValue),
    /// The endpoint's hostname (STRICT_DNS and LOGICAL_DNS).
    Auto,
    Header(HeaderName),
    /// On the path, without its query.
    PathRegex {
        pattern: Regex,
        substitution: Arc<str>,
    },
}

/// None: the listener's word counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteUpgrades {
    pub websocket: Option<bool>,
    pub connect: Option<ConnectMode>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectMode {
    Refused,
    /// CONNECT ends here; its payload goes on as TCP.
    Terminate,
    /// CONNECT goes on as a CONNECT.
    Forward,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RoutingPriority {
    #[default]
    Default,
    High,
}

#[derive(Debug, Clone)]
pub struct Redirect {
    pub status: StatusCode,
    pub scheme: Option<Arc<str>>,
    pub host: Option<Arc<str>>,
    pub port: Option<u16>,
    pub path: RedirectPath,
    pub strip_query: bool,
}

#[derive(Debug, Clone, Default)]
pub enum RedirectPath {
    #[default]
    Keep,
    /// With a query of its own, if it has one.
    Full(Arc<str>),
    Prefix(Arc<str>),
    Regex {
        pattern: Regex,
        substitution: Arc<str>,
    },
}

#[derive(Debug, Clone)]
pub struct DirectResponse {
    pub status: StatusCode,
    pub body: Arc<[u8]>,
}

#[derive(Debug, Clone, Default)]
pub struct HeaderEdits {
    pub request: Vec<HeaderEdit>,
    pub response: Vec<HeaderEdit>,
}

#[derive(Debug, Clone)]
pub enum HeaderEdit {
    Remove(HeaderName),
    Add { name: HeaderName, value: EditValue, action: EditAction },
}

#[derive(Debug, Clone)]
pub enum EditValue {
    Literal(HeaderValue),
    /// Parts joined; the proxy fills the commands in.
    Format(Arc<[EditPart]>),
}

/// A piece of a header value with `%COMMAND%`s. Only what is listed is taken, the rest is a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditPart {
    Text(Arc<str>),
    DownstreamRemoteAddress,
    DownstreamRemoteAddressWithoutPort,
    DownstreamLocalAddress,
    DownstreamPeerUriSan,
    UpstreamHost,
    Protocol,
    Hostname,
    /// `%REQ(NAME)%`.
    Request(HeaderKeyOwned),
}

/// Same as `HeaderKey`; named here so that edits need no lookup by text.
pub type HeaderKeyOwned = super::HeaderKey;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EditAction {
    #[default]
    Append,
    AddIfAbsent,
    /// Replace, or add where there is none.
    Overwrite,
    /// Replace only where there is one.
    OverwriteIfExists,
}

/// When and how often a failed try may be made again.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    pub on: RetryOn,
    /// For `retriable-status-codes`.
    pub statuses: Vec<StatusCode>,
    /// Further tries after the first.
    pub retries_max: u32,
    pub per_try_timeout: Option<Duration>,
    pub backoff_base: Duration,
    pub backoff_max: Duration,
}

/// The words of `retry_on`, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct RetryOn(pub u32);

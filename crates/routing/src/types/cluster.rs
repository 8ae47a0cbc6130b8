//! Where a request ends: clusters, TLS towards the upstream, endpoints, their health.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use super::{
    Certificate, CertificateSource, ConnectionLife, HeaderEdit, Http2Options, NamedSecret, ProxyVersion,
    Stamp, TlsVersion, Validation,
};

#[derive(Debug, Clone)]
pub struct Cluster {
    pub name: Arc<str>,
    pub kind: ClusterKind,
    pub balance: BalancePolicy,
    /// Below this share of healthy endpoints, in percent, all of them are used.
    pub panic_threshold_percent: f64,
    pub connect_timeout: Duration,
    pub tls: Option<Arc<UpstreamTls>>,
    /// Connections begin with a PROXY header, before TLS. Such a connection is one caller's alone.
    pub proxy_protocol: Option<ProxyVersion>,
    pub http: UpstreamHttp,
    /// For the default priority; None where not set.
    pub limits: CircuitBreakers,
    pub health_checks: Vec<HealthCheck>,
    pub outlier: Option<OutlierDetection>,
    pub dns: DnsSettings,
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Idle connections close when the endpoint turns unhealthy.
    pub close_connections_on_health_failure: bool,
    pub stamp: Option<Arc<Stamp>>,
}

impl Cluster {
    /// The secret that it shows to its endpoints, if it is one by name.
    pub fn secret(&self) -> Option<&NamedSecret> {
        match &self.tls.as_ref()?.certificates {
            CertificateSource::Secret(secret) => Some(secret),
            _ => None,
        }
    }

    /// The same with another certificate under that name, or without one.
    #[must_use]
    pub fn with_secret(&self, certificate: Option<Arc<Certificate>>) -> Cluster {
        let mut cluster = self.clone();
        if let Some(tls) = &mut cluster.tls
            && let CertificateSource::Secret(secret) = &mut Arc::make_mut(tls).certificates
        {
            secret.certificate = certificate;
        }
        cluster
    }
}

#[derive(Debug, Clone)]
pub enum ClusterKind {
    /// Endpoints by discovery, under this name.
    Eds {
        service_name: Arc<str>,
    },
    Static(Arc<Endpoints>),
    /// Every address of each name is an endpoint.
    StrictDns(Arc<Endpoints>),
    /// The first address counts, at connect time.
    LogicalDns(Arc<Endpoints>),
    /// The address the caller asked for.
    OriginalDst,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BalancePolicy {
    #[default]
    RoundRobin,
    /// The better of `choices` random ones.
    LeastRequest {
        choices: u32,
    },
    Random,
    /// Only with `ClusterKind::OriginalDst`.
    ClusterProvided,
}

#[derive(Debug, Clone, Default)]
pub struct UpstreamTls {
    pub sni: Option<Arc<str>>,
    pub certificates: CertificateSource,
    pub validation: Validation,
    pub alpn: Vec<Arc<[u8]>>,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamHttp {
    pub protocol: UpstreamProtocol,
    pub idle_timeout: Option<Duration>,
    pub max_stream: Option<Duration>,
    pub life: ConnectionLife,
    pub http2: Http2Options,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamProtocol {
    #[default]
    Http1,
    Http2,
    /// By ALPN.
    Auto,
    /// The caller's.
    Downstream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CircuitBreakers {
    pub default: Thresholds,
    pub high: Thresholds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    pub connections_max: u32,
    pub pending_max: u32,
    pub requests_max: u32,
    pub retries_max: u32,
    /// Replaces `retries_max`.
    pub retry_budget: Option<RetryBudgetLimits>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudgetLimits {
    pub percent: u32,
    pub concurrency_min: u32,
}

impl Default for Thresholds {
    /// Envoy's defaults.
    fn default() -> Self {
        Thresholds {
            connections_max: 1024,
            pending_max: 1024,
            requests_max: 1024,
            retries_max: 3,
            retry_budget: None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct HealthCheck {
    pub kind: HealthCheckKind,
    pub timeout: Duration,
    pub interval: Duration,
    pub interval_jitter: Duration,
    pub initial_jitter: Duration,
    pub unhealthy_threshold: u32,
    pub healthy_threshold: u32,
    pub unhealthy_interval: Option<Duration>,
}

#[derive(Debug, Clone)]
pub enum HealthCheckKind {
    Http {
        host: Option<Arc<str>>,
        path: Arc<str>,
        method: Method,
        /// start..end, never empty.
        expected: Vec<(u16, u16)>,
        http2: bool,
        edits: Vec<HeaderEdit>,
    },
    /// Connect is enough, unless `send` and `receive` say more.
    Tcp {
        send: Option<Arc<[u8]>>,
        receive: Vec<Arc<[u8]>>,
    },
    Grpc {
        service: Arc<str>,
        authority: Option<Arc<str>>,
    },
}

impl HealthCheckKind {
    /// True if an HTTP check takes this status as healthy.
    pub fn healthy_status(&self, status: StatusCode) -> bool {
        match self {
            HealthCheckKind::Http { expected, .. } => {
                expected.iter().any(|(start, end)| (*start..*end).contains(&status.as_u16()))
            }
            _ => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutlierDetection {
    /// 0 = off.
    pub consecutive_5xx: u32,
    pub consecutive_gateway_failure: u32,
    pub consecutive_local_origin_failure: u32,
    pub split_local_origin: bool,
    pub interval: Duration,
    pub base_ejection: Duration,
    pub max_ejection: Duration,
    pub max_ejection_percent: u32,
    pub enforcing_consecutive_5xx_percent: u32,
    pub enforcing_consecutive_gateway_failure_percent: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DnsSettings {
    pub refresh: Duration,
    pub respect_ttl: bool,
    pub family: DnsFamily,
}

impl Default for DnsSettings {
    fn default() -> Self {
        DnsSettings { refresh: Duration::from_secs(5), respect_ttl: false, family: DnsFamily::Auto }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsFamily {
    /// IPv6 first, then IPv4.
    #[default]
    Auto,
    V4Only,
    V6Only,
    V4Preferred,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpKeepalive {
    pub probes: Option<u32>,
    pub time: Option<Duration>,
    pub interval: Option<Duration>,
}

/// The endpoints of one cluster, flat: an index into `all` names an endpoint until the next update.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Endpoints {
    /// The EDS name, or the cluster's.
    pub name: Arc<str>,
    /// Ordered by priority.
    pub all: Vec<Arc<Endpoint>>,
    /// `all[priorities[p]]` are the endpoints of priority p.
    pub priorities: Vec<std::ops::Range<usize>>,
    /// Requests dropped on purpose, in millionths, by category.
    pub drops: Vec<(Arc<str>, u32)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    pub address: Address,
    pub hostname: Option<Arc<str>>,
    pub weight: u32,
    pub health: Health,
    pub priority: u32,
    pub locality: Option<Arc<Locality>>,
    pub health_check_port: Option<u16>,
    /// `filter_metadata["weft.dev"]`: workload, version, … ; sorted by key.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
}

impl Endpoint {
    /// A value of `filter_metadata["weft.dev"]`.
    pub fn label(&self, key: &str) -> Option<&Arc<str>> {
        let index = self.labels.binary_search_by(|(name, _)| (**name).cmp(key)).ok()?;
        self.labels.get(index).map(|(_, value)| value)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    Ip(SocketAddr),
    /// To be resolved (STRICT_DNS, LOGICAL_DNS).
    Name {
        host: Arc<str>,
        port: u16,
    },
    /// A Unix socket.
    Pipe(Arc<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Health {
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
    Draining,
    Degraded,
}

impl Health {
    /// True if new requests may go there by the control plane's word.
    pub fn usable(self) -> bool {
        matches!(self, Health::Unknown | Health::Healthy | Health::Degraded)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Locality {
    pub region: Arc<str>,
    pub zone: Arc<str>,
}

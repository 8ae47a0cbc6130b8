//! `TrafficPolicy`: how calls to a target behave.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::proxy_protocol::{AcceptProxyProtocol, ProxyProtocolVersion};
use crate::period::Period;

/// What a policy applies to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// Group of the target: empty for a Service, `gateway.networking.k8s.io` for a route, `weft.dev` for an ExternalService.
    #[serde(default)]
    pub group: String,
    /// Kind of the target: `Service`, `HTTPRoute`, `GRPCRoute`, `TCPRoute` or `ExternalService`.
    #[serde(default = "service_kind")]
    pub kind: String,
    /// Name of the target, in the policy's namespace.
    #[schemars(extend("format" = "dns-subdomain"))]
    pub name: String,
    /// Part of the target: of a Service the name of a port, of a route the name of a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

fn service_kind() -> String {
    "Service".to_owned()
}

/// How calls to a service or by a route behave. Field by field a route's policy wins over its Service's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// What the policy applies to, in its own namespace.
    #[schemars(length(min = 1))]
    pub target_refs: Vec<TargetRef>,
    /// How an endpoint is picked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancing: Option<LoadBalancing>,
    /// How long things may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// When a failed request is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How much may be under way at once, in each proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaking: Option<CircuitBreaking>,
    /// Active checks of each endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// Leaving out endpoints that fail real requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// The PROXY header that each connection to the target begins with: of a Service those of an instance's own proxy to its app, of an ExternalService those of a member's proxy. It names the caller of that proxy. For ports that do not speak HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocolVersion>,
    /// Who is believed when a connection to a Service's proxies begins with a PROXY header; nobody when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_proxy_protocol: Option<AcceptProxyProtocol>,
}

/// How an endpoint is picked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancing {
    /// The rule.
    #[serde(default)]
    pub policy: LoadBalancingPolicy,
}

/// The rule by which an endpoint is picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LoadBalancingPolicy {
    /// One after the other.
    RoundRobin,
    /// The less loaded of two picked at random.
    #[default]
    LeastRequest,
    /// Any.
    Random,
}

/// How long things may take. What is left out stays as the mesh's defaults say; `0s` means no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// From the request to its answer, all tries together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Period>,
    /// A stream or connection without a byte either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Period>,
    /// To open a connection to an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<Period>,
    /// One try at one endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try: Option<Period>,
}

/// When a failed request is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Tries beyond the first, 0 to 10; 1 when no policy of the target says else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub attempts: Option<u32>,
    /// What counts as failed; connect failures and refused streams when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<RetryOn>,
    /// How long one try may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<Period>,
    /// The wait between two tries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
}

impl Retry {
    /// Tries beyond the first.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts.unwrap_or(1)
    }
}

/// A failure that another try may mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// No connection came about.
    ConnectFailure,
    /// The endpoint refused the stream before it read the request.
    RefusedStream,
    /// The connection broke before the answer began.
    Reset,
    /// Any status of 500 and above. Only for methods that may safely be sent twice.
    #[serde(rename = "5xx")]
    ServerError,
    /// 502, 503 or 504.
    GatewayError,
    /// 409.
    #[serde(rename = "retriable-4xx")]
    Retriable4xx,
    /// gRPC status UNAVAILABLE.
    Unavailable,
    /// gRPC status CANCELLED.
    Cancelled,
    /// gRPC status DEADLINE_EXCEEDED.
    DeadlineExceeded,
    /// gRPC status RESOURCE_EXHAUSTED.
    ResourceExhausted,
    /// gRPC status INTERNAL.
    Internal,
}

impl RetryOn {
    /// The word that Envoy's `retry_on` uses, which is also ours.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RetryOn::ConnectFailure => "connect-failure",
            RetryOn::RefusedStream => "refused-stream",
            RetryOn::Reset => "reset",
            RetryOn::ServerError => "5xx",
            RetryOn::GatewayError => "gateway-error",
            RetryOn::Retriable4xx => "retriable-4xx",
            RetryOn::Unavailable => "unavailable",
            RetryOn::Cancelled => "cancelled",
            RetryOn::DeadlineExceeded => "deadline-exceeded",
            RetryOn::ResourceExhausted => "resource-exhausted",
            RetryOn::Internal => "internal",
        }
    }
}

/// The wait between two tries: doubled each time, with jitter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// The first wait.
    #[serde(default = "backoff_base")]
    pub base: Period,
    /// The longest wait.
    #[serde(default = "backoff_max")]
    pub max: Period,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { base: backoff_base(), max: backoff_max() }
    }
}

fn backoff_base() -> Period {
    Period::from_millis(25)
}

fn backoff_max() -> Period {
    Period::from_millis(250)
}

/// How much may be under way at once to the target, in each proxy. Beyond it: 503.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaking {
    /// Connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_pending_requests: Option<u32>,
    /// Requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_requests: Option<u32>,
    /// Second tries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_retries: Option<u32>,
}

/// Active checks of each endpoint, by each proxy that calls it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// Path that must answer 200. Without it, opening a connection is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "http-path"))]
    pub path: Option<String>,
    /// Port to check, at the address where calls go (of a member: its proxy's); the endpoint's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Time between two checks, `100ms` or more.
    #[serde(default = "ten_seconds")]
    pub interval: Period,
    /// How long one check may take.
    #[serde(default = "check_timeout")]
    pub timeout: Period,
    /// Good checks in a row that make an endpoint healthy.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 100))]
    pub healthy_threshold: u32,
    /// Bad checks in a row that make it unhealthy.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_threshold: u32,
}

impl Default for HealthCheck {
    fn default() -> HealthCheck {
        HealthCheck {
            path: None,
            port: None,
            interval: ten_seconds(),
            timeout: check_timeout(),
            healthy_threshold: two(),
            unhealthy_threshold: three(),
        }
    }
}

fn ten_seconds() -> Period {
    Period::from_secs(10)
}

fn check_timeout() -> Period {
    Period::from_secs(1)
}

fn two() -> u32 {
    2
}

fn three() -> u32 {
    3
}

/// Leaving out endpoints that fail real requests, for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Answers of 500 and above in a row that put an endpoint out.
    #[serde(default = "five")]
    #[schemars(range(min = 1))]
    pub consecutive_errors: u32,
    /// Time between two looks.
    #[serde(default = "ten_seconds")]
    pub interval: Period,
    /// How long it is out, times how often it was out before.
    #[serde(default = "half_minute")]
    pub base_ejection_time: Period,
    /// Largest share of endpoints that may be out, in percent.
    #[serde(default = "ten")]
    #[schemars(range(min = 0, max = 100))]
    pub max_ejection_percent: u32,
}

impl Default for OutlierDetection {
    fn default() -> OutlierDetection {
        OutlierDetection {
            consecutive_errors: five(),
            interval: ten_seconds(),
            base_ejection_time: half_minute(),
            max_ejection_percent: ten(),
        }
    }
}

fn five() -> u32 {
    5
}

fn ten() -> u32 {
    10
}

fn half_minute() -> Period {
    Period::from_secs(30)
}

//! What each kind says, as plain data.
//!
//! Doc comments here are user documentation: they become `kubectl explain` text and the reference
//! pages. `format` in a `schemars(extend)` names a check of [`crate::parse`] for the text (on a list
//! or map: for each of its texts). An `Option` is there only where absence means something of its own;
//! everything else has its default here, once.

mod access;
mod core;
mod filter;
mod gateway;
mod grant;
mod grpc;
mod mesh;
mod policy;
mod proxy_protocol;
mod smi;
mod workload;

pub use self::access::{
    AccessAction, AccessFrom, AccessHeader, AccessMode, AccessPolicy, AccessRule, AccessTo,
};
pub use self::core::{IntOrString, Secret, Service, ServicePort, ServiceType};
pub use self::filter::{
    ExtensionRef, Fraction, Header, HeaderModifier, HttpFilter, HttpFilterType, MirrorBackendRef,
    PathModifier, PathModifierType, RequestMirror, RequestRedirect, UrlRewrite,
};
pub use self::gateway::{
    BackendRef, HeaderMatch, HttpMatch, HttpMethod, HttpPathMatch, HttpRetry, HttpRoute, HttpRule,
    HttpTimeouts, ParentRef, PathMatchType, QueryParamMatch, TcpRoute, TcpRule, ValueMatchType,
};
pub use self::grant::{GrantFrom, GrantTo, ReferenceGrant};
pub use self::grpc::{GrpcMatch, GrpcMethodMatch, GrpcMethodMatchType, GrpcRoute, GrpcRule};
pub use self::mesh::{
    AccessLog, AccessLogFormat, Authorization, Certificates, Egress, Mesh, MeshDefaults, Mtls, MtlsMode, Vip,
    Wish,
};
pub use self::policy::{
    Backoff, CircuitBreaking, HealthCheck, LoadBalancing, LoadBalancingPolicy, OutlierDetection, Retry,
    RetryOn, TargetRef, Timeouts, TrafficPolicy,
};
pub use self::proxy_protocol::{AcceptProxyProtocol, ProxyProtocolVersion};
pub use self::smi::{
    HttpGroupMatch, HttpRouteGroup, ServiceAccountRef, SmiPortMatch, SmiPorts, TargetRule, TrafficTarget,
};
pub use self::workload::{
    ExternalEndpoint, ExternalPort, ExternalProtocol, ExternalService, ExternalTls, ExternalTlsMode, Health,
    Lease, Locality, ProxyInfo, ProxyKind, Resolution, SecretRef, Workload, WorkloadPort,
};

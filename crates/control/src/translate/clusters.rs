//! Clusters towards members: mutual TLS to exactly the identities that serve, endpoints by EDS.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream;
use envoy_types::pb::envoy::r#type::v3::Percent;
use upstream::http_protocol_options::explicit_http_config::ProtocolConfig;
use weft_model::{LoadBalancingPolicy, MtlsMode, TrafficPolicy};

use super::proto::{Stamp, ads, any, duration, uint32};
use super::reach::Reach;
use super::view::{ProxyKind, ProxyView};
use super::{Made, endpoints, names, tls, traffic};
use crate::snapshot::{Port, ServiceView, Snapshot};

/// Where requests go whose backend is not there: a cluster without endpoints, so a 503.
pub const NOWHERE: &str = "nowhere";

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Of the retries' budget: this share of the requests under way, and never fewer than that many.
const RETRY_BUDGET_PERCENT: f64 = 20.0;
const RETRIES_MIN: u32 = 10;
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Clusters and endpoints of every member in reach.
pub fn build(made: &mut Made<'_>, reach: &Reach) {
    for id in reach.member_clusters() {
        let Some(service) = made.snapshot.services.get(id).cloned() else { continue };
        for port in &service.ports {
            let cluster = member(made.snapshot, made.view, &service, port);
            made.builder.message(cluster.name.clone(), &cluster);
            let assignment = endpoints::of(made.snapshot, made.view.kind, &service, port);
            made.builder.message(assignment.cluster_name.clone(), &assignment);
        }
    }
    made.builder.message(NOWHERE, &nowhere(NOWHERE.to_owned()));
}

/// A cluster without endpoints: a 503, whoever comes.
pub fn nowhere(name: String) -> cluster::Cluster {
    cluster::Cluster {
        name: name.clone(),
        connect_timeout: Some(duration(Duration::from_secs(1))),
        cluster_discovery_type: Some(of_type(cluster::cluster::DiscoveryType::Static)),
        load_assignment: Some(envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment {
            cluster_name: name,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The cluster of one port of a member service.
pub fn member(snapshot: &Snapshot, view: &ProxyView, service: &ServiceView, port: &Port) -> cluster::Cluster {
    let kind = view.kind;
    let name = names::outbound(&service.id, port.port);
    let policy = traffic::for_service(snapshot, "Service", &service.id, port.name.as_deref());
    let index = service.ports.iter().position(|p| p == port).unwrap_or(0);
    let stamp = Stamp {
        kind: "Service",
        namespace: &service.id.namespace,
        name: &service.id.name,
        field: format!("spec.ports[{index}]"),
        revision: service.revision,
    };
    let http = port.protocol.is_http();
    let mut made = base(snapshot, kind, name.clone(), policy.as_ref(), http.then_some(Spoken::Http2));
    made.cluster_discovery_type = Some(of_type(cluster::cluster::DiscoveryType::Eds));
    made.eds_cluster_config =
        Some(cluster::cluster::EdsClusterConfig { eds_config: Some(ads()), service_name: name });
    made.metadata = Some(stamp.metadata());
    let tunnels = tunnels(snapshot, view, service, port);
    if tunnels {
        made.typed_extension_protocol_options.insert(HTTP_OPTIONS.to_owned(), any(&tunnel_options()));
    }
    if snapshot.mesh.mtls.mode != MtlsMode::Disabled {
        let sni = endpoints::sni(service, port, &snapshot.zone);
        let alpn: &[&str] = if http || tunnels { &["h2"] } else { &[] };
        made.transport_socket = Some(tls::to_member(kind, &identities(snapshot, service), &sni, alpn));
    }
    made
}

/// Whether connections of this view to a TCP port go as CONNECT streams over the few connections that it has with
/// each instance's proxy. All instances must have a proxy of ours; one that takes no tunnels yet (an older one, one
/// whose configuration is on its way) chooses no `h2` by ALPN, and gets the bytes as they are.
pub fn tunnels(snapshot: &Snapshot, view: &ProxyView, service: &ServiceView, port: &Port) -> bool {
    view.tunnels
        && view.kind == ProxyKind::Weft
        && snapshot.mesh.mtls.mode != MtlsMode::Disabled
        && !port.protocol.is_http()
        && service.instances.iter().all(|instance| instance.proxy == weft_model::ProxyKind::Weft)
}

/// HTTP/2 for tunnels. Windows are left to the proxy: what bulk needs is more than requests are given.
fn tunnel_options() -> upstream::HttpProtocolOptions {
    explicit(ProtocolConfig::Http2ProtocolOptions(core::Http2ProtocolOptions {
        allow_connect: true,
        ..Default::default()
    }))
}

/// Who may answer for a service: the identities of its instances; before there are any, the one that
/// its selector means.
fn identities(snapshot: &Snapshot, service: &ServiceView) -> BTreeSet<String> {
    let mut all: BTreeSet<String> =
        service.instances.iter().filter_map(|instance| instance.identity.clone()).collect();
    if all.is_empty() {
        let name = service.app.as_deref().unwrap_or(&service.id.name);
        all.insert(names::identity(&snapshot.trust_domain, &service.id.namespace, name));
    }
    all
}

/// What is spoken to a cluster's endpoints, when it is HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What all clusters have in common.
pub fn base(
    snapshot: &Snapshot,
    kind: ProxyKind,
    name: String,
    policy: Option<&TrafficPolicy>,
    spoken: Option<Spoken>,
) -> cluster::Cluster {
    let defaults = &snapshot.mesh.defaults;
    let timeouts = policy.and_then(|policy| policy.timeouts.as_ref());
    let connect = timeouts.and_then(|t| t.connect).unwrap_or(defaults.connect_timeout);
    let idle = timeouts.and_then(|t| t.idle).unwrap_or(defaults.idle_timeout);
    let balancing = policy.and_then(|p| p.load_balancing.as_ref()).map(|b| b.policy).unwrap_or_default();
    let balancing = if kind == ProxyKind::Grpc { LoadBalancingPolicy::RoundRobin } else { balancing };
    let mut options = HashMap::new();
    if let Some(spoken) = spoken
        && kind != ProxyKind::Grpc
    {
        options.insert(HTTP_OPTIONS.to_owned(), any(&http_options(spoken, idle.get())));
    }
    cluster::Cluster {
        name,
        connect_timeout: Some(duration(connect.get())),
        lb_policy: match balancing {
            LoadBalancingPolicy::RoundRobin => cluster::cluster::LbPolicy::RoundRobin,
            LoadBalancingPolicy::LeastRequest => cluster::cluster::LbPolicy::LeastRequest,
            LoadBalancingPolicy::Random => cluster::cluster::LbPolicy::Random,
        } as i32,
        typed_extension_protocol_options: options,
        circuit_breakers: (kind != ProxyKind::Grpc).then(|| breakers(policy)),
        health_checks: if kind == ProxyKind::Grpc { Vec::new() } else { health_checks(policy, spoken) },
        outlier_detection: if kind == ProxyKind::Grpc { None } else { outlier(policy) },
        ..Default::default()
    }
}

/// Wraps the kind of discovery.
pub fn of_type(kind: cluster::cluster::DiscoveryType) -> cluster::cluster::ClusterDiscoveryType {
    cluster::cluster::ClusterDiscoveryType::Type(kind as i32)
}

fn explicit(protocol: ProtocolConfig) -> upstream::HttpProtocolOptions {
    use upstream::http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions};
    upstream::HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(protocol),
        })),
        ..Default::default()
    }
}

fn http_options(spoken: Spoken, idle: Duration) -> upstream::HttpProtocolOptions {
    let protocol = match spoken {
        Spoken::Http1 => ProtocolConfig::HttpProtocolOptions(core::Http1ProtocolOptions::default()),
        Spoken::Http2 => ProtocolConfig::Http2ProtocolOptions(core::Http2ProtocolOptions {
            initial_stream_window_size: Some(uint32(STREAM_WINDOW)),
            initial_connection_window_size: Some(uint32(CONNECTION_WINDOW)),
            allow_connect: true,
            ..Default::default()
        }),
    };
    upstream::HttpProtocolOptions {
        common_http_protocol_options: Some(core::HttpProtocolOptions {
            idle_timeout: Some(duration(idle)),
            ..Default::default()
        }),
        ..explicit(protocol)
    }
}

fn breakers(policy: Option<&TrafficPolicy>) -> cluster::CircuitBreakers {
    use cluster::circuit_breakers::Thresholds;
    use cluster::circuit_breakers::thresholds::RetryBudget;
    let wanted = policy.and_then(|policy| policy.circuit_breaking.clone()).unwrap_or_default();
    // A number of retries replaces the budget; both at once would be two rules for one thing.
    let budget = wanted.max_retries.is_none().then(|| RetryBudget {
        budget_percent: Some(Percent { value: RETRY_BUDGET_PERCENT }),
        min_retry_concurrency: Some(uint32(RETRIES_MIN)),
        ..Default::default()
    });
    cluster::CircuitBreakers {
        thresholds: vec![Thresholds {
            max_connections: wanted.max_connections.map(uint32),
            max_pending_requests: wanted.max_pending_requests.map(uint32),
            max_requests: wanted.max_requests.map(uint32),
            max_retries: wanted.max_retries.map(uint32),
            retry_budget: budget,
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn health_checks(policy: Option<&TrafficPolicy>, spoken: Option<Spoken>) -> Vec<core::HealthCheck> {
    use core::health_check::{HealthChecker, HttpHealthCheck, TcpHealthCheck};
    let Some(check) = policy.and_then(|policy| policy.health_check.as_ref()) else { return Vec::new() };
    let checker = match (&check.path, spoken) {
        (Some(path), Some(spoken)) => {
            use envoy_types::pb::envoy::r#type::v3::CodecClientType;
            let codec = match spoken {
                Spoken::Http1 => CodecClientType::Http1,
                Spoken::Http2 => CodecClientType::Http2,
            };
            HealthChecker::HttpHealthCheck(HttpHealthCheck {
                path: path.clone(),
                codec_client_type: codec as i32,
                ..Default::default()
            })
        }
        _ => HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
    };
    vec![core::HealthCheck {
        timeout: Some(duration(check.timeout.get())),
        interval: Some(duration(check.interval.get())),
        unhealthy_threshold: Some(uint32(check.unhealthy_threshold)),
        healthy_threshold: Some(uint32(check.healthy_threshold)),
        health_checker: Some(checker),
        ..Default::default()
    }]
}

fn outlier(policy: Option<&TrafficPolicy>) -> Option<cluster::OutlierDetection> {
    let wanted = policy?.outlier_detection.as_ref()?;
    Some(cluster::OutlierDetection {
        consecutive_5xx: Some(uint32(wanted.consecutive_errors)),
        interval: Some(duration(wanted.interval.get())),
        base_ejection_time: Some(duration(wanted.base_ejection_time.get())),
        max_ejection_percent: Some(uint32(wanted.max_ejection_percent)),
        enforcing_consecutive_5xx: Some(uint32(100)),
        ..Default::default()
    })
}

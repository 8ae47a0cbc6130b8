//! Clusters: discovery, load balancing, protocol, limits.

mod health;

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds as PbThresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, LbConfig, LbPolicy,
};
use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::config::core::v3::proxy_protocol_config::Version;
use envoy_types::pb::envoy::config::core::v3::transport_socket;
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as options_pb;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;

use super::endpoint::{Names, endpoints};
use super::reader::Reader;
use super::{core, http, tls};
use crate::fields::type_name;
use crate::types::{
    BalancePolicy, CircuitBreakers, Cluster, ClusterKind, DnsFamily, DnsSettings, Endpoints, ProxyVersion,
    RetryBudgetLimits, TcpKeepalive, Thresholds, UpstreamHttp, UpstreamProtocol, UpstreamTls,
};

/// The one key of `typed_extension_protocol_options` that we know.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub(super) fn cluster(reader: &mut Reader, cluster: &pb::Cluster) -> Option<Cluster> {
    let name = reader.required_text("name", &cluster.name);
    let kind = kind(reader, cluster);
    let balance = balance(reader, cluster, kind.as_ref());
    let connect_timeout = reader.positive_duration("connect_timeout", cluster.connect_timeout.as_ref());
    let mut proxy_protocol = None;
    let tls = match cluster.transport_socket.as_ref() {
        None => Some(None),
        Some(socket) => {
            reader.at("transport_socket", |reader| upstream_socket(reader, socket, Some(&mut proxy_protocol)))
        }
    };
    if proxy_protocol.is_some() && !cluster.typed_extension_protocol_options.is_empty() {
        reader.problem_at(
            "transport_socket",
            "begins connections with a PROXY header, but the cluster is for HTTP, \
             whose connections carry requests of many callers",
        );
    }
    let http = http_options(reader, cluster);
    let family = reader.choice("dns_lookup_family", cluster.dns_lookup_family).map(|family| match family {
        DnsLookupFamily::Auto => DnsFamily::Auto,
        DnsLookupFamily::V4Only => DnsFamily::V4Only,
        DnsLookupFamily::V6Only => DnsFamily::V6Only,
        DnsLookupFamily::V4Preferred => DnsFamily::V4Preferred,
        DnsLookupFamily::All => DnsFamily::All,
    });
    let refresh = reader.positive_duration("dns_refresh_rate", cluster.dns_refresh_rate.as_ref());
    let panic_threshold_percent = panic_threshold(reader, cluster);
    let limits = limits(reader, cluster);
    let keepalive =
        cluster.upstream_connection_options.as_ref().and_then(|options| options.tcp_keepalive.as_ref());
    let seconds = |value: u32| Duration::from_secs(u64::from(value));
    if cluster.health_checks.len() > 1 {
        reader.problem_at("health_checks", "has more than one; one is made");
    }
    Some(Cluster {
        name: name?,
        kind: kind?,
        balance: balance?,
        panic_threshold_percent,
        connect_timeout: connect_timeout.unwrap_or(Duration::from_secs(5)),
        tls: tls?.map(Arc::new),
        proxy_protocol,
        http,
        limits,
        health_checks: reader.list("health_checks", &cluster.health_checks, health::health_check),
        outlier: match cluster.outlier_detection.as_ref() {
            None => None,
            Some(outlier) => reader.at("outlier_detection", |reader| health::outlier(reader, outlier)),
        },
        dns: DnsSettings {
            refresh: refresh.unwrap_or(DnsSettings::default().refresh),
            respect_ttl: cluster.respect_dns_ttl,
            family: family?,
        },
        tcp_keepalive: keepalive.map(|keepalive| TcpKeepalive {
            probes: keepalive.keepalive_probes.as_ref().map(|probes| probes.value),
            time: keepalive.keepalive_time.as_ref().map(|time| seconds(time.value)),
            interval: keepalive.keepalive_interval.as_ref().map(|interval| seconds(interval.value)),
        }),
        close_connections_on_health_failure: cluster.close_connections_on_host_health_failure,
        stamp: core::stamp(cluster.metadata.as_ref()),
    })
}

fn kind(reader: &mut Reader, cluster: &pb::Cluster) -> Option<ClusterKind> {
    let number = match cluster.cluster_discovery_type.as_ref() {
        None => 0,
        Some(ClusterDiscoveryType::Type(number)) => *number,
        // The table has refused it.
        Some(ClusterDiscoveryType::ClusterType(_)) => return None,
    };
    let kind: DiscoveryType = reader.choice("type", number)?;
    if cluster.load_assignment.is_some() && matches!(kind, DiscoveryType::Eds | DiscoveryType::OriginalDst) {
        reader.problem_at("load_assignment", format!("does not go with the type {}", kind.as_str_name()));
    }
    match kind {
        DiscoveryType::Eds => {
            let eds = reader.required("eds_cluster_config", cluster.eds_cluster_config.as_ref())?;
            reader.at("eds_cluster_config", |reader| {
                core::same_stream(reader, "eds_config", eds.eds_config.as_ref());
            });
            let name = if eds.service_name.is_empty() { &cluster.name } else { &eds.service_name };
            Some(ClusterKind::Eds { service_name: name.as_str().into() })
        }
        DiscoveryType::Static => inline(reader, cluster, Names::Refused).map(ClusterKind::Static),
        DiscoveryType::StrictDns => inline(reader, cluster, Names::Resolved).map(ClusterKind::StrictDns),
        DiscoveryType::LogicalDns => {
            let endpoints = inline(reader, cluster, Names::Resolved)?;
            if endpoints.all.len() != 1 {
                reader.problem_at(
                    "load_assignment",
                    format!("must have one endpoint; it has {}", endpoints.all.len()),
                );
            }
            Some(ClusterKind::LogicalDns(endpoints))
        }
        DiscoveryType::OriginalDst => Some(ClusterKind::OriginalDst),
    }
}

/// No endpoints at all are legal: each request finds none.
fn inline(reader: &mut Reader, cluster: &pb::Cluster, names: Names) -> Option<Arc<Endpoints>> {
    let Some(assignment) = cluster.load_assignment.as_ref() else {
        return Some(Arc::new(Endpoints { name: cluster.name.as_str().into(), ..Endpoints::default() }));
    };
    reader.at("load_assignment", |reader| endpoints(reader, assignment, names)).map(Arc::new)
}

fn balance(reader: &mut Reader, cluster: &pb::Cluster, kind: Option<&ClusterKind>) -> Option<BalancePolicy> {
    let original = matches!(kind, Some(ClusterKind::OriginalDst));
    let policy = match reader.choice("lb_policy", cluster.lb_policy)? {
        LbPolicy::RoundRobin => BalancePolicy::RoundRobin,
        LbPolicy::Random => BalancePolicy::Random,
        LbPolicy::LeastRequest => {
            let choices = match cluster.lb_config.as_ref() {
                Some(LbConfig::LeastRequestLbConfig(config)) => {
                    config.choice_count.as_ref().map_or(2, |count| count.value)
                }
                _ => 2,
            };
            if choices < 2 {
                reader.problem_at("least_request_lb_config.choice_count", "must be at least 2");
            }
            BalancePolicy::LeastRequest { choices }
        }
        LbPolicy::ClusterProvided if original => BalancePolicy::ClusterProvided,
        LbPolicy::ClusterProvided => {
            reader.problem_at("lb_policy", "is CLUSTER_PROVIDED, which only goes with ORIGINAL_DST");
            return None;
        }
        other @ (LbPolicy::RingHash | LbPolicy::Maglev | LbPolicy::LoadBalancingPolicyConfig) => {
            reader.problem_at("lb_policy", format!("is {}, which is not done here", other.as_str_name()));
            return None;
        }
    };
    if original && policy != BalancePolicy::ClusterProvided {
        reader.problem_at("lb_policy", "must be CLUSTER_PROVIDED with ORIGINAL_DST");
    }
    Some(policy)
}

/// Some(None): plaintext. `header`: what comes before TLS, where that may still be said.
fn upstream_socket(
    reader: &mut Reader,
    socket: &core_pb::TransportSocket,
    header: Option<&mut Option<ProxyVersion>>,
) -> Option<Option<UpstreamTls>> {
    let Some(transport_socket::ConfigType::TypedConfig(any)) = socket.config_type.as_ref() else {
        reader.problem_at("typed_config", "is required");
        return None;
    };
    reader.at("typed_config", |reader| match type_name(&any.type_url).rsplit('.').next() {
        Some("RawBuffer") => Some(None),
        Some("UpstreamTlsContext") => {
            let context: UpstreamTlsContext = reader.any(any)?;
            tls::upstream(reader, &context).map(Some)
        }
        Some("DownstreamTlsContext") => {
            reader.problem("is a TLS context towards callers; UpstreamTlsContext is wanted");
            None
        }
        Some("ProxyProtocolUpstreamTransport") => {
            let Some(header) = header else {
                reader.problem("stands inside of another one");
                return None;
            };
            let wrapper: ProxyProtocolUpstreamTransport = reader.any(any)?;
            // Absent means version 1, as its number is zero.
            let version = wrapper.config.as_ref().map_or(0, |config| config.version);
            *header =
                reader.at("config", |reader| reader.choice("version", version)).map(
                    |version| match version {
                        Version::V1 => ProxyVersion::V1,
                        Version::V2 => ProxyVersion::V2,
                    },
                );
            let inner = reader.required("transport_socket", wrapper.transport_socket.as_ref())?;
            reader.at("transport_socket", |reader| upstream_socket(reader, inner, None))
        }
        // The table has refused it.
        _ => None,
    })
}

fn http_options(reader: &mut Reader, cluster: &pb::Cluster) -> UpstreamHttp {
    for key in cluster.typed_extension_protocol_options.keys().filter(|key| *key != HTTP_OPTIONS) {
        reader.problem_at(&format!("typed_extension_protocol_options[{key:?}]"), "is not known here");
    }
    let Some(any) = cluster.typed_extension_protocol_options.get(HTTP_OPTIONS) else {
        let mut http = UpstreamHttp::default();
        if let Some(options) = cluster.http2_protocol_options.as_ref() {
            http.protocol = UpstreamProtocol::Http2;
            set_http2(reader, "http2_protocol_options", &mut http, Some(options));
        }
        if let Some(options) = cluster.common_http_protocol_options.as_ref() {
            reader.at("common_http_protocol_options", |reader| set_common(reader, &mut http, options));
        }
        if let Some(limit) = http::requests_max(cluster.max_requests_per_connection.as_ref()) {
            http.life.requests_max = Some(limit);
        }
        return http;
    };
    for (step, set) in [
        ("http_protocol_options", cluster.http_protocol_options.is_some()),
        ("http2_protocol_options", cluster.http2_protocol_options.is_some()),
        ("common_http_protocol_options", cluster.common_http_protocol_options.is_some()),
        ("upstream_http_protocol_options", cluster.upstream_http_protocol_options.is_some()),
        ("max_requests_per_connection", cluster.max_requests_per_connection.is_some()),
    ] {
        if set {
            reader.problem_at(step, format!("does not go with {HTTP_OPTIONS}"));
        }
    }
    reader.at(&format!("typed_extension_protocol_options[{HTTP_OPTIONS:?}]"), |reader| {
        match reader.any::<options_pb::HttpProtocolOptions>(any) {
            Some(options) => typed_options(reader, &options),
            None => UpstreamHttp::default(),
        }
    })
}

fn typed_options(reader: &mut Reader, options: &options_pb::HttpProtocolOptions) -> UpstreamHttp {
    let mut http = UpstreamHttp::default();
    match options.upstream_protocol_options.as_ref() {
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => {
            reader.at("explicit_http_config", |reader| match explicit.protocol_config.as_ref() {
                Some(ProtocolConfig::HttpProtocolOptions(_)) => http.protocol = UpstreamProtocol::Http1,
                Some(ProtocolConfig::Http2ProtocolOptions(options)) => {
                    http.protocol = UpstreamProtocol::Http2;
                    set_http2(reader, "http2_protocol_options", &mut http, Some(options));
                }
                // The table has refused it.
                Some(ProtocolConfig::Http3ProtocolOptions(_)) => {}
                None => reader.problem("needs http_protocol_options or http2_protocol_options"),
            });
        }
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => {
            http.protocol = UpstreamProtocol::Downstream;
            let step = "use_downstream_protocol_config.http2_protocol_options";
            set_http2(reader, step, &mut http, config.http2_protocol_options.as_ref());
        }
        Some(UpstreamProtocolOptions::AutoConfig(config)) => {
            http.protocol = UpstreamProtocol::Auto;
            set_http2(
                reader,
                "auto_config.http2_protocol_options",
                &mut http,
                config.http2_protocol_options.as_ref(),
            );
        }
        None => reader.problem("needs explicit_http_config, use_downstream_protocol_config or auto_config"),
    }
    if let Some(common) = options.common_http_protocol_options.as_ref() {
        reader.at("common_http_protocol_options", |reader| set_common(reader, &mut http, common));
    }
    http
}

fn set_http2(
    reader: &mut Reader,
    step: &str,
    http: &mut UpstreamHttp,
    options: Option<&core_pb::Http2ProtocolOptions>,
) {
    http.http2 = http::http2(reader, step, options);
}

fn set_common(reader: &mut Reader, http: &mut UpstreamHttp, options: &core_pb::HttpProtocolOptions) {
    http.idle_timeout = reader.duration("idle_timeout", options.idle_timeout.as_ref());
    http.max_stream = reader.duration("max_stream_duration", options.max_stream_duration.as_ref());
    http.life = http::connection_life(reader, options);
}

fn panic_threshold(reader: &mut Reader, cluster: &pb::Cluster) -> f64 {
    let threshold =
        cluster.common_lb_config.as_ref().and_then(|config| config.healthy_panic_threshold.as_ref());
    let percent = threshold.map_or(50.0, |threshold| threshold.value);
    if !(0.0..=100.0).contains(&percent) {
        reader.problem_at(
            "common_lb_config.healthy_panic_threshold",
            format!("is not from 0 to 100: {percent}"),
        );
        return 50.0;
    }
    percent
}

fn limits(reader: &mut Reader, cluster: &pb::Cluster) -> CircuitBreakers {
    let mut limits = CircuitBreakers::default();
    let Some(breakers) = cluster.circuit_breakers.as_ref() else {
        return limits;
    };
    reader.at("circuit_breakers", |reader| {
        reader.list("thresholds", &breakers.thresholds, |reader, found| {
            let read = thresholds(reader, found);
            match reader.choice("priority", found.priority)? {
                core_pb::RoutingPriority::Default => limits.default = read,
                core_pb::RoutingPriority::High => limits.high = read,
            }
            Some(())
        });
    });
    limits
}

fn thresholds(reader: &mut Reader, found: &PbThresholds) -> Thresholds {
    let default = Thresholds::default();
    let retry_budget = found.retry_budget.as_ref().and_then(|budget| {
        let percent = budget.budget_percent.as_ref().map_or(20.0, |percent| percent.value);
        if !(0.0..=100.0).contains(&percent) {
            reader.problem_at("retry_budget.budget_percent", format!("is not from 0 to 100: {percent}"));
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 100")]
        let percent = percent.round() as u32;
        let concurrency_min = budget.min_retry_concurrency.as_ref().map_or(3, |min| min.value);
        Some(RetryBudgetLimits { percent, concurrency_min })
    });
    Thresholds {
        connections_max: found.max_connections.as_ref().map_or(default.connections_max, |max| max.value),
        pending_max: found.max_pending_requests.as_ref().map_or(default.pending_max, |max| max.value),
        requests_max: found.max_requests.as_ref().map_or(default.requests_max, |max| max.value),
        retries_max: found.max_retries.as_ref().map_or(default.retries_max, |max| max.value),
        retry_budget,
    }
}

//! The table: clusters, health checks, the options of upstream protocols.

use super::Class::{Harmless, Supported, Warn};
use super::Kind::{Any, Message};
use super::any::UPSTREAM_OPTIONS;
use super::core::{
    BOOL_VALUE, CONFIG_SOURCE, DURATION, HEADER_VALUE_OPTION, INT64_RANGE, METADATA, PERCENT, TCP_KEEPALIVE,
    TRANSPORT_SOCKET, UINT32_VALUE,
};
use super::endpoint::CLUSTER_LOAD_ASSIGNMENT;
use super::http::{HTTP_PROTOCOL_OPTIONS, HTTP1_PROTOCOL_OPTIONS, HTTP2_PROTOCOL_OPTIONS};
use super::{BYTES, NOT_DONE, OPAQUE, Schema, TEXT, VARINT, many, map, one};

/// Every message of this page.
pub static ALL: &[&Schema] = &[
    &CLUSTER,
    &CLUSTER_EDS_CLUSTER_CONFIG,
    &CLUSTER_COMMON_LB_CONFIG,
    &CLUSTER_LEAST_REQUEST_LB_CONFIG,
    &CIRCUIT_BREAKERS,
    &CIRCUIT_BREAKERS_THRESHOLDS,
    &CIRCUIT_BREAKERS_THRESHOLDS_RETRY_BUDGET,
    &OUTLIER_DETECTION,
    &UPSTREAM_CONNECTION_OPTIONS,
    &HEALTH_CHECK,
    &HEALTH_CHECK_HTTP_HEALTH_CHECK,
    &HEALTH_CHECK_TCP_HEALTH_CHECK,
    &HEALTH_CHECK_GRPC_HEALTH_CHECK,
    &HEALTH_CHECK_PAYLOAD,
    &UPSTREAM_HTTP_OPTIONS,
    &HTTP_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG,
    &HTTP_PROTOCOL_OPTIONS_USE_DOWNSTREAM_HTTP_CONFIG,
    &HTTP_PROTOCOL_OPTIONS_AUTO_HTTP_CONFIG,
    &UPSTREAM_HTTP_PROTOCOL_OPTIONS,
];

pub static CLUSTER: Schema = Schema {
    name: "envoy.config.cluster.v3.Cluster",
    rows: &[
        one(1, "name", Supported, TEXT),
        one(2, "type", Supported, VARINT),
        one(3, "eds_cluster_config", Supported, Message(&CLUSTER_EDS_CLUSTER_CONFIG)),
        one(4, "connect_timeout", Supported, Message(&DURATION)),
        one(
            5,
            "per_connection_buffer_limit_bytes",
            Harmless("buffers have bounds of their own"),
            Message(&UINT32_VALUE),
        ),
        one(6, "lb_policy", Supported, VARINT),
        many(8, "health_checks", Supported, Message(&HEALTH_CHECK)),
        one(9, "max_requests_per_connection", Supported, Message(&UINT32_VALUE)),
        one(10, "circuit_breakers", Supported, Message(&CIRCUIT_BREAKERS)),
        one(13, "http_protocol_options", Supported, Message(&HTTP1_PROTOCOL_OPTIONS)),
        one(14, "http2_protocol_options", Supported, Message(&HTTP2_PROTOCOL_OPTIONS)),
        one(16, "dns_refresh_rate", Supported, Message(&DURATION)),
        one(17, "dns_lookup_family", Supported, VARINT),
        many(18, "dns_resolvers", NOT_DONE, OPAQUE),
        one(19, "outlier_detection", Supported, Message(&OUTLIER_DETECTION)),
        one(20, "cleanup_interval", Harmless("unused endpoints go by our own rule"), OPAQUE),
        one(21, "upstream_bind_config", NOT_DONE, OPAQUE),
        one(22, "lb_subset_config", NOT_DONE, OPAQUE),
        one(23, "ring_hash_lb_config", NOT_DONE, OPAQUE),
        one(24, "transport_socket", Supported, Message(&TRANSPORT_SOCKET)),
        one(25, "metadata", Supported, Message(&METADATA)),
        one(26, "protocol_selection", NOT_DONE, VARINT),
        one(27, "common_lb_config", Supported, Message(&CLUSTER_COMMON_LB_CONFIG)),
        one(28, "alt_stat_name", Harmless("metrics have our own names"), TEXT),
        one(29, "common_http_protocol_options", Supported, Message(&HTTP_PROTOCOL_OPTIONS)),
        one(30, "upstream_connection_options", Supported, Message(&UPSTREAM_CONNECTION_OPTIONS)),
        one(31, "close_connections_on_host_health_failure", Supported, VARINT),
        one(32, "ignore_health_on_host_removal", Harmless("endpoints that are gone get nothing new"), VARINT),
        one(33, "load_assignment", Supported, Message(&CLUSTER_LOAD_ASSIGNMENT)),
        one(34, "original_dst_lb_config", NOT_DONE, OPAQUE),
        map(36, "typed_extension_protocol_options", Supported, Any(UPSTREAM_OPTIONS)),
        one(37, "least_request_lb_config", Supported, Message(&CLUSTER_LEAST_REQUEST_LB_CONFIG)),
        one(38, "cluster_type", NOT_DONE, OPAQUE),
        one(39, "respect_dns_ttl", Supported, VARINT),
        many(40, "filters", NOT_DONE, OPAQUE),
        one(41, "load_balancing_policy", NOT_DONE, OPAQUE),
        one(42, "lrs_server", Warn("load is not reported by LRS"), OPAQUE),
        many(43, "transport_socket_matches", NOT_DONE, OPAQUE),
        one(44, "dns_failure_refresh_rate", Warn("names are asked again by our own rule"), OPAQUE),
        one(45, "use_tcp_for_dns_lookups", Warn("the resolver decides"), VARINT),
        one(46, "upstream_http_protocol_options", Supported, Message(&UPSTREAM_HTTP_PROTOCOL_OPTIONS)),
        one(47, "track_timeout_budgets", Harmless("metrics have our own names"), VARINT),
        one(48, "upstream_config", NOT_DONE, OPAQUE),
        one(49, "track_cluster_stats", Harmless("metrics have our own names"), OPAQUE),
        one(50, "preconnect_policy", Warn("connections are opened when needed"), OPAQUE),
        one(51, "connection_pool_per_downstream_connection", NOT_DONE, VARINT),
        one(52, "maglev_lb_config", NOT_DONE, OPAQUE),
        one(53, "dns_resolution_config", Warn("the resolver is the proxy's own"), OPAQUE),
        one(54, "wait_for_warm_on_init", Harmless("resources are staged until all are there"), OPAQUE),
        one(55, "typed_dns_resolver_config", Warn("the resolver is the proxy's own"), OPAQUE),
        one(56, "round_robin_lb_config", Warn("there is no slow start"), OPAQUE),
        many(57, "lrs_report_endpoint_metrics", Warn("load is not reported by LRS"), TEXT),
        one(58, "dns_jitter", Warn("no jitter is added"), OPAQUE),
        one(59, "transport_socket_matcher", NOT_DONE, OPAQUE),
        one(
            60,
            "per_connection_buffer_high_watermark_timeout",
            Warn("full buffers have no timeout of their own"),
            OPAQUE,
        ),
        one(61, "stats_matcher", Harmless("metrics have our own names"), OPAQUE),
        one(62, "queuing_policies", NOT_DONE, OPAQUE),
    ],
};

pub static CLUSTER_EDS_CLUSTER_CONFIG: Schema = Schema {
    name: "envoy.config.cluster.v3.Cluster.EdsClusterConfig",
    rows: &[
        one(1, "eds_config", Supported, Message(&CONFIG_SOURCE)),
        one(2, "service_name", Supported, TEXT),
    ],
};

pub static CLUSTER_COMMON_LB_CONFIG: Schema = Schema {
    name: "envoy.config.cluster.v3.Cluster.CommonLbConfig",
    rows: &[
        one(1, "healthy_panic_threshold", Supported, Message(&PERCENT)),
        one(2, "zone_aware_lb_config", Warn("localities of one priority are mixed"), OPAQUE),
        one(3, "locality_weighted_lb_config", Warn("localities of one priority are mixed"), OPAQUE),
        one(4, "update_merge_window", Harmless("updates come at once"), OPAQUE),
        one(5, "ignore_new_hosts_until_first_hc", Warn("new endpoints count as healthy"), VARINT),
        one(6, "close_connections_on_host_set_change", Warn("connections end when idle"), VARINT),
        one(7, "consistent_hashing_lb_config", NOT_DONE, OPAQUE),
        one(8, "override_host_status", NOT_DONE, OPAQUE),
    ],
};

pub static CLUSTER_LEAST_REQUEST_LB_CONFIG: Schema = Schema {
    name: "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig",
    rows: &[
        one(1, "choice_count", Supported, Message(&UINT32_VALUE)),
        one(2, "active_request_bias", NOT_DONE, OPAQUE),
        one(3, "slow_start_config", Warn("there is no slow start"), OPAQUE),
    ],
};

pub static CIRCUIT_BREAKERS: Schema = Schema {
    name: "envoy.config.cluster.v3.CircuitBreakers",
    rows: &[
        many(1, "thresholds", Supported, Message(&CIRCUIT_BREAKERS_THRESHOLDS)),
        many(2, "per_host_thresholds", NOT_DONE, OPAQUE),
    ],
};

pub static CIRCUIT_BREAKERS_THRESHOLDS: Schema = Schema {
    name: "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
    rows: &[
        one(1, "priority", Supported, VARINT),
        one(2, "max_connections", Supported, Message(&UINT32_VALUE)),
        one(3, "max_pending_requests", Supported, Message(&UINT32_VALUE)),
        one(4, "max_requests", Supported, Message(&UINT32_VALUE)),
        one(5, "max_retries", Supported, Message(&UINT32_VALUE)),
        one(6, "track_remaining", Harmless("metrics have our own names"), VARINT),
        one(7, "max_connection_pools", Warn("pools are not limited"), OPAQUE),
        one(8, "retry_budget", Supported, Message(&CIRCUIT_BREAKERS_THRESHOLDS_RETRY_BUDGET)),
    ],
};

pub static CIRCUIT_BREAKERS_THRESHOLDS_RETRY_BUDGET: Schema = Schema {
    name: "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget",
    rows: &[
        one(1, "budget_percent", Supported, Message(&PERCENT)),
        one(2, "min_retry_concurrency", Supported, Message(&UINT32_VALUE)),
        one(3, "budget_interval", Warn("the interval is our own"), OPAQUE),
    ],
};

pub static OUTLIER_DETECTION: Schema = Schema {
    name: "envoy.config.cluster.v3.OutlierDetection",
    rows: &[
        one(1, "consecutive_5xx", Supported, Message(&UINT32_VALUE)),
        one(2, "interval", Supported, Message(&DURATION)),
        one(3, "base_ejection_time", Supported, Message(&DURATION)),
        one(4, "max_ejection_percent", Supported, Message(&UINT32_VALUE)),
        one(5, "enforcing_consecutive_5xx", Supported, Message(&UINT32_VALUE)),
        one(6, "enforcing_success_rate", Warn("only consecutive failures eject"), OPAQUE),
        one(7, "success_rate_minimum_hosts", Warn("only consecutive failures eject"), OPAQUE),
        one(8, "success_rate_request_volume", Warn("only consecutive failures eject"), OPAQUE),
        one(9, "success_rate_stdev_factor", Warn("only consecutive failures eject"), OPAQUE),
        one(10, "consecutive_gateway_failure", Supported, Message(&UINT32_VALUE)),
        one(11, "enforcing_consecutive_gateway_failure", Supported, Message(&UINT32_VALUE)),
        one(12, "split_external_local_origin_errors", Supported, VARINT),
        one(13, "consecutive_local_origin_failure", Supported, Message(&UINT32_VALUE)),
        one(14, "enforcing_consecutive_local_origin_failure", Warn("always enforced"), OPAQUE),
        one(15, "enforcing_local_origin_success_rate", Warn("only consecutive failures eject"), OPAQUE),
        one(16, "failure_percentage_threshold", Warn("only consecutive failures eject"), OPAQUE),
        one(17, "enforcing_failure_percentage", Warn("only consecutive failures eject"), OPAQUE),
        one(18, "enforcing_failure_percentage_local_origin", Warn("only consecutive failures eject"), OPAQUE),
        one(19, "failure_percentage_minimum_hosts", Warn("only consecutive failures eject"), OPAQUE),
        one(20, "failure_percentage_request_volume", Warn("only consecutive failures eject"), OPAQUE),
        one(21, "max_ejection_time", Supported, Message(&DURATION)),
        one(22, "max_ejection_time_jitter", Warn("no jitter is added"), OPAQUE),
        one(23, "successful_active_health_check_uneject_host", Warn("only time ends an ejection"), OPAQUE),
        many(24, "monitors", NOT_DONE, OPAQUE),
        one(
            25,
            "always_eject_one_host",
            Harmless("one can always be ejected, unless max_ejection_percent is 0"),
            OPAQUE,
        ),
        one(26, "detect_degraded_hosts", Warn("degraded counts as healthy"), OPAQUE),
    ],
};

pub static UPSTREAM_CONNECTION_OPTIONS: Schema = Schema {
    name: "envoy.config.cluster.v3.UpstreamConnectionOptions",
    rows: &[
        one(1, "tcp_keepalive", Supported, Message(&TCP_KEEPALIVE)),
        one(2, "set_local_interface_name_on_upstream_connections", Warn("only for logs"), VARINT),
        one(3, "happy_eyeballs_config", Warn("one address is tried at a time"), OPAQUE),
    ],
};

pub static HEALTH_CHECK: Schema = Schema {
    name: "envoy.config.core.v3.HealthCheck",
    rows: &[
        one(1, "timeout", Supported, Message(&DURATION)),
        one(2, "interval", Supported, Message(&DURATION)),
        one(3, "interval_jitter", Supported, Message(&DURATION)),
        one(4, "unhealthy_threshold", Supported, Message(&UINT32_VALUE)),
        one(5, "healthy_threshold", Supported, Message(&UINT32_VALUE)),
        one(6, "alt_port", NOT_DONE, OPAQUE),
        one(
            7,
            "reuse_connection",
            Harmless("each check opens a connection of its own"),
            Message(&BOOL_VALUE),
        ),
        one(8, "http_health_check", Supported, Message(&HEALTH_CHECK_HTTP_HEALTH_CHECK)),
        one(9, "tcp_health_check", Supported, Message(&HEALTH_CHECK_TCP_HEALTH_CHECK)),
        one(11, "grpc_health_check", Supported, Message(&HEALTH_CHECK_GRPC_HEALTH_CHECK)),
        one(
            12,
            "no_traffic_interval",
            Harmless("endpoints without traffic are checked as often as others"),
            Message(&DURATION),
        ),
        one(13, "custom_health_check", NOT_DONE, OPAQUE),
        one(14, "unhealthy_interval", Supported, Message(&DURATION)),
        one(15, "unhealthy_edge_interval", Warn("the usual interval is kept"), OPAQUE),
        one(16, "healthy_edge_interval", Warn("the usual interval is kept"), OPAQUE),
        one(17, "event_log_path", Warn("what is logged, and when, is our own"), TEXT),
        one(18, "interval_jitter_percent", Warn("only interval_jitter counts"), VARINT),
        one(19, "always_log_health_check_failures", Warn("what is logged, and when, is our own"), VARINT),
        one(20, "initial_jitter", Supported, Message(&DURATION)),
        one(21, "tls_options", NOT_DONE, OPAQUE),
        one(22, "event_service", Warn("what is logged, and when, is our own"), OPAQUE),
        one(23, "transport_socket_match_criteria", NOT_DONE, OPAQUE),
        one(24, "no_traffic_healthy_interval", Warn("the usual interval is kept"), OPAQUE),
        many(25, "event_logger", Warn("what is logged, and when, is our own"), OPAQUE),
        one(26, "always_log_health_check_success", Warn("what is logged, and when, is our own"), VARINT),
    ],
};

pub static HEALTH_CHECK_HTTP_HEALTH_CHECK: Schema = Schema {
    name: "envoy.config.core.v3.HealthCheck.HttpHealthCheck",
    rows: &[
        one(1, "host", Supported, TEXT),
        one(2, "path", Supported, TEXT),
        one(3, "send", NOT_DONE, OPAQUE),
        many(4, "receive", NOT_DONE, OPAQUE),
        many(6, "request_headers_to_add", Supported, Message(&HEADER_VALUE_OPTION)),
        many(8, "request_headers_to_remove", Supported, TEXT),
        many(9, "expected_statuses", Supported, Message(&INT64_RANGE)),
        one(10, "codec_client_type", Supported, VARINT),
        one(11, "service_name_matcher", NOT_DONE, OPAQUE),
        many(12, "retriable_statuses", Warn("they count as failures"), OPAQUE),
        one(13, "method", Supported, VARINT),
        one(14, "response_buffer_size", Harmless("bodies are not kept"), OPAQUE),
    ],
};

pub static HEALTH_CHECK_TCP_HEALTH_CHECK: Schema = Schema {
    name: "envoy.config.core.v3.HealthCheck.TcpHealthCheck",
    rows: &[
        one(1, "send", Supported, Message(&HEALTH_CHECK_PAYLOAD)),
        many(2, "receive", Supported, Message(&HEALTH_CHECK_PAYLOAD)),
        one(3, "proxy_protocol_config", NOT_DONE, OPAQUE),
    ],
};

pub static HEALTH_CHECK_GRPC_HEALTH_CHECK: Schema = Schema {
    name: "envoy.config.core.v3.HealthCheck.GrpcHealthCheck",
    rows: &[
        one(1, "service_name", Supported, TEXT),
        one(2, "authority", Supported, TEXT),
        many(3, "initial_metadata", NOT_DONE, OPAQUE),
    ],
};

pub static HEALTH_CHECK_PAYLOAD: Schema = Schema {
    name: "envoy.config.core.v3.HealthCheck.Payload",
    rows: &[one(1, "text", Supported, TEXT), one(2, "binary", Supported, BYTES)],
};

pub static UPSTREAM_HTTP_OPTIONS: Schema = Schema {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    rows: &[
        one(1, "common_http_protocol_options", Supported, Message(&HTTP_PROTOCOL_OPTIONS)),
        one(2, "upstream_http_protocol_options", Supported, Message(&UPSTREAM_HTTP_PROTOCOL_OPTIONS)),
        one(3, "explicit_http_config", Supported, Message(&HTTP_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG)),
        one(
            4,
            "use_downstream_protocol_config",
            Supported,
            Message(&HTTP_PROTOCOL_OPTIONS_USE_DOWNSTREAM_HTTP_CONFIG),
        ),
        one(5, "auto_config", Supported, Message(&HTTP_PROTOCOL_OPTIONS_AUTO_HTTP_CONFIG)),
        many(6, "http_filters", NOT_DONE, OPAQUE),
        one(7, "header_validation_config", NOT_DONE, OPAQUE),
        one(8, "outlier_detection", NOT_DONE, OPAQUE),
        many(9, "request_mirror_policies", NOT_DONE, OPAQUE),
        many(10, "hash_policy", NOT_DONE, OPAQUE),
        one(11, "retry_policy", NOT_DONE, OPAQUE),
    ],
};

pub static HTTP_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG: Schema = Schema {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
    rows: &[
        one(1, "http_protocol_options", Supported, Message(&HTTP1_PROTOCOL_OPTIONS)),
        one(2, "http2_protocol_options", Supported, Message(&HTTP2_PROTOCOL_OPTIONS)),
        one(3, "http3_protocol_options", NOT_DONE, OPAQUE),
    ],
};

pub static HTTP_PROTOCOL_OPTIONS_USE_DOWNSTREAM_HTTP_CONFIG: Schema = Schema {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig",
    rows: &[
        one(1, "http_protocol_options", Supported, Message(&HTTP1_PROTOCOL_OPTIONS)),
        one(2, "http2_protocol_options", Supported, Message(&HTTP2_PROTOCOL_OPTIONS)),
        one(3, "http3_protocol_options", NOT_DONE, OPAQUE),
    ],
};

pub static HTTP_PROTOCOL_OPTIONS_AUTO_HTTP_CONFIG: Schema = Schema {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig",
    rows: &[
        one(1, "http_protocol_options", Supported, Message(&HTTP1_PROTOCOL_OPTIONS)),
        one(2, "http2_protocol_options", Supported, Message(&HTTP2_PROTOCOL_OPTIONS)),
        one(3, "http3_protocol_options", NOT_DONE, OPAQUE),
        one(4, "alternate_protocols_cache_options", NOT_DONE, OPAQUE),
    ],
};

pub static UPSTREAM_HTTP_PROTOCOL_OPTIONS: Schema = Schema {
    name: "envoy.config.core.v3.UpstreamHttpProtocolOptions",
    rows: &[
        one(1, "auto_sni", NOT_DONE, VARINT),
        one(2, "auto_san_validation", NOT_DONE, VARINT),
        one(3, "override_auto_sni_header", NOT_DONE, TEXT),
    ],
};

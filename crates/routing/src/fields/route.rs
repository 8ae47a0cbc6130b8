//! The table: route configurations.

use super::Class::{Harmless, Supported, Warn};
use super::Kind::{Any, Message};
use super::any::RETRY_HOST_PREDICATES;
use super::core::{
    BOOL_VALUE, DATA_SOURCE, DURATION, HEADER_VALUE_OPTION, INT64_RANGE, METADATA,
    REGEX_MATCH_AND_SUBSTITUTE, REGEX_MATCHER, RUNTIME_FRACTIONAL_PERCENT, STRING_MATCHER, UINT32_VALUE,
};
use super::{NO_LIMIT, NOT_DONE, OPAQUE, Schema, TEXT, VARINT, many, map, one};

/// Every message of this page.
pub static ALL: &[&Schema] = &[
    &ROUTE_CONFIGURATION,
    &VIRTUAL_HOST,
    &ROUTE,
    &NON_FORWARDING_ACTION,
    &ROUTE_MATCH,
    &ROUTE_MATCH_TLS_CONTEXT_MATCH_OPTIONS,
    &ROUTE_MATCH_CONNECT_MATCHER,
    &ROUTE_MATCH_GRPC_ROUTE_MATCH_OPTIONS,
    &QUERY_PARAMETER_MATCHER,
    &HEADER_MATCHER,
    &ROUTE_ACTION,
    &ROUTE_ACTION_REQUEST_MIRROR_POLICY,
    &ROUTE_ACTION_UPGRADE_CONFIG,
    &ROUTE_ACTION_UPGRADE_CONFIG_CONNECT_CONFIG,
    &ROUTE_ACTION_MAX_STREAM_DURATION,
    &WEIGHTED_CLUSTER,
    &WEIGHTED_CLUSTER_CLUSTER_WEIGHT,
    &RETRY_POLICY,
    &RETRY_POLICY_RETRY_BACK_OFF,
    &RETRY_POLICY_RETRY_HOST_PREDICATE,
    &PREVIOUS_HOSTS_PREDICATE,
    &REDIRECT_ACTION,
    &DIRECT_RESPONSE_ACTION,
];

pub static ROUTE_CONFIGURATION: Schema = Schema {
    name: "envoy.config.route.v3.RouteConfiguration",
    rows: &[
        one(1, "name", Supported, TEXT),
        many(2, "virtual_hosts", Supported, Message(&VIRTUAL_HOST)),
        many(3, "internal_only_headers", NOT_DONE, TEXT),
        many(4, "response_headers_to_add", Supported, Message(&HEADER_VALUE_OPTION)),
        many(5, "response_headers_to_remove", Supported, TEXT),
        many(6, "request_headers_to_add", Supported, Message(&HEADER_VALUE_OPTION)),
        one(
            7,
            "validate_clusters",
            Harmless("a route to an unknown cluster only fails its own requests"),
            OPAQUE,
        ),
        many(8, "request_headers_to_remove", Supported, TEXT),
        one(9, "vhds", NOT_DONE, OPAQUE),
        one(10, "most_specific_header_mutations_wins", Supported, VARINT),
        one(11, "max_direct_response_body_size_bytes", Harmless("the limit here is our own"), OPAQUE),
        many(12, "cluster_specifier_plugins", NOT_DONE, OPAQUE),
        many(13, "request_mirror_policies", NOT_DONE, OPAQUE),
        one(14, "ignore_port_in_host_matching", Supported, VARINT),
        one(15, "ignore_path_parameters_in_path_matching", NOT_DONE, VARINT),
        map(16, "typed_per_filter_config", NOT_DONE, OPAQUE),
        one(17, "metadata", Harmless("only informs"), OPAQUE),
        one(18, "vhost_header", NOT_DONE, TEXT),
        many(19, "route_specifiers", NOT_DONE, OPAQUE),
    ],
};

pub static VIRTUAL_HOST: Schema = Schema {
    name: "envoy.config.route.v3.VirtualHost",
    rows: &[
        one(1, "name", Supported, TEXT),
        many(2, "domains", Supported, TEXT),
        many(3, "routes", Supported, Message(&ROUTE)),
        one(4, "require_tls", Supported, VARINT),
        many(5, "virtual_clusters", Warn("only metrics of their own"), OPAQUE),
        many(6, "rate_limits", NOT_DONE, OPAQUE),
        many(7, "request_headers_to_add", Supported, Message(&HEADER_VALUE_OPTION)),
        one(8, "cors", NOT_DONE, OPAQUE),
        many(10, "response_headers_to_add", Supported, Message(&HEADER_VALUE_OPTION)),
        many(11, "response_headers_to_remove", Supported, TEXT),
        many(13, "request_headers_to_remove", Supported, TEXT),
        one(14, "include_request_attempt_count", Supported, VARINT),
        map(15, "typed_per_filter_config", NOT_DONE, OPAQUE),
        one(16, "retry_policy", Supported, Message(&RETRY_POLICY)),
        one(17, "hedge_policy", NOT_DONE, OPAQUE),
        one(18, "per_request_buffer_limit_bytes", NOT_DONE, OPAQUE),
        one(19, "include_attempt_count_in_response", Supported, VARINT),
        one(20, "retry_policy_typed_config", NOT_DONE, OPAQUE),
        one(21, "matcher", NOT_DONE, OPAQUE),
        many(22, "request_mirror_policies", NOT_DONE, OPAQUE),
        one(23, "include_is_timeout_retry_header", Warn("the header is not sent"), VARINT),
        one(24, "metadata", Supported, Message(&METADATA)),
        one(25, "request_body_buffer_limit", NOT_DONE, OPAQUE),
        many(26, "route_specifiers", NOT_DONE, OPAQUE),
    ],
};

pub static ROUTE: Schema = Schema {
    name: "envoy.config.route.v3.Route",
    rows: &[
        one(1, "match", Supported, Message(&ROUTE_MATCH)),
        one(2, "route", Supported, Message(&ROUTE_ACTION)),
        one(3, "redirect", Supported, Message(&REDIRECT_ACTION)),
        one(4, "metadata", Supported, Message(&METADATA)),
        one(5, "decorator", Warn("only names spans"), OPAQUE),
        one(7, "direct_response", Supported, Message(&DIRECT_RESPONSE_ACTION)),
        many(9, "request_headers_to_add", Supported, Message(&HEADER_VALUE_OPTION)),
        many(10, "response_headers_to_add", Supported, Message(&HEADER_VALUE_OPTION)),
        many(11, "response_headers_to_remove", Supported, TEXT),
        many(12, "request_headers_to_remove", Supported, TEXT),
        map(13, "typed_per_filter_config", NOT_DONE, OPAQUE),
        one(14, "name", Supported, TEXT),
        one(15, "tracing", Warn("spans are made by our own rules"), OPAQUE),
        one(16, "per_request_buffer_limit_bytes", NOT_DONE, OPAQUE),
        one(17, "filter_action", NOT_DONE, OPAQUE),
        one(18, "non_forwarding_action", Supported, Message(&NON_FORWARDING_ACTION)),
        one(19, "stat_prefix", Harmless("metrics have our own names"), TEXT),
        one(20, "request_body_buffer_limit", NOT_DONE, OPAQUE),
        many(21, "route_specifiers", NOT_DONE, OPAQUE),
    ],
};

pub static NON_FORWARDING_ACTION: Schema =
    Schema { name: "envoy.config.route.v3.NonForwardingAction", rows: &[] };

pub static ROUTE_MATCH: Schema = Schema {
    name: "envoy.config.route.v3.RouteMatch",
    rows: &[
        one(1, "prefix", Supported, TEXT),
        one(2, "path", Supported, TEXT),
        one(4, "case_sensitive", Supported, Message(&BOOL_VALUE)),
        many(6, "headers", Supported, Message(&HEADER_MATCHER)),
        many(7, "query_parameters", Supported, Message(&QUERY_PARAMETER_MATCHER)),
        one(8, "grpc", Supported, Message(&ROUTE_MATCH_GRPC_ROUTE_MATCH_OPTIONS)),
        one(9, "runtime_fraction", Supported, Message(&RUNTIME_FRACTIONAL_PERCENT)),
        one(10, "safe_regex", Supported, Message(&REGEX_MATCHER)),
        one(11, "tls_context", Supported, Message(&ROUTE_MATCH_TLS_CONTEXT_MATCH_OPTIONS)),
        one(12, "connect_matcher", Supported, Message(&ROUTE_MATCH_CONNECT_MATCHER)),
        many(13, "dynamic_metadata", NOT_DONE, OPAQUE),
        one(14, "path_separated_prefix", Supported, TEXT),
        one(15, "path_match_policy", NOT_DONE, OPAQUE),
        many(16, "filter_state", NOT_DONE, OPAQUE),
        many(17, "cookies", NOT_DONE, OPAQUE),
    ],
};

pub static ROUTE_MATCH_TLS_CONTEXT_MATCH_OPTIONS: Schema = Schema {
    name: "envoy.config.route.v3.RouteMatch.TlsContextMatchOptions",
    rows: &[
        one(1, "presented", Supported, Message(&BOOL_VALUE)),
        one(2, "validated", Supported, Message(&BOOL_VALUE)),
    ],
};

pub static ROUTE_MATCH_CONNECT_MATCHER: Schema =
    Schema { name: "envoy.config.route.v3.RouteMatch.ConnectMatcher", rows: &[] };

pub static ROUTE_MATCH_GRPC_ROUTE_MATCH_OPTIONS: Schema =
    Schema { name: "envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions", rows: &[] };

pub static QUERY_PARAMETER_MATCHER: Schema = Schema {
    name: "envoy.config.route.v3.QueryParameterMatcher",
    rows: &[
        one(1, "name", Supported, TEXT),
        one(5, "string_match", Supported, Message(&STRING_MATCHER)),
        one(6, "present_match", Supported, VARINT),
    ],
};

pub static HEADER_MATCHER: Schema = Schema {
    name: "envoy.config.route.v3.HeaderMatcher",
    rows: &[
        one(1, "name", Supported, TEXT),
        one(4, "exact_match", Supported, TEXT),
        one(6, "range_match", Supported, Message(&INT64_RANGE)),
        one(7, "present_match", Supported, VARINT),
        one(8, "invert_match", Supported, VARINT),
        one(9, "prefix_match", Supported, TEXT),
        one(10, "suffix_match", Supported, TEXT),
        one(11, "safe_regex_match", Supported, Message(&REGEX_MATCHER)),
        one(12, "contains_match", Supported, TEXT),
        one(13, "string_match", Supported, Message(&STRING_MATCHER)),
        one(14, "treat_missing_header_as_empty", Supported, VARINT),
    ],
};

pub static ROUTE_ACTION: Schema = Schema {
    name: "envoy.config.route.v3.RouteAction",
    rows: &[
        one(1, "cluster", Supported, TEXT),
        one(2, "cluster_header", Supported, TEXT),
        one(3, "weighted_clusters", Supported, Message(&WEIGHTED_CLUSTER)),
        one(4, "metadata_match", NOT_DONE, OPAQUE),
        one(5, "prefix_rewrite", Supported, TEXT),
        one(6, "host_rewrite_literal", Supported, TEXT),
        one(7, "auto_host_rewrite", Supported, Message(&BOOL_VALUE)),
        one(8, "timeout", Supported, Message(&DURATION)),
        one(9, "retry_policy", Supported, Message(&RETRY_POLICY)),
        one(11, "priority", Supported, VARINT),
        many(13, "rate_limits", NOT_DONE, OPAQUE),
        one(14, "include_vh_rate_limits", Harmless("there are no rate limits"), OPAQUE),
        many(15, "hash_policy", NOT_DONE, OPAQUE),
        one(17, "cors", NOT_DONE, OPAQUE),
        one(20, "cluster_not_found_response_code", Supported, VARINT),
        one(23, "max_grpc_timeout", NOT_DONE, OPAQUE),
        one(24, "idle_timeout", Supported, Message(&DURATION)),
        many(25, "upgrade_configs", Supported, Message(&ROUTE_ACTION_UPGRADE_CONFIG)),
        one(26, "internal_redirect_action", NOT_DONE, VARINT),
        one(27, "hedge_policy", NOT_DONE, OPAQUE),
        one(28, "grpc_timeout_offset", NOT_DONE, OPAQUE),
        one(29, "host_rewrite_header", Supported, TEXT),
        many(30, "request_mirror_policies", Supported, Message(&ROUTE_ACTION_REQUEST_MIRROR_POLICY)),
        one(31, "max_internal_redirects", NOT_DONE, OPAQUE),
        one(32, "regex_rewrite", Supported, Message(&REGEX_MATCH_AND_SUBSTITUTE)),
        one(33, "retry_policy_typed_config", NOT_DONE, OPAQUE),
        one(34, "internal_redirect_policy", NOT_DONE, OPAQUE),
        one(35, "host_rewrite_path_regex", Supported, Message(&REGEX_MATCH_AND_SUBSTITUTE)),
        one(36, "max_stream_duration", Supported, Message(&ROUTE_ACTION_MAX_STREAM_DURATION)),
        one(37, "cluster_specifier_plugin", NOT_DONE, TEXT),
        one(38, "append_x_forwarded_host", Supported, VARINT),
        one(39, "inline_cluster_specifier_plugin", NOT_DONE, OPAQUE),
        one(40, "early_data_policy", Harmless("there is no early data"), OPAQUE),
        one(41, "path_rewrite_policy", NOT_DONE, OPAQUE),
        one(42, "flush_timeout", Warn("the stream's idle timeout holds"), OPAQUE),
        one(44, "host_rewrite", NOT_DONE, TEXT),
        one(45, "path_rewrite", NOT_DONE, TEXT),
    ],
};

pub static ROUTE_ACTION_REQUEST_MIRROR_POLICY: Schema = Schema {
    name: "envoy.config.route.v3.RouteAction.RequestMirrorPolicy",
    rows: &[
        one(1, "cluster", Supported, TEXT),
        one(3, "runtime_fraction", Supported, Message(&RUNTIME_FRACTIONAL_PERCENT)),
        one(4, "trace_sampled", Warn("spans are made by our own rules"), OPAQUE),
        one(5, "cluster_header", NOT_DONE, TEXT),
        one(6, "disable_shadow_host_suffix_append", Harmless("no suffix is added"), VARINT),
        many(7, "request_headers_mutations", NOT_DONE, OPAQUE),
        one(8, "host_rewrite_literal", NOT_DONE, TEXT),
    ],
};

pub static ROUTE_ACTION_UPGRADE_CONFIG: Schema = Schema {
    name: "envoy.config.route.v3.RouteAction.UpgradeConfig",
    rows: &[
        one(1, "upgrade_type", Supported, TEXT),
        one(2, "enabled", Supported, Message(&BOOL_VALUE)),
        one(3, "connect_config", Supported, Message(&ROUTE_ACTION_UPGRADE_CONFIG_CONNECT_CONFIG)),
    ],
};

pub static ROUTE_ACTION_UPGRADE_CONFIG_CONNECT_CONFIG: Schema = Schema {
    name: "envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig",
    rows: &[one(1, "proxy_protocol_config", NOT_DONE, OPAQUE), one(2, "allow_post", NOT_DONE, VARINT)],
};

pub static ROUTE_ACTION_MAX_STREAM_DURATION: Schema = Schema {
    name: "envoy.config.route.v3.RouteAction.MaxStreamDuration",
    rows: &[
        one(1, "max_stream_duration", Supported, Message(&DURATION)),
        one(
            2,
            "grpc_timeout_header_max",
            Warn("callers hold their grpc-timeout themselves"),
            Message(&DURATION),
        ),
        one(3, "grpc_timeout_header_offset", NOT_DONE, OPAQUE),
    ],
};

pub static WEIGHTED_CLUSTER: Schema = Schema {
    name: "envoy.config.route.v3.WeightedCluster",
    rows: &[
        many(1, "clusters", Supported, Message(&WEIGHTED_CLUSTER_CLUSTER_WEIGHT)),
        one(2, "runtime_key_prefix", Harmless("there is no runtime"), TEXT),
        one(3, "total_weight", Harmless("the weights are summed"), OPAQUE),
        one(4, "header_name", NOT_DONE, TEXT),
        one(5, "use_hash_policy", NOT_DONE, OPAQUE),
    ],
};

pub static WEIGHTED_CLUSTER_CLUSTER_WEIGHT: Schema = Schema {
    name: "envoy.config.route.v3.WeightedCluster.ClusterWeight",
    rows: &[
        one(1, "name", Supported, TEXT),
        one(2, "weight", Supported, Message(&UINT32_VALUE)),
        one(3, "metadata_match", NOT_DONE, OPAQUE),
        many(4, "request_headers_to_add", Supported, Message(&HEADER_VALUE_OPTION)),
        many(5, "response_headers_to_add", Supported, Message(&HEADER_VALUE_OPTION)),
        many(6, "response_headers_to_remove", Supported, TEXT),
        many(9, "request_headers_to_remove", Supported, TEXT),
        map(10, "typed_per_filter_config", NOT_DONE, OPAQUE),
        one(11, "host_rewrite_literal", Supported, TEXT),
        one(12, "cluster_header", NOT_DONE, TEXT),
    ],
};

pub static RETRY_POLICY: Schema = Schema {
    name: "envoy.config.route.v3.RetryPolicy",
    rows: &[
        one(1, "retry_on", Supported, TEXT),
        one(2, "num_retries", Supported, Message(&UINT32_VALUE)),
        one(3, "per_try_timeout", Supported, Message(&DURATION)),
        one(4, "retry_priority", NOT_DONE, OPAQUE),
        many(5, "retry_host_predicate", Supported, Message(&RETRY_POLICY_RETRY_HOST_PREDICATE)),
        one(
            6,
            "host_selection_retry_max_attempts",
            Harmless("endpoints that were tried are always avoided, as long as there are others"),
            VARINT,
        ),
        many(7, "retriable_status_codes", Supported, VARINT),
        one(8, "retry_back_off", Supported, Message(&RETRY_POLICY_RETRY_BACK_OFF)),
        many(9, "retriable_headers", NOT_DONE, OPAQUE),
        many(10, "retriable_request_headers", NOT_DONE, OPAQUE),
        one(11, "rate_limited_retry_back_off", Warn("the usual pause is kept"), OPAQUE),
        many(12, "retry_options_predicates", NOT_DONE, OPAQUE),
        one(13, "per_try_idle_timeout", NO_LIMIT, Message(&DURATION)),
        one(14, "refresh_cluster_on_retry", Warn("the cluster stays"), VARINT),
    ],
};

pub static RETRY_POLICY_RETRY_BACK_OFF: Schema = Schema {
    name: "envoy.config.route.v3.RetryPolicy.RetryBackOff",
    rows: &[
        one(1, "base_interval", Supported, Message(&DURATION)),
        one(2, "max_interval", Supported, Message(&DURATION)),
    ],
};

pub static RETRY_POLICY_RETRY_HOST_PREDICATE: Schema = Schema {
    name: "envoy.config.route.v3.RetryPolicy.RetryHostPredicate",
    rows: &[one(1, "name", Supported, TEXT), one(3, "typed_config", Supported, Any(RETRY_HOST_PREDICATES))],
};

pub static PREVIOUS_HOSTS_PREDICATE: Schema =
    Schema { name: "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate", rows: &[] };

pub static REDIRECT_ACTION: Schema = Schema {
    name: "envoy.config.route.v3.RedirectAction",
    rows: &[
        one(1, "host_redirect", Supported, TEXT),
        one(2, "path_redirect", Supported, TEXT),
        one(3, "response_code", Supported, VARINT),
        one(4, "https_redirect", Supported, VARINT),
        one(5, "prefix_rewrite", Supported, TEXT),
        one(6, "strip_query", Supported, VARINT),
        one(7, "scheme_redirect", Supported, TEXT),
        one(8, "port_redirect", Supported, VARINT),
        one(9, "regex_rewrite", Supported, Message(&REGEX_MATCH_AND_SUBSTITUTE)),
        one(10, "path_rewrite", NOT_DONE, TEXT),
    ],
};

pub static DIRECT_RESPONSE_ACTION: Schema = Schema {
    name: "envoy.config.route.v3.DirectResponseAction",
    rows: &[
        one(1, "status", Supported, VARINT),
        one(2, "body", Supported, Message(&DATA_SOURCE)),
        one(3, "body_format", NOT_DONE, OPAQUE),
    ],
};

//! The table: the HTTP connection manager and the options of its protocols.

use super::Class::{Harmless, Supported, Warn};
use super::Kind::{Any, Message};
use super::access_log::ACCESS_LOG;
use super::any::HTTP_FILTERS;
use super::core::{BOOL_VALUE, CONFIG_SOURCE, DURATION, PERCENT, UINT32_VALUE};
use super::route::ROUTE_CONFIGURATION;
use super::{NO_LIMIT, NOT_DONE, OPAQUE, Schema, TEXT, VARINT, many, one};

/// Every message of this page.
pub static ALL: &[&Schema] = &[
    &HTTP_CONNECTION_MANAGER,
    &HTTP_FILTER,
    &RDS,
    &HTTP_CONNECTION_MANAGER_UPGRADE_CONFIG,
    &HTTP_CONNECTION_MANAGER_SET_CURRENT_CLIENT_CERT_DETAILS,
    &HTTP_PROTOCOL_OPTIONS,
    &HTTP1_PROTOCOL_OPTIONS,
    &HTTP2_PROTOCOL_OPTIONS,
    &KEEPALIVE_SETTINGS,
    &ROUTER,
    &GRPC_WEB,
];

pub static HTTP_CONNECTION_MANAGER: Schema = Schema {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    rows: &[
        one(1, "codec_type", Supported, VARINT),
        one(2, "stat_prefix", Harmless("metrics have our own names"), TEXT),
        one(3, "rds", Supported, Message(&RDS)),
        one(4, "route_config", Supported, Message(&ROUTE_CONFIGURATION)),
        many(5, "http_filters", Supported, Message(&HTTP_FILTER)),
        one(6, "add_user_agent", Warn("the user agent is left alone"), OPAQUE),
        one(7, "tracing", Warn("spans are made by our own rules"), OPAQUE),
        one(8, "http_protocol_options", Supported, Message(&HTTP1_PROTOCOL_OPTIONS)),
        one(9, "http2_protocol_options", Supported, Message(&HTTP2_PROTOCOL_OPTIONS)),
        one(10, "server_name", Supported, TEXT),
        one(
            12,
            "drain_timeout",
            Harmless("how long a drain takes is the proxy's own setting"),
            Message(&DURATION),
        ),
        many(13, "access_log", Supported, Message(&ACCESS_LOG)),
        one(14, "use_remote_address", Supported, Message(&BOOL_VALUE)),
        one(15, "generate_request_id", Supported, Message(&BOOL_VALUE)),
        one(16, "forward_client_cert_details", Supported, VARINT),
        one(
            17,
            "set_current_client_cert_details",
            Supported,
            Message(&HTTP_CONNECTION_MANAGER_SET_CURRENT_CLIENT_CERT_DETAILS),
        ),
        one(18, "proxy_100_continue", Warn("100-continue is answered here"), VARINT),
        one(19, "xff_num_trusted_hops", Supported, VARINT),
        one(
            20,
            "represent_ipv4_remote_address_as_ipv4_mapped_ipv6",
            Warn("IPv4 addresses are written as such"),
            VARINT,
        ),
        one(21, "skip_xff_append", Supported, VARINT),
        one(22, "via", Supported, TEXT),
        many(23, "upgrade_configs", Supported, Message(&HTTP_CONNECTION_MANAGER_UPGRADE_CONFIG)),
        one(24, "stream_idle_timeout", Supported, Message(&DURATION)),
        one(25, "internal_address_config", Warn("no request counts as internal"), OPAQUE),
        one(
            26,
            "delayed_close_timeout",
            Harmless("a connection closes when its last byte is out"),
            Message(&DURATION),
        ),
        one(28, "request_timeout", NO_LIMIT, Message(&DURATION)),
        one(29, "max_request_headers_kb", Supported, Message(&UINT32_VALUE)),
        one(30, "normalize_path", Harmless("paths are always normalized"), Message(&BOOL_VALUE)),
        one(31, "scoped_routes", NOT_DONE, OPAQUE),
        one(32, "preserve_external_request_id", Supported, VARINT),
        one(33, "merge_slashes", Supported, VARINT),
        one(34, "server_header_transformation", Supported, VARINT),
        one(35, "common_http_protocol_options", Supported, Message(&HTTP_PROTOCOL_OPTIONS)),
        one(36, "request_id_extension", Warn("request ids are UUIDs"), OPAQUE),
        one(37, "always_set_request_id_in_response", Supported, VARINT),
        one(38, "local_reply_config", NOT_DONE, OPAQUE),
        one(39, "strip_matching_host_port", Supported, VARINT),
        one(40, "stream_error_on_invalid_http_message", Warn("the codec decides"), OPAQUE),
        one(41, "request_headers_timeout", Supported, Message(&DURATION)),
        one(42, "strip_any_host_port", Supported, VARINT),
        one(43, "path_normalization_options", NOT_DONE, OPAQUE),
        one(44, "http3_protocol_options", NOT_DONE, OPAQUE),
        one(45, "path_with_escaped_slashes_action", Supported, VARINT),
        many(46, "original_ip_detection_extensions", NOT_DONE, OPAQUE),
        one(47, "strip_trailing_host_dot", Harmless("a trailing dot is always left out"), VARINT),
        one(48, "scheme_header_transformation", NOT_DONE, OPAQUE),
        one(49, "proxy_status_config", Warn("proxy-status is not sent"), OPAQUE),
        one(50, "typed_header_validation_config", NOT_DONE, OPAQUE),
        one(51, "append_x_forwarded_port", Warn("x-forwarded-port is not sent"), VARINT),
        many(52, "early_header_mutation_extensions", NOT_DONE, OPAQUE),
        one(53, "add_proxy_protocol_connection_state", Harmless("there is no proxy protocol"), OPAQUE),
        one(54, "access_log_flush_interval", Warn("what is logged, and when, is our own"), OPAQUE),
        one(55, "flush_access_log_on_new_request", Warn("what is logged, and when, is our own"), VARINT),
        one(56, "access_log_options", Warn("what is logged, and when, is our own"), OPAQUE),
        one(57, "append_local_overload", Warn("x-envoy-local-overloaded is not sent"), VARINT),
        one(
            58,
            "http1_safe_max_connection_duration",
            Harmless("connections always end between requests"),
            VARINT,
        ),
        one(59, "stream_flush_timeout", Warn("the stream's idle timeout holds"), OPAQUE),
        one(60, "forward_client_cert_matcher", NOT_DONE, OPAQUE),
        one(61, "forward_proto_config", NOT_DONE, OPAQUE),
        one(62, "drain_timeout_jitter", Warn("no jitter is added"), OPAQUE),
    ],
};

pub static HTTP_FILTER: Schema = Schema {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
    rows: &[
        one(1, "name", Supported, TEXT),
        one(4, "typed_config", Supported, Any(HTTP_FILTERS)),
        one(5, "config_discovery", NOT_DONE, OPAQUE),
        one(6, "is_optional", Harmless("a filter that is not known is refused, optional or not"), VARINT),
        one(7, "disabled", NOT_DONE, VARINT),
    ],
};

pub static RDS: Schema = Schema {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.Rds",
    rows: &[
        one(1, "config_source", Supported, Message(&CONFIG_SOURCE)),
        one(2, "route_config_name", Supported, TEXT),
    ],
};

pub static HTTP_CONNECTION_MANAGER_UPGRADE_CONFIG: Schema = Schema {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig",
    rows: &[
        one(1, "upgrade_type", Supported, TEXT),
        many(2, "filters", NOT_DONE, OPAQUE),
        one(3, "enabled", Supported, Message(&BOOL_VALUE)),
    ],
};

pub static HTTP_CONNECTION_MANAGER_SET_CURRENT_CLIENT_CERT_DETAILS: Schema = Schema {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails",
    rows: &[
        one(1, "subject", Warn("the subject is not said"), OPAQUE),
        one(3, "cert", Warn("the certificate is not sent"), VARINT),
        one(4, "dns", Warn("DNS names are not said"), VARINT),
        one(5, "uri", Harmless("the URI is always said"), VARINT),
        one(6, "chain", Warn("the chain is not sent"), VARINT),
        one(7, "format", Warn("the format is Envoy's text"), VARINT),
        one(8, "issuer", Warn("the issuer is not said"), VARINT),
    ],
};

pub static HTTP_PROTOCOL_OPTIONS: Schema = Schema {
    name: "envoy.config.core.v3.HttpProtocolOptions",
    rows: &[
        one(1, "idle_timeout", Supported, Message(&DURATION)),
        one(2, "max_headers_count", Supported, Message(&UINT32_VALUE)),
        one(3, "max_connection_duration", Supported, Message(&DURATION)),
        one(4, "max_stream_duration", Supported, Message(&DURATION)),
        one(5, "headers_with_underscores_action", Supported, VARINT),
        one(6, "max_requests_per_connection", Supported, Message(&UINT32_VALUE)),
        one(7, "max_response_headers_kb", Warn("the limit here is our own"), OPAQUE),
        one(8, "max_connection_duration_jitter", Supported, Message(&PERCENT)),
    ],
};

pub static HTTP1_PROTOCOL_OPTIONS: Schema = Schema {
    name: "envoy.config.core.v3.Http1ProtocolOptions",
    rows: &[
        one(1, "allow_absolute_url", Harmless("absolute targets are always taken"), OPAQUE),
        one(2, "accept_http_10", Harmless("HTTP/1.0 is always taken"), VARINT),
        one(3, "default_host_for_http_10", NOT_DONE, TEXT),
        one(4, "header_key_format", Warn("header names are sent in lower case"), OPAQUE),
        one(5, "enable_trailers", Harmless("trailers pass where both sides take them"), VARINT),
        one(6, "allow_chunked_length", NOT_DONE, VARINT),
        one(7, "override_stream_error_on_invalid_http_message", Warn("the codec decides"), OPAQUE),
        one(8, "send_fully_qualified_url", NOT_DONE, VARINT),
        one(9, "use_balsa_parser", Harmless("there is one parser"), OPAQUE),
        one(10, "allow_custom_methods", Harmless("methods are always open"), VARINT),
        many(11, "ignore_http_11_upgrade", NOT_DONE, OPAQUE),
    ],
};

pub static HTTP2_PROTOCOL_OPTIONS: Schema = Schema {
    name: "envoy.config.core.v3.Http2ProtocolOptions",
    rows: &[
        one(1, "hpack_table_size", Warn("the table's size is our own"), OPAQUE),
        one(2, "max_concurrent_streams", Supported, Message(&UINT32_VALUE)),
        one(3, "initial_stream_window_size", Supported, Message(&UINT32_VALUE)),
        one(4, "initial_connection_window_size", Supported, Message(&UINT32_VALUE)),
        one(5, "allow_connect", Supported, VARINT),
        one(6, "allow_metadata", NOT_DONE, VARINT),
        one(7, "max_outbound_frames", Harmless("the codec has its own limits"), OPAQUE),
        one(8, "max_outbound_control_frames", Harmless("the codec has its own limits"), OPAQUE),
        one(9, "max_consecutive_inbound_frames_with_empty_payload", Supported, Message(&UINT32_VALUE)),
        one(10, "max_inbound_priority_frames_per_stream", Supported, Message(&UINT32_VALUE)),
        one(11, "max_inbound_window_update_frames_per_data_frame_sent", Supported, Message(&UINT32_VALUE)),
        one(12, "stream_error_on_invalid_http_messaging", Warn("the codec decides"), VARINT),
        many(13, "custom_settings_parameters", NOT_DONE, OPAQUE),
        one(14, "override_stream_error_on_invalid_http_message", Warn("the codec decides"), OPAQUE),
        one(15, "connection_keepalive", Supported, Message(&KEEPALIVE_SETTINGS)),
        one(16, "use_oghttp2_codec", Harmless("there is one codec"), OPAQUE),
        one(17, "max_metadata_size", Harmless("METADATA frames are not taken"), OPAQUE),
        one(18, "enable_huffman_encoding", Harmless("only the encoding"), OPAQUE),
        one(19, "max_header_field_size_kb", Harmless("the whole head is limited"), OPAQUE),
        one(20, "disallow_obs_text", Warn("obs-text is passed on"), OPAQUE),
        one(21, "stream_reset_burst", Harmless("the codec has its own limits"), OPAQUE),
        one(22, "stream_reset_rate", Harmless("the codec has its own limits"), OPAQUE),
    ],
};

pub static KEEPALIVE_SETTINGS: Schema = Schema {
    name: "envoy.config.core.v3.KeepaliveSettings",
    rows: &[
        one(1, "interval", Supported, Message(&DURATION)),
        one(2, "timeout", Supported, Message(&DURATION)),
        one(3, "interval_jitter", Supported, Message(&PERCENT)),
        one(4, "connection_idle_interval", Warn("no PING goes ahead of a stream"), Message(&DURATION)),
    ],
};

pub static ROUTER: Schema = Schema {
    name: "envoy.extensions.filters.http.router.v3.Router",
    rows: &[
        one(1, "dynamic_stats", Harmless("metrics have our own names"), OPAQUE),
        one(2, "start_child_span", Warn("spans are made by our own rules"), VARINT),
        many(3, "upstream_log", Warn("what is logged, and when, is our own"), OPAQUE),
        one(4, "suppress_envoy_headers", Warn("which x-envoy headers are sent is our own"), VARINT),
        many(5, "strict_check_headers", NOT_DONE, TEXT),
        one(6, "respect_expected_rq_timeout", NOT_DONE, VARINT),
        one(7, "suppress_grpc_request_failure_code_stats", Harmless("metrics have our own names"), VARINT),
        many(8, "upstream_http_filters", NOT_DONE, OPAQUE),
        one(9, "upstream_log_options", Warn("what is logged, and when, is our own"), OPAQUE),
        one(10, "reject_connect_request_early_data", Harmless("early data of a CONNECT waits"), OPAQUE),
    ],
};

pub static GRPC_WEB: Schema = Schema { name: "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb", rows: &[] };

//! The table: listeners, filter chains and the TCP proxy.

use super::Class::{Harmless, Supported, Warn};
use super::Kind::{Any, Message};
use super::access_log::ACCESS_LOG;
use super::any::{API_LISTENERS, LISTENER_FILTERS, NETWORK_FILTERS};
use super::core::{ADDRESS, BOOL_VALUE, CIDR_RANGE, DURATION, METADATA, TRANSPORT_SOCKET, UINT32_VALUE};
use super::{NO_LIMIT, NOT_DONE, OPAQUE, Schema, TEXT, VARINT, many, one};

/// Every message of this page.
pub static ALL: &[&Schema] = &[
    &LISTENER,
    &API_LISTENER,
    &LISTENER_FILTER,
    &FILTER_CHAIN,
    &FILTER_CHAIN_MATCH,
    &FILTER,
    &TLS_INSPECTOR,
    &PROXY_PROTOCOL,
    &TRUSTED_PROXY_PROTOCOL,
    &UDP_LISTENER_CONFIG,
    &UDP_PROXY,
    &ORIGINAL_DST,
    &HTTP_INSPECTOR,
    &TCP_PROXY,
    &TCP_PROXY_TUNNELING_CONFIG,
    &TCP_PROXY_WEIGHTED_CLUSTER,
    &TCP_PROXY_WEIGHTED_CLUSTER_CLUSTER_WEIGHT,
];

pub static LISTENER: Schema = Schema {
    name: "envoy.config.listener.v3.Listener",
    rows: &[
        one(1, "name", Supported, TEXT),
        one(2, "address", Supported, Message(&ADDRESS)),
        many(3, "filter_chains", Supported, Message(&FILTER_CHAIN)),
        one(4, "use_original_dst", Supported, Message(&BOOL_VALUE)),
        one(
            5,
            "per_connection_buffer_limit_bytes",
            Harmless("buffers have bounds of their own"),
            Message(&UINT32_VALUE),
        ),
        one(6, "metadata", Supported, Message(&METADATA)),
        one(7, "deprecated_v1", NOT_DONE, OPAQUE),
        one(8, "drain_type", Harmless("when connections drain is the proxy's own"), VARINT),
        many(9, "listener_filters", Supported, Message(&LISTENER_FILTER)),
        one(10, "transparent", NOT_DONE, OPAQUE),
        one(11, "freebind", Warn("the address must be there"), OPAQUE),
        one(12, "tcp_fast_open_queue_length", Warn("TCP fast open is not used"), OPAQUE),
        many(13, "socket_options", Warn("options of the socket are not set"), OPAQUE),
        one(15, "listener_filters_timeout", Supported, Message(&DURATION)),
        one(16, "traffic_direction", Harmless("a label"), VARINT),
        one(17, "continue_on_listener_filters_timeout", Supported, VARINT),
        one(18, "udp_listener_config", Supported, Message(&UDP_LISTENER_CONFIG)),
        one(19, "api_listener", Supported, Message(&API_LISTENER)),
        one(20, "connection_balance_config", Harmless("each worker accepts for itself"), OPAQUE),
        one(21, "reuse_port", Harmless("workers share a port anyhow"), VARINT),
        many(
            22,
            "access_log",
            Warn("connections without a chain are counted, not logged"),
            Message(&ACCESS_LOG),
        ),
        one(24, "tcp_backlog_size", Harmless("tuning"), OPAQUE),
        one(25, "default_filter_chain", Supported, Message(&FILTER_CHAIN)),
        one(26, "bind_to_port", Supported, Message(&BOOL_VALUE)),
        one(27, "internal_listener", NOT_DONE, OPAQUE),
        one(28, "stat_prefix", Harmless("metrics have our own names"), TEXT),
        one(29, "enable_reuse_port", Harmless("workers share a port anyhow"), OPAQUE),
        one(30, "enable_mptcp", Warn("MPTCP is not used"), VARINT),
        one(31, "ignore_global_conn_limit", Warn("the limit of connections always holds"), VARINT),
        one(32, "filter_chain_matcher", NOT_DONE, OPAQUE),
        many(33, "additional_addresses", NOT_DONE, OPAQUE),
        one(34, "max_connections_to_accept_per_socket_event", Harmless("tuning"), OPAQUE),
        one(35, "bypass_overload_manager", Warn("overload always counts"), VARINT),
        one(36, "fcds_config", NOT_DONE, OPAQUE),
        one(37, "tcp_keepalive", Warn("keep-alive towards callers is the system's"), OPAQUE),
        one(
            38,
            "per_connection_buffer_high_watermark_timeout",
            Warn("full buffers have no timeout of their own"),
            OPAQUE,
        ),
        one(39, "stats_matcher", Harmless("metrics have our own names"), OPAQUE),
    ],
};

pub static API_LISTENER: Schema = Schema {
    name: "envoy.config.listener.v3.ApiListener",
    rows: &[one(1, "api_listener", Supported, Any(API_LISTENERS))],
};

pub static LISTENER_FILTER: Schema = Schema {
    name: "envoy.config.listener.v3.ListenerFilter",
    rows: &[
        one(1, "name", Supported, TEXT),
        one(3, "typed_config", Supported, Any(LISTENER_FILTERS)),
        one(4, "filter_disabled", NOT_DONE, OPAQUE),
        one(5, "config_discovery", NOT_DONE, OPAQUE),
    ],
};

pub static FILTER_CHAIN: Schema = Schema {
    name: "envoy.config.listener.v3.FilterChain",
    rows: &[
        one(1, "filter_chain_match", Supported, Message(&FILTER_CHAIN_MATCH)),
        many(3, "filters", Supported, Message(&FILTER)),
        one(4, "use_proxy_proto", NOT_DONE, OPAQUE),
        one(5, "metadata", Supported, Message(&METADATA)),
        one(6, "transport_socket", Supported, Message(&TRANSPORT_SOCKET)),
        one(7, "name", Supported, TEXT),
        one(9, "transport_socket_connect_timeout", Supported, Message(&DURATION)),
    ],
};

pub static FILTER_CHAIN_MATCH: Schema = Schema {
    name: "envoy.config.listener.v3.FilterChainMatch",
    rows: &[
        many(3, "prefix_ranges", Supported, Message(&CIDR_RANGE)),
        one(4, "address_suffix", NOT_DONE, TEXT),
        one(5, "suffix_len", NOT_DONE, OPAQUE),
        many(6, "source_prefix_ranges", Supported, Message(&CIDR_RANGE)),
        many(7, "source_ports", Supported, VARINT),
        one(8, "destination_port", Supported, Message(&UINT32_VALUE)),
        one(9, "transport_protocol", Supported, TEXT),
        many(10, "application_protocols", Supported, TEXT),
        many(11, "server_names", Supported, TEXT),
        one(12, "source_type", Supported, VARINT),
        many(13, "direct_source_prefix_ranges", Supported, Message(&CIDR_RANGE)),
    ],
};

pub static FILTER: Schema = Schema {
    name: "envoy.config.listener.v3.Filter",
    rows: &[
        one(1, "name", Supported, TEXT),
        one(4, "typed_config", Supported, Any(NETWORK_FILTERS)),
        one(5, "config_discovery", NOT_DONE, OPAQUE),
    ],
};

pub static TLS_INSPECTOR: Schema = Schema {
    name: "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    rows: &[
        one(1, "enable_ja3_fingerprinting", Warn("fingerprints are not taken"), OPAQUE),
        one(2, "initial_read_buffer_size", Harmless("tuning"), OPAQUE),
        one(3, "enable_ja4_fingerprinting", Warn("fingerprints are not taken"), OPAQUE),
        one(
            4,
            "close_connection_on_client_hello_parsing_errors",
            Warn("what does not parse counts as no TLS"),
            VARINT,
        ),
        one(5, "max_client_hello_size", Harmless("the limit here is 16 KiB"), OPAQUE),
    ],
};

pub static PROXY_PROTOCOL: Schema = Schema {
    name: "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    rows: &[
        many(1, "rules", NOT_DONE, OPAQUE),
        one(2, "allow_requests_without_proxy_protocol", Supported, VARINT),
        one(3, "pass_through_tlvs", NOT_DONE, OPAQUE),
        many(4, "disallowed_versions", Supported, VARINT),
        one(5, "stat_prefix", Harmless("metrics have our own names"), TEXT),
        one(6, "tlv_location", Harmless("no extension is kept anywhere"), VARINT),
    ],
};

/// Ours, not Envoy's.
pub static TRUSTED_PROXY_PROTOCOL: Schema = Schema {
    name: "weft.listener.v1.ProxyProtocol",
    rows: &[many(1, "from", Supported, Message(&CIDR_RANGE))],
};

pub static UDP_LISTENER_CONFIG: Schema = Schema {
    name: "envoy.config.listener.v3.UdpListenerConfig",
    rows: &[
        one(
            5,
            "downstream_socket_config",
            Harmless("datagrams are whole up to the protocol's 64 KiB"),
            OPAQUE,
        ),
        one(7, "quic_options", NOT_DONE, OPAQUE),
        one(8, "udp_packet_packet_writer_config", Harmless("tuning"), OPAQUE),
    ],
};

pub static UDP_PROXY: Schema = Schema {
    name: "envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig",
    rows: &[
        one(1, "stat_prefix", Harmless("metrics have our own names"), TEXT),
        one(2, "cluster", Supported, TEXT),
        one(3, "idle_timeout", Supported, Message(&DURATION)),
        one(4, "use_original_src_ip", NOT_DONE, VARINT),
        many(5, "hash_policies", NOT_DONE, OPAQUE),
        one(6, "upstream_socket_config", Harmless("datagrams are whole up to the protocol's 64 KiB"), OPAQUE),
        one(7, "use_per_packet_load_balancing", NOT_DONE, VARINT),
        many(8, "access_log", Warn("sessions of datagrams are counted, not logged"), OPAQUE),
        one(9, "matcher", NOT_DONE, OPAQUE),
        many(10, "proxy_access_log", Warn("sessions of datagrams are counted, not logged"), OPAQUE),
        many(11, "session_filters", NOT_DONE, OPAQUE),
        one(12, "tunneling_config", NOT_DONE, OPAQUE),
        one(13, "access_log_options", Warn("sessions of datagrams are counted, not logged"), OPAQUE),
    ],
};

pub static ORIGINAL_DST: Schema =
    Schema { name: "envoy.extensions.filters.listener.original_dst.v3.OriginalDst", rows: &[] };

pub static HTTP_INSPECTOR: Schema =
    Schema { name: "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector", rows: &[] };

pub static TCP_PROXY: Schema = Schema {
    name: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    rows: &[
        one(1, "stat_prefix", Harmless("metrics have our own names"), TEXT),
        one(2, "cluster", Supported, TEXT),
        one(3, "downstream_idle_timeout", NOT_DONE, OPAQUE),
        one(4, "upstream_idle_timeout", NOT_DONE, OPAQUE),
        many(5, "access_log", Supported, Message(&ACCESS_LOG)),
        one(7, "max_connect_attempts", Supported, Message(&UINT32_VALUE)),
        one(8, "idle_timeout", Supported, Message(&DURATION)),
        one(9, "metadata_match", NOT_DONE, OPAQUE),
        one(10, "weighted_clusters", Supported, Message(&TCP_PROXY_WEIGHTED_CLUSTER)),
        many(11, "hash_policy", NOT_DONE, OPAQUE),
        one(12, "tunneling_config", Supported, Message(&TCP_PROXY_TUNNELING_CONFIG)),
        one(13, "max_downstream_connection_duration", NO_LIMIT, Message(&DURATION)),
        one(14, "on_demand", NOT_DONE, OPAQUE),
        one(15, "access_log_flush_interval", Warn("what is logged, and when, is our own"), OPAQUE),
        one(16, "flush_access_log_on_connected", Warn("what is logged, and when, is our own"), VARINT),
        one(17, "access_log_options", Warn("what is logged, and when, is our own"), OPAQUE),
        one(18, "backoff_options", Warn("the pause between connects is our own"), OPAQUE),
        many(19, "proxy_protocol_tlvs", NOT_DONE, OPAQUE),
        one(20, "max_downstream_connection_duration_jitter_percentage", Warn("no jitter is added"), OPAQUE),
        one(21, "upstream_connect_mode", NOT_DONE, VARINT),
        one(22, "max_early_data_bytes", NOT_DONE, OPAQUE),
        one(23, "proxy_protocol_tlv_merge_policy", NOT_DONE, VARINT),
        one(24, "check_drain_close", Warn("drain ends TCP connections by its own rule"), OPAQUE),
    ],
};

pub static TCP_PROXY_TUNNELING_CONFIG: Schema = Schema {
    name: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TunnelingConfig",
    rows: &[
        one(1, "hostname", Supported, TEXT),
        one(2, "use_post", NOT_DONE, VARINT),
        many(3, "headers_to_add", NOT_DONE, OPAQUE),
        one(4, "propagate_response_headers", Harmless("no filter here would read them"), VARINT),
        one(5, "post_path", NOT_DONE, TEXT),
        one(6, "propagate_response_trailers", Harmless("no filter here would read them"), VARINT),
        one(7, "request_id_extension", Warn("tunnels have no request id"), OPAQUE),
        one(8, "request_id_header", Warn("tunnels have no request id"), TEXT),
        one(9, "request_id_metadata_key", Warn("tunnels have no request id"), TEXT),
        many(10, "formatters", NOT_DONE, OPAQUE),
    ],
};

pub static TCP_PROXY_WEIGHTED_CLUSTER: Schema = Schema {
    name: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster",
    rows: &[many(1, "clusters", Supported, Message(&TCP_PROXY_WEIGHTED_CLUSTER_CLUSTER_WEIGHT))],
};

pub static TCP_PROXY_WEIGHTED_CLUSTER_CLUSTER_WEIGHT: Schema = Schema {
    name: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
    rows: &[
        one(1, "name", Supported, TEXT),
        one(2, "weight", Supported, VARINT),
        one(3, "metadata_match", NOT_DONE, OPAQUE),
    ],
};

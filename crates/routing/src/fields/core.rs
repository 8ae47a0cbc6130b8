//! The table: what every area uses: texts, addresses, sources, durations.

use super::Class::{Harmless, Supported, Warn};
use super::Kind::{Any, Message};
use super::any::TRANSPORT_SOCKETS;
use super::{BYTES, FIXED64, NOT_DONE, OPAQUE, Schema, TEXT, VARINT, many, map, one};

/// Every message of this page.
pub static ALL: &[&Schema] = &[
    &HEADER_VALUE_OPTION,
    &HEADER_VALUE,
    &STRING_MATCHER,
    &REGEX_MATCHER,
    &PATH_MATCHER,
    &REGEX_MATCH_AND_SUBSTITUTE,
    &RUNTIME_FRACTIONAL_PERCENT,
    &FRACTIONAL_PERCENT,
    &INT64_RANGE,
    &INT32_RANGE,
    &PERCENT,
    &ADDRESS,
    &SOCKET_ADDRESS,
    &PIPE,
    &CIDR_RANGE,
    &METADATA,
    &LOCALITY,
    &TCP_KEEPALIVE,
    &DATA_SOURCE,
    &CONFIG_SOURCE,
    &AGGREGATED_CONFIG_SOURCE,
    &SELF_CONFIG_SOURCE,
    &TRANSPORT_SOCKET,
    &RAW_BUFFER,
    &PROXY_PROTOCOL_UPSTREAM,
    &PROXY_PROTOCOL_CONFIG,
    &BOOL_VALUE,
    &UINT32_VALUE,
    &UINT64_VALUE,
    &DURATION,
];

pub static HEADER_VALUE_OPTION: Schema = Schema {
    name: "envoy.config.core.v3.HeaderValueOption",
    rows: &[
        one(1, "header", Supported, Message(&HEADER_VALUE)),
        one(2, "append", Supported, Message(&BOOL_VALUE)),
        one(3, "append_action", Supported, VARINT),
        one(4, "keep_empty_value", Supported, VARINT),
    ],
};

pub static HEADER_VALUE: Schema = Schema {
    name: "envoy.config.core.v3.HeaderValue",
    rows: &[
        one(1, "key", Supported, TEXT),
        one(2, "value", Supported, TEXT),
        one(3, "raw_value", NOT_DONE, BYTES),
    ],
};

pub static STRING_MATCHER: Schema = Schema {
    name: "envoy.type.matcher.v3.StringMatcher",
    rows: &[
        one(1, "exact", Supported, TEXT),
        one(2, "prefix", Supported, TEXT),
        one(3, "suffix", Supported, TEXT),
        one(5, "safe_regex", Supported, Message(&REGEX_MATCHER)),
        one(6, "ignore_case", Supported, VARINT),
        one(7, "contains", Supported, TEXT),
        one(8, "custom", NOT_DONE, OPAQUE),
    ],
};

pub static REGEX_MATCHER: Schema = Schema {
    name: "envoy.type.matcher.v3.RegexMatcher",
    rows: &[
        one(1, "google_re2", Harmless("the engine is our own, as safe"), OPAQUE),
        one(2, "regex", Supported, TEXT),
    ],
};

pub static PATH_MATCHER: Schema = Schema {
    name: "envoy.type.matcher.v3.PathMatcher",
    rows: &[one(1, "path", Supported, Message(&STRING_MATCHER))],
};

pub static REGEX_MATCH_AND_SUBSTITUTE: Schema = Schema {
    name: "envoy.type.matcher.v3.RegexMatchAndSubstitute",
    rows: &[one(1, "pattern", Supported, Message(&REGEX_MATCHER)), one(2, "substitution", Supported, TEXT)],
};

pub static RUNTIME_FRACTIONAL_PERCENT: Schema = Schema {
    name: "envoy.config.core.v3.RuntimeFractionalPercent",
    rows: &[
        one(1, "default_value", Supported, Message(&FRACTIONAL_PERCENT)),
        one(2, "runtime_key", Harmless("there is no runtime: the default counts"), TEXT),
    ],
};

pub static FRACTIONAL_PERCENT: Schema = Schema {
    name: "envoy.type.v3.FractionalPercent",
    rows: &[one(1, "numerator", Supported, VARINT), one(2, "denominator", Supported, VARINT)],
};

pub static INT64_RANGE: Schema = Schema {
    name: "envoy.type.v3.Int64Range",
    rows: &[one(1, "start", Supported, VARINT), one(2, "end", Supported, VARINT)],
};

pub static INT32_RANGE: Schema = Schema {
    name: "envoy.type.v3.Int32Range",
    rows: &[one(1, "start", Supported, VARINT), one(2, "end", Supported, VARINT)],
};

pub static PERCENT: Schema =
    Schema { name: "envoy.type.v3.Percent", rows: &[one(1, "value", Supported, FIXED64)] };

pub static ADDRESS: Schema = Schema {
    name: "envoy.config.core.v3.Address",
    rows: &[
        one(1, "socket_address", Supported, Message(&SOCKET_ADDRESS)),
        one(2, "pipe", Supported, Message(&PIPE)),
        one(3, "envoy_internal_address", NOT_DONE, OPAQUE),
    ],
};

pub static SOCKET_ADDRESS: Schema = Schema {
    name: "envoy.config.core.v3.SocketAddress",
    rows: &[
        one(1, "protocol", Supported, VARINT),
        one(2, "address", Supported, TEXT),
        one(3, "port_value", Supported, VARINT),
        one(4, "named_port", NOT_DONE, TEXT),
        one(5, "resolver_name", NOT_DONE, TEXT),
        one(6, "ipv4_compat", Supported, VARINT),
        one(7, "network_namespace_filepath", NOT_DONE, TEXT),
    ],
};

pub static PIPE: Schema = Schema {
    name: "envoy.config.core.v3.Pipe",
    rows: &[
        one(1, "path", Supported, TEXT),
        one(2, "mode", Harmless("only for sockets that we make"), VARINT),
    ],
};

pub static CIDR_RANGE: Schema = Schema {
    name: "envoy.config.core.v3.CidrRange",
    rows: &[
        one(1, "address_prefix", Supported, TEXT),
        one(2, "prefix_len", Supported, Message(&UINT32_VALUE)),
    ],
};

pub static METADATA: Schema = Schema {
    name: "envoy.config.core.v3.Metadata",
    rows: &[
        map(1, "filter_metadata", Supported, OPAQUE),
        map(2, "typed_filter_metadata", Harmless("only informs"), OPAQUE),
    ],
};

pub static LOCALITY: Schema = Schema {
    name: "envoy.config.core.v3.Locality",
    rows: &[
        one(1, "region", Harmless("a label"), TEXT),
        one(2, "zone", Harmless("a label"), TEXT),
        one(3, "sub_zone", Harmless("a label"), TEXT),
    ],
};

pub static TCP_KEEPALIVE: Schema = Schema {
    name: "envoy.config.core.v3.TcpKeepalive",
    rows: &[
        one(1, "keepalive_probes", Supported, Message(&UINT32_VALUE)),
        one(2, "keepalive_time", Supported, Message(&UINT32_VALUE)),
        one(3, "keepalive_interval", Supported, Message(&UINT32_VALUE)),
    ],
};

pub static DATA_SOURCE: Schema = Schema {
    name: "envoy.config.core.v3.DataSource",
    rows: &[
        one(1, "filename", Supported, TEXT),
        one(2, "inline_bytes", Supported, BYTES),
        one(3, "inline_string", Supported, TEXT),
        one(4, "environment_variable", NOT_DONE, TEXT),
        one(5, "watched_directory", Warn("files are read when the resource comes"), OPAQUE),
    ],
};

pub static CONFIG_SOURCE: Schema = Schema {
    name: "envoy.config.core.v3.ConfigSource",
    rows: &[
        one(1, "path", NOT_DONE, TEXT),
        one(
            2,
            "api_config_source",
            Harmless(
                "the secrets default and ROOTCA are the proxy's own identity; all else by it is refused",
            ),
            OPAQUE,
        ),
        one(3, "ads", Supported, Message(&AGGREGATED_CONFIG_SOURCE)),
        one(4, "initial_fetch_timeout", Harmless("resources are staged until all are there"), OPAQUE),
        one(5, "self", Supported, Message(&SELF_CONFIG_SOURCE)),
        one(6, "resource_api_version", Supported, VARINT),
        many(7, "authorities", NOT_DONE, OPAQUE),
        one(8, "path_config_source", NOT_DONE, OPAQUE),
    ],
};

pub static AGGREGATED_CONFIG_SOURCE: Schema =
    Schema { name: "envoy.config.core.v3.AggregatedConfigSource", rows: &[] };

pub static SELF_CONFIG_SOURCE: Schema = Schema {
    name: "envoy.config.core.v3.SelfConfigSource",
    rows: &[one(1, "transport_api_version", Supported, VARINT)],
};

pub static TRANSPORT_SOCKET: Schema = Schema {
    name: "envoy.config.core.v3.TransportSocket",
    rows: &[one(1, "name", Supported, TEXT), one(3, "typed_config", Supported, Any(TRANSPORT_SOCKETS))],
};

pub static RAW_BUFFER: Schema =
    Schema { name: "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", rows: &[] };

pub static PROXY_PROTOCOL_UPSTREAM: Schema = Schema {
    name: "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
    rows: &[
        one(1, "config", Supported, Message(&PROXY_PROTOCOL_CONFIG)),
        one(2, "transport_socket", Supported, Message(&TRANSPORT_SOCKET)),
        one(3, "allow_unspecified_address", NOT_DONE, VARINT),
        one(4, "tlv_as_pool_key", Harmless("such connections are not shared at all"), VARINT),
    ],
};

pub static PROXY_PROTOCOL_CONFIG: Schema = Schema {
    name: "envoy.config.core.v3.ProxyProtocolConfig",
    rows: &[
        one(1, "version", Supported, VARINT),
        one(2, "pass_through_tlvs", NOT_DONE, OPAQUE),
        many(3, "added_tlvs", NOT_DONE, OPAQUE),
    ],
};

pub static BOOL_VALUE: Schema =
    Schema { name: "google.protobuf.BoolValue", rows: &[one(1, "value", Supported, VARINT)] };

pub static UINT32_VALUE: Schema =
    Schema { name: "google.protobuf.UInt32Value", rows: &[one(1, "value", Supported, VARINT)] };

pub static UINT64_VALUE: Schema =
    Schema { name: "google.protobuf.UInt64Value", rows: &[one(1, "value", Supported, VARINT)] };

pub static DURATION: Schema = Schema {
    name: "google.protobuf.Duration",
    rows: &[one(1, "seconds", Supported, VARINT), one(2, "nanos", Supported, VARINT)],
};

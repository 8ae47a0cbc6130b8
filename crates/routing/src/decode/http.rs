//! The HTTP connection manager and the options of HTTP.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as PbHttpRbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier, ServerHeaderTransformation,
    StripPortMode,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::UInt32Value;

use super::reader::Reader;
use super::{access_log, core, rbac, route};
use crate::fields::type_name;
use crate::types::{
    Codec, ConnectionLife, EscapedSlashes, ForwardClientCert, Http2Keepalive, Http2Options, HttpConfig,
    HttpFilter, HttpLimits, HttpTimeouts, PathPolicy, RequestIdPolicy, RouteSource, ServerHeader, StripPort,
    Underscores, Upgrades,
};

/// A map of fields holds 24,576 names; what is added on the way must have room.
const HEADERS_HELD_MAX: u32 = 16 * 1024;

pub(super) fn http(
    reader: &mut Reader,
    config: &pb::HttpConnectionManager,
    key: &Arc<str>,
) -> Option<HttpConfig> {
    let codec = match reader.choice("codec_type", config.codec_type) {
        Some(CodecType::Auto) => Some(Codec::Auto),
        Some(CodecType::Http1) => Some(Codec::Http1),
        Some(CodecType::Http2) => Some(Codec::Http2),
        Some(CodecType::Http3) => {
            reader.problem_at("codec_type", "is HTTP/3, which is not spoken here");
            None
        }
        None => None,
    };
    let routes = match config.route_specifier.as_ref() {
        Some(RouteSpecifier::Rds(rds)) => reader.at("rds", |reader| {
            core::same_stream(reader, "config_source", rds.config_source.as_ref());
            reader.required_text("route_config_name", &rds.route_config_name).map(RouteSource::Rds)
        }),
        Some(RouteSpecifier::RouteConfig(found)) => reader
            .at("route_config", |reader| route::config(reader, found))
            .map(|config| RouteSource::Inline { key: key.clone(), config: Arc::new(config) }),
        // The table has refused it.
        Some(RouteSpecifier::ScopedRoutes(_)) => None,
        None => {
            reader.problem("needs rds or route_config");
            None
        }
    };
    let filters = filters(reader, &config.http_filters);
    let strip_port = match (config.strip_matching_host_port, config.strip_port_mode.as_ref()) {
        (true, Some(StripPortMode::StripAnyHostPort(true))) => {
            reader.problem_at("strip_any_host_port", "does not go with strip_matching_host_port");
            StripPort::Keep
        }
        (_, Some(StripPortMode::StripAnyHostPort(true))) => StripPort::Any,
        (true, _) => StripPort::Matching,
        (false, _) => StripPort::Keep,
    };
    let escaped_slashes = reader
        .choice("path_with_escaped_slashes_action", config.path_with_escaped_slashes_action)
        .map(|action| match action {
            PathWithEscapedSlashesAction::ImplementationSpecificDefault
            | PathWithEscapedSlashesAction::KeepUnchanged => EscapedSlashes::Keep,
            PathWithEscapedSlashesAction::RejectRequest => EscapedSlashes::Refuse,
            PathWithEscapedSlashesAction::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
            PathWithEscapedSlashesAction::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
        });
    let server_header = reader
        .choice("server_header_transformation", config.server_header_transformation)
        .map(|transformation| match transformation {
            ServerHeaderTransformation::Overwrite => ServerHeader::Overwrite,
            ServerHeaderTransformation::AppendIfAbsent => ServerHeader::AppendIfAbsent,
            ServerHeaderTransformation::PassThrough => ServerHeader::PassThrough,
        });
    let forward_client_cert = reader
        .choice("forward_client_cert_details", config.forward_client_cert_details)
        .map(|details| match details {
            ForwardClientCertDetails::Sanitize => ForwardClientCert::Sanitize,
            ForwardClientCertDetails::ForwardOnly => ForwardClientCert::ForwardOnly,
            ForwardClientCertDetails::AppendForward => ForwardClientCert::AppendForward,
            ForwardClientCertDetails::SanitizeSet => ForwardClientCert::SanitizeSet,
            ForwardClientCertDetails::AlwaysForwardOnly => ForwardClientCert::AlwaysForwardOnly,
        });
    let empty = core_pb::HttpProtocolOptions::default();
    let options = config.common_http_protocol_options.as_ref().unwrap_or(&empty);
    let underscores = reader
        .at("common_http_protocol_options", |reader| {
            reader.choice("headers_with_underscores_action", options.headers_with_underscores_action)
        })
        .map(|action| match action {
            HeadersWithUnderscoresAction::Allow => Underscores::Allow,
            HeadersWithUnderscoresAction::RejectRequest => Underscores::Refuse,
            HeadersWithUnderscoresAction::DropHeader => Underscores::Drop,
        });
    let (timeouts, limits) = timeouts_and_limits(reader, config, options);
    Some(HttpConfig {
        stat_prefix: config.stat_prefix.as_str().into(),
        codec: codec?,
        routes: routes?,
        filters: filters?,
        access_log: access_log::access_logs(reader, &config.access_log),
        path: PathPolicy { merge_slashes: config.merge_slashes, escaped_slashes: escaped_slashes? },
        underscores: underscores?,
        strip_port,
        upgrades: upgrades(reader, &config.upgrade_configs),
        timeouts,
        limits,
        server_name: (!config.server_name.is_empty()).then(|| config.server_name.as_str().into()),
        server_header: server_header?,
        use_remote_address: config.use_remote_address.as_ref().is_some_and(|remote| remote.value),
        xff_trusted_hops: config.xff_num_trusted_hops,
        skip_xff_append: config.skip_xff_append,
        via: (!config.via.is_empty()).then(|| config.via.as_str().into()),
        request_id: RequestIdPolicy {
            generate: config.generate_request_id.as_ref().is_none_or(|generate| generate.value),
            preserve_external: config.preserve_external_request_id,
            in_response: config.always_set_request_id_in_response,
        },
        forward_client_cert: forward_client_cert?,
        stamp: None,
    })
}

/// All but the router, which must be the last.
fn filters(reader: &mut Reader, filters: &[pb::HttpFilter]) -> Option<Vec<HttpFilter>> {
    let mut routed = false;
    let read = reader.list("http_filters", filters, |reader, filter| {
        if routed {
            reader.problem("stands after the router");
            return None;
        }
        let Some(ConfigType::TypedConfig(any)) = filter.config_type.as_ref() else {
            reader.problem_at("typed_config", "is required");
            return None;
        };
        reader.at("typed_config", |reader| match type_name(&any.type_url) {
            "envoy.extensions.filters.http.router.v3.Router" => {
                routed = true;
                None
            }
            "envoy.extensions.filters.http.rbac.v3.RBAC" => {
                let config: PbHttpRbac = reader.any(any)?;
                rbac::http(reader, &config).map(HttpFilter::Rbac)
            }
            // It has no fields.
            "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb" => Some(HttpFilter::GrpcWeb),
            // The table has refused it.
            _ => None,
        })
    });
    if !routed {
        reader.problem_at("http_filters", "must end with the router");
    }
    // One less: the router.
    (read.len() + 1 == filters.len()).then_some(read)
}

fn upgrades(reader: &mut Reader, configs: &[pb::http_connection_manager::UpgradeConfig]) -> Upgrades {
    let mut upgrades = Upgrades::default();
    reader.list("upgrade_configs", configs, |reader, config| {
        let enabled = config.enabled.as_ref().is_none_or(|enabled| enabled.value);
        if config.upgrade_type.eq_ignore_ascii_case("websocket") {
            upgrades.websocket = enabled;
        } else if config.upgrade_type.eq_ignore_ascii_case("CONNECT") {
            upgrades.connect = enabled;
        } else {
            reader.problem_at(
                "upgrade_type",
                format!("is neither websocket nor CONNECT: {:?}", config.upgrade_type),
            );
        }
        Some(())
    });
    upgrades
}

fn timeouts_and_limits(
    reader: &mut Reader,
    config: &pb::HttpConnectionManager,
    options: &core_pb::HttpProtocolOptions,
) -> (HttpTimeouts, HttpLimits) {
    let at = "common_http_protocol_options";
    let timeouts = HttpTimeouts {
        idle: reader.at(at, |reader| reader.duration("idle_timeout", options.idle_timeout.as_ref())),
        stream_idle: reader.duration("stream_idle_timeout", config.stream_idle_timeout.as_ref()),
        request_headers: reader.duration("request_headers_timeout", config.request_headers_timeout.as_ref()),
        max_stream: reader
            .at(at, |reader| reader.duration("max_stream_duration", options.max_stream_duration.as_ref())),
    };
    let head_kib_max = config.max_request_headers_kb.as_ref().map(|limit| limit.value);
    if head_kib_max.is_some_and(|limit| limit == 0 || limit > 8192) {
        reader.problem_at("max_request_headers_kb", "must be from 1 to 8192");
    }
    let headers_max = options.max_headers_count.as_ref().map(|limit| limit.value);
    if headers_max == Some(0) {
        reader.problem_at("common_http_protocol_options.max_headers_count", "must be at least 1");
    }
    if headers_max.is_some_and(|limit| limit > HEADERS_HELD_MAX) {
        let why = "a head of more than 16384 fields is refused in any case";
        reader.not_done_at("common_http_protocol_options.max_headers_count", why);
    }
    let limits = HttpLimits {
        head_kib_max,
        headers_max: headers_max.map(|limit| limit.min(HEADERS_HELD_MAX)),
        life: reader.at(at, |reader| connection_life(reader, options)),
        http2: http2(reader, "http2_protocol_options", config.http2_protocol_options.as_ref()),
    };
    (timeouts, limits)
}

pub(super) fn connection_life(reader: &mut Reader, options: &core_pb::HttpProtocolOptions) -> ConnectionLife {
    let duration =
        reader.positive_duration("max_connection_duration", options.max_connection_duration.as_ref());
    ConnectionLife {
        duration_max: duration,
        jitter_percent: percent(
            reader,
            "max_connection_duration_jitter",
            options.max_connection_duration_jitter.as_ref(),
            0,
        ),
        requests_max: requests_max(options.max_requests_per_connection.as_ref()),
    }
}

/// Zero is no limit.
pub(super) fn requests_max(said: Option<&UInt32Value>) -> Option<u32> {
    said.map(|limit| limit.value).filter(|limit| *limit > 0)
}

fn percent(reader: &mut Reader, step: &str, said: Option<&Percent>, default: u32) -> u32 {
    let Some(said) = said else { return default };
    if !(0.0..=100.0).contains(&said.value) {
        reader.problem_at(step, format!("is not from 0 to 100: {}", said.value));
        return default;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 100")]
    let percent = said.value.round() as u32;
    percent
}

pub(super) fn http2(
    reader: &mut Reader,
    step: &str,
    options: Option<&core_pb::Http2ProtocolOptions>,
) -> Http2Options {
    let Some(options) = options else {
        return Http2Options::default();
    };
    reader.at(step, |reader| {
        let streams_max = options.max_concurrent_streams.as_ref().map(|limit| limit.value);
        if streams_max.is_some_and(|limit| limit == 0 || limit > i32::MAX.unsigned_abs()) {
            reader.problem_at("max_concurrent_streams", "must be from 1 to 2147483647");
        }
        let mut window = |step: &str, value: Option<u32>| {
            // RFC 9113: no window above 2³¹ - 1; Envoy takes none below the default.
            if value.is_some_and(|value| !(65535..=i32::MAX.unsigned_abs()).contains(&value)) {
                reader.problem_at(step, "must be from 65535 to 2147483647");
            }
            value
        };
        let stream_window = window(
            "initial_stream_window_size",
            options.initial_stream_window_size.as_ref().map(|size| size.value),
        );
        let connection_window = window(
            "initial_connection_window_size",
            options.initial_connection_window_size.as_ref().map(|size| size.value),
        );
        let updates = options.max_inbound_window_update_frames_per_data_frame_sent.as_ref();
        if updates.is_some_and(|limit| limit.value == 0) {
            reader.problem_at("max_inbound_window_update_frames_per_data_frame_sent", "must be at least 1");
        }
        let value = |limit: Option<&UInt32Value>| limit.map(|limit| limit.value);
        Http2Options {
            streams_max,
            stream_window,
            connection_window,
            extended_connect: options.allow_connect,
            empty_frames_max: value(options.max_consecutive_inbound_frames_with_empty_payload.as_ref()),
            priorities_per_stream_max: value(options.max_inbound_priority_frames_per_stream.as_ref()),
            window_updates_per_data_max: value(updates),
            keepalive: options
                .connection_keepalive
                .as_ref()
                .map(|said| reader.at("connection_keepalive", |reader| keepalive(reader, said))),
        }
    })
}

/// Envoy's own numbers where it says nothing.
fn keepalive(reader: &mut Reader, said: &core_pb::KeepaliveSettings) -> Http2Keepalive {
    const JITTER_PERCENT: u32 = 15;
    if said.timeout.is_none() {
        reader.problem_at("timeout", "is required");
    }
    let interval = reader.positive_duration("interval", said.interval.as_ref());
    let timeout = reader.positive_duration("timeout", said.timeout.as_ref());
    Http2Keepalive {
        interval,
        timeout: timeout.unwrap_or_default(),
        jitter_percent: percent(reader, "interval_jitter", said.interval_jitter.as_ref(), JITTER_PERCENT),
    }
}

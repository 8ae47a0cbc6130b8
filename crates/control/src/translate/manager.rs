//! The HTTP connection manager's settings that hold everywhere: limits, timeouts, normal paths,
//! upgrades, the access log.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3 as accesslog;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use envoy_types::pb::envoy::extensions::filters::http::grpc_web::v3::GrpcWeb;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf as google;
use hcm::http_connection_manager::{
    CodecType, PathWithEscapedSlashesAction, RouteSpecifier, ServerHeaderTransformation, UpgradeConfig,
};
use weft_model::{AccessLogFormat, Mesh};

use super::proto::{any, boolean, duration, uint32};

const HEAD_KIB_MAX: u32 = 60;
const HEADERS_MAX: u32 = 100;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const STREAM_IDLE: Duration = Duration::from_secs(300);
const STREAMS_MAX: u32 = 100;
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// For bulk; and all tunnels of a connection have room at once, so that one which nobody reads stops no other.
const TUNNEL_STREAM_WINDOW: u32 = 256 * 1024;
const TUNNEL_CONNECTION_WINDOW: u32 = STREAMS_MAX * TUNNEL_STREAM_WINDOW;

/// What differs from one connection manager to another.
pub struct Wanted {
    /// Its name in metrics.
    pub stat_prefix: String,
    /// Its routes.
    pub routes: RouteSpecifier,
    /// Filters before the router.
    pub filters: Vec<hcm::HttpFilter>,
    /// Whether a route or policy looks at paths: then only one spelling of a path gets through.
    pub paths_matter: bool,
    /// Whether CONNECT is taken.
    pub connect: bool,
    /// Whether CONNECT by HTTP/2 is all that comes, with a TCP connection in each stream.
    pub tunnels: bool,
    /// Whether the caller's identity is told to the app.
    pub tell_caller: bool,
    /// What becomes of header fields with a `_` in their names: many an app takes `x_role` for `x-role`, which
    /// policies and proxies before it did not look at.
    pub underscores: HeadersWithUnderscoresAction,
}

/// A connection manager as a network filter.
pub fn filter(mesh: &Mesh, wanted: Wanted) -> listener::Filter {
    let upgrade = |kind: &str| UpgradeConfig { upgrade_type: kind.to_owned(), ..Default::default() };
    let websocket = (!wanted.tunnels).then(|| upgrade("websocket"));
    let connect = (wanted.connect || wanted.tunnels).then(|| upgrade("CONNECT"));
    let upgrades = websocket.into_iter().chain(connect).collect();
    let idle = mesh.defaults.idle_timeout.get();
    let (codec, stream_idle, windows) = if wanted.tunnels {
        (CodecType::Http2, idle, (TUNNEL_STREAM_WINDOW, TUNNEL_CONNECTION_WINDOW))
    } else {
        (CodecType::Auto, STREAM_IDLE, (STREAM_WINDOW, CONNECTION_WINDOW))
    };
    let escaped = if wanted.paths_matter {
        PathWithEscapedSlashesAction::RejectRequest
    } else {
        PathWithEscapedSlashesAction::KeepUnchanged
    };
    let mut filters = wanted.filters;
    filters.push(router());
    let manager = hcm::HttpConnectionManager {
        codec_type: codec as i32,
        stat_prefix: wanted.stat_prefix,
        http_filters: filters,
        route_specifier: Some(wanted.routes),
        normalize_path: Some(boolean(true)),
        merge_slashes: wanted.paths_matter,
        path_with_escaped_slashes_action: escaped as i32,
        max_request_headers_kb: Some(uint32(HEAD_KIB_MAX)),
        request_headers_timeout: Some(duration(HEAD_TIMEOUT)),
        stream_idle_timeout: Some(duration(stream_idle)),
        common_http_protocol_options: Some(core::HttpProtocolOptions {
            idle_timeout: Some(duration(idle)),
            max_headers_count: Some(uint32(HEADERS_MAX)),
            headers_with_underscores_action: wanted.underscores as i32,
            ..Default::default()
        }),
        http2_protocol_options: Some(core::Http2ProtocolOptions {
            max_concurrent_streams: Some(uint32(STREAMS_MAX)),
            initial_stream_window_size: Some(uint32(windows.0)),
            initial_connection_window_size: Some(uint32(windows.1)),
            allow_connect: true,
            ..Default::default()
        }),
        server_header_transformation: ServerHeaderTransformation::PassThrough as i32,
        upgrade_configs: upgrades,
        forward_client_cert_details: if wanted.tell_caller {
            hcm::http_connection_manager::ForwardClientCertDetails::SanitizeSet as i32
        } else {
            hcm::http_connection_manager::ForwardClientCertDetails::Sanitize as i32
        },
        set_current_client_cert_details: wanted.tell_caller.then(|| {
            hcm::http_connection_manager::SetCurrentClientCertDetails { uri: true, ..Default::default() }
        }),
        access_log: access_log(mesh),
        ..Default::default()
    };
    listener::Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(any(&manager))),
    }
}

/// The filter that ends each chain.
pub fn router() -> hcm::HttpFilter {
    http_filter("envoy.filters.http.router", any(&Router::default()))
}

/// Makes gRPC of gRPC-Web, for an application that speaks HTTP/2. It stands first, so that a refusal by those behind it
/// is translated back.
pub fn grpc_web() -> hcm::HttpFilter {
    http_filter("envoy.filters.http.grpc_web", any(&GrpcWeb::default()))
}

/// A named HTTP filter.
pub fn http_filter(name: &str, config: google::Any) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

/// What the JSON log says, by key.
const JSON_LOG: [(&str, &str); 15] = [
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration_ms", "%DURATION%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("route", "%ROUTE_NAME%"),
];

/// The access log that the Mesh asks for.
pub fn access_log(mesh: &Mesh) -> Vec<accesslog::AccessLog> {
    let Some(path) = mesh.access_log.path.clone() else { return Vec::new() };
    let format = (mesh.access_log.format == AccessLogFormat::Json).then(|| {
        let fields: HashMap<String, google::Value> = JSON_LOG
            .iter()
            .map(|(key, text)| {
                let kind = Some(google::value::Kind::StringValue((*text).to_owned()));
                ((*key).to_owned(), google::Value { kind })
            })
            .collect();
        file_access_log::AccessLogFormat::LogFormat(core::SubstitutionFormatString {
            format: Some(core::substitution_format_string::Format::JsonFormat(google::Struct { fields })),
            ..Default::default()
        })
    });
    let log = FileAccessLog { path, access_log_format: format };
    vec![accesslog::AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        config_type: Some(accesslog::access_log::ConfigType::TypedConfig(any(&log))),
        ..Default::default()
    }]
}

//! What the peers are started with: the features that a Weft proxy has on by default, as each peer does them.
//!
//! Envoy: access log, request id, normalised paths, routes by header, weighted clusters, retries, RBAC, outlier
//! detection, circuit breakers. HAProxy: log, ACL routes, unique id. nginx: access log, request id. Between proxies:
//! mTLS 1.3 with the mesh's own certificates, HTTP/2 where the peer can.

use std::path::Path;

use serde_json::{Value, json};

use crate::machine::connections_max;

/// What a proxy does in a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Http1,
    Http2,
    /// As [`Mode::Http2`], to the origin that streams.
    Stream,
    Tcp,
    /// HTTP/1.1 from the app, mTLS to the other proxy.
    Out,
    /// mTLS from the other proxy, HTTP/1.1 to the app.
    In,
    /// Bytes from the app, mTLS to the other proxy.
    TcpOut,
    /// mTLS from the other proxy, bytes to the app.
    TcpIn,
}

impl Mode {
    fn is_tcp(self) -> bool {
        matches!(self, Mode::Tcp | Mode::TcpOut | Mode::TcpIn)
    }

    fn is_http2(self) -> bool {
        matches!(self, Mode::Http2 | Mode::Stream)
    }
}

/// Ports and files of one proxy.
pub struct Place<'a> {
    pub listen: u16,
    pub upstream: u16,
    pub dir: &'a Path,
    /// `key.pem`, `chain.pem`, `bundle.pem` of this side.
    pub identity: &'a Path,
}

fn any(message: &str, mut body: Value) -> Value {
    body["@type"] = json!(format!("type.googleapis.com/{message}"));
    body
}

pub fn envoy(mode: Mode, place: &Place<'_>) -> String {
    let filter = if mode.is_tcp() {
        let tcp = json!({"stat_prefix": "tcp", "cluster": "up"});
        json!({"name": "tcp", "typed_config": any("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", tcp)})
    } else {
        envoy_http(mode, place)
    };
    let mut chain = json!({"filters": [filter]});
    if matches!(mode, Mode::In | Mode::TcpIn) {
        let tls = json!({"require_client_certificate": true, "common_tls_context": envoy_tls(place, None)});
        let tls = any("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", tls);
        chain["transport_socket"] = json!({"name": "tls", "typed_config": tls});
    }
    let config = json!({"static_resources": {
        "listeners": [{"name": "in", "address": address(place.listen), "filter_chains": [chain]}],
        "clusters": [envoy_cluster("up", mode, place), envoy_cluster("up2", mode, place)],
    }});
    config.to_string()
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn envoy_http(mode: Mode, place: &Place<'_>) -> Value {
    let codec = match mode {
        Mode::Http2 | Mode::Stream => "HTTP2",
        Mode::In => "AUTO",
        _ => "HTTP1",
    };
    let log = json!({"path": place.dir.join("access.log")});
    let rbac = json!({"rules": {"action": "ALLOW", "policies": {
        "all": {"permissions": [{"any": true}], "principals": [{"any": true}]}}}});
    let retry = json!({"retry_on": "connect-failure,refused-stream", "num_retries": 2});
    let split = json!({"clusters": [{"name": "up", "weight": 90}, {"name": "up2", "weight": 10}]});
    let canary = json!([{"name": "x-canary", "string_match": {"exact": "1"}}]);
    let gold = json!([{"name": "x-tier", "string_match": {"exact": "gold"}}]);
    let hcm = json!({
        "stat_prefix": "http", "codec_type": codec, "generate_request_id": true, "normalize_path": true,
        "access_log": [{"name": "file", "typed_config":
            any("envoy.extensions.access_loggers.file.v3.FileAccessLog", log)}],
        "http_filters": [
            {"name": "rbac", "typed_config": any("envoy.extensions.filters.http.rbac.v3.RBAC", rbac)},
            {"name": "router", "typed_config": any("envoy.extensions.filters.http.router.v3.Router", json!({}))},
        ],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/admin"}, "route": {"cluster": "up"}},
            {"match": {"prefix": "/", "headers": canary}, "route": {"cluster": "up2"}},
            {"match": {"prefix": "/", "headers": gold}, "route": {"cluster": "up2"}},
            {"match": {"prefix": "/"}, "route":
                {"weighted_clusters": split, "timeout": "15s", "retry_policy": retry}},
        ]}]},
    });
    let message = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    json!({"name": "http", "typed_config": any(message, hcm)})
}

fn envoy_tls(place: &Place<'_>, peer: Option<&str>) -> Value {
    let file = |name: &str| json!({"filename": place.identity.join(name)});
    let mut validation = json!({"trusted_ca": file("bundle.pem")});
    if let Some(peer) = peer {
        validation["match_typed_subject_alt_names"] =
            json!([{"san_type": "URI", "matcher": {"exact": peer}}]);
    }
    json!({
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{"certificate_chain": file("chain.pem"), "private_key": file("key.pem")}],
        "validation_context": validation,
    })
}

fn envoy_cluster(name: &str, mode: Mode, place: &Place<'_>) -> Value {
    let limits = json!({"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000,
        "track_remaining": true});
    let mut cluster = json!({
        "name": name, "type": "STATIC", "connect_timeout": "1s", "lb_policy": "LEAST_REQUEST",
        "outlier_detection": {}, "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints":
            [{"endpoint": {"address": address(place.upstream)}}]}]},
    });
    if mode.is_http2() || mode == Mode::Out {
        let message = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let options = json!({"explicit_http_config": {"http2_protocol_options": {}}});
        cluster["typed_extension_protocol_options"] = json!({message: any(message, options)});
    }
    if matches!(mode, Mode::Out | Mode::TcpOut) {
        let tls = json!({"sni": "be1.mesh.internal", "common_tls_context":
            envoy_tls(place, Some("spiffe://mesh.internal/ns/default/sa/be1"))});
        let mut tls = any("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", tls);
        let protocols = if mode == Mode::Out { json!(["h2"]) } else { json!([]) };
        tls["common_tls_context"]["alpn_protocols"] = protocols;
        cluster["transport_socket"] = json!({"name": "tls", "typed_config": tls});
    }
    cluster
}

/// `identity/both.pem` must hold chain and key.
pub fn haproxy(mode: Mode, place: &Place<'_>) -> String {
    let file = |name: &str| place.identity.join(name).display().to_string();
    let bare = format!("ssl crt {} ca-file {} verify required", file("both.pem"), file("bundle.pem"));
    let tls = format!("{bare} alpn h2");
    let (bind, server) = match mode {
        Mode::Http1 | Mode::Tcp => (String::new(), String::new()),
        Mode::Http2 | Mode::Stream => ("proto h2".to_owned(), "proto h2".to_owned()),
        Mode::TcpOut => (String::new(), bare),
        Mode::TcpIn => (bare, String::new()),
        // With an SNI HAProxy wants that name in the certificate; an SVID has none.
        Mode::Out => (String::new(), tls),
        Mode::In => (format!("{tls},http/1.1"), String::new()),
    };
    let (kind, http) = if mode.is_tcp() { ("tcp", String::new()) } else { ("http", HAPROXY_HTTP.to_owned()) };
    let reuse = if mode.is_tcp() { "" } else { "  http-reuse always\n" };
    let (listen, upstream, connections) = (place.listen, place.upstream, connections_max());
    let log = if mode.is_tcp() { "" } else { "  log stdout format raw daemon\n" };
    format!(
        "global\n  nbthread 1\n  maxconn {connections}\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n  \
         ssl-default-server-options ssl-min-ver TLSv1.3\n  ssl-server-verify required\n\
         defaults\n  mode {kind}\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s\n{reuse}\
         frontend f\n  bind 127.0.0.1:{listen} {bind}\n{log}{http}  default_backend b\n\
         backend b\n  server s 127.0.0.1:{upstream} {server}\n"
    )
}

const HAPROXY_HTTP: &str = "  option httplog\n  acl canary hdr(x-canary) 1\n  acl gold hdr(x-tier) gold\n  acl admin path_beg /admin\n  unique-id-format %{+X}o%ci:%cp_%fi:%fp_%Ts_%rt:%pid\n  unique-id-header x-request-id\n  use_backend b if admin\n  use_backend b if canary\n  use_backend b if gold\n";

pub fn nginx(mode: Mode, place: &Place<'_>) -> String {
    let dir = place.dir.display();
    let (listen, upstream) = (place.listen, place.upstream);
    let http2 = if mode.is_http2() { "http2" } else { "" };
    let pass = if mode.is_http2() { "grpc_pass grpc://up;" } else { "proxy_pass http://up;" };
    format!(
        "daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log error;\n\
         events {{ worker_connections 16384; }}\n\
         http {{\n  access_log {dir}/access.log; keepalive_requests 1000000000;\n  \
         client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;\n  \
         uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n  \
         upstream up {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}\n  \
         server {{ listen 127.0.0.1:{listen} {http2} backlog=4096;\n    \
         location / {{ proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;\n      \
         proxy_set_header X-Request-Id $request_id; {pass} }}\n  }}\n}}\n"
    )
}

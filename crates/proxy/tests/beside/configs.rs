//! The peers' configurations.

use std::{fmt::Write as _, net::SocketAddr, path::Path, time::Duration};

use serde_json::{Value, json};

use super::{Limits, Speak, Way};

pub struct Config<'a> {
    pub ways: &'a [Way],
    pub limits: &'a Limits,
    pub admin: SocketAddr,
    /// With its key.
    pub certificate: &'a Path,
}

fn seconds(wait: Duration) -> String {
    format!("{}s", wait.as_secs_f64())
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

fn typed(name: &str, kind: &str, mut fields: Value) -> Value {
    fields["@type"] = format!("type.googleapis.com/{kind}").into();
    json!({"name": name, "typed_config": fields})
}

impl Config<'_> {
    /// The features that bear on what is read (paths in one form), and what Envoy's page on edges says of limits.
    pub fn envoy(&self) -> String {
        let mut listeners = Vec::new();
        let mut clusters = Vec::new();
        for (number, way) in self.ways.iter().enumerate() {
            let cluster = |origin: usize| format!("o{number}-{origin}");
            listeners.push(self.envoy_listener(way, cluster));
            for (place, origin) in way.origins.iter().enumerate() {
                let name = cluster(place);
                let mut made = json!({"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment":
                    {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(origin.at)}}]}]}});
                if origin.http2 {
                    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
                    made["typed_extension_protocol_options"] = json!({options: {
                        "@type": format!("type.googleapis.com/{options}"),
                        "explicit_http_config": {"http2_protocol_options": {}}}});
                }
                clusters.push(made);
            }
        }
        let mut config = json!({
            "static_resources": {"listeners": listeners, "clusters": clusters},
            "admin": {"address": address(self.admin), "ignore_global_conn_limit": true},
        });
        if let Some(manager) = self.envoy_overload() {
            config["overload_manager"] = manager;
        }
        config.to_string()
    }

    fn envoy_listener(&self, way: &Way, cluster: impl Fn(usize) -> String) -> Value {
        let codec = match way.speak {
            Speak::Http1 => "HTTP1",
            Speak::Http2 => "HTTP2",
            Speak::Either => "AUTO",
        };
        let hosts: Vec<Value> = way
            .origins
            .iter()
            .enumerate()
            .map(|(place, origin)| {
                let mut action = json!({"cluster": cluster(place)});
                if self.limits.wait.is_some() {
                    // The waits are the limit, not the whole of an answer.
                    action["timeout"] = "0s".into();
                }
                json!({"name": cluster(place), "domains": [origin.host],
                    "routes": [{"match": {"prefix": "/"}, "route": action}]})
            })
            .collect();
        let mut filters = vec![typed("router", "envoy.extensions.filters.http.router.v3.Router", json!({}))];
        if way.origins.iter().any(|origin| origin.http2) {
            let kind = "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb";
            filters.insert(0, typed("grpc_web", kind, json!({})));
        }
        let mut manager = json!({
            "stat_prefix": "http", "codec_type": codec, "normalize_path": true, "merge_slashes": true,
            "http_filters": filters,
            "route_config": {"virtual_hosts": hosts},
        });
        let mut chain = json!({});
        let mut listener = json!({"name": way.at.to_string(), "address": address(way.at)});
        if let Some(wait) = self.limits.wait.map(seconds) {
            manager["request_headers_timeout"] = wait.clone().into();
            manager["stream_idle_timeout"] = wait.clone().into();
            manager["drain_timeout"] = wait.clone().into();
            manager["common_http_protocol_options"] = json!({"idle_timeout": wait});
            chain["transport_socket_connect_timeout"] = wait.into();
        }
        if self.limits.memory.is_some() {
            listener["per_connection_buffer_limit_bytes"] = 32_768.into();
        }
        if way.tls {
            let file = json!({"filename": self.certificate});
            chain["transport_socket"] = typed(
                "envoy.transport_sockets.tls",
                "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                json!({"common_tls_context": {"alpn_protocols": ["h2", "http/1.1"],
                    "tls_certificates": [{"certificate_chain": file, "private_key": file}]}}),
            );
        }
        let kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
        chain["filters"] = json!([typed("http", kind, manager)]);
        listener["filter_chains"] = json!([chain]);
        listener
    }

    fn envoy_overload(&self) -> Option<Value> {
        let (mut monitors, mut actions, mut points) = (Vec::new(), Vec::new(), Vec::new());
        let monitor = |name: &str, kind: &str, fields| {
            let kind = format!("envoy.extensions.resource_monitors.{kind}");
            typed(&format!("envoy.resource_monitors.{name}"), &kind, fields)
        };
        if let Some(most) = self.limits.connections {
            monitors.push(monitor(
                "global_downstream_max_connections",
                "downstream_connections.v3.DownstreamConnectionsConfig",
                json!({"max_active_downstream_connections": most}),
            ));
        }
        if let Some(bytes) = self.limits.memory {
            monitors.push(monitor(
                "fixed_heap",
                "fixed_heap.v3.FixedHeapConfig",
                json!({"max_heap_size_bytes": bytes}),
            ));
            let at = |value: f64| json!([{"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": value}}]);
            actions.push(json!({"name": "envoy.overload_actions.shrink_heap", "triggers": at(0.9)}));
            actions.push(
                json!({"name": "envoy.overload_actions.stop_accepting_requests", "triggers": at(0.95)}),
            );
            points.push(json!({"name": "envoy.load_shed_points.tcp_listener_accept", "triggers": at(0.95)}));
        }
        (!monitors.is_empty()).then(|| {
            json!({"refresh_interval": "0.25s", "resource_monitors": monitors, "actions": actions,
                "loadshed_points": points})
        })
    }

    pub fn haproxy(&self) -> String {
        let wait = self.limits.wait.map_or("60s".to_owned(), |wait| format!("{}ms", wait.as_millis()));
        let mut text = "global\n  nbthread 1\n".to_owned();
        // By itself it takes what descriptors and memory allow.
        if self.limits.memory.is_none() && self.limits.descriptors.is_none() {
            text += "  maxconn 8000\n";
        }
        let _ = write!(
            text,
            "defaults\n  mode http\n  timeout connect 1s\n  timeout client {wait}\n  timeout server {wait}\n  \
             http-reuse always\n"
        );
        if self.limits.wait.is_some() {
            let _ = write!(text, "  timeout http-request {wait}\n  timeout http-keep-alive {wait}\n");
        }
        let _ = write!(text, "frontend admin\n  bind {}\n  monitor-uri /ready\n", self.admin);
        for (number, way) in self.ways.iter().enumerate() {
            let proto = if way.speak == Speak::Http2 { "proto h2" } else { "" };
            let tls = if way.tls {
                format!("ssl crt {} alpn h2,http/1.1", self.certificate.display())
            } else {
                String::new()
            };
            let _ = write!(text, "frontend f{number}\n  bind {} {tls} {proto}\n", way.at);
            if let Some(most) = self.limits.connections {
                let _ = writeln!(text, "  maxconn {most}");
            }
            for (place, origin) in way.origins.iter().enumerate() {
                let _ = match origin.host {
                    "*" => writeln!(text, "  default_backend b{number}-{place}"),
                    host => writeln!(text, "  use_backend b{number}-{place} if {{ hdr(host) {host} }}"),
                };
            }
            for (place, origin) in way.origins.iter().enumerate() {
                let proto = if origin.http2 { "proto h2" } else { "" };
                let _ = write!(text, "backend b{number}-{place}\n  server s {} {proto}\n", origin.at);
            }
        }
        text
    }
}

//! Bootstraps of the wild, whole and spoilt.

use weft_routing::Strictness;

use super::*;

const STATIC: &str = r#"
node: {id: edge-1, cluster: edge}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
  - name: web
    address: {socket_address: {address: 127.0.0.1, port_value: 8080}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          route_config:
            name: web
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {path: /healthz}
                direct_response: {status: 200, body: {inline_string: ok}}
              - match: {prefix: /}
                route: {cluster: app}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: app
    type: STRICT_DNS
    connect_timeout: 0.25s
    load_assignment:
      cluster_name: app
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: localhost, port_value: 9000}}}
"#;

const DYNAMIC: &str = r#"
node: {id: default/be2-x, cluster: be2, metadata: {service: be2, namespace: shop}}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services: [{envoy_grpc: {cluster_name: xds}}]
  cds_config: {ads: {}, resource_api_version: V3}
  lds_config: {ads: {}, resource_api_version: V3}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    http2_protocol_options: {}
    load_assignment:
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 10.0.0.9, port_value: 18000}}}
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: istiod.example
        common_tls_context:
          validation_context: {trusted_ca: {filename: /etc/ca.pem}}
"#;

fn read(text: &str) -> Result<Config, String> {
    parse(text, PathBuf::from("/nonexistent")).map_err(|error| error.to_string())
}

#[test]
fn static_resources_become_a_table() {
    let config = read(STATIC).unwrap();
    assert_eq!(config.ports.admin, Some("127.0.0.1:0".parse().unwrap()));
    assert!(config.foreign.is_none());
    let staged = config.resources.staged(Strictness::Own).unwrap();
    assert_eq!(staged.consistent(), Ok(()));
    assert!(staged.clusters.contains_key("app") && staged.listeners.contains_key("web"));
}

#[test]
fn xds_server_is_the_cluster_that_ads_names() {
    let config = read(DYNAMIC).unwrap();
    let foreign = config.foreign.unwrap();
    assert_eq!((foreign.address.as_str(), foreign.mode), ("10.0.0.9:18000", XdsMode::Delta));
    let tls = foreign.tls.unwrap();
    assert_eq!(
        (tls.sni.as_deref(), tls.ca_file),
        (Some("istiod.example"), Some(PathBuf::from("/etc/ca.pem")))
    );
    assert_eq!((config.node.service.as_str(), config.node.namespace.as_str()), ("be2", "shop"));
    assert_eq!(config.node.raw.unwrap().id, "default/be2-x");
    assert!(config.resources.is_empty());
}

#[test]
fn json_is_a_bootstrap_too() {
    let text =
        r#"{"node": {"id": "a", "cluster": "b"}, "static_resources": {"listeners": [], "clusters": []}}"#;
    assert_eq!(read(text).unwrap().node.service, "b");
}

#[test]
fn what_is_not_read_is_named() {
    for (from, to, named) in [
        ("stat_prefix: web", "stat_prefix: web\n          tracing: {}", "tracing"),
        ("envoy.filters.http.router\n", "envoy.filters.http.lua\n", "envoy.filters.http.lua"),
        ("connect_timeout: 0.25s", "connect_timeout: 250", "connect_timeout"),
        ("route: {cluster: app}", "route: {cluster: app, hash_policy: []}", "hash_policy"),
        ("prefix: /", "prefix: /, path: /x", "exactly one of prefix and path"),
    ] {
        let spoilt = STATIC.replacen(from, to, 1);
        assert_ne!(spoilt, STATIC, "{from}");
        let error = read(&spoilt).err().unwrap_or_default();
        assert!(error.contains(named), "{named}: {error}");
    }
    let error = read(&DYNAMIC.replace("cluster_name: xds", "cluster_name: other")).err().unwrap_or_default();
    assert!(error.contains("cluster other is not in static_resources"), "{error}");
}

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

const DATAGRAMS: &str = r#"
static_resources:
  listeners:
  - name: names
    address: {socket_address: {protocol: UDP, address: 127.0.0.1, port_value: 5300}}
    udp_listener_config: {}
    listener_filters:
    - name: envoy.filters.udp_listener.udp_proxy
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig
        stat_prefix: names
        cluster: resolvers
        idle_timeout: 1.5s
  clusters:
  - name: resolvers
    load_assignment:
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 192.0.2.53, port_value: 53}}}
"#;

const HEADERS: &str = r#"
static_resources:
  listeners:
  - name: front
    address: {socket_address: {address: 127.0.0.1, port_value: 8443}}
    listener_filters_timeout: 5s
    listener_filters:
    - name: envoy.filters.listener.proxy_protocol
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol
        disallowed_versions: [V1]
    - name: envoy.filters.listener.tls_inspector
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector
    filter_chains:
    - filter_chain_match:
        server_names: [app.example]
        direct_source_prefix_ranges: [{address_prefix: 192.0.2.0, prefix_len: 28}]
      filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: front
          cluster: app
  clusters:
  - name: app
    load_assignment:
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9000}}}
    transport_socket:
      name: envoy.transport_sockets.upstream_proxy_protocol
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport
        config: {version: V2}
        transport_socket:
          name: envoy.transport_sockets.tls
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
            sni: app.example
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
fn grpc_web_stands_before_the_router() {
    let router = "          - name: envoy.filters.http.router\n";
    let read = |before: &str| {
        let text = STATIC.replacen(router, &format!("{before}{router}"), 1);
        let staged = read(&text)?.resources.staged(Strictness::Own)?;
        match &staged.listeners["web"].chains[0].filter {
            weft_routing::NetworkFilter::Http(http) => Ok(http.filters.len()),
            weft_routing::NetworkFilter::Tcp(_) => Err("not HTTP".to_owned()),
        }
    };
    assert_eq!(read(""), Ok(0));
    assert_eq!(read("          - {name: envoy.filters.http.grpc_web}\n"), Ok(1));
    let kind = "type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb";
    assert_eq!(read(&format!("          - {{name: web, typed_config: {{\"@type\": {kind}}}}}\n")), Ok(1));
    let error = read("          - {name: envoy.filters.http.cors}\n").unwrap_err();
    assert!(
        error.contains("http_filters[0].name: envoy.filters.http.cors is not read from a file"),
        "{error}"
    );
}

#[test]
fn datagrams_and_proxy_headers_mean_what_they_mean_by_xds() {
    let staged = |text: &str| {
        let staged = read(text).unwrap().resources.staged(Strictness::Own).unwrap();
        assert_eq!(staged.consistent(), Ok(()));
        staged
    };
    let names = staged(DATAGRAMS);
    let udp = names.listeners["names"].udp.clone().unwrap();
    assert_eq!((udp.address, &*udp.cluster), ("127.0.0.1:5300".parse().unwrap(), "resolvers"));
    assert_eq!(udp.idle_timeout, std::time::Duration::from_millis(1500));
    let front = staged(HEADERS);
    let listener = &front.listeners["front"];
    let taken = listener.proxy_protocol.clone().unwrap();
    assert_eq!((taken.from, taken.optional, taken.takes_v1, taken.takes_v2), (None, false, false, true));
    assert_eq!(listener.listener_filters_timeout, Some(std::time::Duration::from_secs(5)));
    assert!(listener.tls_inspector);
    let direct = &listener.chains[0].matches.direct_source_prefix_ranges;
    assert_eq!(direct.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.0/28"]);
    let app = &front.clusters["app"];
    assert_eq!(app.proxy_protocol, Some(weft_routing::ProxyVersion::V2));
    assert!(app.tls.is_some(), "the header comes before TLS, not instead of it");
}

#[test]
fn what_does_not_go_with_datagrams_or_headers_is_named() {
    // By the file's shape, or by the reader that a control plane's resources go through.
    let said = |text: &str| match read(text) {
        Ok(config) => config.resources.staged(Strictness::Own).err().unwrap_or_default(),
        Err(error) => error,
    };
    let tcp = "socket_address: {protocol: UDP, address: 127.0.0.1";
    for (whole, from, to, named) in [
        (DATAGRAMS, "cluster: resolvers\n", "\n", "cluster"),
        (
            DATAGRAMS,
            "cluster: resolvers\n",
            "cluster: resolvers\n        hash_policies: []\n",
            "hash_policies",
        ),
        (DATAGRAMS, "idle_timeout: 1.5s", "idle_timeout: 0s", "idle_timeout"),
        (DATAGRAMS, "idle_timeout: 1.5s", "idle_timeout: soon", "idle_timeout"),
        (DATAGRAMS, "protocol: UDP", "protocol: SCTP", "SCTP"),
        (DATAGRAMS, tcp, "socket_address: {address: 127.0.0.1", "udp_listener_config"),
        (DATAGRAMS, "address: 192.0.2.53", "protocol: UDP, address: 192.0.2.53", "is not TCP"),
        (HEADERS, "[V1]", "[V1, V2]", "leaves no version"),
        (HEADERS, "[V1]", "[V3]", "V3"),
        (HEADERS, "prefix_len: 28", "prefix_len: 99", "direct_source_prefix_ranges[0]"),
        (HEADERS, "address_prefix: 192.0.2.0", "address_prefix: balancer", "is no IP address"),
        (HEADERS, "{version: V2}", "{version: V0}", "V0"),
        (HEADERS, "{version: V2}", "{version: V2, added_tlvs: []}", "added_tlvs"),
        (HEADERS, "- name: app\n", "- name: app\n    http2_protocol_options: {}\n", "PROXY header"),
    ] {
        let spoilt = whole.replacen(from, to, 1);
        assert_ne!(spoilt, whole, "{from}");
        let error = said(&spoilt);
        assert!(error.contains(named), "{to}: {named}: {error:?}");
    }
    let socket = HEADERS.split_once("    transport_socket:\n").unwrap().1;
    let (before, tls) = DYNAMIC.split_once("    transport_socket:\n").unwrap();
    assert!(tls.contains("UpstreamTlsContext"));
    let error = read(&format!("{before}    transport_socket:\n{socket}")).err().unwrap_or_default();
    assert!(error.contains("cluster xds: transport_socket: a PROXY header is not written"), "{error}");
    let udp = STATIC.replacen(
        "{address: 127.0.0.1, port_value: 0}",
        "{protocol: UDP, address: 127.0.0.1, port_value: 0}",
        1,
    );
    assert!(read(&udp).err().unwrap_or_default().contains("admin.address: protocol"));
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
        // As in Envoy, the type says what a filter is, its name is anybody's.
        ("filters.http.router.v3.Router", "filters.http.lua.v3.Lua", "filters.http.lua.v3.Lua"),
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

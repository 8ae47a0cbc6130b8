//! Static clusters and listeners of a bootstrap, as far as they go, turned into xDS resources.
//!
//! Clusters: STATIC, STRICT_DNS or LOGICAL_DNS with plain endpoints, round robin / least request / random, HTTP/2 by
//! `http2_protocol_options`, TLS from files, PROXY headers. Listeners: one address; of TCP with filter chains of an HTTP
//! connection manager (inline routes by prefix, path or CONNECT to one cluster or weighted ones, redirects, direct
//! answers; the router and before it gRPC-Web alone) or a TCP proxy, chains matched by `server_names` and by who is
//! directly there, and PROXY headers taken; of UDP with a UDP proxy. TLS towards callers, RBAC, header edits, retries
//! and everything else of xDS are **not** read from files: a control plane sends them. Every other field is an error.
//!
//! Here is shape alone. What goes with what is asked where the resources of a control plane are read, and nowhere else.

use envoy_types::pb::google::protobuf::Any;
use serde::Deserialize;

use crate::bootstrap::BootstrapError;

mod listener_filters;
mod to_xds;
mod transport;

use listener_filters::ListenerFilter;
use transport::TransportSocket;
pub use transport::UpstreamTls;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketAddressBox {
    socket_address: SocketAddress,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SocketAddress {
    #[serde(default)]
    protocol: Transport,
    address: String,
    port_value: u16,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum Transport {
    #[default]
    Tcp,
    Udp,
}

impl SocketAddressBox {
    pub fn is_udp(&self) -> bool {
        self.socket_address.protocol == Transport::Udp
    }

    pub fn host_and_port(&self) -> String {
        let SocketAddress { address, port_value, .. } = &self.socket_address;
        if address.contains(':') {
            format!("[{address}]:{port_value}")
        } else {
            format!("{address}:{port_value}")
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    pub name: String,
    #[serde(default, rename = "type")]
    kind: Discovery,
    connect_timeout: Option<String>,
    #[serde(default)]
    lb_policy: Balance,
    load_assignment: Option<LoadAssignment>,
    http2_protocol_options: Option<Nothing>,
    /// Envoy's newer place for the same wish.
    typed_extension_protocol_options: Option<serde_json::Map<String, serde_json::Value>>,
    transport_socket: Option<TransportSocket>,
}

#[derive(Deserialize, Default, Clone, Copy)]
enum Discovery {
    #[default]
    #[serde(rename = "STATIC")]
    Static,
    #[serde(rename = "STRICT_DNS")]
    StrictDns,
    #[serde(rename = "LOGICAL_DNS")]
    LogicalDns,
}

#[derive(Deserialize, Default, Clone, Copy)]
enum Balance {
    #[default]
    #[serde(rename = "ROUND_ROBIN")]
    RoundRobin,
    #[serde(rename = "LEAST_REQUEST")]
    LeastRequest,
    #[serde(rename = "RANDOM")]
    Random,
}

/// A message whose fields we all leave at their defaults.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadAssignment {
    #[serde(rename = "cluster_name")]
    _cluster_name: Option<String>,
    endpoints: Vec<LocalityEndpoints>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalityEndpoints {
    lb_endpoints: Vec<LbEndpoint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LbEndpoint {
    endpoint: Endpoint,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoint {
    address: SocketAddressBox,
}

impl Cluster {
    pub fn first_address(&self) -> Option<String> {
        self.endpoints().next().map(|endpoint| endpoint.address.host_and_port())
    }

    /// How its endpoints are spoken to, as far as it is TLS alone; the error says what is there instead.
    pub fn tls_alone(&self) -> Result<Option<&UpstreamTls>, &'static str> {
        self.transport_socket.as_ref().map_or(Ok(None), TransportSocket::tls_alone)
    }

    pub fn resource(&self, path: &str) -> Result<Any, BootstrapError> {
        to_xds::cluster(self, path)
    }

    fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.load_assignment
            .iter()
            .flat_map(|assignment| &assignment.endpoints)
            .flat_map(|locality| &locality.lb_endpoints)
            .map(|endpoint| &endpoint.endpoint)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    name: String,
    address: SocketAddressBox,
    udp_listener_config: Option<Nothing>,
    #[serde(default)]
    listener_filters: Vec<ListenerFilter>,
    listener_filters_timeout: Option<String>,
    #[serde(default)]
    filter_chains: Vec<FilterChain>,
}

impl Listener {
    pub fn resource(&self, path: &str) -> Result<Any, BootstrapError> {
        to_xds::listener(self, path)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterChain {
    #[serde(default)]
    name: String,
    filter_chain_match: Option<ChainMatch>,
    filters: Vec<Filter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainMatch {
    #[serde(default)]
    server_names: Vec<String>,
    #[serde(default)]
    direct_source_prefix_ranges: Vec<CidrRange>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CidrRange {
    address_prefix: String,
    #[serde(default)]
    prefix_len: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    name: String,
    typed_config: FilterConfig,
}

#[derive(Deserialize)]
#[serde(tag = "@type")]
enum FilterConfig {
    #[serde(
        rename = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    )]
    Http(Http),
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy")]
    Tcp(Tcp),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tcp {
    stat_prefix: String,
    cluster: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    stat_prefix: String,
    route_config: RouteConfig,
    #[serde(default)]
    http_filters: Vec<HttpFilter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpFilter {
    name: String,
    typed_config: Option<HttpFilterConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpFilterConfig {
    #[serde(rename = "@type")]
    kind: HttpFilterKind,
}

#[derive(Deserialize, Clone, Copy)]
enum HttpFilterKind {
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router")]
    Router,
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb")]
    GrpcWeb,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteConfig {
    #[serde(default)]
    name: String,
    virtual_hosts: Vec<VirtualHost>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VirtualHost {
    name: String,
    domains: Vec<String>,
    routes: Vec<Route>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Route {
    #[serde(default)]
    name: String,
    #[serde(rename = "match")]
    matching: RouteMatch,
    route: Option<RouteAction>,
    redirect: Option<Redirect>,
    direct_response: Option<DirectResponse>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteMatch {
    prefix: Option<String>,
    path: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteAction {
    cluster: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Redirect {
    #[serde(default)]
    host_redirect: String,
    #[serde(default)]
    path_redirect: String,
    #[serde(default)]
    https_redirect: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DirectResponse {
    status: u32,
    body: Option<InlineString>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InlineString {
    inline_string: String,
}

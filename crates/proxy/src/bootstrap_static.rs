//! Static clusters and listeners of a bootstrap, as far as they go, turned into xDS resources.
//!
//! Clusters: STATIC, STRICT_DNS or LOGICAL_DNS with plain endpoints, round robin / least request / random, HTTP/2 by
//! `http2_protocol_options`, TLS from files. Listeners: one address, filter chains with an HTTP connection manager
//! (inline routes by prefix, path or CONNECT to one cluster or weighted ones, redirects, direct answers; the router
//! filter alone) or a TCP proxy; chains matched by `server_names`. TLS towards callers, RBAC, header edits, retries and
//! everything else of xDS are **not** read from files: a control plane sends them. Every other field is an error.

use std::path::PathBuf;

use envoy_types::pb::google::protobuf::Any;
use serde::Deserialize;

use crate::bootstrap::BootstrapError;

mod to_xds;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketAddressBox {
    socket_address: SocketAddress,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SocketAddress {
    address: String,
    port_value: u16,
}

impl SocketAddressBox {
    pub fn host_and_port(&self) -> String {
        let SocketAddress { address, port_value } = &self.socket_address;
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TransportSocket {
    #[serde(rename = "name")]
    _name: String,
    typed_config: UpstreamTls,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    #[serde(rename = "@type")]
    _type: UpstreamTlsType,
    pub sni: Option<String>,
    #[serde(default)]
    common_tls_context: CommonTls,
}

#[derive(Deserialize)]
enum UpstreamTlsType {
    #[serde(rename = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext")]
    V3,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct CommonTls {
    #[serde(default)]
    alpn_protocols: Vec<String>,
    #[serde(default)]
    tls_certificates: Vec<TlsCertificate>,
    validation_context: Option<ValidationContext>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsCertificate {
    certificate_chain: File,
    private_key: File,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidationContext {
    trusted_ca: File,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    filename: PathBuf,
}

impl UpstreamTls {
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.common_tls_context.validation_context.as_ref().map(|context| context.trusted_ca.filename.clone())
    }

    pub fn chain_file(&self) -> Option<PathBuf> {
        self.common_tls_context.tls_certificates.first().map(|one| one.certificate_chain.filename.clone())
    }

    pub fn key_file(&self) -> Option<PathBuf> {
        self.common_tls_context.tls_certificates.first().map(|one| one.private_key.filename.clone())
    }
}

impl Cluster {
    pub fn first_address(&self) -> Option<String> {
        self.endpoints().next().map(|endpoint| endpoint.address.host_and_port())
    }

    pub fn upstream_tls(&self) -> Option<&UpstreamTls> {
        self.transport_socket.as_ref().map(|socket| &socket.typed_config)
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
    #[serde(rename = "typed_config")]
    _typed_config: Option<RouterConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouterConfig {
    #[serde(rename = "@type")]
    _type: RouterType,
}

#[derive(Deserialize)]
enum RouterType {
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router")]
    V3,
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

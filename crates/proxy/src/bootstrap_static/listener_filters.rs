//! What a listener does before a filter chain, or with datagrams instead of one.

use envoy_types::pb::{
    envoy::{
        config::listener::v3 as lds,
        extensions::filters::{
            listener::{proxy_protocol::v3 as headers, tls_inspector::v3::TlsInspector},
            udp::udp_proxy::v3::{UdpProxyConfig, udp_proxy_config::RouteSpecifier},
        },
    },
    google::protobuf::Any,
};
use serde::Deserialize;

use super::{
    Nothing,
    to_xds::{any, duration},
    transport::Version,
};
use crate::bootstrap::BootstrapError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerFilter {
    name: String,
    typed_config: Config,
}

#[derive(Deserialize)]
#[serde(tag = "@type")]
enum Config {
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol")]
    Headers(Headers),
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")]
    TlsInspector(Nothing),
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig")]
    Udp(Udp),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Headers {
    #[serde(default)]
    allow_requests_without_proxy_protocol: bool,
    #[serde(default)]
    disallowed_versions: Vec<Version>,
    #[serde(default)]
    stat_prefix: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Udp {
    stat_prefix: String,
    #[serde(default)]
    cluster: String,
    idle_timeout: Option<String>,
}

impl ListenerFilter {
    pub fn message(&self, path: &str) -> Result<lds::ListenerFilter, BootstrapError> {
        let config = match &self.typed_config {
            Config::Headers(wanted) => any(&headers::ProxyProtocol {
                allow_requests_without_proxy_protocol: wanted.allow_requests_without_proxy_protocol,
                disallowed_versions: wanted.disallowed_versions.iter().map(|one| one.number()).collect(),
                stat_prefix: wanted.stat_prefix.clone(),
                ..Default::default()
            }),
            Config::TlsInspector(_) => any(&TlsInspector::default()),
            Config::Udp(wanted) => udp(wanted, path)?,
        };
        Ok(lds::ListenerFilter {
            name: self.name.clone(),
            config_type: Some(lds::listener_filter::ConfigType::TypedConfig(config)),
            ..Default::default()
        })
    }
}

#[expect(deprecated, reason = "the field's other name for it is a tree of matchers")]
fn udp(wanted: &Udp, path: &str) -> Result<Any, BootstrapError> {
    let idle_timeout = wanted.idle_timeout.as_deref();
    Ok(any(&UdpProxyConfig {
        stat_prefix: wanted.stat_prefix.clone(),
        route_specifier: Some(RouteSpecifier::Cluster(wanted.cluster.clone())),
        idle_timeout: idle_timeout
            .map(|text| duration(text, &format!("{path}.typed_config.idle_timeout")))
            .transpose()?,
        ..Default::default()
    }))
}

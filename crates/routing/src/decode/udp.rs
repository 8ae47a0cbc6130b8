//! Listeners of datagrams, and the one filter that they have.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::listener::v3 as pb;
use envoy_types::pb::envoy::config::listener::v3::listener_filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::udp::udp_proxy::v3::UdpProxyConfig;
use envoy_types::pb::envoy::extensions::filters::udp::udp_proxy::v3::udp_proxy_config::RouteSpecifier;

use super::core;
use super::reader::Reader;
use crate::fields::type_name;
use crate::types::{Listener, UdpConfig};

/// As in Envoy.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn listener(
    reader: &mut Reader,
    listener: &pb::Listener,
    name: Arc<str>,
    address: SocketAddr,
) -> Option<Listener> {
    for (there, field) in [
        (!listener.filter_chains.is_empty(), "filter_chains"),
        (listener.default_filter_chain.is_some(), "default_filter_chain"),
        (listener.use_original_dst.as_ref().is_some_and(|original| original.value), "use_original_dst"),
        (listener.bind_to_port.as_ref().is_some_and(|bind| !bind.value), "bind_to_port"),
    ] {
        if there {
            reader.problem_at(field, "does not go with datagrams");
        }
    }
    let proxies = reader.list("listener_filters", &listener.listener_filters, |reader, filter| {
        let Some(ConfigType::TypedConfig(any)) = filter.config_type.as_ref() else {
            reader.problem_at("typed_config", "is required");
            return None;
        };
        reader.at("typed_config", |reader| match type_name(&any.type_url).rsplit('.').next() {
            Some("UdpProxyConfig") => {
                let config: UdpProxyConfig = reader.any(any)?;
                proxy(reader, &config, address)
            }
            _ => {
                reader.problem("does not go with datagrams");
                None
            }
        })
    });
    let [udp] = &proxies[..] else {
        reader.problem_at("listener_filters", "must be one udp_proxy");
        return None;
    };
    Some(Listener {
        name,
        address: None,
        ipv4_compat: listener.address.as_ref().is_some_and(core::is_ipv4_compat),
        bind_to_port: true,
        use_original_dst: false,
        tls_inspector: false,
        http_inspector: false,
        proxy_protocol: None,
        original_dst: false,
        listener_filters_timeout: None,
        continue_on_listener_filters_timeout: false,
        chains: Vec::new(),
        default_chain: None,
        udp: Some(Arc::new(udp.clone())),
        stamp: core::stamp(listener.metadata.as_ref()),
    })
}

fn proxy(reader: &mut Reader, config: &UdpProxyConfig, address: SocketAddr) -> Option<UdpConfig> {
    let cluster = match config.route_specifier.as_ref() {
        Some(RouteSpecifier::Cluster(name)) => reader.required_text("cluster", name),
        // The table has refused it.
        Some(RouteSpecifier::Matcher(_)) => None,
        None => {
            reader.problem_at("cluster", "is required");
            None
        }
    };
    let idle_timeout = reader.positive_duration("idle_timeout", config.idle_timeout.as_ref());
    Some(UdpConfig { address, cluster: cluster?, idle_timeout: idle_timeout.unwrap_or(IDLE_TIMEOUT) })
}

//! Listeners of datagrams: each is one port of an ExternalService at an address of the proxy's own, as its operator
//! asked (`node.metadata["udp"]`). Nothing catches datagrams on their way to a virtual address, and a listener that
//! every proxy of a namespace had would take ports from apps that never asked.
//!
//! Members are not reached so: between them all is mutual TLS, of which there is none for datagrams.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{self as core, TrafficDirection, socket_address};
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::filters::udp::udp_proxy::v3::{
    UdpProxyConfig, udp_proxy_config::RouteSpecifier,
};
use weft_model::Severity;

use super::proto::{Stamp, any, duration, socket};
use super::reach::Reach;
use super::view::Datagrams;
use super::{Made, external, names, traffic};

/// A source that is silent for so long is forgotten, where no policy says otherwise.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A listener for each address where the view takes datagrams.
pub fn build(made: &mut Made<'_>, reach: &Reach) {
    let snapshot = made.snapshot;
    for wanted in made.view.datagrams.clone() {
        let Datagrams { at, service: id, port: number } = &wanted;
        let known = reach.externals.contains(id).then(|| external::find(snapshot, id)).flatten();
        let port = known.and_then(|(service, revision)| {
            let udp = |(_, port): &(usize, &weft_model::ExternalPort)| {
                port.port == *number && port.protocol.is_udp()
            };
            let (index, port) = service.ports.iter().enumerate().find(udp)?;
            Some((index, port, revision))
        });
        let Some((index, port, revision)) = port else {
            not_there(made, &wanted);
            continue;
        };
        let stamp = Stamp {
            kind: "ExternalService",
            namespace: &id.namespace,
            name: &id.name,
            field: format!("spec.ports[{index}]"),
            revision,
        };
        let policy = traffic::for_service(snapshot, "ExternalService", id, port.name.as_deref());
        let idle = policy.and_then(|policy| policy.timeouts).and_then(|timeouts| timeouts.idle);
        let idle = idle.map(|idle| idle.get()).filter(|idle| !idle.is_zero()).unwrap_or(IDLE_TIMEOUT);
        let listener = listener::Listener {
            name: names::datagrams(*at),
            address: Some(udp(*at)),
            udp_listener_config: Some(listener::UdpListenerConfig::default()),
            listener_filters: vec![filter(names::external(id, *number), idle)],
            metadata: Some(stamp.metadata()),
            traffic_direction: TrafficDirection::Outbound as i32,
            ..Default::default()
        };
        made.builder.message(listener.name.clone(), &listener);
    }
}

fn udp(at: std::net::SocketAddr) -> core::Address {
    let mut address = socket(at);
    if let Some(core::address::Address::SocketAddress(socket)) = &mut address.address {
        socket.protocol = socket_address::Protocol::Udp as i32;
    }
    address
}

#[expect(deprecated, reason = "the field's other name for it is a tree of matchers")]
fn filter(cluster: String, idle: Duration) -> listener::ListenerFilter {
    let config = UdpProxyConfig {
        stat_prefix: cluster.clone(),
        route_specifier: Some(RouteSpecifier::Cluster(cluster)),
        idle_timeout: Some(duration(idle)),
        ..Default::default()
    };
    listener::ListenerFilter {
        name: "envoy.filters.udp_listener.udp_proxy".to_owned(),
        config_type: Some(listener::listener_filter::ConfigType::TypedConfig(any(&config))),
        ..Default::default()
    }
}

fn not_there(made: &mut Made<'_>, wanted: &Datagrams) {
    let Datagrams { at, service, port } = wanted;
    let member = made.snapshot.services.contains_key(service);
    let (why, hint) = match member {
        true => (
            "it is a member, and nothing encrypts datagrams between members",
            "let the app speak TCP, or write an ExternalService for what may go in the clear",
        ),
        false => (
            "no ExternalService of the proxy's namespace has such a port with protocol udp",
            "correct the name or port of --udp, or write the ExternalService",
        ),
    };
    let message =
        format!("{} takes no datagrams at {at} for {service}, port {port}: {why}", made.view.workload);
    let object = format!("Service {}", made.view.id());
    made.found("WFT0916", Severity::Warning, object, message, hint);
}

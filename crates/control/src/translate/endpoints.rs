//! Endpoints: the instances of a service that serve, by locality, at their proxies' inbound port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use weft_model::MtlsMode;

use super::proto::{metadata, socket, uint32};
use super::view::ProxyKind;
use super::{inbound, names, traffic};
use crate::snapshot::{Instance, Port, ServiceView, Snapshot, Target};

/// The app's port behind a service's port, by number; of a named one that of the first instance that has it.
pub fn target(service: &ServiceView, port: &Port) -> u16 {
    match &port.target {
        Target::Number(number) => *number,
        target @ Target::Name(_) => {
            let mut numbers = service.instances.iter().filter_map(|instance| instance.port(target));
            numbers.next().unwrap_or(port.port)
        }
    }
}

/// The SNI that tells a callee's proxy which of its ports is meant: the number, or the name where instances
/// have different numbers for it. It belongs to the cluster as a whole, so it must be true of every endpoint.
pub fn sni(service: &ServiceView, port: &Port, zone: &str) -> String {
    let number = target(service, port);
    let differs = |instance: &Arc<Instance>| instance.port(&port.target).is_some_and(|own| own != number);
    match &port.target {
        Target::Name(name) if service.instances.iter().any(differs) => names::sni_by_name(name, zone),
        _ => names::sni(number, zone),
    }
}

/// Where an instance is reached for a port, if it has that port and can be reached at all.
pub fn address(snapshot: &Snapshot, instance: &Instance, port: &Port) -> Option<SocketAddr> {
    let number = instance.port(&port.target)?;
    match (instance.inbound_port, snapshot.mesh.mtls.mode) {
        // In the clear only one port can be meant; bytes for another would reach the wrong one.
        (Some(_), MtlsMode::Disabled) if inbound::plain_port(snapshot, instance) != Some(number) => None,
        (Some(inbound), _) => Some(SocketAddr::new(instance.address, inbound)),
        // Without a proxy there is nobody to shake hands with: only where TLS is off altogether.
        (None, MtlsMode::Disabled) => Some(SocketAddr::new(instance.address, number)),
        (None, _) => None,
    }
}

/// The instances of a service that get calls to a port, with their addresses: those that are healthy or
/// not known to be ill. When there is none of these, **all** that can be reached get them: a check that is
/// wrong about everybody must not turn a slow service into none (a panic threshold of zero healthy).
fn serving<'a>(
    snapshot: &Snapshot,
    service: &'a ServiceView,
    port: &Port,
) -> Vec<(SocketAddr, &'a Arc<Instance>)> {
    let all = service.instances.iter().filter_map(|it| Some((address(snapshot, it, port)?, it)));
    let all: Vec<_> = all.collect();
    let well: Vec<_> = all.iter().filter(|(_, instance)| instance.serves()).copied().collect();
    if well.is_empty() { all } else { well }
}

/// The assignment of one port of a service.
pub fn of(
    snapshot: &Snapshot,
    kind: ProxyKind,
    service: &ServiceView,
    port: &Port,
) -> endpoint::ClusterLoadAssignment {
    let mut localities: BTreeMap<_, Vec<(SocketAddr, &Arc<Instance>)>> = BTreeMap::new();
    for (at, instance) in serving(snapshot, service, port) {
        localities.entry(instance.locality.clone()).or_default().push((at, instance));
    }
    let check = traffic::for_service(snapshot, "Service", &service.id, port.name.as_deref())
        .and_then(|policy| policy.health_check);
    let check_port = check.and_then(|check| check.port).filter(|_| kind != ProxyKind::Grpc);
    let endpoints = localities.into_iter().map(|((region, zone, sub_zone), members)| {
        let weight = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let lb_endpoints = members.into_iter().map(|(at, instance)| one(at, instance, check_port)).collect();
        endpoint::LocalityLbEndpoints {
            locality: Some(core::Locality { region, zone, sub_zone }),
            lb_endpoints,
            // gRPC drops a locality without a weight.
            load_balancing_weight: (kind == ProxyKind::Grpc).then(|| uint32(weight)),
            ..Default::default()
        }
    });
    endpoint::ClusterLoadAssignment {
        cluster_name: names::outbound(&service.id, port.port),
        endpoints: endpoints.collect(),
        ..Default::default()
    }
}

fn one(at: SocketAddr, instance: &Instance, check_port: Option<u16>) -> endpoint::LbEndpoint {
    let labels = metadata([
        ("workload", instance.name.clone()),
        ("namespace", instance.namespace.clone()),
        ("service", instance.service.clone()),
        ("version", instance.version().to_owned()),
    ]);
    endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
            address: Some(socket(at)),
            health_check_config: check_port.map(health_check_at),
            ..Default::default()
        })),
        health_status: core::HealthStatus::Healthy as i32,
        metadata: Some(labels),
        ..Default::default()
    }
}

/// Where checks go instead of where requests go.
pub fn health_check_at(port: u16) -> endpoint::endpoint::HealthCheckConfig {
    endpoint::endpoint::HealthCheckConfig { port_value: port.into(), ..Default::default() }
}

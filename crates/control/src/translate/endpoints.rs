//! Endpoints: the instances of a service that serve, by locality, at their proxies' inbound port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use weft_model::MtlsMode;

use super::names;
use super::proto::{metadata, socket, uint32};
use super::view::ProxyKind;
use crate::snapshot::{Instance, Port, ServiceView, Snapshot, Target};

/// The app's port behind a service's port, by number. A name may mean different numbers on different
/// instances; the first instance's counts, and those that differ are left out of the endpoints,
/// because the SNI that tells the callee's proxy the port belongs to the whole cluster.
pub fn target(service: &ServiceView, port: &Port) -> u16 {
    match &port.target {
        Target::Number(number) => *number,
        target @ Target::Name(_) => {
            let mut numbers = service.instances.iter().filter_map(|instance| instance.port(target));
            numbers.next().unwrap_or(port.port)
        }
    }
}

/// Where an instance is reached for a port, if it is.
pub fn address(
    snapshot: &Snapshot,
    instance: &Instance,
    service: &ServiceView,
    port: &Port,
) -> Option<SocketAddr> {
    let number = target(service, port);
    if instance.port(&port.target) != Some(number) || !instance.serves() {
        return None;
    }
    match (instance.inbound_port, snapshot.mesh.mtls.mode) {
        (Some(inbound), _) => Some(SocketAddr::new(instance.address, inbound)),
        // Without a proxy there is nobody to shake hands with: only where TLS is off altogether.
        (None, MtlsMode::Disabled) => Some(SocketAddr::new(instance.address, number)),
        (None, _) => None,
    }
}

/// The assignment of one port of a service.
pub fn of(
    snapshot: &Snapshot,
    kind: ProxyKind,
    service: &ServiceView,
    port: &Port,
) -> endpoint::ClusterLoadAssignment {
    let mut localities: BTreeMap<_, Vec<(SocketAddr, Arc<Instance>)>> = BTreeMap::new();
    for instance in &service.instances {
        if let Some(at) = address(snapshot, instance, service, port) {
            localities.entry(instance.locality.clone()).or_default().push((at, instance.clone()));
        }
    }
    let endpoints = localities.into_iter().map(|((region, zone, sub_zone), members)| {
        let weight = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let lb_endpoints = members.into_iter().map(|(at, instance)| one(at, &instance)).collect();
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

fn one(at: SocketAddr, instance: &Instance) -> endpoint::LbEndpoint {
    let labels = metadata([
        ("workload", instance.name.clone()),
        ("namespace", instance.namespace.clone()),
        ("service", instance.service.clone()),
        ("version", instance.version().to_owned()),
    ]);
    endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
            address: Some(socket(at)),
            ..Default::default()
        })),
        health_status: core::HealthStatus::Healthy as i32,
        metadata: Some(labels),
        ..Default::default()
    }
}

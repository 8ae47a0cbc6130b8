//! The outbound side's listeners: `outbound` for what speaks HTTP or says a server name, and one
//! that binds no port for each TCP service's virtual address, where captured connections arrive.

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use weft_model::{Body, ExternalProtocol, Kind, ParentRef};

use super::clusters::NOWHERE;
use super::grants::Backend;
use super::manager::{self, Wanted};
use super::proto::{Stamp, ads, any, boolean, duration, socket, uint32};
use super::reach::Reach;
use super::rules::Rule;
use super::{Made, actions, clusters, external, inbound, names, rules};
use crate::snapshot::{Port, ServiceView};

const INSPECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The virtual addresses' listeners, and the listener `outbound` but for its address.
pub fn build(made: &mut Made<'_>, reach: &Reach) -> listener::Listener {
    let mut by_name = Vec::new();
    for id in &reach.services {
        let Some(service) = made.snapshot.services.get(id).cloned() else { continue };
        for port in service.ports.iter().filter(|port| !port.protocol.is_http()) {
            let to = tcp_clusters(made, &service, port);
            if port.protocol.is_tls() {
                let hosts = names::hosts(id, &made.snapshot.zone, &made.view.namespace);
                let several = service.ports.iter().filter(|p| p.protocol.is_tls()).count() > 1;
                by_name.push((
                    names::outbound(id, port.port),
                    hosts,
                    several.then_some(port.port),
                    to.clone(),
                ));
            }
            if let Some(vip) = service.vip {
                let stamp = service_stamp(&service, port);
                let listener =
                    virtual_address(made, vip, port.port, names::outbound(id, port.port), to, &stamp);
                made.builder.message(listener.name.clone(), &listener);
            }
        }
    }
    for id in &reach.externals {
        let Some((service, revision)) = external::find(made.snapshot, id) else { continue };
        let bytes = |protocol: ExternalProtocol| !protocol.is_http() && !protocol.is_udp();
        for (index, port) in service.ports.iter().enumerate().filter(|(_, p)| bytes(p.protocol)) {
            let name = names::external(id, port.port);
            let to = ClusterSpecifier::Cluster(name.clone());
            if port.protocol != ExternalProtocol::Tcp {
                let mut hosts = names::hosts(id, &made.snapshot.zone, &made.view.namespace);
                hosts.extend(service.hosts.iter().cloned());
                let several = service.ports.iter().filter(|p| p.protocol == port.protocol).count() > 1;
                by_name.push((name.clone(), hosts, several.then_some(port.port), to.clone()));
            }
            if let Some(vip) = made.snapshot.external_vips.get(id).copied() {
                let stamp = Stamp {
                    kind: "ExternalService",
                    namespace: &id.namespace,
                    name: &id.name,
                    field: format!("spec.ports[{index}]"),
                    revision,
                };
                let listener = virtual_address(made, vip, port.port, name, to, &stamp);
                made.builder.message(listener.name.clone(), &listener);
            }
        }
    }
    outbound(made, reach, by_name)
}

/// The listener `outbound` of this view.
pub fn outbound_at(made: &mut Made<'_>, outbound: &listener::Listener) {
    let here = listener::Listener { address: Some(socket(made.view.outbound)), ..outbound.clone() };
    made.builder.message(names::OUTBOUND, &here);
}

type ByName = (String, Vec<String>, Option<u16>, ClusterSpecifier);

fn outbound(made: &Made<'_>, reach: &Reach, by_name: Vec<ByName>) -> listener::Listener {
    let mut chains = Vec::new();
    let mut claimed = std::collections::BTreeSet::new();
    for (name, hosts, port, to) in by_name {
        // Two chains that match the same are refused together: the first keeps a name.
        let server_names: Vec<String> =
            hosts.into_iter().filter(|host| claimed.insert((host.to_ascii_lowercase(), port))).collect();
        if server_names.is_empty() {
            continue;
        }
        chains.push(listener::FilterChain {
            name: name.clone(),
            filter_chain_match: Some(listener::FilterChainMatch {
                server_names,
                destination_port: port.map(|port| uint32(port.into())),
                transport_protocol: "tls".to_owned(),
                ..Default::default()
            }),
            filters: vec![tcp_proxy(made, name, to)],
            ..Default::default()
        });
    }
    let rds = hcm::Rds { config_source: Some(ads()), route_config_name: names::OUTBOUND.to_owned() };
    let wanted = Wanted {
        stat_prefix: names::OUTBOUND.to_owned(),
        routes: hcm::http_connection_manager::RouteSpecifier::Rds(rds),
        filters: Vec::new(),
        paths_matter: paths_matter(made, reach),
        connect: true,
        tunnels: false,
        tell_caller: false,
        // The app's own words, and services outside may want them; a member's proxy leaves them out by itself.
        underscores: HeadersWithUnderscoresAction::Allow,
    };
    let inspector = listener::ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(listener::listener_filter::ConfigType::TypedConfig(any(&TlsInspector::default()))),
        ..Default::default()
    };
    let inspect = !chains.is_empty();
    chains.push(listener::FilterChain {
        name: "http".to_owned(),
        filter_chain_match: inspect.then(|| listener::FilterChainMatch {
            transport_protocol: "raw_buffer".to_owned(),
            ..Default::default()
        }),
        filters: vec![manager::filter(&made.snapshot.mesh, wanted)],
        ..Default::default()
    });
    listener::Listener {
        name: names::OUTBOUND.to_owned(),
        filter_chains: chains,
        listener_filters: if inspect { vec![inspector] } else { Vec::new() },
        listener_filters_timeout: inspect.then(|| duration(INSPECT_TIMEOUT)),
        use_original_dst: Some(boolean(true)),
        traffic_direction: TrafficDirection::Outbound as i32,
        ..Default::default()
    }
}

/// Whether any route in reach looks at more of a path than that there is one.
fn paths_matter(made: &Made<'_>, reach: &Reach) -> bool {
    made.snapshot.of_kind(Kind::HTTPRoute).any(|(id, stamped)| {
        let Body::HttpRoute(route) = &stamped.object.body else { return false };
        let ours = route.parent_refs.iter().any(|parent| {
            let namespace = parent.namespace.as_deref().unwrap_or(&id.namespace);
            reach.services.iter().any(|service| service.namespace == namespace && service.name == parent.name)
        });
        ours && route.rules.iter().flat_map(|rule| &rule.matches).any(|wanted| wanted.path.value != "/")
    })
}

/// Where connections to a TCP port go: the service, or what a TCPRoute says.
fn tcp_clusters(made: &mut Made<'_>, service: &ServiceView, port: &Port) -> ClusterSpecifier {
    let snapshot = made.snapshot;
    let mut found = Vec::new();
    for (id, stamped) in snapshot.of_kind(Kind::TCPRoute) {
        let Body::TcpRoute(route) = &stamped.object.body else { continue };
        let fits = |parent: &ParentRef| rules::fits(parent, &id.namespace, service, port);
        let speaks = rules::speaks(&id.namespace, &service.id.namespace, &made.view.namespace);
        let Some(rule) = route.rules.first().filter(|_| speaks && route.parent_refs.iter().any(fits)) else {
            continue;
        };
        let age = stamped.object.meta.creation_timestamp.as_deref().unwrap_or("");
        // The same order as of HTTP routes: a consumer's own, then the older, then the first by name.
        let place = (id.namespace == service.id.namespace, age, &id.namespace, &id.name);
        found.push((place, id, stamped.revision, route, rule));
    }
    found.sort_by_key(|(place, ..)| *place);
    if let Some((_, id, revision, route, rule)) = found.into_iter().next() {
        let named = Rule {
            kind: "TCPRoute",
            namespace: &id.namespace,
            name: &id.name,
            index: 0,
            rule_name: rule.name.as_deref(),
            parents: &route.parent_refs,
            revision,
            filters: &[],
            backends: &rule.backend_refs,
            timeouts: None,
            retry: None,
        };
        let mut clusters = Vec::new();
        for backend in rule.backend_refs.iter().filter(|backend| backend.weight > 0) {
            let name = actions::backend_cluster(made, &named, &Backend::from(backend));
            clusters.push(ClusterWeight { name, weight: backend.weight, ..Default::default() });
        }
        return match clusters.as_slice() {
            [] => ClusterSpecifier::Cluster(NOWHERE.to_owned()),
            [only] => ClusterSpecifier::Cluster(only.name.clone()),
            _ => ClusterSpecifier::WeightedClusters(WeightedCluster { clusters }),
        };
    }
    ClusterSpecifier::Cluster(names::outbound(&service.id, port.port))
}

/// A TCP proxy, by tunnels where all clusters are of them.
fn tcp_proxy(made: &Made<'_>, name: String, to: ClusterSpecifier) -> listener::Filter {
    let clusters: Vec<&str> = match &to {
        ClusterSpecifier::Cluster(name) => vec![name],
        ClusterSpecifier::WeightedClusters(split) => {
            split.clusters.iter().map(|cluster| cluster.name.as_str()).collect()
        }
    };
    let hosts: Option<Vec<String>> = clusters.into_iter().map(|cluster| tunnel(made, cluster)).collect();
    // The name is for whoever reads a capture: the other proxy knows its port.
    let hostname = hosts.and_then(|hosts| hosts.into_iter().next());
    inbound::tcp_proxy(name, to, hostname, made)
}

/// The name of what a cluster leads to, if it leads there by tunnels.
fn tunnel(made: &Made<'_>, cluster: &str) -> Option<String> {
    let (id, number) = names::service_of(cluster)?;
    let service = made.snapshot.services.get(&id)?;
    let port = service.port(number)?;
    clusters::tunnels(made.snapshot, made.view, service, port)
        .then(|| format!("{}.{}.{}:{number}", id.name, id.namespace, made.snapshot.zone))
}

fn service_stamp<'a>(service: &'a ServiceView, port: &Port) -> Stamp<'a> {
    let index = service.ports.iter().position(|p| p == port).unwrap_or(0);
    Stamp {
        kind: "Service",
        namespace: &service.id.namespace,
        name: &service.id.name,
        field: format!("spec.ports[{index}]"),
        revision: service.revision,
    }
}

fn virtual_address(
    made: &Made<'_>,
    vip: Ipv4Addr,
    port: u16,
    stat_prefix: String,
    to: ClusterSpecifier,
    stamp: &Stamp<'_>,
) -> listener::Listener {
    listener::Listener {
        name: names::vip(vip, port),
        address: Some(socket(SocketAddr::new(IpAddr::V4(vip), port))),
        bind_to_port: Some(boolean(false)),
        filter_chains: vec![listener::FilterChain {
            filters: vec![tcp_proxy(made, stat_prefix, to)],
            ..Default::default()
        }],
        metadata: Some(stamp.metadata()),
        traffic_direction: TrafficDirection::Outbound as i32,
        ..Default::default()
    }
}

//! The outbound route configuration: a virtual host for each port of each service in reach, under
//! all its names. What has no virtual host has no way out: that is egress's default.

use envoy_types::pb::envoy::config::route::v3 as route;

use super::proto::Stamp;
use super::reach::Reach;
use super::{Made, actions, clusters, external, names, rules};
use crate::snapshot::{Port, ServiceView};

/// The route configuration `outbound`.
pub fn build(made: &mut Made<'_>, reach: &Reach) {
    let mut hosts = Vec::new();
    for id in &reach.services {
        let Some(service) = made.snapshot.services.get(id).cloned() else { continue };
        for port in &service.ports {
            hosts.push(virtual_host(made, &service, port));
        }
    }
    external::virtual_hosts(made, reach, &mut hosts);
    claim_domains(&mut hosts);
    let config = route::RouteConfiguration {
        name: names::OUTBOUND.to_owned(),
        virtual_hosts: hosts,
        ..Default::default()
    };
    made.builder.message(names::OUTBOUND, &config);
}

/// The virtual host of one port.
fn virtual_host(made: &mut Made<'_>, service: &ServiceView, port: &Port) -> route::VirtualHost {
    let hosts = names::hosts(&service.id, &made.snapshot.zone, &made.view.namespace);
    let bare = service.default_http_port() == Some(port);
    let name = names::outbound(&service.id, port.port);
    let routes = if port.protocol.is_http() {
        routes(made, service, port)
    } else {
        let sent_on = clusters::tunnels(made.snapshot, made.view, service, port);
        let cluster = names::outbound(&service.id, port.port);
        vec![tunnel(&stamp(service, port), service_route(service), cluster, sent_on)]
    };
    route::VirtualHost {
        name,
        domains: names::domains(&hosts, port.port, bare),
        routes,
        metadata: Some(stamp(service, port).metadata()),
        ..Default::default()
    }
}

fn stamp<'a>(service: &'a ServiceView, port: &Port) -> Stamp<'a> {
    let index = service.ports.iter().position(|p| p == port).unwrap_or(0);
    Stamp {
        kind: "Service",
        namespace: &service.id.namespace,
        name: &service.id.name,
        field: format!("spec.ports[{index}]"),
        revision: service.revision,
    }
}

fn service_route(service: &ServiceView) -> String {
    service.id.to_string()
}

/// The routes of an HTTP port: those attached, or one to the service itself.
pub fn routes(made: &mut Made<'_>, service: &ServiceView, port: &Port) -> Vec<route::Route> {
    let snapshot = made.snapshot;
    let attached = rules::attached(snapshot, service, port, &made.view.namespace);
    if attached.is_empty() {
        let action = actions::to_service(made, service, port);
        return vec![route::Route {
            name: service_route(service),
            r#match: Some(rules::everything()),
            metadata: Some(stamp(service, port).metadata()),
            action: Some(route::route::Action::Route(action)),
            ..Default::default()
        }];
    }
    attached.iter().map(|(rule, wanted)| actions::of_rule(made, service, port, rule, *wanted)).collect()
}

/// As long as a TCP connection without a tunnel.
const TUNNEL_IDLE: std::time::Duration = std::time::Duration::from_secs(3600);

/// CONNECT to a port that speaks no HTTP: the tunnel ends here and its bytes go on, or it is `sent_on` to the
/// other proxy as it is.
pub fn tunnel(stamp: &Stamp<'_>, name: String, cluster: String, sent_on: bool) -> route::Route {
    use route::route_action::upgrade_config::ConnectConfig;
    use route::route_action::{ClusterSpecifier, UpgradeConfig};
    route::Route {
        name,
        r#match: Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::ConnectMatcher(Default::default())),
            ..Default::default()
        }),
        metadata: Some(stamp.metadata()),
        action: Some(route::route::Action::Route(route::RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
            timeout: Some(super::proto::duration(std::time::Duration::ZERO)),
            // Not the 300 s of HTTP streams: a pool of database connections may be quiet for longer.
            idle_timeout: Some(super::proto::duration(TUNNEL_IDLE)),
            upgrade_configs: vec![UpgradeConfig {
                upgrade_type: "CONNECT".to_owned(),
                connect_config: (!sent_on).then(ConnectConfig::default),
                ..Default::default()
            }],
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// A domain may stand in one virtual host only, or the whole configuration is refused: the first
/// keeps it (members before external services, then by name).
fn claim_domains(hosts: &mut Vec<route::VirtualHost>) {
    let mut taken = std::collections::BTreeSet::new();
    for host in hosts.iter_mut() {
        host.domains.retain(|domain| taken.insert(domain.to_ascii_lowercase()));
    }
    hosts.retain(|host| !host.domains.is_empty());
}

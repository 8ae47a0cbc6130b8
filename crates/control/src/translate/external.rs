//! External services: plain HTTP from the app, TLS from the proxy where the object says so; or bytes,
//! by CONNECT or by the server name of the app's own TLS.

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::route::v3 as route;
use weft_model::{
    Body, ExternalPort, ExternalProtocol, ExternalService, ExternalTlsMode, Kind, Resolution, SecretRef,
    Severity,
};

use super::clusters::{Spoken, base, nowhere, of_type};
use super::proto::{Stamp, host};
use super::reach::Reach;
use super::tls::Origination;
use super::{Made, actions, headers, names, routes, rules, tls, traffic};
use crate::snapshot::{ServiceId, Snapshot};

/// An external service and the revision of its object.
pub fn find<'a>(snapshot: &'a Snapshot, id: &ServiceId) -> Option<(&'a ExternalService, u64)> {
    let stamped = snapshot.object(Kind::ExternalService, &id.namespace, &id.name)?;
    match &stamped.object.body {
        Body::ExternalService(external) => Some((external, stamped.revision)),
        _ => None,
    }
}

/// The port that a reference means: the one it names, or the only sensible one.
pub fn port<'a>(snapshot: &'a Snapshot, id: &ServiceId, number: Option<u16>) -> Option<&'a ExternalPort> {
    let (external, _) = find(snapshot, id)?;
    match number {
        // No route leads connections to datagrams.
        Some(number) => external.ports.iter().find(|port| port.port == number && !port.protocol.is_udp()),
        None => default_port(external),
    }
}

/// The port that the bare names mean: 80, or the only HTTP port.
fn default_port(external: &ExternalService) -> Option<&ExternalPort> {
    let mut http = external.ports.iter().filter(|port| port.protocol.is_http());
    let first = http.next()?;
    let eighty = external.ports.iter().find(|port| port.port == 80 && port.protocol.is_http());
    eighty.or_else(|| http.next().is_none().then_some(first))
}

fn stamp<'a>(id: &'a ServiceId, index: usize, revision: u64) -> Stamp<'a> {
    Stamp {
        kind: "ExternalService",
        namespace: &id.namespace,
        name: &id.name,
        field: format!("spec.ports[{index}]"),
        revision,
    }
}

/// Clusters of every external service in reach.
pub fn build(made: &mut Made<'_>, reach: &Reach) {
    for id in reach.external_clusters() {
        let Some((external, revision)) = find(made.snapshot, id) else { continue };
        for (index, port) in external.ports.iter().enumerate() {
            // Withheld: the name stands, for routes to name, and leads nowhere.
            let cluster = cluster(made, id, external, port, &stamp(id, index, revision))
                .unwrap_or_else(|| nowhere(names::external(id, port.port)));
            made.builder.message(cluster.name.clone(), &cluster);
        }
    }
}

fn cluster(
    made: &mut Made<'_>,
    id: &ServiceId,
    external: &ExternalService,
    port: &ExternalPort,
    stamp: &Stamp<'_>,
) -> Option<cluster::Cluster> {
    let spoken = match port.protocol {
        ExternalProtocol::Http => Some(Spoken::Http1),
        ExternalProtocol::Http2 => Some(Spoken::Http2),
        _ => None,
    };
    let policy = traffic::for_service(made.snapshot, "ExternalService", id, port.name.as_deref());
    let name = names::external(id, port.port);
    let mut built = base(made.snapshot, made.view.kind, name.clone(), policy.as_ref(), spoken);
    let udp = port.protocol.is_udp();
    let header = policy.as_ref().and_then(|policy| policy.proxy_protocol);
    let header = header.filter(|_| spoken.is_none() && !udp);
    let check_port = policy.and_then(|policy| policy.health_check).and_then(|check| check.port);
    if udp && check_port.is_none() {
        // A check is a connection, which nobody takes there.
        built.health_checks.clear();
    }
    let target = port.target_port.unwrap_or(port.port);
    let mut endpoints: Vec<(&str, u16)> =
        external.endpoints.iter().map(|e| (e.address.as_str(), e.port.unwrap_or(target))).collect();
    if endpoints.is_empty() && external.resolution == Resolution::DNS {
        endpoints.extend(
            external.hosts.iter().filter(|host| !host.starts_with('*')).map(|host| (host.as_str(), target)),
        );
    }
    let all_numbers = endpoints.iter().all(|(address, _)| address.parse::<std::net::IpAddr>().is_ok());
    // STATIC takes numbers only, and STRICT_DNS takes numbers too; say what is true.
    built.cluster_discovery_type = Some(of_type(if all_numbers {
        cluster::cluster::DiscoveryType::Static
    } else {
        cluster::cluster::DiscoveryType::StrictDns
    }));
    built.load_assignment = Some(endpoint::ClusterLoadAssignment {
        cluster_name: name,
        endpoints: vec![endpoint::LocalityLbEndpoints {
            lb_endpoints: endpoints.iter().map(|(address, port)| one(address, *port, check_port)).collect(),
            ..Default::default()
        }],
        ..Default::default()
    });
    built.metadata = Some(stamp.metadata());
    if let Some(wish) = external.tls.as_ref().filter(|tls| {
        tls.mode == ExternalTlsMode::Originate
            && port.protocol != ExternalProtocol::Https
            && port.protocol != ExternalProtocol::Tls
            && !udp
    }) {
        let secret = |made: &mut Made<'_>, wanted: &SecretRef, entry: &str| -> Option<String> {
            let found = secret_text(made.snapshot, &id.namespace, &wanted.name, entry);
            if found.is_none() {
                let message = format!(
                    "secret {} has no entry {entry} that can be read; the port is refused",
                    wanted.name
                );
                made.found(
                    "WFT0913",
                    Severity::Error,
                    format!("ExternalService {id}"),
                    message,
                    "write the Secret",
                );
            }
            found
        };
        let ca = match (&wish.ca, &wish.ca_secret_ref) {
            (Some(pem), _) => Some(pem.clone()),
            // Without its roots the other side can't be proven: no connection rather than any.
            (None, Some(wanted)) => Some(secret(made, wanted, "ca.crt")?),
            (None, None) => None,
        };
        let client = match &wish.client_secret_ref {
            Some(_) if !made.view.secrets => {
                let message = format!(
                    "a {} proxy takes no secrets by name: the key is not sent to it, and the port is withheld",
                    made.view.kind.as_str()
                );
                let hint = "update the proxy, or remove clientSecretRef";
                made.found("WFT0914", Severity::Error, format!("ExternalService {id}"), message, hint);
                return None;
            }
            Some(wanted) => {
                let (chain, key) = (secret(made, wanted, "tls.crt")?, secret(made, wanted, "tls.key")?);
                let name = names::client_secret(&id.namespace, &wanted.name);
                made.builder.message(name.clone(), &tls::client_secret(&name, &chain, &key));
                Some(name)
            }
            None => None,
        };
        let sni =
            wish.sni.as_deref().or_else(|| external.hosts.first().map(String::as_str)).unwrap_or_default();
        let wanted = Origination { sni, ca_pem: ca.as_deref(), client: client.as_deref(), spoken };
        built.transport_socket = Some(tls::to_external(made.view.kind, &wanted));
    }
    if let Some(version) = header {
        built.transport_socket = Some(headers::before(version, built.transport_socket.take()));
    }
    Some(built)
}

fn one(address: &str, port: u16, check_port: Option<u16>) -> endpoint::LbEndpoint {
    endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
            address: Some(host(address, port)),
            hostname: address.to_owned(),
            health_check_config: check_port.map(super::endpoints::health_check_at),
            ..Default::default()
        })),
        health_status: core::HealthStatus::Healthy as i32,
        ..Default::default()
    }
}

fn secret_text(snapshot: &Snapshot, namespace: &str, name: &str, entry: &str) -> Option<String> {
    match &snapshot.object(Kind::Secret, namespace, name)?.object.body {
        Body::Secret(secret) => String::from_utf8(secret.entry(entry)?).ok(),
        _ => None,
    }
}

/// Virtual hosts: the mesh's names (the host is rewritten to the real one) and the real hosts.
pub fn virtual_hosts(made: &mut Made<'_>, reach: &Reach, hosts: &mut Vec<route::VirtualHost>) {
    for id in &reach.externals {
        let Some((external, revision)) = find(made.snapshot, id) else { continue };
        for (index, port) in external.ports.iter().enumerate().filter(|(_, port)| !port.protocol.is_udp()) {
            let stamp = stamp(id, index, revision);
            let bare = default_port(external) == Some(port);
            let http = port.protocol.is_http();
            let name = names::external(id, port.port);
            let names = names::hosts(id, &made.snapshot.zone, &made.view.namespace);
            // The real hosts' default port in plain HTTP is 80; a bare host means that port only.
            let bare_host = http && (bare || port.port == 80);
            let policy = traffic::for_service(made.snapshot, "ExternalService", id, port.name.as_deref());
            let one = |rewrite: Option<&String>| {
                if !http {
                    return vec![routes::tunnel(&stamp, id.to_string(), name.clone(), false)];
                }
                let mut forward = actions::to_cluster(made, policy.as_ref(), false, name.clone());
                forward.host_rewrite_specifier =
                    rewrite.cloned().map(route::route_action::HostRewriteSpecifier::HostRewriteLiteral);
                vec![route::Route {
                    name: id.to_string(),
                    r#match: Some(rules::everything()),
                    metadata: Some(stamp.metadata()),
                    action: Some(route::route::Action::Route(forward)),
                    ..Default::default()
                }]
            };
            let real = external.hosts.iter().find(|host| !host.starts_with('*'));
            hosts.push(route::VirtualHost {
                name: name.clone(),
                domains: names::domains(&names, port.port, bare && http),
                routes: one(real),
                metadata: Some(stamp.metadata()),
                ..Default::default()
            });
            hosts.push(route::VirtualHost {
                name: format!("{name}|hosts"),
                domains: names::domains(&external.hosts, port.port, bare_host),
                routes: one(None),
                metadata: Some(stamp.metadata()),
                ..Default::default()
            });
        }
    }
}

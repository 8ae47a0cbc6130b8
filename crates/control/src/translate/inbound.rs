//! The inbound side: one mTLS filter chain for each of the app's ports, told apart by the SNI that
//! callers send, each behind its authorization; and the cluster that is the app itself.
//!
//! A caller that says no SNI of ours (an older gRPC client without a proxy) gets the first port that
//! speaks HTTP/2, or else the first HTTP port. With mTLS strict there is no chain for plaintext: such a
//! connection is closed and counted. Otherwise a captured connection in the clear is known by where it was
//! going, and any other gets the first HTTP port, or else the first port. Who says nothing for a moment waits for the
//! server to speak, and goes on as bytes in the clear.

mod authorization;
mod filters;

pub use filters::tcp_proxy;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use weft_model::{MtlsMode, Protocol, Severity};

use super::clusters::{Spoken, base, of_type};
use super::policies::{self, Guarded};
use super::proto::{Stamp, any, duration, socket, uint32};
use super::{Made, endpoints, headers, names, tls, traffic};
use crate::snapshot::{Instance, ServiceId, Snapshot, Target};

/// How long a connection may take to say whether it is TLS.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same where silence is an answer, which the clients of servers that speak first wait out: longer than a lost
/// hello takes to be sent again.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(1);
/// No limit of our own before the app: callers have theirs.
const UNLIMITED: u32 = u32::MAX;

/// The chain of members that say no name of ours, and the one of bytes in the clear.
const ANY: &str = "inbound|any";
const PLAIN: &str = "inbound|plain";

/// What a caller offers by ALPN whose TCP connections come as tunnels. Who offers nothing sends them as they are.
const TUNNELS: &str = "h2";

/// A port of the app, and all that ends there.
#[derive(Clone, Debug)]
struct AppPort {
    protocol: Protocol,
    guarded: Guarded,
    stamp: Option<(ServiceId, usize, u64)>,
    /// What Services call it, who may be called by it instead of by the number.
    names: BTreeSet<String>,
}

/// The listener `inbound` and a cluster for each of the app's ports.
pub fn build(made: &mut Made<'_>) {
    let ports = app_ports(made.snapshot, &made.view.namespace, &made.view.workload, &made.view.service);
    let mode = made.snapshot.mesh.mtls.mode;
    let nameless = first(&ports, |port| port.protocol == Protocol::Http2)
        .or_else(|| first(&ports, |port| port.protocol.is_http()));
    let plain = plain(&ports).filter(|_| mode != MtlsMode::Strict);
    let mut encrypted = Vec::new();
    let mut in_clear = Vec::new();
    let (mut any, mut rest) = (None, None);
    for (number, port) in &ports {
        let cluster = app(made, *number, port);
        made.builder.message(cluster.name.clone(), &cluster);
        let rules = policies::rules(made, &port.guarded);
        let filters = filters::of_chain(made, *number, port, &rules);
        let http = port.protocol.is_http();
        if mode != MtlsMode::Disabled {
            let zone = &made.snapshot.zone;
            let by_name = port.names.iter().map(|name| names::sni_by_name(name, zone));
            let server_names = [names::sni(*number, zone)].into_iter().chain(by_name).collect();
            let by = Wish { server_names, ..Wish::default() };
            if !http && made.view.tunnels {
                let name = format!("{}|{TUNNELS}", names::inbound(*number));
                let by = Wish { protocol: Some(TUNNELS), ..by.clone() };
                let filters = vec![filters::tunnels(made, *number, port, &rules)];
                encrypted.push(chain(made, name, by, Some(&[TUNNELS]), filters));
            }
            let alpn: &[&str] = if http { &["h2", "http/1.1"] } else { &[] };
            encrypted.push(chain(made, names::inbound(*number), by, Some(alpn), filters.clone()));
            if nameless == Some(*number) {
                any = Some(chain(made, ANY.to_owned(), Wish::default(), Some(alpn), filters.clone()));
            }
        }
        if mode != MtlsMode::Strict {
            if ports.len() > 1 {
                let by = Wish { port: Some(*number), ..Wish::default() };
                in_clear.push(chain(made, format!("{PLAIN}|{number}"), by, None, filters.clone()));
            }
            if plain == Some(*number) {
                rest = Some(chain(made, PLAIN.to_owned(), Wish::default(), None, filters));
            }
        }
    }
    if let Some(plain) = plain.filter(|_| !in_clear.is_empty()) {
        tell_what_is_not_served(made, &ports, plain);
    }
    let captured = !in_clear.is_empty();
    let chains: Vec<_> = encrypted.into_iter().chain(any).chain(in_clear).chain(rest).collect();
    if chains.is_empty() {
        return;
    }
    let inspector = listener_filter("envoy.filters.listener.tls_inspector", &TlsInspector::default());
    let destination = listener_filter("envoy.filters.listener.original_dst", &OriginalDst::default());
    let services = ports.values().flat_map(|port| &port.guarded.services).map(|(service, ..)| service);
    let believed = headers::believed(made, services);
    let waits_for_server =
        mode == MtlsMode::Permissive && ports.values().any(|port| !port.protocol.is_http());
    // A header comes before the bytes that an inspector looks at.
    let filters =
        [captured.then_some(destination), believed, (mode != MtlsMode::Disabled).then_some(inspector)];
    let built = listener::Listener {
        name: names::INBOUND.to_owned(),
        address: Some(socket(made.view.inbound)),
        filter_chains: chains,
        listener_filters: filters.into_iter().flatten().collect(),
        listener_filters_timeout: Some(duration(match waits_for_server {
            true => SILENCE_TIMEOUT,
            false => INSPECT_TIMEOUT,
        })),
        continue_on_listener_filters_timeout: waits_for_server,
        traffic_direction: envoy_types::pb::envoy::config::core::v3::TrafficDirection::Inbound as i32,
        ..Default::default()
    };
    made.builder.message(names::INBOUND, &built);
}

fn listener_filter<M: prost::Message + prost::Name>(name: &str, config: &M) -> listener::ListenerFilter {
    listener::ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener::listener_filter::ConfigType::TypedConfig(any(config))),
        ..Default::default()
    }
}

fn first(ports: &BTreeMap<u16, AppPort>, test: impl Fn(&AppPort) -> bool) -> Option<u16> {
    ports.iter().find(|(_, port)| test(port)).map(|(number, _)| *number)
}

/// The port that is meant by bytes in the clear which nothing else tells apart.
fn plain(ports: &BTreeMap<u16, AppPort>) -> Option<u16> {
    first(ports, |port| port.protocol.is_http()).or_else(|| first(ports, |_| true))
}

/// The port of an instance that callers reach in the clear by dialling its proxy.
pub fn plain_port(snapshot: &Snapshot, instance: &Instance) -> Option<u16> {
    plain(&app_ports(snapshot, &instance.namespace, &instance.name, &instance.service))
}

fn tell_what_is_not_served(made: &mut Made<'_>, ports: &BTreeMap<u16, AppPort>, plain: u16) {
    let others: Vec<String> =
        ports.keys().filter(|number| **number != plain).map(ToString::to_string).collect();
    let message = format!(
        "in the clear, ports {} are reached by captured connections only: who dials the proxy itself gets port {plain}",
        others.join(", ")
    );
    let object = format!("Service {}", made.view.id());
    made.found("WFT0915", Severity::Warning, object, message, "use mTLS Strict, or capture connections");
}

/// The ports of the app behind a workload's proxy: what Services lead to it, then what the Workload says.
fn app_ports(snapshot: &Snapshot, namespace: &str, workload: &str, service: &str) -> BTreeMap<u16, AppPort> {
    let mut ports: BTreeMap<u16, AppPort> = BTreeMap::new();
    let id = ServiceId::new(namespace, service);
    let own = snapshot.instances.get(&ServiceId::new(namespace, workload));
    for service in snapshot.services.values().filter(|s| s.id.namespace == namespace) {
        let selects = match own {
            Some(own) => service.instances.iter().any(|instance| instance.name == own.name),
            // The Workload is on its way; until then the service of its name speaks for it.
            None => service.id == id,
        };
        if !selects {
            continue;
        }
        for (index, port) in service.ports.iter().enumerate() {
            let number = own
                .and_then(|own| own.port(&port.target))
                .unwrap_or_else(|| endpoints::target(service, port));
            let entry = ports.entry(number).or_insert_with(|| AppPort {
                protocol: port.protocol,
                guarded: Guarded { port: number, http: port.protocol.is_http(), services: Vec::new() },
                stamp: Some((service.id.clone(), index, service.revision)),
                names: BTreeSet::new(),
            });
            if let Target::Name(name) = &port.target {
                entry.names.insert(name.clone());
            }
            entry.guarded.services.push((service.id.clone(), port.name.clone(), Some(port.port)));
        }
    }
    for (name, number) in own.map(|own| own.ports.as_slice()).unwrap_or_default() {
        let protocol = name.as_deref().and_then(Protocol::of_port_name).unwrap_or(match number {
            80 | 8080 => Protocol::Http,
            _ => Protocol::Tcp,
        });
        ports.entry(*number).or_insert_with(|| AppPort {
            protocol,
            guarded: Guarded {
                port: *number,
                http: protocol.is_http(),
                services: vec![(id.clone(), name.clone(), None)],
            },
            stamp: None,
            names: BTreeSet::new(),
        });
    }
    ports
}

fn stamp(port: &AppPort) -> Option<Stamp<'_>> {
    let (service, index, revision) = port.stamp.as_ref()?;
    Some(Stamp {
        kind: "Service",
        namespace: &service.namespace,
        name: &service.name,
        field: format!("spec.ports[{index}]"),
        revision: *revision,
    })
}

/// The cluster that is the app's port.
fn app(made: &Made<'_>, number: u16, port: &AppPort) -> cluster::Cluster {
    let name = names::inbound(number);
    let spoken = match port.protocol {
        Protocol::Http => Some(Spoken::Http1),
        Protocol::Http2 => Some(Spoken::Http2),
        _ => None,
    };
    let mut built = base(made.snapshot, made.view.kind, name.clone(), None, spoken);
    built.cluster_discovery_type = Some(of_type(cluster::cluster::DiscoveryType::Static));
    built.load_assignment = Some(endpoint::ClusterLoadAssignment {
        cluster_name: name,
        endpoints: vec![endpoint::LocalityLbEndpoints {
            lb_endpoints: vec![endpoint::LbEndpoint {
                host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
                    address: Some(socket(SocketAddr::new(made.view.app, number))),
                    ..Default::default()
                })),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    });
    built.circuit_breakers = Some(cluster::CircuitBreakers {
        thresholds: vec![cluster::circuit_breakers::Thresholds {
            max_connections: Some(uint32(UNLIMITED)),
            max_pending_requests: Some(uint32(UNLIMITED)),
            max_requests: Some(uint32(UNLIMITED)),
            max_retries: Some(uint32(UNLIMITED)),
            ..Default::default()
        }],
        ..Default::default()
    });
    built.metadata = stamp(port).map(|stamp| stamp.metadata());
    let policy = |(service, name, _): &(ServiceId, Option<String>, Option<u16>)| {
        traffic::for_service(made.snapshot, "Service", service, name.as_deref())?.proxy_protocol
    };
    if !port.protocol.is_http()
        && let Some(version) = port.guarded.services.iter().find_map(policy)
    {
        built.transport_socket = Some(headers::before(version, None));
    }
    built
}

/// What a chain is chosen by.
#[derive(Clone, Default)]
struct Wish {
    server_names: Vec<String>,
    port: Option<u16>,
    protocol: Option<&'static str>,
}

/// A chain; `encrypted` says what ALPN offers, and is nothing in the clear.
fn chain(
    made: &Made<'_>,
    name: String,
    by: Wish,
    encrypted: Option<&[&str]>,
    filters: Vec<listener::Filter>,
) -> listener::FilterChain {
    let transport = if encrypted.is_some() { "tls" } else { "raw_buffer" };
    // Without an inspector nobody says "raw_buffer"; then the chain simply takes everything.
    let inspected = made.snapshot.mesh.mtls.mode != MtlsMode::Disabled;
    listener::FilterChain {
        name,
        filter_chain_match: (inspected || by.port.is_some()).then(|| listener::FilterChainMatch {
            server_names: by.server_names,
            destination_port: by.port.map(|port| uint32(port.into())),
            application_protocols: by.protocol.into_iter().map(str::to_owned).collect(),
            transport_protocol: if inspected { transport.to_owned() } else { String::new() },
            ..Default::default()
        }),
        filters,
        transport_socket: encrypted
            .map(|alpn| tls::from_member(made.view.kind, &made.snapshot.trust_domain, alpn)),
        ..Default::default()
    }
}

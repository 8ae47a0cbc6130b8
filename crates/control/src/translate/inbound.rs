//! The inbound side: one mTLS filter chain for each of the app's ports, told apart by the SNI that
//! callers send, each behind its authorization; and the cluster that is the app itself.
//!
//! A caller that says no SNI of ours (an older gRPC client without a proxy) gets the first port that
//! speaks HTTP/2, or else the first HTTP port. With mTLS strict there is no chain for plaintext: such a
//! connection is closed and counted. Otherwise a captured connection in the clear is known by where it was
//! going, and any other gets the first HTTP port, or else the first port.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::{Rbac as HttpRbac, RbacPerRoute};
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use envoy_types::pb::google::protobuf as google;
use weft_model::{MtlsMode, Protocol, Severity};

use super::clusters::{Spoken, base, of_type};
use super::manager::{self, Wanted};
use super::policies::{self, Guarded, Rules};
use super::proto::{Stamp, ads, any, duration, socket, uint32};
use super::view::ProxyKind;
use super::{Made, endpoints, names, rules, tls};
use crate::snapshot::{Instance, ServiceId, Snapshot, Target};

/// How long a connection may take to say whether it is TLS.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(5);
/// No limit of our own before the app: callers have theirs.
const UNLIMITED: u32 = u32::MAX;

/// The chain of members that say no name of ours, and the one of bytes in the clear.
const ANY: &str = "inbound|any";
const PLAIN: &str = "inbound|plain";

/// What a caller offers by ALPN whose TCP connections come as tunnels. Who offers nothing sends them as they are.
const TUNNELS: &str = "h2";

/// What the filters are called by which an Envoy's routes give their rules.
const AUDIT: &str = "weft.audit";
const DENY: &str = "weft.deny";
const ALLOW: &str = "weft.allow";

/// Paths that mean one thing before they are made regular and another thing after it.
const AMBIGUOUS: &str = ".*(//|%2[fF]|%5[cC]).*";

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
        let filters = filters(made, *number, port, &rules);
        let http = port.protocol.is_http();
        if mode != MtlsMode::Disabled {
            let zone = &made.snapshot.zone;
            let by_name = port.names.iter().map(|name| names::sni_by_name(name, zone));
            let server_names = [names::sni(*number, zone)].into_iter().chain(by_name).collect();
            let by = Wish { server_names, ..Wish::default() };
            if !http && made.view.tunnels {
                let name = format!("{}|{TUNNELS}", names::inbound(*number));
                let by = Wish { protocol: Some(TUNNELS), ..by.clone() };
                let filters = vec![tunnels(made, *number, port, &rules)];
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
    let listener_filters = [(captured, destination), (mode != MtlsMode::Disabled, inspector)];
    let built = listener::Listener {
        name: names::INBOUND.to_owned(),
        address: Some(socket(made.view.inbound)),
        filter_chains: chains,
        listener_filters: listener_filters
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, it)| it)
            .collect(),
        listener_filters_timeout: Some(duration(INSPECT_TIMEOUT)),
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
    built
}

fn filters(made: &mut Made<'_>, number: u16, port: &AppPort, rules: &Rules) -> Vec<listener::Filter> {
    if port.protocol.is_http() {
        vec![http(made, number, port, rules)]
    } else {
        let mut filters = network_rbac(number, rules);
        filters.push(tcp_proxy(
            names::inbound(number),
            tcp::tcp_proxy::ClusterSpecifier::Cluster(names::inbound(number)),
            None,
            made,
        ));
        filters
    }
}

fn http(made: &mut Made<'_>, number: u16, port: &AppPort, rules: &Rules) -> listener::Filter {
    let name = names::inbound(number);
    let route = route::Route {
        name: made.view.id().to_string(),
        r#match: Some(rules::everything()),
        metadata: stamp(port).map(|stamp| stamp.metadata()),
        action: Some(route::route::Action::Route(route::RouteAction {
            cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(name)),
            // The caller's proxy has the clock; two of them would only disagree.
            timeout: Some(duration(Duration::ZERO)),
            ..Default::default()
        })),
        ..Default::default()
    };
    manager(made, number, port, rules, route, false)
}

/// Streams of CONNECT, each a TCP connection to this port of the app, whatever name the caller gives. Who may open
/// them is asked by the rules of bytes: of a CONNECT's head they know nothing.
fn tunnels(made: &mut Made<'_>, number: u16, port: &AppPort, rules: &Rules) -> listener::Filter {
    use route::route_action::upgrade_config::ConnectConfig;
    let idle = made.snapshot.mesh.defaults.idle_timeout.get();
    let route = route::Route {
        name: made.view.id().to_string(),
        r#match: Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::ConnectMatcher(Default::default())),
            ..Default::default()
        }),
        metadata: stamp(port).map(|stamp| stamp.metadata()),
        action: Some(route::route::Action::Route(route::RouteAction {
            cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(names::inbound(number))),
            timeout: Some(duration(Duration::ZERO)),
            idle_timeout: Some(duration(idle)),
            upgrade_configs: vec![route::route_action::UpgradeConfig {
                upgrade_type: "CONNECT".to_owned(),
                connect_config: Some(ConnectConfig::default()),
                ..Default::default()
            }],
            ..Default::default()
        })),
        ..Default::default()
    };
    manager(made, number, port, rules, route, true)
}

/// The connection manager of an app's port, with the one route that there is.
fn manager(
    made: &mut Made<'_>,
    number: u16,
    port: &AppPort,
    rules: &Rules,
    route: route::Route,
    tunnels: bool,
) -> listener::Filter {
    use hcm::http_connection_manager::RouteSpecifier;
    let name = names::inbound(number);
    let mut config = route::RouteConfiguration {
        name: name.clone(),
        virtual_hosts: vec![route::VirtualHost {
            name: name.clone(),
            domains: vec!["*".to_owned()],
            routes: vec![route],
            metadata: stamp(port).map(|stamp| stamp.metadata()),
            ..Default::default()
        }],
        ..Default::default()
    };
    // An Envoy's connection keeps the filters with which it began until it is drained, by default for ten
    // minutes: a policy there would let callers that are already connected go on. Routes are looked up anew
    // for each request, so an Envoy has its policies at the routes. A Weft proxy looks up both.
    let (routes, filters) = if made.view.kind == ProxyKind::Envoy {
        for host in &mut config.virtual_hosts {
            host.typed_per_filter_config = rbac_of_routes(rules);
        }
        made.builder.message(name.clone(), &config);
        let rds = hcm::Rds { config_source: Some(ads()), route_config_name: name.clone() };
        (RouteSpecifier::Rds(rds), rbac_for_routes())
    } else {
        (RouteSpecifier::RouteConfig(config), http_rbac(rules))
    };
    let wanted = Wanted {
        stat_prefix: name,
        routes,
        filters,
        paths_matter: rules.paths,
        connect: false,
        tunnels,
        tell_caller: !tunnels,
        // What a caller's framework adds must not cost the call; it must only not reach an app that misreads it.
        underscores: HeadersWithUnderscoresAction::DropHeader,
    };
    manager::filter(&made.snapshot.mesh, wanted)
}

fn http_rbac(rules: &Rules) -> Vec<hcm::HttpFilter> {
    let one = |rules: Option<&rbac::Rbac>, shadow: Option<&rbac::Rbac>| {
        manager::http_filter("envoy.filters.http.rbac", any(&rbac_filter(rules, shadow)))
    };
    let audit = rules.audit.iter().map(|audit| one(None, Some(audit)));
    let deny = rules.deny.iter().map(|deny| one(Some(deny), None));
    audit.chain(deny).chain([one(Some(&rules.allow), None)]).collect()
}

fn rbac_filter(rules: Option<&rbac::Rbac>, shadow: Option<&rbac::Rbac>) -> HttpRbac {
    HttpRbac { rules: rules.cloned(), shadow_rules: shadow.cloned(), ..Default::default() }
}

/// The filters that take their rules from the route, always the same. A route that says nothing is let in
/// by nobody.
fn rbac_for_routes() -> Vec<hcm::HttpFilter> {
    let nobody = rbac::Rbac::default();
    let nothing = any(&rbac_filter(None, None));
    vec![
        manager::http_filter(AUDIT, nothing.clone()),
        manager::http_filter(DENY, nothing),
        manager::http_filter(ALLOW, any(&rbac_filter(Some(&nobody), None))),
    ]
}

fn rbac_of_routes(rules: &Rules) -> HashMap<String, google::Any> {
    let one = |name: &str, rules: Option<&rbac::Rbac>, shadow: Option<&rbac::Rbac>| {
        (name.to_owned(), any(&RbacPerRoute { rbac: Some(rbac_filter(rules, shadow)) }))
    };
    let audit = rules.audit.iter().map(|audit| one(AUDIT, None, Some(audit)));
    let mut deny = rules.deny.clone();
    if rules.paths {
        // That paths are merged and escaped slashes refused is a setting of the connection too, and one that
        // is older than the first policy about paths lacks it.
        let deny = deny.get_or_insert_with(|| rbac::Rbac {
            action: rbac::rbac::Action::Deny as i32,
            ..Default::default()
        });
        deny.policies.insert("weft/ambiguous-path".to_owned(), policies::paths_like(AMBIGUOUS));
    }
    let deny = deny.iter().map(|deny| one(DENY, Some(deny), None));
    audit.chain(deny).chain([one(ALLOW, Some(&rules.allow), None)]).collect()
}

fn network_rbac(number: u16, rules: &Rules) -> Vec<listener::Filter> {
    let one = |enforced: Option<&rbac::Rbac>, shadow: Option<&rbac::Rbac>| {
        let filter = NetworkRbac {
            rules: enforced.cloned(),
            shadow_rules: shadow.cloned(),
            stat_prefix: names::inbound(number),
            ..Default::default()
        };
        listener::Filter {
            name: "envoy.filters.network.rbac".to_owned(),
            config_type: Some(listener::filter::ConfigType::TypedConfig(any(&filter))),
        }
    };
    let audit = rules.audit.iter().map(|audit| one(None, Some(audit)));
    let deny = rules.deny.iter().map(|deny| one(Some(deny), None));
    audit.chain(deny).chain([one(Some(&rules.allow), None)]).collect()
}

/// A TCP proxy as a network filter; `tunnel` is the name that a CONNECT says, where connections go in tunnels.
pub fn tcp_proxy(
    stat_prefix: String,
    to: tcp::tcp_proxy::ClusterSpecifier,
    tunnel: Option<String>,
    made: &Made<'_>,
) -> listener::Filter {
    let proxy = tcp::TcpProxy {
        tunneling_config: tunnel
            .map(|hostname| tcp::tcp_proxy::TunnelingConfig { hostname, ..Default::default() }),
        stat_prefix,
        cluster_specifier: Some(to),
        idle_timeout: Some(duration(made.snapshot.mesh.defaults.idle_timeout.get())),
        access_log: manager::access_log(&made.snapshot.mesh),
        ..Default::default()
    };
    listener::Filter {
        name: "envoy.filters.network.tcp_proxy".to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(any(&proxy))),
    }
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

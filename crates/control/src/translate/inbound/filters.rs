//! What a chain does with its connections: HTTP to the app, tunnels to it, or bytes.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use weft_model::Protocol;

use super::super::manager::{self, Wanted};
use super::super::policies::Rules;
use super::super::proto::{ads, any, duration};
use super::super::view::ProxyKind;
use super::super::{Made, names, rules};
use super::authorization::{http_rbac, network_rbac, rbac_for_routes, rbac_of_routes};
use super::{AppPort, stamp};

pub fn of_chain(made: &mut Made<'_>, number: u16, port: &AppPort, rules: &Rules) -> Vec<listener::Filter> {
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
pub fn tunnels(made: &mut Made<'_>, number: u16, port: &AppPort, rules: &Rules) -> listener::Filter {
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
    let (routes, mut filters) = if made.view.kind == ProxyKind::Envoy {
        for host in &mut config.virtual_hosts {
            host.typed_per_filter_config = rbac_of_routes(rules);
        }
        made.builder.message(name.clone(), &config);
        let rds = hcm::Rds { config_source: Some(ads()), route_config_name: name.clone() };
        (RouteSpecifier::Rds(rds), rbac_for_routes())
    } else {
        (RouteSpecifier::RouteConfig(config), http_rbac(rules))
    };
    // Here and not at the caller, which knows what members speak to each other, not what the app does.
    if port.protocol == Protocol::Http2 && made.view.grpc_web {
        filters.insert(0, manager::grpc_web());
    }
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

//! The configuration that the raw xDS server offers, good in each type's generation, and what can be
//! wrong with one resource of it.
//!
//! Each type has a resource that shows its generation in answers, and one named `other` that is spoilt.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster};
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ConfigSource, HeaderValue, HeaderValueOption, SocketAddress, address,
    config_source, socket_address,
};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_types::pb::envoy::config::rbac::v3::{Permission, Policy, Principal, Rbac, permission, principal};
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, WeightedCluster, route, route_action,
    route_match, weighted_cluster::ClusterWeight,
};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_connection_manager, http_filter,
};
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatcher;
use envoy_types::pb::google::protobuf::{Any, Duration, UInt32Value};
use prost::{Message, Name};
use weft_xds::{Resource, Resources};

pub const OTHER: &str = "other";

/// Ports of the world: two origins, and three listeners.
#[derive(Clone, Copy)]
pub struct Ports {
    pub origins: [u16; 2],
    pub web: u16,
    pub extra: u16,
    pub other: u16,
}

/// Which generation of each type is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generations {
    pub cds: usize,
    pub eds: usize,
    pub lds: usize,
    pub rds: usize,
}

/// All that is offered; `spoilt` take the place of what has their name.
pub fn resources(ports: &Ports, of: Generations, spoilt: Vec<Resource>) -> Resources {
    let mut builder = Resources::builder();
    builder
        .message("app", &cluster("app", Some(ports.origins[of.cds % 2])))
        .message("eds", &cluster("eds", None))
        .message(OTHER, &cluster(OTHER, None))
        .message("eds", &assignment("eds", ports.origins[of.eds % 2]))
        .message(OTHER, &assignment(OTHER, ports.origins[0]))
        .message("web", &listener("web", ports.web, "routes"))
        .message(OTHER, &listener(OTHER, ports.other, OTHER))
        .message("routes", &routes("routes", of.rds, vec![to("/eds", "eds"), to("/", "app")]))
        .message(OTHER, &routes(OTHER, 0, vec![to("/", OTHER)]));
    if of.lds % 2 == 1 {
        builder.message("extra", &listener("extra", ports.extra, "routes"));
    }
    for resource in spoilt {
        builder.put(resource);
    }
    builder.build("")
}

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: 2,
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

fn socket(ip: &str, port: u32) -> Option<Address> {
    let port = Some(socket_address::PortSpecifier::PortValue(port));
    let socket = SocketAddress { address: ip.to_owned(), port_specifier: port, ..Default::default() };
    Some(Address { address: Some(address::Address::SocketAddress(socket)) })
}

fn cluster(name: &str, fixed: Option<u16>) -> Cluster {
    let mut made = Cluster {
        name: name.to_owned(),
        connect_timeout: Some(Duration { seconds: 1, nanos: 0 }),
        ..Default::default()
    };
    let kind = match fixed {
        Some(port) => {
            made.load_assignment = Some(assignment(name, port));
            cluster::DiscoveryType::Static
        }
        None => {
            made.eds_cluster_config =
                Some(cluster::EdsClusterConfig { eds_config: Some(ads()), service_name: name.to_owned() });
            cluster::DiscoveryType::Eds
        }
    };
    made.cluster_discovery_type = Some(cluster::ClusterDiscoveryType::Type(kind as i32));
    made
}

fn assignment(name: &str, port: u16) -> ClusterLoadAssignment {
    let endpoint = Endpoint { address: socket("127.0.0.1", port.into()), ..Default::default() };
    let one = LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    let endpoints = vec![LocalityLbEndpoints { lb_endpoints: vec![one], ..Default::default() }];
    ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints, ..Default::default() }
}

fn manager(routes: &str, mut filters: Vec<HttpFilter>) -> HttpConnectionManager {
    filters.push(http_filter("envoy.filters.http.router", any(&Router::default())));
    HttpConnectionManager {
        stat_prefix: routes.to_owned(),
        route_specifier: Some(http_connection_manager::RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: routes.to_owned(),
        })),
        http_filters: filters,
        ..Default::default()
    }
}

fn http_filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

fn with_filter(name: &str, port: u16, config: Any) -> Listener {
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(config)),
    };
    let chain = FilterChain { name: "http".to_owned(), filters: vec![filter], ..Default::default() };
    Listener {
        name: name.to_owned(),
        address: socket("127.0.0.1", port.into()),
        filter_chains: vec![chain],
        ..Default::default()
    }
}

fn listener(name: &str, port: u16, routes: &str) -> Listener {
    with_filter(name, port, any(&manager(routes, Vec::new())))
}

fn to(prefix: &str, cluster: &str) -> Route {
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(route_match::PathSpecifier::Prefix(prefix.to_owned())),
            ..Default::default()
        }),
        action: Some(route::Action::Route(RouteAction {
            cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// Answers say the generation in `x-generation`.
fn routes(name: &str, generation: usize, routes: Vec<Route>) -> RouteConfiguration {
    let header =
        HeaderValue { key: "x-generation".to_owned(), value: generation.to_string(), ..Default::default() };
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: "all".to_owned(),
            domains: vec!["*".to_owned()],
            routes,
            ..Default::default()
        }],
        response_headers_to_add: vec![HeaderValueOption { header: Some(header), ..Default::default() }],
        ..Default::default()
    }
}

/// One thing that is wrong, and what a NACK of it must say: the resource, and a piece of the path or reason.
pub struct Case {
    pub what: &'static str,
    pub type_url: &'static str,
    pub spoilt: Vec<Resource>,
    pub says: &'static [&'static str],
}

fn case<M: Message + Name + Default>(
    what: &'static str,
    type_url: &'static str,
    message: &M,
    says: &'static [&'static str],
) -> Case {
    raw(what, type_url, any(message).value, says)
}

fn raw(what: &'static str, type_url: &'static str, value: Vec<u8>, says: &'static [&'static str]) -> Case {
    let body = Any { type_url: type_url.to_owned(), value };
    // As it is: canonical bytes would be mended bytes.
    Case { what, type_url, spoilt: vec![Resource::received(OTHER.to_owned(), None, body)], says }
}

fn after<T>(mut value: T, spoil: impl FnOnce(&mut T)) -> T {
    spoil(&mut value);
    value
}

/// `other` with one route spoilt.
fn spoilt_route(spoil: impl FnOnce(&mut Route)) -> RouteConfiguration {
    routes(OTHER, 0, vec![after(to("/", OTHER), spoil)])
}

/// `other` with a route whose cluster is never offered.
pub fn route_to_nowhere() -> Resource {
    Resource::of(OTHER, &routes(OTHER, 0, vec![to("/nowhere", "nowhere"), to("/", OTHER)]))
}

fn action(route: &mut Route) -> &mut RouteAction {
    match &mut route.action {
        Some(route::Action::Route(action)) => action,
        _ => unreachable!("the routes here forward"),
    }
}

fn regex(pattern: String) -> RouteConfiguration {
    spoilt_route(|route| {
        let regex = RegexMatcher { regex: pattern, ..Default::default() };
        route.r#match = Some(RouteMatch {
            path_specifier: Some(route_match::PathSpecifier::SafeRegex(regex)),
            ..Default::default()
        });
    })
}

fn vhost(name: &str, domain: &str) -> VirtualHost {
    VirtualHost {
        name: name.to_owned(),
        domains: vec![domain.to_owned()],
        routes: vec![to("/", OTHER)],
        ..Default::default()
    }
}

fn not_not_not(depth: usize) -> Rbac {
    // prost's own encoder recurses too; this depth is far beyond what is taken, and far below a stack's end.
    let mut rule = Permission { rule: Some(permission::Rule::Any(true)) };
    for _ in 0..depth {
        rule = Permission { rule: Some(permission::Rule::NotRule(Box::new(rule))) };
    }
    let anybody = Principal { identifier: Some(principal::Identifier::Any(true)) };
    let policy = Policy { permissions: vec![rule], principals: vec![anybody], ..Default::default() };
    Rbac {
        policies: HashMap::from([("deep".to_owned(), policy)]).into_iter().collect(),
        ..Default::default()
    }
}

/// A field that no version of the message has.
fn unknown_tag(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend([
        0x80 | (4000u16 << 3 & 0x7f) as u8,
        0x80 | (4000u32 << 3 >> 7 & 0x7f) as u8,
        (4000u32 << 3 >> 14) as u8,
        1,
    ]);
    bytes
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&[0x0a, u8::try_from(OTHER.len()).unwrap()], OTHER.as_bytes(), bytes].concat()
}

/// F-CP-08's list, as far as one resource can show it.
pub fn cases(ports: &Ports) -> Vec<Case> {
    use weft_xds::{CDS, EDS, LDS, RDS};
    let other = listener(OTHER, ports.other, OTHER);
    let unknown = Any {
        type_url: "type.googleapis.com/envoy.extensions.filters.network.surprise.v3.Surprise".into(),
        value: vec![],
    };
    let deep = HttpRbac { rules: Some(not_not_not(200)), ..Default::default() };
    let twin = any(&listener(OTHER, ports.other, "routes"));
    let minus = Some(Duration { seconds: -3, nanos: 0 });
    let mut all = vec![
        case(
            "a listener's port 70000",
            LDS,
            &after(other.clone(), |l| l.address = socket("127.0.0.1", 70_000)),
            &["address", "70000"],
        ),
        case("a listener without an address", LDS, &after(other.clone(), |l| l.address = None), &["address"]),
        case(
            "an address that another listener has",
            LDS,
            &listener(OTHER, ports.web, OTHER),
            &["address", "web"],
        ),
        case(
            "an address that is none",
            LDS,
            &after(other.clone(), |l| l.address = socket("here", 80)),
            &["address", "here"],
        ),
        case(
            "a filter that nobody knows",
            LDS,
            &with_filter(OTHER, ports.other, unknown),
            &["filter_chains[0].filters[0]", "Surprise"],
        ),
        case(
            "a chain without filters",
            LDS,
            &after(other.clone(), |l| l.filter_chains[0].filters.clear()),
            &["filter_chains[0].filters"],
        ),
        case(
            "rules nested beyond reason",
            LDS,
            &with_filter(OTHER, ports.other, any(&manager(OTHER, vec![http_filter("rbac", any(&deep))]))),
            &["filter_chains[0].filters[0]"],
        ),
        case(
            "no source of routes",
            LDS,
            &with_filter(
                OTHER,
                ports.other,
                any(&HttpConnectionManager { route_specifier: None, ..manager(OTHER, vec![]) }),
            ),
            &["filter_chains[0].filters[0]", "route"],
        ),
        raw("a listener's field that nobody knows", LDS, unknown_tag(other.encode_to_vec()), &["4000"]),
        raw("a listener of noise", LDS, sized(&[0xff; 64]), &["does not decode"]),
        case(
            "a broken pattern",
            RDS,
            &regex("(unclosed".into()),
            &["virtual_hosts[0].routes[0].match", "regex"],
        ),
        case(
            "an over-long pattern",
            RDS,
            &regex("a".repeat(2000)),
            &["virtual_hosts[0].routes[0].match", "1024"],
        ),
        case(
            "a pattern that grows when compiled",
            RDS,
            &regex("((a{100}){100}){100}".into()),
            &["virtual_hosts[0].routes[0].match", "regex"],
        ),
        case(
            "a negative timeout",
            RDS,
            &spoilt_route(|r| action(r).timeout = minus),
            &["routes[0].route.timeout"],
        ),
        case(
            "a timeout with two billion nanoseconds",
            RDS,
            &spoilt_route(|r| action(r).timeout = Some(Duration { seconds: 1, nanos: 2_000_000_000 })),
            &["routes[0].route.timeout"],
        ),
        case(
            "a match of nothing",
            RDS,
            &spoilt_route(|r| r.r#match = Some(RouteMatch::default())),
            &["routes[0].match"],
        ),
        case("no match", RDS, &spoilt_route(|r| r.r#match = None), &["routes[0].match"]),
        case("no action", RDS, &spoilt_route(|r| r.action = None), &["routes[0]"]),
        case(
            "a domain twice",
            RDS,
            &after(routes(OTHER, 0, vec![]), |r| {
                r.virtual_hosts = vec![vhost("a", "shop"), vhost("b", "SHOP")]
            }),
            &["virtual_hosts[1].domains[0]", "shop"],
        ),
        case(
            "a virtual host twice",
            RDS,
            &after(routes(OTHER, 0, vec![]), |r| {
                r.virtual_hosts = vec![vhost("a", "shop"), vhost("a", "cart")]
            }),
            &["virtual_hosts[1]", "\"a\""],
        ),
        raw(
            "a domain that is no UTF-8",
            RDS,
            sized(&[0x12, 0x04, 0x12, 0x02, 0xc3, 0x28]),
            &["does not decode"],
        ),
        raw(
            "a route's field that nobody knows",
            RDS,
            unknown_tag(routes(OTHER, 0, vec![]).encode_to_vec()),
            &["4000"],
        ),
        case(
            "a negative connect timeout",
            CDS,
            &after(cluster(OTHER, None), |c| c.connect_timeout = minus),
            &["connect_timeout"],
        ),
        case(
            "a kind of discovery that nobody knows",
            CDS,
            &after(cluster(OTHER, None), |c| {
                c.cluster_discovery_type = Some(cluster::ClusterDiscoveryType::Type(99))
            }),
            &["type", "99"],
        ),
        case(
            "a balancer that nobody knows",
            CDS,
            &after(cluster(OTHER, None), |c| c.lb_policy = 77),
            &["lb_policy", "77"],
        ),
        case(
            "options that nobody knows",
            CDS,
            &after(cluster(OTHER, None), |c| {
                c.typed_extension_protocol_options = HashMap::from([(
                    "surprise".into(),
                    Any { type_url: "type.googleapis.com/surprise.v3.Surprise".into(), value: vec![] },
                )]);
            }),
            &["typed_extension_protocol_options", "urprise"],
        ),
        raw("a cluster of noise", CDS, sized(&[0xff; 64]), &["does not decode"]),
        case(
            "an endpoint's port 70000",
            EDS,
            &after(assignment(OTHER, 1), |a| {
                a.endpoints[0].lb_endpoints[0].host_identifier =
                    Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
                        address: socket("127.0.0.1", 70_000),
                        ..Default::default()
                    }));
            }),
            &["endpoints[0].lb_endpoints[0]", "70000"],
        ),
        case(
            "an endpoint without an address",
            EDS,
            &after(assignment(OTHER, 1), |a| {
                a.endpoints[0].lb_endpoints[0].host_identifier =
                    Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint::default()));
            }),
            &["endpoints[0].lb_endpoints[0]", "address"],
        ),
        case(
            "an endpoint of weight nothing",
            EDS,
            &after(assignment(OTHER, 1), |a| {
                a.endpoints[0].lb_endpoints[0].load_balancing_weight = Some(UInt32Value { value: 0 });
            }),
            &["endpoints[0].lb_endpoints[0].load_balancing_weight"],
        ),
    ];
    let weightless = spoilt_route(|route| {
        let clusters = ["app", OTHER].map(|name| ClusterWeight {
            name: name.into(),
            weight: Some(UInt32Value { value: 0 }),
            ..Default::default()
        });
        action(route).cluster_specifier =
            Some(route_action::ClusterSpecifier::WeightedClusters(WeightedCluster {
                clusters: clusters.into(),
                ..Default::default()
            }));
    });
    all.push(case("weights that sum to nothing", RDS, &weightless, &["routes[0].route.weighted_clusters"]));
    // Two resources whose bodies have one name; the envelope of delta can't hide it.
    let mut twins = raw("a listener's name twice", LDS, other.encode_to_vec(), &[]);
    twins.spoilt.push(Resource::received("other-2".to_owned(), None, twin));
    all.push(twins);
    all
}

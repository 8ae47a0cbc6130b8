//! Resources as control planes send them, and everything that may be wrong with them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as cluster_pb;
use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint_pb;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::listener::v3 as listener_pb;
use envoy_types::pb::envoy::config::rbac::v3 as rbac_pb;
use envoy_types::pb::envoy::config::route::v3 as route_pb;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::grpc_web::v3::GrpcWeb;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbacPb;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm_pb;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp_pb;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls_pb;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration as PbDuration, UInt32Value};
use envoy_types::util::pack_any;

use crate::types::*;

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn address(ip: &str, port: u32) -> core_pb::Address {
    core_pb::Address {
        address: Some(core_pb::address::Address::SocketAddress(core_pb::SocketAddress {
            address: ip.to_owned(),
            port_specifier: Some(core_pb::socket_address::PortSpecifier::PortValue(port)),
            ..core_pb::SocketAddress::default()
        })),
    }
}

fn route_to(cluster: &str) -> route_pb::Route {
    route_pb::Route {
        r#match: Some(route_pb::RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..route_pb::RouteMatch::default()
        }),
        action: Some(Action::Route(route_pb::RouteAction {
            cluster_specifier: Some(route_pb::route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
            ..route_pb::RouteAction::default()
        })),
        ..route_pb::Route::default()
    }
}

fn routes(routes: Vec<route_pb::Route>) -> route_pb::RouteConfiguration {
    route_pb::RouteConfiguration {
        name: "r".to_owned(),
        virtual_hosts: vec![route_pb::VirtualHost {
            name: "v".to_owned(),
            domains: vec!["*".to_owned()],
            routes,
            ..route_pb::VirtualHost::default()
        }],
        ..route_pb::RouteConfiguration::default()
    }
}

fn http_filter(name: &str, any: Any) -> hcm_pb::HttpFilter {
    hcm_pb::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm_pb::http_filter::ConfigType::TypedConfig(any)),
        ..hcm_pb::HttpFilter::default()
    }
}

/// An inbound listener as our own control plane makes it: mTLS, RBAC, one route.
fn inbound() -> (listener_pb::Listener, hcm_pb::HttpConnectionManager) {
    let uri = StringMatcher {
        match_pattern: Some(MatchPattern::Exact("spiffe://mesh.internal/ns/default/sa/fe".to_owned())),
        ignore_case: false,
    };
    let policy = rbac_pb::Policy {
        permissions: vec![rbac_pb::Permission { rule: Some(rbac_pb::permission::Rule::Any(true)) }],
        principals: vec![rbac_pb::Principal {
            identifier: Some(rbac_pb::principal::Identifier::Authenticated(
                rbac_pb::principal::Authenticated { principal_name: Some(uri) },
            )),
        }],
        ..rbac_pb::Policy::default()
    };
    let rules = rbac_pb::Rbac {
        policies: HashMap::from([("AccessPolicy/default/same-namespace".to_owned(), policy)]),
        ..rbac_pb::Rbac::default()
    };
    let hcm = hcm_pb::HttpConnectionManager {
        stat_prefix: "inbound".to_owned(),
        route_specifier: Some(hcm_pb::http_connection_manager::RouteSpecifier::RouteConfig(routes(vec![
            route_to("inbound|8080"),
        ]))),
        http_filters: vec![
            http_filter("rbac", pack_any(HttpRbacPb { rules: Some(rules), ..HttpRbacPb::default() })),
            http_filter("router", pack_any(Router::default())),
        ],
        ..hcm_pb::HttpConnectionManager::default()
    };
    let secret = |name: &str| tls_pb::SdsSecretConfig { name: name.to_owned(), sds_config: None };
    let tls = tls_pb::DownstreamTlsContext {
        require_client_certificate: Some(BoolValue { value: true }),
        common_tls_context: Some(tls_pb::CommonTlsContext {
            alpn_protocols: vec!["h2".to_owned(), "http/1.1".to_owned()],
            tls_certificate_sds_secret_configs: vec![secret("default")],
            tls_params: Some(tls_pb::TlsParameters {
                tls_minimum_protocol_version: 4,
                ..tls_pb::TlsParameters::default()
            }),
            validation_context_type: Some(
                tls_pb::common_tls_context::ValidationContextType::ValidationContextSdsSecretConfig(secret(
                    "ROOTCA",
                )),
            ),
            ..tls_pb::CommonTlsContext::default()
        }),
        ..tls_pb::DownstreamTlsContext::default()
    };
    let chain = listener_pb::FilterChain {
        filter_chain_match: Some(listener_pb::FilterChainMatch {
            server_names: vec!["p8080.mesh.internal".to_owned()],
            transport_protocol: "tls".to_owned(),
            ..listener_pb::FilterChainMatch::default()
        }),
        transport_socket: Some(core_pb::TransportSocket {
            name: "tls".to_owned(),
            config_type: Some(core_pb::transport_socket::ConfigType::TypedConfig(pack_any(tls))),
        }),
        ..listener_pb::FilterChain::default()
    };
    let listener = listener_pb::Listener {
        name: "inbound".to_owned(),
        address: Some(address("10.0.0.1", 15006)),
        filter_chains: vec![chain],
        ..listener_pb::Listener::default()
    };
    (listener, hcm)
}

fn with_hcm(listener: &mut listener_pb::Listener, hcm: hcm_pb::HttpConnectionManager) {
    listener.filter_chains[0].filters = vec![listener_pb::Filter {
        name: "http".to_owned(),
        config_type: Some(listener_pb::filter::ConfigType::TypedConfig(pack_any(hcm))),
    }];
}

#[test]
fn an_inbound_listener_is_read() {
    let (mut pb, hcm) = inbound();
    with_hcm(&mut pb, hcm);
    let listener = crate::listener(&pack_any(pb), Strictness::Own).unwrap().value;
    assert_eq!(listener.address, Some("10.0.0.1:15006".parse().unwrap()));
    assert!(listener.bind_to_port && !listener.use_original_dst);
    let chain = &listener.chains[0];
    let tls = chain.tls.as_ref().unwrap();
    assert!(matches!(&tls.certificates, CertificateSource::Sds(name) if &**name == "default"));
    assert!(matches!(&tls.client, ClientCertificate::Required(Validation { ca: CaSource::Sds(_), .. })));
    assert_eq!(tls.min_version, TlsVersion::V1_3);
    let NetworkFilter::Http(http) = &chain.filter else { panic!() };
    let Some(rbac) = http.filters[0].rbac() else { panic!("{:?}", http.filters) };
    let policy = &rbac.rules.as_ref().unwrap().policies[0];
    assert_eq!(&*policy.stamp.as_ref().unwrap().name, "same-namespace");
    assert!(http.routes.key().starts_with("inbound/inbound/chain["), "{}", http.routes.key());
}

#[test]
fn grpc_web_is_read_and_keeps_its_place() {
    let (mut pb, mut hcm) = inbound();
    hcm.http_filters.insert(1, http_filter("any name", pack_any(GrpcWeb::default())));
    with_hcm(&mut pb, hcm);
    let listener = crate::listener(&pack_any(pb), Strictness::Own).unwrap().value;
    let NetworkFilter::Http(http) = &listener.chains[0].filter else { panic!() };
    assert!(matches!(http.filters[..], [HttpFilter::Rbac(_), HttpFilter::GrpcWeb]), "{:?}", http.filters);
}

/// A cluster with TLS as it says, its server checked by these roots; the paths of its problems, or what it shows.
fn shown(secret: tls_pb::SdsSecretConfig, roots: Option<&str>) -> Result<CertificateSource, Vec<String>> {
    use tls_pb::common_tls_context::ValidationContextType;
    let validation = match roots {
        Some(pem) => ValidationContextType::ValidationContext(tls_pb::CertificateValidationContext {
            trusted_ca: Some(inline(pem)),
            ..Default::default()
        }),
        None => ValidationContextType::ValidationContextSdsSecretConfig(tls_pb::SdsSecretConfig {
            name: "ROOTCA".to_owned(),
            sds_config: None,
        }),
    };
    let context = tls_pb::UpstreamTlsContext {
        sni: "pay.example".to_owned(),
        common_tls_context: Some(tls_pb::CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![secret],
            validation_context_type: Some(validation),
            ..Default::default()
        }),
        ..Default::default()
    };
    let cluster = cluster_pb::Cluster {
        name: "external|80|pay.default".to_owned(),
        transport_socket: Some(core_pb::TransportSocket {
            name: "tls".to_owned(),
            config_type: Some(core_pb::transport_socket::ConfigType::TypedConfig(pack_any(context))),
        }),
        load_assignment: Some(endpoint_pb::ClusterLoadAssignment {
            cluster_name: "external|80|pay.default".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    match crate::cluster(&pack_any(cluster), Strictness::Own) {
        Ok(read) => Ok(read.value.tls.unwrap().certificates.clone()),
        Err(problems) => Err(problems.into_iter().map(|problem| problem.message).collect()),
    }
}

fn inline(text: &str) -> core_pb::DataSource {
    core_pb::DataSource {
        specifier: Some(core_pb::data_source::Specifier::InlineString(text.to_owned())),
        ..Default::default()
    }
}

#[test]
fn a_server_outside_may_be_shown_a_secret_by_name_and_a_member_only_the_own_identity() {
    use core_pb::config_source::ConfigSourceSpecifier::{Ads, PathConfigSource};
    let ads = core_pb::ConfigSource {
        config_source_specifier: Some(Ads(Default::default())),
        ..Default::default()
    };
    let path = core_pb::ConfigSource {
        config_source_specifier: Some(PathConfigSource(Default::default())),
        ..Default::default()
    };
    let secret = |name: &str, sds_config: Option<&core_pb::ConfigSource>| tls_pb::SdsSecretConfig {
        name: name.to_owned(),
        sds_config: sds_config.cloned(),
    };
    let refused = |secret, roots| shown(secret, roots).unwrap_err().join("; ");
    match shown(secret("client|me.default", Some(&ads)), Some("PEM")).unwrap() {
        CertificateSource::Secret(named) => {
            assert_eq!((&*named.name, named.certificate), ("client|me.default", None));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(shown(secret("default", None), None), Ok(CertificateSource::Sds(_))));
    assert!(refused(secret("client|me.default", None), Some("PEM")).contains("must be ads"));
    assert!(refused(secret("client|me.default", Some(&path)), Some("PEM")).contains("must be ads"));
    assert!(refused(secret("client|me.default", Some(&ads)), None).contains("members are shown"));
    assert!(refused(secret("default", None), Some("PEM")).contains("no member"));
}

#[test]
fn a_secret_is_a_certificate_with_its_key_and_its_key_is_never_printed() {
    let read = |kind: Option<tls_pb::secret::Type>| {
        let secret = tls_pb::Secret { name: "client|me.default".to_owned(), r#type: kind };
        crate::secret(&pack_any(secret), Strictness::Own)
    };
    let certificate = |key: Option<core_pb::DataSource>| tls_pb::TlsCertificate {
        certificate_chain: Some(inline("THE CHAIN")),
        private_key: key,
        ..Default::default()
    };
    use tls_pb::secret::Type::{TlsCertificate, ValidationContext};
    let good = read(Some(TlsCertificate(certificate(Some(inline("THE KEY")))))).unwrap().value;
    assert_eq!(good.certificate.key, DataSource::Bytes(b"THE KEY".as_slice().into()));
    let printed = format!("{good:?} {:?}", CertificateSource::Inline(vec![(*good.certificate).clone()]));
    let bytes = format!("{:?}", b"THE KEY");
    assert!(!printed.contains(bytes.trim_matches(['[', ']'])) && !printed.contains("THE KEY"), "{printed}");
    for refused in
        [None, Some(TlsCertificate(certificate(None))), Some(ValidationContext(Default::default()))]
    {
        assert!(read(refused).is_err());
    }
}

#[test]
fn problems_inside_filters_have_their_path() {
    let (mut pb, mut hcm) = inbound();
    let mut hashed = route_to("inbound|8080");
    if let Some(Action::Route(action)) = hashed.action.as_mut() {
        action.hash_policy = vec![route_pb::route_action::HashPolicy::default()];
    }
    hcm.route_specifier = Some(hcm_pb::http_connection_manager::RouteSpecifier::RouteConfig(routes(vec![
        route_to("a"),
        hashed,
    ])));
    hcm.http_filters
        .insert(0, http_filter("lua", Any { type_url: "t/envoy.Lua".to_owned(), value: vec![1] }));
    hcm.tracing = Some(hcm_pb::http_connection_manager::Tracing::default());
    with_hcm(&mut pb, hcm);
    let problems = crate::listener(&pack_any(pb.clone()), Strictness::Own).unwrap_err();
    let inside = "filter_chains[0].filters[0].typed_config";
    let paths: Vec<&str> = problems.iter().map(|problem| &*problem.path).collect();
    for path in [
        "http_filters[0].typed_config",
        "route_config.virtual_hosts[0].routes[1].route.hash_policy[0]",
        "tracing",
    ] {
        assert!(paths.contains(&&*format!("{inside}.{path}")), "{path} in {paths:#?}");
    }
    let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(text.contains("envoy.Lua"), "{text}");
    let foreign = crate::listener(&pack_any(pb), Strictness::DeclaredForeign).unwrap_err();
    assert!(!foreign.iter().any(|problem| problem.path.ends_with("tracing")), "{foreign:#?}");
}

/// Reads a route configuration and gives `path: message` of every problem.
fn route_problems(config: route_pb::RouteConfiguration) -> Vec<String> {
    match crate::route_config(&pack_any(config), Strictness::Own) {
        Ok(_) => Vec::new(),
        Err(problems) => {
            problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
        }
    }
}

#[test]
fn all_problems_of_a_route_configuration_are_told() {
    let regex = |pattern: String| {
        let mut found = route_to("c");
        found.r#match.as_mut().unwrap().path_specifier =
            Some(PathSpecifier::SafeRegex(RegexMatcher { regex: pattern, ..RegexMatcher::default() }));
        found
    };
    let mut negative = route_to("c");
    let mut words = route_to("c");
    let mut unweighted = route_to("c");
    if let Some(Action::Route(action)) = negative.action.as_mut() {
        action.timeout = Some(PbDuration { seconds: -1, nanos: 0 });
        action.priority = 7;
    }
    if let Some(Action::Route(action)) = words.action.as_mut() {
        action.retry_policy = Some(route_pb::RetryPolicy {
            retry_on: "5xx,nonsense".to_owned(),
            ..route_pb::RetryPolicy::default()
        });
    }
    if let Some(Action::Route(action)) = unweighted.action.as_mut() {
        action.cluster_specifier =
            Some(route_pb::route_action::ClusterSpecifier::WeightedClusters(route_pb::WeightedCluster {
                clusters: vec![route_pb::weighted_cluster::ClusterWeight {
                    name: "c".to_owned(),
                    weight: Some(UInt32Value { value: 0 }),
                    ..route_pb::weighted_cluster::ClusterWeight::default()
                }],
                ..route_pb::WeightedCluster::default()
            }));
    }
    let mut named = route_to("c");
    named.r#match.as_mut().unwrap().headers =
        vec![route_pb::HeaderMatcher { name: "bad name".to_owned(), ..route_pb::HeaderMatcher::default() }];
    let mut host = route_to("c");
    host.request_headers_to_remove = vec!["Host".to_owned()];
    let mut config = routes(vec![
        regex("(".to_owned()),
        regex("a".repeat(1025)),
        regex("(a{1000}){1000}".to_owned()),
        regex("a)|(b".to_owned()),
        negative,
        words,
        unweighted,
        named,
        route_to(""),
        route_pb::Route::default(),
        host,
    ]);
    config.virtual_hosts.push(route_pb::VirtualHost {
        name: "w".to_owned(),
        domains: vec!["*".to_owned(), "a*b".to_owned(), String::new()],
        ..route_pb::VirtualHost::default()
    });
    let problems = route_problems(config);
    let at = "virtual_hosts[0].routes";
    for expected in [
        format!("{at}[0].match.safe_regex.regex: is no pattern"),
        format!("{at}[1].match.safe_regex.regex: is a pattern of more than 1024"),
        format!("{at}[2].match.safe_regex.regex: is no pattern"),
        format!("{at}[3].match.safe_regex.regex: is no pattern"),
        format!("{at}[4].route.timeout: is no duration"),
        format!("{at}[4].route.priority: is 7"),
        format!("{at}[5].route.retry_policy.retry_on: holds \"nonsense\""),
        format!("{at}[6].route.weighted_clusters.clusters: has a sum of weights of 0"),
        format!("{at}[7].match.headers[0].name: is no header name"),
        format!("{at}[8].route.cluster: is required"),
        format!("{at}[9].match: is required"),
        format!("{at}[9]: needs one of route"),
        format!("{at}[10].request_headers_to_remove[0]: \"Host\" cannot be edited"),
        "virtual_hosts[1].domains[0]: \"*\" is also a domain of virtual_hosts[0]".to_owned(),
        "virtual_hosts[1].domains[1]: \"a*b\" may hold one *".to_owned(),
        "virtual_hosts[1].domains[2]: is empty".to_owned(),
    ] {
        assert!(
            problems.iter().any(|problem| problem.starts_with(&expected)),
            "{expected}\nin {problems:#?}"
        );
    }
    assert_eq!(problems.len(), 16, "{problems:#?}");
}

#[test]
fn ports_and_addresses_are_checked() {
    let member = |address: core_pb::Address| endpoint_pb::LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint_pb::Endpoint {
            address: Some(address),
            ..endpoint_pb::Endpoint::default()
        })),
        ..endpoint_pb::LbEndpoint::default()
    };
    let assignment = |members: Vec<endpoint_pb::LbEndpoint>| endpoint_pb::ClusterLoadAssignment {
        cluster_name: "c".to_owned(),
        endpoints: vec![endpoint_pb::LocalityLbEndpoints {
            lb_endpoints: members,
            ..endpoint_pb::LocalityLbEndpoints::default()
        }],
        ..endpoint_pb::ClusterLoadAssignment::default()
    };
    let bad = assignment(vec![
        member(address("10.0.0.1", 0)),
        member(address("10.0.0.1", 70_000)),
        member(address("be1.example", 80)),
        endpoint_pb::LbEndpoint::default(),
    ]);
    let problems = crate::load_assignment(&pack_any(bad), Strictness::Own).unwrap_err();
    assert_eq!(problems.len(), 4, "{problems:#?}");
    let good = assignment(vec![member(address("10.0.0.1", 80)), member(address("::1", 80))]);
    let endpoints = crate::load_assignment(&pack_any(good), Strictness::Own).unwrap().value;
    assert_eq!((endpoints.all.len(), endpoints.priorities.first().cloned()), (2, Some(0..2)));
}

#[test]
fn a_cluster_with_tls_and_http2_is_read_and_its_mistakes_are_told() {
    use envoy_types::pb::envoy::config::cluster::v3 as pb;
    use envoy_types::pb::envoy::extensions::upstreams::http::v3 as options;
    let http2 = options::HttpProtocolOptions {
        upstream_protocol_options: Some(options::http_protocol_options::UpstreamProtocolOptions::ExplicitHttpConfig(
            options::http_protocol_options::ExplicitHttpConfig {
                protocol_config: Some(
                    options::http_protocol_options::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(
                        core_pb::Http2ProtocolOptions::default(),
                    ),
                ),
            },
        )),
        ..options::HttpProtocolOptions::default()
    };
    let roots = tls_pb::CertificateValidationContext {
        system_root_certs: Some(Default::default()),
        ..Default::default()
    };
    let tls = tls_pb::UpstreamTlsContext {
        sni: "p8080.mesh.internal".to_owned(),
        common_tls_context: Some(tls_pb::CommonTlsContext {
            validation_context_type: Some(
                tls_pb::common_tls_context::ValidationContextType::ValidationContext(roots),
            ),
            ..Default::default()
        }),
        ..Default::default()
    };
    let cluster = pb::Cluster {
        name: "c".to_owned(),
        connect_timeout: Some(PbDuration { seconds: 1, nanos: 0 }),
        transport_socket: Some(core_pb::TransportSocket {
            name: "tls".to_owned(),
            config_type: Some(core_pb::transport_socket::ConfigType::TypedConfig(pack_any(tls))),
        }),
        typed_extension_protocol_options: HashMap::from([(OPTIONS.to_owned(), pack_any(http2))]),
        ..pb::Cluster::default()
    };
    let read = crate::cluster(&pack_any(cluster.clone()), Strictness::Own).unwrap().value;
    assert_eq!(read.http.protocol, UpstreamProtocol::Http2);
    assert_eq!(read.connect_timeout, Duration::from_secs(1));
    assert_eq!(read.tls.unwrap().sni.as_deref(), Some("p8080.mesh.internal"));
    let unchecked = tls_pb::UpstreamTlsContext { sni: "a".to_owned(), ..Default::default() };
    let unchecked = pb::Cluster {
        transport_socket: Some(core_pb::TransportSocket {
            name: "tls".to_owned(),
            config_type: Some(core_pb::transport_socket::ConfigType::TypedConfig(pack_any(unchecked))),
        }),
        health_checks: vec![core_pb::HealthCheck::default(), core_pb::HealthCheck::default()],
        typed_extension_protocol_options: HashMap::new(),
        ..cluster.clone()
    };
    let problems = crate::cluster(&pack_any(unchecked), Strictness::DeclaredForeign).unwrap_err();
    for path in ["health_checks", "transport_socket.typed_config.common_tls_context"] {
        assert!(problems.iter().any(|problem| &*problem.path == path), "{path} in {problems:#?}");
    }
    let wrong = pb::Cluster {
        lb_policy: 2,
        connect_timeout: Some(PbDuration { seconds: 0, nanos: 0 }),
        cluster_discovery_type: Some(pb::cluster::ClusterDiscoveryType::Type(3)),
        transport_socket: Some(core_pb::TransportSocket {
            name: "tls".to_owned(),
            config_type: Some(core_pb::transport_socket::ConfigType::TypedConfig(pack_any(
                tls_pb::DownstreamTlsContext::default(),
            ))),
        }),
        ..cluster
    };
    let problems = crate::cluster(&pack_any(wrong), Strictness::Own).unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|problem| &*problem.path).collect();
    assert_eq!(
        paths,
        ["connect_timeout", "eds_cluster_config", "lb_policy", "transport_socket.typed_config"]
    );
}

#[test]
fn what_is_not_done_is_refused_by_its_path() {
    let edited = |prefix: &str, value: &str| {
        let option = core_pb::HeaderValueOption {
            header: Some(core_pb::HeaderValue {
                key: "x".to_owned(),
                value: value.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut found = route_to("c");
        match prefix {
            "request" => found.request_headers_to_add = vec![option],
            _ => found.response_headers_to_add = vec![option],
        }
        found
    };
    let mut limited = route_to("c");
    let mut unlimited = route_to("c");
    let action = |route: &mut route_pb::Route, change: &dyn Fn(&mut route_pb::RouteAction)| {
        if let Some(Action::Route(action)) = route.action.as_mut() {
            change(action);
        }
    };
    let per_try = |seconds: i64| {
        Some(route_pb::RetryPolicy {
            per_try_idle_timeout: Some(PbDuration { seconds, nanos: 0 }),
            ..Default::default()
        })
    };
    action(&mut limited, &|action| action.retry_policy = per_try(1));
    action(&mut unlimited, &|action| action.retry_policy = per_try(0));
    let problems = route_problems(routes(vec![
        edited("request", "%UPSTREAM_HOST%"),
        edited("request", "%REQ(:path)%"),
        edited("response", "%REQ(x-id)%"),
        limited,
        unlimited,
        edited("request", "%REQ(x-id)%"),
        edited("response", "%UPSTREAM_HOST%"),
    ]));
    let at = "virtual_hosts[0].routes";
    let expected = [
        format!("{at}[0].request_headers_to_add[0].header.value"),
        format!("{at}[1].request_headers_to_add[0].header.value"),
        format!("{at}[2].response_headers_to_add[0].header.value"),
        format!("{at}[3].route.retry_policy.per_try_idle_timeout"),
    ];
    let paths: Vec<&str> = problems.iter().filter_map(|text| Some(text.split_once(": ")?.0)).collect();
    assert_eq!(paths, expected);
}

#[test]
fn servers_are_checked_by_what_the_proxy_can_check() {
    use envoy_types::pb::envoy::config::cluster::v3 as pb;
    use tls_pb::common_tls_context::ValidationContextType;
    let problems = |sni: &str, validation: tls_pb::CertificateValidationContext| {
        let context = tls_pb::UpstreamTlsContext {
            sni: sni.to_owned(),
            common_tls_context: Some(tls_pb::CommonTlsContext {
                validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
                ..Default::default()
            }),
            ..Default::default()
        };
        let cluster = pb::Cluster {
            name: "c".to_owned(),
            transport_socket: Some(core_pb::TransportSocket {
                name: "tls".to_owned(),
                config_type: Some(core_pb::transport_socket::ConfigType::TypedConfig(pack_any(context))),
            }),
            ..pb::Cluster::default()
        };
        crate::cluster(&pack_any(cluster), Strictness::Own).err().map_or(0, |problems| problems.len())
    };
    let of = |name: Option<(i32, &str)>, system: bool| tls_pb::CertificateValidationContext {
        system_root_certs: system.then(Default::default),
        ca_certificate_provider_instance: (!system).then(|| tls_pb::CertificateProviderPluginInstance {
            instance_name: "default".to_owned(),
            ..Default::default()
        }),
        match_typed_subject_alt_names: name
            .into_iter()
            .map(|(san_type, name)| tls_pb::SubjectAltNameMatcher {
                san_type,
                matcher: Some(StringMatcher {
                    match_pattern: Some(MatchPattern::Exact(name.to_owned())),
                    ..Default::default()
                }),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let (dns, uri) = (2, 3);
    assert_eq!(problems("a.example", of(None, true)), 0);
    assert_eq!(problems("a.example", of(Some((dns, "A.example")), true)), 0);
    assert_eq!(problems("a.example", of(Some((dns, "b.example")), true)), 1);
    assert_eq!(problems("", of(None, true)), 1);
    assert_eq!(problems("p80.mesh.internal", of(Some((uri, "spiffe://mesh.internal/a")), false)), 0);
    assert_eq!(problems("p80.mesh.internal", of(Some((dns, "a")), false)), 1);
}

#[test]
fn wrong_types_and_garbage_are_refused() {
    let any = |type_url: &str, value: &[u8]| Any { type_url: type_url.to_owned(), value: value.to_vec() };
    let cluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    assert!(crate::listener(&any(cluster, &[]), Strictness::Own).is_err());
    assert!(crate::cluster(&any(cluster, &[0xff; 40]), Strictness::Own).is_err());
    assert!(crate::cluster(&any(cluster, &[]), Strictness::Own).is_err(), "a name is required");
    // A name, and tag 3000 that nobody knows.
    let unknown = [0x0a, 1, b'c', 0xc0, 0xbb, 0x01, 1];
    let problems = crate::cluster(&any(cluster, &unknown), Strictness::DeclaredForeign).unwrap_err();
    assert_eq!(problems[0].to_string(), "c: <tag 3000>: Cluster has no field 3000 that is known here");
}

#[test]
fn an_rbac_policy_that_loses_a_part_is_refused_as_a_whole() {
    let (mut pb, mut hcm) = inbound();
    let deny = rbac_pb::Rbac {
        action: 1,
        policies: HashMap::from([(
            "p".to_owned(),
            rbac_pb::Policy {
                permissions: vec![rbac_pb::Permission {
                    rule: Some(rbac_pb::permission::Rule::AndRules(rbac_pb::permission::Set {
                        rules: vec![rbac_pb::Permission { rule: None }],
                    })),
                }],
                ..rbac_pb::Policy::default()
            },
        )]),
        ..rbac_pb::Rbac::default()
    };
    hcm.http_filters[0] =
        http_filter("rbac", pack_any(HttpRbacPb { rules: Some(deny), ..HttpRbacPb::default() }));
    with_hcm(&mut pb, hcm);
    let problems = crate::listener(&pack_any(pb), Strictness::Own).unwrap_err();
    let paths: Vec<&str> = problems
        .iter()
        .filter_map(|problem| problem.path.split_once("typed_config.rules.").map(|split| split.1))
        .collect();
    assert_eq!(paths, ["policies[\"p\"].permissions[0].and_rules.rules[0]", "policies[\"p\"].principals"]);
}

#[test]
fn a_tunnel_is_by_connect_to_a_fixed_name() {
    use tcp_pb::tcp_proxy::{ClusterSpecifier, TunnelingConfig};
    let wanted = |hostname: &str| TunnelingConfig { hostname: hostname.to_owned(), ..Default::default() };
    let decoded = |tunneling: TunnelingConfig| {
        let proxy = tcp_pb::TcpProxy {
            cluster_specifier: Some(ClusterSpecifier::Cluster("c".to_owned())),
            tunneling_config: Some(tunneling),
            ..Default::default()
        };
        let filter = listener_pb::Filter {
            name: "tcp".to_owned(),
            config_type: Some(listener_pb::filter::ConfigType::TypedConfig(pack_any(proxy))),
        };
        let chain = listener_pb::FilterChain { filters: vec![filter], ..Default::default() };
        let found = crate::listener(
            &pack_any(listener_pb::Listener {
                name: "l".to_owned(),
                address: Some(address("127.0.0.1", 1)),
                filter_chains: vec![chain],
                ..Default::default()
            }),
            Strictness::Own,
        );
        match found {
            Ok(decoded) => match &decoded.value.chains[0].filter {
                crate::NetworkFilter::Tcp(config) => Ok(config.tunnel.as_ref().map(ToString::to_string)),
                crate::NetworkFilter::Http(_) => panic!("not HTTP"),
            },
            Err(problems) => Err(problems.iter().map(|p| p.path.to_string()).collect::<Vec<_>>().join(" ")),
        }
    };
    let at = "filter_chains[0].filters[0].typed_config.tunneling_config";
    assert_eq!(decoded(wanted("db.mesh.internal:5432")), Ok(Some("db.mesh.internal:5432".to_owned())));
    assert_eq!(decoded(TunnelingConfig { use_post: true, ..wanted("a:1") }), Err(format!("{at}.use_post")));
    for bad in ["", "%REQUESTED_SERVER_NAME%:443", "me@a:1", "a b"] {
        assert_eq!(decoded(wanted(bad)), Err(format!("{at}.hostname")), "{bad}");
    }
}

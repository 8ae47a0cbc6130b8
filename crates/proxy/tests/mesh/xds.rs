//! xDS resources as our control plane translates them, built by hand.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{Cluster, cluster},
            core::v3::{
                Address, AggregatedConfigSource, ApiConfigSource, ConfigSource, DataSource, GrpcService,
                Http2ProtocolOptions, SocketAddress, TransportSocket, address, api_config_source,
                config_source, data_source, grpc_service, socket_address, transport_socket,
            },
            endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint},
            listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, filter},
            rbac::v3::{self as rbac, Policy, permission, principal},
            route::v3::{
                DirectResponseAction, RedirectAction, RetryPolicy, Route, RouteAction, RouteConfiguration,
                RouteMatch, VirtualHost, redirect_action, route, route_action, route_match,
            },
        },
        extensions::{
            filters::{
                http::{rbac::v3::Rbac as HttpRbac, router::v3::Router},
                network::{
                    http_connection_manager::v3::{
                        HttpConnectionManager, HttpFilter, http_connection_manager, http_filter,
                    },
                    tcp_proxy::v3::{TcpProxy, tcp_proxy},
                },
            },
            transport_sockets::tls::v3::{
                CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
                SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext, common_tls_context,
                subject_alt_name_matcher::SanType, tls_parameters::TlsProtocol,
            },
            upstreams::http::v3::{HttpProtocolOptions, http_protocol_options},
        },
        r#type::matcher::v3::{StringMatcher, string_matcher},
    },
    google::protobuf::{self, Any, UInt32Value},
};
use prost::{Message, Name};

pub fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn address(at: SocketAddr) -> Option<Address> {
    Some(Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: at.ip().to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(u32::from(at.port()))),
            ..SocketAddress::default()
        })),
    })
}

pub fn duration(duration: Duration) -> Option<protobuf::Duration> {
    Some(protobuf::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap(),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap(),
    })
}

/// What is spoken to a cluster's endpoints.
#[derive(Clone, Copy, PartialEq)]
pub enum Speak {
    Http1,
    Http2,
    Tcp,
}

/// A static cluster; `mtls` is the SNI and the identity that the other side must have.
pub fn cluster(name: &str, endpoints: &[SocketAddr], speak: Speak, mtls: Option<(&str, &str)>) -> Any {
    let lb_endpoints = endpoints
        .iter()
        .map(|at| LbEndpoint {
            host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
                address: address(*at),
                ..Endpoint::default()
            })),
            ..LbEndpoint::default()
        })
        .collect();
    let mut cluster = Cluster {
        name: name.to_owned(),
        connect_timeout: duration(Duration::from_secs(1)),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![LocalityLbEndpoints { lb_endpoints, ..LocalityLbEndpoints::default() }],
            ..ClusterLoadAssignment::default()
        }),
        ..Cluster::default()
    };
    cluster.cluster_discovery_type =
        Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Static as i32));
    if speak == Speak::Http2 {
        let options = HttpProtocolOptions {
            upstream_protocol_options: Some(
                http_protocol_options::UpstreamProtocolOptions::ExplicitHttpConfig(
                    http_protocol_options::ExplicitHttpConfig {
                        protocol_config: Some(
                            http_protocol_options::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(
                                Http2ProtocolOptions::default(),
                            ),
                        ),
                    },
                ),
            ),
            ..HttpProtocolOptions::default()
        };
        cluster.typed_extension_protocol_options = HashMap::from([(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
            any(&options),
        )]);
    }
    if let Some((sni, identity)) = mtls {
        let alpn: &[&str] = if speak == Speak::Http2 { &["h2"] } else { &[] };
        let context = UpstreamTlsContext {
            common_tls_context: Some(common_tls(alpn, &[identity])),
            sni: sni.to_owned(),
            ..UpstreamTlsContext::default()
        };
        cluster.transport_socket = transport_socket(any(&context));
    }
    any(&cluster)
}

pub fn transport_socket(context: Any) -> Option<TransportSocket> {
    Some(TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(context)),
    })
}

fn common_tls(alpn: &[&str], identities: &[&str]) -> CommonTlsContext {
    let names = identities
        .iter()
        .map(|id| SubjectAltNameMatcher {
            san_type: SanType::Uri as i32,
            matcher: Some(StringMatcher {
                match_pattern: Some(string_matcher::MatchPattern::Exact((*id).to_owned())),
                ..StringMatcher::default()
            }),
            ..SubjectAltNameMatcher::default()
        })
        .collect();
    CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv13 as i32,
            tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
            ..TlsParameters::default()
        }),
        alpn_protocols: alpn.iter().map(|name| (*name).to_owned()).collect(),
        tls_certificate_sds_secret_configs: vec![sds("default")],
        validation_context_type: Some(common_tls_context::ValidationContextType::CombinedValidationContext(
            common_tls_context::CombinedCertificateValidationContext {
                default_validation_context: Some(CertificateValidationContext {
                    match_typed_subject_alt_names: names,
                    ..CertificateValidationContext::default()
                }),
                validation_context_sds_secret_config: Some(sds("ROOTCA")),
                ..Default::default()
            },
        )),
        ..CommonTlsContext::default()
    }
}

fn sds(name: &str) -> SdsSecretConfig {
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(ConfigSource {
            resource_api_version: 2,
            config_source_specifier: Some(config_source::ConfigSourceSpecifier::ApiConfigSource(
                ApiConfigSource {
                    api_type: api_config_source::ApiType::Grpc as i32,
                    transport_api_version: 2,
                    grpc_services: vec![GrpcService {
                        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(
                            grpc_service::EnvoyGrpc {
                                cluster_name: "sds_agent".to_owned(),
                                ..Default::default()
                            },
                        )),
                        ..GrpcService::default()
                    }],
                    ..ApiConfigSource::default()
                },
            )),
            ..ConfigSource::default()
        }),
    }
}

/// A configuration source "by ADS", for those that need one.
#[allow(dead_code, reason = "not every test file uses it")]
pub fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: 2,
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

fn prefix(prefix: &str) -> Option<RouteMatch> {
    Some(RouteMatch {
        path_specifier: Some(route_match::PathSpecifier::Prefix(prefix.to_owned())),
        ..RouteMatch::default()
    })
}

fn action_to(cluster: &str) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
        ..RouteAction::default()
    }
}

/// Everything under `path` to `cluster`.
pub fn to(path: &str, cluster: &str) -> Route {
    Route {
        name: format!("default/{cluster}"),
        r#match: prefix(path),
        action: Some(route::Action::Route(action_to(cluster))),
        ..Route::default()
    }
}

/// The same, tried again on any 5xx.
pub fn to_with_retries(path: &str, cluster: &str) -> Route {
    let mut action = action_to(cluster);
    action.retry_policy = Some(RetryPolicy {
        retry_on: "5xx,connect-failure".to_owned(),
        num_retries: Some(UInt32Value { value: 2 }),
        ..RetryPolicy::default()
    });
    Route { action: Some(route::Action::Route(action)), ..to(path, cluster) }
}

/// A route with a limit to the answer.
pub fn to_with_timeout(path: &str, cluster: &str, timeout: Duration) -> Route {
    let mut action = action_to(cluster);
    action.timeout = duration(timeout);
    Route { action: Some(route::Action::Route(action)), ..to(path, cluster) }
}

pub fn connect_to(cluster: &str) -> Route {
    let mut action = action_to(cluster);
    action.upgrade_configs = vec![route_action::UpgradeConfig {
        upgrade_type: "CONNECT".to_owned(),
        connect_config: Some(route_action::upgrade_config::ConnectConfig::default()),
        ..Default::default()
    }];
    Route {
        name: format!("default/{cluster}"),
        r#match: Some(RouteMatch {
            path_specifier: Some(route_match::PathSpecifier::ConnectMatcher(route_match::ConnectMatcher {})),
            ..RouteMatch::default()
        }),
        action: Some(route::Action::Route(action)),
        ..Route::default()
    }
}

pub fn redirect(path: &str, host: &str) -> Route {
    Route {
        name: "default/moved".to_owned(),
        r#match: prefix(path),
        action: Some(route::Action::Redirect(RedirectAction {
            host_redirect: host.to_owned(),
            response_code: redirect_action::RedirectResponseCode::Found as i32,
            ..RedirectAction::default()
        })),
        ..Route::default()
    }
}

pub fn direct(path: &str, status: u32, body: &str) -> Route {
    Route {
        name: "default/direct".to_owned(),
        r#match: prefix(path),
        action: Some(route::Action::DirectResponse(DirectResponseAction {
            status,
            body: Some(DataSource {
                specifier: Some(data_source::Specifier::InlineString(body.to_owned())),
                ..DataSource::default()
            }),
            ..Default::default()
        })),
        ..Route::default()
    }
}

pub fn vhost(name: &str, domains: &[&str], routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name: name.to_owned(),
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        routes,
        ..VirtualHost::default()
    }
}

/// An allow policy for these identities on these paths; `None` is any path.
pub fn allow(name: &str, identities: &[&str], path: Option<&str>) -> (String, Policy) {
    use envoy_types::pb::envoy::r#type::matcher::v3::{PathMatcher, path_matcher};
    let text = |pattern| StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() };
    let rule = match path {
        None => permission::Rule::Any(true),
        Some(path) => permission::Rule::UrlPath(PathMatcher {
            rule: Some(path_matcher::Rule::Path(text(string_matcher::MatchPattern::Prefix(path.to_owned())))),
        }),
    };
    let principals = identities
        .iter()
        .map(|id| rbac::Principal {
            identifier: Some(principal::Identifier::Authenticated(principal::Authenticated {
                principal_name: Some(text(string_matcher::MatchPattern::Exact((*id).to_owned()))),
            })),
        })
        .collect();
    let policy =
        Policy { permissions: vec![rbac::Permission { rule: Some(rule) }], principals, ..Policy::default() };
    (name.to_owned(), policy)
}

fn http_filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

/// An HTTP connection manager with these hosts. `policies`: allow these and nothing else.
pub fn http(name: &str, vhosts: Vec<VirtualHost>, policies: Option<Vec<(String, Policy)>>) -> Filter {
    let mut filters = Vec::new();
    if let Some(policies) = policies {
        let rules = rbac::Rbac {
            action: rbac::rbac::Action::Allow as i32,
            policies: policies.into_iter().collect(),
            ..Default::default()
        };
        filters.push(http_filter(
            "envoy.filters.http.rbac",
            any(&HttpRbac { rules: Some(rules), ..HttpRbac::default() }),
        ));
    }
    filters.push(http_filter("envoy.filters.http.router", any(&Router::default())));
    let upgrade = |kind: &str| http_connection_manager::UpgradeConfig {
        upgrade_type: kind.to_owned(),
        ..Default::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: name.to_owned(),
        route_specifier: Some(http_connection_manager::RouteSpecifier::RouteConfig(RouteConfiguration {
            name: name.to_owned(),
            virtual_hosts: vhosts,
            ..RouteConfiguration::default()
        })),
        http_filters: filters,
        upgrade_configs: vec![upgrade("websocket"), upgrade("CONNECT")],
        normalize_path: Some(protobuf::BoolValue { value: true }),
        forward_client_cert_details: http_connection_manager::ForwardClientCertDetails::SanitizeSet as i32,
        ..HttpConnectionManager::default()
    };
    network_filter("envoy.filters.network.http_connection_manager", any(&manager))
}

/// The same manager, writing a line a request.
pub fn with_access_log(filter: Filter, path: &std::path::Path, format: &str) -> Filter {
    use envoy_types::pb::envoy::{
        config::{
            accesslog::v3::{AccessLog, access_log},
            core::v3::{SubstitutionFormatString, substitution_format_string::Format},
        },
        extensions::access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat},
    };
    let Some(filter::ConfigType::TypedConfig(config)) = &filter.config_type else { panic!("a typed filter") };
    let mut manager = HttpConnectionManager::decode(&config.value[..]).unwrap();
    let source = DataSource {
        specifier: Some(data_source::Specifier::InlineString(format.to_owned())),
        ..DataSource::default()
    };
    let log = FileAccessLog {
        path: path.to_string_lossy().into_owned(),
        access_log_format: Some(AccessLogFormat::LogFormat(SubstitutionFormatString {
            format: Some(Format::TextFormatSource(source)),
            ..SubstitutionFormatString::default()
        })),
    };
    manager.access_log = vec![AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(any(&log))),
        ..AccessLog::default()
    }];
    network_filter(&filter.name, any(&manager))
}

/// The same resource with a change.
pub fn changed<M: Message + Name + Default>(resource: &Any, change: impl FnOnce(&mut M)) -> Any {
    let mut message = M::decode(&resource.value[..]).unwrap();
    change(&mut message);
    any(&message)
}

/// The same manager with a change.
pub fn managed(filter: Filter, change: impl FnOnce(&mut HttpConnectionManager)) -> Filter {
    let Some(filter::ConfigType::TypedConfig(config)) = &filter.config_type else { panic!("a typed filter") };
    network_filter(&filter.name, changed(config, change))
}

/// The same route with a change of where it leads.
pub fn led(route: Route, change: impl FnOnce(&mut RouteAction)) -> Route {
    let Some(route::Action::Route(mut action)) = route.action else { panic!("a route that forwards") };
    change(&mut action);
    Route { action: Some(route::Action::Route(action)), ..route }
}

pub fn tcp(cluster: &str) -> Filter {
    let proxy = TcpProxy {
        stat_prefix: cluster.to_owned(),
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned())),
        ..TcpProxy::default()
    };
    network_filter("envoy.filters.network.tcp_proxy", any(&proxy))
}

fn network_filter(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

/// A chain that members reach by SNI, over mTLS.
pub fn member_chain(sni: &str, alpn: &[&str], filter: Filter) -> FilterChain {
    let context = DownstreamTlsContext {
        common_tls_context: Some(common_tls(alpn, &[])),
        require_client_certificate: Some(protobuf::BoolValue { value: true }),
        ..DownstreamTlsContext::default()
    };
    FilterChain {
        name: sni.to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            server_names: vec![sni.to_owned()],
            transport_protocol: "tls".to_owned(),
            ..FilterChainMatch::default()
        }),
        transport_socket: transport_socket(any(&context)),
        filters: vec![filter],
        ..FilterChain::default()
    }
}

pub fn plain_chain(filter: Filter) -> FilterChain {
    FilterChain { name: "plain".to_owned(), filters: vec![filter], ..FilterChain::default() }
}

/// Bytes of TLS that are not ours, told apart by their SNI.
pub fn pass_through_chain(sni: &str, cluster: &str) -> FilterChain {
    FilterChain {
        name: sni.to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            server_names: vec![sni.to_owned()],
            ..FilterChainMatch::default()
        }),
        filters: vec![tcp(cluster)],
        ..FilterChain::default()
    }
}

pub fn listener(name: &str, at: SocketAddr, filter_chains: Vec<FilterChain>) -> Any {
    any(&Listener { name: name.to_owned(), address: address(at), filter_chains, ..Listener::default() })
}

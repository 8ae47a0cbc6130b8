//! The shapes of a file as xDS messages.

use std::{collections::HashMap, time::Duration};

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3 as cds,
            core::v3::{
                self as core, DataSource, Http2ProtocolOptions, address, data_source, socket_address,
            },
            endpoint::v3 as eds,
            listener::v3 as lds,
            route::v3 as rds,
        },
        extensions::{
            filters::{
                http::{grpc_web::v3::GrpcWeb, router::v3::Router},
                network::{http_connection_manager::v3 as hcm, tcp_proxy::v3 as tcp},
            },
            upstreams::http::v3::{HttpProtocolOptions, http_protocol_options as options},
        },
    },
    google::protobuf::{self, Any},
};
use prost::{Message, Name};

use super::{
    Balance, CidrRange, Cluster, Discovery, FilterConfig, Http, HttpFilter, HttpFilterKind, Listener, Route,
    SocketAddressBox, TransportSocket,
};
use crate::bootstrap::BootstrapError;

const PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn wrong(path: &str, reason: &str) -> BootstrapError {
    BootstrapError::Meaning { path: path.to_owned(), reason: reason.to_owned() }
}

fn address(at: &SocketAddressBox) -> Option<core::Address> {
    Some(core::Address {
        address: Some(address::Address::SocketAddress(core::SocketAddress {
            protocol: match at.is_udp() {
                true => socket_address::Protocol::Udp as i32,
                false => socket_address::Protocol::Tcp as i32,
            },
            address: at.socket_address.address.clone(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(u32::from(
                at.socket_address.port_value,
            ))),
            ..Default::default()
        })),
    })
}

fn range(range: &CidrRange) -> core::CidrRange {
    core::CidrRange {
        address_prefix: range.address_prefix.clone(),
        prefix_len: Some(protobuf::UInt32Value { value: range.prefix_len }),
    }
}

pub(super) fn cluster(cluster: &Cluster, path: &str) -> Result<Any, BootstrapError> {
    let lb_endpoints = cluster
        .endpoints()
        .map(|endpoint| eds::LbEndpoint {
            host_identifier: Some(eds::lb_endpoint::HostIdentifier::Endpoint(eds::Endpoint {
                address: address(&endpoint.address),
                ..Default::default()
            })),
            ..Default::default()
        })
        .collect();
    let kind = match cluster.kind {
        Discovery::Static => cds::cluster::DiscoveryType::Static,
        Discovery::StrictDns => cds::cluster::DiscoveryType::StrictDns,
        Discovery::LogicalDns => cds::cluster::DiscoveryType::LogicalDns,
    };
    let policy = match cluster.lb_policy {
        Balance::RoundRobin => cds::cluster::LbPolicy::RoundRobin,
        Balance::LeastRequest => cds::cluster::LbPolicy::LeastRequest,
        Balance::Random => cds::cluster::LbPolicy::Random,
    };
    let mut message = cds::Cluster {
        name: cluster.name.clone(),
        cluster_discovery_type: Some(cds::cluster::ClusterDiscoveryType::Type(kind as i32)),
        lb_policy: policy as i32,
        load_assignment: Some(eds::ClusterLoadAssignment {
            cluster_name: cluster.name.clone(),
            endpoints: vec![eds::LocalityLbEndpoints { lb_endpoints, ..Default::default() }],
            ..Default::default()
        }),
        transport_socket: cluster.transport_socket.as_ref().map(TransportSocket::message),
        ..Default::default()
    };
    if let Some(text) = &cluster.connect_timeout {
        message.connect_timeout = Some(duration(text, &format!("{path}.connect_timeout"))?);
    }
    if wants_h2(cluster, path)? {
        let options = HttpProtocolOptions {
            upstream_protocol_options: Some(options::UpstreamProtocolOptions::ExplicitHttpConfig(
                options::ExplicitHttpConfig {
                    protocol_config: Some(
                        options::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(
                            Http2ProtocolOptions::default(),
                        ),
                    ),
                },
            )),
            ..Default::default()
        };
        message.typed_extension_protocol_options =
            HashMap::from([(PROTOCOL_OPTIONS.to_owned(), any(&options))]);
    }
    Ok(any(&message))
}

/// By the old field, or by the new one in its one shape.
fn wants_h2(cluster: &Cluster, path: &str) -> Result<bool, BootstrapError> {
    let Some(typed) = &cluster.typed_extension_protocol_options else {
        return Ok(cluster.http2_protocol_options.is_some());
    };
    let known = serde_json::json!({PROTOCOL_OPTIONS: {
        "@type": format!("type.googleapis.com/{PROTOCOL_OPTIONS}"),
        "explicit_http_config": {"http2_protocol_options": {}},
    }});
    if serde_json::Value::Object(typed.clone()) == known {
        return Ok(true);
    }
    let reason = "only explicit_http_config with empty http2_protocol_options is read from a file";
    Err(wrong(&format!("{path}.typed_extension_protocol_options"), reason))
}

pub(super) fn listener(listener: &Listener, path: &str) -> Result<Any, BootstrapError> {
    let mut chains = Vec::new();
    for (index, chain) in listener.filter_chains.iter().enumerate() {
        let path = format!("{path}.filter_chains[{index}]");
        let [filter] = &chain.filters[..] else {
            return Err(wrong(&format!("{path}.filters"), "exactly one filter is read from a file"));
        };
        let config = match &filter.typed_config {
            FilterConfig::Http(http) => any(&manager(http, &path)?),
            FilterConfig::Tcp(proxy) => any(&tcp::TcpProxy {
                stat_prefix: proxy.stat_prefix.clone(),
                cluster_specifier: Some(tcp::tcp_proxy::ClusterSpecifier::Cluster(proxy.cluster.clone())),
                ..Default::default()
            }),
        };
        chains.push(lds::FilterChain {
            name: chain.name.clone(),
            filter_chain_match: chain.filter_chain_match.as_ref().map(|wanted| lds::FilterChainMatch {
                server_names: wanted.server_names.clone(),
                direct_source_prefix_ranges: wanted.direct_source_prefix_ranges.iter().map(range).collect(),
                ..Default::default()
            }),
            filters: vec![lds::Filter {
                name: filter.name.clone(),
                config_type: Some(lds::filter::ConfigType::TypedConfig(config)),
            }],
            ..Default::default()
        });
    }
    let listener_filters = listener.listener_filters.iter().enumerate();
    let timeout = listener.listener_filters_timeout.as_deref();
    Ok(any(&lds::Listener {
        name: listener.name.clone(),
        address: address(&listener.address),
        udp_listener_config: listener.udp_listener_config.as_ref().map(|_| lds::UdpListenerConfig::default()),
        listener_filters: listener_filters
            .map(|(index, filter)| filter.message(&format!("{path}.listener_filters[{index}]")))
            .collect::<Result<_, _>>()?,
        listener_filters_timeout: timeout
            .map(|text| duration(text, &format!("{path}.listener_filters_timeout")))
            .transpose()?,
        filter_chains: chains,
        ..Default::default()
    }))
}

fn manager(http: &Http, path: &str) -> Result<hcm::HttpConnectionManager, BootstrapError> {
    let mut filters = http
        .http_filters
        .iter()
        .enumerate()
        .map(|(index, filter)| http_filter(filter, &format!("{path}.http_filters[{index}]")))
        .collect::<Result<Vec<_>, _>>()?;
    if filters.is_empty() {
        filters.push(named("envoy.filters.http.router", any(&Router::default())));
    }
    let mut virtual_hosts = Vec::new();
    for vhost in &http.route_config.virtual_hosts {
        let routes = vhost
            .routes
            .iter()
            .map(|one| route(one, &format!("{path}: virtual host {}: route {}", vhost.name, one.name)))
            .collect::<Result<_, _>>()?;
        virtual_hosts.push(rds::VirtualHost {
            name: vhost.name.clone(),
            domains: vhost.domains.clone(),
            routes,
            ..Default::default()
        });
    }
    Ok(hcm::HttpConnectionManager {
        stat_prefix: http.stat_prefix.clone(),
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(
            rds::RouteConfiguration {
                name: http.route_config.name.clone(),
                virtual_hosts,
                ..Default::default()
            },
        )),
        http_filters: filters,
        ..Default::default()
    })
}

/// By its type, or where that is not said by Envoy's name for it.
fn http_filter(filter: &HttpFilter, path: &str) -> Result<hcm::HttpFilter, BootstrapError> {
    let kind = match (&filter.typed_config, filter.name.as_str()) {
        (Some(config), _) => config.kind,
        (None, "envoy.filters.http.router") => HttpFilterKind::Router,
        (None, "envoy.filters.http.grpc_web") => HttpFilterKind::GrpcWeb,
        (None, other) => {
            let reason = format!(
                "{other} is not read from a file, only envoy.filters.http.grpc_web and envoy.filters.http.router are"
            );
            return Err(wrong(&format!("{path}.name"), &reason));
        }
    };
    Ok(named(
        &filter.name,
        match kind {
            HttpFilterKind::Router => any(&Router::default()),
            HttpFilterKind::GrpcWeb => any(&GrpcWeb::default()),
        },
    ))
}

fn named(name: &str, config: Any) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

fn route(from: &Route, path: &str) -> Result<rds::Route, BootstrapError> {
    use rds::{route::Action, route_action::ClusterSpecifier, route_match::PathSpecifier};
    let path_specifier = match (&from.matching.prefix, &from.matching.path) {
        (Some(prefix), None) => PathSpecifier::Prefix(prefix.clone()),
        (None, Some(exact)) => PathSpecifier::Path(exact.clone()),
        _ => return Err(wrong(path, "match: exactly one of prefix and path")),
    };
    let action = match (&from.route, &from.redirect, &from.direct_response) {
        (Some(route), None, None) => Action::Route(rds::RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(route.cluster.clone())),
            ..Default::default()
        }),
        (None, Some(to), None) => Action::Redirect(rds::RedirectAction {
            host_redirect: to.host_redirect.clone(),
            scheme_rewrite_specifier: to
                .https_redirect
                .then_some(rds::redirect_action::SchemeRewriteSpecifier::HttpsRedirect(true)),
            path_rewrite_specifier: (!to.path_redirect.is_empty())
                .then(|| rds::redirect_action::PathRewriteSpecifier::PathRedirect(to.path_redirect.clone())),
            ..Default::default()
        }),
        (None, None, Some(direct)) => Action::DirectResponse(rds::DirectResponseAction {
            status: direct.status,
            body: direct.body.as_ref().map(|body| DataSource {
                specifier: Some(data_source::Specifier::InlineString(body.inline_string.clone())),
                ..Default::default()
            }),
            ..Default::default()
        }),
        _ => return Err(wrong(path, "exactly one of route, redirect and direct_response")),
    };
    Ok(rds::Route {
        name: from.name.clone(),
        r#match: Some(rds::RouteMatch { path_specifier: Some(path_specifier), ..Default::default() }),
        action: Some(action),
        ..Default::default()
    })
}

/// `1.5s`, as protobuf's JSON writes durations.
pub fn duration(text: &str, path: &str) -> Result<protobuf::Duration, BootstrapError> {
    let seconds: Option<f64> = text.strip_suffix('s').and_then(|number| number.parse().ok());
    let duration = seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| wrong(path, "a duration is seconds with an s, like 1.5s"))?;
    Ok(protobuf::Duration {
        seconds: i64::try_from(duration.as_secs()).map_err(|_| wrong(path, "too long"))?,
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    })
}

//! What a gRPC client without a proxy gets: an API listener for each gRPC port in reach, with its
//! routes inside, its clusters and endpoints, in the subset that gRPC's xDS knows.
//!
//! gRPC silently leaves out header edits, rewrites, redirects and mirrors. A port whose routes want
//! them is therefore not offered at all, and a finding says so.

use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use weft_model::{Protocol, Severity};

use super::proto::any;
use super::reach::Reach;
use super::{Made, clusters, endpoints, manager, names, routes, rules};

/// Everything for a gRPC client.
pub fn build(made: &mut Made<'_>, reach: &Reach) {
    for id in reach.member_clusters() {
        let Some(service) = made.snapshot.services.get(id).cloned() else { continue };
        for port in service.ports.iter().filter(|port| port.protocol == Protocol::Http2) {
            let cluster = clusters::member(made.snapshot, made.view, &service, port);
            made.builder.message(cluster.name.clone(), &cluster);
            let assignment = endpoints::of(made.snapshot, made.view.kind, &service, port);
            made.builder.message(assignment.cluster_name.clone(), &assignment);
            if !reach.services.contains(id) {
                continue;
            }
            let attached = rules::attached(made.snapshot, &service, port, &made.view.namespace);
            let beyond = attached.iter().find(|(rule, _)| {
                !rule.filters.is_empty() || rule.backends.iter().any(|backend| !backend.filters.is_empty())
            });
            if let Some((rule, _)) = beyond {
                let message = format!(
                    "rule {} has filters, which a gRPC client without a proxy does not do: port {} of {id} is refused to {}",
                    rule.index,
                    port.port,
                    made.view.id()
                );
                let object = rule.object();
                made.found(
                    "WFT0930",
                    Severity::Warning,
                    object,
                    message,
                    "give the caller a proxy, or remove the filters",
                );
                continue;
            }
            let config = route::RouteConfiguration {
                name: names::outbound(id, port.port),
                virtual_hosts: vec![route::VirtualHost {
                    name: names::outbound(id, port.port),
                    domains: vec!["*".to_owned()],
                    routes: routes::routes(made, &service, port),
                    ..Default::default()
                }],
                ..Default::default()
            };
            let manager = hcm::HttpConnectionManager {
                http_filters: vec![manager::router()],
                route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(config)),
                ..Default::default()
            };
            let name = names::grpc(id, &made.snapshot.zone, port.port);
            let built = listener::Listener {
                name: name.clone(),
                api_listener: Some(listener::ApiListener { api_listener: Some(any(&manager)) }),
                ..Default::default()
            };
            made.builder.message(name, &built);
        }
    }
}

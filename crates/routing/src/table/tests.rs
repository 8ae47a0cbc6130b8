//! Tables: what is missing, what does not fit, what keeps its place.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3 as cluster_pb;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, EdsClusterConfig};
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::{AggregatedConfigSource, ConfigSource};
use envoy_types::pb::envoy::config::route::v3 as route_pb;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::util::pack_any;

use super::{Inconsistency, Staged};
use crate::types::{
    Certificate, CertificateSource, DataSource, Endpoints, NamedSecret, Strictness, UpstreamTls,
};

impl Staged {
    fn add_cluster(&mut self, name: &str) {
        let ads = ConfigSource {
            config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
            ..ConfigSource::default()
        };
        let cluster = cluster_pb::Cluster {
            name: name.to_owned(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(3)),
            eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(ads), service_name: String::new() }),
            ..cluster_pb::Cluster::default()
        };
        let cluster = crate::cluster(&pack_any(cluster), Strictness::Own).unwrap().value;
        self.clusters.insert(name.into(), Arc::new(cluster));
    }

    fn add_routes(&mut self, name: &str, cluster: &str) {
        let config = route_pb::RouteConfiguration {
            name: name.to_owned(),
            virtual_hosts: vec![route_pb::VirtualHost {
                name: "v".to_owned(),
                domains: vec!["*".to_owned()],
                routes: vec![route_pb::Route {
                    name: "r".to_owned(),
                    r#match: Some(route_pb::RouteMatch {
                        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
                        ..route_pb::RouteMatch::default()
                    }),
                    action: Some(Action::Route(route_pb::RouteAction {
                        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
                        ..route_pb::RouteAction::default()
                    })),
                    ..route_pb::Route::default()
                }],
                ..route_pb::VirtualHost::default()
            }],
            ..route_pb::RouteConfiguration::default()
        };
        let config = crate::route_config(&pack_any(config), Strictness::Own).unwrap().value;
        self.routes.insert(name.into(), Arc::new(config));
    }

    fn add_endpoints(&mut self, name: &str) {
        self.endpoints.insert(name.into(), Arc::new(Endpoints { name: name.into(), ..Endpoints::default() }));
    }
}

#[test]
fn what_is_named_and_not_here_is_missing() {
    let mut staged = Staged::default();
    staged.add_cluster("a");
    let missing = staged.missing();
    assert!(missing.load_assignments.contains("a"));
    assert!(matches!(staged.consistent().unwrap_err().as_slice(), [Inconsistency::LoadAssignment { .. }]));
    staged.add_endpoints("a");
    staged.add_endpoints("old");
    assert!(staged.missing().load_assignments.is_empty());
    assert_eq!(staged.consistent(), Ok(()));
    staged.prune();
    assert!(!staged.endpoints.contains_key("old"));
}

#[test]
fn a_route_to_an_unknown_cluster_is_inconsistent() {
    let mut staged = Staged::default();
    staged.add_routes("outbound", "gone");
    let found = staged.consistent().unwrap_err();
    let text = found[0].to_string();
    assert!(text.contains("outbound") && text.contains("route r") && text.contains("gone"), "{text}");
    // Used all the same, only requests of that route fail.
    let table = staged.build(None);
    let bound = table.routes("outbound").unwrap();
    assert_eq!(bound.cluster(crate::types::ClusterRef(0)), None);
}

#[test]
fn clusters_keep_their_slots() {
    let mut staged = Staged::default();
    for name in ["b", "d"] {
        staged.add_cluster(name);
    }
    staged.add_routes("outbound", "d");
    let first = staged.build(None);
    let of = |table: &super::RoutingTable, name: &str| table.cluster_index(name);
    let (b, d) = (of(&first, "b").unwrap(), of(&first, "d").unwrap());
    assert_eq!(first.routes("outbound").unwrap().cluster(crate::types::ClusterRef(0)), Some(d));
    staged.add_cluster("a");
    staged.clusters.remove("b");
    let second = staged.build(Some(&first));
    assert_eq!(of(&second, "d"), Some(d));
    assert_eq!(of(&second, "b"), None);
    assert_ne!(of(&second, "a"), Some(b), "a slot that was just left is not given away at once");
    staged.add_cluster("c");
    let third = staged.build(Some(&second));
    assert_eq!(of(&third, "c"), Some(b), "later it is");
    assert_eq!(third.clusters().count(), 3);
}

#[test]
fn endpoints_are_exchanged_alone() {
    let mut staged = Staged::default();
    staged.add_cluster("a");
    let table = staged.build(None);
    let index = table.cluster_index("a").unwrap();
    assert!(table.cluster(index).unwrap().endpoints.is_none());
    let endpoints = Arc::new(Endpoints { name: "a".into(), ..Endpoints::default() });
    let table = table.with_endpoints("a", Some(endpoints.clone()));
    assert!(Arc::ptr_eq(table.cluster(index).unwrap().endpoints.as_ref().unwrap(), &endpoints));
}

#[test]
fn a_secret_reaches_the_clusters_that_name_it_and_only_a_new_one_changes_them() {
    let mut staged = Staged::default();
    for name in ["plain", "shows"] {
        staged.add_cluster(name);
        staged.add_endpoints(name);
    }
    let mut shows = (*staged.clusters["shows"]).clone();
    let named = NamedSecret { name: "me".into(), certificate: None };
    shows.tls =
        Some(Arc::new(UpstreamTls { certificates: CertificateSource::Secret(named), ..Default::default() }));
    staged.clusters.insert("shows".into(), Arc::new(shows));
    assert!(staged.missing().secrets.contains("me"));

    let certificate = |key: &str| {
        let text = |text: &str| DataSource::Bytes(text.as_bytes().into());
        Some(Arc::new(Certificate { chain: text("chain"), key: text(key) }))
    };
    let bound = |staged: &mut Staged, secret: Option<Arc<Certificate>>| {
        staged.secrets.insert("me".into(), secret);
        let plain = staged.clusters["plain"].clone();
        staged.bind_secrets();
        assert!(Arc::ptr_eq(&plain, &staged.clusters["plain"]));
        staged.clusters["shows"].clone()
    };
    let first = bound(&mut staged, certificate("one"));
    assert!(staged.missing().secrets.is_empty());
    assert_eq!(first.secret().unwrap().certificate, certificate("one"));
    assert!(
        Arc::ptr_eq(&first, &bound(&mut staged, certificate("one"))),
        "sent again, it keeps its connections"
    );
    let second = bound(&mut staged, certificate("two"));
    assert_eq!(second.secret().unwrap().certificate, certificate("two"));
    assert_eq!(bound(&mut staged, None).secret().unwrap().certificate, None);
    staged.clusters.remove("shows");
    staged.prune();
    assert!(staged.secrets.is_empty());
}

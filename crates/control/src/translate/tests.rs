//! What a view's resources are made of; what they mean is in `tests/simulation`.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use prost::Message as _;
use serde_json::{Value, json};
use weft_model::Kind;
use weft_store::{Batch, Stored};

use super::*;
use crate::seed;
use crate::world::World;

fn snapshot(objects: &[(Kind, &str, Value)]) -> Snapshot {
    let mut world = World::new("mesh.internal", "mesh.internal");
    let objects = objects.iter().zip(1..).map(|((kind, name, spec), revision)| {
        let namespace = if kind.info().namespaced { "default" } else { "" };
        let object = seed::object(*kind, namespace, name, spec.clone(), std::time::SystemTime::UNIX_EPOCH);
        let value = object.to_string().into_bytes().into();
        Stored { key: seed::key(*kind, namespace, name), created: revision, modified: revision, value }
    });
    world.apply(Batch::Reset { revision: 9, objects: objects.collect() });
    world.snapshot()
}

fn view(kind: ProxyKind) -> ProxyView {
    ProxyView {
        namespace: "default".into(),
        service: "fe".into(),
        workload: "fe-1".into(),
        kind,
        inbound: "127.0.0.2:15006".parse().unwrap(),
        outbound: "127.0.0.2:15001".parse().unwrap(),
        app: "127.0.0.1".parse().unwrap(),
    }
}

fn be1(identity: &str) -> (Kind, &'static str, Value) {
    let spec = json!({
        "service": "be1", "address": "127.0.0.3", "inboundPort": 15006, "ports": [{"port": 8080}],
        "identity": identity, "proxy": {"kind": "weft"},
    });
    (Kind::Workload, "be1-1", spec)
}

fn service() -> (Kind, &'static str, Value) {
    (Kind::Service, "be1", json!({"selector": {"app": "be1"}, "ports": [{"port": 80, "targetPort": 8080}]}))
}

fn cluster(made: &Translation, name: &str) -> Cluster {
    made.resources.get(weft_xds::CDS, name).unwrap().decode().unwrap()
}

fn tls(cluster: &Cluster) -> Option<UpstreamTlsContext> {
    use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
    match cluster.transport_socket.as_ref()?.config_type.as_ref()? {
        ConfigType::TypedConfig(any) => UpstreamTlsContext::decode(any.value.as_slice()).ok(),
    }
}

#[test]
fn a_member_is_called_by_mtls_with_the_ports_name_and_exactly_its_identities() {
    let id = "spiffe://mesh.internal/ns/default/sa/be1";
    let made = for_view(&snapshot(&[service(), be1(id)]), &view(ProxyKind::Weft));
    let tls = tls(&cluster(&made, "outbound|80|be1.default")).unwrap();
    assert_eq!(tls.sni, "p8080.mesh.internal");
    let text = format!("{tls:?}");
    assert!(text.contains(&format!("Exact({id:?})")) && text.contains("sds_agent"), "{text}");
}

#[test]
fn without_mtls_there_is_no_tls_and_a_plain_chain() {
    let off = (Kind::Mesh, "default", json!({"mtls": {"mode": "Disabled"}}));
    let mut objects = vec![service(), be1("spiffe://mesh.internal/ns/default/sa/be1"), off];
    objects.push((Kind::Service, "fe", json!({"selector": {"app": "fe"}, "ports": [{"port": 80}]})));
    let made = for_view(&snapshot(&objects), &view(ProxyKind::Weft));
    assert!(tls(&cluster(&made, "outbound|80|be1.default")).is_none());
    let inbound: Listener = made.resources.get(weft_xds::LDS, "inbound").unwrap().decode().unwrap();
    assert_eq!(inbound.filter_chains.len(), 1);
    assert!(inbound.filter_chains[0].transport_socket.is_none());
}

#[test]
fn without_mtls_and_without_http_one_chain_is_enough() {
    let off = (Kind::Mesh, "default", json!({"mtls": {"mode": "Disabled"}}));
    let two = json!([{"name": "tcp-a", "port": 5432}, {"name": "tcp-b", "port": 5433}]);
    let fe = (Kind::Service, "fe", json!({"selector": {"app": "fe"}, "ports": two}));
    let made = for_view(&snapshot(&[fe, off]), &view(ProxyKind::Envoy));
    let inbound: Listener = made.resources.get(weft_xds::LDS, "inbound").unwrap().decode().unwrap();
    assert_eq!(inbound.filter_chains.len(), 1, "an Envoy refuses two that match the same");
}

#[test]
fn a_caller_that_says_no_name_gets_the_port_that_grpc_would_mean() {
    let ports = json!([{"name": "http", "port": 80}, {"name": "grpc", "port": 9000}]);
    let fe = (Kind::Service, "fe", json!({"selector": {"app": "fe"}, "ports": ports}));
    let made = for_view(&snapshot(&[fe]), &view(ProxyKind::Weft));
    let inbound: Listener = made.resources.get(weft_xds::LDS, "inbound").unwrap().decode().unwrap();
    let filters =
        |name: &str| inbound.filter_chains.iter().find(|chain| chain.name == name).unwrap().filters.clone();
    assert_eq!(filters("inbound|any"), filters("inbound|9000"));
    assert_ne!(filters("inbound|any"), filters("inbound|80"));
}

#[test]
fn a_grpc_client_gets_api_listeners_in_its_own_words() {
    let grpc = (
        Kind::Service,
        "be1",
        json!({"selector": {"app": "be1"}, "ports": [{"port": 80, "targetPort": 8080, "appProtocol": "grpc"}]}),
    );
    let route = |filters: Value| {
        let rules = json!([{"filters": filters, "backendRefs": [{"name": "be1", "port": 80}]}]);
        let parent = json!([{"group": "", "kind": "Service", "name": "be1"}]);
        (Kind::HTTPRoute, "be1", json!({"parentRefs": parent, "rules": rules}))
    };
    let id = "spiffe://mesh.internal/ns/default/sa/be1";
    let made = for_view(&snapshot(&[grpc.clone(), be1(id), route(json!([]))]), &view(ProxyKind::Grpc));
    assert!(made.resources.get(weft_xds::LDS, "be1.default.mesh.internal:80").is_some());
    let text = format!("{:?}", tls(&cluster(&made, "outbound|80|be1.default")).unwrap());
    assert!(!text.contains("sds_agent") && text.contains("CertificateProviderPluginInstance"), "{text}");

    // What it would leave out in silence is refused, and said.
    let edit = json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x"]}}]);
    let made = for_view(&snapshot(&[grpc, be1(id), route(edit)]), &view(ProxyKind::Grpc));
    assert!(made.resources.get(weft_xds::LDS, "be1.default.mesh.internal:80").is_none());
    assert_eq!(made.findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["WFT0930"]);
}

#[test]
fn what_does_not_change_keeps_its_allocation() {
    let id = "spiffe://mesh.internal/ns/default/sa/be1";
    let before =
        std::sync::Arc::new(for_view(&snapshot(&[service(), be1(id)]), &view(ProxyKind::Weft)).resources);
    let more = (Kind::Service, "be2", json!({"ports": [{"port": 80}]}));
    let builder = Builder::after(before.clone());
    let after =
        for_view_after(&snapshot(&[service(), be1(id), more]), &view(ProxyKind::Weft), builder).resources;
    let of = |resources: &Resources| resources.get(weft_xds::CDS, "outbound|80|be1.default").unwrap().clone();
    assert!(std::sync::Arc::ptr_eq(&of(&before), &of(&after)));
}

#[test]
fn our_own_proxies_try_a_503_again_and_an_envoy_which_would_repeat_a_post_does_not() {
    use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
    for (kind, codes) in [(ProxyKind::Weft, "[503]"), (ProxyKind::Envoy, "[]")] {
        let made = for_view(&snapshot(&[service()]), &view(kind));
        let config: RouteConfiguration =
            made.resources.get(weft_xds::RDS, "outbound").unwrap().decode().unwrap();
        let text = format!("{config:?}");
        assert!(text.contains(&format!("retriable_status_codes: {codes}")), "{text}");
        assert_eq!(text.contains("retriable-status-codes"), kind == ProxyKind::Weft, "{text}");
    }
}

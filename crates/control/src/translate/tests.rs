//! What a view's resources are made of; what they mean is in `tests/simulation`.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::listener::v3::{Listener, filter::ConfigType};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use prost::Message as _;
use serde_json::{Value, json};
use weft_model::Kind;
use weft_store::{Batch, Stored};

use super::*;
use crate::seed;
use crate::snapshot::ServiceId;
use crate::world::World;

mod datagrams_and_headers;

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
    let fe = ServiceId::new("default", "fe");
    ProxyView { kind, ..ProxyView::newest(&fe, "fe-1", "127.0.0.2:15006".parse().unwrap()) }
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
fn in_the_clear_ports_are_told_apart_by_where_a_captured_connection_was_going() {
    let two = json!([{"name": "tcp-a", "port": 5432}, {"name": "http-b", "port": 8080}]);
    let chains = |mode: &str, ports: &Value| {
        let fe = (Kind::Service, "fe", json!({"selector": {"app": "fe"}, "ports": ports}));
        let made = for_view(
            &snapshot(&[fe, (Kind::Mesh, "default", json!({"mtls": {"mode": mode}}))]),
            &view(ProxyKind::Envoy),
        );
        let inbound: Listener = made.resources.get(weft_xds::LDS, "inbound").unwrap().decode().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        let chains = inbound.filter_chains.iter().map(|chain| {
            // Two that match the same are refused by an Envoy.
            assert!(seen.insert(format!("{:?}", chain.filter_chain_match)), "{chain:?}");
            chain.name.clone()
        });
        let filters = inbound.listener_filters.iter().map(|it| it.name.rsplit('.').next().unwrap());
        let codes = made.findings.iter().map(|finding| finding.code);
        (
            chains.collect::<Vec<_>>().join(" "),
            filters.collect::<Vec<_>>().join(" "),
            codes.collect::<Vec<_>>().join(" "),
        )
    };
    let expect = |mode: &str, ports: &Value, (wanted, filters, codes): (&str, &str, &str)| {
        assert_eq!(chains(mode, ports), (wanted.to_owned(), filters.to_owned(), codes.to_owned()), "{mode}");
    };
    let plain = "inbound|plain|5432 inbound|plain|8080 inbound|plain";
    let tls = "inbound|5432|h2 inbound|5432 inbound|8080 inbound|any";
    expect("Strict", &two, (tls, "tls_inspector", ""));
    expect("Permissive", &two, (&format!("{tls} {plain}"), "original_dst tls_inspector", "WFT0915"));
    expect("Disabled", &two, (plain, "original_dst", "WFT0915"));
    let one = json!([{"name": "tcp-a", "port": 5432}]);
    expect("Disabled", &one, ("inbound|plain", "", ""));
    expect("Permissive", &one, ("inbound|5432|h2 inbound|5432 inbound|plain", "tls_inspector", ""));
}

#[test]
fn who_waits_for_the_server_to_speak_goes_on_where_bytes_are_taken_in_the_clear() {
    let goes_on = |mode: &str, ports: Value| {
        let fe = (Kind::Service, "fe", json!({"selector": {"app": "fe"}, "ports": ports}));
        let mesh = (Kind::Mesh, "default", json!({"mtls": {"mode": mode}}));
        let made = for_view(&snapshot(&[fe, mesh]), &view(ProxyKind::Envoy));
        let inbound: Listener = made.resources.get(weft_xds::LDS, "inbound").unwrap().decode().unwrap();
        let wait = inbound.listener_filters_timeout.unwrap();
        (inbound.continue_on_listener_filters_timeout, wait.seconds, wait.nanos)
    };
    let (tcp, http) = (json!({"name": "tcp-a", "port": 5432}), json!({"name": "http-b", "port": 8080}));
    assert_eq!(goes_on("Permissive", json!([tcp])), (true, 1, 0));
    assert_eq!(goes_on("Permissive", json!([tcp, http])), (true, 1, 0));
    assert_eq!(goes_on("Permissive", json!([http])), (false, 5, 0));
    assert_eq!(goes_on("Strict", json!([tcp, http])), (false, 5, 0));
}

#[test]
fn in_the_clear_no_member_is_sent_to_a_port_that_it_did_not_mean() {
    let off = (Kind::Mesh, "default", json!({"mtls": {"mode": "Disabled"}}));
    let ports = json!([{"name": "http", "port": 80, "targetPort": 8080}, {"name": "tcp-b", "port": 5432}]);
    let be1 = (Kind::Service, "be1", json!({"selector": {"app": "be1"}, "ports": ports}));
    let objects = [be1, instance("be1-1", "127.0.0.3", json!({})), off];
    let made = for_view(&snapshot(&objects), &view(ProxyKind::Weft));
    assert_eq!(endpoints(&made, "outbound|80|be1.default").len(), 1);
    assert_eq!(endpoints(&made, "outbound|5432|be1.default").len(), 0);
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

fn endpoints(made: &Translation, name: &str) -> Vec<String> {
    use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
    let found: ClusterLoadAssignment = made.resources.get(weft_xds::EDS, name).unwrap().decode().unwrap();
    let all = found.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
    all.map(|endpoint| format!("{endpoint:?}")).collect()
}

fn instance(name: &'static str, address: &str, more: Value) -> (Kind, &'static str, Value) {
    let mut spec = json!({
        "service": "be1", "address": address, "inboundPort": 15006, "ports": [{"name": "web", "port": 8080}],
        "identity": "spiffe://mesh.internal/ns/default/sa/be1", "proxy": {"kind": "weft"},
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    (Kind::Workload, name, spec)
}

#[test]
fn the_ill_get_no_calls_unless_all_are_ill() {
    let at = |one: &str, two: &str| {
        let objects = [
            service(),
            instance("be1-1", "127.0.0.3", json!({"health": one})),
            instance("be1-2", "127.0.0.4", json!({"health": two})),
        ];
        endpoints(&for_view(&snapshot(&objects), &view(ProxyKind::Weft)), "outbound|80|be1.default").len()
    };
    assert_eq!(at("Healthy", "Unknown"), 2);
    assert_eq!((at("Healthy", "Unhealthy"), at("Draining", "Healthy"), at("Unknown", "Draining")), (1, 1, 1));
    assert_eq!(
        (at("Unhealthy", "Unhealthy"), at("Draining", "Unhealthy"), at("Draining", "Draining")),
        (2, 2, 2)
    );
}

#[test]
fn instances_with_other_numbers_for_a_named_port_are_endpoints_and_told_by_its_name() {
    let by_name = (
        Kind::Service,
        "be1",
        json!({"selector": {"app": "be1"}, "ports": [{"port": 80, "targetPort": "web"}]}),
    );
    let one = instance("be1-1", "127.0.0.3", json!({}));
    let other = instance("be1-2", "127.0.0.4", json!({"ports": [{"name": "web", "port": 9090}]}));
    let without = instance("be1-3", "127.0.0.5", json!({"ports": [{"name": "admin", "port": 9091}]}));
    let sni = |made: &Translation| tls(&cluster(made, "outbound|80|be1.default")).unwrap().sni;

    let alike = for_view(&snapshot(&[by_name.clone(), one.clone()]), &view(ProxyKind::Weft));
    assert_eq!(sni(&alike), "p8080.mesh.internal");
    let all = snapshot(&[by_name, one, other, without]);
    let made = for_view(&all, &view(ProxyKind::Weft));
    assert_eq!(sni(&made), "p-web.mesh.internal");
    assert_eq!(endpoints(&made, "outbound|80|be1.default").len(), 2, "who has no such port is none");

    // Each callee takes the name for its own number, and did so before anybody said it.
    for (workload, number) in [("be1-1", 8080), ("be1-2", 9090)] {
        let own = ProxyView { service: "be1".into(), workload: workload.into(), ..view(ProxyKind::Weft) };
        let made = for_view(&all, &own);
        let inbound: Listener = made.resources.get(weft_xds::LDS, "inbound").unwrap().decode().unwrap();
        let chain = inbound.filter_chains.iter().find(|chain| chain.name == format!("inbound|{number}"));
        let names = &chain.unwrap().filter_chain_match.as_ref().unwrap().server_names;
        assert_eq!(*names, [format!("p{number}.mesh.internal"), "p-web.mesh.internal".to_owned()]);
    }
}

#[test]
fn checks_go_to_the_port_that_the_policy_names() {
    let policy = |port: Value| {
        let check = json!({"path": "/up", "port": port});
        (Kind::TrafficPolicy, "p", json!({"targetRefs": [{"name": "be1"}], "healthCheck": check}))
    };
    let id = "spiffe://mesh.internal/ns/default/sa/be1";
    for (kind, expected) in [(ProxyKind::Weft, true), (ProxyKind::Envoy, true), (ProxyKind::Grpc, false)] {
        let grpc = (
            Kind::Service,
            "be1",
            json!({"selector": {"app": "be1"}, "ports": [{"port": 80, "targetPort": 8080, "appProtocol": "grpc"}]}),
        );
        let made = for_view(&snapshot(&[grpc, be1(id), policy(json!(9901))]), &view(kind));
        let text = endpoints(&made, "outbound|80|be1.default").concat();
        assert_eq!(text.contains("port_value: 9901"), expected, "{kind:?}: {text}");
    }
    let made = for_view(&snapshot(&[service(), be1(id), policy(Value::Null)]), &view(ProxyKind::Weft));
    assert!(endpoints(&made, "outbound|80|be1.default").concat().contains("health_check_config: None"));
}

#[test]
fn a_client_key_is_a_secret_by_name_or_not_sent_at_all() {
    let pay = (
        Kind::ExternalService,
        "pay",
        json!({"hosts": ["pay.example"], "ports": [{"port": 80}], "tls": {"clientSecretRef": {"name": "me"}}}),
    );
    // A Secret's entries stand at the top of the object.
    let with_secret = |objects: &[(Kind, &str, Value)]| {
        let mut world = World::new("mesh.internal", "mesh.internal");
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "me", "namespace": "default"},
            "stringData": {"tls.crt": "THE CHAIN", "tls.key": "THE KEY"},
        });
        let mut all = vec![Stored {
            key: seed::key(Kind::Secret, "default", "me"),
            created: 1,
            modified: 1,
            value: secret.to_string().into_bytes().into(),
        }];
        for (kind, name, spec) in objects {
            let object =
                seed::object(*kind, "default", name, spec.clone(), std::time::SystemTime::UNIX_EPOCH);
            all.push(Stored {
                key: seed::key(*kind, "default", name),
                created: 2,
                modified: 2,
                value: object.to_string().into_bytes().into(),
            });
        }
        world.apply(Batch::Reset { revision: 9, objects: all });
        world.snapshot()
    };
    let snapshot = with_secret(&[pay]);
    let holding = |made: &Translation| -> Vec<String> {
        let of =
            made.resources.iter().filter(|it| it.body.value.windows(7).any(|window| window == b"THE KEY"));
        of.map(|it| format!("{} {}", weft_xds::types::short(it.type_url()), it.name)).collect()
    };
    let made = for_view(&snapshot, &view(ProxyKind::Envoy));
    assert_eq!(holding(&made), ["secrets client|me.default"]);
    let text = format!("{:?}", tls(&cluster(&made, "external|80|pay.default")).unwrap());
    assert!(text.contains("client|me.default") && text.contains("Ads("), "{text}");
    assert!(made.findings.is_empty(), "{:?}", made.findings);

    // Ours reads it so: the cluster names the secret, which comes by itself.
    let made = for_view(&snapshot, &view(ProxyKind::Weft));
    let sent = made.resources.get(weft_xds::CDS, "external|80|pay.default").unwrap();
    let read = weft_routing::cluster(&sent.body, weft_routing::Strictness::Own).unwrap().value;
    let named = read.secret().unwrap();
    let sent = made.resources.get(weft_xds::SDS, &named.name).unwrap();
    let secret = weft_routing::secret(&sent.body, weft_routing::Strictness::Own).unwrap().value;
    assert_eq!(secret.certificate.key, weft_routing::DataSource::Bytes(b"THE KEY".as_slice().into()));

    let made = for_view(&snapshot, &ProxyView { secrets: false, ..view(ProxyKind::Weft) });
    assert_eq!(holding(&made), [""; 0]);
    let withheld = cluster(&made, "external|80|pay.default");
    assert!(withheld.transport_socket.is_none());
    assert!(withheld.load_assignment.unwrap().endpoints.is_empty(), "a 503, and never plaintext");
    assert_eq!(made.findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["WFT0914"]);
}

#[test]
fn names_with_an_underscore_go_from_what_comes_in() {
    use weft_routing::{NetworkFilter, Strictness, Underscores};
    let mut objects = vec![service(), be1("spiffe://mesh.internal/ns/default/sa/be1")];
    objects.push((Kind::Service, "fe", json!({"selector": {"app": "fe"}, "ports": [{"port": 80}]})));
    let made = for_view(&snapshot(&objects), &view(ProxyKind::Weft));
    for (name, expected) in [("inbound", Underscores::Drop), ("outbound", Underscores::Allow)] {
        let sent = made.resources.get(weft_xds::LDS, name).unwrap();
        let read = weft_routing::listener(&sent.body, Strictness::Own).unwrap().value;
        let mut found = 0;
        for chain in read.chains.iter().chain(&read.default_chain) {
            if let NetworkFilter::Http(http) = &chain.filter {
                assert_eq!(http.underscores, expected, "{name}");
                found += 1;
            }
        }
        assert!(found > 0, "{name} has no HTTP");
    }
}

/// A database of its own port, with an instance before which stands a proxy of this kind.
fn db(proxy: &str) -> [(Kind, &'static str, Value); 2] {
    let spec = json!({
        "service": "db", "address": "127.0.0.5", "inboundPort": 15006, "ports": [{"port": 5432}],
        "identity": "spiffe://mesh.internal/ns/default/sa/db", "proxy": {"kind": proxy},
    });
    let service = json!({
        "selector": {"app": "db"}, "clusterIP": "10.1.2.3", "ports": [{"name": "tcp", "port": 5432}],
    });
    [(Kind::Service, "db", service), (Kind::Workload, "db-1", spec)]
}

fn listener_of(made: &Translation, name: &str) -> Listener {
    made.resources.get(weft_xds::LDS, name).unwrap().decode().unwrap()
}

#[test]
fn tcp_between_our_proxies_goes_in_tunnels_and_by_all_others_as_it_is() {
    let asked = |objects: &[(Kind, &str, Value)], view: &ProxyView| {
        let made = for_view(&snapshot(objects), view);
        let cluster = cluster(&made, "outbound|5432|db.default");
        let alpn = tls(&cluster).map(|tls| tls.common_tls_context.unwrap().alpn_protocols);
        let listener = &made.resources.get(weft_xds::LDS, "vip|10.1.2.3|5432").unwrap().body.value;
        let name = b"db.default.mesh.internal:5432";
        let by_connect = listener.windows(name.len()).any(|part| part == name);
        let http2 = !cluster.typed_extension_protocol_options.is_empty();
        assert_eq!((http2, alpn.unwrap_or_default() == ["h2"]), (by_connect, by_connect));
        by_connect
    };
    let (ours, envoy) = (view(ProxyKind::Weft), view(ProxyKind::Envoy));
    assert!(asked(&db("weft"), &ours));
    assert!(!asked(&db("weft"), &ProxyView { tunnels: false, ..ours.clone() }), "an older proxy of ours");
    assert!(!asked(&db("weft"), &envoy), "an Envoy");
    for other in ["envoy", "none", "grpc"] {
        assert!(!asked(&db(other), &ours), "{other}");
    }
    // One instance that takes none is enough.
    let mixed = json!({
        "service": "db", "address": "127.0.0.6", "inboundPort": 15006, "ports": [{"port": 5432}],
        "identity": "spiffe://mesh.internal/ns/default/sa/db", "proxy": {"kind": "none"},
    });
    let [service, workload] = db("weft");
    assert!(!asked(&[service, workload, (Kind::Workload, "db-2", mixed)], &ours));
    let off = (Kind::Mesh, "default", json!({"mtls": {"mode": "Disabled"}}));
    let [service, workload] = db("weft");
    assert!(!asked(&[service, workload, off], &ours), "without TLS there is no ALPN");
}

#[test]
fn a_tcp_port_takes_tunnels_by_alpn_beside_bytes_as_they_are() {
    let snapshot = snapshot(&db("weft"));
    let at = |kind, tunnels| {
        let view = ProxyView { service: "db".into(), workload: "db-1".into(), tunnels, ..view(kind) };
        let made = for_view(&snapshot, &view);
        let chains = listener_of(&made, "inbound").filter_chains;
        let chains = chains.into_iter().map(|chain| {
            let matched = chain.filter_chain_match.unwrap();
            assert_eq!(matched.server_names, ["p5432.mesh.internal"]);
            let last = chain.filters.last().unwrap().name.rsplit('.').next().unwrap().to_owned();
            (matched.application_protocols.join(","), last)
        });
        let routed = made.resources.get(weft_xds::RDS, "inbound|5432").is_some();
        (chains.collect::<Vec<_>>(), routed)
    };
    let both = vec![
        ("h2".to_owned(), "http_connection_manager".to_owned()),
        (String::new(), "tcp_proxy".to_owned()),
    ];
    assert_eq!(at(ProxyKind::Weft, true), (both.clone(), false));
    assert_eq!(at(ProxyKind::Envoy, true), (both.clone(), true), "its policies are at the routes");
    assert_eq!(at(ProxyKind::Envoy, false), (both[1..].to_vec(), false));
    assert_eq!(at(ProxyKind::Weft, false), (both[1..].to_vec(), false));
}

#[test]
fn calls_in_grpc_web_are_translated_where_the_app_speaks_http2() {
    let filters = |protocol: &str, view: &ProxyView| {
        let port = json!({"port": 80, "targetPort": 8080, "appProtocol": protocol});
        let service = (Kind::Service, "be1", json!({"selector": {"app": "be1"}, "ports": [port]}));
        let made = for_view(&snapshot(&[service, be1("spiffe://mesh.internal/ns/default/sa/be1")]), view);
        let chain = listener_of(&made, "inbound").filter_chains.swap_remove(0);
        let Some(ConfigType::TypedConfig(config)) = &chain.filters[0].config_type else { panic!() };
        let manager = HttpConnectionManager::decode(&config.value[..]).unwrap();
        let names =
            manager.http_filters.iter().map(|filter| filter.name.rsplit('.').next().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    for kind in [ProxyKind::Weft, ProxyKind::Envoy] {
        let view = ProxyView { service: "be1".into(), workload: "be1-1".into(), ..view(kind) };
        for protocol in ["grpc", "grpc-web", "http2", "kubernetes.io/h2c"] {
            let found = filters(protocol, &view);
            let (first, last) = (&*found[0], &**found.last().unwrap());
            assert_eq!((first, found.len() > 2, last), ("grpc_web", true, "router"), "{protocol}: {found:?}");
        }
        // Such an app may speak it by itself, and could not be spoken to in gRPC.
        assert!(!filters("http", &view).contains(&"grpc_web".to_owned()), "{kind:?}");
        let older = ProxyView { grpc_web: false, ..view };
        assert!(!filters("grpc", &older).contains(&"grpc_web".to_owned()), "{kind:?}");
    }
}

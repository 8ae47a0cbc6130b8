//! What a control plane, an operator or a user writes.

use std::{path::PathBuf, time::Duration};

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
            route::v3::RouteConfiguration,
        },
        extensions::transport_sockets::tls::v3::Secret,
    },
    google::protobuf::Any,
};
use http::{HeaderMap, Method};
use prost::{Message, Name};
use weft_routing::{HeadView, RouteAction, RouteConfig, Strictness};

use crate::xds::{self, Speak};

/// The first byte says of which type it is and how strictly it is read.
pub fn xds(data: &[u8]) {
    let Some((which, value)) = data.split_first() else { return };
    let strictness = if which & 8 == 0 { Strictness::Own } else { Strictness::DeclaredForeign };
    let any = |type_url: String| Any { type_url, value: value.to_vec() };
    match which & 7 {
        0 => {
            if weft_routing::listener(&any(Listener::type_url()), strictness).is_ok() {
                Listener::decode(value).unwrap();
            }
        }
        1 | 5.. => {
            if let Ok(routes) = weft_routing::route_config(&any(RouteConfiguration::type_url()), strictness) {
                RouteConfiguration::decode(value).unwrap();
                ask(&routes.value);
            }
        }
        2 => {
            if weft_routing::cluster(&any(Cluster::type_url()), strictness).is_ok() {
                Cluster::decode(value).unwrap();
            }
        }
        3 => {
            if weft_routing::load_assignment(&any(ClusterLoadAssignment::type_url()), strictness).is_ok() {
                ClusterLoadAssignment::decode(value).unwrap();
            }
        }
        _ => {
            if weft_routing::secret(&any(Secret::type_url()), strictness).is_ok() {
                Secret::decode(value).unwrap();
            }
        }
    }
}

/// Any request is answered.
fn ask(routes: &RouteConfig) {
    let headers: HeaderMap = [("x-canary", "1"), ("content-type", "application/grpc")]
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .into_iter()
        .collect();
    for (method, authority, path, query) in [
        (Method::GET, "a", "/", None),
        (Method::POST, "be1.default:80", "/pkg.Service/Method", Some("a=b&c")),
        (Method::CONNECT, "a:443", "", None),
        (Method::OPTIONS, "[::1]:8080", "*", None),
    ] {
        let head = HeadView {
            method: &method,
            scheme: "http",
            authority,
            path,
            query,
            headers: &headers,
            protocol: None,
            tls_presented: false,
            tls_validated: false,
        };
        for random in [0, u64::MAX] {
            let Some(found) = routes.find(&head, random) else { continue };
            match &found.route.action {
                RouteAction::Forward(forward) => {
                    let _ = forward.clusters.pick(Some(&head), random);
                    let _ = forward.rewritten_path(found.route, path);
                }
                RouteAction::Redirect(redirect) => drop(redirect.location(found.route, &head)),
                RouteAction::Respond(_) | RouteAction::NonForwarding => {}
            }
        }
    }
}

pub fn xds_seeds() -> Vec<Vec<u8>> {
    let at = ([127, 0, 0, 1], 8080).into();
    let routes = vec![
        xds::to("/a", "one"),
        xds::to_with_retries("/b", "one"),
        xds::to_with_timeout("/c", "one", Duration::from_secs(1)),
        xds::redirect("/d", "b"),
        xds::direct("/e", 404, "no"),
        xds::connect_to("one"),
    ];
    let all = xds::vhost("all", &["*", "a.b", "*.c", "d.*"], routes);
    let config = RouteConfiguration {
        name: "outbound".to_owned(),
        virtual_hosts: vec![all.clone()],
        ..RouteConfiguration::default()
    };
    let policies =
        vec![xds::allow("AccessPolicy/default/a", &["spiffe://mesh.internal/ns/default/sa/a"], Some("/a"))];
    let web = xds::http("web", vec![all], Some(policies));
    let chains = vec![
        xds::plain_chain(web.clone()),
        xds::member_chain("p80.mesh.internal", &["h2", "http/1.1"], web),
        xds::pass_through_chain("b", "one"),
    ];
    let cluster = xds::cluster(
        "one",
        &[at],
        Speak::Http2,
        Some(("spiffe://mesh.internal/ns/default/sa/a", "p80.mesh.internal")),
    );
    [
        (0, xds::listener("in", at, chains).value),
        (0, xds::listener("tcp", at, vec![xds::plain_chain(xds::tcp("one"))]).value),
        (1, config.encode_to_vec()),
        (2, cluster.value.clone()),
        (2, xds::cluster("two", &[], Speak::Http1, None).value),
        (3, assignment(&cluster)),
    ]
    .into_iter()
    .flat_map(|(which, value)| [[&[which][..], &value].concat(), [&[which | 8][..], &value].concat()])
    .collect()
}

/// Endpoints as EDS gives them.
fn assignment(cluster: &Any) -> Vec<u8> {
    let cluster = Cluster::decode(&cluster.value[..]).unwrap();
    cluster.load_assignment.unwrap_or_default().encode_to_vec()
}

pub fn bootstrap(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = weft_proxy::bootstrap::parse(text, PathBuf::from("/nonexistent"));
}

pub fn bootstrap_seeds() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/proxy/src");
    let mut seeds = texts(folder, &["yaml", "json"]);
    seeds.push(
        br#"{"node":{"id":"default/a","cluster":"a","metadata":{"service":"a"}},"admin":{"address":{"socket_address":{"address":"127.0.0.1","port_value":0}}},"static_resources":{"listeners":[],"clusters":[]}}"#.to_vec(),
    );
    seeds
}

pub fn objects(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (documents, _) = weft_model::parse_text("a.yaml", text);
    let objects: Vec<_> = documents.into_iter().filter_map(|document| document.object).collect();
    let _ = weft_model::findings(&objects);
    for object in &objects {
        let (again, problems) = weft_model::parse_value(&object.to_value());
        assert_eq!(again.as_ref(), Some(object), "{problems:?} from {text:?}");
    }
}

pub fn object_seeds() -> Vec<Vec<u8>> {
    let mut seeds = texts(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"), &["yaml"]);
    seeds.push(OBJECTS.as_bytes().to_vec());
    seeds
}

const OBJECTS: &str = "\
apiVersion: v1
kind: Service
metadata: {name: a, namespace: default}
spec: {ports: [{port: 80, appProtocol: http}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a}
spec:
  parentRefs: [{group: '', kind: Service, name: a}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /a}, headers: [{name: x, value: y}]}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: b, statusCode: 302}}]
    backendRefs: [{name: a, port: 80, weight: 90}]
    timeouts: {request: 1s}
---
apiVersion: weft.dev/v1
kind: AccessPolicy
metadata: {name: a}
spec: {action: Allow, rules: [{from: [{services: [a]}], to: [{methods: [GET], paths: [/a/*]}]}]}
";

/// The files below a folder.
fn texts(folder: &str, endings: &[&str]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                folders.push(path);
            } else if endings.iter().any(|ending| path.extension().is_some_and(|have| have == *ending)) {
                found.extend(std::fs::read(path));
            }
        }
    }
    found
}

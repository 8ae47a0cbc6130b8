//! A mesh of one service, translated for its proxy, and asked.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use weft_control::seed;
use weft_control::snapshot::{ServiceId, Snapshot};
use weft_control::translate;
use weft_control::translate::view::ProxyView;
use weft_control::world::World;
use weft_model::{AccessPolicy, Body, Kind, Metadata, Object};
use weft_routing::authorize::{self, PolicyInput};
use weft_routing::{FilterChain, HeadView, HttpFilter, Listener, NetworkFilter, Rbac, Strictness};
use weft_store::{Batch, Stored};

use super::naive::Request;

/// The app's ports, and whether requests are seen there.
pub const PORTS: [(u16, bool); 3] = [(8080, true), (5432, false), (8443, false)];

pub struct Mesh {
    listener: Listener,
}

fn value(kind: Kind, name: &str, spec: &Value) -> Value {
    let info = kind.info();
    json!({"apiVersion": info.api_version(), "kind": info.name, "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

/// `api` with its three ports and these policies, named `p0`, `p1`, … of the namespace `default`.
fn snapshot(policies: &[AccessPolicy]) -> Snapshot {
    let service = json!({"selector": {"app": "api"}, "ports": [
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "tcp-db", "port": 5432},
        {"name": "https", "port": 443, "targetPort": 8443},
    ]});
    let mut mesh = value(Kind::Mesh, "default", &json!({"mtls": {"mode": "Permissive"}}));
    mesh["metadata"] = json!({"name": "default"});
    let mut objects = vec![
        (Kind::Mesh, "default".to_owned(), mesh),
        (Kind::Service, "api".to_owned(), value(Kind::Service, "api", &service)),
    ];
    for (index, policy) in policies.iter().enumerate() {
        let name = format!("p{index}");
        let object = Object::new(Metadata::named("default", &name), Body::AccessPolicy(policy.clone()));
        objects.push((Kind::AccessPolicy, name, object.to_value()));
    }
    let stored = objects.into_iter().zip(1..).map(|((kind, name, value), revision)| {
        let (object, problems) = weft_model::parse_value(&value);
        assert!(object.is_some(), "{problems:?}\n{value:#}");
        let namespace = if kind == Kind::Mesh { "" } else { "default" };
        let value = value.to_string().into_bytes().into();
        Stored { key: seed::key(kind, namespace, &name), created: revision, modified: revision, value }
    });
    let objects: Vec<Stored> = stored.collect();
    let mut world = World::new("mesh.internal", "mesh.internal");
    world.apply(Batch::Reset { revision: objects.len() as u64, objects });
    world.snapshot()
}

impl Mesh {
    pub fn with(policies: &[AccessPolicy]) -> Mesh {
        let api = ServiceId::new("default", "api");
        let view = ProxyView::newest(&api, "api-1", "127.0.0.2:15006".parse().unwrap());
        let made = translate::for_view(&snapshot(policies), &view);
        let inbound =
            made.resources.iter().find(|resource| &*resource.name == "inbound").expect("a listener");
        let read = weft_routing::listener(&inbound.body, Strictness::Own)
            .unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert!(read.warnings.is_empty(), "{:?}", read.warnings);
        Mesh { listener: read.value }
    }

    fn chain(&self, asked: &Request) -> &FilterChain {
        let name = match asked.id {
            Some(_) => format!("inbound|{}", asked.port),
            None => format!("inbound|plain|{}", asked.port),
        };
        self.listener.chains.iter().find(|chain| *chain.name == *name).expect("a chain")
    }

    /// Whether all enforced rules let it in.
    pub fn lets_in(&self, asked: &Request) -> bool {
        let rules = rules(self.chain(asked));
        ask(asked, |input| {
            rules
                .iter()
                .filter_map(|(rules, _)| rules.as_ref())
                .all(|rules| authorize::decide(rules, input).allow)
        })
    }

    /// The policies on trial that would refuse it.
    pub fn would_refuse(&self, asked: &Request) -> Vec<String> {
        if !self.lets_in(asked) {
            return Vec::new();
        }
        let rules = rules(self.chain(asked));
        ask(asked, |input| {
            let shadows = rules.iter().filter_map(|(_, shadow)| shadow.as_ref());
            shadows.flat_map(|rules| authorize::would_refuse(rules, input)).map(str::to_owned).collect()
        })
    }
}

/// Enforced, and on trial.
type Pair = (Option<Arc<Rbac>>, Option<Arc<Rbac>>);

fn rules(chain: &FilterChain) -> Vec<Pair> {
    match &chain.filter {
        NetworkFilter::Http(http) => {
            let filters = http.filters.iter().filter_map(HttpFilter::rbac);
            filters.map(|rbac| (rbac.rules.clone(), rbac.shadow.clone())).collect()
        }
        NetworkFilter::Tcp(_) => {
            chain.network_rbac.iter().map(|rbac| (rbac.rules.clone(), rbac.shadow.clone())).collect()
        }
    }
}

fn ask<T>(asked: &Request, question: impl FnOnce(&PolicyInput<'_>) -> T) -> T {
    let http = asked.http.as_ref();
    let method: Method = http.map_or("GET", |http| http.method.as_str()).parse().unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in http.into_iter().flat_map(|http| &http.headers) {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
    }
    let known = asked.id.is_some();
    let head = http.map(|http| HeadView {
        method: &method,
        scheme: "https",
        authority: &http.host,
        path: &http.path,
        query: None,
        headers: &headers,
        protocol: None,
        tls_presented: known,
        tls_validated: known,
    });
    question(&PolicyInput {
        head: head.as_ref(),
        principal: asked.id.as_deref(),
        authenticated: known,
        direct_ip: asked.ip,
        source_ip: asked.ip,
        // What a request says of itself is never asked.
        remote_ip: "10.9.9.9".parse().unwrap(),
        destination_ip: "127.0.0.1".parse().unwrap(),
        destination_port: asked.port,
        server_name: None,
    })
}

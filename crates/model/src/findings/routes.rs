//! Findings on routes: what they are attached to, where they lead, and whether they hide each other.

use std::collections::BTreeMap;

use super::codes::{WFT0001, WFT0002, WFT0003, WFT0004, WFT0009, WFT0010, WFT0014};
use super::{Finding, View};
use crate::kind::Kind;
use crate::object::{Body, Object};
use crate::protocol::Protocol;
use crate::spec::{BackendRef, GrpcMatch, HttpMatch, MirrorBackendRef, ParentRef, Service, ServicePort};

/// What all routes have in common.
struct Route<'a> {
    object: &'a Object,
    parents: &'a [ParentRef],
    hostnames: &'a [String],
    rules: Vec<Rule<'a>>,
}

struct Rule<'a> {
    backends: &'a [BackendRef],
    mirrors: Vec<&'a MirrorBackendRef>,
    /// Each match as one text: the same text matches the same requests.
    matches: Vec<String>,
}

pub fn look(view: &View<'_>, found: &mut Vec<Finding>) {
    let routes: Vec<Route<'_>> = view.objects.iter().filter_map(route).collect();
    for route in &routes {
        parents(view, route, found);
        for (index, rule) in route.rules.iter().enumerate() {
            backends(view, route, index, rule, found);
        }
    }
    shadows(&routes, found);
}

fn route(object: &Object) -> Option<Route<'_>> {
    let (parents, hostnames, rules): (_, &[String], _) = match &object.body {
        Body::HttpRoute(route) => {
            let rules = route.rules.iter().map(|rule| Rule {
                backends: &rule.backend_refs,
                mirrors: mirrored(&rule.filters, &rule.backend_refs),
                matches: texts(&rule.matches, http_text),
            });
            (&route.parent_refs, &route.hostnames, rules.collect())
        }
        Body::GrpcRoute(route) => {
            let rules = route.rules.iter().map(|rule| Rule {
                backends: &rule.backend_refs,
                mirrors: mirrored(&rule.filters, &rule.backend_refs),
                matches: texts(&rule.matches, grpc_text),
            });
            (&route.parent_refs, &route.hostnames, rules.collect())
        }
        Body::TcpRoute(route) => {
            let rules = route.rules.iter().take(1).map(|rule| Rule {
                backends: &rule.backend_refs,
                mirrors: Vec::new(),
                matches: vec!["every connection".to_owned()],
            });
            (&route.parent_refs, &[], rules.collect())
        }
        _ => return None,
    };
    Some(Route { object, parents, hostnames, rules })
}

fn mirrored<'a>(
    filters: &'a [crate::spec::HttpFilter],
    backends: &'a [BackendRef],
) -> Vec<&'a MirrorBackendRef> {
    let all = filters.iter().chain(backends.iter().flat_map(|backend| &backend.filters));
    all.filter_map(|filter| filter.request_mirror.as_ref()).map(|mirror| &mirror.backend_ref).collect()
}

fn texts<M: Default>(matches: &[M], text: impl Fn(&M) -> String) -> Vec<String> {
    if matches.is_empty() { vec![text(&M::default())] } else { matches.iter().map(text).collect() }
}

fn http_text(choice: &HttpMatch) -> String {
    let mut text = format!("{:?} {:?}", choice.path.match_type, choice.path.value);
    if let Some(method) = choice.method {
        text.push_str(&format!(" {}", method.as_str()));
    }
    let headers = choice
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), header.match_type, header.value.as_str()));
    text.push_str(&sorted("header", headers));
    let params =
        choice.query_params.iter().map(|param| (param.name.clone(), param.match_type, param.value.as_str()));
    text.push_str(&sorted("parameter", params));
    text
}

fn grpc_text(choice: &GrpcMatch) -> String {
    let mut text = match &choice.method {
        None => "every call".to_owned(),
        Some(method) => {
            let part = |part: &Option<String>| part.as_deref().unwrap_or("*").to_owned();
            format!("{:?} {}/{}", method.match_type, part(&method.service), part(&method.method))
        }
    };
    let headers = choice
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), header.match_type, header.value.as_str()));
    text.push_str(&sorted("header", headers));
    text
}

/// Order does not matter to a match, so it does not to its text.
fn sorted<'a>(
    what: &str,
    values: impl Iterator<Item = (String, crate::spec::ValueMatchType, &'a str)>,
) -> String {
    let mut texts: Vec<String> =
        values.map(|(name, kind, value)| format!(" {what} {name} {kind:?} {value:?}")).collect();
    texts.sort();
    texts.concat()
}

fn parents(view: &View<'_>, route: &Route<'_>, found: &mut Vec<Finding>) {
    for parent in route.parents {
        if !parent.is_service() {
            let message =
                format!("its parent, {} {}, is nothing that the mesh serves", parent.kind, parent.name);
            found.push(Finding::new(WFT0014, route.object, message));
            continue;
        }
        let namespace = parent.namespace.as_deref().unwrap_or(&route.object.meta.namespace);
        let name = parent.name.as_str();
        let Some(service) = view.services.get(&(namespace, name)) else {
            let message = format!("its parent, Service {namespace}/{name}, is not there");
            found.push(
                Finding::new(WFT0003, route.object, message).hinting(view.similar_service(namespace, name)),
            );
            continue;
        };
        if let Some(port) = parent.port {
            port_is_there(service, (namespace, name), port, route, found);
        }
        if let Some(section) = &parent.section_name
            && !service.ports.iter().any(|port| port.name.as_ref() == Some(section))
        {
            let message = format!("Service {namespace}/{name} has no port named {section:?}");
            found.push(Finding::new(WFT0002, route.object, message));
        }
        speaks_it(service, (namespace, name), parent, route, found);
    }
}

/// A route for HTTP has nothing to do on a port that is bytes, and the other way round.
fn speaks_it(
    service: &Service,
    (namespace, name): (&str, &str),
    parent: &ParentRef,
    route: &Route<'_>,
    found: &mut Vec<Finding>,
) {
    let meant = |port: &&ServicePort| {
        parent.port.is_none_or(|number| port.port == number)
            && parent.section_name.as_ref().is_none_or(|section| port.name.as_ref() == Some(section))
    };
    let mut ports = service.ports.iter().filter(meant).peekable();
    let for_http = route.object.kind != Kind::TCPRoute;
    if ports.peek().is_none() || ports.any(|port| Protocol::of(port).is_http() == for_http) {
        return;
    }
    let what = if for_http { "speaks no HTTP" } else { "speaks HTTP, which a TCPRoute does not route" };
    let message = match parent.port {
        Some(port) => format!("port {port} of Service {namespace}/{name} {what}"),
        None => format!("no port of Service {namespace}/{name} is for it: each {what}"),
    };
    let hint = "the port's appProtocol, or else its name, says what it speaks".to_owned();
    found.push(Finding::new(WFT0014, route.object, message).hinting(Some(hint)));
}

fn backends(view: &View<'_>, route: &Route<'_>, index: usize, rule: &Rule<'_>, found: &mut Vec<Finding>) {
    for backend in rule.backends {
        let to = Reference {
            group: &backend.group,
            kind: &backend.kind,
            namespace: backend.namespace.as_deref(),
            name: &backend.name,
            port: backend.port,
        };
        backend_is_there(view, route, index, &to, found);
    }
    for mirror in &rule.mirrors {
        let to = Reference {
            group: &mirror.group,
            kind: &mirror.kind,
            namespace: mirror.namespace.as_deref(),
            name: &mirror.name,
            port: mirror.port,
        };
        backend_is_there(view, route, index, &to, found);
    }
    if !rule.backends.is_empty() && rule.backends.iter().all(|backend| backend.weight == 0) {
        found.push(Finding::new(WFT0009, route.object, format!("rule {index}: all weights are 0")));
    }
}

/// Whom a rule sends requests to.
struct Reference<'a> {
    group: &'a str,
    kind: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
    port: Option<u16>,
}

fn backend_is_there(
    view: &View<'_>,
    route: &Route<'_>,
    index: usize,
    to: &Reference<'_>,
    found: &mut Vec<Finding>,
) {
    let own = route.object.meta.namespace.as_str();
    let (namespace, name) = (to.namespace.unwrap_or(own), to.name);
    match to.kind {
        "ExternalService" => match view.externals.get(&(namespace, name)) {
            None => found.push(Finding::new(
                WFT0001,
                route.object,
                format!("rule {index}: ExternalService {namespace}/{name} is not there"),
            )),
            Some(external) => {
                let has =
                    |number: &u16| external.ports.iter().any(|p| p.port == *number && !p.protocol.is_udp());
                let port = to.port.filter(|number| !has(number));
                if let Some(port) = port {
                    let message =
                        format!("ExternalService {namespace}/{name} has no port {port} for connections");
                    found.push(Finding::new(WFT0002, route.object, message));
                }
            }
        },
        "Service" => service_is_there(view, route, index, (namespace, name), to.port, found),
        kind => {
            let message = format!("rule {index}: the mesh can't forward to a {kind}");
            found.push(Finding::new(WFT0001, route.object, message));
        }
    }
    let parent = |parent: &ParentRef| {
        to.kind == "Service"
            && parent.is_service()
            && (parent.namespace.as_deref().unwrap_or(own), parent.name.as_str()) == (namespace, name)
    };
    if namespace == own || route.parents.iter().any(parent) {
        return;
    }
    let info = route.object.kind.info();
    let grants = view.grants.get(namespace).map(Vec::as_slice).unwrap_or_default();
    if !grants.iter().any(|grant| grant.permits((info.group, info.name), own, (to.group, to.kind, name))) {
        let message =
            format!("rule {index}: no ReferenceGrant of namespace {namespace} permits {} {name}", to.kind);
        found.push(Finding::new(WFT0010, route.object, message));
    }
}

fn service_is_there(
    view: &View<'_>,
    route: &Route<'_>,
    index: usize,
    name: (&str, &str),
    port: Option<u16>,
    found: &mut Vec<Finding>,
) {
    match view.services.get(&name) {
        None => {
            let message = format!("rule {index}: Service {}/{} is not there", name.0, name.1);
            found.push(
                Finding::new(WFT0001, route.object, message).hinting(view.similar_service(name.0, name.1)),
            );
        }
        Some(service) => {
            if let Some(port) = port {
                port_is_there(service, name, port, route, found);
            }
        }
    }
}

fn port_is_there(
    service: &Service,
    (namespace, name): (&str, &str),
    port: u16,
    route: &Route<'_>,
    found: &mut Vec<Finding>,
) {
    if service.ports.iter().any(|listed| listed.port == port) {
        return;
    }
    let listed: Vec<String> = service.ports.iter().map(|port| port.port.to_string()).collect();
    let hint = match service.ports.iter().find(|listed| listed.target_number() == Some(port)) {
        Some(meant) => format!("{port} is the targetPort; callers use {}", meant.port),
        None => format!("its ports: {}", listed.join(", ")),
    };
    let message = format!("Service {namespace}/{name} has no port {port}");
    found.push(Finding::new(WFT0002, route.object, message).hinting((!listed.is_empty()).then_some(hint)));
}

/// Routes that match the same requests of one parent: the older one wins, then the first by name, as
/// Gateway API says.
fn shadows(routes: &[Route<'_>], found: &mut Vec<Finding>) {
    let age = |route: &Route<'_>| {
        let meta = &route.object.meta;
        (
            meta.creation_timestamp.clone().unwrap_or_else(|| "~".to_owned()),
            meta.namespace.clone(),
            meta.name.clone(),
        )
    };
    let mut by_age: Vec<&Route<'_>> = routes.iter().collect();
    by_age.sort_by_key(|route| (route.object.kind, age(route)));
    let mut first: BTreeMap<(Kind, String, String, String), &Object> = BTreeMap::new();
    for route in by_age {
        for parent in route.parents {
            let namespace = parent.namespace.as_deref().unwrap_or(&route.object.meta.namespace);
            let port = parent
                .port
                .map_or_else(|| parent.section_name.clone().unwrap_or_default(), |port| port.to_string());
            let place = format!("{} {namespace}/{} {port}", parent.kind, parent.name);
            // A Service parent has no use for hostnames.
            let hosts = if parent.is_service() || route.hostnames.is_empty() {
                vec![String::new()]
            } else {
                route.hostnames.to_vec()
            };
            for text in route.rules.iter().flat_map(|rule| &rule.matches) {
                for host in &hosts {
                    let key = (route.object.kind, place.clone(), host.to_ascii_lowercase(), text.clone());
                    let winner = *first.entry(key).or_insert(route.object);
                    if winner.label() != route.object.label() {
                        let message = format!("{} gets what it matches too: {text}", winner.label());
                        found.push(Finding::new(WFT0004, route.object, message));
                    }
                }
            }
        }
    }
}

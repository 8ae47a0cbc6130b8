//! TrafficTargets of the Service Mesh Interface as policies that allow: their destination is the identity of a service,
//! so the port of that service's proxies is what they open. They never deny.

use std::collections::{BTreeSet, HashMap};

use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use weft_model::{Body, HttpGroupMatch, Kind, Severity, TargetRule, TrafficTarget};

use super::super::Made;
use super::super::view::ProxyKind;
use super::{ENVOY_HINT, Guarded, about, any_permission, callers, requests};
use crate::snapshot::Snapshot;

/// Adds what TrafficTargets allow at this port. True where a path is looked at.
pub fn add(made: &mut Made<'_>, guarded: &Guarded, allow: &mut HashMap<String, rbac::Policy>) -> bool {
    let snapshot = made.snapshot;
    let mut paths = false;
    for (id, stamped) in snapshot.of_kind(Kind::TrafficTarget) {
        let Body::TrafficTarget(target) = &stamped.object.body else { continue };
        if id.namespace != made.view.namespace || target.destination.name != made.view.service {
            continue;
        }
        let routes = Routes::of(snapshot, &id.namespace, target);
        if !routes.open(target, guarded) {
            continue;
        }
        if routes.requests.is_some() && !guarded.http {
            // Without a TCPRoute the ports of HTTP are meant, whichever there are.
            if routes.ports.is_some() {
                let message =
                    format!("its HTTPRouteGroups look into requests, which port {} can't see", guarded.port);
                let object = format!("TrafficTarget {}/{}", id.namespace, id.name);
                let hint = "name a TCPRoute without an HTTPRouteGroup, or give the port its appProtocol";
                made.found("WFT0920", Severity::Warning, object, message, hint);
            }
            continue;
        }
        let requests = routes.requests.iter().flatten();
        if made.view.kind == ProxyKind::Envoy && requests.clone().any(|request| !request.headers.is_empty()) {
            let message = "its HTTPRouteGroups look at headers, which lets nobody in by an Envoy".to_owned();
            let object = format!("TrafficTarget {}/{}", id.namespace, id.name);
            made.found("WFT0922", Severity::Warning, object, message, ENVOY_HINT);
        }
        let permissions: Vec<_> = match &routes.requests {
            None => vec![any_permission()],
            Some(requests) => {
                requests.iter().filter_map(|request| permission(request, made.view.kind)).collect()
            }
        };
        let principals: Vec<_> = target
            .sources
            .iter()
            .map(|source| {
                let namespace = source.namespace.as_deref().unwrap_or(&id.namespace);
                callers::account(&snapshot.trust_domain, namespace, &source.name)
            })
            .collect();
        if permissions.is_empty() || principals.is_empty() {
            continue;
        }
        paths |= routes.requests.iter().flatten().any(|request| request.path_regex.is_some());
        allow.insert(format!("TrafficTarget/{}/{}", id.namespace, id.name), about(permissions, principals));
    }
    paths
}

/// What a target's rules name, put together.
struct Routes<'a> {
    /// Of HTTP; `None`: no HTTPRouteGroup is named, so that every request is meant.
    requests: Option<Vec<&'a HttpGroupMatch>>,
    /// Of TCP; `None`: no TCPRoute is named, so that every port is meant.
    ports: Option<Ports>,
}

enum Ports {
    All,
    Some(BTreeSet<u16>),
}

impl<'a> Routes<'a> {
    fn of(snapshot: &'a Snapshot, namespace: &str, target: &TrafficTarget) -> Routes<'a> {
        let mut routes = Routes { requests: None, ports: None };
        for rule in &target.rules {
            match rule.kind.as_str() {
                "HTTPRouteGroup" => {
                    routes.requests.get_or_insert_default().extend(requests_of(snapshot, namespace, rule));
                }
                "TCPRoute" => {
                    let named = routes.ports.get_or_insert(Ports::Some(BTreeSet::new()));
                    named.add(snapshot, namespace, rule);
                }
                // Datagrams are not carried between members.
                _ => {
                    routes.ports.get_or_insert(Ports::Some(BTreeSet::new()));
                }
            }
        }
        routes
    }

    /// Whether they are about this port.
    fn open(&self, target: &TrafficTarget, guarded: &Guarded) -> bool {
        let called = |number: u16| {
            number == guarded.port || guarded.services.iter().any(|(_, _, port)| *port == Some(number))
        };
        target.destination.port.is_none_or(called)
            && match &self.ports {
                None | Some(Ports::All) => true,
                Some(Ports::Some(ports)) => ports.iter().any(|port| called(*port)),
            }
    }
}

impl Ports {
    /// One that is not there adds nothing.
    fn add(&mut self, snapshot: &Snapshot, namespace: &str, rule: &TargetRule) {
        let Some(stamped) = snapshot.object(Kind::SmiTCPRoute, namespace, &rule.name) else { return };
        let Body::SmiTcpRoute(route) = &stamped.object.body else { return };
        let named = route.matches.as_ref().map_or(&[][..], |matches| matches.ports.as_slice());
        if named.is_empty() {
            *self = Ports::All;
        } else if let Ports::Some(ports) = self {
            ports.extend(named);
        }
    }
}

/// Matches of a group by their names, or all. What is not there matches nothing.
fn requests_of<'a>(snapshot: &'a Snapshot, namespace: &str, rule: &TargetRule) -> Vec<&'a HttpGroupMatch> {
    let Some(stamped) = snapshot.object(Kind::HTTPRouteGroup, namespace, &rule.name) else {
        return Vec::new();
    };
    let Body::HttpRouteGroup(group) = &stamped.object.body else { return Vec::new() };
    let meant = |found: &&HttpGroupMatch| rule.matches.is_empty() || rule.matches.contains(&found.name);
    group.matches.iter().filter(meant).collect()
}

/// One match; nothing where an Envoy would have to see to all lines of a header.
fn permission(wanted: &HttpGroupMatch, by: ProxyKind) -> Option<rbac::Permission> {
    let HttpGroupMatch { name: _, methods, path_regex, headers } = wanted;
    if by == ProxyKind::Envoy && !headers.is_empty() {
        return None;
    }
    let mut parts = Vec::new();
    if !methods.is_empty() && !methods.iter().any(|method| method == "*") {
        parts.push(requests::any_of(methods.iter().map(|method| requests::method(method)).collect()));
    }
    parts.extend(path_regex.iter().map(|path| requests::url_path(requests::expression(path))));
    let fits = |(name, value): (&String, &String)| {
        requests::header_text(&name.to_ascii_lowercase(), requests::expression(value))
    };
    parts.extend(headers.iter().map(fits));
    Some(requests::all_of(parts))
}

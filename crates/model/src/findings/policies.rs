//! Findings on policies: whether their targets are there, and theirs alone.

use std::collections::BTreeMap;

use super::codes::{WFT0005, WFT0006, WFT0008, WFT0012, WFT0016, WFT0020};
use super::{Finding, View};
use crate::names::SAME_NAMESPACE;
use crate::object::{Body, Object};
use crate::protocol::Protocol;
use crate::spec::{AccessPolicy, ExternalProtocol, ServicePort, TargetRef, TrafficPolicy, Wish};

pub fn look(view: &View<'_>, found: &mut Vec<Finding>) {
    let mut policies: Vec<(&Object, &[TargetRef])> = Vec::new();
    for object in view.objects {
        match &object.body {
            Body::TrafficPolicy(policy) => {
                on_routes(object, policy, found);
                headers(view, object, policy, found);
                policies.push((object, &policy.target_refs));
            }
            Body::AccessPolicy(policy) => access(view, object, policy, found),
            Body::Mesh(mesh) if mesh.egress.default == Wish::Allow => {
                let message = "egress.default is Allow; egress stays deny".to_owned();
                found.push(Finding::new(WFT0012, object, message));
            }
            _ => {}
        }
    }
    traffic(view, policies, found);
}

/// A route chooses among clusters and says how long a request may take; what a cluster does is its own.
fn on_routes(object: &Object, policy: &TrafficPolicy, found: &mut Vec<Finding>) {
    let timeouts = policy.timeouts.as_ref();
    let of_cluster = [
        ("loadBalancing", policy.load_balancing.is_some()),
        ("circuitBreaking", policy.circuit_breaking.is_some()),
        ("healthCheck", policy.health_check.is_some()),
        ("outlierDetection", policy.outlier_detection.is_some()),
        ("proxyProtocol", policy.proxy_protocol.is_some()),
        ("acceptProxyProtocol", policy.accept_proxy_protocol.is_some()),
        ("timeouts.connect", timeouts.is_some_and(|timeouts| timeouts.connect.is_some())),
    ];
    let of_requests = [
        ("timeouts.request", timeouts.is_some_and(|timeouts| timeouts.request.is_some())),
        ("timeouts.idle", timeouts.is_some_and(|timeouts| timeouts.idle.is_some())),
        ("timeouts.perTry", timeouts.is_some_and(|timeouts| timeouts.per_try.is_some())),
        ("retry", policy.retry.is_some()),
    ];
    for target in policy.target_refs.iter().filter(|target| target.kind.ends_with("Route")) {
        // Connections are neither timed nor tried again by request.
        let lost = of_cluster.iter().chain(of_requests.iter().filter(|_| target.kind == "TCPRoute"));
        let lost: Vec<&str> = lost.filter(|(_, said)| *said).map(|(name, _)| *name).collect();
        if !lost.is_empty() {
            let message = format!("{} has no effect on {} {}", lost.join(", "), target.kind, target.name);
            found.push(Finding::new(WFT0016, object, message));
        }
    }
}

/// PROXY headers where there can be none.
fn headers(view: &View<'_>, object: &Object, policy: &TrafficPolicy, found: &mut Vec<Finding>) {
    let namespace = object.meta.namespace.as_str();
    for target in &policy.target_refs {
        let whole = target.section_name.is_none();
        let of_target = |name: Option<&String>| whole || name == target.section_name.as_ref();
        let name = (namespace, target.name.as_str());
        // None: it is not there, which is told elsewhere.
        let can: Option<bool> = match target.kind.as_str() {
            "Service" => view.services.get(&name).map(|service| {
                let carried = |port: &&ServicePort| port.protocol.as_deref().is_none_or(|p| p == "TCP");
                let mut ports = service.ports.iter().filter(carried);
                ports.any(|port| of_target(port.name.as_ref()) && !Protocol::of(port).is_http())
            }),
            "ExternalService" => view.externals.get(&name).map(|external| {
                let bytes = |protocol: ExternalProtocol| !protocol.is_http() && !protocol.is_udp();
                external.ports.iter().any(|port| of_target(port.name.as_ref()) && bytes(port.protocol))
            }),
            _ => None,
        };
        let vain = |part: &str| format!("{part} has no effect on {} {}", target.kind, target.name);
        if policy.proxy_protocol.is_some() && can == Some(false) {
            let message = format!("{}: no port of it carries bytes alone", vain("proxyProtocol"));
            found.push(Finding::new(WFT0020, object, message));
        }
        let takes = can.is_none() || target.kind == "Service" && whole;
        if policy.accept_proxy_protocol.is_some() && !takes {
            found.push(Finding::new(WFT0020, object, vain("acceptProxyProtocol")));
        }
    }
}

fn access(view: &View<'_>, policy: &Object, spec: &AccessPolicy, found: &mut Vec<Finding>) {
    let namespace = policy.meta.namespace.as_str();
    for target in spec.target_refs.iter().filter(|target| target.kind == "Service") {
        let service = view.services.get(&(namespace, target.name.as_str()));
        if let (Some(_), Some(section), false) =
            (service, &target.section_name, is_there(view, namespace, target))
        {
            let message = format!("Service {namespace}/{} has no port named {section:?}", target.name);
            found.push(Finding::new(WFT0005, policy, message));
        }
        if service.is_none() {
            let message = format!("its target, Service {namespace}/{}, is not there", target.name);
            found.push(
                Finding::new(WFT0005, policy, message).hinting(view.similar_service(namespace, &target.name)),
            );
        }
    }
    if policy.meta.name == SAME_NAMESPACE {
        let message = format!("members of namespace {namespace} may all call each other");
        found.push(Finding::new(WFT0008, policy, message));
    }
}

fn traffic(view: &View<'_>, mut policies: Vec<(&Object, &[TargetRef])>, found: &mut Vec<Finding>) {
    // The older policy wins, then the first by name: the same order as routes.
    policies.sort_by_key(|(object, _)| {
        (object.meta.creation_timestamp.as_deref().unwrap_or("~"), &object.meta.namespace, &object.meta.name)
    });
    let mut first: BTreeMap<(&str, &TargetRef), &Object> = BTreeMap::new();
    for (policy, targets) in policies {
        let namespace = policy.meta.namespace.as_str();
        for target in targets {
            if !is_there(view, namespace, target) {
                let part = target.section_name.as_ref().map(|section| format!(" ({section})"));
                let part = part.unwrap_or_default();
                let message =
                    format!("its target, {} {namespace}/{}{part}, is not there", target.kind, target.name);
                let hint = (target.kind == "Service")
                    .then(|| view.similar_service(namespace, &target.name))
                    .flatten();
                found.push(Finding::new(WFT0006, policy, message).hinting(hint));
            }
            let winner = *first.entry((namespace, target)).or_insert(policy);
            if !std::ptr::eq(winner, policy) {
                let message = format!(
                    "{} targets {} {namespace}/{} too, and wins",
                    winner.label(),
                    target.kind,
                    target.name
                );
                found.push(Finding::new(WFT0006, policy, message));
            }
        }
    }
}

fn is_there(view: &View<'_>, namespace: &str, target: &TargetRef) -> bool {
    match target.kind.as_str() {
        "Service" => view.services.get(&(namespace, target.name.as_str())).is_some_and(|service| {
            let named =
                |section: &String| service.ports.iter().any(|port| port.name.as_ref() == Some(section));
            target.section_name.as_ref().is_none_or(named)
        }),
        "ExternalService" => view.externals.get(&(namespace, target.name.as_str())).is_some_and(|external| {
            let named =
                |section: &String| external.ports.iter().any(|port| port.name.as_ref() == Some(section));
            target.section_name.as_ref().is_none_or(named)
        }),
        kind => view.objects.iter().any(|object| {
            object.kind.info().name == kind
                && object.kind.info().group == target.group
                && object.meta.namespace == namespace
                && object.meta.name == target.name
                && target.section_name.as_ref().is_none_or(|section| has_rule(object, section))
        }),
    }
}

fn has_rule(route: &Object, name: &String) -> bool {
    match &route.body {
        Body::HttpRoute(route) => route.rules.iter().any(|rule| rule.name.as_ref() == Some(name)),
        Body::GrpcRoute(route) => route.rules.iter().any(|rule| rule.name.as_ref() == Some(name)),
        Body::TcpRoute(route) => route.rules.iter().any(|rule| rule.name.as_ref() == Some(name)),
        _ => false,
    }
}

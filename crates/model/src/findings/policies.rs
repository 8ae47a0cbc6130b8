//! Findings on policies: whether their targets are there, and theirs alone.

use std::collections::BTreeMap;

use super::codes::{WFT0005, WFT0006, WFT0008, WFT0012};
use super::{Finding, View};
use crate::names::SAME_NAMESPACE;
use crate::object::{Body, Object};
use crate::spec::{TargetRef, Wish};

pub fn look(view: &View<'_>, found: &mut Vec<Finding>) {
    let mut policies: Vec<(&Object, &[TargetRef])> = Vec::new();
    for object in view.objects {
        match &object.body {
            Body::TrafficPolicy(policy) => policies.push((object, &policy.target_refs)),
            Body::AccessPolicy(policy) => {
                access(view, object, &policy.target_refs, found);
            }
            Body::Mesh(mesh) if mesh.egress.default == Wish::Allow => {
                let message = "egress.default is Allow; egress stays deny".to_owned();
                found.push(Finding::new(WFT0012, object, message));
            }
            _ => {}
        }
    }
    traffic(view, policies, found);
}

fn access(view: &View<'_>, policy: &Object, targets: &[TargetRef], found: &mut Vec<Finding>) {
    let namespace = policy.meta.namespace.as_str();
    for target in targets.iter().filter(|target| target.kind == "Service") {
        if !view.services.contains_key(&(namespace, target.name.as_str())) {
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
                let message =
                    format!("its target, {} {namespace}/{}, is not there", target.kind, target.name);
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
        "ExternalService" => view.externals.contains_key(&(namespace, target.name.as_str())),
        kind => view.objects.iter().any(|object| {
            object.kind.info().name == kind
                && object.meta.namespace == namespace
                && object.meta.name == target.name
        }),
    }
}

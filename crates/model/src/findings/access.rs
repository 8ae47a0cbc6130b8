//! Findings on who may call whom: a Service that lets nobody in, and callers and grants that name nobody.

mod rules;
mod smi;

use super::codes::{WFT0013, WFT0017, WFT0018};
use super::{Finding, View};
use crate::names;
use crate::object::{Body, Object};
use crate::spec::{
    AccessAction, AccessMode, AccessPolicy, AccessRule, ReferenceGrant, Service, ServiceType, TrafficTarget,
    Wish,
};

pub fn look(view: &View<'_>, found: &mut Vec<Finding>) {
    let mut policies: Vec<(&Object, &AccessPolicy)> = Vec::new();
    let mut targets: Vec<(&Object, &TrafficTarget)> = Vec::new();
    for object in view.objects {
        match &object.body {
            Body::AccessPolicy(policy) => {
                callers(view, object, policy, found);
                policies.push((object, policy));
            }
            Body::TrafficTarget(target) => {
                smi::look(view, object, target, found);
                targets.push((object, target));
            }
            Body::ReferenceGrant(grant) => granted(view, object, grant, found),
            _ => {}
        }
    }
    rules::look(view, &policies, found);
    for object in view.objects {
        if let Body::Service(service) = &object.body
            && service.service_type != ServiceType::ExternalName
            && !service.selector.is_empty()
        {
            somebody_may(view, (object, service), &policies, &targets, found);
        }
    }
}

fn somebody_may(
    view: &View<'_>,
    (object, service): (&Object, &Service),
    policies: &[(&Object, &AccessPolicy)],
    targets: &[(&Object, &TrafficTarget)],
    found: &mut Vec<Finding>,
) {
    let namespace = object.meta.namespace.as_str();
    // A policy guards the port of the application, whichever Service leads there.
    let same_instances = |name: &str| {
        name == object.meta.name
            || view.services.get(&(namespace, name)).is_some_and(|other| {
                let pairs = || other.selector.iter().map(|(key, value)| (service.selector.get(key), value));
                pairs().any(|(own, value)| own == Some(value))
                    && pairs().all(|(own, value)| own.is_none_or(|own| own == value))
            })
    };
    let applying = policies
        .iter()
        .filter(|(at, _)| at.meta.namespace == namespace)
        .map(|(at, policy)| (*at, *policy))
        .filter(|(_, policy)| {
            policy.target_refs.is_empty()
                || policy.target_refs.iter().any(|t| t.kind == "Service" && same_instances(&t.name))
        });
    // Whoever has the destination's identity may stand behind several Services.
    let by_target = targets.iter().filter(|(at, _)| at.meta.namespace == namespace).any(|(_, target)| {
        let account = target.destination.name.as_str();
        same_instances(account) || service.selector.get(names::APP_LABEL).is_none_or(|app| app == account)
    });
    let mut allowed = view.otherwise != Some(Wish::Deny) || by_target;
    for (at, policy) in applying.filter(|(_, policy)| policy.mode == AccessMode::Enforce) {
        match policy.action {
            AccessAction::Allow => {
                allowed |= policy.rules.iter().any(|rule| speaks_of(rule, service));
            }
            // Only one that targets the Service itself without a section is certain to hold everywhere.
            AccessAction::Deny => {
                let whole = policy.target_refs.is_empty()
                    || policy
                        .target_refs
                        .iter()
                        .any(|target| target.name == object.meta.name && target.section_name.is_none());
                if whole && policy.rules.iter().any(|rule| rule.from.is_empty() && rule.to.is_empty()) {
                    let message = format!("{} denies everybody", at.label());
                    found.push(Finding::new(WFT0013, object, message).hinting(Some(
                        "narrow its rules by from or to: a deny wins over every allow".to_owned(),
                    )));
                    return;
                }
            }
            AccessAction::Audit => {}
        }
    }
    if !allowed {
        let message = format!("no AccessPolicy of namespace {namespace} lets anybody in");
        found.push(Finding::new(WFT0013, object, message));
    }
}

/// Whether a rule is about any port of a Service.
fn speaks_of(rule: &AccessRule, service: &Service) -> bool {
    rule.to.is_empty()
        || rule.to.iter().any(|to| {
            to.ports.is_empty()
                || service.ports.iter().any(|port| {
                    // A named target may be any number: in doubt it is meant.
                    let target = port.target_number();
                    to.ports.contains(&port.port)
                        || target.is_some_and(|number| to.ports.contains(&number))
                        || (target.is_none() && port.target_port.is_some())
                })
        })
}

/// A caller is known by a Service, an instance, or nobody. Clients often have no Service of their own and
/// come later than the policy, so only a name that is nearly one that is there is told.
fn callers(view: &View<'_>, object: &Object, policy: &AccessPolicy, found: &mut Vec<Finding>) {
    for text in policy.rules.iter().flat_map(|rule| &rule.from).flat_map(|from| &from.services) {
        let (namespace, name) = names::service_reference(text, &object.meta.namespace);
        if view.services.contains_key(&(namespace, name)) || view.members(namespace).any(|it| it == name) {
            continue;
        }
        let there = view.services.keys().filter(|(ns, _)| *ns == namespace).map(|(_, name)| *name);
        let elsewhere = || {
            let other = view.services.keys().find(|(_, candidate)| *candidate == name)?;
            Some(format!("there is one in namespace {}: {}/{name}", other.0, other.0))
        };
        let near = crate::parse::nearest(name, there.chain(view.members(namespace)));
        let hint = near.map(|near| format!("did you mean {near:?}?")).or_else(elsewhere);
        if hint.is_some() {
            let message = format!("nobody is {namespace}/{name}");
            found.push(Finding::new(WFT0017, object, message).hinting(hint));
        }
    }
}

fn granted(view: &View<'_>, object: &Object, grant: &ReferenceGrant, found: &mut Vec<Finding>) {
    for to in &grant.to {
        let Some(name) = to.name.as_deref() else { continue };
        let place = (object.meta.namespace.as_str(), name);
        let there = match to.kind.as_str() {
            "Service" => view.services.contains_key(&place),
            "ExternalService" => view.externals.contains_key(&place),
            "Secret" => view.secrets.contains_key(&place),
            _ => true,
        };
        if !there {
            let message = format!("{} {}/{name} is not there", to.kind, place.0);
            found.push(Finding::new(WFT0018, object, message));
        }
    }
}

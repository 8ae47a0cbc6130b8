//! Findings on TrafficTargets: what they name that is not there.

use super::super::codes::{WFT0025, WFT0026};
use super::super::{Finding, View};
use crate::object::{Body, Object};
use crate::spec::{TargetRule, TrafficTarget};

pub fn look(view: &View<'_>, object: &Object, target: &TrafficTarget, found: &mut Vec<Finding>) {
    let own = object.meta.namespace.as_str();
    for (index, rule) in target.rules.iter().enumerate() {
        if let Some((message, hint)) = comes_to_nothing(view, own, rule) {
            let message = format!("rules[{index}]: {message}");
            found.push(Finding::new(WFT0025, object, message).hinting(hint));
        }
    }
    let is_there = |namespace: &str, name: &str| {
        view.services.contains_key(&(namespace, name)) || view.members(namespace).any(|it| it == name)
    };
    let near = |namespace: &str, name: &str| {
        let services = view.services.keys().filter(|(ns, _)| *ns == namespace).map(|(_, name)| *name);
        let near = crate::parse::nearest(name, services.chain(view.members(namespace)))?;
        Some(format!("did you mean {near:?}? Members have their service's name as service account"))
    };
    let destination = target.destination.name.as_str();
    if !is_there(own, destination) {
        let message = format!("its destination, {own}/{destination}, is nobody's service account");
        found.push(Finding::new(WFT0026, object, message).hinting(near(own, destination)));
    }
    // Clients come later than policies, and often have no Service: only what is nearly there is told.
    for source in &target.sources {
        let namespace = source.namespace.as_deref().unwrap_or(own);
        if let Some(hint) = near(namespace, &source.name).filter(|_| !is_there(namespace, &source.name)) {
            let message = format!("nobody has the service account {namespace}/{}", source.name);
            found.push(Finding::new(WFT0026, object, message).hinting(Some(hint)));
        }
    }
}

fn comes_to_nothing(view: &View<'_>, own: &str, rule: &TargetRule) -> Option<(String, Option<String>)> {
    let named = |object: &&Object| object.meta.namespace == own && object.meta.name == rule.name;
    let absent = || (format!("{} {own}/{} is not there", rule.kind, rule.name), None);
    match rule.kind.as_str() {
        "HTTPRouteGroup" => {
            let group = view.objects.iter().filter(named).find_map(|object| match &object.body {
                Body::HttpRouteGroup(group) => Some(group),
                _ => None,
            });
            let Some(group) = group else { return Some(absent()) };
            let has = |name: &&String| group.matches.iter().any(|found| found.name == **name);
            let missing = rule.matches.iter().find(|name| !has(name));
            if let Some(missing) = missing {
                let names = group.matches.iter().map(|found| found.name.as_str());
                let hint =
                    crate::parse::nearest(missing, names).map(|near| format!("did you mean {near:?}?"));
                let message = format!("HTTPRouteGroup {own}/{} has no match named {missing:?}", rule.name);
                return Some((message, hint));
            }
            let message = || format!("HTTPRouteGroup {own}/{} has no matches", rule.name);
            group.matches.is_empty().then(|| (message(), Some("add the requests that are meant".to_owned())))
        }
        "TCPRoute" => {
            let there = |object: &Object| matches!(object.body, Body::SmiTcpRoute(_));
            (!view.objects.iter().filter(named).any(there)).then(absent)
        }
        kind => Some((
            format!("{kind} {}: datagrams are not carried between members", rule.name),
            Some("guard datagrams by other means; calls over TCP need a TCPRoute".to_owned()),
        )),
    }
}

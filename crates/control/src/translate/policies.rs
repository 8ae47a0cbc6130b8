//! AccessPolicies as RBAC filters before an app's port: a DENY filter where a policy denies, then an
//! ALLOW filter, always, so that what nobody allowed is refused.
//!
//! On a port that is bytes only, methods and paths can't be seen. There an allowing rule that names
//! them allows nothing, and a denying one denies all of its callers: never more than was wished.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use weft_model::{AccessAction, AccessFrom, AccessPolicy, AccessRule, AccessTo, Body, Kind, Severity, Wish};

use super::proto::{exact, prefix};
use super::{Made, names};
use crate::snapshot::ServiceId;

/// The rules of a port, by what they do.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Who is refused, whatever else allows it.
    pub deny: Option<rbac::Rbac>,
    /// Who is let in.
    pub allow: rbac::Rbac,
    /// Who is only noted.
    pub audit: Option<rbac::Rbac>,
    /// Whether any of them looks at paths.
    pub paths: bool,
}

/// A port of the view's app: its number, whether its requests are seen, and what it is called by.
#[derive(Clone, Debug)]
pub struct Guarded {
    /// The app's port.
    pub port: u16,
    /// Whether it is HTTP.
    pub http: bool,
    /// The services that end there, with the port's name in each and, where a Service leads to it, its
    /// number.
    pub services: Vec<(ServiceId, Option<String>, Option<u16>)>,
}

/// The rules for one port of the view's app.
pub fn rules(made: &mut Made<'_>, guarded: &Guarded) -> Rules {
    let snapshot = made.snapshot;
    let mut of_action: HashMap<AccessAction, HashMap<String, rbac::Policy>> = HashMap::new();
    let mut paths = false;
    for (id, stamped) in snapshot.of_kind(Kind::AccessPolicy) {
        let Body::AccessPolicy(policy) = &stamped.object.body else { continue };
        if id.namespace != made.view.namespace || !applies(made, policy, guarded, &id.name) {
            continue;
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            let ports = numbers(policy, guarded);
            let built = built(rule, policy.action, (guarded, &ports), &id.namespace, &snapshot.trust_domain);
            let unseen = |to: &AccessTo| {
                let here = to.ports.is_empty() || to.ports.iter().any(|port| ports.contains(port));
                here && !(to.methods.is_empty() && to.paths.is_empty())
            };
            if !guarded.http && rule.to.iter().any(unseen) {
                let message =
                    format!("rules[{index}] names methods or paths, which port {} can't see", guarded.port);
                let hint = "give the rule the ports that speak HTTP, or give the port its appProtocol";
                made.found(
                    "WFT0920",
                    Severity::Warning,
                    format!("AccessPolicy {}/{}", id.namespace, id.name),
                    message,
                    hint,
                );
            }
            let Some(built) = built else { continue };
            paths |= guarded.http && rule.to.iter().any(|to| !to.paths.is_empty());
            let name = match policy.rules.len() {
                1 => format!("AccessPolicy/{}/{}", id.namespace, id.name),
                _ => format!("AccessPolicy/{}/{}#{index}", id.namespace, id.name),
            };
            of_action.entry(policy.action).or_default().insert(name, built);
        }
    }
    let mut allow = of_action.remove(&AccessAction::Allow).unwrap_or_default();
    if snapshot.mesh.authorization.default == Wish::Allow {
        let everybody = rbac::Policy {
            permissions: vec![any_permission()],
            principals: vec![any_principal()],
            ..Default::default()
        };
        allow.insert("Mesh//default".to_owned(), everybody);
    }
    let filter = |action: rbac::rbac::Action, policies| rbac::Rbac {
        action: action as i32,
        policies,
        ..Default::default()
    };
    Rules {
        deny: of_action
            .remove(&AccessAction::Deny)
            .map(|policies| filter(rbac::rbac::Action::Deny, policies)),
        allow: filter(rbac::rbac::Action::Allow, allow),
        audit: of_action
            .remove(&AccessAction::Audit)
            .map(|policies| filter(rbac::rbac::Action::Allow, policies)),
        paths,
    }
}

fn applies(made: &mut Made<'_>, policy: &AccessPolicy, guarded: &Guarded, name: &str) -> bool {
    if policy.target_refs.is_empty() {
        return true;
    }
    policy.target_refs.iter().any(|target| {
        if target.kind != "Service" {
            // A route is the caller's side; here only the service behind it can be guarded.
            let message = format!("targets {} {}, which is not guarded by itself", target.kind, target.name);
            let object = format!("AccessPolicy {}/{name}", made.view.namespace);
            made.found("WFT0921", Severity::Warning, object, message, "target the Service behind it");
            return policy.action == AccessAction::Deny;
        }
        guarded.services.iter().any(|(service, port, _)| {
            service.name == target.name
                && target.section_name.as_ref().is_none_or(|section| port.as_ref() == Some(section))
        })
    })
}

/// What a policy may call the port: the app's number, or that of a Service (one of its targets, if it
/// has any) which leads there.
fn numbers(policy: &AccessPolicy, guarded: &Guarded) -> Vec<u16> {
    let meant = |service: &ServiceId| {
        policy.target_refs.is_empty()
            || policy.target_refs.iter().any(|target| target.kind != "Service" || target.name == service.name)
    };
    let services = guarded.services.iter().filter(|(service, ..)| meant(service));
    services.filter_map(|(_, _, number)| *number).chain([guarded.port]).collect()
}

fn built(
    rule: &AccessRule,
    action: AccessAction,
    guarded: (&Guarded, &[u16]),
    namespace: &str,
    trust_domain: &str,
) -> Option<rbac::Policy> {
    let principals = if rule.from.is_empty() {
        vec![any_principal()]
    } else {
        rule.from.iter().flat_map(|from| principals(from, namespace, trust_domain)).collect()
    };
    let permissions = if rule.to.is_empty() {
        vec![any_permission()]
    } else {
        rule.to.iter().filter_map(|to| permission(to, action, guarded)).collect()
    };
    // Neither list may be empty in Envoy, and empty means nobody or nothing here.
    (!principals.is_empty() && !permissions.is_empty()).then(|| rbac::Policy {
        permissions,
        principals,
        ..Default::default()
    })
}

fn principals(from: &AccessFrom, namespace: &str, trust_domain: &str) -> Vec<rbac::Principal> {
    let listed = from.identities.iter().map(|identity| match identity.strip_suffix('*') {
        Some(start) => prefix(start),
        None => exact(identity.as_str()),
    });
    let lives = from.namespaces.iter().map(|ns| prefix(format!("spiffe://{trust_domain}/ns/{ns}/")));
    let services = from.services.iter().map(|text| {
        let service = ServiceId::parse(text, namespace);
        exact(names::identity(trust_domain, &service.namespace, &service.name))
    });
    listed.chain(lives).chain(services).map(authenticated).collect()
}

fn authenticated(name: matcher::StringMatcher) -> rbac::Principal {
    rbac::Principal {
        identifier: Some(rbac::principal::Identifier::Authenticated(rbac::principal::Authenticated {
            principal_name: Some(name),
        })),
    }
}

fn any_principal() -> rbac::Principal {
    rbac::Principal { identifier: Some(rbac::principal::Identifier::Any(true)) }
}

fn any_permission() -> rbac::Permission {
    rbac::Permission { rule: Some(rbac::permission::Rule::Any(true)) }
}

/// A policy about everybody's requests to paths that match all of `regex`.
pub fn paths_like(regex: &str) -> rbac::Policy {
    use matcher::string_matcher::MatchPattern;
    let regex = matcher::RegexMatcher { regex: regex.to_owned(), ..Default::default() };
    let path =
        matcher::StringMatcher { match_pattern: Some(MatchPattern::SafeRegex(regex)), ..Default::default() };
    let rule = rbac::permission::Rule::UrlPath(matcher::PathMatcher {
        rule: Some(matcher::path_matcher::Rule::Path(path)),
    });
    rbac::Policy {
        permissions: vec![rbac::Permission { rule: Some(rule) }],
        principals: vec![any_principal()],
        ..Default::default()
    }
}

fn permission(
    to: &AccessTo,
    action: AccessAction,
    (guarded, numbers): (&Guarded, &[u16]),
) -> Option<rbac::Permission> {
    use rbac::permission::{Rule, Set};
    // One filter guards one port, so ports are decided here.
    if !to.ports.is_empty() && !to.ports.iter().any(|port| numbers.contains(port)) {
        return None;
    }
    let any_request = to.methods.is_empty() && to.paths.is_empty();
    if !(guarded.http || any_request) {
        return (action == AccessAction::Deny).then(any_permission);
    }
    let either = |rules: Vec<rbac::Permission>| (!rules.is_empty()).then_some(Rule::OrRules(Set { rules }));
    let methods = to.methods.iter().map(|method| rbac::Permission {
        rule: Some(Rule::Header(route::HeaderMatcher {
            name: ":method".to_owned(),
            header_match_specifier: Some(route::header_matcher::HeaderMatchSpecifier::StringMatch(exact(
                method.as_str(),
            ))),
            ..Default::default()
        })),
    });
    let paths = to.paths.iter().map(|path| {
        let text = match path.strip_suffix('*') {
            Some(start) => prefix(start),
            None => exact(path.as_str()),
        };
        rbac::Permission {
            rule: Some(Rule::UrlPath(matcher::PathMatcher {
                rule: Some(matcher::path_matcher::Rule::Path(text)),
            })),
        }
    });
    let parts: Vec<rbac::Permission> = [either(methods.collect()), either(paths.collect())]
        .into_iter()
        .flatten()
        .map(|rule| rbac::Permission { rule: Some(rule) })
        .collect();
    Some(match parts.len() {
        0 => any_permission(),
        _ => rbac::Permission { rule: Some(Rule::AndRules(Set { rules: parts })) },
    })
}

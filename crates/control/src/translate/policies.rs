//! Who may call an app's port, as RBAC filters before it: a DENY filter where a policy denies, then an ALLOW filter,
//! always, so that what nobody allowed is refused; behind them, as shadows that only count, the policies on trial.
//! The verdict of somebody else (an external authorizer, Rego) would stand before all of these.
//!
//! Policies come from AccessPolicies ([`callers`], [`requests`]) and from TrafficTargets ([`smi`]). What is not known
//! of a request (who calls, where there is no mutual TLS; a path, where there are only bytes) fits what denies and
//! does not fit what allows: never more than was wished. [`Unknown`] says which.

mod callers;
mod requests;
mod smi;

use std::collections::HashMap;

use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use weft_model::{AccessAction, AccessMode, AccessPolicy, AccessRule, AccessTo, Body, Kind, Severity, Wish};

use super::Made;
use super::view::ProxyKind;
use crate::snapshot::ServiceId;

/// Of WFT0922.
const ENVOY_HINT: &str = "put a Weft proxy before the app, or tell requests apart by path, method or host";

/// The rules of a port, by what they do.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Who is refused, whatever else allows it.
    pub deny: Option<rbac::Rbac>,
    /// Who is let in.
    pub allow: rbac::Rbac,
    /// Who would be refused, by policies on trial and by audits.
    pub would_deny: Option<rbac::Rbac>,
    /// Who alone would be let in, by policies on trial.
    pub would_allow: Option<rbac::Rbac>,
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

/// What becomes of a test of something that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unknown {
    /// It holds: in what refuses.
    Holds,
    /// It fails: in what lets in.
    Fails,
}

impl Unknown {
    fn of(action: AccessAction) -> Unknown {
        match action {
            AccessAction::Allow => Unknown::Fails,
            // An audit counts what a deny would refuse.
            AccessAction::Deny | AccessAction::Audit => Unknown::Holds,
        }
    }

    /// Within a negation.
    fn turned(self) -> Unknown {
        match self {
            Unknown::Holds => Unknown::Fails,
            Unknown::Fails => Unknown::Holds,
        }
    }
}

/// One of the four filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Filter {
    Deny,
    Allow,
    WouldDeny,
    WouldAllow,
}

impl Filter {
    fn of(policy: &AccessPolicy) -> Filter {
        match (policy.action, policy.mode) {
            (AccessAction::Deny, AccessMode::Enforce) => Filter::Deny,
            (AccessAction::Allow, AccessMode::Enforce) => Filter::Allow,
            (AccessAction::Deny, AccessMode::DryRun) | (AccessAction::Audit, _) => Filter::WouldDeny,
            (AccessAction::Allow, AccessMode::DryRun) => Filter::WouldAllow,
        }
    }
}

/// The rules for one port of the view's app.
pub fn rules(made: &mut Made<'_>, guarded: &Guarded) -> Rules {
    let snapshot = made.snapshot;
    let mut filters: HashMap<Filter, HashMap<String, rbac::Policy>> = HashMap::new();
    let mut paths = false;
    for (id, stamped) in snapshot.of_kind(Kind::AccessPolicy) {
        let Body::AccessPolicy(policy) = &stamped.object.body else { continue };
        if id.namespace != made.view.namespace || !applies(made, policy, guarded, &id.name) {
            continue;
        }
        let ports = numbers(policy, guarded);
        let asked = requests::Asked {
            http: guarded.http,
            ports: &ports,
            unknown: Unknown::of(policy.action),
            by: made.view.kind,
        };
        let filter = Filter::of(policy);
        let of_filter = filters.entry(filter).or_default();
        let whole_name = format!("AccessPolicy/{}/{}", id.namespace, id.name);
        for (index, rule) in policy.rules.iter().enumerate() {
            tell_what_is_not_seen(made, rule, index, (guarded, &ports), &whole_name);
            if rule.to.iter().any(|to| requests::beyond(to, &asked)) {
                let message = match asked.unknown {
                    Unknown::Fails => "wants values of a header, which lets nobody in by an Envoy",
                    Unknown::Holds => "leaves out values of a header, which by an Envoy refuses all",
                };
                let (object, message) =
                    (whole_name.replacen('/', " ", 1), format!("rules[{index}] {message}"));
                made.found("WFT0922", Severity::Warning, object, message, ENVOY_HINT);
            }
            let Some(built) = built(rule, &asked, &id.namespace, &snapshot.trust_domain) else { continue };
            // How paths are made regular changes verdicts too, which one on trial must not.
            let decides = matches!(filter, Filter::Deny | Filter::Allow);
            paths |= decides && guarded.http && rule.to.iter().any(AccessTo::looks_at_paths);
            let name = match policy.rules.len() {
                1 => whole_name.clone(),
                _ => format!("{whole_name}#{index}"),
            };
            of_filter.insert(name, built);
        }
        // One on trial is named by what it does not let in, also where nothing of it is about this port.
        if filter == Filter::WouldAllow
            && !of_filter.keys().any(|name| name.split('#').next() == Some(whole_name.as_str()))
        {
            of_filter.insert(whole_name, about(vec![any_permission()], vec![callers::nobody()]));
        }
    }
    let allow = filters.entry(Filter::Allow).or_default();
    paths |= smi::add(made, guarded, allow);
    if snapshot.mesh.authorization.default == Wish::Allow {
        let everybody = about(vec![any_permission()], vec![callers::anybody()]);
        allow.insert("Mesh//default".to_owned(), everybody);
    }
    let mut taken = |filter: Filter, action: rbac::rbac::Action| {
        filters.remove(&filter).map(|policies| rbac::Rbac {
            action: action as i32,
            policies,
            ..Default::default()
        })
    };
    let some = |rules: &rbac::Rbac| !rules.policies.is_empty();
    Rules {
        deny: taken(Filter::Deny, rbac::rbac::Action::Deny).filter(some),
        allow: taken(Filter::Allow, rbac::rbac::Action::Allow).unwrap_or_default(),
        would_deny: taken(Filter::WouldDeny, rbac::rbac::Action::Deny).filter(some),
        would_allow: taken(Filter::WouldAllow, rbac::rbac::Action::Allow),
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

fn tell_what_is_not_seen(
    made: &mut Made<'_>,
    rule: &AccessRule,
    index: usize,
    (guarded, ports): (&Guarded, &[u16]),
    name: &str,
) {
    let unseen = |to: &AccessTo| {
        let here = to.ports.is_empty() || to.ports.iter().any(|port| ports.contains(port));
        here && to.looks_into_requests()
    };
    if guarded.http || !rule.to.iter().any(unseen) {
        return;
    }
    let message = format!(
        "rules[{index}] looks into requests (methods, paths, hosts, headers), which port {} can't see",
        guarded.port
    );
    let hint = "give the rule the ports that speak HTTP, or give the port its appProtocol";
    made.found("WFT0920", Severity::Warning, name.replacen('/', " ", 1), message, hint);
}

fn built(
    rule: &AccessRule,
    asked: &requests::Asked<'_>,
    namespace: &str,
    trust_domain: &str,
) -> Option<rbac::Policy> {
    let principals = if rule.from.is_empty() {
        vec![callers::anybody()]
    } else {
        let home = callers::Home { namespace, trust_domain };
        rule.from.iter().filter_map(|from| callers::principal(from, &home, asked.unknown)).collect()
    };
    let permissions = if rule.to.is_empty() {
        vec![any_permission()]
    } else {
        rule.to.iter().filter_map(|to| requests::permission(to, asked)).collect()
    };
    // Neither list may be empty in Envoy, and empty means nobody or nothing here.
    (!principals.is_empty() && !permissions.is_empty()).then(|| about(permissions, principals))
}

fn about(permissions: Vec<rbac::Permission>, principals: Vec<rbac::Principal>) -> rbac::Policy {
    rbac::Policy { permissions, principals, ..Default::default() }
}

fn any_permission() -> rbac::Permission {
    requests::rule(rbac::permission::Rule::Any(true))
}

/// Everybody's requests to paths that an Envoy and an app may read differently: those that match all of `regex`, and
/// those that hold other characters than printable ones of ASCII.
pub fn ambiguous_paths(regex: &str) -> rbac::Policy {
    let fits = |regex: &str| requests::url_path(super::proto::regex(regex));
    let printable = fits("[!-~]*");
    let strange = requests::rule(rbac::permission::Rule::NotRule(Box::new(printable)));
    about(vec![fits(regex), strange], vec![callers::anybody()])
}

/// Whether texts are compared as an Envoy does it.
fn is_envoy(by: ProxyKind) -> bool {
    by == ProxyKind::Envoy
}

/// A text as an expression that only it fits.
fn literally(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if r"\.+*?()|[]{}^$".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// A text that is one of these.
fn one_of(mut alternatives: Vec<String>) -> String {
    match alternatives.len() {
        1 => alternatives.remove(0),
        _ => format!("(?:{})", alternatives.join("|")),
    }
}

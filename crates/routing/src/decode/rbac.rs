//! RBAC: policies, permissions, principals.

use std::sync::Arc;

use envoy_types::pb::envoy::config::rbac::v3 as pb;
use envoy_types::pb::envoy::config::rbac::v3::permission::Rule;
use envoy_types::pb::envoy::config::rbac::v3::principal::Identifier;
use envoy_types::pb::envoy::config::rbac::v3::rbac::Action;
use envoy_types::pb::envoy::config::route::v3::HeaderMatcher;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as PbHttpRbac;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as PbNetworkRbac;
use envoy_types::pb::envoy::r#type::matcher::v3::{PathMatcher, path_matcher};

use super::reader::Reader;
use super::{core, text};
use crate::types::{
    HeaderKey, HeaderMatch, HeaderTest, HttpRbac, NetworkRbac, Permission, Policy, Principal, Rbac,
    RbacAction, Stamp, StringMatch,
};

pub(super) fn http(reader: &mut Reader, filter: &PbHttpRbac) -> Option<HttpRbac> {
    let rules = optional(reader, "rules", filter.rules.as_ref());
    let shadow = optional(reader, "shadow_rules", filter.shadow_rules.as_ref());
    Some(HttpRbac { rules: rules?, shadow: shadow?, stat_prefix: filter.rules_stat_prefix.as_str().into() })
}

pub(super) fn network(reader: &mut Reader, filter: &PbNetworkRbac) -> Option<NetworkRbac> {
    let rules = optional(reader, "rules", filter.rules.as_ref());
    let shadow = optional(reader, "shadow_rules", filter.shadow_rules.as_ref());
    Some(NetworkRbac { rules: rules?, shadow: shadow?, stat_prefix: filter.stat_prefix.as_str().into() })
}

/// Some(None): there are no rules.
fn optional(reader: &mut Reader, step: &str, rules: Option<&pb::Rbac>) -> Option<Option<Arc<Rbac>>> {
    match rules {
        None => Some(None),
        Some(rules) => reader.at(step, |reader| rbac(reader, rules)).map(|rules| Some(Arc::new(rules))),
    }
}

fn rbac(reader: &mut Reader, rules: &pb::Rbac) -> Option<Rbac> {
    let action = reader.choice("action", rules.action).map(|action| match action {
        Action::Allow => RbacAction::Allow,
        Action::Deny => RbacAction::Deny,
        Action::Log => RbacAction::Log,
    });
    let mut named: Vec<_> = rules.policies.iter().collect();
    named.sort_by_key(|(name, _)| *name);
    let mut policies = Vec::with_capacity(named.len());
    for (name, found) in named {
        let read = reader.at(&format!("policies[{name:?}]"), |reader| policy(reader, name, found));
        policies.extend(read);
    }
    Some(Rbac { action: action?, policies })
}

fn policy(reader: &mut Reader, name: &str, policy: &pb::Policy) -> Option<Policy> {
    let permissions = reader.list("permissions", &policy.permissions, permission);
    let principals = reader.list("principals", &policy.principals, principal);
    for (step, empty) in
        [("permissions", policy.permissions.is_empty()), ("principals", policy.principals.is_empty())]
    {
        if empty {
            reader.problem_at(step, "needs at least one");
        }
    }
    // A policy that lost a part would mean something else: a deny would deny less.
    (permissions.len() == policy.permissions.len() && principals.len() == policy.principals.len())
        .then(|| Policy { name: name.into(), permissions, principals, stamp: stamp(name) })
}

/// Ours are named `KIND/NAMESPACE/NAME`.
fn stamp(name: &str) -> Option<Arc<Stamp>> {
    let mut parts = name.splitn(3, '/');
    let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Arc::new(Stamp {
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.into(),
        ..Stamp::default()
    }))
}

fn permission(reader: &mut Reader, permission_: &pb::Permission) -> Option<Permission> {
    match permission_.rule.as_ref() {
        Some(Rule::Any(true)) => Some(Permission::Any),
        Some(Rule::Any(false)) => {
            reader.problem_at("any", "can only be true");
            None
        }
        Some(Rule::AndRules(set)) => permissions(reader, "and_rules", set).map(Permission::And),
        Some(Rule::OrRules(set)) => permissions(reader, "or_rules", set).map(Permission::Or),
        Some(Rule::NotRule(rule)) => reader
            .at("not_rule", |reader| permission(reader, rule))
            .map(|rule| Permission::Not(Box::new(rule))),
        Some(Rule::Header(test)) => {
            reader.at("header", |reader| header(reader, test)).map(Permission::Header)
        }
        Some(Rule::UrlPath(test)) => url_path(reader, test).map(Permission::UrlPath),
        Some(Rule::DestinationIp(range)) => {
            reader.at("destination_ip", |reader| core::range(reader, range)).map(Permission::DestinationIp)
        }
        Some(Rule::DestinationPort(port)) => {
            reader.port("destination_port", *port).map(Permission::DestinationPort)
        }
        Some(Rule::DestinationPortRange(range)) => {
            match (u32::try_from(range.start), u32::try_from(range.end)) {
                (Ok(start), Ok(end)) if start < end && end <= 65536 => {
                    Some(Permission::DestinationPortRange { start, end })
                }
                _ => {
                    reader.problem_at(
                        "destination_port_range",
                        format!("is no range of ports: {} to {}", range.start, range.end),
                    );
                    None
                }
            }
        }
        Some(Rule::RequestedServerName(test)) => reader
            .at("requested_server_name", |reader| text::string_match(reader, test))
            .map(Permission::RequestedServerName),
        // The table has refused these.
        Some(Rule::Metadata(_) | Rule::Matcher(_) | Rule::UriTemplate(_) | Rule::SourcedMetadata(_)) => None,
        None => {
            reader.problem("is empty");
            None
        }
    }
}

fn permissions(reader: &mut Reader, step: &str, set: &pb::permission::Set) -> Option<Vec<Permission>> {
    reader.at(step, |reader| {
        let rules = reader.list("rules", &set.rules, permission);
        whole(reader, "rules", rules, set.rules.len())
    })
}

fn principal(reader: &mut Reader, principal_: &pb::Principal) -> Option<Principal> {
    match principal_.identifier.as_ref() {
        Some(Identifier::Any(true)) => Some(Principal::Any),
        Some(Identifier::Any(false)) => {
            reader.problem_at("any", "can only be true");
            None
        }
        Some(Identifier::AndIds(set)) => principals(reader, "and_ids", set).map(Principal::And),
        Some(Identifier::OrIds(set)) => principals(reader, "or_ids", set).map(Principal::Or),
        Some(Identifier::NotId(id)) => {
            reader.at("not_id", |reader| principal(reader, id)).map(|id| Principal::Not(Box::new(id)))
        }
        Some(Identifier::Authenticated(who)) => match who.principal_name.as_ref() {
            None => Some(Principal::Authenticated(None)),
            Some(test) => reader
                .at("authenticated.principal_name", |reader| text::string_match(reader, test))
                .map(|test| Principal::Authenticated(Some(test))),
        },
        Some(Identifier::SourceIp(range)) => {
            reader.at("source_ip", |reader| core::range(reader, range)).map(Principal::SourceIp)
        }
        Some(Identifier::DirectRemoteIp(range)) => {
            reader.at("direct_remote_ip", |reader| core::range(reader, range)).map(Principal::DirectRemoteIp)
        }
        Some(Identifier::RemoteIp(range)) => {
            reader.at("remote_ip", |reader| core::range(reader, range)).map(Principal::RemoteIp)
        }
        Some(Identifier::Header(test)) => {
            reader.at("header", |reader| header(reader, test)).map(Principal::Header)
        }
        Some(Identifier::UrlPath(test)) => url_path(reader, test).map(Principal::UrlPath),
        // The table has refused these.
        Some(
            Identifier::Metadata(_)
            | Identifier::FilterState(_)
            | Identifier::SourcedMetadata(_)
            | Identifier::Custom(_),
        ) => None,
        None => {
            reader.problem("is empty");
            None
        }
    }
}

fn principals(reader: &mut Reader, step: &str, set: &pb::principal::Set) -> Option<Vec<Principal>> {
    reader.at(step, |reader| {
        let ids = reader.list("ids", &set.ids, principal);
        whole(reader, "ids", ids, set.ids.len())
    })
}

/// A set that lost a member would mean something else.
fn whole<T>(reader: &mut Reader, step: &str, read: Vec<T>, wanted: usize) -> Option<Vec<T>> {
    if wanted == 0 {
        reader.problem_at(step, "needs at least one");
    }
    (wanted > 0 && read.len() == wanted).then_some(read)
}

/// Hosts are compared without regard to case: the authority is in lower case by then, the policy may not be.
fn header(reader: &mut Reader, test: &HeaderMatcher) -> Option<HeaderMatch> {
    let mut read = text::header_match(reader, test)?;
    if let (HeaderKey::Authority, HeaderTest::Text(test)) = (&read.key, &mut read.test) {
        match test {
            StringMatch::Exact { ignore_case, .. }
            | StringMatch::Prefix { ignore_case, .. }
            | StringMatch::Suffix { ignore_case, .. }
            | StringMatch::Contains { ignore_case, .. } => *ignore_case = true,
            StringMatch::Regex(_) => {}
        }
    }
    Some(read)
}

fn url_path(reader: &mut Reader, path: &PathMatcher) -> Option<StringMatch> {
    reader.at("url_path", |reader| match path.rule.as_ref() {
        Some(path_matcher::Rule::Path(test)) => reader.at("path", |reader| text::string_match(reader, test)),
        None => {
            reader.problem_at("path", "is required");
            None
        }
    })
}

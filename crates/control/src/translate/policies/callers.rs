//! Who calls, as principals of RBAC: identities from the caller's certificate, addresses of the connection.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use ipnet::IpNet;
use rbac::principal::{Authenticated, Identifier, Set};
use weft_model::AccessFrom;

use super::super::names;
use super::super::proto::{cidr, exact, prefix};
use super::{StringMatcher, Unknown};
use crate::snapshot::ServiceId;

/// Where a policy stands, to read its short names.
pub struct Home<'a> {
    pub namespace: &'a str,
    pub trust_domain: &'a str,
}

/// One entry of `from`: who it is, where it comes from, and who not.
pub fn principal(from: &AccessFrom, home: &Home<'_>, unknown: Unknown) -> Option<rbac::Principal> {
    let AccessFrom {
        identities,
        namespaces,
        services,
        trust_domains,
        ip_blocks,
        not_identities,
        not_namespaces,
        not_services,
        not_ip_blocks,
    } = from;
    let mut parts = Vec::new();
    let who: Vec<_> =
        home.names(identities, namespaces, services, trust_domains).map(authenticated).collect();
    if !who.is_empty() {
        let nameless = (unknown == Unknown::Holds).then(|| not(known()));
        parts.push(any_of(who.into_iter().chain(nameless).collect()));
    }
    let not_who: Vec<_> =
        home.names(not_identities, not_namespaces, not_services, &[]).map(authenticated).collect();
    if !not_who.is_empty() {
        if unknown == Unknown::Fails {
            parts.push(known());
        }
        parts.push(not(any_of(not_who)));
    }
    if !ip_blocks.is_empty() {
        parts.push(any_of(networks(ip_blocks)));
    }
    if !not_ip_blocks.is_empty() {
        parts.push(not(any_of(networks(not_ip_blocks))));
    }
    match parts.len() {
        // The door takes no entry that says nothing.
        0 => None,
        1 => parts.pop(),
        _ => Some(of(Identifier::AndIds(Set { ids: parts }))),
    }
}

impl Home<'_> {
    fn names<'a>(
        &'a self,
        identities: &'a [String],
        namespaces: &'a [String],
        services: &'a [String],
        trust_domains: &'a [String],
    ) -> impl Iterator<Item = StringMatcher> + 'a {
        let listed = identities.iter().map(|identity| match identity.strip_suffix('*') {
            Some(start) => prefix(start),
            None => exact(identity.as_str()),
        });
        let lives = namespaces.iter().map(|ns| prefix(format!("spiffe://{}/ns/{ns}/", self.trust_domain)));
        let services = services.iter().map(|text| {
            let service = ServiceId::parse(text, self.namespace);
            exact(names::identity(self.trust_domain, &service.namespace, &service.name))
        });
        let domains = trust_domains.iter().map(|domain| prefix(format!("spiffe://{domain}/")));
        listed.chain(lives).chain(services).chain(domains)
    }
}

#[expect(
    deprecated,
    reason = "the only name for the connection's source; remote_ip believes X-Forwarded-For"
)]
fn networks(blocks: &[String]) -> Vec<rbac::Principal> {
    let one = |block: &String| {
        // The door has read it; what it could not read would be nobody.
        let (address, bits) = match block.parse::<IpNet>() {
            Ok(net) => (net.addr(), net.prefix_len()),
            Err(_) => (IpAddr::from([0; 4]), 32),
        };
        of(Identifier::SourceIp(cidr(address, bits.into())))
    };
    blocks.iter().map(one).collect()
}

/// The identity of exactly one service account.
pub fn account(trust_domain: &str, namespace: &str, name: &str) -> rbac::Principal {
    authenticated(exact(names::identity(trust_domain, namespace, name)))
}

fn authenticated(name: StringMatcher) -> rbac::Principal {
    of(Identifier::Authenticated(Authenticated { principal_name: Some(name) }))
}

/// Whoever has an identity.
fn known() -> rbac::Principal {
    of(Identifier::Authenticated(Authenticated { principal_name: None }))
}

pub fn anybody() -> rbac::Principal {
    of(Identifier::Any(true))
}

pub fn nobody() -> rbac::Principal {
    not(anybody())
}

fn not(one: rbac::Principal) -> rbac::Principal {
    of(Identifier::NotId(Box::new(one)))
}

fn any_of(mut ids: Vec<rbac::Principal>) -> rbac::Principal {
    match ids.len() {
        1 => ids.remove(0),
        _ => of(Identifier::OrIds(Set { ids })),
    }
}

fn of(identifier: Identifier) -> rbac::Principal {
    rbac::Principal { identifier: Some(identifier) }
}

//! May this caller do this? RBAC over what is known of a request or a connection.
//!
//! Where something is not known (an HTTP attribute on a TCP connection) or is more than one (a
//! header sent twice), the answer leans to the safe side: a deny fires if it could, an allow only
//! if it must. `not` turns the lean round with the answer.

use std::net::IpAddr;

use crate::host;
use crate::matcher::HeadView;
use crate::path;
use crate::types::{
    HeaderKey, HeaderMatch, HeaderTest, Permission, Policy, Principal, Rbac, RbacAction, StringMatch,
};

#[cfg(test)]
mod tests;

/// What a policy may look at.
#[derive(Debug, Clone, Copy)]
pub struct PolicyInput<'a> {
    /// None on TCP.
    pub head: Option<&'a HeadView<'a>>,
    /// URI SAN of the caller's checked certificate (its SPIFFE id).
    pub principal: Option<&'a str>,
    /// The caller came over mTLS with a checked certificate.
    pub authenticated: bool,
    /// The connection's other end.
    pub direct_ip: IpAddr,
    /// For whom the connection is, by its PROXY header; else as `direct_ip`.
    pub source_ip: IpAddr,
    /// The client, by X-Forwarded-For where that is believed; else as `source_ip`.
    pub remote_ip: IpAddr,
    pub destination_ip: IpAddr,
    /// Port that the caller asked for (the application's).
    pub destination_port: u16,
    pub server_name: Option<&'a str>,
}

#[derive(Debug, Clone, Copy)]
pub struct Verdict<'a> {
    pub allow: bool,
    /// The policy that decided; None: none fitted.
    pub policy: Option<&'a Policy>,
}

impl Verdict<'_> {
    /// Name for logs and answers.
    pub fn policy_name(&self) -> Option<&str> {
        self.policy.map(|policy| &*policy.name)
    }
}

/// Which way an unknown falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lean {
    Match,
    NoMatch,
}

impl Lean {
    fn turned(self) -> Lean {
        match self {
            Lean::Match => Lean::NoMatch,
            Lean::NoMatch => Lean::Match,
        }
    }
}

/// What refuses where no policy fits.
pub const NO_POLICY: &str = "none";

/// The first policy that fits decides.
pub fn decide<'a>(rbac: &'a Rbac, input: &PolicyInput<'_>) -> Verdict<'a> {
    let policy = fitting(rbac, input).next();
    let allow = match rbac.action {
        RbacAction::Allow => policy.is_some(),
        RbacAction::Deny => policy.is_none(),
        RbacAction::Log => true,
    };
    Verdict { allow, policy }
}

/// The objects whose policies would refuse this, for rules on trial, each once. Of those that deny every one that
/// fits; where none of those that allow fits, the only one there is, or [`NO_POLICY`].
pub fn would_refuse<'a>(rbac: &'a Rbac, input: &PolicyInput<'_>) -> Vec<&'a str> {
    // Rules of one object stand side by side: policies are in the order of their names.
    let objects = |policies: &mut dyn Iterator<Item = &'a Policy>| {
        let mut names: Vec<&str> = policies.map(Policy::object).collect();
        names.dedup();
        names
    };
    match rbac.action {
        RbacAction::Log => Vec::new(),
        RbacAction::Deny => objects(&mut fitting(rbac, input)),
        RbacAction::Allow if decide(rbac, input).allow => Vec::new(),
        RbacAction::Allow => match objects(&mut rbac.policies.iter())[..] {
            [only] => vec![only],
            _ => vec![NO_POLICY],
        },
    }
}

fn fitting<'a>(rbac: &'a Rbac, input: &PolicyInput<'_>) -> impl Iterator<Item = &'a Policy> {
    let lean = match rbac.action {
        RbacAction::Allow => Lean::NoMatch,
        RbacAction::Deny | RbacAction::Log => Lean::Match,
    };
    rbac.policies.iter().filter(move |policy| fits(policy, input, lean))
}

fn fits(policy: &Policy, input: &PolicyInput<'_>, lean: Lean) -> bool {
    policy.permissions.iter().any(|permission| permits(permission, input, lean))
        && policy.principals.iter().any(|principal| is(principal, input, lean))
}

fn permits(permission: &Permission, input: &PolicyInput<'_>, lean: Lean) -> bool {
    match permission {
        Permission::Any => true,
        Permission::And(all) => all.iter().all(|one| permits(one, input, lean)),
        Permission::Or(any) => any.iter().any(|one| permits(one, input, lean)),
        Permission::Not(one) => !permits(one, input, lean.turned()),
        Permission::Header(test) => header(test, input, lean),
        Permission::UrlPath(test) => url_path(test, input, lean),
        Permission::DestinationIp(range) => range.contains(&input.destination_ip.to_canonical()),
        Permission::DestinationPort(port) => *port == input.destination_port,
        Permission::DestinationPortRange { start, end } => {
            (*start..*end).contains(&u32::from(input.destination_port))
        }
        Permission::RequestedServerName(test) => test.matches(input.server_name.unwrap_or_default()),
    }
}

fn is(principal: &Principal, input: &PolicyInput<'_>, lean: Lean) -> bool {
    match principal {
        Principal::Any => true,
        Principal::And(all) => all.iter().all(|one| is(one, input, lean)),
        Principal::Or(any) => any.iter().any(|one| is(one, input, lean)),
        Principal::Not(one) => !is(one, input, lean.turned()),
        Principal::Authenticated(None) => input.authenticated,
        Principal::Authenticated(Some(test)) => {
            input.authenticated && input.principal.is_some_and(|name| test.matches(name))
        }
        Principal::DirectRemoteIp(range) => range.contains(&input.direct_ip.to_canonical()),
        Principal::SourceIp(range) => range.contains(&input.source_ip.to_canonical()),
        Principal::RemoteIp(range) => range.contains(&input.remote_ip.to_canonical()),
        Principal::Header(test) => header(test, input, lean),
        Principal::UrlPath(test) => url_path(test, input, lean),
    }
}

/// A path that holds parameters (`/admin;x`) is two paths: some apps cut them off, some don't. And so is one with
/// escapes (`/jobs%3Arun`), which nearly all apps decode. A test that writes a `;` or a `%` itself means what was sent.
fn url_path(test: &StringMatch, input: &PolicyInput<'_>, lean: Lean) -> bool {
    let Some(head) = input.head else { return lean == Lean::Match };
    let as_sent = test.matches(head.path);
    if !head.path.contains([';', '%']) {
        return as_sent;
    }
    let plain = path::without_parameters(head.path).filter(|_| !test.text().contains(';'));
    let decoded = |path: &str| path::decoded(path).filter(|_| !test.text().contains('%'));
    let readings = [decoded(head.path), plain.as_deref().and_then(decoded), plain];
    let mut others = readings.iter().flatten().map(|path| test.matches(path));
    match lean {
        Lean::Match => as_sent || others.any(|hit| hit),
        Lean::NoMatch => as_sent && others.all(|hit| hit),
    }
}

fn header(test: &HeaderMatch, input: &PolicyInput<'_>, lean: Lean) -> bool {
    let Some(head) = input.head else {
        return lean == Lean::Match;
    };
    let name = match &test.key {
        HeaderKey::Name(name) => name,
        // One host, whichever port the caller writes behind it.
        HeaderKey::Authority => {
            let holds =
                test.test.holds(head.authority) || test.test.holds(host::without_port(head.authority));
            return holds != test.invert;
        }
        _ => return test.matches(head),
    };
    let lines = head.headers.get_all(name);
    if lines.iter().next().is_none() || matches!(test.test, HeaderTest::Present(_)) {
        return test.matches(head);
    }
    // Where a hit is what refuses, one of the values is enough, also one of a list in one line; where it is what
    // lets in, all lines must be hits.
    let hit = if (lean == Lean::Match) == test.invert {
        lines.iter().all(|line| test.test.holds(&String::from_utf8_lossy(line.as_bytes())))
    } else {
        lines.iter().any(|line| {
            let line = String::from_utf8_lossy(line.as_bytes());
            test.test.holds(&line)
                || line.contains(',') && line.split(',').any(|value| test.test.holds(value.trim()))
        })
    };
    hit != test.invert
}

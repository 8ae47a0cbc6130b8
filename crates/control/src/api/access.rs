//! Who may do what: one table of every route, three roles, per namespace.
//!
//! A *viewer* reads, but no Secrets. An *operator* also writes objects that live in namespaces. An
//! *admin* does everything: objects of the whole mesh, join tokens, users. Viewers and operators may be
//! bound to namespaces; then what stands elsewhere is not there for them (404), and no list or question
//! goes beyond theirs. A route that the table does not name is the admin's, so that a forgotten entry
//! opens nothing; a test finds it.

use std::collections::BTreeSet;

use http::Method;
use serde::{Deserialize, Serialize};
use weft_model::Kind;

use super::status::Status;
use super::target::Target;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Viewer,
    Operator,
    Admin,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

/// Somebody who was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// Where; `None` is everywhere.
    pub(crate) namespaces: Option<BTreeSet<String>>,
}

impl Caller {
    pub(crate) fn admin(name: &str) -> Caller {
        Caller { name: name.to_owned(), role: Role::Admin, namespaces: None }
    }

    fn may_enter(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|all| all.contains(namespace))
    }
}

/// What a route asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// To be known: what says only how this API is made.
    Known,
    /// To read everywhere: the answer is about all namespaces.
    ReadAll,
    /// To operate the whole mesh: what is not written anywhere, but not for everybody's eyes.
    OperateAll,
    Admin,
    /// It depends on the kind, the namespace and the verb: [`objects`].
    Objects,
}

/// A route: its pattern, the methods that it reads with, what reading needs and what all else needs.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) read: Need,
    pub(crate) write: Need,
}

const fn route(path: &'static str, read: Need, write: Need) -> Route {
    Route { path, read, write }
}

/// Every route but `/healthz`, `/livez` and `/readyz`, which are everybody's. `*` is one segment, `**` the rest.
pub(crate) const ROUTES: &[Route] = &[
    route("/", Need::Known, Need::Admin),
    route("/version", Need::Known, Need::Admin),
    route("/api", Need::Known, Need::Admin),
    route("/api/*", Need::Known, Need::Admin),
    route("/apis", Need::Known, Need::Admin),
    route("/apis/*", Need::Known, Need::Admin),
    route("/apis/*/*", Need::Known, Need::Admin),
    route("/openapi/v3", Need::Known, Need::Admin),
    route("/openapi/v3/api/*", Need::Known, Need::Admin),
    route("/openapi/v3/apis/*/*", Need::Known, Need::Admin),
    route("/api/*/**", Need::Objects, Need::Objects),
    route("/apis/*/*/**", Need::Objects, Need::Objects),
    route("/query/v1/stat", Need::ReadAll, Need::Admin),
    route("/query/v1/edges", Need::ReadAll, Need::Admin),
    route("/query/v1/status", Need::ReadAll, Need::Admin),
    route("/query/v1/check", Need::ReadAll, Need::Admin),
    route("/query/v1/explain", Need::ReadAll, Need::Admin),
    // What members trust is no secret.
    route("/query/v1/bundle", Need::Known, Need::Admin),
    // Who talks with whom, by address and identity; asking makes the proxies remember for a while.
    route("/query/v1/connections", Need::OperateAll, Need::OperateAll),
    // Who makes a join token makes an identity.
    route("/query/v1/token", Need::Admin, Need::Admin),
    route("/access/v1/users", Need::Admin, Need::Admin),
    route("/access/v1/users/*", Need::Admin, Need::Admin),
    route("/audit/v1/entries", Need::Admin, Need::Admin),
    route("/audit/v1/verify", Need::Admin, Need::Admin),
    // Who is certified is no secret to those who may see the whole mesh; to take it back is.
    route("/identity/v1/certificates", Need::ReadAll, Need::Admin),
    route("/identity/v1/revocations", Need::ReadAll, Need::Admin),
];

/// The entry of a path, given as its segments.
pub(crate) fn entry(segments: &[&str]) -> Option<&'static Route> {
    ROUTES.iter().find(|route| {
        let pattern: Vec<&str> = route.path.trim_matches('/').split('/').collect();
        match pattern.split_last() {
            Some((&"**", first)) => segments.len() > first.len() && same(first, &segments[..first.len()]),
            _ => pattern.len() == segments.len() && same(&pattern, segments),
        }
    })
}

fn same(pattern: &[&str], segments: &[&str]) -> bool {
    pattern.iter().zip(segments).all(|(wanted, found)| *wanted == "*" || wanted == found)
}

/// Refuses what the caller may not do.
pub(crate) fn permit(caller: &Caller, method: &Method, segments: &[&str]) -> Result<(), Status> {
    if caller.role == Role::Admin && caller.namespaces.is_none() {
        return Ok(());
    }
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let need = match entry(segments) {
        Some(route) if reads => route.read,
        Some(route) => route.write,
        None => Need::Admin,
    };
    match need {
        Need::Known => Ok(()),
        Need::ReadAll if caller.namespaces.is_none() => Ok(()),
        Need::ReadAll => Err(refuse(caller, "ask about all namespaces, which this answer would show")),
        Need::OperateAll if caller.role >= Role::Operator && caller.namespaces.is_none() => Ok(()),
        Need::OperateAll => Err(refuse(caller, "do that; it takes the role operator for the whole mesh")),
        Need::Admin => Err(refuse(caller, "do that; it takes the role admin for the whole mesh")),
        Need::Objects => objects(caller, reads, &Target::parse(segments)?),
    }
}

fn objects(caller: &Caller, reads: bool, target: &Target) -> Result<(), Status> {
    let plural = target.info.plural;
    // The namespace itself counts as something within it.
    let namespace = match target.info.kind {
        Kind::Namespace => target.name(),
        _ => &target.namespace,
    };
    let of_a_namespace = target.info.namespaced || target.info.kind == Kind::Namespace;
    if of_a_namespace {
        if namespace.is_empty() && caller.namespaces.is_some() {
            return Err(refuse(caller, &format!("list {plural} of all namespaces; name one with -n")));
        }
        if !namespace.is_empty() && !caller.may_enter(namespace) {
            // Whether it is there is not theirs to know.
            return Err(match &target.name {
                Some(name) => Status::not_found(target.info, name),
                None => refuse(caller, &format!("see {plural} of the namespace {namespace}")),
            });
        }
    }
    match caller.role {
        Role::Viewer if !reads => Err(refuse(caller, &format!("change {plural}"))),
        Role::Viewer if target.info.kind == Kind::Secret => Err(refuse(caller, "read secrets")),
        Role::Operator if !reads && !target.info.namespaced => {
            Err(refuse(caller, &format!("change {plural}, which are the whole mesh's")))
        }
        // An admin of namespaces is an operator there: what is the mesh's takes the whole mesh.
        Role::Admin if !reads && !target.info.namespaced => {
            Err(refuse(caller, &format!("change {plural}, which are the whole mesh's")))
        }
        _ => Ok(()),
    }
}

fn refuse(caller: &Caller, what: &str) -> Status {
    let place = match &caller.namespaces {
        None => String::new(),
        Some(all) => format!(" of {}", all.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
    };
    Status::forbidden(format!(
        "forbidden: user \"{}\" ({}{place}) may not {what}",
        caller.name,
        caller.role.name()
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is its message")]
    use super::*;

    #[test]
    fn a_path_has_the_entry_of_its_shape() {
        let at = |path: &str| {
            entry(&path.trim_matches('/').split('/').collect::<Vec<_>>()).map(|route| route.path)
        };
        assert_eq!(at("/"), Some("/"));
        assert_eq!(at("/apis/weft.dev/v1"), Some("/apis/*/*"));
        assert_eq!(at("/apis/weft.dev/v1/meshes"), Some("/apis/*/*/**"));
        assert_eq!(at("/api/v1/services"), Some("/api/*/**"));
        assert_eq!(at("/query/v1/stat"), Some("/query/v1/stat"));
        assert_eq!(at("/query/v1/stat/more"), None);
        assert_eq!(at("/nothing"), None);
    }

    #[test]
    fn what_no_entry_names_is_the_admins() {
        let viewer = Caller { name: "v".into(), role: Role::Viewer, namespaces: None };
        assert!(permit(&viewer, &Method::GET, &["query", "v1", "brand-new"]).is_err());
        assert!(permit(&Caller::admin("a"), &Method::GET, &["query", "v1", "brand-new"]).is_ok());
    }
}

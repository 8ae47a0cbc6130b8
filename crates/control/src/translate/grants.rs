//! Whether a route may lead to a backend: one of its own namespace always, one elsewhere only with a
//! ReferenceGrant of that namespace.
//!
//! The Service that a route is attached to needs none: its callers call it anyway, and a consumer's route
//! could not lead anywhere sensible without it.

use weft_model::{Body, GATEWAY_GROUP, Kind, ParentRef};

use crate::snapshot::Snapshot;

/// What a route names as a backend.
#[derive(Clone, Copy, Debug)]
pub struct Backend<'a> {
    /// Empty for a Service.
    pub group: &'a str,
    /// `Service` or `ExternalService`; others are nothing that traffic could go to.
    pub kind: &'a str,
    /// The route's own when left out.
    pub namespace: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
    /// Its port.
    pub port: Option<u16>,
}

impl<'a> From<&'a weft_model::BackendRef> for Backend<'a> {
    fn from(backend: &'a weft_model::BackendRef) -> Backend<'a> {
        Backend {
            group: &backend.group,
            kind: &backend.kind,
            namespace: backend.namespace.as_deref(),
            name: &backend.name,
            port: backend.port,
        }
    }
}

impl<'a> From<&'a weft_model::MirrorBackendRef> for Backend<'a> {
    fn from(backend: &'a weft_model::MirrorBackendRef) -> Backend<'a> {
        Backend {
            group: &backend.group,
            kind: &backend.kind,
            namespace: backend.namespace.as_deref(),
            name: &backend.name,
            port: backend.port,
        }
    }
}

/// Whether a route of `kind` in `namespace` with these parents may lead there.
pub fn permits(
    snapshot: &Snapshot,
    (kind, namespace): (&str, &str),
    parents: &[ParentRef],
    to: &Backend<'_>,
) -> bool {
    let there = to.namespace.unwrap_or(namespace);
    if there == namespace {
        return true;
    }
    let is_parent = |parent: &ParentRef| {
        to.kind == "Service"
            && parent.is_service()
            && parent.name == to.name
            && parent.namespace.as_deref().unwrap_or(namespace) == there
    };
    parents.iter().any(is_parent)
        || snapshot.of_kind(Kind::ReferenceGrant).any(|(id, stamped)| match &stamped.object.body {
            Body::ReferenceGrant(grant) => {
                id.namespace == there
                    && grant.permits((GATEWAY_GROUP, kind), namespace, (to.group, to.kind, to.name))
            }
            _ => false,
        })
}

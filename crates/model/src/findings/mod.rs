//! What is wrong *between* objects, each with a stable code.
//!
//! [`findings`] looks at all objects at once and is pure: the same objects give the same findings, in
//! the same order, so that two answers can be compared. `check`, `plan`, `status.conditions` and the
//! console show what it says.

mod access;
mod codes;
mod external;
mod policies;
mod routes;
mod services;

use std::collections::BTreeMap;

use serde::Serialize;

pub use self::codes::{Code, codes};
use crate::object::{Body, Metadata, Object};
use crate::problem::Severity;
use crate::spec::{ExternalService, ReferenceGrant, Secret, Service, Wish};

/// Something wrong between objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// `WFT0001`; never used again for something else.
    pub code: &'static str,
    /// The object to look at first: `HTTPRoute default/be1`.
    pub object: String,
    pub message: String,
    pub hint: String,
}

/// What is wrong between these objects, errors first.
#[must_use]
pub fn findings(objects: &[Object]) -> Vec<Finding> {
    let view = View::new(objects);
    let mut found = Vec::new();
    routes::look(&view, &mut found);
    policies::look(&view, &mut found);
    services::look(&view, &mut found);
    access::look(&view, &mut found);
    external::look(&view, &mut found);
    found.sort();
    found.dedup();
    found
}

impl Finding {
    fn new(code: &'static Code, object: &Object, message: String) -> Finding {
        Finding {
            severity: code.severity,
            code: code.code,
            object: object.label(),
            message,
            hint: code.remedy.to_owned(),
        }
    }

    fn hinting(self, hint: Option<String>) -> Finding {
        match hint {
            Some(hint) => Finding { hint, ..self },
            None => self,
        }
    }
}

/// Namespace and name.
type Name<'a> = (&'a str, &'a str);

/// All objects, with those that others refer to at hand.
struct View<'a> {
    objects: &'a [Object],
    services: BTreeMap<Name<'a>, &'a Service>,
    externals: BTreeMap<Name<'a>, &'a ExternalService>,
    secrets: BTreeMap<Name<'a>, &'a Secret>,
    /// Workloads' labels, by namespace.
    workloads: BTreeMap<&'a str, Vec<&'a Metadata>>,
    /// Grants, by the namespace that gave them.
    grants: BTreeMap<&'a str, Vec<&'a ReferenceGrant>>,
    /// What happens where no AccessPolicy speaks; unknown without a Mesh, which every running mesh has: then
    /// these are files, and policies may stand elsewhere.
    otherwise: Option<Wish>,
    /// The mesh's own, for names that leave it out.
    trust_domain: &'a str,
}

impl<'a> View<'a> {
    fn new(objects: &'a [Object]) -> View<'a> {
        let mut view = View {
            objects,
            services: BTreeMap::new(),
            externals: BTreeMap::new(),
            secrets: BTreeMap::new(),
            workloads: BTreeMap::new(),
            grants: BTreeMap::new(),
            otherwise: None,
            trust_domain: crate::names::TRUST_DOMAIN,
        };
        for object in objects {
            let name = (object.meta.namespace.as_str(), object.meta.name.as_str());
            match &object.body {
                Body::Service(service) => drop(view.services.insert(name, service)),
                Body::ExternalService(external) => drop(view.externals.insert(name, external)),
                Body::Secret(secret) => drop(view.secrets.insert(name, secret)),
                Body::Workload(_) => view.workloads.entry(name.0).or_default().push(&object.meta),
                Body::ReferenceGrant(grant) => view.grants.entry(name.0).or_default().push(grant),
                Body::Mesh(mesh) => {
                    view.otherwise = Some(mesh.authorization.default);
                    view.trust_domain = &mesh.trust_domain;
                }
                _ => {}
            }
        }
        view
    }

    /// Services of a namespace that an instance says it is of.
    fn members(&self, namespace: &str) -> impl Iterator<Item = &'a str> {
        let workloads = self.workloads.get(namespace).into_iter().flatten();
        workloads.filter_map(|meta| meta.labels.get(crate::names::APP_LABEL).map(String::as_str))
    }

    /// "did you mean": a service of this name elsewhere, or one of the namespace whose name is near.
    fn similar_service(&self, namespace: &str, name: &str) -> Option<String> {
        if let Some((other, _)) = self.services.keys().find(|(_, candidate)| *candidate == name) {
            return Some(format!("there is one in namespace {other}: namespace: {other}"));
        }
        let near = self.services.keys().filter(|(other, _)| *other == namespace).map(|(_, name)| *name);
        crate::parse::nearest(name, near).map(|near| format!("did you mean {near:?}?"))
    }
}

#[cfg(test)]
mod tests;

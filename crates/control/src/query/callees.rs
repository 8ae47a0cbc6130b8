//! Whose requests a question about a Service means.
//!
//! The record knows who took a request (the identity's service and its version) and, of a request that never
//! arrived, which Service its caller wanted. A user knows Services, which choose workloads by labels. So a question
//! about a Service means the requests that the workloads of its selector took, whatever name the caller used, and
//! those that callers could not bring to it or to a Service that chooses some of the same workloads.

use std::collections::{BTreeMap, BTreeSet};

use weft_history::{Callee, Counted};
use weft_model::names::{APP_LABEL, VERSION_LABEL};
use weft_model::{Body, Kind};

use crate::snapshot::{Instance, ServiceId, Snapshot};

/// What a question is about.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// For the history; empty means all.
    pub callees: Vec<Callee>,
    /// Services (`NS/NAME`) whose proxies count these requests.
    pub counted_by: BTreeSet<String>,
    /// Why the answer may hold more than what was asked for.
    pub note: Option<String>,
}

impl Asked {
    /// All services.
    pub fn all() -> Asked {
        Asked { callees: Vec::new(), counted_by: BTreeSet::new(), note: None }
    }

    fn named(service: &ServiceId) -> Asked {
        let name = service.to_string();
        Asked { callees: vec![Callee::named(&name)], counted_by: [name].into(), note: None }
    }
}

/// What a name means: a Service by its selector, else what the record calls so (an identity's service, an external
/// one).
pub fn resolve(now: &Snapshot, service: &ServiceId) -> Asked {
    let Some(selector) = selector(now, service).filter(|selector| !selector.is_empty()) else {
        return Asked::named(service);
    };
    let app = selector.get(APP_LABEL).map(|app| ServiceId::new(service.namespace.as_str(), app.as_str()));
    let version = selector.get(VERSION_LABEL);
    let by_record = selector.keys().all(|label| label == APP_LABEL || label == VERSION_LABEL);
    let (took, note) = match app {
        Some(app) if by_record => (BTreeSet::from([(app.to_string(), version.cloned())]), None),
        _ => by_instances(now, service),
    };
    if took.is_empty() {
        return Asked::named(service);
    }
    let counted_by = took.iter().map(|(service, _)| service.clone()).collect();
    let mut callees: Vec<Callee> = took
        .into_iter()
        .map(|(service, version)| Callee { service, version, counted: Counted::ByCallee })
        .collect();
    let part = |other: &ServiceId| {
        self::selector(now, other)
            .is_some_and(|others| selector.iter().all(|(label, value)| others.get(label) == Some(value)))
    };
    let parts = now.services.keys().filter(|other| other.namespace == service.namespace && part(other));
    callees.extend(parts.map(|part| Callee {
        service: part.to_string(),
        version: None,
        counted: Counted::ByCaller,
    }));
    Asked { callees, counted_by, note }
}

fn selector<'a>(now: &'a Snapshot, service: &ServiceId) -> Option<&'a BTreeMap<String, String>> {
    match &now.object(Kind::Service, &service.namespace, &service.name)?.object.body {
        Body::Service(spec) => Some(&spec.selector),
        _ => None,
    }
}

/// Labels that the record does not keep: what it keeps of the workloads that have them now.
fn by_instances(now: &Snapshot, service: &ServiceId) -> (BTreeSet<(String, Option<String>)>, Option<String>) {
    let Some(view) = now.services.get(service) else { return (BTreeSet::new(), None) };
    let key = |instance: &Instance| {
        (format!("{}/{}", instance.namespace, instance.service), Some(instance.version().to_owned()))
    };
    let took: BTreeSet<_> = view.instances.iter().map(|instance| key(instance)).collect();
    let selected: BTreeSet<_> = view.instances.iter().map(|instance| &instance.name).collect();
    let more = now.instances.values().any(|instance| {
        took.contains(&key(instance))
            && !(instance.namespace == service.namespace && selected.contains(&instance.name))
    });
    let why = if more { "other workloads of the same service and version are counted too" } else { "" };
    let note = format!(
        "{service} selects by labels that the record does not keep (it keeps `app` and `version`): this counts the services and versions of the workloads that it selects now{}{why}",
        if more { "; " } else { "" },
    );
    (took, (!view.instances.is_empty()).then_some(note))
}

/// The service of the members that a Service selects, when no member is called as the Service is: the place in a
/// picture of who calls whom where requests to it belong.
pub fn members_of(now: &Snapshot, name: &str) -> Option<String> {
    let (namespace, name) = name.split_once('/')?;
    let view = now.services.get(&ServiceId::new(namespace, name))?;
    let app = view.app.as_ref().filter(|app| *app != name)?;
    let is_one =
        now.instances.values().any(|instance| instance.namespace == namespace && instance.service == name);
    (!is_one).then(|| format!("{namespace}/{app}"))
}

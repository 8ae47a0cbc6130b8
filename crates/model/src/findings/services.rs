//! Findings on services: whether anybody answers, whether the mesh carries it, and whether what TLS needs is there.

use super::codes::{WFT0007, WFT0011, WFT0019};
use super::{Finding, View};
use crate::names;
use crate::object::{Body, Object};
use crate::spec::{ExternalService, Service, ServiceType};

pub fn look(view: &View<'_>, found: &mut Vec<Finding>) {
    for object in view.objects {
        match &object.body {
            Body::Service(service) => {
                selects_somebody(view, object, service, found);
                is_carried(object, service, found);
            }
            Body::ExternalService(external) => secrets(view, object, external, found),
            _ => {}
        }
    }
}

fn selects_somebody(view: &View<'_>, object: &Object, service: &Service, found: &mut Vec<Finding>) {
    // Without a selector its endpoints come from elsewhere, as in Kubernetes.
    if service.service_type == ServiceType::ExternalName || service.selector.is_empty() {
        return;
    }
    let workloads = view.workloads.get(object.meta.namespace.as_str()).map(Vec::as_slice).unwrap_or_default();
    if !workloads.iter().any(|workload| names::selects(&service.selector, &workload.labels)) {
        let pairs: Vec<String> =
            service.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let message =
            format!("no Workload of namespace {} carries {}", object.meta.namespace, pairs.join(", "));
        found.push(Finding::new(WFT0007, object, message));
    }
}

fn is_carried(object: &Object, service: &Service, found: &mut Vec<Finding>) {
    for port in &service.ports {
        if let Some(protocol) = port.protocol.as_deref().filter(|protocol| *protocol != "TCP") {
            let message = format!(
                "port {} is {protocol}, which nothing would encrypt between members: it goes past the mesh",
                port.port
            );
            found.push(Finding::new(WFT0019, object, message));
        }
    }
}

fn secrets(view: &View<'_>, object: &Object, external: &ExternalService, found: &mut Vec<Finding>) {
    let Some(tls) = &external.tls else { return };
    let needed: [(_, &[&str]); 2] =
        [(&tls.ca_secret_ref, &["ca.crt"]), (&tls.client_secret_ref, &["tls.crt", "tls.key"])];
    for (reference, entries) in needed {
        let Some(reference) = reference else { continue };
        let namespace = object.meta.namespace.as_str();
        match view.secrets.get(&(namespace, reference.name.as_str())) {
            None => found.push(Finding::new(
                WFT0011,
                object,
                format!("Secret {namespace}/{} is not there", reference.name),
            )),
            Some(secret) => {
                for entry in entries.iter().filter(|entry| secret.entry(entry).is_none()) {
                    let message = format!("Secret {namespace}/{} has no entry {entry}", reference.name);
                    found.push(Finding::new(WFT0011, object, message));
                }
            }
        }
    }
}

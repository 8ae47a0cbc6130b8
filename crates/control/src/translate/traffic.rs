//! TrafficPolicy, looked up: which one holds for a service's port or a route's rule.

use weft_model::{Body, Kind, TrafficPolicy};

use crate::snapshot::{ServiceId, Snapshot};

/// The policy for a service (or one port of it by name); the one that names the port wins, then the
/// first by name.
pub fn for_service<'a>(
    snapshot: &'a Snapshot,
    kind: &str,
    service: &ServiceId,
    port: Option<&str>,
) -> Option<&'a TrafficPolicy> {
    find(snapshot, &service.namespace, kind, &service.name, port)
}

/// The policy for a route (or one rule of it by name).
pub fn for_route<'a>(
    snapshot: &'a Snapshot,
    kind: &str,
    namespace: &str,
    name: &str,
    rule: Option<&str>,
) -> Option<&'a TrafficPolicy> {
    find(snapshot, namespace, kind, name, rule)
}

fn find<'a>(
    snapshot: &'a Snapshot,
    namespace: &str,
    kind: &str,
    name: &str,
    section: Option<&str>,
) -> Option<&'a TrafficPolicy> {
    let mut whole = None;
    for (id, stamped) in snapshot.of_kind(Kind::TrafficPolicy) {
        let Body::TrafficPolicy(policy) = &stamped.object.body else { continue };
        if id.namespace != namespace {
            continue;
        }
        for target in policy.target_refs.iter().filter(|t| t.kind == kind && t.name == name) {
            match (&target.section_name, section) {
                (Some(wanted), Some(section)) if wanted == section => return Some(policy),
                (Some(_), _) => {}
                (None, _) => whole = whole.or(Some(policy)),
            }
        }
    }
    whole
}

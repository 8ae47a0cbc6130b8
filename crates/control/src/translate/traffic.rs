//! TrafficPolicy, looked up and merged: what holds for a service's port or a route's rule.
//!
//! Field by field the nearer one wins: the policy on a rule over that on its route, this one over that on
//! the port of the Service, and last the one on the whole Service. Of two that have one target the older
//! counts, then the first by name, as the finding WFT0006 says.

use weft_model::{Body, CircuitBreaking, Kind, Retry, Timeouts, TrafficPolicy};

use crate::snapshot::{ServiceId, Snapshot};

/// The policy for a service (or one port of it by name).
pub fn for_service(
    snapshot: &Snapshot,
    kind: &str,
    service: &ServiceId,
    port: Option<&str>,
) -> Option<TrafficPolicy> {
    merged(found(snapshot, &service.namespace, kind, &service.name, port).into_iter().flatten())
}

/// The policy for a rule (by its name, if it has one) of a route that leads calls of a service's port.
pub fn for_route(
    snapshot: &Snapshot,
    (kind, namespace, name): (&str, &str, &str),
    rule: Option<&str>,
    service: &ServiceId,
    port: Option<&str>,
) -> Option<TrafficPolicy> {
    let of_route = found(snapshot, namespace, kind, name, rule);
    let of_service = found(snapshot, &service.namespace, "Service", &service.name, port);
    merged(of_route.into_iter().chain(of_service).flatten())
}

/// The policy that names the section, and the one for the whole.
fn found<'a>(
    snapshot: &'a Snapshot,
    namespace: &str,
    kind: &str,
    name: &str,
    section: Option<&str>,
) -> [Option<&'a TrafficPolicy>; 2] {
    let mut of_section = Vec::new();
    let mut whole = Vec::new();
    for (id, stamped) in snapshot.of_kind(Kind::TrafficPolicy) {
        let Body::TrafficPolicy(policy) = &stamped.object.body else { continue };
        if id.namespace != namespace {
            continue;
        }
        let age = stamped.object.meta.creation_timestamp.as_deref().unwrap_or("~");
        for target in policy.target_refs.iter().filter(|t| t.kind == kind && t.name == name) {
            match &target.section_name {
                None => whole.push((age, &id.name, policy)),
                Some(wanted) if Some(wanted.as_str()) == section => {
                    of_section.push((age, &id.name, policy));
                }
                Some(_) => {}
            }
        }
    }
    [of_section, whole]
        .map(|all| all.into_iter().min_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1))).map(|(_, _, policy)| policy))
}

/// All of them as one, the first given wins.
fn merged<'a>(policies: impl Iterator<Item = &'a TrafficPolicy>) -> Option<TrafficPolicy> {
    policies.fold(None, |nearer, policy| {
        let Some(nearer) = nearer else { return Some(policy.clone()) };
        Some(TrafficPolicy {
            target_refs: nearer.target_refs,
            load_balancing: nearer.load_balancing.or_else(|| policy.load_balancing.clone()),
            timeouts: both(nearer.timeouts, policy.timeouts.as_ref(), |near, far| Timeouts {
                request: near.request.or(far.request),
                idle: near.idle.or(far.idle),
                connect: near.connect.or(far.connect),
                per_try: near.per_try.or(far.per_try),
            }),
            retry: both(nearer.retry, policy.retry.as_ref(), |near, far| Retry {
                attempts: near.attempts.or(far.attempts),
                on: if near.on.is_empty() { far.on.clone() } else { near.on },
                per_try_timeout: near.per_try_timeout.or(far.per_try_timeout),
                backoff: near.backoff.or_else(|| far.backoff.clone()),
            }),
            circuit_breaking: both(nearer.circuit_breaking, policy.circuit_breaking.as_ref(), |near, far| {
                CircuitBreaking {
                    max_connections: near.max_connections.or(far.max_connections),
                    max_pending_requests: near.max_pending_requests.or(far.max_pending_requests),
                    max_requests: near.max_requests.or(far.max_requests),
                    max_retries: near.max_retries.or(far.max_retries),
                }
            }),
            health_check: nearer.health_check.or_else(|| policy.health_check.clone()),
            outlier_detection: nearer.outlier_detection.or_else(|| policy.outlier_detection.clone()),
            proxy_protocol: nearer.proxy_protocol.or(policy.proxy_protocol),
            accept_proxy_protocol: nearer
                .accept_proxy_protocol
                .or_else(|| policy.accept_proxy_protocol.clone()),
        })
    })
}

fn both<T: Clone>(near: Option<T>, far: Option<&T>, merge: impl FnOnce(T, &T) -> T) -> Option<T> {
    match (near, far) {
        (Some(near), Some(far)) => Some(merge(near, far)),
        (near, far) => near.or_else(|| far.cloned()),
    }
}

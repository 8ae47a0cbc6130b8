//! Load assignments.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::config::endpoint::v3 as pb;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;

use super::reader::Reader;
use super::{core, text};
use crate::types::{Address, Endpoint, Endpoints, Health, Locality};

/// Endpoints of one cluster.
const ENDPOINTS_MAX: usize = 100_000;
/// Envoy's own limit.
const PRIORITY_MAX: u32 = 128;

/// May an address be a name?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Refused,
    Resolved,
}

pub(super) fn endpoints(
    reader: &mut Reader,
    assignment: &pb::ClusterLoadAssignment,
    names: Names,
) -> Option<Endpoints> {
    let name = reader.required_text("cluster_name", &assignment.cluster_name);
    let count: usize = assignment.endpoints.iter().map(|locality| locality.lb_endpoints.len()).sum();
    if count > ENDPOINTS_MAX {
        reader.problem_at("endpoints", format!("has {count} endpoints; at most {ENDPOINTS_MAX} are taken"));
        return None;
    }
    let mut by_priority: BTreeMap<u32, Vec<Arc<Endpoint>>> = BTreeMap::new();
    reader.list("endpoints", &assignment.endpoints, |reader, group| {
        let members = locality(reader, group, names);
        // A priority without members still counts: the next one takes over from it.
        by_priority.entry(group.priority).or_default().extend(members);
        Some(())
    });
    let mut all = Vec::with_capacity(count);
    let mut priorities = Vec::new();
    for members in by_priority.into_values() {
        let start = all.len();
        all.extend(members);
        priorities.push(start..all.len());
    }
    let mut drops = Vec::new();
    if let Some(policy) = assignment.policy.as_ref() {
        reader.at("policy", |reader| {
            drops = reader.list("drop_overloads", &policy.drop_overloads, |reader, drop| {
                let category = reader.required_text("category", &drop.category);
                let share = text::fraction(reader, "drop_percentage", drop.drop_percentage.as_ref());
                Some((category?, share?))
            });
        });
    }
    Some(Endpoints { name: name?, all, priorities, drops })
}

fn locality(reader: &mut Reader, group: &pb::LocalityLbEndpoints, names: Names) -> Vec<Arc<Endpoint>> {
    if group.priority > PRIORITY_MAX {
        reader.problem_at("priority", format!("is more than {PRIORITY_MAX}: {}", group.priority));
    }
    let locality = group.locality.as_ref().map(|locality| {
        Arc::new(Locality { region: locality.region.as_str().into(), zone: locality.zone.as_str().into() })
    });
    reader.list("lb_endpoints", &group.lb_endpoints, |reader, member| {
        let found = match member.host_identifier.as_ref() {
            Some(HostIdentifier::Endpoint(found)) => found,
            // The table has refused it.
            Some(HostIdentifier::EndpointName(_)) => return None,
            None => {
                reader.problem_at("endpoint", "is required");
                return None;
            }
        };
        let weight = member.load_balancing_weight.as_ref().map_or(1, |weight| weight.value);
        if weight == 0 {
            reader.problem_at("load_balancing_weight", "must be at least 1");
        }
        let health = reader.choice("health_status", member.health_status).map(|status| match status {
            HealthStatus::Unknown => Health::Unknown,
            HealthStatus::Healthy => Health::Healthy,
            HealthStatus::Unhealthy | HealthStatus::Timeout => Health::Unhealthy,
            HealthStatus::Draining => Health::Draining,
            HealthStatus::Degraded => Health::Degraded,
        });
        reader.at("endpoint", |reader| {
            let address = reader.required("address", found.address.as_ref())?;
            let address = reader.at("address", |reader| {
                let address = core::address(reader, address)?;
                match (&address, names) {
                    (Address::Name { host, .. }, Names::Refused) => {
                        reader.problem(format!("is no IP address: {host:?}"));
                    }
                    (Address::Pipe(_), _) => {
                        reader.problem("is a Unix socket; endpoints have IP addresses here");
                    }
                    _ => {}
                }
                Some(address)
            });
            let health_check_port = match found.health_check_config.as_ref() {
                Some(config) if config.port_value != 0 => {
                    reader.at("health_check_config", |reader| reader.port("port_value", config.port_value))
                }
                _ => None,
            };
            Some(Arc::new(Endpoint {
                address: address?,
                hostname: (!found.hostname.is_empty()).then(|| found.hostname.as_str().into()),
                weight,
                health: health?,
                priority: group.priority,
                locality: locality.clone(),
                health_check_port,
                labels: core::labels(member.metadata.as_ref()),
            }))
        })
    })
}

//! All objects as the store has them, and the pictures made of them.
//!
//! The World is owned by one task. It takes batches of the store's watch, parses each changed value
//! once, and makes a [`Snapshot`] when asked. A value that no longer parses (written by a newer
//! version, say) keeps its last good reading and becomes a finding; it does not vanish from traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::Ipv4Net;
use serde_json::Value;
use weft_model::names::{VIP_ANNOTATION, VIP_CIDR, selects};
use weft_model::{Body, Finding, Kind, Mesh, Object, Protocol, Severity};
use weft_store::{Batch, Key, Revision, Stored};

use crate::snapshot::{Instance, ObjectId, Port, ServiceId, ServiceView, Snapshot, Stamped, Target};

#[derive(Debug)]
struct Entry {
    id: ObjectId,
    revision: Revision,
    /// The value as stored, for writing back.
    value: Value,
    /// Its reading; the last good one when the newest value has problems.
    stamped: Option<Arc<Stamped>>,
    problem: Option<Finding>,
}

/// Everything known of the store.
#[derive(Debug)]
pub struct World {
    trust_domain: String,
    zone: String,
    revision: Option<Revision>,
    entries: BTreeMap<Key, Entry>,
    /// Addresses once given, for objects that lost their annotation.
    vips: BTreeMap<Key, Ipv4Addr>,
}

impl World {
    /// An empty one.
    pub fn new(trust_domain: &str, zone: &str) -> World {
        World {
            trust_domain: trust_domain.to_owned(),
            zone: zone.to_owned(),
            revision: None,
            entries: BTreeMap::new(),
            vips: BTreeMap::new(),
        }
    }

    /// The revision up to which it knows everything.
    pub fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// Takes a batch; whether a snapshot would differ.
    pub fn apply(&mut self, batch: Batch) -> bool {
        self.revision = Some(batch.revision());
        let mut changed = false;
        match batch {
            Batch::Reset { objects, .. } => {
                let kept: BTreeSet<Key> = objects.iter().map(|stored| stored.key.clone()).collect();
                self.entries.retain(|key, _| kept.contains(key));
                for stored in objects {
                    self.put(stored);
                }
                // The first picture, even of nothing, is news.
                changed = true;
            }
            Batch::Changes { changes, .. } => {
                for change in changes {
                    changed |= match change.after {
                        Some(stored) => self.put(stored),
                        None => self.entries.remove(&change.key).is_some(),
                    };
                }
            }
        }
        changed
    }

    fn put(&mut self, stored: Stored) -> bool {
        let Some(kind) = Kind::find(&stored.key.group, &stored.key.kind) else { return false };
        let id = ObjectId { kind, namespace: stored.key.namespace.clone(), name: stored.key.name.clone() };
        let before = self.entries.remove(&stored.key);
        if before.as_ref().is_some_and(|entry| entry.revision == stored.modified) {
            // A Reset repeats what we have.
            self.entries.extend(before.map(|entry| (stored.key, entry)));
            return false;
        }
        let (value, object, problem) = read(&stored);
        let stamped = match object {
            Some(object) => Some(Arc::new(Stamped { object, revision: stored.modified })),
            None => before.and_then(|entry| entry.stamped),
        };
        let problem = problem.map(|message| Finding {
            code: "WFT0900",
            severity: Severity::Error,
            object: format!("{kind} {}/{}", id.namespace, id.name),
            message,
            hint: "the last good reading stays in force; write the object again".to_owned(),
        });
        if let Some(vip) = stamped.as_deref().and_then(vip_of) {
            self.vips.insert(stored.key.clone(), vip);
        }
        self.entries.insert(stored.key, Entry { id, revision: stored.modified, value, stamped, problem });
        true
    }

    /// Where virtual addresses come from.
    pub fn vip_range(&self) -> Ipv4Net {
        let range = self.mesh().vip.cidr.parse().or_else(|_| VIP_CIDR.parse());
        range.unwrap_or_default()
    }

    /// The addresses that objects have.
    pub fn vips_taken(&self) -> BTreeSet<Ipv4Addr> {
        self.entries.values().filter_map(|entry| vip_of(entry.stamped.as_deref()?)).collect()
    }

    /// The objects that need an address and have none, in order, with their JSON.
    pub fn without_vip(&self) -> Vec<(Key, Revision, Value)> {
        let needs = self.entries.iter().filter(|(_, entry)| {
            entry
                .stamped
                .as_deref()
                .is_some_and(|stamped| wants_vip(&stamped.object) && vip_of(stamped).is_none())
        });
        needs.map(|(key, entry)| (key.clone(), entry.revision, entry.value.clone())).collect()
    }

    /// The address that this object had before.
    pub fn vip_remembered(&self, key: &Key) -> Option<Ipv4Addr> {
        self.vips.get(key).copied()
    }

    /// Remembers it for as long as this process lives.
    pub fn remember_vip(&mut self, key: &Key, vip: Ipv4Addr) {
        self.vips.insert(key.clone(), vip);
    }

    fn mesh(&self) -> Mesh {
        let mesh =
            self.entries.values().find(|entry| entry.id.kind == Kind::Mesh && entry.id.name == "default");
        match mesh.and_then(|entry| entry.stamped.as_deref()).map(|stamped| &stamped.object.body) {
            Some(Body::Mesh(mesh)) => mesh.clone(),
            _ => Mesh::default(),
        }
    }

    /// The picture of now.
    pub fn snapshot(&self) -> Snapshot {
        let mut objects = BTreeMap::new();
        let mut findings = Vec::new();
        let mut instances = BTreeMap::new();
        for entry in self.entries.values() {
            findings.extend(entry.problem.clone());
            let Some(stamped) = &entry.stamped else { continue };
            objects.insert(entry.id.clone(), stamped.clone());
            if let Some(instance) = instance(&stamped.object, &self.trust_domain) {
                let id = ServiceId::new(instance.namespace.as_str(), instance.name.as_str());
                instances.insert(id, Arc::new(instance));
            }
        }
        let plain: Vec<Object> = objects.values().map(|stamped| stamped.object.clone()).collect();
        findings.extend(weft_model::findings(&plain));
        let mut services = BTreeMap::new();
        let mut external_vips = BTreeMap::new();
        for (key, entry) in &self.entries {
            let Some(stamped) = &entry.stamped else { continue };
            let id = ServiceId::new(entry.id.namespace.as_str(), entry.id.name.as_str());
            let vip = vip_of(stamped)
                .or_else(|| if wants_vip(&stamped.object) { self.vip_remembered(key) } else { None });
            match &stamped.object.body {
                Body::Service(service) => {
                    let view = service_view(id.clone(), service, vip, stamped.revision, &instances);
                    services.insert(id, Arc::new(view));
                }
                Body::ExternalService(_) => external_vips.extend(vip.map(|vip| (id, vip))),
                _ => {}
            }
        }
        Snapshot {
            revision: self.revision.unwrap_or(0),
            trust_domain: self.trust_domain.clone(),
            zone: self.zone.clone(),
            mesh: self.mesh(),
            objects,
            services,
            instances,
            external_vips,
            findings,
        }
    }
}

fn read(stored: &Stored) -> (Value, Option<Object>, Option<String>) {
    let value: Value = match serde_json::from_slice(&stored.value) {
        Ok(value) => value,
        Err(error) => return (Value::Null, None, Some(format!("the stored value is no JSON: {error}"))),
    };
    let (object, problems) = weft_model::parse_value(&value);
    let problem = problems.iter().find(|problem| problem.is_error()).map(ToString::to_string);
    match object {
        Some(object) => (value, Some(object), problem),
        None => (value, None, problem.or_else(|| Some("the stored value is no object".to_owned()))),
    }
}

/// The address that an object has by itself or by our annotation.
fn vip_of(stamped: &Stamped) -> Option<Ipv4Addr> {
    let own = match &stamped.object.body {
        Body::Service(service) => service.cluster_ip.as_deref().and_then(|ip| ip.parse().ok()),
        Body::ExternalService(_) => None,
        _ => return None,
    };
    own.or_else(|| stamped.object.meta.annotations.get(VIP_ANNOTATION)?.parse().ok())
}

/// A Service without a virtual address of its own, unless it says `None`.
fn wants_vip(object: &Object) -> bool {
    match &object.body {
        Body::Service(service) => service.cluster_ip.as_deref().is_none_or(str::is_empty),
        Body::ExternalService(_) => true,
        _ => false,
    }
}

fn instance(object: &Object, trust_domain: &str) -> Option<Instance> {
    let Body::Workload(workload) = &object.body else { return None };
    let address: IpAddr = workload.address.parse().ok()?;
    let mut labels = object.meta.labels.clone();
    labels.entry(weft_model::names::APP_LABEL.to_owned()).or_insert_with(|| workload.service.clone());
    let locality = workload.locality.clone().unwrap_or_default();
    let identity = workload.identity.clone().or_else(|| {
        workload.inbound_port?;
        Some(weft_model::names::service_identity(trust_domain, &object.meta.namespace, &workload.service))
    });
    Some(Instance {
        namespace: object.meta.namespace.clone(),
        name: object.meta.name.clone(),
        service: workload.service.clone(),
        address,
        inbound_port: workload.inbound_port,
        identity,
        labels,
        ports: workload.ports.iter().map(|port| (port.name.clone(), port.port)).collect(),
        locality: (locality.region, locality.zone, locality.subzone),
        health: workload.health,
        proxy: workload.proxy.as_ref().map(|proxy| proxy.kind).unwrap_or_default(),
    })
}

fn service_view(
    id: ServiceId,
    service: &weft_model::Service,
    vip: Option<Ipv4Addr>,
    revision: Revision,
    instances: &BTreeMap<ServiceId, Arc<Instance>>,
) -> ServiceView {
    let ports = service.ports.iter().filter(|port| port.protocol.as_deref().is_none_or(|p| p == "TCP"));
    let ports = ports.map(|port| Port {
        name: port.name.clone(),
        port: port.port,
        target: match (port.target_number(), &port.target_port) {
            (None, Some(name)) => Target::Name(name.to_string()),
            (number, _) => Target::Number(number.unwrap_or(port.port)),
        },
        protocol: Protocol::of(port),
    });
    let members = instances.values().filter(|instance| {
        instance.namespace == id.namespace && selects(&service.selector, &instance.labels)
    });
    ServiceView {
        ports: ports.collect(),
        instances: members.cloned().collect(),
        app: service.selector.get(weft_model::names::APP_LABEL).cloned(),
        id,
        vip,
        revision,
    }
}

#[cfg(test)]
mod tests;

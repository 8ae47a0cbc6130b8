//! An immutable picture of all wishes at one revision.
//!
//! World makes it, everybody reads it. Look-ups that more than one reader needs (which workloads
//! serve a service, what a port speaks, where a service's virtual address is) are made once, here,
//! so that `translate` and DNS are plain reads.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use weft_model::{Finding, Health, Kind, Mesh, Object, Protocol, ProxyKind};
use weft_store::Revision;

/// Kind, namespace ("" for cluster scope) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// The kind.
    pub kind: Kind,
    /// The namespace, empty for cluster scope.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// A service of the mesh, or an external one: `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ServiceId {
    /// From its two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> ServiceId {
        ServiceId { namespace: namespace.into(), name: name.into() }
    }

    /// `NAME`, or `NS/NAME`; a bare name is in `namespace`.
    pub fn parse(text: &str, namespace: &str) -> ServiceId {
        match text.split_once('/') {
            Some((ns, name)) => ServiceId::new(ns, name),
            None => ServiceId::new(namespace, text),
        }
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An object with the revision that last changed it.
#[derive(Clone, Debug)]
pub struct Stamped {
    /// The object.
    pub object: Object,
    /// The store's revision of its last change.
    pub revision: Revision,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The port that callers name.
    pub port: u16,
    /// The port that the app listens on; a named target is resolved per workload.
    pub target: Target,
    /// What it speaks.
    pub protocol: Protocol,
}

/// Where a service port ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A number.
    Number(u16),
    /// A port of the workload by its name.
    Name(String),
}

/// One running instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Its Workload's namespace.
    pub namespace: String,
    /// Its Workload's name.
    pub name: String,
    /// The service whose identity it has (label `app`).
    pub service: String,
    /// Where its proxy listens.
    pub address: IpAddr,
    /// The proxy's inbound port; `None` when no proxy stands before it.
    pub inbound_port: Option<u16>,
    /// Its SPIFFE id.
    pub identity: Option<String>,
    /// Its labels; `version` among them.
    pub labels: BTreeMap<String, String>,
    /// The ports of its app: name and number.
    pub ports: Vec<(Option<String>, u16)>,
    /// Region, zone and sub-zone.
    pub locality: (String, String, String),
    /// Whether it serves.
    pub health: Health,
    /// The kind of its proxy.
    pub proxy: ProxyKind,
}

impl Instance {
    /// The number of the app's port that a target names, on this instance.
    pub fn port(&self, target: &Target) -> Option<u16> {
        match target {
            Target::Number(number) => Some(*number),
            Target::Name(name) => {
                self.ports.iter().find(|(n, _)| n.as_deref() == Some(name)).map(|(_, p)| *p)
            }
        }
    }

    /// Whether a balancer may choose it.
    pub fn serves(&self) -> bool {
        matches!(self.health, Health::Healthy | Health::Unknown)
    }

    /// The `version` label, or nothing.
    pub fn version(&self) -> &str {
        self.labels.get("version").map_or("", String::as_str)
    }
}

/// A Service with all that readers ask about it.
#[derive(Clone, Debug)]
pub struct ServiceView {
    /// Who it is.
    pub id: ServiceId,
    /// Its virtual address.
    pub vip: Option<Ipv4Addr>,
    /// Its ports, in the object's order.
    pub ports: Vec<Port>,
    /// The instances that its selector selects, by name.
    pub instances: Vec<Arc<Instance>>,
    /// The service whose members it selects, when its selector says so by the label `app`.
    pub app: Option<String>,
    /// The revision of the Service object.
    pub revision: Revision,
}

impl ServiceView {
    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|p| p.port == number)
    }

    /// The HTTP port that the bare names mean: 80, or the only one.
    pub fn default_http_port(&self) -> Option<&Port> {
        let mut http = self.ports.iter().filter(|p| p.protocol.is_http());
        if let Some(port) = self.ports.iter().find(|p| p.port == 80 && p.protocol.is_http()) {
            return Some(port);
        }
        match (http.next(), http.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }
}

/// A picture of the store.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The store's revision that it shows.
    pub revision: Revision,
    /// The trust domain.
    pub trust_domain: String,
    /// The zone of names.
    pub zone: String,
    /// What holds for the whole mesh.
    pub mesh: Mesh,
    /// All objects that parse.
    pub objects: BTreeMap<ObjectId, Arc<Stamped>>,
    /// The services of the mesh.
    pub services: BTreeMap<ServiceId, Arc<ServiceView>>,
    /// Every workload, by namespace and name.
    pub instances: BTreeMap<ServiceId, Arc<Instance>>,
    /// The virtual addresses of external services.
    pub external_vips: BTreeMap<ServiceId, Ipv4Addr>,
    /// What `weft check` says about these objects.
    pub findings: Vec<Finding>,
}

impl Snapshot {
    /// The object with this id.
    pub fn object(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Arc<Stamped>> {
        self.objects.get(&ObjectId { kind, namespace: namespace.into(), name: name.into() })
    }

    /// All objects of a kind, in order of namespace and name.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&ObjectId, &Arc<Stamped>)> {
        self.objects.iter().filter(move |(id, _)| id.kind == kind)
    }
}

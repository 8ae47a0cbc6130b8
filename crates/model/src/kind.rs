//! The table of kinds: what the mesh knows, how it is called on the command line and in the API,
//! and which columns a list of it shows.
//!
//! One row a kind, in [`INFO`]; discovery, the command line, `kubectl get` tables and the reference
//! pages all read this table, so a new kind is a new row here, a variant of [`crate::Body`] and a
//! spec type.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// Group of the mesh's own kinds.
pub const WEFT_GROUP: &str = "weft.dev";
/// Group of Gateway API's kinds.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// Group of the Service Mesh Interface's access control.
pub const SMI_ACCESS_GROUP: &str = "access.smi-spec.io";
/// Group of the routes that the Service Mesh Interface's other kinds name.
pub const SMI_SPECS_GROUP: &str = "specs.smi-spec.io";

/// A kind of object that the mesh reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Service,
    Namespace,
    Secret,
    HTTPRoute,
    GRPCRoute,
    TCPRoute,
    ReferenceGrant,
    Mesh,
    Workload,
    ExternalService,
    TrafficPolicy,
    AccessPolicy,
    TrafficTarget,
    HTTPRouteGroup,
    /// Of the Service Mesh Interface; the bare name is Gateway API's.
    SmiTCPRoute,
    /// Of the Service Mesh Interface.
    SmiUDPRoute,
}

/// A column of a list, besides the name (first) and the age (last), which every kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Heading, as `kubectl` prints it.
    pub name: &'static str,
    /// Dotted path into the object's JSON. A list on the way gives all its values, joined by commas.
    pub json_path: &'static str,
    /// `string`, `integer` or `date`.
    pub kind: &'static str,
    /// Shown with `-o wide` only.
    pub wide: bool,
    /// One sentence for the table's column definitions.
    pub description: &'static str,
}

impl Column {
    /// This column's cell for an object's JSON; empty when the object says nothing there.
    #[must_use]
    pub fn read(&self, object: &Value) -> String {
        let mut values = vec![object];
        for segment in self.json_path.split('.') {
            values = values
                .into_iter()
                .filter_map(|value| value.get(segment))
                .flat_map(|value| match value {
                    Value::Array(items) => items.iter().collect(),
                    other => vec![other],
                })
                .collect();
        }
        let cells: Vec<String> = values
            .into_iter()
            .filter_map(|value| match value {
                Value::Null | Value::Array(_) | Value::Object(_) => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            })
            .collect();
        cells.join(",")
    }
}

/// A kind's names and places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindInfo {
    pub kind: Kind,
    /// `""` is the core group.
    pub group: &'static str,
    pub version: &'static str,
    /// As written in `kind:`.
    pub name: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub namespaced: bool,
    /// Ours (`weft.dev`): an unknown field is an error. In others' kinds it is a warning, because
    /// their newer versions may say things that this binary has not heard of.
    pub ours: bool,
    /// Older versions with the same shape, read as this one.
    pub older_versions: &'static [&'static str],
    pub columns: &'static [Column],
}

impl KindInfo {
    /// `v1`, `gateway.networking.k8s.io/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

const fn column(name: &'static str, json_path: &'static str, description: &'static str) -> Column {
    Column { name, json_path, kind: "string", wide: false, description }
}

const fn wide(name: &'static str, json_path: &'static str, description: &'static str) -> Column {
    Column { name, json_path, kind: "string", wide: true, description }
}

const HOSTNAMES: Column = column("Hostnames", "spec.hostnames", "Host names that the route answers for.");
const PARENTS: Column = column("Parents", "spec.parentRefs.name", "What the route is attached to.");
const BACKENDS: Column =
    wide("Backends", "spec.rules.backendRefs.name", "Services that the rules forward to.");
const SMI_PORTS: Column = column("Ports", "spec.matches.ports", "Ports of the application.");
const TARGETS: Column = column("Targets", "spec.targetRefs.name", "What the policy applies to.");

const fn row(
    kind: Kind,
    group: &'static str,
    version: &'static str,
    name: &'static str,
    plural: &'static str,
    singular: &'static str,
) -> KindInfo {
    KindInfo {
        kind,
        group,
        version,
        name,
        plural,
        singular,
        short_names: &[],
        namespaced: true,
        ours: false,
        older_versions: &[],
        columns: &[],
    }
}

const fn ours(kind: Kind, name: &'static str, plural: &'static str, singular: &'static str) -> KindInfo {
    KindInfo { ours: true, ..row(kind, WEFT_GROUP, "v1", name, plural, singular) }
}

/// The table, in the order of [`Kind`].
static INFO: [KindInfo; 16] = [
    KindInfo {
        short_names: &["svc"],
        columns: &[
            column("Type", "spec.type", "How the service is exposed."),
            column("Cluster-IP", "spec.clusterIP", "Virtual address of the service."),
            column("Ports", "spec.ports.port", "Ports that callers use."),
            wide("Target-Ports", "spec.ports.targetPort", "Ports of the workloads behind it."),
        ],
        ..row(Kind::Service, "", "v1", "Service", "services", "service")
    },
    KindInfo {
        short_names: &["ns"],
        namespaced: false,
        columns: &[column("Status", "status.phase", "Active or terminating.")],
        ..row(Kind::Namespace, "", "v1", "Namespace", "namespaces", "namespace")
    },
    KindInfo {
        columns: &[column("Type", "type", "What the secret is for.")],
        ..row(Kind::Secret, "", "v1", "Secret", "secrets", "secret")
    },
    KindInfo {
        columns: &[HOSTNAMES, PARENTS, BACKENDS],
        older_versions: &["v1beta1"],
        ..row(Kind::HTTPRoute, GATEWAY_GROUP, "v1", "HTTPRoute", "httproutes", "httproute")
    },
    KindInfo {
        columns: &[HOSTNAMES, PARENTS, BACKENDS],
        older_versions: &["v1alpha2"],
        ..row(Kind::GRPCRoute, GATEWAY_GROUP, "v1", "GRPCRoute", "grpcroutes", "grpcroute")
    },
    KindInfo {
        columns: &[PARENTS, BACKENDS],
        ..row(Kind::TCPRoute, GATEWAY_GROUP, "v1alpha2", "TCPRoute", "tcproutes", "tcproute")
    },
    KindInfo {
        short_names: &["refgrant"],
        columns: &[
            column("From", "spec.from.namespace", "Namespaces that may refer to objects here."),
            column("To", "spec.to.kind", "Kinds that they may refer to."),
        ],
        older_versions: &["v1alpha2"],
        ..row(
            Kind::ReferenceGrant,
            GATEWAY_GROUP,
            "v1beta1",
            "ReferenceGrant",
            "referencegrants",
            "referencegrant",
        )
    },
    KindInfo {
        namespaced: false,
        columns: &[
            column("Trust-Domain", "spec.trustDomain", "Trust domain of every identity."),
            column("mTLS", "spec.mtls.mode", "Whether members must speak mutual TLS."),
            column("Authorization", "spec.authorization.default", "What happens where no policy speaks."),
            wide("Egress", "spec.egress.default", "What happens to calls that leave the mesh."),
        ],
        ..ours(Kind::Mesh, "Mesh", "meshes", "mesh")
    },
    KindInfo {
        short_names: &["wl"],
        columns: &[
            column("Service", "spec.service", "Service that the instance belongs to."),
            column("Address", "spec.address", "Address of the instance."),
            column("Health", "spec.health", "Whether it may get traffic."),
            wide("Proxy", "spec.proxy.kind", "What proxy stands in front of it."),
            wide("Identity", "spec.identity", "SPIFFE id of the instance."),
        ],
        ..ours(Kind::Workload, "Workload", "workloads", "workload")
    },
    KindInfo {
        short_names: &["es"],
        columns: &[
            column("Hosts", "spec.hosts", "Host names outside the mesh."),
            column("Ports", "spec.ports.port", "Ports that callers use."),
            column("TLS", "spec.tls.mode", "Who starts TLS."),
            wide("Resolution", "spec.resolution", "How addresses are found."),
        ],
        ..ours(Kind::ExternalService, "ExternalService", "externalservices", "externalservice")
    },
    KindInfo {
        short_names: &["tp"],
        columns: &[
            TARGETS,
            column("Load-Balancing", "spec.loadBalancing.policy", "How an endpoint is picked."),
        ],
        ..ours(Kind::TrafficPolicy, "TrafficPolicy", "trafficpolicies", "trafficpolicy")
    },
    KindInfo {
        short_names: &["ap"],
        columns: &[
            column("Action", "spec.action", "What happens to a request that matches."),
            TARGETS,
            wide("Mode", "spec.mode", "Whether the policy decides, or is only on trial."),
        ],
        ..ours(Kind::AccessPolicy, "AccessPolicy", "accesspolicies", "accesspolicy")
    },
    KindInfo {
        short_names: &["tt"],
        columns: &[
            column("Destination", "spec.destination.name", "Service account that is called."),
            column("Sources", "spec.sources.name", "Service accounts that may call."),
            wide("Rules", "spec.rules.name", "Routes that say with which requests."),
        ],
        older_versions: &["v1alpha2"],
        ..row(
            Kind::TrafficTarget,
            SMI_ACCESS_GROUP,
            "v1alpha3",
            "TrafficTarget",
            "traffictargets",
            "traffictarget",
        )
    },
    KindInfo {
        short_names: &["htr"],
        columns: &[column("Matches", "spec.matches.name", "Requests that TrafficTargets can name.")],
        older_versions: &["v1alpha3"],
        ..row(
            Kind::HTTPRouteGroup,
            SMI_SPECS_GROUP,
            "v1alpha4",
            "HTTPRouteGroup",
            "httproutegroups",
            "httproutegroup",
        )
    },
    KindInfo {
        columns: &[SMI_PORTS],
        // The oldest say nothing but their name.
        older_versions: &["v1alpha3", "v1alpha2", "v1alpha1"],
        ..row(Kind::SmiTCPRoute, SMI_SPECS_GROUP, "v1alpha4", "TCPRoute", "tcproutes", "tcproute")
    },
    KindInfo {
        columns: &[SMI_PORTS],
        ..row(Kind::SmiUDPRoute, SMI_SPECS_GROUP, "v1alpha4", "UDPRoute", "udproutes", "udproute")
    },
];

const ALL: [Kind; 16] = [
    Kind::Service,
    Kind::Namespace,
    Kind::Secret,
    Kind::HTTPRoute,
    Kind::GRPCRoute,
    Kind::TCPRoute,
    Kind::ReferenceGrant,
    Kind::Mesh,
    Kind::Workload,
    Kind::ExternalService,
    Kind::TrafficPolicy,
    Kind::AccessPolicy,
    Kind::TrafficTarget,
    Kind::HTTPRouteGroup,
    Kind::SmiTCPRoute,
    Kind::SmiUDPRoute,
];

impl Kind {
    #[must_use]
    pub fn info(self) -> &'static KindInfo {
        &INFO[self as usize]
    }

    #[must_use]
    pub fn all() -> &'static [Kind] {
        &ALL
    }

    /// By group and plural (as in an API path) or kind name.
    #[must_use]
    pub fn find(group: &str, plural_or_name: &str) -> Option<Kind> {
        Kind::matching(|info| {
            info.group == group && (info.plural == plural_or_name || info.name == plural_or_name)
        })
    }

    /// A word of the command line: plural, singular, short name or kind name in any case, optionally
    /// with the group behind a dot (`httproutes.gateway.networking.k8s.io`). A bare name that two groups have is
    /// Gateway API's.
    #[must_use]
    pub fn resolve(word: &str) -> Option<Kind> {
        let word = word.to_ascii_lowercase();
        let (name, group) =
            word.split_once('.').map_or((word.as_str(), None), |(name, group)| (name, Some(group)));
        Kind::matching(|info| {
            let named = info.plural == name || info.singular == name || info.short_names.contains(&name);
            named
                && group.is_none_or(|group| {
                    info.group == group || format!("{}.{}", info.version, info.group) == group
                })
        })
    }

    /// By the two lines on top of an object. Older versions with the same shape count.
    #[must_use]
    pub fn from_api(api_version: &str, kind: &str) -> Option<Kind> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        Kind::matching(|info| {
            info.name == kind
                && info.group == group
                && (info.version == version || info.older_versions.contains(&version))
        })
    }

    fn matching(test: impl Fn(&KindInfo) -> bool) -> Option<Kind> {
        INFO.iter().find(|info| test(info)).map(|info| info.kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.info().name)
    }
}

/// `text` is not the name of a kind.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no kind is called {0:?}")]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Kind, UnknownKind> {
        Kind::matching(|info| info.name == text).ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

#[cfg(test)]
mod tests;

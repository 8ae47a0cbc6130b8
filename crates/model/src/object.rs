//! An object: what it is, what it is called, what it says.
//!
//! [`Object`] is the reader's view: typed, checked, without what the mesh does not read (`status`,
//! fields that only other programs know). Who changes a stored object changes its JSON and parses
//! again, so that nothing of others' is lost; [`Object::to_value`] is for objects that we make.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::spec::{
    AccessPolicy, ExternalService, GrpcRoute, HttpRoute, HttpRouteGroup, Mesh, ReferenceGrant, Secret,
    Service, SmiPorts, TcpRoute, TrafficPolicy, TrafficTarget, Workload,
};

/// Namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Who the object is, and notes on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Name of the object, unique for its kind in its namespace: lower-case letters, digits and `-`, at most 63 (routes and policies also `.`, at most 253).
    pub name: String,
    /// Namespace of the object; `default` when left out. Empty for kinds that stand above namespaces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Words to select the object by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Notes of programs, not for selection.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Revision of the store at the object's last change, set by the server. A write that carries it fails when the object has changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Counts the changes of `spec`, set by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Unique for ever, set by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// When the object was made, RFC 3339, set by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// When deletion was asked for, RFC 3339, set by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// Seconds between the wish to delete and the deletion, set by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_grace_period_seconds: Option<i64>,
    /// Prefix of a name that the server completes. Not used here: write `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate_name: Option<String>,
    /// What has to happen before the object may go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// Objects that this one goes with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
    /// Who set which field, kept for tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub managed_fields: Vec<BTreeMap<String, Value>>,
    /// Path of the object; long out of use, accepted and ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_link: Option<String>,
}

/// An object that another one goes with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    /// Group and version of the owner.
    pub api_version: String,
    /// Kind of the owner.
    pub kind: String,
    /// Name of the owner.
    pub name: String,
    /// Unique id of the owner.
    pub uid: String,
    /// Whether the owner manages this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Whether the owner stays until this object is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

impl Metadata {
    /// Just a name and a namespace (`""` for a kind above namespaces).
    #[must_use]
    pub fn named(namespace: &str, name: &str) -> Metadata {
        Metadata { name: name.to_owned(), namespace: namespace.to_owned(), ..Metadata::default() }
    }

    /// `NS/NAME`, or `NAME` above namespaces.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }
}

/// What an object says: its `spec` (a `Secret`'s own fields).
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Service(Service),
    Namespace,
    Secret(Secret),
    HttpRoute(HttpRoute),
    GrpcRoute(GrpcRoute),
    TcpRoute(TcpRoute),
    ReferenceGrant(ReferenceGrant),
    Mesh(Mesh),
    Workload(Workload),
    ExternalService(ExternalService),
    TrafficPolicy(TrafficPolicy),
    AccessPolicy(AccessPolicy),
    TrafficTarget(TrafficTarget),
    HttpRouteGroup(HttpRouteGroup),
    SmiTcpRoute(SmiPorts),
    SmiUdpRoute(SmiPorts),
}

impl Body {
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Body::Service(_) => Kind::Service,
            Body::Namespace => Kind::Namespace,
            Body::Secret(_) => Kind::Secret,
            Body::HttpRoute(_) => Kind::HTTPRoute,
            Body::GrpcRoute(_) => Kind::GRPCRoute,
            Body::TcpRoute(_) => Kind::TCPRoute,
            Body::ReferenceGrant(_) => Kind::ReferenceGrant,
            Body::Mesh(_) => Kind::Mesh,
            Body::Workload(_) => Kind::Workload,
            Body::ExternalService(_) => Kind::ExternalService,
            Body::TrafficPolicy(_) => Kind::TrafficPolicy,
            Body::AccessPolicy(_) => Kind::AccessPolicy,
            Body::TrafficTarget(_) => Kind::TrafficTarget,
            Body::HttpRouteGroup(_) => Kind::HTTPRouteGroup,
            Body::SmiTcpRoute(_) => Kind::SmiTCPRoute,
            Body::SmiUdpRoute(_) => Kind::SmiUDPRoute,
        }
    }

    /// Reads a checked value. Fails only on what the checks before it should have caught.
    pub(crate) fn read(kind: Kind, value: &Value) -> Result<Body, serde_json::Error> {
        let empty = json!({});
        let spec = value.get("spec").unwrap_or(&empty);
        Ok(match kind {
            Kind::Service => Body::Service(Service::deserialize(spec)?),
            Kind::Namespace => Body::Namespace,
            Kind::Secret => Body::Secret(Secret::deserialize(value)?),
            Kind::HTTPRoute => Body::HttpRoute(HttpRoute::deserialize(spec)?),
            Kind::GRPCRoute => Body::GrpcRoute(GrpcRoute::deserialize(spec)?),
            Kind::TCPRoute => Body::TcpRoute(TcpRoute::deserialize(spec)?),
            Kind::ReferenceGrant => Body::ReferenceGrant(ReferenceGrant::deserialize(spec)?),
            Kind::Mesh => Body::Mesh(Mesh::deserialize(spec)?),
            Kind::Workload => Body::Workload(Workload::deserialize(spec)?),
            Kind::ExternalService => Body::ExternalService(ExternalService::deserialize(spec)?),
            Kind::TrafficPolicy => Body::TrafficPolicy(TrafficPolicy::deserialize(spec)?),
            Kind::AccessPolicy => Body::AccessPolicy(AccessPolicy::deserialize(spec)?),
            Kind::TrafficTarget => Body::TrafficTarget(TrafficTarget::deserialize(spec)?),
            Kind::HTTPRouteGroup => Body::HttpRouteGroup(HttpRouteGroup::deserialize(spec)?),
            Kind::SmiTCPRoute => Body::SmiTcpRoute(SmiPorts::deserialize(spec)?),
            Kind::SmiUDPRoute => Body::SmiUdpRoute(SmiPorts::deserialize(spec)?),
        })
    }

    fn to_value(&self) -> Value {
        let written = match self {
            Body::Service(spec) => serde_json::to_value(spec),
            Body::Namespace => Ok(json!({})),
            Body::Secret(secret) => serde_json::to_value(secret),
            Body::HttpRoute(spec) => serde_json::to_value(spec),
            Body::GrpcRoute(spec) => serde_json::to_value(spec),
            Body::TcpRoute(spec) => serde_json::to_value(spec),
            Body::ReferenceGrant(spec) => serde_json::to_value(spec),
            Body::Mesh(spec) => serde_json::to_value(spec),
            Body::Workload(spec) => serde_json::to_value(spec),
            Body::ExternalService(spec) => serde_json::to_value(spec),
            Body::TrafficPolicy(spec) => serde_json::to_value(spec),
            Body::AccessPolicy(spec) => serde_json::to_value(spec),
            Body::TrafficTarget(spec) => serde_json::to_value(spec),
            Body::HttpRouteGroup(spec) => serde_json::to_value(spec),
            Body::SmiTcpRoute(spec) | Body::SmiUdpRoute(spec) => serde_json::to_value(spec),
        };
        // Plain data with text keys: serialising to a value has no way to fail.
        debug_assert!(written.is_ok(), "a spec did not serialise: {written:?}");
        written.unwrap_or_else(|_| json!({}))
    }
}

/// One object of the mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub kind: Kind,
    pub meta: Metadata,
    pub body: Body,
}

impl Object {
    #[must_use]
    pub fn new(meta: Metadata, body: Body) -> Object {
        Object { kind: body.kind(), meta, body }
    }

    /// `HTTPRoute default/be1`, the name used in problems and findings.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}", self.kind, self.meta.full_name())
    }

    /// The object's JSON, as the API takes it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let info = self.kind.info();
        let metadata = serde_json::to_value(&self.meta).unwrap_or_default();
        let body = self.body.to_value();
        let mut value = json!({"apiVersion": info.api_version(), "kind": info.name, "metadata": metadata});
        match (self.kind, body) {
            (Kind::Secret, Value::Object(fields)) => {
                for (name, field) in fields {
                    value[name] = field;
                }
            }
            (_, body) => value["spec"] = body,
        }
        value
    }
}

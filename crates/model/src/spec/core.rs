//! Core kinds of Kubernetes: `Service` and `Secret` (a `Namespace` says nothing that the mesh reads).
//!
//! Every common field is known here, so that a real cluster's YAML passes without a warning; what the
//! mesh acts on is `selector`, `ports`, `clusterIP` and a secret's `data`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A named set of workloads that answer on the same ports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// How the service is exposed. The mesh treats all but ExternalName alike.
    #[serde(rename = "type", default)]
    pub service_type: ServiceType,
    /// Labels that a Workload must carry to belong to the service. Empty: the service selects nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    /// Ports that callers use, and where they lead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
    /// Virtual address of the service; given from the mesh's range when left out. `None`: no virtual address.
    #[serde(rename = "clusterIP", default, skip_serializing_if = "Option::is_none")]
    pub cluster_ip: Option<String>,
    /// All virtual addresses, the first being `clusterIP`.
    #[serde(rename = "clusterIPs", default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<String>,
    /// Addresses outside the cluster that also lead here. Kept, without effect in the mesh.
    #[serde(rename = "externalIPs", default, skip_serializing_if = "Vec::is_empty")]
    pub external_ips: Vec<String>,
    /// For type ExternalName: the host that stands behind the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "hostname"))]
    pub external_name: Option<String>,
    /// `None` or `ClientIP`. Kept, without effect in the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<String>,
    /// Settings of session affinity. Kept, without effect in the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity_config: Option<BTreeMap<String, Value>>,
    /// Wished address of a load balancer. Kept, without effect in the mesh.
    #[serde(rename = "loadBalancerIP", default, skip_serializing_if = "Option::is_none")]
    pub load_balancer_ip: Option<String>,
    /// Client ranges that a load balancer lets in. Kept, without effect in the mesh.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub load_balancer_source_ranges: Vec<String>,
    /// Which load balancer implementation to use. Kept, without effect in the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer_class: Option<String>,
    /// Whether a load balancer needs node ports. Kept, without effect in the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocate_load_balancer_node_ports: Option<bool>,
    /// `Cluster` or `Local`. Kept, without effect in the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<String>,
    /// `Cluster` or `Local`. Kept, without effect in the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_traffic_policy: Option<String>,
    /// Port of a load balancer's health check. Kept, without effect in the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_node_port: Option<u16>,
    /// Whether endpoints that are not ready are published too. Kept, without effect in the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_not_ready_addresses: Option<bool>,
    /// IP families of the service. Kept, without effect in the mesh.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_families: Vec<String>,
    /// How many IP families the service asks for. Kept, without effect in the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<String>,
    /// Which endpoints are preferred. Kept, without effect in the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_distribution: Option<String>,
}

/// How a service is exposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Inside only, at a virtual address.
    #[default]
    ClusterIP,
    /// Also at a port of each node.
    NodePort,
    /// Also behind a load balancer.
    LoadBalancer,
    /// An alias of a host name elsewhere.
    ExternalName,
}

/// One port of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Name of the port; needed when there is more than one. A prefix such as `http-`, `grpc-` or `tcp-` tells the protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "dns-label"))]
    pub name: Option<String>,
    /// Port that callers use, 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`. The mesh carries TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["TCP", "UDP", "SCTP"]))]
    pub protocol: Option<String>,
    /// Port of the workload, by number or by the name that the Workload gives it; the same as `port` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<IntOrString>,
    /// Port on each node, for NodePort and LoadBalancer. Kept, without effect in the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub node_port: Option<u16>,
    /// Protocol spoken on the port: `http`, `http2`, `kubernetes.io/h2c`, `grpc`, `grpc-web`, `https`, `tls` or `tcp`. Left out: told by the port's name, else by number (80 and 8080 are http), else tcp. The four of HTTP/2 (`http2`, `kubernetes.io/h2c`, `grpc`, `grpc-web`) mean the same: the application's proxy speaks HTTP/2 to it, and hands it calls that come in gRPC-Web as gRPC. An application that speaks gRPC-Web itself over HTTP/1.1 keeps it with `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

impl ServicePort {
    /// The workload's port when it is given by number; `None` when it is given by name.
    #[must_use]
    pub fn target_number(&self) -> Option<u16> {
        match &self.target_port {
            None => Some(self.port),
            Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
            Some(IntOrString::String(_)) => None,
        }
    }
}

/// A number, or a name that stands for one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    Int(i32),
    String(String),
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IntOrString::Int(number) => number.fmt(f),
            IntOrString::String(text) => text.fmt(f),
        }
    }
}

impl JsonSchema for IntOrString {
    fn schema_name() -> Cow<'static, str> {
        "IntOrString".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true, "format": "port-number-or-name"})
    }
}

/// Data that not everybody may read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// What the secret is for: `Opaque`, `kubernetes.io/tls`, …
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub secret_type: Option<String>,
    /// Entries, each in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("format" = "byte"))]
    pub data: BTreeMap<String, String>,
    /// Entries in plain text; they win over `data`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub string_data: BTreeMap<String, String>,
    /// Whether the secret may never change again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
}

impl Secret {
    /// The bytes of an entry; plain text wins over base64.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<Vec<u8>> {
        match self.string_data.get(name) {
            Some(text) => Some(text.clone().into_bytes()),
            None => crate::text::base64(self.data.get(name)?),
        }
    }
}

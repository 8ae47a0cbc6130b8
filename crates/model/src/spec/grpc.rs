//! Gateway API's `GRPCRoute`: like an HTTPRoute, but matched by service and method.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filter::HttpFilter;
use super::gateway::{BackendRef, HeaderMatch, ParentRef};

/// Where gRPC calls go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRoute {
    /// What the route is attached to. A Service: calls to that service inside the mesh.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentRef>,
    /// Host names that the route answers for; `*.` as the first label matches any. Without effect on a Service parent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "hostname-or-wildcard"))]
    pub hostnames: Vec<String>,
    /// Rules, tried by how specific their matches are, then in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<GrpcRule>,
}

/// One rule: what matches, what is done to it, where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRule {
    /// Name of the rule, for people and for policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Any of these matches; every call when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<GrpcMatch>,
    /// What is done to the call and its answer: header changes, a mirror or an extension.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<HttpFilter>,
    /// Where calls go, in proportion to the weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
}

/// What a call must look like: everything said here must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcMatch {
    /// Service and method; every one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<GrpcMethodMatch>,
    /// Headers (metadata) that must all be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
}

/// A match on service and method. At least one of the two is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcMethodMatch {
    /// How both are compared.
    #[serde(rename = "type", default)]
    pub match_type: GrpcMethodMatchType,
    /// Full name of the service, such as `shop.v1.Cart`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Name of the method, such as `Add`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// How service and method are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum GrpcMethodMatchType {
    /// The same, letter by letter.
    #[default]
    Exact,
    /// The whole name matches the regular expression (RE2 syntax).
    RegularExpression,
}

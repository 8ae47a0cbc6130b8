//! Gateway API's routes (`HTTPRoute`, `TCPRoute`) and the pieces they share; filters are next door.
//!
//! A route whose parent is a Service is a mesh route (GAMMA). Fields that the mesh does not carry out
//! are left out here on purpose: the parser then warns about them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filter::HttpFilter;
use crate::period::Period;

/// Where HTTP requests go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRoute {
    /// What the route is attached to. A Service: calls to that service inside the mesh.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentRef>,
    /// Host names that the route answers for; `*.` as the first label matches any. Without effect on a Service parent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "hostname-or-wildcard"))]
    pub hostnames: Vec<String>,
    /// Rules, tried by how specific their matches are, then in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<HttpRule>,
}

/// What a route is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Group of the parent; for a Service the empty group.
    #[serde(default = "gateway_group")]
    pub group: String,
    /// Kind of the parent: `Service` for a mesh route.
    #[serde(default = "gateway_kind")]
    pub kind: String,
    /// Namespace of the parent; the route's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "dns-label"))]
    pub namespace: Option<String>,
    /// Name of the parent.
    #[schemars(extend("format" = "dns-subdomain"))]
    pub name: String,
    /// Port of the Service that the route is for; every HTTP port when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Name of the parent's port (of a Gateway: its listener).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

fn gateway_group() -> String {
    crate::kind::GATEWAY_GROUP.to_owned()
}

fn gateway_kind() -> String {
    "Gateway".to_owned()
}

impl ParentRef {
    #[must_use]
    pub fn is_service(&self) -> bool {
        self.kind == "Service" && (self.group.is_empty() || self.group == "core")
    }
}

/// One rule: what matches, what is done to it, where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRule {
    /// Name of the rule, for people and for policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Any of these matches; every request when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpMatch>,
    /// What is done to the request and its response.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<HttpFilter>,
    /// Where requests go, in proportion to the weights. None and no redirect: answered with 500.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
    /// How long things may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<HttpTimeouts>,
    /// When a failed request is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<HttpRetry>,
}

/// What a request must look like: everything said here must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpMatch {
    /// The path; every path when left out.
    #[serde(default)]
    pub path: HttpPathMatch,
    /// Headers that must all be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// Query parameters that must all be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query_params: Vec<QueryParamMatch>,
    /// The method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<HttpMethod>,
}

/// A match on the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpPathMatch {
    /// How `value` is compared.
    #[serde(rename = "type", default)]
    pub match_type: PathMatchType,
    /// The path to compare with. Starts with `/` unless it is a regular expression.
    #[serde(default = "root_path")]
    pub value: String,
}

impl Default for HttpPathMatch {
    fn default() -> HttpPathMatch {
        HttpPathMatch { match_type: PathMatchType::PathPrefix, value: root_path() }
    }
}

fn root_path() -> String {
    "/".to_owned()
}

/// How paths are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// The same, letter by letter.
    Exact,
    /// The same path elements, and perhaps more after them: /a matches /a and /a/b, not /ab.
    #[default]
    PathPrefix,
    /// The whole path matches the regular expression (RE2 syntax).
    RegularExpression,
}

/// A match on one header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// How `value` is compared.
    #[serde(rename = "type", default)]
    pub match_type: ValueMatchType,
    /// Name of the header, in any case.
    #[schemars(extend("format" = "header-name"))]
    pub name: String,
    /// Value to compare with.
    pub value: String,
}

/// A match on one query parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueryParamMatch {
    /// How `value` is compared.
    #[serde(rename = "type", default)]
    pub match_type: ValueMatchType,
    /// Name of the parameter.
    pub name: String,
    /// Value to compare with.
    pub value: String,
}

/// How values are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ValueMatchType {
    /// The same, letter by letter.
    #[default]
    Exact,
    /// The whole value matches the regular expression (RE2 syntax).
    RegularExpression,
}

/// An HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum HttpMethod {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

impl HttpMethod {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            HttpMethod::Get => "GET",
            HttpMethod::Head => "HEAD",
            HttpMethod::Post => "POST",
            HttpMethod::Put => "PUT",
            HttpMethod::Delete => "DELETE",
            HttpMethod::Connect => "CONNECT",
            HttpMethod::Options => "OPTIONS",
            HttpMethod::Trace => "TRACE",
            HttpMethod::Patch => "PATCH",
        }
    }
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendRef {
    /// Group of the backend: empty for a Service, `weft.dev` for an ExternalService.
    #[serde(default)]
    pub group: String,
    /// Kind of the backend: `Service` or `ExternalService`.
    #[serde(default = "service_kind")]
    pub kind: String,
    /// Name of the backend.
    #[schemars(extend("format" = "dns-subdomain"))]
    pub name: String,
    /// Namespace of the backend; the route's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "dns-label"))]
    pub namespace: Option<String>,
    /// Port of the backend; needed for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Share of the requests, in proportion to the other weights of the rule. 0: none.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: u32,
    /// What is done to requests that go to this backend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<HttpFilter>,
}

pub(super) fn service_kind() -> String {
    "Service".to_owned()
}

fn one() -> u32 {
    1
}

impl BackendRef {
    #[must_use]
    pub fn is_service(&self) -> bool {
        self.kind == "Service" && (self.group.is_empty() || self.group == "core")
    }

    #[must_use]
    pub fn is_external(&self) -> bool {
        self.kind == "ExternalService" && self.group == crate::kind::WEFT_GROUP
    }
}

/// How long things may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpTimeouts {
    /// From the request to the end of its answer, all tries together, such as `10s`. `0s`: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Period>,
    /// One try at one backend, such as `2s`. `0s`: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<Period>,
}

/// When a failed request is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRetry {
    /// Statuses that count as failed, 400 to 599.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 400, max = 599)))]
    pub codes: Vec<u16>,
    /// Tries beyond the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub attempts: Option<u32>,
    /// Least time between two tries, such as `100ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Period>,
}

/// Where TCP connections go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpRoute {
    /// What the route is attached to. A Service: connections to that service inside the mesh.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentRef>,
    /// Rules. A connection has nothing to match on, so only the first counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<TcpRule>,
}

/// One rule for connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpRule {
    /// Name of the rule, for people and for policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where connections go, in proportion to the weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
}

//! Access control of the Service Mesh Interface: `TrafficTarget` and the routes that it names. They only ever allow.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may call a service account's workloads, and with which requests. It only ever allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficTarget {
    /// Whose workloads are called: a service account of the TrafficTarget's namespace. A service's members have the service's name for it.
    pub destination: ServiceAccountRef,
    /// Who may call.
    #[schemars(length(min = 1))]
    pub sources: Vec<ServiceAccountRef>,
    /// With which requests: those of the HTTPRouteGroups, at the ports of the TCPRoutes; where both are named, both must hold.
    #[schemars(length(min = 1))]
    pub rules: Vec<TargetRule>,
}

/// A service account: `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountRef {
    /// `ServiceAccount`.
    pub kind: String,
    /// Name of the service account.
    #[schemars(extend("format" = "dns-subdomain"))]
    pub name: String,
    /// Its namespace; the TrafficTarget's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "dns-label"))]
    pub namespace: Option<String>,
    /// Of a destination, the only port meant, as v1alpha2 has it; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
}

/// A route that a TrafficTarget names, in its own namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRule {
    /// `HTTPRouteGroup`, `TCPRoute` or `UDPRoute` of `specs.smi-spec.io`.
    pub kind: String,
    /// Name of the route.
    #[schemars(extend("format" = "dns-subdomain"))]
    pub name: String,
    /// Names of matches within the HTTPRouteGroup; all of them when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<String>,
}

/// Requests of HTTP, by what they look like, for TrafficTargets to name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteGroup {
    /// Any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpGroupMatch>,
}

/// A request: everything said here must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpGroupMatch {
    /// Name of the match, by which a TrafficTarget picks it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// HTTP methods; `*` or left out for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "http-method-or-any"))]
    pub methods: Vec<String>,
    /// A regular expression that the whole path fits, without the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "portable-regex"))]
    pub path_regex: Option<String>,
    /// Regular expressions by header name: the whole value of each line of the header fits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("format" = "portable-regex"))]
    pub headers: BTreeMap<String, String>,
}

/// Ports of a transport, for TrafficTargets to name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SmiPorts {
    /// Which connections; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<SmiPortMatch>,
}

/// Connections, by their port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SmiPortMatch {
    /// Name of the match.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Ports of the application, or of a Service that leads there; all when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 1, max = 65535)))]
    pub ports: Vec<u16>,
}

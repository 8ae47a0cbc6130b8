//! Filters of routes: what is done to a request and its response besides sending it on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gateway::service_kind;

/// One step of what is done to a request or its response. `type` names the field that is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpFilter {
    /// What this filter does; the field of that name holds the rest.
    #[serde(rename = "type")]
    pub filter_type: HttpFilterType,
    /// Changes to the request's headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_header_modifier: Option<HeaderModifier>,
    /// Changes to the response's headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_header_modifier: Option<HeaderModifier>,
    /// An answer that sends the caller elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_redirect: Option<RequestRedirect>,
    /// Changes to the request's host and path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_rewrite: Option<UrlRewrite>,
    /// A copy of the request for another service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_mirror: Option<RequestMirror>,
    /// An object that says more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension_ref: Option<ExtensionRef>,
}

/// What a filter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HttpFilterType {
    /// Changes the request's headers.
    RequestHeaderModifier,
    /// Changes the response's headers.
    ResponseHeaderModifier,
    /// Answers with a redirect.
    RequestRedirect,
    /// Changes host and path.
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    /// Sends a copy elsewhere.
    RequestMirror,
    /// Does what an object of another kind says.
    ExtensionRef,
}

/// Changes to headers: first `set`, then `add`, then `remove`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderModifier {
    /// Headers that get this value, whatever they had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<Header>,
    /// Values added to what is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Header>,
    /// Names of headers to take away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "header-name"))]
    pub remove: Vec<String>,
}

/// A header's name and value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Name of the header, in any case.
    #[schemars(extend("format" = "header-name"))]
    pub name: String,
    /// Its value.
    #[schemars(extend("format" = "header-value"))]
    pub value: String,
}

/// A redirect. What is left out stays as the request has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestRedirect {
    /// `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["http", "https"]))]
    pub scheme: Option<String>,
    /// Host of the new place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "hostname"))]
    pub hostname: Option<String>,
    /// Path of the new place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
    /// Port of the new place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Status of the answer: 301, 302, 303, 307 or 308.
    #[serde(default = "found")]
    #[schemars(extend("enum" = [301, 302, 303, 307, 308]))]
    pub status_code: u16,
}

fn found() -> u16 {
    302
}

/// Changes to where a request is sent. What is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UrlRewrite {
    /// Host that the backend sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "hostname"))]
    pub hostname: Option<String>,
    /// Path that the backend sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
}

/// A new path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathModifier {
    /// Which of the two fields counts.
    #[serde(rename = "type")]
    pub modifier_type: PathModifierType,
    /// The whole new path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "http-path"))]
    pub replace_full_path: Option<String>,
    /// What stands instead of the prefix that the rule matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_prefix_match: Option<String>,
}

/// How a path is made new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathModifierType {
    /// The whole path is replaced.
    ReplaceFullPath,
    /// The matched prefix is replaced.
    ReplacePrefixMatch,
}

/// A copy of requests for another service; its answers are thrown away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestMirror {
    /// Who gets the copies.
    pub backend_ref: MirrorBackendRef,
    /// Share of requests that are copied, in percent (0 to 100); all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<u8>,
    /// Share of requests that are copied, as a fraction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<Fraction>,
}

/// A fraction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fraction {
    /// Above the line.
    #[schemars(range(min = 0))]
    pub numerator: u32,
    /// Below the line.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1))]
    pub denominator: u32,
}

fn hundred() -> u32 {
    100
}

/// A service that gets copies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MirrorBackendRef {
    /// Group of the backend; the empty group for a Service.
    #[serde(default)]
    pub group: String,
    /// Kind of the backend.
    #[serde(default = "service_kind")]
    pub kind: String,
    /// Name of the backend.
    #[schemars(extend("format" = "dns-subdomain"))]
    pub name: String,
    /// Namespace of the backend; the route's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "dns-label"))]
    pub namespace: Option<String>,
    /// Port of the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
}

/// An object of another kind that says more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtensionRef {
    /// Group of the object.
    pub group: String,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object, in the route's namespace.
    #[schemars(extend("format" = "dns-subdomain"))]
    pub name: String,
}

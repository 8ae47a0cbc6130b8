//! `AccessPolicy`: who may call what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::TargetRef;

/// Who may call what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicy {
    /// Services of the policy's namespace that it protects; none listed: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_refs: Vec<TargetRef>,
    /// What happens to a request that matches a rule. Deny wins over Allow; Audit only counts.
    #[serde(default)]
    pub action: AccessAction,
    /// Whether the policy decides, or is only on trial.
    #[serde(default, skip_serializing_if = "AccessMode::is_enforced")]
    pub mode: AccessMode,
    /// Any of these matches; no rule at all matches nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<AccessRule>,
}

impl AccessPolicy {
    /// Whether it lets callers in, as opposed to being on trial or to refusing them.
    #[must_use]
    pub fn lets_in(&self) -> bool {
        self.action == AccessAction::Allow && self.mode == AccessMode::Enforce
    }
}

/// What happens to a request that matches.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum AccessAction {
    /// It may pass.
    #[default]
    Allow,
    /// It may not, whatever else allows it.
    Deny,
    /// It is counted by policy and caller as one that a Deny would refuse, and passes as if this policy were not there.
    Audit,
}

/// Whether a policy decides.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum AccessMode {
    /// It does.
    #[default]
    Enforce,
    /// It never changes a verdict. What passes and what it would have refused is counted by policy and caller: of a Deny what it matches, of Allows what none of the Allows on trial matches.
    DryRun,
}

impl AccessMode {
    /// The default, which need not be written.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        *self == AccessMode::Enforce
    }
}

/// Who and what: both must hold. A part that is left out always holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessRule {
    /// Any of these callers; everybody, also without identity, when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<AccessFrom>,
    /// Any of these requests; all when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<AccessTo>,
}

/// A caller. `identities`, `namespaces`, `services` and `trustDomains` say who it is: any of them is enough. `ipBlocks` say where it comes from and must hold too. Whoever fits a list that begins with `not` is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessFrom {
    /// SPIFFE ids; `/*` at the end stands for everything below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "spiffe-id-or-prefix"))]
    pub identities: Vec<String>,
    /// Namespaces of the mesh's own trust domain: every identity of theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "dns-label"))]
    pub namespaces: Vec<String>,
    /// Services, as `NAME` (of the policy's namespace) or `NAMESPACE/NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "service-name"))]
    pub services: Vec<String>,
    /// Trust domains: every identity of theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "trust-domain"))]
    pub trust_domains: Vec<String>,
    /// Networks of the connection's source: its other end, or whom a PROXY header names that is believed. Never what a request says of itself. A member comes from its proxy's address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "cidr"))]
    pub ip_blocks: Vec<String>,
    /// Not these SPIFFE ids; `/*` at the end stands for everything below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "spiffe-id-or-prefix"))]
    pub not_identities: Vec<String>,
    /// Not these namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "dns-label"))]
    pub not_namespaces: Vec<String>,
    /// Not these services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "service-name"))]
    pub not_services: Vec<String>,
    /// Not from these networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "cidr"))]
    pub not_ip_blocks: Vec<String>,
}

/// A request: everything said here must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessTo {
    /// HTTP methods, such as `GET`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "http-method"))]
    pub methods: Vec<String>,
    /// Paths: `/a` is exactly that one, `/a/*` everything below `/a/`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "path-or-prefix"))]
    pub paths: Vec<String>,
    /// gRPC methods: `PACKAGE.SERVICE/METHOD`, or `PACKAGE.SERVICE/*` for all of a service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "grpc-method-or-service"))]
    pub grpc_methods: Vec<String>,
    /// Host names that the request is for, in any case and with any port; `*.example.com` is every name below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "hostname-or-wildcard"))]
    pub hosts: Vec<String>,
    /// Headers: each of these must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<AccessHeader>,
    /// Ports of the application, or of a Service that leads there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 1, max = 65535)))]
    pub ports: Vec<u16>,
    /// Not these HTTP methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "http-method"))]
    pub not_methods: Vec<String>,
    /// Not these paths: `/a` is exactly that one, `/a/*` everything below `/a/`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "path-or-prefix"))]
    pub not_paths: Vec<String>,
}

impl AccessTo {
    /// Whether it looks at what only HTTP has.
    #[must_use]
    pub fn looks_into_requests(&self) -> bool {
        let AccessTo { methods, paths, grpc_methods, hosts, headers, ports: _, not_methods, not_paths } =
            self;
        let texts = [methods, paths, grpc_methods, hosts, not_methods, not_paths];
        !headers.is_empty() || texts.iter().any(|list| !list.is_empty())
    }

    /// Whether it looks at paths.
    #[must_use]
    pub fn looks_at_paths(&self) -> bool {
        [&self.paths, &self.grpc_methods, &self.not_paths].iter().any(|list| !list.is_empty())
    }
}

/// A header of a request, by its values or by whether it is there. A Deny fires if one value of several fits, an Allow only if all do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessHeader {
    /// Name of the header, in any case.
    #[schemars(extend("format" = "header-name"))]
    pub name: String,
    /// Any of these values, exactly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "header-value"))]
    pub values: Vec<String>,
    /// Or a value that begins with any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "header-value"))]
    pub prefixes: Vec<String>,
    /// None of these values, exactly; holds too where the header is not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "header-value"))]
    pub not_values: Vec<String>,
    /// Whether the header is there at all, whatever its value; instead of values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
}

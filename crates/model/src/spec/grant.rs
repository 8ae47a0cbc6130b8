//! `ReferenceGrant`: a namespace says which objects of other namespaces may refer into it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lets objects of other namespaces refer to objects of the grant's own. Without one, such a reference leads nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceGrant {
    /// Who may refer: any of these.
    #[schemars(length(min = 1, max = 16))]
    pub from: Vec<GrantFrom>,
    /// To what, in the grant's own namespace: any of these.
    #[schemars(length(min = 1, max = 16))]
    pub to: Vec<GrantTo>,
}

/// Objects that may refer: all of one kind in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantFrom {
    /// Group of the referring kind, such as `gateway.networking.k8s.io`.
    #[serde(default)]
    pub group: String,
    /// The referring kind, such as `HTTPRoute`.
    pub kind: String,
    /// Its namespace.
    #[schemars(extend("format" = "dns-label"))]
    pub namespace: String,
}

/// Objects that may be referred to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantTo {
    /// Group of the kind: empty for a Service, `weft.dev` for an ExternalService.
    #[serde(default)]
    pub group: String,
    /// The kind, such as `Service`.
    pub kind: String,
    /// One object; every one of the kind when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "dns-subdomain"))]
    pub name: Option<String>,
}

impl ReferenceGrant {
    /// Whether objects of `kind` (group and kind) in `namespace` may refer to `to` (group, kind, name) beside
    /// this grant.
    #[must_use]
    pub fn permits(&self, kind: (&str, &str), namespace: &str, to: (&str, &str, &str)) -> bool {
        let core = |group: &str| if group == "core" { String::new() } else { group.to_owned() };
        let same = |one: (&str, &str), other: (&str, &str)| core(one.0) == core(other.0) && one.1 == other.1;
        let from =
            self.from.iter().any(|from| same((&from.group, &from.kind), kind) && from.namespace == namespace);
        from && self.to.iter().any(|granted| {
            same((&granted.group, &granted.kind), (to.0, to.1))
                && granted.name.as_deref().is_none_or(|name| name == to.2)
        })
    }
}

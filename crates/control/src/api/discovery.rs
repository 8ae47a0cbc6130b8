//! What this server has, said as Kubernetes says it: groups, versions, kinds and verbs.
//!
//! Both forms are spoken: one document a group version, and the aggregated one that newer clients
//! ask for in their Accept header. All of it is made from the model's table of kinds.

use serde_json::{Value, json};
use weft_model::{Kind, KindInfo};

use super::target::{has_status, versions};

/// The media type of the aggregated form.
pub(crate) const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

const VERBS: [&str; 7] = ["create", "delete", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

fn infos() -> impl Iterator<Item = &'static KindInfo> {
    Kind::all().iter().map(|kind| kind.info())
}

/// The named groups, in the table's order, without the core group.
pub(crate) fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> = Vec::new();
    for info in infos() {
        if !info.group.is_empty() && !groups.contains(&info.group) {
            groups.push(info.group);
        }
    }
    groups
}

/// The versions of a group, the preferred one first.
pub(crate) fn group_versions(group: &str) -> Vec<&'static str> {
    let mut found: Vec<&str> = Vec::new();
    // A version that is some kind's own comes before one that is only read for old files.
    for info in infos().filter(|info| info.group == group) {
        if !found.contains(&info.version) {
            found.push(info.version);
        }
    }
    for info in infos().filter(|info| info.group == group) {
        for version in versions(info) {
            if !found.contains(&version) {
                found.push(version);
            }
        }
    }
    found
}

pub(crate) fn kinds_of(group: &str, version: &str) -> Vec<&'static KindInfo> {
    infos().filter(|info| info.group == group && versions(info).any(|known| known == version)).collect()
}

/// `/api`
pub(crate) fn core_versions(server: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "apiVersion": "v1",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": server }],
    })
}

/// `/apis`
pub(crate) fn group_list() -> Value {
    let all: Vec<Value> = groups().into_iter().map(group_entry).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": all })
}

/// `/apis/GROUP`
pub(crate) fn group(name: &str) -> Option<Value> {
    groups().contains(&name).then(|| {
        let mut value = group_entry(name);
        value["kind"] = "APIGroup".into();
        value["apiVersion"] = "v1".into();
        value
    })
}

fn group_entry(name: &str) -> Value {
    let entry = |version: &str| json!({ "groupVersion": format!("{name}/{version}"), "version": version });
    let all = group_versions(name);
    json!({
        "name": name,
        "versions": all.iter().map(|version| entry(version)).collect::<Vec<_>>(),
        "preferredVersion": entry(all.first().copied().unwrap_or_default()),
    })
}

/// `/api/v1`, `/apis/GROUP/VERSION`
pub(crate) fn resource_list(group: &str, version: &str) -> Option<Value> {
    let kinds = kinds_of(group, version);
    if kinds.is_empty() {
        return None;
    }
    let mut resources = Vec::new();
    for info in kinds {
        resources.push(json!({
            "name": info.plural,
            "singularName": info.singular,
            "namespaced": info.namespaced,
            "kind": info.name,
            "verbs": VERBS,
            "shortNames": info.short_names,
            "categories": categories(info),
        }));
        if has_status(info) {
            resources.push(json!({
                "name": format!("{}/status", info.plural),
                "singularName": "",
                "namespaced": info.namespaced,
                "kind": info.name,
                "verbs": STATUS_VERBS,
            }));
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    }))
}

/// `/api` (the core group) or `/apis` (all others) in the aggregated form.
pub(crate) fn aggregated(core: bool) -> Value {
    let names = if core { vec![""] } else { groups() };
    let items: Vec<Value> = names
        .into_iter()
        .map(|name| {
            let versions: Vec<Value> = group_versions(name)
                .into_iter()
                .map(|version| {
                    json!({
                        "version": version,
                        "freshness": "Current",
                        "resources": kinds_of(name, version)
                            .into_iter()
                            .map(|info| aggregated_resource(info, version))
                            .collect::<Vec<_>>(),
                    })
                })
                .collect();
            let metadata = if name.is_empty() { json!({}) } else { json!({ "name": name }) };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn aggregated_resource(info: &KindInfo, version: &str) -> Value {
    let kind = json!({ "group": info.group, "version": version, "kind": info.name });
    let mut resource = json!({
        "resource": info.plural,
        "responseKind": kind,
        "scope": if info.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": info.singular,
        "verbs": VERBS,
        "shortNames": info.short_names,
        "categories": categories(info),
    });
    if has_status(info) {
        resource["subresources"] =
            json!([{ "subresource": "status", "responseKind": kind, "verbs": STATUS_VERBS }]);
    }
    resource
}

/// `kubectl get weft` shows all that is ours; `kubectl get all` the services, as on a cluster.
fn categories(info: &KindInfo) -> Vec<&'static str> {
    match info.kind {
        Kind::Service => vec!["all"],
        _ if info.ours => vec!["weft"],
        _ if info.group.ends_with(".smi-spec.io") => vec!["smi"],
        _ if !info.group.is_empty() => vec!["gateway-api"],
        _ => Vec::new(),
    }
}

/// `/version`
pub(crate) fn version() -> Value {
    // Clients compare the minor version with their own; we answer as the Kubernetes whose API this
    // is, and say who we are in `gitVersion`.
    json!({
        "major": "1",
        "minor": "36",
        "gitVersion": concat!("v1.36.0+weft-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

//! What an object shows beyond what was written: its conditions, and a Service's address and defaults.
//!
//! Computed when it is read, from the newest snapshot and its findings; never stored. A condition of an
//! object that the snapshot does not show yet is `Unknown`. A watch tells them as they were when the
//! object itself changed; a condition that changes because another object did is seen by the next read.
//! `lastTransitionTime` is left out: nothing here remembers since when.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;
use weft_model::{Finding, Kind, KindInfo, Severity};

use super::stamp;
use crate::snapshot::{ServiceId, Snapshot};
use crate::vip;

/// Who says these conditions, in a route's `status.parents`.
const CONTROLLER: &str = "weft.dev/control";

type MoreFindings = Box<dyn Fn() -> Vec<Finding> + Send + Sync>;

/// Where to look.
pub(crate) struct Sight {
    pub(crate) snapshot: watch::Receiver<Arc<Snapshot>>,
    /// What translation found.
    pub(crate) more: MoreFindings,
}

/// One look, for all objects of an answer.
pub(crate) struct Seen {
    snapshot: Arc<Snapshot>,
    findings: BTreeMap<String, Vec<Finding>>,
}

impl Sight {
    pub(crate) fn look(&self, info: &KindInfo) -> Seen {
        let snapshot = self.snapshot.borrow().clone();
        let mut findings: BTreeMap<String, Vec<Finding>> = BTreeMap::new();
        let of_kind = |finding: &Finding| finding.object.split(' ').next() == Some(info.name);
        for finding in snapshot.findings.iter().cloned().chain((self.more)()).filter(of_kind) {
            findings.entry(finding.object.clone()).or_default().push(finding);
        }
        Seen { snapshot, findings }
    }
}

impl Seen {
    /// Puts in what is computed.
    pub(crate) fn complete(&self, object: &mut Value, info: &KindInfo) {
        if info.kind == Kind::Service {
            complete_service(object);
        }
        match info.kind {
            Kind::Secret | Kind::Namespace | Kind::Workload => {}
            _ if is_route(info) => {
                let parents = self.parents(object, info);
                keep_others(object, "parents", &parents);
            }
            _ => {
                let conditions = self.conditions(object, info, |_| true);
                keep_others(object, "conditions", &conditions);
            }
        }
    }

    fn parents(&self, object: &Value, info: &KindInfo) -> Vec<Value> {
        let refs = object["spec"]["parentRefs"].as_array().map_or(&[][..], Vec::as_slice);
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        refs.iter()
            .map(|parent| {
                // A finding names the route; which of several parents it means is asked of the snapshot.
                let there = refs.len() > 1 && self.has_service(parent, namespace);
                let conditions = self.conditions(object, info, |finding| {
                    !there || !matches!(finding.code, "WFT0003" | "WFT0014")
                });
                json!({ "parentRef": parent, "controllerName": CONTROLLER, "conditions": conditions })
            })
            .collect()
    }

    fn has_service(&self, parent: &Value, namespace: &str) -> bool {
        let text = |field: &str| parent[field].as_str();
        text("kind") == Some("Service")
            && text("group").unwrap_or_default().is_empty()
            && self.snapshot.services.contains_key(&ServiceId::new(
                text("namespace").unwrap_or(namespace),
                text("name").unwrap_or_default(),
            ))
    }

    fn conditions(&self, object: &Value, info: &KindInfo, counts: impl Fn(&Finding) -> bool) -> Vec<Value> {
        let meta = &object["metadata"];
        let text = |field: &str| meta[field].as_str().unwrap_or_default();
        let label = match info.namespaced {
            true => format!("{} {}/{}", info.name, text("namespace"), text("name")),
            false => format!("{} {}", info.name, text("name")),
        };
        let mine: Vec<&Finding> =
            self.findings.get(&label).into_iter().flatten().filter(|finding| counts(finding)).collect();
        let pending = text("resourceVersion").parse().is_ok_and(|at: u64| at > self.snapshot.revision);
        ["Accepted", "ResolvedRefs"]
            .into_iter()
            .map(|kind| {
                let against: Vec<(&'static str, &Finding)> = mine
                    .iter()
                    .filter_map(|finding| {
                        let (condition, reason) = meaning(finding)?;
                        (condition == kind).then_some((reason, *finding))
                    })
                    .collect();
                let (status, reason, message) = match against.first() {
                    _ if pending => ("Unknown", "Pending", "the control plane is taking it in".to_owned()),
                    None => ("True", kind, String::new()),
                    Some((reason, _)) => {
                        let said: Vec<String> = against
                            .iter()
                            .map(|(_, finding)| format!("{}: {}", finding.code, finding.message))
                            .collect();
                        ("False", *reason, said.join("; "))
                    }
                };
                json!({
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": message,
                    "observedGeneration": meta["generation"].as_i64().unwrap_or(1),
                })
            })
            .collect()
    }
}

/// The condition that a finding speaks against, and its reason in Gateway API's words where it has one.
fn meaning(finding: &Finding) -> Option<(&'static str, &'static str)> {
    Some(match finding.code {
        "WFT0001" | "WFT0002" | "WFT0912" => ("ResolvedRefs", "BackendNotFound"),
        "WFT0010" => ("ResolvedRefs", "RefNotPermitted"),
        "WFT0007" => ("ResolvedRefs", "NoWorkload"),
        "WFT0011" | "WFT0913" => ("ResolvedRefs", "SecretNotFound"),
        "WFT0911" => ("ResolvedRefs", "UnsupportedValue"),
        "WFT0003" | "WFT0014" => ("Accepted", "NoMatchingParent"),
        "WFT0005" | "WFT0006" => ("Accepted", "TargetNotFound"),
        "WFT0910" => ("Accepted", "UnsupportedValue"),
        code if finding.severity == Severity::Error => ("Accepted", code),
        _ => return None,
    })
}

fn is_route(info: &KindInfo) -> bool {
    info.group == weft_model::GATEWAY_GROUP && info.name.ends_with("Route")
}

/// Others may write conditions too; ours come last.
fn keep_others(object: &mut Value, list: &str, ours: &[Value]) {
    without_ours(object);
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    match object["status"][list].as_array_mut() {
        Some(items) => items.extend_from_slice(ours),
        None => object["status"][list] = ours.into(),
    }
}

fn without_ours(object: &mut Value) {
    let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) else { return };
    for (list, ours) in [("parents", "controllerName"), ("conditions", "type")] {
        if let Some(items) = status.get_mut(list).and_then(Value::as_array_mut) {
            let before = items.len();
            items.retain(|item| match ours {
                "type" => !matches!(item["type"].as_str(), Some("Accepted" | "ResolvedRefs")),
                _ => item[ours] != CONTROLLER,
            });
            if items.is_empty() && before > 0 {
                status.remove(list);
            }
        }
    }
}

/// The API's conveniences that `kubectl describe` and typed clients expect of a Service.
fn complete_service(object: &mut Value) {
    let address = object["metadata"]["annotations"][vip::ANNOTATION].as_str().map(str::to_owned);
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    spec.entry("type").or_insert_with(|| "ClusterIP".into());
    spec.entry("sessionAffinity").or_insert_with(|| "None".into());
    if spec["type"] == "ClusterIP"
        && let Some(address) = address
    {
        let shown = spec.entry("clusterIP").or_insert_with(|| address.into()).clone();
        spec.entry("clusterIPs").or_insert_with(|| json!([shown]));
        spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
        spec.entry("ipFamilyPolicy").or_insert_with(|| "SingleStack".into());
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            port.entry("protocol").or_insert_with(|| "TCP".into());
            if let Some(number) = port.get("port").cloned() {
                port.entry("targetPort").or_insert(number);
            }
        }
    }
}

/// Takes out of a write what its writer only read: the computed fields that the stored object lacks.
pub(crate) fn strip(object: &mut Value, stored: &Value, info: &KindInfo) {
    without_ours(object);
    if object["status"].as_object().is_some_and(serde_json::Map::is_empty)
        && stored.get("status").is_none()
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    if info.kind != Kind::Service {
        return;
    }
    let mut shown = stored.clone();
    // Somebody may write while the address is being given: the annotation of either counts.
    if let Some(address) = object["metadata"]["annotations"].get(vip::ANNOTATION).cloned()
        && shown["metadata"]["annotations"].get(vip::ANNOTATION).is_none()
    {
        stamp::metadata(&mut shown).entry("annotations").or_insert_with(|| json!({}))[vip::ANNOTATION] =
            address;
    }
    complete_service(&mut shown);
    let (was, computed) = (&stored["spec"], &shown["spec"]);
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    spec.retain(|name, value| {
        was.get(name).is_some() || name == "ports" || computed.get(name) != Some(value)
    });
    let ports = |spec: &Value, number: &Value| {
        spec["ports"].as_array().into_iter().flatten().find(|port| port["port"] == *number).cloned()
    };
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let (Some(was), Some(computed)) = (ports(was, &port["port"]), ports(computed, &port["port"])) else {
            continue;
        };
        if let Some(port) = port.as_object_mut() {
            port.retain(|name, value| was.get(name).is_some() || computed.get(name) != Some(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(revision: u64, findings: &[(&'static str, Severity)]) -> Seen {
        let snapshot = Arc::new(Snapshot { revision, ..Snapshot::default() });
        let all: Vec<Finding> = findings
            .iter()
            .map(|(code, severity)| Finding {
                severity: *severity,
                code,
                object: "HTTPRoute default/r".into(),
                message: "why".into(),
                hint: String::new(),
            })
            .collect();
        Seen { snapshot, findings: BTreeMap::from([("HTTPRoute default/r".into(), all)]) }
    }

    fn told(seen: &Seen) -> Vec<String> {
        let mut route = json!({
            "metadata": {"name": "r", "namespace": "default", "resourceVersion": "5", "generation": 3},
            "spec": {"parentRefs": [{"kind": "Service", "name": "a"}]},
        });
        seen.complete(&mut route, Kind::HTTPRoute.info());
        let mut again = route.clone();
        seen.complete(&mut again, Kind::HTTPRoute.info());
        assert_eq!(again, route, "what is computed twice stands there once");
        let stored = json!({"metadata": {}, "spec": route["spec"]});
        strip(&mut again, &stored, Kind::HTTPRoute.info());
        assert!(again.get("status").is_none(), "nothing computed is stored: {again}");
        route["status"]["parents"][0]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|c| format!("{}={} {}", c["type"], c["status"], c["reason"]).replace('"', ""))
            .collect()
    }

    #[test]
    fn findings_become_conditions() {
        type Row = (u64, &'static [(&'static str, Severity)], [&'static str; 2]);
        let rows: [Row; 5] = [
            (5, &[], ["Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs"]),
            (4, &[], ["Accepted=Unknown Pending", "ResolvedRefs=Unknown Pending"]),
            (
                9,
                &[("WFT0001", Severity::Error)],
                ["Accepted=True Accepted", "ResolvedRefs=False BackendNotFound"],
            ),
            (
                9,
                &[("WFT0003", Severity::Error)],
                ["Accepted=False NoMatchingParent", "ResolvedRefs=True ResolvedRefs"],
            ),
            (
                9,
                &[("WFT0004", Severity::Warning)],
                ["Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs"],
            ),
        ];
        for (revision, findings, expected) in rows {
            assert_eq!(told(&seen(revision, findings)), expected, "{findings:?} at {revision}");
        }
    }

    #[test]
    fn a_service_shows_its_address_and_a_writer_does_not_store_it() {
        let stored = json!({
            "metadata": {"name": "a", "annotations": {vip::ANNOTATION: "240.240.0.1"}},
            "spec": {"ports": [{"port": 80}, {"port": 90, "protocol": "UDP"}]},
        });
        let mut shown = stored.clone();
        complete_service(&mut shown);
        assert_eq!(
            (&shown["spec"]["clusterIP"], &shown["spec"]["type"]),
            (&"240.240.0.1".into(), &"ClusterIP".into())
        );
        assert_eq!(shown["spec"]["ports"][0], json!({"port": 80, "protocol": "TCP", "targetPort": 80}));
        assert_eq!(shown["spec"]["ports"][1]["protocol"], "UDP");
        let mut written = shown.clone();
        written["spec"]["ports"][0]["name"] = "http".into();
        written["spec"]["selector"] = json!({"a": "b"});
        strip(&mut written, &stored, Kind::Service.info());
        assert_eq!(
            written["spec"],
            json!({"ports": [{"port": 80, "name": "http"}, {"port": 90, "protocol": "UDP"}], "selector": {"a": "b"}})
        );
    }
}

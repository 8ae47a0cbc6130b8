//! Each code, made to speak once, and silence where all is well.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use super::*;
use crate::parse::parse_text;

fn objects(yaml: &str) -> Vec<Object> {
    let (documents, problems) = parse_text("f", yaml);
    assert!(!crate::problem::any_error(&problems), "{problems:?}");
    documents.into_iter().map(|document| document.object.unwrap()).collect()
}

/// A healthy little mesh, plus what the case adds.
fn check(what: &str, yaml: &str, expected: &[&str]) {
    let base = "
{apiVersion: v1, kind: Service, metadata: {name: be1}, spec: {selector: {app: be1}, ports: [{port: 80, name: http, targetPort: 8080}]}}
---
{apiVersion: weft.dev/v1, kind: Workload, metadata: {name: be1-abcde, labels: {app: be1}}, spec: {service: be1, address: 127.0.0.1}}
---
";
    let found: Vec<String> = findings(&objects(&format!("{base}{yaml}")))
        .into_iter()
        .map(|finding| {
            format!(
                "{} {} {}: {} ({})",
                finding.code, finding.severity, finding.object, finding.message, finding.hint
            )
        })
        .collect();
    assert_eq!(found.len(), expected.len(), "{what}: {found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{what}: {found}");
    }
}

fn route(name: &str, parent: &str, rule: &str) -> String {
    format!(
        "---\n{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: {name}}}, \
         spec: {{parentRefs: [{{group: '', kind: Service, name: {parent}}}], rules: [{rule}]}}}}\n"
    )
}

#[test]
fn a_healthy_mesh_is_silent() {
    check("healthy", &route("r", "be1", "{backendRefs: [{name: be1, port: 80}]}"), &[]);
}

#[test]
fn a_route_names_what_is_not_there() {
    check(
        "missing backend",
        &route("r", "be1", "{backendRefs: [{name: bee1, port: 80}]}"),
        &[
            "WFT0001 error HTTPRoute default/r: rule 0: Service default/bee1 is not there (did you mean \"be1\"?)",
        ],
    );
    check(
        "missing mirror",
        &route(
            "r",
            "be1",
            "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 1}}}], backendRefs: [{name: be1, port: 80}]}",
        ),
        &["WFT0001 error HTTPRoute default/r: rule 0: Service default/shadow is not there"],
    );
    check(
        "missing external",
        &route(
            "r",
            "be1",
            "{backendRefs: [{group: weft.dev, kind: ExternalService, name: rds, port: 5432}]}",
        ),
        &["WFT0001 error HTTPRoute default/r: rule 0: ExternalService default/rds is not there"],
    );
    check(
        "missing port",
        &route("r", "be1", "{backendRefs: [{name: be1, port: 8080}]}"),
        &[
            "WFT0002 error HTTPRoute default/r: Service default/be1 has no port 8080 (8080 is the targetPort; callers use 80)",
        ],
    );
    check(
        "missing parent",
        &route("r", "shop", "{backendRefs: [{name: be1, port: 80}]}"),
        &["WFT0003 error HTTPRoute default/r: its parent, Service default/shop, is not there"],
    );
}

#[test]
fn routes_that_match_the_same_shadow_each_other_whatever_the_order_of_headers() {
    let one = "{matches: [{path: {value: /a}, headers: [{name: X, value: '1'}, {name: y, value: '2'}]}], backendRefs: [{name: be1, port: 80}]}";
    let two = "{matches: [{path: {value: /a}, headers: [{name: Y, value: '2'}, {name: x, value: '1'}]}], backendRefs: [{name: be1, port: 80}]}";
    let other = "{matches: [{path: {value: /b}}], backendRefs: [{name: be1, port: 80}]}";
    check(
        "shadow",
        &(route("b", "be1", one) + &route("a", "be1", two)),
        &["WFT0004 warning HTTPRoute default/b: HTTPRoute default/a gets what it matches too"],
    );
    check("no shadow", &(route("a", "be1", one) + &route("b", "be1", other)), &[]);
}

#[test]
fn weights_and_namespaces_of_backends() {
    check(
        "zero",
        &route("r", "be1", "{backendRefs: [{name: be1, port: 80, weight: 0}]}"),
        &["WFT0009 warning HTTPRoute default/r: rule 0: all weights are 0"],
    );
    let elsewhere = "---\n{apiVersion: v1, kind: Service, metadata: {name: x, namespace: other}, spec: {ports: [{port: 80}]}}\n";
    check(
        "other namespace",
        &(route("r", "be1", "{backendRefs: [{name: x, namespace: other, port: 80}]}") + elsewhere),
        &["WFT0010 warning HTTPRoute default/r: rule 0: the backend other/x is of another namespace"],
    );
}

#[test]
fn policies_and_their_targets() {
    let access = "{apiVersion: weft.dev/v1, kind: AccessPolicy, metadata: {name: NAME}, spec: {targetRefs: [{name: TARGET}], rules: [{}]}}";
    check(
        "access target",
        &access.replace("NAME", "x").replace("TARGET", "nobody"),
        &["WFT0005 error AccessPolicy default/x: its target, Service default/nobody, is not there"],
    );
    check("access in place", &access.replace("NAME", "x").replace("TARGET", "be1"), &[]);
    check(
        "same-namespace",
        &access.replace("NAME", "same-namespace").replace("TARGET", "be1"),
        &[
            "WFT0008 info AccessPolicy default/same-namespace: members of namespace default may all call each other",
        ],
    );
    let traffic = |name: &str, target: &str| {
        format!(
            "---\n{{apiVersion: weft.dev/v1, kind: TrafficPolicy, metadata: {{name: {name}}}, spec: {{targetRefs: [{{name: {target}}}], timeouts: {{request: 1s}}}}}}\n"
        )
    };
    check(
        "traffic target",
        &traffic("x", "nobody"),
        &["WFT0006 error TrafficPolicy default/x: its target, Service default/nobody, is not there"],
    );
    check(
        "two on one",
        &(traffic("b", "be1") + &traffic("a", "be1")),
        &[
            "WFT0006 error TrafficPolicy default/b: TrafficPolicy default/a targets Service default/be1 too, and wins",
        ],
    );
}

#[test]
fn services_need_workloads_and_external_ones_their_secrets() {
    check(
        "nobody selected",
        "{apiVersion: v1, kind: Service, metadata: {name: be9}, spec: {selector: {app: be9}, ports: [{port: 80}]}}",
        &["WFT0007 warning Service default/be9: no Workload of namespace default carries app=be9"],
    );
    check(
        "egress is not opened yet",
        "{apiVersion: weft.dev/v1, kind: Mesh, metadata: {name: default}, spec: {egress: {default: Allow}}}",
        &["WFT0012 warning Mesh default: egress.default is Allow; egress stays deny"],
    );
    let external = "{apiVersion: weft.dev/v1, kind: ExternalService, metadata: {name: be3}, spec: {hosts: [be3.example], ports: [{port: 80}], tls: {caSecretRef: {name: ca}}}}\n";
    check(
        "no secret",
        external,
        &["WFT0011 error ExternalService default/be3: Secret default/ca is not there"],
    );
    let secret = "---\n{apiVersion: v1, kind: Secret, metadata: {name: ca}, stringData: {ENTRY: x}}\n";
    check(
        "no entry",
        &format!("{external}{}", secret.replace("ENTRY", "x")),
        &["WFT0011 error ExternalService default/be3: Secret default/ca has no entry ca.crt"],
    );
    check("all there", &format!("{external}{}", secret.replace("ENTRY", "ca.crt")), &[]);
}

#[test]
fn codes_are_in_order_and_each_once() {
    let codes: Vec<&str> = codes().iter().map(|code| code.code).collect();
    assert!(codes.is_sorted_by(|one, next| one < next), "{codes:?}");
    assert!(codes.iter().all(|code| code.len() == 7 && code.starts_with("WFT")), "{codes:?}");
}

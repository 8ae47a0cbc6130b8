//! Each code, made to speak once, and silence where all is well.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use super::*;
use crate::parse::parse_text;

mod access;
mod streams;

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
        &[
            "WFT0010 error HTTPRoute default/r: rule 0: no ReferenceGrant of namespace other permits Service x",
        ],
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
fn a_port_that_is_not_carried_is_told() {
    let service = |protocols: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: names}}, spec: {{ports: [{protocols}]}}}}"
        )
    };
    check(
        "datagrams",
        &service("{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}"),
        &[
            "WFT0019 warning Service default/names: port 53 is UDP, which nothing would encrypt between members: it goes past the mesh",
        ],
    );
    check("streams", &service("{name: dns-tcp, port: 53, protocol: TCP}, {name: http, port: 80}"), &[]);
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
        "{apiVersion: weft.dev/v1, kind: Mesh, metadata: {name: default}, spec: {egress: {default: Allow}, authorization: {default: Allow}}}",
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

const STRICT: &str = "---\n{apiVersion: weft.dev/v1, kind: Mesh, metadata: {name: default}, spec: {}}\n";

fn access(name: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: weft.dev/v1, kind: AccessPolicy, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n"
    )
}

#[test]
fn somebody_must_be_let_in() {
    let nobody = "WFT0013 warning Service default/be1: no AccessPolicy of namespace default lets anybody in";
    check(
        "files alone don't tell",
        &access("x", "targetRefs: [{name: be1}], action: Audit, rules: [{}]"),
        &[],
    );
    check("no policy at all", STRICT, &[nobody]);
    check("let in", &(STRICT.to_owned() + &access("x", "rules: [{from: [{namespaces: [a]}]}]")), &[]);
    check("by name", &(STRICT.to_owned() + &access("x", "targetRefs: [{name: be1}], rules: [{}]")), &[]);
    check(
        "audit lets nobody in",
        &(STRICT.to_owned() + &access("x", "action: Audit, rules: [{}]")),
        &[nobody],
    );
    check(
        "no rules",
        &(STRICT.to_owned() + &access("x", "targetRefs: [{name: be1}]")),
        &[nobody, "WFT0022 info AccessPolicy default/x"],
    );
    check("another port", &(STRICT.to_owned() + &access("x", "rules: [{to: [{ports: [81]}]}]")), &[nobody]);
    check("its target port", &(STRICT.to_owned() + &access("x", "rules: [{to: [{ports: [8080]}]}]")), &[]);
    check(
        "denied to all",
        &(STRICT.to_owned() + &access("x", "rules: [{}]") + &access("y", "action: Deny, rules: [{}]")),
        &[
            "WFT0013 warning Service default/be1: AccessPolicy default/y denies everybody (narrow",
            "WFT0023 warning AccessPolicy default/x: all that rules[0] allows",
        ],
    );
    check(
        "denied to some",
        &(STRICT.to_owned()
            + &access("x", "rules: [{}]")
            + &access("y", "action: Deny, rules: [{to: [{paths: [/a]}]}]")),
        &[],
    );
    let open = STRICT.replace("spec: {}", "spec: {authorization: {default: Allow}}");
    check("the mesh allows", &open, &[]);
    // A Service over a part of the same instances is guarded by the policies of the whole.
    let part = "---\n{apiVersion: v1, kind: Service, metadata: {name: be1-v1}, spec: {selector: {app: be1}, ports: [{port: 80}]}}\n";
    check(
        "the same instances",
        &(STRICT.to_owned() + part + &access("x", "targetRefs: [{name: be1}], rules: [{}]")),
        &[],
    );
}

#[test]
fn callers_that_are_nearly_there_are_told() {
    let from = |who: &str| access("x", &format!("rules: [{{from: [{{services: [{who}]}}]}}]"));
    check(
        "a slip",
        &from("be-1"),
        &["WFT0017 warning AccessPolicy default/x: nobody is default/be-1 (did you mean \"be1\"?)"],
    );
    check(
        "elsewhere",
        &from("shop/be1"),
        &[
            "WFT0017 warning AccessPolicy default/x: nobody is shop/be1 (there is one in namespace default: default/be1)",
        ],
    );
    check("there", &from("be1"), &[]);
    check("a client that comes later", &from("frontend"), &[]);
}

#[test]
fn names_of_external_services_are_nobody_elses() {
    let external = |name: &str, host: &str, port: &str| {
        format!(
            "---\n{{apiVersion: weft.dev/v1, kind: ExternalService, metadata: {{name: {name}}}, spec: {{hosts: [{host}], ports: [{{{port}}}]}}}}\n"
        )
    };
    for host in ["be1", "be1.default", "be1.default.mesh.internal"] {
        check(
            "a member's",
            &external("x", host, "port: 80"),
            &[&format!(
                "WFT0015 error ExternalService default/x: its host {host} is a name of Service default/be1"
            )],
        );
    }
    check("a member's of elsewhere", &external("x", "be1.other", "port: 80"), &[]);
    check(
        "the same name",
        &external("be1", "api.example", "port: 80"),
        &["WFT0015 error ExternalService default/be1: Service default/be1 has its names"],
    );
    let two =
        |one: &str, other: &str| external("a", "api.example", one) + &external("b", "api.example", other);
    let taken = "WFT0015 error ExternalService default/b: its host api.example is one of ExternalService default/a too";
    check("another's", &two("port: 80", "port: 80"), &[taken]);
    check("both without a port", &two("port: 80", "port: 8080"), &[taken]);
    check("one server name", &two("port: 443, protocol: tls", "port: 8443, protocol: https"), &[taken]);
    check("http and tls", &two("port: 80", "port: 443, protocol: tls"), &[]);
    check(
        "of another namespace",
        &(external("a", "api.example", "port: 80")
            + &external("a", "api.example", "port: 80").replace("name: a", "name: a, namespace: other")),
        &[],
    );
}

#[test]
fn a_route_needs_a_parent_that_the_mesh_serves() {
    let at = |parent: &str| {
        route("r", "be1", "{backendRefs: [{name: be1, port: 80}]}")
            .replace("{group: '', kind: Service, name: be1}", parent)
    };
    check(
        "a gateway",
        &at("{name: edge}"),
        &["WFT0014 warning HTTPRoute default/r: its parent, Gateway edge, is nothing that the mesh serves"],
    );
    let db = "---\n{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {ports: [{port: 5432, name: tcp}, {port: 80, name: http}]}}\n";
    let of_db = |port: &str| at(&format!("{{group: '', kind: Service, name: db{port}}}")) + db;
    check(
        "a port of bytes",
        &of_db(", port: 5432"),
        &[
            "WFT0014 warning HTTPRoute default/r: port 5432 of Service default/db speaks no HTTP (the port's appProtocol",
        ],
    );
    check("a port that fits", &of_db(", port: 80"), &[]);
    check("one of the ports fits", &of_db(""), &[]);
    check(
        "bytes to HTTP",
        &of_db(", port: 80").replace("HTTPRoute", "TCPRoute").replace("io/v1,", "io/v1alpha2,"),
        &["WFT0014 warning TCPRoute default/r: port 80 of Service default/db speaks HTTP"],
    );
}

#[test]
fn a_policy_on_a_route_has_no_say_over_clusters() {
    let on = |kind: &str, says: &str| {
        let policy = format!(
            "---\n{{apiVersion: weft.dev/v1, kind: TrafficPolicy, metadata: {{name: p}}, spec: {{targetRefs: [{{group: gateway.networking.k8s.io, kind: {kind}, name: r}}], {says}}}}}\n"
        );
        let version = if kind == "TCPRoute" { "v1alpha2" } else { "v1" };
        let target = route("r", "be1", "{backendRefs: [{name: be1, port: 80}]}")
            .replace("HTTPRoute", kind)
            .replace("io/v1,", &format!("io/{version},"));
        policy + &target
    };
    check(
        "of the cluster",
        &on("HTTPRoute", "loadBalancing: {policy: Random}, timeouts: {request: 1s, connect: 1s}"),
        &[
            "WFT0016 warning TrafficPolicy default/p: loadBalancing, timeouts.connect has no effect on HTTPRoute r",
        ],
    );
    check("of requests", &on("HTTPRoute", "timeouts: {request: 1s}, retry: {attempts: 3}"), &[]);
    check(
        "of requests, where there are none",
        &on("TCPRoute", "retry: {attempts: 3}"),
        &[
            "WFT0014 warning TCPRoute",
            "WFT0016 warning TrafficPolicy default/p: retry has no effect on TCPRoute r",
        ],
    );
    check(
        "a rule that is not there",
        &on("HTTPRoute", "retry: {attempts: 3}").replace("name: r}]", "name: r, sectionName: x}]"),
        &["WFT0006 error TrafficPolicy default/p: its target, HTTPRoute default/r (x), is not there"],
    );
}

#[test]
fn a_grant_opens_a_namespace_to_a_kind_of_another() {
    let elsewhere = "---\n{apiVersion: v1, kind: Service, metadata: {name: x, namespace: other}, spec: {ports: [{port: 80}]}}\n";
    let to = "{backendRefs: [{name: x, namespace: other, port: 80}]}";
    let grant = |from: &str, to: &str| {
        format!(
            "---\n{{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {{name: g, namespace: other}}, spec: {{from: [{{group: gateway.networking.k8s.io, kind: {from}}}], to: [{{group: '', kind: {to}}}]}}}}\n"
        )
    };
    let granted = |from: &str, object: &str| route("r", "be1", to) + elsewhere + &grant(from, object);
    let refused =
        "WFT0010 error HTTPRoute default/r: rule 0: no ReferenceGrant of namespace other permits Service x";
    check("granted", &granted("HTTPRoute, namespace: default", "Service"), &[]);
    check("granted by name", &granted("HTTPRoute, namespace: default", "Service, name: x"), &[]);
    check("another kind", &granted("GRPCRoute, namespace: default", "Service"), &[refused]);
    check("another namespace", &granted("HTTPRoute, namespace: shop", "Service"), &[refused]);
    check(
        "another object",
        &granted("HTTPRoute, namespace: default", "Service, name: y"),
        &[refused, "WFT0018 info ReferenceGrant other/g: Service other/y is not there"],
    );
    let own_parent = route("r", "x", to).replace("name: x}]", "name: x, namespace: other}]") + elsewhere;
    check("a consumer's route to the Service that it is for", &own_parent, &[]);
}

#[test]
fn codes_are_in_order_and_each_once() {
    let codes: Vec<&str> = codes().iter().map(|code| code.code).collect();
    assert!(codes.is_sorted_by(|one, next| one < next), "{codes:?}");
    assert!(codes.iter().all(|code| code.len() == 7 && code.starts_with("WFT")), "{codes:?}");
}

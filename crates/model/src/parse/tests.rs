//! Parsing as users meet it: a text, and the lines that they read back.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod bombs;
mod examples;
mod refused;

use serde_json::json;

use super::*;

/// Each problem as `LINE PATH: MESSAGE`, with `(warning)` where it is one.
fn told(yaml: &str) -> Vec<String> {
    let (_, problems) = parse_text("f.yaml", yaml);
    problems
        .into_iter()
        .map(|problem| {
            assert_eq!(problem.file.as_deref(), Some("f.yaml"));
            let warning = if problem.is_error() { "" } else { "(warning) " };
            format!("{} {}: {warning}{}", problem.line.unwrap(), problem.path, problem.message)
        })
        .collect()
}

fn check(what: &str, yaml: &str, expected: &[&str]) {
    assert_eq!(told(yaml), expected, "{what}");
}

/// Checks a spec of one of our kinds; lines count from its first line as 5.
fn check_spec(what: &str, kind: Kind, spec: &str, expected: &[&str]) {
    let api_version = kind.info().api_version();
    let name = if kind == Kind::Mesh { "default" } else { "x" };
    let yaml = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n{spec}");
    check(what, &yaml, expected);
}

const FIVE_MISTAKES: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: Split_It
spec:
  parentRefs:
  - {group: \"\", kind: Service, name: be1}
  rules:
  - matches:
    - path: {type: Prefix, value: /a}
    backendRefs:
    - name: be1-v1
      port: 80
      weight: -90
    - name: be1-v2
      port: 99999
      weight: 10
    timeouts:
      request: 10
";

#[test]
fn a_file_with_five_mistakes_gives_exactly_five_problems() {
    check(
        "five mistakes",
        FIVE_MISTAKES,
        &[
            "4 metadata.name: \"Split_It\" is not a DNS name: labels of a-z, 0-9 and '-', joined by dots, at most 253",
            "10 spec.rules[0].matches[0].path.type: \"Prefix\" is not one of Exact, PathPrefix, RegularExpression",
            "14 spec.rules[0].backendRefs[0].weight: -90 is not within 0 to 1000000",
            "16 spec.rules[0].backendRefs[1].port: 99999 is not within 1 to 65535",
            "19 spec.rules[0].timeouts.request: must be a text, but is the number 10",
        ],
    );
    let (documents, problems) = parse_text("f.yaml", FIVE_MISTAKES);
    assert!(documents[0].object.is_none());
    assert_eq!(
        problems[0].to_string(),
        "f.yaml:4: HTTPRoute default/Split_It metadata.name: \"Split_It\" is not a DNS name: labels of a-z, 0-9 and '-', \
         joined by dots, at most 253 (hint: did you mean \"split-it\"?)"
    );
    assert_eq!(problems[4].hint.as_deref(), Some("in quotes: \"10\""));
}

#[test]
fn five_mistakes_over_several_documents_are_five() {
    let yaml = "\
apiVersion: weft.dev/v1
kind: TrafficPolicy
metadata: {name: a}
spec:
  targetRefs: [{name: be1}]
  timeout: {request: 1s}
  retry: {attempts: 99}
---
apiVersion: weft.dev/v1
kind: Workloads
metadata: {name: b}
---
apiVersion: v1
kind: Service
metadata: {name: c}
spec:
  ports: [{name: http, port: 80}, {name: http, port: 81}]
  ports: []
";
    check(
        "several documents",
        yaml,
        &[
            "6 spec.timeout: unknown field \"timeout\"",
            "7 spec.retry.attempts: 99 is not within 0 to 10",
            "10 kind: unknown kind \"Workloads\" of \"weft.dev/v1\"",
            "17 spec.ports[1]: the name is that of spec.ports[0]",
            "18 spec.ports: \"ports\" is given twice, first on line 17",
        ],
    );
    let (_, problems) = parse_text("f", yaml);
    assert_eq!(problems[0].hint.as_deref(), Some("did you mean \"timeouts\"?"));
    assert_eq!(problems[2].hint.as_deref(), Some("did you mean kind: Workload, apiVersion: weft.dev/v1?"));
    assert_eq!(problems[4].object, "Service default/c");
}

#[test]
fn an_unknown_field_is_an_error_in_our_kinds_and_a_warning_in_others() {
    check_spec("ours", Kind::Mesh, "  mtsl: {mode: Strict}\n", &["5 spec.mtsl: unknown field \"mtsl\""]);
    let service = "  ports: [{port: 80}]\n  futureField: 1\n";
    check_spec(
        "others'",
        Kind::Service,
        service,
        &["6 spec.futureField: (warning) unknown field \"futureField\""],
    );
    let (documents, _) = parse_text(
        "f",
        "{apiVersion: v1, kind: Service, metadata: {name: x, whatever: 1}, spec: {ports: [{port: 80}]}}",
    );
    assert!(documents[0].object.is_some());
}

#[test]
fn the_header_tells_what_is_meant() {
    let hint = |yaml: &str| {
        parse_text("f", yaml)
            .1
            .into_iter()
            .map(|problem| (problem.message, problem.hint.unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    let pair = |message: &str, hint: &str| (message.to_owned(), hint.to_owned());
    assert_eq!(
        hint("{apiVersion: v1, kind: HTTPRoute, metadata: {name: x}}"),
        [pair("\"v1\" has no kind HTTPRoute", "apiVersion: gateway.networking.k8s.io/v1")]
    );
    assert_eq!(
        hint("{kind: Mesh, metadata: {name: default}}"),
        [pair("is missing", "apiVersion: weft.dev/v1")]
    );
    assert_eq!(
        hint("just words"),
        [pair("is not an object", "it needs apiVersion, kind, metadata and spec")]
    );
    assert_eq!(hint("{}").len(), 2);
    assert!(
        hint("{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}}")[0]
            .1
            .starts_with("known kinds: Service, ")
    );
}

#[test]
fn values_of_the_wrong_type_say_what_to_write() {
    let mesh = "  trustDomain: 1.5\n  mtls: Strict\n  authorization: {default: deny}\n";
    check_spec(
        "wrong types",
        Kind::Mesh,
        mesh,
        &[
            "5 spec.trustDomain: must be a text, but is the number 1.5",
            "6 spec.mtls: must be an object, but is the text \"Strict\"",
            "7 spec.authorization.default: \"deny\" is not one of Deny, Allow",
        ],
    );
    let service = "  ports: {port: 80}\n  publishNotReadyAddresses: yes\n  selector: {app: 1}\n";
    check_spec(
        "wrong types of a Service",
        Kind::Service,
        service,
        &[
            "5 spec.ports: must be a list, but is an object",
            "6 spec.publishNotReadyAddresses: must be true or false, but is the text \"yes\"",
            "7 spec.selector.app: must be a text, but is the number 1",
        ],
    );
}

#[test]
fn durations_regexes_headers_paths_and_identities_are_checked() {
    check_spec(
        "duration",
        Kind::Mesh,
        "  certificates: {ttl: 24}\n",
        &["5 spec.certificates.ttl: must be a text, but is the number 24"],
    );
    check_spec(
        "no unit",
        Kind::Mesh,
        "  certificates: {ttl: \"24\"}\n",
        &["5 spec.certificates.ttl: needs a unit; write 24s, 24ms, 24m or 24h"],
    );
    check_spec(
        "too short",
        Kind::Mesh,
        "  certificates: {ttl: 1m}\n",
        &["5 spec.certificates.ttl: 1m is not within 2m to 720h"],
    );
    let route = "  parentRefs: [{group: \"\", kind: Service, name: a}]
  rules:
  - matches:
    - path: {type: RegularExpression, value: \"/a(\"}
    - headers: [{name: \"x y\", value: z}]
    - path: {value: nope}
";
    check_spec(
        "a route",
        Kind::HTTPRoute,
        route,
        &[
            "8 spec.rules[0].matches[0].path.value: \"/a(\" is not a regular expression: unclosed group",
            "9 spec.rules[0].matches[1].headers[0].name: \"x y\" is not a header name",
            "10 spec.rules[0].matches[2].path.value: \"nope\" does not start with /",
        ],
    );
    let policy = "  rules:
  - from: [{identities: [\"spiffe://TD/x\"]}, {}]
    to: [{methods: [get], paths: [/a*]}]
";
    check_spec(
        "an access policy",
        Kind::AccessPolicy,
        policy,
        &[
            "6 spec.rules[0].from[0].identities[0]: \"spiffe://TD/x\" is not a SPIFFE id: \"TD\" is not a trust domain: a-z, 0-9, '-', '_' and '.', at most 255",
            "6 spec.rules[0].from[1]: says nothing, and so would match everything",
            "7 spec.rules[0].to[0].methods[0]: \"get\" is not an HTTP method",
            "7 spec.rules[0].to[0].paths[0]: \"/a*\" has a * that is not a whole last element",
        ],
    );
}

#[test]
fn filters_hold_what_their_type_says() {
    let route = "  parentRefs: [{group: \"\", kind: Service, name: a}]
  rules:
  - filters:
    - {type: RequestRedirect, urlRewrite: {hostname: b}}
    - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch}}}
    backendRefs: [{name: b, port: 80, weight: 0}]
";
    check_spec(
        "filters",
        Kind::HTTPRoute,
        route,
        &[
            "8 spec.rules[0].filters[0].requestRedirect: is missing: type RequestRedirect needs it",
            "8 spec.rules[0].filters[0].urlRewrite: does not belong to a filter of type RequestRedirect",
            "9 spec.rules[0].filters[1]: a redirect and a rewrite exclude each other",
            "9 spec.rules[0].filters[1].urlRewrite.path.replacePrefixMatch: is missing: the type needs it",
            "10 spec.rules[0].backendRefs: a rule that redirects sends nothing on",
            "10 spec.rules[0].backendRefs: (warning) all weights are 0: every request is answered with 500",
        ],
    );
}

#[test]
fn a_list_is_its_items_and_a_missing_namespace_is_default() {
    let yaml = "
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata: {name: shop}
- apiVersion: v1
  kind: Service
  metadata: {name: web}
  spec: {ports: [{port: 80}]}
";
    let (documents, problems) = parse_text("f", yaml);
    assert_eq!(problems, []);
    let labels: Vec<String> =
        documents.iter().map(|document| document.object.as_ref().unwrap().label()).collect();
    assert_eq!(labels, ["Namespace shop", "Service default/web"]);
    assert_eq!(documents[1].value["metadata"]["namespace"], "default");
    assert_eq!(documents[1].line, 5 + 3);
    assert_eq!(documents[1].line_of("spec.ports[0].port"), 11);
    assert_eq!(documents[1].line_of("spec.nowhere"), 11);
}

#[test]
fn json_reads_like_yaml_with_the_same_lines() {
    let text = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Service\",\n\t\"metadata\": {\"name\": \"x\"},\n\t\"spec\": {\n\t\t\"ports\": [\n\t\t\t{\"port\": 0}\n\t\t]\n\t}\n}\n";
    check("json", text, &["7 spec.ports[0].port: 0 is not within 1 to 65535"]);
    let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": [{"port": 0}]}});
    let (object, problems) = parse_value(&value);
    assert!(object.is_none());
    assert_eq!(problems[0].to_string(), "Service default/x spec.ports[0].port: 0 is not within 1 to 65535");
}

#[test]
fn a_broken_document_does_not_hide_the_others() {
    let yaml = "a: [1, 2\nb: }\n---\napiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 70000}]}\n";
    let told = told(yaml);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("can't be read"), "{told:?}");
    assert_eq!(told[1], "7 spec.ports[0].port: 70000 is not within 1 to 65535");
}

#[test]
fn null_counts_as_left_out_and_empty_documents_as_none() {
    check(
        "nulls",
        "apiVersion: v1\nkind: Service\nmetadata: {name: x, labels: null}\nspec:\n  selector:\n  ports: [{port: 80, targetPort: ~}]\n",
        &[],
    );
    check("empty", "# nothing\n---\n---\n", &[]);
    check(
        "spec missing",
        "apiVersion: weft.dev/v1\nkind: Workload\nmetadata: {name: x}\n",
        &["1 spec: is missing"],
    );
}

#[test]
fn aliases_and_merge_keys_stand_for_what_they_repeat() {
    let yaml = "
apiVersion: v1
kind: Service
metadata: &meta
  name: x
  labels: &labels {app: x}
spec:
  selector: *labels
  ports:
  - &port {port: 80, name: http}
  - <<: *port
    port: 81
    name: other
";
    let (documents, problems) = parse_text("f", yaml);
    assert_eq!(problems, []);
    let Body::Service(service) = &documents[0].object.as_ref().unwrap().body else { return };
    assert_eq!(service.selector["app"], "x");
    assert_eq!((service.ports[1].port, service.ports[1].name.as_deref()), (81, Some("other")));
}

#[test]
fn paths_read_back_as_they_are_written() {
    for text in ["spec.rules[0].matches[12].path", "metadata.labels[\"app.kubernetes.io/name\"]", "", "[3].x"]
    {
        assert_eq!(Path::parse(text).to_string(), text);
    }
}

#[test]
fn what_a_secret_holds_is_not_repeated() {
    let yaml = "{apiVersion: v1, kind: Secret, metadata: {name: x}, data: {a: hunter2!, b: 424242}, stringData: {c: 424243}}";
    let text = told(yaml).join("\n") + &format!("{:?}", parse_text("f", yaml).1);
    assert!(!text.contains("hunter2") && !text.contains("42424"), "{text}");
    assert_eq!(told(yaml).len(), 3);
}

#[test]
fn the_services_and_policies_rules() {
    check_spec(
        "service",
        Kind::Service,
        "  clusterIP: here\n  ports: [{port: 80, protocol: UDP, appProtocol: http}, {port: 80, name: a, appProtocol: soap, targetPort: \"80\"}]\n",
        &[
            "5 spec.clusterIP: \"here\" is neither an IP address nor None",
            "6 spec.ports[1].targetPort: \"80\" is a number in quotes",
            "6 spec.ports[0].name: is missing: with several ports each needs a name",
            "6 spec.ports[0].protocol: (warning) the mesh does not carry UDP between members: nothing would encrypt it",
            "6 spec.ports[0].appProtocol: (warning) \"http\" is spoken over TCP, and the port is UDP",
            "6 spec.ports[1].appProtocol: (warning) \"soap\" is not known here; the port's name and number tell the protocol",
        ],
    );
    check_spec("no ports", Kind::Service, "  selector: {a: b}\n", &["4 spec.ports: needs at least one port"]);
    check_spec("headless", Kind::Service, "  clusterIP: None\n", &[]);
    check_spec(
        "external",
        Kind::ExternalService,
        "  hosts: [a.example, a.example]\n  ports: []\n  resolution: Static\n  tls: {mode: PassThrough, sni: b.example}\n",
        &[
            "4 spec.endpoints: is missing: resolution Static needs it",
            "5 spec.hosts[1]: the host is that of spec.hosts[0]",
            "6 spec.ports: needs at least 1 item",
            "8 spec.tls.sni: has no effect: with mode PassThrough the application does TLS",
        ],
    );
    check_spec(
        "traffic",
        Kind::TrafficPolicy,
        "  targetRefs: [{kind: HttpRoute, name: a}, {kind: HTTPRoute, name: a}]\n  timeouts: {request: 1s, perTry: 2s}\n  retry: {on: [5xx, 5xx, 6xx]}\n",
        &[
            "5 spec.targetRefs[0].kind: a policy of this kind can't target a \"HttpRoute\"",
            "5 spec.targetRefs[1].group: a HTTPRoute is not of the group \"\"",
            "6 spec.timeouts.perTry: 2s is longer than request, 1s",
            "7 spec.retry.on[2]: \"6xx\" is not one of connect-failure, refused-stream, reset, 5xx, gateway-error, retriable-4xx, unavailable, cancelled, deadline-exceeded, resource-exhausted, internal",
            "7 spec.retry.on[1]: the word is that of spec.retry.on[0]",
        ],
    );
    check(
        "mesh name",
        "{apiVersion: weft.dev/v1, kind: Mesh, metadata: {name: prod, namespace: x}}",
        &[
            "1 metadata.namespace: (warning) a Mesh is in no namespace",
            "1 metadata.name: a Mesh is named \"default\", not \"prod\"",
        ],
    );
}

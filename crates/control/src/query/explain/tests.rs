use serde_json::{Value, json};
use weft_store::{Batch, Stored};

use super::{Asked, Explanation, Verdict, explain, target};
use crate::snapshot::{ServiceId, Snapshot};
use crate::world::World;
use crate::{seed, vip};

/// fe calls be1 (two versions, split 90/10, a header rule before), be2 over TCP, be3 outside; only fe may call be1, and
/// only to read.
const MESH: &str = r#"
{apiVersion: v1, kind: Service, metadata: {name: fe}, spec: {selector: {app: fe}, ports: [{port: 80, targetPort: 8080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: be1}, spec: {selector: {app: be1}, ports: [{port: 80, targetPort: 8080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: be1-v1}, spec: {selector: {app: be1, version: v1}, ports: [{port: 80, targetPort: 8080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: be1-v2}, spec: {selector: {app: be1, version: v2}, ports: [{port: 80, targetPort: 8080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {selector: {app: db}, ports: [{port: 5432, protocol: TCP, appProtocol: tcp}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: empty}, spec: {selector: {app: empty}, ports: [{port: 80, targetPort: 8080}]}}
---
{apiVersion: weft.dev/v1, kind: ExternalService, metadata: {name: be3}, spec: {hosts: [be3.example], ports: [{name: http, port: 80, protocol: http}], resolution: Static, endpoints: [{address: 192.0.2.1}]}}
---
{apiVersion: weft.dev/v1, kind: Workload, metadata: {name: fe-1, labels: {app: fe}}, spec: {service: fe, address: 127.1.0.1, inboundPort: 15006, ports: [{name: http, port: 8080}]}}
---
{apiVersion: weft.dev/v1, kind: Workload, metadata: {name: be1-1, labels: {app: be1, version: v1}}, spec: {service: be1, address: 127.1.1.1, inboundPort: 15006, ports: [{name: http, port: 8080}]}}
---
{apiVersion: weft.dev/v1, kind: Workload, metadata: {name: be1-2, labels: {app: be1, version: v2}}, spec: {service: be1, address: 127.1.1.2, inboundPort: 15006, ports: [{name: http, port: 8080}]}}
---
{apiVersion: weft.dev/v1, kind: Workload, metadata: {name: db-1, labels: {app: db}}, spec: {service: db, address: 127.1.2.1, inboundPort: 15006, ports: [{name: pg, port: 5432}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: split, annotations: {weft.dev/source: "routes.yaml:7"}}
spec:
  parentRefs: [{group: "", kind: Service, name: be1}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /new}, headers: [{name: x-tier, value: premium}]}]
    backendRefs: [{name: be1-v2, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /}}]
    backendRefs: [{name: be1-v1, port: 80, weight: 90}, {name: be1-v2, port: 80, weight: 10}]
---
{apiVersion: weft.dev/v1, kind: AccessPolicy, metadata: {name: fe-reads}, spec: {targetRefs: [{kind: Service, name: be1}], rules: [{from: [{services: [fe]}], to: [{methods: [GET]}]}]}}
---
{apiVersion: weft.dev/v1, kind: AccessPolicy, metadata: {name: no-secrets}, spec: {action: Deny, targetRefs: [{kind: Service, name: be1}], rules: [{to: [{headers: [{name: x-secret, present: true}]}, {headers: [{name: x-weft-a, present: true}]}, {headers: [{name: x-request-id, present: false}]}]}]}}
---
{apiVersion: weft.dev/v1, kind: AccessPolicy, metadata: {name: no-admin}, spec: {action: Deny, targetRefs: [{kind: Service, name: be1}], rules: [{to: [{paths: [/admin/*]}]}]}}
"#;

fn snapshot() -> Snapshot {
    let (documents, problems) = weft_model::parse_text("mesh", MESH);
    assert!(problems.iter().all(|problem| !problem.is_error()), "{problems:?}");
    let objects = documents.iter().zip(1..).map(|(document, revision)| {
        let object = document.object.as_ref().unwrap();
        let key = seed::key(object.kind, "default", &object.meta.name);
        Stored {
            key,
            created: revision,
            modified: revision,
            value: object.to_value().to_string().into_bytes().into(),
        }
    });
    let mut world = World::new("mesh.internal", "mesh.internal");
    let objects: Vec<Stored> = objects.collect();
    world.apply(Batch::Reset { revision: objects.len() as u64, objects });
    vip::allocate(&mut world);
    world.snapshot()
}

fn ask(from: &str, method: &str, url: &str, headers: &str) -> Explanation {
    let asked = Asked {
        method: method.to_owned(),
        url: url.to_owned(),
        from: from.to_owned(),
        namespace: None,
        headers: Some(headers.to_owned()),
    };
    let question = asked.question().map_err(|wrong| wrong.1).unwrap();
    explain(&snapshot(), &question).unwrap()
}

fn step<'a>(found: &'a Explanation, name: &str) -> &'a super::Step {
    found.steps.iter().find(|step| step.step == name).unwrap_or_else(|| panic!("no {name} in {found:#?}"))
}

#[test]
fn a_split_names_its_rule_its_shares_and_the_policy_that_lets_it_in() {
    let found = ask("fe", "get", "http://be1/cart?x=1", "");
    assert_eq!((found.verdict, found.status), (Verdict::Forward, None), "{found:#?}");
    assert_eq!(found.backend.as_deref(), Some("default/be1-v1:80"));
    assert_eq!(found.endpoint.as_deref(), Some("127.1.1.1:15006"));
    let route = step(&found, "route");
    assert_eq!(route.result, "default/split#1");
    assert!(route.because.contains("1 rule before it does not fit"), "{}", route.because);
    let object = route.object.as_ref().unwrap();
    assert_eq!((object.kind.as_str(), object.name.as_str()), ("HTTPRoute", "split"));
    assert!(object.field.starts_with("spec.rules[1]"), "{}", object.field);
    assert_eq!(route.source.as_deref(), Some("routes.yaml:7"));
    assert!(step(&found, "weight").because.contains("default/be1-v2:80 10"), "{found:#?}");
    let policy = step(&found, "policy");
    assert_eq!(policy.result, "allow");
    assert_eq!(policy.object.as_ref().unwrap().name, "fe-reads");
    assert!(policy.because.contains("spiffe://mesh.internal/ns/default/sa/fe"), "{}", policy.because);
}

#[test]
fn a_header_chooses_the_other_rule() {
    let found = ask("fe", "GET", "http://be1.default/new/x", "X-Tier: premium");
    assert_eq!(found.backend.as_deref(), Some("default/be1-v2:80"));
    assert!(step(&found, "route").because.contains("header x-tier is \"premium\""), "{found:#?}");
    assert!(found.steps.iter().all(|step| step.step != "weight"), "{found:#?}");
    let other = ask("fe", "GET", "http://be1/new/x", "x-tier: basic");
    assert_eq!(other.backend.as_deref(), Some("default/be1-v1:80"));
}

#[test]
fn what_is_denied_says_by_whom_or_why_nobody_allows() {
    let found = ask("fe", "GET", "http://be1/admin/keys", "");
    assert_eq!((found.verdict, found.status), (Verdict::Deny, Some(403)));
    assert_eq!(step(&found, "policy").object.as_ref().unwrap().name, "no-admin");
    // As the proxy reads it: the dots are resolved before any policy looks.
    let hidden = ask("fe", "GET", "http://be1/x/../admin/keys", "");
    assert_eq!(hidden.verdict, Verdict::Deny, "{hidden:#?}");
    assert!(step(&hidden, "listener").because.contains("/admin/keys"), "{hidden:#?}");
    let post = ask("fe", "POST", "http://be1/cart", "");
    assert_eq!(post.verdict, Verdict::Deny);
    let because = &step(&post, "policy").because;
    assert!(because.contains("AccessPolicy default/fe-reads is for other requests"), "{because}");
    let other = ask("db", "GET", "http://be1/cart", "");
    let because = &step(&other, "policy").because;
    assert!(because.contains("AccessPolicy default/fe-reads is for other callers"), "{because}");
    let nobody = ask("fe", "GET", "tcp://db:5432", "");
    assert_eq!((nobody.verdict, nobody.status), (Verdict::Deny, None), "{nobody:#?}");
    assert!(
        step(&nobody, "policy").because.contains("no policy lets anybody call default/db"),
        "{nobody:#?}"
    );
}

#[test]
fn headers_are_those_that_the_callee_sees() {
    let asked = |headers: &str| ask("fe", "GET", "http://be1/", headers).verdict;
    assert_eq!(asked("x-secret: 1"), Verdict::Deny);
    // Of one hop, of proxies, with an underscore: none of them arrives; a request id does.
    assert_eq!(asked("connection: x-secret\nx-secret: 1"), Verdict::Forward);
    assert_eq!(asked("x-weft-a: 1"), Verdict::Forward);
    assert_eq!(asked("x_secret: 1"), Verdict::Forward);
}

#[test]
fn what_nobody_takes_says_what_there_is() {
    let found = ask("fe", "GET", "http://be9/x", "");
    assert_eq!((found.verdict, found.status), (Verdict::None, Some(404)));
    assert!(step(&found, "route").because.contains("did you mean"), "{found:#?}");
    let empty = ask("fe", "GET", "http://empty/", "");
    assert_eq!((empty.verdict, empty.status), (Verdict::Respond, Some(503)), "{empty:#?}");
    let outside = ask("fe", "GET", "http://be3.example/", "");
    assert_eq!(outside.verdict, Verdict::Forward);
    assert_eq!(outside.backend.as_deref(), Some("default/be3:80"));
    assert_eq!(outside.endpoint.as_deref(), Some("192.0.2.1:80"));
    assert!(step(&outside, "policy").because.contains("outside the mesh"), "{outside:#?}");
    let tls = ask("fe", "GET", "https://elsewhere.example", "");
    assert_eq!((tls.verdict, tls.status), (Verdict::None, None));
    let refused = ask("fe", "GET", "http://be1:99999/", "");
    assert_eq!((refused.verdict, refused.status), (Verdict::Respond, Some(400)), "{refused:#?}");
}

#[test]
fn its_shape_is_the_contract() {
    let json = serde_json::to_value(ask("fe", "GET", "http://be1/", "")).unwrap();
    assert_eq!(json["verdict"], "forward");
    assert_eq!(json["status"], Value::Null);
    let steps = json["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, ["listener", "route", "weight", "retry", "endpoint", "policy"]);
    for step in steps {
        for key in ["step", "result", "because", "object", "source"] {
            assert!(step.get(key).is_some(), "{step}");
        }
    }
    let object = steps[1]["object"].as_object().unwrap();
    assert!(["kind", "namespace", "name", "field", "revision"].iter().all(|key| object.contains_key(*key)));
    assert_eq!(json["backend"], json!("default/be1-v1:80"));
}

#[test]
fn a_question_wrongly_put_says_how_to_put_it() {
    for (url, says) in [
        ("be1/x", "no scheme"),
        ("http:///x", "names no host"),
        ("tcp://db", "names no port"),
        ("ftp://db:21", "has a scheme"),
        ("http://be1/a b", "can't be sent"),
    ] {
        let problem = target(url).unwrap_err();
        assert!(problem.contains(says) && problem.contains("http://be1/path"), "{url}: {problem}");
    }
    let asked = |method: &str, headers: &str| Asked {
        method: method.to_owned(),
        url: "http://be1/".to_owned(),
        from: "fe".to_owned(),
        namespace: Some("shop".to_owned()),
        headers: Some(headers.to_owned()),
    };
    assert!(asked("G T", "").question().is_err_and(|wrong| wrong.1.contains("no HTTP method")));
    assert!(asked("GET", "host: be2").question().is_err_and(|wrong| wrong.1.contains("URL")));
    assert!(asked("GET", "nonsense").question().is_err_and(|wrong| wrong.1.contains("NAME: VALUE")));
    let question = asked("GET", "a: 1\na: 2\n").question().map_err(|wrong| wrong.1).unwrap();
    assert_eq!(question.from, ServiceId::new("shop", "fe"));
    assert_eq!(question.headers.get_all("a").iter().count(), 2);
}

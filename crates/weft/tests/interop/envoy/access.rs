//! The same policies before an Envoy (BE2) and before a Weft proxy (BE4): each request has one verdict at both.

use super::*;

const POLICIES: &str = r#"
apiVersion: weft.dev/v1
kind: AccessPolicy
metadata: {name: NAME-allow}
spec:
  targetRefs: [{name: NAME}]
  rules:
  - from: [{services: [be1]}]
    to:
    - {paths: ["/open/*"], notPaths: [/open/closed], notMethods: [DELETE]}
    - {paths: [/host], hosts: [NAME.default, "*.NAME.default"]}
    - {grpcMethods: [shop.Cart/Add, shop.Stock/*]}
    - {paths: [/there], headers: [{name: x-debug, present: true}, {name: x-prod, present: false}]}
    - {paths: [/not], headers: [{name: X-Role, notValues: [guest]}]}
  - {from: [{ipBlocks: [127.0.0.0/8], notServices: [be4]}], to: [{paths: [/ip]}]}
  - {from: [{ipBlocks: [10.0.0.0/8]}], to: [{paths: [/elsewhere]}]}
  - {from: [{trustDomains: [other.example]}], to: [{paths: [/domain]}]}
  - {from: [{notNamespaces: [default]}], to: [{paths: [/namespace]}]}
---
apiVersion: weft.dev/v1
kind: AccessPolicy
metadata: {name: NAME-deny}
spec:
  targetRefs: [{name: NAME}]
  action: Deny
  rules:
  - to: [{paths: ["/open/*"], headers: [{name: x-role, values: [admin, a.b], prefixes: [evil]}]}]
  - to: [{paths: [/open/secret, "/open/secret/*", "/open/jobs:run"]}]
"#;

/// Method, path, headers, and the answer's status.
type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)], u16);

const ROWS: &[Row] = &[
    ("GET", "/open/a", &[], 200),
    ("GET", "/else", &[], 403),
    ("DELETE", "/open/a", &[], 403),
    ("GET", "/open/closed", &[], 403),
    ("GET", "/open/closed;x", &[], 403),
    ("GET", "/open/closed/a", &[], 200),
    ("GET", "/open/a;x", &[], 200),
    // A deny fires if one value fits.
    ("GET", "/open/a", &[("x-role", "user")], 200),
    ("GET", "/open/a", &[("x-role", "admin")], 403),
    ("GET", "/open/a", &[("x-role", "user"), ("x-role", "admin")], 403),
    ("GET", "/open/a", &[("x-role", "admin"), ("x-role", "user")], 403),
    ("GET", "/open/a", &[("x-role", "user, admin")], 403),
    ("GET", "/open/a", &[("x-role", "user,admin ,x")], 403),
    ("GET", "/open/a", &[("x-role", "\u{e4},admin")], 403),
    ("GET", "/open/a", &[("x-role", "administrator")], 200),
    ("GET", "/open/a", &[("x-role", "a.b")], 403),
    ("GET", "/open/a", &[("x-role", "axb")], 200),
    ("GET", "/open/a", &[("x-role", "evil-one")], 403),
    ("GET", "/open/a", &[("x-role", "user, evil-one")], 403),
    ("GET", "/open/a", &[("x-role", "not-evil")], 200),
    // Spellings of a path.
    ("GET", "/open/secret", &[], 403),
    ("GET", "/open/secret;x", &[], 403),
    ("GET", "/open/secret%3Bx", &[], 403),
    ("GET", "/open/secret/a", &[], 403),
    ("GET", "/open/secret;x/a", &[], 403),
    ("GET", "/open/./secret", &[], 403),
    ("GET", "/open/%73ecret", &[], 403),
    ("GET", "/open/secrets", &[], 200),
    ("GET", "/open/jobs:run", &[], 403),
    ("GET", "/open/jobs%3Arun", &[], 403),
    ("GET", "/open/jobs%3arun;x", &[], 403),
    ("GET", "/open/jobs:runs", &[], 200),
    // What an allow looks at.
    ("GET", "/host", &[], 403),
    ("POST", "/shop.Cart/Add", &[], 200),
    ("POST", "/shop.Cart/AddAll", &[], 403),
    ("POST", "/shop.Stock/Any", &[], 200),
    ("POST", "/shopxStock/Any", &[], 403),
    ("GET", "/there", &[("x-debug", "1")], 200),
    ("GET", "/there", &[], 403),
    ("GET", "/there", &[("x-debug", "1"), ("x-prod", "1")], 403),
    ("GET", "/not", &[], 200),
    ("GET", "/not", &[("x-role", "user")], 200),
    ("GET", "/not", &[("x-role", "guest")], 403),
    ("GET", "/not", &[("x-role", "user"), ("x-role", "guest")], 403),
    ("GET", "/not", &[("x-role", "user,guest")], 403),
    ("GET", "/ip", &[], 200),
    ("GET", "/elsewhere", &[("x-forwarded-for", "10.1.2.3")], 403),
    ("GET", "/domain", &[], 403),
    ("GET", "/namespace", &[], 403),
];

#[test]
fn an_envoy_and_a_weft_proxy_judge_alike() {
    let Some(figure) = Figure::start(8, &[]) else { return };
    for name in ["be2", "be4"] {
        figure.mesh.apply(&POLICIES.replace("NAME", name)).unwrap();
    }
    figure.mesh.ok(&["delete", "accesspolicy", "same-namespace"]).unwrap();
    let by_be1 = format!("127.0.0.1:{}", figure.be1.port("outbound"));
    let ask = |host: &str, (method, path, headers, _): &Row| {
        http::request(&by_be1, method, &format!("http://{host}{path}"), headers).unwrap().status
    };
    figure.until("the policies are in force at both", || {
        (["be2", "be4"].map(|name| ask(name, &("GET", "/else", &[], 403))) == [403, 403]).then_some(())
    });
    figure.settled();
    let mut wrong = Vec::new();
    for row in ROWS {
        let found = ["be2", "be4"].map(|name| ask(name, row));
        if found != [row.3, row.3] {
            wrong.push(format!("{row:?}: Envoy {}, Weft {}", found[0], found[1]));
        }
    }
    let by_host = ("GET", "/host", &[][..], 200);
    let found =
        ["be2.default", "be4.default", "be2.default:80", "be4.default:80"].map(|host| ask(host, &by_host));
    if found != [200; 4] {
        wrong.push(format!("by host: {found:?}"));
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), figure.envoy.log_text());
    allows_by_smi(&figure, &ask);
    counts_trials(&figure, &ask);
    lets_nobody_in_by_values(&figure, &ask);
}

fn allows_by_smi(figure: &Figure, ask: &impl Fn(&str, &Row) -> u16) {
    let long: Vec<String> = (0..60).map(|number| format!("shelf{number}")).collect();
    for name in ["be2", "be4"] {
        // Longer than an Envoy takes by itself.
        let text = format!(
            "apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {{name: {name}}}\nspec: {{matches: [{{name: books, methods: [GET], pathRegex: '/books/({})/[0-9]+'}}]}}\n---\n\
             apiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\nmetadata: {{name: {name}}}\nspec:\n  destination: {{kind: ServiceAccount, name: {name}}}\n  sources: [{{kind: ServiceAccount, name: be1}}]\n  rules: [{{kind: HTTPRouteGroup, name: {name}}}]\n",
            long.join("|")
        );
        figure.mesh.apply(&text).unwrap();
    }
    figure.until("the books are open at both", || {
        let row = ("GET", "/books/shelf59/7", &[][..], 200);
        (["be2", "be4"].map(|name| ask(name, &row)) == [200, 200]).then_some(())
    });
    for (method, path) in
        [("POST", "/books/shelf1/7"), ("GET", "/books/shelf1/x"), ("GET", "/a/books/shelf1/7")]
    {
        assert_eq!(
            ["be2", "be4"].map(|name| ask(name, &(method, path, &[], 403))),
            [403, 403],
            "{method} {path}"
        );
    }
    figure.settled();
}

fn counts_trials(figure: &Figure, ask: &impl Fn(&str, &Row) -> u16) {
    let trial = "apiVersion: weft.dev/v1\nkind: AccessPolicy\nmetadata: {name: NAME-trial}\nspec: {targetRefs: [{name: NAME}], action: Deny, mode: DryRun, rules: [{to: [{paths: [/open/tried]}]}]}\n";
    for name in ["be2", "be4"] {
        figure.mesh.apply(&trial.replace("NAME", name)).unwrap();
    }
    let row = ("GET", "/open/tried", &[][..], 200);
    figure.until("what is tried out is counted at both", || {
        assert_eq!(["be2", "be4"].map(|name| ask(name, &row)), [200, 200], "a trial changes nothing");
        let of_envoy = figure.admin("/stats?usedonly&filter=rbac.shadow_denied");
        let counted =
            of_envoy.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>();
        let of_weft =
            http::get(&format!("127.0.0.1:{}", figure.be4.port("admin")), "/stats", &[]).unwrap().body;
        let told =
            "weft_authorization_would_deny{caller=default/be1,policy=AccessPolicy/default/be4-trial}: ";
        (counted > 0 && of_weft.contains(told)).then_some(())
    });
}

/// An Envoy can't tell whether all lines of a header fit, so it lets nobody in; `weft check` tells.
fn lets_nobody_in_by_values(figure: &Figure, ask: &impl Fn(&str, &Row) -> u16) {
    let allow = "apiVersion: weft.dev/v1\nkind: AccessPolicy\nmetadata: {name: NAME-gold}\nspec: {targetRefs: [{name: NAME}], rules: [{to: [{paths: [/gold], headers: [{name: x-tier, values: [gold]}]}]}]}\n";
    for name in ["be2", "be4"] {
        figure.mesh.apply(&allow.replace("NAME", name)).unwrap();
    }
    let row = ("GET", "/gold", &[("x-tier", "gold")][..], 200);
    figure.until("Weft lets gold in", || (ask("be4", &row) == 200).then_some(()));
    figure.settled();
    assert_eq!(ask("be2", &row), 403);
    let told = String::from_utf8(figure.mesh.cli(&["check"]).unwrap().stdout).unwrap();
    let line = told.lines().find(|line| line.contains("WFT0922"));
    assert!(line.is_some_and(|line| line.contains("AccessPolicy default/be2-gold")), "{told}");
}

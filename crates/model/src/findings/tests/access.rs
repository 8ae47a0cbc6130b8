//! Rules of access that come to nothing, and TrafficTargets.

use super::*;

fn two(first: &str, second: &str) -> String {
    access("a", first) + &access("b", second)
}

#[test]
fn what_contradicts_itself_never_matches() {
    let never = |rule: &str, message: &str| {
        let expected = format!("WFT0021 warning AccessPolicy default/x: {message}");
        check(rule, &access("x", &format!("rules: [{rule}]")), &[&expected]);
    };
    let may = |rule: &str| check(rule, &access("x", &format!("rules: [{rule}]")), &[]);
    let everybody = "rules[0].from[0] leaves out everybody whom it names";
    never("{from: [{services: [fe, be1], notNamespaces: [default]}]}", everybody);
    never("{from: [{identities: ['spiffe://other/a/b'], notIdentities: ['spiffe://other/*']}]}", everybody);
    never("{from: [{namespaces: [shop], notIdentities: ['spiffe://mesh.internal/*']}]}", everybody);
    may("{from: [{services: [fe, shop/web], notNamespaces: [default]}]}");
    may("{from: [{namespaces: [ab], notIdentities: ['spiffe://mesh.internal/ns/a/*']}]}");
    may("{from: [{trustDomains: [other], notNamespaces: [default]}]}");
    never(
        "{from: [{ipBlocks: [10.1.0.0/16], notIpBlocks: [10.0.0.0/8]}]}",
        "rules[0].from[0] leaves out every network that it names",
    );
    may("{from: [{ipBlocks: [10.0.0.0/8], notIpBlocks: [10.1.0.0/16]}]}");
    never(
        "{to: [{methods: [GET], notMethods: [GET, POST]}]}",
        "rules[0].to[0] leaves out every method that it names",
    );
    may("{to: [{methods: [GET, HEAD], notMethods: [GET]}]}");
    let paths = "rules[0].to[0] leaves out every path that it names";
    never("{to: [{paths: [/a/b], notPaths: [/a/*]}]}", paths);
    never("{to: [{grpcMethods: [a.B/C], notPaths: [/a.B/*]}]}", paths);
    may("{to: [{grpcMethods: [a.B/*], notPaths: [/a.B/C]}]}");
    never(
        "{to: [{headers: [{name: X-A, present: false}, {name: x-a, values: [b]}]}]}",
        "rules[0].to[0] wants a value of header X-A, and that it is absent",
    );
    may("{to: [{headers: [{name: x-a, notValues: [c]}, {name: x-a, values: [b]}]}]}");
}

#[test]
fn ports_are_those_of_the_targets() {
    let about = |ports: &str| {
        access("x", &format!("targetRefs: [{{name: be1}}], rules: [{{to: [{{ports: [{ports}]}}]}}]"))
    };
    check(
        "no such port",
        &about("81, 82"),
        &[
            "WFT0021 warning AccessPolicy default/x: rules[0].to[0] names port 81, 82, which none of its targets has",
        ],
    );
    check("one of them", &about("81, 80"), &[]);
    check("as the app calls it", &about("8080"), &[]);
}

#[test]
fn a_deny_covers_an_allow_only_if_it_does_so_for_certain() {
    let denied = |allow: &str, deny: &str| {
        let covered = "WFT0023 warning AccessPolicy default/a: all that rules[0] allows is denied by AccessPolicy default/b (rules[0])";
        check(
            allow,
            &two(&format!("rules: [{allow}]"), &format!("action: Deny, rules: [{deny}]")),
            &[covered],
        );
    };
    let open = |allow: &str, deny: &str| {
        check(allow, &two(&format!("rules: [{allow}]"), &format!("action: Deny, rules: [{deny}]")), &[]);
    };
    denied("{from: [{services: [fe]}]}", "{from: [{namespaces: [default]}]}");
    open("{from: [{services: [shop/fe]}]}", "{from: [{namespaces: [default]}]}");
    open("{from: [{namespaces: [default]}]}", "{from: [{services: [fe]}]}");
    denied("{from: [{namespaces: [a], ipBlocks: [10.1.0.0/16]}]}", "{from: [{ipBlocks: [10.0.0.0/8]}]}");
    open("{from: [{namespaces: [a]}]}", "{from: [{ipBlocks: [10.0.0.0/8]}]}");
    denied("{to: [{methods: [GET], paths: [/a/b]}]}", "{to: [{paths: [/a/*]}]}");
    open("{to: [{methods: [GET], paths: [/a/b]}]}", "{to: [{methods: [POST], paths: [/a/*]}]}");
    denied("{to: [{paths: [/a]}]}", "{to: [{notPaths: [/b]}]}");
    open("{to: [{paths: [/b]}]}", "{to: [{notPaths: [/b]}]}");
    open("{to: [{paths: [/a]}]}", "{to: [{paths: [/a], headers: [{name: x, present: true}]}]}");
    denied("{from: [{services: [fe]}]}", "{from: [{notServices: [be1]}]}");
    open("{from: [{services: [be1]}]}", "{from: [{notServices: [be1]}]}");
    check("on trial it denies nothing", &two("rules: [{}]", "action: Deny, mode: DryRun, rules: [{}]"), &[]);
    check(
        "of one port only",
        &two("rules: [{}]", "action: Deny, targetRefs: [{name: be1, sectionName: http}], rules: [{}]"),
        &[],
    );
    let elsewhere = "---\n{apiVersion: weft.dev/v1, kind: AccessPolicy, metadata: {name: b, namespace: other}, spec: {action: Deny, rules: [{}]}}\n";
    check("of another namespace", &(access("a", "rules: [{}]") + elsewhere), &[]);
}

#[test]
fn of_two_rules_that_say_the_same_one_is_told() {
    check(
        "the narrower",
        &two("rules: [{from: [{services: [fe]}]}]", "rules: [{from: [{namespaces: [default]}]}]"),
        &["WFT0024 info AccessPolicy default/a: rules[0] is covered by AccessPolicy default/b (rules[0])"],
    );
    check(
        "the later",
        &two("rules: [{}]", "rules: [{}]"),
        &["WFT0024 info AccessPolicy default/b: rules[0] is covered by AccessPolicy default/a (rules[0])"],
    );
    check(
        "within one",
        &access("x", "rules: [{to: [{ports: [80]}]}, {}]"),
        &["WFT0024 info AccessPolicy default/x: rules[0] is covered by rules[1]"],
    );
    check("another action", &two("action: Audit, rules: [{}]", "rules: [{}]"), &[]);
    check("on trial", &two("mode: DryRun, rules: [{}]", "rules: [{}]"), &[]);
    check(
        "another target",
        &two(
            "targetRefs: [{name: be1}], rules: [{}]",
            "targetRefs: [{name: be1, sectionName: http}], rules: [{from: [{services: [fe]}]}]",
        ),
        &["WFT0024 info AccessPolicy default/b: rules[0] is covered by AccessPolicy default/a (rules[0])"],
    );
    check(
        "a narrower target",
        &two(
            "targetRefs: [{name: be1, sectionName: http}], rules: [{}]",
            "rules: [{from: [{services: [fe]}]}]",
        ),
        &[],
    );
}

#[test]
fn a_policy_without_rules_lets_nobody_in() {
    check(
        "allow",
        &access("x", ""),
        &["WFT0022 info AccessPolicy default/x: has no rule: it lets nobody in"],
    );
    check("on trial", &access("x", "mode: DryRun"), &[]);
    check("with one", &access("x", "rules: [{}]"), &[]);
}

#[test]
fn a_policy_on_trial_lets_nobody_in_and_keeps_nobody_out() {
    let nobody = "WFT0013 warning Service default/be1: no AccessPolicy of namespace default lets anybody in";
    check("allow", &(STRICT.to_owned() + &access("x", "mode: DryRun, rules: [{}]")), &[nobody]);
    check("deny", &(STRICT.to_owned() + &two("rules: [{}]", "action: Deny, mode: DryRun, rules: [{}]")), &[]);
}

fn target(name: &str, destination: &str, rules: &str) -> String {
    format!(
        "---\n{{apiVersion: access.smi-spec.io/v1alpha3, kind: TrafficTarget, metadata: {{name: {name}}}, \
         spec: {{destination: {{kind: ServiceAccount, name: {destination}}}, sources: [{{kind: ServiceAccount, name: fe}}], rules: [{rules}]}}}}\n"
    )
}

const ROUTES: &str = "---
{apiVersion: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, metadata: {name: web}, spec: {matches: [{name: read, methods: [GET]}]}}
---
{apiVersion: specs.smi-spec.io/v1alpha4, kind: TCPRoute, metadata: {name: all}, spec: {}}
";

#[test]
fn traffic_targets_name_what_is_there() {
    let web = "{kind: HTTPRouteGroup, name: web, matches: [read]}, {kind: TCPRoute, name: all}";
    check("all is there", &(ROUTES.to_owned() + &target("t", "be1", web)), &[]);
    let told = |what: &str, rules: &str, message: &str| {
        let expected = format!("WFT0025 warning TrafficTarget default/t: rules[0]: {message}");
        check(what, &(ROUTES.to_owned() + &target("t", "be1", rules)), &[&expected]);
    };
    told("no group", "{kind: HTTPRouteGroup, name: api}", "HTTPRouteGroup default/api is not there");
    told(
        "no match",
        "{kind: HTTPRouteGroup, name: web, matches: [raed]}",
        "HTTPRouteGroup default/web has no match named \"raed\" (did you mean \"read\"?)",
    );
    // One of that name, but a route of Gateway API.
    told("no route", "{kind: TCPRoute, name: db}", "TCPRoute default/db is not there");
    told(
        "datagrams",
        "{kind: UDPRoute, name: dns}",
        "UDPRoute dns: datagrams are not carried between members",
    );
    check(
        "nobody's account",
        &(ROUTES.to_owned() + &target("t", "be11", web)),
        &[
            "WFT0026 warning TrafficTarget default/t: its destination, default/be11, is nobody's service account (did you mean \"be1\"?",
        ],
    );
}

#[test]
fn a_traffic_target_lets_somebody_in() {
    let text = STRICT.to_owned() + ROUTES;
    let nobody = "WFT0013 warning Service default/be1: no AccessPolicy of namespace default lets anybody in";
    check("without", &text, &[nobody]);
    check("with", &(text + &target("t", "be1", "{kind: TCPRoute, name: all}")), &[]);
}

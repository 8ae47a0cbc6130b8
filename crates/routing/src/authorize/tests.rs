//! Who may do what.
#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{NO_POLICY, PolicyInput, decide, would_refuse};
use crate::matcher::HeadView;
use crate::types::{
    HeaderKey, HeaderMatch, HeaderTest, Permission, Policy, Principal, Rbac, RbacAction, StringMatch,
};

fn exact(value: &str) -> StringMatch {
    StringMatch::Exact { value: value.into(), ignore_case: false }
}

fn header(name: &'static str, value: &str, invert: bool) -> HeaderMatch {
    HeaderMatch {
        key: HeaderKey::Name(HeaderName::from_static(name)),
        test: HeaderTest::Text(exact(value)),
        invert,
        missing_as_empty: false,
    }
}

fn method(value: &str) -> Permission {
    Permission::Header(HeaderMatch {
        key: HeaderKey::Method,
        test: HeaderTest::Text(exact(value)),
        invert: false,
        missing_as_empty: false,
    })
}

fn rbac(action: RbacAction, permission: Permission, principal: Principal) -> Rbac {
    let policy = Policy {
        name: "AccessPolicy/default/p".into(),
        permissions: vec![permission],
        principals: vec![principal],
        stamp: None,
    };
    Rbac { action, policies: vec![policy] }
}

fn input<'a>(head: Option<&'a HeadView<'a>>) -> PolicyInput<'a> {
    let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
    PolicyInput {
        head,
        principal: Some("spiffe://mesh.internal/ns/default/sa/fe"),
        authenticated: true,
        direct_ip: ip,
        source_ip: ip,
        remote_ip: ip,
        destination_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        destination_port: 8080,
        server_name: None,
    }
}

fn head<'a>(method: &'a Method, path: &'a str, headers: &'a HeaderMap) -> HeadView<'a> {
    HeadView {
        method,
        scheme: "http",
        authority: "be1",
        path,
        query: None,
        headers,
        protocol: None,
        tls_presented: true,
        tls_validated: true,
    }
}

#[test]
fn allow_deny_and_log() {
    let fits = |action| rbac(action, Permission::Any, Principal::Any);
    let misses = |action| rbac(action, Permission::DestinationPort(1), Principal::Any);
    let cases = [
        (fits(RbacAction::Allow), true, Some("AccessPolicy/default/p")),
        (misses(RbacAction::Allow), false, None),
        (fits(RbacAction::Deny), false, Some("AccessPolicy/default/p")),
        (misses(RbacAction::Deny), true, None),
        (fits(RbacAction::Log), true, Some("AccessPolicy/default/p")),
        (misses(RbacAction::Log), true, None),
    ];
    for (rules, allow, name) in cases {
        let verdict = decide(&rules, &input(None));
        assert_eq!((verdict.allow, verdict.policy_name()), (allow, name), "{rules:?}");
    }
    let nobody = Rbac { action: RbacAction::Allow, policies: Vec::new() };
    assert!(!decide(&nobody, &input(None)).allow, "no policies: nobody");
}

#[test]
fn on_trial_each_object_that_would_refuse_is_told_once() {
    let policy = |name: &str, fits: bool| Policy {
        name: name.into(),
        permissions: vec![if fits { Permission::Any } else { Permission::DestinationPort(1) }],
        principals: vec![Principal::Any],
        stamp: None,
    };
    let told = |action, policies: &[(&str, bool)]| {
        let policies = policies.iter().map(|(name, fits)| policy(name, *fits)).collect();
        let rules = Rbac { action, policies };
        would_refuse(&rules, &input(None)).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    let rules =
        [("A/n/a#0", true), ("A/n/a#10", true), ("A/n/a#2", false), ("A/n/b", true), ("A/n/c", false)];
    assert_eq!(told(RbacAction::Deny, &rules), ["A/n/a", "A/n/b"]);
    assert_eq!(told(RbacAction::Allow, &rules), none);
    assert_eq!(told(RbacAction::Log, &rules), none);
    assert_eq!(told(RbacAction::Deny, &[("A/n/a", false)]), none);
    assert_eq!(told(RbacAction::Allow, &[("A/n/a#0", false), ("A/n/a#1", false)]), ["A/n/a"]);
    assert_eq!(told(RbacAction::Allow, &[("A/n/a", false), ("A/n/b", false)]), [NO_POLICY]);
    assert_eq!(told(RbacAction::Allow, &[]), [NO_POLICY]);
    assert_eq!(told(RbacAction::Deny, &[("odd#name", true), ("odd#", true)]), ["odd#name", "odd#"]);
}

#[test]
fn principals() {
    let net = |text: &str| text.parse().unwrap();
    let name = |test| Principal::Authenticated(Some(test));
    let prefix =
        StringMatch::Prefix { value: "spiffe://mesh.internal/ns/default/".into(), ignore_case: false };
    let cases = [
        (name(exact("spiffe://mesh.internal/ns/default/sa/fe")), true),
        (name(exact("spiffe://mesh.internal/ns/default/sa/be")), false),
        (name(prefix), true),
        (Principal::Authenticated(None), true),
        (Principal::DirectRemoteIp(net("10.0.0.0/8")), true),
        (Principal::DirectRemoteIp(net("192.168.0.0/16")), false),
        (Principal::SourceIp(net("10.0.0.0/8")), true),
        (Principal::SourceIp(net("192.168.0.0/16")), false),
        (Principal::Not(Box::new(Principal::Any)), false),
        (Principal::And(vec![Principal::Any, Principal::RemoteIp(net("10.0.0.9/32"))]), true),
        (Principal::Or(vec![name(exact("x")), Principal::Any]), true),
    ];
    for (principal, expected) in cases {
        let rules = rbac(RbacAction::Allow, Permission::Any, principal);
        assert_eq!(decide(&rules, &input(None)).allow, expected, "{rules:?}");
    }
    let rules =
        rbac(RbacAction::Allow, Permission::Any, name(exact("spiffe://mesh.internal/ns/default/sa/fe")));
    let stranger = PolicyInput { authenticated: false, ..input(None) };
    assert!(!decide(&rules, &stranger).allow, "a name that nobody checked is no name");
}

#[test]
fn permissions_on_http() {
    let headers = HeaderMap::new();
    let get = head(&Method::GET, "/a/b", &headers);
    let path = |test| Permission::UrlPath(test);
    let cases = [
        (method("GET"), true),
        (method("POST"), false),
        (path(exact("/a/b")), true),
        (path(StringMatch::Prefix { value: "/a/".into(), ignore_case: false }), true),
        (path(exact("/a")), false),
        (Permission::And(vec![method("GET"), path(exact("/a/b")), Permission::DestinationPort(8080)]), true),
        (Permission::Not(Box::new(method("GET"))), false),
        (Permission::DestinationPortRange { start: 8000, end: 8080 }, false),
        (Permission::DestinationPortRange { start: 8000, end: 8081 }, true),
    ];
    for (permission, expected) in cases {
        let rules = rbac(RbacAction::Allow, permission, Principal::Any);
        assert_eq!(decide(&rules, &input(Some(&get))).allow, expected, "{rules:?}");
    }
}

#[test]
fn on_tcp_an_http_rule_denies_and_never_allows() {
    for permission in [
        method("GET"),
        Permission::Not(Box::new(method("GET"))),
        Permission::UrlPath(exact("/")),
        Permission::Header(header("x-a", "1", true)),
        Permission::And(vec![method("GET"), Permission::DestinationPort(8080)]),
    ] {
        let deny = rbac(RbacAction::Deny, permission.clone(), Principal::Any);
        assert!(!decide(&deny, &input(None)).allow, "deny {permission:?}");
        let allow = rbac(RbacAction::Allow, permission.clone(), Principal::Any);
        assert!(!decide(&allow, &input(None)).allow, "allow {permission:?}");
    }
}

#[test]
fn a_header_sent_twice_cannot_slip_through() {
    let mut headers = HeaderMap::new();
    headers.append("x-role", HeaderValue::from_static("admin"));
    headers.append("x-role", HeaderValue::from_static("guest"));
    let twice = head(&Method::GET, "/", &headers);
    let not = |permission: Permission| Permission::Not(Box::new(permission));
    let cases = [
        // (permission, does a deny fire, does an allow fire)
        (Permission::Header(header("x-role", "admin", false)), true, false),
        (Permission::Header(header("x-role", "guest", false)), true, false),
        (Permission::Header(header("x-role", "other", false)), false, false),
        (Permission::Header(header("x-role", "admin", true)), true, false),
        (not(Permission::Header(header("x-role", "admin", false))), true, false),
        (not(Permission::Header(header("x-role", "other", false))), true, true),
    ];
    for (permission, denies, allows) in cases {
        let deny = rbac(RbacAction::Deny, permission.clone(), Principal::Any);
        assert_eq!(!decide(&deny, &input(Some(&twice))).allow, denies, "deny {permission:?}");
        let allow = rbac(RbacAction::Allow, permission.clone(), Principal::Any);
        assert_eq!(decide(&allow, &input(Some(&twice))).allow, allows, "allow {permission:?}");
    }
}

#[test]
fn one_of_a_list_in_one_line_is_a_value_too() {
    let cases = [
        // (the line, does a deny of admin fire, does an allow of guest, does an allow of all but admin)
        ("admin", true, false, false),
        ("guest", false, true, true),
        ("guest,admin", true, false, false),
        ("admin ,\tguest", true, false, false),
        ("guest,other", false, false, true),
        ("administrator,x", false, false, true),
    ];
    for (line, denies, allows_guest, allows_others) in cases {
        let mut headers = HeaderMap::new();
        headers.append("x-role", HeaderValue::from_str(line).unwrap());
        let head = head(&Method::GET, "/", &headers);
        let judged = |action, value, invert| {
            let rules = rbac(action, Permission::Header(header("x-role", value, invert)), Principal::Any);
            decide(&rules, &input(Some(&head))).allow
        };
        assert_eq!(!judged(RbacAction::Deny, "admin", false), denies, "{line}");
        assert_eq!(judged(RbacAction::Allow, "guest", false), allows_guest, "{line}");
        assert_eq!(judged(RbacAction::Allow, "admin", true), allows_others, "{line}");
    }
}

#[test]
fn a_path_with_parameters_is_judged_with_and_without_them() {
    let headers = HeaderMap::new();
    let prefix = |value: &str| StringMatch::Prefix { value: value.into(), ignore_case: false };
    let cases = [
        // (path, the policy's, does a deny fire, does an allow fire)
        ("/admin;x", exact("/admin"), true, false),
        ("/admin%3Bx", exact("/admin"), true, false),
        ("/public/..;/admin", prefix("/admin"), true, false),
        ("/public/..;/admin", prefix("/public/"), true, false),
        ("/public;a/x;b", prefix("/public/"), true, false),
        ("/public/x;b", prefix("/public/"), true, true),
        ("/map;lat=1", exact("/map;lat=1"), true, true),
        ("/map;lat=1", exact("/other"), false, false),
        ("/a%20b", exact("/a%20b"), true, true),
        // And with its escapes and without them, which nearly every app decodes.
        ("/v1/jobs%3Arun", exact("/v1/jobs:run"), true, false),
        ("/v1/jobs%3arun;x", exact("/v1/jobs:run"), true, false),
        ("/v1/jobs%3Arun", prefix("/v1/"), true, true),
        ("/map%3Blat=1", exact("/map;lat=1"), true, false),
        ("/caf%c3%a9/x", prefix("/caf\u{e9}/"), true, false),
        ("/caf%C3%A9", exact("/caf%C3%A9"), true, true),
        ("/x%2Fadmin", exact("/x/admin"), false, false),
        ("/%zz%", exact("/%zz%"), true, true),
    ];
    for (path, test, denies, allows) in cases {
        let head = head(&Method::GET, path, &headers);
        let judged = |action| {
            decide(&rbac(action, Permission::UrlPath(test.clone()), Principal::Any), &input(Some(&head)))
                .allow
        };
        assert_eq!(
            (!judged(RbacAction::Deny), judged(RbacAction::Allow)),
            (denies, allows),
            "{path} {test:?}"
        );
    }
}

/// S-AZ-09: whatever stands in a name stands for itself, and for nothing else.
#[test]
fn literals_are_literals() {
    let long = "n".repeat(253);
    let names = [
        "a.b",
        "a*",
        "*",
        "a+",
        "a?",
        "[a]",
        "(a)",
        "a|b",
        "^a",
        "a$",
        "a\\d",
        "{a}",
        "a{2}",
        ".*",
        "\u{fc}ml\u{e4}ut",
        "a b",
        "%61",
        &long,
    ];
    let headers = HeaderMap::new();
    for name in names {
        let own = format!("spiffe://mesh.internal/ns/{name}/sa/{name}");
        let path = format!("/{name}");
        let others = [
            own.replace('.', "x"),
            own.replace(['*', '+', '?', '|', '^', '$', '\\'], ""),
            own.replace(['[', ']', '(', ')', '{', '}'], ""),
            format!("{own}x"),
            format!("x{own}"),
            own[..own.len() - 1].chars().collect::<String>(),
            "spiffe://mesh.internal/ns/aab/sa/aab".to_owned(),
        ];
        let who = |test| rbac(RbacAction::Allow, Permission::Any, Principal::Authenticated(Some(test)));
        let allowed =
            |rules: &Rbac, id: &str| decide(rules, &PolicyInput { principal: Some(id), ..input(None) }).allow;
        let rules = who(exact(&own));
        assert!(allowed(&rules, &own), "{own}");
        for other in others.iter().filter(|other| **other != own) {
            assert!(!allowed(&rules, other), "{own} lets {other} in");
        }
        // All of a namespace is none of a namespace that begins like it.
        let all = format!("spiffe://mesh.internal/ns/{name}/");
        let rules = who(StringMatch::Prefix { value: all.as_str().into(), ignore_case: false });
        assert!(allowed(&rules, &own));
        assert!(!allowed(&rules, &format!("spiffe://mesh.internal/ns/{name}x/sa/{name}")), "{all}");
        assert!(!allowed(&rules, &own.replace("mesh.internal", "other.example")), "{all}");
        let rules = rbac(RbacAction::Allow, Permission::UrlPath(exact(&path)), Principal::Any);
        let asks = |path: &str| decide(&rules, &input(Some(&head(&Method::GET, path, &headers)))).allow;
        assert!(asks(&path) && !asks("/aab") && !asks(&format!("{path}x")), "{path}");
    }
}

#[test]
fn mapped_addresses_are_the_addresses_they_map() {
    let rules =
        rbac(RbacAction::Deny, Permission::Any, Principal::DirectRemoteIp("10.0.0.0/8".parse().unwrap()));
    let mapped = IpAddr::V6(Ipv4Addr::new(10, 1, 1, 1).to_ipv6_mapped());
    assert!(!decide(&rules, &PolicyInput { direct_ip: mapped, ..input(None) }).allow);
}

//! Who may do what, from the objects to the verdict: the truth table of S-AZ-08, literals of S-AZ-09, and ten thousand
//! seeded pairs of policies and requests, each judged twice: by the control plane's translation read by the data
//! plane's own reader, and by [`naive`], which knows nothing but the documented order.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod chance;
mod mesh;
mod naive;

use weft_model::{AccessAction, AccessFrom, AccessMode, AccessPolicy, AccessRule, AccessTo};

use mesh::{Mesh, PORTS};
use naive::{Http, Request};

fn get(path: &str) -> Http {
    Http { method: "GET".into(), host: "api".into(), path: path.into(), headers: Vec::new() }
}

fn request(id: Option<&str>, port: u16, http: Option<Http>) -> Request {
    let ip = "10.1.2.3".parse().unwrap();
    Request { id: id.map(str::to_owned), ip, port, http }
}

/// What one action's policies say about a call by `fe`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    /// No policy of this action.
    None,
    /// A policy without rules.
    Empty,
    Match,
    Miss,
    /// A match by what only HTTP has.
    HttpMatch,
}

impl Says {
    fn policy(self, action: AccessAction) -> Option<AccessPolicy> {
        let from = |name: &str| AccessFrom { services: vec![name.into()], ..AccessFrom::default() };
        let to = AccessTo { methods: vec!["GET".into()], ..AccessTo::default() };
        let rules = match self {
            Says::None => return None,
            Says::Empty => Vec::new(),
            Says::Match => vec![AccessRule { from: vec![from("fe")], to: Vec::new() }],
            Says::Miss => vec![AccessRule { from: vec![from("batch")], to: Vec::new() }],
            Says::HttpMatch => vec![AccessRule { from: vec![from("fe")], to: vec![to] }],
        };
        Some(AccessPolicy { action, rules, ..AccessPolicy::default() })
    }
}

/// S-AZ-08: {no, matching, missing, HTTP-matching} DENY × {no, empty, matching, missing, HTTP-matching} ALLOW ×
/// {no, matching, on trial} AUDIT × {HTTP, TCP, TLS of the app's own}: 180 rows, as documented: a deny that fits
/// refuses; else an allow must fit; else it is refused. Without HTTP, its attributes fit a deny and fit no allow. An
/// audit and what is on trial change nothing.
#[test]
fn deny_beats_allow_beats_default_deny_and_trials_never_count() {
    let fe = Some("spiffe://mesh.internal/ns/default/sa/fe");
    let (mut rows, mut passed) = (0, 0);
    for deny in [Says::None, Says::Match, Says::Miss, Says::HttpMatch] {
        for allow in [Says::None, Says::Empty, Says::Match, Says::Miss, Says::HttpMatch] {
            for trial in [
                None,
                Some((AccessAction::Audit, AccessMode::Enforce)),
                Some((AccessAction::Deny, AccessMode::DryRun)),
            ] {
                let mut policies: Vec<AccessPolicy> = Vec::new();
                policies.extend(deny.policy(AccessAction::Deny));
                policies.extend(allow.policy(AccessAction::Allow));
                policies.extend(
                    trial.map(|(action, mode)| AccessPolicy { mode, ..Says::Match.policy(action).unwrap() }),
                );
                let mesh = Mesh::with(&policies);
                for (port, http) in PORTS {
                    let asked = request(fe, port, http.then(|| get("/x")));
                    let denied = matches!(deny, Says::Match | Says::HttpMatch);
                    let allowed = matches!((allow, http), (Says::Match, _) | (Says::HttpMatch, true));
                    let row = format!("DENY {deny:?}, ALLOW {allow:?}, trial {trial:?}, port {port}");
                    assert_eq!(mesh.lets_in(&asked), !denied && allowed, "{row}");
                    assert_eq!(naive::lets_in(&policies, &asked), !denied && allowed, "naive: {row}");
                    let counted = !denied && allowed && trial.is_some();
                    assert_eq!(!mesh.would_refuse(&asked).is_empty(), counted, "counted: {row}");
                    rows += 1;
                    passed += usize::from(!denied && allowed);
                }
            }
        }
    }
    eprintln!("S-AZ-08: {rows} rows, {passed} let in");
    assert_eq!((rows, passed), (180, 3 * 2 * (1 + 1 + 1) + 3 * 2));
}

/// S-AZ-08, {HTTP, TCP, TLS} × the same without any identity: a deny that names callers refuses who shows none.
#[test]
fn who_shows_no_identity_is_nobody_to_an_allow_and_anybody_to_a_deny() {
    let named = |action, from: AccessFrom| {
        let rules = vec![AccessRule { from: vec![from], to: Vec::new() }];
        AccessPolicy { action, rules, ..AccessPolicy::default() }
    };
    let everybody = || AccessPolicy { rules: vec![AccessRule::default()], ..AccessPolicy::default() };
    let jobs = || AccessFrom { namespaces: vec!["jobs".into()], ..AccessFrom::default() };
    let not_jobs = || AccessFrom { not_namespaces: vec!["jobs".into()], ..AccessFrom::default() };
    for (policies, lets_in) in [
        (vec![everybody()], true),
        (vec![everybody(), named(AccessAction::Deny, jobs())], false),
        (vec![everybody(), named(AccessAction::Deny, not_jobs())], false),
        (vec![named(AccessAction::Allow, jobs())], false),
        (vec![named(AccessAction::Allow, not_jobs())], false),
    ] {
        let mesh = Mesh::with(&policies);
        for (port, http) in PORTS {
            let asked = request(None, port, http.then(|| get("/x")));
            assert_eq!(mesh.lets_in(&asked), lets_in, "{port} {policies:#?}");
            assert_eq!(naive::lets_in(&policies, &asked), lets_in, "naive: {port} {policies:#?}");
        }
    }
}

/// S-AZ-09: what looks like an expression is a text, a namespace is no beginning of another, and `*` never reaches
/// across a trust domain.
#[test]
fn names_are_literal() {
    let allow = |from: AccessFrom, to: Vec<AccessTo>| {
        vec![AccessPolicy { rules: vec![AccessRule { from: vec![from], to }], ..AccessPolicy::default() }]
    };
    let id = |text: &str| AccessFrom { identities: vec![text.into()], ..AccessFrom::default() };
    let ns = |text: &str| AccessFrom { namespaces: vec![text.into()], ..AccessFrom::default() };
    let td = |text: &str| AccessFrom { trust_domains: vec![text.into()], ..AccessFrom::default() };
    for (from, who, lets_in) in [
        (id("spiffe://mesh.internal/ns/a/*"), "spiffe://mesh.internal/ns/a/sa/x", true),
        (id("spiffe://mesh.internal/ns/a/*"), "spiffe://mesh.internal/ns/ab/sa/x", false),
        (id("spiffe://mesh.internal/ns/a/*"), "spiffe://mesh.internal/ns/a", false),
        (id("spiffe://mesh.internal/*"), "spiffe://mesh.internal.evil/ns/a/sa/x", false),
        (id("spiffe://mesh.internal/*"), "spiffe://mesh-internal/ns/a/sa/x", false),
        (id("spiffe://mesh.internal/ns/a.b/sa/x"), "spiffe://mesh.internal/ns/acb/sa/x", false),
        (id("spiffe://mesh.internal/ns/a.b/sa/x"), "spiffe://mesh.internal/ns/a.b/sa/x", true),
        (id("spiffe://mesh.internal/ns/a/sa/x"), "spiffe://mesh.internal/ns/a/sa/xy", false),
        (ns("a"), "spiffe://mesh.internal/ns/a/sa/x", true),
        (ns("a"), "spiffe://mesh.internal/ns/ab/sa/x", false),
        (ns("a"), "spiffe://other.example/ns/a/sa/x", false),
        (td("other.example"), "spiffe://other.example/x", true),
        (td("other.example"), "spiffe://other.example.evil/x", false),
        (td("other.example"), "spiffe://otherxexample/x", false),
        (td("other.example"), "spiffe://mesh.internal/ns/a/sa/x", false),
    ] {
        let policies = allow(from, Vec::new());
        let asked = request(Some(who), 8080, Some(get("/")));
        assert_eq!(Mesh::with(&policies).lets_in(&asked), lets_in, "{who} {policies:?}");
        assert_eq!(naive::lets_in(&policies, &asked), lets_in, "naive: {who} {policies:?}");
    }
    // Several values become one expression; each is still a text.
    let odd = ["a.b", "a*", "a+", "a?", "[a]", "(a)", "a|b", "^a", "a$", r"a\d", "{a}", "a{2}", ".*"];
    let header = weft_model::AccessHeader {
        name: "x-a".into(),
        values: odd.iter().map(|text| (*text).to_owned()).collect(),
        ..Default::default()
    };
    let policies =
        allow(td("mesh.internal"), vec![AccessTo { headers: vec![header], ..AccessTo::default() }]);
    let mesh = Mesh::with(&policies);
    let asks = |value: &str| {
        let headers = vec![("x-a".to_owned(), value.to_owned())];
        let asked = request(Some("spiffe://mesh.internal/x"), 8080, Some(Http { headers, ..get("/") }));
        assert_eq!(mesh.lets_in(&asked), naive::lets_in(&policies, &asked), "{value}");
        mesh.lets_in(&asked)
    };
    for text in odd {
        assert!(asks(text), "{text}");
    }
    for text in ["axb", "a", "aa", "aaa", "b", "a1", "", "anything", "a.b,a*"] {
        assert!(!asks(text), "{text}");
    }
}

/// 10,000 pairs of policies and requests at random.
#[test]
fn the_translation_and_a_naive_reading_agree_on_ten_thousand_requests() {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let mut chance = fastrand::Rng::with_seed(seed);
    let (mut let_in, mut refused, mut counted) = (0, 0, 0);
    for round in 0..500 {
        let policies = chance::policies(&mut chance);
        let mesh = Mesh::with(&policies);
        for _ in 0..20 {
            let asked = chance::request(&mut chance);
            let (found, expected) = (mesh.lets_in(&asked), naive::lets_in(&policies, &asked));
            assert_eq!(found, expected, "SEED={seed}, round {round}: {asked:#?}\n{policies:#?}");
            if !found {
                refused += 1;
                continue;
            }
            let_in += 1;
            let (found, expected) = (mesh.would_refuse(&asked), naive::would_refuse(&policies, &asked));
            assert_eq!(found, expected, "SEED={seed}, round {round}: {asked:#?}\n{policies:#?}");
            counted += usize::from(!found.is_empty());
        }
    }
    eprintln!("{let_in} let in, {refused} refused, {counted} counted on trial");
    assert_eq!(let_in + refused, 10_000);
    // The guard: both verdicts and the trials come up often enough to mean something.
    assert!(let_in > 1000 && refused > 1000 && counted > 200, "{let_in}, {refused}, {counted}");
}

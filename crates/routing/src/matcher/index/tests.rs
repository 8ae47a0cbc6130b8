//! The index answers what a walk over all routes answers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use regex::Regex;

use super::*;
use crate::types::{
    DirectResponse, HeaderEdits, HeaderKey, HeaderMatch, HeaderTest, RouteAction, StringMatch,
};

fn route(path: PathMatch) -> Route {
    Route {
        name: "".into(),
        matcher: RouteMatch {
            path,
            ignore_case: false,
            headers: Vec::new(),
            query: Vec::new(),
            grpc: false,
            tls_presented: None,
            tls_validated: None,
            fraction_millionths: 1_000_000,
        },
        action: RouteAction::Respond(DirectResponse { status: StatusCode::OK, body: Arc::from([]) }),
        edits: HeaderEdits::default(),
        stamp: None,
    }
}

fn anchored(pattern: &str) -> PathMatch {
    PathMatch::Regex(Regex::new(&format!(r"\A(?:{pattern})\z")).unwrap())
}

/// A path of few segments of few letters, so that routes and requests meet.
fn text(random: &mut fastrand::Rng) -> String {
    let mut text = String::new();
    for _ in 0..random.usize(..4) {
        text.push('/');
        for _ in 0..random.usize(..3) {
            text.push(random.choice(['a', 'b', 'A', 'é']).unwrap());
        }
    }
    text
}

/// Patterns of which each begins with a text that requests have, more or less plainly.
fn patterns(random: &mut fastrand::Rng) -> Vec<PathMatch> {
    let ends = ["", "?", "*", "+", "{0,2}", "[ab]*", "|/b", "(/a)?", ".*", "(?i)a", r"\x61"];
    let pattern =
        |at: usize| anchored(&format!("/{}{}", text(random).trim_matches('/'), ends[at % ends.len()]));
    (0..ends.len() * 4).map(pattern).collect()
}

fn any_route(random: &mut fastrand::Rng, patterns: &[PathMatch]) -> Route {
    let value = text(random);
    let mut route = route(match random.u8(..8) {
        0..3 => PathMatch::Exact(value.into()),
        3..5 => PathMatch::Prefix(value.into()),
        5 => PathMatch::SeparatedPrefix(value.into()),
        6 => random.choice(patterns).unwrap().clone(),
        _ => PathMatch::Connect,
    });
    let matcher = &mut route.matcher;
    matcher.ignore_case = random.u8(..8) == 0;
    matcher.grpc = random.u8(..16) == 0;
    matcher.fraction_millionths = if random.u8(..8) == 0 { 500_000 } else { 1_000_000 };
    if random.u8(..3) == 0 {
        let value = random.choice(["1", "2"]).unwrap().into();
        matcher.headers.push(HeaderMatch {
            key: HeaderKey::Name(HeaderName::from_static("x")),
            test: HeaderTest::Text(StringMatch::Exact { value, ignore_case: false }),
            invert: false,
            missing_as_empty: false,
        });
    }
    route
}

#[test]
fn any_table_gives_the_first_route_that_fits() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let patterns = patterns(&mut random);
    let (mut found, mut indexed) = (0, 0);
    for _ in 0..10_000 {
        let count = random.usize(..40);
        let routes: Vec<Arc<Route>> =
            (0..count).map(|_| Arc::new(any_route(&mut random, &patterns))).collect();
        let index = RouteIndex::new(&routes);
        indexed += usize::from(!index.next.is_empty());
        for _ in 0..8 {
            let path = text(&mut random);
            let mut headers = HeaderMap::new();
            if random.bool() {
                headers.insert("x", HeaderValue::from_static(random.choice(["1", "2"]).unwrap()));
            }
            let head = HeadView {
                method: random.choice([&Method::GET, &Method::GET, &Method::CONNECT]).unwrap(),
                scheme: "http",
                authority: "be1",
                path: &path,
                query: None,
                headers: &headers,
                protocol: random.choice([None, Some("websocket")]).unwrap(),
                tls_presented: false,
                tls_validated: false,
            };
            let share = random.u64(..);
            let walked = routes.iter().position(|route| route.matcher.matches(&head, share));
            assert_eq!(index.find(&routes, &head, share), walked, "seed {seed}: {path:?} of {routes:#?}");
            found += usize::from(walked.is_some());
        }
    }
    assert!(indexed > 5000 && found > 20_000, "too few tables or hits: {indexed}, {found}");
}

#[test]
fn patterns_begin_with_what_is_plain() {
    let cases = [
        ("/r1/[a-z]+", "/r1/"),
        ("/ab?", "/a"),
        ("/ab*c", "/a"),
        ("/ab{0,2}", "/a"),
        ("/ab+", "/ab"),
        ("/a|/b", ""),
        ("(?i)/a", ""),
        ("/a(?i)b", ""),
        (r"/a\.b", "/a"),
        (".*", ""),
        ("a?", ""),
        ("/whole", "/whole"),
    ];
    for (pattern, start) in cases {
        let PathMatch::Regex(regex) = anchored(pattern) else { panic!() };
        assert_eq!(literal_start(regex.as_str()), start, "{pattern}");
    }
    assert_eq!(literal_start("/unanchored"), "");
}

#[test]
fn each_of_ten_thousand_routes_is_the_only_one_asked() {
    let kinds: [(usize, &dyn Fn(String) -> PathMatch); 4] = [
        (10_000, &|path| PathMatch::Exact(path.into())),
        (10_000, &|path| PathMatch::Prefix(path.into())),
        (10_000, &|path| PathMatch::SeparatedPrefix(path.into())),
        (100, &|path| anchored(&path)), // each costs some kilobytes
    ];
    for (count, kind) in kinds {
        let path = |at: usize| format!("/r{at:05}/x");
        let routes: Vec<_> = (0..count).map(|at| Arc::new(route(kind(path(at))))).collect();
        let index = RouteIndex::new(&routes);
        for (at, made) in routes.iter().enumerate() {
            let mut chains = index.chains(path(at).as_bytes()).to_vec();
            chains.retain(|first| *first != NONE);
            assert_eq!(chains, [at as u32], "{:?}", made.matcher.path);
            assert_eq!(index.next[at], NONE, "{:?}", made.matcher.path);
        }
    }
}

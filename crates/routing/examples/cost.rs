//! What a look-up costs by how much there is to look through: run it under a counter of instructions.
//!
//! `valgrind --tool=callgrind --toggle-collect='*RouteConfig*find*' cost KIND COUNT LOOK-UPS` counts the look-ups
//! alone (`'*Balancer*pick*'` for endpoints); what is built before varies with the seeds of hashes. KIND: `exact`,
//! `prefix`, `regex`, `endpoints`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a tool for us, not a part of the proxy"
)]

use std::hint::black_box;
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::{route::Action, route_match::PathSpecifier};
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatcher;
use envoy_types::util::pack_any;
use weft_routing::balance::{Balancer, Roster, Situation, Standing};
use weft_routing::{Address, BalancePolicy, Endpoint, Endpoints, HeadView, Health, RouteConfig, Strictness};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [kind, count, rounds] = words.as_slice() else { panic!("wanted: KIND COUNT LOOK-UPS") };
    let (count, rounds) = (count.parse().expect("a number"), rounds.parse().expect("a number"));
    let found = match kind.as_str() {
        "endpoints" => picks(count, rounds),
        _ => finds(&routes(kind, count), count, rounds),
    };
    println!("{kind} {count}: {found} of {rounds} found");
}

fn path(at: usize) -> String {
    format!("/r{at:05}/x")
}

fn routes(kind: &str, count: usize) -> RouteConfig {
    let route = |at: usize| pb::Route {
        name: format!("default/many#{at}"),
        r#match: Some(pb::RouteMatch {
            path_specifier: Some(match kind {
                "exact" => PathSpecifier::Path(path(at)),
                "prefix" => PathSpecifier::Prefix(path(at).trim_end_matches("/x").to_owned()),
                "regex" => PathSpecifier::SafeRegex(RegexMatcher {
                    regex: path(at).replace("/x", "/[a-z]+"),
                    ..RegexMatcher::default()
                }),
                _ => panic!("no such kind: {kind}"),
            }),
            ..pb::RouteMatch::default()
        }),
        action: Some(Action::DirectResponse(pb::DirectResponseAction {
            status: 200,
            body: None,
            ..Default::default()
        })),
        ..pb::Route::default()
    };
    let host = pb::VirtualHost {
        name: "many".to_owned(),
        domains: vec!["many.default.mesh.internal".to_owned()],
        routes: (0..count).map(route).collect(),
        ..pb::VirtualHost::default()
    };
    let config = pb::RouteConfiguration { virtual_hosts: vec![host], ..pb::RouteConfiguration::default() };
    weft_routing::route_config(&pack_any(config), Strictness::Own).expect("well-formed").value
}

/// Each route in turn is asked for, in strides.
fn finds(config: &RouteConfig, count: usize, rounds: usize) -> usize {
    let headers = http::HeaderMap::new();
    let paths: Vec<String> = (0..count).map(path).collect();
    let find = |round: usize| {
        let head = HeadView {
            method: &http::Method::GET,
            scheme: "http",
            authority: "many.default.mesh.internal",
            path: &paths[round * 617 % count],
            query: None,
            headers: &headers,
            protocol: None,
            tls_presented: false,
            tls_validated: false,
        };
        black_box(config.find(black_box(&head), 0)).is_some()
    };
    (0..rounds).filter(|round| find(*round)).count()
}

fn picks(count: usize, rounds: usize) -> usize {
    let endpoint = |at: usize| {
        Arc::new(Endpoint {
            address: Address::Ip(([127, 0, (at / 250) as u8, (at % 250) as u8], 80).into()),
            hostname: None,
            weight: 1,
            health: Health::Healthy,
            priority: 0,
            locality: None,
            health_check_port: None,
            labels: Vec::new(),
        })
    };
    let range = 0..count;
    let endpoints = Endpoints {
        all: (0..count).map(endpoint).collect(),
        priorities: vec![range],
        ..Endpoints::default()
    };
    let roster = Roster::new(Arc::new(endpoints), |_| Standing { healthy: true, calm: true });
    let mut balancer = Balancer::default();
    let policy = BalancePolicy::LeastRequest { choices: 2 };
    let situation = Situation { active: &|_| 0, tried: &[], panic_threshold_percent: 50.0 };
    let mut pick = |round: usize| {
        let random = (round as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        black_box(balancer.pick(policy, &roster, &situation, black_box(random))).is_some()
    };
    (0..rounds).filter(|round| pick(*round)).count()
}

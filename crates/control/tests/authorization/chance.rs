//! Policies and requests out of few words, so that they meet often.

use fastrand::Rng;
use weft_model::{
    AccessAction, AccessFrom, AccessHeader, AccessMode, AccessPolicy, AccessRule, AccessTo, TargetRef,
};

use super::mesh::PORTS;
use super::naive::{Http, Request};

const IDENTITIES: [&str; 6] = [
    "spiffe://mesh.internal/ns/default/sa/fe",
    "spiffe://mesh.internal/ns/jobs/*",
    "spiffe://mesh.internal/ns/a/*",
    "spiffe://mesh.internal/*",
    "spiffe://other.example/*",
    "spiffe://other.example/ns/default/sa/fe",
];
const NAMESPACES: [&str; 3] = ["default", "jobs", "a"];
const SERVICES: [&str; 3] = ["fe", "jobs/batch", "a/x"];
const DOMAINS: [&str; 2] = ["mesh.internal", "other.example"];
const BLOCKS: [&str; 5] = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24", "2001:db8::/32", "10.1.2.3/32"];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
const PATHS: [&str; 6] = ["/a", "/a/*", "/a/b", "/b/c", "/b/*", "/*"];
const CALLS: [&str; 3] = ["a.B/C", "a.B/*", "a.BB/C"];
const HOSTS: [&str; 3] = ["shop.example", "*.shop.example", "api"];
const VALUES: [&str; 4] = ["u", "v", "pre", "u.v"];
const LINES: [&str; 8] = ["u", "v", "u,v", "w", "prefixed", "pre", "w, u", "uxv"];

fn some(chance: &mut Rng, words: &[&str], odds: f64) -> Vec<String> {
    let mut picked = Vec::new();
    if chance.f64() < odds {
        for _ in 0..chance.usize(1..=2) {
            let word = words[chance.usize(..words.len())].to_owned();
            if !picked.contains(&word) {
                picked.push(word);
            }
        }
    }
    picked
}

pub fn policies(chance: &mut Rng) -> Vec<AccessPolicy> {
    (0..chance.usize(1..=6)).map(|_| policy(chance)).collect()
}

fn policy(chance: &mut Rng) -> AccessPolicy {
    let sections = ["http", "tcp-db", "https"];
    let target = |chance: &mut Rng| TargetRef {
        group: String::new(),
        kind: "Service".into(),
        name: if chance.u8(..5) == 0 { "other".into() } else { "api".into() },
        section_name: chance.bool().then(|| sections[chance.usize(..3)].into()),
    };
    AccessPolicy {
        target_refs: if chance.bool() { Vec::new() } else { vec![target(chance)] },
        action: match chance.u8(..7) {
            0..=3 => AccessAction::Allow,
            4 | 5 => AccessAction::Deny,
            _ => AccessAction::Audit,
        },
        mode: if chance.u8(..4) == 0 { AccessMode::DryRun } else { AccessMode::Enforce },
        rules: (0..chance.usize(0..=3)).map(|_| rule(chance)).collect(),
    }
}

fn rule(chance: &mut Rng) -> AccessRule {
    let froms = chance.usize(0..=2);
    let tos = chance.usize(0..=2);
    AccessRule {
        from: (0..froms).map(|_| from(chance)).filter(|from| *from != AccessFrom::default()).collect(),
        to: (0..tos).map(|_| to(chance)).filter(|to| *to != AccessTo::default()).collect(),
    }
}

fn from(chance: &mut Rng) -> AccessFrom {
    AccessFrom {
        identities: some(chance, &IDENTITIES, 0.3),
        namespaces: some(chance, &NAMESPACES, 0.3),
        services: some(chance, &SERVICES, 0.2),
        trust_domains: some(chance, &DOMAINS, 0.2),
        ip_blocks: some(chance, &BLOCKS, 0.2),
        not_identities: some(chance, &IDENTITIES, 0.1),
        not_namespaces: some(chance, &NAMESPACES, 0.1),
        not_services: some(chance, &SERVICES, 0.1),
        not_ip_blocks: some(chance, &BLOCKS, 0.1),
    }
}

fn to(chance: &mut Rng) -> AccessTo {
    let paths = some(chance, &PATHS, 0.3);
    let numbers: Vec<String> = some(chance, &["80", "8080", "5432", "443", "8443"], 0.2);
    AccessTo {
        methods: some(chance, &METHODS, 0.25),
        grpc_methods: if paths.is_empty() { some(chance, &CALLS, 0.2) } else { Vec::new() },
        paths,
        hosts: some(chance, &HOSTS, 0.2),
        headers: (0..chance.usize(0..=2)).filter_map(|_| header(chance)).collect(),
        ports: numbers.iter().map(|number| number.parse().unwrap()).collect(),
        not_methods: some(chance, &METHODS, 0.1),
        not_paths: some(chance, &PATHS[..5], 0.1),
    }
}

fn header(chance: &mut Rng) -> Option<AccessHeader> {
    let mut header = AccessHeader { name: ["x-a", "X-B"][chance.usize(..2)].into(), ..Default::default() };
    if chance.u8(..4) == 0 {
        header.present = Some(chance.bool());
        return Some(header);
    }
    header.values = some(chance, &VALUES, 0.5);
    header.prefixes = some(chance, &["pre", "u"], 0.3);
    header.not_values = some(chance, &VALUES, 0.3);
    let says = !(header.values.is_empty() && header.prefixes.is_empty() && header.not_values.is_empty());
    says.then_some(header)
}

pub fn request(chance: &mut Rng) -> Request {
    let ids = [
        None,
        Some("spiffe://mesh.internal/ns/default/sa/fe"),
        Some("spiffe://mesh.internal/ns/jobs/sa/batch"),
        Some("spiffe://mesh.internal/ns/jobsx/sa/batch"),
        Some("spiffe://mesh.internal/ns/a/sa/x"),
        Some("spiffe://mesh.internal/ns/ab/sa/x"),
        Some("spiffe://other.example/ns/default/sa/fe"),
        Some("spiffe://other.example.evil/ns/default/sa/fe"),
        Some("spiffe://mesh.internal/weft/control"),
    ];
    let addresses =
        ["10.1.2.3", "10.1.9.9", "10.200.0.1", "192.0.2.7", "198.51.100.1", "2001:db8::9", "::ffff:10.1.2.3"];
    let (port, http) = PORTS[[0, 0, 0, 1, 2][chance.usize(..5)]];
    let ip: std::net::IpAddr = addresses[chance.usize(..addresses.len())].parse().unwrap();
    Request {
        id: ids[chance.usize(..ids.len())].map(str::to_owned),
        // A network of IPv4 holds the address also as a listener on `::` sees it.
        ip: ip.to_canonical(),
        port,
        http: http.then(|| head(chance)),
    }
}

fn head(chance: &mut Rng) -> Http {
    let paths = [
        "/a", "/a/b", "/b/c", "/b/d", "/", "/a;x", "/a;x/b", "/a/b;y=1", "/b;c", "/a.B/C", "/a.B/D",
        "/a.BB/C", "/axB/C",
    ];
    let hosts = ["shop.example", "shop.example:8080", "a.shop.example", "shopxexample", "api", "api:80"];
    let names = ["x-a", "x-b", "X-A"];
    Http {
        method: METHODS[chance.usize(..3)].into(),
        host: hosts[chance.usize(..hosts.len())].into(),
        path: paths[chance.usize(..paths.len())].into(),
        headers: (0..chance.usize(0..=3))
            .map(|_| (names[chance.usize(..3)].into(), LINES[chance.usize(..LINES.len())].into()))
            .collect(),
    }
}

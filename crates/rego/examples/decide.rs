//! Judges one request many times, for whoever counts instructions:
//!
//! ```text
//! valgrind --tool=callgrind target/fast/examples/decide plain 1000
//! ```
//!
//! Twice, with two counts: what the difference holds is decisions alone. The first argument is `plain`,
//! `cached`, or `token` for a policy that looks into a JSON Web Token.

use std::time::Duration;

use weft_rego::{DecisionCache, Module, Peer, Request, Settings, Worker, compile};

const NOW_NS: i64 = 1_767_225_600_000_000_000;

const ROLES: &str = r#"package envoy.authz

import input.attributes.request.http

default allow := false

allow if {
    some role in roles[user]
    some permission in permissions[role]
    permission.method == http.method
    permission.path == http.path
}

user := name if {
    [_, encoded] := split(http.headers.authorization, " ")
    [name, _] := split(base64url.decode(encoded), ":")
}

roles := {"alice": ["guest"], "bob": ["admin"]}

permissions := {
    "guest": [{"method": "GET", "path": "/shelf"}],
    "admin": [{"method": "GET", "path": "/shelf"}, {"method": "GET", "path": "/v1/books"}],
}
"#;

const TOKEN: &str = r#"package envoy.authz

import input.attributes.request.http

default allow := false

allow if {
    claims.role == "guest"
    http.method == "GET"
    glob.match("/people*", [], http.path)
}

allow if {
    claims.role == "admin"
    http.method in {"GET", "POST"}
    glob.match("/people*", [], http.path)
}

claims := payload if {
    [_, encoded] := split(http.headers.authorization, " ")
    [_, payload, _] := io.jwt.decode(encoded)
}
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().unwrap_or_default();
    let times: u32 = arguments.next().unwrap_or_default().parse()?;
    let (text, authorization, path): (_, &[u8], _) = if kind == "token" {
        let token =
            b"Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJyb2xlIjoiZ3Vlc3QiLCJzdWIiOiJZV3hwWTJVPSJ9.AAAA";
        (TOKEN, token, "/people/1")
    } else {
        (ROLES, b"Basic Ym9iOnBhc3N3b3Jk", "/v1/books")
    };
    let module = Module { name: "policy.rego".to_owned(), text: text.to_owned() };
    let compiled = compile(&[module], &serde_json::Value::Null, &Settings::default())?;
    let mut worker = Worker::new(&compiled, 1)?;
    let mut cache = DecisionCache::new(1 << 20, Duration::from_secs(60));
    let headers: &[(&str, &[u8])] = &[
        ("accept", b"*/*"),
        ("authorization", authorization),
        ("user-agent", b"curl/7.88.1"),
        ("x-forwarded-for", b"192.0.2.1"),
        ("x-forwarded-proto", b"https"),
        ("x-request-id", b"92a6c0f7-0250-944b-9cfc-ae10cbcedd8e"),
    ];
    let address = Some([192, 0, 2, 1].into());
    let request = Request {
        id: "1",
        method: "GET",
        scheme: "https",
        authority: "shop.test",
        path,
        protocol: "HTTP/1.1",
        headers,
        size: 0,
        body: None,
        source: Peer { address, port: 4711, principal: "spiffe://mesh/ns/a/sa/b", certificate: "" },
        destination: Peer { address, port: 8443, ..Peer::default() },
        sni: "",
        extensions: &[],
    };
    let mut allowed = 0;
    for _ in 0..times {
        let allow = if kind == "cached" {
            worker.decide_cached(&mut cache, &request, NOW_NS).allow
        } else {
            worker.decide(&request, NOW_NS).allow
        };
        allowed += u32::from(allow);
    }
    println!("{allowed} of {times} allowed");
    Ok(())
}

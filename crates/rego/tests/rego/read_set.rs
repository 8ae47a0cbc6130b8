//! What a policy is said to read is all that it reads.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use weft_rego::{Body, DecisionCache, Peer, Request, Worker};

use crate::support::{NOW_NS, policy};

const POLICIES: &[&str] = &[
    "allow if input.attributes.request.http.method == \"GET\"",
    "allow if input.parsed_path[0] == \"a\"",
    "allow if input.parsed_path[_] == input.parsed_query.x[_]",
    "allow if startswith(input.attributes.request.http.path, \"/a\")",
    "allow if input.attributes.request.http.headers[\"x-a\"] == \"1\"\nallow if not input.attributes.request.http.headers[\"x-b\"]",
    "allow if { some name, value in input.attributes.request.http.headers; startswith(name, \"x-\"); value == \"2\" }",
    "import input.attributes.request.http as http\nallow if http.headers.cookie == \"1,2\"\nallow if http.host == \"a\"\nallow if http.headers[\":path\"] == \"/a\"",
    "allow if { some value in input.attributes.request.http.headers; value in {\"POST\", \"/a?x=a\", \"b\"} }",
    "allow if input.attributes.request.http.headers[\"x-envoy-auth-partial-body\"] == \"true\"",
    "allow if input.source_principal == input.attributes.destination.principal",
    "allow if input.attributes.source.address.socketAddress.portValue > 3",
    "allow if input.parsed_body.n == 1\nallow if input.truncated_body",
    "allow if contains(input.attributes.request.http.body, \"n\")",
    "allow if f(input.attributes.source)\nf(source) if source.principal == \"p1\"",
    "key := \"x-a\"\nallow if input.attributes.request.http.headers[key] == \"1\"",
    "allow if object.get(input.attributes.request.http.headers, \"x-a\", \"\") == \"2\"",
    "allow if input.attributes.tlsSession.sni == input.attributes.request.http.host",
    "allow if input.attributes.contextExtensions.a == \"1\"",
    "allow if count([x | x := input.parsed_path[_]; x == \"a\"]) == 1",
    "allow if input.attributes[\"request\"].http[\"method\"] == \"GET\"\nallow if every p in input.parsed_path { p == \"a\" }",
    "allow if { walk(input.parsed_query, [path, value]); count(path) == 2; value == \"1\" }",
    "allow if g with input as {\"parsed_path\": [\"a\"]}\ng if input.parsed_path[0] == \"a\"",
    "allow if input[key] == [\"a\"]\nkey := \"parsed_path\"",
];

struct Owned {
    method: &'static str,
    path: String,
    authority: &'static str,
    headers: Vec<(&'static str, &'static [u8])>,
    body: Option<(&'static [u8], bool)>,
    principals: (&'static str, &'static str),
    port: u16,
    sni: &'static str,
    extensions: Vec<(&'static str, &'static str)>,
}

fn any(random: &mut fastrand::Rng) -> Owned {
    let mut one = |of: &[&'static str]| of[random.usize(..of.len())];
    let method = one(&["GET", "POST"]);
    let path = format!("/{}{}", one(&["", "a", "a/a", "b"]), one(&["", "?", "?x=a", "?x=1&x=2", "?y=1"]));
    let authority = one(&["a", "b"]);
    let sni = one(&["", "a", "b"]);
    let principals = (one(&["", "p1", "p2"]), one(&["", "p1", "p2"]));
    let mut headers: Vec<(&'static str, &'static [u8])> = Vec::new();
    for _ in 0..random.usize(..4) {
        let names = ["x-a", "X-A", "x-b", "cookie", "content-type", "content-length"];
        let values: [&[u8]; 5] = [b"1", b"2", b"application/json", b"", b"\xff"];
        headers.push((names[random.usize(..names.len())], values[random.usize(..values.len())]));
    }
    let bodies: [&[u8]; 5] = [b"", b"{\"n\":1}", b"{\"n\":2}", b"{", b"n"];
    let body = random.bool().then(|| (bodies[random.usize(..bodies.len())], random.u8(..4) == 0));
    let extensions =
        if random.bool() { vec![("a", if random.bool() { "1" } else { "2" })] } else { Vec::new() };
    Owned { method, path, authority, headers, body, principals, port: random.u16(..6), sni, extensions }
}

impl Owned {
    fn request(&self) -> Request<'_> {
        let address = Some([192, 0, 2, 1].into());
        Request {
            id: "17",
            method: self.method,
            scheme: "https",
            authority: self.authority,
            path: &self.path,
            protocol: "HTTP/1.1",
            headers: &self.headers,
            size: self.body.map_or(0, |(bytes, _)| i64::try_from(bytes.len()).unwrap()),
            body: self.body.map(|(bytes, truncated)| Body { bytes, truncated }),
            source: Peer { address, port: self.port, principal: self.principals.0, certificate: "" },
            destination: Peer { address, port: 443, principal: self.principals.1, certificate: "" },
            sni: self.sni,
            extensions: &self.extensions,
        }
    }
}

#[test]
fn a_part_of_the_document_gives_the_whole_ones_decision() {
    let whole = policy("package envoy.authz\nallow := {\"allowed\": true, \"dynamic_metadata\": input}\n");
    let mut whole = Worker::new(&whole, 0).unwrap();
    let mut allowed = 0;
    for (generation, text) in POLICIES.iter().enumerate() {
        let mut worker =
            Worker::new(&policy(&format!("package envoy.authz\n{text}\n")), generation as u64).unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let owned = any(&mut random);
            let Some(document) = whole.decide(&owned.request(), NOW_NS).metadata else { continue };
            let decision = worker.decide(&owned.request(), NOW_NS);
            assert_eq!(
                decision,
                worker.decide_document(&Json::Object(document), NOW_NS),
                "{text}\n{}",
                owned.path
            );
            allowed += usize::from(decision.allow);
        }
    }
    assert!(allowed > 300, "{allowed} allowed: the requests show nothing");
}

#[test]
fn a_kept_decision_is_the_one_that_would_be_made() {
    let mut cache = DecisionCache::new(1 << 20, Duration::from_secs(60));
    let mut workers: Vec<Worker> = POLICIES
        .iter()
        .enumerate()
        .map(|(at, text)| Worker::new(&policy(&format!("package envoy.authz\n{text}\n")), at as u64).unwrap())
        .collect();
    let mut random = fastrand::Rng::with_seed(11);
    let mut shared = 0;
    for _ in 0..300 {
        let owned = any(&mut random);
        for worker in &mut workers {
            let before = cache.len();
            let kept = worker.decide_cached(&mut cache, &owned.request(), NOW_NS);
            let fresh = worker.decide(&owned.request(), NOW_NS);
            assert_eq!(*kept, fresh);
            shared += usize::from(cache.len() == before && worker.reads().cacheable().is_ok());
        }
    }
    assert!(shared > 3000, "{shared} decisions were kept ones");
    // Another generation of the same policy shares nothing.
    let text = format!("package envoy.authz\n{}\n", POLICIES[0]);
    let mut first = Worker::new(&policy(&text), 100).unwrap();
    let mut second = Worker::new(&policy(&text), 101).unwrap();
    let owned = any(&mut random);
    let kept = first.decide_cached(&mut cache, &owned.request(), NOW_NS);
    assert!(Arc::ptr_eq(&kept, &first.decide_cached(&mut cache, &owned.request(), NOW_NS)));
    assert!(!Arc::ptr_eq(&kept, &second.decide_cached(&mut cache, &owned.request(), NOW_NS)));
}

#[test]
fn what_hangs_on_more_than_the_request_is_not_kept() {
    let why = |text: &str| {
        let compiled = policy(&format!("package envoy.authz\n{text}\n"));
        compiled.reads().cacheable().map_err(str::to_owned)
    };
    assert_eq!(why("allow if input.parsed_path[0] == \"a\""), Ok(()));
    assert_eq!(why("allow if io.jwt.verify_hs256(input.parsed_path[0], \"a\")"), Ok(()));
    for text in [
        "allow if time.now_ns() > 3",
        "allow if io.jwt.decode_verify(input.parsed_path[0], {\"secret\": \"a\"})[0]",
        "allow if crypto.x509.parse_and_verify_certificates(input.parsed_path[0])[0]",
        "allow if input.attributes.request.time.seconds > 3",
        "allow if input.attributes.request.http.id == \"3\"",
        "allow if f(input)\nf(x) if x.parsed_path[0] == \"a\"",
        "allow if input[x]\nx := \"parsed_path\"",
        "allow if { walk(input, [p, v]); v == 1 }",
        "allow if input.attributes.request.http[x]\nx := \"method\"",
        "import input as i\nallow if i == 3",
        "allow if true with input as 3",
    ] {
        assert!(why(text).is_err(), "{text}");
    }
    assert!(policy("package envoy.authz\nallow if input.parsed_body.a\n").reads().needs_body());
    assert!(!policy("package envoy.authz\nallow if input.parsed_path[0]\n").reads().needs_body());
}

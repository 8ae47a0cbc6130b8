//! Noise in, an answer out: no text and no request makes the crate panic or allow by mistake.

use serde_json::Value as Json;
use weft_rego::{Body, Peer, Reason, Request, Settings};

use crate::support::{NOW_NS, try_compile, worker};

fn noise(random: &mut fastrand::Rng, max: usize) -> Vec<u8> {
    let alphabet = b"/%?&=;+#\\\"{}[]:,. \r\n\0\x7f\xffa0Z-";
    (0..random.usize(..max)).map(|_| alphabet[random.usize(..alphabet.len())]).collect()
}

#[test]
fn requests_of_noise() {
    let mut worker = worker(
        "package envoy.authz\nallow if input.nothing == input\nallow if input.parsed_body == {1}\nallow if input.parsed_query == 1\nallow if input.parsed_path == 2\n",
    );
    let mut random = fastrand::Rng::with_seed(3);
    let (mut seen, mut unreadable) = (0, 0);
    for _ in 0..3000 {
        let text = |random: &mut fastrand::Rng| String::from_utf8_lossy(&noise(random, 24)).into_owned();
        let (method, authority, path) = (text(&mut random), text(&mut random), text(&mut random));
        let types =
            ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "x"];
        let (value, body) = (noise(&mut random, 16), noise(&mut random, 40));
        let kind = types[random.usize(..types.len())];
        let headers: &[(&str, &[u8])] = &[("content-type", kind.as_bytes()), ("x-a", &value)];
        let decision = worker.decide(
            &Request {
                id: "",
                method: &method,
                scheme: "",
                authority: &authority,
                path: &path,
                protocol: "",
                headers,
                size: random.i64(..),
                body: Some(Body { bytes: &body, truncated: random.bool() }),
                source: Peer::default(),
                destination: Peer::default(),
                sni: &method,
                extensions: &[(&authority, &path)],
            },
            random.i64(..),
        );
        assert!(!decision.allow);
        match decision.reason {
            Reason::Unreadable => unreadable += 1,
            Reason::Undefined => seen += 1,
            other => panic!("{other:?}: {}", decision.detail),
        }
    }
    assert!(seen > 300 && unreadable > 300, "{seen} seen, {unreadable} unreadable");
}

#[test]
fn policies_of_noise() {
    let good = "package envoy.authz\nimport input.attributes.request.http\ndefault allow := false\nallow if {\n  some x in http.headers\n  every y in [1, 2.5e3] { f(y) }\n  print(x)\n}\nf(n) := n > 1 if { {k: v | v := [1][k]}[0] == 1 } else := {\"a\"}\n";
    let mut random = fastrand::Rng::with_seed(5);
    let (mut compiled, mut refused) = (0, 0);
    for _ in 0..1500 {
        let mut text = good.as_bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..text.len());
            match random.u8(..4) {
                0 => text[at] = random.u8(32..127),
                1 => drop(text.drain(at..(at + random.usize(..20)).min(text.len()))),
                2 => {
                    let copy = text[at..(at + random.usize(..20)).min(text.len())].to_vec();
                    let to = random.usize(..text.len());
                    text.splice(to..to, copy).for_each(drop);
                }
                _ => drop(text.splice(at..at, noise(&mut random, 4))),
            }
            if text.is_empty() {
                break;
            }
        }
        let text = String::from_utf8_lossy(&text);
        match try_compile(&text, &Json::Null, &Settings::default()) {
            Ok(policy) => {
                compiled += 1;
                let mut worker = weft_rego::Worker::new(&policy, 0).unwrap();
                let decision = worker.decide(&crate::support::request("/", &[("a", b"b")]), NOW_NS);
                assert!(decision.reason != Reason::MemoryLimit, "{text}");
            }
            Err(problems) => {
                refused += 1;
                let text = problems.to_string();
                assert!(!text.contains("fault of the mesh"), "{text}");
            }
        }
    }
    assert!(compiled > 50 && refused > 500, "{compiled} compiled, {refused} refused");
}

//! The door, the document and the decision.

use serde_json::{Value as Json, json};
use weft_rego::{Peer, Reason, RegoVersion, Settings};

use crate::support::{NOW_NS, decide, module, policy, refused, request, try_compile, with_body, worker};

fn allows(text: &str, path: &str) -> bool {
    decide(text, &request(path, &[])).allow
}

#[test]
fn both_regos_are_told_apart() {
    let old = "package envoy.authz\nallow { input.parsed_path[0] == \"a\" }\n";
    let new = "package envoy.authz\nallow if input.parsed_path[0] == \"a\"\n";
    assert_eq!(policy(old).versions(), [RegoVersion::V0]);
    assert_eq!(policy(new).versions(), [RegoVersion::V1]);
    for text in [old, new] {
        assert!(allows(text, "/a"));
        assert!(!allows(text, "/b"));
    }
    let told = |text: &str, version| {
        let settings = Settings { version, ..Settings::default() };
        try_compile(text, &Json::Null, &settings).unwrap_err().to_string()
    };
    assert!(told(old, RegoVersion::V1).contains("it is Rego v0"), "{}", told(old, RegoVersion::V1));
}

#[test]
fn every_problem_has_its_place() {
    let modules = [
        module("package envoy.authz\n\nallow if {\n  input.x ==\n}\n"),
        weft_rego::Module { name: "b.rego".to_owned(), text: "package b\n\nx := [1, 2\n".to_owned() },
    ];
    let problems = weft_rego::compile(&modules, &Json::Null, &Settings::default()).unwrap_err();
    assert_eq!(problems.0.len(), 2, "{problems}");
    assert_eq!((problems.0[0].module.as_str(), problems.0[0].line), ("policy.rego", 5), "{problems}");
    assert_eq!(problems.0[1].module, "b.rego", "{problems}");
    let unsafe_variable = refused("package envoy.authz\n\nallow if {\n  input.x == y\n}\n");
    assert!(unsafe_variable.starts_with("policy.rego:4:"), "{unsafe_variable}");
    assert!(
        refused("package other\n\nallow := true\n").contains("no module has a rule `data.envoy.authz.allow`")
    );
}

#[test]
fn builtins_that_are_not_had_are_named_with_their_place() {
    let text = "package envoy.authz\n\nallow if {\n  r := http.send({\"url\": \"http://x\"})\n  opa.runtime().env.A\n  foo.bar(1)\n  startwith(\"a\", \"b\")\n}\n";
    let problems = refused(text);
    for wanted in [
        "policy.rego:4:8: builtin `http.send` is not supported",
        "policy.rego:5:3: builtin `opa.runtime` is not supported",
        "policy.rego:6:3: builtin or function `foo.bar` is not supported",
        "policy.rego:7:3: function `startwith` is not known (hint: did you mean `startswith`?)",
    ] {
        assert!(problems.contains(wanted), "{wanted}\n{problems}");
    }
    for call in [
        "rand.intn(\"a\", 5)",
        "rego.parse_module(\"a\", \"b\")",
        "net.lookup_ip_addr(\"a\")",
        "uuid.rfc4122(\"a\")",
    ] {
        let problems = refused(&format!("package envoy.authz\nallow if {call}\n"));
        assert!(problems.contains("is not supported"), "{problems}");
    }
    // As what another builtin is to be.
    refused("package envoy.authz\nallow if lower(\"A\") with lower as http.send\n");
}

#[test]
fn recursion_is_refused() {
    let rules = refused("package envoy.authz\nallow if a\na if b\nb if a\n");
    assert!(rules.contains("needs itself"), "{rules}");
    let function = refused("package envoy.authz\nallow if f(3)\nf(x) if f(x - 1)\n");
    assert!(function.contains("`data.envoy.authz.f` needs itself"), "{function}");
    let through = [
        module("package envoy.authz\nimport data.lib\nallow if lib.f(1)\n"),
        weft_rego::Module {
            name: "lib.rego".to_owned(),
            text: "package lib\nf(x) if data.envoy.authz.allow with input as x\n".to_owned(),
        },
    ];
    let problems = weft_rego::compile(&through, &Json::Null, &Settings::default()).unwrap_err().to_string();
    assert!(problems.contains("needs itself"), "{problems}");
    let long: String = (0..60).map(|i| format!("r{i} if r{}\n", i + 1)).collect();
    let long = refused(&format!("package envoy.authz\nallow if r0\n{long}r60 if true\n"));
    assert!(long.contains("chain of more than"), "{long}");
}

#[test]
fn two_slashes_are_a_path() {
    // CVE-2026-26205: what stands behind `//` was taken for a host.
    let text = "package envoy.authz\nallow if input.parsed_path == [\"x\"]\n";
    assert!(!allows(text, "//admin/x"));
    let text = "package envoy.authz\nallow if input.parsed_path == [\"admin\", \"x\"]\n";
    assert!(allows(text, "//admin/x"));
    assert!(allows(
        "package envoy.authz\nallow if input.attributes.request.http.path == \"//admin/x\"\n",
        "//admin/x"
    ));
}

#[test]
fn the_document_is_envoys() {
    let text = r#"package envoy.authz
import input.attributes.request.http
allow if {
    http.method == "GET"
    http.path == "/a/b?x=1&x=2&y"
    http.host == "shop.test:8443"
    http.scheme == "https"
    http.protocol == "HTTP/2"
    http.headers[":path"] == http.path
    http.headers[":authority"] == http.host
    http.headers["x-many"] == "1,2"
    http.headers.cookie == "a=1; b=2"
    not http.headers["X-Many"]
    input.attributes.source.address.socketAddress.address == "192.0.2.1"
    input.attributes.source.address.socketAddress.portValue == 4711
    input.attributes.source.principal == "spiffe://mesh/ns/a/sa/b"
    input.source_principal == input.attributes.source.principal
    input.attributes.destination.address.socketAddress.portValue == 8443
    not input.attributes.destination.principal
    input.attributes.tlsSession.sni == "shop.test"
    input.attributes.contextExtensions.route == "r"
    input.attributes.request.time.seconds == 1767225600
    input.parsed_path == ["a", "b"]
    input.parsed_query == {"x": ["1", "2"], "y": [""]}
    input.parsed_body == {"n": [1, 2.5]}
    input.truncated_body == false
    input.version == {"ext_authz": "v3", "encoding": "protojson"}
}
"#;
    let headers: &[(&str, &[u8])] = &[
        ("X-Many", b"1"),
        ("cookie", b"a=1"),
        ("content-type", b"application/json"),
        ("x-many", b"2"),
        ("Cookie", b"b=2"),
        ("x-envoy-auth-partial-body", b"true"),
    ];
    let mut request = with_body(request("/a/b?x=1&x=2&y", headers), br#"{"n": [1, 2.5]}"#);
    request.extensions = &[("route", "r")];
    let decision = decide(text, &request);
    assert!(decision.allow, "{decision:?}");
    // The same document, built in full because nobody can say what is read.
    let whole = "package envoy.authz\nallow := {\"allowed\": true, \"dynamic_metadata\": input}\n";
    let document = Json::Object(decide(whole, &request).metadata.unwrap());
    assert_eq!(document["attributes"]["request"]["http"]["headers"]["x-envoy-auth-partial-body"], "false");
    assert_eq!(document["attributes"]["request"]["http"]["headers"]["x-many"], "1,2");
    assert_eq!(document["attributes"]["request"]["http"]["id"], "17");
    assert_eq!(document["attributes"]["request"]["time"], json!({"seconds": 1_767_225_600, "nanos": 0}));
    assert_eq!(document["parsed_path"], json!(["a", "b"]));
    assert!(worker(text).decide_document(&document, NOW_NS).allow || request.size == 0);
}

#[test]
fn what_can_not_be_shown_is_denied() {
    let path = "package envoy.authz\nallow if input.parsed_path[0]\n";
    for bad in ["/%", "/%zz", "/a%2"] {
        let decision = decide(path, &request(bad, &[]));
        assert_eq!(
            (decision.allow, decision.reason, decision.status),
            (false, Reason::Unreadable, 400),
            "{bad}"
        );
    }
    let body = "package envoy.authz\nallow if input.parsed_body != 7\n";
    let json: &[(&str, &[u8])] = &[("content-type", b"application/json")];
    for bad in [&b"{"[..], b"[1,", b"\xff", b"1e999"] {
        let decision = decide(body, &with_body(request("/", json), bad));
        assert_eq!(decision.reason, Reason::Unreadable, "{bad:?}");
    }
    assert!(decide(body, &with_body(request("/", json), b"8")).allow);
}

#[test]
fn answers_are_carried_out_or_denied() {
    let answer =
        |value: &str| decide(&format!("package envoy.authz\nallow := {value}\n"), &request("/", &[]));
    let check = |value: &str, reason: Reason| {
        let decision = answer(value);
        assert_eq!(
            (decision.allow, decision.reason),
            (reason == Reason::Allowed, reason),
            "{value}: {decision:?}"
        );
    };
    check("true", Reason::Allowed);
    check("false", Reason::Denied);
    check("1", Reason::WrongType);
    check("\"true\"", Reason::WrongType);
    check("null", Reason::WrongType);
    check("[true]", Reason::WrongType);
    check("{true}", Reason::WrongType);
    check("{}", Reason::WrongType);
    check("{\"allowed\": \"true\"}", Reason::WrongType);
    check("{\"allowed\": true, \"headers\": 1}", Reason::WrongType);
    check("{\"allowed\": true, \"headers\": {\"a\": 1}}", Reason::WrongType);
    check("{\"allowed\": true, \"headers\": {\"a\": \"x\\r\\ny: z\"}}", Reason::Unsupported);
    check("{\"allowed\": true, \"headers\": {\"a b\": \"x\"}}", Reason::Unsupported);
    check("{\"allowed\": true, \"headers\": {\":path\": \"/\"}}", Reason::Unsupported);
    check("{\"allowed\": true, \"headers\": {\"Host\": \"a\"}}", Reason::Unsupported);
    check("{\"allowed\": true, \"request_headers_to_remove\": \"a\"}", Reason::WrongType);
    check("{\"allowed\": true, \"query_parameters_to_set\": {\"a\": 1}}", Reason::WrongType);
    check("{\"allowed\": true, \"query_parameters_to_remove\": {\"a\": \"b\"}}", Reason::WrongType);
    check("{\"allowed\": false, \"http_status\": 99}", Reason::WrongType);
    check("{\"allowed\": false, \"http_status\": \"403\"}", Reason::WrongType);
    check("{\"allowed\": false, \"body\": 1}", Reason::WrongType);
    check("{\"allowed\": true, \"dynamic_metadata\": 1}", Reason::WrongType);

    let denied = answer(
        r#"{"allowed": false, "http_status": 401, "body": "no", "headers": {"WWW-Authenticate": "x"}}"#,
    );
    assert_eq!((denied.status, denied.body.as_str()), (401, "no"));
    assert_eq!(denied.headers, [("www-authenticate".to_owned(), "x".to_owned())]);
    let allowed = answer(
        r#"{"allowed": true, "headers": [{"x-a": ["1", "2"]}, {"x-b": "3"}], "request_headers_to_remove": ["X-C"],
            "response_headers_to_add": {"x-d": "4"}, "dynamic_metadata": {"k": [1, true]}, "http_status": "ignored"}"#,
    );
    let query = answer(
        r#"{"allowed": true, "query_parameters_to_set": {"a": ["1 2", "&"], "b": "3"}, "query_parameters_to_remove": ["c"]}"#,
    );
    assert_eq!(query.path("/p?c=1&d=%20&%61=0&C").unwrap(), "/p?d=%20&C&a=1%202&a=%26&b=3");
    assert_eq!(query.path("/p").unwrap(), "/p?a=1%202&a=%26&b=3");
    assert_eq!(allowed.path("/p?x"), None);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(allowed.headers, [pair("x-a", "1"), pair("x-a", "2"), pair("x-b", "3")]);
    assert_eq!(allowed.headers_to_remove, ["x-c"]);
    assert_eq!(allowed.response_headers, [pair("x-d", "4")]);
    assert_eq!(Json::Object(allowed.metadata.unwrap()), json!({"k": [1, true]}));
}

#[test]
fn a_policy_that_fails_denies() {
    let check = |text: &str, reason: Reason| {
        let decision = decide(text, &request("/", &[]));
        assert_eq!((decision.allow, decision.reason), (false, reason), "{text}: {decision:?}");
    };
    check("package envoy.authz\nallow if input.nothing\n", Reason::Undefined);
    check("package envoy.authz\nallow := true if true\nallow := false if true\n", Reason::Conflict);
    check("package envoy.authz\nallow := x if { x := [true, false][_] }\n", Reason::Conflict);
    check("package envoy.authz\nallow if f(1)\nf(x) := true\nf(x) := false\n", Reason::Conflict);
    check("package envoy.authz\nallow if input.parsed_path + 1 == 2\n", Reason::Failed);
    // One definition fails, another would allow: the failure wins.
    check(
        "package envoy.authz\nallow if f(input.parsed_path)\nf(x) if x + 1 == 2\nf(x) := true\n",
        Reason::Failed,
    );
    check("package envoy.authz\nallow if not (input.parsed_path + 1 == 2)\n", Reason::Failed);
}

#[test]
fn a_failed_builtin_is_undefined_as_in_opa() {
    let text = "package envoy.authz\nallow if base64url.decode(\"*\") == \"\"\nallow if input.parsed_path[0] == \"public\"\n";
    assert!(allows(text, "/public"));
    assert!(!allows(text, "/private"));
    assert!(allows("package envoy.authz\nallow if not to_number(\"x\")\n", "/"));
    assert!(allows("package envoy.authz\nallow if not split(1, 2)\n", "/"));
    assert!(allows("package envoy.authz\nallow if not json.unmarshal(\"{\")\n", "/"));
}

#[test]
fn the_time_is_an_argument() {
    let text = "package envoy.authz\nallow if time.now_ns() == 1767225600000000000\nallow if time.clock([time.now_ns(), \"UTC\"]) == [0, 0, 1]\n";
    let mut worker = worker(text);
    assert!(worker.decide(&request("/", &[]), NOW_NS).allow);
    assert!(!worker.decide(&request("/", &[]), NOW_NS + 7).allow);
    assert!(worker.decide(&request("/", &[]), NOW_NS + 1_000_000_000).allow);
    assert!(worker.reads().cacheable().is_err());
}

#[test]
fn prints_and_answers_by_argument_are_rewritten() {
    let text = "package envoy.authz\nallow if {\n  print(\"grüße\", input)\n  crypto.sha256(\"a\", digest)\n  startswith(digest, \"ca978112\")\n}\n";
    let compiled = policy(text);
    assert!(decide(text, &request("/", &[])).allow);
    assert!(compiled.reads().cacheable().is_ok());
}

#[test]
fn data_is_at_hand() {
    let text = "package envoy.authz\nallow if input.source_principal in data.mesh.friends\n";
    let data = json!({"mesh": {"friends": ["spiffe://mesh/ns/a/sa/b"]}});
    let compiled = try_compile(text, &data, &Settings::default()).unwrap();
    let mut worker = weft_rego::Worker::new(&compiled, 0).unwrap();
    assert!(worker.decide(&request("/", &[]), NOW_NS).allow);
    let mut stranger = request("/", &[]);
    stranger.source = Peer { principal: "spiffe://mesh/ns/a/sa/c", ..stranger.source };
    assert!(!worker.decide(&stranger, NOW_NS).allow);
    assert!(try_compile(text, &json!([1]), &Settings::default()).is_err());
}

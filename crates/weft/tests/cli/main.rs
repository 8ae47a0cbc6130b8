//! The command line: what it prints, and how it says no.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test panics; that is its answer"
)]

mod guides;

use std::process::{Command, Output};
use std::time::Duration;

use weft_testkit::{Mesh, eventually};

const WEFT: &str = env!("CARGO_BIN_EXE_weft");

fn weft(args: &[&str]) -> Output {
    Command::new(WEFT).args(args).env("NO_COLOR", "1").output().unwrap()
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

const FIVE_MISTAKES: &str = r"apiVersion: v1
kind: Service
metadata: {name: shop}
spec:
  selector: {app: shop}
  ports: [{name: http, port: 99999, targetPort: 8080}]
---
apiVersion: weft.dev/v1
kind: TrafficPolicy
metadata: {name: slow}
spec:
  targetRefs: [{kind: Service, name: shop}]
  timeouts: {requst: 3s}
  retry: {attempts: lots}
---
apiVersion: weft.dev/v1
kind: AccessPolicy
metadata: {name: Bad_Name}
spec:
  action: Permit
  rules: []
";

#[test]
fn a_file_with_five_mistakes_reports_five_and_stores_nothing() {
    let mesh = Mesh::start(WEFT).unwrap();
    let file = mesh.file("five.yaml", FIVE_MISTAKES).unwrap();
    let out = mesh.cli(&["apply", "-f", &file.to_string_lossy()]).unwrap();
    assert_eq!(out.status.code(), Some(1));
    let text = stderr(&out);
    for (line, word) in [(6, "99999"), (13, "requst"), (14, "lots"), (18, "Bad_Name"), (20, "Permit")] {
        let told = text.lines().any(|l| l.contains(&format!("five.yaml:{line}")) && l.contains(word));
        assert!(told, "line {line} ({word}) is not told:\n{text}");
    }
    assert!(text.contains("5 problems"), "{text}");
    assert!(text.contains("request"), "the hint for `requst` is missing:\n{text}");
    let services = mesh.json(&["get", "services"]).unwrap();
    assert!(!services.to_string().contains("shop"), "{services}");
}

#[test]
fn wrong_usage_is_two_and_a_failure_is_one() {
    assert_eq!(weft(&["stat", "--by"]).status.code(), Some(2));
    assert_eq!(weft(&["no-such-command"]).status.code(), Some(2));
    let out = weft(&["status", "--state", "/nonexistent"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("/nonexistent"), "{}", stderr(&out));
}

/// Each mistake: exit status 2 and one sentence that names what is wrong and what would be right. None of them needs a
/// control plane to be seen.
#[test]
fn mistakes_of_usage_are_told_in_a_sentence() {
    let nowhere = tempfile::tempdir().unwrap();
    for (args, words) in [
        (&["stat", "--by", "bogus"][..], &["bogus", "caller", "grpc_status"][..]),
        (&["stat", "--from", "100", "--to", "50"], &["--from must be before --to"]),
        (&["stat", "--since", "40d"], &["40d", "1s to 30d"]),
        (&["edges", "--from", "yesterday"], &["yesterday", "seconds since 1970"]),
        (&["--log", "garbage", "status"], &["garbage", "error, warn, info"]),
        (&["status", "--log", "weft=loud"], &["weft=loud"]),
        (&["identity", "token", "--service", "Bad_X"], &["Bad_X", "a-z, 0-9 and -"]),
        (&["identity", "token", "--service", "x", "--ttl", "9d"], &["9d", "at most 7d"]),
        (&["bootstrap", "grpc", "--service", "x", "--control", "foo"], &["foo", "HOST:PORT"]),
        (&["bootstrap", "envoy", "--service", "X"], &["a-z, 0-9 and -"]),
        (&["get", "nokind"], &["nokind", "httproutes"]),
        (&["get", "svc", "a", "-A"], &["leave out -A"]),
        (&["get", "svc,httproutes", "-w"], &["one kind can be watched"]),
        (&["describe", "nokind", "x"], &["nokind"]),
        (&["delete", "nokind", "x"], &["nokind"]),
        (&["proxy", "--control", "https://x:1"], &["--service NAME"]),
        (&["proxy", "--service", "x"], &["--control https://HOST:7701"]),
        (&["proxy", "--service", "Bad_X", "--control", "https://x:1"], &["a-z, 0-9 and -"]),
        (&["proxy", "--service", "x", "--control", "https://x:1", "--port", "70000"], &["--port 70000"]),
        (
            &["proxy", "--service", "x", "--control", "https://x:1", "--label", "v"],
            &["--label v", "KEY=VALUE"],
        ),
        (&["agent", "--service", "x"], &["--control https://HOST:7701"]),
        (&["demo", "--for", "5parsecs"], &["parsecs", "ms, s, m, h or d"]),
    ] {
        let out =
            Command::new(WEFT).args(args).env("WEFT_STATE", nowhere.path()).env_remove("WEFT_LOG").output();
        let out = out.unwrap();
        let said = stderr(&out);
        assert_eq!(out.status.code(), Some(2), "weft {args:?}: {said}");
        for word in words {
            assert!(said.contains(word), "weft {args:?} does not say {word:?}: {said}");
        }
    }
    for filter in ["warn", "WARN", "weft_proxy=debug,info", "off", ""] {
        let out = weft(&["--log", filter, "version"]);
        assert!(out.status.success(), "--log {filter:?}: {}", stderr(&out));
    }
}

#[test]
fn a_name_that_can_t_be_one_and_one_that_nobody_has_are_told_apart() {
    let mesh = Mesh::start(WEFT).unwrap();
    for command in ["stat", "edges"] {
        let out = mesh.cli(&[command, "be4 x&by=tls"]).unwrap();
        let said = stderr(&out);
        assert!(out.status.code() == Some(2) && said.contains(r#""be4 x&by=tls""#), "{said}");
        let out = mesh.cli(&[command, "nobody"]).unwrap();
        let said = stderr(&out);
        assert!(out.status.code() == Some(1) && said.contains("no service default/nobody"), "{said}");
        // An empty mesh has no traffic, and that is an answer.
        assert!(mesh.ok(&[command]).unwrap().contains("from 2"));
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let help = String::from_utf8_lossy(&weft(&["--help"]).stdout).into_owned();
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|l| !l.starts_with("Commands:"))
        .skip(1)
        .take_while(|l| !l.is_empty())
        .filter_map(|l| l.strip_prefix("  ").filter(|l| !l.starts_with(' '))?.split_whitespace().next())
        .filter(|c| *c != "help")
        .collect();
    assert!(commands.len() >= 15, "{commands:?}");
    for command in commands {
        let out = weft(&[command, "--help"]);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(
            text.contains("Example") && text.contains(&format!("weft {command}")),
            "weft {command} --help has no example:\n{text}"
        );
    }
}

#[test]
fn settings_come_from_flag_then_variable_then_file_and_it_can_be_seen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weft.yaml");
    std::fs::write(&file, "api: 127.0.0.1:1111\nxds: 127.0.0.1:2222\ndns: 127.0.0.1:3333\n").unwrap();
    let out = Command::new(WEFT)
        .args(["control", "--print-config", "--api", "127.0.0.1:4444", "--config"])
        .arg(&file)
        .env("WEFT_XDS", "127.0.0.1:5555")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    for line in
        ["api: 127.0.0.1:4444  # flag", "xds: 127.0.0.1:5555  # variable", "dns: 127.0.0.1:3333  # file"]
    {
        assert!(text.contains(line), "`{line}` is not in:\n{text}{}", stderr(&out));
    }
    std::fs::write(&file, "apy: 1\n").unwrap();
    let out = Command::new(WEFT).args(["control", "--print-config", "--config"]).arg(&file).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("`apy`"), "{}", stderr(&out));
}

#[test]
fn a_service_is_applied_got_described_and_deleted() {
    let mesh = Mesh::start(WEFT).unwrap();
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec: {selector: {app: shop}, ports: [{port: 80}]}\n";
    assert!(mesh.apply(text).unwrap().contains("created"));
    assert!(mesh.apply(text).unwrap().contains("unchanged"));
    assert!(mesh.apply(&text.replace("80", "81")).unwrap().contains("configured"));
    assert!(mesh.ok(&["get", "svc"]).unwrap().contains("shop"));
    assert_eq!(mesh.json(&["get", "svc", "shop"]).unwrap()["spec"]["ports"][0]["port"], 81);
    assert!(mesh.ok(&["describe", "service", "shop"]).unwrap().contains("shop"));
    assert!(mesh.ok(&["delete", "service", "shop"]).unwrap().contains("deleted"));
    assert!(!mesh.cli(&["get", "service", "shop"]).unwrap().status.success());
}

#[test]
fn a_taken_port_is_one_sentence_that_names_it() {
    let mesh = Mesh::start(WEFT).unwrap();
    let second = tempfile::tempdir().unwrap();
    let out = Command::new(WEFT)
        .args([
            "control",
            "--xds",
            "127.0.0.1:0",
            "--dns",
            "127.0.0.1:0",
            "--api",
            &format!("127.0.0.1:{}", mesh.api),
            "--state",
        ])
        .arg(second.path())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    let text = stderr(&out);
    assert!(text.contains(&mesh.api.to_string()) && text.contains("taken"), "{text}");
    assert_eq!(text.trim().lines().count(), 1, "{text}");
}

#[test]
fn certificates_are_listed_shown_and_taken_back() {
    let mut mesh = Mesh::start(WEFT).unwrap();
    let app = weft_testkit::http::Origin::start("be1").unwrap();
    let be1 = mesh.proxy("be1", "be1-1", app.port, &[]).unwrap();
    let id = "spiffe://mesh.internal/ns/default/sa/be1";
    let all = mesh.json(&["identity", "list", id]).unwrap();
    let one = &all["certificates"][0];
    let serial = one["serial"].as_str().unwrap();
    assert_eq!((&one["evidence"], &one["revoked"]), (&"join-token".into(), &serde_json::Value::Null));
    let file = be1.state.join("identity/chain.pem");
    let shown = mesh.ok(&["identity", "show", file.to_str().unwrap()]).unwrap();
    assert!(shown.contains(serial), "the file says the same: {shown}");
    let table = mesh.ok(&["identity", "list"]).unwrap();
    assert!(table.contains(serial) && table.contains("control-plane"), "{table}");

    let out = mesh.ok(&["identity", "revoke", serial, "--reason", "key-compromise"]).unwrap();
    assert_eq!(out.trim(), serial);
    let shown = mesh.ok(&["identity", "show", serial]).unwrap();
    assert!(shown.contains(id) && shown.contains("key-compromise"), "{shown}");
    let crl = mesh.ok(&["identity", "bundle", "--crl"]).unwrap();
    assert!(crl.starts_with("-----BEGIN X509 CRL-----"), "{crl}");
    for (args, words) in [
        (&["identity", "revoke", "4a00ff00"][..], "weft identity list"),
        (&["identity", "revoke", "be1"], "neither a serial number"),
        (&["identity", "show", "spiffe://mesh.internal/ns/default/sa/nobody"], "weft identity list"),
        (&["identity", "show", "no-such-file"], "neither a file"),
    ] {
        let out = mesh.cli(args).unwrap();
        assert!(out.status.code() == Some(1) && stderr(&out).contains(words), "{args:?}: {}", stderr(&out));
    }
    let out = mesh.cli(&["identity", "revoke", serial, "--reason", "boredom"]).unwrap();
    assert!(out.status.code() == Some(2) && stderr(&out).contains("key-compromise"), "{}", stderr(&out));

    // All of an identity, until there is a new token.
    mesh.ok(&["identity", "revoke", id]).unwrap();
    let table = mesh.ok(&["identity", "list", id]).unwrap();
    assert!(table.contains("until it joins with a new token"), "{table}");
}

#[test]
fn the_record_of_changes_is_listed_and_verified() {
    let mesh = Mesh::start(WEFT).unwrap();
    mesh.apply("{apiVersion: v1, kind: Service, metadata: {name: be9}, spec: {selector: {app: be9}, ports: [{port: 80}]}}")
        .unwrap();
    let listed = mesh.json(&["audit", "list", "--object", "be9"]).unwrap();
    assert_eq!(listed["entries"][0]["who"], "owner", "{listed}");
    assert_eq!(mesh.json(&["audit", "list", "--refused"]).unwrap()["entries"], serde_json::json!([]));
    assert!(mesh.ok(&["audit", "verify"]).unwrap().contains("whole"));
    let log = mesh.state().join("audit.jsonl");
    let altered = std::fs::read_to_string(&log).unwrap().replace("be9", "be8");
    std::fs::write(&log, altered).unwrap();
    let out = mesh.cli(&["audit", "verify"]).unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stdout).contains("not whole"), "{out:?}");
    assert_eq!(mesh.cli(&["audit", "list", "--since", "yesterday"]).unwrap().status.code(), Some(2));
}

#[test]
fn what_would_become_of_a_request_is_explained() {
    let mesh = Mesh::start(WEFT).unwrap();
    mesh.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: fe}, spec: {selector: {app: fe}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: be1}, spec: {selector: {app: be1}, ports: [{port: 80}]}}",
    )
    .unwrap();
    let asked = ["explain", "GET", "http://be1/", "--from", "fe", "-H", "x-tier: gold"];
    let found = eventually("what was applied is known", Duration::from_secs(10), || {
        mesh.json(&asked).ok().filter(|found| !found["backend"].is_null())
    });
    assert_eq!((&found["verdict"], &found["status"]), (&"respond".into(), &503.into()), "{found}");
    assert_eq!(found["backend"], "default/be1:80");
    let said = mesh.ok(&["explain", "GET", "http://be2/", "--from", "fe"]).unwrap();
    assert!(said.contains("did you mean") && said.contains("none: nobody takes it"), "{said}");
    for (wrong, code) in [
        (["explain", "GET", "be1", "--from", "fe"], 2),
        (["explain", "G T", "http://be1/", "--from", "fe"], 2),
        (["explain", "GET", "http://be1/", "--from", "feo"], 1),
    ] {
        assert_eq!(mesh.cli(&wrong).unwrap().status.code(), Some(code), "{wrong:?}");
    }
}

#[test]
fn what_holds_keys_leaves_no_core() {
    let mesh = Mesh::start(WEFT).unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", mesh.control.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    // One byte: with 0 the kernel still pipes cores to whoever takes them.
    assert_eq!(line.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["1", "1"], "{line}");
}

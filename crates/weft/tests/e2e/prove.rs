//! `weft prove` on a mesh that runs: what it finds when all is well, and that it finds what is not.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use weft_testkit::{Mesh, eventually, pause, peers};

use crate::WEFT;
use crate::demo::Demo;

const OPEN: &str = "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: default}\nspec:\n  mtls: {mode: Disabled}\n  authorization: {default: Allow}\n";
const STRICT: &str = "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: default}\nspec:\n  mtls: {mode: Strict}\n  authorization: {default: Deny}\n";

fn prove(demo: &Demo, args: &[&str]) -> Command {
    let mut command = Command::new(WEFT);
    command.arg("prove").args(args).env("WEFT_STATE", &demo.state).env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn report(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|error| {
        panic!(
            "no report: {error}: {}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        )
    })
}

fn apply(demo: &Demo, text: &str) {
    let file = demo.state.join("apply.yaml");
    std::fs::write(&file, text).unwrap();
    let out =
        Command::new(WEFT).args(["apply", "-f"]).arg(&file).env("WEFT_STATE", &demo.state).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn names(report: &Value, pairs: &[(&str, &str)]) {
    for (from, to) in pairs {
        let pair = report["pairs"].as_array().unwrap().iter().find(|p| p["from"] == *from && p["to"] == *to);
        let pair = pair.unwrap_or_else(|| panic!("no {from} → {to} in {report:#}"));
        assert!(pair["bytes"].as_u64() > Some(0), "{pair}");
    }
}

const DEMO: [(&str, &str); 3] =
    [("default/fe", "default/be1"), ("default/fe", "default/be4"), ("default/be1", "default/be2")];

#[test]
fn the_demo_is_proved_and_its_plaintext_is_found_when_mtls_is_off() {
    assert!(peers::root(), "this test captures packets: run it as root");
    let demo = Demo::start(&[]);

    let file = demo.state.join("proof.json");
    let out = prove(&demo, &["--for", "5s", "-o", "json", "--report"]).arg(&file).output().unwrap();
    let proof = report(&out);
    assert!(out.status.success() && proof["ok"] == true, "{proof:#}");
    assert_eq!((&proof["plaintext_bytes"], &proof["unlisted_flows"]), (&0.into(), &0.into()), "{proof:#}");
    assert!(proof["bytes"].as_u64() > Some(10_000) && proof["lost_bytes"] == 0, "{proof:#}");
    let whole = |key: &str| proof[key].as_u64().unwrap();
    assert_eq!(whole("tls_bytes") + whole("skipped_bytes"), whole("bytes"));
    names(&proof, &DEMO);
    names(&proof, &[("default/fe", "control plane")]);
    let versions: Vec<&String> = proof["versions"].as_object().unwrap().keys().collect();
    assert_eq!(versions, ["TLSv1.3"], "{proof:#}");
    assert!(proof["groups"]["X25519MLKEM768"].as_u64() > Some(0), "{proof:#}");
    assert_eq!(proof["one_sided_flows"], 0, "both ends of all are ours: {proof:#}");
    assert!(proof["standards"].as_array().unwrap().iter().all(|line| line["shown"] == true), "{proof:#}");
    assert_eq!(serde_json::from_slice::<Value>(&std::fs::read(&file).unwrap()).unwrap(), proof);

    // The negative control. The capture is there when the first connection without TLS is opened.
    let capture = prove(&demo, &["--for", "8s", "-o", "json"]).spawn().unwrap();
    pause(Duration::from_secs(2));
    apply(&demo, OPEN);
    let out = capture.wait_with_output().unwrap();
    let found = report(&out);
    assert_eq!(out.status.code(), Some(1), "{found:#}");
    assert!(found["ok"] == false && found["plaintext_bytes"].as_u64() > Some(0), "{found:#}");
    let failures = found["failures"].as_array().unwrap();
    let shown = failures.iter().find(|flow| flow["protocol"] == "HTTP/2 in the clear");
    let shown = shown.unwrap_or_else(|| panic!("no HTTP/2 in {found:#}"));
    assert!(shown["server"].as_str().unwrap().ends_with(":15006"), "{shown}");
    assert_eq!(shown["listed_by"].as_array().unwrap().len(), 2, "both ends list it: {shown}");
    assert!(found["standards"].as_array().unwrap().iter().all(|line| line["shown"] == false), "{found:#}");
    // And of connections that were in the clear before it looked.
    let out = prove(&demo, &["--for", "3s"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.code() == Some(1) && text.contains("not proved:") && text.contains("not encrypted"),
        "{text}"
    );

    apply(&demo, STRICT);
    eventually("all is encrypted again", Duration::from_secs(30), || {
        let out = prove(&demo, &["--for", "2s", "-o", "json"]).output().unwrap();
        (out.status.success() && report(&out)["ok"] == true).then_some(())
    });
}

#[test]
fn plaintext_of_a_stranger_is_shown_too() {
    assert!(peers::root(), "this test captures packets: run it as root");
    let demo = Demo::start(&[]);
    let workloads = demo.json(&["get", "workloads"]);
    let address = workloads["items"][0]["spec"]["address"].as_str().unwrap().to_owned();
    let capture = prove(&demo, &["--for", "4s", "-o", "json"]).spawn().unwrap();
    pause(Duration::from_secs(2));
    let mut stranger = std::net::TcpStream::connect((address.as_str(), 15006)).unwrap();
    std::io::Write::write_all(&mut stranger, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let here = stranger.local_addr().unwrap().to_string();
    let out = capture.wait_with_output().unwrap();
    let found = report(&out);
    assert_eq!(out.status.code(), Some(1), "{found:#}");
    let failures = found["failures"].as_array().unwrap();
    let [shown] = &failures[..] else { panic!("one connection is not as it must be: {found:#}") };
    assert_eq!(
        (shown["client"].as_str(), &shown["plaintext_bytes"]),
        (Some(here.as_str()), &27.into()),
        "{shown}"
    );
    assert_eq!(shown["protocol"], "HTTP/1 in the clear");
}

#[test]
fn a_mesh_without_traffic_is_not_proved() {
    assert!(peers::root(), "this test captures packets: run it as root");
    let mesh = Mesh::start(WEFT).unwrap();
    let out = mesh.cli(&["prove", "--for", "1s"]).unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("nothing was proved: no traffic between members"), "{text}");
}

#[test]
fn without_the_capability_it_says_what_is_missing_and_what_helps() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let weft = folder.path().join("weft");
    std::fs::copy(WEFT, &weft).unwrap();
    std::fs::set_permissions(&weft, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = match peers::root() {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&weft);
            command
        }
        false => Command::new(&weft),
    };
    let out = command.args(["prove", "--for", "1s"]).current_dir("/").output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{text}");
    for word in ["CAP_NET_RAW", "sudo weft prove", "setcap cap_net_raw+ep", "/weft"] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
}

//! The real `kubectl` against our API, with the kubeconfig that `weft control` writes: HTTPS, our CA,
//! the token. It prints what it gets, so the tests read what a user would.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use weft_testkit::{Mesh, Process, eventually, peers};

use crate::WEFT;

const OBJECTS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: be1, labels: {app: be1}}
spec:
  selector: {app: be1}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: admin, port: 9000}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: be1}
spec:
  parentRefs: [{group: "", kind: Service, name: be1, port: 80}]
  rules: [{backendRefs: [{name: be1, port: 80, weight: 90}]}]
---
apiVersion: weft.dev/v1
kind: AccessPolicy
metadata: {name: be1}
spec: {action: Allow, rules: [{from: [{services: [fe]}]}]}
"#;

struct Kubectl {
    program: PathBuf,
    mesh: Mesh,
}

impl Kubectl {
    /// A control plane and a kubectl that knows it; nothing only where peers were left out on purpose.
    fn start() -> Option<Kubectl> {
        let program = peers::program("kubectl")?;
        Some(Kubectl { program, mesh: Mesh::start(WEFT).unwrap() })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--kubeconfig")
            .arg(self.mesh.state().join("kubeconfig"))
            .arg("--cache-dir")
            .arg(self.mesh.folder().join("kubectl-cache"))
            .arg("--request-timeout=20s")
            .args(args)
            .env_remove("KUBECONFIG");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs it; it must succeed.
    fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "kubectl {args:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
        text
    }

    /// Runs it; it must fail, and this is what it says.
    fn refused(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success(), "kubectl {args:?} was to fail: {text}");
        text
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[args, &["-o", "json"]].concat())).unwrap()
    }

    fn apply(&self, text: &str) -> Vec<String> {
        let file = self.mesh.file("objects.yaml", text).unwrap();
        self.ok(&["apply", "-f", file.to_str().unwrap()]).lines().map(str::to_owned).collect()
    }
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn kubectl_finds_and_explains_our_kinds() {
    let Some(kubectl) = Kubectl::start() else { return };
    has(&kubectl.ok(&["version"]), &["Server Version: v1.", "weft"]);
    let kinds = kubectl.ok(&["api-resources", "-o", "wide"]);
    has(
        &kinds,
        &[
            "services",
            "svc",
            "httproutes",
            "gateway.networking.k8s.io/v1",
            "accesspolicies",
            "weft.dev/v1",
            "Workload",
        ],
    );
    has(&kubectl.ok(&["api-versions"]), &["v1\n", "weft.dev/v1\n", "gateway.networking.k8s.io/v1\n"]);
    has(&kubectl.ok(&["explain", "httproute.spec.rules.backendRefs"]), &["KIND:       HTTPRoute", "weight"]);
    has(&kubectl.ok(&["explain", "accesspolicy.spec"]), &["GROUP:      weft.dev", "rules"]);
    has(&kubectl.ok(&["get", "namespaces"]), &["default", "Active"]);
    has(&kubectl.ok(&["get", "accesspolicies,meshes"]), &["same-namespace", "mesh.weft.dev/default"]);
}

#[test]
fn kubectl_apply_creates_changes_and_leaves_alone() {
    let Some(kubectl) = Kubectl::start() else { return };
    let all = |word: &str| {
        ["service/be1", "httproute.gateway.networking.k8s.io/be1", "accesspolicy.weft.dev/be1"]
            .map(|name| format!("{name} {word}"))
            .to_vec()
    };
    assert_eq!(kubectl.apply(OBJECTS), all("created"));
    assert_eq!(kubectl.apply(OBJECTS), all("unchanged"));
    let changed = OBJECTS.replace("weight: 90", "weight: 10").replace("port: 9000", "port: 9001");
    assert_eq!(
        kubectl.apply(&changed)[..2],
        ["service/be1 configured", "httproute.gateway.networking.k8s.io/be1 configured"]
    );
    let service = kubectl.json(&["get", "service", "be1"]);
    let ports: Vec<&Value> =
        service["spec"]["ports"].as_array().unwrap().iter().map(|port| &port["port"]).collect();
    assert_eq!(ports, [80, 9001], "ports merge by their number and keep their order");

    has(&kubectl.ok(&["get", "svc"]), &["NAME", "CLUSTER-IP", "AGE", "be1", "80,9001"]);
    assert!(!kubectl.ok(&["get", "svc"]).contains("TARGET-PORTS"));
    has(
        &kubectl.ok(&["get", "svc,httproutes", "-A", "-o", "wide"]),
        &["NAMESPACE", "TARGET-PORTS", "8080", "httproute.gateway"],
    );
    has(&kubectl.ok(&["get", "httproute", "be1", "-o", "yaml"]), &["kind: HTTPRoute", "weight: 10"]);
    has(&kubectl.ok(&["describe", "httproute", "be1"]), &["Name:         be1", "Weight:  10"]);
    assert_eq!(kubectl.ok(&["get", "svc", "-l", "app=be1", "-o", "name"]), "service/be1\n");
    assert_eq!(kubectl.ok(&["get", "svc", "-l", "app!=be1", "-o", "name"]), "");
    // The mesh's own command takes the same file and finds nothing else to do.
    let file = kubectl.mesh.folder().join("objects.yaml");
    let ours = kubectl.mesh.ok(&["apply", "-f", file.to_str().unwrap()]).unwrap();
    has(&ours, &["service/be1 unchanged", "httproute/be1 unchanged", "accesspolicy/be1 unchanged"]);
}

#[test]
fn kubectl_patches_edits_and_deletes() {
    let Some(kubectl) = Kubectl::start() else { return };
    kubectl.apply(OBJECTS);
    let strategic = r#"{"spec":{"ports":[{"port":80,"name":"web"}]}}"#;
    assert_eq!(kubectl.ok(&["patch", "service", "be1", "-p", strategic]), "service/be1 patched\n");
    let names: Vec<Value> = kubectl.json(&["get", "service", "be1"])["spec"]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| port["name"].clone())
        .collect();
    assert_eq!(names, ["web", "admin"]);
    kubectl.ok(&["patch", "httproute", "be1", "--type=merge", "-p", r#"{"metadata":{"labels":{"a":"b"}}}"#]);
    kubectl.ok(&[
        "patch",
        "httproute",
        "be1",
        "--type=json",
        "-p",
        r#"[{"op":"remove","path":"/metadata/labels/a"}]"#,
    ]);
    has(
        &kubectl.refused(&["patch", "httproute", "be1", "-p", "{}"]),
        &["strategic merge patch is for core kinds"],
    );
    kubectl.ok(&["label", "service", "be1", "tier=web"]);
    let editor =
        kubectl.mesh.file("editor.sh", "#!/bin/sh\nsed -i 's/name: web/name: front/' \"$1\"\n").unwrap();
    let out = kubectl
        .command(&["edit", "service", "be1"])
        .env("KUBE_EDITOR", format!("sh {}", editor.display()))
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&out.stdout),
        "service/be1 edited\n",
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );

    // Typed clients write protobuf.
    assert_eq!(kubectl.ok(&["create", "namespace", "shop"]), "namespace/shop created\n");
    kubectl.ok(&["create", "secret", "generic", "key", "-n", "shop", "--from-literal=a=b"]);
    assert_eq!(kubectl.json(&["get", "secret", "key", "-n", "shop"])["data"]["a"], "Yg==");
    kubectl.ok(&["delete", "namespace", "shop"]);
    has(&kubectl.refused(&["get", "secret", "key", "-n", "shop"]), &["NotFound"]);

    kubectl.ok(&["delete", "httproute", "be1"]);
    has(
        &kubectl.refused(&["get", "httproute", "be1"]),
        &["NotFound", "httproutes.gateway.networking.k8s.io \"be1\" not found"],
    );
    let file = kubectl.mesh.folder().join("objects.yaml");
    let gone = kubectl.ok(&["delete", "--ignore-not-found", "-f", file.to_str().unwrap()]);
    has(&gone, &["service \"be1\" deleted", "accesspolicy.weft.dev \"be1\" deleted"]);
}

#[test]
fn kubectl_shows_every_mistake_and_nothing_is_stored() {
    let Some(kubectl) = Kubectl::start() else { return };
    kubectl.apply(OBJECTS);
    let wrong = r#"{"spec":{"action":"Perhaps","ruels":[]}}"#;
    let said = kubectl.refused(&["patch", "accesspolicy", "be1", "--type=merge", "-p", wrong]);
    has(&said, &["is invalid", "spec.action", "spec.ruels", "rules"]);
    let unknown = kubectl.mesh.file("unknown.yaml", &OBJECTS.replace("parentRefs", "parentReffs")).unwrap();
    has(
        &kubectl.refused(&["apply", "-f", unknown.to_str().unwrap()]),
        &["strict decoding error", "parentReffs"],
    );
    let served = kubectl.refused(&["apply", "--server-side", "-f", unknown.to_str().unwrap()]);
    has(&served, &["Server-side apply not available"]);
    has(
        &kubectl.refused(&["create", "secret", "generic", "x", "-n", "nowhere"]),
        &["namespaces \"nowhere\" not found"],
    );
    let dry = kubectl.mesh.file("dry.yaml", &OBJECTS.replace("name: be1", "name: be2")).unwrap();
    has(
        &kubectl.ok(&["apply", "--dry-run=server", "-f", dry.to_str().unwrap()]),
        &["service/be2 created (server dry run)"],
    );
    has(&kubectl.refused(&["get", "service", "be2"]), &["NotFound"]);
}

#[test]
fn kubectl_watches_changes() {
    let Some(kubectl) = Kubectl::start() else { return };
    let log = kubectl.mesh.folder().join("watch.log");
    // The watch has no end of its own; the process is ended by its pid when it is dropped.
    let mut command =
        kubectl.command(&["--request-timeout=0", "get", "accesspolicies", "-w", "--output-watch-events"]);
    let _watch = Process::start("kubectl", &mut command, &log).unwrap();
    let sees = |line: &str| {
        eventually(line, Duration::from_secs(20), || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.lines()
                .any(|seen| seen.split_whitespace().take(2).collect::<Vec<_>>().join(" ") == line)
                .then_some(())
        });
    };
    sees("ADDED same-namespace");
    kubectl.apply(OBJECTS);
    sees("ADDED be1");
    kubectl.ok(&["label", "accesspolicy", "be1", "a=b"]);
    sees("MODIFIED be1");
    kubectl.ok(&["delete", "accesspolicy", "be1"]);
    sees("DELETED be1");
}

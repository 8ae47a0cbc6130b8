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
fn kubectl_works_on_the_service_mesh_interface() {
    let Some(kubectl) = Kubectl::start() else { return };
    let objects = r#"
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: web}
spec: {matches: [{name: read, methods: [GET], pathRegex: /books}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: web}
spec: {matches: {ports: [8080]}}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: web}
spec:
  destination: {kind: ServiceAccount, name: web}
  sources: [{kind: ServiceAccount, name: fe}]
  rules: [{kind: HTTPRouteGroup, name: web, matches: [read]}, {kind: TCPRoute, name: web}]
"#;
    let all = |word: &str| {
        [
            "httproutegroup.specs.smi-spec.io/web",
            "tcproute.specs.smi-spec.io/web",
            "traffictarget.access.smi-spec.io/web",
        ]
        .map(|name| format!("{name} {word}"))
        .to_vec()
    };
    assert_eq!(kubectl.apply(objects), all("created"));
    assert_eq!(kubectl.apply(objects), all("unchanged"));
    has(&kubectl.ok(&["api-versions"]), &["access.smi-spec.io/v1alpha3\n", "specs.smi-spec.io/v1alpha4\n"]);
    has(&kubectl.ok(&["get", "traffictargets"]), &["DESTINATION", "SOURCES", "web", "fe"]);
    has(&kubectl.ok(&["get", "tcproutes.specs.smi-spec.io"]), &["PORTS", "8080"]);
    // The bare name is Gateway API's, of which there is none.
    let bare = kubectl.ok(&["get", "tcproutes", "-o", "name"]);
    assert_eq!(bare, "");
    has(
        &kubectl.ok(&["explain", "traffictarget.spec.rules"]),
        &["GROUP:      access.smi-spec.io", "matches"],
    );
    // The older version, by the server's reading.
    let old = kubectl.json(&["get", "traffictargets.v1alpha2.access.smi-spec.io", "web"]);
    assert_eq!(old["apiVersion"], "access.smi-spec.io/v1alpha2");
    let wrong = r#"{"spec":{"matches":[{"name":"a","pathRegex":"/a("}]}}"#;
    let said = kubectl.refused(&["patch", "httproutegroup", "web", "--type=merge", "-p", wrong]);
    has(&said, &["spec.matches[0].pathRegex", "is not a regular expression"]);
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
    has(&served, &["strict decoding error", "parentReffs"]);
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

#[test]
fn kubectl_applies_server_side_with_owners_and_conflicts() {
    let Some(kubectl) = Kubectl::start() else { return };
    let file = |name: &str, text: &str| kubectl.mesh.file(name, text).unwrap().to_str().unwrap().to_owned();
    let objects = file("objects.yaml", OBJECTS);
    let all = |word: &str| {
        ["service/be1", "httproute.gateway.networking.k8s.io/be1", "accesspolicy.weft.dev/be1"]
            .map(|name| format!("{name} {word}\n"))
            .concat()
    };
    assert_eq!(kubectl.ok(&["apply", "--server-side", "-f", &objects]), all("serverside-applied"));
    let first = kubectl.json(&["get", "httproute", "be1"])["metadata"]["resourceVersion"].clone();
    kubectl.ok(&["apply", "--server-side", "-f", &objects]);
    assert_eq!(kubectl.json(&["get", "httproute", "be1"])["metadata"]["resourceVersion"], first);

    let other =
        file("other.yaml", &OBJECTS.replace("name: http,", "name: web,").replace("weight: 90", "weight: 5"));
    let refused = kubectl.refused(&["apply", "--server-side", "--field-manager=pipeline", "-f", &other]);
    has(&refused, &["conflict with \"kubectl\"", ".spec.ports[port=80].name", ".spec.rules"]);
    kubectl.ok(&["apply", "--server-side", "--field-manager=pipeline", "--force-conflicts", "-f", &other]);
    has(&kubectl.refused(&["apply", "--server-side", "-f", &objects]), &["conflict with \"pipeline\""]);
    let shown = kubectl.ok(&["get", "service", "be1", "-o", "yaml", "--show-managed-fields"]);
    has(&shown, &["manager: pipeline", "manager: kubectl", "operation: Apply", "f:selector"]);
    // What is no longer said goes; what another says stays.
    let less = OBJECTS.replace("  - {name: admin, port: 9000}\n", "").replace("name: http,", "name: web,");
    let less = file("less.yaml", &less.replace("weight: 90", "weight: 5"));
    kubectl.ok(&["apply", "--server-side", "-f", &less]);
    kubectl.ok(&["apply", "--server-side", "--field-manager=pipeline", "-f", &less]);
    let ports = kubectl.json(&["get", "service", "be1"])["spec"]["ports"].clone();
    assert_eq!(ports.as_array().unwrap().len(), 1, "{ports}");
}

#[test]
fn kubectl_moves_from_client_side_to_server_side_apply() {
    let Some(kubectl) = Kubectl::start() else { return };
    kubectl.apply(OBJECTS);
    let changed = kubectl.mesh.file("changed.yaml", &OBJECTS.replace("weight: 90", "weight: 10")).unwrap();
    let changed = changed.to_str().unwrap();
    has(&kubectl.ok(&["apply", "--server-side", "-f", changed]), &["service/be1 serverside-applied"]);
    let route = kubectl.json(&["get", "httproute", "be1"]);
    assert_eq!(route["spec"]["rules"][0]["backendRefs"][0]["weight"], 10);
    // Once more, and back: both ways take turns on one object.
    kubectl.ok(&["apply", "--server-side", "-f", changed]);
    kubectl.apply(OBJECTS);
    assert_eq!(
        kubectl.json(&["get", "httproute", "be1"])["spec"]["rules"][0]["backendRefs"][0]["weight"],
        90
    );
}

#[test]
fn kubectl_describes_a_service_and_its_conditions() {
    let Some(kubectl) = Kubectl::start() else { return };
    kubectl.apply(OBJECTS);
    // The address comes a moment after the object.
    let told = eventually("a service with an address", Duration::from_secs(20), || {
        let told = kubectl.ok(&["describe", "svc", "be1"]);
        told.lines().any(|line| line.starts_with("IP:") && line.contains("240.240.")).then_some(told)
    });
    let line = |name: &str| {
        let found = told.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        found.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        (line("Type:"), line("Port:"), line("TargetPort:")),
        ("ClusterIP".into(), "http 80/TCP".into(), "8080/TCP".into()),
        "{told}"
    );
    assert_eq!(line("Selector:"), "app=be1");
    kubectl.ok(&[
        "wait",
        "--for=jsonpath={.status.parents[0].conditions[0].status}=True",
        "httproute/be1",
        "--timeout=10s",
    ]);
    has(
        &kubectl.ok(&["describe", "httproute", "be1"]),
        &["Type:", "Accepted", "ResolvedRefs", "weft.dev/control"],
    );
    kubectl.ok(&[
        "patch",
        "httproute",
        "be1",
        "--type=json",
        "-p",
        r#"[{"op":"replace","path":"/spec/rules/0/backendRefs/0/name","value":"nobody"}]"#,
    ]);
    eventually("the backend is missed", Duration::from_secs(10), || {
        let route = kubectl.json(&["get", "httproute", "be1"]);
        (route["status"]["parents"][0]["conditions"][1]["reason"] == "BackendNotFound").then_some(())
    });
    // What is shown beyond the file makes no difference to whoever applies the file again.
    assert_eq!(kubectl.apply(OBJECTS)[0], "service/be1 unchanged");
}

#[test]
fn kubectl_lists_many_objects_in_pages() {
    let Some(kubectl) = Kubectl::start() else { return };
    let many: String = (0..23)
        .map(|n| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s{n:02}}}\n---\n"))
        .collect();
    let file = kubectl.mesh.file("many.yaml", &many).unwrap();
    kubectl.mesh.ok(&["apply", "-f", file.to_str().unwrap()]).unwrap();
    let names = kubectl.ok(&["get", "secrets", "--chunk-size=5", "-o", "name"]);
    assert_eq!(names.lines().count(), 23, "{names}");
    let said = kubectl.run(&["get", "secrets", "--chunk-size=5", "-v=6"]);
    let requests = String::from_utf8_lossy(&said.stderr).matches("continue=").count();
    assert!(requests >= 4, "kubectl asked for {requests} later pages");
}

#[test]
fn kubectl_as_a_viewer_reads_and_changes_nothing() {
    let Some(kubectl) = Kubectl::start() else { return };
    kubectl.apply(OBJECTS);
    let grant = |args: &[&str]| {
        let made = kubectl.mesh.ok(&[&["control", "access", "grant"], args].concat()).unwrap();
        format!("--token={}", made.trim())
    };
    // The kubeconfig's own token is the admin's: another file for the others.
    let config = std::fs::read_to_string(kubectl.mesh.state().join("kubeconfig")).unwrap();
    let bare = config.lines().filter(|line| !line.contains("token:"));
    let bare: Vec<&str> = bare.map(|line| if line == "  user:" { "  user: {}" } else { line }).collect();
    let bare = kubectl.mesh.file("bare.kubeconfig", &bare.join("\n")).unwrap();
    let bare = format!("--kubeconfig={}", bare.display());
    let viewer = grant(&["vi", "--role", "viewer"]);
    let shop = grant(&["op", "--role", "operator", "-n", "shop"]);
    has(&kubectl.ok(&[&bare, &viewer, "get", "svc", "be1"]), &["be1"]);
    has(&kubectl.refused(&[&bare, &viewer, "get", "secrets"]), &["Forbidden", "vi", "viewer"]);
    has(&kubectl.refused(&[&bare, &viewer, "delete", "svc", "be1"]), &["Forbidden"]);
    has(&kubectl.refused(&[&bare, &shop, "get", "svc", "be1"]), &["NotFound"]);
    has(&kubectl.refused(&[&bare, "--token=wrong", "get", "svc"]), &["must be logged in"]);
    kubectl.ok(&["create", "namespace", "shop"]);
    let file = kubectl.mesh.folder().join("objects.yaml");
    let file = file.to_str().unwrap();
    has(&kubectl.ok(&[&bare, &shop, "apply", "-n", "shop", "-f", file]), &["service/be1 created"]);
    let list = kubectl.mesh.json(&["control", "access", "list"]).unwrap();
    assert_eq!(list["users"].as_array().unwrap().len(), 2);
    kubectl.mesh.ok(&["control", "access", "revoke", "vi"]).unwrap();
    has(&kubectl.refused(&[&bare, &viewer, "get", "svc", "be1"]), &["must be logged in"]);
}

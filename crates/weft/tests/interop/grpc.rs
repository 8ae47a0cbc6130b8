//! A gRPC client without a proxy (Python's grpcio, `xds:///`): endpoints, routes and mTLS settings by xDS
//! from our control plane, keys from files that `weft identity fetch --watch` keeps fresh. The service
//! that it calls is a gRPC server in the clear behind a Weft proxy.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use weft_testkit::{Joined, Mesh, Process, peers};

use crate::{WEFT, imposter};

const PATIENCE: Duration = Duration::from_secs(10);

/// FE, which is a gRPC client, and services that are gRPC servers behind Weft proxies.
struct Figure {
    client: Process,
    servers: Vec<Process>,
    fetch: Process,
    mesh: Mesh,
    proxies: Vec<Joined>,
    apps: Vec<u16>,
    files: PathBuf,
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(name)
}

impl Figure {
    /// Everything up; nothing only where peers were left out on purpose.
    fn start(services: &[&str], host: &str) -> Option<Figure> {
        let python = peers::program("python3")?;
        let mut mesh = Mesh::start(WEFT).unwrap();
        mesh.apply("apiVersion: v1\nkind: Service\nmetadata: {name: fe}\nspec: {selector: {app: fe}, ports: [{port: 80}]}\n").unwrap();
        let (mut servers, mut proxies, mut apps) = (Vec::new(), Vec::new(), Vec::new());
        for name in services {
            let mut command = Command::new(&python);
            command.arg(script("grpc_server.py")).arg(name);
            let (server, ports) =
                Process::start_with_ports(name, &mut command, &mesh.log(&format!("{name}-app"))).unwrap();
            let app = weft_testkit::mesh::port(&ports, "app");
            // The other port makes it matter that the client says which one it means.
            mesh.apply(&format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}, ports: [{{name: other, port: 8000, targetPort: 80, appProtocol: grpc}}, {{name: calls, port: 80, targetPort: {app}, appProtocol: grpc}}]}}\n"
            ))
            .unwrap();
            proxies.push(mesh.proxy(name, &format!("{name}-1"), app, &[]).unwrap());
            servers.push(server);
            apps.push(app);
        }
        let agent = mesh.agent("fe", "fe-grpc", "grpc", &[]).unwrap();
        let files = mesh.folder().join("fe-tls");
        let mut command = Command::new(WEFT);
        command.args(["identity", "fetch", "--watch", "--state"]).arg(&agent.state).arg("--out").arg(&files);
        let fetch = Process::start("fetch", &mut command, &mesh.log("fetch")).unwrap();
        weft_testkit::eventually("the SVID is in its files", PATIENCE, || {
            files.join("svid.pem").exists().then_some(())
        });
        let control = format!("{host}:{}", mesh.xds);
        let bootstrap = mesh
            .ok(&[
                "bootstrap",
                "grpc",
                "--service",
                "fe",
                "--name",
                "fe-grpc",
                "--control",
                &control,
                "--certificates",
                files.to_str().unwrap(),
            ])
            .unwrap();
        let bootstrap = mesh.file("grpc.json", &bootstrap).unwrap();
        let mut command = Command::new(&python);
        command.arg(script("grpc_client.py")).arg(format!("{}.default.mesh.internal:80", services[0]));
        command.env("GRPC_XDS_BOOTSTRAP", bootstrap);
        let client = Process::start("client", &mut command, &mesh.log("client")).unwrap();
        Some(Figure { client, servers, fetch, mesh, proxies, apps, files })
    }

    /// What the client said of each call so far.
    fn calls(&self) -> Vec<Value> {
        self.client.log_text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The last call, once it is one that was begun after now.
    #[track_caller]
    fn until(&self, what: &str, mut fact: impl FnMut(&Value) -> bool) -> Value {
        let deadline = std::time::Instant::now() + PATIENCE;
        let seen = self.calls().len();
        loop {
            // The first new one may have been under way already.
            if let Some(call) =
                self.calls().get(seen + 1..).and_then(<[Value]>::last).filter(|call| fact(call))
            {
                return call.clone();
            }
            if std::time::Instant::now() > deadline {
                panic!(
                    "waited {PATIENCE:?} in vain for: {what}\nclient:\n{}\nfetch:\n{}",
                    self.client.log_text(),
                    self.fetch.log_text()
                );
            }
            weft_testkit::pause(Duration::from_millis(50));
        }
    }

    fn row(&self) -> Value {
        let answer = self.mesh.json(&["status"]).unwrap();
        let rows = answer["proxies"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == "default/fe-grpc").cloned().unwrap_or_default()
    }
}

#[test]
fn a_grpc_client_calls_by_mtls_and_is_refused_by_a_policy() {
    let Some(figure) = Figure::start(&["be2"], "localhost") else { return };
    let call = figure.until("a call is answered", |call| call["code"] == "OK");
    assert_eq!(
        (&call["by"], &call["method"], &call["heard"]),
        (&"be2".into(), &"/weft.test.Echo/Say".into(), &"hello".into())
    );
    assert_eq!(
        (call["served-by"].as_str(), call["chat"].as_u64()),
        (Some("be2"), Some(3)),
        "trailers and streams"
    );
    let caller = call["caller"].as_str().unwrap();
    assert!(caller.contains("URI=spiffe://mesh.internal/ns/default/sa/fe"), "{caller}");
    let row = figure.row();
    assert!(row["kind"] == "grpc" && row["connected"] == true && row["acked"] != "", "{row}");
    assert_eq!(row["acked"], row["latest"], "{row}");
    assert!(row["nack"].is_null(), "{row}");

    let deny = "apiVersion: weft.dev/v1\nkind: AccessPolicy\nmetadata: {name: not-fe}\nspec: {targetRefs: [{kind: Service, name: be2}], action: Deny, rules: [{from: [{services: [fe]}]}]}\n";
    figure.mesh.apply(deny).unwrap();
    let refused = figure.until("the policy refuses", |call| call["code"] == "PERMISSION_DENIED");
    assert!(!refused.to_string().contains("not-fe"), "the caller does not hear which policy: {refused}");
    figure.mesh.ok(&["delete", "accesspolicy", "not-fe"]).unwrap();
    figure.until("the calls are answered again", |call| call["code"] == "OK");
}

#[test]
fn a_grpc_client_obeys_routes_and_a_port_that_it_cannot_do_is_refused() {
    let Some(figure) = Figure::start(&["be2", "be4"], "127.0.0.1") else { return };
    figure.until("be2 answers", |call| call["by"] == "be2");
    let split = |be2: u32, be4: u32, more: &str| {
        figure
            .mesh
            .apply(&format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: split}}\nspec:\n  parentRefs: [{{group: \"\", kind: Service, name: be2}}]\n  rules: [{{backendRefs: [{{name: be2, port: 80, weight: {be2}}}, {{name: be4, port: 80, weight: {be4}}}]{more}}}]\n"
            ))
            .unwrap();
    };
    split(0, 1, "");
    figure.until("be4 answers calls to be2", |call| call["by"] == "be4");
    split(1, 1, "");
    for name in ["be2", "be4"] {
        figure.until("both answer", |call| call["by"] == name);
    }
    // A gRPC library leaves header edits out in silence: then rather no calls than wrong ones.
    split(
        1,
        0,
        ", filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-a, value: b}]}}]",
    );
    figure.until("the port is refused", |call| call["code"] == "UNAVAILABLE");
    let told = String::from_utf8(figure.mesh.cli(&["check"]).unwrap().stdout).unwrap();
    assert!(told.contains("WFT0930") && told.contains("split"), "{told}");
    split(1, 0, "");
    figure.until("be2 answers again", |call| call["by"] == "be2");
}

#[test]
fn a_grpc_client_calls_nobody_but_whom_it_means() {
    let Some(figure) = Figure::start(&["be2"], "localhost") else { return };
    figure.until("be2 answers", |call| call["code"] == "OK");
    // An endpoint of another identity: the certificate there is be2's, and be5's is expected.
    let be2 =
        |name: &str| imposter(&figure.mesh, name, figure.proxies[0].port("inbound"), figure.apps[0], "grpc");
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: to-be5}\nspec:\n  parentRefs: [{group: \"\", kind: Service, name: be2}]\n  rules: [{backendRefs: [{name: be5, port: 80}]}]\n";
    be2("be5");
    figure.mesh.apply(route).unwrap();
    figure.until("the imposter is not called", |call| call["code"] == "UNAVAILABLE");
    // The guard: with the right name expected, the same endpoint is called.
    be2("be2");
    figure.until("be2 is called under its own name", |call| call["code"] == "OK");
}

#[test]
fn the_files_are_renewed_and_the_calls_go_on() {
    let Some(mut figure) = Figure::start(&["be2"], "localhost") else { return };
    figure.until("a call is answered", |call| call["code"] == "OK");
    let serial = || {
        let out =
            weft_testkit::run(WEFT, ["identity", "show", figure.files.join("svid.pem").to_str().unwrap()])
                .unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let first = serial();
    assert!(first.contains("spiffe://mesh.internal/ns/default/sa/fe"), "{first}");
    // The agent dies and comes back with another certificate; nobody tells the watcher.
    let agent = figure.mesh.proxies.pop().unwrap();
    drop(agent);
    std::fs::remove_dir_all(figure.mesh.folder().join("fe-grpc/identity")).unwrap();
    figure.mesh.agent("fe", "fe-grpc", "grpc", &[]).unwrap();
    weft_testkit::eventually("the files are new", PATIENCE, || (serial() != first).then_some(()));
    let key = std::fs::metadata(figure.files.join("svid_key.pem")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);
    figure.until("calls are answered", |call| call["code"] == "OK");
    assert!(figure.fetch.running() && figure.servers.iter_mut().all(Process::running));
}

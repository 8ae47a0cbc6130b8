//! Is it really encrypted? Asked of the wire, not of the proxies (part 7d).
//!
//! Two proxies in two network namespaces, joined by one veth pair that carries nothing but what they say to
//! each other; the control plane is in a third. The negative control, the same mesh with mTLS off, shows
//! that the test could see plaintext if there were any.

mod wire;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use weft_testkit::http::{self, Origin};
use weft_testkit::mesh::port;
use weft_testkit::netns::Namespace;
use weft_testkit::{Process, eventually, peers};
use wire::Capture;

use crate::WEFT;

const AS_TLS: [&str; 2] = ["-d", "tcp.port==15006,tls"];
const AS_HTTP2: [&str; 2] = ["-d", "tcp.port==15006,http2"];
const REQUESTS: usize = 40;

const OBJECTS: &str = r"
apiVersion: v1
kind: Service
metadata: {name: be1}
spec: {selector: {app: be1}, ports: [{name: http, port: 80, targetPort: http}]}
";

fn mesh_object(mode: &str, authorization: &str) -> String {
    // In plaintext nobody has an identity, so the policy by identities would refuse everything.
    format!(
        "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {{name: default}}\nspec:\n  mtls: {{mode: {mode}}}\n  authorization: {{default: {authorization}}}\n"
    )
}

/// fe in one namespace, be1 in another, the control plane in a third.
struct Wire {
    // Processes end before their namespaces go.
    _processes: Vec<Process>,
    origin: Origin,
    fe: Namespace,
    _be1: Namespace,
    _control: Namespace,
    folder: tempfile::TempDir,
}

impl Wire {
    fn start(body: &str) -> Wire {
        let folder = tempfile::tempdir().unwrap();
        let [fe, be1, control] = ["fe", "be1", "cp"].map(|role| Namespace::create(role).unwrap());
        fe.join(("data", "10.203.0.1/30"), &be1, ("data", "10.203.0.2/30")).unwrap();
        fe.join(("cp", "10.203.1.2/30"), &control, ("fe", "10.203.1.1/30")).unwrap();
        be1.join(("cp", "10.203.2.2/30"), &control, ("be1", "10.203.2.1/30")).unwrap();
        let mut command = control.command(WEFT.as_ref());
        command.args([
            "control",
            "--print-ports",
            "--api",
            "127.0.0.1:0",
            "--xds",
            "0.0.0.0:0",
            "--dns",
            "127.0.0.1:0",
            "--state",
        ]);
        command.arg(folder.path().join("control"));
        let (process, ports) =
            Process::start_with_ports("control", &mut command, &folder.path().join("control.log")).unwrap();
        let xds = port(&ports, "xds");
        let origin = be1.inside(|| Origin::start_at(body, "127.0.0.1:0").unwrap()).unwrap();
        let mut wire = Wire { _processes: vec![process], origin, fe, _be1: be1, _control: control, folder };
        wire.apply(OBJECTS);
        let app = format!("http:{}", wire.origin.port);
        let be1 = wire.proxy(
            &wire._be1,
            "be1",
            "10.203.0.2",
            &format!("https://10.203.2.1:{xds}"),
            // Not where it is reached: as behind a translated address.
            &["--port", &app, "--inbound", "0.0.0.0:15006"],
        );
        let fe = wire.proxy(&wire.fe, "fe", "10.203.0.1", &format!("https://10.203.1.1:{xds}"), &[]);
        wire._processes.extend([be1, fe]);
        wire
    }

    fn weft(&self, args: &[&str]) -> String {
        // Its Unix socket is in the file system: namespaces of the network don't matter to it.
        let out = Command::new(WEFT)
            .args(args)
            .env("WEFT_STATE", self.folder.path().join("control"))
            .output()
            .unwrap();
        assert!(out.status.success(), "weft {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn apply(&self, text: &str) {
        let file = self.folder.path().join("apply.yaml");
        std::fs::write(&file, text).unwrap();
        self.weft(&["apply", "-f", &file.to_string_lossy()]);
    }

    fn proxy(
        &self,
        namespace: &Namespace,
        service: &str,
        address: &str,
        control: &str,
        more: &[&str],
    ) -> Process {
        let token = self.folder.path().join(format!("{service}.token"));
        std::fs::write(&token, self.weft(&["identity", "token", "--service", service])).unwrap();
        let mut command = namespace.command(WEFT.as_ref());
        command
            .args([
                "proxy",
                "--print-ports",
                "--service",
                service,
                "--address",
                address,
                "--control",
                control,
            ])
            .args(more);
        command.arg("--token").arg(&token).arg("--state").arg(self.folder.path().join(service));
        Process::start_with_ports(service, &mut command, &self.folder.path().join(format!("{service}.log")))
            .unwrap()
            .0
    }

    fn capture(&self, program: &std::path::Path, name: &str) -> Capture {
        // All of TCP on the link: whatever port it is, it is between the two proxies.
        Capture::start(self.fe.command(program), program, "data", "tcp", self.folder.path().join(name))
    }

    /// A request with `marker` in its URL, a header and its body, from the app beside fe's proxy.
    fn request(&self, marker: &str) -> Option<u16> {
        let (target, headers) = (format!("http://be1/{marker}"), [("x-marker", marker)]);
        let call = || {
            http::send("127.0.0.1:15001", "POST", &target, &headers, marker).ok().map(|answer| answer.status)
        };
        self.fe.inside(call).unwrap()
    }
}

fn marker() -> String {
    format!("marker{:032x}", fastrand::u128(..))
}

#[test]
fn tshark_sees_only_tls_1_3_between_two_proxies_and_plaintext_when_mtls_is_off() {
    let Some(tshark) = peers::program("tshark") else { return };
    assert!(peers::root(), "this test makes network namespaces: run it as root");
    let body = marker();
    let wire = Wire::start(&body);

    // mTLS as it comes by default: nobody has said anything about it.
    let secret = marker();
    let mut capture = wire.capture(&tshark, "strict.pcapng");
    eventually("fe reaches be1", Duration::from_secs(15), || {
        (wire.request("first") == Some(200)).then_some(())
    });
    let stranger = || std::net::TcpStream::connect("10.203.0.1:15001").map(|_| ()).map_err(|e| e.kind());
    assert_eq!(
        wire._be1.inside(stranger).unwrap(),
        Err(std::io::ErrorKind::ConnectionRefused),
        "nobody else on the network calls as fe"
    );
    let before = wire.origin.served();
    for _ in 0..REQUESTS {
        assert_eq!(wire.request(&secret), Some(200));
    }
    capture.stop();
    // The guards: the requests did go over that link, with the marker in them.
    assert_eq!(wire.origin.served() - before, REQUESTS as u64, "the origin's own count");
    assert_eq!(wire.origin.heads().iter().filter(|head| head.contains(&secret)).count(), REQUESTS);
    let verdict = capture.verdict("tcp");
    assert!(
        verdict.connections >= 1 && verdict.bytes > (REQUESTS * 2 * secret.len()) as u64,
        "too little was seen: {verdict:?}"
    );
    assert_eq!(verdict.plaintext_bytes, 0, "{verdict:?}");
    assert!(!capture.holds(&secret) && !capture.holds(&body), "a marker is readable on the wire");
    assert_tls_1_3(&capture, "tcp", verdict.connections);

    // The negative control.
    wire.apply(&mesh_object("Disabled", "Allow"));
    let open = marker();
    let mut capture = wire.capture(&tshark, "disabled.pcapng");
    eventually("the marker is readable on the wire", Duration::from_secs(15), || {
        (wire.request(&open) == Some(200) && capture.holds(&open) && capture.holds(&body)).then_some(())
    });
    capture.stop();
    assert!(capture.verdict("tcp").plaintext_bytes > 0);
    let paths = capture.fields(&AS_HTTP2, "http2.headers.path", &["http2.headers.path"]);
    assert!(paths.iter().flatten().any(|path| path.contains(&open)), "tshark reads the URL: {paths:?}");

    // And back: what is said from then on is unreadable again.
    wire.apply(&mesh_object("Strict", "Deny"));
    let again = marker();
    let mut tries = 0;
    let mut capture = eventually("mTLS is back", Duration::from_secs(20), || {
        tries += 1;
        let mut capture = wire.capture(&tshark, &format!("again-{tries}.pcapng"));
        let answered = wire.request(&format!("{again}-{tries}")) == Some(200);
        if answered && capture.verdict("tcp").plaintext_bytes == 0 {
            return Some(capture);
        }
        capture.stop();
        None
    });
    assert_eq!(wire.request(&again), Some(200));
    capture.stop();
    assert!(!capture.holds(&again) && capture.verdict("tcp").bytes > 0);
}

/// Each connection shook hands, in TLS 1.3, and showed no certificate to the wire.
fn assert_tls_1_3(capture: &Capture, filter: &str, connections: usize) {
    let hellos = capture.fields(
        &AS_TLS,
        &format!("({filter}) && tls.handshake.type == 2"),
        &["tcp.stream", "tls.handshake.extensions.supported_version"],
    );
    let shaken: std::collections::BTreeSet<&String> = hellos.iter().map(|row| &row[0]).collect();
    assert_eq!(shaken.len(), connections, "a ServerHello for each connection: {hellos:?}");
    assert!(hellos.iter().all(|row| row.get(1).is_some_and(|version| version == "0x0304")), "{hellos:?}");
    let shown = capture.fields(&AS_TLS, &format!("({filter}) && tls.handshake.type == 11"), &["tcp.stream"]);
    assert!(shown.is_empty(), "TLS 1.3 encrypts certificates: {shown:?}");
}

#[test]
fn a_capture_of_the_demo_agrees_with_its_mtls_share() {
    let Some(tshark) = peers::program("tshark") else { return };
    assert!(peers::root(), "this test captures packets: run it as root");
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("demo.pcapng");
    let mut capture =
        Capture::start(Command::new(&tshark), &tshark, "lo", "tcp port 15006 and net 127.64.0.0/10", file);
    let state = folder.path().join("state");
    let demo = Command::new(WEFT)
        .args(["demo", "--for", "8s", "--api", "127.0.0.1:0", "--state"])
        .arg(&state)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Each demo has a block of addresses of its own; which one, its Workloads say.
    let block = eventually("the demo's members have joined", Duration::from_secs(20), || {
        let out = Command::new(WEFT)
            .args(["get", "workloads", "-o", "json"])
            .env("WEFT_STATE", &state)
            .output()
            .ok()?;
        let list: Value = serde_json::from_slice(&out.stdout).ok()?;
        let address = list["items"].get(0)?["spec"]["address"].as_str()?.to_owned();
        Some(address.rsplit_once('.')?.0.to_owned())
    });
    let out = demo.wait_with_output().unwrap();
    capture.stop();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let summary: Value = serde_json::from_slice(&out.stdout).expect("the summary is JSON");
    assert_eq!(summary["mtls_share"], 1.0, "{summary}");
    let filter = format!("ip.addr == {block}.0/24 && tcp.port == 15006");
    let verdict = capture.verdict(&filter);
    let requests = summary["requests"].as_u64().unwrap();
    // fe→be1, fe→be4, be1→be2: at least three connections, and some bytes for each request.
    assert!(
        verdict.connections >= 3 && verdict.bytes > requests * 50,
        "too little was seen of {requests} requests: {verdict:?}"
    );
    assert_eq!(verdict.plaintext_bytes, 0, "{verdict:?}");
    assert_tls_1_3(&capture, &filter, verdict.connections);
}

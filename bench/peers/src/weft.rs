//! Weft as its users run it: a control plane, objects applied to it, and proxies that joined by token.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::machine::{LOAD_CORE, PROXY_CORE, Running, pinned};
use crate::origin::{Origin, first_line};

/// A mesh of two services: `fe` calls, `be1` is called; `origin` and `sink` stand outside.
pub struct Mesh {
    program: PathBuf,
    dir: PathBuf,
    _control: Running,
    xds: u16,
    origin: u16,
    grpc: u16,
}

/// A running proxy and the ports it took.
pub struct Proxy {
    pub process: Running,
    ports: Value,
}

impl Proxy {
    pub fn port(&self, name: &str) -> anyhow::Result<u16> {
        port(&self.ports, name)
    }
}

impl Mesh {
    pub fn start(program: &Path, dir: &Path, origin: &Origin) -> anyhow::Result<Mesh> {
        let state = dir.join("control");
        // Not on the proxy's core: the control plane's work is not what is measured.
        let mut control = Running::start(
            Command::new("taskset")
                .args(["-c", LOAD_CORE])
                .arg(program)
                .args(["control", "--print-ports", "--api", "127.0.0.1:0", "--xds", "127.0.0.1:0"])
                .args(["--dns", "127.0.0.1:0", "--state"])
                .arg(&state)
                .stdout(Stdio::piped()),
            &dir.join("control.log"),
        )?;
        let xds = port(&serde_json::from_str(&first_line(&mut control)?)?, "xds")?;
        let mesh = Mesh {
            program: program.to_owned(),
            dir: dir.to_owned(),
            _control: control,
            xds,
            origin: origin.http,
            grpc: origin.grpc,
        };
        let file = dir.join("objects.yaml");
        std::fs::write(&file, objects(origin, dir))?;
        mesh.command(&["apply", "-f", &file.to_string_lossy()])?;
        Ok(mesh)
    }

    fn command(&self, args: &[&str]) -> anyhow::Result<String> {
        let out =
            Command::new(&self.program).args(args).arg("--state").arg(self.dir.join("control")).output()?;
        if !out.status.success() {
            bail!("weft {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Where a service's key and certificates are, once its proxy has run.
    pub fn identity(&self, service: &str) -> PathBuf {
        self.dir.join(service).join("identity")
    }

    /// A proxy on the proxies' core; its identity is kept from one start to the next.
    pub fn proxy(&self, service: &str) -> anyhow::Result<Proxy> {
        let state = self.dir.join(service);
        let token = self.dir.join(format!("{service}.token"));
        if !self.identity(service).join("key.pem").exists() {
            std::fs::write(&token, self.command(&["identity", "token", "--service", service])?)?;
        }
        let mut command = pinned(PROXY_CORE, &self.program);
        command.args(["proxy", "--print-ports", "--workers", "1", "--service", service, "--control"]);
        command.arg(format!("https://127.0.0.1:{}", self.xds)).arg("--token").arg(&token);
        command.args(["--outbound", "127.0.0.1:0", "--inbound", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--metrics", "127.0.0.1:0", "--app-address", "127.0.0.1", "--state"]).arg(&state);
        if service == "be1" {
            command.args([
                "--port",
                &format!("http:{}", self.origin),
                "--port",
                &format!("grpc:{}", self.grpc),
            ]);
        }
        let log = self.dir.join(format!("{service}.log"));
        let mut process = Running::start(command.stdout(Stdio::piped()), &log)?;
        let line = first_line(&mut process)?;
        let ports = serde_json::from_str(&line)
            .with_context(|| format!("the proxy printed {line:?}; its log is {}", log.display()))?;
        Ok(Proxy { process, ports })
    }

    /// Milliseconds from the demo's start to its first served request.
    pub fn demo_start(program: &Path, dir: &Path) -> anyhow::Result<f64> {
        let out = Command::new(program)
            .args(["demo", "--for", "2s", "--api", "127.0.0.1:0", "--state"])
            .arg(dir.join("demo"))
            .output()?;
        let text = String::from_utf8_lossy(&out.stdout);
        let json: Value = serde_json::from_str(&text)
            .with_context(|| format!("weft demo printed: {text}{}", String::from_utf8_lossy(&out.stderr)))?;
        json["startup_ms"].as_f64().context("no startup_ms")
    }
}

fn objects(origin: &Origin, dir: &Path) -> String {
    let service = |name: &str, ports: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}, ports: [{ports}]}}\n---\n"
        )
    };
    let external = |name: &str, port: u16, protocol: &str, target: u16| {
        format!(
            "apiVersion: weft.dev/v1\nkind: ExternalService\nmetadata: {{name: {name}}}\nspec: {{hosts: [{name}.example], ports: [{{name: {protocol}, port: {port}, protocol: {protocol}, targetPort: {target}}}], resolution: Static, endpoints: [{{address: 127.0.0.1}}]}}\n---\n"
        )
    };
    let (http, grpc) = (origin.http, origin.grpc);
    [
        service("fe", "{name: http, port: 80, targetPort: 8080}"),
        service(
            "be1",
            &format!(
                "{{name: http, port: 80, targetPort: {http}}}, {{name: grpc, port: 81, targetPort: {grpc}, appProtocol: grpc}}"
            ),
        ),
        external("origin", 80, "http", http),
        external("grpc", 80, "http2", grpc),
        external("sink", 9000, "tcp", origin.sink),
        format!(
            "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {{name: default}}\nspec: {{accessLog: {{format: text, path: {}}}}}\n",
            dir.join("access.log").display()
        ),
    ]
    .concat()
}

fn port(ports: &Value, name: &str) -> anyhow::Result<u16> {
    let found = &ports[name];
    let port = found.as_u64().or_else(|| found.as_str()?.rsplit(':').next()?.parse().ok());
    port.and_then(|port| u16::try_from(port).ok()).with_context(|| format!("no port {name} in {ports}"))
}

/// A port that is free now.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

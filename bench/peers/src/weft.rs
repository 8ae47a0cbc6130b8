//! Weft as its users run it: a control plane, objects applied to it, and proxies that joined by token.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::machine::{LOAD_CORE, PROXY_CORE, Running, Scheduling, wait_until};
use crate::origin::{OriginPorts, first_line};

/// A mesh of two services: `fe` calls, `be1` is called; `origin` and `sink` stand outside.
pub struct Mesh {
    program: PathBuf,
    dir: PathBuf,
    scheduling: Scheduling,
    pub control: Running,
    pub xds: u16,
    origin: OriginPorts,
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
    /// With the objects of [`objects`] and those of `more`.
    pub fn start(
        program: &Path,
        dir: &Path,
        origin: OriginPorts,
        scheduling: Scheduling,
        more: &str,
    ) -> anyhow::Result<Mesh> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let state = dir.join("control");
        // Not on the proxy's core, and not above others: the control plane's work is not what is measured.
        let mut command = match scheduling {
            Scheduling::Pinned => {
                let mut command = Command::new("taskset");
                command.args(["-c", LOAD_CORE]).arg(program);
                command
            }
            Scheduling::Free => Command::new(program),
        };
        let mut control = Running::start(
            command
                .args(["control", "--print-ports", "--api", "127.0.0.1:0", "--xds", "127.0.0.1:0"])
                .args(["--dns", "127.0.0.1:0", "--state"])
                .arg(&state)
                .stdout(Stdio::piped()),
            &dir.join("control.log"),
        )?;
        let xds = port(&serde_json::from_str(&first_line(&mut control)?)?, "xds")?;
        let mesh =
            Mesh { program: program.to_owned(), dir: dir.to_owned(), scheduling, control, xds, origin };
        mesh.apply(&(objects(origin, dir) + more))?;
        Ok(mesh)
    }

    /// `weft ARGS`, as the mesh's admin.
    pub fn command(&self, args: &[&str]) -> anyhow::Result<String> {
        let out =
            Command::new(&self.program).args(args).arg("--state").arg(self.dir.join("control")).output()?;
        if !out.status.success() {
            bail!("weft {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    pub fn apply(&self, objects: &str) -> anyhow::Result<()> {
        let file = self.dir.join("objects.yaml");
        std::fs::write(&file, objects)?;
        self.command(&["apply", "-f", &file.to_string_lossy()])?;
        Ok(())
    }

    /// Where a service's key and certificates are, once its proxy has run.
    pub fn identity(&self, service: &str) -> PathBuf {
        self.dir.join(service).join("identity")
    }

    /// The text of a join token for `service`.
    pub fn token(&self, service: &str) -> anyhow::Result<String> {
        self.command(&["identity", "token", "--service", service])
    }

    /// What follows `weft` on the command line of a proxy; its identity is kept from one start to the next.
    pub fn proxy_arguments(&self, service: &str) -> anyhow::Result<Vec<String>> {
        self.named_proxy_arguments(service, service)
    }

    /// The same for one of several proxies of a service: each has a state of its own.
    pub fn named_proxy_arguments(&self, service: &str, state: &str) -> anyhow::Result<Vec<String>> {
        let token = self.dir.join(format!("{state}.token"));
        if !self.identity(state).join("key.pem").exists() {
            std::fs::write(&token, self.token(service)?)?;
        }
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut args: Vec<String> =
            ["proxy", "--print-ports", "--workers", "1", "--service", service, "--token"]
                .map(str::to_owned)
                .to_vec();
        args.extend([text(token), "--control".to_owned(), format!("https://127.0.0.1:{}", self.xds)]);
        for listener in ["--outbound", "--inbound", "--admin", "--metrics"] {
            args.extend([listener.to_owned(), "127.0.0.1:0".to_owned()]);
        }
        args.extend(["--app-address".to_owned(), "127.0.0.1".to_owned()]);
        args.extend(["--state".to_owned(), text(self.dir.join(state))]);
        if service == "be1" {
            let OriginPorts { http, grpc, sink, .. } = self.origin;
            for port in [format!("http:{http}"), format!("grpc:{grpc}"), format!("tcp:{sink}")] {
                args.extend(["--port".to_owned(), port]);
            }
        }
        Ok(args)
    }

    /// A proxy on the proxies' core.
    pub fn proxy(&self, service: &str) -> anyhow::Result<Proxy> {
        let mut command = self.scheduling.command(PROXY_CORE, &self.program);
        command.args(self.proxy_arguments(service)?);
        self.started(&mut command, service)
    }

    /// One of several proxies of a service.
    pub fn named_proxy(&self, service: &str, state: &str) -> anyhow::Result<Proxy> {
        let mut command = self.scheduling.command(PROXY_CORE, &self.program);
        command.args(self.named_proxy_arguments(service, state)?);
        self.started(&mut command, state)
    }

    /// Starts `command`, a proxy with the arguments of [`Mesh::proxy_arguments`], and reads its ports.
    pub fn started(&self, command: &mut Command, name: &str) -> anyhow::Result<Proxy> {
        let log = self.dir.join(format!("{name}.log"));
        let mut process = Running::start(command.stdout(Stdio::piped()), &log)?;
        let line = first_line(&mut process)?;
        let ports = serde_json::from_str(&line)
            .with_context(|| format!("the proxy printed {line:?}; its log is {}", log.display()))?;
        Ok(Proxy { process, ports })
    }

    /// The folder with `chain.pem`, `key.pem`, `bundle.pem` and, for HAProxy, `both.pem`, once they are there.
    pub fn identity_on_disk(&self, service: &str) -> anyhow::Result<PathBuf> {
        let identity = self.identity(service);
        wait_until("an identity", Duration::from_secs(10), || {
            ["bundle.pem", "chain.pem", "key.pem"].iter().all(|file| identity.join(file).exists())
        })?;
        let both = [std::fs::read(identity.join("chain.pem"))?, std::fs::read(identity.join("key.pem"))?];
        std::fs::write(identity.join("both.pem"), both.concat())?;
        Ok(identity)
    }
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

/// A service's object; `ports` as flow-style YAML.
pub fn service(name: &str, ports: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}, ports: [{ports}]}}\n---\n"
    )
}

/// What stands outside of the mesh at loopback's `target`; apps call it as `NAME.example`.
pub fn external(name: &str, port: u16, protocol: &str, target: u16) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: ExternalService\nmetadata: {{name: {name}}}\nspec: {{hosts: [{name}.example], ports: [{{name: {protocol}, port: {port}, protocol: {protocol}, targetPort: {target}}}], resolution: Static, endpoints: [{{address: 127.0.0.1}}]}}\n---\n"
    )
}

fn objects(origin: OriginPorts, dir: &Path) -> String {
    let OriginPorts { http, grpc, stream, sink, .. } = origin;
    [
        service("fe", "{name: http, port: 80, targetPort: 8080}"),
        service(
            "be1",
            &format!(
                "{{name: http, port: 80, targetPort: {http}}}, {{name: grpc, port: 81, targetPort: {grpc}, appProtocol: grpc}}, {{name: tcp, port: 9000, targetPort: {sink}, appProtocol: tcp}}"
            ),
        ),
        external("origin", 80, "http", http),
        external("grpc", 80, "http2", grpc),
        external("stream", 80, "http2", stream),
        external("sink", 9000, "tcp", sink),
        external("bytes", 9001, "tcp", http),
        format!(
            "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {{name: default}}\nspec: {{accessLog: {{format: text, path: {}}}}}\n---\n",
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

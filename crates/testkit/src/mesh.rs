//! A small mesh of real processes: a control plane on free ports with a state directory of its own, and
//! proxies that join it. Loopback only; every process is ended by its pid when the mesh is dropped.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;

pub struct Mesh {
    weft: PathBuf,
    // Declared before the folder, so that processes end before their files go.
    pub control: Process,
    pub proxies: Vec<Process>,
    pub api: u16,
    pub xds: u16,
    pub dns: u16,
    folder: TempDir,
}

/// Where one proxy listens.
#[derive(Debug, Clone)]
pub struct Joined {
    pub name: String,
    pub ports: Value,
    pub state: PathBuf,
}

impl Joined {
    /// The port of one of its listeners: outbound, inbound, admin, metrics.
    pub fn port(&self, listener: &str) -> u16 {
        port(&self.ports, listener)
    }
}

/// `--print-ports` says a number or an address.
pub fn port(ports: &Value, name: &str) -> u16 {
    let found = &ports[name];
    let number = found.as_u64().or_else(|| found.as_str()?.rsplit(':').next()?.parse().ok());
    number.and_then(|n| u16::try_from(n).ok()).unwrap_or(0)
}

impl Mesh {
    /// Starts a control plane.
    pub fn start(weft: impl Into<PathBuf>) -> anyhow::Result<Mesh> {
        let weft = weft.into();
        let folder = tempfile::Builder::new().prefix("weft-test-").tempdir()?;
        let (control, ports) = control(&weft, folder.path(), (0, 0, 0))?;
        let (api, xds, dns) = (port(&ports, "api"), port(&ports, "xds"), port(&ports, "dns"));
        Ok(Mesh { weft, control, proxies: Vec::new(), api, xds, dns, folder })
    }

    /// The control plane's state directory.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `kill -9`, then a new control plane on the same state and ports.
    pub fn kill_and_restart_control(&mut self) -> anyhow::Result<()> {
        self.control.kill();
        self.restart_control()
    }

    pub fn restart_control(&mut self) -> anyhow::Result<()> {
        let (control, _) = control(&self.weft, self.folder.path(), (self.api, self.xds, self.dns))?;
        self.control = control;
        Ok(())
    }

    /// Runs the CLI against this mesh.
    pub fn cli(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(&self.weft);
        command.args(args).env("WEFT_STATE", self.state()).env_remove("WEFT_SERVER");
        command.output().with_context(|| format!("cannot run weft {args:?}"))
    }

    /// Runs the CLI and returns its stdout; an error when it fails.
    pub fn ok(&self, args: &[&str]) -> anyhow::Result<String> {
        let out = self.cli(args)?;
        if !out.status.success() {
            bail!(
                "weft {args:?} failed ({}): {}{}",
                out.status,
                String::from_utf8_lossy(&out.stdout),
                String::from_utf8_lossy(&out.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Runs a question with `-o json`.
    pub fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let mut args = args.to_vec();
        args.extend(["-o", "json"]);
        let out = self.cli(&args)?;
        let text = String::from_utf8_lossy(&out.stdout);
        serde_json::from_str(&text)
            .with_context(|| format!("weft {args:?} printed {text}{}", String::from_utf8_lossy(&out.stderr)))
    }

    /// Writes `text` to a file and applies it.
    pub fn apply(&self, text: &str) -> anyhow::Result<String> {
        let file = self.file("apply.yaml", text)?;
        self.ok(&["apply", "-f", &file.to_string_lossy()])
    }

    /// A file of the test's.
    pub fn file(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// A file with a fresh join token for `service`.
    pub fn token(&self, service: &str, name: &str) -> anyhow::Result<PathBuf> {
        let token = self.ok(&["identity", "token", "--service", service])?;
        self.file(&format!("{name}.token"), &token)
    }

    /// A sidecar on free ports; `more` are further flags of `weft proxy` (`--workers` there is instead of one).
    pub fn proxy(
        &mut self,
        service: &str,
        name: &str,
        app_port: u16,
        more: &[&str],
    ) -> anyhow::Result<Joined> {
        let token = self.token(service, name)?;
        let state = self.folder.path().join(name);
        let mut command = Command::new(&self.weft);
        command.arg("proxy").args(self.proxy_args(service, name, app_port, &token, &state)).args(more);
        if !more.contains(&"--workers") {
            command.args(["--workers", "1"]);
        }
        let (process, ports) = Process::start_with_ports(name, &mut command, &self.log(name))?;
        self.proxies.push(process);
        let joined = Joined { name: name.to_owned(), ports, state };
        self.await_ready(&joined)?;
        Ok(joined)
    }

    /// An identity agent beside a foreign proxy of `kind`, with its certificate and its socket there; its
    /// state directory, and so `agent.sock`, is in `Joined::state`. `more` are further flags of `weft agent`.
    pub fn agent(&mut self, service: &str, name: &str, kind: &str, more: &[&str]) -> anyhow::Result<Joined> {
        let token = self.token(service, name)?;
        let state = self.folder.path().join(name);
        let mut command = Command::new(&self.weft);
        command.args(["agent", "--print-ports", "--service", service, "--name", name, "--kind", kind]);
        command.arg("--control").arg(format!("https://127.0.0.1:{}", self.xds));
        command.arg("--state").arg(&state).arg("--token").arg(&token).args(more);
        let (process, ports) = Process::start_with_ports(name, &mut command, &self.log(name))?;
        self.proxies.push(process);
        Ok(Joined { name: name.to_owned(), ports, state })
    }

    fn proxy_args(
        &self,
        service: &str,
        name: &str,
        app_port: u16,
        token: &Path,
        state: &Path,
    ) -> Vec<String> {
        let mut args: Vec<String> = ["--print-ports", "--address", "127.0.0.1"].map(String::from).to_vec();
        for (flag, value) in [
            ("--control", format!("https://127.0.0.1:{}", self.xds)),
            ("--service", service.to_owned()),
            ("--name", name.to_owned()),
            ("--outbound", "127.0.0.1:0".into()),
            ("--inbound", "127.0.0.1:0".into()),
            ("--admin", "127.0.0.1:0".into()),
            ("--metrics", "127.0.0.1:0".into()),
            ("--state", state.to_string_lossy().into_owned()),
            ("--token", token.to_string_lossy().into_owned()),
        ] {
            args.extend([flag.to_owned(), value]);
        }
        if app_port > 0 {
            args.extend(["--port".into(), app_port.to_string()]);
        }
        args
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    fn await_ready(&self, joined: &Joined) -> anyhow::Result<()> {
        let url = format!("127.0.0.1:{}", joined.port("metrics"));
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while std::time::Instant::now() < deadline {
            if crate::http::get(&url, "/ready", &[]).is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            crate::wait::pause(Duration::from_millis(20));
        }
        let log = std::fs::read_to_string(self.log(&joined.name)).unwrap_or_default();
        bail!("{} was not ready in 20 s: {log}", joined.name)
    }

    pub fn weft(&self) -> &Path {
        &self.weft
    }
}

fn control(weft: &Path, folder: &Path, (api, xds, dns): (u16, u16, u16)) -> anyhow::Result<(Process, Value)> {
    let mut command = Command::new(weft);
    command.args(["control", "--print-ports", "--state"]).arg(folder.join("control"));
    for (flag, port) in [("--api", api), ("--xds", xds), ("--dns", dns)] {
        command.arg(flag).arg(format!("127.0.0.1:{port}"));
    }
    Process::start_with_ports("control", &mut command, &folder.join("control.log"))
}

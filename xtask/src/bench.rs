//! `cargo xtask bench smoke`: what one proxy costs, as a ratio against Envoy in the same run.
//!
//! The proxy under test is the shipped binary on configuration that our own control plane sends it; the
//! peer is the real Envoy with like features. One core for the proxy, the other for generator and origin;
//! repetitions interleaved (A B A B), the ratio taken pair by pair. CPU is the scheduler's own sum of run
//! time, not wall clock: these machines are shared.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

const REPETITIONS: usize = 5;
const SECONDS: u32 = 3;
const PROXY_CORE: &str = "1";
const LOAD_CORE: &str = "0";

pub fn run(args: &[String]) -> anyhow::Result<()> {
    match args.first().map(String::as_str) {
        Some("smoke") => smoke(args.iter().any(|arg| arg == "--as-built")),
        _ => bail!("cargo xtask bench smoke [--as-built]"),
    }
}

/// `as_built`: the release binary that is there, without building it again.
fn smoke(as_built: bool) -> anyhow::Result<()> {
    crate::peers::install(true)?;
    if !as_built {
        crate::run("cargo", &["build", "--release", "--package", "weft"])?;
    }
    let weft = crate::target().join("release/weft");
    let dir = crate::target().join("bench");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir)?;

    let origin = origin()?;
    let weft_proxy = WeftProxy::start(&weft, &dir, origin)?;
    let idle_kib = weft_proxy.proxy.rss_kib()?;
    let envoy = envoy(&dir, origin)?;

    let mut ratios = Vec::new();
    println!("\nHTTP/1.1 keep-alive, 64 connections, {REPETITIONS} pairs of {SECONDS} s; CPU µs per request");
    for round in 0..REPETITIONS {
        let ours = measure(&weft_proxy.proxy, weft_proxy.port)?;
        let theirs = measure(&envoy.0, envoy.1)?;
        println!("  {}: weft {ours:.1}  envoy {theirs:.1}  ratio {:.2}", round + 1, ours / theirs);
        ratios.push(ours / theirs);
    }
    ratios.sort_by(f64::total_cmp);
    let loaded_kib = weft_proxy.proxy.rss_kib()?;
    drop((weft_proxy, envoy));
    let startup = demo_start(&weft, &dir)?;

    let ratio = ratios[ratios.len() / 2];
    println!("\n{:<44} {:>10} {:>10}  ", "what", "measured", "target");
    let mut met = true;
    let mut line = |what: &str, measured: f64, target: f64, unit: &str| {
        let good = measured <= target;
        met &= good;
        println!(
            "{what:<44} {measured:>7.2} {unit:<3} {target:>6.2} {unit:<3} {}",
            if good { "met" } else { "MISSED" }
        );
    };
    line("CPU per request, share of Envoy's (median)", ratio, 0.5, "");
    line("idle sidecar, resident", idle_kib as f64 / 1024.0, 15.0, "MiB");
    line("weft demo to the first served request", startup as f64 / 1000.0, 2.0, "s");
    println!("(resident after the load: {:.1} MiB)", loaded_kib as f64 / 1024.0);
    if !met {
        bail!("a target was missed");
    }
    Ok(())
}

/// A child that is ended by its own pid.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(command: &mut Command, log: &Path) -> anyhow::Result<Running> {
        let log = std::fs::File::create(log)?;
        let child = command.stdin(Stdio::null()).stderr(log).spawn();
        Ok(Running(child.with_context(|| format!("cannot start {command:?}"))?))
    }

    fn rss_kib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }

    /// Nanoseconds that all its threads have run.
    fn cpu_ns(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            sum += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(sum)
    }
}

struct WeftProxy {
    proxy: Running,
    port: u16,
    _control: Running,
}

impl WeftProxy {
    fn start(weft: &Path, dir: &Path, origin: u16) -> anyhow::Result<WeftProxy> {
        let state = dir.join("control");
        let mut control = Running::start(
            Command::new(weft)
                .args([
                    "control",
                    "--print-ports",
                    "--api",
                    "127.0.0.1:0",
                    "--xds",
                    "127.0.0.1:0",
                    "--dns",
                    "127.0.0.1:0",
                    "--state",
                ])
                .arg(&state)
                .stdout(Stdio::piped()),
            &dir.join("control.log"),
        )?;
        let xds = ports(&mut control, "xds")?;
        let objects = dir.join("objects.yaml");
        std::fs::write(&objects, objects_yaml(origin, &dir.join("weft-access.log")))?;
        let cli = |args: &[&str]| -> anyhow::Result<String> {
            let out = Command::new(weft).args(args).arg("--state").arg(&state).output()?;
            if !out.status.success() {
                bail!("weft {args:?}: {}", String::from_utf8_lossy(&out.stderr));
            }
            Ok(String::from_utf8_lossy(&out.stdout).into_owned())
        };
        cli(&["apply", "-f", &objects.to_string_lossy()])?;
        let token = dir.join("token");
        std::fs::write(&token, cli(&["identity", "token", "--service", "fe"])?)?;
        let mut proxy = Running::start(
            Command::new("taskset")
                .args(["-c", PROXY_CORE])
                .arg(weft)
                .args(["proxy", "--print-ports", "--service", "fe", "--workers", "1", "--control"])
                .arg(format!("https://127.0.0.1:{xds}"))
                .args([
                    "--outbound",
                    "127.0.0.1:0",
                    "--inbound",
                    "127.0.0.1:0",
                    "--admin",
                    "127.0.0.1:0",
                    "--metrics",
                    "127.0.0.1:0",
                ])
                .arg("--token")
                .arg(&token)
                .arg("--state")
                .arg(dir.join("proxy"))
                .stdout(Stdio::piped()),
            &dir.join("proxy.log"),
        )?;
        let port = ports(&mut proxy, "outbound")?;
        await_200(port)?;
        Ok(WeftProxy { proxy, port, _control: control })
    }
}

fn objects_yaml(origin: u16, log: &Path) -> String {
    let services: String = ["fe", "be1", "be2", "be4"]
        .map(|name| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n---\n"))
        .concat();
    format!(
        "{services}apiVersion: weft.dev/v1\nkind: ExternalService\nmetadata: {{name: origin}}\nspec: {{hosts: [origin.example], ports: [{{name: http, port: 80, protocol: http, targetPort: {origin}}}], resolution: Static, endpoints: [{{address: 127.0.0.1}}]}}\n---\napiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {{name: default}}\nspec: {{accessLog: {{format: text, path: {}}}}}\n",
        log.display()
    )
}

/// Reads the one JSON line of `--print-ports`.
fn ports(child: &mut Running, name: &str) -> anyhow::Result<u16> {
    let stdout = child.0.stdout.as_mut().context("no stdout")?;
    let mut line = Vec::new();
    let mut byte = [0];
    while stdout.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    let value: serde_json::Value = serde_json::from_slice(&line).context("no line of ports")?;
    let found = &value[name];
    let port = found.as_u64().or_else(|| found.as_str()?.rsplit(':').next()?.parse().ok());
    port.and_then(|p| u16::try_from(p).ok()).with_context(|| format!("no port {name} in {value}"))
}

fn envoy(dir: &Path, origin: u16) -> anyhow::Result<(Running, u16)> {
    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let template = std::fs::read_to_string(crate::root().join("bench/peers/envoy.yaml"))?;
    let log = dir.join("envoy-access.log");
    let text = template
        .replace("LISTEN", &listen.to_string())
        .replace("ORIGIN", &origin.to_string())
        .replace("LOG", &log.to_string_lossy());
    let file = dir.join("envoy.yaml");
    std::fs::write(&file, text)?;
    let program: PathBuf = crate::peers::folder().join("bin/envoy");
    let running = Running::start(
        Command::new("taskset")
            .args(["-c", PROXY_CORE])
            .arg(program)
            .args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"])
            .arg(&file)
            .stdout(Stdio::null()),
        &dir.join("envoy.log"),
    )?;
    await_200(listen)?;
    Ok((running, listen))
}

/// One run of the generator; CPU microseconds of the proxy per completed request.
fn measure(proxy: &Running, port: u16) -> anyhow::Result<f64> {
    let load = |seconds: u32| -> anyhow::Result<u64> {
        let text = crate::output(
            "taskset",
            &[
                "-c",
                LOAD_CORE,
                "wrk",
                "-t1",
                "-c64",
                &format!("-d{seconds}s"),
                "-H",
                "Host: origin.default.mesh.internal",
                &format!("http://127.0.0.1:{port}/"),
            ],
        )?;
        if let Some(bad) = text.lines().find(|l| l.contains("Non-2xx") || l.contains("Socket errors")) {
            bail!("the run is not valid: {}", bad.trim());
        }
        let line = text.lines().find(|l| l.contains("requests in")).context("wrk printed no count")?;
        Ok(line.trim().split(' ').next().unwrap_or_default().parse()?)
    };
    load(1)?;
    let before = proxy.cpu_ns()?;
    let requests = load(SECONDS)?;
    let used = proxy.cpu_ns()? - before;
    if requests < 10_000 {
        bail!("only {requests} requests in {SECONDS} s: the run is not valid");
    }
    Ok(used as f64 / 1000.0 / requests as f64)
}

fn await_200(port: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(
                b"GET / HTTP/1.1\r\nHost: origin.default.mesh.internal\r\nConnection: close\r\n\r\n",
            )?;
            let mut answer = [0; 12];
            if stream.read_exact(&mut answer).is_ok() && answer.ends_with(b"200") {
                return Ok(());
            }
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    bail!("no 200 through port {port} in 20 s; logs are in target/bench");
}

/// The smallest origin there is: one thread a connection, one fixed answer, on the generator's core.
fn origin() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    crate::run("taskset", &["-cp", LOAD_CORE, &std::process::id().to_string()])?;
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(stream));
        }
    });
    Ok(port)
}

fn answer(mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut buffer = [0u8; 16384];
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..)?).ok().filter(|n| *n > 0)?;
        filled += read;
        let heads = buffer[..filled].windows(4).filter(|w| w == b"\r\n\r\n").count();
        if heads > 0 && buffer[..filled].ends_with(b"\r\n\r\n") {
            for _ in 0..heads {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\ncontent-type: text/plain\r\n\r\nhello, world\n").ok()?;
            }
            filled = 0;
        }
    }
}

fn demo_start(weft: &Path, dir: &Path) -> anyhow::Result<u64> {
    let out = Command::new(weft)
        .args(["demo", "--for", "2s", "--api", "127.0.0.1:0", "--state"])
        .arg(dir.join("demo"))
        .output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let json: serde_json::Value = serde_json::from_str(&text)
        .with_context(|| format!("weft demo printed: {text}{}", String::from_utf8_lossy(&out.stderr)))?;
    json["startup_ms"].as_u64().context("no startup_ms")
}

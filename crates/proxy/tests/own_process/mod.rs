//! A proxy in a process of its own: this test program again, told by its environment to be one.
//!
//! Signals, exit codes, limits of the process and panics are seen only from outside.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use weft_proxy::{Config, static_config::StaticResources};

use crate::mesh::{
    LIMIT, free_port, usage,
    xds::{Speak, cluster, http, listener, plain_chain, tcp, to, vhost, with_access_log},
};

const BE_ONE: &str = "WEFT_TEST_PROXY";
const DELAY: &str = "WEFT_TEST_DRAIN_DELAY_MS";
const TIMEOUT: &str = "WEFT_TEST_DRAIN_TIMEOUT_MS";
const NOFILE: &str = "WEFT_TEST_NOFILE";
const MEMORY: &str = "WEFT_TEST_MEMORY";
const PER_SOURCE: &str = "WEFT_TEST_PER_SOURCE";
const GROUP: &str = "WEFT_TEST_GROUP";
const LOG: &str = "WEFT_TEST_LOG";
const APP: &str = "WEFT_TEST_APP";
const ECHO: &str = "WEFT_TEST_ECHO";

/// What the proxy is to be.
pub struct Wanted {
    pub app: SocketAddr,
    pub echo: SocketAddr,
    pub drain_delay: Duration,
    pub drain_timeout: Duration,
    pub nofile: Option<u64>,
}

pub struct Process {
    pub http: SocketAddr,
    pub tcp: SocketAddr,
    pub admin: SocketAddr,
    child: Child,
    stdin: ChildStdin,
    _stdout: BufReader<ChildStdout>,
}

/// How such a process gives memory back, where its allocator needs to be told.
pub static RELEASE: OnceLock<fn()> = OnceLock::new();

/// What it may have.
#[derive(Clone, Default)]
pub struct Limited {
    pub memory: Option<u64>,
    pub per_source: Option<u32>,
    /// A control group's directory, which it goes into.
    pub group: Option<PathBuf>,
    /// Where it logs requests, as their codes, flags and details.
    pub log: Option<PathBuf>,
}

impl Wanted {
    pub fn start(self) -> Process {
        self.start_limited(&Limited::default())
    }

    pub fn start_limited(self, limited: &Limited) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "is_a_proxy_when_told_to", "--nocapture", "--test-threads=1"]);
        command.env(BE_ONE, "1").env(APP, self.app.to_string()).env(ECHO, self.echo.to_string());
        command.env(DELAY, self.drain_delay.as_millis().to_string());
        command.env(TIMEOUT, self.drain_timeout.as_millis().to_string());
        if let Some(limit) = self.nofile {
            command.env(NOFILE, limit.to_string());
        }
        for (name, limit) in [(MEMORY, limited.memory), (PER_SOURCE, limited.per_source.map(u64::from))] {
            limit.map(|limit| command.env(name, limit.to_string()));
        }
        limited.group.as_ref().map(|group| command.env(GROUP, group));
        limited.log.as_ref().map(|log| command.env(LOG, log));
        command.stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let ports = loop {
            line.clear();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "the proxy did not start");
            if let Some((_, ports)) = line.split_once("PORTS ") {
                break ports;
            }
        };
        let ports: Vec<SocketAddr> = ports.split_whitespace().map(|port| port.parse().unwrap()).collect();
        Process { http: ports[0], tcp: ports[1], admin: ports[2], child, stdin, _stdout: stdout }
    }
}

impl Process {
    pub fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// It holds so much memory beside its own from now on.
    pub fn hold(&mut self, bytes: u64) {
        writeln!(self.stdin, "{bytes}").unwrap();
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        usage::resident(self.child.id())
    }

    /// Its exit code, once it has ended.
    #[expect(clippy::disallowed_methods, reason = "another process, so another clock")]
    pub fn ended(&mut self, limit: Duration) -> Option<i32> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// CPU time so far.
    pub fn cpu(&self) -> Duration {
        usage::cpu(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of each file's test `is_a_proxy_when_told_to`.
pub fn be_one_if_told() {
    if std::env::var_os(BE_ONE).is_none() {
        return;
    }
    let text = |name: &str| std::env::var(name).unwrap();
    let millis = |name: &str| Duration::from_millis(text(name).parse().unwrap());
    if let Ok(limit) = std::env::var(NOFILE) {
        let limit = Some(limit.parse().unwrap());
        setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
    }
    if let Ok(group) = std::env::var(GROUP) {
        std::fs::write(format!("{group}/cgroup.procs"), std::process::id().to_string()).unwrap();
    }
    std::thread::spawn(hold_what_is_told);
    weft_proxy::panics::on_path::set("/panic");
    let (app, echo) = (text(APP).parse().unwrap(), text(ECHO).parse().unwrap());
    let (at, tcp_at) = (free_port(), free_port());
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "app")])], None);
    let web = match std::env::var_os(LOG) {
        Some(log) => {
            with_access_log(web, log.as_ref(), "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n")
        }
        None => web,
    };
    let state = std::env::temp_dir().join(format!("weft-proxy-process-{}", std::process::id()));
    let mut config = Config::new("default", "edge", state.clone());
    config.resources = StaticResources {
        listeners: vec![
            listener("web", at, vec![plain_chain(web)]),
            listener("bytes", tcp_at, vec![plain_chain(tcp("echo"))]),
        ],
        clusters: vec![
            cluster("app", &[app], Speak::Http1, None),
            cluster("echo", &[echo], Speak::Tcp, None),
        ],
        ..StaticResources::default()
    };
    config.workers = 2;
    config.limits.memory = std::env::var(MEMORY).ok().map(|limit| limit.parse().unwrap());
    config.limits.release_memory = RELEASE.get().copied();
    config.limits.connections_per_source = std::env::var(PER_SOURCE).ok().map(|limit| limit.parse().unwrap());
    config.drain = weft_proxy::Drain { delay: millis(DELAY), timeout: millis(TIMEOUT) };
    config.ports.outbound = None;
    config.ports.inbound = None;
    config.ports.metrics = None;
    config.ports.admin = Some("127.0.0.1:0".parse().unwrap());
    config.on_ready = Some(Box::new(move |ports| println!("\nPORTS {at} {tcp_at} {}", ports.admin.unwrap())));
    std::thread::spawn(end_for_sure);
    let ended = weft_proxy::run(config);
    let _ = std::fs::remove_dir_all(state);
    std::process::exit(match ended {
        Ok(()) => 0,
        Err(weft_proxy::ProxyError::Panics) => 70,
        Err(_) => 1,
    });
}

/// Each line of stdin is how many bytes to hold.
fn hold_what_is_told() {
    let mut held = Vec::new();
    for line in std::io::stdin().lines().map_while(Result::ok) {
        drop(std::mem::take(&mut held));
        held = vec![1_u8; line.trim().parse().unwrap()];
        std::hint::black_box(&held);
    }
}

/// Nobody else is left to end it when the test that started it dies.
#[expect(clippy::disallowed_methods, reason = "it sleeps on a thread of its own")]
fn end_for_sure() {
    std::thread::sleep(LIMIT * 3);
    std::process::exit(99);
}

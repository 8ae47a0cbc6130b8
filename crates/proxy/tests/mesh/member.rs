//! A proxy that joins a control plane, in a process of its own, so that it can be killed: this test program again, told
//! by its environment to be one. It ends when its test does.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use weft_proxy::{Config, Control, Drain, PortsWanted};

use super::LIMIT;

const STATE: &str = "WEFT_TEST_MEMBER_STATE";
const SERVICE: &str = "WEFT_TEST_MEMBER_SERVICE";
const CONTROL: &str = "WEFT_TEST_MEMBER_CONTROL";
const TOKEN: &str = "WEFT_TEST_MEMBER_TOKEN";
const APP_PORT: &str = "WEFT_TEST_MEMBER_APP_PORT";
const AGE_MAX: &str = "WEFT_TEST_MEMBER_AGE_MAX_MS";

/// What each start of a member has in common.
#[derive(Clone)]
pub struct Member {
    pub state: PathBuf,
    pub service: String,
    pub control: SocketAddr,
    pub token: Option<String>,
    pub app_port: Option<u16>,
    pub lkg_age_max: Option<Duration>,
}

/// One that runs; dropped, it is killed.
pub struct Running {
    pub outbound: SocketAddr,
    pub inbound: SocketAddr,
    pub admin: SocketAddr,
    pub metrics: SocketAddr,
    /// When it was told to start.
    pub started: Instant,
    child: Child,
    _alive: ChildStdin,
}

impl Member {
    pub fn new(service: &str, control: SocketAddr, token: Option<String>) -> Member {
        let state = std::env::temp_dir().join(format!("weft-member-{service}-{:x}", fastrand::u64(..)));
        let service = service.to_owned();
        Member { state, service, control, token, app_port: None, lkg_age_max: None }
    }

    /// Starts it; every test file that does has a test of this name, see [`be_one_if_told`].
    pub async fn start(&self) -> Running {
        let member = self.clone();
        tokio::task::spawn_blocking(move || member.start_blocking()).await.unwrap()
    }

    fn start_blocking(&self) -> Running {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "is_a_member_when_told_to", "--nocapture", "--test-threads=1"]);
        command.env(STATE, &self.state).env(SERVICE, &self.service).env(CONTROL, self.control.to_string());
        if let Some(token) = &self.token {
            command.env(TOKEN, token);
        }
        if let Some(port) = self.app_port {
            command.env(APP_PORT, port.to_string());
        }
        if let Some(age) = self.lkg_age_max {
            command.env(AGE_MAX, age.as_millis().to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().unwrap();
        let alive = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, line) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some((_, ports)) = line.split_once("PORTS ") {
                    let _ = sender.send(ports.to_owned());
                }
            }
        });
        let ports = line.recv_timeout(LIMIT).expect("the member's ports");
        let ports: Vec<SocketAddr> = ports.split_whitespace().map(|port| port.parse().unwrap()).collect();
        let [outbound, inbound, admin, metrics] = ports[..] else { panic!("four ports") };
        Running { outbound, inbound, admin, metrics, started, child, _alive: alive }
    }

    pub fn lkg(&self, generation: &str) -> PathBuf {
        self.state.join("lkg").join(generation)
    }

    pub fn forget(&self) {
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

impl Running {
    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of the test `is_a_member_when_told_to`: nothing, unless this process is to be a member.
pub fn be_one_if_told() {
    let Ok(state) = std::env::var(STATE) else { return };
    let mut config = Config::new("default", &std::env::var(SERVICE).unwrap(), Path::new(&state).to_owned());
    let control = std::env::var(CONTROL).unwrap();
    config.control = Some(Control { address: control, token: std::env::var(TOKEN).ok() });
    if let Ok(port) = std::env::var(APP_PORT) {
        config.node.ports = vec![weft_proxy::AppPort { name: String::new(), port: port.parse().unwrap() }];
    }
    if let Ok(age) = std::env::var(AGE_MAX) {
        config.lkg_age_max = Duration::from_millis(age.parse().unwrap());
    }
    let any = Some("127.0.0.1:0".parse().unwrap());
    config.ports = PortsWanted { outbound: any, inbound: any, admin: any, metrics: any };
    config.drain = Drain { delay: Duration::ZERO, timeout: Duration::from_secs(1) };
    config.on_ready = Some(Box::new(|ports| {
        let all = [ports.outbound, ports.inbound, ports.admin, ports.metrics];
        let all: Vec<String> = all.iter().flatten().map(SocketAddr::to_string).collect();
        println!("PORTS {}", all.join(" "));
    }));
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0); // the test is gone
    });
    weft_proxy::run(config).unwrap();
}

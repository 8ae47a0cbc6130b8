//! Envoy and HAProxy in our place: the same bytes, origins and verdicts, so that what a corpus says of Weft stands
//! beside what it says of others.
//!
//! They run on what their own documents recommend for an edge, with limits like ours where a test is about limits.

#![allow(dead_code, reason = "each test file uses its part")]

mod configs;

use std::{fmt::Display, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use weft_testkit::{Process, eventually, peers};

use crate::mesh::{LIMIT, free_port, usage};

/// How a client says that nothing more comes.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// It ends its side.
    HalfClose,
    /// It waits so long for the next byte before it does: Envoy drops what it has for a client that ended its side.
    Quiet(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Envoy,
    HaProxy,
}

/// What clients speak at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speak {
    Http1,
    Http2,
    /// The first bytes decide.
    Either,
}

/// A listener, and the origins behind it by the host that is asked for; `*` is any other.
pub struct Way {
    pub at: SocketAddr,
    pub speak: Speak,
    /// Ends TLS, with a certificate of its own.
    pub tls: bool,
    pub origins: Vec<Origin>,
}

pub struct Origin {
    pub host: &'static str,
    pub at: SocketAddr,
    pub http2: bool,
}

impl Way {
    /// In the clear, to one origin of HTTP/1.
    pub fn plain(speak: Speak, at: SocketAddr, origin: SocketAddr) -> Way {
        Way { at, speak, tls: false, origins: vec![Origin { host: "*", at: origin, http2: false }] }
    }
}

/// What they may have, each said as the peer's own documents say it.
#[derive(Default, Clone)]
pub struct Limits {
    /// For a head, a handshake, the next bytes of a body, the next request.
    pub wait: Option<Duration>,
    pub connections: Option<u32>,
    pub memory: Option<u64>,
    pub descriptors: Option<u64>,
    /// A control group's directory, which it goes into.
    pub group: Option<PathBuf>,
}

/// A running peer; dropped, it ends.
pub struct Running {
    /// Answers `/ready`.
    pub admin: SocketAddr,
    folder: PathBuf,
    process: Process,
}

impl Peer {
    pub const ALL: [Peer; 2] = [Peer::Envoy, Peer::HaProxy];

    pub fn name(self) -> &'static str {
        match self {
            Peer::Envoy => "Envoy",
            Peer::HaProxy => "HAProxy",
        }
    }

    pub fn end(self) -> End {
        match self {
            Peer::Envoy => End::Quiet(Duration::from_millis(60)),
            Peer::HaProxy => End::HalfClose,
        }
    }

    /// A listener for each pair, before that origin, which speaks HTTP/1. `None`: peers were left out.
    pub fn start(self, speak: Speak, ways: &[(SocketAddr, SocketAddr)]) -> Option<Running> {
        let ways: Vec<Way> = ways.iter().map(|(at, origin)| Way::plain(speak, *at, *origin)).collect();
        self.start_limited(&ways, &Limits::default())
    }

    pub fn start_limited(self, ways: &[Way], limits: &Limits) -> Option<Running> {
        let program = peers::program(match self {
            Peer::Envoy => "envoy",
            Peer::HaProxy => "haproxy",
        })?;
        let folder = std::env::temp_dir().join(format!("weft-beside-{:x}", fastrand::u64(..)));
        std::fs::create_dir_all(&folder).unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = folder.join("own.pem");
        std::fs::write(&certificate, made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
        let admin = free_port();
        let config = configs::Config { ways, limits, admin, certificate: &certificate };
        let (file, text) = match self {
            Peer::Envoy => (folder.join("envoy.json"), config.envoy()),
            Peer::HaProxy => (folder.join("haproxy.cfg"), config.haproxy()),
        };
        std::fs::write(&file, text).unwrap();
        // A shell sets what a process can only be born with, and becomes the peer.
        let mut command = Command::new("sh");
        let descriptors = limits.descriptors.map_or(String::new(), |most| format!("ulimit -n {most}; "));
        let group = limits.group.as_ref();
        let group = group.map_or(String::new(), |dir| format!("echo $$ > {}/cgroup.procs; ", dir.display()));
        command.args(["-c", &format!("{descriptors}{group}exec \"$0\" \"$@\"")]).arg(program);
        match self {
            Peer::Envoy => command.arg("--config-path").arg(&file).args([
                "--concurrency",
                "1",
                "--use-dynamic-base-id",
                "--log-level",
                "error",
            ]),
            Peer::HaProxy => command.arg("-db").arg("-f").arg(&file),
        };
        if let (Peer::HaProxy, Some(bytes)) = (self, limits.memory) {
            command.args(["-m", &(bytes >> 20).to_string()]);
        }
        let mut process = Process::start(self.name(), &mut command, &folder.join("log")).unwrap();
        for at in ways.iter().map(|way| way.at).chain([admin]) {
            eventually(&format!("{} listens on {at}", self.name()), LIMIT, || {
                assert!(process.running(), "{}", process.log_text());
                std::net::TcpStream::connect(at).ok()
            });
        }
        Some(Running { admin, folder, process })
    }
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn runs(&mut self) -> bool {
        self.process.running()
    }

    pub fn cpu(&self) -> Duration {
        usage::cpu(self.pid())
    }

    pub fn resident(&self) -> u64 {
        usage::resident(self.pid())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A figure for the table at the end of `cargo xtask corpora`: which line of it, who, what came out.
pub fn figure(line: &str, who: &str, what: impl Display) {
    println!("\nFIGURE | {line} | {who} | {what}");
}

/// Whether all is to be run that can be: by `cargo xtask corpora`, not by each test run.
pub fn at_length() -> bool {
    std::env::var_os("WEFT_CORPORA").is_some()
}

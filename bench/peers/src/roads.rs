//! Proxies of a run, started and answering: Weft in its mesh, the peers from files, the floors.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::bail;

use crate::Options;
use crate::configs::{self, Mode, Place};
use crate::load::{h2load, own};
use crate::machine::{PROXY_CORE, Running, Scheduling, pinned, wait_until};
use crate::origin::{Origin, OriginPorts};
use crate::scenario::Peer;
use crate::weft::{Mesh, free_port};

/// What a run holds open from its first measurement to its last.
pub struct Bench<'a> {
    pub options: &'a Options,
    pub origin: OriginPorts,
    pub mesh: Mesh,
    _origin: Origin,
}

/// Proxies under load: their processes, the port that takes requests, the host to ask for.
pub struct Road {
    pub processes: Vec<Running>,
    pub port: u16,
    pub host: &'static str,
    /// For bytes through a forward proxy: whom to CONNECT to.
    pub connect: Option<&'static str>,
}

impl Road {
    pub fn all(&self) -> Vec<&Running> {
        self.processes.iter().collect()
    }

    pub fn resident_mib(&self) -> anyhow::Result<f64> {
        let kib = self.processes.iter().try_fold(0.0, |sum, process| anyhow::Ok(sum + process.rss_kib()?))?;
        Ok(kib / 1024.0)
    }
}

impl<'a> Bench<'a> {
    pub fn new(options: &'a Options) -> anyhow::Result<Bench<'a>> {
        let origin = Origin::start(&options.dir, Scheduling::Pinned)?;
        let mesh = Mesh::start(&options.weft, &options.dir, origin.ports, Scheduling::Pinned, "")?;
        let bench = Bench { options, origin: origin.ports, mesh, _origin: origin };
        // Both identities exist from here on; the peers of the hop use them too.
        for service in ["fe", "be1"] {
            let _proxy = bench.mesh.proxy(service)?;
            bench.mesh.identity_on_disk(service)?;
        }
        Ok(bench)
    }

    /// One proxy, up and answering.
    pub fn road(&self, peer: Peer, mode: Mode) -> anyhow::Result<Road> {
        let (upstream, host) = match mode {
            Mode::Http2 => (self.origin.grpc, "grpc.example"),
            Mode::Stream => (self.origin.stream, "stream.example"),
            Mode::Tcp => (self.origin.sink, ""),
            _ => (self.origin.http, "origin.example"),
        };
        let (process, port) = match peer {
            Peer::Weft => {
                let proxy = self.mesh.proxy("fe")?;
                let port = proxy.port("outbound")?;
                (proxy.process, port)
            }
            _ => self.peer(peer, mode, upstream)?,
        };
        let connect = (peer == Peer::Weft && mode == Mode::Tcp).then_some("sink.example:9000");
        let mut road = Road { processes: vec![process], port, host, connect };
        self.await_answer(&mut road, mode)?;
        Ok(road)
    }

    /// Two proxies with mTLS between them, up and answering; `bytes` for TCP instead of HTTP.
    pub fn hop(&self, peer: Peer, bytes: bool) -> anyhow::Result<Road> {
        let (inside, outside, port) = match peer {
            Peer::Weft => {
                let inside = self.mesh.proxy("be1")?;
                let outside = self.mesh.proxy("fe")?;
                let port = outside.port("outbound")?;
                (inside.process, outside.process, port)
            }
            _ => {
                let (inbound, outbound, upstream) = if bytes {
                    (Mode::TcpIn, Mode::TcpOut, self.origin.sink)
                } else {
                    (Mode::In, Mode::Out, self.origin.http)
                };
                let (inside, between) = self.peer(peer, inbound, upstream)?;
                let (outside, port) = self.peer(peer, outbound, between)?;
                (inside, outside, port)
            }
        };
        let host = "be1.default.mesh.internal";
        let connect = (peer == Peer::Weft && bytes).then_some("be1.default.mesh.internal:9000");
        let mut road = Road { processes: vec![outside, inside], port, host, connect };
        self.await_answer(&mut road, if bytes { Mode::Tcp } else { Mode::Http1 })?;
        Ok(road)
    }

    /// The side of a hop that takes mTLS, with the port at which it does.
    pub fn callee(&self, peer: Peer) -> anyhow::Result<Road> {
        let (process, port) = match peer {
            Peer::Weft => {
                let proxy = self.mesh.proxy("be1")?;
                let port = proxy.port("inbound")?;
                (proxy.process, port)
            }
            _ => self.peer(peer, Mode::In, self.origin.http)?,
        };
        Ok(Road { processes: vec![process], port, host: "be1.default.mesh.internal", connect: None })
    }

    fn await_answer(&self, road: &mut Road, mode: Mode) -> anyhow::Result<()> {
        let (port, host, connect) = (road.port, road.host, road.connect);
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        wait_until("an answer", Duration::from_secs(30), || match mode {
            Mode::Http2 | Mode::Stream => h2load(&self.options.dir, port, host, 1).is_ok(),
            Mode::Tcp => {
                let port = port.to_string();
                let mut args = vec!["tcp-load", &port, "0"];
                args.extend(connect);
                own(&args).is_ok()
            }
            _ => answers_200(port, &request),
        })?;
        for process in &mut road.processes {
            process.fail_if_ended("a proxy")?;
        }
        Ok(())
    }

    fn peer(&self, peer: Peer, mode: Mode, upstream: u16) -> anyhow::Result<(Running, u16)> {
        let listen = free_port()?;
        let dir = self.options.dir.join(format!("{}-{mode:?}", peer.name()));
        std::fs::create_dir_all(&dir)?;
        let side = if matches!(mode, Mode::In | Mode::TcpIn) { "be1" } else { "fe" };
        let identity = self.mesh.identity(side);
        let place = Place { listen, upstream, dir: &dir, identity: &identity };
        let file = |name: &str, text: String| -> anyhow::Result<PathBuf> {
            let file = dir.join(name);
            std::fs::write(&file, text)?;
            Ok(file)
        };
        let mut command = match peer {
            Peer::Envoy => {
                let config = file("envoy.json", configs::envoy(mode, &place))?;
                let mut command = pinned(PROXY_CORE, self.options.peers.join("bin/envoy"));
                command
                    .args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"])
                    .arg(config);
                command
            }
            Peer::Haproxy => {
                let config = file("haproxy.cfg", configs::haproxy(mode, &place))?;
                let mut command = pinned(PROXY_CORE, "haproxy");
                command.args(["-db", "-f"]).arg(config);
                command
            }
            Peer::Nginx => {
                let config = file("nginx.conf", configs::nginx(mode, &place))?;
                let mut command = pinned(PROXY_CORE, "nginx");
                command.arg("-p").arg(&dir).arg("-c").arg(config);
                command
            }
            Peer::Floor => {
                let mut command = pinned(PROXY_CORE, std::env::current_exe()?);
                let kind = match mode {
                    Mode::Out | Mode::TcpOut => "tls-out",
                    Mode::In | Mode::TcpIn => "tls-in",
                    _ => "copy",
                };
                command.args(["floor", kind, &listen.to_string(), &upstream.to_string()]);
                if kind != "copy" {
                    command.arg(&identity);
                }
                command
            }
            Peer::Weft => bail!("weft is started by its control plane"),
        };
        // HAProxy logs to its standard output: a file here, as in production.
        let log = std::fs::File::create(dir.join("stdout.log"))?;
        let process = Running::start(command.stdout(Stdio::from(log)), &dir.join("stderr.log"))?;
        wait_until(&format!("{} on its port", peer.name()), Duration::from_secs(10), || {
            TcpStream::connect(("127.0.0.1", listen)).is_ok()
        })?;
        Ok((process, listen))
    }
}

pub fn answers_200(port: u16, request: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut answer = [0; 12];
    stream.set_read_timeout(Some(Duration::from_secs(2))).is_ok()
        && stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer.ends_with(b"200")
}

/// What runs on this machine, for the report.
pub fn weft_version(weft: &Path) -> String {
    let out = Command::new(weft).arg("--version").output();
    out.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default()
}

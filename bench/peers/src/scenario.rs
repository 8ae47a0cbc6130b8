//! The scenarios: which proxies run, what load they get, which figure comes out.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::Options;
use crate::configs::{self, Mode, Place};
use crate::load::{h2load, number, own, wrk};
use crate::machine::{PROXY_CORE, Running, cpu_of, pinned, wait_until};
use crate::origin::Origin;
use crate::weft::{Mesh, free_port};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    Http1,
    Http1Big,
    Http2,
    Hop,
    HopLatency,
    Latency,
    Tcp,
    Handshake,
    Idle,
    Start,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Weft,
    Envoy,
    Haproxy,
    Nginx,
}

/// One row of the table of scenarios.
pub struct About {
    pub scenario: Scenario,
    pub name: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    /// At most this share of Envoy's and HAProxy's figure.
    pub bars: [Option<f64>; 2],
    pub peers: &'static [Peer],
}

use Peer::{Envoy, Haproxy, Nginx, Weft};

/// The bars are the data plane's goals.
#[rustfmt::skip]
pub const TABLE: &[About] = &[
    About { scenario: Scenario::Http1, name: "h1", title: "HTTP/1.1, small", unit: "µs CPU a request", bars: [Some(0.32), Some(0.85)], peers: &[Weft, Envoy, Haproxy, Nginx] },
    About { scenario: Scenario::Http1Big, name: "h1big", title: "HTTP/1.1, 10 KiB bodies", unit: "µs CPU a request", bars: [Some(0.32), Some(1.0)], peers: &[Weft, Envoy, Haproxy, Nginx] },
    About { scenario: Scenario::Http2, name: "h2", title: "HTTP/2, small (gRPC unary)", unit: "µs CPU a request", bars: [Some(0.27), Some(1.0)], peers: &[Weft, Envoy, Haproxy, Nginx] },
    About { scenario: Scenario::Hop, name: "hop", title: "mTLS hop, both proxies", unit: "µs CPU a request", bars: [Some(0.28), Some(1.1)], peers: &[Weft, Envoy, Haproxy] },
    About { scenario: Scenario::HopLatency, name: "hoplat", title: "mTLS hop at 2,000 requests/s, p50 added", unit: "µs", bars: [Some(0.42), Some(0.8)], peers: &[Weft, Envoy, Haproxy] },
    About { scenario: Scenario::Latency, name: "lat", title: "one proxy at 2,000 requests/s, p50 added", unit: "µs", bars: [Some(0.55), Some(1.1)], peers: &[Weft, Envoy, Haproxy, Nginx] },
    About { scenario: Scenario::Tcp, name: "tcp", title: "TCP bulk", unit: "s CPU a GB", bars: [Some(0.7), Some(0.4)], peers: &[Weft, Envoy, Haproxy] },
    About { scenario: Scenario::Handshake, name: "handshake", title: "new mTLS connections, X25519", unit: "µs CPU each", bars: [Some(0.6), Some(0.3)], peers: &[Weft, Envoy, Haproxy] },
    About { scenario: Scenario::Idle, name: "idle", title: "resident, idle", unit: "MiB", bars: [Some(0.23), None], peers: &[Weft, Envoy, Haproxy, Nginx] },
    About { scenario: Scenario::Start, name: "start", title: "exec to first answer", unit: "ms", bars: [Some(0.5), None], peers: &[Weft, Envoy, Haproxy, Nginx] },
];

impl Scenario {
    pub const ALL: [Scenario; 10] = [
        Scenario::Http1,
        Scenario::Http1Big,
        Scenario::Http2,
        Scenario::Hop,
        Scenario::HopLatency,
        Scenario::Latency,
        Scenario::Tcp,
        Scenario::Handshake,
        Scenario::Idle,
        Scenario::Start,
    ];

    pub fn named(name: &str) -> anyhow::Result<Scenario> {
        let found = TABLE.iter().find(|about| about.name == name);
        found.map(|about| about.scenario).with_context(|| format!("there is no scenario {name}"))
    }
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Weft => "weft",
            Envoy => "envoy",
            Haproxy => "haproxy",
            Nginx => "nginx",
        }
    }
}

/// What a run holds open from its first measurement to its last.
pub struct Bench<'a> {
    options: &'a Options,
    origin: Origin,
    mesh: Mesh,
}

/// Proxies under load: their processes, the port that takes requests, the host to ask for.
struct Road {
    processes: Vec<Running>,
    port: u16,
    host: &'static str,
    /// For bytes through a forward proxy: whom to CONNECT to.
    connect: Option<&'static str>,
}

impl<'a> Bench<'a> {
    pub fn new(options: &'a Options) -> anyhow::Result<Bench<'a>> {
        let origin = Origin::start(&options.dir)?;
        let mesh = Mesh::start(&options.weft, &options.dir, &origin)?;
        let bench = Bench { options, origin, mesh };
        // Both identities exist from here on; the peers of the hop use them too.
        for service in ["fe", "be1"] {
            let _proxy = bench.mesh.proxy(service)?;
            let identity = bench.mesh.identity(service);
            wait_until("an identity", Duration::from_secs(10), || {
                ["bundle.pem", "chain.pem", "key.pem"].iter().all(|file| identity.join(file).exists())
            })?;
            let both = [std::fs::read(identity.join("chain.pem"))?, std::fs::read(identity.join("key.pem"))?];
            std::fs::write(identity.join("both.pem"), both.concat())?;
        }
        Ok(bench)
    }

    /// One figure of one peer; its processes are new and end with it.
    pub fn measure(&self, scenario: Scenario, peer: Peer) -> anyhow::Result<f64> {
        let seconds = self.options.seconds;
        match scenario {
            Scenario::Http1 | Scenario::Http1Big => {
                let path = if scenario == Scenario::Http1 { "/" } else { "/10k" };
                let road = self.road(peer, Mode::Http1)?;
                wrk(road.port, road.host, path, 1)?;
                per_request(&road, || wrk(road.port, road.host, path, seconds))
            }
            Scenario::Http2 => {
                let road = self.road(peer, Mode::Http2)?;
                h2load(&self.options.dir, road.port, road.host, 1)?;
                per_request(&road, || h2load(&self.options.dir, road.port, road.host, seconds))
            }
            Scenario::Hop => {
                let road = self.hop(peer)?;
                wrk(road.port, road.host, "/", 1)?;
                per_request(&road, || wrk(road.port, road.host, "/", seconds))
            }
            Scenario::Latency => self.added(&self.road(peer, Mode::Http1)?),
            Scenario::HopLatency => self.added(&self.hop(peer)?),
            Scenario::Tcp => self.tcp(peer),
            Scenario::Handshake => self.handshake(peer),
            Scenario::Idle => {
                let road = self.road(peer, Mode::Http1)?;
                std::thread::park_timeout(Duration::from_secs(3));
                resident(&road)
            }
            Scenario::Start => self.start(peer),
        }
    }

    /// Resident KiB of each of `connections` idle keep-alive connections after their first request.
    pub fn per_connection(&self, peer: Peer, connections: usize) -> anyhow::Result<f64> {
        let road = self.road(peer, Mode::Http1)?;
        std::thread::park_timeout(Duration::from_secs(1));
        let before = resident(&road)?;
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", road.host);
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            let mut stream = TcpStream::connect(("127.0.0.1", road.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = [0; 1024];
            if stream.read(&mut answer)? == 0 {
                bail!("connection {} was closed", open.len());
            }
            open.push(stream);
        }
        std::thread::park_timeout(Duration::from_secs(3));
        Ok((resident(&road)? - before) * 1024.0 / connections as f64)
    }

    fn added(&self, road: &Road) -> anyhow::Result<f64> {
        let p50 = |port: u16| {
            let (port, seconds) = (port.to_string(), self.options.seconds.to_string());
            number(&own(&["open-loop", &port, road.host, "2000", &seconds])?, "p50")
        };
        Ok(p50(road.port)? - p50(self.origin.http)?)
    }

    fn tcp(&self, peer: Peer) -> anyhow::Result<f64> {
        let road = self.road(peer, Mode::Tcp)?;
        let (port, seconds) = (road.port.to_string(), self.options.seconds.to_string());
        let mut args = vec!["tcp-load", &port, &seconds];
        args.extend(road.connect);
        let processes: Vec<&Running> = road.processes.iter().collect();
        let (done, cpu_ns) = cpu_of(&processes, || own(&args))?;
        Ok(cpu_ns / number(&done, "bytes")?)
    }

    fn handshake(&self, peer: Peer) -> anyhow::Result<f64> {
        let (process, port) = match peer {
            Weft => {
                let proxy = self.mesh.proxy("be1")?;
                let port = proxy.port("inbound")?;
                (proxy.process, port)
            }
            _ => self.peer(peer, Mode::In, self.origin.http)?,
        };
        let (address, sni) = (format!("127.0.0.1:{port}"), format!("p{}.mesh.internal", self.origin.http));
        let identity = self.mesh.identity("fe").display().to_string();
        let run = |seconds: &str| {
            own(&["handshakes", &address, &sni, "be1.default.mesh.internal", &identity, seconds, "x25519"])
        };
        // Configuration may still be under way.
        wait_until("a handshake", Duration::from_secs(10), || run("0").is_ok() && run("1").is_ok())?;
        let (done, cpu_ns) = cpu_of(&[&process], || run(&self.options.seconds.to_string()))?;
        Ok(cpu_ns / 1000.0 / number(&done, "n")?)
    }

    fn start(&self, peer: Peer) -> anyhow::Result<f64> {
        let road = self.road(peer, Mode::Http1)?;
        let process = road.processes.first().context("no process")?;
        Ok(process.started.elapsed().as_secs_f64() * 1000.0)
    }

    /// One proxy, up and answering.
    fn road(&self, peer: Peer, mode: Mode) -> anyhow::Result<Road> {
        let upstream = match mode {
            Mode::Http2 => self.origin.grpc,
            Mode::Tcp => self.origin.sink,
            _ => self.origin.http,
        };
        let (process, port) = match peer {
            Weft => {
                let proxy = self.mesh.proxy("fe")?;
                let port = proxy.port("outbound")?;
                (proxy.process, port)
            }
            _ => self.peer(peer, mode, upstream)?,
        };
        let host = if mode == Mode::Http2 { "grpc.example" } else { "origin.example" };
        let connect = (peer == Weft && mode == Mode::Tcp).then_some("sink.example:9000");
        let mut road = Road { processes: vec![process], port, host, connect };
        match mode {
            Mode::Http1 => await_200(&mut road)?,
            Mode::Http2 => wait_until("an HTTP/2 answer", Duration::from_secs(10), || {
                h2load(&self.options.dir, port, host, 1).is_ok()
            })?,
            _ => wait_until("a TCP connection", Duration::from_secs(10), || {
                let port = port.to_string();
                let mut args = vec!["tcp-load", &port, "0"];
                args.extend(connect);
                own(&args).is_ok()
            })?,
        }
        Ok(road)
    }

    /// Two proxies with mTLS between them, up and answering.
    fn hop(&self, peer: Peer) -> anyhow::Result<Road> {
        let (inside, outside, port, host) = match peer {
            Weft => {
                let inside = self.mesh.proxy("be1")?;
                let outside = self.mesh.proxy("fe")?;
                let port = outside.port("outbound")?;
                (inside.process, outside.process, port, "be1.default.mesh.internal")
            }
            _ => {
                let (inside, between) = self.peer(peer, Mode::In, self.origin.http)?;
                let (outside, port) = self.peer(peer, Mode::Out, between)?;
                (inside, outside, port, "be1.default.mesh.internal")
            }
        };
        let mut road = Road { processes: vec![outside, inside], port, host, connect: None };
        await_200(&mut road)?;
        Ok(road)
    }

    fn peer(&self, peer: Peer, mode: Mode, upstream: u16) -> anyhow::Result<(Running, u16)> {
        let listen = free_port()?;
        let dir = self.options.dir.join(format!("{}-{mode:?}", peer.name()));
        std::fs::create_dir_all(&dir)?;
        let side = if mode == Mode::In { "be1" } else { "fe" };
        let identity = self.mesh.identity(side);
        let place = Place { listen, upstream, dir: &dir, identity: &identity };
        let file = |name: &str, text: String| -> anyhow::Result<PathBuf> {
            let file = dir.join(name);
            std::fs::write(&file, text)?;
            Ok(file)
        };
        let mut command = match peer {
            Envoy => {
                let config = file("envoy.json", configs::envoy(mode, &place))?;
                let mut command = pinned(PROXY_CORE, self.options.peers.join("bin/envoy"));
                command
                    .args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"])
                    .arg(config);
                command
            }
            Haproxy => {
                let config = file("haproxy.cfg", configs::haproxy(mode, &place))?;
                let mut command = pinned(PROXY_CORE, "haproxy");
                command.args(["-db", "-f"]).arg(config);
                command
            }
            Nginx => {
                let config = file("nginx.conf", configs::nginx(mode, &place))?;
                let mut command = pinned(PROXY_CORE, "nginx");
                command.arg("-p").arg(&dir).arg("-c").arg(config);
                command
            }
            Weft => bail!("weft is started by its control plane"),
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

fn per_request(road: &Road, load: impl FnOnce() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let processes: Vec<&Running> = road.processes.iter().collect();
    let (requests, cpu_ns) = cpu_of(&processes, load)?;
    if requests < 3_000.0 {
        bail!("only {requests} requests: the run is not valid");
    }
    Ok(cpu_ns / 1000.0 / requests)
}

fn resident(road: &Road) -> anyhow::Result<f64> {
    let kib = road.processes.iter().try_fold(0.0, |sum, process| anyhow::Ok(sum + process.rss_kib()?))?;
    Ok(kib / 1024.0)
}

fn await_200(road: &mut Road) -> anyhow::Result<()> {
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", road.host);
    let port = road.port;
    wait_until("a 200", Duration::from_secs(15), || {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
        let mut answer = [0; 12];
        stream.set_read_timeout(Some(Duration::from_secs(2))).is_ok()
            && stream.write_all(request.as_bytes()).is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && answer.ends_with(b"200")
    })?;
    for process in &mut road.processes {
        process.fail_if_ended("a proxy")?;
    }
    Ok(())
}

/// What runs on this machine, for the report.
pub fn weft_version(weft: &Path) -> String {
    let out = Command::new(weft).arg("--version").output();
    out.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scenario_has_its_row() {
        for scenario in Scenario::ALL {
            assert_eq!(TABLE.iter().filter(|about| about.scenario == scenario).count(), 1, "{scenario:?}");
        }
    }
}

//! One measurement: the load of a scenario on one peer, and what came of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::configs::Mode;
use crate::handshakes;
use crate::load::{h2load, number, own, wrk};
use crate::machine::{connections_max, cpu_of, wait_until};
use crate::origin_h2::MESSAGES;
use crate::roads::{Bench, Road};
use crate::scenario::{Peer, Scenario};

/// Fewer where the limit of descriptors forbids ten thousand to HAProxy, which counts two for each.
pub fn idle_connections() -> usize {
    if connections_max() > 10_100 { 10_000 } else { 9_000 }
}

/// Fewer make no figure.
const REQUESTS_MIN: f64 = 3_000.0;

/// The figure of the table, and what else the run showed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    pub figure: f64,
    pub per_second: Option<f64>,
    /// Resident under load, all proxies of the scenario.
    pub resident_mib: Option<f64>,
    /// p99 and p99.9 as the caller sees them, microseconds.
    pub tail: Option<[f64; 2]>,
}

impl From<f64> for Sample {
    fn from(figure: f64) -> Self {
        Sample { figure, ..Sample::default() }
    }
}

impl Bench<'_> {
    /// One figure of one peer; its processes are new and end with it.
    pub fn measure(&self, scenario: Scenario, peer: Peer) -> anyhow::Result<Sample> {
        let seconds = self.options.seconds;
        match scenario {
            Scenario::Http1 | Scenario::Http1Big => {
                let path = if scenario == Scenario::Http1 { "/" } else { "/10k" };
                let road = self.road(peer, Mode::Http1)?;
                wrk(road.port, road.host, path, 1)?;
                loaded(&road, 1.0, || wrk(road.port, road.host, path, seconds))
            }
            Scenario::Http2 | Scenario::GrpcStream => {
                let (mode, units) = match scenario {
                    Scenario::Http2 => (Mode::Http2, 1.0),
                    _ => (Mode::Stream, f64::from(MESSAGES)),
                };
                let road = self.road(peer, mode)?;
                h2load(&self.options.dir, road.port, road.host, 1)?;
                loaded(&road, units, || h2load(&self.options.dir, road.port, road.host, seconds))
            }
            Scenario::Hop => {
                let road = self.hop(peer, false)?;
                wrk(road.port, road.host, "/", 1)?;
                loaded(&road, 1.0, || wrk(road.port, road.host, "/", seconds))
            }
            Scenario::Latency => self.added(&self.road(peer, Mode::Http1)?),
            Scenario::HopLatency => self.added(&self.hop(peer, false)?),
            Scenario::Tcp => self.bulk(&self.road(peer, Mode::Tcp)?),
            Scenario::HopTcp => self.bulk(&self.hop(peer, true)?),
            Scenario::Handshake => self.handshake(peer, "x25519"),
            Scenario::HandshakeHybrid => self.handshake(peer, "hybrid"),
            Scenario::Idle => {
                let road = self.road(peer, Mode::Http1)?;
                std::thread::park_timeout(Duration::from_secs(3));
                Ok(road.resident_mib()?.into())
            }
            Scenario::IdleConnections => {
                let road = self.road(peer, Mode::Http1)?;
                per_connection(&road, || {
                    let mut stream = TcpStream::connect(("127.0.0.1", road.port))?;
                    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", road.host).as_bytes())?;
                    let mut answer = [0; 1024];
                    if stream.read(&mut answer)? == 0 {
                        bail!("the connection was closed");
                    }
                    Ok(stream)
                })
            }
            Scenario::IdleTls => {
                let road = self.callee(peer)?;
                let client = handshakes::Client::new(&self.mesh.identity("fe"), &self.sni(), false)?;
                self.await_handshake(&road, "x25519")?;
                per_connection(&road, || client.answered(road.port, road.host))
            }
            Scenario::Start => {
                let road = self.road(peer, Mode::Http1)?;
                let process = road.processes.first().context("no process")?;
                Ok((process.started.elapsed().as_secs_f64() * 1000.0).into())
            }
        }
    }

    fn added(&self, road: &Road) -> anyhow::Result<Sample> {
        let run = |port: u16| {
            let (port, seconds) = (port.to_string(), self.options.seconds.to_string());
            own(&["open-loop", &port, road.host, "2000", &seconds])
        };
        let (with, without) = (run(road.port)?, run(self.origin.http)?);
        Ok(Sample {
            figure: number(&with, "p50")? - number(&without, "p50")?,
            tail: Some([number(&with, "p99")?, number(&with, "p999")?]),
            ..Sample::default()
        })
    }

    fn bulk(&self, road: &Road) -> anyhow::Result<Sample> {
        let (port, seconds) = (road.port.to_string(), self.options.seconds.to_string());
        let mut args = vec!["tcp-load", &port, &seconds];
        args.extend(road.connect);
        let (done, cpu_ns) = cpu_of(&road.all(), || own(&args))?;
        let bytes = number(&done, "bytes")?;
        if bytes < 100e6 {
            bail!("only {bytes} bytes: the run is not valid");
        }
        // A GB is 10⁹ bytes, a second 10⁹ ns.
        let (figure, resident_mib) = (cpu_ns / bytes, Some(road.resident_mib()?));
        Ok(Sample { figure, resident_mib, ..Sample::default() })
    }

    fn sni(&self) -> String {
        format!("p{}.mesh.internal", self.origin.http)
    }

    fn handshakes(&self, road: &Road, group: &str, seconds: u32) -> anyhow::Result<f64> {
        let identity = self.mesh.identity("fe").display().to_string();
        let (port, seconds) = (road.port.to_string(), seconds.to_string());
        number(&own(&["handshakes", &port, &self.sni(), road.host, &identity, &seconds, group])?, "n")
    }

    /// Configuration may still be under way.
    fn await_handshake(&self, road: &Road, group: &str) -> anyhow::Result<()> {
        wait_until("a handshake", Duration::from_secs(10), || {
            self.handshakes(road, group, 0).is_ok() && self.handshakes(road, group, 1).is_ok()
        })
    }

    fn handshake(&self, peer: Peer, group: &str) -> anyhow::Result<Sample> {
        let road = self.callee(peer)?;
        self.await_handshake(&road, group)?;
        let started = Instant::now();
        let (done, cpu_ns) = cpu_of(&road.all(), || self.handshakes(&road, group, self.options.seconds))?;
        Ok(Sample {
            figure: cpu_ns / 1000.0 / done,
            per_second: Some(done / started.elapsed().as_secs_f64()),
            resident_mib: Some(road.resident_mib()?),
            tail: None,
        })
    }
}

/// CPU of each of a load's requests, or of each of the `units` in one.
pub fn loaded(road: &Road, units: f64, load: impl FnOnce() -> anyhow::Result<f64>) -> anyhow::Result<Sample> {
    let started = Instant::now();
    let (requests, cpu_ns) = cpu_of(&road.all(), load)?;
    let seconds = started.elapsed().as_secs_f64();
    let done = requests * units;
    if done < REQUESTS_MIN {
        bail!("only {done} requests: the run is not valid");
    }
    Ok(Sample {
        figure: cpu_ns / 1000.0 / done,
        per_second: Some(done / seconds),
        resident_mib: Some(road.resident_mib()?),
        tail: None,
    })
}

/// Resident KiB of each of many idle connections after their first request.
fn per_connection(
    road: &Road,
    mut connect: impl FnMut() -> anyhow::Result<TcpStream>,
) -> anyhow::Result<Sample> {
    std::thread::park_timeout(Duration::from_secs(1));
    let before = road.resident_mib()?;
    let mut open = Vec::with_capacity(idle_connections());
    for number in 0..idle_connections() {
        open.push(connect().with_context(|| format!("connection {number}"))?);
    }
    std::thread::park_timeout(Duration::from_secs(3));
    Ok(((road.resident_mib()? - before) * 1024.0 / idle_connections() as f64).into())
}

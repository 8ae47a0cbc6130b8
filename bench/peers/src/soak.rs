//! A mesh at half of what it can carry, with churn of configuration, endpoints and certificates, for half an hour:
//! no request may be lost, and no proxy may grow.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::Options;
use crate::document::{self, Part};
use crate::load::wrk;
use crate::machine::{Running, Scheduling, wait_until};
use crate::origin::Origin;
use crate::roads::answers_200;
use crate::weft::{Mesh, Proxy};

const HOST: &str = "be1.default.mesh.internal";
const CONNECTIONS: u32 = 32;
const SAMPLE_EVERY: Duration = Duration::from_secs(2);
const CONFIGURATION_EVERY: Duration = Duration::from_secs(3);
const ENDPOINT_EVERY: Duration = Duration::from_secs(11);
/// The first part of the run does not count for the slope: pools, histories and arenas find their size.
const WARM_UP_SHARE: f64 = 1.0 / 3.0;
const SLOPE_MAX_MIB_PER_HOUR: f64 = 1.0;
/// In less time a page or two would be a slope of many MiB an hour.
const SLOPE_HELD_FROM_MINUTES: f64 = 20.0;
/// The shortest that the mesh grants: a new one about each minute.
const CERTIFICATE_TTL: &str = "2m";
/// By then the first has been renewed, or the run is worth nothing.
const RENEWED_WITHIN: Duration = Duration::from_secs(180);
/// The control plane has taken what was applied into account.
const SETTLING: Duration = Duration::from_secs(2);

/// What the callers saw.
#[derive(Default)]
struct Seen {
    good: AtomicU64,
    lost: AtomicU64,
    first_loss: std::sync::Mutex<Option<String>>,
    stop: AtomicBool,
}

impl Seen {
    fn lose(&self, why: &anyhow::Error) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut first) = self.first_loss.lock() {
            first.get_or_insert_with(|| format!("{why:#}"));
        }
    }
}

/// A process and its resident memory by the hour.
struct Watched {
    name: &'static str,
    /// Whether the slope is held; the control plane keeps history, which grows for as long as it is told to keep it.
    held: bool,
    points: Vec<(f64, f64)>,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let length = Duration::from_secs_f64(options.minutes * 60.0);
    let origin = Origin::start(&options.dir, Scheduling::Free)?;
    let mesh = Mesh::start(&options.weft, &options.dir, origin.ports, Scheduling::Free, "")?;
    // Half an hour of log lines would fill a disk and say nothing.
    mesh.apply(&format!(
        "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {{name: default}}\nspec: {{accessLog: {{format: text, path: /dev/null}}, certificates: {{ttl: {CERTIFICATE_TTL}}}}}\n"
    ))?;
    // Whoever joins before the control plane has seen it gets a certificate for a day.
    std::thread::park_timeout(SETTLING);
    let callee = mesh.proxy("be1")?;
    let caller = mesh.proxy("fe")?;
    let port = caller.port("outbound")?;
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    wait_until("a 200", Duration::from_secs(30), || answers_200(port, &request))?;
    wrk(port, HOST, "/", 1)?;
    let seconds = 5;
    let most = wrk(port, HOST, "/", seconds)? / f64::from(seconds);
    let rate = (most / 2.0) as u32;
    eprintln!("soak: the hop carries {most:.0} requests/s; {rate} for {:.1} minutes", options.minutes);

    let seen = Arc::new(Seen::default());
    let start = Instant::now() + Duration::from_millis(200);
    let load: Vec<_> = (0..CONNECTIONS)
        .map(|place| {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || connection(port, &seen, start, place, rate))
        })
        .collect();
    let watched = vec![
        Watched { name: "caller's proxy", held: true, points: Vec::new() },
        Watched { name: "callee's proxy", held: true, points: Vec::new() },
        Watched { name: "control plane", held: false, points: Vec::new() },
    ];
    let processes = [&caller.process, &callee.process, &mesh.control];
    let outcome = churn(&mesh, &processes, watched, start, length);
    seen.stop.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().map_err(|_| anyhow::anyhow!("a caller panicked"))?;
    }
    let (churned, watched) = outcome?;
    let good = seen.good.load(Ordering::Relaxed) as f64;
    let achieved = good / start.elapsed().as_secs_f64();
    if achieved < f64::from(rate) * 0.9 {
        bail!("only {achieved:.0} of {rate} requests a second were made: the run is not valid");
    }
    report(options, most, achieved, &seen, &churned, &watched)
}

/// How much was changed under load.
#[derive(Default)]
struct Churned {
    configurations: u32,
    endpoints: u32,
    certificates: u32,
}

fn churn(
    mesh: &Mesh,
    processes: &[&Running],
    mut watched: Vec<Watched>,
    start: Instant,
    length: Duration,
) -> anyhow::Result<(Churned, Vec<Watched>)> {
    let mut churned = Churned::default();
    let mut second: Option<Proxy> = None;
    let mut last_certificates = certificates(mesh);
    let (mut sample, mut configure, mut endpoint) =
        (start, start + CONFIGURATION_EVERY, start + ENDPOINT_EVERY);
    let end = start + length;
    while Instant::now() < end {
        let now = Instant::now();
        if now >= sample {
            sample += SAMPLE_EVERY;
            for (one, process) in watched.iter_mut().zip(processes) {
                let hours = start.elapsed().as_secs_f64() / 3600.0;
                one.points.push((hours, process.rss_kib()? / 1024.0));
            }
            let certificates = certificates(mesh);
            churned.certificates += u32::from(certificates != last_certificates);
            last_certificates = certificates;
            if churned.certificates == 0 && start.elapsed() > RENEWED_WITHIN {
                bail!("no certificate was renewed in {} s: the run is not valid", RENEWED_WITHIN.as_secs());
            }
        }
        if now >= configure {
            configure += CONFIGURATION_EVERY;
            mesh.apply(&route(churned.configurations))?;
            churned.configurations += 1;
        }
        if now >= endpoint {
            endpoint += ENDPOINT_EVERY;
            match second.take() {
                None => second = Some(mesh.named_proxy("be1", "be1-second")?),
                Some(proxy) => leave(proxy)?,
            }
            churned.endpoints += 1;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    if let Some(proxy) = second {
        leave(proxy)?;
    }
    Ok((churned, watched))
}

/// As an orchestrator ends it: told to, and waited for.
fn leave(mut proxy: Proxy) -> anyhow::Result<()> {
    let pid = i32::try_from(proxy.process.child.id()).ok().and_then(Pid::from_raw).context("no pid")?;
    kill_process(pid, Signal::TERM)?;
    let child = &mut proxy.process.child;
    wait_until("a proxy's end", Duration::from_secs(40), || matches!(child.try_wait(), Ok(Some(_))))
}

/// When the certificates of the proxies that stay were written.
fn certificates(mesh: &Mesh) -> Vec<Option<SystemTime>> {
    let written = |file: &Path| std::fs::metadata(file).and_then(|about| about.modified()).ok();
    ["fe", "be1"].map(|service| written(&mesh.identity(service).join("chain.pem"))).to_vec()
}

/// Another route each time, with the same meaning for the requests of this run.
fn route(number: u32) -> String {
    let rules: String = (0..1 + number % 7)
        .map(|rule| {
            format!(
                "  - {{matches: [{{path: {{type: PathPrefix, value: /v{number}-{rule}}}}}], backendRefs: [{{name: be1, port: 80}}]}}\n"
            )
        })
        .collect();
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: churn}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: be1}}]\n  rules:\n{rules}  - {{filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-round, value: '{number}'}}]}}}}], backendRefs: [{{name: be1, port: 80}}]}}\n"
    )
}

/// Owns every n-th request of the schedule; one that gets no 200 is lost, and the next goes over a new connection.
fn connection(port: u16, seen: &Seen, start: Instant, place: u32, rate: u32) {
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: soak\r\naccept: */*\r\n\r\n");
    let mut stream: Option<TcpStream> = None;
    let mut number = u64::from(place);
    while !seen.stop.load(Ordering::Relaxed) {
        let due = start + Duration::from_secs_f64(number as f64 / f64::from(rate));
        #[expect(
            clippy::disallowed_methods,
            reason = "the schedule is the point, and the thread has nothing else to do"
        )]
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        match one(&mut stream, port, &request) {
            Ok(()) => {
                seen.good.fetch_add(1, Ordering::Relaxed);
            }
            Err(why) => {
                seen.lose(&why);
                stream = None;
            }
        }
        number += u64::from(CONNECTIONS);
    }
}

fn one(open: &mut Option<TcpStream>, port: u16, request: &str) -> anyhow::Result<()> {
    let stream = match open {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            open.insert(stream)
        }
    };
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; 4096];
    let mut filled = 0;
    while !crate::open_loop::complete(&answer[..filled])? {
        let read = stream.read(answer.get_mut(filled..).context("an answer that is too long")?)?;
        if read == 0 {
            bail!("the connection was closed after {filled} bytes");
        }
        filled += read;
    }
    Ok(())
}

fn report(
    options: &Options,
    most: f64,
    achieved: f64,
    seen: &Seen,
    churned: &Churned,
    watched: &[Watched],
) -> anyhow::Result<()> {
    let (good, lost) = (seen.good.load(Ordering::Relaxed), seen.lost.load(Ordering::Relaxed));
    let mut failures = Vec::new();
    let mut text = format!(
        "Written by `cargo xtask soak`. A hop between two members, {:.1} minutes, {achieved:.0} requests/s (it carries {most:.0}).\n\n\
         - changes under load: {} of routes, {} of endpoints, {} of certificates (they live {CERTIFICATE_TTL})\n\
         - {good} requests answered, {lost} lost (bar 0)\n",
        options.minutes, churned.configurations, churned.endpoints, churned.certificates
    );
    if lost > 0 {
        let first = seen.first_loss.lock().map(|first| first.clone().unwrap_or_default()).unwrap_or_default();
        failures.push(format!("{lost} requests were lost, the first one: {first}"));
    }
    for one in watched {
        let from = options.minutes / 60.0 * WARM_UP_SHARE;
        let points: Vec<(f64, f64)> =
            one.points.iter().copied().filter(|(hours, _)| *hours >= from).collect();
        let slope = slope(&points).context("too few samples of memory")?;
        let last = points.last().map_or(f64::NAN, |(_, mib)| *mib);
        let held = one.held && options.minutes >= SLOPE_HELD_FROM_MINUTES;
        let bar = match (one.held, held) {
            (true, true) => format!(" (bar {SLOPE_MAX_MIB_PER_HOUR})"),
            (true, false) => format!(" (not held under {SLOPE_HELD_FROM_MINUTES} minutes)"),
            (false, _) => " (reported)".to_owned(),
        };
        let _ = writeln!(text, "- {}: {last:.1} MiB resident, {slope:+.2} MiB an hour{bar}", one.name);
        if held && slope > SLOPE_MAX_MIB_PER_HOUR {
            failures.push(format!("the {} grew by {slope:.2} MiB an hour", one.name));
        }
    }
    print!("{text}");
    if let Some(file) = &options.write {
        document::replace(file, Part::Soak, &text)?;
    }
    if failures.is_empty() { Ok(()) } else { bail!(failures.join("; ")) }
}

/// Of the line through the points by least squares.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let over: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let under: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    (points.len() > 2 && under > 0.0).then(|| over / under)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_line() {
        let steady: Vec<(f64, f64)> = (0..100).map(|n| (f64::from(n) / 100.0, 20.0)).collect();
        assert_eq!(slope(&steady), Some(0.0));
        let growing: Vec<(f64, f64)> =
            (0..100).map(|n| (f64::from(n) / 100.0, 20.0 + f64::from(n) / 50.0 + f64::from(n % 2))).collect();
        let found = slope(&growing).unwrap_or_default();
        assert!((found - 2.0).abs() < 0.1, "{found}");
        assert_eq!(slope(&steady[..2]), None);
    }
}

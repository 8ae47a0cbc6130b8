//! Weft against itself: what a request costs with ten thousand routes, endpoints or series instead of ten.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::load::{wrk, wrk_round};
use crate::machine::{Scheduling, wait_until};
use crate::measure::{Sample, loaded};
use crate::roads::{Bench, Road, answers_200};
use crate::weft::{Mesh, external, service};

/// What there are many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Many {
    Exact,
    Prefix,
    Regex,
    Endpoints,
    /// Every route is asked in turn, so that each has its counts and its log lines.
    Series,
}

pub struct Row {
    pub what: Many,
    pub title: &'static str,
    /// At most this multiple of the cost with ten.
    pub bar: Option<f64>,
}

const FEW: usize = 10;

impl Many {
    /// A proxy refuses more than 4,096 patterns in one resource, where each service's route stands twice.
    fn many(self) -> usize {
        if self == Many::Regex { 2_000 } else { 10_000 }
    }
}

pub const TABLE: &[Row] = &[
    Row { what: Many::Exact, title: "routes by exact path", bar: Some(1.10) },
    Row { what: Many::Prefix, title: "routes by path prefix", bar: Some(1.10) },
    Row { what: Many::Regex, title: "routes by regular expression (2,000)", bar: None },
    Row { what: Many::Endpoints, title: "endpoints", bar: Some(1.10) },
    Row { what: Many::Series, title: "routes, each with its series", bar: Some(1.10) },
];

/// The costs of one row, pair by pair: with few, with many.
pub fn measure(bench: &Bench<'_>, row: &Row) -> anyhow::Result<Vec<(Sample, Sample)>> {
    let mesh = |count: usize| {
        let dir = bench.options.dir.join(format!("scale-{:?}-{count}", row.what));
        Mesh::start(
            &bench.options.weft,
            &dir,
            bench.origin,
            Scheduling::Pinned,
            &objects(bench, row.what, count)?,
        )
    };
    // One at a time: two control planes of ten thousand routes would share the generator's core.
    let few = mesh(FEW)?;
    let many = mesh(row.what.many())?;
    (0..bench.options.repetitions)
        .map(|_| Ok((once(bench, &few, row.what, FEW)?, once(bench, &many, row.what, row.what.many())?)))
        .collect()
}

fn once(bench: &Bench<'_>, mesh: &Mesh, what: Many, count: usize) -> anyhow::Result<Sample> {
    let proxy = mesh.proxy("fe")?;
    let port = proxy.port("outbound")?;
    let host = if what == Many::Endpoints { "many.example" } else { "many.default.mesh.internal" };
    let mut road = Road { processes: vec![proxy.process], port, host, connect: None };
    let last = path(count - 1);
    let request = format!("GET {last} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    wait_until("an answer by the last route", Duration::from_secs(30), || answers_200(port, &request))?;
    for process in &mut road.processes {
        process.fail_if_ended("the proxy")?;
    }
    let load = |seconds| match what {
        Many::Series => wrk_round(&bench.options.dir, port, host, count, seconds),
        _ => wrk(port, host, &last, seconds),
    };
    // Connections to ten thousand endpoints are made before the count begins: picks are random, and after 8 for each
    // endpoint 3 of 10,000 have had none.
    let (warm, end) = (8.0 * count as f64, Instant::now() + Duration::from_secs(30));
    let mut done = load(1)?;
    while done < warm && Instant::now() < end {
        done += load(2)?;
    }
    loaded(&road, 1.0, || load(bench.options.seconds))
}

fn path(index: usize) -> String {
    format!("/r{index:05}/x")
}

fn objects(bench: &Bench<'_>, what: Many, count: usize) -> anyhow::Result<String> {
    if what != Many::Endpoints {
        return Ok(routes(what, count));
    }
    let port = bench.origin.everywhere;
    if port == 0 {
        bail!("this kernel lets the origin not listen on all of loopback's addresses");
    }
    // Few digits: an applied object must fit into its own annotation.
    let address = |index: usize| {
        format!("{{address: 127.{}.{}.{}}}", index / 1000 % 10, index / 100 % 10, index % 100 + 1)
    };
    let addresses: Vec<String> = (0..count).map(address).collect();
    let one = external("many", 80, "http", port);
    Ok(one.replace("{address: 127.0.0.1}", &addresses.join(", ")))
}

/// Rules of one HTTPRoute, at most.
const RULES: usize = 16;

fn routes(what: Many, count: usize) -> String {
    let mut text = service("many", "{name: http, port: 80, targetPort: 8080}");
    for first in (0..count).step_by(RULES) {
        let _ = write!(
            text,
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: many-{first:05}}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: many}}]\n  rules:\n"
        );
        for index in first..(first + RULES).min(count) {
            let path = path(index);
            let (kind, value) = match what {
                Many::Prefix => ("PathPrefix", path.trim_end_matches("/x").to_owned()),
                Many::Regex => ("RegularExpression", path.replace("/x", "/[a-z]+")),
                _ => ("Exact", path),
            };
            let _ = writeln!(
                text,
                "  - {{matches: [{{path: {{type: {kind}, value: '{value}'}}}}], backendRefs: [{{group: weft.dev, kind: ExternalService, name: origin, port: 80}}]}}"
            );
        }
        text.push_str("---\n");
    }
    text
}

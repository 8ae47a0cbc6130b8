//! Repetitions, ratios, and what is printed and written of them.

use std::fmt::Write as _;

use anyhow::{Context, bail};

use crate::machine::about;
use crate::measure::{Sample, idle_connections};
use crate::plot::{self, Bars};
use crate::roads::{Bench, weft_version};
use crate::scenario::{About, Peer, Scenario, TABLE};
use crate::weft::demo_start;
use crate::{Options, scale};

/// The samples of one scenario: one list a peer, in the order of the repetitions.
struct Figures {
    about: &'static About,
    by_peer: Vec<(Peer, Vec<Sample>)>,
    /// Peers that could not be measured, and why.
    failed: Vec<(Peer, String)>,
}

/// The peers that ratios are taken against, in the order of the bars.
const AGAINST: [Peer; 3] = [Peer::Envoy, Peer::Haproxy, Peer::Floor];

impl Figures {
    fn of(bench: &Bench<'_>, about: &'static About) -> Figures {
        let mut by_peer: Vec<_> = about.peers.iter().map(|peer| (*peer, Vec::new())).collect();
        // Ten thousand connections show no spread worth the minutes.
        let slow = matches!(about.scenario, Scenario::IdleConnections | Scenario::IdleTls);
        let mut failed: Vec<(Peer, String)> = Vec::new();
        for _ in 0..if slow { 1 } else { bench.options.repetitions } {
            for (peer, samples) in &mut by_peer {
                if failed.iter().any(|(one, _)| one == peer) {
                    continue;
                }
                match bench.measure(about.scenario, *peer) {
                    Ok(sample) => samples.push(sample),
                    Err(error) => failed.push((*peer, format!("{error:#}"))),
                }
            }
        }
        // A peer that failed once has no pairs.
        by_peer.retain(|(peer, _)| !failed.iter().any(|(one, _)| one == peer));
        Figures { about, by_peer, failed }
    }

    fn list(&self, peer: Peer) -> &[Sample] {
        self.by_peer.iter().find(|(one, _)| *one == peer).map_or(&[], |(_, samples)| samples)
    }

    fn median_of(&self, peer: Peer, figure: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        spread(self.list(peer).iter().filter_map(figure)).map(|[median, _, _]| median)
    }

    /// One row: the medians, then the ratios against their bars.
    fn row(&self) -> String {
        let mut row = format!("| {} ({}) |", self.about.title, self.about.unit);
        for peer in Peer::ALL {
            row.push_str(&cell(self.median_of(*peer, |sample| Some(sample.figure))));
        }
        for (peer, bar) in AGAINST.into_iter().zip(self.about.bars) {
            let pairs = self.list(Peer::Weft).iter().zip(self.list(peer));
            row.push_str(&ratio(pairs.map(|(ours, theirs)| ours.figure / theirs.figure), bar));
        }
        row
    }

    /// What else was seen, for the second table.
    fn more(&self) -> Option<String> {
        if !self.about.loaded {
            return None;
        }
        let mut row = format!("| {} |", self.about.title);
        for peer in Peer::ALL {
            let per_second = self.median_of(*peer, |sample| sample.per_second);
            let resident = self.median_of(*peer, |sample| sample.resident_mib);
            let _ = match (per_second, resident) {
                (Some(per_second), Some(mib)) => write!(row, " {per_second:.0} at {mib:.1} MiB |"),
                (None, Some(mib)) => write!(row, " {mib:.1} MiB |"),
                _ => write!(row, " – |"),
            };
        }
        Some(row)
    }

    /// The tail of a latency row.
    fn tails(&self) -> String {
        let mut text = String::new();
        for (index, name) in ["p99", "p99.9"].into_iter().enumerate() {
            if !self.by_peer.iter().any(|(_, samples)| samples.iter().any(|sample| sample.tail.is_some())) {
                continue;
            }
            let title = self.about.title.replace("p50 added", name);
            let _ = write!(text, "| {title} as callers see it ({}) |", self.about.unit);
            for peer in Peer::ALL {
                text.push_str(&cell(self.median_of(*peer, |sample| Some(sample.tail?[index]))));
            }
            for peer in AGAINST {
                let pairs = self.list(Peer::Weft).iter().zip(self.list(peer));
                let ratios = pairs.filter_map(|(ours, theirs)| Some(ours.tail?[index] / theirs.tail?[index]));
                text.push_str(&ratio(ratios, None));
            }
            text.push('\n');
        }
        text
    }

    fn bars(&self) -> Bars {
        let envoy = self.median_of(Peer::Envoy, |sample| Some(sample.figure)).unwrap_or(f64::NAN);
        let share = |(peer, _): &(Peer, Vec<Sample>)| {
            Some((peer.name(), self.median_of(*peer, |sample| Some(sample.figure))? / envoy))
        };
        Bars { title: self.about.title, shares: self.by_peer.iter().filter_map(share).collect() }
    }
}

/// Median, least, most.
fn spread(values: impl Iterator<Item = f64>) -> Option<[f64; 3]> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    Some([*sorted.get(sorted.len() / 2)?, *sorted.first()?, *sorted.last()?])
}

fn cell(value: Option<f64>) -> String {
    match value {
        Some(value) if value < 10.0 => format!(" {value:.2} |"),
        Some(value) => format!(" {value:.1} |"),
        None => " – |".to_owned(),
    }
}

/// Median, spread and verdict of ratios taken pair by pair.
fn ratio(ratios: impl Iterator<Item = f64>, bar: Option<f64>) -> String {
    let Some([median, low, high]) = spread(ratios) else { return " – |".to_owned() };
    let verdict = match bar {
        Some(bar) if median <= bar => format!(", bar {bar}: met"),
        Some(bar) => format!(", bar {bar}: **missed**"),
        None => String::new(),
    };
    format!(" {median:.2} ({low:.2}–{high:.2}){verdict} |")
}

/// The whole comparison.
pub fn peers(options: &Options) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    let bench = Bench::new(options)?;
    let mut text = head(options);
    text.push_str(TABLE_HEAD);
    eprint!("{TABLE_HEAD}");
    let mut more = String::new();
    let mut bars = Vec::new();
    let mut failed = String::new();
    for row in TABLE.iter().filter(|row| options.only.includes(row.scenario)) {
        let figures = Figures::of(&bench, row);
        more.extend(figures.more().map(|line| line + "\n"));
        bars.push(figures.bars());
        for (peer, why) in &figures.failed {
            let _ = writeln!(failed, "- {} in “{}”: {why}", peer.name(), row.title);
        }
        let line = format!("{}\n{}", figures.row(), figures.tails());
        eprint!("{line}");
        text.push_str(&line);
    }
    if !failed.is_empty() {
        eprint!("{failed}");
        let _ = write!(text, "\nCould not be measured:\n\n{failed}");
    }
    let _ = write!(
        text,
        "\n## Load and memory\n\nRequests (connections, messages) a second, and MiB resident under that load, all proxies of the row.\n\n{MORE_HEAD}{more}"
    );
    if options.only.includes_scale() {
        text.push_str(SCALE_HEAD);
        eprint!("{SCALE_HEAD}");
        for row in scale::TABLE {
            let line = scale_row(row, scale::measure(&bench, row));
            eprint!("{line}");
            text.push_str(&line);
        }
    }
    let _ = writeln!(text, "\nThe run took {} minutes.", started.elapsed().as_secs() / 60);
    let Some(file) = &options.write else {
        print!("{text}");
        return Ok(());
    };
    let picture = file.with_file_name("benchmarks.svg");
    std::fs::write(&picture, plot::svg(&bars))?;
    crate::document::replace(file, crate::document::Part::Peers, &text)
}

fn scale_row(row: &scale::Row, pairs: anyhow::Result<Vec<(Sample, Sample)>>) -> String {
    let pairs = match pairs {
        Ok(pairs) => pairs,
        Err(error) => return format!("| {} | could not be measured: {error:#} |\n", row.title),
    };
    let [few, many] =
        [spread(pairs.iter().map(|(few, _)| few.figure)), spread(pairs.iter().map(|(_, many)| many.figure))]
            .map(|all| cell(all.map(|[median, _, _]| median)));
    let against = ratio(pairs.iter().map(|(few, many)| many.figure / few.figure), row.bar);
    format!("| {} |{few}{many}{against}\n", row.title)
}

fn head(options: &Options) -> String {
    let mut text = String::from(HEAD);
    for line in about(&options.peers) {
        let _ = writeln!(text, "- {line}");
    }
    let _ = writeln!(text, "- {}, release build", weft_version(&options.weft));
    let _ = writeln!(
        text,
        "- {} repetitions of {} s, interleaved; the median of each, ratios pair by pair (least–most); {} idle connections\n",
        options.repetitions,
        options.seconds,
        idle_connections()
    );
    text
}

const HEAD: &str = "# Weft beside its peers\n\nWritten by `cargo xtask bench peers`. CPU is the scheduler's sum of run time of the proxies' processes, which run on one\ncore; generator and origin run on another. Weft is the release binary on configuration from its own control plane with\nevery default on; the peers have their like features, as `bench/peers/src/configs.rs` writes them: access log, request id,\nroutes by header, weighted clusters, retries, RBAC, outlier detection (Envoy), mTLS 1.3 with the mesh's own certificates.\nThe floor copies bytes and does nothing else (`bench/peers/src/floor.rs`).\n\n![CPU and memory as shares of Envoy's](benchmarks.svg)\n\n";
const TABLE_HEAD: &str = "| scenario | weft | envoy | haproxy | nginx | floor | of Envoy's | of HAProxy's | of the floor's |\n|---|---|---|---|---|---|---|---|---|\n";
const MORE_HEAD: &str = "| scenario | weft | envoy | haproxy | nginx | floor |\n|---|---|---|---|---|---|\n";
const SCALE_HEAD: &str = "\n## Weft against itself\n\nCPU µs of a request with ten, and with ten thousand; of the routes, the last one is asked for.\n\n| what there are many of | 10 | 10,000 | ratio |\n|---|---|---|---|\n";

/// Three figures and their targets, in two minutes.
pub fn smoke(options: &Options) -> anyhow::Result<()> {
    let bench = Bench::new(options)?;
    let mut ratios = Vec::new();
    println!(
        "HTTP/1.1 keep-alive, 64 connections, {} pairs of {} s; CPU µs per request",
        options.repetitions, options.seconds
    );
    for round in 1..=options.repetitions {
        let ours = bench.measure(Scenario::Http1, Peer::Weft)?.figure;
        let theirs = bench.measure(Scenario::Http1, Peer::Envoy)?.figure;
        println!("  {round}: weft {ours:.1}  envoy {theirs:.1}  ratio {:.2}", ours / theirs);
        ratios.push(ours / theirs);
    }
    let idle = bench.measure(Scenario::Idle, Peer::Weft)?.figure;
    drop(bench);
    let start = demo_start(&options.weft, &options.dir)? / 1000.0;
    let mut met = true;
    println!("\n{:<44} {:>10} {:>10}", "what", "measured", "target");
    let [cpu, _, _] = spread(ratios.into_iter()).context("no pairs")?;
    for (what, measured, target, unit) in [
        ("CPU per request, share of Envoy's (median)", cpu, 0.5, ""),
        ("idle sidecar, resident", idle, 15.0, "MiB"),
        ("weft demo to the first served request", start, 2.0, "s"),
    ] {
        let good = measured <= target;
        met &= good;
        let verdict = if good { "met" } else { "MISSED" };
        println!("{what:<44} {measured:>7.2} {unit:<3} {target:>6.2} {unit:<3} {verdict}");
    }
    if !met {
        bail!("a target was missed");
    }
    Ok(())
}

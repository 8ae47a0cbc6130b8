//! Repetitions, ratios and what is printed of them.

use std::fmt::Write as _;

use anyhow::{Context, bail};

use crate::Options;
use crate::machine::about;
use crate::scenario::{About, Bench, Peer, Scenario, TABLE, weft_version};
use crate::weft::Mesh;

const IDLE_CONNECTIONS: usize = 5_000;

/// The figures of one scenario: one list a peer, in the order of the repetitions.
struct Figures {
    about: &'static About,
    by_peer: Vec<(Peer, Vec<f64>)>,
}

impl Figures {
    fn of(bench: &Bench<'_>, about: &'static About, repetitions: usize) -> anyhow::Result<Figures> {
        let mut by_peer: Vec<_> = about.peers.iter().map(|peer| (*peer, Vec::new())).collect();
        for _ in 0..repetitions {
            for (peer, figures) in &mut by_peer {
                let figure = bench.measure(about.scenario, *peer);
                figures.push(figure.with_context(|| peer.name())?);
            }
        }
        Ok(Figures { about, by_peer })
    }

    fn list(&self, peer: Peer) -> &[f64] {
        self.by_peer.iter().find(|(one, _)| *one == peer).map_or(&[], |(_, figures)| figures)
    }

    /// Weft's figure as a share of the peer's, pair by pair: median, least, most.
    fn ratio(&self, peer: Peer) -> Option<[f64; 3]> {
        let pairs = self.list(Peer::Weft).iter().zip(self.list(peer));
        let mut ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
        ratios.sort_by(f64::total_cmp);
        Some([median(&ratios)?, *ratios.first()?, *ratios.last()?])
    }

    /// One row: the medians, then the ratios against their bars.
    fn row(&self) -> String {
        let mut row = format!("| {} ({}) |", self.about.title, self.about.unit);
        for peer in [Peer::Weft, Peer::Envoy, Peer::Haproxy, Peer::Nginx] {
            let mut sorted = self.list(peer).to_vec();
            sorted.sort_by(f64::total_cmp);
            let _ = match median(&sorted) {
                Some(value) => write!(row, " {value:.1} |"),
                None => write!(row, " – |"),
            };
        }
        for (peer, bar) in [Peer::Envoy, Peer::Haproxy].into_iter().zip(self.about.bars) {
            let _ = match (self.ratio(peer), bar) {
                (Some([median, low, high]), Some(bar)) => {
                    let verdict = if median <= bar { "met" } else { "**missed**" };
                    write!(row, " {median:.2} ({low:.2}–{high:.2}), bar {bar}: {verdict} |")
                }
                (Some([median, low, high]), None) => write!(row, " {median:.2} ({low:.2}–{high:.2}) |"),
                (None, _) => write!(row, " – |"),
            };
        }
        row
    }
}

fn median(sorted: &[f64]) -> Option<f64> {
    sorted.get(sorted.len() / 2).copied()
}

/// The whole comparison.
pub fn peers(options: &Options) -> anyhow::Result<()> {
    let bench = Bench::new(options)?;
    let mut text = String::from(HEAD);
    for line in about(&options.peers) {
        let _ = writeln!(text, "- {line}");
    }
    let _ = writeln!(text, "- {}", weft_version(&options.weft));
    let _ = writeln!(
        text,
        "- {} repetitions of {} s, interleaved; the median of each, ratios pair by pair (least–most)\n",
        options.repetitions, options.seconds
    );
    text.push_str(TABLE_HEAD);
    eprint!("{TABLE_HEAD}");
    for row in TABLE.iter().filter(|row| options.only.contains(&row.scenario)) {
        let line = match Figures::of(&bench, row, options.repetitions) {
            Ok(figures) => figures.row(),
            Err(error) => format!("| {} | could not be measured: {error:#} |", row.title),
        };
        eprintln!("{line}");
        let _ = writeln!(text, "{line}");
    }
    if options.only.contains(&Scenario::Idle) {
        let each = |peer| bench.per_connection(peer, IDLE_CONNECTIONS);
        let (ours, envoy, haproxy) = (each(Peer::Weft)?, each(Peer::Envoy)?, each(Peer::Haproxy)?);
        let line = format!(
            "\n{IDLE_CONNECTIONS} idle keep-alive connections, KiB resident each: weft {ours:.1}, envoy {envoy:.1}, \
             haproxy {haproxy:.1}; {:.2} of Envoy's (bar 0.25)",
            ours / envoy
        );
        eprintln!("{line}");
        let _ = writeln!(text, "{line}");
    }
    match &options.write {
        Some(file) => std::fs::write(file, &text)?,
        None => print!("{text}"),
    }
    Ok(())
}

const HEAD: &str = "# Weft beside its peers\n\nWritten by `cargo xtask bench peers`. CPU is the scheduler's sum of run time of the proxies' processes. One core for\nthe proxies, one for generator and origin. Weft is the release binary on configuration from its own control plane with\nevery default on; the peers have their like features (`bench/peers/src/configs.rs`).\n\n";
const TABLE_HEAD: &str = "| scenario | weft | envoy | haproxy | nginx | of Envoy's | of HAProxy's |\n|---|---|---|---|---|---|---|\n";

/// Three figures and their targets, in two minutes.
pub fn smoke(options: &Options) -> anyhow::Result<()> {
    let bench = Bench::new(options)?;
    let Some(row) = TABLE.iter().find(|row| row.scenario == Scenario::Http1) else { bail!("no h1 scenario") };
    let mut ratios = Vec::new();
    println!(
        "HTTP/1.1 keep-alive, 64 connections, {} pairs of {} s; CPU µs per request",
        options.repetitions, options.seconds
    );
    for round in 1..=options.repetitions {
        let ours = bench.measure(row.scenario, Peer::Weft)?;
        let theirs = bench.measure(row.scenario, Peer::Envoy)?;
        println!("  {round}: weft {ours:.1}  envoy {theirs:.1}  ratio {:.2}", ours / theirs);
        ratios.push(ours / theirs);
    }
    ratios.sort_by(f64::total_cmp);
    let idle = bench.measure(Scenario::Idle, Peer::Weft)?;
    drop(bench);
    let start = Mesh::demo_start(&options.weft, &options.dir)? / 1000.0;
    let mut met = true;
    println!("\n{:<44} {:>10} {:>10}", "what", "measured", "target");
    for (what, measured, target, unit) in [
        ("CPU per request, share of Envoy's (median)", median(&ratios).unwrap_or(f64::NAN), 0.5, ""),
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

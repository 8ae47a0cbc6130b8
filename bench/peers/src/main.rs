//! Weft beside its peers on one machine, in one run: CPU per request, latency added, memory, as ratios.
//!
//! `cargo xtask bench` builds the shipped binary and this program and starts it. Method: one core for the proxy, another
//! for generator and origin; repetitions interleaved (A B C, A B C); CPU is the scheduler's own sum of run time; ratios
//! are taken pair by pair within a repetition, because these machines are shared and absolute times drift. Weft runs on
//! configuration that its own control plane sends, with every default on; the peers run with their like features.

mod configs;
mod document;
mod floor;
mod handshakes;
mod load;
mod measure;
mod open_loop;
mod plot;
mod report;
mod roads;
mod scale;
mod scenario;
mod soak;
mod tcp_load;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};

use scenario::Scenario;
use weft_bench::{machine, origin, origin_h2, poll, weft};

const HELP: &str = "\
weft-bench smoke | peers [--only h1,hop,…,scale] [--repetitions N] [--seconds S] [--write FILE] | soak [--minutes N]
  --weft FILE    the binary to measure      --peers DIR   the folder with Envoy      --dir DIR   scratch
weft-bench floor copy|tls-out|tls-in LISTEN UPSTREAM [IDENTITY]
";

/// What a run is told.
pub struct Options {
    pub weft: PathBuf,
    pub peers: PathBuf,
    pub dir: PathBuf,
    pub repetitions: usize,
    pub seconds: u32,
    pub only: Only,
    pub write: Option<PathBuf>,
    pub minutes: f64,
}

/// Which of the rows; all, if none was named.
#[derive(Default)]
pub struct Only {
    scenarios: Vec<Scenario>,
    scale: bool,
}

impl Only {
    fn named(names: &str) -> anyhow::Result<Only> {
        let mut only = Only::default();
        for name in names.split(',') {
            match name {
                "scale" => only.scale = true,
                name => only.scenarios.push(Scenario::named(name)?),
            }
        }
        Ok(only)
    }

    fn everything(&self) -> bool {
        self.scenarios.is_empty() && !self.scale
    }

    pub fn includes(&self, scenario: Scenario) -> bool {
        self.everything() || self.scenarios.contains(&scenario)
    }

    pub fn includes_scale(&self) -> bool {
        self.everything() || self.scale
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> anyhow::Result<()> {
    let Some((command, rest)) = args.split_first() else { bail!("{HELP}") };
    // Children of a run, each pinned to its core.
    match (command.as_str(), rest) {
        ("origin", []) => return origin::serve(),
        ("open-loop", rest) => return open_loop::run(rest),
        ("handshakes", rest) => return handshakes::run(rest),
        ("tcp-load", rest) => return tcp_load::run(rest),
        ("floor", rest) => return floor::run(rest),
        _ => {}
    }
    let options = options(rest)?;
    let _ = std::fs::remove_dir_all(&options.dir);
    std::fs::create_dir_all(&options.dir)
        .with_context(|| format!("cannot make {}", options.dir.display()))?;
    machine::many_descriptors();
    match command.as_str() {
        "smoke" => report::smoke(&options),
        "peers" => report::peers(&options),
        "soak" => soak::run(&options),
        _ => bail!("{HELP}"),
    }
}

fn options(args: &[String]) -> anyhow::Result<Options> {
    let mut options = Options {
        weft: "weft".into(),
        peers: "target/peers".into(),
        dir: "target/bench".into(),
        repetitions: 3,
        seconds: 3,
        only: Only::default(),
        write: None,
        minutes: 30.0,
    };
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        let value = args.next().with_context(|| format!("{flag} wants a value\n{HELP}"))?;
        match flag.as_str() {
            "--weft" => options.weft = value.into(),
            "--peers" => options.peers = value.into(),
            "--dir" => options.dir = value.into(),
            "--repetitions" => options.repetitions = value.parse().context("--repetitions wants a number")?,
            "--seconds" => options.seconds = value.parse().context("--seconds wants a number")?,
            "--minutes" => options.minutes = value.parse().context("--minutes wants a number")?,
            "--write" => options.write = Some(value.into()),
            "--only" => options.only = Only::named(value)?,
            _ => bail!("{flag} is not known here\n{HELP}"),
        }
    }
    Ok(options)
}

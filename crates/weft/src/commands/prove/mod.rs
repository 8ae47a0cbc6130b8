//! `weft prove`: is every byte between members encrypted? Asked of the wire, and held against what the proxies say.

mod capture;
mod filter;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_proof::judge::Lists;
use weft_proof::scope::CONTROL;
use weft_proof::{Member, Report, Scope};

use self::capture::{Capture, Captured, Progress};
use super::questions::Connection;
use crate::output::{self, Format};

const QUESTION: &str = "/query/v1/connections";
/// Proxies remember connections that close for so much longer than the capture lasts.
const REMEMBER_LONGER: Duration = Duration::from_secs(60);
/// A handshake that is under way when the capture ends is over by then.
const SETTLE: Duration = Duration::from_millis(500);

/// Captures packets between members and certifies that they are encrypted.
///
/// It needs CAP_NET_RAW (root, or setcap), and it sees what passes the machine, or the network namespace, that it runs
/// in. Every byte that goes to a member's proxy or to the control plane's port for proxies, and every byte that goes
/// from one member to another's app around the proxies, must be in a TLS record; every connection must be in the list
/// of a proxy. Version, cipher and key exchange are read from the handshake, or are as the proxies report them when the
/// connection began before the capture.
///
/// Exit status 1 when there is one plaintext byte or one connection that no proxy lists, when packets were lost, and
/// when there was no traffic to see. No byte of what is captured is printed or kept.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  sudo weft prove --for 30s\n  sudo weft prove --for 5m --report proof.json -o json"
)]
pub struct ProveArgs {
    /// How long to capture, 1s to 1h.
    #[arg(long = "for", default_value = "10s", value_name = "DURATION", value_parser = period)]
    time: Duration,
    /// Write the whole report there too, as JSON, for auditors.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

fn period(text: &str) -> Result<Duration, String> {
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(3600));
    let period = super::duration(text)?;
    if (least..=most).contains(&period) { Ok(period) } else { Err("a capture lasts 1s to 1h".to_owned()) }
}

/// The control plane's answer.
#[derive(Deserialize)]
struct Known {
    mesh: String,
    control: std::net::SocketAddr,
    members: Vec<Member>,
    #[serde(flatten)]
    lists: Lists,
}

pub async fn run(args: ProveArgs) -> anyhow::Result<ExitCode> {
    // Before anybody is asked for anything: without the capability there is nothing to ask for.
    let capture = Capture::open()?;
    let client = args.connection.client()?;
    let remember = json!({"remember": format!("{}s", (args.time + REMEMBER_LONGER).as_secs())});
    let before: Known = serde_json::from_value(client.post(QUESTION, &remember).await?)
        .context("the control plane's answer is of another version")?;
    let scope = Scope::new(before.members.clone(), Some(before.control));
    let began = SystemTime::now();
    let captured = watch(capture, scope, args.time).await?;
    let ended = SystemTime::now();
    tokio::time::sleep(SETTLE).await;
    let after: Known = serde_json::from_value(client.get(QUESTION).await?)
        .context("the control plane's answer is of another version")?;

    let seconds = captured.time.as_secs_f64();
    let mut report = judged(captured, before.lists, after.lists);
    let new: Vec<&str> = after
        .members
        .iter()
        .filter(|member| !before.members.contains(member))
        .map(|member| member.name.as_str())
        .collect();
    if !new.is_empty() {
        // Their ports were not looked at.
        let names = new.join(", ");
        report.because.push(format!("members joined or changed during the capture: {names}; run it again"));
        report.ok = false;
    }
    let answer = report_json(&report, &before.mesh, (began, ended))?;
    if let Some(file) = &args.report {
        let text = serde_json::to_string_pretty(&answer)? + "\n";
        std::fs::write(file, text).with_context(|| format!("write the report to {}", file.display()))?;
    }
    output::print(args.output, &answer, || text::table(&report, seconds))?;
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Captures on a thread of its own, until the time is up or Ctrl-C.
async fn watch(capture: Capture, scope: Scope, time: Duration) -> anyhow::Result<Captured> {
    let progress = Arc::new(Progress::default());
    let seen = Arc::clone(&progress);
    let mut capturing = tokio::task::spawn_blocking(move || capture::run(capture, scope, time, &seen));
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::new(time.as_millis().try_into().unwrap_or(u64::MAX));
    bar.set_style(ProgressStyle::with_template("{spinner} capturing [{bar:24}] {msg}")?);
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let mut began = None;
    let stopped = super::told_to_stop();
    tokio::pin!(stopped);
    let mut told = false;
    let captured = loop {
        tokio::select! {
            captured = &mut capturing => break captured,
            () = &mut stopped, if !told => {
                told = true;
                progress.stop.store(true, Ordering::Relaxed);
            }
            _ = ticks.tick() => {
                if progress.began.load(Ordering::Relaxed) {
                    let began: &mut tokio::time::Instant = began.get_or_insert_with(tokio::time::Instant::now);
                    bar.set_position(began.elapsed().as_millis().try_into().unwrap_or(u64::MAX));
                }
                let load = |figure: &std::sync::atomic::AtomicU64| figure.load(Ordering::Relaxed);
                bar.set_message(format!("{} connections, {} bytes", load(&progress.flows), load(&progress.bytes)));
            }
        }
    };
    bar.finish_and_clear();
    captured.context("the capture was given up")?
}

fn judged(captured: Captured, before: Lists, after: Lists) -> Report {
    let mut lists = after;
    // A proxy that has left meanwhile speaks for what it had.
    lists.proxies.extend(before.proxies.into_iter().map(|mut list| {
        list.missed = 0;
        list
    }));
    let (scope, flows, untracked_bytes) = captured.table.finish();
    let capture =
        weft_proof::Capture { packets: captured.packets, dropped_packets: captured.dropped, untracked_bytes };
    weft_proof::judge(&scope, &flows, &lists, capture)
}

fn report_json(report: &Report, mesh: &str, (from, to): (SystemTime, SystemTime)) -> anyhow::Result<Value> {
    let rfc3339 = |at: SystemTime| jiff::Timestamp::try_from(at).map(|at| at.to_string()).unwrap_or_default();
    let mut answer = serde_json::to_value(report)?;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    answer["mesh"] = mesh.into();
    answer["weft"] = env!("CARGO_PKG_VERSION").into();
    answer["host"] = host.into();
    answer["from"] = rfc3339(from).into();
    answer["to"] = rfc3339(to).into();
    answer["standards"] = standards(report);
    Ok(answer)
}

/// The lines that such a capture is evidence for, and whether this one is.
fn standards(report: &Report) -> Value {
    let both_known = report.pairs.iter().all(|pair| pair.to == CONTROL || pair.identities.len() >= 2);
    let encrypted =
        "every captured byte between members is in a TLS record; versions, ciphers and groups are listed";
    let known = "both ends of every connection between members are known by certificates; pairs name them";
    let lines = [
        (
            "PCI DSS v4.0.1",
            "4.2.1",
            "strong cryptography in transit, no fallback to insecure versions",
            encrypted,
            true,
        ),
        (
            "NIST SP 800-204",
            "MS-SS-4",
            "services talk after mutual authentication, and encrypted",
            known,
            both_known,
        ),
        ("NIST SP 800-204A", "SM-DR16", "services authenticate each other", known, both_known),
        ("NIST SP 800-207A", "ID-SEG-REC-1", "encrypted connections everywhere", encrypted, true),
        (
            "NIST SP 800-207A",
            "ID-SEG-REC-2",
            "services are authenticated on each connection",
            known,
            both_known,
        ),
    ];
    let rows = lines.map(|(standard, line, asks, evidence, holds)| {
        json!({"standard": standard, "line": line, "asks": asks, "evidence": evidence, "shown": report.ok && holds})
    });
    Value::Array(rows.to_vec())
}

//! `cargo xtask test`: the real peers, one optimised build, every test, and what a request costs.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let mut offline = false;
    let mut filter: Vec<&str> = Vec::new();
    for arg in args {
        match arg.as_str() {
            "--offline-peers" => offline = true,
            other if !other.starts_with('-') => filter.push(other),
            other => {
                bail!("cargo xtask test does not know {other}; it knows --offline-peers and a test's name")
            }
        }
    }
    let ci = std::env::var("CI").is_ok_and(|v| v == "true");
    if offline && ci {
        bail!("--offline-peers leaves tests out, and with CI=true nothing may be left out");
    }
    let started = Instant::now();
    if offline {
        println!(
            "LEFT OUT: every test against a real peer (kubectl, Envoy, grpcio, tshark) and the count of instructions, because of --offline-peers"
        );
    } else {
        crate::peers::install(false)?;
    }
    crate::tidy::run()?;
    crate::run("cargo", &["fmt", "--all", "--check"])?;
    let counts = !offline && filter.is_empty();
    if counts {
        crate::bench::build("fast", &["weft", "weft-instructions"])?;
    }
    let weft = if counts { crate::target().join("fast/weft") } else { crate::build()? };
    crate::docs::check(&weft)?;
    let built = started.elapsed();
    // Before the suite, whose build may make another binary of other features; its verdict comes after the tests'.
    let counted = if counts { crate::bench::instructions("fast", false) } else { Ok(()) };
    suite(&filter, offline, false)?;
    counted?;
    if offline {
        println!(
            "LEFT OUT: every test against a real peer (kubectl, Envoy, grpcio, tshark) and the count of instructions, because of --offline-peers"
        );
    }
    println!(
        "test: all passed; install and build {} s, tests {} s",
        built.as_secs(),
        (started.elapsed() - built).as_secs()
    );
    Ok(())
}

/// The fault tests in their long form.
pub fn long_faults() -> anyhow::Result<()> {
    crate::peers::install(false)?;
    crate::build()?;
    suite(&["faults::"], false, true)
}

fn suite(filter: &[&str], offline: bool, soak: bool) -> anyhow::Result<()> {
    let mut command = Command::new("cargo");
    command.args(["test", "--profile", "fast", "--workspace", "--no-fail-fast"]);
    command.env("WEFT_BIN", crate::target().join("fast/weft")).env("WEFT_PEERS", crate::peers::folder());
    if offline {
        command.env("WEFT_OFFLINE_PEERS", "1");
    }
    if soak {
        command.env("WEFT_SOAK", "1");
    }
    command.arg("--").args(filter);
    let started = Instant::now();
    let (outcomes, status) = watched(command.current_dir(crate::root()))?;
    print!("{}", table(&outcomes, started.elapsed().as_secs()));
    if !status.success() {
        bail!("tests failed: {status}");
    }
    Ok(())
}

/// What one test binary said at its end.
struct Outcome {
    name: String,
    passed: u32,
    failed: u32,
    left_out: u32,
    seconds: f64,
}

/// Runs cargo, shows what it prints, and keeps each binary's result. Both of its outputs share one pipe: cargo names
/// the binary on the one, and the binary's result comes on the other.
fn watched(command: &mut Command) -> anyhow::Result<(Vec<Outcome>, std::process::ExitStatus)> {
    let (reader, writer) = std::io::pipe().context("no pipe for cargo's output")?;
    let mut child = command
        .stdout(writer.try_clone().context("no pipe for cargo's output")?)
        .stderr(writer)
        .spawn()
        .context("cannot start cargo")?;
    // The command still holds its ends of the pipe, which would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut outcomes = Vec::new();
    let mut name = String::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("cargo's output broke off")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        match named(&line) {
            Some(binary) => name = binary,
            None => outcomes.extend(outcome(&name, &line)),
        }
    }
    Ok((outcomes, child.wait().context("cargo was lost")?))
}

/// `Running tests/e2e/main.rs (…/deps/e2e-0123)` → `e2e`; `Doc-tests weft_model` → `weft_model (docs)`.
fn named(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(package) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{package} (docs)"));
    }
    let path = line.strip_prefix("Running ")?.rsplit_once('(')?.1.trim_end_matches(')');
    let file = path.rsplit('/').next()?;
    Some(file.rsplit_once('-').map_or(file, |(name, _)| name).to_owned())
}

/// `test result: ok. 27 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 4.02s`
fn outcome(name: &str, line: &str) -> Option<Outcome> {
    let result = line.strip_prefix("test result: ")?;
    let number = |word: &str| -> Option<u32> {
        let part = result.split([';', '.']).find(|part| part.trim_end().ends_with(word))?;
        part.split_whitespace().next()?.parse().ok()
    };
    let seconds = result.rsplit_once("finished in ")?.1.trim_end_matches('s').parse().ok()?;
    Some(Outcome {
        name: name.to_owned(),
        passed: number("passed")?,
        failed: number("failed")?,
        left_out: number("ignored")?,
        seconds,
    })
}

/// The suites that ran something, the slowest last, and their sum.
fn table(outcomes: &[Outcome], total_seconds: u64) -> String {
    let mut ran: Vec<&Outcome> = outcomes.iter().filter(|o| o.passed + o.failed + o.left_out > 0).collect();
    ran.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let mut text =
        format!("\n{:<28} {:>6} {:>6} {:>8} {:>8}\n", "SUITE", "TESTS", "FAILED", "IGNORED", "SECONDS");
    for o in &ran {
        text.push_str(&format!(
            "{:<28} {:>6} {:>6} {:>8} {:>8.1}\n",
            o.name,
            o.passed + o.failed,
            o.failed,
            o.left_out,
            o.seconds
        ));
    }
    let sum = |count: fn(&Outcome) -> u32| ran.iter().map(|o| count(o)).sum::<u32>();
    text.push_str(&format!(
        "{:<28} {:>6} {:>6} {:>8} {:>8} (with the tests' own build)\n",
        "all",
        sum(|o| o.passed + o.failed),
        sum(|o| o.failed),
        sum(|o| o.left_out),
        total_seconds
    ));
    text
}

#[cfg(test)]
mod reading {
    use super::*;

    #[test]
    fn suites_are_read_from_what_cargo_prints() {
        let printed = "     Running unittests src/lib.rs (target/fast/deps/weft_history-0a1b)\n\
            test result: ok. 27 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 4.02s\n\
            \x20    Running tests/e2e/main.rs (target/fast/deps/e2e-ff00)\n\
            test result: FAILED. 8 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 31.40s\n\
            \x20  Doc-tests weft_model\n\
            test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        let mut name = String::new();
        let mut outcomes = Vec::new();
        for line in printed.lines() {
            match named(line) {
                Some(binary) => name = binary,
                None => outcomes.extend(outcome(&name, line)),
            }
        }
        let shown = table(&outcomes, 40);
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[2], ["weft_history", "27", "0", "1", "4.0"], "{shown}");
        assert_eq!(lines[3], ["e2e", "10", "2", "0", "31.4"], "{shown}");
        assert_eq!(lines[4][..5], ["all", "37", "2", "1", "40"], "{shown}");
    }
}

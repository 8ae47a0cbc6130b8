//! `cargo xtask test`: the real peers, one optimised build, every test. `soak`: the stated durations.

use std::process::Command;
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
            "LEFT OUT: every test against a real peer (kubectl, Envoy, grpcio, tshark), because of --offline-peers"
        );
    } else {
        crate::peers::install(false)?;
    }
    crate::tidy::run()?;
    crate::run("cargo", &["fmt", "--all", "--check"])?;
    crate::build()?;
    let built = started.elapsed();
    suite(&filter, offline, false)?;
    if offline {
        println!(
            "LEFT OUT: every test against a real peer (kubectl, Envoy, grpcio, tshark), because of --offline-peers"
        );
    }
    println!(
        "test: all passed; install and build {} s, tests {} s",
        built.as_secs(),
        (started.elapsed() - built).as_secs()
    );
    Ok(())
}

pub fn soak() -> anyhow::Result<()> {
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
    let status = command.current_dir(crate::root()).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("tests failed: {status}");
    }
    Ok(())
}

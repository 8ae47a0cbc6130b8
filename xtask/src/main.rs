//! The project's own chores: `cargo xtask check | demo | test | soak | bench | docs`.
//!
//! Plain `std::process`: nothing to install, and each step is a command that a person could type.

mod bench;
mod docs;
mod peers;
mod tests;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, bail};

const HELP: &str = "\
cargo xtask COMMAND

  check                       format, clippy, arrows between crates, bans, licences, unit tests, reference pages
  demo [ARGS…]                build, then `weft demo ARGS…`
  test [--offline-peers]      install the real peers, then every test; what CI runs
  soak                        the long form of the fault tests
  bench smoke [--as-built]    CPU per request, memory and start against Envoy, as ratios of one run
  bench peers [--only A,B]    every scenario beside Envoy, HAProxy and nginx; writes docs/benchmarks.md
  docs [--check]              the reference pages, made from the code
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let outcome = match args.first().map(String::as_str) {
        Some("check") => check(),
        Some("demo") => demo(rest),
        Some("test") => tests::run(rest),
        Some("soak") => tests::soak(),
        Some("bench") => bench::run(rest),
        Some("docs") => docs::run(rest),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Three minutes warm: what a change must pass before it is a commit.
fn check() -> anyhow::Result<()> {
    let started = Instant::now();
    run("cargo", &["fmt", "--all", "--check"])?;
    tidy::run()?;
    run("cargo", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?;
    run("cargo", &["test", "--workspace", "--lib", "--bins", "--quiet"])?;
    run("cargo", &["build", "--package", "weft", "--quiet"])?;
    docs::check(&target().join("debug/weft"))?;
    println!("check: clean in {} s", started.elapsed().as_secs());
    Ok(())
}

/// Everything that a fresh machine needs is a C compiler (for the TLS library) and the build.
fn demo(args: &[String]) -> anyhow::Result<()> {
    if Command::new("cc").arg("--version").output().is_err() {
        bail!("no C compiler: the TLS library needs one (Debian: apt-get install gcc libc6-dev)");
    }
    let weft = build()?;
    let status = Command::new(&weft).arg("demo").args(args).status().context("cannot start weft")?;
    if !status.success() {
        bail!("weft demo: {status}");
    }
    Ok(())
}

/// Builds the binary in the one profile that tests and the demo share.
pub fn build() -> anyhow::Result<PathBuf> {
    run("cargo", &["build", "--profile", "fast", "--package", "weft"])?;
    Ok(target().join("fast/weft"))
}

/// The folder that cargo builds into.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

pub fn run(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(program)
        .args(args)
        .current_dir(root())
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!("`{program} {}` failed: {status}", args.join(" "));
    }
    Ok(())
}

/// What a command prints on stdout; an error when it fails.
pub fn output(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let out = Command::new(program)
        .args(args)
        .current_dir(root())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if !out.status.success() {
        bail!("`{program} {}` failed: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

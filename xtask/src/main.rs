//! The project's own chores: `cargo xtask check | demo | test | soak | bench | docs`.
//!
//! Plain `std::process`: nothing to install, and each step is a command that a person could type.

mod bench;
mod corpora;
mod docs;
mod fuzz;
mod peers;
mod soak;
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
  soak [--minutes N]          a mesh under load and churn for half an hour: nothing lost, no memory gained
  soak faults                 the long form of the fault tests
  bench smoke [--as-built]    CPU per request, memory and start against Envoy, as ratios of one run
  bench peers [--only A,B]    every scenario beside Envoy, HAProxy and nginx; writes docs/benchmarks.md
  bench instructions          counts what a request costs against the baseline; --update moves the baseline
  corpora [NAME…]             bad input of every kind, to Weft and beside it to Envoy and HAProxy, as a table
  websocket                   the Autobahn suite, directly and through proxies; needs Python 2.7, so no part of `test`
  fuzz [--seconds N] [--jobs N] [TARGET]
                              each parser under libFuzzer for N seconds of CPU (60), N of them at a time (1)
  docs [--check]              the reference pages, made from the code
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let outcome = match args.first().map(String::as_str) {
        Some("check") => no_words("check", rest).and_then(|()| check()),
        Some("demo") => demo(rest),
        Some("test") => tests::run(rest),
        Some("soak") => soak::run(rest),
        Some("bench") => bench::run(rest),
        Some("corpora") => corpora::run(rest),
        Some("websocket") => no_words("websocket", rest).and_then(|()| websocket()),
        Some("fuzz") => fuzz::run(rest),
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

/// For a command that takes none.
fn no_words(command: &str, args: &[String]) -> anyhow::Result<()> {
    args.first().map_or(Ok(()), |arg| bail!("cargo xtask {command} knows no {arg}"))
}

/// The value of a flag, above 0.
fn whole_number(flag: &str, value: Option<&String>) -> anyhow::Result<u64> {
    let Some(text) = value else { bail!("{flag} wants a whole number above 0") };
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => bail!("{flag} {text}: write a whole number above 0"),
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

/// The last release of the suite is for Python 2, which no registry has: whoever has it can run this.
fn websocket() -> anyhow::Result<()> {
    peers::install(false)?;
    peers::autobahn()?;
    build()?;
    let test =
        ["test", "--profile", "fast", "--package", "weft", "--features", "autobahn", "--test", "interop"];
    let status = Command::new("cargo")
        .args(test)
        .args(["--", "--nocapture", "websocket::"])
        .env("WEFT_BIN", target().join("fast/weft"))
        .env("WEFT_PEERS", peers::folder())
        .current_dir(root())
        .status()
        .context("cannot start cargo")?;
    if status.success() { Ok(()) } else { bail!("the Autobahn suite: {status}") }
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

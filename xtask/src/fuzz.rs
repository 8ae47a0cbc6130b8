//! `cargo xtask fuzz [--seconds N] [--jobs N] [TARGET…]`: each target of `fuzz/` for N seconds of CPU, guided by
//! coverage; so many of them at a time.
//!
//! libFuzzer needs counters in the code that it drives. The compiler's pass for them is there in stable Rust; a wrapper
//! around rustc switches it on for the workspace's own crates only, with overflow checks and debug assertions, so the
//! dependencies are those of the `fast` profile. What was learned stays in `target/fuzz/corpus`, a find goes to
//! `fuzz/found/TARGET`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, bail};

const WRAPPER: &str = "#!/bin/sh
exec \"$@\" -Cdebug-assertions=on -Coverflow-checks=on -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares
";
const SECONDS: u64 = 60;
/// Of one input, for those that never come back; the fuzzer itself holds each to 5 s of CPU time.
const INPUT_SECONDS_MAX: u32 = 300;
const MEMORY_MIB_MAX: u32 = 512;

pub fn run(args: &[String]) -> anyhow::Result<()> {
    // What is wrong with the line is said before minutes of building.
    let line = Line::read(args, targets()?)?;
    let program = build()?;
    println!("{:<20} {:>9} {:>12} {:>9} {:>7}  FIND", "TARGET", "CPU S", "INPUTS", "COVERAGE", "CORPUS");
    let targets = Mutex::new(line.targets.into_iter());
    let job = || {
        let mut finds = Vec::new();
        while let Some((name, bytes_max)) = targets.lock().ok().and_then(|mut targets| targets.next()) {
            finds.extend(one(&program, &name, &bytes_max, line.seconds)?);
        }
        anyhow::Ok(finds)
    };
    let finds = std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..line.jobs).map(|_| scope.spawn(job)).collect();
        jobs.into_iter()
            .map(|job| job.join().unwrap_or_else(|_| bail!("a job panicked")))
            .collect::<Result<Vec<_>, _>>()
    })?
    .concat();
    if !finds.is_empty() {
        bail!("finds, each to be mended and kept: {}", finds.join(", "));
    }
    Ok(())
}

#[derive(Debug)]
struct Line {
    seconds: u64,
    jobs: u64,
    targets: Vec<(String, String)>,
}

impl Line {
    fn read(args: &[String], mut targets: Vec<(String, String)>) -> anyhow::Result<Line> {
        let (mut seconds, mut jobs, mut wanted) = (SECONDS, 1, Vec::new());
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--seconds" => seconds = crate::whole_number("--seconds", args.next())?,
                "--jobs" => jobs = crate::whole_number("--jobs", args.next())?,
                other if !other.starts_with('-') => wanted.push(other.to_owned()),
                other => {
                    bail!(
                        "cargo xtask fuzz does not know {other}; it knows --seconds N, --jobs N and a target's name"
                    )
                }
            }
        }
        if let Some(unknown) = wanted.iter().find(|name| !targets.iter().any(|(target, _)| target == *name)) {
            let names: Vec<&str> = targets.iter().map(|(name, _)| name.as_str()).collect();
            bail!("no target {unknown}; there are {}", names.join(", "));
        }
        targets.retain(|(name, _)| wanted.is_empty() || wanted.contains(name));
        Ok(Line { seconds, jobs, targets })
    }
}

fn folder() -> PathBuf {
    crate::target().join("fuzz")
}

fn build() -> anyhow::Result<PathBuf> {
    fs::create_dir_all(folder())?;
    let wrapper = folder().join("rustc.sh");
    fs::write(&wrapper, WRAPPER)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    let status = Command::new("cargo")
        .args([
            "build",
            "--profile",
            "fast",
            "--package",
            "weft-fuzz",
            "--features",
            "engine",
            "--bin",
            "weft-fuzz",
        ])
        .env("RUSTC_WORKSPACE_WRAPPER", &wrapper)
        .current_dir(crate::root())
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the fuzzer does not build: {status}");
    }
    let program = folder().join("weft-fuzz");
    // Another build of the same name without counters must not take its place.
    fs::copy(crate::target().join("fast/weft-fuzz"), &program)?;
    Ok(program)
}

/// Names and longest inputs, from the table in the source.
fn targets() -> anyhow::Result<Vec<(String, String)>> {
    let text = fs::read_to_string(crate::root().join("fuzz/src/lib.rs"))?;
    let field = |part: &str, name: &str| -> Option<String> {
        let line = part.lines().find_map(|line| line.trim().strip_prefix(name))?;
        Some(line.trim_matches(|sign: char| "\": ,".contains(sign)).to_owned())
    };
    text.split("Target {")
        .filter(|part| part.contains("bytes_max: ") && part.contains("name: \""))
        .map(|part| {
            field(part, "name").zip(field(part, "bytes_max")).context("an odd row in fuzz/src/lib.rs")
        })
        .collect()
}

/// Runs one target; the file of its find, if there is one.
fn one(program: &Path, name: &str, bytes_max: &str, seconds: u64) -> anyhow::Result<Option<String>> {
    let (corpus, seeds) = (folder().join("corpus").join(name), folder().join("seeds").join(name));
    let found = crate::root().join("fuzz/found").join(name);
    for folder in [&corpus, &seeds, &found] {
        fs::create_dir_all(folder)?;
    }
    let before = fs::read_dir(&found)?.count();
    let log = folder().join(format!("{name}.log"));
    let mut child = Command::new(program)
        .arg(format!("-max_len={bytes_max}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-report_slow_units={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args([&corpus, &seeds, &found])
        .env("WEFT_FUZZ_TARGET", name)
        .env("WEFT_FUZZ_SEEDS", &seeds)
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log)?)
        .spawn()
        .context("cannot start the fuzzer")?;
    let cpu = supervise(&mut child, seconds)?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let last =
        text.lines().rfind(|line| line.starts_with('#') && line.contains(" cov: ")).unwrap_or_default();
    let word = |key: &str| {
        let mut words = last.split_whitespace().skip_while(|word| *word != key);
        words.nth(1).unwrap_or("-").to_owned()
    };
    let inputs = last.split_whitespace().next().unwrap_or("-").trim_start_matches('#');
    let finds = fs::read_dir(&found)?.count();
    let find = (finds > before).then(|| format!("fuzz/found/{name} ({})", log.display()));
    let corpus = word("corp:");
    let corpus = corpus.split('/').next().unwrap_or("-");
    println!(
        "{name:<20} {cpu:>9.0} {inputs:>12} {:>9} {corpus:>7}  {}",
        word("cov:"),
        find.as_deref().unwrap_or("-")
    );
    std::io::stdout().flush()?;
    if find.is_none() {
        // Empty when nothing was ever found.
        let _ = fs::remove_dir(&found);
    }
    Ok(find)
}

/// Ends the fuzzer when it has had its CPU time, which on a busy machine is not the time that went by.
#[expect(clippy::disallowed_methods, reason = "nothing else happens in this program meanwhile")]
fn supervise(child: &mut Child, seconds: u64) -> anyhow::Result<f64> {
    let mut cpu = 0.0;
    while child.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_millis(200));
        cpu = cpu_seconds(child.id()).unwrap_or(cpu);
        if cpu >= seconds as f64 {
            crate::run("kill", &["-INT", &child.id().to_string()])?;
            child.wait()?;
        }
    }
    Ok(cpu)
}

/// User and system time of a living process.
fn cpu_seconds(pid: u32) -> Option<f64> {
    const TICKS_A_SECOND: f64 = 100.0;
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(f64::from(ticks()? + ticks()?) / TICKS_A_SECOND)
}

#[cfg(test)]
mod line {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_line_is_said_by_name() {
        let targets = targets().unwrap_or_default();
        assert!(targets.len() >= 18, "the table in the source is read: {targets:?}");
        let read = |args: &[&str]| {
            Line::read(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>(), targets.clone())
        };
        for (args, word) in [
            (&["nosuch"][..], "no target nosuch; there are http1-request"),
            (&["--seconds"], "--seconds wants a whole number"),
            (&["--seconds", "x"], "--seconds x"),
            (&["--seconds", "0"], "--seconds 0"),
            (&["--second", "1"], "--second"),
            (&["--jobs", "0"], "--jobs 0"),
        ] {
            let said = read(args).map(|_| String::new()).unwrap_or_else(|error| format!("{error:#}"));
            assert!(said.contains(word), "{args:?}: {said}");
        }
        assert!(read(&["link", "--seconds", "5", "--jobs", "2"]).is_ok_and(|line| (
            line.seconds,
            line.jobs,
            line.targets.len()
        ) == (5, 2, 1)));
    }
}

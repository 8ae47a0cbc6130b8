//! `cargo xtask bench`: builds the binary and the benchmark, installs what they need, and starts them.

use std::path::{Path, PathBuf};

use anyhow::bail;

const USAGE: &str =
    "cargo xtask bench smoke | peers [--only h1,hop,…] [--repetitions N] [--seconds S] [--as-built]
                | instructions [--update] [--release]";

pub fn run(args: &[String]) -> anyhow::Result<()> {
    match args.split_first() {
        Some((command, rest)) if command == "smoke" || command == "peers" => beside_peers(command, rest),
        Some((command, rest)) if command == "instructions" => {
            let known = |arg: &String| arg == "--update" || arg == "--release";
            if !rest.iter().all(known) {
                bail!(USAGE);
            }
            let has = |flag: &str| rest.iter().any(|arg| arg == flag);
            crate::peers::install_for_counting()?;
            let profile = if has("--release") { "release" } else { "fast" };
            build(profile, &["weft", "weft-instructions"])?;
            instructions(profile, has("--update"))
        }
        _ => bail!(USAGE),
    }
}

fn beside_peers(command: &str, rest: &[String]) -> anyhow::Result<()> {
    crate::peers::install(true)?;
    let mut line = bench(command, rest)?;
    if command == "smoke" {
        line.extend(["--repetitions".to_owned(), "5".to_owned()]);
    } else if !rest.iter().any(|arg| arg == "--only") {
        // A part of the table does not replace the whole one.
        line.extend(["--write".to_owned(), text(&crate::root().join("docs/benchmarks.md"))]);
    }
    line.extend(rest.iter().filter(|arg| *arg != "--as-built").cloned());
    start(&line)
}

/// The start of `weft-bench`'s command line; builds what it names, unless told that it is there.
pub fn bench(command: &str, rest: &[String]) -> anyhow::Result<Vec<String>> {
    if !rest.iter().any(|arg| arg == "--as-built") {
        build("release", &["weft", "weft-bench"])?;
    }
    let mut line = vec![command.to_owned()];
    line.extend(["--weft".to_owned(), text(&built("release", "weft")), "--peers".to_owned()]);
    line.extend([
        text(&crate::peers::folder()),
        "--dir".to_owned(),
        text(&crate::target().join("bench").join(command)),
    ]);
    Ok(line)
}

pub fn start(line: &[String]) -> anyhow::Result<()> {
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    crate::run(&text(&built("release", "weft-bench")), &line)
}

/// Counts with what is built in `profile`, and holds it against the committed figures.
///
/// CI counts the profile that its tests run: another build would cost it ten minutes. It has no LTO, and the assertions
/// of `weft-proxy`, so its counts are higher than the release's; it is the change that is held.
pub fn instructions(profile: &str, update: bool) -> anyhow::Result<()> {
    let baseline = crate::root().join("bench/instructions/baseline.json");
    let (weft, dir) = (text(&built(profile, "weft")), text(&crate::target().join("bench/instructions")));
    let baseline = text(&baseline);
    let mut line = vec!["--weft", &weft, "--baseline", &baseline, "--dir", &dir, "--profile", profile];
    if update {
        line.push("--update");
    }
    crate::run(&text(&built(profile, "weft-instructions")), &line)
}

pub fn build(profile: &str, packages: &[&str]) -> anyhow::Result<()> {
    let mut line = vec!["build", "--profile", profile];
    line.extend(packages.iter().flat_map(|package| ["--package", package]));
    crate::run("cargo", &line)
}

fn built(profile: &str, program: &str) -> PathBuf {
    crate::target().join(profile).join(program)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

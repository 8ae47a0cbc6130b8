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

/// What the benchmark would refuse is refused before it is built.
fn known(rest: &[String], scenarios: &[String]) -> anyhow::Result<()> {
    let mut rest = rest.iter();
    while let Some(flag) = rest.next() {
        match flag.as_str() {
            "--as-built" => {}
            "--repetitions" | "--seconds" => drop(crate::whole_number(flag, rest.next())?),
            "--only" => {
                let Some(names) = rest.next() else { bail!("--only wants names: {}", scenarios.join(",")) };
                if let Some(odd) = names.split(',').find(|name| !scenarios.iter().any(|one| one == name)) {
                    bail!("there is no scenario {odd}; there are {}", scenarios.join(", "));
                }
            }
            other => bail!("cargo xtask bench does not know {other}\n{USAGE}"),
        }
    }
    Ok(())
}

/// Their names, from the table in the source.
fn scenarios() -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(crate::root().join("bench/peers/src/scenario.rs"))?;
    let rows = text.lines().filter(|line| line.trim_start().starts_with("About {"));
    let names = rows.filter_map(|row| Some(row.split_once("name: \"")?.1.split_once('"')?.0.to_owned()));
    Ok(names.chain(["scale".to_owned()]).collect())
}

fn beside_peers(command: &str, rest: &[String]) -> anyhow::Result<()> {
    known(rest, &scenarios()?)?;
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

#[cfg(test)]
mod line {
    #[test]
    fn what_is_wrong_with_the_line_is_said_by_name() {
        let scenarios = super::scenarios().unwrap_or_default();
        let says = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            super::known(&args, &scenarios).map_or_else(|error| format!("{error:#}"), |()| String::new())
        };
        assert_eq!(says(&["--only", "h1,hop,scale", "--seconds", "2", "--as-built"]), "", "{scenarios:?}");
        for (args, word) in [
            (&["--only", "h1,nosuch"][..], "no scenario nosuch; there are h1, "),
            (&["--only"], "--only wants names: h1,"),
            (&["--seconds", "x"], "--seconds x"),
            (&["--repetitions", "0"], "--repetitions 0"),
            (&["--fast"], "--fast"),
        ] {
            assert!(says(args).contains(word), "{args:?}: {}", says(args));
        }
    }
}

//! `cargo xtask bench`: builds the shipped binary and the benchmark, installs the peers, and starts it.

use anyhow::bail;

const USAGE: &str =
    "cargo xtask bench smoke | peers [--only h1,hop,…] [--repetitions N] [--seconds S] [--as-built]";

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let Some((command, rest)) = args.split_first() else { bail!(USAGE) };
    if !matches!(command.as_str(), "smoke" | "peers") {
        bail!(USAGE);
    }
    crate::peers::install(true)?;
    // As built: the release binaries that are there, without building them again.
    if !rest.iter().any(|arg| arg == "--as-built") {
        crate::run("cargo", &["build", "--release", "--package", "weft", "--package", "weft-bench"])?;
    }
    let release = crate::target().join("release");
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let mut line = vec![command.clone()];
    line.extend(["--weft".to_owned(), text(release.join("weft")), "--peers".to_owned()]);
    line.extend([text(crate::peers::folder()), "--dir".to_owned(), text(crate::target().join("bench"))]);
    if command == "smoke" {
        line.extend(["--repetitions".to_owned(), "5".to_owned()]);
    } else if !rest.iter().any(|arg| arg == "--only") {
        // A part of the table does not replace the whole one.
        line.extend(["--write".to_owned(), text(crate::root().join("docs/benchmarks.md"))]);
    }
    line.extend(rest.iter().filter(|arg| *arg != "--as-built").cloned());
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    crate::run(&release.join("weft-bench").to_string_lossy(), &line)
}

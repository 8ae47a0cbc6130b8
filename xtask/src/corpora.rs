//! `cargo xtask corpora`: what bad input does to us, and the same bytes, origins and verdicts with Envoy and HAProxy in
//! our place. `cargo xtask test` runs the same tests; here all mutants go through everybody, and the tables are shown.

use std::process::Command;

use anyhow::{Context, bail};

/// Package, test binary, a filter of tests, and what they are about.
const LINES: &[(&str, &str, &[&str], &str)] = &[
    (
        "weft-proxy",
        "corpus",
        &["requests::", "models::"],
        "requests: the corpus (S-H1-01), its cuts and its mutants (S-H1-02)",
    ),
    ("weft-proxy", "corpus", &["responses::"], "answers of bad origins (S-H1-04)"),
    ("weft-proxy", "truncation", &[], "answers cut short, early answers (F-PX-13, F-PX-14)"),
    ("weft-proxy", "corpus", &["downgrade::"], "HTTP/2 requests that would become others (S-H2-02)"),
    ("weft-proxy", "corpus", &["h2spec::"], "h2spec (S-H2-01)"),
    ("weft-proxy", "corpus", &["floods::"], "floods of HTTP/2 frames (S-H2-03)"),
    ("weft-wire", "http1", &[], "the HTTP/1 codec alone, against httparse and a strict reader"),
    ("weft-fuzz", "replay", &[], "every parser: seeds, finds and mutations of them"),
];
/// Through each of the three proxies.
const MUTANTS: &str = "20000";

pub fn run(args: &[String]) -> anyhow::Result<()> {
    if let Some(arg) = args.first() {
        bail!("cargo xtask corpora knows no {arg}");
    }
    crate::peers::install(false)?;
    let mut failed = Vec::new();
    for (package, binary, filter, about) in LINES {
        println!("\n== {about}");
        let status = Command::new("cargo")
            .args(["test", "--profile", "fast", "--quiet", "--package", package, "--test", binary, "--"])
            .args(["--nocapture", "--test-threads", "1"])
            .args(*filter)
            .env("WEFT_PEERS", crate::peers::folder())
            .env("WEFT_MUTANTS", MUTANTS)
            .current_dir(crate::root())
            .status()
            .context("cannot start cargo")?;
        if !status.success() {
            failed.push(*about);
        }
    }
    if failed.is_empty() {
        println!("\ncorpora: all hold");
        return Ok(());
    }
    bail!("these do not hold: {}", failed.join("; "));
}

//! `cargo xtask soak`: builds the shipped binary and has `weft-bench` keep a mesh under load and churn.

use anyhow::bail;

const USAGE: &str = "cargo xtask soak [--minutes N] [--as-built] | faults";

pub fn run(args: &[String]) -> anyhow::Result<()> {
    if args == ["faults"] {
        return crate::tests::long_faults();
    }
    let rest: Vec<String> = args.iter().filter(|arg| *arg != "--as-built").cloned().collect();
    if !matches!(rest.as_slice(), [] | [_, _]) || rest.first().is_some_and(|flag| flag != "--minutes") {
        bail!(USAGE);
    }
    crate::peers::install(true)?;
    let mut line = crate::bench::bench("soak", args)?;
    line.extend([
        "--write".to_owned(),
        crate::root().join("docs/benchmarks.md").to_string_lossy().into_owned(),
    ]);
    line.extend(rest);
    crate::bench::start(&line)
}

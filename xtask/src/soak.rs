//! `cargo xtask soak`: builds the shipped binary and has `weft-bench` keep a mesh under load and churn.

use anyhow::bail;

const USAGE: &str = "cargo xtask soak [--minutes N] [--as-built] | faults";

pub fn run(args: &[String]) -> anyhow::Result<()> {
    if args == ["faults"] {
        return crate::tests::long_faults();
    }
    let rest: Vec<String> = args.iter().filter(|arg| *arg != "--as-built").cloned().collect();
    match rest.as_slice() {
        [] => {}
        [flag, minutes] if flag == "--minutes" => {
            if !minutes.parse().is_ok_and(|minutes: f64| minutes > 0.0 && minutes.is_finite()) {
                bail!("--minutes {minutes}: write a number above 0");
            }
        }
        _ => bail!(USAGE),
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

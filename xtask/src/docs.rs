//! `cargo xtask docs`: the reference pages, made by the binary from its own tables.

use std::path::Path;

use anyhow::{Context, bail};

const PAGES: &[(&str, &str)] = &[
    ("cli", "docs/reference/cli.md"),
    ("xds", "docs/reference/xds.md"),
    ("findings", "docs/reference/findings.md"),
];

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let checks = match args {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("cargo xtask docs knows --check, and no {}", args.join(" ")),
    };
    let weft = crate::build()?;
    if checks {
        return check(&weft);
    }
    for (page, file) in PAGES {
        let made = made(&weft, page)?;
        std::fs::write(crate::root().join(file), made).with_context(|| format!("cannot write {file}"))?;
        println!("docs: {file}");
    }
    Ok(())
}

/// Whether the pages say what this binary says.
pub fn check(weft: &Path) -> anyhow::Result<()> {
    for (page, file) in PAGES {
        if std::fs::read_to_string(crate::root().join(file)).unwrap_or_default() != made(weft, page)? {
            bail!("{file} is not what the code says; run cargo xtask docs");
        }
    }
    Ok(())
}

fn made(weft: &Path, page: &str) -> anyhow::Result<String> {
    crate::output(&weft.to_string_lossy(), &["reference", page])
}

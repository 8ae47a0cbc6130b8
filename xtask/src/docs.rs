//! `cargo xtask docs`: the reference pages, made by the binary from its own tables.

use anyhow::{Context, bail};

const PAGES: &[(&str, &str)] = &[
    ("cli", "docs/reference/cli.md"),
    ("xds", "docs/reference/xds.md"),
    ("findings", "docs/reference/findings.md"),
];

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let check = args.iter().any(|a| a == "--check");
    let weft = crate::build()?;
    for (page, file) in PAGES {
        let made = crate::output(&weft.to_string_lossy(), &["reference", page])?;
        let path = crate::root().join(file);
        if check {
            if std::fs::read_to_string(&path).unwrap_or_default() != made {
                bail!("{file} is not what the code says; run cargo xtask docs");
            }
        } else {
            std::fs::write(&path, made).with_context(|| format!("cannot write {file}"))?;
            println!("docs: {file}");
        }
    }
    Ok(())
}

//! House rules that a program can hold: the arrows between crates, banned libraries, licences, the
//! purity of the pure crates, and the size of a file.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use serde_json::Value;

/// Who may depend on whom among our own crates (DESIGN section 6). A crate not listed here may not exist.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("wire", &[]),
    ("identity", &[]),
    ("telemetry", &[]),
    ("history", &[]),
    ("link", &[]),
    ("rego", &[]),
    ("routing", &["rego"]),
    ("xds", &[]),
    ("proof", &["wire"]),
    ("testkit", &[]),
    ("bench", &[]),
    (
        "fuzz",
        &[
            "model",
            "wire",
            "rego",
            "routing",
            "identity",
            "telemetry",
            "history",
            "link",
            "xds",
            "proxy",
            "control",
            "proof",
        ],
    ),
    ("instructions", &["bench", "proxy"]),
    ("store", &["model"]),
    ("control", &["model", "store", "xds", "identity", "telemetry", "link", "history", "rego", "routing"]),
    ("proxy", &["rego", "routing", "wire", "xds", "identity", "telemetry", "link"]),
    (
        "weft",
        &[
            "model",
            "store",
            "xds",
            "identity",
            "telemetry",
            "link",
            "history",
            "routing",
            "control",
            "proxy",
            "proof",
            "testkit",
        ],
    ),
];

/// Crates that decide without a socket or a clock.
const PURE: &[&str] = &["model", "wire", "rego", "routing", "identity", "history", "telemetry", "proof"];
const IMPURE: &[&str] = &["tokio", "tonic", "hyper", "hyper-util", "axum"];

/// Never in the graph, and what stands in.
const BANNED: &[(&str, &str)] = &[
    ("ring", "aws-lc-rs: one TLS stack"),
    ("openssl-sys", "rustls"),
    ("native-tls", "rustls"),
    ("prost-build", "envoy-types, or messages by hand: no code generation in the build"),
    ("async-std", "tokio: one runtime"),
    ("serde_yaml", "serde-saphyr"),
];

/// Not for our own crates, though a library of ours may bring it along.
const NOT_OURS: &[(&str, &str)] = &[("chrono", "jiff; only regorus, whose `time.*` it is, brings it along")];

const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "ISC",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "Zlib",
    "BSL-1.0",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "MIT-0",
    "CDLA-Permissive-2.0",
    "OpenSSL",
];

const LINES_MAX: usize = 800;

pub fn run() -> anyhow::Result<()> {
    let text = crate::output("cargo", &["metadata", "--format-version", "1", "--locked"])?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata is no JSON")?;
    let mut problems = Vec::new();
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if package["source"].is_null() {
            arrows(name, package, &mut problems);
        }
    }
    // Not from the metadata: a lock file also names what no feature of ours switches on.
    let built = ["tree", "--workspace", "--edges", "normal,build,dev", "--target", "all", "--prefix", "none"];
    let built = crate::output("cargo", &[&built[..], &["--format", "{p}|{l}", "--locked"]].concat())?;
    for line in built.lines() {
        let Some((package, licence)) = line.trim_end_matches(" (*)").split_once('|') else { continue };
        let name = package.split(' ').next().unwrap_or_default();
        // Ours stand with their folder after the version.
        if !package.ends_with(')') || package.ends_with("(proc-macro)") {
            outside(name, licence, &mut problems);
        }
    }
    problems.sort();
    problems.dedup();
    sizes(&mut problems)?;
    codes(&mut problems)?;
    if problems.is_empty() {
        println!("tidy: {} packages, arrows and licences hold", packages.len());
        return Ok(());
    }
    bail!("house rules broken:\n  {}", problems.join("\n  "));
}

fn arrows(name: &str, package: &Value, problems: &mut Vec<String>) {
    let own = name.strip_prefix("weft-").unwrap_or(name);
    if own == "xtask" {
        return;
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(crate_name, _)| *crate_name == own) else {
        problems.push(format!("crate {name} has no row in the table of arrows"));
        return;
    };
    for dependency in package["dependencies"].as_array().map_or(&[][..], Vec::as_slice) {
        let target = dependency["name"].as_str().unwrap_or_default();
        let dev = dependency["kind"] == "dev";
        if let Some(ours) = target.strip_prefix("weft-")
            && !allowed.contains(&ours)
            && !(dev && own != "control" && own != "proxy")
            && !(dev && ours != "control" && ours != "proxy")
        {
            problems.push(format!("{own} may not depend on {ours}"));
        }
        if let Some((_, instead)) = NOT_OURS.iter().find(|(banned, _)| *banned == target) {
            problems.push(format!("{own} may not depend on {target}; use {instead}"));
        }
        if PURE.contains(&own) && IMPURE.contains(&target) && !dev {
            problems.push(format!("{own} is pure and may not depend on {target}"));
        }
    }
}

fn outside(name: &str, licence: &str, problems: &mut Vec<String>) {
    if let Some((_, instead)) = BANNED.iter().find(|(banned, _)| *banned == name) {
        problems.push(format!("{name} is banned; use {instead}"));
    }
    // `A OR B`: one allowed choice is enough. `A AND B`: all must be.
    let flat = licence.replace(['(', ')'], "").replace('/', " OR ");
    let allowed =
        flat.split(" AND ").all(|part| part.split(" OR ").any(|choice| LICENCES.contains(&choice.trim())));
    if !allowed {
        problems.push(format!("{name}: licence {licence} is not on the list"));
    }
}

/// Each code that a finding carries has a row in the table that the reference page is made from.
fn codes(problems: &mut Vec<String>) -> anyhow::Result<()> {
    let table = std::fs::read_to_string(crate::root().join("crates/model/src/findings/codes.rs"))?;
    let files = crate::output(
        "git",
        &["ls-files", "--cached", "--others", "--exclude-standard", "crates/*/src/*.rs"],
    )?;
    for file in files.lines() {
        let Ok(text) = std::fs::read_to_string(crate::root().join(file)) else { continue };
        for after in text.split("\"WFT").skip(1) {
            let code = format!("WFT{}", after.chars().take_while(char::is_ascii_digit).collect::<String>());
            if code.len() == 7 && !table.contains(&code) {
                problems.push(format!(
                    "{file} uses {code}, which crates/model/src/findings/codes.rs does not explain"
                ));
            }
        }
    }
    Ok(())
}

fn sizes(problems: &mut Vec<String>) -> anyhow::Result<()> {
    let files = crate::output(
        "git",
        &["ls-files", "--cached", "--others", "--exclude-standard", "*.rs", "*.py", "*.ts"],
    )?;
    let mut sizes = BTreeMap::new();
    for file in files.lines() {
        let Ok(text) = std::fs::read_to_string(crate::root().join(file)) else { continue };
        sizes.insert(file, text.lines().count());
    }
    for (file, lines) in sizes.iter().filter(|(_, lines)| **lines > LINES_MAX) {
        problems.push(format!("{file} has {lines} lines; look for the noun that wants out"));
    }
    Ok(())
}

//! `weft check`: is the mesh healthy; is this config valid.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::questions::Connection;
use crate::output::{self, Format};

/// Is the mesh healthy; is this config valid. Exit status 1 when an error is found.
#[derive(Args)]
#[command(after_help = "Example: weft check -f mesh.yaml")]
pub struct CheckArgs {
    /// Check files instead of the running mesh: a file, a folder or - for stdin; may be repeated.
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    connection: Connection,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let answer = if args.files.is_empty() {
        args.connection.client()?.get("/query/v1/check").await?
    } else {
        offline(&args.files)?
    };
    output::print(args.output, &answer, || {
        let findings = answer["findings"].as_array().cloned().unwrap_or_default();
        let mut text = String::new();
        for finding in &findings {
            let word = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
            text.push_str(&format!(
                "{} {} {}: {}\n",
                word("severity"),
                word("code"),
                word("object"),
                word("message")
            ));
            if !word("hint").is_empty() {
                text.push_str(&format!("    hint: {}\n", word("hint")));
            }
        }
        let of = |severity: &str| findings.iter().filter(|f| f["severity"] == severity).count();
        text.push_str(&format!("{} errors, {} warnings, {} notes", of("error"), of("warning"), of("info")));
        text
    })?;
    Ok(if answer["ok"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same findings without a control plane: the files' own problems, and the rules across objects.
fn offline(paths: &[PathBuf]) -> anyhow::Result<Value> {
    let mut findings = Vec::new();
    let mut objects = Vec::new();
    for (name, text) in super::objects::read_paths(paths)? {
        let (documents, problems) = weft_model::parse_text(&name, &text);
        findings.extend(problems.iter().map(|p| {
            let line = p.line.map_or_else(String::new, |line| format!(":{line}"));
            let message = format!("{name}{line}: {} {}", p.path, p.message);
            json!({"code": "WFT0000", "severity": p.severity.to_string(), "object": p.object, "message": message, "hint": p.hint})
        }));
        objects.extend(documents.into_iter().filter_map(|d| d.object));
    }
    findings.extend(weft_model::findings(&objects).into_iter().map(|f| {
        json!({"code": f.code, "severity": f.severity.to_string(), "object": f.object, "message": f.message, "hint": f.hint})
    }));
    let ok = !findings.iter().any(|f| f["severity"] == "error");
    Ok(json!({"ok": ok, "findings": findings}))
}

//! `weft audit`: who changed what, who was refused, and whether the record of it is whole.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::questions::{Connection, ask, list, path, text};
use crate::output::{self, Format};

/// Who changed what, who was refused; is the record whole.
#[derive(Args)]
#[command(after_help = "Examples:\n  weft audit list --since 24h --refused\n  weft audit verify")]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// The newest entries: each change and each refusal, with who, from where and how it ended.
    #[command(after_help = "Example: weft audit list --since 24h --who ci --object accesspolicies")]
    List(ListArgs),
    /// Is the log as it was written? Exit status 1 when a line was altered, taken out or cut off.
    #[command(after_help = "Example: weft audit verify")]
    Verify(VerifyArgs),
}

#[derive(Args)]
struct ListArgs {
    /// How far back: a duration, seconds since 1970, or 2026-11-22T10:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what this user did, or was refused.
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Only objects whose path holds this.
    #[arg(long, value_name = "TEXT")]
    object: Option<String>,
    /// Only what was refused or failed.
    #[arg(long)]
    refused: bool,
    /// At most so many, the newest.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    limit: u64,
    #[command(flatten)]
    connection: Connection,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Args)]
struct VerifyArgs {
    #[command(flatten)]
    connection: Connection,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub async fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        AuditCommand::List(args) => entries(args).await,
        AuditCommand::Verify(args) => verify(args).await,
    }
}

async fn entries(args: ListArgs) -> anyhow::Result<ExitCode> {
    let mut asked = vec![("limit", args.limit.to_string())];
    asked.extend(args.since.clone().map(|since| ("since", since)));
    asked.extend(args.who.clone().map(|who| ("who", who)));
    asked.extend(args.object.clone().map(|object| ("object", object)));
    asked.extend(args.refused.then(|| ("refused", "true".to_owned())));
    let answer = ask(&args.connection, &path("/audit/v1/entries", &asked)).await?;
    output::print(args.output, &answer, || {
        let columns = ["time", "who", "peer", "verb", "object", "result", "reason"];
        let rows: Vec<Vec<String>> = list(&answer["entries"])
            .iter()
            .map(|entry| columns.iter().map(|column| text(&entry[*column])).collect())
            .collect();
        let more = if answer["more"] == true { "\nolder ones fit too; see --limit and --since" } else { "" };
        match rows.is_empty() {
            true => "nothing was changed or refused".to_owned(),
            false => format!("{}{more}", output::table(&columns, &rows)),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn verify(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let answer = ask(&args.connection, "/audit/v1/verify").await?;
    output::print(args.output, &answer, || {
        let [first, last] = ["first", "last"].map(|key| text(&answer[key]));
        let mut said: Vec<String> = list(&answer["problems"]).iter().map(text).collect();
        said.push(match answer["ok"] == true {
            true => format!("whole: entries {first} to {last}, each following the one before"),
            false => format!("not whole: {} problems in entries {first} to {last}", said.len()),
        });
        said.join("\n")
    })?;
    Ok(if answer["ok"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

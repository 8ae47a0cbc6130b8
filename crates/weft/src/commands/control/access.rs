//! `weft control access`: who else may use the API, besides the state directory's owner.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::commands::objects::encoded;
use crate::commands::questions::Connection;
use crate::output::{self, Format};

const USERS: &str = "/access/v1/users";

/// Users of the API: their roles, namespaces, tokens and certificates.
#[derive(Args)]
#[command(after_help = "Example: weft control access grant ana --role operator -n shop > ana.token")]
pub struct AccessArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Grant(GrantArgs),
    List(ListArgs),
    Revoke(RevokeArgs),
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    /// Reads all but Secrets.
    Viewer,
    /// Also writes what lives in namespaces.
    Operator,
    /// Everything: the mesh's own objects, join tokens, users.
    Admin,
}

/// Makes a user and prints its token, which is kept nowhere.
#[derive(Args)]
#[command(
    after_help = "Examples: weft control access grant ana --role operator -n shop > ana.token\n          weft control access grant ci --role viewer --certificate ci.pem"
)]
struct GrantArgs {
    /// The name, as the audit log will show it.
    name: String,
    /// What it may do.
    #[arg(long, value_enum)]
    role: Role,
    /// Only there; may be repeated (default: everywhere).
    #[arg(short, long = "namespace", value_name = "NAMESPACE")]
    namespaces: Vec<String>,
    /// How long (default: until revoked).
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// A client certificate (PEM) instead of a token; who signed it doesn't matter.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// The users, without their secrets.
#[derive(Args)]
#[command(after_help = "Example: weft control access list -o json")]
struct ListArgs {
    /// How to print them.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Ends a user's access, from the next request on.
#[derive(Args)]
#[command(after_help = "Example: weft control access revoke ana")]
struct RevokeArgs {
    /// The name.
    name: String,
    #[command(flatten)]
    connection: Connection,
}

pub async fn run(args: AccessArgs) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Grant(args) => grant(args).await?,
        What::List(args) => list(args).await?,
        What::Revoke(args) => {
            args.connection.client()?.delete(&format!("{USERS}/{}", encoded(&args.name))).await?;
            eprintln!("user {} revoked", args.name);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn grant(args: GrantArgs) -> anyhow::Result<()> {
    let mut wanted = json!({
        "name": args.name,
        "role": match args.role {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        },
    });
    if !args.namespaces.is_empty() {
        wanted["namespaces"] = args.namespaces.into();
    }
    if let Some(ttl) = args.ttl {
        wanted["ttl"] = ttl.into();
    }
    if let Some(path) = &args.certificate {
        let pem = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        wanted["certificate"] = pem.into();
    }
    let made = args.connection.client()?.post(USERS, &wanted).await?;
    match made["token"].as_str() {
        Some(token) => output::line(token),
        None => {
            eprintln!("user {} is who presents that certificate", args.name);
            Ok(())
        }
    }
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let answer = args.connection.client()?.get(USERS).await?;
    output::print(args.output, &answer, || {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let rows: Vec<Vec<String>> = answer["users"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|user| {
                let namespaces: Vec<&str> =
                    user["namespaces"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let expires = match user["expired"] == true {
                    true => format!("{} (over)", text(&user["expires"])),
                    false => text(&user["expires"]),
                };
                vec![
                    text(&user["name"]),
                    text(&user["role"]),
                    if namespaces.is_empty() { "all".to_owned() } else { namespaces.join(",") },
                    text(&user["proof"]),
                    text(&user["created"]),
                    expires,
                ]
            })
            .collect();
        output::table(&["name", "role", "namespaces", "by", "created", "expires"], &rows)
    })
}

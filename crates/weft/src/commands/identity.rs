//! `weft identity`: join tokens, SVIDs and trust bundles.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use super::questions::Connection;

/// Between two tries to reach an agent that is away.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Join tokens, SVIDs and trust bundles.
#[derive(Args)]
#[command(after_help = "Example: weft identity token --service be1 > be1.token")]
pub struct IdentityArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Token(TokenArgs),
    Bundle(BundleArgs),
    Fetch(FetchArgs),
    Show(ShowArgs),
}

/// A one-time token with which one workload of a service may join.
#[derive(Args)]
#[command(after_help = "Example: weft identity token --service be1 > be1.token")]
struct TokenArgs {
    /// The service whose identity the token gives.
    #[arg(long, value_name = "NAME", value_parser = super::service_name)]
    service: String,
    /// Its namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// How long it may wait for its one use, 1s to 7d.
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = ttl)]
    ttl: Duration,
    #[command(flatten)]
    connection: Connection,
}

/// The mesh's trust bundle, as PEM.
#[derive(Args)]
#[command(after_help = "Example: weft identity bundle > roots.pem")]
struct BundleArgs {
    #[command(flatten)]
    connection: Connection,
}

/// Writes this workload's SVID, key and bundle as files, from the local agent (or proxy).
#[derive(Args)]
#[command(after_help = "Example: weft identity fetch --out /run/app/tls --watch")]
struct FetchArgs {
    /// The folder for svid.pem, svid_key.pem and bundle.pem; made with mode 0700.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Stay, and write renewed files as they come.
    #[arg(long)]
    watch: bool,
    /// The agent's socket (default: agent.sock in the state directory).
    #[arg(long, value_name = "PATH", env = "SPIFFE_ENDPOINT_SOCKET")]
    socket: Option<String>,
    /// The state directory of the agent or proxy.
    #[arg(long, value_name = "DIR", env = "WEFT_STATE")]
    state: Option<PathBuf>,
}

/// What a certificate file says: SPIFFE id, serial, validity.
#[derive(Args)]
#[command(after_help = "Example: weft identity show svid.pem")]
struct ShowArgs {
    /// A PEM file.
    file: PathBuf,
}

fn ttl(text: &str) -> Result<Duration, String> {
    let duration = super::duration(text)?;
    if (Duration::from_secs(1)..=Duration::from_secs(7 * 86_400)).contains(&duration) {
        Ok(duration)
    } else {
        Err("a join token lives for at least 1s and at most 7d; a proxy needs it for its first start only"
            .to_owned())
    }
}

pub async fn run(args: IdentityArgs) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Token(args) => {
            let body = json!({"service": args.service, "namespace": args.namespace, "ttl": format!("{}s", args.ttl.as_secs())});
            let answer = args.connection.client()?.post("/query/v1/token", &body).await?;
            println!("{}", answer["token"].as_str().context("the control plane answered without a token")?);
        }
        What::Bundle(args) => {
            let answer = args.connection.client()?.get("/query/v1/bundle").await?;
            print!("{}", answer["pem"].as_str().context("the control plane answered without a bundle")?);
        }
        What::Fetch(args) => fetch(args).await?,
        What::Show(args) => show(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn fetch(args: FetchArgs) -> anyhow::Result<()> {
    let socket = match &args.socket {
        Some(path) => {
            PathBuf::from(path.strip_prefix("unix://").or_else(|| path.strip_prefix("unix:")).unwrap_or(path))
        }
        None => super::state_dir(args.state.as_ref()).join("agent.sock"),
    };
    crate::files::private_dir(&args.out)?;
    let mut said = String::new();
    loop {
        let ended = write_each(&socket, &args).await;
        if !args.watch {
            return ended;
        }
        // The agent restarts now and then, and may start after us: files must not go stale for that.
        let why = ended.err().map_or_else(|| "the agent ended".to_owned(), |error| format!("{error:#}"));
        if said != why {
            eprintln!("{why}; asking again until it answers");
            said = why;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Writes what the agent says, once or for as long as it runs.
async fn write_each(socket: &Path, args: &FetchArgs) -> anyhow::Result<()> {
    let mut stream = weft_proxy::workload_client::fetch(socket).await?;
    while let Some(svid) = stream.next().await? {
        // The key first: whoever watches the certificate then finds both new.
        crate::files::replace_private(&args.out.join("svid_key.pem"), &svid.key_pem)?;
        crate::files::replace_private(&args.out.join("bundle.pem"), &svid.bundle_pem)?;
        crate::files::replace_private(&args.out.join("svid.pem"), &svid.chain_pem)?;
        eprintln!("{} written to {}", svid.id, args.out.display());
        if !args.watch {
            break;
        }
    }
    Ok(())
}

fn show(args: &ShowArgs) -> anyhow::Result<()> {
    let pem = std::fs::read_to_string(&args.file)
        .with_context(|| format!("cannot read {}", args.file.display()))?;
    let certificates = weft_identity::describe_pem(&pem)
        .with_context(|| format!("{} holds no certificate that can be read", args.file.display()))?;
    for certificate in certificates {
        println!("{certificate}");
    }
    Ok(())
}

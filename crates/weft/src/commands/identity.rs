//! `weft identity`: join tokens, SVIDs, trust bundles, and taking certificates back.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use weft_identity::revocation::Reason;

use super::objects::encoded;
use super::questions::Connection;
use crate::output::{self, Format};

const CERTIFICATES: &str = "/identity/v1/certificates";
/// Between two tries to reach an agent that is away.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Join tokens, SVIDs and trust bundles; who is certified, and taking it back.
#[derive(Args)]
#[command(
    after_help = "Examples: weft identity token --service be1 > be1.token\n          weft identity list"
)]
pub struct IdentityArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Token(TokenArgs),
    Bundle(BundleArgs),
    Fetch(FetchArgs),
    List(ListArgs),
    Show(ShowArgs),
    Revoke(RevokeArgs),
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
#[command(
    after_help = "Examples: weft identity bundle > roots.pem\n          weft identity bundle --crl > crl.pem"
)]
struct BundleArgs {
    /// The signed list of what is revoked (X.509 CRL) instead.
    #[arg(long)]
    crl: bool,
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

/// The certificates that are valid now: whose, by which CA, until when, who asked, what is revoked.
#[derive(Args)]
#[command(
    after_help = "Examples: weft identity list\n          weft identity list spiffe://mesh.internal/ns/default/sa/be1 -o json"
)]
struct ListArgs {
    /// Only those of this SPIFFE id, or the one of this serial number.
    of: Option<String>,
    /// How to print them.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

/// What a certificate file says, or what the control plane knows of a serial number or a SPIFFE id.
#[derive(Args)]
#[command(
    after_help = "Examples: weft identity show svid.pem\n          weft identity show 4f1c2a9be0d34c5f8a7b6c5d4e3f2a1b\n          weft identity show spiffe://mesh.internal/ns/default/sa/be1"
)]
struct ShowArgs {
    /// A PEM file, a serial number in hex, or a SPIFFE id.
    #[arg(value_name = "FILE|SERIAL|ID")]
    what: String,
    /// How to print what the control plane knows.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Takes back a certificate, or all of an identity: proxies refuse it at once, and cut what is open.
///
/// By serial number one certificate is taken back; others of the same identity stay good. By SPIFFE id all of
/// them are, and unspent join tokens too; it comes back with a join token that is made afterwards, and with a
/// state directory that does not hold the old certificate.
#[derive(Args)]
#[command(
    after_help = "Examples: weft identity revoke 4f1c2a9be0d34c5f8a7b6c5d4e3f2a1b --reason key-compromise\n          weft identity revoke spiffe://mesh.internal/ns/default/sa/be1"
)]
struct RevokeArgs {
    /// A serial number in hex, or a SPIFFE id; `weft identity list` shows both.
    #[arg(value_name = "SERIAL|ID")]
    what: String,
    /// Why: unspecified, key-compromise, superseded, cessation-of-operation or privilege-withdrawn.
    #[arg(long, default_value = "unspecified", value_name = "REASON", value_parser = reason)]
    reason: Reason,
    #[command(flatten)]
    connection: Connection,
}

fn reason(text: &str) -> Result<Reason, String> {
    let known = Reason::ALL.map(Reason::name).join(", ");
    Reason::find(text).ok_or_else(|| format!("choose from {known}"))
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
            let (key, what) = if args.crl { ("crl_pem", "revocation list") } else { ("pem", "bundle") };
            let pem = answer[key].as_str();
            print!("{}", pem.with_context(|| format!("the control plane answered without a {what}"))?);
        }
        What::Fetch(args) => fetch(args).await?,
        What::List(args) => list(args).await?,
        What::Show(args) => show(args).await?,
        What::Revoke(args) => revoke(args).await?,
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

fn path(of: Option<&str>) -> String {
    of.map_or_else(|| CERTIFICATES.to_owned(), |of| format!("{CERTIFICATES}?of={}", encoded(of)))
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let answer = args.connection.client()?.get(&path(args.of.as_deref())).await?;
    output::print(args.output, &answer, || {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let certificates = answer["certificates"].as_array().into_iter().flatten();
        let rows: Vec<Vec<String>> = certificates
            .map(|one| {
                let revoked = match &one["revoked"] {
                    Value::Null => "-".to_owned(),
                    revoked => format!("{} ({})", text(&revoked["at"]), text(&revoked["reason"])),
                };
                vec![
                    text(&one["id"]),
                    text(&one["serial"]),
                    text(&one["not_after"]),
                    text(&one["evidence"]),
                    text(&one["from"]),
                    revoked,
                ]
            })
            .collect();
        let barred = answer["barred"].as_array().into_iter().flatten();
        let barred: String = barred
            .map(|one| format!("\n{} is revoked until it joins with a new token", text(&one["id"])))
            .collect();
        output::table(&["id", "serial", "expires", "by", "from", "revoked"], &rows) + &barred
    })
}

async fn show(args: ShowArgs) -> anyhow::Result<()> {
    let file = Path::new(&args.what);
    // A serial number is a file's name too, if there is such a file.
    if args.what.starts_with("spiffe:") || is_serial(&args.what) && !file.exists() {
        let answer = args.connection.client()?.get(&path(Some(&args.what))).await?;
        return output::print(args.output, &answer, || {
            let known = answer["certificates"].as_array().into_iter().flatten().map(shown);
            let barred = answer["barred"].as_array().into_iter().flatten().map(|one| {
                let text = |key: &str| one["revoked"][key].as_str().unwrap_or("-").to_owned();
                format!(
                    "{} is revoked since {} by {} ({}); it comes back with a new join token",
                    one["id"].as_str().unwrap_or("-"),
                    text("at"),
                    text("by"),
                    text("reason"),
                )
            });
            known.chain(barred).collect::<Vec<_>>().join("\n")
        });
    }
    let pem = std::fs::read_to_string(file).with_context(|| {
        format!("{} is neither a file that can be read, nor a serial number in hex or a SPIFFE id", args.what)
    })?;
    let certificates = weft_identity::describe_pem(&pem)
        .with_context(|| format!("{} holds no certificate that can be read", args.what))?;
    for certificate in certificates {
        println!("{certificate}");
    }
    Ok(())
}

/// Of one certificate, as the control plane has it.
fn shown(one: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let revoked = match &one["revoked"] {
        Value::Null => "no".to_owned(),
        revoked => {
            format!("{} by {} ({})", text(&revoked["at"]), text(&revoked["by"]), text(&revoked["reason"]))
        }
    };
    let mut lines = vec![text(&one["id"])];
    for (name, value) in [
        ("serial", text(&one["serial"])),
        ("issuer", text(&one["issuer"])),
        ("issued", text(&one["issued"])),
        ("by", format!("{} from {}", text(&one["evidence"]), text(&one["from"]))),
        ("valid from", text(&one["not_before"])),
        ("valid until", text(&one["not_after"])),
        ("revoked", revoked),
    ] {
        lines.push(format!("  {name:<12} {value}"));
    }
    lines.join("\n")
}

fn is_serial(text: &str) -> bool {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    (8..=40).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit)
}

async fn revoke(args: RevokeArgs) -> anyhow::Result<()> {
    let wish = json!({"of": args.what, "reason": args.reason.name()});
    let done = args.connection.client()?.post("/identity/v1/revocations", &wish).await?;
    let id = done["id"].as_str().unwrap_or(&args.what);
    for serial in done["revoked"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output::line(serial)?;
    }
    let revoked = done["revoked"].as_array().map_or(0, Vec::len);
    let before = match done["already"].as_u64() {
        None | Some(0) => String::new(),
        Some(already) => format!(" ({already} had been before)"),
    };
    eprintln!("{id}: {} revoked{before}; proxies refuse it now, and cut what is open", counted(revoked));
    if done["barred"] == true {
        eprintln!(
            "it joins no more, until there is a new token: weft identity token; {} void",
            match done["tokens"].as_u64() {
                Some(1) => "1 unspent token is".to_owned(),
                tokens => format!("{} unspent tokens are", tokens.unwrap_or(0)),
            }
        );
    }
    Ok(())
}

fn counted(certificates: usize) -> String {
    match certificates {
        1 => "1 certificate".to_owned(),
        more => format!("{more} certificates"),
    }
}

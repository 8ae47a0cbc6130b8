//! `weft status`, `stat` and `edges`: questions that the control plane answers from what it knows.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::client::{Client, Refusal};
use crate::output::{self, Format};

/// How a command finds the control plane.
#[derive(Args, Clone, Debug)]
pub struct Connection {
    /// The control plane's API (default: the state directory's socket). Needs WEFT_TOKEN.
    #[arg(long, value_name = "URL", env = "WEFT_SERVER")]
    pub server: Option<String>,
    /// The state directory of a control plane on this machine.
    #[arg(long, value_name = "DIR", env = "WEFT_STATE")]
    pub state: Option<PathBuf>,
}

impl Connection {
    pub fn client(&self) -> anyhow::Result<Client> {
        match &self.server {
            Some(url) => {
                Client::from_server(url, std::env::var("WEFT_TOKEN").ok().as_deref(), self.state.as_deref())
            }
            None => Client::from_state(&super::state_dir(self.state.as_ref())),
        }
    }
}

/// Each proxy: configuration acknowledged, lag, certificate, last error.
#[derive(Args)]
#[command(after_help = "Example: weft status -o json")]
pub struct StatusArgs {
    #[command(flatten)]
    connection: Connection,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub async fn status(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let answer = args.connection.client()?.get("/query/v1/status").await?;
    let proxies = list(&answer["proxies"]);
    output::print(args.output, &answer, || {
        let rows: Vec<Vec<String>> = proxies
            .iter()
            .map(|p| {
                let current = p["acked"] == p["latest"] && !p["acked"].is_null();
                vec![
                    text(&p["name"]),
                    text(&p["service"]),
                    text(&p["kind"]),
                    if p["connected"] == true { "connected".into() } else { "away".into() },
                    if current {
                        "current".into()
                    } else {
                        format!("{} of {}", text(&p["acked"]), text(&p["latest"]))
                    },
                    format!("{} ms", text(&p["lag_ms"])),
                    text(&p["certificate_expires"]),
                    nack(&p["nack"]),
                ]
            })
            .collect();
        if rows.is_empty() {
            return "no proxy has joined yet; start one with: weft proxy --control URL --service NAME --token FILE".into();
        }
        output::table(
            &["proxy", "service", "kind", "stream", "config", "lag", "certificate until", "refused"],
            &rows,
        )
    })?;
    let healthy = proxies.iter().all(|p| p["connected"] == true && p["nack"].is_null());
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn nack(nack: &Value) -> String {
    if nack.is_null() {
        "-".into()
    } else {
        format!("{}: {}", text(&nack["resource"]), text(&nack["message"]))
    }
}

/// A window of time: `--since`, or `--from` and `--to`.
#[derive(Args, Clone, Debug)]
pub struct Window {
    /// How far back, 1s to 30d.
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = since)]
    since: std::time::Duration,
    /// The window's start: seconds since 1970, or 2026-11-22T10:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<u64>,
    /// The window's end (default: now).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<u64>,
}

impl Window {
    fn query(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(super::usage("--from must be before --to"));
        }
        let mut query = match self.from {
            Some(from) => vec![("from", from.to_string())],
            None => vec![("since", format!("{}s", self.since.as_secs()))],
        };
        query.extend(self.to.map(|to| ("to", to.to_string())));
        Ok(query)
    }
}

/// A path with its parameters, percent-encoded.
pub(super) fn path(base: &str, parameters: &[(&str, String)]) -> String {
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect()
    };
    let pairs: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    format!("{base}?{}", pairs.join("&"))
}

/// A question that the control plane finds wrongly put (400) is a mistake of usage.
pub(super) async fn ask(connection: &Connection, path: &str) -> anyhow::Result<Value> {
    connection.client()?.get(path).await.map_err(|error| match error.downcast_ref::<Refusal>() {
        Some(refusal) if refusal.code == 400 => super::usage(refusal.message.clone()),
        _ => error,
    })
}

fn since(value: &str) -> Result<std::time::Duration, String> {
    let (least, most) = (std::time::Duration::from_secs(1), std::time::Duration::from_secs(30 * 86_400));
    let duration = super::duration(value)?;
    if (least..=most).contains(&duration) {
        Ok(duration)
    } else {
        Err("the record goes back 1s to 30d".to_owned())
    }
}

fn moment(value: &str) -> Result<u64, String> {
    if let Ok(seconds) = value.parse() {
        return Ok(seconds);
    }
    let parsed: Option<jiff::Timestamp> = value.parse().ok();
    parsed
        .and_then(|moment| u64::try_from(moment.as_second()).ok())
        .ok_or_else(|| format!("`{value}` is no moment; write 2026-11-22T10:00:00Z or seconds since 1970"))
}

/// What traffic can be grouped by.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum By {
    Caller,
    Service,
    Version,
    Route,
    Code,
    GrpcStatus,
    Tls,
    Direction,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            By::Caller => "caller",
            By::Service => "service",
            By::Version => "version",
            By::Route => "route",
            By::Code => "code",
            By::GrpcStatus => "grpc_status",
            By::Tls => "tls",
            By::Direction => "direction",
        }
    }

    fn cell(self, value: &Value) -> String {
        match (self, value.as_i64()) {
            // No answer, or a TCP connection.
            (By::Code, Some(0)) | (By::GrpcStatus, Some(-1)) => "none".into(),
            _ => text(value),
        }
    }
}

/// Requests, errors and latency of a service: each request counted once.
///
/// A Service means the requests that the workloads of its selector took, by whatever name they were called, and those
/// that callers could not bring to it: be1-v1 (app: be1, version: v1) shows be1's requests that v1 took. A name that
/// is no Service means the workloads that joined by it (--service NAME), or an ExternalService.
///
/// The callee's proxy counts what reached it (direction inbound). The caller's proxy counts what did not, a 503 for
/// want of an endpoint say, and calls to services outside of the mesh (direction external). CODE none is a request
/// without an answer, because its caller left first, or a TCP connection. ERRORS are codes from 500 on and requests
/// that broke off.
///
/// The last lines say which time the figures cover, and what may be missing from them.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  weft stat be4 --since 30m --by caller,code\n  weft stat shop/cart --by version,route"
)]
pub struct StatArgs {
    /// The service: NAME or NAMESPACE/NAME; all services without it.
    service: Option<String>,
    /// The namespace of a bare NAME.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    window: Window,
    /// Group by these, joined by commas.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT", default_value = "caller,code")]
    by: Vec<By>,
    #[command(flatten)]
    connection: Connection,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub async fn stat(args: StatArgs) -> anyhow::Result<ExitCode> {
    let mut asked = args.window.query()?;
    let names: Vec<&str> = args.by.iter().map(|by| by.name()).collect();
    asked.extend([("by", names.join(",")), ("namespace", args.namespace.clone())]);
    asked.extend(args.service.clone().map(|service| ("service", service)));
    let answer = ask(&args.connection, &path("/query/v1/stat", &asked)).await?;
    output::print(args.output, &answer, || {
        let total = &answer["total"];
        let sums = format!(
            "{} requests, {} errors, {}",
            text(&total["requests"]),
            text(&total["errors"]),
            covered(&answer)
        );
        let rows = list(&answer["rows"]);
        if rows.is_empty() {
            return sums;
        }
        let mut header: Vec<&str> = names.clone();
        header.extend(["requests", "errors", "p50", "p95", "p99"]);
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                let mut cells: Vec<String> = args.by.iter().map(|by| by.cell(&row[by.name()])).collect();
                cells.extend([text(&row["requests"]), text(&row["errors"])]);
                cells.extend(["p50_ms", "p95_ms", "p99_ms"].map(|p| milliseconds(&row[p])));
                cells
            })
            .collect();
        format!("{}\n\n{sums}", output::table(&header, &rows))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Remarks shown under a table; the others are counted, and `-o json` has them.
const REMARKS_SHOWN: usize = 5;

/// The window of an answer, and what may be missing from it.
fn covered(answer: &Value) -> String {
    let coverage = &answer["coverage"];
    let mut remarks: Vec<String> = list(&coverage["gaps"])
        .iter()
        .chain(&list(&coverage["not_counted"]))
        .map(|remark| text(&remark["message"]))
        .collect();
    remarks.extend(coverage["note"].as_str().map(str::to_owned));
    let more = remarks.len().saturating_sub(REMARKS_SHOWN);
    remarks.truncate(REMARKS_SHOWN);
    let mut said = format!("from {} to {}", text(&answer["from"]), text(&answer["to"]));
    for remark in remarks {
        said.push_str(&format!("\nnote: {remark}"));
    }
    if more > 0 {
        said.push_str(&format!("\nnote: {more} more; see coverage in -o json"));
    }
    said
}

/// Who calls whom, how often, with what encryption.
///
/// CODES are status:count; none is a request without an answer, or a TCP connection. TLS is the weakest that any
/// request of the edge had: mtls between members, tls to a service outside of the mesh.
#[derive(Args)]
#[command(after_help = "Example: weft edges --since 5m")]
pub struct EdgesArgs {
    /// Only edges from or to the members of this service: NAME or NAMESPACE/NAME.
    service: Option<String>,
    /// The namespace of a bare NAME.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    window: Window,
    #[command(flatten)]
    connection: Connection,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub async fn edges(args: EdgesArgs) -> anyhow::Result<ExitCode> {
    let mut asked = args.window.query()?;
    asked.push(("namespace", args.namespace.clone()));
    asked.extend(args.service.clone().map(|service| ("service", service)));
    let answer = ask(&args.connection, &path("/query/v1/edges", &asked)).await?;
    output::print(args.output, &answer, || {
        let rows: Vec<Vec<String>> = list(&answer["edges"])
            .iter()
            .map(|edge| {
                let codes = edge["codes"].as_object().map_or_else(String::new, |codes| {
                    codes
                        .iter()
                        .map(|(code, n)| format!("{}:{n}", if code == "0" { "none" } else { code.as_str() }))
                        .collect::<Vec<_>>()
                        .join(" ")
                });
                vec![
                    text(&edge["from"]),
                    text(&edge["to"]),
                    text(&edge["requests"]),
                    codes,
                    text(&edge["tls"]),
                ]
            })
            .collect();
        if rows.is_empty() {
            return format!("no traffic {}", covered(&answer));
        }
        format!(
            "{}\n\n{}",
            output::table(&["from", "to", "requests", "codes", "tls"], &rows),
            covered(&answer)
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(s) if s.is_empty() => "-".into(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

fn milliseconds(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".into(), |ms| format!("{ms:.1} ms"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn moments_are_seconds_or_rfc_3339() {
        assert_eq!(super::moment("17"), Ok(17));
        assert_eq!(super::moment("1970-01-01T00:01:00Z"), Ok(60));
        assert!(super::moment("yesterday").is_err());
        assert!(super::moment("-5").is_err() && super::moment("1960-01-01T00:00:00Z").is_err());
    }

    #[test]
    fn parameters_are_percent_encoded() {
        let asked = [("service", "be4 x&by=ä".to_owned()), ("since", "60s".to_owned())];
        assert_eq!(super::path("/q", &asked), "/q?service=be4%20x%26by%3D%C3%A4&since=60s");
    }
}

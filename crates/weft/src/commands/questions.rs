//! `weft status`, `stat` and `edges`: questions that the control plane answers from what it knows.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::client::Client;
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
    /// How far back, up to 30d.
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = super::duration)]
    since: std::time::Duration,
    /// The window's start: seconds since 1970, or 2026-11-22T10:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<i64>,
    /// The window's end (default: now).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<i64>,
}

impl Window {
    fn query(&self) -> String {
        let mut query = match self.from {
            Some(from) => format!("from={from}"),
            None => format!("since={}s", self.since.as_secs()),
        };
        if let Some(to) = self.to {
            query.push_str(&format!("&to={to}"));
        }
        query
    }
}

fn moment(value: &str) -> Result<i64, String> {
    if let Ok(seconds) = value.parse() {
        return Ok(seconds);
    }
    let parsed: Result<jiff::Timestamp, _> = value.parse();
    parsed
        .map(jiff::Timestamp::as_second)
        .map_err(|_| format!("`{value}` is no moment; write 2026-11-22T10:00:00Z or seconds since 1970"))
}

/// Requests, errors and latency of a service, as its own proxies counted them.
#[derive(Args)]
#[command(after_help = "Example: weft stat be4 --since 30m --by caller,code")]
pub struct StatArgs {
    /// The service: NAME or NAMESPACE/NAME; all services without it.
    service: Option<String>,
    /// The namespace of a bare NAME.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    window: Window,
    /// Group by these: caller, code, version, route, service, tls.
    #[arg(long, value_delimiter = ',', default_value = "caller,code")]
    by: Vec<String>,
    #[command(flatten)]
    connection: Connection,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub async fn stat(args: StatArgs) -> anyhow::Result<ExitCode> {
    let mut path = format!(
        "/query/v1/stat?{}&by={}&namespace={}",
        args.window.query(),
        args.by.join(","),
        args.namespace
    );
    if let Some(service) = &args.service {
        path.push_str(&format!("&service={service}"));
    }
    let answer = args.connection.client()?.get(&path).await?;
    output::print(args.output, &answer, || {
        let mut header: Vec<&str> = args.by.iter().map(String::as_str).collect();
        header.extend(["requests", "errors", "p50", "p95", "p99"]);
        let rows: Vec<Vec<String>> = list(&answer["rows"])
            .iter()
            .map(|row| {
                let mut cells: Vec<String> = args.by.iter().map(|by| text(&row[by.as_str()])).collect();
                cells.extend([text(&row["requests"]), text(&row["errors"])]);
                cells.extend(["p50_ms", "p95_ms", "p99_ms"].map(|p| milliseconds(&row[p])));
                cells
            })
            .collect();
        let total = &answer["total"];
        format!(
            "{}\n\n{} requests, {} errors, from {} to {}",
            output::table(&header, &rows),
            text(&total["requests"]),
            text(&total["errors"]),
            clock(&answer["from"]),
            clock(&answer["to"])
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Who calls whom, how often, with what encryption.
#[derive(Args)]
#[command(after_help = "Example: weft edges --since 5m")]
pub struct EdgesArgs {
    /// Only edges from or to this service (NAME or NAMESPACE/NAME).
    service: Option<String>,
    #[command(flatten)]
    window: Window,
    #[command(flatten)]
    connection: Connection,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub async fn edges(args: EdgesArgs) -> anyhow::Result<ExitCode> {
    let mut answer =
        args.connection.client()?.get(&format!("/query/v1/edges?{}", args.window.query())).await?;
    if let (Some(service), Some(edges)) = (&args.service, answer["edges"].as_array_mut()) {
        let is = |name: &Value| {
            name.as_str().is_some_and(|n| n == service || n.rsplit('/').next() == Some(service))
        };
        edges.retain(|e| is(&e["from"]) || is(&e["to"]));
    }
    output::print(args.output, &answer, || {
        let rows: Vec<Vec<String>> = list(&answer["edges"])
            .iter()
            .map(|edge| {
                let codes = edge["codes"].as_object().map_or_else(String::new, |codes| {
                    codes.iter().map(|(code, n)| format!("{code}:{n}")).collect::<Vec<_>>().join(" ")
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
        output::table(&["from", "to", "requests", "codes", "tls"], &rows)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
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

fn clock(value: &Value) -> String {
    let moment = value.as_i64().and_then(|s| jiff::Timestamp::from_second(s).ok());
    moment.map_or_else(|| text(value), |m| m.to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn moments_are_seconds_or_rfc_3339() {
        assert_eq!(super::moment("17"), Ok(17));
        assert_eq!(super::moment("1970-01-01T00:01:00Z"), Ok(60));
        assert!(super::moment("yesterday").is_err());
    }
}

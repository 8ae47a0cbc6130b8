//! `weft explain`: each decision about a request, with the object and line behind it.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::questions::{Connection, ask, list, path, text};
use crate::output::{self, Format};

/// What would become of a request: each decision, with the object and the line behind it.
///
/// Nothing is sent. The decisions are made by the code that the proxies run, on the configuration that they are sent:
/// first the caller's proxy (listener, route, weight, retry, endpoint), then the callee's (policy). Where chance decides,
/// the likeliest way is followed and the others are named.
///
/// The verdict is forward (an app gets it), deny (a policy refuses it), respond (a proxy answers it) or none (nobody
/// takes it). The exit status is 0 whatever the verdict; 2 if the question is wrongly put.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  weft explain GET http://be1/cart --from fe\n  weft explain POST http://be1.shop/pay --from shop/fe --header 'x-tier: premium' -o json\n  weft explain CONNECT tcp://db:5432 --from be1"
)]
pub struct ExplainArgs {
    /// The method, such as GET; for https:// and tcp:// it is not looked at.
    method: String,
    /// http://SERVICE[:PORT]/PATH, https://HOST (the app's own TLS) or tcp://HOST:PORT.
    url: String,
    /// The service that calls: NAME or NAMESPACE/NAME.
    #[arg(long, value_name = "SERVICE")]
    from: String,
    /// The namespace of a bare NAME.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// A header of the request; may be given more than once.
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<String>,
    #[command(flatten)]
    connection: Connection,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What can't be a header is told before anything is asked.
fn header(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((name, _)) if !name.trim().is_empty() && !text.contains(['\r', '\n']) => Ok(text.to_owned()),
        _ => Err("write NAME: VALUE".to_owned()),
    }
}

pub async fn run(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let asked = [
        ("method", args.method.clone()),
        ("url", args.url.clone()),
        ("from", args.from.clone()),
        ("namespace", args.namespace.clone()),
        ("headers", args.headers.join("\n")),
    ];
    let answer = ask(&args.connection, &path("/query/v1/explain", &asked)).await?;
    output::print(args.output, &answer, || {
        let rows: Vec<Vec<String>> = list(&answer["steps"])
            .iter()
            .map(|step| {
                vec![text(&step["step"]), text(&step["result"]), text(&step["because"]), object(step)]
            })
            .collect();
        let mut said = format!("{}\n\n", output::table(&["step", "result", "because", "object"], &rows));
        said.push_str(&verdict(&answer));
        said
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `HTTPRoute default/split spec.rules[0] (routes.yaml:3)`.
fn object(step: &Value) -> String {
    let object = &step["object"];
    if object.is_null() {
        return "-".to_owned();
    }
    let name = match object["namespace"].as_str() {
        Some("") | None => text(&object["name"]),
        Some(namespace) => format!("{namespace}/{}", text(&object["name"])),
    };
    let source = step["source"].as_str().map_or_else(String::new, |source| format!(" ({source})"));
    format!("{} {name} {}{source}", text(&object["kind"]), text(&object["field"]))
}

fn verdict(answer: &Value) -> String {
    let status = match answer["status"].as_u64() {
        Some(status) => format!(" with {status}"),
        None => String::new(),
    };
    match answer["verdict"].as_str() {
        Some("forward") => {
            format!("forward: {} at {}", text(&answer["backend"]), text(&answer["endpoint"]))
        }
        Some("deny") => format!("deny: a policy of {} refuses it{status}", text(&answer["backend"])),
        Some("respond") => format!("respond: a proxy answers it{status}"),
        _ => format!("none: nobody takes it{status}"),
    }
}

//! The demo's figures, from the control plane's query API: what anyone else would be told too.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::load::Load;
use crate::client::Client;

/// The JSON that `weft demo --for` ends with.
pub async fn ask(
    client: &Client,
    since: u64,
    ran: Duration,
    startup: Duration,
    load: &Load,
) -> anyhow::Result<Value> {
    let edges = client.get(&format!("/query/v1/edges?from={since}")).await?;
    let split =
        client.get(&format!("/query/v1/stat?service=be1&namespace=default&from={since}&by=version")).await?;
    let edges: Vec<Value> =
        edges["edges"].as_array().cloned().unwrap_or_default().into_iter().map(short_names).collect();
    let member: Vec<&Value> = edges.iter().filter(|e| e["to"] != "be3" && e["from"] != "").collect();
    let count = |edge: &&Value| edge["requests"].as_u64().unwrap_or(0);
    let members: u64 = member.iter().map(count).sum();
    let encrypted: u64 = member.iter().filter(|e| e["tls"] == "mtls").map(count).sum();
    Ok(json!({
        "seconds": ran.as_secs(),
        "startup_ms": u64::try_from(startup.as_millis()).unwrap_or(u64::MAX),
        "requests": load.sent.load(Ordering::Relaxed),
        "lost": load.lost.load(Ordering::Relaxed),
        "mtls_share": if members == 0 { 0.0 } else { encrypted as f64 / members as f64 },
        "split": split_percent(&split),
        "edges": edges,
    }))
}

/// `default/be1` reads `be1` here: the demo has one namespace.
fn short_names(mut edge: Value) -> Value {
    for end in ["from", "to"] {
        if let Some(name) = edge[end].as_str().and_then(|name| name.strip_prefix("default/")) {
            edge[end] = json!(name);
        }
    }
    edge
}

/// The share of each version of BE1, in per cent, as its proxies counted it.
fn split_percent(answer: &Value) -> Value {
    let rows = answer["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let of = |version: &str| -> u64 {
        rows.iter().filter(|r| r["version"] == version).filter_map(|r| r["requests"].as_u64()).sum()
    };
    let (v1, v2) = (of("v1"), of("v2"));
    let percent =
        |n: u64| if v1 + v2 == 0 { 0.0 } else { (n as f64 * 1000.0 / (v1 + v2) as f64).round() / 10.0 };
    json!({"be1-v1": percent(v1), "be1-v2": percent(v2)})
}

/// The live line: each edge's rate over the last 10 s.
pub async fn rates(client: &Client, sent: u64) -> anyhow::Result<String> {
    let answer = client.get("/query/v1/edges?since=10s").await?;
    // The window was rounded outwards, and its end is still to come.
    let from = answer["from"].as_str().and_then(|from| from.parse::<jiff::Timestamp>().ok());
    let seconds =
        from.map_or(10.0, |from| jiff::Timestamp::now().duration_since(from).as_secs_f64().max(1.0));
    let mut line = format!("{sent} requests");
    for edge in answer["edges"].as_array().map_or(&[][..], Vec::as_slice).iter().cloned().map(short_names) {
        let rate = edge["requests"].as_f64().unwrap_or(0.0) / seconds;
        let errors: u64 = edge["codes"].as_object().map_or(0, |codes| {
            codes.iter().filter(|(code, _)| code.starts_with('5')).filter_map(|(_, n)| n.as_u64()).sum()
        });
        let lock = match edge["tls"].as_str() {
            Some("mtls") => "🔒",
            Some("tls") => "tls ",
            _ => "!! ",
        };
        line.push_str(&format!(
            "  {lock}{}→{} {rate:.0}/s",
            edge["from"].as_str().unwrap_or("?"),
            edge["to"].as_str().unwrap_or("?")
        ));
        if errors > 0 {
            line.push_str(&format!(" ({errors} 5xx)"));
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_split_is_in_per_cent() {
        let answer = json!({"rows": [{"version": "v1", "requests": 901}, {"version": "v2", "requests": 99}]});
        assert_eq!(super::split_percent(&answer), json!({"be1-v1": 90.1, "be1-v2": 9.9}));
        assert_eq!(super::split_percent(&json!({})), json!({"be1-v1": 0.0, "be1-v2": 0.0}));
    }
}

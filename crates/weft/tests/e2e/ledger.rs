//! The demo services' own word on what happened: `STATE/ledger/SERVICE.jsonl`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// (caller, callee, status) → requests that the callee wrote as received.
pub fn received(state: &Path) -> BTreeMap<(String, String, u64), u64> {
    let mut counts = BTreeMap::new();
    for entry in std::fs::read_dir(state.join("ledger")).expect("the demo keeps a ledger") {
        let path = entry.unwrap().path();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let line: Value = serde_json::from_str(line).expect("a ledger line is JSON");
            if line["event"] == "received" {
                let word = |key: &str| line[key].as_str().unwrap().to_owned();
                *counts
                    .entry((word("peer"), word("service"), line["status"].as_u64().unwrap()))
                    .or_default() += 1;
            }
        }
    }
    counts
}

/// Requests that a service sent and got no good answer to, but for BE4's own 500s and for the warm-up, whose
/// requests are sent until the first goes through.
pub fn unanswered(state: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut warm_up = Vec::new();
    for entry in std::fs::read_dir(state.join("ledger")).unwrap() {
        for line in std::fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            if value["peer"] == "warm-up" {
                warm_up.push(value["id"].clone());
            }
            if value["event"] == "sent" && value["peer"] != "be4" && value["status"] != 200 {
                lines.push((value["id"].clone(), line.to_owned()));
            }
        }
    }
    lines.into_iter().filter(|(id, _)| !warm_up.contains(id)).map(|(_, line)| line).collect()
}

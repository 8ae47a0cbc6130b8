//! The proof as people read it.

use std::collections::BTreeMap;

use weft_proof::Report;
use weft_proof::report::Shown;

use crate::output;

/// Connections shown of each kind; `-o json` has them all.
const SHOWN: usize = 20;

pub fn table(report: &Report, seconds: f64) -> String {
    let mut text = String::new();
    if !report.pairs.is_empty() {
        let names = |all: &BTreeMap<String, u64>| match all.is_empty() {
            true => "-".to_owned(),
            false => all.keys().map(String::as_str).collect::<Vec<_>>().join(" "),
        };
        let rows: Vec<Vec<String>> = report
            .pairs
            .iter()
            .map(|pair| {
                vec![
                    pair.from.clone(),
                    pair.to.clone(),
                    pair.flows.to_string(),
                    pair.bytes.to_string(),
                    pair.plaintext_bytes.to_string(),
                    names(&pair.versions),
                    names(&pair.ciphers),
                    names(&pair.groups),
                    format!("{}/{}", pair.observed, pair.as_reported),
                ]
            })
            .collect();
        let header = [
            "from",
            "to",
            "connections",
            "bytes",
            "plaintext",
            "version",
            "cipher",
            "group",
            "seen/reported",
        ];
        text.push_str(&output::table(&header, &rows));
        text.push_str("\n\n");
    }
    connections(&mut text, "not as it must be", &report.failures);
    connections(&mut text, "listed by one end only", &report.one_sided);
    if !report.silent_proxies.is_empty() {
        text.push_str(&format!("note: no answer from {}\n", report.silent_proxies.join(", ")));
    }
    if !report.unseen_members.is_empty() {
        text.push_str(&format!(
            "note: no traffic was seen of {}; a capture sees what passes the machine that it runs on\n",
            report.unseen_members.join(", ")
        ));
    }
    if report.skipped_bytes > 0 {
        text.push_str(&format!(
            "note: {} bytes are the rest of records that were on their way when the capture began\n",
            report.skipped_bytes
        ));
    }
    if report.ok {
        text.push_str(&format!(
            "proved: {} of {} bytes in {} connections between members are in TLS records ({} handshakes seen, {} as reported), in {seconds:.1} s",
            report.tls_bytes,
            report.bytes - report.skipped_bytes,
            report.flows,
            report.observed,
            report.as_reported,
        ));
    } else {
        text.push_str(&format!("not proved: {}", report.because.join("\nnot proved: ")));
    }
    text
}

fn connections(text: &mut String, title: &str, all: &[Shown]) {
    if all.is_empty() {
        return;
    }
    text.push_str(&format!("{title}:\n"));
    for one in all.iter().take(SHOWN) {
        let (from, to, client, server) = (&one.from, &one.to, one.client, one.server);
        text.push_str(&format!("  {client} → {server} ({from} → {to}): {}\n", one.because.join("; ")));
    }
    if all.len() > SHOWN {
        text.push_str(&format!("  and {} more; see -o json\n", all.len() - SHOWN));
    }
    text.push('\n');
}

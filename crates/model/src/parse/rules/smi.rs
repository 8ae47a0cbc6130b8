//! Rules of the Service Mesh Interface's kinds.

use super::{At, unique};
use crate::parse::{Sink, suggest};
use crate::text::{self, quote};

const RULES: [&str; 3] = ["HTTPRouteGroup", "TCPRoute", "UDPRoute"];

pub fn target(top: &At<'_>, spec: &At<'_>, sink: &mut Sink) {
    let own = top.field("metadata").and_then(|metadata| metadata.text("namespace"));
    if let Some(destination) = spec.field("destination") {
        account(&destination, sink);
        if let (Some(said), Some(own)) = (destination.text("namespace"), own)
            && said != own
        {
            destination.place("namespace").error(
                sink,
                format!("is not the TrafficTarget's own, {own}: nobody opens what is another namespace's"),
                &format!("make the TrafficTarget in namespace {said}"),
            );
        }
    }
    let sources = spec.items("sources");
    for source in &sources {
        account(source, sink);
        if source.says("port") {
            source.place("port").warning(sink, "has no effect at a source", "leave it out");
        }
    }
    let who = |source: &At<'_>| {
        Some((source.text("namespace").or(own).map(str::to_owned), source.text("name")?.to_owned()))
    };
    unique(&sources, "the source", who, sink);
    for rule in spec.items("rules") {
        let kind = rule.text_or("kind", "");
        if !RULES.contains(&kind) {
            let hint = suggest::hint(kind, RULES.into_iter()).unwrap_or_else(|| RULES.join(", "));
            rule.place("kind").error(sink, format!("a rule can't name a {}", quote(kind)), &hint);
        }
        if kind != "HTTPRouteGroup" && rule.says("matches") {
            let message = format!("has no effect: a {kind} has no matches to pick from");
            rule.place("matches").warning(sink, message, "leave it out");
        }
    }
}

fn account(account: &At<'_>, sink: &mut Sink) {
    let kind = account.text_or("kind", "ServiceAccount");
    if kind != "ServiceAccount" {
        let message = format!("{} has no identity here", quote(kind));
        account.place("kind").error(sink, message, "kind: ServiceAccount");
    }
}

pub fn group(spec: &At<'_>, sink: &mut Sink) {
    let matches = spec.items("matches");
    unique(&matches, "the name", |entry| entry.text("name").filter(|name| !name.is_empty()), sink);
    for entry in &matches {
        let Some(headers) = entry.field("headers") else { continue };
        for name in headers.value.as_object().into_iter().flat_map(serde_json::Map::keys) {
            if let Err(complaint) = text::check("header-name", name) {
                sink.error(headers.path.field(name), complaint.message, complaint.hint);
            } else if name.contains('_') {
                let message = "has an underscore: proxies drop such headers before any policy looks";
                sink.warning(headers.path.field(name), message, None);
            }
        }
    }
}

//! Rules of the routes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::target::{self, Stray, Target};
use super::{At, unique};
use crate::kind::{GATEWAY_GROUP, WEFT_GROUP};
use crate::parse::Sink;

const RULES_MAX: usize = 1000;
/// What routes may be attached to, as Gateway API has it; the mesh serves the first.
const PARENTS: [Target; 4] = [
    ("", "Service"),
    (GATEWAY_GROUP, "Gateway"),
    (GATEWAY_GROUP, "ListenerSet"),
    (GATEWAY_GROUP, "XListenerSet"),
];
const BACKENDS: [Target; 2] = [("", "Service"), (WEFT_GROUP, "ExternalService")];

pub fn http(spec: &At<'_>, sink: &mut Sink) {
    parents(spec, sink);
    for rule in rules(spec, sink) {
        for choice in rule.items("matches") {
            if let Some(path) = choice.field("path") {
                let format =
                    if path.text("type") == Some("RegularExpression") { "regex" } else { "http-path" };
                path.check("value", format, sink);
            }
            headers(&choice, sink);
            unique_values(&choice, "queryParams", false, sink);
        }
        filters(&rule, false, sink);
        backends(&rule, sink);
        if let Some(timeouts) = rule.field("timeouts")
            && let (Some(request), Some(backend)) =
                (timeouts.period("request"), timeouts.period("backendRequest"))
            && backend > request
            && !request.get().is_zero()
        {
            timeouts.place("backendRequest").error(
                sink,
                format!("{backend} is longer than the whole request's {request}"),
                "one try can't take longer than all",
            );
        }
    }
}

pub fn grpc(spec: &At<'_>, sink: &mut Sink) {
    parents(spec, sink);
    for rule in rules(spec, sink) {
        for choice in rule.items("matches") {
            if let Some(method) = choice.field("method") {
                if !method.says("service") && !method.says("method") {
                    method.error(
                        sink,
                        "needs a service, a method or both",
                        "leave method out to match every call",
                    );
                }
                let is_regex = method.text("type") == Some("RegularExpression");
                for name in ["service", "method"] {
                    if is_regex {
                        method.check(name, "regex", sink);
                    } else if let Some(word) = method.text(name)
                        && (word.is_empty()
                            || !word
                                .bytes()
                                .all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte)))
                    {
                        method.place(name).error(
                            sink,
                            format!("{} is not a gRPC {name}", crate::text::quote(word)),
                            "such as shop.v1.Cart and Add",
                        );
                    }
                }
            }
            headers(&choice, sink);
        }
        filters(&rule, true, sink);
        backends(&rule, sink);
    }
}

pub fn tcp(spec: &At<'_>, sink: &mut Sink) {
    parents(spec, sink);
    let rules = rules(spec, sink);
    for rule in &rules {
        if !rule.says("backendRefs") {
            rule.place("backendRefs").error(sink, "needs at least one backend", "");
        }
        for backend in rule.items("backendRefs").iter().filter(|backend| backend.says("filters")) {
            backend.place("filters").error(sink, "a connection has nothing to filter", "leave it out");
        }
        backends(rule, sink);
    }
    if let Some(second) = rules.get(1) {
        second.warning(
            sink,
            "has no effect: connections have nothing to match on, so the first rule takes all",
            "",
        );
    }
}

fn rules<'a>(spec: &At<'a>, sink: &mut Sink) -> Vec<At<'a>> {
    let rules = spec.items("rules");
    if rules.len() > RULES_MAX {
        spec.place("rules").error(
            sink,
            format!("{} rules are more than {RULES_MAX}", rules.len()),
            "split the route",
        );
    }
    unique(&rules, "the name", |rule| rule.text("name"), sink);
    rules
}

fn parents(spec: &At<'_>, sink: &mut Sink) {
    let parents = spec.items("parentRefs");
    if parents.is_empty() && spec.field("parentRefs").is_none_or(|parents| parents.value.is_array()) {
        spec.place("parentRefs").warning(
            sink,
            "is missing: the route is attached to nothing",
            "- {group: \"\", kind: Service, name: NAME}",
        );
    }
    for parent in &parents {
        let said = (parent.text_or("group", GATEWAY_GROUP), parent.text_or("kind", "Gateway"));
        match target::known(&PARENTS, said) {
            Ok(()) => {}
            Err(stray) => stray.tell(parent, "a route can't be attached to", sink),
        }
    }
    let of_services = !parents.is_empty() && parents.iter().all(|p| p.text("kind") == Some("Service"));
    if of_services && spec.says("hostnames") {
        spec.place("hostnames").warning(
            sink,
            "has no effect: calls to a Service are told apart by its own names",
            "match on the header Host, or leave it out",
        );
    }
    let key = |parent: &At<'_>| {
        Some(
            ["group", "kind", "namespace", "name", "port", "sectionName"]
                .map(|name| parent.value.get(name).map(Value::to_string)),
        )
    };
    unique(&parents, "the parent", |parent| key(parent), sink);
}

fn headers(choice: &At<'_>, sink: &mut Sink) {
    unique_values(choice, "headers", true, sink);
}

/// Matches on values: regular expressions compile, and no name stands there twice.
fn unique_values(choice: &At<'_>, list: &str, any_case: bool, sink: &mut Sink) {
    let items = choice.items(list);
    for item in &items {
        if item.text("type") == Some("RegularExpression") {
            item.check("value", "regex", sink);
        }
        if list == "queryParams" && item.text("name") == Some("") {
            item.place("name").error(sink, "is empty", "the name of a query parameter");
        }
    }
    let key = |item: &At<'_>| {
        item.text("name").map(|name| if any_case { name.to_ascii_lowercase() } else { name.to_owned() })
    };
    unique(&items, "the name", key, sink);
}

fn filters(rule: &At<'_>, is_grpc: bool, sink: &mut Sink) {
    one_list(rule, rule, is_grpc, sink);
    for backend in rule.items("backendRefs") {
        one_list(&backend, rule, is_grpc, sink);
    }
    let redirects = rule.items("filters").iter().any(|filter| filter.text("type") == Some("RequestRedirect"));
    if redirects && rule.says("backendRefs") {
        rule.place("backendRefs").error(
            sink,
            "a rule that redirects sends nothing on",
            "leave one of the two out",
        );
    }
}

const FIELDS: [(&str, &str); 6] = [
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestRedirect", "requestRedirect"),
    ("URLRewrite", "urlRewrite"),
    ("RequestMirror", "requestMirror"),
    ("ExtensionRef", "extensionRef"),
];

fn one_list(holder: &At<'_>, rule: &At<'_>, is_grpc: bool, sink: &mut Sink) {
    let mut seen = BTreeSet::new();
    for filter in holder.items("filters") {
        let Some((kind, field)) =
            filter.text("type").and_then(|kind| FIELDS.into_iter().find(|(name, _)| *name == kind))
        else {
            continue;
        };
        if filter.field(field).is_none() {
            filter.place(field).error(sink, format!("is missing: type {kind} needs it"), "");
        }
        for (other, extra) in FIELDS.into_iter().filter(|(other, extra)| *other != kind && filter.says(extra))
        {
            filter.place(extra).error(
                sink,
                format!("does not belong to a filter of type {kind}"),
                &format!("a filter of its own, of type {other}"),
            );
        }
        if is_grpc && matches!(kind, "RequestRedirect" | "URLRewrite") {
            filter.place("type").error(sink, format!("a gRPC call knows no {kind}"), "leave it out");
        }
        if !seen.insert(kind) && !matches!(kind, "RequestMirror" | "ExtensionRef") {
            filter.error(sink, format!("is the second filter of type {kind}"), "put both into one");
        }
        if kind == "URLRewrite" && seen.contains("RequestRedirect")
            || kind == "RequestRedirect" && seen.contains("URLRewrite")
        {
            filter.error(sink, "a redirect and a rewrite exclude each other", "leave one of the two out");
        }
        modifiers(&filter, rule, sink);
    }
}

fn modifiers(filter: &At<'_>, rule: &At<'_>, sink: &mut Sink) {
    for name in ["requestRedirect", "urlRewrite"] {
        let Some(path) = filter.field(name).and_then(|filter| filter.field("path")) else { continue };
        let (needed, extra) = match path.text("type") {
            Some("ReplaceFullPath") => ("replaceFullPath", "replacePrefixMatch"),
            Some("ReplacePrefixMatch") => ("replacePrefixMatch", "replaceFullPath"),
            _ => continue,
        };
        if path.field(needed).is_none() {
            path.place(needed).error(sink, "is missing: the type needs it", "");
        }
        if path.field(extra).is_some() {
            path.place(extra).error(sink, "does not belong to this type", "leave it out");
        }
        if needed == "replacePrefixMatch" {
            let other = rule.items("matches").into_iter().find(|choice| {
                choice.field("path").is_some_and(|path| path.text_or("type", "PathPrefix") != "PathPrefix")
            });
            if let Some(other) = other {
                path.place("type").error(
                    sink,
                    format!("{} matches no prefix", other.path),
                    "ReplaceFullPath, or matches of type PathPrefix",
                );
            }
        }
    }
    for name in ["requestHeaderModifier", "responseHeaderModifier"] {
        let Some(modifier) = filter.field(name) else { continue };
        for list in ["set", "add"] {
            unique(
                &modifier.items(list),
                "the name",
                |header| header.text("name").map(str::to_ascii_lowercase),
                sink,
            );
        }
    }
    if let Some(mirror) = filter.field("requestMirror") {
        if mirror.field("percent").is_some() && mirror.field("fraction").is_some() {
            mirror.place("fraction").error(sink, "percent is given too", "leave one of the two out");
        }
        if let Some(fraction) = mirror.field("fraction")
            && let Some(numerator) = fraction.number("numerator")
            && numerator > fraction.number("denominator").unwrap_or(100)
        {
            fraction.error(sink, "is more than the whole", "");
        }
        if let Some(backend) = mirror.field("backendRef") {
            backend_kind(&backend, sink);
        }
    }
}

fn backends(rule: &At<'_>, sink: &mut Sink) {
    let backends = rule.items("backendRefs");
    for backend in &backends {
        backend_kind(backend, sink);
    }
    if !backends.is_empty() && backends.iter().all(|backend| backend.number("weight") == Some(0)) {
        rule.place("backendRefs").warning(
            sink,
            "all weights are 0: every request is answered with 500",
            "give one backend a weight of 1 or more",
        );
    }
}

fn backend_kind(backend: &At<'_>, sink: &mut Sink) {
    let said = (backend.text_or("group", ""), backend.text_or("kind", "Service"));
    match target::known(&BACKENDS, said) {
        Ok(()) if said.1 == "Service" && backend.field("port").is_none() => {
            backend.place("port").error(sink, "is missing: a Service needs it", "a port of that Service");
        }
        Ok(()) => {}
        Err(Stray::Foreign { kind, group }) => backend.warning(
            sink,
            format!("the mesh can't forward to a {kind} of {group}; its share is answered with 503"),
            "a Service or an ExternalService",
        ),
        Err(stray) => stray.tell(backend, "the mesh can't forward to", sink),
    }
}

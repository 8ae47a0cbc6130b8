//! Rules of `AccessPolicy`.

use super::policy::targets;
use super::{At, unique};
use crate::parse::Sink;

/// Characters of a header's values, as they stand in one expression: proxies refuse longer ones.
const HEADER_CHARS_MAX: usize = 900;
/// Longest value or prefix of a header.
const VALUE_CHARS_MAX: usize = 256;
/// Headers that a rule can't look at, and what to write instead.
const NOT_HERE: [(&str, &str); 2] = [
    ("host", "hosts"),
    // Proxies set it, and take away what callers say there.
    ("x-forwarded-client-cert", "identities, namespaces or services in from"),
];

pub fn check(spec: &At<'_>, sink: &mut Sink) {
    targets(spec, &[("", "Service")], sink);
    for rule in spec.items("rules") {
        // An empty entry would match everything, which nobody writes on purpose where access is decided.
        for (list, about) in [
            ("from", "identities, namespaces, services, trustDomains or ipBlocks"),
            ("to", "methods, paths, grpcMethods, hosts, headers or ports"),
        ] {
            for entry in rule.items(list) {
                let empty =
                    entry.value.as_object().is_some_and(|fields| fields.keys().all(|name| !entry.says(name)));
                if empty {
                    entry.error(
                        sink,
                        "says nothing, and so would match everything",
                        &format!("list {about}, or leave {list} out"),
                    );
                }
            }
        }
        for entry in rule.items("to") {
            if entry.says("grpcMethods") && entry.says("paths") {
                let message = "is a path too: beside paths in one entry they contradict each other";
                entry.place("grpcMethods").error(sink, message, "another entry of to");
            }
            for header in entry.items("headers") {
                self::header(&header, sink);
            }
        }
    }
    if !spec.says("rules") && matches!(spec.text("action"), Some("Deny" | "Audit")) {
        spec.place("rules").warning(
            sink,
            "is missing: the policy matches nothing",
            "rules: [{}] matches everything",
        );
    }
    if spec.text("action") == Some("Audit") && spec.text("mode") == Some("DryRun") {
        spec.place("mode").warning(sink, "has no effect: an Audit never changes a verdict", "leave it out");
    }
}

fn header(header: &At<'_>, sink: &mut Sink) {
    const LISTS: [&str; 3] = ["values", "prefixes", "notValues"];
    let name = header.text_or("name", "").to_ascii_lowercase();
    if let Some((_, instead)) = NOT_HERE.iter().find(|(not_here, _)| *not_here == name) {
        header.place("name").error(sink, format!("{name} can't be matched as a header"), instead);
    }
    if name.contains('_') {
        let message = "has an underscore: proxies drop such headers before any policy looks";
        header.place("name").warning(sink, message, &name.replace('_', "-"));
    }
    let says_values = LISTS.iter().any(|list| header.says(list));
    match (header.says("present"), says_values) {
        (false, false) => {
            header.error(sink, "says nothing about the header", "values, prefixes, notValues or present");
        }
        (true, true) => {
            header.place("present").error(
                sink,
                "does not go with values",
                "leave it out: a value is present",
            );
        }
        _ => {}
    }
    for list in LISTS {
        let items = header.items(list);
        for item in &items {
            let text = item.value.as_str().unwrap_or_default();
            if text.is_empty() {
                item.error(sink, "is empty", "present: true for a header with any value");
            } else if text.trim() != text {
                item.error(sink, "has blanks at an end, which no value of a request has", text.trim());
            } else if text.chars().count() > VALUE_CHARS_MAX {
                item.error(sink, format!("is longer than {VALUE_CHARS_MAX} characters"), "prefixes");
            }
        }
        unique(&items, "the text", |item| item.value.as_str(), sink);
    }
    for lists in [&["values", "prefixes"][..], &["notValues"]] {
        let texts = lists.iter().flat_map(|list| header.items(list));
        let sum: usize = texts.filter_map(|item| item.value.as_str()).map(written).sum();
        if sum > HEADER_CHARS_MAX {
            header.place(lists[0]).error(
                sink,
                format!("takes {sum} characters as one expression, more than {HEADER_CHARS_MAX}"),
                "several policies, or prefixes",
            );
        }
    }
}

/// As part of a regular expression: most punctuation is written as two characters.
fn written(text: &str) -> usize {
    text.chars().map(|letter| if letter.is_alphanumeric() || letter == '-' { 1 } else { 2 }).sum::<usize>()
        + 8
}

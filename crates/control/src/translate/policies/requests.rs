//! What is asked for, as permissions of RBAC: methods, paths, hosts, headers; and ports, which are decided here, since
//! one filter guards one port.
//!
//! Both proxies must judge alike, and see requests differently. A Weft proxy asks each line of a header, and each value
//! of a list in one line where a hit refuses; it asks for a path with and without parameters (`/a;x`). An Envoy knows
//! no lists and no parameters: it gets expressions that say so. Of several lines it takes one that fits for enough
//! (some versions join them), so it can't be asked whether all fit: see [`beyond`].

use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use rbac::permission::{Rule, Set};
use weft_model::{AccessHeader, AccessTo};

use super::super::proto::{exact, prefix, regex, suffix};
use super::super::view::ProxyKind;
use super::{StringMatcher, Unknown, any_permission, is_envoy, literally, one_of};

/// A parameter of a path's element, as it is sent.
const PARAMETER: &str = "(?:(?:;|%3[bB])[^/]*)?";
/// Elements of a path that are compared one by one; what is deeper is taken for a hit.
const ELEMENTS_MAX: usize = 32;
/// In RE2 a byte that need not be text.
const BYTES: &str = r"\C*";

/// At which port, and for what.
pub struct Asked<'a> {
    /// Whether requests are seen at all.
    pub http: bool,
    /// What the port may be called.
    pub ports: &'a [u16],
    pub unknown: Unknown,
    /// Who will ask.
    pub by: ProxyKind,
}

/// One entry of `to`; nothing where it is about other ports, or allows what can't be seen.
pub fn permission(to: &AccessTo, asked: &Asked<'_>) -> Option<rbac::Permission> {
    let AccessTo { methods, paths, grpc_methods, hosts, headers, ports, not_methods, not_paths } = to;
    if !ports.is_empty() && !ports.iter().any(|port| asked.ports.contains(port)) {
        return None;
    }
    if !asked.http && to.looks_into_requests() {
        return (asked.unknown == Unknown::Holds).then(any_permission);
    }
    if beyond(to, asked) {
        return (asked.unknown == Unknown::Holds).then(any_permission);
    }
    let path = |path: &String| url_path(path_test(path, asked.unknown, asked.by));
    let not_path = |path: &String| url_path(path_test(path, asked.unknown.turned(), asked.by));
    let call = |method: &String| url_path(path_test(&format!("/{method}"), asked.unknown, asked.by));
    let lists = [
        methods.iter().map(|name| method(name)).collect::<Vec<_>>(),
        paths.iter().map(path).collect(),
        grpc_methods.iter().map(call).collect(),
        hosts.iter().map(|name| host(name, asked.by)).collect(),
    ];
    let negated = [
        not_methods.iter().map(|name| method(name)).collect::<Vec<_>>(),
        not_paths.iter().map(not_path).collect(),
    ];
    let mut parts: Vec<rbac::Permission> =
        lists.into_iter().filter(|list| !list.is_empty()).map(any_of).collect();
    parts.extend(negated.into_iter().filter(|list| !list.is_empty()).map(|list| not(any_of(list))));
    parts.extend(headers.iter().flat_map(|wanted| header(wanted, asked)));
    Some(all_of(parts))
}

/// Whether an entry asks for all lines of a header, and of an Envoy, which can't tell. As with all that is not known,
/// what lets in then does not, and what refuses does.
pub fn beyond(to: &AccessTo, asked: &Asked<'_>) -> bool {
    let asks_all = |header: &AccessHeader| match asked.unknown {
        Unknown::Fails => !(header.values.is_empty() && header.prefixes.is_empty()),
        Unknown::Holds => !header.not_values.is_empty(),
    };
    asked.http && is_envoy(asked.by) && to.headers.iter().any(asks_all)
}

pub fn method(name: &str) -> rbac::Permission {
    header_text(":method", exact(name))
}

fn host(name: &str, by: ProxyKind) -> rbac::Permission {
    let name = name.to_ascii_lowercase();
    let (below, rest) = name.strip_prefix("*.").map_or((false, name.as_str()), |rest| (true, rest));
    let test = match (by, below) {
        // A dot at the end and a port make no other host; ours leaves them out by itself.
        (ProxyKind::Envoy, _) => {
            let start = if below { r"[^:]+\." } else { "" };
            regex(format!(r"(?i){start}{}\.?(?::[0-9]*)?", literally(rest)))
        }
        (_, true) => suffix(format!(".{rest}")),
        (_, false) => exact(rest),
    };
    header_text(":authority", test)
}

/// `/a`, or `/a/*` for all below.
fn path_test(path: &str, unknown: Unknown, by: ProxyKind) -> StringMatcher {
    let start = path.strip_suffix('*');
    // Who writes a parameter means the path as it was sent.
    if is_envoy(by) && unknown == Unknown::Holds && !path.contains(';') {
        return with_parameters(start.unwrap_or(path), start.is_some());
    }
    start.map_or_else(|| exact(path), prefix)
}

fn with_parameters(path: &str, below: bool) -> StringMatcher {
    let elements: Vec<&str> = path.split('/').skip(1).collect();
    let deep = elements.len() > ELEMENTS_MAX;
    let mut text = String::new();
    for (index, element) in elements.iter().enumerate().take(ELEMENTS_MAX) {
        text.push('/');
        if below && index + 1 == elements.len() {
            break; // The star's, which is added behind.
        }
        text += &however_escaped(element);
        text += PARAMETER;
    }
    if below || deep {
        text += BYTES;
    }
    regex(text)
}

/// An element as it stands or as it may be escaped; letters, digits and `-._~` an Envoy has decoded. Who writes an escape
/// means the path as it was sent.
fn however_escaped(element: &str) -> String {
    if element.contains('%') {
        return literally(element);
    }
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-._~".contains(letter);
    let mut text = String::new();
    for letter in element.chars() {
        let itself = literally(letter.encode_utf8(&mut [0; 4]));
        if plain(letter) {
            text += &itself;
            continue;
        }
        let mut bytes = [0; 4];
        let escape: String =
            letter.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02x}")).collect();
        text += &format!("(?:{itself}|(?i:{escape}))");
    }
    text
}

fn header(wanted: &AccessHeader, asked: &Asked<'_>) -> Vec<rbac::Permission> {
    let AccessHeader { name, values, prefixes, not_values, present } = wanted;
    let name = name.to_ascii_lowercase();
    if let Some(present) = present {
        let there = route::header_matcher::HeaderMatchSpecifier::PresentMatch(*present);
        return vec![header_test(&name, there)];
    }
    let texts = |values: &[String], prefixes: &[String], unknown| match unknown {
        Unknown::Holds => any_value(&name, values, prefixes, asked.by),
        Unknown::Fails => every_line(&name, values, prefixes),
    };
    let mut parts = Vec::new();
    if !(values.is_empty() && prefixes.is_empty()) {
        parts.push(texts(values, prefixes, asked.unknown));
    }
    if !not_values.is_empty() {
        parts.push(not(texts(not_values, &[], asked.unknown.turned())));
    }
    parts
}

/// Where a hit refuses: one of the header's values is enough, also one of a list in one line.
fn any_value(name: &str, values: &[String], prefixes: &[String], by: ProxyKind) -> rbac::Permission {
    let exactly = values.iter().map(|value| match by {
        ProxyKind::Envoy => regex(format!(r"(?:{BYTES},)?[ \t]*{}[ \t]*(?:,{BYTES})?", literally(value))),
        _ => exact(value.as_str()),
    });
    let beginning = prefixes.iter().map(|start| match by {
        ProxyKind::Envoy => regex(format!(r"(?:{BYTES},)?[ \t]*{}{BYTES}", literally(start))),
        _ => prefix(start.as_str()),
    });
    any_of(exactly.chain(beginning).map(|test| header_text(name, test)).collect())
}

/// Where a hit lets in: all lines of the header must be hits, which a Weft proxy sees to.
fn every_line(name: &str, values: &[String], prefixes: &[String]) -> rbac::Permission {
    if let ([only], []) = (values, prefixes) {
        return header_text(name, exact(only.as_str()));
    }
    let exactly = values.iter().map(|value| literally(value));
    let beginning = prefixes.iter().map(|start| format!("{}[^,]*", literally(start)));
    header_text(name, regex(one_of(exactly.chain(beginning).collect())))
}

/// A text that fits an expression as a whole.
pub fn expression(text: &str) -> StringMatcher {
    // What is no expression at all is cheaper as it stands.
    if literally(text) == text { exact(text) } else { regex(text) }
}

/// A header's text, by name in lower case.
pub fn header_text(name: &str, test: StringMatcher) -> rbac::Permission {
    header_test(name, route::header_matcher::HeaderMatchSpecifier::StringMatch(test))
}

fn header_test(name: &str, test: route::header_matcher::HeaderMatchSpecifier) -> rbac::Permission {
    rule(Rule::Header(route::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(test),
        ..Default::default()
    }))
}

pub fn url_path(test: StringMatcher) -> rbac::Permission {
    rule(Rule::UrlPath(matcher::PathMatcher { rule: Some(matcher::path_matcher::Rule::Path(test)) }))
}

pub fn rule(rule: Rule) -> rbac::Permission {
    rbac::Permission { rule: Some(rule) }
}

fn not(one: rbac::Permission) -> rbac::Permission {
    rule(Rule::NotRule(Box::new(one)))
}

pub fn any_of(mut rules: Vec<rbac::Permission>) -> rbac::Permission {
    match rules.len() {
        1 => rules.remove(0),
        _ => rule(Rule::OrRules(Set { rules })),
    }
}

pub fn all_of(mut rules: Vec<rbac::Permission>) -> rbac::Permission {
    match rules.len() {
        0 => any_permission(),
        1 => rules.remove(0),
        _ => rule(Rule::AndRules(Set { rules })),
    }
}

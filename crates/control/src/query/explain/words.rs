//! Matchers as people say them.

use weft_routing::{HeaderKey, HeaderMatch, HeaderTest, PathMatch, RouteMatch, StringMatch};

/// What a request must look like for a route.
pub(super) fn route(matcher: &RouteMatch) -> String {
    let mut parts = vec![path(&matcher.path)];
    parts.extend(matcher.headers.iter().map(header));
    parts.extend(matcher.query.iter().map(|query| match &query.value {
        Some(value) => format!("query parameter {} {}", query.name, text(value)),
        None => format!("query parameter {} is there", query.name),
    }));
    if matcher.grpc {
        parts.push("it is gRPC".to_owned());
    }
    if matcher.fraction_millionths < 1_000_000 {
        parts.push(format!("one of {} % of all", f64::from(matcher.fraction_millionths) / 10_000.0));
    }
    parts.join(" and ")
}

fn path(path: &PathMatch) -> String {
    match path {
        PathMatch::Prefix(start) if **start == *"/" => "any path".to_owned(),
        PathMatch::Prefix(start) => format!("the path starts with {start}"),
        PathMatch::SeparatedPrefix(start) => format!("the path is {start} or below it"),
        PathMatch::Exact(exact) => format!("the path is {exact}"),
        PathMatch::Regex(regex) => format!("the path fits {}", regex.as_str()),
        PathMatch::Connect => "it is a CONNECT".to_owned(),
    }
}

fn header(test: &HeaderMatch) -> String {
    let name = match &test.key {
        HeaderKey::Method => "the method".to_owned(),
        HeaderKey::Authority => "the host".to_owned(),
        HeaderKey::Path => "the path".to_owned(),
        HeaderKey::Scheme => "the scheme".to_owned(),
        HeaderKey::Protocol => "the protocol".to_owned(),
        HeaderKey::Name(name) => format!("header {name}"),
    };
    let not = if test.invert { "not: " } else { "" };
    match &test.test {
        HeaderTest::Present(true) => format!("{not}{name} is there"),
        HeaderTest::Present(false) => format!("{not}{name} is not there"),
        HeaderTest::Text(value) => format!("{not}{name} {}", text(value)),
        HeaderTest::Range { start, end } => format!("{not}{name} is a number from {start} to below {end}"),
    }
}

fn text(value: &StringMatch) -> String {
    match value {
        StringMatch::Exact { value, .. } => format!("is {value:?}"),
        StringMatch::Prefix { value, .. } => format!("starts with {value:?}"),
        StringMatch::Suffix { value, .. } => format!("ends with {value:?}"),
        StringMatch::Contains { value, .. } => format!("contains {value:?}"),
        StringMatch::Regex(regex) => format!("fits {}", regex.as_str()),
    }
}

/// At most so many of them, and how many more there are.
pub(super) fn some<T: AsRef<str>>(all: &[T], shown: usize) -> String {
    let names: Vec<&str> = all.iter().take(shown).map(AsRef::as_ref).collect();
    let more = all.len().saturating_sub(shown);
    if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) }
}

//! `input.parsed_body`: what a body says, by its content type, as OPA's plugin for Envoy reads it.
//!
//! JSON and forms are parsed. A body that is only a beginning is never parsed. gRPC bodies are not: the
//! plugin needs descriptors for them.

use regorus::Value;
use regorus::value::Object;

use crate::input::Body;
use crate::{json, url};

/// Larger bodies can't be held as values within a decision's memory.
pub(crate) const BODY_MAX: usize = 256 * 1024;
/// Parts of one multipart body.
const PARTS_MAX: usize = 256;

pub(crate) struct Parsed {
    pub(crate) value: Value,
    pub(crate) truncated: bool,
}

/// `framing` gives a header by its name.
pub(crate) fn parse(
    body: Option<&Body<'_>>,
    framing: &dyn Fn(&str) -> Option<String>,
) -> Result<Parsed, String> {
    let nothing = |truncated| Ok(Parsed { value: Value::Null, truncated });
    let Some(body) = body else { return nothing(false) };
    if body.truncated {
        return nothing(true);
    }
    let Some(kind) = framing("content-type") else { return nothing(false) };
    let json = kind.contains("application/json");
    let form = kind.contains("application/x-www-form-urlencoded");
    let parts = kind.contains("multipart/form-data");
    if !(json || form || parts) || body.bytes.is_empty() {
        return nothing(false);
    }
    if let Some(length) = framing("content-length") {
        let length: i64 = length.trim().parse().map_err(|_| "content-length is no number".to_owned())?;
        if usize::try_from(length).is_ok_and(|length| length > body.bytes.len()) {
            return nothing(true);
        }
    }
    if body.bytes.len() > BODY_MAX {
        return Err(format!("body: more than {BODY_MAX} bytes"));
    }
    let value = if json {
        json::parse(body.bytes).map_err(|why| format!("body: {why}"))?
    } else if form {
        let text = String::from_utf8_lossy(body.bytes);
        grouped(url::pairs(&text).map_err(|why| format!("body: {why}"))?)
    } else {
        match boundary(&kind) {
            Some(boundary) => multipart(body.bytes, &boundary)?,
            None => Value::Null,
        }
    };
    Ok(Parsed { value, truncated: false })
}

/// Each name with all its values.
pub(crate) fn grouped(pairs: Vec<(String, String)>) -> Value {
    grouped_values(pairs.into_iter().map(|(name, value)| (name, Value::from(value))))
}

fn grouped_values(pairs: impl Iterator<Item = (String, Value)>) -> Value {
    let mut groups: std::collections::BTreeMap<String, Vec<Value>> = std::collections::BTreeMap::new();
    for (name, value) in pairs {
        groups.entry(name).or_default().push(value);
    }
    let fields = groups.into_iter().map(|(name, values)| (Value::from(name), Value::from(values)));
    fields.collect::<Object>().into_value()
}

/// The parameter of a content type, with or without quotes.
fn parameter(header: &str, wanted: &str) -> Option<String> {
    header.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.to_owned())
    })
}

fn boundary(kind: &str) -> Option<String> {
    parameter(kind, "boundary").filter(|boundary| !boundary.is_empty() && boundary.len() <= 70)
}

fn multipart(bytes: &[u8], boundary: &str) -> Result<Value, String> {
    let broken = || "body: the parts don't fit their boundary".to_owned();
    let mark = format!("--{boundary}");
    let mut fields: Vec<(String, Value)> = Vec::new();
    let mut rest =
        find(bytes, mark.as_bytes()).and_then(|at| bytes.get(at + mark.len()..)).ok_or_else(broken)?;
    let mark = format!("\r\n--{boundary}");
    let mut parts = 0;
    while !rest.starts_with(b"--") {
        parts += 1;
        if parts > PARTS_MAX {
            return Err(format!("body: more than {PARTS_MAX} parts"));
        }
        rest = rest.strip_prefix(b"\r\n").ok_or_else(broken)?;
        let end = find(rest, mark.as_bytes()).ok_or_else(broken)?;
        let (part, after) = rest.split_at_checked(end).ok_or_else(broken)?;
        rest = after.get(mark.len()..).ok_or_else(broken)?;
        let (head, content) = match part.strip_prefix(b"\r\n") {
            Some(content) => (&[][..], content),
            None => {
                let at = find(part, b"\r\n\r\n").ok_or_else(broken)?;
                (part.get(..at).unwrap_or_default(), part.get(at + 4..).unwrap_or_default())
            }
        };
        let head = String::from_utf8_lossy(head);
        let header = |wanted: &str| {
            head.split("\r\n").find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
            })
        };
        let Some(disposition) = header("content-disposition") else { continue };
        let name = parameter(&disposition, "name").unwrap_or_default();
        if name.is_empty() || !disposition.trim_start().starts_with("form-data") {
            continue;
        }
        let value = if header("content-type").is_some_and(|kind| kind.contains("application/json")) {
            json::parse(content).map_err(|why| format!("body: part {name}: {why}"))?
        } else {
            Value::from(String::from_utf8_lossy(content).as_ref())
        };
        fields.push((name, value));
    }
    Ok(grouped_values(fields.into_iter()))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(kind: &str, bytes: &[u8]) -> Result<String, String> {
        let framing = |name: &str| (name == "content-type").then(|| kind.to_owned());
        parse(Some(&Body { bytes, truncated: false }), &framing)
            .map(|parsed| parsed.value.to_json_str().unwrap().replace(['\n', ' '], ""))
    }

    #[test]
    fn bodies_by_type() {
        assert_eq!(parsed("application/json; charset=utf-8", br#"{"a":1}"#).unwrap(), r#"{"a":1}"#);
        assert_eq!(parsed("text/plain", b"{").unwrap(), "null");
        assert!(parsed("application/json", b"{").is_err());
        assert_eq!(
            parsed("application/x-www-form-urlencoded", b"a=1&b=2&a=3").unwrap(),
            r#"{"a":["1","3"],"b":["2"]}"#
        );
    }

    #[test]
    fn a_form_in_parts() {
        let body = b"preamble\r\n--X\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\none\r\n--X\r\n\
            content-type: application/json\r\nContent-Disposition: form-data; name=\"j\"\r\n\r\n{\"a\":2}\r\n--X--\r\n";
        assert_eq!(
            parsed("multipart/form-data; boundary=X", body).unwrap(),
            r#"{"f":["one"],"j":[{"a":2}]}"#
        );
        assert!(parsed("multipart/form-data; boundary=X", b"--X\r\nA: b\r\n\r\nno end").is_err());
        assert_eq!(parsed("multipart/form-data", b"x").unwrap(), "null");
    }

    #[test]
    fn a_beginning_is_not_parsed() {
        let framing = |name: &str| match name {
            "content-type" => Some("application/json".to_owned()),
            "content-length" => Some("100".to_owned()),
            _ => None,
        };
        let short = parse(Some(&Body { bytes: b"{}", truncated: false }), &framing).unwrap();
        assert!(short.truncated && short.value == Value::Null);
        let told = parse(Some(&Body { bytes: b"{}", truncated: true }), &framing).unwrap();
        assert!(told.truncated && told.value == Value::Null);
    }
}

//! Label and field selectors, as `kubectl get -l` and `--field-selector` write them.
//!
//! Parsed once per request, then asked for each object. A selector that we don't understand is
//! refused: an ignored selector would hand out, or delete, more than was asked for.

use serde_json::Value;

const REQUIREMENTS_MAX: usize = 64;

/// Which objects a list or a watch wants.
#[derive(Debug, Default)]
pub(crate) struct Selector {
    requirements: Vec<Requirement>,
    name: Vec<Equality>,
    namespace: Vec<Equality>,
}

#[derive(Debug)]
struct Equality {
    equal: bool,
    value: String,
}

#[derive(Debug)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// Reads both query parameters; either may be empty.
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Selector, String> {
        let mut selector = Selector::default();
        for part in split_outside_brackets(labels) {
            selector.requirements.push(requirement(part)?);
        }
        for part in fields.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (field, equality) = field_requirement(part)?;
            match field {
                "metadata.name" => selector.name.push(equality),
                "metadata.namespace" => selector.namespace.push(equality),
                other => {
                    return Err(format!(
                        "field label not supported: {other} (use metadata.name or metadata.namespace)"
                    ));
                }
            }
        }
        if selector.requirements.len() + selector.name.len() + selector.namespace.len() > REQUIREMENTS_MAX {
            return Err(format!("a selector has at most {REQUIREMENTS_MAX} requirements"));
        }
        Ok(selector)
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let meta = &object["metadata"];
        let text = |field: &str| meta[field].as_str().unwrap_or_default();
        let holds = |equalities: &[Equality], value: &str| {
            equalities.iter().all(|equality| (equality.value == value) == equality.equal)
        };
        holds(&self.name, text("name"))
            && holds(&self.namespace, text("namespace"))
            && self.requirements.iter().all(|requirement| {
                let label = |key: &str| meta["labels"].get(key).and_then(Value::as_str);
                match requirement {
                    Requirement::In(key, values) => {
                        label(key).is_some_and(|found| values.iter().any(|value| value == found))
                    }
                    Requirement::NotIn(key, values) => {
                        label(key).is_none_or(|found| values.iter().all(|value| value != found))
                    }
                    Requirement::Exists(key) => label(key).is_some(),
                    Requirement::Absent(key) => label(key).is_none(),
                }
            })
    }
}

fn field_requirement(part: &str) -> Result<(&str, Equality), String> {
    let (field, equal, value) = if let Some((field, value)) = part.split_once("!=") {
        (field, false, value)
    } else if let Some((field, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        (field, true, value)
    } else {
        return Err(format!("invalid field selector \"{part}\" (write metadata.name=NAME)"));
    };
    Ok((field.trim(), Equality { equal, value: value.trim().to_owned() }))
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let wrong = || format!("unable to parse label selector requirement \"{part}\"");
    let key_of = |key: &str| {
        let key = key.trim();
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if key.is_empty() || !key.chars().all(legal) { Err(wrong()) } else { Ok(key.to_owned()) }
    };
    if let Some(key) = part.strip_prefix('!') {
        return Ok(Requirement::Absent(key_of(key)?));
    }
    if let Some(open) = part.find('(') {
        let inside = part[open + 1..].strip_suffix(')').ok_or_else(wrong)?;
        let values = inside.split(',').map(|value| value.trim().to_owned()).collect();
        let words: Vec<&str> = part[..open].split_whitespace().collect();
        return match words.as_slice() {
            [key, "in"] => Ok(Requirement::In(key_of(key)?, values)),
            [key, "notin"] => Ok(Requirement::NotIn(key_of(key)?, values)),
            _ => Err(wrong()),
        };
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Ok(Requirement::NotIn(key_of(key)?, vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Requirement::In(key_of(key)?, vec![value.trim().to_owned()]));
    }
    Ok(Requirement::Exists(key_of(part)?))
}

/// Splits at commas, but not at those of `in (a,b)`.
fn split_outside_brackets(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is its message")]
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_choose_as_kubectl_does() {
        let object = json!({"metadata": {"name": "be1", "namespace": "default", "labels": {"app": "be1", "version": "v2"}}});
        let rows = [
            ("", "", true),
            ("app=be1", "", true),
            ("app==be1,version!=v1", "", true),
            ("app!=be1", "", false),
            ("version in (v1, v2),app", "", true),
            ("version notin (v2)", "", false),
            ("tier notin (gold)", "", true),
            ("!tier", "", true),
            ("tier", "", false),
            ("", "metadata.name=be1", true),
            ("", "metadata.name!=be1", false),
            ("", "metadata.name=be1,metadata.namespace=other", false),
        ];
        for (labels, fields, expected) in rows {
            let selector = Selector::parse(labels, fields).unwrap();
            assert_eq!(selector.matches(&object), expected, "labels {labels:?} fields {fields:?}");
        }
    }

    #[test]
    fn a_selector_that_is_not_understood_is_refused() {
        for (labels, fields) in [
            ("a in (b", ""),
            ("a b", ""),
            ("a like (b)", ""),
            ("", "spec.nodeName=x"),
            ("", "metadata.name"),
            ("=x", ""),
        ] {
            assert!(Selector::parse(labels, fields).is_err(), "labels {labels:?} fields {fields:?}");
        }
        let many = vec!["a"; REQUIREMENTS_MAX + 1].join(",");
        assert!(Selector::parse(&many, "").is_err());
    }
}

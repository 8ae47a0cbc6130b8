//! The structural check: a value is walked along the schema of its kind, and every difference is a
//! problem. Nothing here knows a kind; single texts go to [`crate::text`] by the schema's `format`.

use serde_json::{Map, Value};

use super::path::Path;
use super::{Sink, suggest};
use crate::text;

/// Walks `value` along `schema`. `null` counts as left out, as in Kubernetes.
pub fn walk(schema: &Value, value: &Value, path: &Path, sink: &mut Sink) {
    let Value::Object(rules) = schema else { return };
    if sink.is_full() {
        return;
    }
    if rules.contains_key("x-kubernetes-int-or-string") {
        return int_or_string(rules, value, path, sink);
    }
    match rules.get("type").and_then(Value::as_str) {
        Some("object") => match value {
            Value::Object(fields) => object(rules, fields, path, sink),
            other => wrong_type("an object", other, None, path, sink),
        },
        Some("array") => match value {
            Value::Array(items) => array(rules, items, path, sink),
            other => wrong_type("a list", other, Some("put - before each item".to_owned()), path, sink),
        },
        Some("string") => match value {
            Value::String(word) => string(rules, word, path, sink),
            other => {
                let hint = (other.is_number() || other.is_boolean()).then(|| in_quotes(other));
                wrong_type("a text", other, hint, path, sink);
            }
        },
        Some("integer") => integer(rules, value, path, sink),
        Some("number") if !value.is_number() => wrong_type("a number", value, None, path, sink),
        Some("boolean") if !value.is_boolean() => {
            let meant = match value.as_str().map(str::to_ascii_lowercase).as_deref() {
                Some("yes" | "on" | "y" | "true") => Some("true"),
                Some("no" | "off" | "n" | "false") => Some("false"),
                _ => None,
            };
            wrong_type(
                "true or false",
                value,
                meant.map(|word| format!("{word}, without quotes")),
                path,
                sink,
            );
        }
        _ => {}
    }
}

fn object(rules: &Map<String, Value>, fields: &Map<String, Value>, path: &Path, sink: &mut Sink) {
    let properties = rules.get("properties").and_then(Value::as_object);
    let others = rules.get("additionalProperties");
    let open = rules.contains_key("x-kubernetes-preserve-unknown-fields");
    for (name, value) in fields {
        if sink.is_full() {
            return;
        }
        let known = properties.and_then(|properties| properties.get(name));
        match known.or(others) {
            Some(schema) if value.is_null() => {
                // In a map of texts a bare `key:` is a forgotten value; at a field it is "left out".
                if known.is_none() && schema.get("type").is_some() {
                    sink.error(path.field(name), "has no value", Some("\"\" for an empty text".to_owned()));
                }
            }
            Some(schema) => walk(schema, value, &path.field(name), sink),
            None if open => {}
            None => {
                let names = properties.into_iter().flat_map(Map::keys).map(String::as_str);
                sink.unknown(
                    path.field(name),
                    format!("unknown field {}", text::quote(name)),
                    suggest::hint(name, names),
                );
            }
        }
    }
    let required =
        rules.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        if fields.get(name).is_none_or(Value::is_null) {
            let about = properties.and_then(|properties| properties.get(name)?.get("description")?.as_str());
            let first_sentence = about.and_then(|about| about.lines().next()).map(str::to_owned);
            sink.error(path.field(name), "is missing", first_sentence);
        }
    }
}

fn array(rules: &Map<String, Value>, items: &[Value], path: &Path, sink: &mut Sink) {
    let least = rules.get("minItems").and_then(Value::as_u64).unwrap_or(0);
    if (items.len() as u64) < least {
        sink.error(
            path.clone(),
            format!("needs at least {least} item{}", if least == 1 { "" } else { "s" }),
            None,
        );
    }
    let Some(schema) = rules.get("items") else { return };
    for (index, item) in items.iter().enumerate() {
        match item {
            Value::Null => {
                sink.error(path.index(index), "has no value", Some("remove the empty item".to_owned()))
            }
            item => walk(schema, item, &path.index(index), sink),
        }
    }
}

fn string(rules: &Map<String, Value>, word: &str, path: &Path, sink: &mut Sink) {
    if let Some(Value::Array(words)) = rules.get("enum") {
        let known = words.iter().filter_map(Value::as_str);
        if !known.clone().any(|known| known == word) {
            let list = known.clone().collect::<Vec<_>>().join(", ");
            let hint = suggest::nearest(word, known).map(|nearest| format!("did you mean {nearest:?}?"));
            sink.error(path.clone(), format!("{} is not one of {list}", text::quote(word)), hint);
        }
        return;
    }
    if let Some(format) = rules.get("format").and_then(Value::as_str)
        && let Err(complaint) = text::check(format, word)
    {
        sink.error(path.clone(), complaint.message, complaint.hint);
    }
}

fn integer(rules: &Map<String, Value>, value: &Value, path: &Path, sink: &mut Sink) {
    let Some(number) = value.as_i64().or_else(|| value.as_u64().map(|_| i64::MAX)) else {
        let meant = value.as_str().and_then(|word| word.trim().parse::<i64>().ok());
        return wrong_type(
            "a whole number",
            value,
            meant.map(|number| format!("without quotes: {number}")),
            path,
            sink,
        );
    };
    if let Some(Value::Array(words)) = rules.get("enum") {
        if !words.iter().any(|word| word.as_i64() == Some(number)) {
            let list = words.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
            sink.error(path.clone(), format!("{value} is not one of {list}"), None);
        }
        return;
    }
    let bound = |name: &str| {
        rules.get(name).and_then(|bound| bound.as_i64().or_else(|| bound.as_f64().map(|bound| bound as i64)))
    };
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) if number < least || number > most => {
            sink.error(path.clone(), format!("{value} is not within {least} to {most}"), None)
        }
        (Some(least), None) if number < least => {
            sink.error(path.clone(), format!("{value} is less than {least}"), None)
        }
        (None, Some(most)) if number > most => {
            sink.error(path.clone(), format!("{value} is more than {most}"), None)
        }
        // What has no bound of its own still has to fit the 32 bits of its type.
        (Some(_), None)
            if rules.get("format").and_then(Value::as_str) == Some("int32")
                && number > i64::from(u32::MAX) =>
        {
            sink.error(path.clone(), format!("{value} is too large"), None);
        }
        _ => {}
    }
}

fn int_or_string(rules: &Map<String, Value>, value: &Value, path: &Path, sink: &mut Sink) {
    match value {
        Value::Number(number) if number.as_u64().is_some_and(|number| (1..=65535).contains(&number)) => {}
        Value::Number(_) => sink.error(path.clone(), format!("{value} is not within 1 to 65535"), None),
        Value::String(word) => string(rules, word, path, sink),
        other => wrong_type("a number or a name", other, None, path, sink),
    }
}

fn wrong_type(expected: &str, found: &Value, hint: Option<String>, path: &Path, sink: &mut Sink) {
    // A message goes to logs, too: what a Secret holds stays out of it.
    if sink.secret {
        return sink.error(
            path.clone(),
            format!("must be {expected}"),
            hint.map(|_| "put it in quotes".to_owned()),
        );
    }
    let found = match found {
        Value::Null => "nothing".to_owned(),
        Value::Bool(word) => format!("{word}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(word) => format!("the text {}", text::quote(word)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    sink.error(path.clone(), format!("must be {expected}, but is {found}"), hint);
}

/// A number or word as a text. A fraction may have lost digits on the way here (`1.10`), so it is not
/// repeated.
fn in_quotes(value: &Value) -> String {
    if value.is_f64() { "put it in quotes".to_owned() } else { format!("in quotes: \"{value}\"") }
}

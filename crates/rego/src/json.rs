//! JSON from strangers, as the engine's values.
//!
//! The engine's own reader computes the digits of any number that a certain object key announces, however
//! large its exponent; so nothing from a request goes through it.

use std::fmt;

use regorus::Value;
use regorus::value::Object;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Integers up to here have a float of their own.
const FLOAT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// A document, or why it is none. Depth is bounded by the parser.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice::<Document>(bytes).map(|document| document.0).map_err(|error| error.to_string())
}

/// From a document that was parsed already.
pub(crate) fn convert(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(value), ..) => Value::from(value),
            (_, Some(value), _) => Value::from(value),
            (.., Some(value)) => float(value),
            _ => Value::Undefined,
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => Value::from(items.iter().map(convert).collect::<Vec<_>>()),
        serde_json::Value::Object(map) => map
            .iter()
            .map(|(key, value)| (Value::from(key.as_str()), convert(value)))
            .collect::<Object>()
            .into(),
    }
}

/// Sets become lists, and keys that are no strings their JSON. `None` where `left` nodes are not enough.
pub(crate) fn export(value: &Value, left: &mut usize) -> Option<serde_json::Value> {
    *left = left.checked_sub(1)?;
    Some(match value {
        Value::Undefined | Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(value), ..) => value.into(),
            (_, Some(value), _) => value.into(),
            (.., Some(value)) => value.into(),
            _ => serde_json::Value::String(number.format_decimal()),
        },
        Value::String(text) => {
            *left = left.checked_sub(text.len() / 16)?;
            serde_json::Value::String(text.to_string())
        }
        Value::Array(items) => {
            serde_json::Value::Array(items.iter().map(|item| export(item, left)).collect::<Option<_>>()?)
        }
        Value::Set(items) => {
            serde_json::Value::Array(items.iter().map(|item| export(item, left)).collect::<Option<_>>()?)
        }
        Value::Object(fields) => {
            let mut map = serde_json::Map::new();
            for (key, value) in fields.iter_sorted() {
                let key = match key {
                    Value::String(text) => text.to_string(),
                    other => export(other, left)?.to_string(),
                };
                map.insert(key, export(value, left)?);
            }
            serde_json::Value::Object(map)
        }
    })
}

/// Large integers keep their digits: the engine's arithmetic expects them so.
fn float(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() > FLOAT_INTEGER_MAX {
        return Value::from_numeric_string(&format!("{value:.0}")).unwrap_or(Value::Undefined);
    }
    Value::from(value)
}

struct Document(Value);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Document)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON document")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(float(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Document(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::from(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some((key, Document(value))) = fields.next_entry::<std::borrow::Cow<'de, str>, _>()? {
            object.insert(Value::from(key.as_ref()), value);
        }
        Ok(object.into_value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read() {
        let value = parse(br#"{"a": [1, -2, 2.5, null, true, "x"], "b": {}}"#).unwrap();
        assert_eq!(
            value.to_json_str().unwrap().replace([' ', '\n'], ""),
            r#"{"a":[1,-2,2.5,null,true,"x"],"b":{}}"#
        );
        assert!(parse(b"{").is_err());
        assert!(parse(b"1 2").is_err());
    }

    #[test]
    fn no_number_is_computed_from_an_exponent() {
        let value = parse(br#"{"$serde_json::private::Number": "1e1000000000"}"#).unwrap();
        assert_eq!(value["$serde_json::private::Number"], Value::from("1e1000000000"));
        assert!(parse(b"1e1000000000").is_err());
        // An integer to the engine's arithmetic, not a float that it can't turn into one.
        assert!(matches!(parse(b"1e300").unwrap(), Value::Number(number) if number.is_integer()));
    }

    #[test]
    fn depth_ends() {
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }
}

//! Walks the bytes of a resource by the table.
//!
//! It runs before the decoder, on the network's bytes: it never panics, goes at most
//! [`DEPTH_MAX`] deep and stops after [`FOUND_MAX`] findings.

use super::{Class, Kind, Row, Schema, Shape, type_name};
use crate::types::Strictness;

/// Deeper than any sane resource; prost itself stops at 100.
const DEPTH_MAX: u32 = 64;
/// A NACK's text must stay readable and small.
const FOUND_MAX: usize = 64;

/// Paths and messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub problems: Vec<(String, String)>,
    pub warnings: Vec<(String, String)>,
}

/// Everything in `bytes` that is not understood.
pub fn scan(schema: &'static Schema, bytes: &[u8], strictness: Strictness) -> Found {
    let mut walk = Walk { strictness, path: String::new(), found: Found::default() };
    walk.message(schema, bytes, 0);
    walk.found
}

struct Walk {
    strictness: Strictness,
    path: String,
    found: Found,
}

/// One field as it stands on the wire.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl Walk {
    fn message(&mut self, schema: &'static Schema, bytes: &[u8], depth: u32) {
        if depth > DEPTH_MAX {
            self.problem("is nested too deep".to_owned());
            return;
        }
        // How often each repeated field came, for the index in the path.
        let mut counts: Vec<(u32, usize)> = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.full() {
                return;
            }
            let Some((number, value)) = next_field(&mut rest) else {
                self.problem(format!("is not a well-formed {}", short(schema.name)));
                return;
            };
            let length = self.path.len();
            match schema.row(number) {
                None => {
                    self.step(&format!("<tag {number}>"));
                    self.problem(format!("{} has no field {number} that is known here", short(schema.name)));
                }
                Some(row) => {
                    self.step(row.name);
                    let index = count(&mut counts, number);
                    match (row.shape, row.kind) {
                        (Shape::Many, _) => self.path.push_str(&format!("[{index}]")),
                        // The decoder would merge the two into something that nobody has looked at.
                        (Shape::One, Kind::Message(_) | Kind::Any(_)) if index > 0 => {
                            self.problem("is set twice".to_owned());
                        }
                        _ => {}
                    }
                    self.field(row, &value, depth);
                }
            }
            self.path.truncate(length);
        }
    }

    fn field(&mut self, row: &'static Row, value: &Value<'_>, depth: u32) {
        match row.class {
            Class::Supported => {}
            Class::Harmless(_) => return,
            Class::Warn(_) | Class::Problem(_) if is_default(row, value) => return,
            Class::Warn(why) if self.strictness == Strictness::DeclaredForeign => {
                let warning = (self.path.clone(), format!("not done: {why}"));
                self.found.warnings.push(warning);
                return;
            }
            Class::Warn(why) | Class::Problem(why) => {
                self.problem(format!("is set, but {why}"));
                return;
            }
        }
        match (row.shape, row.kind, value) {
            (Shape::Map, kind, Value::Bytes(entry)) => self.entry(kind, entry, depth),
            (_, Kind::Varint | Kind::Fixed32 | Kind::Fixed64, Value::Number(_)) => {}
            // A packed list of numbers; the decoder reads it.
            (Shape::Many, Kind::Varint | Kind::Fixed32 | Kind::Fixed64, Value::Bytes(_)) => {}
            (_, kind, Value::Bytes(bytes)) => self.inside(kind, bytes, depth),
            (_, _, Value::Number(_)) => self.problem("has the wrong wire type".to_owned()),
        }
    }

    fn inside(&mut self, kind: Kind, bytes: &[u8], depth: u32) {
        match kind {
            Kind::Text | Kind::Bytes | Kind::Opaque => {}
            Kind::Message(schema) => self.message(schema, bytes, depth + 1),
            Kind::Any(allowed) => self.any(allowed, bytes, depth),
            Kind::Varint | Kind::Fixed32 | Kind::Fixed64 => {
                self.problem("has the wrong wire type".to_owned())
            }
        }
    }

    /// A map's entry: key 1, value 2.
    fn entry(&mut self, kind: Kind, entry: &[u8], depth: u32) {
        let mut key = String::new();
        let mut values: Vec<&[u8]> = Vec::new();
        let mut rest = entry;
        while !rest.is_empty() {
            match next_field(&mut rest) {
                Some((1, Value::Bytes(bytes))) => key = String::from_utf8_lossy(bytes).into_owned(),
                Some((2, Value::Bytes(bytes))) => values.push(bytes),
                _ => {
                    self.problem("is not a well-formed map entry".to_owned());
                    return;
                }
            }
        }
        let length = self.path.len();
        self.path.push_str(&format!("[{key:?}]"));
        if values.len() > 1 {
            self.problem("is set twice".to_owned());
        }
        for value in values {
            self.inside(kind, value, depth);
        }
        self.path.truncate(length);
    }

    fn any(&mut self, allowed: &'static [&'static Schema], bytes: &[u8], depth: u32) {
        let mut url = String::new();
        let mut values: Vec<&[u8]> = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            match next_field(&mut rest) {
                Some((1, Value::Bytes(bytes))) => url = String::from_utf8_lossy(bytes).into_owned(),
                Some((2, Value::Bytes(bytes))) => values.push(bytes),
                _ => {
                    self.problem("is not a well-formed Any".to_owned());
                    return;
                }
            }
        }
        if values.len() > 1 {
            self.problem("has two values".to_owned());
        }
        let name = type_name(&url);
        match allowed.iter().find(|schema| schema.name == name) {
            None => {
                let known: Vec<&str> = allowed.iter().map(|schema| schema.name).collect();
                self.problem(format!("holds {url:?}, which is not known here; known: {}", known.join(", ")));
            }
            Some(schema) => {
                for value in values {
                    self.message(schema, value, depth + 1);
                }
            }
        }
    }

    fn step(&mut self, name: &str) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(name);
    }

    fn problem(&mut self, message: String) {
        self.found.problems.push((self.path.clone(), message));
    }

    fn full(&self) -> bool {
        self.found.problems.len() >= FOUND_MAX || self.found.warnings.len() >= FOUND_MAX
    }
}

/// True if the field says what its absence says too: plain numbers, texts and bytes, and messages
/// that we know from inside (those are durations and numbers, where zero switches a limit off);
/// any other message or list has presence. Fields of a oneof with a zero count as absent: no rule that is
/// refused can be switched on by a zero.
fn is_default(row: &Row, value: &Value<'_>) -> bool {
    row.shape == Shape::One
        && match (row.kind, value) {
            (Kind::Varint | Kind::Fixed32 | Kind::Fixed64, Value::Number(number)) => *number == 0,
            (Kind::Text | Kind::Bytes | Kind::Message(_), Value::Bytes(bytes)) => bytes.is_empty(),
            _ => false,
        }
}

fn count(counts: &mut Vec<(u32, usize)>, number: u32) -> usize {
    match counts.iter_mut().find(|(known, _)| *known == number) {
        Some((_, count)) => {
            *count += 1;
            *count
        }
        None => {
            counts.push((number, 0));
            0
        }
    }
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// None: the bytes end early, or a wire type is wrong (groups have not been in use since proto2).
fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u32, Value<'a>)> {
    let key = varint(rest)?;
    let number = u32::try_from(key >> 3).ok().filter(|number| *number != 0)?;
    let value = match key & 7 {
        0 => Value::Number(varint(rest)?),
        1 => Value::Number(u64::from_le_bytes(take(rest, 8)?.try_into().ok()?)),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Value::Bytes(take(rest, length)?)
        }
        5 => Value::Number(u64::from(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?))),
        _ => return None,
    };
    Some((number, value))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, left) = rest.split_first()?;
        *rest = left;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

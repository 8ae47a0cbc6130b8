//! Equal messages, equal bytes.
//!
//! Protobuf maps have no order, and the encoder writes them in the order of a seeded hash table:
//! the same route, with the same metadata, encodes differently each time. Versions that are
//! hashes of such bytes would re-send everything at every change. So the entries of each map are
//! sorted by key, down through `Any`. Order elsewhere (routes, filters) has a meaning and stays,
//! as do unknown fields. The meaning of the message never changes.
//!
//! `canonical/maps.txt` is generated from the descriptors of Envoy's API (`types.bin` of
//! `envoy-types` 0.7.7): for each message from which a map can be reached, the fields that lead
//! there, as `NUMBER:TYPE` or, for a map, `NUMBER*TYPE` of its entry. A message that is not in
//! the table keeps its bytes.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::wire;

/// Deeper messages keep their bytes; real configuration nests about 30 deep.
const DEPTH_MAX: usize = 100;
const ANY: &str = "google.protobuf.Any";
const TABLE_TEXT: &str = include_str!("canonical/maps.txt");

/// The bytes of a message of this type with the entries of each map sorted by key.
pub fn bytes(type_url: &str, value: Vec<u8>) -> Vec<u8> {
    match TABLE.message(type_url) {
        Some(message) => sorted(&TABLE, message, &value, 0).unwrap_or(value),
        None => value,
    }
}

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(TABLE_TEXT));

struct Table {
    by_name: HashMap<&'static str, usize>,
    messages: Vec<Vec<Edge>>,
}

struct Edge {
    number: u32,
    is_map: bool,
    to: To,
}

#[derive(Clone, Copy)]
enum To {
    Any,
    Message(usize),
    /// Nothing to sort inside.
    Leaf,
}

impl Table {
    fn parse(text: &'static str) -> Self {
        let by_name: HashMap<&str, usize> = text
            .lines()
            .enumerate()
            .filter_map(|(index, line)| Some((line.split(' ').next()?, index)))
            .collect();
        let edge = |word: &str| {
            let (number, type_name) = word.split_once([':', '*'])?;
            let to = match by_name.get(type_name) {
                _ if type_name == ANY => To::Any,
                Some(index) => To::Message(*index),
                None => To::Leaf,
            };
            Some(Edge { number: number.parse().ok()?, is_map: word.contains('*'), to })
        };
        let messages = text.lines().map(|line| line.split(' ').skip(1).filter_map(edge).collect()).collect();
        Self { by_name, messages }
    }

    fn message(&self, type_url: &str) -> Option<usize> {
        let name = type_url.rsplit('/').next()?;
        self.by_name.get(name).copied()
    }
}

/// `None` when the bytes are not a message; nobody is harmed by leaving those alone.
fn sorted(table: &Table, message: usize, value: &[u8], depth: usize) -> Option<Vec<u8>> {
    if depth == DEPTH_MAX {
        return None;
    }
    let edges = table.messages.get(message)?;
    let mut out = Vec::with_capacity(value.len());
    let mut maps: Vec<(u32, Vec<Entry>)> = Vec::new();
    for field in wire::fields(value)? {
        let edge = edges.iter().find(|edge| edge.number == field.number);
        let (Some(edge), Some(payload)) = (edge, field.payload) else {
            out.extend_from_slice(field.bytes);
            continue;
        };
        let inner = match edge.to {
            To::Any => sorted_any(table, payload, depth + 1),
            To::Message(child) => sorted(table, child, payload, depth + 1),
            To::Leaf => None,
        };
        let inner = inner.unwrap_or_else(|| payload.to_vec());
        if edge.is_map {
            let entry = Entry { key: key(&inner), payload: inner };
            match maps.iter_mut().find(|(number, _)| *number == edge.number) {
                Some((_, entries)) => entries.push(entry),
                None => maps.push((edge.number, vec![entry])),
            }
        } else {
            wire::put_payload(&mut out, field.number, &inner);
        }
    }
    maps.sort_by_key(|(number, _)| *number);
    for (number, mut entries) in maps {
        // Stable: of two entries with one key the last counts, and stays last.
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        for entry in entries {
            wire::put_payload(&mut out, number, &entry.payload);
        }
    }
    Some(out)
}

struct Entry {
    key: Vec<u8>,
    payload: Vec<u8>,
}

/// The bytes of the key's field; a default key is not on the wire.
fn key(entry: &[u8]) -> Vec<u8> {
    let fields = wire::fields(entry).unwrap_or_default();
    let key = fields.iter().find(|field| field.number == 1);
    key.map(|field| field.payload.unwrap_or(field.bytes).to_vec()).unwrap_or_default()
}

fn sorted_any(table: &Table, any: &[u8], depth: usize) -> Option<Vec<u8>> {
    let message = table.message(wire::name(any)?)?;
    let mut out = Vec::with_capacity(any.len());
    for field in wire::fields(any)? {
        match field.payload {
            Some(value) if field.number == 2 => {
                wire::put_payload(&mut out, 2, &sorted(table, message, value, depth)?);
            }
            _ => out.extend_from_slice(field.bytes),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests;

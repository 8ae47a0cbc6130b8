//! The table against Envoy's own `.proto` files, and against the scanner.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

mod protos;

use std::collections::BTreeMap;

use super::{Class, Kind, Row, Schema, Shape, areas, docs_page, scan};
use crate::types::Strictness;

fn schemas() -> Vec<&'static Schema> {
    areas().iter().flat_map(|(_, schemas)| schemas.iter().copied()).collect()
}

/// Bytes of one field with a value that is not its default.
fn encoded(row: &Row) -> Vec<u8> {
    let mut bytes = Vec::new();
    let key = |wire: u32| varint(u64::from(row.number << 3 | wire));
    let delimited = |bytes: &mut Vec<u8>, inside: &[u8]| {
        bytes.extend(key(2));
        bytes.extend(varint(inside.len() as u64));
        bytes.extend(inside);
    };
    if row.shape == Shape::Map {
        let mut entry = vec![0x0a, 1, b'k', 0x12];
        let value = match row.kind {
            Kind::Any(allowed) => any(allowed[0].name),
            _ => Vec::new(),
        };
        entry.extend(varint(value.len() as u64));
        entry.extend(value);
        delimited(&mut bytes, &entry);
        return bytes;
    }
    match row.kind {
        Kind::Varint => {
            bytes.extend(key(0));
            bytes.push(1);
        }
        Kind::Fixed32 => {
            bytes.extend(key(5));
            bytes.extend(1u32.to_le_bytes());
        }
        Kind::Fixed64 => {
            bytes.extend(key(1));
            bytes.extend(1u64.to_le_bytes());
        }
        Kind::Text | Kind::Bytes => delimited(&mut bytes, b"x"),
        // An empty duration or number is zero, which some limits may be.
        Kind::Message(_) if row.class != Class::Supported => delimited(&mut bytes, &[8, 1]),
        Kind::Message(_) | Kind::Opaque => delimited(&mut bytes, b""),
        Kind::Any(allowed) => delimited(&mut bytes, &any(allowed[0].name)),
    }
    bytes
}

fn any(name: &str) -> Vec<u8> {
    let url = format!("type.googleapis.com/{name}");
    let mut bytes = vec![0x0a];
    bytes.extend(varint(url.len() as u64));
    bytes.extend(url.as_bytes());
    bytes
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[test]
fn every_field_of_every_consumed_message_stands_in_the_table() {
    let protos = protos::load();
    let mut fields = 0;
    for schema in schemas() {
        let Some(wanted) = protos.messages.get(schema.name) else {
            // The protobuf library's own types, and ours, are not among Envoy's files.
            assert!(
                schema.name.starts_with("google.protobuf.") || schema.name.starts_with("weft."),
                "{} is not in the .proto files",
                schema.name
            );
            continue;
        };
        let rows: BTreeMap<u32, &Row> = schema.rows.iter().map(|row| (row.number, row)).collect();
        assert_eq!(rows.len(), schema.rows.len(), "{}: a number stands twice", schema.name);
        for field in wanted {
            let row = rows.get(&field.number);
            let row =
                row.unwrap_or_else(|| panic!("{}.{} ({}) is missing", schema.name, field.name, field.number));
            assert_eq!(row.name, field.name, "{}: field {}", schema.name, field.number);
            let shape = match (field.map, field.repeated) {
                (true, _) => Shape::Map,
                (_, true) => Shape::Many,
                _ => Shape::One,
            };
            assert_eq!(row.shape, shape, "{}.{}", schema.name, field.name);
            let scalar = matches!(row.kind, Kind::Varint | Kind::Fixed32 | Kind::Fixed64);
            match field.kind.as_str() {
                "string" => assert!(matches!(row.kind, Kind::Text), "{}.{}", schema.name, field.name),
                "bytes" => assert!(matches!(row.kind, Kind::Bytes), "{}.{}", schema.name, field.name),
                "double" => assert!(matches!(row.kind, Kind::Fixed64), "{}.{}", schema.name, field.name),
                "bool" | "uint32" | "uint64" | "int32" | "int64" => {
                    assert!(matches!(row.kind, Kind::Varint), "{}.{}", schema.name, field.name);
                }
                "google.protobuf.Any" if row.class == Class::Supported => {
                    assert!(matches!(row.kind, Kind::Any(_)), "{}.{}", schema.name, field.name);
                }
                // A message by its last name, or an enum.
                other => match row.kind {
                    Kind::Message(inner) => {
                        let last = |name: &str| name.rsplit('.').next().unwrap().to_owned();
                        assert_eq!(last(inner.name), last(other), "{}.{}", schema.name, field.name);
                    }
                    Kind::Opaque => {}
                    _ => assert!(scalar, "{}.{} is a {other}", schema.name, field.name),
                },
            }
            fields += 1;
        }
        assert_eq!(rows.len(), wanted.len(), "{} has rows for fields that Envoy has not", schema.name);
    }
    assert!(fields > 500, "the parser found only {fields} fields");
}

#[test]
fn every_message_that_is_looked_into_is_on_the_page() {
    let listed: Vec<&str> = schemas().iter().map(|schema| schema.name).collect();
    for schema in schemas() {
        for row in schema.rows {
            let inner: Vec<&str> = match row.kind {
                Kind::Message(inner) => vec![inner.name],
                Kind::Any(allowed) => allowed.iter().map(|schema| schema.name).collect(),
                _ => continue,
            };
            for name in inner {
                assert!(listed.contains(&name), "{}.{} leads to {name}", schema.name, row.name);
            }
        }
    }
}

#[test]
fn every_field_set_once_comes_out_as_its_class_says() {
    for schema in schemas() {
        for row in schema.rows {
            let bytes = encoded(row);
            let own = scan(schema, &bytes, Strictness::Own);
            let foreign = scan(schema, &bytes, Strictness::DeclaredForeign);
            let (own_problems, foreign_problems, foreign_warnings) = match row.class {
                Class::Supported | Class::Harmless(_) => (0, 0, 0),
                Class::Warn(_) => (1, 0, 1),
                Class::Problem(_) => (1, 1, 0),
            };
            let what = format!("{}.{}", schema.name, row.name);
            assert_eq!(own.problems.len(), own_problems, "{what}: {own:?}");
            assert_eq!(own.warnings.len(), 0, "{what}: {own:?}");
            assert_eq!(foreign.problems.len(), foreign_problems, "{what}: {foreign:?}");
            assert_eq!(foreign.warnings.len(), foreign_warnings, "{what}: {foreign:?}");
            for (path, _) in own.problems.iter().chain(&foreign.warnings) {
                let suffix = if row.shape == Shape::Many { "[0]" } else { "" };
                assert_eq!(*path, format!("{}{suffix}", row.name), "{what}");
            }
        }
    }
}

#[test]
fn unknown_tags_are_problems_everywhere() {
    for schema in schemas() {
        let number = 1 + schema.rows.iter().map(|row| row.number).max().unwrap_or(0) + 500;
        let mut bytes = varint(u64::from(number << 3));
        bytes.push(1);
        let found = scan(schema, &bytes, Strictness::DeclaredForeign);
        assert_eq!(found.problems.len(), 1, "{}", schema.name);
        assert_eq!(found.problems[0].0, format!("<tag {number}>"));
    }
}

#[test]
fn garbage_and_depth_never_panic() {
    let mut state = 0x1234_5678_9abc_def0_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..20_000 {
        let length = (next() % 40) as usize;
        let bytes: Vec<u8> = (0..length).map(|_| (next() >> 32) as u8).collect();
        for schema in
            [&super::LISTENER, &super::CLUSTER, &super::ROUTE_CONFIGURATION, &super::CLUSTER_LOAD_ASSIGNMENT]
        {
            scan(schema, &bytes, Strictness::Own);
        }
    }
    // not_rule in not_rule in not_rule …
    let mut bytes = Vec::new();
    for _ in 0..200 {
        let mut outer = varint(8 << 3 | 2);
        outer.extend(varint(bytes.len() as u64));
        outer.extend(&bytes);
        bytes = outer;
    }
    let found = scan(&super::rbac::PERMISSION, &bytes, Strictness::Own);
    assert!(found.problems[0].1.contains("too deep"), "{found:?}");
}

#[test]
fn findings_are_bounded() {
    let bytes: Vec<u8> = std::iter::repeat_n([0xf8, 0x7f, 1], 10_000).flatten().collect();
    let found = scan(&super::CLUSTER, &bytes, Strictness::Own);
    assert_eq!(found.problems.len(), 64);
}

#[test]
fn the_page_names_every_message_and_field() {
    let page = docs_page();
    for schema in schemas() {
        assert!(page.contains(&format!("### `{}`", schema.name)), "{}", schema.name);
        for row in schema.rows {
            assert!(
                page.contains(&format!("| {} | `{}` |", row.number, row.name)),
                "{}.{}",
                schema.name,
                row.name
            );
        }
    }
}

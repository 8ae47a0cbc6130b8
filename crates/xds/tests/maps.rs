//! `src/canonical/maps.txt` against the descriptors that envoy-types ships: run with `WEFT_WRITE_MAPS=1` to
//! write it anew after an update.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test panics; that is its answer"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};

/// A message's fields that are messages, and whether it is the entry of a map.
struct Node {
    fields: Vec<(i32, String)>,
    entry: bool,
}

#[test]
fn the_table_of_maps_is_that_of_the_descriptors() {
    let set = FileDescriptorSet::decode(&std::fs::read(descriptors()).unwrap()[..]).unwrap();
    let mut nodes = BTreeMap::new();
    for file in &set.file {
        for message in &file.message_type {
            collect(file.package(), message, &mut nodes);
        }
    }
    let made = table(&nodes);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/canonical/maps.txt");
    if std::env::var_os("WEFT_WRITE_MAPS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let have = std::fs::read_to_string(&path).unwrap();
    let (have, made): (BTreeSet<&str>, BTreeSet<&str>) = (have.lines().collect(), made.lines().collect());
    let changed: Vec<_> = have.symmetric_difference(&made).take(5).collect();
    assert!(changed.is_empty(), "write it anew with WEFT_WRITE_MAPS=1; first differences: {changed:#?}");
}

fn collect(scope: &str, message: &DescriptorProto, nodes: &mut BTreeMap<String, Node>) {
    let name = format!("{scope}.{}", message.name());
    let fields = message.field.iter().filter(|field| field.r#type() == Type::Message);
    let fields =
        fields.map(|field| (field.number(), field.type_name().trim_start_matches('.').to_owned())).collect();
    let entry = message.options.as_ref().is_some_and(|options| options.map_entry());
    for inner in &message.nested_type {
        collect(&name, inner, nodes);
    }
    nodes.insert(name, Node { fields, entry });
}

/// A line for each message from which a map, or an `Any` that may hold one, can be reached.
fn table(nodes: &BTreeMap<String, Node>) -> String {
    let mut leads: BTreeSet<&str> = BTreeSet::from(["google.protobuf.Any"]);
    let is_entry = |name: &str| nodes.get(name).is_some_and(|node| node.entry);
    loop {
        let before = leads.len();
        for (name, node) in nodes {
            if node.fields.iter().any(|(_, of)| is_entry(of) || leads.contains(of.as_str())) {
                leads.insert(name);
            }
        }
        if leads.len() == before {
            break;
        }
    }
    let mut text = String::new();
    for (name, node) in nodes.iter().filter(|(name, _)| leads.contains(name.as_str())) {
        let mut fields: Vec<_> =
            node.fields.iter().filter(|(_, of)| is_entry(of) || leads.contains(of.as_str())).collect();
        fields.sort();
        let line = fields
            .iter()
            .map(|(number, of)| format!(" {number}{}{of}", if is_entry(of) { '*' } else { ':' }));
        if !fields.is_empty() {
            text.push_str(&format!("{name}{}\n", line.collect::<String>()));
        }
    }
    text
}

fn descriptors() -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cargo"));
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    let lock = std::fs::read_to_string(lock).unwrap();
    let version =
        lock.split("name = \"envoy-types\"\nversion = \"").nth(1).unwrap().split('"').next().unwrap();
    let registries = std::fs::read_dir(home.join("registry/src")).expect("cargo has a registry");
    registries
        .map(|registry| {
            registry.unwrap().path().join(format!("envoy-types-{version}/src/generated/types.bin"))
        })
        .find(|path| path.is_file())
        .expect("envoy-types is unpacked in cargo's registry")
}

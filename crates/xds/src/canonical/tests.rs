//! One version per content, whatever the hash order; and no content lost on the way.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_types::pb::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager,
};
use envoy_types::pb::google::protobuf::{Struct, Value, value};
use prost::{Message, Name};

use super::*;
use crate::{Any, Resource};

fn text(text: &str) -> Value {
    Value { kind: Some(value::Kind::StringValue(text.to_owned())) }
}

/// Each call builds its maps anew, in another hash order.
fn stamp() -> Metadata {
    let keys = ["kind", "namespace", "name", "field", "revision", "line"];
    let fields = keys.map(|key| (key.to_owned(), text(key)));
    let stamp = Struct { fields: HashMap::from(fields) };
    let filters = ["weft.dev", "envoy.lb", "a", "b", ""].map(|name| (name.to_owned(), stamp.clone()));
    Metadata { filter_metadata: HashMap::from(filters), ..Default::default() }
}

fn routes(names: &[&str]) -> RouteConfiguration {
    let route =
        |name: &&str| Route { name: (*name).to_owned(), metadata: Some(stamp()), ..Default::default() };
    RouteConfiguration {
        name: "outbound".to_owned(),
        virtual_hosts: vec![VirtualHost {
            routes: names.iter().map(route).collect(),
            metadata: Some(stamp()),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn listener() -> Listener {
    let manager = HttpConnectionManager {
        route_specifier: Some(http_connection_manager::RouteSpecifier::RouteConfig(routes(&["x"]))),
        ..Default::default()
    };
    let manager = Any { type_url: HttpConnectionManager::type_url(), value: manager.encode_to_vec() };
    Listener {
        name: "inbound".to_owned(),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                config_type: Some(filter::ConfigType::TypedConfig(manager)),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[test]
fn a_message_with_maps_has_one_version_however_it_was_built() {
    let versions: Vec<String> = (0..20).map(|_| Resource::of("r", &routes(&["a", "b"])).version).collect();
    assert!(versions.iter().all(|version| *version == versions[0]), "{versions:?}");
}

#[test]
fn maps_inside_any_count_too() {
    let versions: Vec<String> = (0..20).map(|_| Resource::of("l", &listener()).version).collect();
    assert!(versions.iter().all(|version| *version == versions[0]), "{versions:?}");
}

#[test]
fn the_order_of_routes_is_content() {
    let ab = Resource::of("r", &routes(&["a", "b"]));
    let ba = Resource::of("r", &routes(&["b", "a"]));
    assert_ne!(ab.version, ba.version);
}

#[test]
fn the_meaning_stays() {
    let message = routes(&["a", "b"]);
    let again: RouteConfiguration = Resource::of("r", &message).decode().unwrap();
    assert_eq!(message, again);
}

#[test]
fn unknown_fields_and_nonsense_keep_their_bytes() {
    let url = RouteConfiguration::type_url();
    let mut unknown = Vec::new();
    wire::put_payload(&mut unknown, 1, b"name");
    wire::put_payload(&mut unknown, 9999, b"from the future");
    assert_eq!(bytes(&url, unknown.clone()), unknown);
    for nonsense in [&b"\xff\xff\xff"[..], b"\x0a\x50short", b"\x00", b"\x0b"] {
        assert_eq!(bytes(&url, nonsense.to_vec()), nonsense);
    }
    assert_eq!(bytes("type.googleapis.com/nobody.knows", b"x".to_vec()), b"x");
}

#[test]
fn a_bomb_of_nested_structs_is_left_alone() {
    // Value.list_value.values[0] and so on: Value 6 -> ListValue 1 -> Value.
    let mut value = Vec::new();
    for _ in 0..10_000 {
        let mut outer = Vec::new();
        wire::put_payload(&mut outer, 1, &value);
        value.clear();
        wire::put_payload(&mut value, 6, &outer);
    }
    assert_eq!(bytes("type.googleapis.com/google.protobuf.Value", value.clone()), value);
}

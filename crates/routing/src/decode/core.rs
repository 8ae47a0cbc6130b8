//! Addresses, ranges, sources of bytes, stamps.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as pb;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use ipnet::IpNet;

use super::reader::Reader;
use crate::types::{Address, DataSource, Stamp};

/// The key of our own metadata.
const OURS: &str = "weft.dev";
/// Depth of a struct that is taken over (access logs).
const STRUCT_DEPTH_MAX: u32 = 16;

pub(super) fn address(reader: &mut Reader, address: &pb::Address) -> Option<Address> {
    match address.address.as_ref() {
        Some(pb::address::Address::SocketAddress(socket)) => {
            reader.at("socket_address", |reader| socket_address(reader, socket))
        }
        Some(pb::address::Address::Pipe(pipe)) => {
            reader.at("pipe", |reader| reader.required_text("path", &pipe.path)).map(Address::Pipe)
        }
        // The table has refused it.
        Some(pb::address::Address::EnvoyInternalAddress(_)) => None,
        None => {
            reader.problem("needs socket_address or pipe");
            None
        }
    }
}

fn socket_address(reader: &mut Reader, socket: &pb::SocketAddress) -> Option<Address> {
    if socket.protocol != 0 {
        reader.problem_at("protocol", "is not TCP");
    }
    let port = match socket.port_specifier.as_ref() {
        Some(PortSpecifier::PortValue(port)) => reader.port("port_value", *port),
        Some(PortSpecifier::NamedPort(_)) => None,
        None => {
            reader.problem_at("port_value", "is required");
            None
        }
    };
    let host = reader.required_text("address", &socket.address)?;
    let port = port?;
    Some(match host.parse::<IpAddr>() {
        Ok(ip) => Address::Ip(SocketAddr::new(ip, port)),
        Err(_) => Address::Name { host, port },
    })
}

/// Whether it takes datagrams.
pub(super) fn is_udp(address: &pb::Address) -> bool {
    let Some(pb::address::Address::SocketAddress(socket)) = &address.address else { return false };
    socket.protocol == pb::socket_address::Protocol::Udp as i32
}

/// Whether a socket on `::` is to take IPv4 too.
pub(super) fn is_ipv4_compat(address: &pb::Address) -> bool {
    let Some(pb::address::Address::SocketAddress(socket)) = &address.address else { return false };
    socket.ipv4_compat
}

/// A listener's, of either protocol.
pub(super) fn listener_address(reader: &mut Reader, given: &pb::Address) -> Option<Address> {
    let mut given = given.clone();
    if is_udp(&given)
        && let Some(pb::address::Address::SocketAddress(socket)) = &mut given.address
    {
        socket.protocol = pb::socket_address::Protocol::Tcp as i32;
    }
    address(reader, &given)
}

pub(super) fn range(reader: &mut Reader, range: &pb::CidrRange) -> Option<IpNet> {
    let Ok(ip) = range.address_prefix.parse::<IpAddr>() else {
        reader.problem_at("address_prefix", format!("is no IP address: {:?}", range.address_prefix));
        return None;
    };
    let length = range.prefix_len.as_ref().map_or(0, |length| length.value);
    let net = u8::try_from(length).ok().and_then(|length| IpNet::new(ip, length).ok());
    if net.is_none() {
        reader.problem_at("prefix_len", format!("is too long: {length}"));
    }
    net.map(|net| net.trunc())
}

pub(super) fn data_source(reader: &mut Reader, source: &pb::DataSource) -> Option<DataSource> {
    match source.specifier.as_ref() {
        Some(Specifier::Filename(path)) => {
            reader.required_text("filename", path).map(|path| DataSource::File(PathBuf::from(&*path)))
        }
        Some(Specifier::InlineBytes(bytes)) => Some(DataSource::Bytes(bytes.as_slice().into())),
        Some(Specifier::InlineString(text)) => Some(DataSource::Bytes(text.as_bytes().into())),
        Some(Specifier::EnvironmentVariable(_)) => None,
        None => {
            reader.problem("needs one of filename, inline_bytes, inline_string");
            None
        }
    }
}

/// Endpoints and routes must come over the same stream: order between them matters.
pub(super) fn same_stream(reader: &mut Reader, step: &str, source: Option<&pb::ConfigSource>) {
    match source.and_then(|source| source.config_source_specifier.as_ref()) {
        Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)) => {}
        _ => reader.problem_at(step, "must be ads"),
    }
}

pub(super) fn stamp(metadata: Option<&pb::Metadata>) -> Option<Arc<Stamp>> {
    let ours = metadata?.filter_metadata.get(OURS)?;
    let text = |key: &str| -> Arc<str> { ours.fields.get(key).and_then(scalar).unwrap_or_default().into() };
    Some(Arc::new(Stamp {
        kind: text("kind"),
        namespace: text("namespace"),
        name: text("name"),
        field: text("field"),
        revision: text("revision"),
    }))
}

/// Our metadata as texts, sorted by key.
pub(super) fn labels(metadata: Option<&pb::Metadata>) -> Vec<(Arc<str>, Arc<str>)> {
    let ours = metadata.and_then(|metadata| metadata.filter_metadata.get(OURS));
    let mut labels: Vec<(Arc<str>, Arc<str>)> = ours
        .iter()
        .flat_map(|ours| &ours.fields)
        .filter_map(|(key, value)| Some((key.as_str().into(), scalar(value)?.into())))
        .collect();
    labels.sort();
    labels
}

fn scalar(value: &Value) -> Option<String> {
    match value.kind.as_ref()? {
        Kind::StringValue(text) => Some(text.clone()),
        Kind::NumberValue(number) => Some(number.to_string()),
        Kind::BoolValue(value) => Some(value.to_string()),
        _ => None,
    }
}

pub(super) fn json(reader: &mut Reader, value: &Struct) -> serde_json::Value {
    object(reader, value, 0)
}

fn object(reader: &mut Reader, value: &Struct, depth: u32) -> serde_json::Value {
    if depth > STRUCT_DEPTH_MAX {
        reader.problem("is nested too deep");
        return serde_json::Value::Null;
    }
    let mut map: Vec<_> = value.fields.iter().collect();
    map.sort_by_key(|(key, _)| *key);
    map.into_iter().map(|(key, value)| (key.clone(), json_value(reader, value, depth))).collect()
}

fn json_value(reader: &mut Reader, value: &Value, depth: u32) -> serde_json::Value {
    match value.kind.as_ref() {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::NumberValue(number)) => (*number).into(),
        Some(Kind::StringValue(text)) => text.as_str().into(),
        Some(Kind::BoolValue(value)) => (*value).into(),
        Some(Kind::StructValue(value)) => object(reader, value, depth + 1),
        Some(Kind::ListValue(list)) if depth < STRUCT_DEPTH_MAX => {
            list.values.iter().map(|value| json_value(reader, value, depth + 1)).collect()
        }
        Some(Kind::ListValue(_)) => {
            reader.problem("is nested too deep");
            serde_json::Value::Null
        }
    }
}

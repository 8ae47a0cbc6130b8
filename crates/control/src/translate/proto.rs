//! Short words for the parts of Envoy's messages that every resource needs.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::google::protobuf as google;
use prost::{Message, Name};

use super::names;

/// A message inside an `Any`.
pub fn any<M: Message + Name>(message: &M) -> google::Any {
    google::Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// A duration as protobuf has it.
pub fn duration(value: Duration) -> google::Duration {
    google::Duration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or(0),
    }
}

/// A wrapped number.
pub fn uint32(value: u32) -> google::UInt32Value {
    google::UInt32Value { value }
}

/// A wrapped truth.
pub fn boolean(value: bool) -> google::BoolValue {
    google::BoolValue { value }
}

fn address(host: String, port: u16) -> core::Address {
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: host,
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    }
}

/// An address of numbers.
pub fn socket(at: SocketAddr) -> core::Address {
    address(at.ip().to_string(), at.port())
}

/// An address by name or number.
pub fn host(host: &str, port: u16) -> core::Address {
    address(host.to_owned(), port)
}

/// A network.
pub fn cidr(ip: IpAddr, bits: u32) -> core::CidrRange {
    core::CidrRange { address_prefix: ip.to_string(), prefix_len: Some(uint32(bits)) }
}

/// Discovery over the stream that this resource came by.
pub fn ads() -> core::ConfigSource {
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource {},
        )),
        ..Default::default()
    }
}

/// A text that is exactly this.
pub fn exact(text: impl Into<String>) -> matcher::StringMatcher {
    text_match(matcher::string_matcher::MatchPattern::Exact(text.into()))
}

/// A text that starts so.
pub fn prefix(text: impl Into<String>) -> matcher::StringMatcher {
    text_match(matcher::string_matcher::MatchPattern::Prefix(text.into()))
}

/// A text that ends so.
pub fn suffix(text: impl Into<String>) -> matcher::StringMatcher {
    text_match(matcher::string_matcher::MatchPattern::Suffix(text.into()))
}

/// A text that fits this expression as a whole.
pub fn regex(text: impl Into<String>) -> matcher::StringMatcher {
    text_match(matcher::string_matcher::MatchPattern::SafeRegex(regex_match(text)))
}

/// An expression by itself.
pub fn regex_match(text: impl Into<String>) -> matcher::RegexMatcher {
    matcher::RegexMatcher { regex: text.into(), ..Default::default() }
}

fn text_match(pattern: matcher::string_matcher::MatchPattern) -> matcher::StringMatcher {
    matcher::StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

/// The object and field behind a resource.
#[derive(Clone, Debug)]
pub struct Stamp<'a> {
    /// `HTTPRoute`.
    pub kind: &'a str,
    /// Of the object.
    pub namespace: &'a str,
    /// Of the object.
    pub name: &'a str,
    /// `spec.rules[0]`.
    pub field: String,
    /// The object's last change.
    pub revision: u64,
}

impl Stamp<'_> {
    /// As metadata: `filter_metadata["weft.dev"]`.
    pub fn metadata(&self) -> core::Metadata {
        metadata([
            ("kind", self.kind.to_owned()),
            ("namespace", self.namespace.to_owned()),
            ("name", self.name.to_owned()),
            ("field", self.field.clone()),
            ("revision", self.revision.to_string()),
        ])
    }
}

/// Our own metadata: texts by key.
pub fn metadata<const N: usize>(entries: [(&str, String); N]) -> core::Metadata {
    let fields = entries
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| {
            let kind = Some(google::value::Kind::StringValue(value));
            (key.to_owned(), google::Value { kind })
        })
        .collect();
    core::Metadata {
        filter_metadata: HashMap::from([(names::STAMP.to_owned(), google::Struct { fields })]),
        ..Default::default()
    }
}

//! The listener filters that take PROXY headers: Envoy's, and ours, which believes some.
//!
//! Envoy's filter believes everybody who connects, and none of its matchers can tell a connection whose address was
//! said from one that has it. A listener that takes both its load balancer's connections and others' needs to.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::core::v3::proxy_protocol_config::Version;
use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3 as pb;
use envoy_types::pb::google::protobuf::Any;

use super::core;
use super::reader::Reader;
use crate::fields::type_name;
use crate::types::ProxyProtocol;

/// Our message's name in a type URL.
const OURS: &str = "weft.listener.v1.ProxyProtocol";

/// Our filter's settings.
#[derive(Clone, PartialEq, prost::Message)]
struct Believing {
    /// Connections from there must begin with a header of either version; no other is looked at for one.
    #[prost(message, repeated, tag = "1")]
    from: Vec<CidrRange>,
}

/// The PROXY headers that are taken.
pub(super) fn taken(reader: &mut Reader, any: &Any) -> Option<ProxyProtocol> {
    if type_name(&any.type_url) == OURS {
        let config: Believing = reader.any(any)?;
        return believing_some(reader, &config);
    }
    let config: pb::ProxyProtocol = reader.any(any)?;
    believing_all(reader, &config)
}

/// Envoy's.
fn believing_all(reader: &mut Reader, config: &pb::ProxyProtocol) -> Option<ProxyProtocol> {
    let refused = reader.list("disallowed_versions", &config.disallowed_versions, |reader, version| {
        let version = Version::try_from(*version).ok();
        if version.is_none() {
            reader.problem("is no version of the PROXY protocol");
        }
        version
    });
    let takes = |version| !refused.contains(&version);
    let taken = ProxyProtocol {
        from: None,
        optional: config.allow_requests_without_proxy_protocol,
        takes_v1: takes(Version::V1),
        takes_v2: takes(Version::V2),
    };
    if !taken.takes_v1 && !taken.takes_v2 {
        reader.problem_at("disallowed_versions", "leaves no version to take");
    }
    Some(taken)
}

fn believing_some(reader: &mut Reader, config: &Believing) -> Option<ProxyProtocol> {
    let from: Arc<[ipnet::IpNet]> = reader.list("from", &config.from, core::range).into();
    if config.from.is_empty() {
        reader.problem_at("from", "needs at least one network: nobody is believed by default");
    }
    (from.len() == config.from.len()).then_some(ProxyProtocol {
        from: Some(from),
        optional: false,
        takes_v1: true,
        takes_v2: true,
    })
}

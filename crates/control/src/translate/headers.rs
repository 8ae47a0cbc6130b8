//! PROXY headers: written before a connection's bytes, and believed of some.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::core::v3::{self as core, proxy_protocol_config::Version};
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use ipnet::IpNet;
use weft_model::{ProxyProtocolVersion, Severity};

use super::proto::{any, cidr};
use super::view::ProxyKind;
use super::{Made, traffic};
use crate::snapshot::ServiceId;

/// Our own listener filter; Envoy's believes everybody who connects. `routing` reads it by the same name and number.
#[derive(Clone, PartialEq, prost::Message)]
struct ProxyProtocol {
    /// Connections from there must begin with a header; no other is looked at for one.
    #[prost(message, repeated, tag = "1")]
    from: Vec<core::CidrRange>,
}

impl prost::Name for ProxyProtocol {
    const NAME: &'static str = "ProxyProtocol";
    const PACKAGE: &'static str = "weft.listener.v1";

    fn type_url() -> String {
        format!("type.googleapis.com/{}.{}", Self::PACKAGE, Self::NAME)
    }
}

/// The transport socket that writes a header before what `inner` does, bytes as they are if nothing.
pub fn before(version: ProxyProtocolVersion, inner: Option<core::TransportSocket>) -> core::TransportSocket {
    let inner = inner.unwrap_or_else(|| socket("envoy.transport_sockets.raw_buffer", any(&RawBuffer {})));
    let version = match version {
        ProxyProtocolVersion::V1 => Version::V1,
        ProxyProtocolVersion::V2 => Version::V2,
    };
    let config = core::ProxyProtocolConfig { version: version as i32, ..Default::default() };
    let wanted = ProxyProtocolUpstreamTransport {
        config: Some(config),
        transport_socket: Some(inner),
        ..Default::default()
    };
    socket("envoy.transport_sockets.upstream_proxy_protocol", any(&wanted))
}

fn socket(name: &str, config: envoy_types::pb::google::protobuf::Any) -> core::TransportSocket {
    core::TransportSocket {
        name: name.to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(config)),
    }
}

/// Members write no headers: those who are at such addresses call in vain.
fn shut_out(made: &mut Made<'_>, from: &BTreeSet<IpNet>) {
    let own = made.view.workload.as_str();
    let mut members = made.snapshot.instances.values().filter(|instance| {
        instance.name != own
            && instance.identity.is_some()
            && from.iter().any(|net| net.contains(&instance.address))
    });
    let Some(first) = members.next() else { return };
    let others = match members.count() {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    let message = format!(
        "acceptProxyProtocol.from covers {}/{} at {}{others}: their calls to {own} begin with no PROXY header and are refused",
        first.namespace, first.name, first.address
    );
    let object = format!("Service {}", made.view.id());
    made.found("WFT0918", Severity::Warning, object, message, "name the balancers' own addresses");
}

/// The filter that takes headers from whom the policies of these Services name, if they name anybody.
pub fn believed<'a>(
    made: &mut Made<'_>,
    services: impl Iterator<Item = &'a ServiceId>,
) -> Option<listener::ListenerFilter> {
    let mut from: BTreeSet<IpNet> = BTreeSet::new();
    for service in services.collect::<BTreeSet<_>>() {
        let policy = traffic::for_service(made.snapshot, "Service", service, None);
        let accepting = policy.and_then(|policy| policy.accept_proxy_protocol).unwrap_or_default();
        from.extend(accepting.from.iter().filter_map(|text| text.parse::<IpNet>().ok()));
    }
    if from.is_empty() {
        return None;
    }
    let ours = made.view.kind == ProxyKind::Weft;
    if !ours || !made.view.proxy_headers {
        let (believes, hint) = match ours {
            true => ("is too old to be told whom to believe", "update the proxy"),
            false => ("believes everybody or nobody", "put a Weft proxy before the app"),
        };
        let message = format!(
            "acceptProxyProtocol: the {} proxy of {} {believes}; it takes no PROXY headers",
            made.view.kind.as_str(),
            made.view.workload
        );
        let object = format!("Service {}", made.view.id());
        made.found("WFT0917", Severity::Warning, object, message, hint);
        return None;
    }
    shut_out(made, &from);
    let config = ProxyProtocol {
        from: from.iter().map(|net| cidr(net.addr(), u32::from(net.prefix_len()))).collect(),
    };
    Some(listener::ListenerFilter {
        name: "weft.proxy_protocol".to_owned(),
        config_type: Some(listener::listener_filter::ConfigType::TypedConfig(any(&config))),
        ..Default::default()
    })
}

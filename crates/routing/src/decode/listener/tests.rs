//! PROXY headers, in and out, as control planes ask for them.

use envoy_types::pb::envoy::config::cluster::v3::Cluster as PbCluster;
use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol as PbProxyProtocol;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;

use envoy_types::pb::envoy::extensions::filters::udp::udp_proxy::v3::UdpProxyConfig;
use envoy_types::pb::envoy::extensions::filters::udp::udp_proxy::v3::udp_proxy_config::RouteSpecifier;

use super::*;
use crate::types::{ProxyProtocol, ProxyVersion, Strictness, UdpConfig};
use std::time::Duration;

fn read(filters: Vec<Any>) -> Result<Option<ProxyProtocol>, Vec<String>> {
    let address = core_pb::address::Address::SocketAddress(core_pb::SocketAddress {
        address: "127.0.0.1".to_owned(),
        port_specifier: Some(core_pb::socket_address::PortSpecifier::PortValue(80)),
        ..Default::default()
    });
    let tcp =
        TcpProxy { cluster_specifier: Some(ClusterSpecifier::Cluster("c".to_owned())), ..Default::default() };
    let listener = pb::Listener {
        name: "l".to_owned(),
        address: Some(core_pb::Address { address: Some(address) }),
        listener_filters: filters
            .into_iter()
            .map(|any| pb::ListenerFilter {
                name: "f".to_owned(),
                config_type: Some(listener_filter::ConfigType::TypedConfig(any)),
                ..Default::default()
            })
            .collect(),
        filter_chains: vec![pb::FilterChain {
            filters: vec![pb::Filter {
                name: "tcp".to_owned(),
                config_type: Some(filter::ConfigType::TypedConfig(pack_any(tcp))),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    match crate::listener(&pack_any(listener), Strictness::Own) {
        Ok(read) => Ok(read.value.proxy_protocol),
        Err(problems) => Err(problems.into_iter().map(|problem| problem.path).collect()),
    }
}

fn headers_of(optional: bool, refused: &[i32]) -> Any {
    pack_any(PbProxyProtocol {
        allow_requests_without_proxy_protocol: optional,
        disallowed_versions: refused.to_vec(),
        ..Default::default()
    })
}

#[test]
fn headers_are_taken_as_the_filter_says() {
    let taken =
        |optional, takes_v1, takes_v2| Ok(Some(ProxyProtocol { from: None, optional, takes_v1, takes_v2 }));
    let inspector = || pack_any(TlsInspector::default());
    assert_eq!(read(vec![inspector()]), Ok(None));
    assert_eq!(read(vec![headers_of(false, &[]), inspector()]), taken(false, true, true));
    assert_eq!(read(vec![headers_of(true, &[0])]), taken(true, false, true));
    assert_eq!(read(vec![headers_of(false, &[1])]), taken(false, true, false));
    let refused = |filters: Vec<Any>| read(filters).unwrap_err().join(" ");
    assert_eq!(
        refused(vec![headers_of(false, &[0, 1])]),
        "listener_filters[0].typed_config.disallowed_versions"
    );
    assert_eq!(
        refused(vec![headers_of(false, &[7])]),
        "listener_filters[0].typed_config.disallowed_versions[0]"
    );
    assert_eq!(refused(vec![inspector(), headers_of(false, &[])]), "listener_filters[1]");
    let with_tlvs = PbProxyProtocol { rules: vec![Default::default()], ..Default::default() };
    assert_eq!(refused(vec![pack_any(with_tlvs)]), "listener_filters[0].typed_config.rules[0]");
}

#[test]
fn our_filter_names_who_is_believed_or_is_refused() {
    // `from` is field 1, of ranges whose address is field 1 and length, a wrapped number, field 2.
    let ours = |ranges: &[(&str, u8)]| {
        let range = |(address, length): &(&str, u8)| {
            let tail = [0x12, 2, 8, *length];
            let inner = [&[0x0a, address.len() as u8], address.as_bytes(), &tail].concat();
            [&[0x0a, inner.len() as u8], &inner[..]].concat()
        };
        let type_url = "type.googleapis.com/weft.listener.v1.ProxyProtocol".to_owned();
        Any { type_url, value: ranges.iter().flat_map(range).collect() }
    };
    let taken = read(vec![ours(&[("192.0.2.0", 28), ("2001:db8::", 64)])]).unwrap().unwrap();
    let from: Vec<String> = taken.from.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(from, ["192.0.2.0/28", "2001:db8::/64"]);
    assert_eq!((taken.optional, taken.takes_v1, taken.takes_v2), (false, true, true));
    let refused = |any: Any| read(vec![any]).unwrap_err().join(" ");
    assert_eq!(refused(ours(&[])), "listener_filters[0].typed_config.from");
    assert!(refused(ours(&[("192.0.2.0", 33)])).starts_with("listener_filters[0].typed_config.from[0]"));
    assert!(refused(ours(&[("balancer", 8)])).starts_with("listener_filters[0].typed_config.from[0]"));
}

fn socket(any: Any) -> Option<TransportSocket> {
    Some(TransportSocket {
        name: "s".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any)),
    })
}

fn upstream(version: Option<i32>, inner: Option<TransportSocket>) -> ProxyProtocolUpstreamTransport {
    ProxyProtocolUpstreamTransport {
        config: version.map(|version| core_pb::ProxyProtocolConfig {
            version,
            ..core_pb::ProxyProtocolConfig::default()
        }),
        transport_socket: inner,
        ..Default::default()
    }
}

fn cluster(
    wrapper: ProxyProtocolUpstreamTransport,
    change: impl FnOnce(&mut PbCluster),
) -> Result<(Option<ProxyVersion>, bool), String> {
    let mut cluster = PbCluster {
        name: "c".to_owned(),
        transport_socket: socket(pack_any(wrapper)),
        ..PbCluster::default()
    };
    change(&mut cluster);
    match crate::cluster(&pack_any(cluster), Strictness::Own) {
        Ok(read) => Ok((read.value.proxy_protocol, read.value.tls.is_some())),
        Err(problems) => Err(problems.iter().map(|problem| &*problem.path).collect::<Vec<_>>().join(" ")),
    }
}

#[test]
fn clusters_begin_connections_with_a_header() {
    let raw = || socket(pack_any(RawBuffer::default()));
    let keep = |_: &mut PbCluster| {};
    assert_eq!(cluster(upstream(None, raw()), keep), Ok((Some(ProxyVersion::V1), false)));
    assert_eq!(cluster(upstream(Some(0), raw()), keep), Ok((Some(ProxyVersion::V1), false)));
    assert_eq!(cluster(upstream(Some(1), raw()), keep), Ok((Some(ProxyVersion::V2), false)));
    let place = "transport_socket.typed_config";
    assert_eq!(cluster(upstream(Some(2), raw()), keep), Err(format!("{place}.config.version")));
    assert_eq!(cluster(upstream(Some(1), None), keep), Err(format!("{place}.transport_socket")));
    let twice = upstream(Some(1), socket(pack_any(upstream(Some(1), raw()))));
    assert_eq!(cluster(twice, keep), Err(format!("{place}.transport_socket.typed_config")));
    // Requests of many callers share a connection, of which the header names one.
    let http = |cluster: &mut PbCluster| {
        let options = envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions::default();
        cluster
            .typed_extension_protocol_options
            .insert("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), pack_any(options));
    };
    let refused = cluster(upstream(Some(1), raw()), http).unwrap_err();
    assert!(refused.split(' ').any(|path| path == "transport_socket"), "{refused}");
}

fn datagrams(change: impl FnOnce(&mut pb::Listener, &mut UdpProxyConfig)) -> Result<UdpConfig, String> {
    let address = core_pb::address::Address::SocketAddress(core_pb::SocketAddress {
        protocol: core_pb::socket_address::Protocol::Udp as i32,
        address: "127.0.0.1".to_owned(),
        port_specifier: Some(core_pb::socket_address::PortSpecifier::PortValue(53)),
        ..Default::default()
    });
    let mut listener = pb::Listener {
        name: "l".to_owned(),
        address: Some(core_pb::Address { address: Some(address) }),
        ..Default::default()
    };
    let mut config = UdpProxyConfig {
        stat_prefix: "dns".to_owned(),
        route_specifier: Some(RouteSpecifier::Cluster("c".to_owned())),
        ..Default::default()
    };
    change(&mut listener, &mut config);
    listener.listener_filters.push(pb::ListenerFilter {
        name: "udp".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(pack_any(config))),
        ..Default::default()
    });
    match crate::listener(&pack_any(listener), Strictness::Own) {
        Ok(read) => {
            assert_eq!(read.value.address, None, "nothing may take it for one of TCP");
            Ok(UdpConfig::clone(&read.value.udp.unwrap()))
        }
        Err(problems) => Err(problems.iter().map(|problem| &*problem.path).collect::<Vec<_>>().join(" ")),
    }
}

#[test]
fn datagrams_go_to_one_cluster() {
    let expected = |seconds| UdpConfig {
        address: "127.0.0.1:53".parse().unwrap(),
        cluster: "c".into(),
        idle_timeout: Duration::from_secs(seconds),
    };
    assert_eq!(datagrams(|_, _| {}), Ok(expected(60)));
    let idle = |seconds| Some(envoy_types::pb::google::protobuf::Duration { seconds, nanos: 0 });
    assert_eq!(datagrams(|_, config| config.idle_timeout = idle(5)), Ok(expected(5)));
    let place = "listener_filters[0].typed_config";
    for (refused, expected) in [
        (datagrams(|_, config| config.idle_timeout = idle(0)), format!("{place}.idle_timeout")),
        (datagrams(|_, config| config.use_original_src_ip = true), format!("{place}.use_original_src_ip")),
        (
            datagrams(|_, config| config.hash_policies = vec![Default::default()]),
            format!("{place}.hash_policies[0]"),
        ),
        (
            datagrams(|listener, _| listener.filter_chains = vec![Default::default()]),
            "filter_chains".to_owned(),
        ),
    ] {
        let refused = refused.unwrap_err();
        assert!(refused.split(' ').any(|path| path == expected), "{expected}: {refused}");
    }
}

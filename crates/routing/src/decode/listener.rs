//! Listeners, filter chains, network filters, the TCP proxy.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket};
use envoy_types::pb::envoy::config::listener::v3 as pb;
use envoy_types::pb::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;
use envoy_types::pb::envoy::config::listener::v3::{filter, listener_filter};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as PbNetworkRbac;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;

use super::reader::Reader;
use super::route::ClusterNames;
use super::{access_log, core, http, proxy_header, rbac, tls, udp};
use crate::fields::type_name;
use crate::types::{
    Address, ChainMatch, ClusterChoice, DownstreamTls, FilterChain, HeaderEdits, HostRewrite, Listener,
    NetworkFilter, ServerName, SourceType, TcpConfig, TransportProtocol, WeightedCluster,
};

pub(super) fn listener(reader: &mut Reader, listener: &pb::Listener) -> Option<Listener> {
    let name = reader.required_text("name", &listener.name);
    if let Some(api) = listener.api_listener.as_ref() {
        return api_listener(reader, listener, api, name?);
    }
    let address = reader.required("address", listener.address.as_ref());
    let address = reader.at("address", |reader| match core::listener_address(reader, address?)? {
        Address::Ip(address) => Some(address),
        Address::Name { host, .. } => {
            reader.problem(format!("is no IP address: {host:?}"));
            None
        }
        Address::Pipe(_) => {
            reader.problem("is a Unix socket; listeners take IP addresses");
            None
        }
    });
    if listener.address.as_ref().is_some_and(core::is_udp) {
        return udp::listener(reader, listener, name?, address?);
    }
    if listener.udp_listener_config.is_some() {
        reader.problem_at("udp_listener_config", "does not go with an address of TCP");
    }
    let (mut tls_inspector, mut http_inspector, mut original_dst) = (false, false, false);
    let mut proxy_protocol = None;
    reader.list("listener_filters", &listener.listener_filters, |reader, filter| {
        let Some(listener_filter::ConfigType::TypedConfig(any)) = filter.config_type.as_ref() else {
            reader.problem_at("typed_config", "is required");
            return None;
        };
        match type_name(&any.type_url).rsplit('.').next() {
            Some("TlsInspector") => tls_inspector = true,
            Some("HttpInspector") => http_inspector = true,
            Some("OriginalDst") => original_dst = true,
            Some("ProxyProtocol") => {
                if proxy_protocol.is_some() || tls_inspector || http_inspector {
                    reader.problem("stands after a filter that reads the connection's own bytes");
                }
                proxy_protocol = reader.at("typed_config", |reader| proxy_header::taken(reader, any));
            }
            Some("UdpProxyConfig") => {
                reader.problem("takes datagrams; the listener's address is of TCP");
                return None;
            }
            // The table has refused it.
            _ => return None,
        }
        Some(())
    });
    let chains = chains(reader, listener);
    let default_chain = listener.default_filter_chain.as_ref().map(|chain| {
        reader.at("default_filter_chain", |reader| {
            let fallback = format!("{}/default", reader.resource);
            filter_chain(reader, chain, &fallback)
        })
    });
    if listener.filter_chains.is_empty() && listener.default_filter_chain.is_none() {
        reader.problem_at("filter_chains", "needs at least one, or default_filter_chain");
    }
    let default_chain = match default_chain {
        Some(chain) => Some(chain?),
        None => None,
    };
    Some(Listener {
        name: name?,
        address: Some(address?),
        ipv4_compat: listener.address.as_ref().is_some_and(core::is_ipv4_compat),
        bind_to_port: listener.bind_to_port.as_ref().is_none_or(|bind| bind.value),
        use_original_dst: listener.use_original_dst.as_ref().is_some_and(|original| original.value),
        tls_inspector,
        http_inspector,
        proxy_protocol,
        original_dst,
        listener_filters_timeout: reader
            .duration("listener_filters_timeout", listener.listener_filters_timeout.as_ref()),
        continue_on_listener_filters_timeout: listener.continue_on_listener_filters_timeout,
        chains: chains?,
        default_chain,
        udp: None,
        stamp: core::stamp(listener.metadata.as_ref()),
    })
}

/// A proxyless client's: one HTTP configuration, no socket.
fn api_listener(
    reader: &mut Reader,
    listener: &pb::Listener,
    api: &pb::ApiListener,
    name: Arc<str>,
) -> Option<Listener> {
    let any =
        reader.at("api_listener", |reader| reader.required("api_listener", api.api_listener.as_ref()))?;
    let http = reader.at("api_listener.api_listener", |reader| {
        let config: HttpConnectionManager = reader.any(any)?;
        http::http(reader, &config, &name)
    })?;
    let chain = FilterChain {
        name: name.clone(),
        matches: ChainMatch::default(),
        tls: None,
        network_rbac: Vec::new(),
        filter: NetworkFilter::Http(Arc::new(http)),
        transport_socket_connect_timeout: None,
        stamp: None,
    };
    Some(Listener {
        name,
        address: None,
        ipv4_compat: false,
        bind_to_port: false,
        use_original_dst: false,
        tls_inspector: false,
        http_inspector: false,
        proxy_protocol: None,
        original_dst: false,
        listener_filters_timeout: None,
        continue_on_listener_filters_timeout: false,
        chains: vec![Arc::new(chain)],
        default_chain: None,
        udp: None,
        stamp: core::stamp(listener.metadata.as_ref()),
    })
}

fn chains(reader: &mut Reader, listener: &pb::Listener) -> Option<Vec<Arc<FilterChain>>> {
    let mut matches = BTreeSet::new();
    let mut names = BTreeSet::new();
    let chains = reader.list("filter_chains", &listener.filter_chains, |reader, chain| {
        let matching = format!("{:?}", chain.filter_chain_match.clone().unwrap_or_default());
        let fallback = match &chain.filter_chain_match {
            None => format!("{}/chain", reader.resource),
            Some(_) => {
                let mut hasher = DefaultHasher::new();
                matching.hash(&mut hasher);
                format!("{}/chain[{:016x}]", reader.resource, hasher.finish())
            }
        };
        // Two chains with one match: which of them serves would be chance.
        if !matches.insert(matching) {
            reader.problem_at("filter_chain_match", "is the same as an earlier chain's");
        }
        if !chain.name.is_empty() && !names.insert(chain.name.clone()) {
            reader.problem_at("name", format!("is not the only chain with the name {:?}", chain.name));
        }
        filter_chain(reader, chain, &fallback)
    });
    (chains.len() == listener.filter_chains.len()).then_some(chains)
}

fn filter_chain(reader: &mut Reader, chain: &pb::FilterChain, fallback: &str) -> Option<Arc<FilterChain>> {
    let name: Arc<str> = if chain.name.is_empty() { fallback.into() } else { chain.name.as_str().into() };
    let matches = match chain.filter_chain_match.as_ref() {
        None => Some(ChainMatch::default()),
        Some(found) => reader.at("filter_chain_match", |reader| chain_match(reader, found)),
    };
    let tls = match chain.transport_socket.as_ref() {
        None => Some(None),
        Some(socket) => reader.at("transport_socket", |reader| downstream_socket(reader, socket)),
    };
    let (network_rbac, filter) = network_filters(reader, &chain.filters, &name);
    Some(Arc::new(FilterChain {
        name,
        matches: matches?,
        tls: tls?.map(Arc::new),
        network_rbac,
        filter: filter?,
        transport_socket_connect_timeout: reader
            .duration("transport_socket_connect_timeout", chain.transport_socket_connect_timeout.as_ref()),
        stamp: core::stamp(chain.metadata.as_ref()),
    }))
}

/// Some(None): plaintext.
fn downstream_socket(reader: &mut Reader, socket: &TransportSocket) -> Option<Option<DownstreamTls>> {
    let Some(transport_socket::ConfigType::TypedConfig(any)) = socket.config_type.as_ref() else {
        reader.problem_at("typed_config", "is required");
        return None;
    };
    reader.at("typed_config", |reader| match type_name(&any.type_url).rsplit('.').next() {
        Some("RawBuffer") => Some(None),
        Some("DownstreamTlsContext") => {
            let context: DownstreamTlsContext = reader.any(any)?;
            tls::downstream(reader, &context).map(Some)
        }
        Some("UpstreamTlsContext") => {
            reader.problem("is a TLS context towards upstreams; DownstreamTlsContext is wanted");
            None
        }
        Some("ProxyProtocolUpstreamTransport") => {
            reader.problem("writes PROXY headers to upstreams; a listener reads them by its listener filter");
            None
        }
        // The table has refused it.
        _ => None,
    })
}

fn chain_match(reader: &mut Reader, found: &pb::FilterChainMatch) -> Option<ChainMatch> {
    let destination_port = match found.destination_port.as_ref() {
        None => None,
        Some(port) => Some(reader.port("destination_port", port.value)?),
    };
    let transport_protocol = match found.transport_protocol.as_str() {
        "" => None,
        "tls" => Some(TransportProtocol::Tls),
        "raw_buffer" => Some(TransportProtocol::RawBuffer),
        other => {
            reader.problem_at("transport_protocol", format!("is neither tls nor raw_buffer: {other:?}"));
            None
        }
    };
    let source = reader.choice("source_type", found.source_type).map(|source| match source {
        ConnectionSourceType::Any => SourceType::Any,
        ConnectionSourceType::SameIpOrLoopback => SourceType::SameIpOrLoopback,
        ConnectionSourceType::External => SourceType::External,
    });
    Some(ChainMatch {
        destination_port,
        prefix_ranges: reader.list("prefix_ranges", &found.prefix_ranges, core::range),
        server_names: reader
            .list("server_names", &found.server_names, |reader, name| server_name(reader, name)),
        transport_protocol,
        application_protocols: found
            .application_protocols
            .iter()
            .map(|name| name.as_bytes().into())
            .collect(),
        source: source?,
        source_prefix_ranges: reader.list("source_prefix_ranges", &found.source_prefix_ranges, core::range),
        direct_source_prefix_ranges: reader.list(
            "direct_source_prefix_ranges",
            &found.direct_source_prefix_ranges,
            core::range,
        ),
        source_ports: reader.list("source_ports", &found.source_ports, |reader, port| {
            let found = u16::try_from(*port).ok().filter(|port| *port != 0);
            if found.is_none() {
                reader.problem(format!("is no port from 1 to 65535: {port}"));
            }
            found
        }),
    })
}

fn server_name(reader: &mut Reader, name: &str) -> Option<ServerName> {
    let name = name.to_ascii_lowercase();
    match name.strip_prefix('*') {
        Some(suffix) if suffix.starts_with('.') && suffix.len() > 1 && !suffix.contains('*') => {
            Some(ServerName::Suffix(suffix.into()))
        }
        None if !name.is_empty() && !name.contains('*') => Some(ServerName::Exact(name.into())),
        _ => {
            reader.problem(format!("is neither a name nor *.name: {name:?}"));
            None
        }
    }
}

/// RBAC filters, then the one that ends the chain.
fn network_filters(
    reader: &mut Reader,
    filters: &[pb::Filter],
    chain: &Arc<str>,
) -> (Vec<crate::types::NetworkRbac>, Option<NetworkFilter>) {
    let mut network_rbac = Vec::new();
    let mut end = None;
    let mut ended = false;
    reader.list("filters", filters, |reader, filter| {
        if ended {
            reader.problem("stands after the filter that ends the chain");
            return None;
        }
        let Some(filter::ConfigType::TypedConfig(any)) = filter.config_type.as_ref() else {
            reader.problem_at("typed_config", "is required");
            return None;
        };
        reader.at("typed_config", |reader| match type_name(&any.type_url) {
            "envoy.extensions.filters.network.rbac.v3.RBAC" => {
                let config: PbNetworkRbac = reader.any(any)?;
                network_rbac.push(rbac::network(reader, &config)?);
                Some(())
            }
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager" => {
                ended = true;
                let config: HttpConnectionManager = reader.any(any)?;
                let key: Arc<str> = format!("{}/{chain}", reader.resource).into();
                end = http::http(reader, &config, &key).map(|config| NetworkFilter::Http(Arc::new(config)));
                Some(())
            }
            "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy" => {
                ended = true;
                let config: TcpProxy = reader.any(any)?;
                end = tcp(reader, &config).map(|config| NetworkFilter::Tcp(Arc::new(config)));
                Some(())
            }
            // The table has refused it.
            _ => None,
        })
    });
    if !ended {
        reader.problem_at("filters", "must end with an HTTP connection manager or a TCP proxy");
    }
    (network_rbac, end)
}

fn tcp(reader: &mut Reader, config: &TcpProxy) -> Option<TcpConfig> {
    let mut names = ClusterNames::default();
    let clusters = match config.cluster_specifier.as_ref() {
        Some(ClusterSpecifier::Cluster(name)) => {
            let name = reader.required_text("cluster", name)?;
            Some(ClusterChoice::One { cluster: names.refer(&name), name })
        }
        Some(ClusterSpecifier::WeightedClusters(split)) => reader.at("weighted_clusters", |reader| {
            let clusters = reader.list("clusters", &split.clusters, |reader, member| {
                let name = reader.required_text("name", &member.name)?;
                if member.weight == 0 {
                    reader.problem_at("weight", "must be at least 1");
                }
                Some(WeightedCluster {
                    cluster: names.refer(&name),
                    name,
                    weight: member.weight,
                    edits: HeaderEdits::default(),
                    host: HostRewrite::Keep,
                })
            });
            let total = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
            if split.clusters.is_empty() {
                reader.problem_at("clusters", "needs at least one");
            }
            (total > 0).then_some(ClusterChoice::Weighted { clusters, total })
        }),
        None => {
            reader.problem("needs cluster or weighted_clusters");
            None
        }
    };
    let connect_attempts_max = config.max_connect_attempts.as_ref().map_or(1, |attempts| attempts.value);
    if connect_attempts_max == 0 {
        reader.problem_at("max_connect_attempts", "must be at least 1");
    }
    let tunnel = match config.tunneling_config.as_ref() {
        None => Some(None),
        Some(tunneling) => reader.at("tunneling_config", |reader| {
            let hostname = reader.required_text("hostname", &tunneling.hostname)?;
            // Also refuses what Envoy would fill in: `%` stands in no authority.
            let authority = hostname.parse::<::http::uri::Authority>().ok();
            let authority = authority.filter(|_| !hostname.contains(['%', '@']));
            if authority.is_none() {
                reader.problem_at("hostname", format!("is no HOST or HOST:PORT: {hostname:?}"));
            }
            authority.map(Some)
        }),
    };
    Some(TcpConfig {
        stat_prefix: config.stat_prefix.as_str().into(),
        clusters: clusters?,
        access_log: access_log::access_logs(reader, &config.access_log),
        idle_timeout: reader.duration("idle_timeout", config.idle_timeout.as_ref()),
        connect_attempts_max,
        tunnel: tunnel?,
    })
}

#[cfg(test)]
mod tests;

//! The filter chain of a connection, by Envoy's order of criteria.
//!
//! Criterion after criterion, only the chains that fit it best stay; there is no way back. So a
//! chain with a fitting destination port beats one with a fitting SNI and no port.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::{ConnectionView, local};
use crate::types::{ChainMatch, FilterChain, Listener, ServerName, SourceType};

/// How well a chain fits one criterion; None: not at all.
type Fit<'a> = &'a dyn Fn(&ChainMatch) -> Option<u32>;
type Candidates<'a> = SmallVec<[&'a Arc<FilterChain>; 16]>;

impl Listener {
    /// The chain for a connection; None: close it.
    pub fn find_chain(&self, connection: &ConnectionView<'_>) -> Option<&Arc<FilterChain>> {
        let mut left: Candidates<'_> = self.chains.iter().collect();
        let criteria: [Fit<'_>; 9] = [
            &|chain| match chain.destination_port {
                None => Some(0),
                Some(port) => (port == connection.destination.port()).then_some(1),
            },
            &|chain| ranges(&chain.prefix_ranges, connection.destination.ip()),
            &|chain| server_name(&chain.server_names, connection.server_name),
            &|chain| match chain.transport_protocol {
                None => Some(0),
                Some(protocol) => (protocol == connection.transport).then_some(1),
            },
            &|chain| match chain.application_protocols.as_slice() {
                [] => Some(0),
                wanted => connection
                    .application_protocols
                    .iter()
                    .any(|offered| wanted.iter().any(|protocol| **protocol == **offered))
                    .then_some(1),
            },
            &|chain| ranges(&chain.direct_source_prefix_ranges, connection.direct.ip()),
            &|chain| {
                let near = local(connection.source.ip(), connection.destination.ip());
                match chain.source {
                    SourceType::Any => Some(0),
                    SourceType::SameIpOrLoopback => near.then_some(1),
                    SourceType::External => (!near).then_some(1),
                }
            },
            &|chain| ranges(&chain.source_prefix_ranges, connection.source.ip()),
            &|chain| match chain.source_ports.as_slice() {
                [] => Some(0),
                ports => ports.contains(&connection.source.port()).then_some(1),
            },
        ];
        for fit in criteria {
            let Some(best) = left.iter().filter_map(|chain| fit(&chain.matches)).max() else {
                return self.default_chain.as_ref();
            };
            left.retain(|chain| fit(&chain.matches) == Some(best));
        }
        left.first().copied().or(self.default_chain.as_ref())
    }
}

/// Longest prefix first: 0 = no ranges asked, else 1 + its length.
fn ranges(ranges: &[IpNet], address: IpAddr) -> Option<u32> {
    if ranges.is_empty() {
        return Some(0);
    }
    // An IPv4 caller on a dual-stack socket has a mapped address.
    let address = address.to_canonical();
    ranges
        .iter()
        .filter(|range| range.contains(&address))
        .map(|range| 1 + u32::from(range.prefix_len()))
        .max()
}

/// Exact beats the longest suffix beats none asked.
fn server_name(names: &[ServerName], asked: Option<&str>) -> Option<u32> {
    if names.is_empty() {
        return Some(0);
    }
    let asked = asked?;
    names
        .iter()
        .filter_map(|name| match name {
            ServerName::Exact(exact) => (**exact == *asked).then_some(u32::MAX),
            ServerName::Suffix(suffix) => (asked.len() > suffix.len() && asked.ends_with(&**suffix))
                .then(|| u32::try_from(suffix.len()).unwrap_or(u32::MAX - 1)),
        })
        .max()
}

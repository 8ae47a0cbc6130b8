//! The table of scenarios: what each is called, who takes part, which figure is held against which bar.

use anyhow::Context;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    Http1,
    Http1Big,
    Http2,
    GrpcStream,
    Hop,
    Latency,
    HopLatency,
    Tcp,
    HopTcp,
    Handshake,
    HandshakeHybrid,
    Idle,
    IdleConnections,
    IdleTls,
    Start,
}

/// What is measured; [`Peer::Floor`] only copies bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Weft,
    Envoy,
    Haproxy,
    Nginx,
    Floor,
}

/// One row of the table of scenarios.
pub struct About {
    pub scenario: Scenario,
    pub name: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    /// At most this share of Envoy's, HAProxy's and the floor's figure.
    pub bars: [Option<f64>; 3],
    pub peers: &'static [Peer],
    /// Whether load is put on, so that requests a second and memory are there to report.
    pub loaded: bool,
}

use Peer::{Envoy, Floor, Haproxy, Nginx, Weft};

const ALL_AND_FLOOR: &[Peer] = &[Weft, Envoy, Haproxy, Nginx, Floor];
const ALL: &[Peer] = &[Weft, Envoy, Haproxy, Nginx];
const HOP: &[Peer] = &[Weft, Envoy, Haproxy, Floor];
const NO_NGINX: &[Peer] = &[Weft, Envoy, Haproxy];

/// The bars are the data plane's goals.
#[rustfmt::skip]
pub const TABLE: &[About] = &[
    About { scenario: Scenario::Http1, name: "h1", title: "HTTP/1.1, small", unit: "µs CPU a request", bars: [Some(0.32), Some(0.85), Some(1.35)], peers: ALL_AND_FLOOR, loaded: true },
    About { scenario: Scenario::Http1Big, name: "h1big", title: "HTTP/1.1, 10 KiB bodies", unit: "µs CPU a request", bars: [Some(0.32), Some(1.0), None], peers: ALL_AND_FLOOR, loaded: true },
    About { scenario: Scenario::Http2, name: "h2", title: "HTTP/2, small (gRPC unary)", unit: "µs CPU a request", bars: [Some(0.27), Some(1.0), None], peers: ALL, loaded: true },
    About { scenario: Scenario::GrpcStream, name: "stream", title: "gRPC server streaming, 100 messages a call", unit: "µs CPU a message", bars: [None, None, None], peers: ALL, loaded: true },
    About { scenario: Scenario::Hop, name: "hop", title: "mTLS hop, both proxies", unit: "µs CPU a request", bars: [Some(0.28), Some(1.1), Some(1.0)], peers: HOP, loaded: true },
    About { scenario: Scenario::Latency, name: "lat", title: "one proxy at 2,000 requests/s, p50 added", unit: "µs", bars: [Some(0.55), Some(1.1), None], peers: ALL_AND_FLOOR, loaded: false },
    About { scenario: Scenario::HopLatency, name: "hoplat", title: "mTLS hop at 2,000 requests/s, p50 added", unit: "µs", bars: [Some(0.42), Some(0.8), None], peers: HOP, loaded: false },
    About { scenario: Scenario::Tcp, name: "tcp", title: "TCP bulk", unit: "s CPU a GB", bars: [Some(0.7), Some(0.4), None], peers: HOP, loaded: true },
    About { scenario: Scenario::HopTcp, name: "hoptcp", title: "TCP bulk over mTLS, both proxies", unit: "s CPU a GB", bars: [None, None, None], peers: NO_NGINX, loaded: true },
    About { scenario: Scenario::Handshake, name: "handshake", title: "new mTLS connections, X25519", unit: "µs CPU each", bars: [Some(0.6), Some(0.3), None], peers: NO_NGINX, loaded: true },
    About { scenario: Scenario::HandshakeHybrid, name: "handshake-pq", title: "new mTLS connections, X25519MLKEM768", unit: "µs CPU each", bars: [None, None, None], peers: &[Weft, Envoy], loaded: true },
    About { scenario: Scenario::Idle, name: "idle", title: "resident, idle", unit: "MiB", bars: [Some(0.23), None, None], peers: ALL, loaded: false },
    About { scenario: Scenario::IdleConnections, name: "idle10k", title: "an idle HTTP/1.1 connection, of thousands", unit: "KiB", bars: [Some(0.25), None, None], peers: ALL, loaded: false },
    About { scenario: Scenario::IdleTls, name: "idle10ktls", title: "an idle mTLS connection, of thousands", unit: "KiB", bars: [None, None, None], peers: NO_NGINX, loaded: false },
    About { scenario: Scenario::Start, name: "start", title: "exec to first answer", unit: "ms", bars: [Some(0.5), None, None], peers: ALL, loaded: false },
];

impl Scenario {
    pub fn named(name: &str) -> anyhow::Result<Scenario> {
        let found = TABLE.iter().find(|about| about.name == name);
        let names = || TABLE.iter().map(|about| about.name).collect::<Vec<_>>().join(" ");
        found.map(|about| about.scenario).with_context(|| format!("there is no scenario {name}; {}", names()))
    }
}

impl Peer {
    pub const ALL: &[Peer] = ALL_AND_FLOOR;

    pub fn name(self) -> &'static str {
        match self {
            Weft => "weft",
            Envoy => "envoy",
            Haproxy => "haproxy",
            Nginx => "nginx",
            Floor => "floor",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_means_two_scenarios() {
        for about in TABLE {
            assert_eq!(TABLE.iter().filter(|other| other.name == about.name).count(), 1, "{}", about.name);
            assert_eq!(TABLE.iter().filter(|other| other.scenario == about.scenario).count(), 1);
        }
    }
}

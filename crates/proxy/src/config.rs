//! What one proxy is told at its start: who it is, where its configuration comes from, where it listens.
//!
//! Two roads lead here: short flags (the caller fills [`Config`]) and a standard Envoy v3 bootstrap
//! ([`crate::bootstrap`]). After the start nothing in here changes; all that changes comes by xDS.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::static_config::StaticResources;

/// The proxy's version, as it tells the control plane.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A week: longer than any outage that nobody mends, and the certificate bounds it besides.
const LKG_AGE_MAX: Duration = Duration::from_secs(7 * 86_400);

/// All that a proxy needs to start.
pub struct Config {
    pub node: Node,
    /// A Weft control plane to join; `None` when the bootstrap names another xDS server or only static resources.
    pub control: Option<Control>,
    /// A foreign xDS server, by bootstrap.
    pub foreign: Option<ForeignXds>,
    /// Listeners, routes, clusters and endpoints that are there from the start.
    pub resources: StaticResources,
    pub ports: PortsWanted,
    /// Where identity, name and the agent's socket live; 0700.
    pub state: PathBuf,
    /// How many workers, each a thread with its own listeners and pools.
    pub workers: usize,
    pub drain: Drain,
    pub limits: Limits,
    /// A last known good that the control plane last confirmed longer ago is not served.
    pub lkg_age_max: Duration,
    /// Whether SIGTERM and SIGINT are taken; a test in one process says no and uses `stop`.
    pub signals: bool,
    /// Cancelled by the embedder to drain.
    pub stop: CancellationToken,
    /// Called once with the bound addresses, when the ports are open.
    pub on_ready: Option<Box<dyn FnOnce(Ports) + Send>>,
}

impl Config {
    /// A proxy of `service` in `namespace` with every default; the caller sets what differs.
    pub fn new(namespace: &str, service: &str, state: PathBuf) -> Config {
        Config {
            node: Node {
                namespace: namespace.to_owned(),
                service: service.to_owned(),
                name: None,
                labels: BTreeMap::new(),
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
                app_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
                ports: Vec::new(),
                datagrams: Vec::new(),
                locality: Locality::default(),
                kind: "weft".to_owned(),
                raw: None,
            },
            control: None,
            foreign: None,
            resources: StaticResources::default(),
            ports: PortsWanted::default(),
            state,
            workers: 1,
            drain: Drain::default(),
            limits: Limits::default(),
            lkg_age_max: LKG_AGE_MAX,
            signals: true,
            stop: CancellationToken::new(),
            on_ready: None,
        }
    }
}

/// Who this proxy is.
#[derive(Debug, Clone)]
pub struct Node {
    pub namespace: String,
    pub service: String,
    /// The workload's name; `None` takes the one in the state directory, or makes one.
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Where other members reach this proxy.
    pub address: IpAddr,
    /// Where the app listens.
    pub app_address: IpAddr,
    /// The app's ports.
    pub ports: Vec<AppPort>,
    /// Where the app sends datagrams, and to whom.
    pub datagrams: Vec<Datagrams>,
    pub locality: Locality,
    /// `weft`, or what an agent for another proxy says: `envoy`, `grpc`.
    pub kind: String,
    /// The node of a bootstrap, sent as it is instead of ours.
    pub raw: Option<RawNode>,
}

/// A port of the app; the name decides nothing here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppPort {
    pub name: String,
    pub port: u16,
}

/// An address that is a port of a service for datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagrams {
    pub at: SocketAddr,
    /// `NAME:PORT` or `NAME.NAMESPACE:PORT`.
    pub to: String,
}

/// Where the proxy runs, if it was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locality {
    pub region: String,
    pub zone: String,
    pub subzone: String,
}

/// A bootstrap's own node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawNode {
    pub id: String,
    pub cluster: String,
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

/// The control plane to join.
#[derive(Debug, Clone)]
pub struct Control {
    /// `https://HOST:PORT` (or `HOST:PORT`) of xDS and link.
    pub address: String,
    /// The join token's text; needed only when the state directory holds no identity.
    pub token: Option<String>,
}

/// An xDS server that is not ours.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignXds {
    /// `HOST:PORT` of the server.
    pub address: String,
    pub tls: Option<ForeignTls>,
    pub mode: XdsMode,
}

/// TLS to a foreign xDS server, all from files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ForeignTls {
    pub sni: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub chain_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// How resources are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XdsMode {
    #[default]
    StateOfTheWorld,
    Delta,
}

/// Where to listen; port 0 lets the kernel choose.
#[derive(Debug, Clone)]
pub struct PortsWanted {
    /// Who reaches it calls others as this workload: loopback, unless a firewall stands before it.
    pub outbound: Option<SocketAddr>,
    pub inbound: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
}

impl Default for PortsWanted {
    fn default() -> Self {
        PortsWanted {
            outbound: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 15001))),
            inbound: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 15006))),
            admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 15000))),
            metrics: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 15020))),
        }
    }
}

/// Where the proxy listens.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Ports {
    pub outbound: Option<SocketAddr>,
    pub inbound: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    pub agent: Option<PathBuf>,
}

/// How a proxy leaves.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// Between telling the callers and refusing new connections.
    pub delay: Duration,
    /// The longest wait for open requests.
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Drain { delay: Duration::from_secs(1), timeout: Duration::from_secs(30) }
    }
}

/// What all clients together may have of this proxy. Zero switches a limit off.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of resident memory, beside the limits of control groups.
    pub memory: Option<u64>,
    /// Open connections of clients; `None`: half of the file descriptors.
    pub connections: Option<u32>,
    pub connections_per_listener: u32,
    /// From one IPv4 address or one /64 of IPv6. `None`: a quarter of a listener's, not for this machine's own clients.
    pub connections_per_source: Option<u32>,
    /// Gives what the allocator has free back to the kernel, as far as the calling thread may. Many keep it, and what
    /// they keep counts as used.
    pub release_memory: Option<fn()>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory: None,
            connections: None,
            connections_per_listener: 10_000,
            connections_per_source: None,
            release_memory: None,
        }
    }
}

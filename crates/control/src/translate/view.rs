//! Who a configuration is made for. Nothing else about a proxy is in scope of `translate`, so two
//! proxies with equal views get equal resources, and the view is the cache's key.

use std::net::{IpAddr, SocketAddr};

use crate::snapshot::ServiceId;

/// What the proxy is, and so what it can enforce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyKind {
    /// Ours.
    Weft,
    /// A real Envoy.
    Envoy,
    /// A gRPC client or server without a proxy.
    Grpc,
}

impl ProxyKind {
    /// From `node.metadata["kind"]`; what says nothing is an Envoy.
    pub fn parse(text: &str) -> ProxyKind {
        match text {
            "weft" => ProxyKind::Weft,
            "grpc" => ProxyKind::Grpc,
            _ => ProxyKind::Envoy,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            ProxyKind::Weft => "weft",
            ProxyKind::Envoy => "envoy",
            ProxyKind::Grpc => "grpc",
        }
    }
}

/// One proxy, as far as its configuration depends on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProxyView {
    /// The namespace of its service.
    pub namespace: String,
    /// The service that it stands before, whose identity it has.
    pub service: String,
    /// Its Workload's name.
    pub workload: String,
    /// What it is.
    pub kind: ProxyKind,
    /// Where it takes mTLS from other members.
    pub inbound: SocketAddr,
    /// Where it takes its own app's traffic.
    pub outbound: SocketAddr,
    /// Where its app listens.
    pub app: IpAddr,
    /// Whether it takes secrets by name over the stream of its configuration. Without that no private key is
    /// sent to it.
    pub secrets: bool,
    /// Whether it takes TCP connections as tunnels, and if it is ours sends them so: `node.metadata["tunnels"]` is
    /// `h2`. An Envoy of which its operator says that takes them.
    pub tunnels: bool,
    /// Whether it makes gRPC of gRPC-Web. An older proxy of ours would refuse the filter, and with it the listener.
    pub grpc_web: bool,
    /// Whether its listeners can say whose PROXY header is believed; older proxies of ours would refuse them.
    pub proxy_headers: bool,
    /// Where it takes its app's datagrams, and for whom: `node.metadata["udp"]`.
    pub datagrams: Vec<Datagrams>,
}

/// An address of a proxy that is a port of some service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Datagrams {
    /// Where the app sends them.
    pub at: SocketAddr,
    /// Whom they are for.
    pub service: ServiceId,
    /// The service's port.
    pub port: u16,
}

impl Datagrams {
    /// `ADDRESS:PORT=NAME[.NAMESPACE]:PORT`, seen from `namespace`.
    pub fn parse(text: &str, namespace: &str) -> Option<Datagrams> {
        let (at, to) = text.split_once('=')?;
        let (name, port) = to.rsplit_once(':')?;
        let (name, namespace) = name.split_once('.').unwrap_or((name, namespace));
        let port = port.parse().ok().filter(|port| *port > 0)?;
        Some(Datagrams { at: at.parse().ok()?, service: ServiceId::new(namespace, name), port })
    }
}

impl ProxyView {
    /// One of ours that can do all there is, before an app of its own machine.
    pub fn newest(service: &ServiceId, workload: &str, inbound: SocketAddr) -> ProxyView {
        ProxyView {
            namespace: service.namespace.clone(),
            service: service.name.clone(),
            workload: workload.to_owned(),
            kind: ProxyKind::Weft,
            inbound,
            outbound: SocketAddr::new(inbound.ip(), 15001),
            app: IpAddr::from([127, 0, 0, 1]),
            secrets: true,
            tunnels: true,
            grpc_web: true,
            proxy_headers: true,
            datagrams: Vec::new(),
        }
    }

    /// The service.
    pub fn id(&self) -> ServiceId {
        ServiceId::new(self.namespace.as_str(), self.service.as_str())
    }
}

//! Who may have which configuration: a proxy gets its own service's, and proves with its SVID that
//! it is that service's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use envoy_types::pb::google::protobuf::value::Kind;
use tonic::Status;
use weft_identity::SpiffeId;
use weft_xds::Node;
use weft_xds::server::{Peer, Report, Source, Subscription};

use super::views::Views;
use crate::core::Core;
use crate::proxies::{Nack, Proxies};
use crate::snapshot::ServiceId;
use crate::translate::view::{Datagrams, ProxyKind, ProxyView};

const INBOUND_PORT: u16 = 15006;
const OUTBOUND_PORT: u16 = 15001;
/// Addresses at which one proxy takes datagrams.
const DATAGRAMS_MAX: usize = 64;

/// The xDS server's source.
pub struct Ads {
    core: Arc<Core>,
    views: Arc<Views>,
}

impl Ads {
    /// Over the shared parts.
    pub fn new(core: Arc<Core>, views: Arc<Views>) -> Ads {
        Ads { core, views }
    }
}

impl Source for Ads {
    fn subscribe(&self, peer: &Peer, node: &Node) -> Result<Subscription, Status> {
        let view = match self.admit(peer, node) {
            Ok(view) => view,
            Err(status) => {
                self.core.counters.count("xds_refused", status.code().description());
                tracing::warn!(peer = peer.0, node = node.id, reason = status.message(), "xDS refused");
                return Err(status);
            }
        };
        let name = node.id.clone();
        self.core.proxies.connected(&name, &view.id().to_string(), view.kind.as_str());
        let resources = self.views.subscribe(&view);
        let latest = resources.borrow().version.clone();
        self.core.proxies.offered(&name, &latest, SystemTime::now());
        let proxies = self.core.proxies.clone();
        let report = move |report: Report| note(&proxies, &name, report);
        Ok(Subscription { resources, report: Box::new(report) })
    }
}

impl Ads {
    fn admit(&self, peer: &Peer, node: &Node) -> Result<ProxyView, Status> {
        let id = peer.0.as_deref().ok_or_else(|| {
            Status::permission_denied("no client certificate: join first, xDS is for members only")
        })?;
        let id = SpiffeId::parse(id)
            .map_err(|_| Status::permission_denied("the certificate names no SPIFFE id"))?;
        let (Some(namespace), Some(service)) = (id.namespace(), id.service_account()) else {
            return Err(Status::permission_denied(format!("{id} is no service's identity")));
        };
        let (node_namespace, workload) = node.id.split_once('/').unwrap_or((namespace, &node.id));
        if node_namespace != namespace || (!node.cluster.is_empty() && node.cluster != service) {
            return Err(Status::permission_denied(format!(
                "{id} may not have the configuration of {}",
                node.id
            )));
        }
        let snapshot = self.core.now();
        let instance = snapshot.instances.get(&ServiceId::new(namespace, workload));
        if let Some(instance) = instance
            && instance.identity.as_deref() != Some(id.as_str())
        {
            return Err(Status::permission_denied(format!(
                "{id} is not the identity of workload {}",
                node.id
            )));
        }
        view(node, namespace, service, workload)
    }
}

fn view(node: &Node, namespace: &str, service: &str, workload: &str) -> Result<ProxyView, Status> {
    let text = |key: &str| -> Option<String> {
        match node.metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
            Kind::StringValue(text) => Some(text.clone()),
            Kind::NumberValue(number) => Some(number.to_string()),
            _ => None,
        }
    };
    let bad = |key: &str, value: &str| {
        Status::invalid_argument(format!("node.metadata.{key}: {value} is no address"))
    };
    let address = |key: &str| -> Result<Option<IpAddr>, Status> {
        text(key).map(|value| value.parse().map_err(|_| bad(key, &value))).transpose()
    };
    let own = address("address")?.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let inbound_port = match text("inbound_port") {
        Some(value) => value.parse().map_err(|_| bad("inbound_port", &value))?,
        None => INBOUND_PORT,
    };
    let outbound = match text("outbound_address") {
        Some(value) => value.parse().map_err(|_| bad("outbound_address", &value))?,
        None => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), OUTBOUND_PORT),
    };
    let kind = text("kind").map_or(ProxyKind::Envoy, |kind| ProxyKind::parse(&kind));
    Ok(ProxyView {
        namespace: namespace.to_owned(),
        service: service.to_owned(),
        workload: workload.to_owned(),
        kind,
        inbound: SocketAddr::new(own, inbound_port),
        outbound,
        app: address("app_address")?.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        // Every Envoy does; ours says so when it does.
        secrets: kind == ProxyKind::Envoy || text("secrets").as_deref() == Some("ads"),
        tunnels: text("tunnels").as_deref() == Some("h2"),
        grpc_web: kind == ProxyKind::Envoy || text("grpc_web").as_deref() == Some("filter"),
        proxy_headers: text("proxy_protocol").as_deref() == Some("from"),
        datagrams: datagrams(node, namespace)?,
    })
}

/// `node.metadata["udp"]`: a list of `ADDRESS:PORT=NAME[.NAMESPACE]:PORT`.
fn datagrams(node: &Node, namespace: &str) -> Result<Vec<Datagrams>, Status> {
    let wanted = node.metadata.as_ref().and_then(|metadata| metadata.fields.get("udp")?.kind.as_ref());
    let bad = || {
        Status::invalid_argument(format!(
            "node.metadata.udp: write a list of ADDRESS:PORT=NAME[.NAMESPACE]:PORT, \
             {DATAGRAMS_MAX} at most and each address once"
        ))
    };
    let wanted = match wanted {
        None => return Ok(Vec::new()),
        Some(Kind::ListValue(wanted)) => wanted,
        Some(_) => return Err(bad()),
    };
    let mut all = BTreeMap::new();
    for value in &wanted.values {
        let Some(Kind::StringValue(text)) = &value.kind else { return Err(bad()) };
        let one = Datagrams::parse(text, namespace).ok_or_else(bad)?;
        if all.insert(one.at, one).is_some() || all.len() > DATAGRAMS_MAX {
            return Err(bad());
        }
    }
    Ok(all.into_values().collect())
}

fn note(proxies: &Proxies, name: &str, report: Report) {
    let now = SystemTime::now();
    match report {
        Report::Ack { type_url, .. } => proxies.accepted(name, &type_url),
        Report::Nack { type_url, message, resources, .. } => {
            let short = weft_xds::types::short(&type_url);
            tracing::warn!(proxy = name, r#type = short, message, "a proxy refused its configuration");
            let resource = if resources.is_empty() { short.to_owned() } else { resources.join(", ") };
            proxies.nacked(name, &type_url, Nack { resource, message });
        }
        Report::Settled { snapshot, refused: false } => proxies.settled(name, &snapshot, now),
        Report::Settled { .. } => {}
        Report::Closed => proxies.closed(name, now),
    }
}

//! The table that a proxy would hold, made as its own reader makes it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use weft_routing::Strictness;
use weft_routing::table::{RoutingTable, Staged};

use crate::snapshot::{Instance, ServiceId, Snapshot};
use crate::translate;
use crate::translate::view::ProxyView;

/// Where a proxy listens of which none runs.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15006);

/// The proxy before some instance of a service; of one that has none, the proxy that it would have.
pub(super) fn caller(snapshot: &Snapshot, service: &ServiceId) -> ProxyView {
    let mut own = snapshot.instances.values();
    match own.find(|one| one.namespace == service.namespace && one.service == service.name) {
        Some(instance) => of(instance),
        None => ProxyView::newest(service, "", NOWHERE),
    }
}

/// The proxy before this instance, as one of ours.
pub(super) fn of(instance: &Instance) -> ProxyView {
    let service = ServiceId::new(instance.namespace.as_str(), instance.service.as_str());
    let inbound = SocketAddr::new(instance.address, instance.inbound_port.unwrap_or(NOWHERE.port()));
    ProxyView::newest(&service, &instance.name, inbound)
}

/// What it would be sent, read.
pub(super) fn table(snapshot: &Snapshot, view: &ProxyView) -> Result<RoutingTable, String> {
    let made = translate::for_view(snapshot, view);
    let mut staged = Staged::default();
    macro_rules! read {
        ($resource:expr, $read:path, $into:ident) => {{
            let decoded = $read(&$resource.body, Strictness::Own).map_err(|problems| {
                format!("{} can't be read by our own proxy: {problems:?}", $resource.name)
            })?;
            staged.$into.insert($resource.name.as_str().into(), Arc::new(decoded.value));
        }};
    }
    for resource in made.resources.iter() {
        match weft_xds::types::short(resource.type_url()) {
            "clusters" => read!(resource, weft_routing::cluster, clusters),
            "endpoints" => read!(resource, weft_routing::load_assignment, endpoints),
            "listeners" => read!(resource, weft_routing::listener, listeners),
            "routes" => read!(resource, weft_routing::route_config, routes),
            // Secrets decide nothing about a request.
            _ => {}
        }
    }
    Ok(staged.build(None))
}

//! Findings on names of external services: one that somebody else has can't be reached by it.

use std::collections::BTreeMap;

use super::codes::WFT0015;
use super::{Finding, View};
use crate::names;
use crate::object::{Body, Object};
use crate::spec::{ExternalPort, ExternalProtocol, ExternalService};

pub fn look(view: &View<'_>, found: &mut Vec<Finding>) {
    let mut externals: Vec<(&Object, &ExternalService)> = view
        .objects
        .iter()
        .filter_map(|object| match &object.body {
            Body::ExternalService(external) => Some((object, external)),
            _ => None,
        })
        .collect();
    // The order in which names are claimed.
    externals.sort_by_key(|(object, _)| (&object.meta.namespace, &object.meta.name));
    let mut claimed: BTreeMap<(&str, String), &Object> = BTreeMap::new();
    for (object, external) in externals {
        let namespace = object.meta.namespace.as_str();
        if view.services.contains_key(&(namespace, object.meta.name.as_str())) {
            let message = format!("Service {} has its names", object.meta.full_name());
            found.push(Finding::new(WFT0015, object, message));
        }
        for host in &external.hosts {
            let host = host.to_ascii_lowercase();
            if let Some((other, name)) = member(view, namespace, &host) {
                let message = format!("its host {host} is a name of Service {other}/{name}");
                found.push(Finding::new(WFT0015, object, message));
                continue;
            }
            for claim in external.ports.iter().flat_map(|port| claims(external, port, &host)) {
                let winner = *claimed.entry((namespace, claim)).or_insert(object);
                if !std::ptr::eq(winner, object) {
                    let message = format!("its host {host} is one of {} too, which wins", winner.label());
                    found.push(Finding::new(WFT0015, object, message));
                    break;
                }
            }
        }
    }
}

/// The Service whose name this host is, for callers of `namespace`.
fn member<'a>(view: &View<'a>, namespace: &str, host: &str) -> Option<(&'a str, &'a str)> {
    view.services
        .keys()
        .find(|(ns, name)| names::host_names(name, ns, namespace).iter().any(|known| known == host))
        .copied()
}

/// What a host stands for at one port: a plain host and port, and the ways to say it without a port.
fn claims(external: &ExternalService, port: &ExternalPort, host: &str) -> Vec<String> {
    let of = |protocol: ExternalProtocol| external.ports.iter().filter(move |p| p.protocol == protocol);
    let mut claims = vec![format!("{host}:{}", port.port)];
    match port.protocol {
        ExternalProtocol::Http | ExternalProtocol::Http2 => {
            let http = || external.ports.iter().filter(|p| p.protocol.is_http());
            if port.port == 80 || (http().all(|p| p.port != 80) && http().count() == 1) {
                claims.push(format!("plain {host}"));
            }
        }
        ExternalProtocol::Https | ExternalProtocol::Tls => {
            claims.push(if of(port.protocol).count() > 1 {
                format!("tls {host}:{}", port.port)
            } else {
                format!("tls {host}")
            });
        }
        ExternalProtocol::Tcp => {}
        // Its datagrams are asked for by the object's name.
        ExternalProtocol::Udp => claims.clear(),
    }
    claims
}

//! What resources are called. Tests, `explain` and the proxies' admin pages show these names, so
//! they are a contract: `outbound|PORT|NAME.NS`, `inbound|PORT`, `external|PORT|NAME.NS`,
//! `vip|VIP|PORT`, `udp|ADDRESS:PORT`, `NS/ROUTE#RULE`.

use std::net::{Ipv4Addr, SocketAddr};

use crate::snapshot::ServiceId;

/// The outbound listener and its route configuration.
pub const OUTBOUND: &str = "outbound";
/// The inbound listener.
pub const INBOUND: &str = "inbound";
/// The cluster behind which an Envoy finds its identity agent's socket (static in its bootstrap).
pub const SDS_AGENT: &str = "sds_agent";
/// The secret with the proxy's own SVID.
pub const SECRET_SVID: &str = "default";
/// The secret with the trust bundle.
pub const SECRET_ROOTS: &str = "ROOTCA";
/// The certificate provider of a gRPC client's bootstrap.
pub const GRPC_PROVIDER: &str = "default";
/// The key of our stamps in `filter_metadata`.
pub const STAMP: &str = "weft.dev";

/// A member's port, seen by a caller.
pub fn outbound(service: &ServiceId, port: u16) -> String {
    format!("outbound|{port}|{}.{}", service.name, service.namespace)
}

/// Whose port it is, of a name by [`outbound`].
pub fn service_of(cluster: &str) -> Option<(ServiceId, u16)> {
    named("outbound|", cluster)
}

/// The same, of a name by [`external`].
pub fn external_of(cluster: &str) -> Option<(ServiceId, u16)> {
    named("external|", cluster)
}

fn named(kind: &str, cluster: &str) -> Option<(ServiceId, u16)> {
    let (port, service) = cluster.strip_prefix(kind)?.split_once('|')?;
    let (name, namespace) = service.split_once('.')?;
    Some((ServiceId::new(namespace, name), port.parse().ok()?))
}

/// The app behind this proxy.
pub fn inbound(port: u16) -> String {
    format!("inbound|{port}")
}

/// An external service's port.
pub fn external(service: &ServiceId, port: u16) -> String {
    format!("external|{port}|{}.{}", service.name, service.namespace)
}

/// The listener that takes captured connections to a TCP service's virtual address.
pub fn vip(address: Ipv4Addr, port: u16) -> String {
    format!("vip|{address}|{port}")
}

/// The listener that takes the app's datagrams at this address.
pub fn datagrams(at: SocketAddr) -> String {
    format!("udp|{at}")
}

/// What a gRPC client asks the listener for.
pub fn grpc(service: &ServiceId, zone: &str, port: u16) -> String {
    format!("{}.{}.{zone}:{port}", service.name, service.namespace)
}

/// A rule of a route.
pub fn rule(namespace: &str, route: &str, index: usize) -> String {
    format!("{namespace}/{route}#{index}")
}

/// The SNI that tells the callee's proxy which of its app's ports is meant.
pub fn sni(port: u16, zone: &str) -> String {
    format!("p{port}.{zone}")
}

/// The SNI for a port that instances call by one name and number differently.
pub fn sni_by_name(name: &str, zone: &str) -> String {
    format!("p-{name}.{zone}")
}

/// A client certificate of a namespace's Secret.
pub fn client_secret(namespace: &str, secret: &str) -> String {
    format!("client|{secret}.{namespace}")
}

/// The identity of a service's members.
pub fn identity(trust_domain: &str, namespace: &str, service: &str) -> String {
    format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service}")
}

/// The names of a service for a caller in `namespace`, shortest first.
pub fn hosts(service: &ServiceId, zone: &str, namespace: &str) -> Vec<String> {
    let ServiceId { namespace: own, name } = service;
    let mut hosts = Vec::new();
    if own == namespace {
        hosts.push(name.clone());
    }
    hosts.push(format!("{name}.{own}"));
    hosts.push(format!("{name}.{own}.{zone}"));
    hosts
}

/// The domains of a virtual host: each name with the port, and bare when this is the default port.
pub fn domains(hosts: &[String], port: u16, bare: bool) -> Vec<String> {
    let mut domains = Vec::with_capacity(hosts.len() * 2);
    if bare {
        domains.extend(hosts.iter().cloned());
    }
    domains.extend(hosts.iter().map(|host| format!("{host}:{port}")));
    domains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_contract() {
        let be1 = ServiceId::new("shop", "be1");
        assert_eq!(outbound(&be1, 80), "outbound|80|be1.shop");
        assert_eq!(external(&be1, 443), "external|443|be1.shop");
        assert_eq!(service_of("outbound|80|be1.shop"), Some((be1.clone(), 80)));
        assert_eq!(external_of("external|443|be1.shop"), Some((be1.clone(), 443)));
        assert_eq!(external_of("outbound|80|be1.shop"), None);
        assert_eq!(inbound(8080), "inbound|8080");
        assert_eq!(vip(Ipv4Addr::new(240, 240, 0, 1), 5432), "vip|240.240.0.1|5432");
        assert_eq!(grpc(&be1, "mesh.internal", 80), "be1.shop.mesh.internal:80");
        assert_eq!(rule("shop", "split", 0), "shop/split#0");
        assert_eq!(sni(8080, "mesh.internal"), "p8080.mesh.internal");
        assert_eq!(
            domains(&hosts(&be1, "mesh.internal", "shop"), 80, true).join(" "),
            "be1 be1.shop be1.shop.mesh.internal be1:80 be1.shop:80 be1.shop.mesh.internal:80"
        );
        assert_eq!(
            domains(&hosts(&be1, "mesh.internal", "other"), 81, false).join(" "),
            "be1.shop:81 be1.shop.mesh.internal:81"
        );
    }
}

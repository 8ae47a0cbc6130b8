//! How things are called: host names of a service, SPIFFE ids, virtual addresses, keys of selection.
//!
//! Every crate that writes or reads such a name uses these functions, so that a name has one spelling.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Trust domain of a mesh that names none.
pub const TRUST_DOMAIN: &str = "mesh.internal";
/// DNS zone of the mesh.
pub const ZONE: &str = "mesh.internal";
/// Range of virtual addresses of a mesh that names none.
pub const VIP_CIDR: &str = "240.240.0.0/16";
/// Annotation that keeps a service's virtual address for ever.
pub const VIP_ANNOTATION: &str = "weft.dev/vip";
/// Annotation, set by `apply`, that keeps `file:line` of an object.
pub const SOURCE_ANNOTATION: &str = "weft.dev/source";
/// Label by which a Service selects its Workloads.
pub const APP_LABEL: &str = "app";
/// Label that tells versions of a service apart.
pub const VERSION_LABEL: &str = "version";
/// Name of the AccessPolicy that a new mesh starts with.
pub const SAME_NAMESPACE: &str = "same-namespace";

/// `NAME.NS.mesh.internal`: the one full name of a service.
#[must_use]
pub fn full_host(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.{ZONE}")
}

/// Every host name of a service, for a caller in `from_namespace`: the bare name only from its own.
#[must_use]
pub fn host_names(name: &str, namespace: &str, from_namespace: &str) -> Vec<String> {
    let mut names = vec![format!("{name}.{namespace}"), full_host(name, namespace)];
    if namespace == from_namespace {
        names.insert(0, name.to_owned());
    }
    names
}

/// `host_names`, with `:PORT` behind each.
#[must_use]
pub fn host_names_with_port(name: &str, namespace: &str, from_namespace: &str, port: u16) -> Vec<String> {
    host_names(name, namespace, from_namespace).into_iter().map(|host| format!("{host}:{port}")).collect()
}

/// `spiffe://TD/ns/NS/sa/SERVICE`.
#[must_use]
pub fn service_identity(trust_domain: &str, namespace: &str, service: &str) -> String {
    format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service}")
}

/// The control plane's own SPIFFE id.
#[must_use]
pub fn control_identity(trust_domain: &str) -> String {
    format!("spiffe://{trust_domain}/weft/control")
}

/// A reference to a service, `NAME` or `NS/NAME`, as (namespace, name).
#[must_use]
pub fn service_reference<'a>(text: &'a str, namespace: &'a str) -> (&'a str, &'a str) {
    text.split_once('/').unwrap_or((namespace, text))
}

/// The lowest address of `range` that `taken` does not hold; the first and the last are left out.
#[must_use]
pub fn lowest_free_vip(range: Ipv4Net, taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    range.hosts().find(|address| *address != range.network() && !taken(*address))
}

/// Whether `labels` carry every pair of `selector`. An empty selector selects nothing, as in a Service.
#[must_use]
pub fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
    use super::*;

    #[test]
    fn a_service_has_a_bare_name_at_home_only() {
        assert_eq!(host_names("be1", "shop", "shop"), ["be1", "be1.shop", "be1.shop.mesh.internal"]);
        assert_eq!(host_names("be1", "shop", "other"), ["be1.shop", "be1.shop.mesh.internal"]);
        assert_eq!(
            host_names_with_port("be1", "shop", "other", 80),
            ["be1.shop:80", "be1.shop.mesh.internal:80"]
        );
    }

    #[test]
    fn identities_are_spelt_once() {
        assert_eq!(service_identity("td", "ns", "web"), "spiffe://td/ns/ns/sa/web");
        assert_eq!(control_identity("td"), "spiffe://td/weft/control");
    }

    #[test]
    fn a_service_reference_falls_back_to_its_namespace() {
        assert_eq!(service_reference("web", "shop"), ("shop", "web"));
        assert_eq!(service_reference("other/web", "shop"), ("other", "web"));
    }

    #[test]
    fn the_lowest_free_address_is_given_until_none_is_left() {
        let range: Ipv4Net = "240.240.0.0/30".parse().unwrap();
        let first = Ipv4Addr::new(240, 240, 0, 1);
        assert_eq!(lowest_free_vip(range, |_| false), Some(first));
        assert_eq!(lowest_free_vip(range, |address| address == first), Some(Ipv4Addr::new(240, 240, 0, 2)));
        assert_eq!(lowest_free_vip(range, |_| true), None);
    }

    #[test]
    fn a_selector_needs_every_pair() {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let labels = pairs(&[("app", "be1"), ("version", "v1")]);
        assert!(selects(&pairs(&[("app", "be1")]), &labels));
        assert!(selects(&labels.clone(), &labels));
        assert!(!selects(&pairs(&[("app", "be1"), ("tier", "x")]), &labels));
        assert!(!selects(&pairs(&[]), &labels));
    }
}

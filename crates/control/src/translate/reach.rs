//! What a proxy is told of: what its service may call, not the whole world.
//!
//! Its own namespace's services and external services; services elsewhere whose AccessPolicy lets
//! this identity in; and whatever a route of those names as a backend.

use std::collections::BTreeSet;

use weft_model::{AccessFrom, AccessPolicy, Body, HttpFilter, Kind, TargetRef};

use super::grants::{self, Backend};
use super::view::ProxyView;
use super::{names, rules};
use crate::snapshot::{ServiceId, Snapshot};

/// The services in reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reach {
    /// Services that have names here.
    pub services: BTreeSet<ServiceId>,
    /// External services that have names here.
    pub externals: BTreeSet<ServiceId>,
    /// Backends of routes that have no name here by themselves.
    pub backends: BTreeSet<ServiceId>,
    /// External backends of the same sort.
    pub external_backends: BTreeSet<ServiceId>,
}

impl Reach {
    /// What this view reaches.
    pub fn of(snapshot: &Snapshot, view: &ProxyView) -> Reach {
        let mut reach = Reach::default();
        let own = |id: &&ServiceId| id.namespace == view.namespace;
        reach.services.extend(snapshot.services.keys().filter(own).cloned());
        for (id, _) in snapshot.of_kind(Kind::ExternalService) {
            if id.namespace == view.namespace {
                reach.externals.insert(ServiceId::new(id.namespace.as_str(), id.name.as_str()));
            }
        }
        reach.add_invited(snapshot, view);
        reach.add_backends(snapshot, view);
        reach
    }

    /// Every member service that needs a cluster.
    pub fn member_clusters(&self) -> impl Iterator<Item = &ServiceId> {
        self.services.union(&self.backends)
    }

    /// Every external service that needs a cluster.
    pub fn external_clusters(&self) -> impl Iterator<Item = &ServiceId> {
        self.externals.union(&self.external_backends)
    }

    fn add_invited(&mut self, snapshot: &Snapshot, view: &ProxyView) {
        let identity = names::identity(&snapshot.trust_domain, &view.namespace, &view.service);
        for (id, stamped) in snapshot.of_kind(Kind::AccessPolicy) {
            let Body::AccessPolicy(policy) = &stamped.object.body else { continue };
            if id.namespace == view.namespace
                || !policy.lets_in()
                || !invites(policy, &id.namespace, &identity, &snapshot.trust_domain)
            {
                continue;
            }
            let there = snapshot.services.keys().filter(|service| service.namespace == id.namespace);
            self.services.extend(there.filter(|service| targets(&policy.target_refs, service)).cloned());
        }
        for (id, stamped) in snapshot.of_kind(Kind::TrafficTarget) {
            let Body::TrafficTarget(target) = &stamped.object.body else { continue };
            let invited = target.sources.iter().any(|source| {
                source.name == view.service
                    && source.namespace.as_deref().unwrap_or(&id.namespace) == view.namespace
            });
            let there = ServiceId::new(id.namespace.as_str(), target.destination.name.as_str());
            if invited && snapshot.services.contains_key(&there) {
                self.services.insert(there);
            }
        }
    }

    fn add_backends(&mut self, snapshot: &Snapshot, view: &ProxyView) {
        let mut named = Vec::new();
        for (id, stamped) in &snapshot.objects {
            let (parents, backends) = match &stamped.object.body {
                Body::HttpRoute(route) => {
                    let refs = route.rules.iter().flat_map(|rule| {
                        let mirrors = rule.filters.iter().filter_map(mirror);
                        rule.backend_refs.iter().map(Backend::from).chain(mirrors)
                    });
                    (&route.parent_refs, refs.collect::<Vec<_>>())
                }
                Body::GrpcRoute(route) => {
                    let refs = route.rules.iter().flat_map(|rule| {
                        let mirrors = rule.filters.iter().filter_map(mirror);
                        rule.backend_refs.iter().map(Backend::from).chain(mirrors)
                    });
                    (&route.parent_refs, refs.collect())
                }
                Body::TcpRoute(route) => {
                    let refs =
                        route.rules.iter().flat_map(|rule| rule.backend_refs.iter().map(Backend::from));
                    (&route.parent_refs, refs.collect())
                }
                _ => continue,
            };
            let attached = parents.iter().filter(|parent| parent.is_service()).any(|parent| {
                let namespace = parent.namespace.as_deref().unwrap_or(&id.namespace);
                self.services.contains(&ServiceId::new(namespace, parent.name.as_str()))
                    && rules::speaks(&id.namespace, namespace, &view.namespace)
            });
            if attached {
                let route = (id.kind.info().name, id.namespace.as_str());
                let permitted =
                    backends.into_iter().filter(|backend| grants::permits(snapshot, route, parents, backend));
                named.extend(permitted.map(|backend| {
                    let namespace = backend.namespace.unwrap_or(&id.namespace);
                    (backend.kind, ServiceId::new(namespace, backend.name))
                }));
            }
        }
        for (kind, service) in named {
            match kind {
                "ExternalService" => {
                    let known =
                        snapshot.object(Kind::ExternalService, &service.namespace, &service.name).is_some();
                    if known && !self.externals.contains(&service) {
                        self.external_backends.insert(service);
                    }
                }
                "Service"
                    if snapshot.services.contains_key(&service) && !self.services.contains(&service) =>
                {
                    self.backends.insert(service);
                }
                _ => {}
            }
        }
    }
}

fn mirror(filter: &HttpFilter) -> Option<Backend<'_>> {
    Some(Backend::from(&filter.request_mirror.as_ref()?.backend_ref))
}

/// Whether a policy's targets name this service (of the policy's namespace).
pub fn targets(refs: &[TargetRef], service: &ServiceId) -> bool {
    refs.is_empty() || refs.iter().any(|target| target.kind == "Service" && target.name == service.name)
}

fn invites(policy: &AccessPolicy, namespace: &str, identity: &str, trust_domain: &str) -> bool {
    policy.rules.iter().any(|rule| {
        rule.from.is_empty()
            || rule.from.iter().any(|from| names_identity(from, namespace, identity, trust_domain))
    })
}

/// Whether a rule's `from` names this identity, wherever it comes from.
pub fn names_identity(from: &AccessFrom, namespace: &str, identity: &str, trust_domain: &str) -> bool {
    let listed = |identities: &[String]| {
        identities.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(prefix) => identity.starts_with(prefix),
            None => identity == wanted,
        })
    };
    let lives = |namespaces: &[String]| {
        namespaces.iter().any(|ns| identity.starts_with(&format!("spiffe://{trust_domain}/ns/{ns}/")))
    };
    let serves = |services: &[String]| {
        services.iter().any(|text| {
            let service = ServiceId::parse(text, namespace);
            identity == names::identity(trust_domain, &service.namespace, &service.name)
        })
    };
    let domain = |domain: &String| identity.starts_with(&format!("spiffe://{domain}/"));
    let AccessFrom { identities, namespaces, services, trust_domains, .. } = from;
    let by_name =
        !(identities.is_empty() && namespaces.is_empty() && services.is_empty() && trust_domains.is_empty());
    let named = !by_name
        || listed(identities)
        || lives(namespaces)
        || serves(services)
        || trust_domains.iter().any(domain);
    named && !(listed(&from.not_identities) || lives(&from.not_namespaces) || serves(&from.not_services))
}

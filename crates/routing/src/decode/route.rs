//! Route configurations: virtual hosts, their domains, routes.

mod action;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::virtual_host::TlsRequirementType;

use super::reader::Reader;
use super::{core, text};
use crate::matcher::RouteIndex;
use crate::types::{
    ClusterRef, Domains, HeaderEdits, PathMatch, RequireTls, RetryPolicy, Route, RouteAction, RouteConfig,
    RouteMatch, VirtualHost,
};

/// Clusters by name, each with one number.
#[derive(Default)]
pub(super) struct ClusterNames {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl ClusterNames {
    pub fn refer(&mut self, name: &Arc<str>) -> ClusterRef {
        if let Some(number) = self.numbers.get(name) {
            return ClusterRef(*number);
        }
        // More than u32 names do not fit into a resource.
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.clone());
        self.numbers.insert(name.clone(), number);
        ClusterRef(number)
    }
}

/// What the routes of a configuration share while they are read.
struct Scope<'a> {
    clusters: &'a mut ClusterNames,
    /// Of the virtual host, for routes without one.
    retry: Option<Arc<RetryPolicy>>,
}

pub(super) fn config(reader: &mut Reader, config: &pb::RouteConfiguration) -> Option<RouteConfig> {
    let mut clusters = ClusterNames::default();
    let wanted = config.virtual_hosts.len();
    let mut domains = Domains::default();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut names: BTreeMap<String, ()> = BTreeMap::new();
    let vhosts = reader.list("virtual_hosts", &config.virtual_hosts, |reader, vhost| {
        if names.insert(vhost.name.clone(), ()).is_some() {
            reader.problem_at("name", format!("is not the only virtual host with the name {:?}", vhost.name));
        }
        virtual_host(reader, vhost, &mut clusters)
    });
    for (index, vhost) in config.virtual_hosts.iter().enumerate() {
        reader.at(&format!("virtual_hosts[{index}]"), |reader| {
            reader.list("domains", &vhost.domains, |reader, domain| {
                let domain = domain.to_ascii_lowercase();
                if let Some(first) = seen.insert(domain.clone(), index) {
                    reader.problem(format!("{domain:?} is also a domain of virtual_hosts[{first}]"));
                }
                add_domain(reader, &mut domains, &domain, u32::try_from(index).ok()?);
                Some(())
            });
        });
    }
    domains.suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
    domains.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    let edits = HeaderEdits {
        request: text::edits(
            reader,
            "request",
            &config.request_headers_to_remove,
            &config.request_headers_to_add,
        ),
        response: text::edits(
            reader,
            "response",
            &config.response_headers_to_remove,
            &config.response_headers_to_add,
        ),
    };
    (vhosts.len() == wanted).then(|| RouteConfig {
        name: config.name.as_str().into(),
        vhosts,
        edits,
        ignore_port_in_host_matching: config.ignore_port_in_host_matching,
        most_specific_edits_win: config.most_specific_header_mutations_wins,
        cluster_names: clusters.names,
        domains,
    })
}

fn add_domain(reader: &mut Reader, domains: &mut Domains, domain: &str, index: u32) {
    let stars = domain.matches('*').count();
    match (domain, stars) {
        ("", _) => reader.problem("is empty"),
        ("*", _) => domains.any = Some(index),
        (_, 0) => {
            domains.exact.insert(domain.into(), index);
        }
        (domain, 1) if domain.starts_with('*') => domains.suffixes.push((domain[1..].into(), index)),
        (domain, 1) if domain.ends_with('*') => {
            domains.prefixes.push((domain[..domain.len() - 1].into(), index))
        }
        _ => reader.problem(format!("{domain:?} may hold one * only, at its start or end")),
    }
}

fn virtual_host(
    reader: &mut Reader,
    vhost: &pb::VirtualHost,
    clusters: &mut ClusterNames,
) -> Option<VirtualHost> {
    let name = reader.required_text("name", &vhost.name);
    if vhost.domains.is_empty() {
        reader.problem_at("domains", "needs at least one");
    }
    let require_tls = reader.choice("require_tls", vhost.require_tls).map(|tls| match tls {
        TlsRequirementType::None => RequireTls::No,
        TlsRequirementType::ExternalOnly => RequireTls::ExternalOnly,
        TlsRequirementType::All => RequireTls::All,
    });
    let retry = match vhost.retry_policy.as_ref() {
        None => None,
        Some(policy) => {
            reader.at("retry_policy", |reader| action::retry_policy(reader, policy)).map(Arc::new)
        }
    };
    let mut scope = Scope { clusters, retry };
    let routes = reader.list("routes", &vhost.routes, |reader, found| route(reader, found, &mut scope));
    let edits = HeaderEdits {
        request: text::edits(
            reader,
            "request",
            &vhost.request_headers_to_remove,
            &vhost.request_headers_to_add,
        ),
        response: text::edits(
            reader,
            "response",
            &vhost.response_headers_to_remove,
            &vhost.response_headers_to_add,
        ),
    };
    Some(VirtualHost {
        name: name?,
        domains: vhost.domains.iter().map(|domain| domain.to_ascii_lowercase().into()).collect(),
        index: RouteIndex::new(&routes),
        routes,
        edits,
        require_tls: require_tls?,
        attempt_count_in_request: vhost.include_request_attempt_count,
        attempt_count_in_response: vhost.include_attempt_count_in_response,
        stamp: core::stamp(vhost.metadata.as_ref()),
    })
}

fn route(reader: &mut Reader, route: &pb::Route, scope: &mut Scope<'_>) -> Option<Arc<Route>> {
    let matcher = reader.required("match", route.r#match.as_ref());
    let matcher = reader.at("match", |reader| route_match(reader, matcher?));
    let action = match route.action.as_ref() {
        Some(Action::Route(forward)) => {
            reader.at("route", |reader| action::forward(reader, forward, scope)).map(RouteAction::Forward)
        }
        Some(Action::Redirect(redirect)) => {
            reader.at("redirect", |reader| action::redirect(reader, redirect)).map(RouteAction::Redirect)
        }
        Some(Action::DirectResponse(response)) => {
            reader.at("direct_response", |reader| action::respond(reader, response)).map(RouteAction::Respond)
        }
        Some(Action::NonForwardingAction(_)) => Some(RouteAction::NonForwarding),
        // The table has refused it.
        Some(Action::FilterAction(_)) => None,
        None => {
            reader.problem("needs one of route, redirect, direct_response");
            None
        }
    };
    let edits = HeaderEdits {
        request: text::edits(
            reader,
            "request",
            &route.request_headers_to_remove,
            &route.request_headers_to_add,
        ),
        response: text::edits(
            reader,
            "response",
            &route.response_headers_to_remove,
            &route.response_headers_to_add,
        ),
    };
    Some(Arc::new(Route {
        name: route.name.as_str().into(),
        matcher: matcher?,
        action: action?,
        edits,
        stamp: core::stamp(route.metadata.as_ref()),
    }))
}

fn route_match(reader: &mut Reader, found: &pb::RouteMatch) -> Option<RouteMatch> {
    let ignore_case = found.case_sensitive.as_ref().is_some_and(|sensitive| !sensitive.value);
    let path = match found.path_specifier.as_ref() {
        // An empty prefix is every path.
        Some(PathSpecifier::Prefix(prefix)) => Some(PathMatch::Prefix(prefix.as_str().into())),
        Some(PathSpecifier::Path(path)) => reader.required_text("path", path).map(PathMatch::Exact),
        Some(PathSpecifier::SafeRegex(regex)) => {
            text::regex_match(reader, "safe_regex", regex).map(PathMatch::Regex)
        }
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['?', '#']) {
                reader.problem_at(
                    "path_separated_prefix",
                    "must start with / and not end with it, without ? or #",
                );
            }
            Some(PathMatch::SeparatedPrefix(prefix.as_str().into()))
        }
        Some(PathSpecifier::ConnectMatcher(_)) => Some(PathMatch::Connect),
        // The table has refused it.
        Some(PathSpecifier::PathMatchPolicy(_)) => None,
        None => {
            reader.problem("needs one of prefix, path, safe_regex, path_separated_prefix, connect_matcher");
            None
        }
    };
    let headers = reader.list("headers", &found.headers, text::header_match);
    let query = reader.list("query_parameters", &found.query_parameters, text::query_match);
    let fraction = text::runtime_fraction(reader, "runtime_fraction", found.runtime_fraction.as_ref());
    let tls = found.tls_context.as_ref();
    (headers.len() == found.headers.len() && query.len() == found.query_parameters.len()).then_some(())?;
    Some(RouteMatch {
        path: path?,
        ignore_case,
        headers,
        query,
        grpc: found.grpc.is_some(),
        tls_presented: tls.and_then(|tls| tls.presented.as_ref()).map(|presented| presented.value),
        tls_validated: tls.and_then(|tls| tls.validated.as_ref()).map(|validated| validated.value),
        fraction_millionths: fraction?,
    })
}

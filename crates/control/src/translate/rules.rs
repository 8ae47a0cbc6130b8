//! HTTPRoutes and GRPCRoutes of a service's port as Envoy routes, in Gateway API's order: the more
//! specific match first, then the older object, then the order in which it is written.

use envoy_types::pb::envoy::config::route::v3 as route;
use weft_model::{
    BackendRef, Body, GrpcMatch, GrpcMethodMatchType, HeaderMatch, HttpFilter, HttpMatch, HttpRetry,
    HttpTimeouts, ParentRef, PathMatchType, ValueMatchType,
};

use super::names;
use super::proto::{Stamp, exact, regex, regex_match};
use super::view::ProxyKind;
use crate::snapshot::{Port, ServiceView, Snapshot};

/// A rule that is attached to a port.
#[derive(Clone, Debug)]
pub struct Rule<'a> {
    /// `HTTPRoute` or `GRPCRoute`.
    pub kind: &'static str,
    /// Of the route.
    pub namespace: &'a str,
    /// Of the route.
    pub name: &'a str,
    /// Its place in the route.
    pub index: usize,
    /// Its own name.
    pub rule_name: Option<&'a str>,
    /// What it is attached to.
    pub parents: &'a [ParentRef],
    /// The route's last change.
    pub revision: u64,
    /// What is done to requests.
    pub filters: &'a [HttpFilter],
    /// Where they go.
    pub backends: &'a [BackendRef],
    /// How long they may take.
    pub timeouts: Option<&'a HttpTimeouts>,
    /// When they are tried again.
    pub retry: Option<&'a HttpRetry>,
}

impl Rule<'_> {
    /// `HTTPRoute NS/NAME`.
    pub fn object(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }

    /// `NS/NAME#INDEX`.
    pub fn route_name(&self) -> String {
        names::rule(self.namespace, self.name, self.index)
    }

    /// The stamp of this rule.
    pub fn stamp(&self) -> Stamp<'_> {
        Stamp {
            kind: self.kind,
            namespace: self.namespace,
            name: self.name,
            field: format!("spec.rules[{}]", self.index),
            revision: self.revision,
        }
    }
}

/// What a rule looks for.
#[derive(Clone, Copy, Debug)]
pub enum Match<'a> {
    /// Every request.
    Any,
    /// As an HTTPRoute says it.
    Http(&'a HttpMatch),
    /// As a GRPCRoute says it.
    Grpc(&'a GrpcMatch),
}

/// The rules for calls to a port by callers of a namespace, one entry a match, best match first. No
/// entries: no route is attached.
pub fn attached<'a>(
    snapshot: &'a Snapshot,
    service: &ServiceView,
    port: &Port,
    caller_namespace: &str,
) -> Vec<(Rule<'a>, Match<'a>)> {
    let mut found: Vec<(Order<'a>, Rule<'a>, Match<'a>)> = Vec::new();
    for (id, stamped) in &snapshot.objects {
        let parents = match &stamped.object.body {
            Body::HttpRoute(route) => &route.parent_refs,
            Body::GrpcRoute(route) => &route.parent_refs,
            _ => continue,
        };
        let fits = |parent: &ParentRef| fits(parent, &id.namespace, service, port);
        if !parents.iter().any(fits) || !speaks(&id.namespace, &service.id.namespace, caller_namespace) {
            continue;
        }
        let created = stamped.object.meta.creation_timestamp.as_deref().unwrap_or("");
        let base = |kind, index, rule_name, filters, backends, timeouts, retry| Rule {
            kind,
            namespace: &id.namespace,
            name: &id.name,
            index,
            rule_name,
            parents,
            revision: stamped.revision,
            filters,
            backends,
            timeouts,
            retry,
        };
        let mut add = |rule: Rule<'a>, matches: Vec<Match<'a>>| {
            let matches = if matches.is_empty() { vec![Match::Any] } else { matches };
            for (place, wanted) in matches.into_iter().enumerate() {
                let order = order(wanted, created, &rule, place, &service.id.namespace);
                found.push((order, rule.clone(), wanted));
            }
        };
        match &stamped.object.body {
            Body::HttpRoute(route) => {
                for (index, rule) in route.rules.iter().enumerate() {
                    let retry = rule.retry.as_ref();
                    let timeouts = rule.timeouts.as_ref();
                    let (name, refs) = (rule.name.as_deref(), rule.backend_refs.as_slice());
                    let made = base("HTTPRoute", index, name, &rule.filters, refs, timeouts, retry);
                    add(made, rule.matches.iter().map(Match::Http).collect());
                }
            }
            Body::GrpcRoute(route) => {
                for (index, rule) in route.rules.iter().enumerate() {
                    let (name, refs) = (rule.name.as_deref(), rule.backend_refs.as_slice());
                    let made = base("GRPCRoute", index, name, &rule.filters, refs, None, None);
                    add(made, rule.matches.iter().map(Match::Grpc).collect());
                }
            }
            _ => {}
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.into_iter().map(|(_, rule, wanted)| (rule, wanted)).collect()
}

/// Whether a route has a say: one beside its Service (the producer's) speaks to all callers, one elsewhere
/// (a consumer's) to callers of its own namespace only.
pub fn speaks(route_namespace: &str, service_namespace: &str, caller_namespace: &str) -> bool {
    route_namespace == service_namespace || route_namespace == caller_namespace
}

/// Whether a parent reference means this port of this service.
pub fn fits(parent: &ParentRef, route_namespace: &str, service: &ServiceView, port: &Port) -> bool {
    parent.is_service()
        && parent.name == service.id.name
        && parent.namespace.as_deref().unwrap_or(route_namespace) == service.id.namespace
        && parent.port.is_none_or(|number| number == port.port)
        && parent.section_name.as_ref().is_none_or(|name| port.name.as_ref() == Some(name))
}

/// Smaller is tried first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order<'a> {
    /// A consumer's own route comes before what the Service's owner says to all callers.
    of_owner: bool,
    path: (u8, std::cmp::Reverse<usize>),
    any_method: bool,
    headers: std::cmp::Reverse<usize>,
    query: std::cmp::Reverse<usize>,
    age: (&'a str, &'a str, &'a str),
    place: (usize, usize),
}

fn order<'a>(wanted: Match<'a>, created: &'a str, rule: &Rule<'a>, place: usize, owner: &str) -> Order<'a> {
    let (path, any_method, headers, query) = match wanted {
        Match::Any => ((2, 1), true, 0, 0),
        Match::Http(http) => {
            let rank = match http.path.match_type {
                PathMatchType::Exact => 0,
                PathMatchType::RegularExpression => 1,
                PathMatchType::PathPrefix => 2,
            };
            (
                (rank, http.path.value.len()),
                http.method.is_none(),
                http.headers.len(),
                http.query_params.len(),
            )
        }
        Match::Grpc(grpc) => {
            let method = grpc.method.clone().unwrap_or_default();
            let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
            let rank = match (method.match_type, &method.service, &method.method) {
                (GrpcMethodMatchType::RegularExpression, ..) => 1,
                (_, Some(_), Some(_)) => 0,
                _ => 2,
            };
            ((rank, length(&method.service) + length(&method.method)), true, grpc.headers.len(), 0)
        }
    };
    Order {
        of_owner: rule.namespace == owner,
        path: (path.0, std::cmp::Reverse(path.1)),
        any_method,
        headers: std::cmp::Reverse(headers),
        query: std::cmp::Reverse(query),
        age: (created, rule.namespace, rule.name),
        place: (rule.index, place),
    }
}

/// The match as Envoy has it.
pub fn matcher(wanted: Match<'_>, kind: ProxyKind) -> route::RouteMatch {
    use route::route_match::PathSpecifier;
    match wanted {
        Match::Any => everything(),
        Match::Http(http) => {
            let value = http.path.value.as_str();
            let path = match http.path.match_type {
                PathMatchType::Exact => PathSpecifier::Path(value.to_owned()),
                PathMatchType::RegularExpression => PathSpecifier::SafeRegex(regex_match(value)),
                PathMatchType::PathPrefix => prefix(value, kind),
            };
            let method = http.method.map(|method| header(":method", exact(method.as_str())));
            route::RouteMatch {
                path_specifier: Some(path),
                headers: http.headers.iter().map(header_match).chain(method).collect(),
                query_parameters: http.query_params.iter().map(query_match).collect(),
                ..Default::default()
            }
        }
        Match::Grpc(grpc) => {
            let method = grpc.method.clone().unwrap_or_default();
            let regular = method.match_type == GrpcMethodMatchType::RegularExpression;
            let path = match (regular, method.service, method.method) {
                (_, None, None) => PathSpecifier::Prefix("/".to_owned()),
                (false, Some(service), Some(method)) => PathSpecifier::Path(format!("/{service}/{method}")),
                (false, Some(service), None) => PathSpecifier::Prefix(format!("/{service}/")),
                (false, None, Some(method)) => {
                    PathSpecifier::SafeRegex(regex_match(format!("/[^/]+/{}", escape(&method))))
                }
                (true, service, method) => {
                    let part = |text: Option<String>| {
                        text.map_or_else(|| "[^/]+".to_owned(), |t| format!("(?:{t})"))
                    };
                    PathSpecifier::SafeRegex(regex_match(format!("/{}/{}", part(service), part(method))))
                }
            };
            route::RouteMatch {
                path_specifier: Some(path),
                headers: grpc.headers.iter().map(header_match).collect(),
                // A gRPC client's requests are gRPC all of them, and its library refuses the field.
                grpc: (kind != ProxyKind::Grpc).then(Default::default),
                ..Default::default()
            }
        }
    }
}

/// The match of a default route.
pub fn everything() -> route::RouteMatch {
    route::RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".to_owned())),
        ..Default::default()
    }
}

fn prefix(value: &str, kind: ProxyKind) -> route::route_match::PathSpecifier {
    use route::route_match::PathSpecifier;
    match value.trim_end_matches('/') {
        "" => PathSpecifier::Prefix("/".to_owned()),
        // gRPC knows no separated prefix; all its paths have a segment more.
        path if kind == ProxyKind::Grpc => PathSpecifier::Prefix(format!("{path}/")),
        path => PathSpecifier::PathSeparatedPrefix(path.to_owned()),
    }
}

fn header(
    name: &str,
    wanted: envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher,
) -> route::HeaderMatcher {
    route::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(route::header_matcher::HeaderMatchSpecifier::StringMatch(wanted)),
        ..Default::default()
    }
}

fn header_match(wanted: &HeaderMatch) -> route::HeaderMatcher {
    let text = match wanted.match_type {
        ValueMatchType::Exact => exact(wanted.value.as_str()),
        ValueMatchType::RegularExpression => regex(wanted.value.as_str()),
    };
    header(&wanted.name.to_ascii_lowercase(), text)
}

fn query_match(wanted: &weft_model::QueryParamMatch) -> route::QueryParameterMatcher {
    let text = match wanted.match_type {
        ValueMatchType::Exact => exact(wanted.value.as_str()),
        ValueMatchType::RegularExpression => regex(wanted.value.as_str()),
    };
    route::QueryParameterMatcher {
        name: wanted.name.clone(),
        query_parameter_match_specifier: Some(
            route::query_parameter_matcher::QueryParameterMatchSpecifier::StringMatch(text),
        ),
    }
}

/// A text for a regular expression that means itself.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_ascii_alphanumeric() && c != '_' && c != '/' && c != '-' && c.is_ascii() {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

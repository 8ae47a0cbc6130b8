//! What a rule does with a request: forward by weight, redirect, answer; edits, timeouts, retries.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use weft_model::{
    HeaderModifier, HttpFilterType, Kind, PathMatchType, PathModifier, PathModifierType, Period,
    RequestMirror, RequestRedirect, RetryOn, Severity, TrafficPolicy,
};

use super::clusters::NOWHERE;
use super::grants::{self, Backend};
use super::proto::{any, duration, regex_match, uint32};
use super::rules::{Match, Rule, escape};
use super::view::ProxyKind;
use super::{Made, names, traffic};
use crate::snapshot::{Port, ServiceId, ServiceView};

/// A stream or upgrade without a byte either way.
const STREAM_IDLE: Duration = Duration::from_secs(300);
/// What Envoy and our own proxy wait when nothing is said.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Tries beyond the first when nobody says else, and only of what has certainly not been processed.
const RETRIES: u32 = 2;
const SAFE: &str = "connect-failure,refused-stream";
/// The status that our own proxies also try again, of methods that may be sent twice.
const UNAVAILABLE: u32 = 503;

/// The route of one rule and match.
pub fn of_rule(
    made: &mut Made<'_>,
    service: &ServiceView,
    port: &Port,
    rule: &Rule<'_>,
    wanted: Match<'_>,
) -> route::Route {
    let snapshot = made.snapshot;
    let route = (rule.kind, rule.namespace, rule.name);
    let policy = traffic::for_route(snapshot, route, rule.rule_name, &service.id, port.name.as_deref());
    let mut built = route::Route {
        name: rule.route_name(),
        r#match: Some(super::rules::matcher(wanted, made.view.kind)),
        metadata: Some(rule.stamp().metadata()),
        ..Default::default()
    };
    let mut forward = forward(made, policy.as_ref(), port, rule);
    let mut action = None;
    for filter in rule.filters {
        match filter.filter_type {
            HttpFilterType::RequestHeaderModifier => {
                let edits = filter.request_header_modifier.clone().unwrap_or_default();
                built.request_headers_to_add.extend(additions(&edits));
                built.request_headers_to_remove.extend(edits.remove);
            }
            HttpFilterType::ResponseHeaderModifier => {
                let edits = filter.response_header_modifier.clone().unwrap_or_default();
                built.response_headers_to_add.extend(additions(&edits));
                built.response_headers_to_remove.extend(edits.remove);
            }
            HttpFilterType::RequestRedirect => {
                let wish = filter.request_redirect.clone().unwrap_or_default();
                action = Some(route::route::Action::Redirect(redirect(&wish, wanted)));
            }
            HttpFilterType::UrlRewrite => {
                let wish = filter.url_rewrite.clone().unwrap_or_default();
                if let Some(host) = wish.hostname {
                    forward.host_rewrite_specifier =
                        Some(route::route_action::HostRewriteSpecifier::HostRewriteLiteral(host));
                }
                if let Some(path) = &wish.path {
                    rewrite(&mut forward, path, wanted);
                }
            }
            HttpFilterType::RequestMirror => {
                forward
                    .request_mirror_policies
                    .extend(filter.request_mirror.as_ref().map(|m| mirror(made, rule, m)));
            }
            HttpFilterType::ExtensionRef => {
                let message =
                    format!("rule {} has an extension that is not known: it answers 500", rule.index);
                made.found(
                    "WFT0910",
                    Severity::Error,
                    rule.object(),
                    message,
                    "remove the ExtensionRef filter",
                );
                action = Some(respond(500));
            }
        }
    }
    let total: u64 = rule.backends.iter().map(|backend| u64::from(backend.weight)).sum();
    if action.is_none() && total == 0 {
        action = Some(respond(500));
    }
    built.action = Some(action.unwrap_or(route::route::Action::Route(forward)));
    built
}

/// The route of a port that no HTTPRoute or GRPCRoute is attached to.
pub fn to_service(made: &Made<'_>, service: &ServiceView, port: &Port) -> route::RouteAction {
    let policy = traffic::for_service(made.snapshot, "Service", &service.id, port.name.as_deref());
    let cluster = names::outbound(&service.id, port.port);
    to_cluster(made, policy.as_ref(), port.protocol == weft_model::Protocol::Http2, cluster)
}

/// Forwards to one cluster by a policy.
pub fn to_cluster(
    made: &Made<'_>,
    policy: Option<&TrafficPolicy>,
    streams: bool,
    cluster: String,
) -> route::RouteAction {
    let mut forward = timed(made, policy, streams, None);
    forward.cluster_specifier = Some(route::route_action::ClusterSpecifier::Cluster(cluster));
    forward.retry_policy = Some(retries(made.view.kind, policy));
    forward
}

/// An answer without an upstream.
pub fn respond(status: u32) -> route::route::Action {
    route::route::Action::DirectResponse(route::DirectResponseAction { status, ..Default::default() })
}

fn forward(
    made: &mut Made<'_>,
    policy: Option<&TrafficPolicy>,
    port: &Port,
    rule: &Rule<'_>,
) -> route::RouteAction {
    use route::route_action::ClusterSpecifier;
    use route::weighted_cluster::ClusterWeight;
    let streams = port.protocol == weft_model::Protocol::Http2 || rule.kind == "GRPCRoute";
    let mut forward = timed(made, policy, streams, rule.timeouts.and_then(|t| t.request));
    let backends: Vec<_> = rule.backends.iter().filter(|backend| backend.weight > 0).collect();
    let mut weights = Vec::with_capacity(backends.len());
    for backend in &backends {
        let mut weight = ClusterWeight {
            name: backend_cluster(made, rule, &Backend::from(*backend)),
            weight: Some(uint32(backend.weight)),
            ..Default::default()
        };
        for filter in &backend.filters {
            match (filter.filter_type, &filter.request_header_modifier, &filter.response_header_modifier) {
                (HttpFilterType::RequestHeaderModifier, Some(edits), _) => {
                    weight.request_headers_to_add.extend(additions(edits));
                    weight.request_headers_to_remove.extend(edits.remove.clone());
                }
                (HttpFilterType::ResponseHeaderModifier, _, Some(edits)) => {
                    weight.response_headers_to_add.extend(additions(edits));
                    weight.response_headers_to_remove.extend(edits.remove.clone());
                }
                _ => {
                    let message =
                        format!("rule {} has a filter on a backend that is not done there", rule.index);
                    made.found(
                        "WFT0911",
                        Severity::Error,
                        rule.object(),
                        message,
                        "move the filter to the rule",
                    );
                    weight.name = NOWHERE.to_owned();
                }
            }
        }
        weights.push(weight);
    }
    let edited = backends.iter().any(|backend| !backend.filters.is_empty());
    forward.cluster_specifier = match weights.as_slice() {
        [only] if !edited => Some(ClusterSpecifier::Cluster(only.name.clone())),
        [] => Some(ClusterSpecifier::Cluster(NOWHERE.to_owned())),
        _ => Some(ClusterSpecifier::WeightedClusters(route::WeightedCluster {
            clusters: weights,
            ..Default::default()
        })),
    };
    let mut retry = retries(made.view.kind, policy);
    if let Some(wish) = rule.retry {
        retry.num_retries = Some(uint32(wish.attempts.unwrap_or(RETRIES)));
        if !wish.codes.is_empty() {
            retry.retry_on = format!("{SAFE},retriable-status-codes");
            retry.retriable_status_codes = wish.codes.iter().map(|&code| code.into()).collect();
        }
        if let Some(base) = wish.backoff {
            retry.retry_back_off = Some(back_off(base.get(), base.get() * 10));
        }
    }
    if let Some(per_try) = rule.timeouts.and_then(|t| t.backend_request) {
        retry.per_try_timeout = Some(duration(per_try.get()));
    }
    forward.retry_policy = Some(retry);
    forward
}

/// The cluster of a backend; one without endpoints when it is not there or not for this route.
pub fn backend_cluster(made: &mut Made<'_>, rule: &Rule<'_>, backend: &Backend<'_>) -> String {
    let service = ServiceId::new(backend.namespace.unwrap_or(rule.namespace), backend.name);
    let kind = backend.kind;
    if !grants::permits(made.snapshot, (rule.kind, rule.namespace), rule.parents, backend) {
        // Told by the model already (WFT0010), which sees the same objects.
        return NOWHERE.to_owned();
    }
    let port = backend.port;
    let cluster = match kind {
        "ExternalService" => super::external::port(made.snapshot, &service, port)
            .map(|port| names::external(&service, port.port)),
        "Service" => made.snapshot.services.get(&service).and_then(|view| {
            let number = port.or_else(|| view.default_http_port().map(|port| port.port))?;
            view.port(number).map(|port| names::outbound(&service, port.port))
        }),
        // An object of a time when this was let in.
        _ => None,
    };
    cluster.unwrap_or_else(|| {
        let known = match kind {
            "ExternalService" => super::external::find(made.snapshot, &service).is_some(),
            _ => made.snapshot.object(Kind::Service, &service.namespace, &service.name).is_some(),
        };
        let what = if known { "has no such port" } else { "does not exist" };
        let message = format!("rule {}: backend {kind} {service} {what}: its share gets 503", rule.index);
        let hint = "name a backend that exists, with its port";
        made.found("WFT0912", Severity::Error, rule.object(), message, hint);
        NOWHERE.to_owned()
    })
}

fn timed(
    made: &Made<'_>,
    policy: Option<&TrafficPolicy>,
    streams: bool,
    request: Option<Period>,
) -> route::RouteAction {
    let timeouts = policy.and_then(|policy| policy.timeouts.as_ref());
    let said = request.or_else(|| timeouts.and_then(|t| t.request)).map(Period::get);
    let default = made.snapshot.mesh.defaults.request_timeout.get();
    let timeout = match said {
        Some(said) => Some(said),
        // A call may be a stream without an end; only what is idle for long is over.
        None if streams => Some(Duration::ZERO),
        // Not saying it leaves our own proxy free to count to the answer's head, not to its end.
        None if default == REQUEST_TIMEOUT => None,
        None => Some(default),
    };
    let idle = timeouts.and_then(|t| t.idle).map_or(STREAM_IDLE, Period::get);
    route::RouteAction {
        timeout: timeout.map(duration),
        idle_timeout: Some(duration(idle)),
        // What gRPC reads instead of `timeout`.
        max_stream_duration: (made.view.kind == ProxyKind::Grpc).then_some(()).and(said).map(|said| {
            route::route_action::MaxStreamDuration {
                max_stream_duration: Some(duration(said)),
                ..Default::default()
            }
        }),
        ..Default::default()
    }
}

fn retries(proxy: ProxyKind, policy: Option<&TrafficPolicy>) -> route::RetryPolicy {
    let wish = policy.and_then(|policy| policy.retry.as_ref());
    let per_try = policy.and_then(|policy| policy.timeouts.as_ref()).and_then(|t| t.per_try);
    let per_try = wish.and_then(|wish| wish.per_try_timeout).or(per_try);
    let on: Vec<&str> =
        wish.map(|wish| wish.on.iter().map(|on| RetryOn::as_str(*on)).collect()).unwrap_or_default();
    // An Envoy would repeat a POST too: it has no word for methods that applies to one reason only.
    let again = on.is_empty() && proxy == ProxyKind::Weft;
    route::RetryPolicy {
        retry_on: match (on.is_empty(), again) {
            (true, true) => format!("{SAFE},retriable-status-codes"),
            (true, false) => SAFE.to_owned(),
            (false, _) => on.join(","),
        },
        retriable_status_codes: again.then_some(UNAVAILABLE).into_iter().collect(),
        num_retries: Some(uint32(wish.map_or(RETRIES, weft_model::Retry::attempts))),
        per_try_timeout: per_try.map(|per_try| duration(per_try.get())),
        retry_back_off: wish
            .and_then(|wish| wish.backoff.as_ref())
            .map(|wish| back_off(wish.base.get(), wish.max.get())),
        retry_host_predicate: vec![route::retry_policy::RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: Some(route::retry_policy::retry_host_predicate::ConfigType::TypedConfig(any(
                &envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate {},
            ))),
        }],
        host_selection_retry_max_attempts: 3,
        ..Default::default()
    }
}

fn back_off(base: Duration, max: Duration) -> route::retry_policy::RetryBackOff {
    let base = base.max(Duration::from_millis(1));
    route::retry_policy::RetryBackOff {
        base_interval: Some(duration(base)),
        max_interval: Some(duration(max.max(base))),
    }
}

fn additions(edits: &HeaderModifier) -> Vec<core::HeaderValueOption> {
    use core::header_value_option::HeaderAppendAction;
    let one = |header: &weft_model::Header, action: HeaderAppendAction| core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: header.name.clone(),
            // A percent sign starts a command there.
            value: header.value.replace('%', "%%"),
            ..Default::default()
        }),
        append_action: action as i32,
        ..Default::default()
    };
    let set = edits.set.iter().map(|header| one(header, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = edits.add.iter().map(|header| one(header, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add).collect()
}

fn redirect(wish: &RequestRedirect, wanted: Match<'_>) -> route::RedirectAction {
    use route::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    let path = wish.path.as_ref().and_then(|path| match path.modifier_type {
        PathModifierType::ReplaceFullPath => {
            path.replace_full_path.clone().map(PathRewriteSpecifier::PathRedirect)
        }
        PathModifierType::ReplacePrefixMatch => {
            let to = path.replace_prefix_match.as_deref().unwrap_or("/");
            Some(match prefix_as_regex(to, wanted) {
                Some(regex) => PathRewriteSpecifier::RegexRewrite(regex),
                None => PathRewriteSpecifier::PrefixRewrite(to.to_owned()),
            })
        }
    });
    route::RedirectAction {
        scheme_rewrite_specifier: wish.scheme.clone().map(SchemeRewriteSpecifier::SchemeRedirect),
        host_redirect: wish.hostname.clone().unwrap_or_default(),
        port_redirect: wish.port.map_or(0, u32::from),
        path_rewrite_specifier: path,
        response_code: match wish.status_code {
            301 => RedirectResponseCode::MovedPermanently,
            303 => RedirectResponseCode::SeeOther,
            307 => RedirectResponseCode::TemporaryRedirect,
            308 => RedirectResponseCode::PermanentRedirect,
            _ => RedirectResponseCode::Found,
        } as i32,
        ..Default::default()
    }
}

fn rewrite(forward: &mut route::RouteAction, path: &PathModifier, wanted: Match<'_>) {
    match path.modifier_type {
        PathModifierType::ReplaceFullPath => {
            let to = path.replace_full_path.as_deref().unwrap_or("/");
            forward.regex_rewrite = Some(substitute("^.+$".to_owned(), to));
        }
        PathModifierType::ReplacePrefixMatch => {
            let to = path.replace_prefix_match.as_deref().unwrap_or("/");
            match prefix_as_regex(to, wanted) {
                Some(regex) => forward.regex_rewrite = Some(regex),
                None => forward.prefix_rewrite = to.to_owned(),
            }
        }
    }
}

/// `/a` replaced by `/` must not leave `//b` of `/a/b`, nor `/` replaced by `/x` leave `/xb`.
fn prefix_as_regex(to: &str, wanted: Match<'_>) -> Option<RegexMatchAndSubstitute> {
    let Match::Http(http) = wanted else { return None };
    if http.path.match_type != PathMatchType::PathPrefix {
        return None;
    }
    let from = http.path.value.trim_end_matches('/');
    let to = to.trim_end_matches('/');
    (from.is_empty() || to.is_empty()).then(|| substitute(format!("^{}/*", escape(from)), &format!("{to}/")))
}

fn substitute(pattern: String, to: &str) -> RegexMatchAndSubstitute {
    // A backslash starts a group's number there.
    RegexMatchAndSubstitute { pattern: Some(regex_match(pattern)), substitution: to.replace('\\', "\\\\") }
}

fn mirror(
    made: &mut Made<'_>,
    rule: &Rule<'_>,
    wish: &RequestMirror,
) -> route::route_action::RequestMirrorPolicy {
    let cluster = backend_cluster(made, rule, &Backend::from(&wish.backend_ref));
    let millionths = match (wish.percent, &wish.fraction) {
        (Some(percent), _) => u64::from(percent) * 10_000,
        (None, Some(fraction)) => {
            u64::from(fraction.numerator) * 1_000_000 / u64::from(fraction.denominator.max(1))
        }
        (None, None) => 1_000_000,
    };
    route::route_action::RequestMirrorPolicy {
        cluster,
        runtime_fraction: Some(core::RuntimeFractionalPercent {
            default_value: Some(FractionalPercent {
                numerator: u32::try_from(millionths.min(1_000_000)).unwrap_or(1_000_000),
                denominator: DenominatorType::Million as i32,
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

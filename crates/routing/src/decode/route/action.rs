//! What a route does: forward, redirect, answer; and its retries.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::RoutingPriority as PbPriority;
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier, UpgradeConfig,
};
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::cluster_weight;
use http::{HeaderValue, StatusCode};

use super::super::reader::Reader;
use super::super::{core, text};
use super::Scope;
use crate::types::{
    ClusterChoice, ConnectMode, DataSource, DirectResponse, Forward, HeaderEdits, HostRewrite, Mirror,
    PathRewrite, Redirect, RedirectPath, RetryOn, RetryPolicy, RouteUpgrades, RoutingPriority,
    WeightedCluster,
};

/// Bytes of a direct response.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Clusters of one split.
const SPLIT_MAX: usize = 1000;

pub(super) fn forward(
    reader: &mut Reader,
    action: &pb::RouteAction,
    scope: &mut Scope<'_>,
) -> Option<Forward> {
    let clusters = cluster_choice(reader, action.cluster_specifier.as_ref(), scope);
    let cluster_not_found = reader
        .choice("cluster_not_found_response_code", action.cluster_not_found_response_code)
        .map(|code| match code {
            ClusterNotFoundResponseCode::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            ClusterNotFoundResponseCode::NotFound => StatusCode::NOT_FOUND,
            ClusterNotFoundResponseCode::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
        });
    let path = match (action.prefix_rewrite.as_str(), action.regex_rewrite.as_ref()) {
        ("", None) => Some(PathRewrite::Keep),
        (prefix, None) => Some(PathRewrite::Prefix(prefix.into())),
        ("", Some(rewrite)) => text::substitution(reader, "regex_rewrite", rewrite)
            .map(|(pattern, substitution)| PathRewrite::Regex { pattern, substitution }),
        (_, Some(_)) => {
            reader.problem_at("regex_rewrite", "does not go with prefix_rewrite");
            None
        }
    };
    let host = host_rewrite(reader, action.host_rewrite_specifier.as_ref());
    let timeout = reader.duration("timeout", action.timeout.as_ref());
    let idle_timeout = reader.duration("idle_timeout", action.idle_timeout.as_ref());
    let mut max_stream = None;
    if let Some(limits) = action.max_stream_duration.as_ref() {
        reader.at("max_stream_duration", |reader| {
            max_stream = reader.duration("max_stream_duration", limits.max_stream_duration.as_ref());
        });
    }
    let retry = match action.retry_policy.as_ref() {
        None => scope.retry.clone(),
        Some(policy) => reader.at("retry_policy", |reader| retry_policy(reader, policy)).map(Arc::new),
    };
    let mirrors =
        reader.list("request_mirror_policies", &action.request_mirror_policies, |reader, mirror| {
            let name = reader.required_text("cluster", &mirror.cluster)?;
            let fraction_millionths =
                text::runtime_fraction(reader, "runtime_fraction", mirror.runtime_fraction.as_ref())?;
            Some(Mirror { cluster: scope.clusters.refer(&name), name, fraction_millionths })
        });
    let priority = reader.choice("priority", action.priority).map(|priority| match priority {
        PbPriority::Default => RoutingPriority::Default,
        PbPriority::High => RoutingPriority::High,
    });
    Some(Forward {
        clusters: clusters?,
        cluster_not_found: cluster_not_found?,
        path: path?,
        host: host?,
        append_x_forwarded_host: action.append_x_forwarded_host,
        timeout,
        idle_timeout,
        max_stream,
        retry,
        mirrors,
        upgrades: upgrades(reader, &action.upgrade_configs),
        priority: priority?,
    })
}

fn cluster_choice(
    reader: &mut Reader,
    specifier: Option<&ClusterSpecifier>,
    scope: &mut Scope<'_>,
) -> Option<ClusterChoice> {
    match specifier {
        Some(ClusterSpecifier::Cluster(name)) => {
            let name = reader.required_text("cluster", name)?;
            Some(ClusterChoice::One { cluster: scope.clusters.refer(&name), name })
        }
        Some(ClusterSpecifier::ClusterHeader(name)) => {
            text::header_name(reader, "cluster_header", name).map(ClusterChoice::Header)
        }
        Some(ClusterSpecifier::WeightedClusters(split)) => {
            reader.at("weighted_clusters", |reader| weighted(reader, split, scope))
        }
        // The table has refused these.
        Some(
            ClusterSpecifier::ClusterSpecifierPlugin(_) | ClusterSpecifier::InlineClusterSpecifierPlugin(_),
        ) => None,
        None => {
            reader.problem("needs one of cluster, weighted_clusters, cluster_header");
            None
        }
    }
}

fn weighted(
    reader: &mut Reader,
    split: &pb::WeightedCluster,
    scope: &mut Scope<'_>,
) -> Option<ClusterChoice> {
    if split.clusters.len() > SPLIT_MAX {
        reader.problem_at("clusters", format!("has more than {SPLIT_MAX} clusters"));
        return None;
    }
    let clusters = reader.list("clusters", &split.clusters, |reader, member| {
        let name = reader.required_text("name", &member.name)?;
        let edits = HeaderEdits {
            request: text::edits(
                reader,
                "request",
                &member.request_headers_to_remove,
                &member.request_headers_to_add,
            ),
            response: text::edits(
                reader,
                "response",
                &member.response_headers_to_remove,
                &member.response_headers_to_add,
            ),
        };
        let host = match member.host_rewrite_specifier.as_ref() {
            None => HostRewrite::Keep,
            Some(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host)) => {
                literal_host(reader, host)?
            }
        };
        Some(WeightedCluster {
            cluster: scope.clusters.refer(&name),
            name,
            weight: member.weight.as_ref().map_or(0, |weight| weight.value),
            edits,
            host,
        })
    });
    let total: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    if split.clusters.is_empty() {
        reader.problem_at("clusters", "needs at least one");
    } else if total == 0 {
        reader.problem_at("clusters", "has a sum of weights of 0");
    } else if total > u64::from(u32::MAX) {
        reader.problem_at("clusters", "has a sum of weights of more than 2³² - 1");
    }
    (total > 0 && clusters.len() == split.clusters.len())
        .then_some(ClusterChoice::Weighted { clusters, total })
}

fn host_rewrite(reader: &mut Reader, specifier: Option<&HostRewriteSpecifier>) -> Option<HostRewrite> {
    match specifier {
        None => Some(HostRewrite::Keep),
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => literal_host(reader, host),
        Some(HostRewriteSpecifier::AutoHostRewrite(auto)) => {
            Some(if auto.value { HostRewrite::Auto } else { HostRewrite::Keep })
        }
        Some(HostRewriteSpecifier::HostRewriteHeader(name)) => {
            text::header_name(reader, "host_rewrite_header", name).map(HostRewrite::Header)
        }
        Some(HostRewriteSpecifier::HostRewritePathRegex(rewrite)) => {
            text::substitution(reader, "host_rewrite_path_regex", rewrite)
                .map(|(pattern, substitution)| HostRewrite::PathRegex { pattern, substitution })
        }
        #[allow(unreachable_patterns, reason = "newer Envoys have more ways; the table refuses them")]
        Some(_) => None,
    }
}

fn literal_host(reader: &mut Reader, host: &str) -> Option<HostRewrite> {
    match crate::host::canonical(host).ok().and_then(|_| HeaderValue::from_str(host).ok()) {
        Some(value) => Some(HostRewrite::Literal(value)),
        None => {
            reader.problem_at("host_rewrite_literal", format!("is no host: {host:?}"));
            None
        }
    }
}

fn upgrades(reader: &mut Reader, configs: &[UpgradeConfig]) -> RouteUpgrades {
    let mut upgrades = RouteUpgrades::default();
    reader.list("upgrade_configs", configs, |reader, config| {
        let enabled = config.enabled.as_ref().is_none_or(|enabled| enabled.value);
        if config.upgrade_type.eq_ignore_ascii_case("websocket") {
            if config.connect_config.is_some() {
                reader.problem_at("connect_config", "only goes with CONNECT");
            }
            upgrades.websocket = Some(enabled);
        } else if config.upgrade_type.eq_ignore_ascii_case("CONNECT") {
            upgrades.connect = Some(match (enabled, config.connect_config.is_some()) {
                (false, _) => ConnectMode::Refused,
                (true, true) => ConnectMode::Terminate,
                (true, false) => ConnectMode::Forward,
            });
        } else {
            reader.problem_at(
                "upgrade_type",
                format!("is neither websocket nor CONNECT: {:?}", config.upgrade_type),
            );
        }
        Some(())
    });
    upgrades
}

pub(super) fn retry_policy(reader: &mut Reader, policy: &pb::RetryPolicy) -> Option<RetryPolicy> {
    let mut on = RetryOn::NONE;
    for word in policy.retry_on.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match RetryOn::word(word) {
            Some(bit) => on = on.with(bit),
            // Envoy's Istio writes statuses among the words.
            None => match word.parse::<u16>().ok().and_then(|code| StatusCode::from_u16(code).ok()) {
                Some(_) => reader
                    .problem_at("retry_on", format!("holds {word}; statuses go to retriable_status_codes")),
                None => reader.problem_at("retry_on", format!("holds {word:?}, which is not known here")),
            },
        }
    }
    let statuses = reader.list("retriable_status_codes", &policy.retriable_status_codes, |reader, code| {
        let status = u16::try_from(*code).ok().and_then(|code| StatusCode::from_u16(code).ok());
        if status.is_none() {
            reader.problem(format!("is no status: {code}"));
        }
        status
    });
    let mut backoff_base = Duration::from_millis(25);
    let mut backoff_max = None;
    if let Some(backoff) = policy.retry_back_off.as_ref() {
        reader.at("retry_back_off", |reader| {
            if reader.required("base_interval", backoff.base_interval.as_ref()).is_some()
                && let Some(base) = reader.positive_duration("base_interval", backoff.base_interval.as_ref())
            {
                backoff_base = base;
            }
            backoff_max = reader.positive_duration("max_interval", backoff.max_interval.as_ref());
            if backoff_max.is_some_and(|max| max < backoff_base) {
                reader.problem_at("max_interval", "is less than base_interval");
            }
        });
    }
    let attempts = policy.host_selection_retry_max_attempts;
    if attempts < 0 {
        reader.problem_at("host_selection_retry_max_attempts", format!("is less than 0: {attempts}"));
    }
    Some(RetryPolicy {
        on,
        statuses,
        retries_max: policy.num_retries.as_ref().map_or(1, |retries| retries.value),
        per_try_timeout: reader
            .duration("per_try_timeout", policy.per_try_timeout.as_ref())
            .filter(|t| !t.is_zero()),
        backoff_base,
        // Envoy: ten times the base.
        backoff_max: backoff_max.unwrap_or(backoff_base.saturating_mul(10)),
    })
}

pub(super) fn redirect(reader: &mut Reader, action: &pb::RedirectAction) -> Option<Redirect> {
    let status = reader.choice("response_code", action.response_code).map(|code| match code {
        RedirectResponseCode::MovedPermanently => StatusCode::MOVED_PERMANENTLY,
        RedirectResponseCode::Found => StatusCode::FOUND,
        RedirectResponseCode::SeeOther => StatusCode::SEE_OTHER,
        RedirectResponseCode::TemporaryRedirect => StatusCode::TEMPORARY_REDIRECT,
        RedirectResponseCode::PermanentRedirect => StatusCode::PERMANENT_REDIRECT,
    });
    let scheme: Option<Arc<str>> = match action.scheme_rewrite_specifier.as_ref() {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
        Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme))
            if ["http", "https"].contains(&scheme.as_str()) =>
        {
            Some(scheme.as_str().into())
        }
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => {
            reader.problem_at("scheme_redirect", format!("is neither http nor https: {scheme:?}"));
            None
        }
    };
    if !action.host_redirect.is_empty() && crate::host::canonical(&action.host_redirect).is_err() {
        reader.problem_at("host_redirect", format!("is no host: {:?}", action.host_redirect));
    }
    let port = match action.port_redirect {
        0 => None,
        port => reader.port("port_redirect", port),
    };
    let path = match action.path_rewrite_specifier.as_ref() {
        None => Some(RedirectPath::Keep),
        Some(PathRewriteSpecifier::PathRedirect(path)) => {
            clean(reader, "path_redirect", path);
            Some(RedirectPath::Full(path.as_str().into()))
        }
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
            clean(reader, "prefix_rewrite", prefix);
            Some(RedirectPath::Prefix(prefix.as_str().into()))
        }
        Some(PathRewriteSpecifier::RegexRewrite(rewrite)) => {
            text::substitution(reader, "regex_rewrite", rewrite)
                .map(|(pattern, substitution)| RedirectPath::Regex { pattern, substitution })
        }
        #[allow(unreachable_patterns, reason = "newer Envoys have more ways; the table refuses them")]
        Some(_) => None,
    };
    Some(Redirect {
        status: status?,
        scheme,
        host: (!action.host_redirect.is_empty()).then(|| action.host_redirect.as_str().into()),
        port,
        path: path?,
        strip_query: action.strip_query,
    })
}

/// It goes into a header: a line break there would begin another one.
fn clean(reader: &mut Reader, step: &str, text: &str) {
    if HeaderValue::from_str(text).is_err() {
        reader.problem_at(step, "holds characters that no header may hold");
    }
}

pub(super) fn respond(reader: &mut Reader, action: &pb::DirectResponseAction) -> Option<DirectResponse> {
    let status = u16::try_from(action.status)
        .ok()
        .filter(|status| (200..600).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok());
    if status.is_none() {
        reader.problem_at("status", format!("is no status from 200 to 599: {}", action.status));
    }
    let body: Arc<[u8]> = match action.body.as_ref() {
        None => Arc::from([]),
        Some(source) => match reader.at("body", |reader| core::data_source(reader, source))? {
            DataSource::Bytes(bytes) => bytes,
            DataSource::File(_) => {
                reader.problem_at("body", "must be inline");
                return None;
            }
        },
    };
    if body.len() > BODY_BYTES_MAX {
        reader.problem_at("body", format!("has more than {BODY_BYTES_MAX} bytes"));
    }
    Some(DirectResponse { status: status?, body })
}

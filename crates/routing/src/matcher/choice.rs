//! The cluster of a request, and what is sent in place of its path and host.

use std::borrow::Cow;
use std::sync::Arc;

use super::HeadView;
use crate::types::{
    ClusterChoice, ClusterRef, Forward, PathMatch, PathRewrite, Redirect, RedirectPath, Route,
    WeightedCluster,
};

/// A chosen cluster: by reference into `RouteConfig::cluster_names`, or by a name from a header.
#[derive(Debug, Clone)]
pub enum Picked<'a> {
    One {
        name: &'a Arc<str>,
        cluster: ClusterRef,
    },
    Weighted(&'a WeightedCluster),
    /// A name that the request brought; it need not exist.
    Named(String),
}

impl<'a> Picked<'a> {
    pub fn name(&self) -> &str {
        match self {
            Picked::One { name, .. } => name,
            Picked::Weighted(cluster) => &cluster.name,
            Picked::Named(name) => name,
        }
    }

    pub fn reference(&self) -> Option<ClusterRef> {
        match self {
            Picked::One { cluster, .. } => Some(*cluster),
            Picked::Weighted(cluster) => Some(cluster.cluster),
            Picked::Named(_) => None,
        }
    }
}

impl ClusterChoice {
    /// None: by a header that the request does not have (or `head` is None, for TCP).
    pub fn pick(&self, head: Option<&HeadView<'_>>, random: u64) -> Option<Picked<'_>> {
        match self {
            ClusterChoice::One { name, cluster } => Some(Picked::One { name, cluster: *cluster }),
            ClusterChoice::Weighted { clusters, total } => {
                let mut point = random.checked_rem(*total)?;
                for cluster in clusters {
                    match point.checked_sub(u64::from(cluster.weight)) {
                        None => return Some(Picked::Weighted(cluster)),
                        Some(rest) => point = rest,
                    }
                }
                None
            }
            ClusterChoice::Header(name) => {
                let value = head?.headers.get(name)?.to_str().ok()?;
                (!value.is_empty()).then(|| Picked::Named(value.to_owned()))
            }
        }
    }
}

impl Forward {
    /// The path to send, without the query; None: as it came.
    pub fn rewritten_path(&self, route: &Route, path: &str) -> Option<String> {
        match &self.path {
            PathRewrite::Keep => None,
            PathRewrite::Prefix(with) => Some(replace_prefix(&route.matcher.path, path, with)),
            PathRewrite::Regex { pattern, substitution } => {
                Some(pattern.replace_all(path, &**substitution).into_owned())
            }
        }
    }
}

impl Redirect {
    /// The `location` of the answer.
    pub fn location(&self, route: &Route, head: &HeadView<'_>) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(head.scheme);
        let (host, port) = crate::host::split_port(head.authority);
        let host = self.host.as_deref().unwrap_or(host);
        // A port that was the old scheme's default goes with it, as in Envoy.
        let kept = match (port, &self.scheme) {
            (Some(80), Some(new)) if head.scheme == "http" && **new == *"https" => None,
            (Some(443), Some(new)) if head.scheme == "https" && **new == *"http" => None,
            (port, _) if self.host.is_none() => port,
            _ => None,
        };
        let port = match self.port.or(kept) {
            Some(port) => format!(":{port}"),
            None => String::new(),
        };
        let path: Cow<'_, str> = match &self.path {
            RedirectPath::Keep => Cow::Borrowed(head.path),
            RedirectPath::Full(path) => Cow::Borrowed(path),
            RedirectPath::Prefix(with) => Cow::Owned(replace_prefix(&route.matcher.path, head.path, with)),
            RedirectPath::Regex { pattern, substitution } => pattern.replace_all(head.path, &**substitution),
        };
        match head.query {
            Some(query) if !self.strip_query && !path.contains('?') => {
                format!("{scheme}://{host}{port}{path}?{query}")
            }
            _ => format!("{scheme}://{host}{port}{path}"),
        }
    }
}

/// Replaces what the route matched: the prefix, or the whole of an exact path.
fn replace_prefix(matched: &PathMatch, path: &str, with: &str) -> String {
    let length = match matched {
        PathMatch::Prefix(prefix) | PathMatch::SeparatedPrefix(prefix) => prefix.len(),
        PathMatch::Exact(_) => path.len(),
        // Envoy takes the whole path where a regex matched.
        PathMatch::Regex(_) | PathMatch::Connect => path.len(),
    };
    let rest = path.get(length..).unwrap_or_default();
    // `/api` → `/` must not turn `/api/x` into `//x`; an empty path is no path.
    let joined = match (with.ends_with('/'), rest.starts_with('/')) {
        (true, true) if matches!(matched, PathMatch::SeparatedPrefix(_)) => format!("{with}{}", &rest[1..]),
        _ => format!("{with}{rest}"),
    };
    if joined.starts_with('/') { joined } else { format!("/{joined}") }
}

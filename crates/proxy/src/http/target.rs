//! The head that goes to the upstream: canonical, rewritten, edited, and without the fields of the caller's hop.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header::HOST, request::Parts, uri::PathAndQuery};
use weft_routing::{HostRewrite, host, matcher::Picked};

use super::{
    forward::{Hop, Outgoing},
    forwarded,
    h1::io::copied,
    h2::codec::RequestHead,
    headers::remove_hop_by_hop,
    request::{CanonicalHead, edit},
};
use crate::{record::RequestRecord, upstream::cluster::EndpointState};

const X_ENVOY_ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The head to send, in the form that every try turns into a request.
#[derive(Clone)]
pub struct Target {
    pub method: Method,
    pub host: HeaderValue,
    pub path: PathAndQuery,
    pub headers: HeaderMap,
}

impl Outgoing<'_> {
    /// The response's fields of one hop go, the route's edits come.
    pub fn edit_response(&self, headers: &mut HeaderMap, upstream: SocketAddr, record: &RequestRecord) {
        remove_hop_by_hop(headers);
        forwarded::on_response(headers, &self.view.config, record);
        if self.vhost.attempt_count_in_response {
            headers.insert(X_ENVOY_ATTEMPT_COUNT, HeaderValue::from(record.tries));
        }
        let weighted = match self.picked {
            Some(Picked::Weighted(cluster)) => Some(&cluster.edits.response),
            _ => None,
        };
        let edits = self.in_order([
            weighted,
            Some(&self.route.edits.response),
            Some(&self.vhost.edits.response),
            Some(&self.view.routes.config.edits.response),
        ]);
        for edits in edits.into_iter().flatten() {
            edit(edits, headers, self.peer, Some(upstream));
        }
    }

    /// Edits are given from the innermost to the outermost; the last one made wins.
    fn in_order<T, const N: usize>(&self, mut edits: [T; N]) -> [T; N] {
        if self.view.routes.config.most_specific_edits_win {
            edits.reverse();
        }
        edits
    }

    /// What differs from try to try.
    pub fn name_try(&self, target: &mut Target, endpoint: &EndpointState, tries: u32) {
        if self.vhost.attempt_count_in_request {
            target.headers.insert(X_ENVOY_ATTEMPT_COUNT, HeaderValue::from(tries));
        }
        if let HostRewrite::Auto = self.host_rewrite()
            && let Some(host) = endpoint.endpoint.borrow().hostname.as_deref()
            && let Ok(host) = HeaderValue::from_str(host)
        {
            let own = std::mem::replace(&mut target.host, host);
            if self.forwarding.append_x_forwarded_host {
                target.headers.entry(X_FORWARDED_HOST).or_insert(own);
            }
        }
    }

    fn host_rewrite(&self) -> &HostRewrite {
        match self.picked {
            Some(Picked::Weighted(cluster)) if !matches!(cluster.host, HostRewrite::Keep) => &cluster.host,
            _ => &self.forwarding.host,
        }
    }

    /// The head to send: canonical, rewritten, edited, without the fields of the caller's hop.
    pub fn target(&self, head: &CanonicalHead, parts: &mut Parts, hop: Hop) -> Target {
        let mut headers = std::mem::take(&mut parts.headers);
        let upgrade = (hop == Hop::Upgrade).then(|| headers.get(http::header::UPGRADE).cloned()).flatten();
        remove_hop_by_hop(&mut headers);
        if let Some(upgrade) = upgrade {
            headers.insert(http::header::UPGRADE, upgrade);
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        forwarded::say_who_called(&mut headers, self.peer, &self.view.config);
        let path = self.path(head, parts);
        let host = self.host(head, &path, &mut headers);
        let weighted = match self.picked {
            Some(Picked::Weighted(cluster)) => Some(&cluster.edits.request),
            _ => None,
        };
        let edits = self.in_order([
            weighted,
            Some(&self.route.edits.request),
            Some(&self.vhost.edits.request),
            Some(&self.view.routes.config.edits.request),
        ]);
        for edits in edits.into_iter().flatten() {
            edit(edits, &mut headers, self.peer, None);
        }
        Target { method: parts.method.clone(), host, path, headers }
    }

    fn path(&self, head: &CanonicalHead, parts: &Parts) -> PathAndQuery {
        let path = head.path(parts);
        let rewritten = self.forwarding.rewritten_path(self.route, path);
        let new = match (&rewritten, head.is_rewritten()) {
            (Some(rewritten), _) => rewritten.as_str(),
            (None, true) => path,
            (None, false) => {
                return parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
            }
        };
        let made = match parts.uri.query() {
            Some(query) if !new.contains('?') => PathAndQuery::try_from(format!("{new}?{query}")),
            _ => PathAndQuery::try_from(new),
        };
        made.unwrap_or_else(|_| PathAndQuery::from_static("/"))
    }

    /// The host to send, taken out of the map: HTTP/1 puts it back, HTTP/2 has its own place for it.
    fn host(&self, head: &CanonicalHead, path: &PathAndQuery, headers: &mut HeaderMap) -> HeaderValue {
        let sent = headers.remove(HOST).filter(|host| host.as_bytes() == head.authority().as_bytes());
        let own = sent
            .or_else(|| HeaderValue::from_maybe_shared(copied(head.authority().as_bytes())).ok())
            .unwrap_or(HeaderValue::from_static(""));
        let new = match self.host_rewrite() {
            // The endpoint's name is known once it is chosen.
            HostRewrite::Keep | HostRewrite::Auto => return own,
            HostRewrite::Literal(host) => Some(host.clone()),
            HostRewrite::Header(name) => headers.get(name).cloned(),
            HostRewrite::PathRegex { pattern, substitution } => {
                HeaderValue::from_str(&pattern.replace_all(path.path(), &**substitution)).ok()
            }
        };
        let Some(new) = new else { return own };
        if self.forwarding.append_x_forwarded_host {
            headers.insert(X_FORWARDED_HOST, own);
        }
        new
    }
}

impl Target {
    /// Whether the host can be an authority: an edit may have made it anything.
    pub fn has_authority(&self) -> bool {
        std::str::from_utf8(self.host.as_bytes()).is_ok_and(|host| host::canonical(host).is_ok())
    }

    /// The head as HTTP/2 says it.
    pub fn h2_head(&self, tls: bool) -> RequestHead<'_> {
        RequestHead {
            method: &self.method,
            scheme: if tls { "https" } else { "http" },
            authority: Some(self.host.as_bytes()),
            path: self.path.as_str(),
            protocol: None,
            headers: &self.headers,
        }
    }
}

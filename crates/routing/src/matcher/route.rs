//! The route of a request: its host's virtual host, then the first route that fits.

use std::borrow::Cow;

use http::{Method, header};

use super::text::starts_with;
use super::{HeadView, Match};
use crate::host;
use crate::types::{PathMatch, RouteConfig, RouteMatch, VirtualHost};

impl RouteConfig {
    /// None: no virtual host or no route, a 404 with the flag NR. `random` decides routes that
    /// take only a share of the requests.
    pub fn find(&self, head: &HeadView<'_>, random: u64) -> Option<Match<'_>> {
        let (vhost_index, vhost) = self.vhost(head.authority)?;
        let route_index = vhost.index.find(&vhost.routes, head, random)?;
        Some(Match {
            vhost,
            route: vhost.routes.get(route_index)?,
            vhost_index,
            route_index: u32::try_from(route_index).ok()?,
        })
    }

    /// By exact name, then the longest `*.x`, then the longest `x.*`, then `*`.
    pub fn vhost(&self, authority: &str) -> Option<(u32, &VirtualHost)> {
        let authority: Cow<'_, str> = if authority.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(authority.to_ascii_lowercase())
        } else {
            Cow::Borrowed(authority)
        };
        let name =
            if self.ignore_port_in_host_matching { host::without_port(&authority) } else { &authority };
        let domains = &self.domains;
        let index = domains
            .exact
            .get(name)
            .copied()
            .or_else(|| {
                // A wildcard stands for at least one character.
                domains
                    .suffixes
                    .iter()
                    .find(|(suffix, _)| name.len() > suffix.len() && name.ends_with(&**suffix))
                    .map(|(_, index)| *index)
            })
            .or_else(|| {
                domains
                    .prefixes
                    .iter()
                    .find(|(prefix, _)| name.len() > prefix.len() && name.starts_with(&**prefix))
                    .map(|(_, index)| *index)
            })
            .or(domains.any)?;
        Some((index, self.vhosts.get(index as usize)?))
    }
}

impl RouteMatch {
    pub fn matches(&self, head: &HeadView<'_>, random: u64) -> bool {
        self.path_fits(head)
            && (self.fraction_millionths >= 1_000_000
                || random % 1_000_000 < u64::from(self.fraction_millionths))
            && (!self.grpc || is_grpc(head))
            && self.tls_presented.is_none_or(|wanted| wanted == head.tls_presented)
            && self.tls_validated.is_none_or(|wanted| wanted == head.tls_validated)
            && self.headers.iter().all(|test| test.matches(head))
            && self.query.iter().all(|test| test.matches(head.query))
    }

    fn path_fits(&self, head: &HeadView<'_>) -> bool {
        // A plain CONNECT has no path: only connect_matcher takes it.
        let connect = *head.method == Method::CONNECT;
        match &self.path {
            PathMatch::Connect => connect,
            _ if connect && head.protocol.is_none() => false,
            PathMatch::Prefix(prefix) => starts_with(head.path, prefix, self.ignore_case),
            PathMatch::Exact(path) if self.ignore_case => path.eq_ignore_ascii_case(head.path),
            PathMatch::Exact(path) => **path == *head.path,
            PathMatch::Regex(regex) => regex.is_match(head.path),
            PathMatch::SeparatedPrefix(prefix) => {
                starts_with(head.path, prefix, self.ignore_case)
                    && matches!(head.path.as_bytes().get(prefix.len()), None | Some(b'/'))
            }
        }
    }
}

fn is_grpc(head: &HeadView<'_>) -> bool {
    head.headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
    })
}

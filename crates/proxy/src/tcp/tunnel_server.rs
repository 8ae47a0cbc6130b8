//! The inbound end of tunnels: each CONNECT stream of a member's connection is one TCP connection to the app.
//!
//! It is for chains whose routes take CONNECT and nothing else. The authority that a caller names finds a virtual
//! host, as everywhere, but leads nowhere by itself: bytes go to the cluster of the chain's own route. Policies are
//! asked for each stream, and again with each new table for as long as it lives. A tunnel is measured as the TCP
//! connection that it stands for, so nobody can tell from the figures which way it came.

use std::{
    future::poll_fn,
    rc::Rc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, Request, StatusCode, request::Parts};
use tokio::time::timeout;
use weft_routing::{
    ConnectMode, Forward, HeadView, HttpConfig, HttpFilter, PathMatch, RouteAction, authorize, host,
};

use super::{
    proxy::{self, IDLE_TIMEOUT, carry},
    tunnel::{Tunnel, Windows},
};
use crate::{
    http::{
        forwarded,
        h1::{self, HEAD_TIMEOUT, io::Io},
        h2::codec::{Accepted, ReceiveHalf, Role, SendHalf, Server},
        request::denied,
    },
    peer::{ChainView, Peer},
    record::{Details, Kind, RequestRecord, flags},
    upstream::tunnels::Road,
    worker::Direction,
};

/// A caller that was asked to leave knows it by then.
const LEAVING_TIME: Duration = Duration::from_secs(5);
/// No limit; a hundred years.
const FOR_EVER: Duration = Duration::from_secs(3600 * 24 * 36500);

/// Whether all that the chain takes is tunnels to our app.
pub fn takes_only_tunnels(peer: &Peer) -> bool {
    if peer.direction != Direction::Inbound {
        return false;
    }
    let Some(view) = peer.view() else { return false };
    let mut routes = view.routes.config.vhosts.iter().flat_map(|vhost| &vhost.routes).peekable();
    routes.peek().is_some()
        && routes.all(|route| {
            let PathMatch::Connect = route.matcher.path else { return false };
            matches!(&route.action, RouteAction::Forward(forwarding) if ends_here(forwarding, &view.config))
        })
}

fn ends_here(forwarding: &Forward, config: &HttpConfig) -> bool {
    match forwarding.upgrades.connect {
        Some(mode) => mode == ConnectMode::Terminate,
        None => config.upgrades.connect,
    }
}

/// Serves one connection until it ends; a drain sends GOAWAY and lets open tunnels go on. Once it is `silent` no tunnel
/// more is waited for.
pub async fn serve<T>(peer: &Rc<Peer>, config: &HttpConfig, io: T, silent: impl Future<Output = ()>)
where
    T: Io,
{
    let mut connection = Server::new(io, Windows::of(&config.limits.http2).codec(Role::Server));
    let mut silent = std::pin::pin!(silent);
    let greeted = tokio::select! {
        greeted = timeout(HEAD_TIMEOUT, poll_fn(|cx| connection.poll_greeted(cx))) => greeted,
        () = silent.as_mut() => return,
    };
    match greeted {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(remote = %peer.remote(), %error, "a connection of tunnels did not begin");
            return;
        }
        Err(_) => return,
    }
    let mut draining = std::pin::pin!(peer.drain.started());
    let idle_timeout = h1::idle_timeout(config);
    let mut unused_since: Option<Instant> = None;
    let mut ticks =
        tokio::time::interval((idle_timeout / 2).clamp(Duration::from_millis(50), HEAD_TIMEOUT / 2));
    let mut leaving_since: Option<Instant> = None;
    let mut is_silent = false;
    loop {
        tokio::select! {
            accepted = poll_fn(|cx| connection.poll_accept(cx)) => match accepted {
                Some(Ok(Accepted::Open(Ok(request), received, respond))) => {
                    tokio::task::spawn_local(tunnel(Rc::clone(peer), request, received, respond));
                }
                // One that nobody has begun with is its caller's to count. A head that is too large is reset.
                Some(Ok(Accepted::TakenBack(_) | Accepted::Open(Err(_), ..))) => {}
                Some(Err(error)) => {
                    tracing::debug!(remote = %peer.remote(), %error, "a connection of tunnels broke");
                    return;
                }
                None => return,
            },
            () = draining.as_mut(), if leaving_since.is_none() => {
                leaving_since = Some(Instant::now());
                connection.leave();
            }
            () = silent.as_mut(), if !is_silent => {
                is_silent = true;
                connection.leave_now();
            }
            _ = ticks.tick() => {
                if let Some(since) = leaving_since {
                    // It may never say that it has read our GOAWAY.
                    if since.elapsed() >= LEAVING_TIME {
                        connection.leave_now();
                    }
                    continue;
                }
                let limit = peer.worker.settings.overload.idle_limit(idle_timeout);
                if peer.open_requests.get() > 0 {
                    unused_since = None;
                } else if unused_since.get_or_insert_with(Instant::now).elapsed() >= limit {
                    leaving_since = Some(Instant::now());
                    connection.leave();
                }
            }
        }
    }
}

/// Why a stream gets no tunnel.
struct Refusal {
    status: StatusCode,
    flags: &'static str,
    details: Details,
}

fn refusal(status: StatusCode, flags: &'static str, details: &'static str) -> Refusal {
    Refusal { status, flags, details: Details::Fixed(details) }
}

/// One stream, from its head to its end.
async fn tunnel(peer: Rc<Peer>, request: Request<()>, received: ReceiveHalf, mut respond: SendHalf) {
    let parts = request.into_parts().0;
    let mut record = proxy::start(&peer);
    let refused = match open(&peer, &parts, &mut record).await {
        Ok(opened) => {
            if respond.answer(StatusCode::OK, &HeaderMap::new(), false).is_err() {
                // The caller left while we reached for the app.
                record.flags = flags::CLIENT_LEFT;
                record.details = Details::Fixed("downstream_remote_disconnect");
                return;
            }
            let Opened { road, held: _held, authority, idle_timeout } = opened;
            let downstream = Tunnel::new(respond, received, ());
            let forbidden = forbidden(&peer, &parts, &authority);
            match road {
                Road::Raw(upstream) => carry(record, downstream, upstream, idle_timeout, forbidden).await,
                Road::Tunnel(upstream) => carry(record, downstream, upstream, idle_timeout, forbidden).await,
            }
            return;
        }
        Err(Some(refused)) => refused,
        // It is in the record why.
        Err(None) => {
            let details = std::mem::take(&mut record.details);
            Refusal { status: StatusCode::SERVICE_UNAVAILABLE, flags: record.flags, details }
        }
    };
    record.flags = refused.flags;
    record.details = refused.details;
    if let Err(error) = respond.answer(refused.status, &HeaderMap::new(), true) {
        tracing::debug!(%error, "a tunnel was refused to nobody");
    }
}

struct Opened {
    road: Road,
    held: crate::upstream::pool::Held,
    authority: String,
    idle_timeout: Duration,
}

/// The way to the app, if the caller may have it. `Err(None)`: there is none, and the record says why.
async fn open(peer: &Rc<Peer>, parts: &Parts, record: &mut RequestRecord) -> Result<Opened, Option<Refusal>> {
    let Some(view) = peer.view() else {
        let gone = refusal(StatusCode::SERVICE_UNAVAILABLE, flags::NO_ROUTE, "listener_gone");
        return Err(Some(gone));
    };
    let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
    let Ok(authority) = host::canonical(authority).map(std::borrow::Cow::into_owned) else {
        return Err(Some(refusal(StatusCode::BAD_REQUEST, flags::PROTOCOL, "bad_authority")));
    };
    let head = head(peer, parts, &authority);
    // Without an identity there is nobody whom a policy could mean.
    let denied = match &peer.principal {
        Some(_) => denied(peer, &view, &head),
        None => Some("rbac_access_denied_matched_policy[none]".into()),
    };
    if let Some(policy) = denied {
        peer.worker.shard.borrow_mut().add(peer.meters.denied, 1);
        tracing::info!(remote = %peer.remote(), principal = peer.principal, %policy, "a tunnel is denied");
        let details = Details::Denied(policy);
        return Err(Some(Refusal { status: StatusCode::FORBIDDEN, flags: flags::DENIED, details }));
    }
    let no_route = || refusal(StatusCode::NOT_FOUND, flags::NO_ROUTE, "route_not_found");
    let found = view.routes.config.find(&head, peer.worker.random());
    let Some(found) = found.filter(|_| parts.method == Method::CONNECT) else {
        record.kind = Kind::Request;
        record.status = StatusCode::NOT_FOUND.as_u16();
        return Err(Some(no_route()));
    };
    let RouteAction::Forward(forwarding) = &found.route.action else { return Err(Some(no_route())) };
    if !ends_here(forwarding, &view.config) {
        return Err(Some(refusal(StatusCode::FORBIDDEN, "", "upgrade_failed")));
    }
    let picked = forwarding.clusters.pick(Some(&head), peer.worker.random());
    let index = picked.as_ref().and_then(|picked| match picked.reference() {
        Some(reference) => view.routes.cluster(reference),
        None => view.live.table().cluster_index(picked.name()),
    });
    let Some((cluster, labels)) = index.and_then(|index| view.live.cluster(index)) else {
        record.flags = flags::NO_CLUSTER;
        return Err(None);
    };
    record.cluster = Some(Rc::clone(labels));
    let said = forwarding.idle_timeout.or(view.config.timeouts.stream_idle).unwrap_or(IDLE_TIMEOUT);
    let idle_timeout = if said.is_zero() { FOR_EVER } else { said };
    let (road, held) = proxy::open(peer, cluster, 1, None, record).await.ok_or(None)?;
    Ok(Opened { road, held, authority, idle_timeout })
}

fn head<'a>(peer: &Peer, parts: &'a Parts, authority: &'a str) -> HeadView<'a> {
    HeadView {
        method: &parts.method,
        scheme: if peer.tls == "none" { "http" } else { "https" },
        authority,
        path: parts.uri.path_and_query().map_or("", |target| target.path()),
        query: None,
        headers: &parts.headers,
        protocol: None,
        tls_presented: peer.principal.is_some(),
        tls_validated: peer.principal.is_some(),
    }
}

/// Waits until a newer table would not let this stream in.
async fn forbidden(peer: &Peer, parts: &Parts, authority: &str) {
    loop {
        let changed = peer.worker.tables.notified();
        if !peer.view().is_some_and(|view| is_allowed(peer, &view, &head(peer, parts, authority))) {
            return;
        }
        changed.await;
    }
}

/// Rules that are only tried out had their say when it was opened.
fn is_allowed(peer: &Peer, view: &ChainView, head: &HeadView<'_>) -> bool {
    view.config.filters.iter().filter_map(HttpFilter::rbac).all(|filter| {
        let remote_ip = forwarded::trusted_address(head.headers, peer, &view.config);
        let input = authorize::PolicyInput { remote_ip, ..peer.policy_input(Some(head)) };
        filter.rules.as_ref().is_none_or(|rules| authorize::decide(rules, &input).allow)
    })
}

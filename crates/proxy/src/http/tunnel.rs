//! Requests that turn into bytes: CONNECT to a TCP service, and upgrades such as WebSocket.
//!
//! An upgrade has two forms: a GET with `Upgrade` on HTTP/1.1, and an extended CONNECT on HTTP/2 (RFC 8441). The latter is
//! turned into the former as it comes in, so that routes and policies see one of them, and goes on as a stream of a
//! shared connection where the other side says that it takes such; else as HTTP/1.1 on a connection of its own. A
//! CONNECT without a protocol ends here: what follows goes to the cluster as plain bytes inside its TLS.

mod upgrade;

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONNECTION, UPGRADE},
    uri::Authority,
};
use http_body::Body as _;
use tokio::sync::oneshot;
use weft_routing::ConnectMode;

use super::{
    attempt::held,
    body::{RequestBody, ResponseBody},
    broken::{Broken, explain},
    forward::{Hop, Outgoing, no_endpoint},
    h1::{io::Io, shared::Raw},
    h2::codec::Protocol,
    headers::wanted_upgrade,
    inbound::Inbound,
    reply::Reason,
    target::Target,
    websocket,
};
use crate::{
    record::{Reach, Recording, flags},
    tcp::{self, proxy::reach, tunnel::Tunnel},
    upstream::{connect::ConnectError, limits::Raised, outlier::Outcome, tls::Alpn, tunnels::Road},
};

/// No limit; a hundred years.
const FOR_EVER: Duration = Duration::from_secs(3600 * 24 * 36500);

type Refusal = (Recording, Reason);

/// What a request wants to become.
pub enum Upgrade {
    Connect(Client),
    Protocol(Client),
    /// An extended CONNECT for something that we don't know.
    Unknown,
}

/// The client's connection or stream, once the answer is out.
pub enum Client {
    H1(oneshot::Receiver<Raw>),
    H2(oneshot::Receiver<Tunnel<()>>),
}

impl Client {
    fn of(request: &mut Request<Inbound>) -> Client {
        match request.body_mut() {
            Inbound::Server(body) => Client::H1(body.on_upgrade()),
            Inbound::Tunnel(stream) => Client::H2(stream.take().unwrap_or_else(|| oneshot::channel().1)),
            _ => Client::H2(oneshot::channel().1), // no request
        }
    }
}

impl Upgrade {
    pub fn kind(&self) -> Hop {
        match self {
            Upgrade::Connect(_) | Upgrade::Unknown => Hop::Connect,
            Upgrade::Protocol(_) => Hop::Upgrade,
        }
    }
}

/// Looks at a request before it is taken apart.
pub fn wanted(request: &mut Request<Inbound>) -> Option<Upgrade> {
    if request.method() == Method::CONNECT {
        let Some(Protocol(protocol)) = request.extensions_mut().remove::<Protocol>() else {
            return Some(Upgrade::Connect(Client::of(request)));
        };
        if !protocol.eq_ignore_ascii_case(websocket::PROTOCOL.as_bytes()) {
            return Some(Upgrade::Unknown);
        }
        *request.method_mut() = Method::GET;
        let headers = request.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static(websocket::PROTOCOL));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        return Some(Upgrade::Protocol(Client::of(request)));
    }
    // HTTP/1.0 knows no upgrade, and a body would stand between the head and the new protocol.
    let may = request.version() == http::Version::HTTP_11 && request.body().is_end_stream();
    let websocket = wanted_upgrade(request.method(), request.headers())
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(websocket::PROTOCOL.as_bytes()));
    (may && websocket).then(|| Upgrade::Protocol(Client::of(request)))
}

/// Opens the other side, answers, and leaves the copying to a task of its own.
pub async fn open(
    outgoing: Outgoing<'_>,
    target: Target,
    upgrade: Upgrade,
    body: RequestBody,
    record: Recording,
) -> Result<Response<ResponseBody>, Refusal> {
    let connect = outgoing.forwarding.upgrades.connect;
    let allowed = {
        let listener = outgoing.view.config.upgrades;
        let route = outgoing.forwarding.upgrades;
        match upgrade {
            Upgrade::Connect(_) => match connect {
                Some(mode) => mode != ConnectMode::Refused,
                None => listener.connect,
            },
            Upgrade::Protocol(_) => route.websocket.unwrap_or(listener.websocket),
            Upgrade::Unknown => {
                let status = StatusCode::NOT_IMPLEMENTED; // RFC 9220 section 3 says so, for the same request on HTTP/3
                return Err((record, Reason::new(status, "", "upgrade_unknown", "no such protocol\n")));
            }
        }
    };
    if !allowed {
        let status = StatusCode::FORBIDDEN;
        return Err((record, Reason::new(status, "", "upgrade_failed", "this upgrade is not allowed\n")));
    }
    let mut record = record;
    let Some(counted) = outgoing.cluster.counts.requests.raise_below(outgoing.limits().requests_max) else {
        return Err((record, overflow(&outgoing)));
    };
    record.raised[1] = Some(counted);
    match upgrade {
        Upgrade::Connect(client) if connect == Some(ConnectMode::Forward) => {
            let Ok(authority) = Authority::try_from(target.host.as_bytes()) else {
                let status = StatusCode::BAD_REQUEST;
                return Err((record, Reason::new(status, flags::PROTOCOL, "bad_authority", "bad request\n")));
            };
            open_connect(outgoing, client, Some(&authority), record).await
        }
        Upgrade::Connect(client) => open_connect(outgoing, client, None, record).await,
        Upgrade::Protocol(client) => upgrade::open(outgoing, target, client, body, record).await,
        Upgrade::Unknown => Err((record, no_endpoint())), // refused above
    }
}

fn overflow(outgoing: &Outgoing<'_>) -> Reason {
    outgoing.peer.worker.shard.borrow_mut().add(outgoing.cluster.meters.overflows, 1);
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Reason::new(status, flags::OVERFLOW, "upstream_overflow", "too many requests\n")
}

async fn open_connect(
    outgoing: Outgoing<'_>,
    client: Client,
    tunnel: Option<&Authority>,
    mut record: Recording,
) -> Result<Response<ResponseBody>, Refusal> {
    let Outgoing { cluster, peer, .. } = outgoing;
    let Some(endpoint) = cluster.pick(&[], peer.worker.random(), peer.original()) else {
        return Err((record, no_endpoint()));
    };
    record.upstream_host = Some(endpoint.address);
    record.tries = 1;
    peer.worker.shard.borrow_mut().add(cluster.meters.connections, 1);
    let Some(held) = held(cluster, &endpoint, outgoing.limits()) else {
        return Err((record, overflow(&outgoing)));
    };
    let upstream = match reach(peer, cluster, &endpoint, tunnel).await {
        Ok(upstream) => upstream,
        Err(error) => {
            peer.worker.shard.borrow_mut().add(cluster.meters.connect_failures, 1);
            match error {
                // It has read the request, and so it has counted it.
                ConnectError::Refused { .. } => record.reach.set(Reach::Callee),
                _ => cluster.note(&endpoint, Outcome::LocalFailure, peer.worker.random()),
            }
            tracing::info!(cluster = %cluster.cluster.name, error = explain(&error), "a tunnel failed");
            return Err((record, Broken::connect(&error, None).reason()));
        }
    };
    record.raised[2] = Some(Raised::new(&endpoint.active));
    record.status = StatusCode::OK.as_u16();
    let idle_timeout = outgoing.idle_timeout().unwrap_or(FOR_EVER);
    tokio::task::spawn_local(async move {
        match upstream {
            Road::Raw(upstream) => carry(client, upstream, record, idle_timeout).await,
            Road::Tunnel(upstream) => carry(client, upstream, record, idle_timeout).await,
        }
        drop(held);
    });
    Ok(Response::new(ResponseBody::text(Bytes::new(), None)))
}

/// An HTTP cluster's proxy on the other side speaks HTTP/1.1 to bytes that it can read, a TCP one speaks none.
pub fn tcp_alpn(cluster: &weft_routing::Cluster) -> Alpn {
    let http = cluster.tls.as_ref().is_some_and(|tls| !tls.alpn.is_empty())
        || cluster.http.protocol == weft_routing::UpstreamProtocol::Http2;
    if http { Alpn::Http1 } else { Alpn::None }
}

/// Copies until both sides have ended. The record ends with it.
async fn carry<U>(client: Client, mut upstream: U, mut record: Recording, idle_timeout: Duration)
where
    U: Io,
{
    let (copied, result) = match client {
        Client::H1(client) => {
            let Ok(mut client) = client.await else {
                tracing::debug!("the client left before its upgrade was complete");
                return;
            };
            tcp::copy::copy(&mut client, &mut upstream, idle_timeout, std::future::pending()).await
        }
        Client::H2(client) => {
            let Ok(mut client) = client.await else {
                tracing::debug!("the client left before its upgrade was complete");
                return;
            };
            tcp::copy::copy(&mut client, &mut upstream, idle_timeout, std::future::pending()).await
        }
    };
    record.request_bytes = copied.to_upstream;
    record.response_bytes = copied.to_downstream;
    record.complete = true;
    if let Err(error) = result {
        record.flags = flags::CONNECTION_TERMINATION;
        tracing::debug!(%error, "a tunnel ended with an error");
    }
}

//! Requests that turn into bytes: CONNECT to a TCP service, and upgrades such as WebSocket.
//!
//! An upgrade goes on as HTTP/1.1, also between members (by ALPN), since HTTP/1.1 is where it is defined. A CONNECT ends
//! here: what follows goes to the cluster as plain bytes inside its TLS.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header::CONNECTION};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};
use weft_routing::ConnectMode;

use super::{
    attempt::{held, lease},
    body::{RequestBody, ResponseBody},
    broken::{Broken, explain},
    forward::{Hop, Outgoing, no_endpoint},
    h1::{client::exchange, shared::Raw},
    headers::wanted_upgrade,
    inbound::Inbound,
    reply::Reason,
    target::Target,
};
use crate::{
    record::{RequestRecord, flags},
    tcp,
    upstream::{
        connect::{Dial, connect},
        limits::Raised,
        outlier::Outcome,
        pool::{Lease, Version},
        tls::Alpn,
    },
};

/// No limit; a hundred years.
const FOR_EVER: Duration = Duration::from_secs(3600 * 24 * 36500);

type Refusal = (Box<RequestRecord>, Reason);

/// What a request wants to become.
pub enum Upgrade {
    Connect(Client),
    Protocol(Client),
}

/// The client's connection or stream, once the answer is out.
pub enum Client {
    H1(oneshot::Receiver<Raw>),
    H2(OnUpgrade),
}

impl Client {
    fn of(request: &mut Request<Inbound>) -> Client {
        match request.body() {
            Inbound::Server(body) => Client::H1(body.on_upgrade()),
            _ => Client::H2(hyper::upgrade::on(request)),
        }
    }
}

impl Upgrade {
    pub fn kind(&self) -> Hop {
        match self {
            Upgrade::Connect(_) => Hop::Connect,
            Upgrade::Protocol(_) => Hop::Upgrade,
        }
    }
}

/// Looks at a request before it is taken apart.
pub fn wanted(request: &mut Request<Inbound>) -> Option<Upgrade> {
    if request.method() == Method::CONNECT {
        return Some(Upgrade::Connect(Client::of(request)));
    }
    // HTTP/1.0 knows no upgrade, and a body would stand between the head and the new protocol.
    let may = request.version() == http::Version::HTTP_11 && request.body().is_end_stream();
    let websocket = wanted_upgrade(request.method(), request.headers())
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    (may && websocket).then(|| Upgrade::Protocol(Client::of(request)))
}

/// Opens the other side, answers, and leaves the copying to a task of its own.
pub async fn open(
    outgoing: Outgoing<'_>,
    target: Target,
    upgrade: Upgrade,
    body: RequestBody,
    record: Box<RequestRecord>,
) -> Result<Response<ResponseBody>, Refusal> {
    let allowed = {
        let listener = outgoing.view.config.upgrades;
        let route = outgoing.forwarding.upgrades;
        match upgrade {
            Upgrade::Connect(_) => match route.connect {
                Some(mode) => mode == ConnectMode::Terminate,
                None => listener.connect,
            },
            Upgrade::Protocol(_) => route.websocket.unwrap_or(listener.websocket),
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
        Upgrade::Connect(client) => open_connect(outgoing, client, record).await,
        Upgrade::Protocol(client) => open_protocol(outgoing, target, client, body, record).await,
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
    mut record: Box<RequestRecord>,
) -> Result<Response<ResponseBody>, Refusal> {
    let Outgoing { cluster, peer, .. } = outgoing;
    let credentials = peer.worker.credentials();
    let tls = match cluster.tls_settings(tcp_alpn(&cluster.cluster), credentials.as_ref()) {
        Ok(tls) => tls,
        Err(error) => return Err((record, Broken::connect(&error, None).reason())),
    };
    let Some(endpoint) = cluster.pick(&[], peer.worker.random(), peer.original()) else {
        return Err((record, no_endpoint()));
    };
    record.upstream_host = Some(endpoint.address);
    record.tries = 1;
    peer.worker.shard.borrow_mut().add(cluster.meters.connections, 1);
    let Some(held) = held(cluster, &endpoint, outgoing.limits()) else {
        return Err((record, overflow(&outgoing)));
    };
    let opened = connect(endpoint.address, tls.as_ref(), Dial::of(&cluster.cluster)).await;
    cluster.note_connection(&endpoint, &opened);
    let upstream = match opened {
        Ok(upstream) => upstream,
        Err(error) => {
            peer.worker.shard.borrow_mut().add(cluster.meters.connect_failures, 1);
            cluster.note(&endpoint, Outcome::LocalFailure, peer.worker.random());
            tracing::info!(cluster = %cluster.cluster.name, error = explain(&error), "a tunnel failed");
            return Err((record, Broken::connect(&error, None).reason()));
        }
    };
    record.raised[2] = Some(Raised::new(&endpoint.active));
    record.status = StatusCode::OK.as_u16();
    let idle_timeout = outgoing.idle_timeout().unwrap_or(FOR_EVER);
    tokio::task::spawn_local(async move {
        carry(client, upstream, record, idle_timeout).await;
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

async fn open_protocol(
    outgoing: Outgoing<'_>,
    mut target: Target,
    client: Client,
    body: RequestBody,
    mut record: Box<RequestRecord>,
) -> Result<Response<ResponseBody>, Refusal> {
    let Outgoing { cluster, peer, .. } = outgoing;
    let Some(endpoint) = cluster.pick(&[], peer.worker.random(), peer.original()) else {
        return Err((record, no_endpoint()));
    };
    record.upstream_host = Some(endpoint.address);
    record.tries = 1;
    let connection = match lease(cluster, &endpoint, Version::Http1, peer, outgoing.limits()).await {
        Ok(Lease::H1 { connection, .. }) => connection,
        Ok(Lease::H2 { .. }) => return Err((record, no_endpoint())), // asked for HTTP/1: cannot be
        Err(error) => return Err((record, Broken::connect(&error, None).reason())),
    };
    record.raised[2] = Some(Raised::new(&endpoint.active));
    outgoing.name_try(&mut target, &endpoint, 1);
    let response = match exchange(&connection, &mut target, body.next_try(), true).await {
        Ok(response) => response,
        Err(failed) => return Err((record, Broken::h1(&failed, target, false).reason())),
    };
    let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = response.headers().get(http::header::UPGRADE).cloned();
    let server = upgraded.then(|| connection.into_raw()).flatten();
    let (mut parts, incoming) = response.into_parts();
    outgoing.edit_response(&mut parts.headers, endpoint.address, &record);
    parts.extensions = http::Extensions::new();
    record.on_response(parts.status, &parts.headers);
    let Some(server) = server else {
        // The service declined: an ordinary answer. Its connection is not used again, which costs little here.
        return Ok(Response::from_parts(parts, ResponseBody::upstream(incoming, record, None, None)));
    };
    restore_upgrade(&mut parts.headers, protocol);
    let idle_timeout = outgoing.idle_timeout().unwrap_or(FOR_EVER);
    tokio::task::spawn_local(async move {
        carry(client, server, record, idle_timeout).await;
        drop(connection); // counts until the tunnel ends
    });
    Ok(Response::from_parts(parts, ResponseBody::text(Bytes::new(), None)))
}

fn restore_upgrade(headers: &mut HeaderMap, protocol: Option<HeaderValue>) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        headers.insert(http::header::UPGRADE, protocol);
    }
}

/// Copies until both sides have ended. The record ends with it.
async fn carry<U>(client: Client, mut upstream: U, mut record: Box<RequestRecord>, idle_timeout: Duration)
where
    U: AsyncRead + AsyncWrite + Unpin,
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
            let mut client = match client.await {
                Ok(client) => TokioIo::new(client),
                Err(error) => {
                    tracing::debug!(%error, "an upgrade was not completed by the client");
                    return;
                }
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

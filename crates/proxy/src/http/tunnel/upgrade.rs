//! An upgrade's way to an endpoint: as an extended CONNECT on a shared HTTP/2 connection, or as HTTP/1.1.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, UPGRADE},
    response::Parts,
};

use super::{Client, FOR_EVER, Refusal, carry};
use crate::{
    http::{
        attempt::lease,
        body::{RequestBody, ResponseBody},
        broken::Broken,
        forward::{Outgoing, no_endpoint},
        h1::client::{Connection, exchange},
        h2::{client::Sender, codec::RequestHead},
        inbound::Inbound,
        quiet::Watch,
        reply::Reason,
        target::Target,
        times::Times,
        websocket::{self, Key},
    },
    net::Prefixed,
    record::{Recording, flags},
    tcp::tunnel::Tunnel,
    upstream::{
        cluster::EndpointState,
        connect::{ConnectError, Stream},
        limits::Raised,
        pool::{Lease, StreamCount, Version},
    },
};

/// For the answer's head.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Asks an endpoint for the upgrade, in the form that it takes, and answers the client in the form that it asked in.
pub async fn open(
    outgoing: Outgoing<'_>,
    mut target: Target,
    client: Client,
    body: RequestBody,
    mut record: Recording,
) -> Result<Response<ResponseBody>, Refusal> {
    let Outgoing { cluster, peer, .. } = outgoing;
    let Some(endpoint) = cluster.pick(&[], peer.worker.random(), peer.original()) else {
        return Err((record, no_endpoint()));
    };
    record.upstream_host = Some(endpoint.address);
    record.tries = 1;
    record.raised[2] = Some(Raised::new(&endpoint.active));
    outgoing.name_try(&mut target, &endpoint, 1);
    let times = Times::of(&outgoing, record.started().into(), &body);
    let asking = async {
        match extended(outgoing, &endpoint).await? {
            Some((sender, stream)) => ask_h2(outgoing, target, sender, stream).await,
            None => ask_h1(outgoing, &endpoint, target, &client, body).await,
        }
    };
    let asked = match tokio::time::timeout(ANSWER_TIMEOUT, asking).await {
        Ok(Ok(asked)) => asked,
        Ok(Err(broken)) => return Err((record, broken.reason())),
        Err(_) => return Err((record, Broken::timeout(true).reason())),
    };
    let (mut parts, server) = match asked {
        Asked::Open(parts, server) => (parts, server),
        Asked::Declined(response) => {
            let (mut parts, incoming) = response.into_parts();
            outgoing.edit_response(&mut parts.headers, endpoint.address, &record);
            parts.extensions = http::Extensions::new();
            record.on_response(parts.status, &parts.headers);
            if matches!(client, Client::H2(_)) && parts.status.is_success() {
                return Err((record, wrong())); // on HTTP/2 it would say that the tunnel is open
            }
            // An ordinary answer, with the times of one. Its connection is not used again, which costs little here.
            let watch = Watch::new(&peer.worker, times.idle, None);
            return Ok(Response::from_parts(
                parts,
                ResponseBody::upstream(incoming, record, watch, times.whole()),
            ));
        }
        Asked::Wrong => return Err((record, wrong())),
    };
    outgoing.edit_response(&mut parts.headers, endpoint.address, &record);
    parts.extensions = http::Extensions::new();
    parts.headers.remove(CONTENT_LENGTH);
    match client {
        Client::H1(_) => {
            parts.status = StatusCode::SWITCHING_PROTOCOLS;
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, HeaderValue::from_static(websocket::PROTOCOL));
        }
        Client::H2(_) => parts.status = StatusCode::OK,
    }
    record.on_response(parts.status, &parts.headers);
    let idle_timeout = outgoing.idle_timeout().unwrap_or(FOR_EVER);
    tokio::task::spawn_local(async move {
        match server {
            Server::H1 { raw, connection } => {
                carry(client, raw, record, idle_timeout).await;
                drop(connection); // counts until the tunnel ends
            }
            Server::H2(tunnel) => carry(client, tunnel, record, idle_timeout).await,
        }
    });
    Ok(Response::from_parts(parts, ResponseBody::text(Bytes::new(), None)))
}

fn wrong() -> Reason {
    let text = "the upstream's answer to an upgrade is wrong\n";
    Reason::new(StatusCode::BAD_GATEWAY, flags::UPSTREAM_PROTOCOL, "upgrade_failed", text)
}

/// What an endpoint says to an upgrade.
enum Asked {
    Open(Parts, Server),
    /// An ordinary answer.
    Declined(Response<Inbound>),
    Wrong,
}

/// The endpoint's side of a tunnel.
enum Server {
    H1 { raw: Prefixed<Stream>, connection: Rc<Connection> },
    H2(Tunnel<StreamCount>),
}

/// A shared connection whose other side takes extended CONNECTs.
async fn extended(
    outgoing: Outgoing<'_>,
    endpoint: &EndpointState,
) -> Result<Option<(Sender, StreamCount)>, Broken> {
    let Outgoing { cluster, peer, .. } = outgoing;
    let version = cluster.version(outgoing.downstream);
    if version != Version::Http2 || !cluster.cluster.http.http2.extended_connect {
        return Ok(None);
    }
    match lease(cluster, endpoint, version, peer, outgoing.limits()).await {
        Ok(Lease::H2 { sender, stream, .. }) => {
            Ok(sender.takes_extended_connect().await.then_some((sender, stream)))
        }
        Ok(Lease::H1 { .. }) => Ok(None),
        Err(error) => Err(Broken::connect(&error, None)),
    }
}

async fn ask_h2(
    outgoing: Outgoing<'_>,
    mut target: Target,
    mut sender: Sender,
    stream: StreamCount,
) -> Result<Asked, Broken> {
    if !target.has_authority() {
        let reason = "the authority cannot be sent over HTTP/2".to_owned();
        return Err(Broken::connect(&ConnectError::Settings { reason }, None));
    }
    target.headers.remove(CONNECTION);
    target.headers.remove(UPGRADE);
    let key = Key::of(&target.headers);
    target.method = Method::CONNECT;
    let head = RequestHead {
        protocol: Some(websocket::PROTOCOL.as_bytes()),
        ..target.h2_head(outgoing.cluster.cluster.tls.is_some())
    };
    let asked = sender.connect(head, stream).await;
    let (mut parts, opened) = asked.map_err(|failed| Broken::h2(&failed, None))?;
    let tunnel = match opened {
        Ok(tunnel) => tunnel,
        Err(body) => return Ok(Asked::Declined(Response::from_parts(parts, body))),
    };
    if let Some(key) = key {
        key.accept_for_client(&mut parts.headers);
    }
    Ok(Asked::Open(parts, Server::H2(tunnel)))
}

async fn ask_h1(
    outgoing: Outgoing<'_>,
    endpoint: &EndpointState,
    mut target: Target,
    client: &Client,
    body: RequestBody,
) -> Result<Asked, Broken> {
    let Outgoing { cluster, peer, .. } = outgoing;
    let connection = match lease(cluster, endpoint, Version::Http1, peer, outgoing.limits()).await {
        Ok(Lease::H1 { connection, .. }) => connection,
        Ok(Lease::H2 { .. }) => {
            let reason = "asked for HTTP/1, got HTTP/2".to_owned();
            return Err(Broken::connect(&ConnectError::Settings { reason }, None));
        }
        Err(error) => return Err(Broken::connect(&error, None)),
    };
    // On HTTP/2 there is none, HTTP/1 wants one.
    let own = match client {
        Client::H2(_) if Key::of(&target.headers).is_none() => {
            Some(Key::insert(&mut target.headers, (peer.worker.random(), peer.worker.random())))
        }
        _ => None,
    };
    let response = match exchange(&connection, &mut target, body.next_try(), true, &mut |_| {}).await {
        Ok(response) => response,
        Err(failed) => return Err(Broken::h1(&failed, target, false)),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Asked::Declined(response));
    }
    let Some(raw) = connection.into_raw() else { return Ok(Asked::Wrong) };
    let mut parts = response.into_parts().0;
    if let Some(own) = own
        && !own.take_accept(&mut parts.headers)
    {
        tracing::info!(cluster = %cluster.cluster.name, "an endpoint's sec-websocket-accept is wrong");
        return Ok(Asked::Wrong);
    }
    Ok(Asked::Open(parts, Server::H1 { raw, connection }))
}

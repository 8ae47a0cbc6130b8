//! One try: a connection, the head and body on it, and the head of the answer, or what broke.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use http::{HeaderValue, Response, StatusCode};
use tokio::time::Instant;
use weft_routing::{Thresholds, retry::Failure};

use super::{
    body::{RequestBody, TryBody},
    broken::{Broken, explain},
    forward::Outgoing,
    h1::client::exchange,
    h2::{self, guarded::OnFlood},
    headers,
    inbound::Inbound,
    interim::OnInterim,
    target::Target,
};
use crate::{
    meters,
    peer::Peer,
    record::{EXPECTED_TIMEOUT, PREVIOUS_TRIES, Reach, RequestRecord},
    upstream::{
        cluster::{ClusterState, EndpointState},
        connect::{ConnectError, Dial},
        limits::Raised,
        pool::{Held, InUse, Lease, Opening, Version as PoolVersion},
        tls::Alpn,
    },
};

/// How often a request that waits for a connection looks for one.
const QUEUE_INTERVAL: Duration = Duration::from_millis(5);

/// Connections that leave, one after the other, before a request is sent on them.
const LEASES_MAX: u32 = 8;

/// What a try is told about its request, and tells.
#[derive(Clone, Copy)]
pub struct Trying<'a> {
    pub record: &'a RequestRecord,
    /// When the try is given up.
    pub end: Option<Instant>,
    /// A member's proxy is told how long we wait and that we try again; nobody else is.
    pub to_member: bool,
    /// Something came that is not the answer.
    pub moved: &'a Cell<bool>,
}

/// One try: a connection, a request, an answer's head.
pub async fn attempt(
    outgoing: Outgoing<'_>,
    endpoint: &EndpointState,
    mut target: Target,
    body: &RequestBody,
    trying: Trying<'_>,
) -> Result<Answered, Broken> {
    let Outgoing { cluster, peer, .. } = outgoing;
    let version = cluster.version(outgoing.downstream);
    let lease = match lease(cluster, endpoint, version, peer, outgoing.limits()).await {
        Ok(lease) => lease,
        Err(error) => return Err(Broken::connect(&error, Some(target))),
    };
    if trying.to_member {
        trying.tell(&mut target);
    }
    // From here on a cancelled try may have been read.
    let before = trying.record.reach.replace(Reach::Callee);
    let mut on_interim = |head| {
        trying.moved.set(true);
        outgoing.pass_interim(head, body, endpoint.address, trying.record);
    };
    let mut sent = send(lease, cluster, target, body, &mut on_interim).await;
    let mut leases = 1;
    while let Err(broken) = &mut sent
        && broken.stale
        && (leases == 1 || leases < LEASES_MAX && broken.failure == Failure::ResetBeforeSent)
        && body.can_repeat()
        && let Some(target) = broken.head.take()
    {
        // An endpoint may close a connection in the moment in which it is used again. That says nothing of the endpoint.
        leases += 1;
        sent = match self::lease(cluster, endpoint, version, peer, outgoing.limits()).await {
            Ok(lease) => send(lease, cluster, target, body, &mut on_interim).await,
            Err(error) => Err(Broken::connect(&error, Some(target))),
        };
    }
    if let Err(broken) = &sent
        && !broken.seen
    {
        trying.record.reach.set(before);
    }
    sent
}

impl Trying<'_> {
    fn tell(&self, target: &mut Target) {
        let tries = self.record.tries;
        if tries > 1 {
            target.headers.insert(PREVIOUS_TRIES, HeaderValue::from(tries - 1));
        }
        match self.end {
            Some(end) => {
                let left = end.saturating_duration_since(Instant::now()).as_millis();
                let left = headers::number(u64::try_from(left).unwrap_or(u64::MAX));
                target.headers.insert(EXPECTED_TIMEOUT, left);
            }
            None => drop(target.headers.remove(EXPECTED_TIMEOUT)),
        }
    }
}

async fn send(
    lease: Lease,
    cluster: &ClusterState,
    target: Target,
    body: &RequestBody,
    on_interim: OnInterim<'_>,
) -> Result<Answered, Broken> {
    match lease {
        Lease::H1 { connection, generation, reused } => {
            let mut target = target;
            match exchange(&connection, &mut target, body.next_try(), false, on_interim).await {
                Ok(response) => {
                    Ok(Answered { response, lease: InUse::H1 { connection, generation }, head: Some(target) })
                }
                Err(failed) => Err(Broken::h1(&failed, target, reused)),
            }
        }
        Lease::H2 { mut sender, stream, .. } => {
            let mut target = target;
            if !target.has_authority() {
                let reason = "the authority cannot be sent over HTTP/2".to_owned();
                return Err(Broken::connect(&ConnectError::Settings { reason }, Some(target)));
            }
            let tls = cluster.cluster.tls.is_some();
            match sender.exchange(&mut target, tls, body.next_try(), on_interim).await {
                Ok(response) => {
                    Ok(Answered { response, lease: InUse::H2 { _stream: stream }, head: Some(target) })
                }
                Err(failed) => Err(Broken::h2(&failed, Some(target))),
            }
        }
    }
}

/// A request of our own or a mirrored one: sent to any endpoint; of its answer only the status is looked at.
pub async fn send_copy(
    cluster: &ClusterState,
    peer: &Peer,
    target: Target,
    body: TryBody,
    downstream: http::Version,
) -> Result<StatusCode, String> {
    let limits = &cluster.cluster.limits.default;
    let _counted = cluster.counts.requests.raise_below(limits.requests_max).ok_or("too many requests")?;
    let endpoint = cluster.pick(&[], peer.worker.random(), peer.original()).ok_or("no endpoint")?;
    let connection = lease(cluster, &endpoint, cluster.version(downstream), peer, limits).await;
    match connection.map_err(|error| explain(&error))? {
        Lease::H1 { connection, generation, .. } => {
            let mut target = target;
            let response = exchange(&connection, &mut target, body, false, &mut |_| {}).await;
            let status = response.map(|response| response.status());
            endpoint.pool.give_back(connection, generation, std::time::Instant::now());
            status.map_err(|failed| explain(&failed.cause))
        }
        Lease::H2 { mut sender, stream: _counted, .. } => {
            let mut target = target;
            if !target.has_authority() {
                return Err("no authority".to_owned());
            }
            let tls = cluster.cluster.tls.is_some();
            let response = sender.exchange(&mut target, tls, body, &mut |_| {}).await;
            response.map(|response| response.status()).map_err(|failed| explain(&failed.cause))
        }
    }
}

/// A warm connection, or a new one.
pub async fn lease(
    cluster: &ClusterState,
    endpoint: &EndpointState,
    version: PoolVersion,
    peer: &Peer,
    limits: &Thresholds,
) -> Result<Lease, ConnectError> {
    let dial = Dial::shared(&cluster.cluster)?;
    let credentials = peer.worker.credentials();
    // Clusters without TLS know no identity: their connections outlive a rotation.
    let generation = match &cluster.cluster.tls {
        Some(_) => credentials.as_ref().map_or(0, |credentials| credentials.generation),
        None => 0,
    };
    let h2 = h2::Settings::of(&cluster.cluster.http);
    if let Some(lease) = endpoint.pool.take(version, generation, h2.streams_max) {
        return Ok(lease);
    }
    let held = match held(cluster, endpoint, limits) {
        Some(held) => held,
        None => match queued(cluster, endpoint, version, generation, limits).await? {
            Turn::Reuse(lease) => return Ok(lease),
            Turn::Open(held) => held,
        },
    };
    let alpn = match version {
        PoolVersion::Http1 => Alpn::Http1,
        PoolVersion::Http2 => Alpn::Http2,
    };
    let tls = cluster.tls_settings(alpn, credentials.as_ref())?;
    peer.worker.shard.borrow_mut().add(cluster.meters.connections, 1);
    let (random, on_flood) = (peer.worker.random(), on_flood(cluster, peer));
    let opening = Opening { version, tls, dial, h2, held, generation, random, on_flood };
    let opened = endpoint.pool.open(opening).await;
    cluster.note_connection(endpoint, &opened);
    opened
}

/// Counts the floods of this cluster's endpoints.
pub fn on_flood(cluster: &ClusterState, peer: &Peer) -> OnFlood {
    let (worker, cluster) = (Rc::clone(&peer.worker), Arc::clone(&cluster.cluster));
    Rc::new(move |flood| {
        let counter = meters::upstream_http2_floods(&worker.settings.registry, &cluster.name, flood.label());
        worker.shard.borrow_mut().add(counter, 1);
        tracing::warn!(cluster = %cluster.name, %flood, "an upstream's HTTP/2 connection is ended");
    })
}

/// The right to one more connection. An endpoint without any gets one whatever the limit, as in Envoy: else idle
/// connections to others would keep it out of use.
pub fn held(cluster: &ClusterState, endpoint: &EndpointState, limits: &Thresholds) -> Option<Held> {
    let connections = &cluster.counts.connections;
    let counted = match endpoint.connections.get() {
        0 => connections.raise(),
        _ => connections.raise_below(limits.connections_max)?,
    };
    Some([counted, Raised::new(&endpoint.connections)])
}

/// What somebody who waited for a connection may do.
enum Turn {
    Reuse(Lease),
    Open(Held),
}

/// All connections are in use and there may be no more: waits for one, unless too many wait already. Rare, so it looks
/// again and again instead of keeping a list.
#[cold]
async fn queued(
    cluster: &ClusterState,
    endpoint: &EndpointState,
    version: PoolVersion,
    generation: u64,
    limits: &Thresholds,
) -> Result<Turn, ConnectError> {
    if version == PoolVersion::Http2
        && let Some(lease) = endpoint.pool.share_h2()
    {
        return Ok(Turn::Reuse(lease)); // it waits there until a stream ends
    }
    let Some(_waiting) = cluster.counts.pending.raise_below(limits.pending_max) else {
        return Err(ConnectError::Overflow);
    };
    loop {
        tokio::time::sleep(QUEUE_INTERVAL).await;
        if let Some(lease) = endpoint.pool.take(version, generation, u32::MAX) {
            return Ok(Turn::Reuse(lease));
        }
        if let Some(held) = held(cluster, endpoint, limits) {
            return Ok(Turn::Open(held));
        }
    }
}

/// The answer's head, and the connection that its body comes on.
pub struct Answered {
    pub response: Response<Inbound>,
    pub lease: InUse,
    /// What was sent, for another try.
    pub head: Option<Target>,
}

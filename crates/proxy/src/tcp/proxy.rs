//! A connection without HTTP: one cluster is chosen, one endpoint takes it, bytes are copied.

use std::{rc::Rc, time::Duration};

use http::uri::Authority;
use weft_routing::{CaSource, Cluster, TcpConfig};

use super::{copy::copy, tunnel::Windows};
use crate::{
    http::{
        attempt::{held, on_flood},
        broken::explain,
        h1::io::Io,
        h2::guarded,
        tunnel::tcp_alpn,
    },
    peer::Peer,
    record::{Details, Kind, LogFields, Reach, RequestRecord, flags},
    upstream::{
        cluster::{ClusterState, EndpointState},
        connect::{ConnectError, Dial, connect},
        limits::Raised,
        outlier::Outcome,
        pool::{Held, Version},
        tls::Alpn,
        tunnels::{Road, Wanted},
    },
};

pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Serves one connection until both sides have ended.
pub async fn serve<T>(peer: &Rc<Peer>, config: &TcpConfig, downstream: T)
where
    T: Io,
{
    let mut record = start(peer);
    let live = peer.worker.live();
    let picked = config.clusters.pick(None, peer.worker.random());
    let found = picked
        .and_then(|picked| live.table().cluster_index(picked.name()))
        .and_then(|index| live.cluster(index));
    let Some((cluster, labels)) = found else {
        record.flags = flags::NO_CLUSTER;
        return;
    };
    record.cluster = Some(Rc::clone(labels));
    record.reach.set(Reach::Here);
    let attempts_max = config.connect_attempts_max;
    let opened = open(peer, cluster, attempts_max, config.tunnel.as_ref(), &mut record).await;
    let Some((upstream, _held)) = opened else {
        return;
    };
    record.reach.set(Reach::Callee);
    drop(live); // a tunnel may live for days, its table must not
    let idle_timeout = config.idle_timeout.filter(|limit| !limit.is_zero()).unwrap_or(IDLE_TIMEOUT);
    match upstream {
        Road::Raw(upstream) => carry(record, downstream, upstream, idle_timeout, peer.forbidden()).await,
        Road::Tunnel(upstream) => carry(record, downstream, upstream, idle_timeout, peer.forbidden()).await,
    }
}

/// The record of a connection, which has failed until it worked.
pub fn start(peer: &Rc<Peer>) -> RequestRecord {
    let mut record = RequestRecord::start(peer, Kind::Connection);
    record.failed = true;
    if !peer.access_logs.is_empty() {
        record.log = Some(LogFields::default());
    }
    record
}

/// Copies until both sides have ended. A drain does not cut it: bytes of a tunnel are not ours to end.
pub async fn carry<A, B>(
    mut record: RequestRecord,
    mut downstream: A,
    mut upstream: B,
    idle_timeout: Duration,
    forbidden: impl Future<Output = ()>,
) where
    A: Io,
    B: Io,
{
    let (copied, result) = copy(&mut downstream, &mut upstream, idle_timeout, forbidden).await;
    record.request_bytes = copied.to_upstream;
    record.response_bytes = copied.to_downstream;
    record.complete = true;
    record.failed = false;
    if let Err(error) = result {
        record.flags = flags::CONNECTION_TERMINATION;
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            record.details = Details::Fixed("rbac_access_denied");
            let peer = record.peer();
            peer.worker.shard.borrow_mut().add(peer.meters.denied, 1);
        }
        tracing::debug!(%error, "a TCP connection ended with an error");
    }
}

/// A connection to one of the cluster's endpoints, or a tunnel to its proxy. What fails is in the record.
pub async fn open(
    peer: &Peer,
    cluster: &ClusterState,
    attempts_max: u32,
    tunnel: Option<&Authority>,
    record: &mut RequestRecord,
) -> Option<(Road, Held)> {
    let mut tried = Vec::new();
    for _ in 0..attempts_max.max(1) {
        let Some(endpoint) = cluster.pick(&tried, peer.worker.random(), peer.original()) else {
            record.flags = flags::NO_HEALTHY_UPSTREAM;
            return None;
        };
        record.tries += 1;
        record.upstream_host = Some(endpoint.address);
        peer.worker.shard.borrow_mut().add(cluster.meters.connections, 1);
        // A tunnel counts as the connection that it stands for.
        let Some(held) = held(cluster, &endpoint, &cluster.cluster.limits.default) else {
            peer.worker.shard.borrow_mut().add(cluster.meters.overflows, 1);
            record.flags = flags::OVERFLOW;
            return None;
        };
        let error = match reach(peer, cluster, &endpoint, tunnel).await {
            Ok(road) => {
                record.raised[2] = Some(Raised::new(&endpoint.active));
                cluster.note(&endpoint, Outcome::Good, 0);
                return Some((road, held));
            }
            Err(error) => error,
        };
        peer.worker.shard.borrow_mut().add(cluster.meters.connect_failures, 1);
        tracing::info!(cluster = %cluster.cluster.name, error = explain(&error), "a connection failed");
        record.flags = flags::CONNECT_FAILURE;
        record.details = Details::Text(explain(&error).into());
        match error {
            ConnectError::Settings { .. } | ConnectError::NoCertificate => return None,
            // It has read the request, and so it has counted it.
            ConnectError::Refused { .. } => record.reach.set(Reach::Callee),
            _ => cluster.note(&endpoint, Outcome::LocalFailure, peer.worker.random()),
        }
        tried.push(endpoint.address);
    }
    None
}

/// The way to an endpoint: a connection of its own, or with `tunnel` as its authority a shared one's stream.
pub async fn reach(
    peer: &Peer,
    cluster: &ClusterState,
    endpoint: &EndpointState,
    tunnel: Option<&Authority>,
) -> Result<Road, ConnectError> {
    let credentials = peer.worker.credentials();
    let Some(authority) = tunnel else {
        let tls = cluster.tls_settings(tcp_alpn(&cluster.cluster), credentials.as_ref())?;
        let dial = Dial::of(&cluster.cluster).for_caller(peer);
        let opened = connect(endpoint.address, tls.as_ref(), dial).await;
        cluster.note_connection(endpoint, &opened);
        return opened.map(Road::Raw);
    };
    if cluster.version(http::Version::HTTP_2) != Version::Http2 {
        let reason = "a tunnel needs a cluster that speaks HTTP/2".to_owned();
        return Err(ConnectError::Settings { reason });
    }
    let dial = Dial::shared(&cluster.cluster)?;
    let tls = cluster.tls_settings(Alpn::Http2, credentials.as_ref())?;
    let wanted = Wanted {
        authority,
        tls: tls.as_ref(),
        member: is_member(&cluster.cluster),
        generation: tls.as_ref().and(credentials.as_ref()).map_or(0, |credentials| credentials.generation),
        dial,
        windows: Windows::of(&cluster.cluster.http.http2),
        guard: guarded::limits(&cluster.cluster.http.http2),
        on_flood: &|| on_flood(cluster, peer),
    };
    let opened = endpoint.pool.tunnels.open(endpoint.address, wanted).await;
    if !matches!(opened, Err(ConnectError::Refused { .. })) {
        cluster.note_connection(endpoint, &opened);
    }
    opened
}

/// Members know each other by the mesh's roots.
fn is_member(cluster: &Cluster) -> bool {
    let ca = cluster.tls.as_ref().map(|tls| &tls.validation.ca);
    matches!(ca, Some(CaSource::Sds(_) | CaSource::Provider { .. }))
}

//! A connection without HTTP: one cluster is chosen, one endpoint takes it, bytes are copied.

use std::{rc::Rc, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite};
use weft_routing::TcpConfig;

use super::copy::copy;
use crate::{
    http::{attempt::held, broken::explain, tunnel::tcp_alpn},
    peer::Peer,
    record::{Details, Kind, Reach, RequestRecord, flags},
    upstream::{
        cluster::ClusterState,
        connect::{Dial, Stream, connect},
        limits::Raised,
        outlier::Outcome,
        pool::Held,
    },
};

const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Serves one connection until both sides have ended.
pub async fn serve<T>(peer: &Rc<Peer>, config: &TcpConfig, mut downstream: T)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut record = RequestRecord::start(peer, Kind::Connection);
    record.failed = true; // until it worked
    if !peer.access_logs.is_empty() {
        record.log = Some(Box::default());
    }
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
    let Some((mut upstream, _held)) = open(peer, config, cluster, &mut record).await else {
        return;
    };
    record.reach.set(Reach::Callee);
    drop(live); // a tunnel may live for days, its table must not
    let idle_timeout = config.idle_timeout.filter(|limit| !limit.is_zero()).unwrap_or(IDLE_TIMEOUT);
    // A drain does not cut it: bytes of a tunnel are not ours to end.
    let (copied, result) = copy(&mut downstream, &mut upstream, idle_timeout, peer.forbidden()).await;
    record.request_bytes = copied.to_upstream;
    record.response_bytes = copied.to_downstream;
    record.complete = true;
    record.failed = false;
    if let Err(error) = result {
        record.flags = flags::CONNECTION_TERMINATION;
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            record.details = Details::Fixed("rbac_access_denied");
            peer.worker.shard.borrow_mut().add(peer.meters.denied, 1);
        }
        tracing::debug!(%error, "a TCP connection ended with an error");
    }
}

async fn open(
    peer: &Peer,
    config: &TcpConfig,
    cluster: &ClusterState,
    record: &mut RequestRecord,
) -> Option<(Stream, Held)> {
    let credentials = peer.worker.credentials();
    let mut tried = Vec::new();
    for _ in 0..config.connect_attempts_max.max(1) {
        let tls = match cluster.tls_settings(tcp_alpn(&cluster.cluster), credentials.as_ref()) {
            Ok(tls) => tls,
            Err(error) => {
                record.flags = flags::CONNECT_FAILURE;
                record.details = Details::Text(error.to_string().into());
                return None;
            }
        };
        let Some(endpoint) = cluster.pick(&tried, peer.worker.random(), peer.original()) else {
            record.flags = flags::NO_HEALTHY_UPSTREAM;
            return None;
        };
        record.tries += 1;
        record.upstream_host = Some(endpoint.address);
        peer.worker.shard.borrow_mut().add(cluster.meters.connections, 1);
        let Some(held) = held(cluster, &endpoint, &cluster.cluster.limits.default) else {
            peer.worker.shard.borrow_mut().add(cluster.meters.overflows, 1);
            record.flags = flags::OVERFLOW;
            return None;
        };
        let opened = connect(endpoint.address, tls.as_ref(), Dial::of(&cluster.cluster)).await;
        cluster.note_connection(&endpoint, &opened);
        match opened {
            Ok(stream) => {
                record.raised[2] = Some(Raised::new(&endpoint.active));
                cluster.note(&endpoint, Outcome::Good, 0);
                return Some((stream, held));
            }
            Err(error) => {
                peer.worker.shard.borrow_mut().add(cluster.meters.connect_failures, 1);
                cluster.note(&endpoint, Outcome::LocalFailure, peer.worker.random());
                tracing::info!(cluster = %cluster.cluster.name, error = explain(&error), "a connection failed");
                record.flags = flags::CONNECT_FAILURE;
                record.details = Details::Text(explain(&error).into());
                tried.push(endpoint.address);
            }
        }
    }
    None
}

//! Active health checks: asks each endpoint on the control thread, and tells the workers what changed.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, header::HOST};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::AbortHandle,
};
use weft_routing::{Address, Cluster, HealthCheck, HealthCheckKind};

use super::{
    connect::{TlsSettings, connect},
    tls::{self, Alpn},
};
use crate::{
    certificates::Identity,
    config_feed::ConfigFeed,
    worker::{Command, Mailbox},
};

const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// An answer to a TCP check that is longer than this does not match.
const RECEIVED_BYTES_MAX: usize = 64 * 1024;

/// What one check goes to.
#[derive(PartialEq, Eq, Hash, Clone)]
struct Place {
    cluster: Arc<str>,
    address: SocketAddr,
}

/// Checks the endpoints of all clusters that ask for it, for ever.
pub async fn keep(feed: ConfigFeed, identity: Identity, workers: Vec<Mailbox>) {
    let mut tasks: HashMap<Place, (Arc<Cluster>, AbortHandle)> = HashMap::new();
    let mut changes = feed.changes();
    loop {
        let mut wanted: HashMap<Place, (Arc<Cluster>, SocketAddr)> = HashMap::new();
        for (cluster, endpoints) in feed.clusters_with_endpoints() {
            if cluster.health_checks.is_empty() {
                continue;
            }
            for endpoint in endpoints.iter().flat_map(|endpoints| &endpoints.all) {
                let Address::Ip(address) = endpoint.address else { continue };
                let port = endpoint.health_check_port.unwrap_or(address.port());
                let place = Place { cluster: cluster.name.clone(), address };
                wanted.insert(place, (Arc::clone(&cluster), SocketAddr::new(address.ip(), port)));
            }
        }
        tasks.retain(|place, (cluster, task)| {
            let stays = wanted.get(place).is_some_and(|(new, _)| Arc::ptr_eq(new, cluster));
            if !stays {
                task.abort();
                // Without a check nobody says that it is ill.
                tell(&workers, place, true);
            }
            stays
        });
        for (place, (cluster, target)) in wanted {
            if let Some(check) = cluster.health_checks.first()
                && !tasks.contains_key(&place)
            {
                let work = watch(
                    place.clone(),
                    Arc::clone(&cluster),
                    check.clone(),
                    target,
                    identity.clone(),
                    workers.clone(),
                );
                tasks.insert(place, (cluster, tokio::spawn(work).abort_handle()));
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn tell(workers: &[Mailbox], place: &Place, healthy: bool) {
    for worker in workers {
        worker.send(Command::Health { cluster: place.cluster.clone(), address: place.address, healthy });
    }
}

/// Checks one endpoint for ever. It counts as healthy until the first threshold says otherwise.
async fn watch(
    place: Place,
    cluster: Arc<Cluster>,
    check: HealthCheck,
    target: SocketAddr,
    identity: Identity,
    workers: Vec<Mailbox>,
) {
    let mut standing = Standing::default();
    loop {
        let tls = settings(&cluster, &identity, &check.kind);
        let good = match tls {
            Ok(tls) => {
                tokio::time::timeout(check.timeout, ask(&check.kind, target, tls.as_ref(), check.timeout))
                    .await
                    .unwrap_or(false)
            }
            Err(()) => false,
        };
        if let Some(healthy) = standing.on_result(good, &check) {
            tracing::info!(cluster = %place.cluster, address = %place.address, healthy, "health");
            tell(&workers, &place, healthy);
        }
        let interval = match check.unhealthy_interval {
            Some(interval) if !standing.healthy => interval,
            _ => check.interval,
        };
        let jitter = check.interval_jitter.mul_f64(fastrand::f64());
        tokio::time::sleep(interval.max(INTERVAL_MIN) + jitter).await;
    }
}

fn settings(
    cluster: &Cluster,
    identity: &Identity,
    kind: &HealthCheckKind,
) -> Result<Option<TlsSettings>, ()> {
    let Some(wanted) = &cluster.tls else { return Ok(None) };
    let alpn = match kind {
        HealthCheckKind::Http { .. } => Alpn::Http1,
        _ => Alpn::None,
    };
    tls::settings(wanted, alpn, identity.credentials().as_ref()).map(Some).map_err(|_| ())
}

/// How many times in a row it went well or badly.
struct Standing {
    healthy: bool,
    first: bool,
    against: u32,
}

impl Default for Standing {
    fn default() -> Self {
        Standing { healthy: true, first: true, against: 0 }
    }
}

impl Standing {
    /// `Some` when the verdict changes. The very first bad answer counts at once, as in Envoy.
    fn on_result(&mut self, good: bool, check: &HealthCheck) -> Option<bool> {
        let first = std::mem::replace(&mut self.first, false);
        if good == self.healthy {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let threshold = if good { check.healthy_threshold } else { check.unhealthy_threshold };
        if self.against < threshold.max(1) && !first {
            return None;
        }
        self.against = 0;
        self.healthy = good;
        Some(good)
    }
}

async fn ask(
    kind: &HealthCheckKind,
    target: SocketAddr,
    tls: Option<&TlsSettings>,
    timeout: Duration,
) -> bool {
    let result = match kind {
        HealthCheckKind::Http { .. } => http(kind, target, tls, timeout).await,
        HealthCheckKind::Tcp { send, receive } => tcp(send.as_deref(), receive, target).await,
        // The gRPC health protocol is not done yet; that it accepts connections is all we can say.
        HealthCheckKind::Grpc { .. } => {
            TcpStream::connect(target).await.map(|_| true).map_err(|error| error.to_string())
        }
    };
    result.unwrap_or_else(|error| {
        tracing::debug!(%target, error, "a health check failed");
        false
    })
}

async fn http(
    kind: &HealthCheckKind,
    target: SocketAddr,
    tls: Option<&TlsSettings>,
    timeout: Duration,
) -> Result<bool, String> {
    let HealthCheckKind::Http { host, path, method, .. } = kind else { return Ok(false) };
    let stream = connect(target, tls, timeout).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let driving = tokio::spawn(connection);
    let host = host.as_deref().map_or_else(|| target.to_string(), str::to_owned);
    let request = Request::builder()
        .method(method)
        .uri(&**path)
        .header(HOST, host)
        .header("user-agent", "weft-health-check")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string());
    driving.abort();
    Ok(kind.healthy_status(response?.status()))
}

async fn tcp(send: Option<&[u8]>, receive: &[Arc<[u8]>], target: SocketAddr) -> Result<bool, String> {
    let mut stream = TcpStream::connect(target).await.map_err(|error| error.to_string())?;
    if let Some(send) = send {
        stream.write_all(send).await.map_err(|error| error.to_string())?;
    }
    let mut received = Vec::new();
    let mut expected = receive.iter();
    let mut from = 0;
    let mut next = expected.next();
    while let Some(wanted) = next {
        if let Some(at) = find(received.get(from..).unwrap_or_default(), wanted) {
            from += at + wanted.len();
            next = expected.next();
            continue;
        }
        if received.len() >= RECEIVED_BYTES_MAX
            || stream.read_buf(&mut received).await.map_err(|error| error.to_string())? == 0
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_turns_at_its_threshold() {
        let check = HealthCheck {
            kind: HealthCheckKind::Tcp { send: None, receive: Vec::new() },
            timeout: Duration::from_secs(1),
            interval: Duration::from_secs(1),
            interval_jitter: Duration::ZERO,
            initial_jitter: Duration::ZERO,
            unhealthy_threshold: 3,
            healthy_threshold: 2,
            unhealthy_interval: None,
            no_traffic_interval: None,
            reuse_connection: false,
        };
        let mut standing = Standing::default();
        let verdicts: Vec<Option<bool>> =
            [true, false, false, true, false, false, false, true, false, true, true]
                .into_iter()
                .map(|good| standing.on_result(good, &check))
                .collect();
        let expected = [None, None, None, None, None, None, Some(false), None, None, None, Some(true)];
        assert_eq!(verdicts, expected);
        assert_eq!(
            Standing::default().on_result(false, &check),
            Some(false),
            "the first answer counts at once"
        );
    }
}

//! Active health checks: asks each endpoint on the control thread, and tells the workers what changed.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response,
    header::{CONTENT_TYPE, HOST, TE, USER_AGENT},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::AbortHandle,
};
use weft_routing::{Address, Cluster, HealthCheck, HealthCheckKind, matcher::apply_edits};

use super::{
    connect::{Dial, Stream, TlsSettings, connect},
    probe,
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
    let dial = Dial { timeout: check.timeout, ..Dial::of(&cluster) };
    tokio::time::sleep(check.initial_jitter.mul_f64(fastrand::f64())).await;
    loop {
        let tls = settings(&cluster, &identity, &check.kind);
        let good = match tls {
            Ok(tls) => tokio::time::timeout(check.timeout, ask(&check.kind, target, tls.as_ref(), dial))
                .await
                .unwrap_or(false),
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
        HealthCheckKind::Http { http2: true, .. } | HealthCheckKind::Grpc { .. } => Alpn::Http2,
        HealthCheckKind::Http { .. } => Alpn::Http1,
        // A TCP service's proxy speaks no ALPN; what an HTTP one is offered it must know.
        HealthCheckKind::Tcp { .. } if wanted.alpn.is_empty() => Alpn::HealthCheck,
        HealthCheckKind::Tcp { .. } => Alpn::None,
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

async fn ask(kind: &HealthCheckKind, target: SocketAddr, tls: Option<&TlsSettings>, dial: Dial) -> bool {
    let asking = async {
        let stream = connect(target, tls, dial).await.map_err(|error| error.to_string())?;
        match kind {
            HealthCheckKind::Http { .. } => http(kind, target, stream).await,
            HealthCheckKind::Tcp { send, receive } => tcp(send.as_deref(), receive, stream).await,
            HealthCheckKind::Grpc { service, authority } => {
                let authority = authority.as_deref().map_or_else(|| target.to_string(), str::to_owned);
                grpc(service, &authority, stream).await
            }
        }
    };
    let result: Result<bool, String> = asking.await;
    result.unwrap_or_else(|error| {
        tracing::debug!(%target, error, "a health check failed");
        false
    })
}

async fn http(kind: &HealthCheckKind, target: SocketAddr, stream: Stream) -> Result<bool, String> {
    let HealthCheckKind::Http { host, path, method, http2, edits, .. } = kind else { return Ok(false) };
    let host = host.as_deref().map_or_else(|| target.to_string(), str::to_owned);
    let mut request = Request::builder()
        .method(method)
        .uri(if *http2 { format!("http://{host}{path}") } else { path.to_string() })
        .header(USER_AGENT, probe::USER)
        .header(probe::HEALTH_CHECK, "1")
        .body(Full::<Bytes>::default())
        .map_err(|error| error.to_string())?;
    if !http2 {
        let host = HeaderValue::try_from(host).map_err(|error| error.to_string())?;
        request.headers_mut().insert(HOST, host);
    }
    // There is no caller whose address a command could say.
    apply_edits(edits, request.headers_mut(), &|_, _| {});
    let response = if *http2 { ask_h2(stream, request).await? } else { ask_h1(stream, request).await? };
    Ok(kind.healthy_status(response.status()))
}

async fn ask_h1(stream: Stream, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let driving = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| error.to_string());
    driving.abort();
    Ok(response?.map(|_| Bytes::new()))
}

/// With the body's start and its trailers among the headers, where gRPC says how it went.
async fn ask_h2(stream: Stream, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, String> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
    let driving = tokio::spawn(connection);
    let answer = async {
        let (mut parts, body) =
            sender.send_request(request).await.map_err(|error| error.to_string())?.into_parts();
        let collected = Limited::new(body, RECEIVED_BYTES_MAX).collect().await;
        let collected = collected.map_err(|error| error.to_string())?;
        parts.headers.extend(collected.trailers().cloned().unwrap_or_default());
        Ok(Response::from_parts(parts, collected.to_bytes()))
    };
    let answer = answer.await;
    driving.abort();
    answer
}

/// grpc.health.v1.HealthCheckRequest and HealthCheckResponse.
#[derive(Clone, PartialEq, prost::Message)]
struct GrpcHealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GrpcHealthResponse {
    /// 1 = SERVING
    #[prost(int32, tag = "1")]
    status: i32,
}

const GRPC_SERVING: i32 = 1;
/// A gRPC message stands after a byte (not compressed) and its length.
const GRPC_PREFIX_BYTES: usize = 5;

async fn grpc(service: &str, authority: &str, stream: Stream) -> Result<bool, String> {
    let message = GrpcHealthRequest { service: service.to_owned() }.encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    body.extend(message);
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, probe::USER)
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let response = ask_h2(stream, request).await?;
    if response.headers().get("grpc-status").is_none_or(|status| status != "0") {
        return Ok(false);
    }
    let message = response.body().get(GRPC_PREFIX_BYTES..).unwrap_or_default();
    let answer = GrpcHealthResponse::decode(message).map_err(|error| error.to_string())?;
    Ok(answer.status == GRPC_SERVING)
}

async fn tcp(send: Option<&[u8]>, receive: &[Arc<[u8]>], mut stream: Stream) -> Result<bool, String> {
    if let Some(send) = send {
        stream.write_all(send).await.map_err(|error| error.to_string())?;
        stream.flush().await.map_err(|error| error.to_string())?;
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

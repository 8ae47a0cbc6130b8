//! Sends a request to an endpoint, and again to another when that is safe and allowed.
//!
//! Bodies are never stored: a try that took something of the body cannot be repeated, one that did not hands it on.

use std::{cell::Cell, net::SocketAddr, pin::pin, rc::Rc, time::Duration};

use http::{Response, StatusCode, Version};
use http_body::Body as _;
use tokio::time::Instant;
use weft_routing::{
    Forward, RetryPolicy, Route, Thresholds, VirtualHost,
    matcher::Picked,
    retry::{self, Decision, Failure, Tried, Why},
};

use super::{
    attempt::{Answered, Trying, attempt, send_copy},
    body::{RequestBody, ResponseBody, TryBody},
    broken::Broken,
    grpc::{self, Rpc},
    h1::heads,
    inbound::Inbound,
    quiet::Watch,
    reply::{Reason, respond},
    target::Target,
    timer::Timer,
    times::{TIMEOUT, Times, Waited},
};
use crate::{
    peer::{ChainView, Peer},
    record::{EXPECTED_TIMEOUT, Kind, PREVIOUS_TRIES, Reach, Recording, UsedLease, flags},
    upstream::{
        cluster::{ClusterState, EndpointState},
        limits::{Raised, thresholds},
        outlier::Outcome,
        probe::{self, is_health_check},
    },
    worker::Direction,
};

/// A stream in which nothing moves ends after this, unless the configuration says otherwise.
pub const STREAM_IDLE: Duration = Duration::from_secs(300);
/// For our own check of the app.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// Tries remembered so as not to meet the same endpoint again.
const TRIED_MAX: usize = 8;

/// Everything that was decided about a request before its first try.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    pub peer: &'a Rc<Peer>,
    pub view: &'a Rc<ChainView>,
    pub route: &'a Route,
    pub vhost: &'a VirtualHost,
    pub forwarding: &'a Forward,
    pub picked: Option<&'a Picked<'a>>,
    pub cluster: &'a Rc<ClusterState>,
    pub downstream: Version,
    /// The request's client, where its body does not lead there: it has none.
    pub bodiless: &'a Inbound,
}

impl<'a> Outgoing<'a> {
    /// The circuit breakers of the route's priority.
    pub fn limits(&self) -> &'a Thresholds {
        thresholds(&self.cluster.cluster, self.forwarding.priority)
    }

    /// For how long nothing may move in a stream or tunnel; `None`: for ever.
    pub fn idle_timeout(&self) -> Option<Duration> {
        let said = self.forwarding.idle_timeout.or(self.view.config.timeouts.stream_idle);
        Some(said.unwrap_or(STREAM_IDLE)).filter(|limit| !limit.is_zero())
    }
}

/// What kind of request is sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    Plain,
    /// Keeps its `Connection: upgrade`.
    Upgrade,
    /// Ends here; only bytes go on.
    Connect,
}

type Refusal = (Recording, Reason);

/// Tries until there is an answer, or no reason to try on.
pub async fn forward(
    outgoing: Outgoing<'_>,
    mut target: Target,
    body: RequestBody,
    mut record: Recording,
    timer: &mut Timer,
) -> Result<Response<ResponseBody>, Refusal> {
    let Outgoing { cluster, peer, forwarding, .. } = outgoing;
    if peer.direction == Direction::Inbound && peer.principal.is_some() {
        if is_health_check(&target.method, &target.path, &target.headers, !body.ended())
            && let Some(probe) = cluster.probes.find(&target.host, &target.path, std::time::Instant::now())
        {
            let status = probe.status(|| check(outgoing, &target)).await;
            record.kind = Kind::HealthCheck;
            return Ok(respond(record, status, http::HeaderMap::new(), bytes::Bytes::new()));
        }
        record.expected_timeout = expected_timeout(&mut target);
    }
    record.reach.set(Reach::Here);
    if cluster.drops(|| peer.worker.random()) {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return Err((record, Reason::new(status, flags::DROPPED, "drop_overload", "dropped on purpose\n")));
    }
    let limits = outgoing.limits();
    let Some(counted) = cluster.counts.requests.raise_below(limits.requests_max) else {
        peer.worker.shard.borrow_mut().add(cluster.meters.overflows, 1);
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return Err((
            record,
            Reason::new(status, flags::OVERFLOW, "upstream_overflow", "too many requests\n"),
        ));
    };
    record.raised[1] = Some(counted);
    cluster.budget.borrow_mut().deposit();
    if !forwarding.mirrors.is_empty() {
        mirror(outgoing, &target, &body);
    }
    let mut times = Times::of(&outgoing, record.started().into(), &body);
    let safe;
    let policy = match &forwarding.retry {
        // What our app does for a try that is already not the first would be tried for nothing, tries times tries.
        Some(policy) if !is_part_of_retry(&target) => &**policy,
        _ => {
            safe = RetryPolicy::safe();
            &safe
        }
    };
    let mut tried: smallvec::SmallVec<[SocketAddr; TRIED_MAX]> = smallvec::SmallVec::new();
    let to_member = record.cluster.as_ref().is_some_and(|labels| labels.member.is_some());
    let mut retrying: Option<Raised> = None;
    let host = target.host.clone();
    loop {
        record.tries += 1;
        let Some(endpoint) = cluster.pick(&tried, peer.worker.random(), peer.original()) else {
            return Err((record, no_endpoint()));
        };
        record.upstream_host = Some(endpoint.address);
        record.raised[2] = Some(Raised::new(&endpoint.active));
        let method = target.method.clone();
        let last_try = record.tries > policy.retries_max;
        // Every try gives its head back, but one that is cut off by its own time.
        let spare = (!last_try && policy.per_try_timeout.is_some()).then(|| target.clone());
        let per_try = policy.per_try_timeout.filter(|limit| !limit.is_zero());
        outgoing.name_try(&mut target, &endpoint, record.tries);
        let moved = Cell::new(false);
        let end = to_member.then(|| times.told(per_try)).flatten();
        let trying = Trying { record: &record, end, to_member, moved: &moved };
        let waited = {
            let trying = pin!(attempt(outgoing, &endpoint, target, &body, trying));
            times.wait(trying, &body, per_try, &moved, (&peer.worker, &mut *timer)).await
        };
        let (failure, ended) = match waited {
            Waited::Done(Ok(answered)) => match failure_status(&answered.response, record.rpc) {
                Some(failure) => (failure, Ended::Answered(answered)),
                None => {
                    cluster.note(&endpoint, Outcome::Good, 0);
                    return Ok(finish(outgoing, answered, &endpoint, record, times));
                }
            },
            Waited::Done(Err(broken)) => (broken.failure, Ended::Broken(broken)),
            late => {
                let broken = match late {
                    Waited::Unsent => Broken::unsent(),
                    Waited::Quiet => Broken::quiet(),
                    _ => Broken::timeout(times.head().is_some_and(|whole| whole <= Instant::now())),
                };
                (broken.failure, Ended::Broken(broken))
            }
        };
        count_failure(outgoing, &endpoint, failure, &ended);
        let elsewhere = failure == Failure::Connect && cluster.has_untried(&tried, endpoint.address);
        let state = Tried {
            method: &method,
            tries: record.tries,
            body_replayable: body.can_repeat(),
            response_started: false,
            elsewhere,
        };
        let worker = &peer.worker;
        let decision = {
            let mut budget = cluster.budget.borrow_mut();
            retry::decide(policy, failure, &state, &mut budget, worker.clock(), worker.random())
        };
        let (spare, ended) = ended.spare(spare);
        match (decision, spare) {
            (Decision::Retry { after }, Some(again))
                if !ended.is_last()
                    && (elsewhere || retrying.is_some() || cluster.counts.may_retry(limits)) =>
            {
                if tried.len() < TRIED_MAX {
                    tried.push(endpoint.address);
                }
                worker.shard.borrow_mut().add(cluster.meters.retries, 1);
                if !elsewhere {
                    retrying.get_or_insert_with(|| cluster.counts.retries.raise());
                }
                drop(ended);
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
                target = again;
                target.host = host.clone(); // the last endpoint's name may stand there
            }
            (decision, _) => {
                let exhausted = decision == Decision::GiveUp(Why::Exhausted) && record.tries > 1;
                return match ended {
                    Ended::Answered(answered) => {
                        if exhausted {
                            record.flags = flags::RETRIES_EXHAUSTED;
                        }
                        Ok(finish(outgoing, answered, &endpoint, record, times))
                    }
                    Ended::Broken(broken) => {
                        if let Some(log) = &mut record.log {
                            log.transport_failure = broken.text.clone().into();
                        }
                        let mut reason = broken.reason();
                        if exhausted {
                            reason.flags = flags::RETRIES_EXHAUSTED;
                        }
                        Err((record, reason))
                    }
                };
            }
        }
    }
}

/// Asks the app how it is, in our own words.
#[cold]
async fn check(outgoing: Outgoing<'_>, asked: &Target) -> StatusCode {
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::USER_AGENT, probe::USER);
    let target =
        Target { method: http::Method::GET, host: asked.host.clone(), path: asked.path.clone(), headers };
    let asking = send_copy(outgoing.cluster, outgoing.peer, target, TryBody::empty(), Version::HTTP_11);
    match tokio::time::timeout(CHECK_TIMEOUT, asking).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            tracing::debug!(error, "the app does not answer a health check");
            StatusCode::SERVICE_UNAVAILABLE
        }
        Err(_) => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// Whether the app says that it works for a request that somebody tries again.
fn is_part_of_retry(target: &Target) -> bool {
    let said = target.headers.get(PREVIOUS_TRIES).and_then(|count| count.to_str().ok()?.parse::<u32>().ok());
    said.is_some_and(|tries| tries > 0)
}

/// How long the caller waits. The app has no use for it.
fn expected_timeout(target: &mut Target) -> Option<Duration> {
    let said = target.headers.remove(EXPECTED_TIMEOUT)?;
    Some(Duration::from_millis(said.to_str().ok()?.parse().ok()?))
}

/// Sends copies whose answers nobody reads. A body is copied while the request's own endpoint takes it.
#[cold]
fn mirror(outgoing: Outgoing<'_>, target: &Target, body: &RequestBody) {
    let Outgoing { peer, view, forwarding, .. } = outgoing;
    for mirror in &forwarding.mirrors {
        let hit = peer.worker.random() % 1_000_000 < u64::from(mirror.fraction_millionths);
        let cluster = view.routes.cluster(mirror.cluster).and_then(|index| view.live.cluster(index));
        let Some((cluster, _)) = cluster.filter(|_| hit) else { continue };
        let (cluster, peer, target) = (Rc::clone(cluster), Rc::clone(peer), target.clone());
        let (downstream, body) = (outgoing.downstream, body.copy());
        tokio::task::spawn_local(async move {
            let sent =
                tokio::time::timeout(TIMEOUT, send_copy(&cluster, &peer, target, body, downstream)).await;
            if !matches!(sent, Ok(Ok(_))) {
                tracing::debug!(cluster = %cluster.cluster.name, "a mirrored request failed");
            }
        });
    }
}

/// How a try ended.
enum Ended {
    Answered(Answered),
    Broken(Broken),
}

impl Ended {
    /// The head to send again: the one given back, else the copy.
    fn spare(mut self, copy: Option<Target>) -> (Option<Target>, Ended) {
        let given_back = match &mut self {
            Ended::Broken(broken) => broken.head.take(),
            Ended::Answered(answered) => answered.head.take(),
        };
        (given_back.or(copy), self)
    }

    fn is_last(&self) -> bool {
        matches!(self, Ended::Broken(broken) if broken.last)
    }
}

pub fn no_endpoint() -> Reason {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Reason::new(status, flags::NO_HEALTHY_UPSTREAM, "no_healthy_upstream", "no healthy upstream\n")
}

fn failure_status(response: &Response<Inbound>, rpc: Rpc) -> Option<Failure> {
    let status = response.status();
    let grpc_status = rpc
        .has_status()
        .then(|| response.headers().get("grpc-status"))
        .flatten()
        .and_then(|value| value.to_str().ok()?.parse::<i32>().ok())
        .filter(|code| *code != 0);
    let suspicious = grpc_status.is_some() || status.is_server_error() || status.is_client_error();
    suspicious.then_some(Failure::Status { status, grpc_status })
}

fn count_failure(outgoing: Outgoing<'_>, endpoint: &EndpointState, failure: Failure, ended: &Ended) {
    let outcome = match (failure, ended) {
        (Failure::Status { status, grpc_status }, _) => Some(Outcome::of(status.as_u16(), grpc_status)),
        (_, Ended::Broken(broken)) if broken.is_overflow() || broken.is_blameless() => None,
        _ => Some(Outcome::LocalFailure),
    };
    if let Some(outcome) = outcome {
        outgoing.cluster.note(endpoint, outcome, outgoing.peer.worker.random());
    }
    let meters = &outgoing.cluster.meters;
    if let Ended::Broken(broken) = ended {
        let mut shard = outgoing.peer.worker.shard.borrow_mut();
        match broken.failure {
            Failure::Connect if broken.is_overflow() => shard.add(meters.overflows, 1),
            Failure::Connect => shard.add(meters.connect_failures, 1),
            _ => shard.add(meters.requests(0), 1),
        }
        if !broken.text.is_empty() {
            tracing::info!(cluster = %outgoing.cluster.cluster.name, error = broken.text, "a try failed");
        }
    }
}

/// Turns the upstream's head into ours.
fn finish(
    outgoing: Outgoing<'_>,
    answered: Answered,
    endpoint: &Rc<EndpointState>,
    mut record: Recording,
    times: Times,
) -> Response<ResponseBody> {
    let Outgoing { peer, cluster, .. } = outgoing;
    let (mut parts, body) = answered.response.into_parts();
    if let Some(sent) = answered.head {
        heads::give_back_map(sent.headers);
    }
    peer.worker.shard.borrow_mut().add(cluster.meters.requests(parts.status.as_u16()), 1);
    outgoing.edit_response(&mut parts.headers, endpoint.address, &record);
    parts.version = Version::HTTP_11; // the codecs write what their connections speak
    parts.extensions = http::Extensions::new();
    let translated = match record.rpc {
        Rpc::Translated(format) => grpc::translate_answer(&mut parts, format, body.is_end_stream()),
        _ => None,
    };
    record.on_response(parts.status, &parts.headers);
    let early = record.request_body.as_ref().is_some_and(|body| !body.ended());
    record.lease = Some(UsedLease { lease: answered.lease, endpoint: Rc::clone(endpoint), early });
    let watch = Watch::new(&peer.worker, times.idle, record.request_body.clone());
    let mut body = ResponseBody::upstream(body, record, watch, times.whole());
    if let Some(limit) = times.after_request() {
        body.end_after_request(limit);
    }
    if let Some(answer) = translated {
        body.translate(answer, &parts.headers);
    }
    Response::from_parts(parts, body)
}

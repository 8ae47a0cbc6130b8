//! Our own link: first contact, renewal, and the one stream of a running proxy.
//!
//! The stream's hello becomes a Workload object; the stream's life is its lease; measurements come up
//! and are acknowledged once they are durable. A proxy speaks for its own identity only: whatever it
//! says of another service is refused.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weft_identity::SpiffeId;
use weft_link::{
    Ack, Buckets, CELLS_MAX, Down, Hello, JoinRequest, JoinResponse, LinkService, RenewRequest, SignedList,
    Up, Welcome, up,
};

use super::Caller;
use crate::api::audit::Entry;
use crate::authority::Refusal;
use crate::core::Core;
use crate::leases::{Hold, LEASE};
use crate::measure::{Measure, Taken};
use crate::snapshot::ServiceId;
use crate::workloads::{self, WorkloadError};

/// How long a proxy may take for its hello.
const HELLO_MAX: Duration = Duration::from_secs(10);
/// Increments of one stream that wait for the disk at once.
const IN_FLIGHT_MAX: usize = 64;
/// How long the increments of an ended stream may take to be durable.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// First contacts a second, and how many may come at once.
const JOINS_PER_SECOND: f64 = 50.0;
const JOINS_BURST: f64 = 200.0;

/// The link's server.
pub struct Link {
    core: Arc<Core>,
    joins: Mutex<Bucket>,
    shutdown: CancellationToken,
}

/// A token bucket.
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let filled = self.tokens + now.duration_since(self.at).as_secs_f64() * JOINS_PER_SECOND;
        self.tokens = filled.min(JOINS_BURST);
        self.at = now;
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }
}

impl Link {
    /// Over the shared parts.
    pub fn new(core: Arc<Core>, shutdown: CancellationToken) -> Link {
        let joins = Mutex::new(Bucket { tokens: JOINS_BURST, at: Instant::now() });
        Link { core, joins, shutdown }
    }

    /// Writes down what left this house.
    fn given(&self, who: &str, caller: &Caller, id: &str, issued: &weft_identity::Issued) {
        let object = format!("certificate {} of {id}", issued.serial_hex);
        self.core.audit.change(&entry(who, caller, "issue", &object, 200, ""), SystemTime::now());
    }

    fn answer(&self, issued: weft_identity::Issued) -> Response<JoinResponse> {
        let bundle = self.core.authority.bundle();
        Response::new(JoinResponse {
            chain_der: issued.chain.iter().map(|certificate| certificate.to_vec()).collect(),
            bundle_pem: bundle.to_pem(),
            trust_domain: bundle.trust_domain().to_string(),
        })
    }

    fn refuse(&self, what: &'static str, who: &str, caller: &Caller, refusal: &Refusal) -> Status {
        self.core.counters.count(what, refusal.label());
        tracing::warn!(what, who, reason = refusal.label(), "{refusal}");
        let code = if matches!(refusal, Refusal::Store(_)) { 503 } else { 403 };
        let by = caller.id.as_ref().map_or("unknown", |id| id.as_str());
        let object = format!("certificate of {who}");
        self.core
            .audit
            .refusal(&entry(by, caller, "issue", &object, code, refusal.label()), SystemTime::now());
        match refusal {
            Refusal::Store(_) => Status::unavailable(refusal.to_string()),
            _ => Status::permission_denied(refusal.to_string()),
        }
    }

    fn unwritten(&self, id: &SpiffeId, workload: &ServiceId, error: &WorkloadError) -> Status {
        if !matches!(error, WorkloadError::Taken { .. }) {
            return Status::unavailable(format!("the workload can't be written: {error}"));
        }
        self.core.counters.count("hello_refused", "workload_taken");
        tracing::warn!(%id, %workload, %error, "hello refused");
        Status::permission_denied(error.to_string())
    }

    fn ttl(&self) -> Duration {
        self.core.now().mesh.certificates.ttl.get()
    }
}

fn entry<'a>(
    who: &'a str,
    caller: &Caller,
    verb: &'a str,
    object: &'a str,
    result: u16,
    reason: &'a str,
) -> Entry<'a> {
    let peer = caller.from.map_or_else(String::new, |from| from.to_string());
    Entry { who, peer, verb, object, result, reason, revision: None }
}

/// The caller's identity; without one there is nothing to say.
fn member(extensions: &http::Extensions) -> Result<(SpiffeId, Caller), Status> {
    let caller = extensions.get::<Caller>().cloned().unwrap_or_default();
    let id = caller.id.clone();
    let id = id.ok_or_else(|| Status::unauthenticated("no client certificate: join first"))?;
    Ok((id, caller))
}

/// What is revoked, as members read it.
fn told(crl: &weft_identity::Crl) -> weft_link::Crl {
    let lists = crl.lists().iter();
    let lists = lists.map(|list| SignedList { crl_der: list.der.clone(), issuer_der: list.issuer.to_vec() });
    weft_link::Crl { lists: lists.collect() }
}

#[tonic::async_trait]
impl LinkService for Link {
    type ConnectStream = ReceiverStream<Result<Down, Status>>;

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
        let wanted = request.into_inner();
        let who = format!("{}/{}", wanted.namespace, wanted.service);
        let free = self.joins.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take(Instant::now());
        if !free {
            self.core.counters.count("join_refused", "rate");
            return Err(Status::resource_exhausted("too many joins at once: try again in a second"));
        }
        let asked = (wanted.namespace.as_str(), wanted.service.as_str());
        let now = SystemTime::now();
        let asker = caller.asker();
        let joined = self.core.authority.join(
            self.core.store.as_ref(),
            asked,
            &wanted.token,
            &wanted.csr_der,
            &asker,
            (now, self.ttl()),
        );
        match joined.await {
            Ok(issued) => {
                self.core.counters.count("joined", "token");
                tracing::info!(who, serial = issued.serial_hex, "joined");
                self.given(&format!("join token for {who}"), &caller, &who, &issued);
                Ok(self.answer(issued))
            }
            Err(refusal) => Err(self.refuse("join_refused", &who, &caller, &refusal)),
        }
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<JoinResponse>, Status> {
        let (id, caller) = member(request.extensions())?;
        if id.namespace().is_none() {
            return Err(Status::permission_denied(format!("{id} is no service's identity")));
        }
        let (store, csr_der) = (self.core.store.as_ref(), &request.get_ref().csr_der);
        let (asker, now) = (caller.asker(), SystemTime::now());
        // The handshake asked this too, perhaps long ago.
        if caller.expires.is_some_and(|end| end <= now) {
            return Err(self.refuse(
                "renew_refused",
                id.as_str(),
                &caller,
                &Refusal::Ended { id: id.clone() },
            ));
        }
        match self.core.authority.renew(store, csr_der, &id, &asker, now, self.ttl()).await {
            Ok(issued) => {
                self.given(id.as_str(), &caller, id.as_str(), &issued);
                Ok(self.answer(issued))
            }
            Err(refusal) => Err(self.refuse("renew_refused", id.as_str(), &caller, &refusal)),
        }
    }

    async fn connect(
        &self,
        request: Request<Streaming<Up>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (id, Caller { expires, .. }) = member(request.extensions())?;
        let mut ups = request.into_inner();
        let first = tokio::time::timeout(HELLO_MAX, ups.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello in time"))??;
        let Some(up::Message::Hello(hello)) = first.and_then(|up| up.message) else {
            return Err(Status::invalid_argument("the first message must be a hello"));
        };
        if let Err(reason) = check(&hello, &id) {
            self.core.counters.count("hello_refused", "identity_or_name");
            tracing::warn!(%id, workload = hello.workload_name, reason, "hello refused");
            return Err(Status::permission_denied(reason));
        }
        let workload = ServiceId::new(hello.namespace.as_str(), hello.workload_name.as_str());
        let store = self.core.store.as_ref();
        let free = workloads::free(store, &workload, id.as_str()).await;
        free.map_err(|error| self.unwritten(&id, &workload, &error))?;
        // Held before it is written: an older stream's end must not delete what this one writes.
        let hold = self.core.leases.hold(workload.clone(), id.as_str()).ok_or_else(|| {
            let why = "another service's proxy holds its lease".to_owned();
            self.unwritten(&id, &workload, &WorkloadError::Taken { workload: workload.clone(), why })
        })?;
        let written = workloads::write(store, &hello, id.as_str(), SystemTime::now()).await;
        written.map_err(|error| self.unwritten(&id, &workload, &error))?;
        let name = workload.to_string();
        let service = format!("{}/{}", hello.namespace, hello.service);
        self.core.proxies.connected(&name, &service, &hello.kind);
        // Perhaps another process with another disk.
        self.core.proxies.kept(&name, None);
        if let Some(expires) = expires {
            self.core.proxies.certificate(&name, expires);
        }
        tracing::info!(workload = %name, address = hello.address, "proxy connected");
        let (downs, stream) = mpsc::channel(IN_FLIGHT_MAX * 2);
        // Before the welcome says which bundle is in force: what changes after it is told.
        let mut bundles = self.core.authority.bundles();
        let bundle = bundles.borrow_and_update().clone();
        let welcome = Welcome {
            lease_seconds: u32::try_from(LEASE.as_secs()).unwrap_or(15),
            bundle_pem: bundle.to_pem(),
        };
        // The channel is new and empty.
        let _ = downs.try_send(Ok(welcome.into()));
        if let Some(crl) = bundle.crl() {
            let _ = downs.try_send(Ok(told(crl).into()));
        }
        // An agent beside a foreign proxy counts nothing.
        let counts = matches!(hello.kind.as_str(), "" | "weft");
        if counts {
            self.core.history.opened(&name, &service, hello.started, SystemTime::now());
        }
        let session = Session {
            core: self.core.clone(),
            workload,
            service,
            counts,
            downs,
            bundles,
            bundle,
            hold: Some(hold),
        };
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move { session.run(ups, shutdown).await });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Whether a hello is one that this identity may say.
fn check(hello: &Hello, id: &SpiffeId) -> Result<(), String> {
    if id.namespace() != Some(hello.namespace.as_str())
        || id.service_account() != Some(hello.service.as_str())
    {
        return Err(format!("{id} may not say hello as {}/{}", hello.namespace, hello.service));
    }
    if hello.address.parse::<IpAddr>().is_err() {
        return Err(format!("{:?} is no IP address", hello.address));
    }
    Ok(())
}

struct Session {
    core: Arc<Core>,
    workload: ServiceId,
    service: String,
    counts: bool,
    downs: mpsc::Sender<Result<Down, Status>>,
    bundles: watch::Receiver<weft_identity::Bundle>,
    /// What the proxy was told of it.
    bundle: weft_identity::Bundle,
    hold: Option<Hold>,
}

impl Session {
    async fn run(mut self, mut ups: Streaming<Up>, shutdown: CancellationToken) {
        let name = self.workload.to_string();
        let mut in_flight = FuturesUnordered::new();
        let mut questions = self.core.connections.questions();
        loop {
            tokio::select! {
                up = ups.message(), if in_flight.len() < IN_FLIGHT_MAX => match up {
                    Ok(Some(Up { message: Some(up::Message::Buckets(buckets)) })) => match self.own(buckets) {
                        Ok(buckets) => in_flight.push(durable(self.core.history.clone(), name.clone(), buckets)),
                        Err(reason) => {
                            self.core.counters.count("buckets_refused", "not_own");
                            tracing::warn!(proxy = name, reason, "measurements refused");
                            let _ = self.downs.send(Err(Status::invalid_argument(reason))).await;
                            break;
                        }
                    },
                    Ok(Some(Up { message: Some(up::Message::Leave(_)) })) => self.leave().await,
                    Ok(Some(Up { message: Some(up::Message::Health(health)) })) => {
                        let store = self.core.store.as_ref();
                        if let Err(error) = workloads::health(store, &self.workload, &health.status).await {
                            tracing::warn!(proxy = name, %error, "health not noted");
                        }
                    }
                    Ok(Some(Up { message: Some(up::Message::Kept(kept)) })) => {
                        // A time that no clock can have is nobody's.
                        let confirmed = Duration::from_secs(kept.confirmed_unix);
                        self.core.proxies.kept(&name, SystemTime::UNIX_EPOCH.checked_add(confirmed));
                    }
                    Ok(Some(Up { message: Some(up::Message::Connections(page)) })) => {
                        self.core.connections.answered(&name, page);
                    }
                    // Another hello changes nothing; what a newer proxy says is not for us.
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => break,
                },
                Some(ack) = in_flight.next(), if !in_flight.is_empty() => {
                    if self.downs.send(Ok(Ack::into(ack))).await.is_err() {
                        break;
                    }
                }
                Ok(()) = self.bundles.changed() => {
                    if self.tell_bundle().await.is_err() {
                        break;
                    }
                }
                Ok(question) = questions.recv() => {
                    if self.downs.send(Ok(question.into())).await.is_err() {
                        break;
                    }
                }
                () = self.downs.closed() => break,
                () = shutdown.cancelled() => break,
            }
        }
        self.core.proxies.closed(&name, SystemTime::now());
        // What came in before the end counts, also when nobody is there to be told.
        let _ = tokio::time::timeout(DRAIN_MAX, in_flight.for_each(|_| std::future::ready(()))).await;
        if self.counts && !shutdown.is_cancelled() {
            self.core.history.closed(&name, SystemTime::now());
        }
    }

    /// Roots and what is revoked change together or apart.
    async fn tell_bundle(&mut self) -> Result<(), mpsc::error::SendError<Result<Down, Status>>> {
        let bundle = self.bundles.borrow_and_update().clone();
        if bundle.roots() != self.bundle.roots() {
            self.downs.send(Ok(weft_link::Bundle { bundle_pem: bundle.to_pem() }.into())).await?;
        }
        if let Some(crl) = bundle.crl().filter(|crl| self.bundle.crl() != Some(crl)) {
            self.downs.send(Ok(told(crl).into())).await?;
        }
        self.bundle = bundle;
        Ok(())
    }

    async fn leave(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        self.core.history.left(&self.workload.to_string());
        if hold.release()
            && let Err(error) = workloads::remove(self.core.store.as_ref(), &self.workload).await
        {
            tracing::warn!(workload = %self.workload, %error, "the workload is not removed; its lease will");
            self.core.leases.grace(self.workload.clone(), tokio::time::Instant::now());
        }
    }

    /// Only what the proxy itself has seen: calls to its service, or its service's calls to outside.
    fn own(&self, buckets: Buckets) -> Result<Buckets, String> {
        if buckets.cells.len() > CELLS_MAX || !buckets.start_unix.is_multiple_of(10) {
            return Err("too many cells, or a window that starts where none does".to_owned());
        }
        for cell in &buckets.cells {
            let own = match cell.direction.as_str() {
                "inbound" => cell.service == self.service,
                "external" => cell.caller == self.service,
                _ => false,
            };
            if !own {
                return Err(format!("{} may not count {} to {}", self.service, cell.caller, cell.service));
            }
        }
        Ok(buckets)
    }
}

async fn durable(history: Arc<Measure>, proxy: String, buckets: Buckets) -> Ack {
    let ack = Ack { start_unix: buckets.start_unix, sequence: buckets.sequence };
    while history.add(&proxy, buckets.clone()).await == Taken::Later {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    ack
}

//! The admin pages (Envoy's paths) on loopback, and the metrics on a port of their own.
//!
//! Pages that change something want a POST and the token of the state directory, since any local process can reach
//! loopback.

use std::{convert::Infallible, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{
    Method, Request, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::sync::CancellationToken;
use weft_routing::{Address, Endpoints};
use weft_telemetry::{Exposition, Registry, exposition};

use crate::{
    certificates::{CertState, Identity},
    config::VERSION,
    config_feed::ConfigFeed,
    overload::{Overload, crowd::Crowd},
    worker::{Command, Direction, Mailbox},
};

/// What the pages show and move.
#[derive(Clone)]
pub struct Admin {
    pub feed: ConfigFeed,
    pub identity: Identity,
    pub registry: Registry,
    pub overload: Arc<Overload>,
    pub workers: Vec<Mailbox>,
    /// Who this is, for `/config_dump`.
    pub node: Arc<str>,
    /// Cancelled when the proxy drains: it is not ready any more.
    pub draining: CancellationToken,
    /// Cancelled by `/quitquitquit`.
    pub quit: CancellationToken,
    pub token: Arc<str>,
}

/// Which port a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    Admin,
    /// Only `/metrics` and `/ready`: other machines may read it.
    Metrics,
}

/// Open connections to one of the ports; one more pushes out the oldest, so that nobody can keep others from asking.
const CONNECTIONS_MAX: usize = 16;

type Answer = Response<Full<Bytes>>;

/// Serves until the task is aborted. At any load: nothing here asks the overload manager.
pub async fn serve(admin: Admin, surface: Surface, listener: std::net::TcpListener) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, ?surface, "the port cannot be served");
            return;
        }
    };
    let crowd = Crowd::new(CONNECTIONS_MAX);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let admin = admin.clone();
        let mut place = crowd.enter();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let admin = admin.clone();
                async move { Ok::<_, Infallible>(admin.answer(surface, request).await) }
            });
            let serving = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = serving => {}
                () = place.pushed_out() => {}
            }
        });
    }
}

impl Admin {
    async fn answer(&self, surface: Surface, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
        match (surface, request.method(), path) {
            (_, &Method::GET, "/ready") => self.ready(),
            (Surface::Metrics, &Method::GET, "/metrics") => self.metrics(Exposition::negotiate(accept)).await,
            (Surface::Admin, &Method::GET, "/stats/prometheus") => {
                self.metrics(Exposition::negotiate(None)).await
            }
            (Surface::Admin, &Method::GET, "/stats") => self.stats().await,
            (Surface::Admin, &Method::GET, "/clusters") => self.clusters(),
            (Surface::Admin, &Method::GET, "/certs") => self.certs(),
            (Surface::Admin, &Method::GET, "/connections") => connections(),
            (Surface::Admin, &Method::GET, "/config_dump") => self.config_dump(),
            (Surface::Admin, _, "/drain_listeners" | "/quitquitquit") => self.change(&request),
            (Surface::Admin, &Method::GET, "/") => text(
                StatusCode::OK,
                "/ready /stats /stats/prometheus /config_dump /clusters /certs /connections\nPOST /drain_listeners /quitquitquit\n",
            ),
            _ => text(StatusCode::NOT_FOUND, "no such page\n"),
        }
    }

    /// Ready: there is a table, a certificate if one is needed, and no drain.
    fn ready(&self) -> Answer {
        if self.draining.is_cancelled() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "DRAINING\n");
        }
        let status = self.feed.status();
        if status.tables == 0 {
            return text(StatusCode::SERVICE_UNAVAILABLE, "INITIALIZING\n");
        }
        if status.stale {
            let age = status.lkg.age.unwrap_or_default().as_secs();
            return text(StatusCode::OK, format!("STALE lkg_age_s={age}\n"));
        }
        text(StatusCode::OK, "LIVE\n")
    }

    async fn merged(&self) -> weft_telemetry::shard::Merged {
        let mut snapshots = Vec::new();
        for worker in &self.workers {
            let (answer, snapshot) = oneshot::channel();
            worker.send(Command::Scrape(answer));
            snapshots.extend(snapshot.await);
        }
        snapshots.push(crate::lkg::measured(&self.feed, &self.registry));
        snapshots.push(self.overload.measured(&self.registry));
        if let Some(credentials) = self.identity.credentials() {
            snapshots.push(credentials.members.measured(&self.registry));
        }
        self.registry.merge(&snapshots)
    }

    async fn metrics(&self, form: exposition::Exposition) -> Answer {
        let body = form.render(&self.merged().await);
        let mut response = Response::new(Full::from(body));
        let kind = http::HeaderValue::from_static(form.content_type());
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }

    /// `name{labels}: value`, a line each.
    async fn stats(&self) -> Answer {
        let mut lines = String::new();
        for family in self.merged().await.families {
            for (labels, value) in family.series {
                let labels: Vec<String> =
                    labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let value = match value {
                    weft_telemetry::shard::Value::Counter(count) => count.to_string(),
                    weft_telemetry::shard::Value::Gauge(level) => level.to_string(),
                    weft_telemetry::shard::Value::Histogram(histogram) => {
                        let point = |q| {
                            histogram.quantile(q).map_or_else(|| "-".to_owned(), |value| value.to_string())
                        };
                        format!("count={} p50={} p99={}", histogram.count(), point(0.5), point(0.99))
                    }
                };
                lines.push_str(&format!("{}{{{}}}: {value}\n", family.metric.name, labels.join(",")));
            }
        }
        text(StatusCode::OK, lines)
    }

    /// Envoy's lines, those that scripts look for.
    fn clusters(&self) -> Answer {
        let mut lines = String::new();
        for (cluster, endpoints) in self.feed.clusters_with_endpoints() {
            for endpoint in endpoints.iter().flat_map(|endpoints: &Arc<Endpoints>| endpoints.all.iter()) {
                let address = match &endpoint.address {
                    Address::Ip(address) => address.to_string(),
                    Address::Name { host, port } => format!("{host}:{port}"),
                    Address::Pipe(path) => path.to_string(),
                };
                let name = &cluster.name;
                lines.push_str(&format!("{name}::{address}::health_flags::{}\n", health(endpoint.health)));
                lines.push_str(&format!("{name}::{address}::weight::{}\n", endpoint.weight));
            }
        }
        text(StatusCode::OK, lines)
    }

    fn certs(&self) -> Answer {
        let state = self.identity.watch().borrow().clone();
        let credentials = state.credentials();
        let expires_in = credentials
            .map(|one| one.svid.not_after().duration_since(SystemTime::now()).unwrap_or_default().as_secs());
        json_page(&json!({
            "state": match &state {
                CertState::Starting => "starting",
                CertState::Valid(_) => "valid",
                CertState::Failing { .. } => "failing",
            },
            "error": match &state { CertState::Failing { error, .. } => Some(error), _ => None },
            "certificates": credentials.map(|one| json!({
                "id": one.svid.id().as_str(),
                "serial": one.svid.serial_hex(),
                "generation": one.generation,
                "expires_in_seconds": expires_in,
                "trust_domain": one.bundle.trust_domain().as_str(),
                "roots": one.bundle.roots().len(),
                "revoked": one.bundle.crl().map(weft_identity::Crl::len),
            })),
        }))
    }

    /// What is in force, by name. Compiled forms are not xDS any more; keys and inline certificates are never shown.
    fn config_dump(&self) -> Answer {
        let status = self.feed.status();
        let clusters: Vec<_> = self
            .feed
            .clusters_with_endpoints()
            .iter()
            .map(|(cluster, endpoints)| {
                json!({
                    "name": &*cluster.name,
                    "tls": cluster.tls.is_some(),
                    "sni": cluster.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
                    "http": format!("{:?}", cluster.http.protocol),
                    "endpoints": endpoints.as_ref().map_or(0, |endpoints| endpoints.all.len()),
                    "stamp": cluster.stamp.as_ref().map(|stamp| stamp_json(stamp)),
                })
            })
            .collect();
        let listeners: Vec<_> = self
            .feed
            .listeners()
            .iter()
            .map(|listener| {
                let chains: Vec<_> = listener.chains.iter().map(|chain| &*chain.name).collect();
                json!({"name": &*listener.name, "address": listener.address, "chains": chains})
            })
            .collect();
        let routes: Vec<_> = self
            .feed
            .route_configs()
            .iter()
            .map(|config| {
                let vhosts: Vec<_> = config
                    .vhosts
                    .iter()
                    .map(|vhost| {
                        let routes: Vec<_> = vhost.routes.iter().map(|route| &*route.name).collect();
                        let domains: Vec<_> = vhost.domains.iter().map(|domain| &**domain).collect();
                        json!({"name": &*vhost.name, "domains": domains, "routes": routes})
                    })
                    .collect();
                json!({"name": &*config.name, "virtual_hosts": vhosts})
            })
            .collect();
        json_page(&json!({
            "node": &*self.node,
            "version": VERSION,
            "xds": {
                "connected": status.connected,
                "versions": status.versions,
                "last_error": status.last_error,
                "last_nack": status.last_nack,
                "tables": status.tables,
            },
            "lkg": {
                "stale": status.stale,
                "lkg_age_s": status.lkg.age.map(|age| age.as_secs()),
                "writes": status.lkg.writes,
                "write_failures": status.lkg.write_failures,
                "refused": status.lkg.refused,
            },
            "listeners": listeners,
            "routes": routes,
            "clusters": clusters,
        }))
    }

    fn change(&self, request: &Request<Incoming>) -> Answer {
        if request.method() != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "use POST\n");
        }
        let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if !same(given.as_bytes(), self.token.as_bytes()) {
            return text(StatusCode::UNAUTHORIZED, "the token is in the state directory: admin.token\n");
        }
        if request.uri().path() == "/quitquitquit" {
            self.quit.cancel();
            return text(StatusCode::OK, "OK\n");
        }
        // Not ready any more, and the control plane is told. The process stays: its owner ends it when it likes.
        self.draining.cancel();
        let inbound_only =
            request.uri().query().is_some_and(|query| query.split('&').any(|one| one == "inboundonly"));
        let all = [Direction::Inbound, Direction::Outbound];
        for direction in if inbound_only { &all[..1] } else { &all[..] } {
            for worker in &self.workers {
                worker.send(Command::Drain(*direction));
            }
        }
        text(StatusCode::OK, "OK\n")
    }
}

/// Compares in a time that does not tell where the first difference is.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// Every open connection of the process, those to the control plane too.
fn connections() -> Answer {
    let (all, _) = crate::connections::list();
    let open = all.iter().filter(|one| !one.closed).map(|one| {
        let secured = one.tls.version != 0;
        let named = |name: String| secured.then_some(name);
        json!({
            "local": one.local,
            "remote": one.remote,
            "accepted": one.accepted,
            "version": named(format!("{:?}", rustls::ProtocolVersion::from(one.tls.version))),
            "cipher": named(format!("{:?}", rustls::CipherSuite::from(one.tls.cipher))),
            "group": named(format!("{:?}", rustls::NamedGroup::from(one.tls.group))),
            "peer": one.peer.as_deref(),
            "open_seconds": SystemTime::now().duration_since(one.opened).unwrap_or_default().as_secs(),
        })
    });
    json_page(&json!({"connections": open.collect::<Vec<_>>()}))
}

fn stamp_json(stamp: &weft_routing::Stamp) -> serde_json::Value {
    json!({"kind": &*stamp.kind, "namespace": &*stamp.namespace, "name": &*stamp.name, "field": &*stamp.field,
        "revision": &*stamp.revision})
}

fn health(health: weft_routing::Health) -> &'static str {
    if health.usable() { "healthy" } else { "/failed_eds_health" }
}

fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    let mut response = Response::new(Full::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=UTF-8"));
    response
}

fn json_page(value: &serde_json::Value) -> Answer {
    let mut response = Response::new(Full::from(format!("{value:#}\n")));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

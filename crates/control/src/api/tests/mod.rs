//! The API over real sockets, in one process: loopback, port 0, a store of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is its message")]

mod apply;
mod doors;
mod objects;
mod roles;
mod watches;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use weft_store::Store;

use super::computed::Sight;
use super::{Parts, serve_parts};
use crate::snapshot::Snapshot;
use crate::world::World;
use crate::{bind, seed};

/// Nothing in these tests takes as long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running API.
struct Server {
    dir: TempDir,
    address: SocketAddr,
    token: String,
    store: Arc<dyn Store>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    value: Value,
}

impl Server {
    async fn start() -> Server {
        let dir = tempfile::tempdir().unwrap();
        let store = weft_store::open(dir.path().join("store.redb").to_str().unwrap()).unwrap();
        seed::seed(store.as_ref(), "mesh.internal", SystemTime::now()).await.unwrap();
        let listener = bind::tcp("API", "api", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let snapshot = snapshots(&store).await;
        let echo = axum::routing::get(|| async { "asked" }).post(|| async { "made" });
        let parts = Parts {
            store: store.clone(),
            state: dir.path().to_owned(),
            advertise: None,
            trust_domain: "mesh.internal".to_owned(),
            audit: Arc::new(super::audit::Audit::open(dir.path()).unwrap()),
            query: axum::Router::new().route("/query/v1/echo", echo),
            sight: Sight { snapshot, more: Box::new(Vec::new) },
        };
        let task = serve_parts(parts, listener, shutdown.clone()).unwrap();
        let token = std::fs::read_to_string(dir.path().join("admin.token")).unwrap();
        Server { dir, address, token, store, shutdown, task }
    }

    /// A request with the token over plain HTTP.
    async fn call(&self, method: Method, path: &str, media_type: &str, body: impl Into<Bytes>) -> Answer {
        let request = self.request(method, path).header("content-type", media_type);
        answer(self.send(request.body(Full::new(body.into())).unwrap()).await).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "application/json", "").await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, "application/json", body.to_string()).await
    }

    async fn put(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::PUT, path, "application/json", body.to_string()).await
    }

    async fn merge(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::PATCH, path, "application/merge-patch+json", body.to_string()).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, "application/json", "").await
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("authorization", format!("Bearer {}", self.token))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        timeout(PATIENCE, exchange(TcpStream::connect(self.address).await.unwrap(), request)).await.unwrap()
    }

    fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
        assert!(!self.dir.path().join("control.sock").exists(), "the socket goes with its server");
    }
}

/// Pictures of the store, without the addresses that `ingest` would write back between a test's steps.
async fn snapshots(store: &Arc<dyn Store>) -> tokio::sync::watch::Receiver<Arc<Snapshot>> {
    let mut world = World::new("mesh.internal", crate::config::ZONE);
    let mut changes = store.watch(None, weft_store::Selector::all()).await.unwrap();
    let (sender, receiver) = tokio::sync::watch::channel(Arc::default());
    tokio::spawn(async move {
        while let Some(batch) = changes.next().await {
            world.apply(batch);
            if sender.send(Arc::new(world.snapshot())).is_err() {
                return;
            }
        }
    });
    receiver
}

/// An object without what is computed when it is read.
fn plain(value: &Value) -> Value {
    let mut plain = value.clone();
    plain.as_object_mut().unwrap().remove("status");
    plain
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Response<Incoming>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

async fn answer(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let bytes = timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
    let value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    Answer { status: parts.status, headers: parts.headers, value }
}

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes";
const POLICIES: &str = "/apis/weft.dev/v1/namespaces/default/accesspolicies";

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    })
}

fn policy(name: &str) -> Value {
    json!({
        "apiVersion": "weft.dev/v1",
        "kind": "AccessPolicy",
        "metadata": {"name": name},
        "spec": {"action": "Allow", "rules": [{"from": [{"services": ["be1"]}]}]},
    })
}

fn route(name: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": name, "port": 80}],
            "rules": [{"backendRefs": [{"name": name, "port": 80}]}],
        },
    })
}

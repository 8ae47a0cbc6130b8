//! A small HTTP service of the demo: answers on its address, calls what it was told to call, and
//! writes each request received or sent to its ledger.
//!
//! It knows mesh names and `HTTP_PROXY`, nothing else of the mesh. The ledger is its own word on what
//! happened, written by this code and not by a proxy: what the mesh claims is held against it.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::json;

use super::client::{ProxyClient, proxy_from_env};

#[derive(Args)]
pub struct ServiceArgs {
    /// The service's name, as its ledger and answers carry it.
    #[arg(long)]
    name: String,
    /// The version it answers with.
    #[arg(long, default_value = "v1")]
    version: String,
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
    /// URLs that it calls for each request it gets.
    #[arg(long)]
    call: Vec<String>,
    /// One request in this many is answered 500 (0: none).
    #[arg(long, default_value_t = 0)]
    fail_every: u64,
    /// The ledger's file: one JSON line a request.
    #[arg(long)]
    ledger: PathBuf,
    /// A PEM file with certificate chain and key: serve TLS only.
    #[arg(long)]
    tls: Option<PathBuf>,
}

struct Service {
    name: String,
    version: String,
    calls: Vec<(String, String)>,
    fail_every: u64,
    served: AtomicU64,
    ledger: Ledger,
    client: ProxyClient,
}

pub async fn run(args: ServiceArgs) -> anyhow::Result<ExitCode> {
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("service {} cannot listen on {}", args.name, args.listen))?;
    let tls = args.tls.as_deref().map(tls_acceptor).transpose()?;
    let service = Arc::new(Service {
        calls: args.call.iter().map(|url| (host_label(url), url.clone())).collect(),
        name: args.name,
        version: args.version,
        fail_every: args.fail_every,
        served: AtomicU64::new(0),
        ledger: Ledger::open(&args.ledger)?,
        client: ProxyClient::new(proxy_from_env()),
    });
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => { tokio::time::sleep(Duration::from_millis(50)).await; continue }
            },
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        };
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        let tls = tls.clone();
        tokio::spawn(async move {
            let answer = hyper::service::service_fn(move |request| {
                let service = service.clone();
                async move { Ok::<_, Infallible>(service.answer(request).await) }
            });
            let mut server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            server.http1().timer(TokioTimer::new());
            // A caller that goes away ends its connection; the ledger has what was answered.
            match tls {
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        let _ = server.serve_connection(TokioIo::new(stream), answer).await;
                    }
                }
                None => {
                    let _ = server.serve_connection(TokioIo::new(stream), answer).await;
                }
            }
        });
    }
}

impl Service {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let id = header(&request, "x-request-id").unwrap_or_else(|| format!("{:016x}", fastrand::u64(..)));
        let from = header(&request, "x-demo-from").unwrap_or_else(|| "user".into());
        let path = request.uri().path().to_owned();
        let served = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        let mut calls = serde_json::Map::new();
        let mut status = StatusCode::OK;
        if self.fail_every > 0 && served.is_multiple_of(self.fail_every) {
            status = StatusCode::INTERNAL_SERVER_ERROR;
        } else {
            let answers =
                futures_util::future::join_all(self.calls.iter().map(|(to, url)| self.call(to, url, &id)))
                    .await;
            for ((to, _), answer) in self.calls.iter().zip(answers) {
                // BE4 is known to answer 500; its callers degrade. Any other failure is passed on.
                if answer != 200 && !(to == "be4" && answer == 500) {
                    status = StatusCode::BAD_GATEWAY;
                }
                calls.insert(to.clone(), json!(answer));
            }
        }
        self.ledger.write(
            &json!({"at": unix_ms(), "service": self.name, "version": self.version, "event": "received",
            "peer": from, "id": id, "path": path, "status": status.as_u16()}),
        );
        let body = json!({"service": self.name, "version": self.version, "calls": calls});
        let mut response = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        response
    }

    /// One call to another service. 0 stands for "no answer".
    async fn call(&self, to: &str, url: &str, id: &str) -> u16 {
        let request = Request::get(url)
            .header("x-request-id", id)
            .header("x-demo-from", &self.name)
            .body(Full::default());
        let status = match request {
            Ok(request) => {
                match tokio::time::timeout(Duration::from_secs(10), self.client.send(request)).await {
                    Ok(Ok((status, _))) => status,
                    _ => 0,
                }
            }
            Err(_) => 0,
        };
        self.ledger
            .write(&json!({"at": unix_ms(), "service": self.name, "version": self.version, "event": "sent",
            "peer": to, "id": id, "status": status}));
        status
    }
}

fn header(request: &Request<Incoming>, name: &str) -> Option<String> {
    Some(request.headers().get(name)?.to_str().ok()?.to_owned())
}

/// `http://be1.default.mesh.internal/x` → `be1`: how the ledger names the callee.
fn host_label(url: &str) -> String {
    let host = url.split("//").nth(1).unwrap_or(url);
    host.split(['.', ':', '/']).next().unwrap_or(host).to_owned()
}

pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Append-only, one write a line, so that a killed service leaves whole lines.
struct Ledger(Mutex<File>);

impl Ledger {
    fn open(path: &Path) -> anyhow::Result<Ledger> {
        let file = File::options().create(true).append(true).mode(0o600).open(path);
        Ok(Ledger(Mutex::new(file.with_context(|| format!("cannot open the ledger {}", path.display()))?)))
    }

    fn write(&self, line: &serde_json::Value) {
        let text = format!("{line}\n");
        if let Ok(mut file) = self.0.lock() {
            // A full disk must not stop the service; the missing line shows in the comparison.
            let _ = file.write_all(text.as_bytes());
        }
    }
}

fn tls_acceptor(path: &Path) -> anyhow::Result<tokio_rustls::TlsAcceptor> {
    use rustls::pki_types::pem::PemObject;
    let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let chain = rustls::pki_types::CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>()?;
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(&pem)?;
    let mut config = rustls::ServerConfig::builder_with_provider(weft_identity::tls::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tokio_rustls::TlsAcceptor::from(Arc::new(config)))
}

/// Reads a response to its end, so that the connection can be used again.
pub async fn drain(response: Response<Incoming>) -> Result<(u16, Bytes), hyper::Error> {
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_ledger_names_the_callee_by_its_first_label() {
        assert_eq!(super::host_label("http://be1.default.mesh.internal/x"), "be1");
        assert_eq!(super::host_label("http://be4:80/"), "be4");
        assert_eq!(super::host_label("http://be3/"), "be3");
    }
}

//! The command line's way to the control plane: its Unix socket, or its port with a token.
//!
//! One connection per question, which a command line can afford; a stream keeps its own. Errors say
//! which control plane was asked and, where the API answered with a `Status`, only its sentence.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A control plane that can be asked.
#[derive(Clone)]
pub struct Client {
    place: Place,
    /// `host:port` for the Host header.
    authority: String,
    token: Option<String>,
}

#[derive(Clone)]
enum Place {
    Unix(PathBuf),
    Plain { host: String, port: u16 },
    Tls { host: String, port: u16, config: Arc<rustls::ClientConfig> },
}

/// The API said no.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: u16,
    /// Kubernetes' word for it: `NotFound`, `Conflict`, `Invalid`, …
    pub reason: String,
    pub message: String,
}

/// A JSON answer with the warnings that came along.
pub struct Answer {
    pub value: Value,
    pub warnings: Vec<String>,
}

impl Client {
    /// The control plane whose state directory this is, as its owner.
    pub fn from_state(state: &Path) -> anyhow::Result<Client> {
        let socket = state.join(weft_control::api::SOCKET_FILE);
        if !socket.exists() {
            bail!(
                "no control plane runs with the state directory {}: start one with `weft control`, or name it with --state or --server",
                state.display()
            );
        }
        Ok(Client { place: Place::Unix(socket), authority: "localhost".to_owned(), token: None })
    }

    /// A control plane by its URL. The token is `WEFT_TOKEN`, else the one in the state directory;
    /// the CA to know it by is `WEFT_CA`, else the one in the state directory.
    pub fn from_server(url: &str, token: Option<&str>, state: Option<&Path>) -> anyhow::Result<Client> {
        if let Some(path) = url.strip_prefix("unix:") {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            return Ok(Client { place: Place::Unix(path), authority: "localhost".to_owned(), token: None });
        }
        let full = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
        let uri: Uri = full.parse().with_context(|| format!("`{url}` is no URL; write https://HOST:7700"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            bail!("`{url}` names no host; write https://HOST:7700");
        }
        let port = uri.port_u16().unwrap_or(7700);
        let state = state.map_or_else(|| crate::commands::state_dir(None), Path::to_owned);
        let place = match uri.scheme_str() {
            Some("http") => Place::Plain { host: host.clone(), port },
            Some("https") => Place::Tls { host: host.clone(), port, config: tls_config(&state)? },
            _ => bail!("`{url}` is neither http:// nor https://"),
        };
        let stored =
            || std::fs::read_to_string(state.join("admin.token")).ok().map(|text| text.trim().to_owned());
        let token = token.filter(|token| !token.is_empty()).map(str::to_owned).or_else(stored);
        let authority =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Ok(Client { place, authority, token })
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.ask(Method::GET, path, None, "application/json").await?.value)
    }

    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        Ok(self.ask(Method::POST, path, Some(body), "application/json").await?.value)
    }

    pub async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.ask(Method::DELETE, path, None, "application/json").await?.value)
    }

    /// One question and its JSON answer; a refusal is a [`Refusal`].
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        media_type: &str,
    ) -> anyhow::Result<Answer> {
        let exchange = async {
            let response = self.send(method, path, body, media_type, "application/json").await?;
            let status = response.status();
            let warnings = warnings(&response);
            let limited = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX);
            let bytes = limited.collect().await.map_err(|error| self.broke(error))?.to_bytes();
            match serde_json::from_slice::<Value>(&bytes) {
                Ok(value) if status.is_success() => Ok(Answer { value, warnings }),
                Ok(value) => Err(refusal(status.as_u16(), &value).into()),
                Err(_) => Err(no_json(status.as_u16(), &bytes).into()),
            }
        };
        match timeout(ANSWER_TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => bail!("{self} did not answer in {} s", ANSWER_TIMEOUT.as_secs()),
        }
    }

    /// A table made by the server, as `kubectl` asks for it.
    pub async fn table(&self, path: &str) -> anyhow::Result<Value> {
        let response = self.send(Method::GET, path, None, "application/json", TABLE).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await.map_err(|error| self.broke(error))?.to_bytes();
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| no_json(status.as_u16(), &bytes))?;
        if status.is_success() { Ok(value) } else { Err(refusal(status.as_u16(), &value).into()) }
    }

    /// An answer without end, a JSON value a line (a watch).
    pub async fn stream(&self, path: &str, table: bool) -> anyhow::Result<Stream> {
        let accept = if table { TABLE } else { "application/json" };
        let response = self.send(Method::GET, path, None, "application/json", accept).await?;
        let status = response.status();
        if !status.is_success() {
            let bytes = response.into_body().collect().await.map_err(|error| self.broke(error))?.to_bytes();
            return Err(match serde_json::from_slice(&bytes) {
                Ok(value) => refusal(status.as_u16(), &value),
                Err(_) => no_json(status.as_u16(), &bytes),
            }
            .into());
        }
        Ok(Stream { body: response.into_body(), rest: Vec::new() })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        media_type: &str,
        accept: &str,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::ACCEPT, accept)
            .header(header::USER_AGENT, concat!("weft/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, media_type);
        }
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(Full::new(bytes)).with_context(|| format!("`{path}` is no path"))?;
        let connecting = timeout(CONNECT_TIMEOUT, self.connect(request));
        match connecting.await {
            Ok(response) => response.await,
            Err(_) => bail!("{self} can't be reached: no connection in {} s", CONNECT_TIMEOUT.as_secs()),
        }
    }

    /// Opens a connection and hands the request to it; the future given back waits for the answer.
    async fn connect(
        &self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = anyhow::Result<Response<Incoming>>> + use<> {
        let name = self.to_string();
        let unreachable = format!("{name} can't be reached (is it running?)");
        let opened: anyhow::Result<Opened> = async {
            match &self.place {
                Place::Unix(path) => handshake(UnixStream::connect(path).await?).await,
                Place::Plain { host, port } => {
                    handshake(TcpStream::connect((host.as_str(), *port)).await?).await
                }
                Place::Tls { host, port, config } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    let name = ServerName::try_from(host.clone())?;
                    let connector = tokio_rustls::TlsConnector::from(config.clone());
                    handshake(connector.connect(name, stream).await?).await
                }
            }
        }
        .await
        .context(unreachable);
        async move {
            let mut opened = opened?;
            opened.0.send_request(request).await.with_context(|| format!("{name} did not answer"))
        }
    }

    fn broke(&self, error: impl fmt::Display) -> anyhow::Error {
        anyhow::anyhow!("the answer of {self} broke off: {error}")
    }
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

struct Opened(hyper::client::conn::http1::SendRequest<Full<Bytes>>);

async fn handshake<S>(stream: S) -> anyhow::Result<Opened>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the control plane broke");
        }
    });
    Ok(Opened(sender))
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Unix(path) => write!(f, "the control plane at {}", path.display()),
            Place::Plain { .. } | Place::Tls { .. } => write!(f, "the control plane at {}", self.authority),
        }
    }
}

/// The lines of an answer without end.
pub struct Stream {
    body: Incoming,
    rest: Vec<u8>,
}

impl Stream {
    /// The next value; `None` when the server ended the stream.
    pub async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line).context("a line of the answer is no JSON")?));
            }
            if self.rest.len() > LINE_BYTES_MAX {
                bail!("a line of the answer has more than {LINE_BYTES_MAX} bytes");
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.context("the answer broke off")?.into_data() {
                        self.rest.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

fn refusal(code: u16, status: &Value) -> Refusal {
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    let message = match (text("message"), text("error")) {
        (message, _) if !message.is_empty() => message,
        (_, error) if !error.is_empty() => error,
        _ => format!("the control plane answered {code}"),
    };
    Refusal { code, reason: text("reason"), message }
}

fn no_json(code: u16, bytes: &[u8]) -> Refusal {
    let text: String = String::from_utf8_lossy(bytes).chars().take(200).collect();
    Refusal {
        code,
        reason: String::new(),
        message: format!("the control plane answered {code}: {}", text.trim()),
    }
}

fn warnings(response: &Response<Incoming>) -> Vec<String> {
    let texts = response.headers().get_all(header::WARNING).iter().filter_map(|value| value.to_str().ok());
    texts
        .map(|text| {
            let quoted = text.split_once('"').map_or(text, |(_, quoted)| quoted.trim_end_matches('"'));
            quoted.replace("\\\"", "\"").replace("\\\\", "\\")
        })
        .collect()
}

/// Trusts the API's own CA only: `WEFT_CA`, else that of the state directory.
fn tls_config(state: &Path) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    let authority = match std::env::var_os("WEFT_CA") {
        Some(path) => PathBuf::from(path),
        None => state.join("api/ca.pem"),
    };
    match CertificateDer::pem_file_iter(&authority) {
        Ok(certificates) => {
            for certificate in certificates {
                let certificate =
                    certificate.with_context(|| format!("{} is no PEM", authority.display()))?;
                roots
                    .add(certificate)
                    .with_context(|| format!("{} is no certificate", authority.display()))?;
            }
        }
        Err(_) => bail!(
            "no CA to know the control plane by: {} can't be read; set WEFT_CA to a copy of STATE/api/ca.pem",
            authority.display()
        ),
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

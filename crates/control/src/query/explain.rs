//! `weft explain`: what becomes of a request, decided by the code that the proxies run, on the configuration that they
//! are sent.
//!
//! The caller's proxy is asked first ([`outbound`]), then the proxy of the endpoint that it picks ([`inbound`]). Nothing
//! is sent: where chance decides, the answer follows the likeliest way and names the others.

mod inbound;
mod outbound;
mod table;
#[cfg(test)]
mod tests;
mod words;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query as Params, State};
use axum::http::header::HOST;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_model::Kind;
use weft_routing::Stamp;

use super::{Wrong, bad, known, service_named};
use crate::core::Core;
use crate::snapshot::{ServiceId, Snapshot};

/// A request that might be made.
#[derive(Debug, Clone)]
pub struct Question {
    /// The service whose app makes it.
    pub from: ServiceId,
    /// Its method; of bytes none is looked at.
    pub method: Method,
    /// Whom it is for.
    pub target: Target,
    /// What it carries besides.
    pub headers: HeaderMap,
}

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// HTTP that the proxy reads.
    Http {
        /// Host, and port if it was written.
        authority: String,
        /// With the query.
        path: String,
    },
    /// TLS of the app's own: the proxy sees the name alone.
    Tls {
        /// The name in its ClientHello.
        host: String,
    },
    /// Bytes.
    Tcp {
        /// A name of the mesh, or an address.
        host: String,
        /// The port.
        port: u16,
    },
}

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It reaches an app.
    Forward,
    /// A policy refuses it.
    Deny,
    /// A proxy answers it.
    Respond,
    /// Nobody takes it.
    None,
}

/// One decision on the way.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// `listener`, `route`, `weight`, `retry`, `endpoint` or `policy`.
    pub step: &'static str,
    /// What was decided.
    pub result: String,
    /// Why.
    pub because: String,
    /// The object that says so.
    pub object: Option<ObjectRef>,
    /// The file and line that it was applied from.
    pub source: Option<String>,
}

/// An object and the field in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectRef {
    /// Such as `HTTPRoute`.
    pub kind: String,
    /// Empty for what is the whole mesh's.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Such as `spec.rules[0]`.
    pub field: String,
    /// The revision of its last change.
    pub revision: u64,
}

/// The answer.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// How it ends.
    pub verdict: Verdict,
    /// The status that the app would see, where a proxy decides it.
    pub status: Option<u16>,
    /// Each decision, in order.
    pub steps: Vec<Step>,
    /// The service port that takes it: `NAMESPACE/NAME:PORT`.
    pub backend: Option<String>,
    /// The endpoint's address.
    pub endpoint: Option<String>,
}

/// What it would say, if the objects were these.
///
/// # Errors
/// A resource that our own proxy would refuse: a mistake of the translation.
pub fn explain(snapshot: &Snapshot, question: &Question) -> Result<Explanation, String> {
    let mut story = Story { snapshot, steps: Vec::new(), backend: None, endpoint: None };
    let (verdict, status) = outbound::ask(&mut story, question)?;
    Ok(Explanation { verdict, status, steps: story.steps, backend: story.backend, endpoint: story.endpoint })
}

/// The answer as it comes about.
struct Story<'a> {
    snapshot: &'a Snapshot,
    steps: Vec<Step>,
    backend: Option<String>,
    endpoint: Option<String>,
}

impl Story<'_> {
    fn tell(
        &mut self,
        step: &'static str,
        result: impl Into<String>,
        because: impl Into<String>,
        object: Option<ObjectRef>,
    ) {
        let source = object.as_ref().and_then(|object| self.source(object));
        self.steps.push(Step { step, result: result.into(), because: because.into(), object, source });
    }

    fn source(&self, object: &ObjectRef) -> Option<String> {
        let kind = Kind::all().iter().find(|kind| kind.info().name == object.kind)?;
        let found = self.snapshot.object(*kind, &object.namespace, &object.name)?;
        found.object.meta.annotations.get(weft_model::names::SOURCE_ANNOTATION).cloned()
    }
}

impl ObjectRef {
    fn of(stamp: Option<&Arc<Stamp>>) -> Option<ObjectRef> {
        let stamp = stamp?;
        Some(ObjectRef {
            kind: stamp.kind.to_string(),
            namespace: stamp.namespace.to_string(),
            name: stamp.name.to_string(),
            field: stamp.field.to_string(),
            revision: stamp.revision.parse().unwrap_or(0),
        })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    method: String,
    url: String,
    from: String,
    namespace: Option<String>,
    /// A line each: `NAME: VALUE`.
    headers: Option<String>,
}

pub(super) async fn answer(
    State(core): State<Arc<Core>>,
    Params(asked): Params<Asked>,
) -> Result<Json<Value>, Wrong> {
    let question = asked.question()?;
    let now = core.now();
    known(&now, &question.from)?;
    // Translating for two proxies of a large mesh takes a while.
    let found = super::blocking(move || explain(&now, &question)).await?;
    let found = found.map_err(|problem| Wrong(StatusCode::INTERNAL_SERVER_ERROR, problem))?;
    let json = serde_json::to_value(found);
    json.map(Json).map_err(|error| Wrong(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

impl Asked {
    fn question(&self) -> Result<Question, Wrong> {
        let namespace = self.namespace.as_deref().unwrap_or(weft_model::DEFAULT_NAMESPACE);
        let method = self.method.to_ascii_uppercase();
        Ok(Question {
            from: service_named(&self.from, namespace)?,
            target: target(&self.url).map_err(bad)?,
            method: method.parse().map_err(|_| bad(format!("{:?} is no HTTP method", self.method)))?,
            headers: headers(self.headers.as_deref().unwrap_or_default()).map_err(bad)?,
        })
    }
}

fn headers(lines: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            Some((name.trim().parse::<HeaderName>().ok()?, value.trim().parse::<HeaderValue>().ok()?))
        });
        let (name, value) = parsed.ok_or_else(|| format!("{line:?} is no header: write NAME: VALUE"))?;
        if name == HOST {
            return Err("the host is asked for by the URL: http://HOST/PATH".to_owned());
        }
        headers.append(name, value);
    }
    Ok(headers)
}

fn target(url: &str) -> Result<Target, String> {
    let wrong = |why: &str| {
        format!("{url:?} {why}: write for example http://be1/path, https://host.example or tcp://db:5432")
    };
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("has no scheme"))?;
    let split = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(split);
    if authority.is_empty() {
        return Err(wrong("names no host"));
    }
    let (host, port) = weft_routing::host::split_port(authority);
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {
            let path = match path {
                "" => "/".to_owned(),
                query if query.starts_with('?') => format!("/{query}"),
                path => path.to_owned(),
            };
            // What no client could send is a mistake of the question.
            path.parse::<Uri>().map_err(|error| wrong(&format!("can't be sent ({error})")))?;
            Ok(Target::Http { authority: authority.to_owned(), path })
        }
        "https" | "tls" => Ok(Target::Tls { host: host.to_ascii_lowercase() }),
        "tcp" => {
            let port = port.ok_or_else(|| wrong("names no port"))?;
            Ok(Target::Tcp { host: host.to_owned(), port })
        }
        _ => Err(wrong("has a scheme that nothing here speaks")),
    }
}

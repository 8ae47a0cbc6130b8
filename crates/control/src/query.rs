//! The questions behind `stat`, `edges`, `status`, `check`, `identity token` and `identity bundle`, as JSON.
//!
//! The shapes are a contract. Windows are rounded to what the history keeps, and each answer says
//! which window it covers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{Query as Params, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use weft_history::{Counts, Dimension, Group, Query};
use weft_model::{Finding, Kind, Severity};

use crate::authority::{Refusal, TOKEN_TTL};
use crate::clock;
use crate::core::Core;
use crate::snapshot::{ServiceId, Snapshot};

/// What is asked when nothing says since when.
const SINCE: Duration = Duration::from_secs(30 * 60);

/// `/query/v1/…`, to be mounted behind the API's gate.
pub fn router(core: Arc<Core>) -> axum::Router {
    axum::Router::new()
        .route("/query/v1/stat", get(stat))
        .route("/query/v1/edges", get(edges))
        .route("/query/v1/status", get(status))
        .route("/query/v1/check", get(check))
        .route("/query/v1/bundle", get(bundle))
        .route("/query/v1/token", post(token))
        .with_state(core)
}

/// A question that can't be answered: status and one sentence.
struct Wrong(StatusCode, String);

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let body = json!({"message": self.1, "code": self.0.as_u16()});
        (self.0, Json(body)).into_response()
    }
}

fn bad(message: impl Into<String>) -> Wrong {
    Wrong(StatusCode::BAD_REQUEST, message.into())
}

#[derive(Debug, Default, Deserialize)]
struct Window {
    since: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

impl Window {
    /// From and to, in Unix seconds.
    fn read(&self, now: u64) -> Result<(u64, u64), Wrong> {
        let instant = |name: &str, text: &str| {
            clock::parse_instant(text)
                .ok_or_else(|| bad(format!("{name}={text}: write RFC 3339 or Unix seconds")))
        };
        let to = match &self.to {
            Some(text) => instant("to", text)?,
            // The second that runs counts too.
            None => now + 1,
        };
        let from = match (&self.from, &self.since) {
            (Some(text), _) => instant("from", text)?,
            (None, since) => {
                let since = match since {
                    Some(text) => clock::parse_duration(text)
                        .ok_or_else(|| bad(format!("since={text}: write a duration such as 30m or 2h")))?,
                    None => SINCE,
                };
                now.saturating_sub(since.as_secs())
            }
        };
        if from > to { Err(bad("from is after to")) } else { Ok((from, to)) }
    }
}

#[derive(Debug, Deserialize)]
struct Stat {
    service: Option<String>,
    namespace: Option<String>,
    by: Option<String>,
    #[serde(flatten)]
    window: Window,
}

async fn stat(State(core): State<Arc<Core>>, Params(asked): Params<Stat>) -> Result<Json<Value>, Wrong> {
    let (from, to) = asked.window.read(clock::unix(SystemTime::now()))?;
    let namespace = asked.namespace.as_deref().unwrap_or(weft_model::DEFAULT_NAMESPACE);
    let service = asked
        .service
        .as_deref()
        .filter(|s| !s.is_empty())
        .map(|s| ServiceId::parse(s, namespace).to_string());
    let by = dimensions(asked.by.as_deref().unwrap_or(""))?;
    let query = Query { service: service.clone(), from, to, by: by.clone(), ..Query::default() };
    // The sum over a long window is work for a thread of its own.
    let source = core.clone();
    let answer = blocking(move || source.history.history().query(&query)).await?;
    if let Some(service) = service.clone().filter(|_| answer.rows.is_empty()) {
        let now = core.now();
        let ever = Query { service: Some(service.clone()), from: 0, to, ..Query::default() };
        let recorded = blocking(move || !core.history.history().query(&ever).rows.is_empty()).await?;
        if !recorded {
            known(&now, &ServiceId::parse(&service, namespace))?;
        }
    }
    let rows: Vec<Value> = answer.rows.iter().map(|row| stat_row(&row.group, &row.counts, &by)).collect();
    Ok(Json(json!({
        "service": service,
        "from": rfc3339(answer.from),
        "to": rfc3339(answer.to),
        "rows": rows,
        "total": {"requests": answer.total.requests, "errors": answer.total.errors},
    })))
}

/// A name that nobody has is a mistake, and an empty table would hide it.
fn known(now: &Snapshot, service: &ServiceId) -> Result<(), Wrong> {
    let external = now.of_kind(Kind::ExternalService).map(|(id, _)| (&id.namespace, &id.name));
    let joined = now.instances.values().map(|instance| (&instance.namespace, &instance.service));
    let mut all = now.services.keys().map(|id| (&id.namespace, &id.name)).chain(external).chain(joined);
    let mut near = Vec::new();
    if all.any(|(namespace, name)| {
        if *namespace == service.namespace {
            near.push(name.as_str());
        }
        (namespace, name) == (&service.namespace, &service.name)
    }) {
        return Ok(());
    }
    let hint = weft_model::nearest(&service.name, near.into_iter());
    let hint = hint.map_or_else(String::new, |name| format!("; did you mean {name:?}?"));
    Err(Wrong(StatusCode::NOT_FOUND, format!("no service {service}{hint}")))
}

fn dimensions(text: &str) -> Result<Vec<Dimension>, Wrong> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            Dimension::find(name).ok_or_else(|| {
                let known: Vec<&str> = Dimension::ALL.iter().map(|dimension| dimension.name()).collect();
                bad(format!("by={name}: choose from {}", known.join(", ")))
            })
        })
        .collect()
}

fn stat_row(group: &Group, counts: &Counts, by: &[Dimension]) -> Value {
    let mut row = Map::new();
    for dimension in by {
        let value = match dimension {
            Dimension::Caller => json!(group.caller),
            Dimension::Service => json!(group.service),
            Dimension::Version => json!(group.version),
            Dimension::Route => json!(group.route),
            Dimension::Code => json!(group.code),
            Dimension::GrpcStatus => json!(group.grpc_status),
            Dimension::Tls => json!(group.tls),
            Dimension::Direction => json!(group.direction),
        };
        row.insert(dimension.name().to_owned(), value);
    }
    // Quantiles are microseconds.
    let millis = |q: f64| counts.quantile(q).map(|micros| micros as f64 / 1000.0);
    row.insert("requests".to_owned(), counts.requests.into());
    row.insert("errors".to_owned(), counts.errors.into());
    row.insert("p50_ms".to_owned(), json!(millis(0.5)));
    row.insert("p95_ms".to_owned(), json!(millis(0.95)));
    row.insert("p99_ms".to_owned(), json!(millis(0.99)));
    Value::Object(row)
}

async fn edges(State(core): State<Arc<Core>>, Params(asked): Params<Window>) -> Result<Json<Value>, Wrong> {
    let (from, to) = asked.read(clock::unix(SystemTime::now()))?;
    let answer = blocking(move || core.history.history().edges(from, to)).await?;
    let edges: Vec<Value> = answer
        .edges
        .iter()
        .map(|edge| {
            let codes: Map<String, Value> =
                edge.codes.iter().map(|(code, requests)| (code.to_string(), (*requests).into())).collect();
            json!({
                "from": edge.from,
                "to": edge.to,
                "requests": edge.counts.requests,
                "errors": edge.counts.errors,
                "codes": codes,
                "tls": edge.weakest_tls(),
                "tls_requests": edge.tls,
            })
        })
        .collect();
    Ok(Json(json!({"from": rfc3339(answer.from), "to": rfc3339(answer.to), "edges": edges})))
}

async fn status(State(core): State<Arc<Core>>) -> Json<Value> {
    let rows = core.proxies.rows(SystemTime::now());
    let stats = core.history.history().stats();
    let refused: Vec<Value> = core
        .counters
        .all()
        .into_iter()
        .map(|(what, reason, count)| json!({"what": what, "reason": reason, "count": count}))
        .collect();
    Json(json!({
        "proxies": rows,
        "revision": core.now().revision,
        "certificates_issued": core.authority.issued(),
        "counters": refused,
        "history": {"series": stats.series, "cells": stats.cells, "dropped_requests": stats.dropped_requests},
    }))
}

async fn check(State(core): State<Arc<Core>>) -> Json<Value> {
    let findings = findings(&core, SystemTime::now());
    let ok = findings.iter().all(|finding| finding.severity != Severity::Error);
    Json(json!({"ok": ok, "findings": findings.iter().map(finding_json).collect::<Vec<_>>()}))
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "code": finding.code,
        "severity": finding.severity.to_string(),
        "object": finding.object,
        "message": finding.message,
        "hint": finding.hint,
    })
}

/// Findings of the objects, of their translation, and of the proxies that run.
fn findings(core: &Core, now: SystemTime) -> Vec<Finding> {
    let mut all = core.now().findings.clone();
    all.extend(core.views.findings());
    for row in core.proxies.rows(now) {
        if let Some(nack) = &row.nack {
            all.push(Finding {
                code: "WFT0950",
                severity: Severity::Error,
                object: format!("proxy {}", row.name),
                message: format!("it refused {}: {}", nack.resource, nack.message),
                hint:
                    "it serves on with its last good configuration; change the object that the message names"
                        .into(),
            });
        }
        if row.connected && row.acked != row.latest && row.lag_ms > 10_000 {
            all.push(Finding {
                code: "WFT0951",
                severity: Severity::Warning,
                object: format!("proxy {}", row.name),
                message: format!("it is {} s behind", row.lag_ms / 1000),
                hint: "look at its log".into(),
            });
        }
    }
    all
}

/// What members trust: no secret, but who asks is known all the same.
async fn bundle(State(core): State<Arc<Core>>) -> Json<Value> {
    let bundle = core.authority.bundle();
    Json(json!({"trust_domain": bundle.trust_domain().to_string(), "pem": bundle.to_pem()}))
}

#[derive(Debug, Deserialize)]
struct TokenWanted {
    service: String,
    namespace: Option<String>,
    ttl: Option<String>,
}

async fn token(State(core): State<Arc<Core>>, Json(wanted): Json<TokenWanted>) -> Result<Json<Value>, Wrong> {
    let namespace = wanted.namespace.as_deref().unwrap_or(weft_model::DEFAULT_NAMESPACE);
    let service = ServiceId::parse(&wanted.service, namespace);
    let ttl = match &wanted.ttl {
        Some(text) => {
            clock::parse_duration(text).ok_or_else(|| bad(format!("ttl {text}: write for example 10m")))?
        }
        None => TOKEN_TTL,
    };
    let store = core.store.as_ref();
    let made = core.authority.token(store, &service.namespace, &service.name, ttl, SystemTime::now()).await;
    match made {
        Ok(token) => Ok(Json(json!({
            "token": token.encode(),
            "namespace": service.namespace,
            "service": service.name,
            "expires": clock::rfc3339(token.expires),
        }))),
        Err(refusal @ Refusal::Store(_)) => Err(Wrong(StatusCode::SERVICE_UNAVAILABLE, refusal.to_string())),
        Err(refusal @ Refusal::TooMany) => Err(Wrong(StatusCode::TOO_MANY_REQUESTS, refusal.to_string())),
        Err(refusal) => Err(bad(refusal.to_string())),
    }
}

fn rfc3339(unix: u64) -> String {
    clock::rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(unix))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Wrong> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Wrong(StatusCode::INTERNAL_SERVER_ERROR, "the question was given up".to_owned()))
}

#[cfg(test)]
mod tests;

//! The questions behind `stat`, `edges`, `status`, `check`, `explain`, `identity token` and `identity bundle`, as JSON.
//!
//! The shapes are a contract. Windows are rounded to what the history keeps, and each answer says
//! which window it covers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{Query as Params, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use weft_history::{Counts, Dimension, Edge, Group, Query};
use weft_model::{Finding, Kind, Severity};

use crate::authority::{Refusal, TOKEN_TTL, TOKEN_TTL_MAX};
use crate::clock;
use crate::core::Core;
use crate::snapshot::{ServiceId, Snapshot};

mod callees;
mod connections;
mod coverage;
pub mod explain;
pub mod trust;

use callees::Asked;

/// What is asked when nothing says since when.
const SINCE: Duration = Duration::from_secs(30 * 60);
/// Names listed when none is near the one asked for.
const NAMES_SHOWN: usize = 8;

/// `/query/v1/…`, to be mounted behind the API's gate.
pub fn router(core: Arc<Core>) -> axum::Router {
    axum::Router::new()
        .route("/query/v1/stat", get(stat))
        .route("/query/v1/edges", get(edges))
        .route("/query/v1/status", get(status))
        .route("/query/v1/check", get(check))
        .route("/query/v1/explain", get(explain::answer))
        .route("/query/v1/bundle", get(bundle))
        .route("/query/v1/connections", get(connections::list).post(connections::remember))
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
    let service = asked.service.as_deref().filter(|service| !service.is_empty());
    let service = service.map(|name| service_named(name, namespace)).transpose()?;
    let by = dimensions(asked.by.as_deref().unwrap_or(""))?;
    let now = core.now();
    let meant = service.as_ref().map_or_else(Asked::all, |service| callees::resolve(&now, service));
    let query = Query { callees: meant.callees.clone(), from, to, by: by.clone(), ..Query::default() };
    // The sum over a long window is work for a thread of its own.
    let source = core.clone();
    let answer = blocking(move || source.history.history().query(&query)).await?;
    if let Some(service) = service.as_ref().filter(|_| answer.rows.is_empty()) {
        let source = core.clone();
        let ever = Query { callees: meant.callees.clone(), from: 0, to, ..Query::default() };
        let recorded = blocking(move || !source.history.history().query(&ever).rows.is_empty()).await?;
        if !recorded {
            known(&now, service)?;
        }
    }
    let rows: Vec<Value> = answer.rows.iter().map(|row| stat_row(&row.group, &row.counts, &by)).collect();
    Ok(Json(json!({
        "service": service.map(|service| service.to_string()),
        "counted_by": meant.counted_by,
        "from": rfc3339(answer.from),
        "to": rfc3339(answer.to),
        "rows": rows,
        "total": {"requests": answer.total.requests, "errors": answer.total.errors},
        "coverage": coverage::of(&core, &meant.counted_by, answer.from, answer.to, meant.note.as_deref()),
    })))
}

/// A service's name from a question. Anything else than a name is a mistake of its own, before it is one that
/// nobody has.
fn service_named(text: &str, namespace: &str) -> Result<ServiceId, Wrong> {
    let service = ServiceId::parse(text, namespace);
    for (what, part) in [("namespace", &service.namespace), ("service", &service.name)] {
        if !is_label(part) {
            return Err(bad(format!(
                "{part:?} can't be the name of a {what}: a name is of a-z, 0-9 and -, at most 63, and starts and ends with a letter or digit"
            )));
        }
    }
    Ok(service)
}

fn is_label(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.chars().all(|c| plain(c) || c == '-')
        && text.starts_with(plain)
        && text.ends_with(plain)
}

/// A name that nobody has is a mistake, and an empty table would hide it.
fn known(now: &Snapshot, service: &ServiceId) -> Result<(), Wrong> {
    let external = now.of_kind(Kind::ExternalService).map(|(id, _)| (&id.namespace, &id.name));
    let joined = now.instances.values().map(|instance| (&instance.namespace, &instance.service));
    let all: BTreeSet<(&String, &String)> =
        now.services.keys().map(|id| (&id.namespace, &id.name)).chain(external).chain(joined).collect();
    if all.contains(&(&service.namespace, &service.name)) {
        return Ok(());
    }
    let here: Vec<&str> = all
        .iter()
        .filter(|(namespace, _)| **namespace == service.namespace)
        .map(|(_, name)| name.as_str())
        .collect();
    let elsewhere = all.iter().find(|(_, name)| **name == service.name);
    let hint = match (weft_model::nearest(&service.name, here.iter().copied()), elsewhere) {
        (Some(name), _) => format!("; did you mean {name:?}?"),
        (None, Some((namespace, name))) => format!("; there is one in another namespace: {namespace}/{name}"),
        (None, None) if here.is_empty() => format!("; the namespace {} has none yet", service.namespace),
        (None, None) => {
            let more = if here.len() > NAMES_SHOWN { ", …" } else { "" };
            let names: Vec<&str> = here.into_iter().take(NAMES_SHOWN).collect();
            format!("; the namespace {} has {}{more}", service.namespace, names.join(", "))
        }
    };
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

#[derive(Debug, Deserialize)]
struct EdgesWanted {
    service: Option<String>,
    namespace: Option<String>,
    #[serde(flatten)]
    window: Window,
}

async fn edges(
    State(core): State<Arc<Core>>,
    Params(asked): Params<EdgesWanted>,
) -> Result<Json<Value>, Wrong> {
    let (from, to) = asked.window.read(clock::unix(SystemTime::now()))?;
    let namespace = asked.namespace.as_deref().unwrap_or(weft_model::DEFAULT_NAMESPACE);
    let service = asked.service.as_deref().filter(|service| !service.is_empty());
    let service = service.map(|name| service_named(name, namespace)).transpose()?;
    let source = core.clone();
    let answer = blocking(move || source.history.history().edges(from, to)).await?;
    let now = core.now();
    // A request that reached nobody names the Service that its caller wanted; it belongs to the members that this
    // one selects.
    let mut edges: BTreeMap<(String, String), Edge> = BTreeMap::new();
    for edge in answer.edges {
        let to = callees::members_of(&now, &edge.to).unwrap_or_else(|| edge.to.clone());
        edges.entry((edge.from.clone(), to)).or_default().merge(&edge);
    }
    let meant = service.as_ref().map_or_else(Asked::all, |service| callees::resolve(&now, service));
    if let Some(service) = &service {
        edges.retain(|(from, to), _| meant.counted_by.contains(from) || meant.counted_by.contains(to));
        if edges.is_empty() {
            known(&now, service)?;
        }
    }
    let edges: Vec<Value> = edges
        .iter()
        .map(|((from, to), edge)| {
            let codes: Map<String, Value> =
                edge.codes.iter().map(|(code, requests)| (code.to_string(), (*requests).into())).collect();
            json!({
                "from": from,
                "to": to,
                "requests": edge.counts.requests,
                "errors": edge.counts.errors,
                "codes": codes,
                "tls": edge.weakest_tls(),
                "tls_requests": edge.tls,
            })
        })
        .collect();
    Ok(Json(json!({
        "from": rfc3339(answer.from),
        "to": rfc3339(answer.to),
        "edges": edges,
        "coverage": coverage::of(&core, &meant.counted_by, answer.from, answer.to, None),
    })))
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
    let rows = core.proxies.rows(now);
    all.extend(trust::findings(&core.authority.ends(), &rows, core.now().mesh.certificates.ttl.get(), now));
    for row in rows {
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
    distinct(all)
}

/// What the objects say and what their translation found may be the same; the first wins.
fn distinct(mut all: Vec<Finding>) -> Vec<Finding> {
    let mut told = BTreeSet::new();
    all.retain(|finding| told.insert((finding.code, finding.object.clone(), finding.message.clone())));
    all
}

/// What members trust: no secret, but who asks is known all the same.
async fn bundle(State(core): State<Arc<Core>>) -> Json<Value> {
    let bundle = core.authority.bundle();
    let crl = bundle.crl().map(weft_identity::Crl::to_pem);
    Json(json!({"trust_domain": bundle.trust_domain().to_string(), "pem": bundle.to_pem(), "crl_pem": crl}))
}

#[derive(Debug, Deserialize)]
struct TokenWanted {
    service: String,
    namespace: Option<String>,
    ttl: Option<String>,
}

async fn token(State(core): State<Arc<Core>>, Json(wanted): Json<TokenWanted>) -> Result<Json<Value>, Wrong> {
    let namespace = wanted.namespace.as_deref().unwrap_or(weft_model::DEFAULT_NAMESPACE);
    let service = service_named(&wanted.service, namespace)?;
    let ttl = match &wanted.ttl {
        Some(text) => {
            clock::parse_duration(text).ok_or_else(|| bad(format!("ttl {text}: write for example 10m")))?
        }
        None => TOKEN_TTL,
    };
    if ttl > TOKEN_TTL_MAX || ttl.is_zero() {
        return Err(bad("ttl: a join token lives for at least 1s and at most 7d"));
    }
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

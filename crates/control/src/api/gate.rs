//! The gate that every request passes: our own host, a known caller, a caller who may, room to write
//! it down; then the part that answers.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::body::Body;
use axum::extract::Query as Params;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::access::{self, Caller};
use super::audit::{self, Entry};
use super::auth::Peer;
use super::status::{Status, json_response};
use super::{Api, identities, routes, users};

/// Answers one request, whatever it is.
pub(crate) async fn answer(api: Arc<Api>, peer: Peer, request: Request<Body>) -> Response {
    if let Some(host) = api.auth.foreign_host(peer, &request) {
        refused(&api, "unknown", peer, &request, StatusCode::MISDIRECTED_REQUEST, "foreign host");
        return Status::misdirected(&host).into_response();
    }
    let path = request.uri().path();
    if matches!(path, "/healthz" | "/livez" | "/readyz")
        && matches!(*request.method(), Method::GET | Method::HEAD)
    {
        return health(&api, path).await;
    }
    let who = match api.auth.who(peer, request.headers(), &api.users, SystemTime::now()).await {
        Ok(who) => {
            peer.shows(request.headers()).into_iter().for_each(|source| api.guesses.right(source));
            who
        }
        Err(why) => {
            let wait =
                peer.shows(request.headers()).and_then(|source| api.guesses.wrong(source, Instant::now()));
            let status = wait.map_or_else(|| Status::unauthorized(why), Status::too_many_requests);
            refused(&api, "unknown", peer, &request, status.code, why);
            let mut response = status.into_response();
            if let Some(wait) = wait {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
            }
            return response;
        }
    };
    let decoded = match percent_decode_str(path).decode_utf8() {
        Ok(decoded) => decoded.into_owned(),
        Err(_) => return Status::bad_request("the path is not UTF-8").into_response(),
    };
    let segments: Vec<&str> = decoded.trim_matches('/').split('/').collect();
    if let Err(status) = access::permit(&who, request.method(), &segments) {
        refused(&api, &who.name, peer, &request, status.code, &status.message);
        return status.into_response();
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && let Err(why) = api.audit.ready() {
        tracing::warn!(%why, "a change was refused");
        return Status::no_room(&why.to_string()).into_response();
    }
    match segments.as_slice() {
        ["query" | "prometheus", ..] => query(&api, &who, peer, request).await,
        ["access", ..] => of_users(&api, &who, peer, &segments, request).await,
        ["identity", ..] => of_identities(&api, &who, peer, &segments, request).await,
        ["audit", "v1", "verify"] => verified(&api, request.method()).await,
        ["audit", "v1", "entries"] => listed(&api, request.method(), request.uri()).await,
        _ => routes::answer(&api, &who.name, peer, &segments, request).await,
    }
}

/// The questions; what is no plain question (a join token is made) is written down.
async fn query(api: &Api, who: &Caller, peer: Peer, request: Request<Body>) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match api.query.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    if !matches!(method, Method::GET | Method::HEAD) {
        done(api, who, peer, &method, &path, response.status(), "");
    }
    // The router's own refusals have no words.
    match response.status() {
        StatusCode::NOT_FOUND if !response.headers().contains_key(header::CONTENT_TYPE) => {
            Status::no_such_path().into_response()
        }
        StatusCode::METHOD_NOT_ALLOWED if !response.headers().contains_key(header::CONTENT_TYPE) => {
            Status::method_not_allowed().into_response()
        }
        _ => response,
    }
}

async fn of_users(
    api: &Api,
    who: &Caller,
    peer: Peer,
    segments: &[&str],
    request: Request<Body>,
) -> Response {
    let (parts, body) = request.into_parts();
    let answered = users::answer(&api.users, &parts.method, segments, routes::json_body(&parts, body)).await;
    written_down(api, who, peer, &parts.method, answered)
}

async fn of_identities(
    api: &Api,
    who: &Caller,
    peer: Peer,
    segments: &[&str],
    request: Request<Body>,
) -> Response {
    let (parts, body) = request.into_parts();
    let asked = identities::Asked {
        store: api.objects.store.as_ref(),
        trust_domain: &api.objects.trust_domain,
        who: &who.name,
        method: &parts.method,
        uri: &parts.uri,
    };
    let answered = identities::answer(asked, segments, routes::json_body(&parts, body)).await;
    written_down(api, who, peer, &parts.method, answered)
}

/// The answer, once a change has its line.
fn written_down(
    api: &Api,
    who: &Caller,
    peer: Peer,
    method: &Method,
    (object, answer): (String, Result<(StatusCode, Value), Status>),
) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let (code, reason) = match &answer {
            Ok((code, _)) => (*code, ""),
            Err(status) => (status.code, status.reason),
        };
        done(api, who, peer, method, &object, code, reason);
    }
    match answer {
        Ok((code, value)) => json_response(code, &value),
        Err(status) => status.into_response(),
    }
}

/// Whether the audit log is whole: `/audit/v1/verify`.
async fn verified(api: &Api, method: &Method) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Status::method_not_allowed().into_response();
    }
    let state = api.state.clone();
    // Hundreds of megabytes at most: a thread of its own.
    let found = tokio::task::spawn_blocking(move || audit::verify(&state)).await;
    let found = found.map_err(anyhow::Error::from).flatten();
    match found.and_then(|found| Ok(serde_json::to_value(found)?)) {
        Ok(value) => json_response(StatusCode::OK, &value),
        Err(error) => Status::internal(format!("{error:#}")).into_response(),
    }
}

/// Who did what: `/audit/v1/entries`.
async fn listed(api: &Api, method: &Method, uri: &Uri) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Status::method_not_allowed().into_response();
    }
    let asked = Params::<audit::Asked>::try_from_uri(uri).map_err(|error| error.body_text());
    let wanted = match asked.and_then(|Params(asked)| asked.read(SystemTime::now())) {
        Ok(wanted) => wanted,
        Err(why) => return Status::bad_request(why).into_response(),
    };
    let state = api.state.clone();
    let found = tokio::task::spawn_blocking(move || audit::list(&state, &wanted)).await;
    match found.map_err(anyhow::Error::from).and_then(|found| Ok(found?)) {
        Ok(audit::Listed { entries, more }) => {
            json_response(StatusCode::OK, &json!({"entries": entries, "more": more}))
        }
        Err(error) => Status::internal(format!("{error:#}")).into_response(),
    }
}

/// Alive is to answer; ready is that the store answers too.
async fn health(api: &Api, path: &str) -> Response {
    let nothing = weft_store::Key::new("internal.weft.dev", "readyz", "", "none");
    if path == "/readyz"
        && let Err(error) = api.objects.store.get(&nothing).await
    {
        tracing::warn!(%error, "not ready: the store does not answer");
        return (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n").into_response();
    }
    let mut response = "ok".into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn done(api: &Api, who: &Caller, peer: Peer, method: &Method, object: &str, code: StatusCode, reason: &str) {
    let entry = Entry {
        who: &who.name,
        peer: peer.label(),
        verb: method.as_str(),
        object,
        result: code.as_u16(),
        reason,
        revision: None,
    };
    api.audit.change(&entry, SystemTime::now());
}

fn refused(api: &Api, who: &str, peer: Peer, request: &Request<Body>, code: StatusCode, reason: &str) {
    let entry = Entry {
        who,
        peer: peer.label(),
        verb: request.method().as_str(),
        object: request.uri().path(),
        result: code.as_u16(),
        reason,
        revision: None,
    };
    api.audit.refusal(&entry, SystemTime::now());
}

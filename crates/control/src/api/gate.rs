//! The gate that every request passes: our own host, a known caller, then the part that answers.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, Request, StatusCode, header};
use tower::ServiceExt as _;

use super::Api;
use super::audit::Entry;
use super::auth::Peer;
use super::routes;
use super::status::Status;

/// Answers one request, whatever it is.
pub(crate) async fn answer(api: Arc<Api>, peer: Peer, request: Request<Body>) -> Response {
    if let Some(host) = api.auth.foreign_host(peer, &request) {
        refused(&api, peer, &request, StatusCode::MISDIRECTED_REQUEST, "foreign host");
        return Status::misdirected(&host).into_response();
    }
    let path = request.uri().path();
    if matches!(path, "/healthz" | "/livez" | "/readyz")
        && matches!(*request.method(), Method::GET | Method::HEAD)
    {
        return health(&api, path).await;
    }
    let who = match api.auth.who(peer, request.headers()) {
        Ok(who) => who,
        Err(why) => {
            refused(&api, peer, &request, StatusCode::UNAUTHORIZED, why);
            return Status::unauthorized(why).into_response();
        }
    };
    if path.starts_with("/query/") {
        return query(&api, who, peer, request).await;
    }
    routes::answer(&api, who, peer, request).await
}

/// The questions; what is no plain question (a join token is made) is written down.
async fn query(api: &Api, who: &str, peer: Peer, request: Request<Body>) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match api.query.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    if !matches!(method, Method::GET | Method::HEAD) {
        let result = response.status().as_u16();
        let entry = Entry {
            who,
            peer: peer.label(),
            verb: method.as_str(),
            object: &path,
            result,
            reason: "",
            revision: None,
        };
        api.audit.change(&entry, SystemTime::now());
    }
    response
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

fn refused(api: &Api, peer: Peer, request: &Request<Body>, code: StatusCode, reason: &str) {
    let entry = Entry {
        who: "unknown",
        peer: peer.label(),
        verb: request.method().as_str(),
        object: request.uri().path(),
        result: code.as_u16(),
        reason,
        revision: None,
    };
    api.audit.refusal(&entry, SystemTime::now());
}

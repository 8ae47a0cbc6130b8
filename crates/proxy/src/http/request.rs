//! The story of one request: head → route → policies → edits → tries → answer.
//!
//! Read [`serve`] and stop there if you like. One canonical head is used for routing, authorization, the log and the
//! bytes sent on, so that no two of them can see different requests. Every exit drops a [`RequestRecord`].

mod canonical;

use std::{rc::Rc, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_TYPE, LOCATION},
    request::Parts,
};
use http_body::Body as _;
use tokio::net::TcpStream;
use weft_routing::{
    EditPart, HeaderEdit, HttpFilter, RequireTls, RouteAction, VirtualHost, authorize,
    matcher::{HeadView, apply_edits},
};
use weft_wire::http1::Refusal as NoRequest;

use super::{
    body::{RequestBody, ResponseBody},
    forward::{self, Outgoing},
    forwarded,
    grpc::{self, Rpc},
    h1::{self, server::Settings},
    h2,
    headers::{X_REQUEST_ID, settle_underscores},
    inbound::Inbound,
    reply::{self, Reason, refuse},
    timer::Timer,
    tunnel,
};
use crate::{
    peer::{ChainView, Peer},
    record::{Details, Kind, LogFields, Recording, flags},
    upstream::probe::is_health_check,
    worker::{Direction, Role, Worker},
};

pub use canonical::CanonicalHead;

use canonical::unequivocal;

/// Answers one request; failing is an answer too.
pub async fn serve(
    peer: Rc<Peer>,
    mut request: Request<Inbound>,
    timer: &mut Timer,
) -> Response<ResponseBody> {
    let mut record = Recording::start(&peer, Kind::Request);
    record.rpc = Rpc::of(request.method(), request.headers());
    if !peer.access_logs.is_empty() {
        record.log = Some(LogFields::of(&request));
    }
    if peer.worker.settings.overload.actions().refuses() && !is_members_check(&peer, &request) {
        peer.worker.settings.overload.on_request_refused();
        return refuse(record, overloaded());
    }
    let Some(view) = peer.view() else {
        return refuse(record, gone());
    };
    if let Rpc::Web(format) = record.rpc
        && view.config.filters.iter().any(|filter| matches!(filter, HttpFilter::GrpcWeb))
    {
        record.rpc = Rpc::Translated(format);
    }
    let upgrade = tunnel::wanted(&mut request);
    let (mut parts, body) = request.into_parts();
    match answer(&peer, &view, &mut parts, body, upgrade, record, timer).await {
        Ok(response) => response,
        Err((mut record, reason)) => {
            if !parts.headers.is_empty() {
                record.keep_request(&parts.headers); // it did not come as far as to be sent on
            }
            refuse(record, reason)
        }
    }
}

/// Answers what the codec does not take for a request. It is logged and counted like others that are refused.
#[cold]
pub fn refused(peer: &Rc<Peer>, refusal: NoRequest) -> Response<ResponseBody> {
    let mut record = Recording::start(peer, Kind::Request);
    if !peer.access_logs.is_empty() {
        record.log = Some(LogFields::default());
    }
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    refuse(record, Reason::new(status, flags::PROTOCOL, refusal.label(), "bad request\n"))
}

/// A request that its client took back before it was looked at: a line and a count, as for others whose clients leave.
/// So a line costs a client what that of an answered request does, and who only takes back is ended after some hundreds
/// ([`weft_wire::http2_guard`], `CANCELLED_MAX`).
#[cold]
pub fn taken_back(peer: &Rc<Peer>, asked: h2::codec::Asked) {
    let mut record = Recording::start(peer, Kind::Request);
    if !peer.access_logs.is_empty() {
        record.log = Some(asked.as_ref().map_or_else(|_| LogFields::default(), LogFields::of));
        if let Ok(request) = &asked {
            record.keep_request(request.headers());
        }
    }
}

type Refusal = (Recording, Reason);

async fn answer(
    peer: &Rc<Peer>,
    view: &Rc<ChainView>,
    parts: &mut Parts,
    body: Inbound,
    upgrade: Option<tunnel::Upgrade>,
    mut record: Recording,
    timer: &mut Timer,
) -> Result<Response<ResponseBody>, Refusal> {
    if let Err(reason) = unequivocal(parts) {
        return Err((record, reason));
    }
    if !settle_underscores(&mut parts.headers, view.config.underscores) {
        return Err((record, bad_request("underscore_in_header_name")));
    }
    if parts.headers.len() > view.config.limits.headers_max.map_or(h1::HEADERS_MAX, |max| max as usize) {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err((record, Reason::new(status, flags::PROTOCOL, "too_many_headers", "too many headers\n")));
    }
    let head = match CanonicalHead::of(parts, view, peer) {
        Ok(head) => head,
        Err(reason) => return Err((record, reason)),
    };
    let shown = head.view(parts, peer);
    let found = view.routes.config.find(&shown, peer.worker.random());
    record.route = found.map(|found| Arc::clone(found.route));
    // Policies before anything that a caller could learn from, also whether there is such a route.
    if let Some(policy) = denied(peer, view, &shown) {
        peer.worker.shard.borrow_mut().add(peer.meters.denied, 1);
        // All that the caller hears: by its id the access log has the request, and there the policy.
        record.request_id = forwarded::request_id(&mut parts.headers, peer, &view.config);
        let details = Details::Denied(policy);
        return Err((
            record,
            Reason { details, ..Reason::new(StatusCode::FORBIDDEN, flags::DENIED, "", DENIED) },
        ));
    }
    let Some(found) = found else { return Err((record, no_route())) };
    let (route, vhost) = (Arc::clone(found.route), found.vhost);
    // No request counts as internal here, so both kinds of the wish mean everybody.
    if vhost.require_tls != RequireTls::No && shown.scheme != "https" {
        let query = shown.query.map_or(String::new(), |query| format!("?{query}"));
        let to = format!("https://{}{}{query}", shown.authority, shown.path);
        let location = HeaderValue::try_from(to).ok();
        let headers = location.into_iter().map(|location| (LOCATION, location)).collect();
        record.details = Details::Fixed("tls_required");
        return Ok(own_answer(
            record,
            peer,
            view,
            vhost,
            StatusCode::MOVED_PERMANENTLY,
            headers,
            Bytes::new(),
        ));
    }
    let forwarding = match &route.action {
        RouteAction::Forward(forwarding) => forwarding,
        RouteAction::Redirect(redirect) => {
            let location = HeaderValue::try_from(redirect.location(&route, &shown));
            let mut headers = HeaderMap::new();
            headers.extend(location.ok().map(|location| (LOCATION, location)));
            record.details = Details::Fixed("direct_response");
            return Ok(own_answer(record, peer, view, vhost, redirect.status, headers, Bytes::new()));
        }
        RouteAction::Respond(direct) => {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            record.details = Details::Fixed("direct_response");
            let text = Bytes::copy_from_slice(&direct.body);
            return Ok(own_answer(record, peer, view, vhost, direct.status, headers, text));
        }
        RouteAction::NonForwarding => return Err((record, no_route())),
    };
    let picked = forwarding.clusters.pick(Some(&shown), peer.worker.random());
    let cluster = picked.as_ref().and_then(|picked| match picked.reference() {
        Some(reference) => view.routes.cluster(reference),
        None => view.live.table().cluster_index(picked.name()),
    });
    let Some((cluster, labels)) = cluster.and_then(|index| view.live.cluster(index)) else {
        let reason =
            Reason::new(forwarding.cluster_not_found, flags::NO_CLUSTER, "cluster_not_found", UNAVAILABLE);
        return Err((record, reason));
    };
    record.cluster = Some(Rc::clone(labels));
    let (body, bodiless) = RequestBody::new(body);
    let outgoing = Outgoing {
        peer,
        view,
        route: &route,
        vhost,
        forwarding,
        picked: picked.as_ref(),
        cluster,
        downstream: parts.version,
        bodiless: &bodiless,
    };
    if let Some(upgrade) = upgrade {
        let target = outgoing.target(&head, parts, upgrade.kind());
        return tunnel::open(outgoing, target, upgrade, body, record).await;
    }
    if let Rpc::Translated(_) = record.rpc {
        grpc::translate(&mut parts.headers, &body);
    }
    let target = outgoing.target(&head, parts, forward::Hop::Plain);
    record.keep_request(&target.headers);
    if view.config.request_id.in_response {
        record.request_id = target.headers.get(X_REQUEST_ID).cloned();
    }
    record.request_body = Some(body.clone());
    let response = forward::forward(outgoing, target, body, record, timer).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return unasked_upgrade(response);
    }
    Ok(response)
}

/// The upstream speaks something that nobody asked it to speak; its bytes must not reach the client.
#[cold]
fn unasked_upgrade(response: Response<ResponseBody>) -> Result<Response<ResponseBody>, Refusal> {
    let details = "unasked_upgrade";
    let reason = Reason::new(
        StatusCode::BAD_GATEWAY,
        flags::UPSTREAM_PROTOCOL,
        details,
        "the upstream's answer is wrong\n",
    );
    match response.into_body().into_record() {
        Some(record) => Err((record, reason)),
        // Not to be met: every upstream's answer carries its record.
        None => Ok(Response::new(ResponseBody::text(Bytes::new(), None))),
    }
}

const DENIED: &str = "RBAC: access denied\n";
const UNAVAILABLE: &str = "no such upstream\n";

fn gone() -> Reason {
    Reason::new(StatusCode::SERVICE_UNAVAILABLE, flags::NO_ROUTE, "listener_gone", "this listener is gone\n")
}

fn overloaded() -> Reason {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Reason::new(status, flags::OVERLOAD, "overload_manager", "the proxy is overloaded\n")
}

/// Answered at any load: who is busy is not dead, and members must not take it for that.
#[cold]
fn is_members_check(peer: &Peer, request: &Request<Inbound>) -> bool {
    let Some(path) = request.uri().path_and_query() else { return false };
    peer.direction == Direction::Inbound
        && peer.principal.is_some()
        && is_health_check(request.method(), path, request.headers(), !request.body().is_end_stream())
}

fn no_route() -> Reason {
    Reason::new(StatusCode::NOT_FOUND, flags::NO_ROUTE, "route_not_found", "no route\n")
}

fn bad_request(details: &'static str) -> Reason {
    Reason::new(StatusCode::BAD_REQUEST, flags::PROTOCOL, details, "bad request\n")
}

/// The name of the policy that denies, or words that say that none allows.
pub fn denied(peer: &Peer, view: &ChainView, head: &HeadView<'_>) -> Option<Arc<str>> {
    let mut translated = None;
    view.config.filters.iter().find_map(|filter| {
        let HttpFilter::Rbac(filter) = filter else {
            translated = grpc::translated_copy(head.method, head.headers);
            return None;
        };
        let shown;
        let head = match &translated {
            None => head,
            Some(headers) => {
                shown = HeadView { headers, ..*head };
                &shown
            }
        };
        let input = authorize::PolicyInput {
            remote_ip: forwarded::trusted_address(head.headers, peer, &view.config),
            ..peer.policy_input(Some(head))
        };
        if let Some(shadow) = &filter.shadow {
            peer.on_trial(shadow, &input);
        }
        let rules = filter.rules.as_ref()?;
        let verdict = authorize::decide(rules, &input);
        (!verdict.allow).then(|| match verdict.policy {
            Some(policy) => Arc::from(format!("rbac_access_denied_matched_policy[{}]", policy.name)),
            None => Arc::from("rbac_access_denied_matched_policy[none]"),
        })
    })
}

fn own_answer(
    record: Recording,
    peer: &Peer,
    view: &ChainView,
    vhost: &VirtualHost,
    status: StatusCode,
    mut headers: HeaderMap,
    text: Bytes,
) -> Response<ResponseBody> {
    let route = record.route.clone();
    let mut edits = [
        route.as_ref().map(|route| &route.edits.response),
        Some(&vhost.edits.response),
        Some(&view.routes.config.edits.response),
    ];
    if view.routes.config.most_specific_edits_win {
        edits.reverse();
    }
    forwarded::on_response(&mut headers, &view.config, &record);
    for edits in edits.into_iter().flatten() {
        edit(edits, &mut headers, peer, None);
    }
    reply::respond(record, status, headers, text)
}

/// Applies header edits; commands are filled in from the connection.
pub fn edit(
    edits: &[HeaderEdit],
    headers: &mut HeaderMap,
    peer: &Peer,
    upstream: Option<std::net::SocketAddr>,
) {
    if edits.is_empty() {
        return;
    }
    let before = headers.clone(); // commands may name fields of the head as it came
    apply_edits(edits, headers, &|part, out| {
        let text = match part {
            EditPart::Text(text) => text.to_string(),
            EditPart::DownstreamRemoteAddress => peer.remote().to_string(),
            EditPart::DownstreamRemoteAddressWithoutPort => peer.remote().ip().to_string(),
            EditPart::DownstreamLocalAddress => peer.local.to_string(),
            EditPart::DownstreamPeerUriSan => peer.principal.clone().unwrap_or_default(),
            EditPart::UpstreamHost => upstream.map(|address| address.to_string()).unwrap_or_default(),
            EditPart::Protocol => peer.protocol.get().to_owned(),
            EditPart::Hostname => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            EditPart::Request(weft_routing::HeaderKey::Name(name)) => {
                before.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
            }
            EditPart::Request(_) => String::new(),
        };
        out.extend_from_slice(text.as_bytes());
    });
}

/// There is no table yet: says so to each request of the connection.
pub async fn answer_unconfigured(worker: &Rc<Worker>, stream: TcpStream) {
    let settings = Settings {
        worker: Rc::clone(worker),
        drain: Rc::clone(worker.drain(Role::Outbound)),
        bounds: Rc::default(),
        expires: None,
    };
    h1::server::serve(Box::new(stream), BytesMut::new(), settings, |_| async {
        let text = Bytes::from_static(b"the proxy has no configuration yet\n");
        let mut response = Response::new(ResponseBody::text(text, None));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        // The next request must come by a connection that finds the configuration, when there is one.
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        response
    })
    .await;
}

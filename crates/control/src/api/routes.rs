//! From a path and a verb to an answer: discovery, objects, watches.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use axum::body::Body;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Value, json};
use weft_store::Stored;

use super::Api;
use super::audit::Entry;
use super::auth::Peer;
use super::discovery;
use super::objects::{FieldValidation, Patch, Preconditions, WriteOptions, Written};
use super::openapi;
use super::protobuf;
use super::selector::Selector;
use super::status::{Status, json_response};
use super::table::{self, RowObject};
use super::target::{Part, Target};
use super::watch::{self, WatchRequest};

/// The largest body, as in Kubernetes.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const WARNINGS_MAX: usize = 16;
const WARNING_BYTES_MAX: usize = 256;
const WATCH_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Of a YAML body, as serde_json bounds a JSON one.
const DEPTH_MAX: usize = 128;
/// Of a field manager's name, as in Kubernetes.
const MANAGER_BYTES_MAX: usize = 128;
/// Server-side apply.
const APPLY: &str = "application/apply-patch+yaml";

type Parameters = HashMap<String, String>;

/// Answers a request of somebody who was let in.
pub(crate) async fn answer(
    api: &Api,
    who: &str,
    peer: Peer,
    segments: &[&str],
    request: Request<Body>,
) -> Response {
    let head = request.method() == Method::HEAD;
    let (mut parts, body) = request.into_parts();
    if head {
        parts.method = Method::GET;
    }
    let mut response = match route(api, who, peer, segments, &parts, body).await {
        Ok(response) => response,
        Err(status) => status.into_response(),
    };
    if head {
        *response.body_mut() = Body::empty();
    }
    response
}

async fn route(
    api: &Api,
    who: &str,
    peer: Peer,
    segments: &[&str],
    parts: &Parts,
    body: Body,
) -> Result<Response, Status> {
    if parts.method == Method::GET
        && let Some(response) = document(api, parts, segments)?
    {
        return Ok(response);
    }
    let target = Target::parse(segments)?;
    let parameters = Query::<Parameters>::try_from_uri(&parts.uri)
        .map_err(|error| Status::bad_request(format!("the query of the URL can't be read: {error}")))?
        .0;
    match (&parts.method, &target.name, target.part) {
        (&Method::GET, Some(_), Part::Whole) if is_true(&parameters, "watch") => {
            // A watch on one object, as old clients ask for it.
            let only = format!("metadata.name={}", target.name());
            let target = Target { name: None, ..target.clone() };
            start_watch(api, parts, target, &parameters, &only).await
        }
        (&Method::GET, None, _) if is_true(&parameters, "watch") => {
            start_watch(api, parts, target, &parameters, "").await
        }
        (&Method::GET, Some(_), _) => {
            let object = api.objects.get(&target).await?;
            Ok(shown(api, parts, &parameters, &target, StatusCode::OK, object))
        }
        (&Method::GET, None, _) => list(api, parts, &target, &parameters).await,
        (&Method::POST | &Method::PUT | &Method::PATCH | &Method::DELETE, ..) => {
            let written = write(api, parts, &target, &parameters, body).await;
            record(api, who, peer, parts, &target, &written);
            Ok(answer_to_write(api, parts, &parameters, &target, written?))
        }
        _ => Err(Status::method_not_allowed()),
    }
}

/// Everything that is no object: the front page, discovery, OpenAPI.
fn document(api: &Api, parts: &Parts, segments: &[&str]) -> Result<Option<Response>, Status> {
    let accepts_aggregated = || {
        accept(parts).any(|offer| {
            offer.contains("as=APIGroupDiscoveryList")
                && offer.contains("v=v2")
                && !offer.contains("v=v2beta1")
        })
    };
    let aggregated = |core: bool| {
        let mut response = json_response(StatusCode::OK, &discovery::aggregated(core));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(discovery::AGGREGATED));
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
        response
    };
    let found = match segments {
        [""] => return Ok(Some(front_page(api))),
        ["version"] => Some(discovery::version()),
        ["api"] if accepts_aggregated() => return Ok(Some(aggregated(true))),
        ["apis"] if accepts_aggregated() => return Ok(Some(aggregated(false))),
        ["api"] => Some(discovery::core_versions(&api.address.to_string())),
        ["apis"] => Some(discovery::group_list()),
        ["apis", group] => discovery::group(group),
        ["api", version] => discovery::resource_list("", version),
        ["apis", group, version] => discovery::resource_list(group, version),
        ["openapi", "v3"] => Some(openapi::index()),
        ["openapi", "v3", "api", version] => openapi::document("", version),
        ["openapi", "v3", "apis", group, version] => openapi::document(group, version),
        _ => return Ok(None),
    };
    found.map(|value| Some(json_response(StatusCode::OK, &value))).ok_or_else(Status::no_such_path)
}

fn front_page(api: &Api) -> Response {
    let text = format!(
        "This is a Weft control plane ({}).\n\n\
         weft status                            each proxy and how it does\n\
         weft get services -A                   the objects of the mesh\n\
         weft stat SERVICE --since 30m          traffic by caller and code\n\
         weft check                             is the mesh healthy\n\
         kubectl --kubeconfig STATE/kubeconfig get httproutes\n\n\
         API: https://{}/apis\n",
        env!("CARGO_PKG_VERSION"),
        api.address,
    );
    text.into_response()
}

async fn list(
    api: &Api,
    parts: &Parts,
    target: &Target,
    parameters: &Parameters,
) -> Result<Response, Status> {
    let selector = selector(parameters, "")?;
    let limit = match parameters.get("limit").map_or("", String::as_str) {
        "" => 0,
        number => number
            .parse::<usize>()
            .map_err(|_| Status::bad_request(format!("limit: \"{number}\" is not a number")))?,
    };
    let seen = api.sight.look(target.info);
    let complete = |stored: &Stored| -> Result<Value, Status> {
        let mut object = api.objects.show(stored, target)?;
        seen.complete(&mut object, target.info);
        Ok(object)
    };
    let collection = target.label();
    let page = match parameters.get("continue").map_or("", String::as_str) {
        "" => {
            let (found, revision) = api.objects.list(target).await?;
            // A client may ask for a list that is not older than what it has seen.
            if let Some(wanted) = parameters.get("resourceVersion").and_then(|text| text.parse::<u64>().ok())
                && wanted > revision
            {
                return Err(Status::timeout(&format!(
                    "Too large resource version: {wanted}, current: {revision}"
                )));
            }
            let mut chosen = Vec::with_capacity(found.len());
            for stored in found {
                if selector.matches(&complete(&stored)?) {
                    chosen.push(stored);
                }
            }
            api.pages.first(&collection, chosen, revision, limit, Instant::now())?
        }
        token => api.pages.next(&collection, token, limit, Instant::now())?,
    };
    let items = page.items.iter().map(complete).collect::<Result<Vec<Value>, _>>()?;
    let revision = page.revision.to_string();
    let mut metadata = json!({ "resourceVersion": revision });
    if let Some((token, left)) = page.next {
        metadata["continue"] = token.into();
        metadata["remainingItemCount"] = left.into();
    }
    Ok(match table_wish(parts, parameters) {
        Some(carried) => {
            let mut table = table::table(target.info, &items, &revision, carried, true, SystemTime::now());
            table["metadata"] = metadata;
            json_response(StatusCode::OK, &table)
        }
        None => json_response(
            StatusCode::OK,
            &json!({
                "kind": format!("{}List", target.info.name),
                "apiVersion": target.api_version(),
                "metadata": metadata,
                "items": items,
            }),
        ),
    })
}

async fn start_watch(
    api: &Api,
    parts: &Parts,
    target: Target,
    parameters: &Parameters,
    only: &str,
) -> Result<Response, Status> {
    let text = |name: &str| parameters.get(name).map_or("", String::as_str);
    let initial_events = is_true(parameters, "sendInitialEvents");
    let after = match text("resourceVersion") {
        "" | "0" => None,
        _ if initial_events => None,
        number => Some(
            number
                .parse()
                .map_err(|_| Status::bad_request(format!("invalid resource version \"{number}\"")))?,
        ),
    };
    let timeout = match text("timeoutSeconds") {
        // Spread, so that the watches of one restart don't all end together.
        "" => Duration::from_secs(fastrand::u64(1800..3600)),
        number => Duration::from_secs(
            number
                .parse()
                .map_err(|_| Status::bad_request(format!("timeoutSeconds: \"{number}\" is not a number")))?,
        )
        .min(WATCH_TIMEOUT_MAX),
    };
    let request = WatchRequest {
        selector: selector(parameters, only)?,
        after,
        initial_events,
        bookmarks: is_true(parameters, "allowWatchBookmarks"),
        table: table_wish(parts, parameters),
        timeout,
        target,
    };
    watch::watch(api.objects.store.as_ref(), request, api.sight.clone(), api.shutdown.clone()).await
}

async fn write(
    api: &Api,
    parts: &Parts,
    target: &Target,
    parameters: &Parameters,
    body: Body,
) -> Result<Written, Status> {
    let options = write_options(parts, parameters)?;
    match (&parts.method, &target.name) {
        (&Method::POST, None) => {
            let object = json_body(parts, body).await?;
            api.objects.create(target, object, options).await
        }
        (&Method::PUT, Some(_)) => {
            let object = json_body(parts, body).await?;
            api.objects.replace(target, object, options).await
        }
        (&Method::PATCH, Some(_)) => {
            let patch = patch_body(parts, target, body).await?;
            api.objects.patch(target, &patch, options).await
        }
        (&Method::DELETE, Some(_)) if target.part == Part::Whole => {
            let wish = delete_body(parts, body).await?;
            let dry_run = options.dry_run || !wish["dryRun"].as_array().is_none_or(Vec::is_empty);
            let text = |field: &str| wish["preconditions"][field].as_str().map(str::to_owned);
            let preconditions = Preconditions { uid: text("uid"), resource_version: text("resourceVersion") };
            api.objects.delete(target, &preconditions, dry_run).await
        }
        _ => Err(Status::method_not_allowed()),
    }
}

fn write_options<'a>(parts: &'a Parts, parameters: &'a Parameters) -> Result<WriteOptions<'a>, Status> {
    let dry_run = match parameters.get("dryRun").map(String::as_str) {
        None | Some("") => false,
        Some("All") => true,
        Some(other) => {
            return Err(Status::bad_request(format!("dryRun: \"{other}\" is not known, only \"All\"")));
        }
    };
    let fields = match parameters.get("fieldValidation").map(String::as_str) {
        None | Some("" | "Warn") => FieldValidation::Warn,
        Some("Strict") => FieldValidation::Strict,
        Some("Ignore") => FieldValidation::Ignore,
        Some(other) => {
            return Err(Status::bad_request(format!(
                "fieldValidation: \"{other}\" is none of Ignore, Warn, Strict"
            )));
        }
    };
    // Who names no manager is called as its program.
    let program = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let program = program.and_then(|text| text.split(['/', ' ']).next()).unwrap_or_default();
    let manager = match parameters.get("fieldManager").map_or("", String::as_str) {
        "" if media_type(parts) == APPLY => {
            return Err(Status::bad_request("fieldManager is required for apply patch"));
        }
        "" if program.is_empty() => "unknown",
        "" => program,
        said => said,
    };
    if manager.len() > MANAGER_BYTES_MAX || manager.chars().any(char::is_control) {
        return Err(Status::bad_request(format!(
            "fieldManager: at most {MANAGER_BYTES_MAX} printable characters"
        )));
    }
    Ok(WriteOptions { dry_run, fields, manager, force: is_true(parameters, "force") })
}

pub(crate) async fn json_body(parts: &Parts, body: Body) -> Result<Value, Status> {
    match media_type(parts) {
        "" | "application/json" => parse(&read(body).await?),
        protobuf::MEDIA_TYPE => protobuf::to_json(&read(body).await?).map_err(Status::unsupported_media),
        other => Err(Status::unsupported_media(format!(
            "a body of {other} is not read here; send application/json"
        ))),
    }
}

async fn patch_body(parts: &Parts, target: &Target, body: Body) -> Result<Patch, Status> {
    let make: fn(Value) -> Patch = match media_type(parts) {
        "application/merge-patch+json" => Patch::Merge,
        "application/json-patch+json" => Patch::Operations,
        "application/strategic-merge-patch+json" if target.info.group.is_empty() => Patch::Strategic,
        "application/strategic-merge-patch+json" => {
            return Err(Status::unsupported_media(
                "strategic merge patch is for core kinds; send application/merge-patch+json",
            ));
        }
        APPLY => return Ok(Patch::Apply(yaml(&read(body).await?)?)),
        "application/apply-patch+cbor" => {
            return Err(Status::unsupported_media(format!("CBOR is not read here; send {APPLY}")));
        }
        other => {
            return Err(Status::unsupported_media(format!(
                "a patch of \"{other}\" is not read here; send application/merge-patch+json"
            )));
        }
    };
    Ok(make(parse(&read(body).await?)?))
}

/// DeleteOptions; clients may send none.
async fn delete_body(parts: &Parts, body: Body) -> Result<Value, Status> {
    let bytes = read(body).await?;
    match media_type(parts) {
        _ if bytes.is_empty() => Ok(Value::Null),
        protobuf::MEDIA_TYPE => protobuf::to_json(&bytes).map_err(Status::unsupported_media),
        _ => parse(&bytes),
    }
}

async fn read(body: Body) -> Result<bytes::Bytes, Status> {
    let limited = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_TIMEOUT, limited).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Status::too_large(BODY_BYTES_MAX)),
        Ok(Err(error)) => Err(Status::bad_request(format!("the body broke off: {error}"))),
        Err(_) => Err(Status::timeout("the body did not come in time")),
    }
}

/// serde_json bounds the depth (128), so that no later recursion is deeper.
fn parse(bytes: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(bytes)
        .map_err(|error| Status::bad_request(format!("the body is not valid JSON: {error}")))
}

/// YAML, of which JSON is a part. The reader bounds aliases and depth, so that a bomb is an error.
fn yaml(bytes: &[u8]) -> Result<Value, Status> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let wrong =
        |error: &dyn std::fmt::Display| Status::bad_request(format!("the body is not valid YAML: {error}"));
    let text = std::str::from_utf8(bytes).map_err(|error| wrong(&error))?;
    let value: Value = serde_saphyr::from_str(text).map_err(|error| wrong(&error))?;
    match value.is_object() && depth(&value) <= DEPTH_MAX {
        true => Ok(value),
        false => Err(wrong(&format!("an object is wanted, at most {DEPTH_MAX} levels deep"))),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn media_type(parts: &Parts) -> &str {
    let value =
        parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

fn answer_to_write(
    api: &Api,
    parts: &Parts,
    parameters: &Parameters,
    target: &Target,
    written: Written,
) -> Response {
    let mut response = if parts.method == Method::DELETE {
        let meta = &written.object["metadata"];
        // Finalizers keep the object for a while: then it is shown, as Kubernetes does.
        if meta["deletionTimestamp"].is_string() {
            json_response(StatusCode::OK, &written.object)
        } else {
            let details = json!({ "name": target.name(), "group": target.info.group, "kind": target.info.plural, "uid": meta["uid"] });
            json_response(
                StatusCode::OK,
                &json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details }),
            )
        }
    } else {
        shown(api, parts, parameters, target, written.code, written.object)
    };
    for warning in written.warnings.iter().take(WARNINGS_MAX) {
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{}\"", quotable(warning))) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// Text for a quoted string in a header: printable ASCII, quotes escaped.
fn quotable(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' });
    let short: String = printable.take(WARNING_BYTES_MAX).collect();
    short.replace('\\', "\\\\").replace('"', "\\\"")
}

fn shown(
    api: &Api,
    parts: &Parts,
    parameters: &Parameters,
    target: &Target,
    code: StatusCode,
    mut object: Value,
) -> Response {
    // Whoever compares an object with a file asks for it as it was written.
    if parameters.get("computed").is_none_or(|wish| wish != "false") {
        api.sight.look(target.info).complete(&mut object, target.info);
    }
    match table_wish(parts, parameters) {
        Some(carried) => {
            let revision = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
            json_response(
                code,
                &table::table(target.info, &[object], &revision, carried, true, SystemTime::now()),
            )
        }
        None => json_response(code, &object),
    }
}

/// Whether the client prefers a table, and what is to be in its rows.
fn table_wish(parts: &Parts, parameters: &Parameters) -> Option<RowObject> {
    let wanted = |offer: &str| {
        offer.contains("as=Table") && offer.contains("g=meta.k8s.io") && !offer.contains("v=v1beta1")
    };
    // The first offer that we can answer decides.
    let first = accept(parts)
        .find(|offer| wanted(offer) || offer.as_str() == "application/json" || offer.as_str() == "*/*")?;
    wanted(&first).then(|| match parameters.get("includeObject").map(String::as_str) {
        Some("None") => RowObject::None,
        Some("Object") => RowObject::Whole,
        _ => RowObject::Metadata,
    })
}

fn accept(parts: &Parts) -> impl Iterator<Item = String> {
    let text = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(',').map(|offer| offer.replace(' ', ""))
}

fn selector(parameters: &Parameters, only: &str) -> Result<Selector, Status> {
    let text = |name: &str| parameters.get(name).map_or("", String::as_str);
    let fields = match (text("fieldSelector"), only) {
        (fields, "") => fields.to_owned(),
        ("", only) => only.to_owned(),
        (fields, only) => format!("{fields},{only}"),
    };
    Selector::parse(text("labelSelector"), &fields).map_err(Status::bad_request)
}

fn is_true(parameters: &Parameters, name: &str) -> bool {
    matches!(parameters.get(name).map(String::as_str), Some("1" | "true" | "True"))
}

fn record(
    api: &Api,
    who: &str,
    peer: Peer,
    parts: &Parts,
    target: &Target,
    written: &Result<Written, Status>,
) {
    let verb = match parts.method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        _ => "delete",
    };
    let (result, reason, revision, name) = match written {
        Ok(written) => (written.code, "", written.revision, written.name.as_str()),
        Err(status) => (status.code, status.reason, None, target.name()),
    };
    let mut object = target.named(name).label();
    if target.part == Part::Status {
        object.push_str(" status");
    }
    let entry =
        Entry { who, peer: peer.label(), verb, object: &object, result: result.as_u16(), reason, revision };
    api.audit.change(&entry, SystemTime::now());
}

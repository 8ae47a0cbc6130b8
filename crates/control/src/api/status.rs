//! How the API says no: Kubernetes' `Status` object, so that every client shows our sentence.
//!
//! A refusal carries its HTTP code, the machine-readable reason that client libraries branch on
//! (`NotFound`, `Conflict`, `Invalid`, …) and, for an object with mistakes, every mistake as a cause
//! with its field path.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use weft_model::{KindInfo, Problem};
use weft_store::{CommitError, StoreError};

use super::managed::Conflict;

/// One refusal, on its way to the client.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) code: StatusCode,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    details: Option<Value>,
}

impl Status {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Status {
        Status { code, reason, message: message.into(), details: None }
    }

    pub(crate) fn not_found(info: &KindInfo, name: &str) -> Status {
        Status::new(StatusCode::NOT_FOUND, "NotFound", format!("{} \"{name}\" not found", resource(info)))
            .about(info, name)
    }

    /// The path names nothing that this server has.
    pub(crate) fn no_such_path() -> Status {
        Status::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
    }

    pub(crate) fn already_exists(info: &KindInfo, name: &str) -> Status {
        Status::new(
            StatusCode::CONFLICT,
            "AlreadyExists",
            format!("{} \"{name}\" already exists", resource(info)),
        )
        .about(info, name)
    }

    pub(crate) fn conflict(info: &KindInfo, name: &str, why: &str) -> Status {
        Status::new(
            StatusCode::CONFLICT,
            "Conflict",
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource(info)),
        )
        .about(info, name)
    }

    /// The object has changed since the client read it.
    pub(crate) fn modified(info: &KindInfo, name: &str) -> Status {
        Status::conflict(
            info,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// Another manager owns fields that an apply wants otherwise.
    pub(crate) fn apply_conflicts(info: &KindInfo, name: &str, conflicts: &[Conflict]) -> Status {
        let said = |conflict: &Conflict| format!("conflict with {}: {}", conflict.owner, conflict.field);
        let list: Vec<String> = conflicts.iter().map(said).collect();
        let count = match conflicts.len() {
            1 => "1 conflict".to_owned(),
            many => format!("{many} conflicts"),
        };
        let mut status = Status::new(
            StatusCode::CONFLICT,
            "Conflict",
            format!("Apply failed with {count}: {}", list.join(", ")),
        )
        .about(info, name);
        if let Some(details) = &mut status.details {
            details["causes"] = conflicts
                .iter()
                .map(|conflict| {
                    json!({
                        "reason": "FieldManagerConflict",
                        "message": format!("conflict with {}", conflict.owner),
                        "field": conflict.field,
                    })
                })
                .collect();
        }
        status
    }

    /// The object has mistakes; all of them are in the message and in `details.causes`.
    pub(crate) fn invalid(info: &KindInfo, name: &str, problems: &[&Problem]) -> Status {
        let sentences: Vec<String> = problems.iter().map(|problem| sentence(problem)).collect();
        let causes: Vec<Value> = problems
            .iter()
            .map(|problem| {
                json!({
                    "reason": "FieldValueInvalid",
                    "message": explained(problem),
                    "field": problem.path,
                })
            })
            .collect();
        let list = match sentences.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut status = Status::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            format!("{} \"{name}\" is invalid: {list}", qualified_kind(info)),
        )
        .about(info, name);
        if let Some(details) = &mut status.details {
            details["kind"] = info.name.into();
            details["causes"] = Value::Array(causes);
        }
        status
    }

    /// A guesser is to wait.
    pub(crate) fn too_many_requests(wait: std::time::Duration) -> Status {
        Status::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequests",
            format!("too many wrong tokens from this address: try again in {} s", wait.as_secs()),
        )
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Status {
        Status::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn unauthorized(message: &str) -> Status {
        Status::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Status {
        Status::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    pub(crate) fn misdirected(host: &str) -> Status {
        Status::new(
            StatusCode::MISDIRECTED_REQUEST,
            "Forbidden",
            format!(
                "this control plane is not called \"{host}\"; use localhost, or the address that it listens on"
            ),
        )
    }

    pub(crate) fn expired(message: impl Into<String>) -> Status {
        Status::new(StatusCode::GONE, "Expired", message)
    }

    pub(crate) fn method_not_allowed() -> Status {
        Status::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    pub(crate) fn unsupported_media(message: impl Into<String>) -> Status {
        Status::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large(body_bytes_max: usize) -> Status {
        Status::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("the body is larger than {body_bytes_max} bytes"),
        )
    }

    pub(crate) fn timeout(message: &str) -> Status {
        Status::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
    }

    /// The store can't be read.
    pub(crate) fn store(error: &StoreError) -> Status {
        Status::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            format!("the store did not answer: {}", chained(error)),
        )
    }

    /// The store refused or failed to write.
    pub(crate) fn commit(error: &CommitError) -> Status {
        let (code, reason) = match error {
            CommitError::Full(_) => return Status::no_room(&error.to_string()),
            CommitError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
            CommitError::Invalid(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            CommitError::Unknown => {
                return Status::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", error.to_string());
            }
            _ => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        };
        Status::new(code, reason, format!("nothing was changed: {}", chained(error)))
    }

    /// A disk is full: reading goes on, and changing when there is room again.
    pub(crate) fn no_room(why: &str) -> Status {
        Status::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "InsufficientStorage",
            format!("nothing was changed: {why}"),
        )
    }

    /// Something that is no object of the API's kinds is there already.
    pub(crate) fn taken(message: &str) -> Status {
        Status::new(StatusCode::CONFLICT, "AlreadyExists", message)
    }

    /// Something that is no object of the API's kinds is not there.
    pub(crate) fn missing(message: &str) -> Status {
        Status::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Status {
        Status::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    fn about(mut self, info: &KindInfo, name: &str) -> Status {
        self.details = Some(json!({ "name": name, "group": info.group, "kind": info.plural }));
        self
    }

    /// The `Status` object, as it stands in a response or in a watch's ERROR frame.
    pub(crate) fn to_value(&self) -> Value {
        let mut value = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        if let Some(details) = &self.details {
            value["details"] = details.clone();
        }
        value
    }
}

impl IntoResponse for Status {
    fn into_response(self) -> Response {
        let mut response = json_response(self.code, &self.to_value());
        if self.code == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"weft\""));
        }
        response
    }
}

/// A JSON answer with the headers that every answer of the API has.
pub(crate) fn json_response(code: StatusCode, value: &Value) -> Response {
    let mut response = (code, value.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// An error with what is behind it.
fn chained(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chained(source)),
        None => error.to_string(),
    }
}

/// `httproutes.gateway.networking.k8s.io`, or `services` for the core group.
fn resource(info: &KindInfo) -> String {
    match info.group {
        "" => info.plural.to_owned(),
        group => format!("{}.{group}", info.plural),
    }
}

fn qualified_kind(info: &KindInfo) -> String {
    match info.group {
        "" => info.name.to_owned(),
        group => format!("{}.{group}", info.name),
    }
}

/// A problem as one sentence: where, what, and what to do about it.
pub(crate) fn sentence(problem: &Problem) -> String {
    match problem.path.as_str() {
        "" => explained(problem),
        path => format!("{path}: {}", explained(problem)),
    }
}

fn explained(problem: &Problem) -> String {
    match &problem.hint {
        Some(hint) => format!("{} ({hint})", problem.message),
        None => problem.message.clone(),
    }
}

//! How the API says no: Kubernetes' `Status` object, so that every client shows our sentence.
//!
//! A refusal carries its HTTP code, the machine-readable reason that client libraries branch on
//! (`NotFound`, `Conflict`, `Invalid`, …) and, for an object with mistakes, every mistake as a cause
//! with its field path.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use weft_model::{KindInfo, Problem};

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

    /// The store refused or failed: nothing was written.
    pub(crate) fn store(error: &dyn std::fmt::Display) -> Status {
        Status::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            format!("the store did not answer, nothing was changed: {error}"),
        )
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

//! Answers of the proxy itself: refusals, failures, redirects, direct responses.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, SERVER},
};

use super::{
    body::ResponseBody,
    grpc::{GRPC_MESSAGE, GRPC_STATUS, Rpc},
    headers::X_REQUEST_ID,
};
use crate::record::{Details, Recording, flags};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const NAME: HeaderValue = HeaderValue::from_static("weft");

/// Why we answer ourselves: what the caller sees, and what only the log says.
pub struct Reason {
    pub status: StatusCode,
    pub flags: &'static str,
    pub details: Details,
    /// Never names a policy, an endpoint or an identity.
    pub text: &'static str,
}

impl Reason {
    pub fn new(status: StatusCode, flags: &'static str, details: &'static str, text: &'static str) -> Reason {
        Reason { status, flags, details: Details::Fixed(details), text }
    }
}

/// A refusal or failure. A gRPC caller gets a gRPC status, since it would not understand another.
pub fn refuse(mut record: Recording, reason: Reason) -> Response<ResponseBody> {
    record.flags = reason.flags;
    record.details = reason.details;
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(SERVER, NAME);
    headers.extend(record.request_id.take().map(|id| (X_REQUEST_ID, id)));
    // What we could not read well may end elsewhere than we think, and for who has no listener any more a new connection
    // may find one.
    let ends = reason.flags == flags::PROTOCOL || record.peer().view().is_none();
    if ends && record.peer().protocol.get() != "HTTP/2" {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let (media_type, status) = match record.rpc {
        Rpc::Grpc => (GRPC, StatusCode::OK),
        // A browser may hide the fields of an answer from another origin, never its status.
        Rpc::Translated(format) => (HeaderValue::from_static(format.media_type()), reason.status),
        Rpc::No | Rpc::Web(_) => {
            headers.insert(CONTENT_TYPE, TEXT);
            return respond(record, reason.status, headers, Bytes::from_static(reason.text.as_bytes()));
        }
    };
    let code = grpc_code(reason.status);
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert(GRPC_STATUS, HeaderValue::from(code));
    headers.insert(GRPC_MESSAGE, HeaderValue::from_static(reason.text.trim_end()));
    record.grpc_status = i32::from(code);
    record.failed = reason.status.is_server_error();
    respond(record, status, headers, Bytes::new())
}

/// Any answer of ours.
pub fn respond(
    mut record: Recording,
    status: StatusCode,
    headers: HeaderMap,
    text: Bytes,
) -> Response<ResponseBody> {
    record.status = status.as_u16();
    record.keep_response(&headers);
    let mut response = Response::new(ResponseBody::text(text, Some(record)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// As gRPC maps HTTP statuses.
pub fn grpc_code(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

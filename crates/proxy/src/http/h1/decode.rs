//! From the codec's ranges to the types that routing and policies work with: one piece of memory a head, whose values
//! are slices of it, and names that are known by number.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{self, TE},
};
use http_body::Frame;
use weft_wire::http1::{
    Body, Field, FieldId, Fields, Framing, Limits, Part, Refusal, RequestHead, ResponseHead,
    Version as WireVersion,
};

use super::{heads, io::Input};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Fields that are added on the way; room for them saves a second map.
const ADDED_FIELDS: usize = 4;

/// A request from a head that was read whole. Fields of one hop are left out, but for those of a proper upgrade and
/// those that `Connection` lists: policies judge these before they go.
pub fn request<B>(head: &RequestHead, whole: &Bytes, body: B) -> Result<Request<B>, Refusal> {
    let slice = |span: weft_wire::http1::Span| whole.slice(span.start as usize..span.end as usize);
    let mut request = Request::new(body);
    *request.method_mut() =
        Method::from_bytes(head.method_span().of(whole)).map_err(|_| Refusal::BadMethod)?;
    *request.uri_mut() = Uri::from_maybe_shared(slice(head.target_span())).map_err(|_| Refusal::BadTarget)?;
    *request.version_mut() = match head.version() {
        WireVersion::Http10 => Version::HTTP_10,
        WireVersion::Http11 => Version::HTTP_11,
    };
    let headers = request.headers_mut();
    *headers = fields(head.fields(), whole, head.upgrade().is_some())?;
    if head.takes_trailers() {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(request)
}

/// A response from a head that was read whole; its fields likewise.
pub fn response<B>(head: &ResponseHead, whole: &Bytes, body: B) -> Result<Response<B>, Refusal> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(head.status()).map_err(|_| Refusal::BadStatus)?;
    *response.headers_mut() = fields(head.fields(), whole, head.framing() == Framing::Tunnel)?;
    Ok(response)
}

fn fields(fields: &Fields, whole: &Bytes, upgrades: bool) -> Result<HeaderMap, Refusal> {
    let mut headers = heads::map();
    // A map has a largest size, and more than that is a panic.
    headers.try_reserve(fields.len() + ADDED_FIELDS).map_err(|_| Refusal::ManyFields)?;
    let mut has_length = false;
    // What is marked and no field of one hop by itself is listed, or is another field in disguise.
    let listed = |field: &Field| {
        field.is_hop_by_hop()
            && !field.id().is_hop_by_hop()
            && field.id() != FieldId::Expect
            && !field.has_underscore()
    };
    let lists = fields.iter().any(listed);
    for field in fields.iter() {
        let id = field.id();
        if field.is_hop_by_hop() && !listed(field) {
            let stays = match id {
                FieldId::Connection => upgrades || lists,
                FieldId::Upgrade => upgrades,
                _ => false,
            };
            if !stays {
                continue;
            }
        }
        // Equal ones are one; that they are equal is the codec's to see.
        if id == FieldId::ContentLength && std::mem::replace(&mut has_length, true) {
            continue;
        }
        let (start, end) = (field.value().start as usize, field.value().end as usize);
        // The codec takes no byte that a name or value may not have.
        if let Some(name) = name(id, field.name().of(whole))
            && let Ok(value) = HeaderValue::from_maybe_shared(whole.slice(start..end))
        {
            headers.append(name, value);
        }
    }
    Ok(headers)
}

fn name(id: FieldId, text: &[u8]) -> Option<HeaderName> {
    Some(match id {
        FieldId::Other => return HeaderName::from_bytes(text).ok(),
        FieldId::Host => header::HOST,
        FieldId::ContentLength => header::CONTENT_LENGTH,
        FieldId::TransferEncoding => header::TRANSFER_ENCODING,
        FieldId::Connection => header::CONNECTION,
        FieldId::Expect => header::EXPECT,
        FieldId::Upgrade => header::UPGRADE,
        FieldId::Te => TE,
        FieldId::KeepAlive => KEEP_ALIVE,
        FieldId::ProxyConnection => PROXY_CONNECTION,
        FieldId::Http2Settings => HTTP2_SETTINGS,
        FieldId::Trailer => header::TRAILER,
        FieldId::ProxyAuthorization => header::PROXY_AUTHORIZATION,
        FieldId::ProxyAuthenticate => header::PROXY_AUTHENTICATE,
        FieldId::Authorization => header::AUTHORIZATION,
        FieldId::Cookie => header::COOKIE,
        FieldId::SetCookie => header::SET_COOKIE,
        FieldId::ContentType => header::CONTENT_TYPE,
        FieldId::ContentEncoding => header::CONTENT_ENCODING,
        FieldId::ContentRange => header::CONTENT_RANGE,
        FieldId::CacheControl => header::CACHE_CONTROL,
        FieldId::Range => header::RANGE,
        FieldId::Location => header::LOCATION,
        FieldId::Date => header::DATE,
        FieldId::Server => header::SERVER,
        FieldId::Via => header::VIA,
        FieldId::Accept => header::ACCEPT,
        FieldId::UserAgent => header::USER_AGENT,
        FieldId::Forwarded => header::FORWARDED,
        FieldId::XForwardedFor => X_FORWARDED_FOR,
        FieldId::XForwardedHost => X_FORWARDED_HOST,
        FieldId::XForwardedProto => X_FORWARDED_PROTO,
        FieldId::XForwardedClientCert => X_FORWARDED_CLIENT_CERT,
        FieldId::XRequestId => X_REQUEST_ID,
        FieldId::Traceparent => TRACEPARENT,
        FieldId::Tracestate => TRACESTATE,
        FieldId::GrpcStatus => GRPC_STATUS,
        FieldId::GrpcTimeout => GRPC_TIMEOUT,
    })
}

/// One message's body on its way out of the bytes read.
#[derive(Default)]
pub struct Reader {
    body: Body,
    /// What stands behind the last part, looked at so as to know early that the body ended there.
    ahead: Option<Result<Frame<Bytes>, Refusal>>,
}

/// What the bytes at hand hold of a body.
pub enum Found {
    Frame(Frame<Bytes>),
    /// Read more.
    Nothing,
    End,
}

impl Reader {
    pub fn restart(&mut self, framing: Framing) {
        self.body.restart(framing);
        self.ahead = None;
    }

    /// Nothing is left to read.
    pub fn is_ended(&self) -> bool {
        self.body.is_ended() && self.ahead.is_none()
    }

    /// Bytes that are still to come, where the head said how many.
    pub fn left(&self) -> Option<u64> {
        self.body.left()
    }

    /// The connection ended.
    pub fn close(&mut self) -> Result<(), Refusal> {
        self.body.close()
    }

    pub fn next(&mut self, input: &mut Input, limits: &Limits) -> Result<Found, Refusal> {
        if let Some(ahead) = self.ahead.take() {
            return ahead.map(Found::Frame);
        }
        let found = self.find(input, limits)?;
        if matches!(&found, Found::Frame(frame) if frame.is_data())
            && !self.body.is_ended()
            && !input.is_empty()
        {
            self.ahead = match self.find(input, limits) {
                Ok(Found::Frame(frame)) => Some(Ok(frame)),
                Ok(_) => None,
                Err(refusal) => Some(Err(refusal)),
            };
        }
        Ok(found)
    }

    fn find(&mut self, input: &mut Input, limits: &Limits) -> Result<Found, Refusal> {
        loop {
            match self.body.next(input.as_slice(), limits)? {
                Part::Data(range) => {
                    input.skip(range.start);
                    return Ok(Found::Frame(Frame::data(input.take(range.len()))));
                }
                Part::More(used) => {
                    input.skip(used);
                    if used == 0 || input.is_empty() {
                        return Ok(Found::Nothing);
                    }
                }
                Part::End(used) => {
                    if self.body.trailers().is_empty() {
                        input.skip(used);
                        return Ok(Found::End);
                    }
                    let whole = input.take_copy(used);
                    let trailers = fields(self.body.trailers(), &whole, false)?;
                    return Ok(Found::Frame(Frame::trailers(trailers)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_wire::Progress;

    use super::*;

    #[test]
    fn a_head_of_more_fields_than_a_map_holds_is_refused() {
        let limits = Limits { fields_max: 50_000, head_bytes_max: 1 << 20, ..Limits::DEFAULT };
        for (count, taken) in [(16_384, true), (24_580, false), (40_000, false)] {
            let fields: String = (0..count).map(|number| format!("a{number}:\r\n")).collect();
            let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
            let mut head = RequestHead::default();
            head.restart();
            assert_eq!(head.read(text.as_bytes(), &limits), Ok(Progress::Done(text.len())));
            let request = request(&head, &Bytes::from(text), ());
            assert_eq!(request.map(|request| request.headers().len()).ok(), taken.then_some(count + 1));
        }
    }
}

//! gRPC, and gRPC-Web made into it.
//!
//! Where a listener has the filter `envoy.filters.http.grpc_web`, a request in gRPC-Web goes on as gRPC, and its answer
//! comes back with the trailers at the end of its body. What the body's bytes become, and where they are at fault, is
//! [`weft_wire::grpc_web`]'s. Heads are translated here, and it is decided here how a faulty body ends: a request's with
//! 400, or, once its answer has begun, with trailers that say 13; an answer's with such trailers where a client would
//! read them as trailers, which is between messages, and without an end everywhere else.
//!
//! Requests in other protocols pay for none of this but a look at their content type. CORS is not part of it.

use std::{
    cell::RefCell,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, TE, TRAILER},
    response,
};
use http_body::{Body as _, Frame};
use weft_wire::grpc_web::{Answer, Fault, Format, Request};

use super::{
    body::{BodyError, RequestBody},
    headers::{TRAILERS, clean_trailers},
    inbound::Inbound,
    reply::grpc_code,
};
use crate::record::{RequestRecord, flags};

pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const GRPC: &str = "application/grpc";
/// gRPC's INTERNAL.
const INTERNAL: u16 = 13;

/// Which kind of remote call a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rpc {
    /// None that we know.
    No,
    Grpc,
    /// gRPC-Web that goes on as it is; the answer is to be like the second.
    Web(Format),
    /// gRPC-Web that goes on as gRPC; the answer goes back in this form.
    Translated(Format),
}

impl Rpc {
    /// By the content type: `application/grpc`, `application/grpc+proto`; `application/grpc-web` is another protocol.
    pub fn of(method: &Method, headers: &HeaderMap) -> Rpc {
        let Some(media_type) = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) else { return Rpc::No };
        let Some(rest) = after_grpc(media_type) else { return Rpc::No };
        match ends_name(rest) {
            true => Rpc::Grpc,
            // Other methods have no call in them, and HEAD's answers no body.
            false if method == Method::POST => of_web(media_type, headers),
            false => Rpc::No,
        }
    }

    /// Whether the answer's head may say gRPC's status.
    pub fn has_status(self) -> bool {
        self != Rpc::No
    }
}

#[cold]
fn of_web(media_type: &[u8], headers: &HeaderMap) -> Rpc {
    let Some((asked, _)) = Format::of(media_type) else { return Rpc::No };
    let accepted = headers.get_all(ACCEPT).iter().find_map(|value| Format::accepted(value.as_bytes()));
    Rpc::Web(accepted.unwrap_or(asked))
}

/// What stands behind `application/grpc`.
fn after_grpc(media_type: &[u8]) -> Option<&[u8]> {
    let (start, rest) = media_type.split_at_checked(GRPC.len())?;
    start.eq_ignore_ascii_case(GRPC.as_bytes()).then_some(rest)
}

fn ends_name(rest: &[u8]) -> bool {
    matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// A media type of another name, with the same suffix and parameters.
fn renamed(name: &str, rest: &[u8]) -> HeaderValue {
    // The rest is part of a header's value, so together they are one: the fallback is not met.
    HeaderValue::from_bytes(&[name.as_bytes(), rest].concat()).unwrap_or(HeaderValue::from_static(GRPC))
}

/// Makes a request's head gRPC's, and says what its body is. `None`: it is not gRPC-Web's.
fn translate_head(headers: &mut HeaderMap) -> Option<Format> {
    let (format, rest) = Format::of(headers.get(CONTENT_TYPE)?.as_bytes())?;
    let media_type = renamed(GRPC, rest);
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert(TE, TRAILERS);
    // Of text; and what is gRPC is told by its messages how long it is.
    headers.remove(CONTENT_LENGTH);
    // Few clients can do more, and those say so.
    headers.entry(GRPC_ACCEPT_ENCODING).or_insert(IDENTITY);
    Some(format)
}

/// The head as filters behind the translating one see it, if it differs.
pub fn translated_copy(method: &Method, headers: &HeaderMap) -> Option<HeaderMap> {
    let Rpc::Web(_) = Rpc::of(method, headers) else { return None };
    let mut copy = headers.clone();
    translate_head(&mut copy);
    Some(copy)
}

/// Makes a request gRPC's: its head now, its body as it comes.
#[cold]
pub fn translate(headers: &mut HeaderMap, body: &RequestBody) {
    if let Some(format) = translate_head(headers) {
        body.translate(format);
    }
}

/// What makes gRPC of a request's body, where that is asked for.
#[derive(Default)]
pub struct Translating(RefCell<Option<Request>>);

impl Translating {
    pub fn begin(&self, format: Format) {
        self.0.replace(Some(Request::new(format)));
    }

    pub fn is_on(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// What came as gRPC. `None`: nothing yet that could be sent. `ended`: nothing comes after it.
    #[cold]
    pub fn frame(&self, frame: Frame<Bytes>, ended: bool) -> Result<Option<Frame<Bytes>>, Fault> {
        let translating = &mut *self.0.borrow_mut();
        let Some(request) = translating else { return Ok(Some(frame)) };
        let data = match frame.into_data() {
            Ok(data) => request.push(data)?,
            Err(trailers) => return request.end().map(|()| Some(trailers)),
        };
        if ended {
            request.end()?;
        }
        Ok((ended || !data.is_empty()).then(|| Frame::data(data)))
    }

    /// Nothing came after the last frame.
    pub fn end(&self) -> Result<(), Fault> {
        self.0.borrow().as_ref().map_or(Ok(()), Request::end)
    }
}

/// Makes an answer's head gRPC-Web's; `ends`: without a body. `None`: what there is of a body goes out as it is.
#[cold]
pub fn translate_answer(head: &mut response::Parts, format: Format, ends: bool) -> Option<Answer> {
    let headers = &mut head.headers;
    let media_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if Format::of(media_type).is_some() {
        return None; // the endpoint speaks it by itself
    }
    let Some(rest) = after_grpc(media_type).filter(|rest| ends_name(rest)) else {
        // Not gRPC's: a proxy's error page, or an endpoint that speaks something else. The page goes out under its own
        // name, and the status says that it is none of an answer.
        headers.entry(GRPC_STATUS).or_insert_with(|| grpc_code(head.status).into());
        return None;
    };
    let media_type = renamed(format.media_type(), rest);
    headers.insert(CONTENT_TYPE, media_type);
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRAILER);
    if ends && !headers.contains_key(GRPC_STATUS) {
        NO_STATUS.tell(headers);
    }
    (!ends).then(|| Answer::new(format))
}

/// What is wrong with a call, for the client and for the log.
struct Wrong {
    text: &'static str,
    flags: &'static str,
    label: &'static str,
}

const NO_STATUS: Wrong = Wrong {
    text: "the upstream's answer ended without a status",
    flags: flags::UPSTREAM_PROTOCOL,
    label: "grpc_web_no_status",
};

impl Wrong {
    fn of(fault: Fault, flags: &'static str) -> Wrong {
        Wrong { text: fault.text(), flags, label: fault.label() }
    }

    /// Gives an answer the status INTERNAL.
    fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(GRPC_STATUS, INTERNAL.into());
        headers.insert(GRPC_MESSAGE, HeaderValue::from_static(self.text));
    }
}

/// An answer's body on its way from gRPC: its trailers become its last data.
pub struct WebAnswer {
    incoming: Inbound,
    answer: Answer,
    /// The head has said the status.
    has_status: bool,
    /// What is to be said once the data before it is out.
    fault: Option<Fault>,
    ended: bool,
}

impl WebAnswer {
    pub fn new(incoming: Inbound, answer: Answer, headers: &HeaderMap) -> WebAnswer {
        let has_status = headers.contains_key(GRPC_STATUS);
        WebAnswer { incoming, answer, has_status, fault: None, ended: false }
    }

    pub fn incoming(&mut self) -> &mut Inbound {
        &mut self.incoming
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next data; trailers are read into the record on their way.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        mut record: Option<&mut RequestRecord>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if let Some(fault) = self.fault.take() {
                let wrong = Wrong::of(fault, flags::UPSTREAM_PROTOCOL);
                return Poll::Ready(Some(self.fail(fault.into(), &wrong, record)));
            }
            let frame = match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    // Of a request's body that is at fault the client can be told.
                    let fault = error.downcast_ref::<Fault>().copied();
                    return Poll::Ready(Some(match fault.map(|fault| Wrong::of(fault, flags::PROTOCOL)) {
                        Some(wrong) => self.fail(error, &wrong, record),
                        None => Err(error),
                    }));
                }
                None if self.has_status && self.answer.is_whole() => {
                    self.ended = true;
                    continue;
                }
                None => return Poll::Ready(Some(self.fail(Fault::Cut.into(), &NO_STATUS, record))),
            };
            match frame.into_data() {
                Ok(data) => {
                    let (data, kept) = self.answer.push(data);
                    self.fault = kept.err();
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    clean_trailers(&mut trailers);
                    if let Some(record) = &mut record {
                        record.on_trailers(&trailers);
                    }
                    let has_status = self.has_status || trailers.contains_key(GRPC_STATUS);
                    if !has_status || !self.answer.is_whole() {
                        return Poll::Ready(Some(self.fail(Fault::Cut.into(), &NO_STATUS, record)));
                    }
                    self.ended = true;
                    return Poll::Ready(Some(Ok(Frame::data(self.answer.trailers(&trailers)))));
                }
            }
        }
    }

    /// Ends with a status that says why, where the client would take it for one, else without an end.
    #[cold]
    fn fail(
        &mut self,
        error: BodyError,
        wrong: &Wrong,
        record: Option<&mut RequestRecord>,
    ) -> Result<Frame<Bytes>, BodyError> {
        if !self.answer.is_whole() {
            return Err(error);
        }
        self.ended = true;
        if let Some(record) = record {
            record.on_wrong_body(wrong.flags, wrong.label, i32::from(INTERNAL));
        }
        let mut trailers = HeaderMap::with_capacity(2);
        wrong.tell(&mut trailers);
        Ok(Frame::data(self.answer.trailers(&trailers)))
    }
}

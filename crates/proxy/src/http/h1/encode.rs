//! Messages on their way out: heads from the pipeline's types by the codec's writer, bodies in the form that the head
//! announced.
//!
//! Names go out in lower case, as the map of fields holds them.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{CONTENT_LENGTH, DATE, TE, UPGRADE},
    response,
};
use http_body::{Body, Frame};
use weft_wire::http1::{
    Announce, Answer, BODY_END, CHUNK_END, ChunkHead, FieldId, Framing, HeadWriter, Hop, Unwritable,
};

use super::{
    date,
    io::{FLAT_BYTES_MAX, Out},
};
use crate::http::{headers::join_cookies, target::Target};

/// How the rest of a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// So many bytes are left.
    Length(u64),
    Chunked,
    UntilClose,
    Ended,
}

/// The body is not as long as its head said: the message cannot be ended well.
#[derive(Debug, thiserror::Error)]
#[error("the body is not as long as its head says")]
pub struct WrongLength;

impl From<Framing> for Sending {
    fn from(framing: Framing) -> Sending {
        match framing {
            Framing::None | Framing::Tunnel | Framing::Length(0) => Sending::Ended,
            Framing::Length(length) => Sending::Length(length),
            Framing::Chunked => Sending::Chunked,
            Framing::UntilClose => Sending::UntilClose,
        }
    }
}

impl Sending {
    /// Adds a part of the body. `last`: the body says that nothing follows.
    pub fn push(&mut self, out: &mut Out, frame: Frame<Bytes>, last: bool) -> Result<(), WrongLength> {
        let data = match frame.into_data() {
            Ok(data) if data.is_empty() => return if last { self.end(out) } else { Ok(()) },
            Ok(data) => data,
            Err(frame) => {
                return match frame.into_trailers() {
                    Ok(trailers) => self.end_with(out, &trailers),
                    Err(_) => Ok(()),
                };
            }
        };
        match self {
            Sending::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                if *left == 0 {
                    *self = Sending::Ended;
                }
                out.push(data, b"");
            }
            Sending::Chunked => {
                if let Some(head) = ChunkHead::new(data.len()) {
                    out.flat().extend_from_slice(head.as_bytes());
                }
                out.push(data, if last { LAST_CHUNK_END } else { CHUNK_END });
                if last {
                    *self = Sending::Ended;
                }
            }
            Sending::UntilClose => out.push(data, b""),
            Sending::Ended => return Err(WrongLength),
        }
        if last { self.end(out) } else { Ok(()) }
    }

    /// The body ended.
    pub fn end(&mut self, out: &mut Out) -> Result<(), WrongLength> {
        match std::mem::replace(self, Sending::Ended) {
            Sending::Length(_) => Err(WrongLength),
            Sending::Chunked => {
                out.flat().extend_from_slice(BODY_END);
                Ok(())
            }
            Sending::UntilClose | Sending::Ended => Ok(()),
        }
    }

    #[cold]
    fn end_with(&mut self, out: &mut Out, trailers: &HeaderMap) -> Result<(), WrongLength> {
        if *self != Sending::Chunked {
            return self.end(out); // there is no place for them
        }
        *self = Sending::Ended;
        let flat = out.flat();
        flat.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            if !FieldId::of(name.as_str().as_bytes()).is_barred_from_trailers() {
                flat.extend_from_slice(name.as_str().as_bytes());
                flat.extend_from_slice(b": ");
                flat.extend_from_slice(value.as_bytes());
                flat.extend_from_slice(b"\r\n");
            }
        }
        flat.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// The end of the last chunk and of the body.
const LAST_CHUNK_END: &[u8] = b"\r\n0\r\n\r\n";

const _: () = assert!(FLAT_BYTES_MAX >= 64);

/// Writes a request's head and says how its body is written.
pub fn request<B: Body>(
    out: &mut Out,
    target: &mut Target,
    body: &B,
    upgrade: bool,
) -> Result<Sending, Unwritable> {
    join_cookies(&mut target.headers);
    let framing = request_framing(&target.method, &target.headers, body);
    let flat = out.flat();
    let start = flat.len();
    let written = write_request(flat, target, framing.into(), upgrade);
    if written.is_err() {
        flat.truncate(start);
    }
    written.map(|()| framing.into())
}

fn write_request(
    flat: &mut Vec<u8>,
    target: &Target,
    announce: Announce,
    upgrade: bool,
) -> Result<(), Unwritable> {
    let (method, path) = (target.method.as_str().as_bytes(), target.path.as_str().as_bytes());
    let mut writer = HeadWriter::request(flat, method, path, target.host.as_bytes())?;
    writer.fields(&target.headers);
    writer.announce(announce);
    writer.hop(Hop {
        trailers: target.headers.contains_key(TE),
        upgrade: upgrade.then(|| target.headers.get(UPGRADE).map(HeaderValue::as_bytes)).flatten(),
        ..Hop::default()
    })?;
    writer.finish();
    Ok(())
}

fn request_framing<B: Body>(method: &Method, headers: &HeaderMap, body: &B) -> Framing {
    if body.is_end_stream() {
        // RFC 9110 section 8.6: methods that usually have a body say that there is none.
        let expected = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
        return if expected || headers.contains_key(CONTENT_LENGTH) {
            Framing::Length(0)
        } else {
            Framing::None
        };
    }
    match body.size_hint().exact().or_else(|| said_length(headers)) {
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    }
}

fn said_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// How long an answer is, and what its head says of it.
pub fn response_framing<B: Body>(
    status: StatusCode,
    to_head: bool,
    headers: &HeaderMap,
    body: &B,
) -> (Framing, Announce) {
    match status.as_u16() {
        100..=199 | 204 => (Framing::None, Announce::Nothing),
        304 => (Framing::None, said_length(headers).map_or(Announce::Nothing, Announce::Length)),
        _ if to_head => {
            let length =
                said_length(headers).or_else(|| body.size_hint().exact().filter(|length| *length > 0));
            (Framing::None, length.map_or(Announce::Nothing, Announce::Length))
        }
        _ if body.is_end_stream() => (Framing::Length(0), Announce::Length(0)),
        _ => {
            let framing = body.size_hint().exact().map_or(Framing::Chunked, Framing::Length);
            (framing, framing.into())
        }
    }
}

/// Writes an answer's head.
pub fn response(out: &mut Out, parts: &response::Parts, answer: Answer) -> Result<(), Unwritable> {
    let flat = out.flat();
    let start = flat.len();
    let written = write_response(flat, parts, answer);
    if written.is_err() {
        flat.truncate(start);
    }
    written
}

/// Writes the head of a 1xx answer. It says nothing of a length or of the connection.
pub fn interim(out: &mut Out, status: StatusCode, headers: &HeaderMap) -> Result<(), Unwritable> {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut writer = HeadWriter::response(out.flat(), status.as_u16(), reason.as_bytes())?;
    writer.fields(headers);
    writer.finish();
    Ok(())
}

fn write_response(flat: &mut Vec<u8>, parts: &response::Parts, answer: Answer) -> Result<(), Unwritable> {
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let mut writer = HeadWriter::response(flat, parts.status.as_u16(), reason.as_bytes())?;
    writer.fields(&parts.headers);
    if !parts.headers.contains_key(DATE) && parts.status.as_u16() >= 200 {
        // RFC 9110 section 6.6.1: whoever has a clock adds what is missing.
        date::with(|date| writer.field(b"date", date))?;
    }
    writer.announce(answer.announce);
    let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    writer.hop(Hop {
        persist: answer.persist,
        upgrade: switches.then(|| parts.headers.get(UPGRADE).map(HeaderValue::as_bytes)).flatten(),
        ..Hop::default()
    })?;
    writer.finish();
    Ok(())
}

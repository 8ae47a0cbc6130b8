//! gRPC-Web's bodies to gRPC's and back, chunk by chunk.
//!
//! gRPC-Web (`doc/PROTOCOL-WEB.md` of the gRPC project) frames messages as gRPC does: a byte of flags and four of
//! length before each. What differs is the end: a browser sees no trailers, so they come as one more frame of the
//! answer's body, told by the highest bit of its flags. The text form is the same bytes in base64.
//!
//! [`Request`] makes gRPC of a request's body, [`Answer`] makes gRPC-Web of an answer's. Both take the bytes however
//! they are cut, hold at most three of them, and know only where in a message they are: no message is stored, and how
//! long one may be is for its reader to say. A body that does not keep to the framing is a [`Fault`], since whatever is
//! sent behind half a message would be read as the rest of it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::HeaderMap;

/// The two forms of gRPC-Web.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/grpc-web`
    Binary,
    /// `application/grpc-web-text`: base64, for clients that can't read bytes while they come.
    Text,
}

const GRPC_WEB: &[u8] = b"application/grpc-web";
const TEXT: &[u8] = b"-text";

impl Format {
    /// What a media type says, with what stands behind its name: `+proto`, parameters, or nothing. `None`: it is not
    /// gRPC-Web's.
    #[must_use]
    pub fn of(media_type: &[u8]) -> Option<(Format, &[u8])> {
        let rest = without_prefix(media_type, GRPC_WEB)?;
        let (format, rest) = match without_prefix(rest, TEXT) {
            Some(rest) => (Format::Text, rest),
            None => (Format::Binary, rest),
        };
        matches!(rest.first(), None | Some(b'+' | b';' | b' ')).then_some((format, rest))
    }

    /// The first form of gRPC-Web that an `Accept` lists.
    #[must_use]
    pub fn accepted(accept: &[u8]) -> Option<Format> {
        let listed = accept.split(|byte| *byte == b',');
        listed.filter_map(|media_type| Format::of(media_type.trim_ascii())).map(|(format, _)| format).next()
    }

    /// The media type's name.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Binary => "application/grpc-web",
            Format::Text => "application/grpc-web-text",
        }
    }
}

fn without_prefix<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Why a body is not gRPC-Web's, or gRPC's. It says nothing of what stands in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub enum Fault {
    /// Other signs than base64's, or padding where none may be (RFC 4648 section 4).
    Base64,
    /// A message's flags are neither none nor "compressed". Trailers are no message: a client has none to send, and an
    /// endpoint that speaks gRPC must not be able to make some up.
    Flags,
    /// The body ends inside of a message, or of a group of base64.
    Cut,
}

impl Fault {
    /// For whoever sent it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Fault::Base64 => "the body is not base64",
            Fault::Flags => "a message's flags are not gRPC's",
            Fault::Cut => "the body ends inside of a message",
        }
    }

    /// For logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Fault::Base64 => "grpc_web_bad_base64",
            Fault::Flags => "grpc_web_bad_flags",
            Fault::Cut => "grpc_web_cut_off",
        }
    }
}

/// Flags and length.
const HEADER_BYTES: u8 = 5;
/// A message's only flag.
const COMPRESSED: u8 = 1;
/// The flag of the frame that holds the trailers.
const TRAILERS: u8 = 0x80;

/// Where in the messages a body is.
#[derive(Debug, Default)]
struct Place {
    /// Bytes of the header that were seen; 0 is between messages.
    header: u8,
    /// Of the message, once its header is whole; of the length, until then.
    left: u32,
}

impl Place {
    /// How many of the bytes belong to the message that is open or begins: one at least, if there are any.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut used = 0;
        while self.header < HEADER_BYTES {
            let Some(byte) = bytes.get(used) else { return Ok(used) };
            match self.header {
                0 if byte & !COMPRESSED != 0 => return Err(Fault::Flags),
                0 => self.left = 0,
                _ => self.left = self.left << 8 | u32::from(*byte),
            }
            self.header += 1;
            used += 1;
        }
        let here = u32::try_from(bytes.len() - used).unwrap_or(u32::MAX).min(self.left);
        self.left -= here;
        if self.left == 0 {
            self.header = 0;
        }
        Ok(used + here as usize)
    }

    /// Goes through all of them; how far, and why no further.
    fn walk(&mut self, bytes: &[u8]) -> (usize, Result<(), Fault>) {
        let mut at = 0;
        while at < bytes.len() {
            match self.step(&bytes[at..]) {
                Ok(used) => at += used,
                Err(fault) => return (at, Err(fault)),
            }
        }
        (at, Ok(()))
    }

    fn is_between(&self) -> bool {
        self.header == 0
    }
}

/// A request's body on its way to gRPC.
#[derive(Debug)]
pub struct Request {
    format: Format,
    place: Place,
    /// The start of a group of base64.
    held: [u8; 3],
    held_bytes: u8,
}

impl Request {
    #[must_use]
    pub fn new(format: Format) -> Request {
        Request { format, place: Place::default(), held: [0; 3], held_bytes: 0 }
    }

    /// What the next bytes of the body are in gRPC; maybe nothing yet. After a fault there is nothing more to be had.
    pub fn push(&mut self, data: Bytes) -> Result<Bytes, Fault> {
        let data = match self.format {
            Format::Binary => data,
            Format::Text => self.decode(&data)?.into(),
        };
        self.place.walk(&data).1?;
        Ok(data)
    }

    /// The body has ended: was it whole?
    pub fn end(&self) -> Result<(), Fault> {
        if self.held_bytes == 0 && self.place.is_between() { Ok(()) } else { Err(Fault::Cut) }
    }

    fn decode(&mut self, mut text: &[u8]) -> Result<Vec<u8>, Fault> {
        let held = usize::from(self.held_bytes);
        let mut out = Vec::with_capacity((held + text.len()) / 4 * 3);
        if held > 0 && held + text.len() >= 4 {
            let mut group = [0; 4];
            let (first, rest) = text.split_at(4 - held);
            group[..held].copy_from_slice(&self.held[..held]);
            group[held..].copy_from_slice(first);
            decode_groups(&group, &mut out)?;
            self.held_bytes = 0;
            text = rest;
        }
        if self.held_bytes == 0 {
            let (groups, rest) = text.split_at(text.len() / 4 * 4);
            decode_groups(groups, &mut out)?;
            text = rest;
        }
        for byte in text {
            self.held[usize::from(self.held_bytes)] = *byte;
            self.held_bytes += 1;
        }
        Ok(out)
    }
}

/// Whole groups. Padding may come anywhere in the stream, since each part of it may have been encoded by itself; a
/// padded group ends a part.
fn decode_groups(mut groups: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    while !groups.is_empty() {
        let padding = groups.iter().position(|sign| *sign == b'=');
        let (part, rest) = groups.split_at(padding.map_or(groups.len(), |at| at / 4 * 4 + 4));
        STANDARD.decode_vec(part, out).map_err(|_| Fault::Base64)?;
        groups = rest;
    }
    Ok(())
}

/// An answer's body on its way from gRPC.
#[derive(Debug)]
pub struct Answer {
    format: Format,
    place: Place,
    /// Bytes that are no group yet. A message never ends with some: there the group is padded.
    held: [u8; 2],
    held_bytes: u8,
}

impl Answer {
    #[must_use]
    pub fn new(format: Format) -> Answer {
        Answer { format, place: Place::default(), held: [0; 2], held_bytes: 0 }
    }

    /// What the next bytes of the body are in gRPC-Web, and whether they kept to the framing. At a fault what came
    /// before it is still there to be sent.
    pub fn push(&mut self, data: Bytes) -> (Bytes, Result<(), Fault>) {
        match self.format {
            Format::Binary => {
                let (good, kept) = self.place.walk(&data);
                (data.slice(..good), kept)
            }
            Format::Text => {
                let mut text = String::with_capacity(data.len() / 3 * 4 + 8);
                let mut rest = &data[..];
                while !rest.is_empty() {
                    match self.place.step(rest) {
                        Ok(used) => {
                            let (part, after) = rest.split_at(used);
                            self.encode(part, &mut text);
                            rest = after;
                        }
                        Err(fault) => return (text.into(), Err(fault)),
                    }
                }
                (text.into(), Ok(()))
            }
        }
    }

    /// Whether it stands between messages, the only place where trailers may come.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.place.is_between()
    }

    /// The last frame: the trailers as lines of HTTP/1, names in lower case as the map has them. Values of `-bin` names
    /// stay in base64, as Envoy sends them; the document would have them as bytes in the text form.
    #[must_use]
    pub fn trailers(&self, trailers: &HeaderMap) -> Bytes {
        let mut frame = vec![TRAILERS, 0, 0, 0, 0];
        for (name, value) in trailers {
            frame.extend_from_slice(name.as_str().as_bytes());
            frame.extend_from_slice(b": ");
            frame.extend_from_slice(value.as_bytes());
            frame.extend_from_slice(b"\r\n");
        }
        // No block of trailers that a codec takes comes near 4 GiB.
        let length = u32::try_from(frame.len() - usize::from(HEADER_BYTES)).unwrap_or(u32::MAX);
        frame[1..5].copy_from_slice(&length.to_be_bytes());
        match self.format {
            Format::Binary => frame.into(),
            Format::Text => STANDARD.encode(frame).into(),
        }
    }

    /// Adds a part of one message.
    fn encode(&mut self, mut part: &[u8], text: &mut String) {
        let ends = self.place.is_between();
        let held = usize::from(self.held_bytes);
        if held > 0 && (ends || held + part.len() >= 3) {
            let (first, rest) = part.split_at(part.len().min(3 - held));
            let mut group = [0; 3];
            group[..held].copy_from_slice(&self.held[..held]);
            group[held..held + first.len()].copy_from_slice(first);
            STANDARD.encode_string(&group[..held + first.len()], text);
            self.held_bytes = 0;
            part = rest;
        }
        if self.held_bytes == 0 {
            let whole = if ends { part.len() } else { part.len() / 3 * 3 };
            let (groups, rest) = part.split_at(whole);
            STANDARD.encode_string(groups, text);
            part = rest;
        }
        for byte in part {
            self.held[usize::from(self.held_bytes)] = *byte;
            self.held_bytes += 1;
        }
    }
}

#[cfg(test)]
mod tests;

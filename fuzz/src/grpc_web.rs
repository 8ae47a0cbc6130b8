//! gRPC-Web: what is streamed is what a reader of the whole body finds in it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use weft_wire::grpc_web::{Answer, Fault, Format, Request};

use crate::{mutations::Random, seed_of};

/// All of it, in one go: base64 by the group, since any of them may be padded.
fn decoded(format: Format, body: &[u8]) -> Option<Vec<u8>> {
    match format {
        Format::Binary => Some(body.to_vec()),
        Format::Text => {
            let groups: Option<Vec<Vec<u8>>> = body
                .chunks(4)
                .map(|group| STANDARD.decode(group).ok().filter(|_| group.len() == 4))
                .collect();
            groups.map(|groups| groups.concat())
        }
    }
}

/// Where messages end, up to the first that is none; whether that is all there is.
fn messages(mut body: &[u8]) -> (Vec<usize>, bool) {
    let (whole, mut ends) = (body.len(), Vec::new());
    while let [flags @ (0 | 1), l0, l1, l2, l3, after @ ..] = body {
        let _ = flags;
        let length = u32::from_be_bytes([*l0, *l1, *l2, *l3]) as usize;
        let Some(rest) = after.get(length..) else { break };
        ends.push(whole - rest.len());
        body = rest;
    }
    (ends, body.is_empty())
}

/// Cut in several ways, among them byte by byte and not at all.
fn cuts(body: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    [1, 2, 3, 4, 5, 7, body.len().max(1), 0].into_iter().map(move |size| {
        let (mut random, mut rest, mut pieces) = (Random::new(seed_of(body)), body, Vec::new());
        while !rest.is_empty() {
            let here = if size == 0 { 1 + random.below(11) } else { size };
            let (piece, after) = rest.split_at(here.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces
    })
}

fn streamed(format: Format, pieces: &[&[u8]]) -> Result<Vec<u8>, Fault> {
    let (mut request, mut out) = (Request::new(format), Vec::new());
    for piece in pieces {
        out.extend(request.push(Bytes::copy_from_slice(piece))?);
    }
    request.end().map(|()| out)
}

fn request(format: Format, body: &[u8]) {
    let expected = decoded(format, body).filter(|bytes| messages(bytes).1);
    for pieces in cuts(body) {
        assert_eq!(streamed(format, &pieces).ok(), expected, "{format:?}");
    }
}

fn answer(format: Format, body: &[u8]) {
    let (ends, clean) = messages(body);
    for pieces in cuts(body) {
        let mut answer = Answer::new(format);
        let (mut out, mut kept) = (Vec::new(), Ok(()));
        for piece in pieces {
            let (good, result) = answer.push(Bytes::copy_from_slice(piece));
            out.extend(good);
            kept = result;
            if kept.is_err() {
                break;
            }
        }
        assert_eq!(clean, kept.is_ok() && answer.is_whole());
        // Each message by itself, as a server would flush it; then what is known of one that is not whole.
        let mut start = 0;
        let mut expected = Vec::new();
        for end in &ends {
            match format {
                Format::Binary => expected.extend_from_slice(&body[start..*end]),
                Format::Text => expected.extend(STANDARD.encode(&body[start..*end]).into_bytes()),
            }
            start = *end;
        }
        assert!(out.starts_with(&expected), "a message is not out");
        if answer.is_whole() {
            assert_eq!(out, expected, "what is behind the last message must be trailers");
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from(start));
            let last = answer.trailers(&trailers);
            let last = decoded(format, &last).expect("base64");
            assert_eq!(last[0], 0x80);
            assert_eq!(u32::from_be_bytes([last[1], last[2], last[3], last[4]]) as usize, last.len() - 5);
            assert_eq!(&last[5..], format!("grpc-status: {start}\r\n").as_bytes());
        } else {
            let rest = match format {
                Format::Binary => out[expected.len()..].to_vec(),
                Format::Text => decoded(format, &out[expected.len()..]).expect("whole groups"),
            };
            assert!(body[start..].starts_with(&rest) && body.len() - start < rest.len() + 3);
        }
    }
}

pub fn grpc_web(data: &[u8]) {
    for format in [Format::Binary, Format::Text] {
        request(format, data);
        answer(format, data);
    }
    // Bytes that happen to be base64 are few: most are made so.
    request(Format::Text, STANDARD.encode(data).as_bytes());
}

pub fn grpc_web_seeds() -> Vec<Vec<u8>> {
    let message = |flags: u8, body: &[u8]| {
        [&[flags][..], &u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
    };
    let (hi, empty, long) = (message(0, b"hi"), message(1, b""), message(0, &[b'x'; 300]));
    let text: String = [&hi, &empty, &long].map(|message| STANDARD.encode(message)).concat();
    vec![
        hi.clone(),
        [hi.clone(), empty.clone(), long.clone()].concat(),
        text.into_bytes(),
        STANDARD.encode([hi.clone(), empty].concat()).into_bytes(),
        [hi, message(0x80, b"grpc-status: 0\r\n")].concat(),
        b"\0\xff\xff\xff\xffhi".to_vec(),
    ]
}

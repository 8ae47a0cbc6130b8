//! A second opinion: httparse, which hyper reads with. What we take it takes, and sees the same in it.

use weft_wire::{
    Progress,
    http1::{Asked, RequestHead, ResponseHead},
};

use crate::served::LIMITS;

#[derive(Debug, PartialEq, Eq)]
struct Seen<'a> {
    start: Vec<&'a [u8]>,
    fields: Vec<(&'a [u8], &'a [u8])>,
    used: usize,
}

fn theirs<'a>(fields: &[httparse::Header<'a>]) -> Vec<(&'a [u8], &'a [u8])> {
    fields.iter().map(|field| (field.name.as_bytes(), field.value)).collect()
}

fn ours<'a>(fields: &weft_wire::http1::Fields, bytes: &'a [u8]) -> Vec<(&'a [u8], &'a [u8])> {
    fields.iter().map(|field| (field.name().of(bytes), field.value().of(bytes))).collect()
}

/// False if we did not take it.
pub fn request(bytes: &[u8]) -> bool {
    let mut head = RequestHead::default();
    let Ok(Progress::Done(used)) = head.read(bytes, &LIMITS) else { return false };
    // A colon without a port is taken off the Host; that is ours alone.
    let mut fields = ours(head.fields(), bytes);
    let mut slots = [httparse::EMPTY_HEADER; 128];
    let mut peer = httparse::Request::new(&mut slots);
    let peer_used =
        peer.parse(bytes).unwrap_or_else(|error| panic!("{error}: {}", bytes.escape_ascii())).unwrap();
    let start = vec![peer.method.unwrap().as_bytes(), peer.path.unwrap().as_bytes()];
    let mut peer_fields = theirs(peer.headers);
    for (name, value) in fields.iter_mut().chain(&mut peer_fields) {
        if name.eq_ignore_ascii_case(b"host") {
            *value = value.strip_suffix(b":").unwrap_or(value);
        }
    }
    let own = Seen { start: vec![head.method_span().of(bytes), head.target_span().of(bytes)], fields, used };
    assert_eq!(own, Seen { start, fields: peer_fields, used: peer_used });
    true
}

pub fn response(bytes: &[u8], asked: Asked) -> bool {
    let mut head = ResponseHead::default();
    let Ok(Progress::Done(used)) = head.read(bytes, asked, &LIMITS) else { return false };
    let mut slots = [httparse::EMPTY_HEADER; 128];
    let mut peer = httparse::Response::new(&mut slots);
    let peer_used =
        peer.parse(bytes).unwrap_or_else(|error| panic!("{error}: {}", bytes.escape_ascii())).unwrap();
    assert_eq!(peer.code, Some(head.status()));
    let own = Seen { start: Vec::new(), fields: ours(head.fields(), bytes), used };
    assert_eq!(own, Seen { start: Vec::new(), fields: theirs(peer.headers), used: peer_used });
    true
}

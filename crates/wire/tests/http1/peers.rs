//! Against httparse, which hyper reads with: what we take it takes, and sees the same in it.

use weft_wire::{
    Progress,
    http1::{Asked, RequestHead, ResponseHead},
};

use crate::{
    mutations::{Random, spoil},
    requests, responses,
    served::LIMITS,
};

const MUTATIONS: usize = 10_000;

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
fn request(bytes: &[u8]) -> bool {
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

fn response(bytes: &[u8], asked: Asked) -> bool {
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

#[test]
fn httparse_sees_the_same_in_what_we_take() {
    let requests: Vec<Vec<u8>> =
        requests::corpus().into_iter().map(|case| case.bytes).filter(|bytes| bytes.len() < 4000).collect();
    let responses: Vec<responses::Case> = responses::corpus()
        .into_iter()
        .filter(|case| case.bytes.len() < 4000 && !case.bytes.is_empty())
        .collect();
    let mut taken = requests.iter().filter(|bytes| request(bytes)).count();
    taken += responses.iter().filter(|case| response(&case.bytes, case.asked)).count();
    assert!(taken > 100, "only {taken} of the corpora were taken");
    let mut random = Random::new(7);
    println!("seed 7");
    let mut taken = 0;
    for _ in 0..MUTATIONS {
        let (one, other) = (random.below(requests.len()), random.below(requests.len()));
        taken += usize::from(request(&spoil(&requests[one], &requests[other], &mut random)));
        let (one, other) =
            (&responses[random.below(responses.len())], &responses[random.below(responses.len())]);
        taken += usize::from(response(&spoil(&one.bytes, &other.bytes, &mut random), one.asked));
    }
    assert!(taken > MUTATIONS / 10, "only {taken} mutations were taken");
}

#[test]
fn chunk_sizes_are_read_as_httparse_reads_them() {
    for size in [1_usize, 9, 10, 255, 0x1a3, 1 << 20] {
        let head = weft_wire::http1::ChunkHead::new(size).unwrap();
        let bytes = head.as_bytes();
        assert_eq!(
            httparse::parse_chunk_size(bytes),
            Ok(httparse::Status::Complete((bytes.len(), size as u64)))
        );
    }
}

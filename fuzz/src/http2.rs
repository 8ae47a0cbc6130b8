//! The guard that counts HTTP/2 frames from their heads.

use std::time::Duration;

use weft_wire::http2_guard::{Flood, Guard, Limits};

use crate::{mutations::Random, seed_of};

const PREFACE: usize = 24;

/// What a guard has to say after some bytes.
type Verdict = (Result<(), Flood>, bool, [u8; 17]);

fn received(mut guard: Guard, pieces: &[&[u8]]) -> Verdict {
    let mut told = Ok(());
    for (number, piece) in pieces.iter().enumerate() {
        told = guard.on_received(piece, || Duration::ZERO);
        if told.is_err() {
            assert!(number < pieces.len());
            break;
        }
    }
    (told, guard.take_settings(), guard.goaway())
}

/// Where a reader of lengths alone stands after the bytes.
fn stands_between(mut bytes: &[u8], preface: bool) -> bool {
    if preface {
        let Some(rest) = bytes.get(PREFACE..) else { return false };
        bytes = rest;
    }
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some(rest) = rest.get(length..) else { return false };
        bytes = rest;
    }
    bytes.is_empty()
}

/// The first byte says which side it is and how strict.
pub fn frames(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let limits = Limits { empty_in_a_row: (how & 2 != 0).then_some(u32::from(how >> 2)), ..Limits::DEFAULT };
    let server = how & 1 != 0;
    let new = || if server { Guard::server(limits) } else { Guard::client(limits) };
    let cuts = Random::new(seed_of(data)).cuts(data.len());
    let whole = received(new(), &[data]);
    let mut pieces = Vec::new();
    let mut from = 0;
    for cut in cuts.into_iter().chain([data.len()]) {
        if cut > from {
            pieces.push(&data[from..cut]);
            from = cut;
        }
    }
    assert_eq!(received(new(), &pieces), whole, "{} pieces", pieces.len());
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(received(new(), &bytes), whole, "byte by byte");

    let mut sender = new();
    sender.on_sent(data);
    assert_eq!(sender.is_between_frames(), stands_between(data, !server), "after {data:?}");
}

pub fn frame_seeds() -> Vec<Vec<u8>> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap_or(u8::MAX);
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let usual = [
        frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]),
        frame(1, 4, 1, &[0x82, 0x84, 0x86]),
        frame(0, 9, 1, &[1, b'a', 0]),
        frame(8, 0, 0, &[0, 0, 1, 0]),
        frame(3, 0, 1, &[0, 0, 0, 8]),
        frame(7, 0, 0, &[0; 8]),
    ]
    .concat();
    let pings = frame(6, 0, 0, &[0; 8]).repeat(100);
    let empty = frame(9, 0, 1, &[]).repeat(40);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    [&usual, &pings, &empty]
        .into_iter()
        .flat_map(|frames| [[&[3], &preface[..], frames].concat(), [&[0][..], frames].concat()])
        .collect()
}

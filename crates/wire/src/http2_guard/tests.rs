#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

use std::cell::Cell;

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PUSH_PROMISE: u8 = 5;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn server() -> Guard {
    server_with(Limits::DEFAULT)
}

fn server_with(limits: Limits) -> Guard {
    let mut guard = Guard::server(limits);
    guard.on_received(PREFACE, young).unwrap();
    guard
}

fn young() -> Duration {
    Duration::ZERO
}

/// After how many of these frames it is a flood, and which one.
fn ended(guard: &mut Guard, frames: impl Fn(u32) -> Vec<u8>) -> Option<(u32, Flood)> {
    (1..=5000).find_map(|n| guard.on_received(&frames(n), young).err().map(|flood| (n, flood)))
}

#[test]
fn each_flood_ends_within_a_thousand_frames() {
    type Make = Box<dyn Fn(u32) -> Vec<u8>>;
    let all: Vec<(Flood, Make)> = vec![
        (Flood::Settings, Box::new(|_| frame(SETTINGS, 0, 0, &[]))),
        (Flood::Settings, Box::new(|n| frame(SETTINGS, 0, 0, &[0, 1, 0, 0, (n % 2) as u8 * 16, 0]))),
        (Flood::Ping, Box::new(|_| frame(PING, 0, 0, &[0; 8]))),
        (Flood::Ping, Box::new(|_| frame(PING, 1, 0, &[0; 8]))),
        (Flood::Priority, Box::new(|n| frame(PRIORITY, 0, 1 + 2 * n, &[0; 5]))),
        (Flood::WindowUpdate, Box::new(|n| frame(WINDOW_UPDATE, 0, n % 2, &[0, 0, 0, 1]))),
        (Flood::Empty, Box::new(|_| frame(DATA, 0, 1, &[]))),
        (Flood::Empty, Box::new(|_| frame(DATA, PADDED, 1, &[9, 0, 0, 0, 0, 0, 0, 0, 0, 0]))),
        (Flood::Empty, Box::new(|_| frame(CONTINUATION, 0, 1, &[]))),
        (Flood::Empty, Box::new(|_| frame(HEADERS, 0, 1, &[]))),
        (Flood::Reset, Box::new(|_| frame(RST_STREAM, 0, 1, &[0; 4]))),
        (Flood::Goaway, Box::new(|_| frame(GOAWAY, 0, 0, &[0; 8]))),
        (Flood::Unknown, Box::new(|_| frame(0xee, 0, 0, &[0; 16]))),
        (Flood::Unknown, Box::new(|_| frame(0x10, 0, 0, &[0; 16]))),
        (Flood::Unknown, Box::new(|_| frame(PUSH_PROMISE, 0, 1, &[0; 16]))),
    ];
    for (flood, make) in all {
        let (after, found) = ended(&mut server(), &make).unwrap_or_else(|| panic!("{flood:?} goes on"));
        assert_eq!(found, flood);
        assert!(after <= 1000, "{flood:?} after {after}");
    }
    // Of a server: heads that are none yet.
    let mut client = Guard::client(Limits::DEFAULT);
    assert_eq!(
        ended(&mut client, |_| frame(HEADERS, 4, 1, &[0x88])).map(|found| found.1),
        Some(Flood::Heads)
    );
}

#[test]
fn the_pieces_do_not_matter() {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[0; 6]));
    bytes.extend(frame(HEADERS, 4, 1, &[0x82; 30]));
    bytes.extend(frame(DATA, PADDED, 1, &[2, b'x', 0, 0]));
    bytes.extend(frame(DATA, 0, 1, &[7; 300]));
    for n in 0..600_u32 {
        bytes.extend(frame(if n % 2 == 0 { PING } else { DATA }, 0, n % 2, &[0; 8]));
    }
    for _ in 0..600 {
        bytes.extend(frame(PING, 0, 0, &[0; 8]));
    }
    let whole = Guard::server(Limits::DEFAULT).on_received(&bytes, young);
    assert_eq!(whole, Err(Flood::Ping));
    let end = |size: usize| {
        let mut guard = Guard::server(Limits::DEFAULT);
        let mut at = 0;
        for piece in bytes.chunks(size) {
            at += piece.len();
            if guard.on_received(piece, young).is_err() {
                return at;
            }
        }
        panic!("pieces of {size}: no flood")
    };
    let exact = end(1);
    for size in [2, 3, 7, 9, 10, 24, 100, 4096] {
        assert_eq!(end(size), exact.div_ceil(size) * size, "pieces of {size}");
    }
}

#[test]
fn a_frame_that_is_padding_only_is_empty_and_one_byte_is_not() {
    let limits = Limits { empty_in_a_row: Some(1), ..Limits::DEFAULT };
    let mut guard = server_with(limits);
    let padding = frame(DATA, PADDED, 1, &[3, 0, 0, 0]);
    let byte = frame(DATA, PADDED, 1, &[2, b'x', 0, 0]);
    for _ in 0..5000 {
        assert_eq!(guard.on_received(&padding, young), Ok(()));
        assert_eq!(guard.on_received(&byte, young), Ok(()));
    }
    assert_eq!(guard.on_received(&padding, young), Ok(()));
    assert_eq!(guard.on_received(&padding, young), Err(Flood::Empty), "the second in a row");
}

#[test]
fn the_end_of_a_stream_is_never_idle() {
    let mut guard = server_with(Limits { empty_in_a_row: Some(0), ..Limits::DEFAULT });
    for n in 0..5000_u32 {
        assert_eq!(guard.on_received(&frame(HEADERS, 4, 2 * n + 1, &[0x82; 20]), young), Ok(()));
        assert_eq!(guard.on_received(&frame(DATA, END_STREAM, 2 * n + 1, &[]), young), Ok(()));
    }
}

/// grpc-go and others measure the road with a PING for what they got, and hand back each DATA's window twice.
#[test]
fn a_busy_client_may_ping_and_update() {
    let mut guard = server();
    guard.on_received(&frame(HEADERS, 4, 1, &[0x82; 20]), young).unwrap();
    for _ in 0..100_000 {
        guard.on_sent(&frame(DATA, 0, 1, b"small"));
        for stream in [0, 1] {
            assert_eq!(guard.on_received(&frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 5]), young), Ok(()));
        }
        assert_eq!(guard.on_received(&frame(PING, 0, 0, &[0; 8]), young), Ok(()));
    }
    assert!(guard.is_between_frames());
}

#[test]
fn a_browser_may_say_what_matters_more() {
    let mut guard = server();
    for n in 0..5000 {
        guard.on_received(&frame(PRIORITY, 0, 2 * n + 1, &[0; 5]), young).unwrap();
        guard.on_received(&frame(HEADERS, 5, 2 * n + 1, &[0x82; 20]), young).unwrap();
        guard.on_received(&frame(0x10, 0, 0, &[0; 12]), young).unwrap(); // PRIORITY_UPDATE
        guard.on_received(&frame(WINDOW_UPDATE, 0, 2 * n + 1, &[0, 16, 0, 0]), young).unwrap();
    }
}

#[test]
fn a_client_that_cancels_all_it_asks_is_the_codecs_business() {
    let mut guard = server();
    for n in 0..5000 {
        guard.on_received(&frame(HEADERS, 5, 2 * n + 1, &[0x82; 20]), young).unwrap();
        guard.on_received(&frame(RST_STREAM, 0, 2 * n + 1, &[0; 4]), young).unwrap();
    }
}

#[test]
fn time_pays() {
    let seconds = Cell::new(0);
    let age = || Duration::from_secs(seconds.get());
    let mut guard = server();
    for second in 0..3600 {
        seconds.set(second);
        for _ in 0..50 {
            assert_eq!(guard.on_received(&frame(PING, 0, 0, &[0; 8]), age), Ok(()), "50 a second");
        }
    }
    let flood = (1..5000).find(|_| guard.on_received(&frame(PING, 0, 0, &[0; 8]), age).is_err());
    assert!(flood.is_some_and(|after| after <= 1000), "{flood:?}: an old connection's flood ends too");
}

#[test]
fn an_upstream_may_refuse_and_answer() {
    let mut guard = Guard::client(Limits::DEFAULT);
    guard.on_sent(PREFACE);
    for n in 0..5000 {
        guard.on_sent(&frame(HEADERS, 5, 2 * n + 1, &[0x82; 20]));
        if n % 2 == 0 {
            guard.on_received(&frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 7]), young).unwrap();
        } else {
            guard.on_received(&frame(HEADERS, 4, 2 * n + 1, &[0x88]), young).unwrap();
            guard.on_received(&frame(DATA, 1, 2 * n + 1, b"body"), young).unwrap();
            guard.on_received(&frame(PING, 0, 0, &[0; 8]), young).unwrap();
        }
    }
}

#[test]
fn the_last_word_names_the_last_stream_and_stands_between_frames() {
    let mut guard = server();
    guard.on_received(&frame(HEADERS, 5, 7, &[0x82; 20]), young).unwrap();
    let frame = frame(DATA, 0, 7, b"abc");
    guard.on_sent(&frame[..4]);
    assert!(!guard.is_between_frames());
    guard.on_sent(&frame[4..10]);
    assert!(!guard.is_between_frames());
    guard.on_sent(&frame[10..]);
    assert!(guard.is_between_frames());
    assert_eq!(guard.goaway(), [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 11]);
}

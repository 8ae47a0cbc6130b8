use weft_proof::hello::{self, ServerHello};
use weft_proof::names;
use weft_proof::record::{Counts, Follower, Side};

use crate::talk::{Kind, Talk};

/// A direction from its start, in pieces of at most `piece`.
fn follow(side: Side, bytes: &[u8], piece: usize) -> Follower {
    let mut follower = Follower::from_start(side);
    bytes.chunks(piece).for_each(|piece| follower.feed(piece));
    follower.finish();
    follower
}

fn joined(bytes: &[u8], piece: usize) -> Counts {
    let mut follower = Follower::joining(Side::Client);
    bytes.chunks(piece).for_each(|piece| follower.feed(piece));
    follower.finish();
    *follower.counts()
}

fn hello(talk: &Talk) -> ServerHello {
    *follow(Side::Server, &talk.of(Side::Server), 7).hellos().server_hello().unwrap()
}

#[test]
fn every_byte_of_a_conversation_is_in_a_record_however_it_is_cut() {
    for kind in [Kind::Tls13, Kind::Tls12, Kind::Retry] {
        let talk = Talk::new(&kind, 3, 40_000);
        for side in [Side::Client, Side::Server] {
            let bytes = talk.of(side);
            for piece in [1, 3, 5, 1448, usize::MAX] {
                let counts = *follow(side, &bytes, piece).counts();
                assert_eq!((counts.tls, counts.seen()), (bytes.len() as u64, bytes.len() as u64));
                assert!(counts.records >= 3, "{counts:?}");
            }
            // Cut off by the end of the capture, anywhere.
            for end in 0..200 {
                assert_eq!(follow(side, &bytes[..end], usize::MAX).counts().tls, end as u64);
            }
        }
    }
}

#[test]
fn the_handshake_says_version_cipher_and_group() {
    let strong = |hello: &ServerHello| {
        names::version_is_strong(hello.version) && names::cipher_is_strong(hello.cipher)
    };
    let modern = hello(&Talk::new(&Kind::Tls13, 1, 10));
    assert_eq!(names::version(modern.version), "TLSv1.3");
    assert!(names::cipher(modern.cipher).starts_with("TLS_AES_") && strong(&modern));
    assert_eq!(names::group(modern.group.unwrap()), "X25519MLKEM768");
    let older = hello(&Talk::new(&Kind::Tls12, 1, 10));
    assert_eq!((names::version(older.version).as_str(), older.group), ("TLSv1.2", None));
    assert!(names::cipher(older.cipher).starts_with("TLS_ECDHE_") && strong(&older));
    let retried = hello(&Talk::new(&Kind::Retry, 1, 10));
    assert_eq!(retried.group.map(names::group).as_deref(), Some("x25519"), "the second hello is the one");
    // TLS_RSA_WITH_NULL_SHA256 protects nothing from being read.
    assert!(!names::cipher_is_strong(0x003b) && !names::version_is_strong(0x0302));
    assert_eq!(names::cipher(0x003b), "0x003b");
}

#[test]
fn a_hello_whose_lengths_lie_is_none() {
    let bytes = Talk::new(&Kind::Tls13, 0, 0).of(Side::Server);
    let length = usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
    let message = &bytes[9..5 + length];
    assert!(hello::parse(message).is_some());
    for end in 0..message.len() {
        // Shorter than its own lengths say, but where it could end without extensions.
        assert!(hello::parse(&message[..end]).is_none_or(|said| said.version == 0x0303), "{end}");
    }
}

#[test]
fn plaintext_is_counted_from_its_first_byte_on() {
    for (name, bytes) in [
        ("HTTP/1", &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("zeros", &[0; 100]),
        ("application data without a handshake", &[23, 3, 3, 0, 2, 1, 2]),
        ("a handshake record of no hello", &[22, 3, 3, 0, 4, 9, 0, 0, 0]),
        ("a record that is too long", &[22, 3, 1, 0xff, 0xff, 1]),
        ("a refusal that is longer than one", &[21, 3, 3, 0x40, 0, b'h', b'i']),
        ("a version that is none", &[22, 2, 0, 0, 5, 1]),
    ] {
        for piece in [1, 4, usize::MAX] {
            let follower = follow(Side::Client, bytes, piece);
            let counts = follower.counts();
            assert_eq!((counts.plaintext, counts.tls), (bytes.len() as u64, 0), "{name} by {piece}");
            assert!(!follower.plaintext_head().is_empty());
        }
    }
    // After TLS, plaintext stays plaintext, whatever it looks like.
    let tls = Talk::new(&Kind::Tls13, 1, 10).of(Side::Client);
    let bytes = [&tls[..], b"GET /", &tls[..]].concat();
    let counts = *follow(Side::Client, &bytes, 100).counts();
    assert_eq!((counts.tls, counts.plaintext), (tls.len() as u64, (5 + tls.len()) as u64));
    assert_eq!(follow(Side::Client, b"\x16", 1).counts().tls, 1, "what may yet be a record is no plaintext");
}

#[test]
fn a_stream_is_joined_in_the_middle_of_a_record() {
    let bytes = Talk::new(&Kind::Tls13, 30, 3000).of(Side::Client);
    let middle = bytes.len() / 2;
    for from in middle..middle + 3200 {
        let counts = joined(&bytes[from..], 1448);
        assert!(counts.skipped < 3030 && counts.plaintext == 0 && counts.unproven == 0, "{from}: {counts:?}");
        assert_eq!(counts.skipped + counts.tls, (bytes.len() - from) as u64);
    }
    // The largest records there are.
    let bytes = Talk::new(&Kind::Tls13, 4, 60_000).of(Side::Client);
    let from = bytes.len() / 3;
    let counts = joined(&bytes[from..], 65_483);
    assert!(counts.skipped <= 16_645 && counts.plaintext + counts.unproven == 0, "{counts:?}");
}

#[test]
fn a_stream_is_joined_in_its_handshake() {
    for kind in [Kind::Tls13, Kind::Tls12] {
        let talk = Talk::new(&kind, 5, 100);
        for side in [Side::Client, Side::Server] {
            let bytes = talk.of(side);
            for from in [0, 5, 20, 40] {
                let mut follower = Follower::joining(side);
                follower.feed(&bytes[from..]);
                follower.finish();
                let counts = *follower.counts();
                assert_eq!((counts.plaintext, counts.unproven), (0, 0), "{from}: {counts:?}");
                assert_eq!(follower.hellos().server_hello().is_some(), from == 0 && side == Side::Server);
            }
        }
    }
}

#[test]
fn little_is_proved_only_if_it_looks_like_nothing_else() {
    let record = |bytes: usize| {
        [&[23, 3, 3], &u16::try_from(bytes).unwrap().to_be_bytes()[..], &vec![7; bytes]].concat()
    };
    let tls = |bytes: &[u8]| joined(bytes, 10).tls == bytes.len() as u64;
    assert!(tls(&record(30)), "one record, from its first byte");
    assert!(tls(&record(30)[..20]), "cut off by the end");
    assert!(tls(&[record(30), record(40)].concat()));
    let counts = joined(&[&[7; 20][..], &record(30), &record(40)].concat(), 10);
    assert_eq!((counts.skipped, counts.tls), (20, 80), "the rest of one, and two more");
    for unclear in
        [&[7; 20][..], &[&[7; 20][..], &record(20)].concat(), b"GET / HTTP/1.1\r\n\r\n", &[23, 3, 3]]
    {
        assert_eq!(joined(unclear, 10).unproven, unclear.len() as u64);
    }
    // What is not random is no ciphertext, though it may be short.
    let frames: Vec<u8> = (0..20u8).flat_map(|n| [0, 0, 4, 8, 0, 0, 0, 0, n, 0, 0, 1, 0]).collect();
    assert_eq!(joined(&frames, 10).plaintext, 260);
    let text = "host: be1\r\naccept: */*\r\nuser-agent: a\r\nx-request-id: 7\r\n\r\n";
    let before = [text.as_bytes(), &record(30), &record(40)].concat();
    assert_eq!(joined(&before, 10).plaintext, before.len() as u64);
    // A hello begins a connection; what stands before it is in no record.
    let client = Talk::new(&Kind::Tls13, 9, 99).of(Side::Client);
    let before = [b"CONNECT x HTTP/1.1\r\n\r\n", &client[..]].concat();
    assert_eq!(joined(&before, 10).plaintext, before.len() as u64);
    // More than the rest of a record is plaintext, though nothing was seen of its beginning.
    let long = vec![b'x'; 20_000];
    assert_eq!(joined(&long, 1000).plaintext, 20_000);
    assert_eq!(joined(&[&long[..], &Talk::new(&Kind::Tls13, 9, 99).of(Side::Client)].concat(), 999).tls, 0);
}

#[test]
fn what_is_lost_is_never_proved() {
    let bytes = Talk::new(&Kind::Tls13, 20, 5000).of(Side::Client);
    let whole = bytes.len() as u64;
    for (from, length) in [(60_000, 100), (60_000, 20_000), (40_000, 1), (3, 4), (bytes.len() - 9, 9)] {
        let mut follower = Follower::from_start(Side::Client);
        follower.feed(&bytes[..from]);
        follower.gap(length as u64);
        follower.feed(&bytes[from + length..]);
        follower.finish();
        let counts = *follower.counts();
        assert_eq!((counts.lost, counts.seen() + counts.lost), (length as u64, whole), "{counts:?}");
        assert!(counts.tls <= whole - length as u64 && counts.plaintext == 0, "{counts:?}");
    }
    // Plaintext after a hole is found all the same.
    let mut follower = Follower::from_start(Side::Client);
    follower.feed(&bytes[..50_000]);
    follower.gap(30_000);
    follower.feed(&vec![b'x'; 30_000]);
    follower.finish();
    assert_eq!(follower.counts().plaintext, 30_000);
}

//! The bytes of the protocol: what a peer of another version must be able to rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use super::*;
use prost::Message as _;

#[test]
fn field_numbers_are_the_protocol() {
    // Bytes computed from the .proto of each message's doc; a change here is a change of the protocol.
    let ack = Ack { start_unix: 10, sequence: 3 };
    assert_eq!(ack.encode_to_vec(), [0x08, 10, 0x10, 3]);
    assert_eq!(Down::from(ack).encode_to_vec(), [0x12, 4, 0x08, 10, 0x10, 3]);
    assert_eq!(Up::from(Leave {}).encode_to_vec(), [0x1a, 0]);
    assert_eq!(Up::from(Kept { confirmed_unix: 9 }).encode_to_vec(), [0x2a, 2, 0x08, 9]);
    assert_eq!(Bin { index: 1, count: 2 }.encode_to_vec(), [0x08, 1, 0x10, 2]);
    let hello = Hello { health: "U".into(), started: 9, ..Hello::default() };
    assert_eq!(hello.encode_to_vec(), [0x5a, 1, b'U', 0x60, 9]);
    // sint32: -1 is one byte, since most cells carry it.
    assert_eq!(Cell { grpc_status: -1, ..Cell::default() }.encode_to_vec(), [0x30, 1]);
}

#[test]
fn unknown_kinds_and_fields_of_a_newer_peer_are_ignored() {
    let newer_kind = Up::decode(&[0x7a, 1, b'x'][..]).unwrap();
    assert_eq!(newer_kind.message, None);
    let newer_field = Ack::decode(&[0x08, 10, 0x10, 3, 0x18, 9][..]).unwrap();
    assert_eq!(newer_field, Ack { start_unix: 10, sequence: 3 });
}

#[test]
fn a_full_message_of_cells_fits_the_limit() {
    let cell = Cell {
        caller: "c".repeat(60),
        service: "s".repeat(60),
        version: "v".repeat(20),
        route: "r".repeat(100),
        code: 200,
        grpc_status: -1,
        tls: "mtls".into(),
        direction: "inbound".into(),
        requests: 1_000_000,
        errors: 1_000_000,
        request_bytes: 1 << 40,
        response_bytes: 1 << 40,
        durations: (1000..1060).map(|index| Bin { index, count: 100_000 }).collect(),
    };
    let buckets =
        Buckets { start_unix: 1_700_000_000, sequence: 1 << 40, cells: vec![cell; crate::CELLS_MAX] };
    let bytes = Up::from(buckets).encoded_len();
    assert!(bytes < crate::MESSAGE_BYTES_MAX, "{bytes}");
}

#[test]
fn the_token_does_not_show_in_debug_output() {
    let request = JoinRequest { token: "weft1.hush".into(), ..JoinRequest::default() };
    assert!(!format!("{request:?}").contains("hush"));
}

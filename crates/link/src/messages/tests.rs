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
    let crl = Crl { lists: vec![SignedList { crl_der: vec![1], issuer_der: vec![2] }] };
    assert_eq!(Down::from(crl).encode_to_vec(), [0x2a, 8, 0x0a, 6, 0x0a, 1, 1, 0x12, 1, 2]);
    assert_eq!(Bin { index: 1, count: 2 }.encode_to_vec(), [0x08, 1, 0x10, 2]);
    let question = ListConnections { id: 7, remember_seconds: 30 };
    assert_eq!(Down::from(question).encode_to_vec(), [0x32, 4, 0x08, 7, 0x10, 30]);
    let one = Connection { accepted: true, version: 3, closed: true, ..Connection::default() };
    let page = Connections { id: 7, connections: vec![one], last: true, ..Connections::default() };
    let bytes = [0x32, 12, 0x08, 7, 0x12, 6, 0x18, 1, 0x20, 3, 0x48, 1, 0x18, 1];
    assert_eq!(Up::from(page).encode_to_vec(), bytes);
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
fn a_full_page_of_connections_fits_the_limit() {
    let address = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535";
    let one = Connection {
        local: address.into(),
        remote: address.into(),
        accepted: true,
        version: 0x0304,
        cipher: 0xffff,
        group: 0xffff,
        peer: "p".repeat(2048),
        opened_unix: 1_700_000_000,
        closed: true,
    };
    let page = Connections { connections: vec![one; crate::CONNECTIONS_MAX], ..Connections::default() };
    assert!(Up::from(page).encoded_len() < crate::MESSAGE_BYTES_MAX);
}

#[test]
fn the_token_does_not_show_in_debug_output() {
    let request = JoinRequest { token: "weft1.hush".into(), ..JoinRequest::default() };
    assert!(!format!("{request:?}").contains("hush"));
}

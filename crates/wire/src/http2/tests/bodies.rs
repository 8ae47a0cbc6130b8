//! Windows: nothing is lost, nothing goes beyond them, nobody stops another.

use http::StatusCode;

use super::*;
use crate::http2::{Credit, RECEIVING, Room, SENDING, StreamError};

fn opened(client: &mut End, server: &mut End) -> (Key, Key) {
    let key = client.connection.open(&request("POST", "http://a/"), false).unwrap();
    exchange(client, server, usize::MAX);
    let [there] = server.opened()[..] else { panic!("one stream") };
    (key, there)
}

/// Sends what there is room for, and says how much is left.
fn send(end: &mut End, key: Key, data: &mut Bytes) -> usize {
    end.connection.send_data(key, data, true).unwrap();
    data.len()
}

#[test]
fn a_body_larger_than_all_windows_arrives() {
    let small = |role| Config { stream_window: 1000, ..Config::new(role) };
    let (mut client, mut server) = pair_of(small(Role::Client), small(Role::Server));
    let (key, there) = opened(&mut client, &mut server);
    let whole: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let (mut left, mut got) = (Bytes::from(whole.clone()), Vec::new());
    let mut rounds = 0;
    loop {
        let sent = left.is_empty() || send(&mut client, key, &mut left) == 0;
        exchange(&mut client, &mut server, usize::MAX);
        let (data, _, ended) = server.read(there);
        assert!(data.len() <= 65_535, "at most the window that the client knew");
        got.extend_from_slice(&data);
        if ended {
            break;
        }
        exchange(&mut client, &mut server, usize::MAX);
        rounds += 1;
        assert!(rounds < 10_000, "it goes on; all sent: {sent}");
    }
    assert_eq!(got, whole);
}

#[test]
fn an_unread_stream_stops_itself_only() {
    for (credit, streams) in [(Credit::OnArrival, 40), (Credit::WhenRead, 10)] {
        let config = Config { credit, ..Config::new(Role::Server) };
        let (mut client, mut server) = pair_of(Config::new(Role::Client), config);
        for _ in 0..streams {
            let (key, _) = opened(&mut client, &mut server);
            let mut data = Bytes::from(vec![1; 200_000]);
            for _ in 0..5 {
                send(&mut client, key, &mut data);
                exchange(&mut client, &mut server, usize::MAX);
            }
            assert_eq!(data.len(), 200_000 - 64 * 1024, "the stream's window");
            assert_eq!(client.connection.room(key), Ok(Room::Wait));
        }
        let (key, there) = opened(&mut client, &mut server);
        assert_eq!(send(&mut client, key, &mut Bytes::from(vec![2; 50_000])), 0);
        exchange(&mut client, &mut server, usize::MAX);
        assert_eq!(server.read(there), (vec![2; 50_000], None, true));
    }
}

#[test]
fn small_frames_that_nobody_reads_cost_their_bytes() {
    let (mut client, mut server) = pair();
    let (key, there) = opened(&mut client, &mut server);
    let mut whole = Vec::new();
    for message in 0..5000_u32 {
        let text = format!("message {message}");
        whole.extend_from_slice(text.as_bytes());
        client.connection.send_data(key, &mut Bytes::from(text), false).unwrap();
        exchange(&mut client, &mut server, usize::MAX);
    }
    assert!(whole.len() < 64 * 1024);
    assert_eq!(server.read(there), (whole, None, false));
}

#[test]
fn a_full_output_holds_bodies_back_and_lets_them_go() {
    let (mut client, mut server) = pair();
    let (key, there) = opened(&mut client, &mut server);
    server.connection.answer(there, StatusCode::OK, &HeaderMap::new(), false).unwrap();
    exchange(&mut client, &mut server, usize::MAX);
    server.events();
    let mut data = Bytes::from(vec![3; 65_535]);
    server.connection.send_data(there, &mut data, true).unwrap();
    let (other, there_too) = opened_beside(&mut client, &mut server);
    server.connection.answer(there_too, StatusCode::OK, &HeaderMap::new(), false).unwrap();
    let mut more = Bytes::from(vec![4; 20_000]);
    server.connection.send_data(there_too, &mut more, true).unwrap();
    assert!(!more.is_empty(), "not while so much waits to be written");
    let written = server.written();
    assert!(server.events().contains(&Event::Writable(there_too)));
    server.connection.send_data(there_too, &mut more, true).unwrap();
    client.receive(&written).unwrap();
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(client.read(key).0.len(), 65_535 - data.len());
    assert_eq!(client.read(other), (vec![4; 20_000], None, true));
}

/// Opens a stream while the server's output is full.
fn opened_beside(client: &mut End, server: &mut End) -> (Key, Key) {
    let key = client.connection.open(&request("GET", "http://a/"), true).unwrap();
    let there = client.written();
    server.receive(&there).unwrap();
    let [opened] = server.opened()[..] else { panic!("one stream") };
    (key, opened)
}

#[test]
fn a_body_nobody_wants_is_let_through_to_its_end() {
    let (mut client, mut server) = pair();
    let (key, there) = opened(&mut client, &mut server);
    server.connection.release(there, RECEIVING);
    let mut data = Bytes::from(vec![5; 4_000_000]);
    for _ in 0..1000 {
        if send(&mut client, key, &mut data) == 0 {
            break;
        }
        exchange(&mut client, &mut server, usize::MAX);
    }
    assert!(data.is_empty(), "{} bytes are left", data.len());
    server.connection.answer(there, StatusCode::OK, &HeaderMap::new(), true).unwrap();
    server.connection.release(there, SENDING);
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(server.connection.streams(), 0);
}

#[test]
fn a_broken_connection_breaks_what_is_not_whole() {
    let (mut client, mut server) = pair();
    let (half, half_there) = opened(&mut client, &mut server);
    let (whole, whole_there) = opened(&mut client, &mut server);
    for there in [half_there, whole_there] {
        server.connection.answer(there, StatusCode::OK, &HeaderMap::new(), false).unwrap();
        let ends = there == whole_there;
        server.connection.send_data(there, &mut Bytes::from_static(b"data"), ends).unwrap();
    }
    exchange(&mut client, &mut server, usize::MAX);
    client.connection.close();
    assert_eq!(client.connection.read(half).unwrap_err(), StreamError::Closed);
    assert_eq!(client.read(whole), (b"data".to_vec(), None, true));
    assert!(client.connection.can_open().is_err());
}

//! Windows: nothing is lost, nothing goes beyond them, nobody stops another.

use http::StatusCode;

use super::*;
use crate::http2::{RECEIVING, Room, SENDING, StreamError};

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
    let (mut client, mut server) = pair();
    for _ in 0..99 {
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

#[test]
fn the_connection_s_window_is_not_given_back_twice() {
    let config = Config { connection_window: 200_000, ..Config::new(Role::Client) };
    let (mut client, mut server) = pair_of(config, Config::new(Role::Server));
    let mut given = 0;
    for _ in 0..50 {
        let (key, there) = opened(&mut client, &mut server);
        server.connection.answer(there, StatusCode::OK, &HeaderMap::new(), false).unwrap();
        server.connection.send_data(there, &mut Bytes::from(vec![1; 60_000]), false).unwrap();
        exchange(&mut client, &mut server, usize::MAX);
        // Nobody reads it, and it is cancelled.
        for half in [SENDING, RECEIVING] {
            client.connection.release(key, half);
        }
        let told = client.written();
        for (head, payload) in frames(&told) {
            if head.kind == kind::WINDOW_UPDATE && head.stream == 0 {
                given += u32::from_be_bytes(payload[..4].try_into().unwrap());
            }
        }
        server.receive(&told).unwrap();
        server.connection.release(there, RECEIVING);
        server.connection.release(there, SENDING);
        exchange(&mut client, &mut server, usize::MAX);
    }
    assert!(given <= 50 * 60_000, "{given}");
}

#[test]
fn a_reset_wakes_also_who_has_not_read_the_last_news() {
    let (mut client, mut server) = pair();
    let (key, there) = opened(&mut client, &mut server);
    client.connection.send_data(key, &mut Bytes::from_static(b"half"), false).unwrap();
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(server.events(), [Event::Readable(there)]);
    client.connection.reset(key, crate::http2::Reason::CANCEL);
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(server.events(), [Event::Readable(there)], "it is told again");
}

#[test]
fn what_was_unread_when_a_reader_left_makes_room_for_the_rest() {
    let (mut client, mut server) = pair();
    let (key, there) = opened(&mut client, &mut server);
    let mut data = Bytes::from(vec![5; 400_000]);
    send(&mut client, key, &mut data);
    exchange(&mut client, &mut server, usize::MAX);
    server.connection.release(there, RECEIVING);
    for _ in 0..50 {
        exchange(&mut client, &mut server, usize::MAX);
        if send(&mut client, key, &mut data) == 0 {
            break;
        }
    }
    assert!(data.is_empty(), "{} bytes are left", data.len());
}

#[test]
fn streams_take_turns_at_a_slow_connection() {
    let (mut client, mut server) = pair_of(
        Config { stream_window: 1_000_000, connection_window: 10_000_000, ..Config::new(Role::Client) },
        Config { out_bytes_max: 32 * 1024, ..Config::new(Role::Server) },
    );
    let keys: Vec<(Key, Key)> = (0..8).map(|_| opened(&mut client, &mut server)).collect();
    let mut left: Vec<Bytes> = keys.iter().map(|_| Bytes::from(vec![1; 300_000])).collect();
    for (_, there) in &keys {
        server.connection.answer(*there, StatusCode::OK, &HeaderMap::new(), false).unwrap();
    }
    let mut go: Vec<Key> = keys.iter().map(|(_, there)| *there).collect();
    // Polled by their numbers, as a proxy would; little leaves at a time.
    for _ in 0..40 {
        go.sort_by_key(|key| key.id());
        for there in std::mem::take(&mut go) {
            let at = keys.iter().position(|(_, other)| *other == there).unwrap();
            server.connection.send_data(there, &mut left[at], false).unwrap();
        }
        let mut slices = [std::io::IoSlice::new(&[]); 1];
        let used = server.connection.output().slices(&mut slices);
        let count = slices[..used].iter().map(|slice| slice.len()).sum::<usize>().min(16_000);
        server.connection.written(count);
        let writable = |event| if let Event::Writable(key) = event { Some(key) } else { None };
        go.extend(server.events().into_iter().filter_map(writable));
    }
    let sent: Vec<usize> = left.iter().map(|left| 300_000 - left.len()).collect();
    let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
    assert!(*least > 0 && most - least <= 64 * 1024, "{sent:?}");
}

#[test]
fn turns_that_nobody_takes_hold_up_nobody() {
    let (mut client, mut server) = pair();
    let keys: Vec<(Key, Key)> = (0..5).map(|_| opened(&mut client, &mut server)).collect();
    for (_, there) in &keys {
        server.connection.answer(*there, StatusCode::OK, &HeaderMap::new(), false).unwrap();
        server.connection.send_data(*there, &mut Bytes::from(vec![1; 60_000]), false).unwrap();
        let _ = server.connection.room(*there);
    }
    // All but the last leave in the moment in which they could go on.
    server.written();
    for (_, there) in &keys[..4] {
        server.connection.reset(*there, crate::http2::Reason::CANCEL);
        server.connection.release(*there, RECEIVING);
        server.connection.release(*there, SENDING);
    }
    server.written();
    let last = keys[4].1;
    let may = server.events().contains(&Event::Writable(last));
    assert!(may || matches!(server.connection.room(last), Ok(Room::Bytes(_))));
}

#[test]
fn a_tunnel_has_no_length() {
    let (mut client, mut server) = pair();
    let key = client.connection.open(&request("CONNECT", "db:5432"), false).unwrap();
    exchange(&mut client, &mut server, usize::MAX);
    let [there] = server.opened()[..] else { panic!("one stream") };
    let headers = HeaderMap::from_iter([(http::header::CONTENT_LENGTH, value("0"))]);
    server.connection.answer(there, StatusCode::OK, &headers, false).unwrap();
    server.connection.send_data(there, &mut Bytes::from_static(b"bytes"), true).unwrap();
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(client.read(key), (b"bytes".to_vec(), None, true));
}

//! Whole requests and answers, and the ends of connections.

use http::{Method, StatusCode, header::CONTENT_LENGTH};

use super::*;
use crate::http2::{HeadError, OpenError, Protocol, RECEIVING, Reason, SENDING, StreamError};

#[test]
fn a_message_comes_whole_however_it_is_cut() {
    for step in [1, 2, 7, 100, usize::MAX] {
        let (mut client, mut server) = pair();
        let mut head = request("POST", "https://shop.example/cart?item=1");
        head.headers_mut().insert("x-large", HeaderValue::from_bytes(&[b'v'; 20_000]).unwrap());
        let key = client.connection.open(&head, false).unwrap();
        client.connection.send_data(key, &mut Bytes::from(vec![7; 40_000]), false).unwrap();
        let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), value("42"))]);
        client.connection.send_trailers(key, &trailers).unwrap();
        exchange(&mut client, &mut server, step);
        let [there] = server.opened()[..] else { panic!("one stream") };
        let came = server.connection.take_request(there).unwrap().unwrap();
        assert_eq!((came.method(), came.uri()), (head.method(), head.uri()), "in steps of {step}");
        assert_eq!(came.headers(), head.headers());
        assert_eq!(server.read(there), (vec![7; 40_000], Some(trailers.clone()), true));

        let headers = HeaderMap::from_iter([(CONTENT_LENGTH, value("5"))]);
        server.connection.answer(there, StatusCode::IM_A_TEAPOT, &headers, false).unwrap();
        server.connection.send_data(there, &mut Bytes::from_static(b"short"), true).unwrap();
        exchange(&mut client, &mut server, step);
        assert!(client.events().contains(&Event::Readable(key)));
        let answer = client.connection.take_response(key).unwrap().unwrap();
        assert_eq!((answer.status(), answer.headers()), (StatusCode::IM_A_TEAPOT, &headers));
        assert_eq!(client.connection.length(key), Some(5), "the whole, however much of it is here");
        assert_eq!(client.read(key), (b"short".to_vec(), None, true));
        for (end, key) in [(&mut client, key), (&mut server, there)] {
            assert!(end.connection.is_read(key));
            end.connection.release(key, RECEIVING);
            end.connection.release(key, SENDING);
            assert_eq!((end.connection.streams(), end.written()), (0, vec![]));
        }
    }
}

#[test]
fn connects_and_their_protocols() {
    let (mut client, mut server) =
        pair_of(Config::new(Role::Client), Config { extended_connect: true, ..Config::new(Role::Server) });
    assert!(client.connection.takes_extended_connect());
    let plain = request("CONNECT", "db.example:5432");
    let mut extended = request("CONNECT", "http://chat.example/room");
    extended.extensions_mut().insert(Protocol(Bytes::from_static(b"websocket")));
    for head in [&plain, &extended] {
        client.connection.open(head, false).unwrap();
    }
    exchange(&mut client, &mut server, usize::MAX);
    let keys = server.opened();
    let came: Vec<_> =
        keys.iter().map(|key| server.connection.take_request(*key).unwrap().unwrap()).collect();
    assert_eq!(came[0].uri().authority().unwrap(), "db.example:5432");
    assert_eq!((came[0].uri().path_and_query(), came[0].extensions().get::<Protocol>()), (None, None));
    assert_eq!(came[1].uri(), extended.uri());
    assert_eq!(came[1].extensions().get::<Protocol>().unwrap().0, "websocket");
    assert!(came.iter().all(|head| head.method() == Method::CONNECT));
}

#[test]
fn an_extended_connect_that_nobody_allowed_is_malformed() {
    let (mut client, mut server) = pair();
    let mut head = request("CONNECT", "http://chat.example/room");
    head.extensions_mut().insert(Protocol(Bytes::from_static(b"websocket")));
    let key = client.connection.open(&head, false).unwrap();
    exchange(&mut client, &mut server, usize::MAX);
    assert!(server.opened().is_empty());
    assert_eq!(client.connection.error(key), Some(StreamError::Reset(Reason::PROTOCOL_ERROR)));
}

#[test]
fn fields_of_http1_connections_stay_out() {
    let (mut client, mut server) = pair();
    let mut head = request("GET", "http://a/");
    for (name, text) in
        [("connection", "close"), ("keep-alive", "1"), ("upgrade", "h2c"), ("te", "gzip"), ("x-kept", "1")]
    {
        head.headers_mut().insert(name, value(text));
    }
    client.connection.open(&head, true).unwrap();
    exchange(&mut client, &mut server, usize::MAX);
    let [key] = server.opened()[..] else { panic!("one stream") };
    let came = server.connection.take_request(key).unwrap().unwrap();
    assert_eq!(
        came.headers(),
        &HeaderMap::from_iter([(http::HeaderName::from_static("x-kept"), value("1"))])
    );
}

#[test]
fn too_large_a_head_can_be_answered() {
    let (mut client, mut server) =
        pair_of(Config::new(Role::Client), Config { head_bytes_max: 1000, ..Config::new(Role::Server) });
    let mut large = request("GET", "http://a/");
    large.headers_mut().insert("x-large", HeaderValue::from_bytes(&[b'v'; 2000]).unwrap());
    let long = request("GET", &format!("http://a/{}", "p".repeat(9000)));
    let mut many = request("GET", "http://a/");
    for number in 0..101 {
        many.headers_mut().append("x-m", HeaderValue::from(number));
    }
    for (head, error) in
        [(large, HeadError::TooLarge), (long, HeadError::TooLarge), (many, HeadError::TooLarge)]
    {
        let key = client.connection.open(&head, true).unwrap();
        exchange(&mut client, &mut server, usize::MAX);
        let [there] = server.opened()[..] else { panic!("one stream") };
        assert_eq!(server.connection.take_request(there).unwrap().unwrap_err(), error);
        server.connection.answer(there, StatusCode::URI_TOO_LONG, &HeaderMap::new(), true).unwrap();
        server.connection.release(there, RECEIVING | SENDING);
        exchange(&mut client, &mut server, usize::MAX);
        assert_eq!(client.connection.take_response(key).unwrap().unwrap().status(), 414);
    }
    // The tables of both sides still agree.
    client.connection.open(&request("GET", "http://a/after"), true).unwrap();
    exchange(&mut client, &mut server, usize::MAX);
    let [there] = server.opened()[..] else { panic!("one stream") };
    assert_eq!(server.connection.take_request(there).unwrap().unwrap().uri(), "http://a/after");
}

#[test]
fn streams_are_refused_beyond_the_limit_and_the_other_side_knows_it() {
    let config = Config { streams_max: 2, ..Config::new(Role::Server) };
    let mut early = End::new(Config::new(Role::Client));
    let keys: Vec<Key> =
        (0..3).map(|_| early.connection.open(&request("GET", "http://a/"), true).unwrap()).collect();
    let mut server = End::new(config);
    exchange(&mut early, &mut server, usize::MAX);
    assert_eq!(server.opened().len(), 2);
    let refused = early.connection.error(keys[2]).unwrap();
    assert_eq!(refused, StreamError::Reset(Reason::REFUSED_STREAM));
    assert!(refused.is_unprocessed());
    early.connection.release(keys[2], RECEIVING);
    early.connection.release(keys[2], SENDING);
    assert_eq!(early.connection.open(&request("GET", "http://a/"), true), Err(OpenError::Full));
    assert_eq!(early.connection.streams_max(), 2);
}

#[test]
fn leaving_lets_open_streams_end_and_late_ones_go_elsewhere() {
    let (mut client, mut server) = pair();
    let first = client.connection.open(&request("GET", "http://a/1"), true).unwrap();
    exchange(&mut client, &mut server, usize::MAX);
    server.connection.leave();
    // Sent before the client could know.
    let second = client.connection.open(&request("GET", "http://a/2"), true).unwrap();
    let (there, back) = (client.written(), server.written());
    server.receive(&there).unwrap();
    let opened = server.opened();
    assert_eq!(opened.len(), 2, "both are served");
    client.receive(&back).unwrap();
    assert_eq!(client.connection.open(&request("GET", "http://a/3"), true), Err(OpenError::Left));
    exchange(&mut client, &mut server, usize::MAX);
    for (key, at_client) in opened.into_iter().zip([first, second]) {
        assert!(!server.connection.has_left());
        server.connection.answer(key, StatusCode::OK, &HeaderMap::new(), true).unwrap();
        server.connection.release(key, RECEIVING);
        server.connection.release(key, SENDING);
        exchange(&mut client, &mut server, usize::MAX);
        assert_eq!(client.connection.take_response(at_client).unwrap().unwrap().status(), 200);
    }
    assert!(server.connection.has_left() && client.connection.is_left());
}

#[test]
fn what_a_leaving_server_has_not_begun_is_unprocessed() {
    let (mut client, mut server) = pair();
    server.connection.leave_now();
    let key = client.connection.open(&request("POST", "http://a/"), false).unwrap();
    client.connection.send_data(key, &mut Bytes::from_static(b"late"), true).unwrap();
    exchange(&mut client, &mut server, usize::MAX);
    assert!(
        server.opened().is_empty() && server.connection.has_left() && server.connection.fault().is_none()
    );
    assert_eq!(client.connection.error(key), Some(StreamError::Unprocessed));
}

#[test]
fn a_dropped_answer_cancels_and_a_whole_one_ends_its_request() {
    let (mut client, mut server) = pair();
    let cancelled = client.connection.open(&request("GET", "http://a/"), true).unwrap();
    let long = client.connection.open(&request("POST", "http://a/"), false).unwrap();
    exchange(&mut client, &mut server, usize::MAX);
    let [first, second] = server.opened()[..] else { panic!("two streams") };
    client.connection.release(cancelled, SENDING);
    client.connection.release(cancelled, RECEIVING);
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(server.connection.error(first), Some(StreamError::Reset(Reason::CANCEL)));
    // The answer is whole before the request is.
    server.connection.answer(second, StatusCode::OK, &HeaderMap::new(), true).unwrap();
    server.connection.release(second, RECEIVING);
    server.connection.release(second, SENDING);
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(client.connection.take_response(long).unwrap().unwrap().status(), 200);
    assert_eq!(client.read(long), (vec![], None, true), "the answer stays whole");
    assert!(client.connection.room(long).is_err(), "nobody wants the rest");
    for half in [SENDING, RECEIVING] {
        client.connection.release(long, half);
    }
    assert_eq!((client.connection.streams(), client.written()), (0, vec![]));
}

#[test]
fn pings_are_answered_and_heard() {
    let (mut client, mut server) = pair();
    client.connection.ping();
    assert!(client.connection.unproven() > 17, "SETTINGS and what else began it");
    exchange(&mut client, &mut server, 3);
    assert_eq!(client.events(), [Event::Pong]);
    assert!(server.events().is_empty());
    assert_eq!(client.connection.unproven(), 0);
    client.connection.ping();
    assert_eq!((client.written().len(), client.connection.unproven()), (17, 17));
}

/// The heads that a client gets, and the error after them.
fn heads(client: &mut End, key: Key) -> (Vec<u16>, Option<StreamError>) {
    let mut statuses = Vec::new();
    loop {
        match client.connection.take_response(key) {
            Ok(Some(head)) => statuses.push(head.status().as_u16()),
            Ok(None) => return (statuses, None),
            Err(error) => return (statuses, Some(error)),
        }
    }
}

#[test]
fn interim_heads_come_before_the_final_one() {
    for step in [1, 9, usize::MAX] {
        let (mut client, mut server) = pair();
        let key = client.connection.open(&request("GET", "http://a/"), true).unwrap();
        exchange(&mut client, &mut server, step);
        let [there] = server.opened()[..] else { panic!("one stream") };
        let links = HeaderMap::from_iter([(http::header::LINK, value("</a.css>"))]);
        let statuses = [103, 102, 103].map(|status| StatusCode::from_u16(status).unwrap());
        for status in statuses {
            server.connection.answer(there, status, &links, false).unwrap();
        }
        exchange(&mut client, &mut server, step);
        assert_eq!(client.events(), [Event::Readable(key)], "they are told of before the answer");
        let first = client.connection.take_response(key).unwrap().unwrap();
        assert_eq!((first.status(), first.headers()), (StatusCode::EARLY_HINTS, &links));
        server.connection.answer(there, StatusCode::OK, &HeaderMap::new(), true).unwrap();
        exchange(&mut client, &mut server, step);
        assert_eq!(heads(&mut client, key), (vec![102, 103, 200], None));
        assert_eq!(client.read(key), (vec![], None, true));
    }
}

#[test]
fn interim_heads_without_end_are_a_broken_stream() {
    let small = HeaderMap::new();
    let large =
        HeaderMap::from_iter([(http::header::LINK, HeaderValue::from_bytes(&[b'a'; 20_000]).unwrap())]);
    for (headers, taken) in [(&small, 100), (&large, 3)] {
        let (mut client, mut server) = pair();
        let key = client.connection.open(&request("GET", "http://a/"), true).unwrap();
        let other = client.connection.open(&request("GET", "http://a/"), true).unwrap();
        exchange(&mut client, &mut server, usize::MAX);
        let [there, well] = server.opened()[..] else { panic!("two streams") };
        for _ in 0..=taken {
            server.connection.answer(there, StatusCode::EARLY_HINTS, headers, false).unwrap();
        }
        exchange(&mut client, &mut server, usize::MAX);
        let (heads, error) = heads(&mut client, key);
        assert_eq!(heads, vec![103; taken]);
        assert!(matches!(error, Some(StreamError::Protocol(_))), "{error:?}");
        assert_eq!(server.connection.error(there), Some(StreamError::Reset(Reason::PROTOCOL_ERROR)));
        server.connection.answer(well, StatusCode::OK, &small, true).unwrap();
        exchange(&mut client, &mut server, usize::MAX);
        assert_eq!(client.connection.take_response(other).unwrap().unwrap().status(), 200);
    }
}

#[test]
fn a_client_that_waits_for_a_word_gets_it_when_its_body_is_wanted() {
    let expecting = || {
        let mut head = request("POST", "http://a/");
        head.headers_mut().insert(http::header::EXPECT, value("100-Continue"));
        head
    };
    let begin = |head: &Request<()>, ends| {
        let (mut client, mut server) = pair();
        let key = client.connection.open(head, ends).unwrap();
        exchange(&mut client, &mut server, usize::MAX);
        let [there] = server.opened()[..] else { panic!("one stream") };
        (client, server, key, there)
    };
    let (mut client, mut server, key, there) = begin(&expecting(), false);
    assert!(server.written().is_empty(), "not before somebody wants it");
    for _ in 0..3 {
        assert_eq!(server.read(there), (vec![], None, false));
    }
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(heads(&mut client, key), (vec![100], None), "once");
    client.connection.send_data(key, &mut Bytes::from_static(b"body"), true).unwrap();
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(server.read(there), (b"body".to_vec(), None, true));

    // Who is answered, has not waited, or has nothing to send, gets none.
    let (mut client, mut server, key, there) = begin(&expecting(), false);
    server.connection.answer(there, StatusCode::PAYLOAD_TOO_LARGE, &HeaderMap::new(), false).unwrap();
    server.read(there);
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(heads(&mut client, key), (vec![413], None));
    let (mut client, mut server, key, there) = begin(&expecting(), false);
    client.connection.send_data(key, &mut Bytes::from_static(b"half"), false).unwrap();
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(server.read(there), (b"half".to_vec(), None, false));
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(heads(&mut client, key), (vec![], None));
    let (mut client, mut server, key, there) = begin(&expecting(), true);
    server.read(there);
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(heads(&mut client, key), (vec![], None));
    // Another expectation is nothing that we could meet.
    let mut other = request("POST", "http://a/");
    other.headers_mut().insert(http::header::EXPECT, value("x"));
    let (mut client, mut server, key, there) = begin(&other, false);
    server.read(there);
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!(heads(&mut client, key), (vec![], None));
}

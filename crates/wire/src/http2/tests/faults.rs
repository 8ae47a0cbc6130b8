//! What breaks the rules ends the stream or the connection, by the rule's own number (RFC 9113).

use http::StatusCode;

use super::*;
use crate::http2::{RECEIVING, Reason, SENDING};

const END: u8 = flag::END_STREAM | flag::END_HEADERS;
const OPEN: u8 = flag::END_HEADERS;

/// What an end says to bytes: the reasons of its GOAWAY, and of RST_STREAM.
fn answer(server: &mut End, bytes: &[u8]) -> (Option<Reason>, Vec<Reason>) {
    let failed = server.receive(bytes).is_err();
    let written = frames(&server.written());
    let reason =
        |payload: &[u8], at: usize| Reason(u32::from_be_bytes(payload[at..at + 4].try_into().unwrap()));
    let of = |wanted: u8, at: usize| -> Vec<Reason> {
        let mine = written.iter().filter(|(head, _)| head.kind == wanted);
        mine.map(|(_, payload)| reason(payload, at)).collect()
    };
    let goaway = of(kind::GOAWAY, 4).first().copied();
    assert_eq!(goaway.is_some(), failed);
    (goaway, of(kind::RST_STREAM, 0))
}

#[test]
fn connections_end_where_the_rules_say_so() {
    let large = vec![0; 16_385];
    let get = |stream| frame(kind::HEADERS, END, stream, SMALL);
    let post = |stream| frame(kind::HEADERS, OPEN, stream, SMALL);
    let cases: Vec<(&str, Vec<Vec<u8>>, Reason)> = vec![
        ("4.1 too long a frame", vec![frame(kind::DATA, 0, 1, &large)], Reason::FRAME_SIZE_ERROR),
        ("4.3 a block that is none", vec![frame(kind::HEADERS, END, 1, &[0x80])], Reason::COMPRESSION_ERROR),
        (
            "4.3 a frame within a block",
            vec![frame(kind::HEADERS, 1, 1, SMALL), frame(kind::PING, 0, 0, &[0; 8])],
            Reason::PROTOCOL_ERROR,
        ),
        (
            "6.10 CONTINUATION of another stream",
            vec![frame(kind::HEADERS, 1, 1, SMALL), frame(kind::CONTINUATION, 4, 3, SMALL)],
            Reason::PROTOCOL_ERROR,
        ),
        ("6.10 CONTINUATION alone", vec![frame(kind::CONTINUATION, 4, 1, SMALL)], Reason::PROTOCOL_ERROR),
        ("5.1 DATA on an idle stream", vec![frame(kind::DATA, 1, 1, b"x")], Reason::PROTOCOL_ERROR),
        ("5.1 RST on an idle stream", vec![frame(kind::RST_STREAM, 0, 1, &[0; 4])], Reason::PROTOCOL_ERROR),
        (
            "5.1 WINDOW_UPDATE on an idle stream",
            vec![frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])],
            Reason::PROTOCOL_ERROR,
        ),
        ("5.1.1 an even stream", vec![get(2)], Reason::PROTOCOL_ERROR),
        ("5.1.1 a lower stream", vec![get(5), get(3)], Reason::PROTOCOL_ERROR),
        ("6.1 DATA on stream 0", vec![frame(kind::DATA, 1, 0, b"x")], Reason::PROTOCOL_ERROR),
        (
            "6.1 more padding than DATA",
            vec![post(1), frame(kind::DATA, flag::PADDED, 1, &[3, 0, 0])],
            Reason::PROTOCOL_ERROR,
        ),
        (
            "6.1 padded and empty",
            vec![post(1), frame(kind::DATA, flag::PADDED, 1, &[])],
            Reason::FRAME_SIZE_ERROR,
        ),
        (
            "5.1 DATA after its own RST_STREAM",
            vec![post(1), frame(kind::RST_STREAM, 0, 1, &[0; 4]), frame(kind::DATA, 0, 1, b"x")],
            Reason::STREAM_CLOSED,
        ),
        (
            "5.1 HEADERS after its own RST_STREAM",
            vec![post(1), frame(kind::RST_STREAM, 0, 1, &[0; 4]), get(1)],
            Reason::STREAM_CLOSED,
        ),
        ("6.2 HEADERS on stream 0", vec![get(0)], Reason::PROTOCOL_ERROR),
        (
            "6.2 more padding than HEADERS",
            vec![frame(kind::HEADERS, END | flag::PADDED, 1, &[9, 0x82])],
            Reason::PROTOCOL_ERROR,
        ),
        ("6.3 a short PRIORITY", vec![frame(kind::PRIORITY, 0, 1, &[0; 4])], Reason::FRAME_SIZE_ERROR),
        (
            "6.4 a short RST_STREAM",
            vec![get(1), frame(kind::RST_STREAM, 0, 1, &[0])],
            Reason::FRAME_SIZE_ERROR,
        ),
        ("6.5 SETTINGS ACK with more", vec![frame(kind::SETTINGS, 1, 0, &[0; 6])], Reason::FRAME_SIZE_ERROR),
        ("6.5 odd SETTINGS", vec![frame(kind::SETTINGS, 0, 0, &[0; 5])], Reason::FRAME_SIZE_ERROR),
        ("6.5 SETTINGS on a stream", vec![frame(kind::SETTINGS, 0, 1, &[])], Reason::PROTOCOL_ERROR),
        ("6.5.2 push 2", vec![frame(kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2])], Reason::PROTOCOL_ERROR),
        (
            "6.5.2 a window of 2^31",
            vec![frame(kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])],
            Reason::FLOW_CONTROL_ERROR,
        ),
        (
            "6.5.2 frames of 1 byte",
            vec![frame(kind::SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])],
            Reason::PROTOCOL_ERROR,
        ),
        ("6.6 a push from a client", vec![frame(kind::PUSH_PROMISE, 4, 1, &[0; 4])], Reason::PROTOCOL_ERROR),
        ("6.7 a short PING", vec![frame(kind::PING, 0, 0, &[0; 7])], Reason::FRAME_SIZE_ERROR),
        ("6.7 PING on a stream", vec![frame(kind::PING, 0, 1, &[0; 8])], Reason::PROTOCOL_ERROR),
        ("6.8 GOAWAY on a stream", vec![frame(kind::GOAWAY, 0, 1, &[0; 8])], Reason::PROTOCOL_ERROR),
        ("6.8 a short GOAWAY", vec![frame(kind::GOAWAY, 0, 0, &[0; 7])], Reason::FRAME_SIZE_ERROR),
        (
            "6.9 WINDOW_UPDATE of nothing",
            vec![frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4])],
            Reason::PROTOCOL_ERROR,
        ),
        (
            "6.9.1 the connection's window beyond its end",
            vec![frame(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255])],
            Reason::FLOW_CONTROL_ERROR,
        ),
    ];
    for (rule, sent, reason) in cases {
        for step in [1, usize::MAX] {
            let mut server = server();
            let sent = sent.concat();
            let mut said = None;
            for part in sent.chunks(step) {
                said = said.or(answer(&mut server, part).0);
                if said.is_some() {
                    break;
                }
            }
            assert_eq!(said, Some(reason), "{rule}");
        }
    }
}

#[test]
fn streams_end_where_the_rules_say_so() {
    let block = |fields: &[(&[u8], &[u8])]| {
        let mut bytes = Vec::new();
        for (name, value) in fields {
            bytes.push(0);
            bytes.push(name.len() as u8);
            bytes.extend_from_slice(name);
            bytes.push(value.len() as u8);
            bytes.extend_from_slice(value);
        }
        bytes
    };
    let with = |more: &[(&[u8], &[u8])]| [SMALL, &block(more)].concat();
    let get = |fields: Vec<u8>| vec![frame(kind::HEADERS, END, 1, &fields)];
    let of = |fields: &[(&[u8], &[u8])]| get(block(fields));
    let post = |more: &[(&[u8], &[u8])], data: &[u8], flags| {
        vec![frame(kind::HEADERS, OPEN, 1, &with(more)), frame(kind::DATA, flags, 1, data)]
    };
    let cases: Vec<(&str, Vec<Vec<u8>>, Reason)> = vec![
        (
            "5.3.1 on itself",
            vec![frame(kind::HEADERS, END | flag::PRIORITY, 1, &[&[0, 0, 0, 1, 0], SMALL].concat())],
            Reason::PROTOCOL_ERROR,
        ),
        ("8.2.1 upper case", get(with(&[(b"X-Up", b"1")])), Reason::PROTOCOL_ERROR),
        ("8.2.1 a line break", get(with(&[(b"x", b"a\nb")])), Reason::PROTOCOL_ERROR),
        ("8.2.1 space around", get(with(&[(b"x", b" a")])), Reason::PROTOCOL_ERROR),
        ("8.2.2 connection", get(with(&[(b"connection", b"close")])), Reason::PROTOCOL_ERROR),
        ("8.2.2 transfer-encoding", get(with(&[(b"transfer-encoding", b"chunked")])), Reason::PROTOCOL_ERROR),
        ("8.2.2 te", get(with(&[(b"te", b"gzip")])), Reason::PROTOCOL_ERROR),
        ("8.3 an unknown one", get([&block(&[(b":what", b"1")]), SMALL].concat()), Reason::PROTOCOL_ERROR),
        ("8.3 late", get(with(&[(b"x", b"1"), (b":path", b"/")])), Reason::PROTOCOL_ERROR),
        ("8.3 twice", get(with(&[(b":path", b"/")])), Reason::PROTOCOL_ERROR),
        ("8.3 :status", get([&block(&[(b":status", b"200")]), SMALL].concat()), Reason::PROTOCOL_ERROR),
        ("8.3.1 no :path", of(&[(b":method", b"GET"), (b":scheme", b"http")]), Reason::PROTOCOL_ERROR),
        ("8.3.1 no :method", of(&[(b":path", b"/"), (b":scheme", b"http")]), Reason::PROTOCOL_ERROR),
        ("8.3.1 no :scheme", of(&[(b":path", b"/"), (b":method", b"GET")]), Reason::PROTOCOL_ERROR),
        (
            "8.3.1 an empty :path",
            of(&[(b":path", b""), (b":method", b"GET"), (b":scheme", b"http")]),
            Reason::PROTOCOL_ERROR,
        ),
        (
            "8.3.1 a relative :path",
            of(&[(b":path", b"a"), (b":method", b"GET"), (b":scheme", b"http")]),
            Reason::PROTOCOL_ERROR,
        ),
        (
            "a fragment",
            of(&[(b":path", b"/a#b"), (b":method", b"GET"), (b":scheme", b"http")]),
            Reason::PROTOCOL_ERROR,
        ),
        (
            "8.3.1 userinfo",
            of(&[(b":path", b"/"), (b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"u@a")]),
            Reason::PROTOCOL_ERROR,
        ),
        (
            "8.5 CONNECT with :path",
            of(&[(b":method", b"CONNECT"), (b":authority", b"a:1"), (b":path", b"/")]),
            Reason::PROTOCOL_ERROR,
        ),
        ("8.1.1 a longer body", post(&[(b"content-length", b"1")], b"ab", 1), Reason::PROTOCOL_ERROR),
        ("8.1.1 a shorter body", post(&[(b"content-length", b"3")], b"ab", 1), Reason::PROTOCOL_ERROR),
        (
            "8.1.1 two lengths",
            post(&[(b"content-length", b"2"), (b"content-length", b"3")], b"ab", 1),
            Reason::PROTOCOL_ERROR,
        ),
        ("8.1.1 no number", post(&[(b"content-length", b"+2")], b"ab", 1), Reason::PROTOCOL_ERROR),
        ("8.1 no body after all", get(with(&[(b"content-length", b"2")])), Reason::PROTOCOL_ERROR),
        (
            "8.1 trailers that end nothing",
            vec![
                frame(kind::HEADERS, OPEN, 1, SMALL),
                frame(kind::HEADERS, OPEN, 1, &block(&[(b"x", b"1")])),
            ],
            Reason::PROTOCOL_ERROR,
        ),
        (
            "8.3 trailers with :path",
            vec![frame(kind::HEADERS, OPEN, 1, SMALL), frame(kind::HEADERS, END, 1, SMALL)],
            Reason::PROTOCOL_ERROR,
        ),
        (
            "5.1 DATA after END_STREAM",
            vec![frame(kind::HEADERS, END, 1, SMALL), frame(kind::DATA, 0, 1, b"x")],
            Reason::STREAM_CLOSED,
        ),
        (
            "6.9 WINDOW_UPDATE of nothing",
            vec![frame(kind::HEADERS, OPEN, 1, SMALL), frame(kind::WINDOW_UPDATE, 0, 1, &[0; 4])],
            Reason::PROTOCOL_ERROR,
        ),
        (
            "6.9.1 the window beyond its end",
            vec![
                frame(kind::HEADERS, OPEN, 1, SMALL),
                frame(kind::WINDOW_UPDATE, 0, 1, &[0x7f, 255, 255, 255]),
            ],
            Reason::FLOW_CONTROL_ERROR,
        ),
    ];
    for (rule, sent, reason) in cases {
        let mut server = server();
        assert_eq!(answer(&mut server, &sent.concat()), (None, vec![reason]), "{rule}");
        // The connection goes on, and nothing of the stream is left.
        assert_eq!(answer(&mut server, &frame(kind::HEADERS, END, 3, SMALL)), (None, vec![]), "{rule}");
        for key in server.opened() {
            server.connection.release(key, 3);
        }
        assert_eq!(server.connection.streams(), 0, "{rule}");
    }
}

#[test]
fn the_first_bytes_are_the_preface_and_settings() {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSX"] {
        let mut server = End::new(Config::new(Role::Server));
        assert_eq!(server.receive(bytes).unwrap_err().reason, Reason::PROTOCOL_ERROR);
    }
    for first in [frame(kind::PING, 0, 0, &[0; 8]), frame(kind::SETTINGS, flag::ACK, 0, &[])] {
        let mut server = End::new(Config::new(Role::Server));
        server.receive(PREFACE).unwrap();
        assert_eq!(server.receive(&first).unwrap_err().reason, Reason::PROTOCOL_ERROR);
    }
}

#[test]
fn more_than_a_window_is_an_error() {
    let config = Config { stream_window: 65_535, ..Config::new(Role::Server) };
    let data = |stream, count| frame(kind::DATA, 0, stream, &vec![0; count]);
    let mut over = greeted_server(config);
    let mut sent = frame(kind::HEADERS, OPEN, 1, SMALL);
    sent.extend((0..4).flat_map(|_| data(1, 16_384)));
    assert_eq!(answer(&mut over, &sent), (None, vec![Reason::FLOW_CONTROL_ERROR]));
    let config = Config { stream_window: 200_000, connection_window: 65_535, ..Config::new(Role::Server) };
    let mut over = greeted_server(Config { frame_bytes_max: 100_000, ..config });
    let sent = [frame(kind::HEADERS, OPEN, 1, SMALL), data(1, 65_536)].concat();
    assert_eq!(answer(&mut over, &sent).0, Some(Reason::FLOW_CONTROL_ERROR));
}

#[test]
fn frames_on_their_way_when_a_stream_is_reset_are_no_fault() {
    let mut server = server();
    server.receive(&frame(kind::HEADERS, OPEN, 1, SMALL)).unwrap();
    let [key] = server.opened()[..] else { panic!("one stream") };
    server.connection.reset(key, Reason::CANCEL);
    server.connection.release(key, 3);
    assert_eq!(server.connection.streams(), 0);
    let late = [
        frame(kind::DATA, 0, 1, b"late"),
        frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        frame(kind::HEADERS, END, 1, &[]),
        frame(kind::RST_STREAM, 0, 1, &[0; 4]),
    ];
    assert_eq!(answer(&mut server, &late.concat()), (None, vec![Reason::CANCEL]));
}

/// In one read, before anybody can answer: a well-formed head, and the stream's end, make up for nothing.
#[test]
fn who_only_spoils_streams_is_ended() {
    let post = |stream| frame(kind::HEADERS, OPEN, stream, SMALL);
    let data = |stream, flags| frame(kind::DATA, flags, stream, b"x");
    type Spoilt<'a> = &'a dyn Fn(u32) -> Vec<u8>;
    let cases: [(&str, Spoilt<'_>); 4] = [
        ("a head that is none", &|stream| frame(kind::HEADERS, END, stream, &[0x82])),
        ("WINDOW_UPDATE of nothing", &|stream| {
            [post(stream), frame(kind::WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
        }),
        ("DATA after the end", &|stream| {
            [post(stream), data(stream, flag::END_STREAM), data(stream, 0)].concat()
        }),
        ("trailers that end nothing", &|stream| {
            [post(stream), frame(kind::HEADERS, OPEN, stream, &[])].concat()
        }),
    ];
    for (what, spoilt) in cases {
        let mut server = server();
        let said = (0..1002).find_map(|number| {
            let said = answer(&mut server, &spoilt(2 * number + 1)).0;
            for event in server.events() {
                if let Event::Opened(key) = event {
                    let _ = server.connection.take_request(key);
                    server.connection.release(key, RECEIVING | SENDING);
                }
            }
            said
        });
        assert_eq!(said, Some(Reason::ENHANCE_YOUR_CALM), "{what}");
    }
}

/// Who spoils a stream now and then, and lets the others come to their end, is served.
#[test]
fn good_streams_make_up_for_spoiled_ones() {
    let mut server = server();
    for number in 0..3000 {
        let (bad, good) = (4 * number + 1, 4 * number + 3);
        assert!(answer(&mut server, &frame(kind::HEADERS, END, bad, &[0x82])).0.is_none(), "{number}");
        server.receive(&frame(kind::HEADERS, END, good, SMALL)).unwrap();
        for event in server.events() {
            if let Event::Opened(key) = event {
                server.connection.take_request(key).unwrap().unwrap();
                server.connection.answer(key, StatusCode::OK, &HeaderMap::new(), true).unwrap();
                server.connection.release(key, RECEIVING | SENDING);
            }
        }
        server.written();
    }
}

#[test]
fn answers_that_nobody_reads_are_not_collected() {
    let mut server = server();
    let ended = (0..100_000).find(|_| server.receive(&frame(kind::PING, 0, 0, &[0; 8])).is_err());
    assert!(ended.is_some());
    assert!(server.written().len() < 80 * 1024);
}

#[test]
fn a_head_without_an_end_is_not_collected() {
    let mut server = server();
    let mut ended = server.receive(&frame(kind::HEADERS, 1, 1, SMALL));
    for _ in 0..100 {
        ended = ended.and_then(|()| server.receive(&frame(kind::CONTINUATION, 0, 1, &[0x82; 1000])));
    }
    assert_eq!(ended.unwrap_err().reason, Reason::ENHANCE_YOUR_CALM);
}

#[test]
fn a_server_that_breaks_the_rules_is_left() {
    let response = |fields: &[u8], flags| frame(kind::HEADERS, flags, 1, fields);
    let cases = [
        ("no :status", response(&[0x82], END)),
        ("DATA before the head", frame(kind::DATA, 1, 1, b"x")),
        ("a 1xx that ends", response(&[0x08, 3, b'1', b'0', b'0'], END)),
        ("101", response(&[0x08, 3, b'1', b'0', b'1'], OPEN)),
        (
            "a length of another body",
            [response(&[0x88, 0x0f, 0x0d, 1, b'3'], OPEN), frame(kind::DATA, 1, 1, b"x")].concat(),
        ),
    ];
    for (what, bytes) in cases {
        let mut client = End::new(Config::new(Role::Client));
        let key = client.connection.open(&request("GET", "http://a/"), true).unwrap();
        client.receive(&frame(kind::SETTINGS, 0, 0, &[])).unwrap();
        client.written();
        assert_eq!(answer(&mut client, &bytes), (None, vec![Reason::PROTOCOL_ERROR]), "{what}");
        assert!(client.connection.error(key).is_some());
    }
    let mut client = End::new(Config::new(Role::Client));
    client.receive(&frame(kind::SETTINGS, 0, 0, &[])).unwrap();
    assert!(client.receive(&frame(kind::HEADERS, END, 2, &[0x88])).is_err(), "a stream that nobody opened");
}

#[test]
fn who_reads_no_answers_gets_none_made() {
    let mut server = server();
    let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-large"), value("v"))]);
    let (mut stream, mut served) = (1_u32, 0);
    let ended = loop {
        if let Err(fault) = server.receive(&frame(kind::HEADERS, END, stream, SMALL)) {
            break fault;
        }
        for key in server.opened() {
            let mut headers = headers.clone();
            let large = HeaderValue::from_bytes(&[b'v'; 8000]).unwrap();
            headers.insert("x-other", large);
            server.connection.answer(key, http::StatusCode::FORBIDDEN, &headers, true).unwrap();
            server.connection.release(key, 1);
            server.connection.release(key, 2);
            served += 1;
        }
        stream += 2;
        assert!(stream < 100_000, "never");
    };
    assert_eq!(ended.reason, Reason::ENHANCE_YOUR_CALM);
    assert!(served < 400 && server.connection.output().len() < 2_000_000, "{served} served");
}

#[test]
fn who_only_takes_back_is_ended() {
    let config = Config { cancelled_max: 100, ..Config::new(Role::Server) };
    let both = |stream: u32| {
        [frame(kind::HEADERS, END, stream, SMALL), frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    };
    let mut server = greeted_server(config);
    let let_go = |server: &mut End| {
        for key in server.opened() {
            server.connection.release(key, 1);
            server.connection.release(key, 2);
        }
    };
    let mut ended = None;
    for number in 0..200 {
        ended = answer(&mut server, &both(2 * number + 1)).0;
        let_go(&mut server);
        if ended.is_some() {
            break;
        }
    }
    assert_eq!(ended, Some(Reason::ENHANCE_YOUR_CALM));
    // One answer for each that is taken back, and it may go on for ever.
    let mut server = greeted_server(config);
    for number in 0..400 {
        assert_eq!(answer(&mut server, &frame(kind::HEADERS, END, 4 * number + 1, SMALL)).0, None);
        let [key] = server.opened()[..] else { panic!("one stream") };
        server.connection.answer(key, http::StatusCode::OK, &HeaderMap::new(), true).unwrap();
        server.connection.release(key, 1);
        server.connection.release(key, 2);
        assert_eq!(answer(&mut server, &both(4 * number + 3)).0, None);
        let_go(&mut server);
    }
}

#[test]
fn who_takes_back_slowly_or_what_is_being_answered_is_not_ended() {
    let config = Config { cancelled_max: 100, ..Config::new(Role::Server) };
    let reset = |stream| frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    for answers in [true, false] {
        let mut server = greeted_server(config);
        for number in 0..400 {
            let stream = 2 * number + 1;
            assert_eq!(answer(&mut server, &frame(kind::HEADERS, END, stream, SMALL)).0, None);
            let [key] = server.opened()[..] else { panic!("one stream") };
            if answers {
                server.connection.answer(key, http::StatusCode::OK, &HeaderMap::new(), false).unwrap();
            } else {
                let hints = http::StatusCode::EARLY_HINTS;
                server.connection.answer(key, hints, &HeaderMap::new(), false).unwrap();
            }
            assert_eq!(answer(&mut server, &reset(stream)).0, None, "{number}, answered {answers}");
            server.connection.release(key, 1);
            server.connection.release(key, 2);
            if number % 50 == 0 {
                server.connection.forgive(50);
            }
        }
        assert_eq!(server.connection.cancelled(), if answers { 0 } else { 49 });
    }
}

#[test]
fn late_frames_of_many_resets_in_any_order_are_no_fault() {
    let mut server = greeted_server(Config { streams_max: 1000, ..Config::new(Role::Server) });
    for number in 0..300 {
        server.receive(&frame(kind::HEADERS, OPEN, 2 * number + 1, SMALL)).unwrap();
    }
    let mut keys = server.opened();
    keys.reverse();
    keys.rotate_left(7);
    for key in keys {
        server.connection.reset(key, Reason::CANCEL);
        server.connection.release(key, 1);
        server.connection.release(key, 2);
    }
    for number in 0..300 {
        assert_eq!(server.receive(&frame(kind::DATA, 0, 2 * number + 1, b"late")), Ok(()));
    }
}

#[test]
fn a_table_that_was_emptied_on_its_way_is_told() {
    let mut client = End::new(Config::new(Role::Client));
    let sizes = [&[0, 1, 0, 0, 0, 0][..], &[0, 1, 0, 0, 16, 0]].concat();
    client.receive(&frame(kind::SETTINGS, 0, 0, &sizes)).unwrap();
    client.written();
    client.connection.open(&request("GET", "http://a/"), true).unwrap();
    let written = client.written();
    let (head, block) = &frames(&written)[0];
    assert_eq!(head.kind, kind::HEADERS);
    assert!(block.starts_with(&[0x20, 0x3f, 0xe1, 0x1f]), "to 0 and back to 4096: {block:x?}");
}

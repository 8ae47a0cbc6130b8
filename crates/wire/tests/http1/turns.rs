//! The writer's edits and the connection's verdicts, a line for each fact.

use weft_wire::{
    Progress,
    http1::{
        Announce, Asked, Body, ClientTurn, Edit, FieldId, Framing, HeadWriter, Hop, Persist, RequestHead,
        ResponseHead, ServerTurn, Then, Unwritable,
    },
};

use crate::served::LIMITS;

fn request(bytes: &[u8]) -> RequestHead {
    let mut head = RequestHead::default();
    assert_eq!(head.read(bytes, &LIMITS), Ok(Progress::Done(bytes.len())), "{}", bytes.escape_ascii());
    head
}

fn response(bytes: &[u8], asked: Asked) -> ResponseHead {
    let mut head = ResponseHead::default();
    assert!(matches!(head.read(bytes, asked, &LIMITS), Ok(Progress::Done(_))), "{}", bytes.escape_ascii());
    head
}

/// The head that goes on when `edit` decides.
fn sent(bytes: &[u8], announce: Announce, edit: impl Fn(&[u8]) -> Edit<'static>) -> String {
    let head = request(bytes);
    let mut out = Vec::new();
    let mut writer = HeadWriter::request(&mut out, b"GET", b"/x", b"be1").unwrap();
    writer.copy(head.fields(), bytes, announce, |line| edit(line.name())).unwrap();
    writer.finish();
    String::from_utf8(out).unwrap()
}

const START: &str = "GET /x HTTP/1.1\r\nHost: be1\r\n";

#[test]
fn lines_are_kept_dropped_and_replaced() {
    let bytes = b"GET / HTTP/1.1\r\nAccept: a\r\nHost: a\r\nX-a:1 \r\nCookie: c\r\nX-B: 2\r\n\r\n";
    assert_eq!(
        sent(bytes, Announce::Nothing, |_| Edit::Keep),
        format!("{START}Accept: a\r\nX-a: 1\r\nCookie: c\r\nX-B: 2\r\n\r\n")
    );
    let edit = |name: &[u8]| match name {
        b"Accept" => Edit::Drop,
        b"Cookie" => Edit::Value(b"new"),
        _ => Edit::Keep,
    };
    assert_eq!(
        sent(bytes, Announce::Nothing, edit),
        format!("{START}X-a: 1\r\nCookie: new\r\nX-B: 2\r\n\r\n")
    );
}

#[test]
fn fields_of_one_hop_and_disguised_ones_do_not_pass() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x-a, keep-alive\r\nX-A: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\n\
        Proxy-Connection: x\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nX_Forwarded_For: 1\r\nOk_1: 1\r\n\r\n";
    assert_eq!(sent(bytes, Announce::Nothing, |_| Edit::Keep), format!("{START}Ok_1: 1\r\n\r\n"));
}

#[test]
fn the_length_is_said_once_where_the_sender_said_it() {
    let told = |lines: &str, announce| {
        sent(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").as_bytes(), announce, |_| Edit::Keep)
    };
    for (lines, announce, expected) in [
        ("content-LENGTH: 3\r\n", Announce::Length(3), "content-LENGTH: 3\r\n"),
        (
            "A: b\r\ncontent-length: 003\r\nC: d\r\n",
            Announce::Length(3),
            "A: b\r\ncontent-length: 3\r\nC: d\r\n",
        ),
        ("Content-Length: 3, 3\r\nContent-Length: 3\r\n", Announce::Length(3), "Content-Length: 3\r\n"),
        ("Content-Length: 3\r\nA: b\r\n", Announce::Chunked, "A: b\r\nTransfer-Encoding: chunked\r\n"),
        ("Content-Length: 3\r\nA: b\r\n", Announce::Nothing, "A: b\r\n"),
        ("TRANSFER-encoding:  CHUNKED\r\n", Announce::Chunked, "TRANSFER-encoding: chunked\r\n"),
        ("Transfer-Encoding: chunked\r\nA: b\r\n", Announce::Length(0), "A: b\r\nContent-Length: 0\r\n"),
        ("A: b\r\n", Announce::Length(u64::MAX), "A: b\r\nContent-Length: 18446744073709551615\r\n"),
    ] {
        assert_eq!(told(lines, announce), format!("{START}{expected}\r\n"), "{lines:?} as {announce:?}");
    }
}

#[test]
fn nothing_from_outside_breaks_a_line_or_the_framing() {
    let mut out = Vec::new();
    for (method, target, authority, why) in [
        (&b"G T"[..], &b"/"[..], &b"a"[..], Unwritable::Method),
        (b"GET", b"/ HTTP/1.1\r\nX: y", b"a", Unwritable::Target),
        (b"GET", b"", b"a", Unwritable::Target),
        (b"GET", b"/", b"a\r\nX: y", Unwritable::Authority),
    ] {
        assert_eq!(HeadWriter::request(&mut out, method, target, authority).unwrap_err(), why);
    }
    assert_eq!(HeadWriter::response(&mut out, 200, b"OK\r\nX: y").unwrap_err(), Unwritable::Status);
    assert_eq!(HeadWriter::response(&mut out, 99, b"").unwrap_err(), Unwritable::Status);
    assert!(out.is_empty(), "something was written of what was refused");
    let mut writer = HeadWriter::request(&mut out, b"GET", b"/", b"").unwrap();
    for (name, value, why) in [
        (&b"X Y"[..], &b"1"[..], Unwritable::Name),
        (b"X", b"1\r\nY: 2", Unwritable::Value),
        (b"X", b"1\n", Unwritable::Value),
        (b"content-length", b"1", Unwritable::Reserved),
        (b"Transfer-Encoding", b"chunked", Unwritable::Reserved),
        (b"Connection", b"close", Unwritable::Reserved),
        (b"Host", b"b", Unwritable::Reserved),
    ] {
        assert_eq!(writer.field(name, value), Err(why));
    }
    assert_eq!(writer.hop(Hop { upgrade: Some(b"a\r\n"), ..Hop::default() }), Err(Unwritable::Value));
    writer.field(b"X", b"").unwrap();
    writer.finish();
    assert_eq!(out, b"GET / HTTP/1.1\r\nHost: \r\nX: \r\n\r\n");
}

#[test]
fn maps_are_written_without_what_the_codec_says_itself() {
    let mut headers = http::HeaderMap::new();
    for (name, value) in [
        ("host", "b"),
        ("content-length", "1"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("upgrade", "x"),
        ("te", "trailers"),
        ("x-a", "1"),
        ("x-a", "\t2"),
    ] {
        headers.append(name, value.parse().unwrap());
    }
    let mut out = Vec::new();
    let mut writer = HeadWriter::request(&mut out, b"GET", b"/", b"a").unwrap();
    writer.fields(&headers);
    writer.finish();
    assert_eq!(out, b"GET / HTTP/1.1\r\nHost: a\r\nx-a: 1\r\nx-a: \t2\r\n\r\n");
    out.clear();
    let mut writer = HeadWriter::response(&mut out, 200, b"").unwrap();
    writer.fields(&headers);
    writer.finish();
    assert_eq!(out, b"HTTP/1.1 200 \r\nhost: b\r\nx-a: 1\r\nx-a: \t2\r\n\r\n");
}

#[test]
fn a_hop_is_told_of_the_connection() {
    let told = |hop| {
        let mut out = Vec::new();
        let mut writer = HeadWriter::response(&mut out, 200, b"").unwrap();
        writer.hop(hop).unwrap();
        writer.finish();
        String::from_utf8(out).unwrap().split_off("HTTP/1.1 200 \r\n".len())
    };
    let close = Hop { persist: Persist::Close, ..Hop::default() };
    assert_eq!(told(Hop::default()), "\r\n");
    assert_eq!(told(close), "Connection: close\r\n\r\n");
    let all = Hop { trailers: true, upgrade: Some(b"websocket"), persist: Persist::KeepAlive };
    assert_eq!(
        told(all),
        "Connection: keep-alive, TE, upgrade\r\nTE: trailers\r\nUpgrade: websocket\r\n\r\n"
    );
}

#[test]
fn a_client_gets_what_its_version_can_read() {
    let new = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let closing = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let old = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    let head = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    use Announce as A;
    use Framing as F;
    use Persist::{Close, KeepAlive, Silent};
    for (client, framing, announce, close, expected) in [
        (&new[..], F::Length(3), A::Length(3), false, (F::Length(3), A::Length(3), Silent)),
        (new, F::Length(3), A::Length(3), true, (F::Length(3), A::Length(3), Close)),
        (new, F::UntilClose, A::Nothing, false, (F::Chunked, A::Chunked, Silent)),
        (new, F::Tunnel, A::Nothing, false, (F::Tunnel, A::Nothing, Silent)),
        (closing, F::Chunked, A::Chunked, false, (F::Chunked, A::Chunked, Close)),
        (old, F::Length(3), A::Length(3), false, (F::Length(3), A::Length(3), KeepAlive)),
        (old, F::Chunked, A::Chunked, false, (F::UntilClose, A::Nothing, Close)),
        (old, F::UntilClose, A::Nothing, false, (F::UntilClose, A::Nothing, Close)),
        (head, F::None, A::Length(3), false, (F::None, A::Length(3), Silent)),
        (head, F::Length(3), A::Length(3), false, (F::None, A::Length(3), Silent)),
    ] {
        let answer = ServerTurn::new(&request(client)).answer(framing, announce, close);
        let name = format!("{framing:?} to {}", client.escape_ascii());
        assert_eq!((answer.framing, answer.announce, answer.persist), expected, "{name}");
    }
}

#[test]
fn a_server_connection_goes_on_only_when_both_messages_ended() {
    let head = request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
    let mut turn = ServerTurn::new(&head);
    turn.answer(Framing::Length(0), Announce::Length(0), false);
    assert_eq!(turn.then(), Then::Wait);
    turn.response_ended();
    assert_eq!(turn.then(), Then::Drain);
    turn.request_ended();
    assert_eq!(turn.then(), Then::Next);
    turn.fail();
    assert_eq!(turn.then(), Then::Close);
    let mut turn = ServerTurn::new(&request(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"));
    turn.answer(Framing::Tunnel, Announce::Nothing, false);
    turn.response_ended();
    assert_eq!(turn.then(), Then::Tunnel);
}

#[test]
fn a_client_connection_is_reused_only_clean() {
    let asked = Asked::default();
    let head = response(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", asked);
    let mut turn = ClientTurn::new(asked, &LIMITS);
    turn.head(&head).unwrap();
    turn.response_ended();
    assert!(!turn.may_reuse(0), "the request is still being written");
    turn.request_ended();
    assert!(turn.may_reuse(0));
    assert!(!turn.may_reuse(1), "a byte is left");
    turn.fail();
    assert!(!turn.may_reuse(0));
    assert!(!ClientTurn::new(asked, &LIMITS).may_reuse(0), "no response came");
}

#[test]
fn known_fields_need_no_search_and_others_are_found() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: 7\r\nx-a: 1\r\nX-A: 2\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    let head = request(bytes);
    assert_eq!(head.fields().value(FieldId::XRequestId, bytes), Some(&b"7"[..]));
    assert_eq!(head.fields().values(b"X-a", bytes).collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(head.upgrade().map(|field| field.value().of(bytes)), Some(&b"x"[..]));
    let body = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\n";
    assert!(request(body).upgrade().is_none(), "an upgrade with a body is not one");
}

#[test]
fn only_a_body_without_length_ends_by_close() {
    for (framing, ends) in [
        (Framing::None, true),
        (Framing::Length(0), true),
        (Framing::UntilClose, true),
        (Framing::Length(1), false),
        (Framing::Chunked, false),
    ] {
        assert_eq!(Body::new(framing).close().is_ok(), ends, "{framing:?}");
    }
}

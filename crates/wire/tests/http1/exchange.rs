//! The loop of the module's documentation, run: a proxy between a client and an origin that are byte strings.
//!
//! What would be one vectored write to a peer is one entry in its list of writes.

use weft_wire::{
    Progress,
    http1::{
        Answer, Asked, BODY_END, Body, CHUNK_END, ChunkHead, ClientTurn, Edit, FieldId, Framing, HeadWriter,
        Hop, Part, Refusal, RequestHead, ResponseHead, ServerTurn, Then, write_trailers,
    },
};

use crate::served::LIMITS;

/// One side's connection: what it will still send, what was read of that and not used, and what it was sent.
struct Socket<'a> {
    unread: &'a [u8],
    piece: usize,
    buffer: Vec<u8>,
    writes: Vec<Vec<u8>>,
}

impl<'a> Socket<'a> {
    fn new(unread: &'a [u8], piece: usize) -> Socket<'a> {
        Socket { unread, piece, buffer: Vec::new(), writes: Vec::new() }
    }

    /// False when the other side has nothing more to say.
    fn read(&mut self) -> bool {
        let (piece, rest) = self.unread.split_at(self.piece.min(self.unread.len()));
        self.buffer.extend_from_slice(piece);
        self.unread = rest;
        !piece.is_empty()
    }

    fn use_up(&mut self, bytes: usize) {
        self.buffer.drain(..bytes);
    }

    fn write(&mut self, pieces: &[&[u8]]) {
        self.writes.push(pieces.concat());
    }

    fn sent(&self) -> String {
        String::from_utf8(self.writes.concat()).unwrap()
    }
}

/// What became of both connections.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    then: Then,
    upstream_reusable: bool,
}

fn proxy(client: &mut Socket<'_>, origin: &mut Socket<'_>, draining: bool) -> Result<Ended, Refusal> {
    let mut head = RequestHead::default();
    let used = loop {
        match head.read(&client.buffer, &LIMITS)? {
            Progress::Done(used) => break used,
            Progress::More if client.read() => {}
            Progress::More => return Err(Refusal::Truncated),
        }
    };
    let mut server = ServerTurn::new(&head);
    let asked = head.asked(false);
    let mut out = Vec::new();
    let bytes = &client.buffer;
    let (method, authority) = (head.method_span().of(bytes), head.authority_span().of(bytes));
    let mut writer = HeadWriter::request(&mut out, method, &head.path(bytes), authority).unwrap();
    let edit = |line: weft_wire::http1::Line<'_>| match line.id() {
        FieldId::XForwardedClientCert => Edit::Drop,
        _ => Edit::Keep,
    };
    writer.copy(head.fields(), bytes, head.announce(), edit).unwrap();
    writer.field(b"x-forwarded-client-cert", b"By=us").unwrap();
    writer.hop(Hop { trailers: head.takes_trailers(), ..Hop::default() }).unwrap();
    writer.finish();
    client.use_up(used);
    relay(client, origin, out, head.framing(), head.framing())?;
    server.request_ended();

    let mut turn = ClientTurn::new(asked, &LIMITS);
    turn.request_ended();
    let (response, answer) = loop {
        let (response, out, answer) = respond(origin, &mut turn, &mut server, asked, draining)?;
        match answer {
            Some(answer) => {
                relay(origin, client, out, response.framing(), answer.framing)?;
                break (response, answer);
            }
            None if server.takes_interim() => client.write(&[&out]),
            None => {}
        }
    };
    assert_eq!(answer.framing == Framing::Tunnel, response.framing() == Framing::Tunnel);
    turn.response_ended();
    server.response_ended();
    Ok(Ended { then: server.then(), upstream_reusable: turn.may_reuse(origin.buffer.len()) })
}

/// Reads one response head and makes ours of it; no answer for an interim one.
fn respond(
    origin: &mut Socket<'_>,
    turn: &mut ClientTurn,
    server: &mut ServerTurn,
    asked: Asked,
    draining: bool,
) -> Result<(ResponseHead, Vec<u8>, Option<Answer>), Refusal> {
    let mut head = ResponseHead::default();
    let used = loop {
        match head.read(&origin.buffer, asked, &LIMITS)? {
            Progress::Done(used) => break used,
            Progress::More if origin.read() => {}
            Progress::More => return Err(Refusal::Truncated),
        }
    };
    turn.head(&head)?;
    let answer = (!head.is_interim()).then(|| server.answer(head.framing(), head.announce(), draining));
    let (announce, persist) =
        answer.map_or_else(Default::default, |answer| (answer.announce, answer.persist));
    let mut out = Vec::new();
    let bytes = &origin.buffer;
    let mut writer = HeadWriter::response(&mut out, head.status(), head.reason_span().of(bytes)).unwrap();
    writer.copy(head.fields(), bytes, announce, |_| Edit::Keep).unwrap();
    writer.hop(Hop { persist, ..Hop::default() }).unwrap();
    writer.finish();
    origin.use_up(used);
    Ok((head, out, answer))
}

/// Sends a head with the first of its body, then the rest as it comes. `written` is how the body goes out.
fn relay(
    from: &mut Socket<'_>,
    to: &mut Socket<'_>,
    head: Vec<u8>,
    framing: Framing,
    written: Framing,
) -> Result<(), Refusal> {
    let mut body = Body::new(framing);
    let mut head = Some(head);
    let mut first = || head.take().unwrap_or_default();
    loop {
        match body.next(&from.buffer, &LIMITS)? {
            Part::Data(range) => {
                let data = &from.buffer[range.clone()];
                match ChunkHead::new(data.len()).filter(|_| written == Framing::Chunked) {
                    Some(chunk) => to.write(&[&first(), chunk.as_bytes(), data, CHUNK_END]),
                    None => to.write(&[&first(), data]),
                }
                from.use_up(range.end);
            }
            Part::More(used) if used > 0 => from.use_up(used),
            Part::More(_) if from.read() => {}
            Part::More(_) => {
                body.close()?;
                break;
            }
            Part::End(used) => {
                if written == Framing::Chunked && !body.trailers().is_empty() {
                    let mut end = Vec::new();
                    write_trailers(&mut end, body.trailers(), &from.buffer, |_| true);
                    to.write(&[&first(), &end]);
                    from.use_up(used);
                    return Ok(());
                }
                from.use_up(used);
                break;
            }
        }
    }
    let end: &[u8] = if written == Framing::Chunked { BODY_END } else { b"" };
    let head = first();
    if !head.is_empty() || !end.is_empty() {
        to.write(&[&head, end]);
    }
    Ok(())
}

#[track_caller]
fn check(request: &str, response: &str, to_origin: &str, to_client: &str, ended: Ended) {
    let mut lines = Vec::new();
    for piece in [usize::MAX, 1, 7] {
        let mut client = Socket::new(request.as_bytes(), piece);
        let mut origin = Socket::new(response.as_bytes(), piece);
        assert_eq!(proxy(&mut client, &mut origin, false).as_ref(), Ok(&ended), "in pieces of {piece}");
        if piece == usize::MAX {
            assert_eq!(origin.sent(), to_origin);
            assert_eq!(client.sent(), to_client);
            lines.push((client.writes.len(), origin.writes.len()));
        }
    }
    assert!(
        lines.iter().all(|(to_client, to_origin)| *to_client <= 3 && *to_origin <= 3),
        "{lines:?} writes"
    );
}

const FINE: Ended = Ended { then: Then::Next, upstream_reusable: true };

#[test]
fn a_get_goes_through_in_one_write_each_way() {
    let mut client =
        Socket::new(b"GET /a HTTP/1.1\r\nhost: be1\r\nX-Forwarded-Client-Cert: forged\r\n\r\n", 4096);
    let mut origin = Socket::new(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 4096);
    assert_eq!(
        proxy(&mut client, &mut origin, true),
        Ok(Ended { then: Then::Close, upstream_reusable: true })
    );
    assert_eq!(origin.sent(), "GET /a HTTP/1.1\r\nHost: be1\r\nx-forwarded-client-cert: By=us\r\n\r\n");
    assert_eq!(client.sent(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
    assert_eq!((client.writes.len(), origin.writes.len()), (1, 1));
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    check(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: TE\r\n\r\n\
         5;x=y\r\nhello\r\n0\r\nSum: 1\r\nHost: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n03\r\nabc\r\n00\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nx-forwarded-client-cert: By=us\r\n\
         Connection: TE\r\nTE: trailers\r\n\r\n5\r\nhello\r\n0\r\nSum: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        FINE,
    );
}

#[test]
fn an_end_by_close_becomes_chunks_and_an_old_client_gets_none() {
    let response = "HTTP/1.1 200 OK\r\n\r\nabc";
    let spent = |then| Ended { then, upstream_reusable: false };
    check(
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        response,
        "GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-client-cert: By=us\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        spent(Then::Next),
    );
    check(
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        response,
        "GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-client-cert: By=us\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc",
        spent(Then::Close),
    );
}

#[test]
fn interim_responses_pass_and_head_keeps_its_length() {
    check(
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 07\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\nx-forwarded-client-cert: By=us\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
        FINE,
    );
}

#[test]
fn a_cut_or_poisoned_response_is_never_whole() {
    let run = |response: &'static [u8]| {
        let mut client = Socket::new(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 4096);
        let mut origin = Socket::new(response, 4096);
        (proxy(&mut client, &mut origin, false), client.sent())
    };
    let (cut, _) = run(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc");
    assert_eq!(cut, Err(Refusal::Truncated));
    let (cut, sent) = run(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    assert_eq!(cut, Err(Refusal::Truncated));
    assert!(!sent.ends_with("0\r\n\r\n"), "the client would take it for whole: {sent}");
    let (poisoned, sent) = run(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(poisoned, Ok(Ended { then: Then::Next, upstream_reusable: false }));
    assert!(sent.ends_with("\r\n\r\na"));
}

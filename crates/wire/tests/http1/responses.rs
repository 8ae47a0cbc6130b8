//! The response corpus: what each of these byte strings is to a proxy that asked, in the words of
//! [`served`](crate::served).

use weft_wire::http1::Asked;

use crate::{served, strict};

const GET: Asked = Asked { head: false, connect: false, upgrade: false };
const HEAD: Asked = Asked { head: true, ..GET };
const CONNECT: Asked = Asked { connect: true, ..GET };
const UPGRADE: Asked = Asked { upgrade: true, ..GET };

pub struct Case {
    pub asked: Asked,
    pub bytes: Vec<u8>,
    pub told: String,
}

fn ok(rest: &[u8]) -> Vec<u8> {
    [b"HTTP/1.1 200 OK\r\n", rest].concat()
}

fn chunked(rest: &[u8]) -> Vec<u8> {
    ok(&[b"Transfer-Encoding: chunked\r\n\r\n", rest].concat())
}

#[rustfmt::skip] // a table: one row a line
fn framing() -> Vec<(Asked, Vec<u8>, &'static str)> {
    let refused = "refused length_and_encoding";
    vec![
        (GET, ok(b"Content-Length: 3\r\n\r\nabc"), "200 =abc reuse"),
        (GET, ok(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), refused),
        (GET, ok(b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"), refused),
        (GET, ok(b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"), "200 =abc reuse"),
        (GET, ok(b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"), "refused lengths_differ"),
        (GET, ok(b"Content-Length: +5\r\n\r\nabcde"), "refused bad_length"),
        (GET, ok(b"Content-Length: 0x5\r\n\r\nabcde"), "refused bad_length"),
        (GET, ok(b"Content-Length: \r\n\r\nabcde"), "refused bad_length"),
        (GET, ok(b"Content-Length: 18446744073709551621\r\n\r\nabcde"), "refused bad_length"),
        (GET, ok(b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"), "refused bad_encoding"),
        (GET, ok(b"Transfer-Encoding: gzip\r\n\r\nabc"), "refused unknown_encoding"),
        (GET, b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(), "refused misplaced_encoding"),
        (GET, ok(b"\r\nabc"), "200 =abc"),
        (GET, ok(b"Connection: keep-alive\r\n\r\nabc"), "200 =abc"),
        (GET, ok(b"Content-Length: 5\r\n\r\nabc"), "200 =abc | more"),
        (GET, chunked(b"3\r\nabc\r\n0\r\n\r\n"), "200 =abc reuse"),
        (GET, chunked(b"3\r\nabc\r\n0\r\n"), "200 =abc | more"),
        (GET, chunked(b"3\r\nabc\r\n"), "200 =abc | more"),
        (GET, chunked(b"3\r\nab"), "200 =ab | more"),
        (GET, chunked(b"0x3\r\nabc\r\n0\r\n\r\n"), "200 | refused bad_chunk"),
        (GET, chunked(b"3\r\nabc\n0\r\n\r\n"), "200 =abc | refused bad_chunk"),
        (GET, chunked(b"3\nabc\r\n0\r\n\r\n"), "200 | refused bad_chunk"),
        (GET, chunked(b"3;a\rb\r\nabc\r\n0\r\n\r\n"), "200 | refused bad_chunk"),
        (GET, chunked(b"10000000000000003\r\nabc"), "200 | refused bad_chunk"),
        (GET, chunked(b"3\r\nabc\r\n0\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\nGrpc-Status: 0\r\n\r\n"), "200 =abc +Grpc-Status: 0 reuse"),
        (GET, chunked(b"0\r\nX: a\r\n b\r\n\r\n"), "200 | refused folded"),
    ]
}

#[rustfmt::skip] // a table: one row a line
fn without_body() -> Vec<(Asked, Vec<u8>, &'static str)> {
    vec![
        (HEAD, ok(b"Content-Length: 5\r\n\r\n"), "200 reuse"),
        (HEAD, ok(b"Transfer-Encoding: chunked\r\n\r\n"), "200 reuse"),
        (HEAD, ok(b"\r\n"), "200 reuse"),
        (HEAD, ok(b"Content-Length: 5\r\n\r\nabcde"), "200"),
        (GET, b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), "204 reuse"),
        (GET, b"HTTP/1.1 204 No Content\r\n\r\nabc".to_vec(), "204"),
        (GET, b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n".to_vec(), "204 reuse"),
        (GET, b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc".to_vec(), "refused misplaced_body"),
        (GET, b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(), "refused misplaced_encoding"),
        (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n".to_vec(), "304 reuse"),
        (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nabcde".to_vec(), "304"),
        (GET, b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n".to_vec(), "205 reuse"),
    ]
}

#[rustfmt::skip] // a table: one row a line
fn interim_and_tunnels() -> Vec<(Asked, Vec<u8>, &'static str)> {
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let final_one = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    vec![
        (GET, [&early[..], final_one].concat(), "103 | 200 reuse"),
        (GET, early.to_vec(), "103 | more"),
        (GET, [&b"HTTP/1.1 100 Continue\r\n\r\n"[..], final_one].concat(), "100 | 200 reuse"),
        (GET, b"HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\nabc".to_vec(), "refused misplaced_body"),
        (GET, b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), "refused misplaced_encoding"),
        (GET, switch.to_vec(), "refused misplaced_switch"),
        (UPGRADE, [&switch[..], b"\x81\x01a"].concat(), "101 tunnel 3"),
        (UPGRADE, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_vec(), "refused misplaced_switch"),
        (UPGRADE, b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n".to_vec(), "refused misplaced_switch"),
        (UPGRADE, b"HTTP/1.0 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n".to_vec(), "refused misplaced_switch"),
        (UPGRADE, ok(b"Content-Length: 3\r\n\r\nabc"), "200 =abc reuse"),
        (CONNECT, ok(b"\r\nabc"), "200 tunnel 3"),
        (CONNECT, ok(b"Content-Length: 3\r\n\r\nabc"), "200 tunnel 3"),
        (CONNECT, b"HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nabc".to_vec(), "403 =abc reuse"),
    ]
}

#[rustfmt::skip] // a table: one row a line
fn syntax() -> Vec<(Asked, Vec<u8>, &'static str)> {
    let bad = "refused bad_status";
    vec![
        (GET, b"HTTP/1.1 99 Low\r\n\r\n".to_vec(), bad),
        (GET, b"HTTP/1.1 099 Low\r\n\r\n".to_vec(), bad),
        (GET, b"HTTP/1.1 1000 High\r\n\r\n".to_vec(), bad),
        (GET, b"HTTP/1.1 2OO OK\r\n\r\n".to_vec(), bad),
        (GET, b"HTTP/1.1  200 OK\r\n\r\n".to_vec(), bad),
        (GET, b"HTTP/1.1\t200 OK\r\n\r\n".to_vec(), bad),
        (GET, b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n".to_vec(), "200 reuse"),
        (GET, b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n".to_vec(), "200 reuse"),
        (GET, b"HTTP/1.1 200 \xc3\xa9\tt \r\nContent-Length: 0\r\n\r\n".to_vec(), "200 reuse"),
        (GET, b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n".to_vec(), "999 reuse"),
        (GET, b"<html>hello".to_vec(), bad),
        (GET, b"HTTP/2.0 200 OK\r\n\r\n".to_vec(), bad),
        (GET, b"HTTP/1.2 200 OK\r\n\r\n".to_vec(), bad),
        (GET, b"ICY 200 OK\r\n\r\n".to_vec(), bad),
        (GET, b"\r\nHTTP/1.1 200 OK\r\n\r\n".to_vec(), bad),
        (GET, b"HTTP/1.1 200 OK\nContent-Length: 0\n\n".to_vec(), "refused bare_lf"),
        (GET, b"HTTP/1.1 200 a\rb\r\n\r\n".to_vec(), "refused bare_cr"),
        (GET, b"HTTP/1.1 200 a\0b\r\n\r\n".to_vec(), "refused bad_field_value"),
        (GET, ok(b"X: a\rb\r\n\r\n"), "refused bare_cr"),
        (GET, ok(b"X: a\n\r\n"), "refused bare_lf"),
        (GET, ok(b"X: a\0\r\n\r\n"), "refused bad_field_value"),
        (GET, ok(b"X: a\r\n b\r\n\r\n"), "refused folded"),
        (GET, ok(b"X : a\r\n\r\n"), "refused bad_field_name"),
        (GET, ok(&[b"X: ", &[b'a'; 70_000][..], b"\r\n\r\n"].concat()), "refused long_head"),
        (GET, ok(&b"X: a\r\n".repeat(10_000)), "refused many_fields"),
        (GET, b"".to_vec(), "more"),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Le".to_vec(), "more"),
    ]
}

#[rustfmt::skip] // a table: one row a line
fn connection() -> Vec<(Asked, Vec<u8>, &'static str)> {
    vec![
        (GET, ok(b"Content-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"), "200"),
        (GET, ok(b"Content-Length: 3\r\n\r\nabcX"), "200 =abc"),
        (GET, ok(b"Content-Length: 0\r\nConnection: close\r\n\r\n"), "200"),
        (GET, b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), "200"),
        (GET, b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n".to_vec(), "200 reuse"),
        (GET, b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nabc".to_vec(), "200 =abc"),
        (GET, ok(b"Content-Length: 0\r\nKeep-Alive: timeout=5\r\nConnection: X-A, Keep-Alive\r\nX-A: 1\r\n\r\n"), "200 reuse"),
        (GET, ok(b"Content-Length: 3\r\nConnection: Content-Length\r\n\r\nabc"), "refused connection_names_end_to_end"),
        (GET, ok(b"Content-Length: 0\r\nConnection: Set-Cookie\r\nSet-Cookie: a=b\r\n\r\n"), "refused connection_names_end_to_end"),
        (GET, ok(b"Content-Length: 0\r\nUpgrade: h2,h2c\r\nConnection: Upgrade\r\n\r\n"), "200 reuse"),
        (GET, ok(b"Content-Length: 0007\r\n\r\nabcdefg"), "200 =abcdefg reuse"),
    ]
}

pub fn corpus() -> Vec<Case> {
    let interims = |count: usize| b"HTTP/1.1 103 Hints\r\n\r\n".repeat(count);
    let end = ok(b"Content-Length: 0\r\n\r\n");
    let mut cases: Vec<Case> = [framing(), without_body(), interim_and_tunnels(), syntax(), connection()]
        .into_iter()
        .flatten()
        .map(|(asked, bytes, told)| Case { asked, bytes, told: told.to_owned() })
        .collect();
    cases.push(Case {
        asked: GET,
        bytes: [interims(100), end.clone()].concat(),
        told: "103 | ".repeat(100) + "200 reuse",
    });
    cases.push(Case {
        asked: GET,
        bytes: [interims(101), end].concat(),
        told: "103 | ".repeat(100) + "refused many_interim",
    });
    // Each is small enough, all of them are not.
    let large = [b"HTTP/1.1 103 Hints\r\nLink: ", &[b'a'; 20_000][..], b"\r\n\r\n"].concat();
    cases.push(Case {
        asked: GET,
        bytes: large.repeat(4),
        told: "103 | ".repeat(3) + "refused many_interim",
    });
    cases
}

#[test]
fn each_response_has_its_verdict_however_it_is_cut() {
    let corpus = corpus();
    assert!(corpus.len() >= 40, "only {} cases", corpus.len());
    let mut wrong = Vec::new();
    for case in &corpus {
        let told = served::however_cut(&case.bytes, |bytes, cuts| served::receive(bytes, case.asked, cuts));
        let name = case.bytes[..case.bytes.len().min(120)].escape_ascii();
        if told.line != case.told {
            wrong.push(format!("{name}\n  expected {}\n  but      {}", case.told, told.line));
        }
        for message in &told.messages {
            if let Err(why) = strict::response(message, case.asked.head || told.line.contains("tunnel")) {
                wrong.push(format!("{name} sends on {why}: {}", message.escape_ascii()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), corpus.len(), wrong.join("\n"));
    println!("{} responses", corpus.len());
}

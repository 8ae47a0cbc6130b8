//! What parsing and writing a GET of ten fields costs, beside httparse's parse alone.
//!
//! `http1_cost ROUNDS WHAT`, WHAT one of `forward` (parse and write a request), `parse`, `answer` (parse and write a
//! response), `httparse`, `nothing`; under `valgrind --tool=callgrind` for instructions. Without arguments it prints the
//! time of each.

use std::{hint::black_box, time::Instant};

use weft_wire::http1::{Asked, Edit, FieldId, HeadWriter, Limits, RequestHead, ResponseHead};

const GET: &[u8] = b"GET /api/v1/items?page=2 HTTP/1.1\r\nHost: be1.default.mesh.internal\r\n\
    User-Agent: curl/8.5.0\r\nAccept: */*\r\nAccept-Encoding: gzip, br\r\nX-Request-Id: 7f0a3c\r\n\
    Cookie: session=0123456789abcdef\r\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyz\r\n\
    Connection: keep-alive\r\nX-Team: shop\r\nCache-Control: no-cache\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: app\r\n\r\n";
const LIMITS: Limits = Limits::DEFAULT;

fn parse(head: &mut RequestHead) {
    head.restart();
    let read = head.read(black_box(GET), &LIMITS);
    assert!(black_box(read).is_ok());
}

fn forward(head: &mut RequestHead, out: &mut Vec<u8>) {
    parse(head);
    out.clear();
    let path = head.path(GET);
    let (method, authority) = (head.method_span().of(GET), head.authority_span().of(GET));
    let Ok(mut writer) = HeadWriter::request(out, method, &path, authority) else { return };
    let edit = |line: weft_wire::http1::Line<'_>| match line.id() {
        FieldId::XForwardedClientCert | FieldId::XForwardedProto => Edit::Drop,
        _ => Edit::Keep,
    };
    let copied = writer.copy(head.fields(), GET, head.announce(), edit);
    let added = writer.field(b"x-forwarded-proto", b"http");
    writer.finish();
    assert!(copied.is_ok() && added.is_ok());
    black_box(&out);
}

fn answer(head: &mut ResponseHead, out: &mut Vec<u8>) {
    head.restart();
    out.clear();
    let read = head.read(black_box(RESPONSE), Asked::default(), &LIMITS);
    assert!(black_box(read).is_ok());
    let Ok(mut writer) = HeadWriter::response(out, head.status(), head.reason_span().of(RESPONSE)) else {
        return;
    };
    let copied = writer.copy(head.fields(), RESPONSE, head.announce(), |_| Edit::Keep);
    writer.finish();
    assert!(copied.is_ok());
    black_box(&out);
}

fn httparse_parse() {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut fields);
    assert!(black_box(request.parse(black_box(GET))).is_ok());
}

fn run(rounds: usize, what: &str) {
    let (mut request, mut response, mut out) = (RequestHead::default(), ResponseHead::default(), Vec::new());
    for _ in 0..rounds {
        match what {
            "parse" => parse(&mut request),
            "forward" => forward(&mut request, &mut out),
            "answer" => answer(&mut response, &mut out),
            "httparse" => httparse_parse(),
            _ => {
                black_box(what);
            }
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, rounds, what] = &arguments[..] {
        return run(rounds.parse().unwrap_or(1), what);
    }
    const ROUNDS: usize = 200_000;
    for what in ["parse", "forward", "answer", "httparse"] {
        let nanos = (0..5).map(|_| {
            let start = Instant::now();
            run(ROUNDS, what);
            start.elapsed().as_nanos() / ROUNDS as u128
        });
        println!("{what}: {} ns", nanos.min().unwrap_or(0));
    }
}

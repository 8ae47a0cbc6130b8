//! What a reader of HTTP/1 promises of any bytes; a panic if a promise does not hold.
//!
//! One verdict however the bytes are cut, and what is sent on is read by the strict reader as the same message. Tests
//! and the coverage-guided fuzzer (`cargo xtask fuzz`) share these functions.

use weft_wire::http1::{Asked, CHUNK_END, ChunkHead};

use crate::{
    mutations::Random,
    served::{Told, receive, serve},
    strict,
};

fn same_verdict(data: &[u8], cuts: &[usize], run: impl Fn(&[u8], &[usize]) -> Told) -> Told {
    let whole = run(data, &[]);
    assert_eq!(run(data, cuts).line, whole.line, "cut at {cuts:?}");
    let singles: Vec<usize> = (1..data.len()).collect();
    assert_eq!(run(data, &singles).line, whole.line, "byte by byte");
    whole
}

/// Requests, read as a server and sent on.
pub fn request(data: &[u8], cuts: &[usize]) -> Told {
    let told = same_verdict(data, cuts, serve);
    for message in &told.messages {
        let read = strict::request(message).unwrap_or_else(|why| panic!("{why}: {}", message.escape_ascii()));
        let [method, target] = &read.start[..2] else { unreachable!("the strict reader sees to that") };
        let host = &read.fields.iter().find(|(name, _)| name == "host").unwrap().1;
        let target = if method == "CONNECT" { "" } else { target };
        let named = [method.as_bytes(), target.as_bytes(), host].map(|part| part.escape_ascii().to_string());
        assert!(told.line.contains(&named.join(" ")), "{named:?} is not in {}", told.line);
        let body = format!("={}", read.body.escape_ascii());
        assert!(read.body.is_empty() || told.line.contains(&body), "{body} is not in {}", told.line);
    }
    told
}

/// Responses to what was asked, read as a client and sent on.
pub fn response(data: &[u8], asked: Asked, cuts: &[usize]) -> Told {
    let told = same_verdict(data, cuts, |data, cuts| receive(data, asked, cuts));
    for (number, message) in told.messages.iter().enumerate() {
        let tunnel = told.tunnel && number + 1 == told.messages.len();
        let read = strict::response(message, asked.head || tunnel)
            .unwrap_or_else(|why| panic!("{why}: {}", message.escape_ascii()));
        assert!(told.line.contains(&read.start[1]), "{:?} is not in {}", read.start, told.line);
    }
    told
}

/// Data in chunks of any size comes out as it went in.
pub fn chunks(data: &[u8], random: &mut Random) {
    let mut message = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let mut rest = data;
    while let Some(head) = ChunkHead::new(rest.len().min(1 + random.below(40))) {
        let size = usize::from_str_radix(std::str::from_utf8(head.as_bytes()).unwrap().trim(), 16).unwrap();
        let (chunk, behind) = rest.split_at(size);
        message.extend_from_slice(&[head.as_bytes(), chunk, CHUNK_END].concat());
        rest = behind;
    }
    message.extend_from_slice(b"0\r\n\r\n");
    let told = same_verdict(&message, &random.cuts(message.len()), serve);
    let body = if data.is_empty() { String::new() } else { format!(" ={}", data.escape_ascii()) };
    assert_eq!(told.line, format!("POST / a{body}"));
}

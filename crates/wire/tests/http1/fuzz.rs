//! Entry functions for fuzzing, one for each reader: any bytes in, a panic if a promise does not hold.
//!
//! The promises: one verdict however the bytes are cut, and what is sent on is read by the strict reader as the same
//! message. The corpora, what fuzzing found, and seeded mutations of them go through on every run;
//! `WEFT_FUZZ_SECONDS=600 cargo test -p weft-wire --test http1 fuzz` goes on for that long with each.

use std::time::{Duration, Instant};

use weft_wire::http1::{Asked, CHUNK_END, ChunkHead};

use crate::{
    mutations::{Random, spoil},
    requests, responses,
    served::{Told, receive, serve},
    strict,
};

const MUTATIONS: usize = 20_000;
const SEED: u64 = 20_261_122;

/// What fuzzing found once and must not find again: requests.
const FOUND: &[&[u8]] = &[];

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
    let bodiless = asked.head || told.line.contains(" tunnel ");
    for message in &told.messages {
        let read = strict::response(message, bodiless)
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

/// Runs `step` as often as asked, or for as long.
fn run(count: usize, mut step: impl FnMut(&mut Random)) -> usize {
    let seconds = std::env::var("WEFT_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let seed = if end.is_some() { u64::from(std::process::id()) } else { SEED };
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut done = 0;
    while end.map_or(done < count, |end| Instant::now() < end) {
        step(&mut random);
        done += 1;
    }
    println!("{done} inputs");
    done
}

#[test]
fn fuzz_requests() {
    // The corpus is mostly refused; most mutations begin at one that is not.
    let (refused, taken): (Vec<_>, Vec<_>) = requests::corpus()
        .into_iter()
        .filter(|case| case.bytes.len() < 2000)
        .partition(|case| case.told.starts_with("refused"));
    for data in FOUND.iter().copied().chain(refused.iter().chain(&taken).map(|case| &case.bytes[..])) {
        request(data, &[]);
    }
    let corpora = [&refused, &taken];
    let (mut passed, mut refused) = (0, 0);
    let done = run(MUTATIONS, |random| {
        let [one, other] = [0, 1].map(|_| {
            let corpus = corpora[random.below(4).min(1)];
            &corpus[random.below(corpus.len())].bytes
        });
        let data = spoil(one, other, random);
        let told = request(&data, &random.cuts(data.len()));
        passed += usize::from(!told.messages.is_empty());
        refused += usize::from(told.line.contains("refused"));
    });
    // The mutations are worth something only if they lead both ways.
    assert!(passed > done / 10 && refused > done / 4, "{passed} passed, {refused} refused of {done}");
}

#[test]
fn fuzz_responses() {
    let corpus: Vec<responses::Case> = responses::corpus()
        .into_iter()
        .filter(|case| case.bytes.len() < 2000 && !case.bytes.is_empty())
        .collect();
    for case in &corpus {
        response(&case.bytes, case.asked, &[]);
    }
    let (mut passed, mut refused) = (0, 0);
    let done = run(MUTATIONS / 2, |random| {
        let (one, other) = (&corpus[random.below(corpus.len())], &corpus[random.below(corpus.len())]);
        let data = spoil(&one.bytes, &other.bytes, random);
        let told = response(&data, one.asked, &random.cuts(data.len()));
        passed += usize::from(!told.messages.is_empty());
        refused += usize::from(told.line.contains("refused"));
    });
    assert!(passed > done / 10 && refused > done / 4, "{passed} passed, {refused} refused of {done}");
}

#[test]
fn fuzz_chunks() {
    run(2_000, |random| {
        let data: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
        chunks(&data, random);
    });
}

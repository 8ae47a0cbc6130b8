//! The corpora, what fuzzing found, and seeded mutations of them, held against the [`promises`](crate::promises).
//!
//! `WEFT_FUZZ_SECONDS=600 cargo test -p weft-wire --test http1 fuzz` goes on for that long with each;
//! `cargo xtask fuzz` does it guided by coverage.

use std::time::{Duration, Instant};

use crate::{
    mutations::{Random, spoil},
    promises::{chunks, request, response},
    requests, responses,
};

const MUTATIONS: usize = 20_000;
const SEED: u64 = 20_261_122;

/// What fuzzing found once and must not find again: requests.
const FOUND: &[&[u8]] = &[];

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
        let data: Vec<u8> = (0..random.below(200)).map(|_| random.number() as u8).collect();
        chunks(&data, random);
    });
}

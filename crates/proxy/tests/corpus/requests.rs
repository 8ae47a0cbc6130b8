//! Rows S-H1-01 and S-H1-02: requests that readers disagree about.
//!
//! Each case goes over a connection of its own through a proxy to an oracle. The verdict is made from what the oracle
//! read and what the client was told; a probe after each case must meet a clean connection.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use weft_proxy::static_config::StaticResources;

use crate::{
    edge::{Edge, answers, exchange},
    mesh::{
        free_port,
        xds::{Speak, cluster, http, listener, plain_chain, to, vhost},
    },
    oracle::{Event, Oracle},
    request_cases::{CASES, bytes},
};

/// What must become of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Refused or cut: no whole request of it reaches the origin.
    Reject,
    /// May go on, in a form that can be read in one way only.
    Normalise,
    /// Must work.
    Accept,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Rejected,
    /// The head went on, the body did not end.
    Cut,
    Forwarded,
    /// Malformed, and accepted all the same; the origin's bytes are clear.
    Lenient,
    /// A good request did not get through.
    FalseReject,
    /// The origin got bytes that can be read in two ways, or more requests than the client has answers.
    Ambiguous,
}

/// What is known to be wrong today: nothing.
const LENIENT_TODAY: &[&str] = &[];

/// One way through the proxy, used by one case at a time.
struct Lane {
    at: SocketAddr,
    oracle: Oracle,
    probes: AtomicUsize,
}

struct Lanes {
    lanes: Vec<Lane>,
    _edge: Edge,
}

impl Lanes {
    fn start(count: usize) -> Lanes {
        let lanes: Vec<Lane> = (0..count)
            .map(|_| Lane { at: free_port(), oracle: Oracle::start(), probes: AtomicUsize::new(0) })
            .collect();
        let resources = StaticResources {
            listeners: lanes
                .iter()
                .enumerate()
                .map(|(n, lane)| {
                    let hosts = vec![vhost("all", &["*"], vec![to("/", &format!("o{n}"))])];
                    listener(
                        &format!("l{n}"),
                        lane.at,
                        vec![plain_chain(http(&format!("l{n}"), hosts, None))],
                    )
                })
                .collect(),
            clusters: lanes
                .iter()
                .enumerate()
                .map(|(n, lane)| cluster(&format!("o{n}"), &[lane.oracle.address], Speak::Http1, None))
                .collect(),
            ..StaticResources::default()
        };
        let edge = Edge::start(resources);
        Lanes { lanes, _edge: edge }
    }

    /// Runs `work` for each of `count` numbers, on all lanes at once.
    fn each<T: Send>(&self, count: usize, work: impl Fn(&Lane, usize) -> T + Sync) -> Vec<T> {
        let next = AtomicUsize::new(0);
        let done = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for lane in &self.lanes {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        let result = work(lane, number);
                        done.lock().unwrap().insert(number, result);
                    }
                });
            }
        });
        done.into_inner().unwrap().into_values().collect()
    }
}

impl Lane {
    /// What became of these bytes, and a word why.
    fn judge<'a>(&self, expect: Expect, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Verdict, String) {
        let answer = exchange(self.at, pieces);
        let told = answers(&answer);
        let events = self.settle();
        let requests: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Request(request) => Some(request),
                _ => None,
            })
            .collect();
        let problem = events.iter().find_map(|event| match event {
            Event::Problem(text) => Some(text.clone()),
            _ => None,
        });
        let cut = events.iter().any(|event| matches!(event, Event::Cut));
        let statuses: Vec<u16> = told.iter().map(|answer| answer.status).collect();
        let answered =
            told.iter().filter(|answer| answer.status == 200 && answer.one("x-body-bytes").is_some()).count();
        let seen = format!(
            "told {statuses:?}, the origin read {:?}",
            requests.iter().map(|one| &one.target).collect::<Vec<_>>()
        );
        if let Some(problem) = problem {
            return (Verdict::Ambiguous, format!("{problem}; {seen}"));
        }
        let smuggled = |target: &str| {
            let shown = format!(" {target}");
            let told = told.iter().filter(|answer| answer.text().ends_with(&shown)).count();
            requests.iter().filter(|request| request.target == target).count() > told
        };
        if requests.len() > answered.max(1) || smuggled("/smug") {
            return (Verdict::Ambiguous, seen);
        }
        let good = answered > 0 && !requests.is_empty();
        let verdict = match (expect, good) {
            (Expect::Accept, true) if statuses.iter().all(|status| *status == 200) => Verdict::Forwarded,
            (Expect::Accept, _) => Verdict::FalseReject,
            (Expect::Normalise, true) => Verdict::Forwarded,
            (Expect::Reject, _) if !requests.is_empty() => Verdict::Lenient,
            _ if cut => Verdict::Cut,
            _ => Verdict::Rejected,
        };
        (verdict, seen)
    }

    /// Waits until all that the case caused is here: a probe goes through, and must be answered well.
    fn settle(&self) -> Vec<Event> {
        let target = format!("/probe-{}", self.probes.fetch_add(1, Ordering::Relaxed));
        let asked = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let told = answers(&exchange(self.at, [asked.as_bytes()]));
        assert_eq!(told.len(), 1, "one answer to the probe: {told:?}");
        assert_eq!(told[0].text(), format!("GET {target}"), "the probe's own answer");
        let mut events = self.oracle.wait_for(&target);
        events.pop();
        events
    }
}

/// S-H1-01: 0 ambiguous, 0 smuggled, 0 false rejects; the lenient ones are named above.
#[test]
fn the_request_corpus() {
    let lanes = Lanes::start(6);
    let verdicts = lanes.each(CASES.len(), |lane, number| {
        let (name, expect, case) = CASES[number];
        (name, lane.judge(expect, [bytes(case).as_slice()]))
    });
    let mut totals: BTreeMap<Verdict, usize> = BTreeMap::new();
    for (_, (verdict, _)) in &verdicts {
        *totals.entry(*verdict).or_default() += 1;
    }
    println!("S-H1-01: {} cases: {totals:?}", verdicts.len());
    let of = |wanted: Verdict| {
        verdicts.iter().filter(move |(_, (verdict, _))| *verdict == wanted).collect::<Vec<_>>()
    };
    for verdict in [Verdict::Lenient, Verdict::FalseReject, Verdict::Ambiguous] {
        for (name, (_, why)) in of(verdict) {
            println!("  {verdict:?}: {name}: {why}");
        }
    }
    assert!(CASES.len() >= 134);
    assert!(of(Verdict::Ambiguous).is_empty() && of(Verdict::FalseReject).is_empty());
    let lenient: Vec<&str> = of(Verdict::Lenient).iter().map(|(name, _)| *name).collect();
    assert_eq!(lenient, LENIENT_TODAY, "the list may only get shorter, and says so when it can");
}

/// S-H1-02, short form: the verdict is the same however the bytes are cut into segments.
#[test]
fn segments_do_not_change_a_verdict() {
    let lanes = Lanes::start(6);
    // Byte by byte costs a wake-up each, so the two long ones are left to the whole corpus.
    let cases: Vec<_> = CASES.iter().filter(|(_, _, case)| bytes(case).len() < 2000).collect();
    let moved: Vec<String> = lanes
        .each(cases.len(), |lane, number| {
            let (name, expect, case) = cases[number];
            let whole = bytes(case);
            let (first, _) = lane.judge(*expect, [whole.as_slice()]);
            let (second, why) = lane.judge(*expect, whole.chunks(1));
            let same = same(first, second);
            (!same).then(|| format!("{name}: {first:?} whole, {second:?} byte by byte: {why}"))
        })
        .into_iter()
        .flatten()
        .collect();
    assert!(moved.is_empty(), "{moved:#?}");
    let picked: Vec<_> = cases.iter().step_by(cases.len() / 20).collect();
    let moved: Vec<String> = lanes
        .each(picked.len(), |lane, number| {
            let (name, expect, case) = picked[number];
            let whole = bytes(case);
            let (first, _) = lane.judge(*expect, [whole.as_slice()]);
            (1..whole.len()).find_map(|at| {
                let (second, why) = lane.judge(*expect, [&whole[..at], &whole[at..]]);
                (!same(first, second))
                    .then(|| format!("{name} split at {at}: {first:?}, then {second:?}: {why}"))
            })
        })
        .into_iter()
        .flatten()
        .collect();
    assert!(moved.is_empty(), "{moved:#?}");
}

/// Whether the head had gone on before the fault was seen depends on when the bytes came; both are refusals.
fn same(first: Verdict, second: Verdict) -> bool {
    let one = |verdict| if verdict == Verdict::Cut { Verdict::Rejected } else { verdict };
    one(first) == one(second)
}

/// S-H1-02, short form: seeded mutations never make a request that two readers take for two.
#[test]
fn mutations_are_never_ambiguous() {
    const MUTANTS: usize = 2500;
    let seed = std::env::var("WEFT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_260_801);
    println!("S-H1-02: {MUTANTS} mutants, WEFT_SEED={seed}");
    let lanes = Lanes::start(6);
    let found: Vec<String> = lanes
        .each(MUTANTS, |lane, number| {
            let mut random = fastrand::Rng::with_seed(seed + number as u64);
            let (name, _, case) = CASES[random.usize(..CASES.len())];
            let mutant = mutate(bytes(case), &mut random);
            // Nothing is expected of a mutant but that it is not ambiguous.
            let (verdict, why) = lane.judge(Expect::Normalise, [mutant.as_slice()]);
            (verdict == Verdict::Ambiguous).then(|| format!("{name} as {}: {why}", mutant.escape_ascii()))
        })
        .into_iter()
        .flatten()
        .collect();
    assert!(found.is_empty(), "seed {seed}: {found:#?}");
}

fn mutate(mut bytes: Vec<u8>, random: &mut fastrand::Rng) -> Vec<u8> {
    const SPACES: &[u8] = b" \t\x0b\x0c\xa0\x85\0\r\n";
    for _ in 0..random.usize(1..=3) {
        let at = random.usize(..bytes.len().max(1));
        match random.u8(..7) {
            // Another line end.
            0 => {
                let ends: Vec<usize> = bytes
                    .windows(2)
                    .enumerate()
                    .filter(|(_, two)| two == b"\r\n")
                    .map(|(at, _)| at)
                    .collect();
                if let Some(end) = ends.get(random.usize(..ends.len().max(1))) {
                    let other: &[u8] = [&b"\n"[..], b"\r", b"\n\r", b"\r\r\n", b""][random.usize(..5)];
                    bytes.splice(*end..*end + 2, other.iter().copied());
                }
            }
            1 => bytes.insert(at, SPACES[random.usize(..SPACES.len())]),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 if at < bytes.len() => bytes[at] ^= 0x20,
            // A line twice.
            4 => {
                let mut lines: Vec<Vec<u8>> =
                    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                let which = random.usize(..lines.len().max(1));
                if let Some(line) = lines.get(which).cloned() {
                    lines.insert(which, line);
                }
                bytes = lines.concat();
            }
            5 if at < bytes.len() => bytes[at] = random.u8(..),
            _ => bytes.truncate(bytes.len().max(2) - 1),
        }
    }
    bytes
}

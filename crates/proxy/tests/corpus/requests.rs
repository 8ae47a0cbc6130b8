//! Rows S-H1-01 and S-H1-02: requests that readers disagree about.
//!
//! Each case goes over a connection of its own through a proxy to an oracle. The verdict is made from what the oracle
//! read and what the client was told; a probe after each case must meet a clean connection.

mod series;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use weft_proxy::static_config::StaticResources;

use crate::{
    beside::{End, Peer, Running, Speak as PeerSpeak, at_length, figure},
    edge::{Edge, answers, exchange_until},
    mesh::xds::{Speak, cluster, http, listener, plain_chain, to, vhost},
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
    /// `None`: Weft.
    peer: Option<Peer>,
}

struct Lanes {
    lanes: Vec<Lane>,
    _proxy: Proxy,
}

/// Held until it may end.
enum Proxy {
    Weft { _edge: Edge },
    Peer { _running: Running },
    Series { _first: Box<Proxy>, _edge: Edge },
}

impl Lanes {
    fn prepare(count: usize, peer: Option<Peer>) -> Vec<Lane> {
        // Held all at once, or one port could be given twice.
        let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let lane = |held: &TcpListener| Lane {
            at: held.local_addr().unwrap(),
            oracle: Oracle::start(),
            probes: AtomicUsize::new(0),
            peer,
        };
        held.iter().map(lane).collect()
    }

    fn before(peer: Peer, count: usize) -> Option<Lanes> {
        let lanes = Lanes::prepare(count, Some(peer));
        let ways: Vec<_> = lanes.iter().map(|lane| (lane.at, lane.oracle.address)).collect();
        let running = peer.start(PeerSpeak::Http1, &ways)?;
        Some(Lanes { lanes, _proxy: Proxy::Peer { _running: running } })
    }

    fn start(count: usize) -> Lanes {
        let lanes = Lanes::prepare(count, None);
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
        Lanes { lanes, _proxy: Proxy::Weft { _edge: edge } }
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
    fn judge<'a>(
        &self,
        expect: Expect,
        pieces: impl IntoIterator<Item = &'a [u8]> + Clone,
    ) -> (Verdict, String) {
        let end = self.peer.map_or(End::HalfClose, Peer::end);
        let (verdict, why) = self.judge_once(expect, end, pieces.clone());
        // An answer that came after the client had lost its patience is none that is missing.
        match (verdict, end) {
            (Verdict::Ambiguous | Verdict::FalseReject, End::Quiet(time)) => {
                self.judge_once(expect, End::Quiet(time * 10), pieces)
            }
            _ => (verdict, why),
        }
    }

    fn judge_once<'a>(
        &self,
        expect: Expect,
        end: End,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Verdict, String) {
        let answer = exchange_until(self.at, end, pieces);
        let told = answers(&answer);
        let events = match self.settle() {
            Ok(events) => events,
            Err(why) => return (Verdict::Ambiguous, why),
        };
        let requests: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Request(request) => Some(request),
                _ => None,
            })
            .collect();
        // Of us, bytes that no strict reader takes are enough; of others, that two readers differ on them.
        let problem = events.iter().find_map(|event| match event {
            Event::Problem(text) if self.peer.is_none() => Some(text.clone()),
            Event::Ambiguous(text) => Some(text.clone()),
            _ => None,
        });
        let odd = events.iter().any(|event| matches!(event, Event::Problem(_)));
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
            // It went on, in a form that a strict origin does not take.
            (Expect::Accept, _) if odd => Verdict::Lenient,
            (Expect::Accept, _) => Verdict::FalseReject,
            (Expect::Normalise, true) => Verdict::Forwarded,
            (Expect::Reject, _) if !requests.is_empty() || odd => Verdict::Lenient,
            _ if cut => Verdict::Cut,
            _ => Verdict::Rejected,
        };
        (verdict, seen)
    }

    /// Waits until all that the case caused is here: a probe goes through, and must be answered well.
    fn settle(&self) -> Result<Vec<Event>, String> {
        // We try again where an origin ended a kept connection; others may need to be asked again.
        let tries = if self.peer.is_none() { 1 } else { 5 };
        let mut last = String::new();
        for _ in 0..tries {
            let target = format!("/probe-{}", self.probes.fetch_add(1, Ordering::Relaxed));
            let asked = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            // It says that it is the last, so the proxy ends the connection.
            let end = self.peer.map_or(End::HalfClose, |_| End::Quiet(crate::mesh::LIMIT));
            let told = answers(&exchange_until(self.at, end, [asked.as_bytes()]));
            match &told[..] {
                [answer] if answer.text() == format!("GET {target}") => {
                    let mut events = self.oracle.wait_for(&target);
                    events.pop();
                    return Ok(events);
                }
                [answer] if (502..=504).contains(&answer.status) => last = format!("{told:?}"),
                _ => return Err(format!("the probe was answered {told:?}")),
            }
        }
        Err(format!("no probe was answered: {last}"))
    }
}

/// What became of a corpus, as a line of a table.
struct Tally {
    of: BTreeMap<Verdict, usize>,
}

impl Tally {
    const HEAD: &str =
        "                       cases  ambiguous  lenient  well-formed refused  refused  cut  forwarded";

    fn new<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> Tally {
        let mut of = BTreeMap::new();
        for verdict in verdicts {
            *of.entry(*verdict).or_default() += 1;
        }
        Tally { of }
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.of.get(&verdict).copied().unwrap_or(0)
    }

    /// For the table of all corpora.
    fn tell(&self, what: &str, proxy: &str) {
        let of =
            [Verdict::Ambiguous, Verdict::Lenient, Verdict::FalseReject].map(|verdict| self.count(verdict));
        let line = format!("{what}: ambiguous / lenient / well-formed refused");
        figure(&line, proxy, format!("{} / {} / {}", of[0], of[1], of[2]));
    }

    fn line(&self, what: &str, proxy: &str) -> String {
        let count = |verdict| self.count(verdict);
        format!(
            "{what:<12} {proxy:<9} {:>5} {:>10} {:>8} {:>20} {:>8} {:>4} {:>10}",
            self.of.values().sum::<usize>(),
            count(Verdict::Ambiguous),
            count(Verdict::Lenient),
            count(Verdict::FalseReject),
            count(Verdict::Rejected),
            count(Verdict::Cut),
            count(Verdict::Forwarded)
        )
    }
}

fn corpus(lanes: &Lanes) -> Vec<(&'static str, (Verdict, String))> {
    lanes.each(CASES.len(), |lane, number| {
        let (name, expect, case) = CASES[number];
        (name, lane.judge(expect, [bytes(case).as_slice()]))
    })
}

/// Verdicts on seeded mutants of the corpus, of which nothing is expected but that they are not ambiguous.
fn mutants(lanes: &Lanes, count: usize, seed: u64) -> Vec<(Verdict, String)> {
    lanes.each(count, |lane, number| {
        let mut random = fastrand::Rng::with_seed(seed + number as u64);
        let (name, _, case) = CASES[random.usize(..CASES.len())];
        let mutant = mutate(bytes(case), &mut random);
        let (verdict, why) = lane.judge(Expect::Normalise, [mutant.as_slice()]);
        (verdict, format!("{name} as {}: {why}", mutant.escape_ascii()))
    })
}

pub fn seed() -> u64 {
    std::env::var("WEFT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_260_801)
}

/// S-H1-01: 0 ambiguous, 0 smuggled, 0 false rejects; the lenient ones are named above.
#[test]
fn the_request_corpus() {
    let verdicts = corpus(&Lanes::start(6));
    let tally = Tally::new(verdicts.iter().map(|(_, (verdict, _))| verdict));
    println!("S-H1-01\n{}\n{}", Tally::HEAD, tally.line("requests", "Weft"));
    tally.tell(&corpus_line(), "Weft");
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

/// S-H1-01 and S-H1-02 with Envoy and HAProxy in our place: the same bytes, origins and verdicts.
#[test]
fn the_request_corpus_beside_peers() {
    println!("{}", Tally::HEAD);
    for peer in [Peer::Envoy, Peer::HaProxy] {
        // Most of the time is patience, so there are many lanes.
        let Some(lanes) = Lanes::before(peer, 48) else { return };
        let verdicts = corpus(&lanes);
        let tally = Tally::new(verdicts.iter().map(|(_, (verdict, _))| verdict));
        println!("{}", tally.line("requests", peer.name()));
        tally.tell(&corpus_line(), peer.name());
        for (name, (verdict, why)) in &verdicts {
            if matches!(verdict, Verdict::Ambiguous | Verdict::FalseReject) {
                println!("  {verdict:?}: {name}: {why}");
            }
        }
        let mutants = mutants(&lanes, mutants_beside(), seed());
        let wild = Tally::new(mutants.iter().map(|(verdict, _)| verdict));
        println!("{}", wild.line("mutants", peer.name()));
        figure(&mutants_line(mutants.len()), peer.name(), wild.count(Verdict::Ambiguous));
        for (_, why) in mutants.iter().filter(|(verdict, _)| *verdict == Verdict::Ambiguous).take(5) {
            println!("  {why}");
        }
        // They are worth standing beside only if they were there: what is well-formed goes through them.
        assert!(tally.count(Verdict::Forwarded) > 20 && tally.count(Verdict::Rejected) > 50, "{peer:?}");
        assert!(tally.count(Verdict::FalseReject) <= 3, "{peer:?} refuses what must work");
    }
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

const MUTANTS: usize = 20_000;
/// Others in a test run; `cargo xtask corpora` sends all of them through everybody.
const MUTANTS_BESIDE: usize = 3_000;

fn mutants_beside() -> usize {
    if at_length() { MUTANTS } else { MUTANTS_BESIDE }
}

fn corpus_line() -> String {
    format!("{} requests", CASES.len())
}

fn mutants_line(count: usize) -> String {
    format!("{count} mutants of them: ambiguous")
}

/// S-H1-02: seeded mutations never make a request that two readers take for two.
#[test]
fn mutations_are_never_ambiguous() {
    let seed = seed();
    println!("S-H1-02: {MUTANTS} mutants, WEFT_SEED={seed}");
    let mutants = mutants(&Lanes::start(6), MUTANTS, seed);
    let tally = Tally::new(mutants.iter().map(|(verdict, _)| verdict));
    println!("{}\n{}", Tally::HEAD, tally.line("mutants", "Weft"));
    figure(&mutants_line(MUTANTS), "Weft", tally.count(Verdict::Ambiguous));
    let found: Vec<&String> =
        mutants.iter().filter(|(verdict, _)| *verdict == Verdict::Ambiguous).map(|(_, why)| why).collect();
    assert!(found.is_empty(), "seed {seed}: {found:#?}");
}

pub fn mutate(mut bytes: Vec<u8>, random: &mut fastrand::Rng) -> Vec<u8> {
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

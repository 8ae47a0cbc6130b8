//! Row S-H1-04: origins that answer in ways that readers disagree about.
//!
//! After each of them a hundred requests go over the proxy's pooled connections: each must get its own answer, whole,
//! and never a byte of what the bad origin said.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use weft_proxy::static_config::StaticResources;
use weft_testkit::eventually;

use crate::{
    beside::{End, Peer, Speak as PeerSpeak, figure},
    edge::{Answer, Edge, answers, connect, exchange_until, find},
    mesh::{
        LIMIT, free_port,
        xds::{Speak, cluster, http, listener, plain_chain, to, vhost},
    },
    oracle::{Next, Oracle, plain},
    strict::Request,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// 502 or 503, or a cut.
    Bad,
    /// May go on, in one clear form.
    Either,
    /// Must go on.
    Good,
}
use Expect::{Bad, Either, Good};

/// Name, what must become of it, the request's method, the bytes, and whether the origin closes after them.
type Behaviour = (&'static str, Expect, &'static str, &'static [u8], Next);

const KEEP: Next = Next::Keep;
const CLOSE: Next = Next::Close;

const BEHAVIOURS: &[Behaviour] = &[
    ("plain", Good, "GET", b"{H}Content-Length: 3\r\n\r\nabc", KEEP),
    (
        "CL and TE",
        Either,
        "GET",
        b"{H}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        KEEP,
    ),
    ("two CL equal", Either, "GET", b"{H}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", KEEP),
    ("two CL differ", Bad, "GET", b"{H}Content-Length: 3\r\nContent-Length: 30\r\n\r\nabc", CLOSE),
    ("CL +5", Bad, "GET", b"{H}Content-Length: +5\r\n\r\nabcde", CLOSE),
    ("CL 0x5", Bad, "GET", b"{H}Content-Length: 0x5\r\n\r\nabcde", CLOSE),
    ("CL empty", Bad, "GET", b"{H}Content-Length:\r\n\r\nabc", CLOSE),
    ("CL 2^64+5", Bad, "GET", b"{H}Content-Length: 18446744073709551621\r\n\r\nabcde", CLOSE),
    ("CL too long", Bad, "GET", b"{H}Content-Length: 500\r\n\r\nabc", CLOSE),
    ("TE chunked twice", Bad, "GET", b"{H}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", CLOSE),
    ("TE gzip", Either, "GET", b"{H}Transfer-Encoding: gzip\r\n\r\nabc", CLOSE),
    (
        "TE in HTTP/1.0",
        Either,
        "GET",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        CLOSE,
    ),
    ("chunk size junk", Bad, "GET", b"{C}xyz\r\nabc\r\n0\r\n\r\n", CLOSE),
    ("chunk size negative", Bad, "GET", b"{C}-3\r\nabc\r\n0\r\n\r\n", CLOSE),
    ("chunk size 2^64", Bad, "GET", b"{C}10000000000000000\r\nabc\r\n0\r\n\r\n", CLOSE),
    ("chunk without its end", Bad, "GET", b"{C}3\r\nabcdef\r\n0\r\n\r\n", CLOSE),
    ("chunks that stop", Bad, "GET", b"{C}3\r\nabc\r\n", CLOSE),
    ("no length, then the end", Good, "GET", b"{H}\r\nabc", CLOSE),
    ("204 with a body", Either, "GET", b"HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\nabc", KEEP),
    ("304 with a body", Either, "GET", b"HTTP/1.1 304 No\r\nContent-Length: 3\r\n\r\nabc", KEEP),
    ("HEAD with a body", Either, "HEAD", b"{H}Content-Length: 3\r\n\r\nabc", KEEP),
    ("101 informational heads", Either, "GET", b"{101}{H}Content-Length: 3\r\n\r\nabc", KEEP),
    (
        "101 not asked for",
        Bad,
        "GET",
        b"HTTP/1.1 101 Up\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nevil",
        KEEP,
    ),
    ("103 then an end", Bad, "GET", b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n", CLOSE),
    ("status 99", Bad, "GET", b"HTTP/1.1 99 Odd\r\nContent-Length: 3\r\n\r\nabc", CLOSE),
    ("status 1000", Bad, "GET", b"HTTP/1.1 1000 Odd\r\nContent-Length: 3\r\n\r\nabc", CLOSE),
    ("status 2OO", Bad, "GET", b"HTTP/1.1 2OO OK\r\nContent-Length: 3\r\n\r\nabc", CLOSE),
    ("no reason", Good, "GET", b"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc", KEEP),
    ("HTTP/0.9", Bad, "GET", b"<html>hello</html>", CLOSE),
    ("HTTP/2.0", Bad, "GET", b"HTTP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", CLOSE),
    ("bare CR in a value", Bad, "GET", b"{H}X: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n", CLOSE),
    ("NUL in a value", Bad, "GET", b"{H}X: a\0b\r\nContent-Length: 0\r\n\r\n", CLOSE),
    ("bare LF lines", Either, "GET", b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", KEEP),
    ("obs-fold", Either, "GET", b"{H}X: a\r\n b\r\nContent-Length: 3\r\n\r\nabc", CLOSE),
    ("space before the colon", Bad, "GET", b"{H}Content-Length : 3\r\n\r\nabc", CLOSE),
    ("a value of 500 KB", Bad, "GET", b"{H}X: {500K}\r\nContent-Length: 0\r\n\r\n", CLOSE),
    ("10,000 fields", Bad, "GET", b"{H}{10000}Content-Length: 0\r\n\r\n", CLOSE),
    ("bytes after the end", Either, "GET", b"{H}Content-Length: 3\r\n\r\nabcEVIL", KEEP),
    (
        "two answers at once",
        Either,
        "GET",
        b"{H}Content-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        KEEP,
    ),
    (
        "trailers with framing",
        Either,
        "GET",
        b"{C}3\r\nabc\r\n0\r\nContent-Length: 9\r\nSet-Cookie: evil\r\nx-sum: 1\r\n\r\n",
        KEEP,
    ),
    (
        "Connection names fields",
        Good,
        "GET",
        b"{H}Connection: x-hop\r\nx-hop: evil\r\nContent-Length: 3\r\n\r\nabc",
        KEEP,
    ),
    ("nothing", Bad, "GET", b"", CLOSE),
    ("10,000 informational heads", Either, "GET", b"{10000 times 103}{H}Content-Length: 3\r\n\r\nabc", CLOSE),
    ("chunks after the last", Either, "GET", b"{C}3\r\nabc\r\n0\r\n\r\n4\r\nevil\r\n0\r\n\r\n", KEEP),
    (
        "an answer that nobody asked for, later",
        Either,
        "GET",
        b"{H}Content-Length: 3\r\n\r\nabc{pause}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        KEEP,
    ),
    ("garbage, later", Either, "GET", b"{H}Content-Length: 3\r\n\r\nabc{pause}EVIL EVIL", KEEP),
    ("slowly", Good, "GET", b"HTTP/1.{pause}1 200 OK\r\nContent-{pause}Length: 3\r\n\r\na{pause}bc", KEEP),
    ("head that stops", Bad, "GET", b"HTTP/1.1 200 OK\r\nContent-Le", CLOSE),
    ("trailers that stop", Bad, "GET", b"{C}3\r\nabc\r\n0\r\nx-sum: 1\r\n", CLOSE),
];

/// Those whose body does not come whole: an answer that looks whole is a lie.
const TRUNCATED: &[&str] = &[
    "CL too long",
    "chunks that stop",
    "chunk without its end",
    "chunk size junk",
    "chunk size negative",
    "chunk size 2^64",
    "trailers that stop",
];

/// Malformed answers that get through today; each is read in one way and changes nothing for others.
const LENIENT_TODAY: &[&str] = &[];

fn bytes(text: &[u8]) -> Vec<u8> {
    let marks: [(&[u8], Vec<u8>); 6] = [
        (b"{H}", b"HTTP/1.1 200 OK\r\n".to_vec()),
        (b"{C}", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
        (b"{101}", b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n".repeat(101)),
        (b"{10000 times 103}", b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n".repeat(10_000)),
        (b"{500K}", vec![b'a'; 500_000]),
        (b"{10000}", (0..10_000).map(|n| format!("X{n}: 1\r\n")).collect::<String>().into_bytes()),
    ];
    let mut out = text.to_vec();
    for (mark, replacement) in marks {
        while let Some(at) = find(&out, mark) {
            out.splice(at..at + mark.len(), replacement.iter().copied());
        }
    }
    out
}

const PAUSE: &[u8] = b"{pause}";
const PAUSE_TIME: Duration = Duration::from_millis(30);

/// An origin of them, and up to which one it has written to the end.
fn origin() -> (Oracle, Arc<AtomicUsize>) {
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let oracle = Oracle::answering(move |request, stream| {
        let next = behave(request, stream);
        // A request may come twice, so this is no count.
        if let Some(number) = request.target.strip_prefix("/behaviour/") {
            counter.fetch_max(number.parse::<usize>().unwrap() + 1, Ordering::SeqCst);
        }
        next
    });
    (oracle, written)
}

fn behave(request: &Request, stream: &mut std::net::TcpStream) -> Next {
    let Some(number) = request.target.strip_prefix("/behaviour/") else { return plain(request, stream) };
    let (_, _, _, answer, next) = BEHAVIOURS[number.parse::<usize>().unwrap()];
    let mut rest = &bytes(answer)[..];
    while let Some(at) = find(rest, PAUSE) {
        let _ = stream.write_all(&rest[..at]);
        std::thread::sleep(PAUSE_TIME);
        rest = &rest[at + PAUSE.len()..];
    }
    let _ = stream.write_all(rest);
    next
}

/// What one proxy made of all of them.
#[derive(Default)]
struct Outcome {
    refused: usize,
    passed: usize,
    /// Malformed, and passed on as whole.
    lenient: Vec<&'static str>,
    /// Cut short, and passed on as whole.
    truncated: Vec<&'static str>,
    /// Well-formed, and not passed on.
    lost: Vec<&'static str>,
    /// Bytes of one answer in another, or a wrong answer to one of the hundred.
    spoilt: Vec<String>,
    /// Later requests that were told of a connection which the origin was just closing.
    late: usize,
}

impl Outcome {
    const HEAD: &str = "                       cases  foreign bytes  truncated as whole  lenient  well-formed lost  refused  forwarded";

    /// For the table of all corpora.
    fn tell(&self, proxy: &str) {
        let line = format!("{} bad answers: foreign bytes / cut as whole / lenient / lost", BEHAVIOURS.len());
        let of = [self.spoilt.len(), self.truncated.len(), self.lenient.len(), self.lost.len()];
        figure(&line, proxy, format!("{} / {} / {} / {}", of[0], of[1], of[2], of[3]));
    }

    fn line(&self, proxy: &str) -> String {
        format!(
            "{:<12} {proxy:<9} {:>5} {:>14} {:>19} {:>8} {:>17} {:>8} {:>10}",
            "responses",
            BEHAVIOURS.len(),
            self.spoilt.len(),
            self.truncated.len(),
            self.lenient.len(),
            self.lost.len(),
            self.refused,
            self.passed
        )
    }
}

fn run(at: SocketAddr, peer: Option<Peer>, written: &AtomicUsize) -> Outcome {
    let end = peer.map_or(End::HalfClose, |peer| match peer.end() {
        // The origin itself pauses.
        End::Quiet(time) => End::Quiet(time + 5 * PAUSE_TIME),
        end => end,
    });
    let mut outcome = Outcome::default();
    for (number, (name, expect, method, _, _)) in BEHAVIOURS.iter().enumerate() {
        let asked = format!("{method} /behaviour/{number} HTTP/1.1\r\nHost: a\r\n\r\n");
        let raw = exchange_until(at, end, [asked.as_bytes()]);
        let told = match *method {
            "HEAD" => vec![head_only(&raw)],
            _ => answers(&raw),
        };
        // What it says late is there before the next request, or it would be an answer to that.
        eventually("the origin has said all", LIMIT, || {
            (written.load(Ordering::SeqCst) > number).then_some(())
        });
        let text = String::from_utf8_lossy(&raw).to_ascii_lowercase();
        if told.len() > 1 || text.contains("evil") {
            outcome.spoilt.push(format!("{name}: {text}"));
        }
        let good = told.first().is_some_and(|answer| answer.status < 500 && answer.whole);
        if let (None, Some(failed)) = (peer, told.first().filter(|answer| answer.status >= 500)) {
            assert!(matches!(failed.status, 502 | 503), "{name}: {failed:?}");
            let reasons = ["127.0.0.1", "hyper", "pars", "invalid", "header", "chunk"];
            assert!(!reasons.iter().any(|reason| failed.text().contains(reason)), "{name} leaks: {failed:?}");
        }
        match good {
            true if TRUNCATED.contains(name) => outcome.truncated.push(name),
            true if *expect == Bad => outcome.lenient.push(name),
            true => outcome.passed += 1,
            false if *expect == Good => outcome.lost.push(name),
            false => outcome.refused += 1,
        }
        afterwards(at, name, number, &mut outcome);
    }
    outcome
}

/// S-H1-04: 0 wrong answers in the hundred requests after each.
#[test]
fn bad_answers_stay_with_their_request() {
    let ((oracle, written), at) = (origin(), free_port());
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let _edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("o", &[oracle.address], Speak::Http1, None)],
        ..StaticResources::default()
    });
    let outcome = run(at, None, &written);
    println!("S-H1-04\n{}\n{}", Outcome::HEAD, outcome.line("Weft"));
    outcome.tell("Weft");
    assert!(BEHAVIOURS.len() >= 40);
    assert_eq!(outcome.spoilt, Vec::<String>::new());
    assert_eq!((&outcome.truncated, &outcome.lost), (&vec![], &vec![]));
    assert_eq!(outcome.late, 0, "a GET is made again where a kept connection ended without a word");
    assert_eq!(outcome.lenient, LENIENT_TODAY);
}

/// S-H1-04 with Envoy and HAProxy in our place.
#[test]
fn bad_answers_beside_peers() {
    println!("{}", Outcome::HEAD);
    for peer in [Peer::Envoy, Peer::HaProxy] {
        let ((oracle, written), at) = (origin(), free_port());
        let Some(_running) = peer.start(PeerSpeak::Http1, &[(at, oracle.address)]) else { return };
        let outcome = run(at, Some(peer), &written);
        println!("{}", outcome.line(peer.name()));
        outcome.tell(peer.name());
        println!(
            "  truncated {:?}, lenient {:?}, lost {:?}",
            outcome.truncated, outcome.lenient, outcome.lost
        );
        for text in outcome.spoilt.iter().take(5) {
            println!("  spoilt: {text:.300}");
        }
        assert!(outcome.passed > 3 && outcome.refused > 10, "{peer:?} was not there");
    }
}

fn head_only(raw: &[u8]) -> Answer {
    let end = find(raw, b"\r\n\r\n").unwrap_or(raw.len());
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Answer { status, head, body: Vec::new(), whole: raw.len() <= end + 4 || status >= 500 }
}

/// A hundred requests on a kept connection, each with its own answer.
fn afterwards(at: SocketAddr, name: &str, number: usize, outcome: &mut Outcome) {
    let mut stream = connect(at);
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    for n in 0..100 {
        let target = format!("/after-{number}-{n}");
        let asked = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = stream.write_all(asked.as_bytes()).ok().and_then(|()| {
            loop {
                if let Some(answer) = answers(&bytes).into_iter().next().filter(|answer| answer.whole) {
                    return Some(answer);
                }
                match stream.read(&mut buffer) {
                    Ok(count @ 1..) => bytes.extend_from_slice(&buffer[..count]),
                    _ => return None,
                }
            }
        });
        bytes.clear();
        match answer {
            Some(answer) if answer.status == 200 && answer.text() == format!("GET {target}") => {}
            Some(answer) if matches!(answer.status, 502..=504) => outcome.late += 1,
            other => {
                outcome.spoilt.push(format!("after {name}, request {n}: {other:?}"));
                stream = connect(at);
            }
        }
    }
}

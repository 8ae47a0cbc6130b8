//! Row S-H1-03: the books of three, connection by connection. Pipelines of good and bad requests from a grammar: what
//! the origin read, what the access log says, and what the client was told are the same requests.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{Shutdown, SocketAddr, TcpListener},
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use weft_proxy::static_config::StaticResources;

use crate::{
    beside::{at_length, figure},
    edge::{Edge, answers, connect, exchange, read_to_end},
    mesh::xds::{Speak, cluster, http, listener, plain_chain, to, vhost, with_access_log},
    oracle::{Event, Oracle},
    requests::{mutate, seed},
};

const PIPELINES: usize = 5_000;
const PIPELINES_AT_LENGTH: usize = 100_000;
const LANES: usize = 6;

/// One request of the grammar, well-formed; each target is asked for once.
fn request(random: &mut fastrand::Rng, target: &str) -> Vec<u8> {
    let length = random.usize(..40);
    let body: Vec<u8> = std::iter::repeat_with(|| random.u8(b'a'..=b'z')).take(length).collect();
    let mut text = Vec::new();
    let more = ["", "X: 1\r\n", "X:\r\nY: \tb \r\n", "Cookie: a=b\r\nCookie: c=d\r\n"][random.usize(..4)];
    let close = ["", "", "", "", "Connection: close\r\n", "Connection: keep-alive\r\n"][random.usize(..6)];
    match random.u8(..6) {
        0 => write!(text, "GET {target} HTTP/1.0\r\n{more}{close}\r\n"),
        1 => write!(text, "GET http://a{target} HTTP/1.1\r\nHost: a\r\n{more}{close}\r\n"),
        2 | 3 => {
            write!(
                text,
                "POST {target} HTTP/1.1\r\nHost: a\r\n{more}{close}Content-Length: {length}\r\n\r\n"
            )
            .unwrap();
            text.write_all(&body)
        }
        4 => {
            write!(
                text,
                "PUT {target} HTTP/1.1\r\nHost: a\r\n{close}Transfer-Encoding: chunked\r\n{more}\r\n"
            )
            .unwrap();
            for chunk in body.chunks(random.usize(1..20)) {
                write!(text, "{:x}\r\n", chunk.len()).unwrap();
                text.write_all(chunk).unwrap();
                text.write_all(b"\r\n").unwrap();
            }
            text.write_all([&b"0\r\n\r\n"[..], b"0\r\nx-sum: 1\r\n\r\n"][random.usize(..2)])
        }
        _ => write!(text, "GET {target} HTTP/1.1\r\nHost: a\r\n{more}{close}\r\n"),
    }
    .unwrap();
    text
}

/// A pipeline; in one of two, something is wrong somewhere.
fn pipeline(random: &mut fastrand::Rng, number: usize) -> Vec<u8> {
    let requests = random.usize(1..6);
    let mut bytes: Vec<u8> =
        (0..requests).flat_map(|n| request(random, &format!("/p/{number}/{n}"))).collect();
    if random.bool() {
        bytes = mutate(bytes, random);
    }
    bytes
}

/// What is written of one connection, by whom.
#[derive(Debug, Default, PartialEq, Eq)]
struct Books {
    /// Answers of the origin, and answers of the proxy's own.
    passed: usize,
    refused: usize,
}

struct Lane {
    at: SocketAddr,
    oracle: Oracle,
    log: PathBuf,
}

/// One connection: its bytes, what the client was told, what the origin read.
struct Seen {
    client: SocketAddr,
    bytes: Vec<u8>,
    told: Books,
    read: usize,
    /// A head went on, and its body did not end.
    cut: usize,
    problem: Option<String>,
}

impl Lane {
    fn send(&self, bytes: Vec<u8>, number: usize) -> Seen {
        let mut stream = connect(self.at);
        let client = stream.local_addr().unwrap();
        // The proxy may have refused already.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let answers = answers(&read_to_end(&mut stream));
        let passed = answers.iter().filter(|answer| answer.one("x-body-bytes").is_some()).count();
        let told = Books { passed, refused: answers.len() - passed };
        // All that the connection caused is at the origin when the next one's request is.
        let probe = format!("/probe/{number}");
        let asked = format!("GET {probe} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        exchange(self.at, [asked.as_bytes()]);
        let mut events = self.oracle.wait_for(&probe);
        events.pop();
        let read = events.iter().filter(|event| matches!(event, Event::Request(_))).count();
        let cut = events.iter().filter(|event| matches!(event, Event::Cut)).count();
        let problem = events.into_iter().find_map(|event| match event {
            Event::Problem(text) | Event::Ambiguous(text) => Some(text),
            _ => None,
        });
        Seen { client, bytes, told, read, cut, problem }
    }
}

/// The log's lines by the client's address: those that name an endpoint and were answered by it, and the others.
fn logged(lane: &Lane) -> BTreeMap<String, (Books, Vec<String>)> {
    let mut books: BTreeMap<String, (Books, Vec<String>)> = BTreeMap::new();
    let text = std::fs::read_to_string(&lane.log).unwrap();
    // A probe's port may have been a pipeline's.
    for line in text.lines().filter(|line| !line.contains(" /probe/")) {
        let mut words = line.split(' ');
        let (client, code) = (words.next().unwrap(), words.next().unwrap());
        let (of, lines) = books.entry(client.to_owned()).or_default();
        match code {
            "200" => of.passed += 1,
            _ => of.refused += 1,
        }
        lines.push(line.to_owned());
    }
    books
}

/// S-H1-03: no connection on which the three differ.
#[test]
fn the_books_agree() {
    let count = if at_length() { PIPELINES_AT_LENGTH } else { PIPELINES };
    let seed = seed();
    println!("S-H1-03: {count} pipelines, WEFT_SEED={seed}");
    // Held all at once, or one port could be given twice.
    let held: Vec<TcpListener> = (0..LANES).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    let lanes: Vec<Lane> = held
        .iter()
        .enumerate()
        .map(|(n, held)| Lane {
            at: held.local_addr().unwrap(),
            oracle: Oracle::start(),
            log: folder.path().join(format!("{n}.log")),
        })
        .collect();
    drop(held);
    let mut resources = StaticResources::default();
    for (n, lane) in lanes.iter().enumerate() {
        let (web, origin) = (format!("l{n}"), format!("o{n}"));
        let filter = http(&web, vec![vhost("all", &["*"], vec![to("/", &origin)])], None);
        let filter = with_access_log(
            filter,
            &lane.log,
            "%DOWNSTREAM_REMOTE_ADDRESS% %RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_HOST% %REQ(:PATH)%\n",
        );
        resources.listeners.push(listener(&web, lane.at, vec![plain_chain(filter)]));
        resources.clusters.push(cluster(&origin, &[lane.oracle.address], Speak::Http1, None));
    }
    let edge = Edge::start(resources);
    let next = AtomicUsize::new(0);
    let seen: Vec<Vec<Seen>> = std::thread::scope(|scope| {
        let running: Vec<_> = lanes
            .iter()
            .map(|lane| {
                scope.spawn(|| {
                    let mut seen = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return seen;
                        }
                        let mut random = fastrand::Rng::with_seed(seed + number as u64);
                        seen.push(lane.send(pipeline(&mut random, number), number));
                    }
                })
            })
            .collect();
        running.into_iter().map(|lane| lane.join().unwrap()).collect()
    });
    // Its end writes the log out.
    drop(edge);
    let (mut sum, mut cut, mut mismatches) = (Books::default(), 0, Vec::new());
    for (lane, seen) in lanes.iter().zip(&seen) {
        // A port may come again; then its connections are held together.
        let logged = logged(lane);
        let mut by_client: BTreeMap<String, Vec<&Seen>> = BTreeMap::new();
        for one in seen {
            by_client.entry(one.client.to_string()).or_default().push(one);
            sum.passed += one.told.passed;
            sum.refused += one.told.refused;
            cut += one.cut;
        }
        for (client, of) in by_client {
            let told: usize = of.iter().map(|one| one.told.passed).sum();
            let refused: usize = of.iter().map(|one| one.told.refused).sum();
            let read: usize = of.iter().map(|one| one.read).sum();
            let problem = of.iter().find_map(|one| one.problem.as_ref());
            let nothing = (Books::default(), Vec::new());
            let (books, lines) = logged.get(&client).unwrap_or(&nothing);
            if told != read || told != books.passed || refused != books.refused || problem.is_some() {
                let bytes: Vec<String> = of.iter().map(|one| one.bytes.escape_ascii().to_string()).collect();
                mismatches.push(format!(
                    "told {told} and {refused} refused, origin {read}, log {books:?} {lines:?}, {problem:?}: {bytes:?}"
                ));
            }
        }
    }
    println!("  {sum:?}, {cut} cut, {} mismatches", mismatches.len());
    figure(&format!("{count} pipelines: mismatches of origin, log, client"), "Weft", mismatches.len());
    // The guard: good and bad ones were among them.
    assert!(sum.passed > count && sum.refused > count / 10, "{sum:?}");
    assert!(mismatches.is_empty(), "seed {seed}: {:#?}", &mismatches[..mismatches.len().min(10)]);
}

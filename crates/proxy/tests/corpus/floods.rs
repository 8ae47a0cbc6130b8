//! Rows S-H2-03, S-H2-04 and S-H2-05 in short form: frames that cost the sender nothing.
//!
//! The proxy runs in a process of its own, so that its memory and CPU time are its own. Nothing here is timed: what is
//! asserted are bounds with a wide margin, whether the connection was ended, and that others are served as before.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use weft_proxy::static_config::StaticResources;

use crate::{
    edge::{Edge, answers, connect, exchange},
    h2::{
        ACK, CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, PADDED, PING,
        PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, integer,
    },
    mesh::{
        LIMIT, free_port,
        xds::{Speak, cluster, http, listener, plain_chain, to, vhost},
    },
    oracle::{Next, Oracle, plain},
    strict::Request,
};

const FRAMES: u32 = 5000;
const GROWTH_KIB_MAX: u64 = 8 * 1024;
const CPU_MAX: Duration = Duration::from_millis(250);

/// A proxy in a process of its own.
struct Process {
    child: Child,
    at: SocketAddr,
    _oracle: Oracle,
}

impl Process {
    /// This same test program, told to be a proxy.
    fn start() -> Process {
        let (oracle, at) = (Oracle::answering(sized), free_port());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "floods::a_proxy_in_a_process", "--nocapture"])
            .env("WEFT_CORPUS_PROXY", format!("{at} {}", oracle.address))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + LIMIT;
        while std::net::TcpStream::connect(at).is_err() {
            assert!(
                Instant::now() < deadline && child.try_wait().unwrap().is_none(),
                "the proxy did not start"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let process = Process { child, at, _oracle: oracle };
        // What is made once is not growth.
        for _ in 0..20 {
            process.serves_others();
        }
        process
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap()
    }

    fn rss_kib(&self) -> u64 {
        let status = self.file("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// User and system time, in ticks of 10 ms.
    fn cpu(&self) -> Duration {
        let stat = self.file("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    fn serves_others(&self) {
        let told = answers(&exchange(self.at, [&b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n"[..]]));
        assert_eq!(told.first().map(|answer| answer.status), Some(200), "others are served");
        let mut client = Client::connect(self.at, &[]);
        client.request(1, &GET, true);
        assert_eq!(client.end_of(1), crate::h2::End::Status(200, "GET /".to_owned()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Not a test of anything unless told by the ones below: the proxy that they start.
#[test]
fn a_proxy_in_a_process() {
    let Ok(told) = std::env::var("WEFT_CORPUS_PROXY") else { return };
    let (at, origin) = told.split_once(' ').unwrap();
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let _edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at.parse().unwrap(), vec![plain_chain(web)])],
        clusters: vec![cluster("o", &[origin.parse().unwrap()], Speak::Http1, None)],
        ..StaticResources::default()
    });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// `/bytes/N` is answered with N bytes.
fn sized(request: &Request, stream: &mut std::net::TcpStream) -> Next {
    let Some(count) = request.target.strip_prefix("/bytes/").and_then(|text| text.parse::<usize>().ok())
    else {
        return plain(request, stream);
    };
    let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {count}\r\n\r\n");
    let part = [b'x'; 8192];
    let mut left = count;
    while left > 0 {
        let now = left.min(part.len());
        if stream.write_all(&part[..now]).is_err() {
            return Next::Close;
        }
        left -= now;
    }
    Next::Keep
}

/// Name, what opens it, whether the client reads, and its n-th frame.
type Flood<'a> = (&'a str, &'a [u8], bool, &'a dyn Fn(u32) -> Vec<u8>);

/// What a flood did.
#[derive(Debug)]
struct Outcome {
    /// Frames written when the end was seen.
    sent: u32,
    ended: bool,
    goaway: Option<u32>,
    cpu: Duration,
    grown_kib: u64,
}

/// Writes `frames(0..count)` while another thread reads (or does not), and looks at the proxy.
fn flood(process: &Process, open: &[u8], count: u32, read: bool, frames: impl Fn(u32) -> Vec<u8>) -> Outcome {
    let (rss, cpu) = (process.rss_kib(), process.cpu());
    let mut client = Client::connect(process.at, &[]);
    client.stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut writer = client.stream.try_clone().unwrap();
    let (ended, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut sent = 0;
    let mut peak = rss;
    let goaway = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut goaway = None;
            if !read {
                return goaway;
            }
            loop {
                match client.next(Duration::from_millis(200)) {
                    Some(frame) if frame.kind == GOAWAY => {
                        goaway = Some(crate::h2::error_code(&frame.payload[4..]));
                        ended.store(true, Ordering::SeqCst);
                    }
                    Some(_) => {}
                    None if done.load(Ordering::SeqCst) || ended.load(Ordering::SeqCst) => return goaway,
                    None => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        let mut opened = writer.write_all(open).is_ok();
        while opened && sent < count && !ended.load(Ordering::SeqCst) {
            let batch: Vec<u8> = (sent..(sent + 50).min(count)).flat_map(&frames).collect();
            opened = writer.write_all(&batch).is_ok();
            sent = (sent + 50).min(count);
            if sent % 500 == 0 {
                peak = peak.max(process.rss_kib());
            }
        }
        if !opened {
            ended.store(true, Ordering::SeqCst);
        }
        peak = peak.max(process.rss_kib());
        process.serves_others();
        done.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    let (mut ended, mut goaway) = (ended.load(Ordering::SeqCst), goaway);
    if !read && !ended {
        // What it did not read is still there, up to the end.
        while let Some(frame) = client.next(LIMIT) {
            if frame.kind == GOAWAY {
                goaway = Some(crate::h2::error_code(&frame.payload[4..]));
                ended = true;
            }
        }
    }
    Outcome { sent, ended, goaway, cpu: process.cpu() - cpu, grown_kib: peak.max(process.rss_kib()) - rss }
}

fn check(name: &str, outcome: &Outcome, must_end: bool) {
    println!("  {name}: {outcome:?}");
    assert!(outcome.grown_kib <= GROWTH_KIB_MAX && outcome.cpu <= CPU_MAX, "{name}: {outcome:?}");
    assert!(outcome.ended || !must_end, "{name}: the connection goes on: {outcome:?}");
    // PROTOCOL_ERROR or ENHANCE_YOUR_CALM, where there was time to say it.
    // A client that says GOAWAY itself may just be let go.
    let may_leave = name == "GOAWAY";
    let told = |code| code == 1 || code == 11 || may_leave && code == 0;
    assert!(outcome.goaway.is_none_or(told), "{name}: {outcome:?}");
    assert!(outcome.ended || outcome.sent == FRAMES, "{name}: invalid, not all was sent: {outcome:?}");
}

/// Stream of the n-th request.
fn stream(n: u32) -> u32 {
    1 + 2 * n
}

/// S-H2-03, short form: resets, and streams that the proxy is made to reset.
#[test]
fn floods_of_streams_end_the_connection() {
    let process = Process::start();
    println!("S-H2-03, {FRAMES} each:");
    let open = |n, end: u8| frame(HEADERS, END_HEADERS | end, stream(n), &block(&GET));
    let post = |n| {
        let fields = [(&b":method"[..], &b"POST"[..]), GET[1], GET[2], GET[3]];
        frame(HEADERS, END_HEADERS, stream(n), &block(&fields))
    };
    let outcome = flood(&process, &[], FRAMES, true, |n| {
        [open(n, END_STREAM), frame(RST_STREAM, 0, stream(n), &8_u32.to_be_bytes())].concat()
    });
    check("rapid reset", &outcome, true);
    let outcome = flood(&process, &[], FRAMES, true, |n| {
        [post(n), frame(WINDOW_UPDATE, 0, stream(n), &0_u32.to_be_bytes())].concat()
    });
    check("made to reset by WINDOW_UPDATE 0", &outcome, true);
    let outcome = flood(&process, &[], FRAMES, true, |n| {
        let mut on_itself = stream(n).to_be_bytes().to_vec();
        on_itself.push(0);
        [post(n), frame(PRIORITY, 0, stream(n), &on_itself)].concat()
    });
    check("made to reset by PRIORITY on itself", &outcome, true);
    let outcome = flood(&process, &[], FRAMES, true, |n| {
        [post(n), frame(DATA, END_STREAM, stream(n), b"x"), frame(DATA, 0, stream(n), b"x")].concat()
    });
    check("made to reset by DATA after the end", &outcome, true);
}

/// S-H2-03, short form: frames without an end. Each flood ends the connection, and its client is told.
#[test]
fn floods_of_frames_end_the_connection() {
    let process = Process::start();
    println!("S-H2-03, {FRAMES} each:");
    let head = frame(HEADERS, 0, 1, &block(&GET));
    let kib = block(&[(b"x", &[b'a'; 1000])]);
    check(
        "CONTINUATION of 1 KiB",
        &flood(&process, &head, FRAMES, true, |_| frame(CONTINUATION, 0, 1, &kib)),
        true,
    );
    check(
        "empty CONTINUATION",
        &flood(&process, &head, FRAMES, true, |_| frame(CONTINUATION, 0, 1, &[])),
        true,
    );
    let post = frame(HEADERS, END_HEADERS, 1, &block(&[(b":method", b"POST"), GET[1], GET[2], GET[3]]));
    let table = |n: u32| [&1_u16.to_be_bytes()[..], &(n % 2 * 4096).to_be_bytes()].concat();
    let priority = |n: u32| [&(stream(n + 1)).to_be_bytes()[..], &[1]].concat();
    let floods: [Flood<'_>; 13] = [
        ("SETTINGS", &[], true, &|_| frame(SETTINGS, 0, 0, &[])),
        ("SETTINGS with another table", &[], true, &|n| frame(SETTINGS, 0, 0, &table(n))),
        ("PING", &[], true, &|_| frame(PING, 0, 0, &[0; 8])),
        ("PING, answers unread", &[], false, &|_| frame(PING, 0, 0, &[0; 8])),
        ("PING acknowledged", &[], true, &|_| frame(PING, ACK, 0, &[0; 8])),
        ("empty DATA", &post, true, &|_| frame(DATA, 0, 1, &[])),
        ("DATA of padding", &post, true, &|_| frame(DATA, PADDED, 1, &[9, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("PRIORITY", &[], true, &|n| frame(PRIORITY, 0, stream(n), &priority(n))),
        ("PRIORITY_UPDATE", &[], true, &|_| frame(0x10, 0, 0, b"\0\0\0\x01u=1")),
        ("WINDOW_UPDATE", &[], true, &|_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("WINDOW_UPDATE of a stream", &post, true, &|_| frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())),
        ("unknown", &[], true, &|_| frame(0xee, 0, 0, &[0; 16])),
        ("GOAWAY", &[], true, &|_| frame(GOAWAY, 0, 0, &[0; 8])),
    ];
    for (name, open, read, frames) in floods {
        let outcome = flood(&process, open, FRAMES, read, frames);
        check(name, &outcome, true);
        assert!(!read || outcome.goaway.is_some(), "{name}: nobody told the client: {outcome:?}");
    }
    // Small, and yet the application's own bytes: only too many that wait to be read end the connection.
    let outcome = flood(&process, &post, FRAMES, true, |_| frame(DATA, 0, 1, b"x"));
    check("DATA of 1 byte", &outcome, false);
}

/// S-H2-04: small blocks that become large heads.
#[test]
fn heads_that_unfold_are_refused() {
    let process = Process::start();
    println!("S-H2-04:");
    let bomb = |name: &[u8]| {
        // An entry of 4 KB into the table, which is then named again and again.
        let mut first = block(&GET);
        first.push(0x40);
        integer(&mut first, 0, 7, name.len());
        first.extend_from_slice(name);
        integer(&mut first, 0, 7, 4000);
        first.extend(std::iter::repeat_n(b'a', 4000));
        let mut again = block(&GET);
        again.extend(std::iter::repeat_n(0xbe, 15_000));
        (first, again)
    };
    for name in [&b"x-b"[..], b"cookie"] {
        let (first, again) = bomb(name);
        let (rss, cpu) = (process.rss_kib(), process.cpu());
        let mut client = Client::connect(process.at, &[]);
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &first));
        let end = client.end_of(1);
        assert!(matches!(end, crate::h2::End::Status(200, _)), "one entry is a good request: {end:?}");
        let (mut refused, mut ended) = (0, false);
        for n in 1..50 {
            let sent = client.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream(n), &again));
            ended = !sent;
            if ended {
                break;
            }
            match client.end_of(stream(n)) {
                crate::h2::End::Status(400..=499, _) | crate::h2::End::Reset(_) => refused += 1,
                crate::h2::End::GoAway(_) | crate::h2::End::Closed => {
                    ended = true;
                    break;
                }
                end => panic!("{} of 4 KB: {end:?}", String::from_utf8_lossy(name)),
            }
        }
        let grown = process.rss_kib().saturating_sub(rss);
        println!(
            "  {}: {refused} refused, connection ended: {ended}, {:?}, +{grown} KiB",
            String::from_utf8_lossy(name),
            process.cpu() - cpu
        );
        assert!(ended || refused == 49);
        assert!(grown <= GROWTH_KIB_MAX && process.cpu() - cpu <= CPU_MAX);
    }
    let mut tiny = block(&GET);
    tiny.extend(std::iter::repeat_n(0x90, 101)); // `accept-encoding: gzip, deflate` of the static table
    let mut client = Client::connect(process.at, &[]);
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &tiny));
    let end = client.end_of(1);
    assert!(matches!(end, crate::h2::End::Status(431, _)), "101 fields: {end:?}");
    process.serves_others();
}

/// S-H2-05, short form: readers that do not read.
#[test]
fn stalled_readers_cost_little() {
    let process = Process::start();
    println!("S-H2-05:");
    for window in [0, 1] {
        let rss = process.rss_kib();
        let mut client = Client::connect(process.at, &[(4, window)]);
        for n in 0..100 {
            client.request(stream(n), &[GET[0], GET[1], GET[2], (b":path", b"/bytes/1000000")], true);
        }
        // Each answer has begun before the memory is looked at.
        let mut begun = 0;
        while begun < 100 {
            let frame = client.next(LIMIT).expect("heads of 100 answers");
            begun += u32::from(frame.kind == HEADERS);
        }
        std::thread::sleep(Duration::from_millis(300));
        let grown = process.rss_kib().saturating_sub(rss);
        println!("  window of {window}, 100 answers of 1 MB: +{grown} KiB");
        assert!(grown <= 6 * GROWTH_KIB_MAX, "+{grown} KiB");
        process.serves_others();
    }
    let rss = process.rss_kib();
    let idle: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = connect(process.at);
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap(); // and never any settings
            stream
        })
        .collect();
    process.serves_others();
    let grown = process.rss_kib().saturating_sub(rss);
    println!("  {} connections without a frame: +{grown} KiB", idle.len());
    assert!(grown <= GROWTH_KIB_MAX, "+{grown} KiB");
}

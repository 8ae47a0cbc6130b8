//! F-PX-10: clients that are slow on purpose, in each place where one can be. Each is let go in its time, and those who
//! are not slow notice nothing. A silent HTTP/2 client is not among them: it is ended by its missing answer to PING. The
//! same with Envoy and HAProxy in our place, with the same times.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

mod beside;
mod mesh;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use beside::{Limits, Origin, Peer, Way, figure};
use envoy_types::pb::{
    envoy::config::{
        cluster::v3::{Cluster, OutlierDetection},
        listener::v3::FilterChain,
    },
    google::protobuf::UInt32Value,
};
use mesh::{
    Ca, LIMIT, Proxy, free_port, millis, status, try_head, usage,
    xds::{
        Speak, cluster, duration, http, listener, managed, member_chain, plain_chain, to_with_timeout, vhost,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use weft_proxy::static_config::StaticResources;

/// What the listeners allow; the defaults are 10 s for a head, 5 s for a handshake, 300 s for a stream.
const ALLOWED: Duration = Duration::from_millis(1500);
/// Looks are half a second apart, and the machine is busy.
const SLACK: Duration = Duration::from_millis(3500);
/// Of each kind.
const SLOW_CLIENTS: usize = 40;

/// An origin of short answers, of one without end, and of one that waits for a whole body.
async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                loop {
                    let Some(head) = try_head(&mut stream).await else { return };
                    if head.starts_with("GET /endless") {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                        while stream.write_all(&[b'x'; 64 * 1024]).await.is_ok() {}
                        return;
                    }
                    if let Some(kib) = head.strip_prefix("GET /chunked/") {
                        let kib: usize = kib.split(' ').next().unwrap().parse().unwrap();
                        let _ =
                            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                        let chunk = [b"400\r\n", &[b'x'; 1024][..], b"\r\n"].concat();
                        for _ in 0..kib {
                            if stream.write_all(&chunk).await.is_err() {
                                return;
                            }
                        }
                        let _ = stream.write_all(b"0\r\n\r\n").await;
                        continue;
                    }
                    if head.starts_with("POST") {
                        let mut nobody_reads_the_end = Vec::new();
                        let _ = stream.read_to_end(&mut nobody_reads_the_end).await;
                        return;
                    }
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    at
}

struct Edge<P> {
    plain: SocketAddr,
    tls: SocketAddr,
    _proxy: P,
}

async fn beside_us(peer: Peer) -> Option<Edge<beside::Running>> {
    let app = origin().await;
    let (plain, tls) = (free_port(), free_port());
    let way = |at, tls| {
        let origins = vec![Origin { host: "*", at: app, http2: false }];
        Way { at, speak: beside::Speak::Either, tls, origins }
    };
    let limits = Limits { wait: Some(ALLOWED), ..Limits::default() };
    let running = peer.start_limited(&[way(plain, false), way(tls, true)], &limits)?;
    Some(Edge { plain, tls, _proxy: running })
}

async fn edge() -> Edge<Proxy> {
    let app = origin().await;
    let (plain, tls) = (free_port(), free_port());
    let web = |name| {
        managed(
            http(name, vec![vhost("all", &["*"], vec![to_with_timeout("/", "app", Duration::ZERO)])], None),
            |manager| {
                manager.request_headers_timeout = duration(ALLOWED);
                manager.stream_idle_timeout = duration(ALLOWED);
            },
        )
    };
    let strict = FilterChain {
        transport_socket_connect_timeout: duration(ALLOWED),
        ..member_chain("p80.mesh.internal", &["h2", "http/1.1"], web("strict"))
    };
    let mut inbound = listener("inbound", tls, vec![strict]);
    inbound = mesh::xds::changed(
        &inbound,
        |listener: &mut envoy_types::pb::envoy::config::listener::v3::Listener| {
            listener.listener_filters_timeout = duration(ALLOWED);
        },
    );
    let resources = StaticResources {
        identity: Some(Ca::new().identity("edge")),
        listeners: vec![listener("web", plain, vec![plain_chain(web("web"))]), inbound],
        clusters: vec![cluster("app", &[app], Speak::Http1, None)],
        ..StaticResources::default()
    };
    Edge { plain, tls, _proxy: Proxy::start("edge", resources) }
}

/// What a slow client does once it is connected.
#[derive(Clone, Copy)]
struct Slow {
    name: &'static str,
    tls: bool,
    /// At once.
    begin: &'static [u8],
    /// Then this, again and again, a byte in a while; empty: nothing.
    drip: &'static [u8],
}

const KINDS: [Slow; 9] = [
    Slow { name: "a byte", tls: false, begin: b"G", drip: b"" },
    Slow { name: "a method that nobody knows", tls: false, begin: b"ABC x", drip: b"" },
    Slow { name: "a head, byte by byte", tls: false, begin: b"GET / HTTP/1.1\r\nhost: a\r\nx: ", drip: b"y" },
    Slow { name: "half a head", tls: false, begin: b"GET / HTTP/1.1\r\nho", drip: b"" },
    Slow {
        name: "a body that stops",
        tls: false,
        begin: b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nabc",
        drip: b"",
    },
    Slow {
        name: "a chunk that stops",
        tls: false,
        begin: b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nff\r\nabc",
        drip: b"",
    },
    Slow { name: "half an HTTP/2 preface", tls: false, begin: b"PRI * HTTP/2.0\r\n", drip: b"" },
    Slow { name: "half a ClientHello", tls: true, begin: b"\x16\x03\x01\x02\0\x01", drip: b"" },
    Slow {
        name: "a ClientHello, byte by byte",
        tls: true,
        begin: b"\x16\x03\x01\x02\0\x01\0\x01\xfc",
        drip: b"\x03",
    },
];

impl Slow {
    /// Until the proxy lets it go, and for how long that took.
    async fn run(self, edge: (SocketAddr, SocketAddr)) -> Result<Duration, &'static str> {
        let mut stream = TcpStream::connect(if self.tls { edge.1 } else { edge.0 }).await.unwrap();
        let connected = Instant::now();
        stream.write_all(self.begin).await.unwrap();
        let mut sink = vec![0; 4096];
        while connected.elapsed() < ALLOWED + SLACK {
            match timeout(millis(100), stream.read(&mut sink)).await {
                Ok(Ok(0) | Err(_)) => return Ok(connected.elapsed()),
                Ok(Ok(_)) => {}
                Err(_) if self.drip.is_empty() => {}
                Err(_) => drop(stream.write_all(self.drip).await),
            }
        }
        Err(self.name)
    }
}

/// Requests beside the slow ones.
#[derive(Default)]
struct Others {
    count: u32,
    lost: u32,
    slowest: Duration,
}

/// Until told to stop.
async fn others(at: SocketAddr, stop: Arc<AtomicBool>) -> Others {
    let mut others = Others::default();
    let mut stream = None;
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let served = timeout(LIMIT, ask(at, &mut stream)).await.is_ok_and(|served| served.is_some());
        others.slowest = others.slowest.max(asked.elapsed());
        others.count += 1;
        if !served {
            others.lost += 1;
            stream = None;
        }
        tokio::time::sleep(millis(5)).await;
    }
    others
}

/// On the connection that there is, or a new one; `None`: no good answer.
async fn ask(at: SocketAddr, stream: &mut Option<TcpStream>) -> Option<()> {
    if stream.is_none() {
        *stream = Some(TcpStream::connect(at).await.ok()?);
    }
    let stream = stream.as_mut()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.ok()?;
    let head = try_head(stream).await?;
    stream.read_exact(&mut [0; 2]).await.ok()?;
    (status(&head) == 200).then_some(())
}

struct Outcome {
    /// By kind: how many are held for ever, and after what time the first was let go.
    kinds: Vec<(Slow, usize, Option<Duration>)>,
    others: Others,
}

async fn slow_clients(plain: SocketAddr, tls: SocketAddr) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let beside = tokio::spawn(others(plain, Arc::clone(&stop)));
    let clients =
        KINDS.iter().flat_map(|kind| (0..SLOW_CLIENTS).map(move |_| tokio::spawn(kind.run((plain, tls)))));
    let ended = futures_util::future::join_all(clients.collect::<Vec<_>>()).await;
    stop.store(true, Ordering::Relaxed);
    let kinds = ended.chunks(SLOW_CLIENTS).zip(KINDS).map(|(ended, kind)| {
        let let_go: Vec<Duration> = ended.iter().filter_map(|one| one.as_ref().unwrap().ok()).collect();
        (kind, SLOW_CLIENTS - let_go.len(), let_go.into_iter().min())
    });
    Outcome { kinds: kinds.collect(), others: beside.await.unwrap() }
}

impl Outcome {
    fn tell(&self, who: &str) {
        let held: Vec<String> = self
            .kinds
            .iter()
            .filter(|(_, held, _)| *held > 0)
            .map(|(kind, held, _)| format!("{held} of {}", kind.name))
            .collect();
        println!("F-PX-10 {who}: held {held:?}");
        let count: usize = self.kinds.iter().map(|(_, held, _)| held).sum();
        let line = format!("{} slow clients: held / others lost / slowest", SLOW_CLIENTS * KINDS.len());
        let slowest = self.others.slowest.as_millis();
        figure(&line, who, format!("{count} / {} of {} / {slowest} ms", self.others.lost, self.others.count));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_slow_is_let_go_and_nobody_else_notices() {
    let edge = edge().await;
    let outcome = slow_clients(edge.plain, edge.tls).await;
    outcome.tell("Weft");
    for (kind, held, first) in &outcome.kinds {
        assert_eq!(*held, 0, "{}: {held} of {SLOW_CLIENTS} are held for ever", kind.name);
        let first = first.unwrap();
        println!("{}: let go after {first:?}", kind.name);
        assert!(first >= ALLOWED / 2, "the guard: {} was refused for something else, {first:?}", kind.name);
    }
    let Others { count, lost, slowest } = outcome.others;
    assert_eq!(lost, 0, "requests beside are lost");
    assert!(count > 50 && slowest < millis(1000), "{count} requests beside, the slowest {slowest:?}");
}

/// F-PX-10 with Envoy and HAProxy in our place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_beside_peers() {
    for peer in Peer::ALL {
        let Some(edge) = beside_us(peer).await else { return };
        let outcome = slow_clients(edge.plain, edge.tls).await;
        outcome.tell(peer.name());
        assert!(outcome.others.count - outcome.others.lost > 50, "{peer:?} was not there");
        let (held, _readers) = slow_readers(edge.plain).await;
        tell_readers(peer.name(), held);
    }
}

/// Clients that ask for much and read nothing; how many connections are held when it should be over.
async fn slow_readers(at: SocketAddr) -> (usize, Vec<TcpStream>) {
    let mut readers = Vec::new();
    for _ in 0..SLOW_CLIENTS {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        readers.push(stream);
    }
    // What is not read hides the end from the client, so the other side of its connection is looked at.
    let asked = Instant::now();
    let mut held = usage::connections(at);
    assert!(held >= SLOW_CLIENTS, "the guard: {held} of them ask");
    while held > 0 && asked.elapsed() < ALLOWED + SLACK {
        tokio::time::sleep(millis(100)).await;
        held = usage::connections(at);
    }
    assert!(asked.elapsed() >= ALLOWED / 2, "the guard: too early, {:?}", asked.elapsed());
    (held, readers)
}

fn tell_readers(who: &str, held: usize) {
    figure(&format!("{SLOW_CLIENTS} clients that do not read: held"), who, held);
}

/// Clients that ask for much and read nothing: the answer ends when its time is over, and what is held for them
/// meanwhile is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_let_go() {
    let edge = edge().await;
    let (held, _readers) = slow_readers(edge.plain).await;
    tell_readers("Weft", held);
    assert_eq!(held, 0, "{held} are held for ever");
    // One that reads, if slowly, is served on.
    let mut stream = TcpStream::connect(edge.plain).await.unwrap();
    stream.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let began = Instant::now();
    while began.elapsed() < ALLOWED * 2 {
        let count = timeout(LIMIT, stream.read(&mut vec![0; 256 * 1024])).await.unwrap().unwrap();
        assert!(count > 0, "cut after {:?}", began.elapsed());
        tokio::time::sleep(millis(100)).await;
    }
}

/// Asks for chunked answers by HTTP/1.0, reads nothing until the proxy has let go, and then says what it got: length
/// asked for and come, and whether the end was a clean one.
async fn stalled(at: SocketAddr, kibs: impl Iterator<Item = usize>) -> Vec<(usize, usize, bool)> {
    let mut clients = Vec::new();
    for kib in kibs {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let mut stream = socket.connect(at).await.unwrap();
        stream.write_all(format!("GET /chunked/{kib} HTTP/1.0\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
        clients.push((kib * 1024, stream));
    }
    let asked = Instant::now();
    while usage::connections(at) > 0 && asked.elapsed() < ALLOWED + SLACK {
        tokio::time::sleep(millis(100)).await;
    }
    let mut ends = Vec::new();
    for (length, mut stream) in clients {
        let mut answer = Vec::new();
        let end = timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap();
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        ends.push((length, answer.len() - head, end.is_ok()));
    }
    ends
}

/// To a client of HTTP/1.0 the end of a chunked answer is the connection's. Some lengths are all but out when the
/// client's time is over: what it gets then must not end like a whole answer (RFC 9112 section 8).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_cut_at_its_very_end_is_not_whole() {
    let edge = edge().await;
    let coarse = stalled(edge.plain, (256..8192).step_by(256)).await;
    // So much the kernel takes for a client that reads nothing: the last bytes of little more wait in the proxy.
    let taken =
        coarse.iter().filter(|(length, came, _)| came == length).map(|(length, ..)| length / 1024).max();
    let taken = taken.expect("the guard: some are whole");
    let fine = stalled(edge.plain, (taken.saturating_sub(128)..taken + 384).step_by(4)).await;
    for (length, came, clean) in coarse.iter().chain(&fine) {
        assert_eq!(*clean, came == length, "{came} of {length} bytes");
    }
    assert!(fine.iter().any(|(length, came, _)| came < length), "the guard: some are cut");
}

/// A route's time is the app's: it begins when the request is complete. Until then a client may be as slow as a stream
/// may be quiet, and what it keeps back is no endpoint's failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_sender_has_its_time_and_no_endpoint_is_blamed() {
    let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = listening.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listening.accept().await.unwrap();
            tokio::spawn(async move {
                while let Some(head) = try_head(&mut stream).await {
                    if head.contains("/deaf ") {
                        std::future::pending::<()>().await;
                    }
                    let sent = if head.starts_with("POST") { 10 } else { 0 };
                    let read = stream.read_exact(&mut vec![0; sent]).await;
                    if read.is_err() || head.contains("/silent ") {
                        std::future::pending::<()>().await;
                    }
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
            });
        }
    });
    let at = free_port();
    let routes = [("/silent", "other"), ("/deaf", "other"), ("/", "app")];
    let routes = routes.map(|(path, cluster)| to_with_timeout(path, cluster, millis(600))).to_vec();
    let web = http("web", vec![vhost("all", &["*"], routes)], None);
    let number = |value| Some(UInt32Value { value });
    let watched = mesh::xds::changed(&cluster("app", &[app], Speak::Http1, None), |cluster: &mut Cluster| {
        cluster.outlier_detection = Some(OutlierDetection {
            consecutive_5xx: number(1),
            max_ejection_percent: number(100),
            base_ejection_time: duration(Duration::from_secs(60)),
            ..OutlierDetection::default()
        });
    });
    let _proxy = Proxy::start(
        "edge",
        StaticResources {
            listeners: vec![listener("web", at, vec![plain_chain(web)])],
            clusters: vec![watched, cluster("other", &[app], Speak::Http1, None)],
            ..StaticResources::default()
        },
    );
    let post = |path: &str| format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n");
    let mut held_back = TcpStream::connect(at).await.unwrap();
    held_back.write_all(format!("{}abc", post("/")).as_bytes()).await.unwrap();
    let mut slow = TcpStream::connect(at).await.unwrap();
    slow.write_all(post("/").as_bytes()).await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(millis(150)).await;
        slow.write_all(b"x").await.unwrap();
    }
    assert_eq!(status(&mesh::read_head(&mut slow).await), 200, "1.5 s for the request, 0.6 s for the answer");
    let early = timeout(millis(100), held_back.read_u8()).await;
    assert!(early.is_err(), "an answer before its request's end: {early:?}");
    drop(held_back);
    for _ in 0..8 {
        assert_eq!(status(&mesh::get(at, "a", "/").await), 200, "the endpoint is not ejected");
    }
    // Its time is held to all the same.
    let mut silent = TcpStream::connect(at).await.unwrap();
    silent.write_all(post("/silent").as_bytes()).await.unwrap();
    tokio::time::sleep(millis(1000)).await;
    let complete = Instant::now();
    silent.write_all(b"0123456789").await.unwrap();
    assert_eq!(status(&mesh::read_head(&mut silent).await), 504);
    assert!(complete.elapsed() >= millis(550), "{:?}", complete.elapsed());
    // And so is that of one that takes nothing of what is there.
    let mut deaf = TcpStream::connect(at).await.unwrap();
    let length = 50_000_000;
    deaf.write_all(format!("POST /deaf HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let (mut answer, mut request) = deaf.into_split();
    tokio::spawn(async move { while request.write_all(&[b'x'; 64 * 1024]).await.is_ok() {} });
    let mut line = [0; 12];
    timeout(Duration::from_secs(5), answer.read_exact(&mut line)).await.expect("in time").unwrap();
    assert_eq!(&line, b"HTTP/1.1 504");
}

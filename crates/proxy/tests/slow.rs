//! F-PX-10: clients that are slow on purpose, in each place where one can be. Each is let go in its time, and those who
//! are not slow notice nothing. A silent HTTP/2 client is not among them: it is ended by its missing answer to PING.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

mod mesh;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use envoy_types::pb::envoy::config::listener::v3::FilterChain;
use mesh::{
    Ca, LIMIT, Proxy, free_port, get, read_head,
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

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An origin of short answers, of one without end, and of one that waits for a whole body.
async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                loop {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    if head.starts_with(b"GET /endless") {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                        while stream.write_all(&[b'x'; 64 * 1024]).await.is_ok() {}
                        return;
                    }
                    if head.starts_with(b"POST") {
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

struct Edge {
    plain: SocketAddr,
    mtls: SocketAddr,
    _proxy: Proxy,
}

async fn edge() -> Edge {
    let app = origin().await;
    let (plain, mtls) = (free_port(), free_port());
    let web = |name| {
        managed(
            http(name, vec![vhost("all", &["*"], vec![to_with_timeout("/", "app", Duration::ZERO)])], None),
            |manager| {
                manager.request_headers_timeout = duration(ALLOWED);
                manager.stream_idle_timeout = duration(ALLOWED);
                manager.common_http_protocol_options.get_or_insert_default().idle_timeout = duration(ALLOWED);
            },
        )
    };
    let strict = FilterChain {
        transport_socket_connect_timeout: duration(ALLOWED),
        ..member_chain("p80.mesh.internal", &["h2", "http/1.1"], web("strict"))
    };
    let mut inbound = listener("inbound", mtls, vec![strict]);
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
    Edge { plain, mtls, _proxy: Proxy::start("edge", resources) }
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

const KINDS: [Slow; 7] = [
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

/// Requests beside, until told to stop: how many, and the slowest.
async fn others(at: SocketAddr, stop: Arc<AtomicBool>) -> (u32, Duration) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"), "a request beside is lost");
        stream.read_exact(&mut [0; 2]).await.unwrap();
        slowest = slowest.max(asked.elapsed());
        count += 1;
        tokio::time::sleep(millis(5)).await;
    }
    (count, slowest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_slow_is_let_go_and_nobody_else_notices() {
    let edge = edge().await;
    let stop = Arc::new(AtomicBool::new(false));
    let beside = tokio::spawn(others(edge.plain, Arc::clone(&stop)));
    let at = (edge.plain, edge.mtls);
    let clients = KINDS.iter().flat_map(|kind| (0..SLOW_CLIENTS).map(move |_| tokio::spawn(kind.run(at))));
    let ended = futures_util::future::join_all(clients.collect::<Vec<_>>()).await;
    stop.store(true, Ordering::Relaxed);
    let (count, slowest) = beside.await.unwrap();
    for (ended, kind) in ended.chunks(SLOW_CLIENTS).zip(KINDS) {
        let ended: Vec<_> = ended.iter().map(|one| *one.as_ref().unwrap()).collect();
        let held = ended.iter().filter(|one| one.is_err()).count();
        assert_eq!(held, 0, "{}: {held} of {SLOW_CLIENTS} are held for ever", kind.name);
        let first = ended.iter().filter_map(|one| one.ok()).min().unwrap();
        println!("{}: let go after {first:?}", kind.name);
        assert!(first >= ALLOWED / 2, "the guard: {} was refused for something else, {first:?}", kind.name);
    }
    assert!(count > 50 && slowest < millis(1000), "{count} requests beside, the slowest {slowest:?}");
}

/// Clients that ask for much and read nothing: the answer ends when its time is over, and what is held for them
/// meanwhile is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_let_go() {
    let edge = edge().await;
    let mut readers = Vec::new();
    for _ in 0..SLOW_CLIENTS {
        let mut stream = TcpStream::connect(edge.plain).await.unwrap();
        stream.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        readers.push(stream);
    }
    let open = async || {
        let stats = get(edge._proxy.admin, "a", "/stats").await;
        let line =
            stats.lines().find(|line| line.starts_with("weft_open_connections{listener=web}")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let asked = Instant::now();
    mesh::eventually("all of them ask", async || open().await >= SLOW_CLIENTS).await;
    let mut left = SLOW_CLIENTS;
    while left > 0 && asked.elapsed() < ALLOWED + SLACK {
        tokio::time::sleep(millis(100)).await;
        left = open().await;
    }
    assert_eq!(left, 0, "{left} are held for ever");
    assert!(asked.elapsed() >= ALLOWED / 2, "the guard: too early, {:?}", asked.elapsed());
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

//! Too much: of memory, of connections, of handshakes. What is given up, in which order, and that it ends.

#![expect(unsafe_code, reason = "one function of the allocator's")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

mod mesh;
mod own_process;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh::{
    App, LIMIT, echo, eventually, get, metric, millis, pair::Pair, read_head, status, try_head, xds::Speak,
};
use own_process::{Limited, Process, Wanted};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// As the binary's: the system's own keeps what was freed, and the proxy would stay overloaded.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// SAFETY: as the binary declares it.
unsafe extern "C" {
    safe fn mi_collect(force: bool);
}

const MIB: u64 = 1 << 20;

/// Not a test by itself.
#[test]
fn is_a_proxy_when_told_to() {
    own_process::RELEASE.get_or_init(|| || mi_collect(true));
    own_process::be_one_if_told();
}

async fn started(limited: Limited) -> Process {
    started_before(App::start().await.address, limited).await
}

async fn started_before(app: SocketAddr, limited: Limited) -> Process {
    let echo = echo().await;
    let (drain_delay, drain_timeout) = (Duration::ZERO, millis(500));
    let wanted = Wanted { app, echo, drain_delay, drain_timeout, nofile: None };
    tokio::task::spawn_blocking(move || wanted.start_limited(&limited)).await.unwrap()
}

async fn level(process: &Process) -> u64 {
    metric(process.admin, "weft_overload_level{resource=memory}").await
}

async fn open(to: SocketAddr) -> TcpStream {
    TcpStream::connect(to).await.unwrap()
}

/// Asks once on a connection that stays; the answer's head.
async fn ask(stream: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    try_ask(stream, request.as_bytes()).await.expect("an answer")
}

/// None: the connection was closed before an answer.
async fn try_ask(stream: &mut TcpStream, request: &[u8]) -> Option<String> {
    stream.write_all(request).await.ok()?;
    let head = timeout(LIMIT, try_head(stream)).await.expect("a head in time")?.to_lowercase();
    let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?;
    stream.read_exact(&mut vec![0; length.parse().ok()?]).await.ok()?;
    Some(head)
}

/// Whether the other side has ended the connection.
async fn is_over(stream: &mut TcpStream) -> bool {
    matches!(timeout(millis(1), stream.read_u8()).await, Ok(Err(_)))
}

async fn serves(to: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(to).await else { return false };
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    status(&answer) == 200
}

/// Each level of memory does what it says, and nothing that the one above does; then all is as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_given_back_step_by_step() {
    const LIMIT_BYTES: u64 = 256 * MIB;
    let mut process = started(Limited { memory: Some(LIMIT_BYTES), ..Limited::default() }).await;
    assert!(serves(process.http).await);
    let own = process.resident();
    assert!(own < LIMIT_BYTES / 2, "the guard: {own} bytes of its own leave no room");
    let mut held = 0;
    // Its own memory shrinks too.
    let mut fill = |process: &mut Process, percent: u64| {
        held = (LIMIT_BYTES / 100 * percent + held).saturating_sub(process.resident());
        process.hold(held);
    };

    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(open(process.http).await);
    }
    let mut idle = Vec::new();
    for _ in 0..4 {
        let mut stream = open(process.http).await;
        ask(&mut stream, "/").await;
        idle.push(stream);
        tokio::time::sleep(millis(600)).await;
    }
    fill(&mut process, 88);
    eventually("it shrinks", async || level(&process).await == 1).await;
    let mut order = Vec::new();
    eventually("idle connections close", async || {
        for (number, stream) in idle.iter_mut().enumerate() {
            if !order.contains(&number) && is_over(stream).await {
                order.push(number);
            }
        }
        order.len() == 4
    })
    .await;
    for stream in &mut silent {
        eventually("who has said nothing yet is idle too", async || is_over(stream).await).await;
    }
    // The workers have some each and go by their own.
    assert!(order.iter().position(|one| *one == 0) < order.iter().position(|one| *one == 3), "{order:?}");
    let mut stays = open(process.http).await;
    assert!(!ask(&mut stays, "/").await.contains("connection: close"), "new ones are welcome");

    fill(&mut process, 93);
    eventually("it drains", async || level(&process).await == 2).await;
    let head = ask(&mut stays, "/").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("connection: close"), "{head}");
    assert!(!serves(process.http).await, "no new ones");
    assert_eq!(status(&get(process.admin, "a", "/ready").await), 200, "readiness is no measure of load");
    assert!(metric(process.admin, "weft_connections_refused{listener=web,reason=overload}").await >= 1);
    assert!(metric(process.admin, "weft_overload_idle_closed").await >= 8);

    fill(&mut process, 30);
    eventually("it is well again", async || level(&process).await == 0 && serves(process.http).await).await;
    // From there to the end at once: who is in is told. In the midst of a head it is neither idle nor told to leave.
    let mut tries = 0;
    let head = loop {
        let mut busy = open(process.http).await;
        busy.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        fill(&mut process, 99);
        eventually("it refuses", async || level(&process).await == 3).await;
        let head = try_ask(&mut busy, b"host: a\r\n\r\n").await.unwrap_or_default();
        if head.starts_with("http/1.1 503") {
            break head;
        }
        tries += 1;
        assert!(tries < 5, "each time it had given memory back meanwhile: {head}");
        fill(&mut process, 30);
        eventually("it is well again", async || level(&process).await == 0 && serves(process.http).await)
            .await;
    };
    assert!(head.starts_with("http/1.1 503") && head.contains("connection: close"), "{head}");
    assert_eq!(metric(process.admin, "weft_overload_requests_refused").await, 1);
    let pressure = metric(process.admin, "weft_overload_pressure_percent{resource=memory}").await;
    // What it gave back since then counts already.
    assert!(pressure >= 75, "{pressure}");
    let freed = Instant::now();
    process.hold(0);
    eventually("it serves", async || serves(process.http).await).await;
    assert!(freed.elapsed() < Duration::from_secs(10), "{:?}", freed.elapsed());
}

/// An app whose answers to `/endless` are so, and short to others.
async fn endless() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while let Some(head) = try_head(&mut stream).await {
                    let length = if head.contains("/endless ") { 1_u64 << 40 } else { 0 };
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                    let mut sent = stream.write_all(head.as_bytes()).await;
                    while length > 0 && sent.is_ok() {
                        sent = stream.write_all(&[b'x'; 64 * 1024]).await;
                    }
                }
            });
        }
    });
    at
}

/// Clients that ask and do not read hold memory for as long as they may be quiet, which is minutes, and nothing that is
/// idle can make room for others. Some of their answers are cut until there is room, and all of them while there is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_keeps_nobody_out() {
    const LIMIT_BYTES: u64 = 160 * MIB;
    const CONNECTIONS: usize = 6;
    const STREAMS: usize = 90;
    let log = std::env::temp_dir().join(format!("weft-overload-{:x}.log", fastrand::u64(..)));
    let limited = Limited { memory: Some(LIMIT_BYTES), log: Some(log.clone()), ..Limited::default() };
    let mut process = started_before(endless().await, limited).await;
    assert!(serves(process.http).await);
    let own = process.resident();
    assert!(own < LIMIT_BYTES / 2, "the guard: {own} bytes of its own leave no room");

    let mut stalled = Vec::new();
    for _ in 0..CONNECTIONS {
        let (mut client, connection) = h2::client::handshake(open(process.http).await).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..STREAMS {
            client = client.ready().await.unwrap();
            let asked = http::Request::get("http://a/endless").body(()).unwrap();
            stalled.push(client.send_request(asked, true).unwrap().0.await.unwrap().into_body());
        }
    }
    let mut slow = open(process.http).await;
    slow.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_head(&mut slow).await;
    let held = process.resident() - own;
    println!("{} stalled answers hold {} KiB", stalled.len(), held / 1024);
    assert!(held > (CONNECTIONS * STREAMS) as u64 * 16 * 1024, "the guard: they hold {held} bytes");

    let admin = process.admin;
    let cut = async || metric(admin, "weft_overload_answers_cut").await;
    assert_eq!(cut().await, 0);
    let beside = LIMIT_BYTES / 1000 * 940 - process.resident();
    process.hold(beside);
    eventually("the door is shut", async || !serves(process.http).await).await;
    let shut = Instant::now();
    eventually("it is open again", async || serves(process.http).await).await;
    let some = cut().await;
    println!("open again after {:?}, {some} cut", shut.elapsed());
    assert!(some > 0 && some < stalled.len() as u64, "{some} of them made room");
    process.hold(beside + LIMIT_BYTES / 4);
    eventually("all of them make room", async || cut().await == stalled.len() as u64 + 1).await;
    for body in &mut stalled {
        let end = timeout(LIMIT, async {
            loop {
                match body.data().await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break error.reason(),
                    None => break None,
                }
            }
        });
        assert_eq!(end.await.unwrap(), Some(h2::Reason::ENHANCE_YOUR_CALM));
    }
    let mut rest = Vec::new();
    let _ = timeout(LIMIT, slow.read_to_end(&mut rest)).await.expect("an end in time");
    eventually("each has its line", async || {
        let lines = std::fs::read_to_string(&log).unwrap();
        lines.matches("200 OM overload_manager\n").count() == stalled.len() + 1
    })
    .await;
    let _ = std::fs::remove_file(log);
}

/// One source cannot have all connections; what it gives back it may have again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_has_its_share_of_connections() {
    let process = started(Limited { per_source: Some(8), ..Limited::default() }).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut stream = open(process.http).await;
        assert!(ask(&mut stream, "/").await.starts_with("http/1.1 200"));
        held.push(stream);
    }
    assert!(!serves(process.http).await, "the ninth");
    let reason = "weft_connections_refused{listener=web,reason=max_connections_per_source}";
    assert_eq!(metric(process.admin, reason).await, 1);
    // A tunnel is a connection for as long as it lives.
    held.pop();
    let mut tunnel = open(process.http).await;
    let upgrade = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    eventually("the place is free", async || {
        tunnel = open(process.http).await;
        let _ = tunnel.write_all(upgrade.as_bytes()).await;
        let mut first = [0; 12];
        tunnel.read_exact(&mut first).await.is_ok() && first == *b"HTTP/1.1 101"
    })
    .await;
    assert!(!serves(process.http).await, "seven and a tunnel");
    drop(tunnel);
    eventually("the tunnel's place is free", async || serves(process.http).await).await;
}

/// More silent clients than may be in a handshake, and honest ones get in: the silent ones make room, oldest first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_handshakes_keep_nobody_out() {
    let pair = Pair::start(App::start().await.address, Speak::Http1);
    let mut silent = Vec::new();
    for _ in 0..1400 {
        let mut stream = open(pair.be_at).await;
        stream.write_all(b"\x16\x03\x01\x02").await.unwrap();
        silent.push(stream);
    }
    let asked = Instant::now();
    let answer = timeout(LIMIT, get(pair.at, "a", "/")).await.unwrap();
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(asked.elapsed() < millis(2000), "{:?}", asked.elapsed());
    let name = "weft_tls_failures{listener=inbound,reason=pushed_out}";
    assert!(metric(pair.be.admin, name).await > 0, "the guard: there was room for all of them");
    let mut over = 0;
    for stream in &mut silent[..100] {
        over += usize::from(is_over(stream).await);
    }
    assert!(over >= 50, "the oldest go first, {over} of 100 did");
}

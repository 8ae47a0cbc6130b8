//! F-PX-04: SIGTERM. Not ready first, then nothing new, what is open finishes within the drain time, and the process
//! ends with 0 as soon as nothing is open.

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
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::{App, LIMIT, echo, get, millis, read_head, send};
use own_process::{Limited, Process, Wanted};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

/// Not a test by itself.
#[test]
fn is_a_proxy_when_told_to() {
    own_process::be_one_if_told();
}

async fn started(delay: Duration, limit: Duration) -> Process {
    before(App::start().await.address, echo().await, delay, limit).await
}

async fn before(app: SocketAddr, echo: SocketAddr, delay: Duration, limit: Duration) -> Process {
    let wanted = Wanted { app, echo, drain_delay: delay, drain_timeout: limit, nofile: None };
    tokio::task::spawn_blocking(move || wanted.start()).await.unwrap()
}

async fn open(process: &Process, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(process.http).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn web_socket(process: &Process) -> TcpStream {
    let request = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut stream = open(process, request).await;
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream
}

async fn echoes(stream: &mut TcpStream) -> bool {
    let mut back = [0; 4];
    stream.write_all(b"ping").await.is_ok()
        && matches!(timeout(LIMIT, stream.read_exact(&mut back)).await, Ok(Ok(_)))
        && &back == b"ping"
}

async fn end_of(stream: &mut TcpStream) -> Duration {
    let started = Instant::now();
    let mut rest = Vec::new();
    let _ = timeout(LIMIT, stream.read_to_end(&mut rest)).await.expect("an end in time");
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_loses_nothing_and_waits_for_nobody_who_is_silent() {
    let delay = millis(400);
    let mut process = started(delay, millis(8000)).await;
    assert_eq!(get(process.admin, "a", "/ready").await.split(' ').nth(1), Some("200"));

    let mut idle = open(&process, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(read_head(&mut idle).await.starts_with("HTTP/1.1 200"));
    let half_sent = open(&process, "GET / HTTP/1.1\r\nhost: a").await;
    let silent = open(&process, "").await;
    let mut web_socket = web_socket(&process).await;
    let mut bytes = TcpStream::connect(process.tcp).await.unwrap();
    assert!(echoes(&mut web_socket).await && echoes(&mut bytes).await);
    let mut keep_alive = open(&process, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let stream = TcpStream::connect(process.http).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let h2 = tokio::spawn(connection);
    let slow = Request::get("http://a/slow").body(Empty::<Bytes>::new()).unwrap();
    let h2_answer = tokio::spawn(sender.send_request(slow));
    tokio::time::sleep(millis(200)).await; // both are on their way

    let told = Instant::now();
    process.terminate();
    // Not ready, and still serving: those who look at readiness have time to go elsewhere.
    let mut ready = String::new();
    while !ready.contains("DRAINING") && told.elapsed() < delay {
        ready = get(process.admin, "a", "/ready").await;
    }
    assert!(ready.contains("503") && ready.contains("DRAINING"), "{ready}");
    assert!(get(process.http, "a", "/").await.contains("200 OK"), "the listener closed before its time");
    assert!(told.elapsed() < delay, "too slow to see the order of things");
    while TcpStream::connect(process.http).await.is_ok() && told.elapsed() < LIMIT {
        tokio::time::sleep(millis(10)).await;
    }
    let closed = told.elapsed();
    assert!(closed >= delay && closed < delay + millis(1000), "closed after {closed:?}");

    // Nobody who carries nothing is waited for: half a head has less than a head's 10 s.
    for (name, mut stream) in [("idle", idle), ("half sent", half_sent), ("silent", silent)] {
        end_of(&mut stream).await;
        let took = told.elapsed() - delay;
        assert!(took < millis(2500), "{name} ended after {took:?}");
    }
    // What is open goes on.
    assert!(echoes(&mut web_socket).await && echoes(&mut bytes).await);
    let head = timeout(LIMIT, read_head(&mut keep_alive)).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.to_lowercase().contains("connection: close"), "{head}");
    let mut body = String::new();
    timeout(LIMIT, keep_alive.read_to_string(&mut body)).await.unwrap().unwrap();
    assert_eq!(body, "slow");
    let answer = h2_answer.await.unwrap().unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "slow");
    assert!(told.elapsed() > millis(3000), "the slow ones were in it");
    // GOAWAY, and then the end.
    assert!(timeout(millis(2000), h2).await.unwrap().unwrap().is_ok());
    assert!(echoes(&mut web_socket).await && echoes(&mut bytes).await, "tunnels have the drain time");
    assert_eq!(process.ended(Duration::ZERO), None, "it waits for them");

    drop((web_socket, bytes));
    let left = Instant::now();
    assert_eq!(process.ended(millis(2000)), Some(0), "the exit code");
    assert!(left.elapsed() < millis(1000), "it ends when nothing is open, after {:?}", left.elapsed());
    assert!(told.elapsed() < millis(8000), "and not when the time is up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_have_the_drain_time_and_no_more() {
    let mut process = started(Duration::ZERO, millis(1500)).await;
    let mut web_socket = web_socket(&process).await;
    assert!(echoes(&mut web_socket).await);
    let told = Instant::now();
    process.terminate();
    tokio::time::sleep(millis(800)).await;
    assert!(echoes(&mut web_socket).await);
    assert_eq!(process.ended(millis(3000)), Some(0));
    let took = told.elapsed();
    assert!(took >= millis(1500) && took < millis(2500), "{took:?}");
    end_of(&mut web_socket).await;
}

/// Answers the first bytes of whoever comes by these, and says what became of the connection.
async fn halves(answer: &'static str) -> (SocketAddr, mpsc::UnboundedReceiver<io::Result<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (says, said) = mpsc::unbounded_channel();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let says = says.clone();
            tokio::spawn(async move {
                stream.read_buf(&mut Vec::with_capacity(4096)).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                let _ = says.send(stream.read_to_end(&mut Vec::new()).await);
            });
        }
    });
    (address, said)
}

/// What is cut when the time is over must not look whole to whoever takes the connection's end for that of the bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_end_cuts_does_not_look_whole() {
    let (origin, _) = halves("HTTP/1.1 200 OK\r\n\r\nhalf").await;
    let (server, mut said) = halves("half").await;
    let log = tempfile::NamedTempFile::new().unwrap();
    let limited = Limited { log: Some(log.path().to_owned()), ..Limited::default() };
    let drain = millis(500);
    let wanted =
        Wanted { app: origin, echo: server, drain_delay: Duration::ZERO, drain_timeout: drain, nofile: None };
    let starting = tokio::task::spawn_blocking(move || wanted.start_limited(&limited));
    let mut process = starting.await.unwrap();
    let mut answer = open(&process, "GET / HTTP/1.0\r\nhost: a\r\n\r\n").await;
    let head = read_head(&mut answer).await;
    assert!(head.starts_with("HTTP/1.1 200") && !head.to_lowercase().contains("transfer-encoding"), "{head}");
    let mut bytes = TcpStream::connect(process.tcp).await.unwrap();
    bytes.write_all(b"half").await.unwrap();
    for (name, stream) in [("an answer", &mut answer), ("bytes", &mut bytes)] {
        let mut half = [0; 4];
        timeout(LIMIT, stream.read_exact(&mut half)).await.unwrap().unwrap();
        assert_eq!(&half, b"half", "{name}");
    }
    process.terminate();
    assert_eq!(process.ended(millis(3000)), Some(0));
    for (name, stream) in [("an answer", &mut answer), ("bytes", &mut bytes)] {
        let end = timeout(LIMIT, stream.read_to_end(&mut Vec::new())).await.unwrap();
        assert!(end.is_err(), "{name} ended well");
    }
    let seen = timeout(LIMIT, said.recv()).await.unwrap().unwrap();
    assert!(seen.is_err(), "the server takes half a question for all of it");
    let lines = std::fs::read_to_string(log.path()).unwrap();
    assert!(lines.starts_with("200 ") && lines.lines().count() == 1, "its line: {lines:?}");
}

/// The kernels hold most of the answer, and the client's PING answers and windows come while it reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_read_slowly_comes_whole_and_a_client_that_stays_is_not_waited_for() {
    const BYTES: usize = 2_000_000;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_buf(&mut Vec::with_capacity(4096)).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; BYTES]).await.unwrap();
        let _ = stream.read_buf(&mut Vec::new()).await;
    });
    let mut process = before(origin, echo().await, Duration::ZERO, millis(30_000)).await;
    let mut client = TcpStream::connect(process.http).await.unwrap();
    const WINDOW: [u8; 13] = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0x20, 0, 0, 0];
    let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x20, 0, 0, 0];
    let get = [0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, b'a'];
    let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings, &WINDOW, &get].concat();
    client.write_all(&hello).await.unwrap();
    tokio::time::sleep(millis(300)).await;
    process.terminate();
    let (mut got, mut ended) = (0, false);
    let mut head = [0; 9];
    while client.read_exact(&mut head).await.is_ok() {
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        client.read_exact(&mut payload).await.unwrap();
        if head[3] == 0 {
            got += payload.len();
            ended |= head[4] & 1 != 0;
            tokio::time::sleep(millis(20)).await;
            client.write_all(&[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0x40, 0]).await.unwrap();
        }
    }
    assert_eq!((got, ended), (BYTES, true));
    let read = Instant::now();
    assert_eq!(process.ended(millis(10_000)), Some(0));
    println!("it left {:?} after the answer was read", read.elapsed());
    assert!(read.elapsed() < millis(7000), "{:?}", read.elapsed());
}

/// `/drain_listeners` says so on `/ready`, and the process stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_by_hand_is_not_ready_either() {
    let proxy = mesh::Proxy::start(
        "edge",
        weft_proxy::static_config::StaticResources {
            listeners: vec![mesh::xds::listener(
                "web",
                mesh::free_port(),
                vec![mesh::xds::plain_chain(mesh::xds::tcp("app"))],
            )],
            clusters: vec![mesh::xds::cluster("app", &[], mesh::xds::Speak::Tcp, None)],
            ..Default::default()
        },
    );
    assert!(get(proxy.admin, "a", "/ready").await.contains("LIVE"));
    let token = std::fs::read_to_string(proxy.state.join("admin.token")).unwrap();
    let ask = format!(
        "POST /drain_listeners?inboundonly HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
        token.trim()
    );
    assert!(send(proxy.admin, &ask).await.contains("200 OK"));
    let ready = get(proxy.admin, "a", "/ready").await;
    assert!(ready.contains("503") && ready.contains("DRAINING"), "{ready}");
}

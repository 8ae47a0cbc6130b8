//! What goes wrong around a proxy, and inside it: panics, endpoints that swallow packets, clients that wait for the
//! server's first word.

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
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use mesh::{
    App, Ca, LIMIT, Proxy, echo, free_port, get, id, metric, millis, read_head, status,
    xds::{Speak, cluster, http, listener, member_chain, plain_chain, tcp, to, to_with_retries, vhost},
};
use own_process::{Process, Wanted};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use weft_proxy::static_config::StaticResources;

/// Not a test by itself.
#[test]
fn is_a_proxy_when_told_to() {
    own_process::be_one_if_told();
}

async fn started() -> Process {
    let (app, echo) = (App::start().await, echo().await);
    let (drain_delay, drain_timeout) = (Duration::ZERO, millis(3000));
    let wanted = Wanted { app: app.address, echo, drain_delay, drain_timeout, nofile: None };
    tokio::task::spawn_blocking(move || wanted.start()).await.unwrap()
}

/// F-PX-06: a panic costs its request. The connection beside it, and the stream beside it, notice nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_its_request_and_no_other() {
    let mut process = started().await;
    let mut beside = TcpStream::connect(process.http).await.unwrap();
    beside.write_all(b"GET /soon HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let stream = TcpStream::connect(process.http).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let mut ask = |path: &str| {
        let body = http_body_util::Empty::<bytes::Bytes>::new();
        sender.send_request(http::Request::get(format!("http://a{path}")).body(body).unwrap())
    };
    let (soon, panicked) = tokio::join!(ask("/soon"), ask("/panic"));
    assert_eq!(panicked.unwrap().status(), 500);
    assert_eq!(soon.unwrap().status(), 200, "the stream beside it");
    // The same HTTP/1 connection serves on.
    let mut stream = TcpStream::connect(process.http).await.unwrap();
    for path in ["/panic", "/", "/panic", "/"] {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert_eq!(status(&head), if path == "/" { 200 } else { 500 }, "{head}");
        let length = head.to_lowercase();
        let length: usize =
            length.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
        stream.read_exact(&mut vec![0; length]).await.unwrap();
    }
    assert!(read_head(&mut beside).await.starts_with("HTTP/1.1 200"), "the connection beside it");
    assert_eq!(metric(process.admin, "weft_panics").await, 3);
    assert_eq!(process.ended(Duration::ZERO), None, "few panics end nothing");
}

/// The same where the answer has begun: half of it is no answer, and nobody else is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_body_ends_its_stream_and_no_other() {
    let mut process = started().await;
    let stream = TcpStream::connect(process.http).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut ask = |path: &str, body: &'static str| {
        let asked = http::Request::post(format!("http://a{path}")).body(()).unwrap();
        let (answer, mut send) = client.send_request(asked, false).unwrap();
        send.send_data(bytes::Bytes::from_static(body.as_bytes()), true).unwrap();
        async move {
            let mut body = timeout(LIMIT, answer).await.unwrap()?.into_body();
            let mut text = Vec::new();
            while let Some(data) = timeout(LIMIT, body.data()).await.unwrap() {
                text.extend_from_slice(&data?);
            }
            Ok::<_, h2::Error>(String::from_utf8(text).unwrap())
        }
    };
    for _ in 0..2 {
        // The app gives the body back at the end of its own.
        let (well, panicked, soon) =
            tokio::join!(ask("/", "well"), ask("/", "and then /panic"), ask("/soon", ""));
        assert_eq!(panicked.unwrap_err().reason(), Some(h2::Reason::INTERNAL_ERROR));
        assert!(well.unwrap().ends_with("well"), "the stream beside it");
        assert_eq!(soon.unwrap(), "soon", "the stream behind it");
    }
    // Over HTTP/1 it is the connection's only request.
    let asked = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\n/panic";
    let mut one = TcpStream::connect(process.http).await.unwrap();
    one.write_all(asked.as_bytes()).await.unwrap();
    let mut got = String::new();
    let _ = timeout(LIMIT, one.read_to_string(&mut got)).await.expect("an end in time");
    assert!(!got.ends_with("/panic"), "{got}");
    assert_eq!(status(&get(process.http, "a", "/").await), 200);
    assert_eq!(metric(process.admin, "weft_panics").await, 3);
    assert_eq!(process.ended(Duration::ZERO), None, "few panics end nothing");
}

/// F-PX-06: many panics in a second end the proxy, with a drain and a code that says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_panics_end_the_proxy_with_a_drain() {
    let mut process = started().await;
    let mut open = TcpStream::connect(process.http).await.unwrap();
    open.write_all(b"GET /soon HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let http = process.http;
    let asked = (0..100).map(|_| {
        tokio::spawn(async move {
            let Ok(mut stream) = TcpStream::connect(http).await else { return String::new() };
            let _ = stream.write_all(b"GET /panic HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            answer
        })
    });
    let answers = futures_util::future::join_all(asked.collect::<Vec<_>>()).await;
    let answered = answers.iter().filter(|answer| status(answer.as_ref().unwrap()) == 500).count();
    assert!(answered > 50, "{answered} of 100");
    assert!(read_head(&mut open).await.starts_with("HTTP/1.1 200"), "what was open is finished");
    assert_eq!(process.ended(millis(5000)), Some(70));
}

/// A port that takes no connection and refuses none: its queue is full.
async fn black_hole() -> (SocketAddr, Vec<TcpStream>, socket2::Socket) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let at = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) = timeout(millis(200), TcpStream::connect(at)).await {
        queued.push(stream);
        assert!(queued.len() < 100, "the guard: it does take connections");
    }
    (at, queued, socket)
}

/// F-PX-09: an endpoint that swallows packets costs the connect timeout, once, and no request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_costs_the_connect_timeout_and_no_request() {
    let (app, (hole, _queued, _socket)) = (App::start().await, black_hole().await);
    let at = free_port();
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "app")])], None);
    let resources = StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("app", &[app.address, hole], Speak::Http1, None)],
        ..StaticResources::default()
    };
    let _proxy = Proxy::start("edge", resources);
    let mut slowest = Duration::ZERO;
    for _ in 0..12 {
        let asked = Instant::now();
        assert_eq!(status(&get(at, "a", "/").await), 200);
        slowest = slowest.max(asked.elapsed());
    }
    // One second is the cluster's timeout, as our control plane sets it; the rest is for a busy machine.
    assert!(slowest >= millis(900), "the guard: nobody met the hole, {slowest:?}");
    assert!(slowest < millis(1300), "{slowest:?}");
}

/// F-PX-27: on a port that is declared as bytes the server may speak first, through one proxy or two; no detection
/// waits for a client that waits for its server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_first_is_heard_at_once() {
    let ca = Ca::new();
    let banner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = banner.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = banner.accept().await.unwrap();
            tokio::spawn(async move {
                stream.write_all(b"220 ready\r\n").await.unwrap();
                let mut line = [0; 6];
                stream.read_exact(&mut line).await.unwrap();
                stream.write_all(b"250 hi\r\n").await.unwrap();
            });
        }
    });
    let sni = "p25.mesh.internal";
    let (at, be_at) = (free_port(), free_port());
    let _be = Proxy::start(
        "be",
        StaticResources {
            identity: Some(ca.identity("be")),
            listeners: vec![listener("inbound", be_at, vec![member_chain(sni, &[], tcp("inbound|25"))])],
            clusters: vec![cluster("inbound|25", &[server], Speak::Tcp, None)],
            ..StaticResources::default()
        },
    );
    let _fe = Proxy::start(
        "fe",
        StaticResources {
            identity: Some(ca.identity("fe")),
            listeners: vec![listener("vip|1|25", at, vec![plain_chain(tcp("outbound|25|be.default"))])],
            clusters: vec![cluster("outbound|25|be.default", &[be_at], Speak::Tcp, Some((sni, &id("be"))))],
            ..StaticResources::default()
        },
    );
    for _ in 0..3 {
        let connected = Instant::now();
        let mut client = TcpStream::connect(at).await.unwrap();
        let mut greeting = [0; 11];
        timeout(LIMIT, client.read_exact(&mut greeting)).await.unwrap().unwrap();
        assert_eq!(&greeting, b"220 ready\r\n");
        assert!(connected.elapsed() < millis(1000), "stalled for {:?}", connected.elapsed());
        client.write_all(b"HELO\r\n").await.unwrap();
        let mut answer = String::new();
        timeout(LIMIT, client.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, "250 hi\r\n");
    }
}

/// F-PX-27: where HTTP is declared, and with it its policies, other bytes are refused and never passed on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_http_does_not_pass_an_http_port() {
    let at = free_port();
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "app")])], Some(Vec::new()));
    let open = http("open", vec![vhost("all", &["*"], vec![to("/", "app")])], None);
    let open_at = free_port();
    let _proxy = Proxy::start(
        "edge",
        StaticResources {
            listeners: vec![
                listener("web", at, vec![plain_chain(web)]),
                listener("open", open_at, vec![plain_chain(open)]),
            ],
            clusters: vec![cluster("app", &[app.local_addr().unwrap()], Speak::Http1, None)],
            ..StaticResources::default()
        },
    );
    let told: [&[u8]; 6] = [
        b"HELO mail\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello\r\n\r\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ];
    for to in [at, open_at] {
        for bytes in told {
            let mut client = TcpStream::connect(to).await.unwrap();
            client.write_all(bytes).await.unwrap();
            let mut answer = Vec::new();
            let _ = timeout(LIMIT, client.read_to_end(&mut answer)).await.expect("an end, not a wait");
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let refused = answer.is_empty()
                || !answer.starts_with("HTTP/1.1")
                || status(&answer) / 100 == 4
                || status(&answer) == 505;
            assert!(refused, "{bytes:?}: {answer}");
        }
    }
    // A connection that says nothing goes nowhere either.
    let _silent = TcpStream::connect(at).await.unwrap();
    assert!(timeout(millis(500), app.accept()).await.is_err(), "something reached the app");
    // The guard: HTTP does.
    let mut client = TcpStream::connect(open_at).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(timeout(LIMIT, app.accept()).await.is_ok());
}

/// An app that calls the next one through the proxy and hands on what the proxies tell each other; the last one fails.
async fn link(proxy: SocketAddr, next: Option<&'static str>, asked: Arc<AtomicU32>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = Arc::clone(&asked);
            tokio::spawn(async move {
                let head = read_head(&mut stream).await.to_lowercase();
                asked.fetch_add(1, Ordering::SeqCst);
                let code = match next {
                    None => 500,
                    Some(next) => {
                        let tries = head.lines().find(|line| line.starts_with("grpc-previous-rpc-attempts"));
                        let tries = tries.map_or(String::new(), |line| format!("{line}\r\n"));
                        let request =
                            format!("GET / HTTP/1.1\r\nhost: {next}\r\n{tries}connection: close\r\n\r\n");
                        status(&mesh::send(proxy, &request).await)
                    }
                };
                let answer = format!("HTTP/1.1 {code} X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    at
}

/// F-PX-25: every service of a chain retries, and the last one fails always. Budgets and the told number of a try keep
/// its load near what was offered, where three tries in each of three places would be 27 times that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_do_not_multiply_along_a_chain() {
    let at = free_port();
    let counts: [Arc<AtomicU32>; 3] = Default::default();
    let mut clusters = Vec::new();
    let mut hosts = Vec::new();
    for (count, (name, next)) in counts.iter().zip([("a", Some("b")), ("b", Some("c")), ("c", None)]) {
        let app = link(at, next, Arc::clone(count)).await;
        let cluster_name = format!("outbound|80|{name}.default");
        clusters.push(cluster(&cluster_name, &[app], Speak::Http1, None));
        hosts.push(vhost(name, &[name], vec![to_with_retries("/", &cluster_name)]));
    }
    let resources = StaticResources {
        listeners: vec![listener("outbound", at, vec![plain_chain(http("outbound", hosts, None))])],
        clusters,
        ..StaticResources::default()
    };
    let _proxy = Proxy::start("edge", resources);
    let (started, mut offered) = (Instant::now(), 0);
    while started.elapsed() < millis(2500) {
        let asked = (0..10).map(|_| get(at, "a", "/"));
        assert!(futures_util::future::join_all(asked).await.iter().all(|answer| status(answer) == 500));
        offered += 10;
    }
    let last = counts[2].load(Ordering::SeqCst);
    // Each of the three callers may add 20 %, and 10 a second on each of the two workers; what one adds is the next
    // one's load.
    let floor = 10.0 * 2.0 * (started.elapsed().as_secs_f64() + 1.0);
    let allowed = (1..=3).fold(f64::from(offered), |load, _| 1.2 * load + floor);
    assert!(offered >= 100 && last > offered, "the guard: {last} of {offered}, nobody tried again");
    assert!(f64::from(last) <= allowed, "{last} tries for {offered} requests, {allowed:.0} are allowed");
    // The number of a try is honoured: what is part of a retry is not tried again.
    tokio::time::sleep(millis(1200)).await; // the budget has something again
    let count = || counts[2].load(Ordering::SeqCst);
    for (more, again) in [("", true), ("grpc-previous-rpc-attempts: 1\r\n", false)] {
        let before = count();
        let request = format!("GET / HTTP/1.1\r\nhost: c\r\n{more}connection: close\r\n\r\n");
        assert_eq!(status(&mesh::send(at, &request).await), 500);
        assert_eq!(count() - before > 1, again, "{more:?}: {} tries", count() - before);
    }
}

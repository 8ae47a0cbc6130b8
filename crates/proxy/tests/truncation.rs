//! Answers that break off, and answers that come too early: what the client sees, and what becomes of the connection.
//!
//! F-PX-13: an origin that ends in the middle of an answer, at each place, by each end, over each protocol. The client
//! never takes what it got for a whole answer, and the next request never meets what is left of the broken one.
//! F-PX-14: an origin that answers before the body was sent, and then takes the body for a request.

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
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::{
    LIMIT, Proxy, free_port, send,
    xds::{Speak, cluster, http, listener, plain_chain, to, vhost},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use weft_proxy::static_config::StaticResources;

const BODY: &str = "0123456789";

/// How the origin ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Fin,
    Rst,
    /// HTTP/2 only: of the stream.
    Stream,
}

/// Answers over HTTP/1 as far as the origin gets with them.
const CUTS: [(&str, &str); 12] = [
    ("nothing", ""),
    ("in the status line", "HTTP/1.1 20"),
    ("in the head", "HTTP/1.1 200 OK\r\ncontent-le"),
    ("before the body", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"),
    ("after one byte", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0"),
    ("before the last byte", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n012345678"),
    ("before a chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
    ("in a chunk's size", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na"),
    ("in a chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n01234"),
    ("before the last chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n"),
    ("in the last chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n"),
    (
        "in a trailer",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\nx-end: ye",
    ),
];

/// Reads one head; `None` at the end.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

fn abort(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// An HTTP/1 origin: `/cut/N/END` breaks off, everything else is answered with its own path.
async fn origin_h1() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut broken = false;
                while let Some(head) = head(&mut stream).await {
                    assert!(!broken, "a broken connection was used again");
                    if head.contains("content-length: 4") {
                        let _ = stream.read_exact(&mut [0; 4]).await;
                    }
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    let parts: Vec<&str> = path.split('/').collect();
                    if let ["", "cut", cut, end] = parts[..] {
                        let (_, text) = CUTS[cut.parse::<usize>().unwrap()];
                        stream.write_all(text.as_bytes()).await.unwrap();
                        // What was written is to arrive before the end does.
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        if end == "Rst" {
                            abort(&stream);
                            return;
                        }
                        stream.shutdown().await.unwrap();
                        broken = true;
                        continue;
                    }
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    at
}

/// The same over HTTP/2. The cuts: no head, a head, one byte, all but one, all but the trailers.
const H2_CUTS: usize = 5;

async fn origin_h2() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let socket = socket2::SockRef::from(&stream).try_clone().unwrap();
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut ends = None;
                loop {
                    let accepted = match ends {
                        // Time to write what was said.
                        Some(_) => tokio::time::timeout(Duration::from_millis(20), connection.accept()).await,
                        None => Ok(connection.accept().await),
                    };
                    let Ok(accepted) = accepted else { break };
                    let Some(Ok((request, mut respond))) = accepted else { return };
                    let path = request.uri().path().to_owned();
                    let parts: Vec<&str> = path.split('/').collect();
                    let grpc = request.headers().contains_key("te");
                    let mut answer = http::Response::new(());
                    if grpc {
                        answer.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
                    }
                    let ["", "cut", cut, end] = parts[..] else {
                        answer.headers_mut().insert("content-length", path.len().into());
                        let mut send = respond.send_response(answer, false).unwrap();
                        send.send_data(Bytes::from(path.clone()), true).unwrap();
                        continue;
                    };
                    let cut: usize = cut.parse().unwrap();
                    if cut < 4 && !grpc {
                        answer.headers_mut().insert("content-length", 10.into());
                    }
                    if cut == 0 {
                        if end == "Stream" {
                            respond.send_reset(h2::Reason::INTERNAL_ERROR);
                        }
                    } else {
                        let mut send = respond.send_response(answer, false).unwrap();
                        let length = [0, 0, 1, 9, 10][cut];
                        if length > 0 {
                            send.send_data(Bytes::from_static(&BODY.as_bytes()[..length]), false).unwrap();
                        }
                        if end == "Stream" {
                            // A reset overtakes data that is not written yet.
                            let _ =
                                tokio::time::timeout(Duration::from_millis(20), connection.accept()).await;
                            send.send_reset(h2::Reason::INTERNAL_ERROR);
                        } else {
                            std::mem::forget(send); // dropped, it would say that the stream is cancelled
                        }
                    }
                    match end {
                        "Rst" => ends = Some(End::Rst),
                        "Fin" => ends = Some(End::Fin),
                        _ => {}
                    }
                }
                if ends == Some(End::Rst) {
                    socket.set_linger(Some(Duration::ZERO)).unwrap();
                }
            });
        }
    });
    at
}

async fn edge() -> (SocketAddr, Proxy) {
    let (h1, h2) = (origin_h1().await, origin_h2().await);
    let at = free_port();
    let hosts = vec![vhost("h1", &["h1"], vec![to("/", "h1")]), vhost("h2", &["h2"], vec![to("/", "h2")])];
    let resources = StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(http("web", hosts, None))])],
        clusters: vec![cluster("h1", &[h1], Speak::Http1, None), cluster("h2", &[h2], Speak::Http2, None)],
        ..StaticResources::default()
    };
    (at, Proxy::start("edge", resources))
}

/// What a client takes an answer for.
#[derive(Debug, PartialEq)]
enum Got {
    Whole(u16, String),
    Broken,
}

/// As strict as a client should be: without all of its frame an answer is none.
fn read_h1(bytes: &str) -> Got {
    let Some((head, body)) = bytes.split_once("\r\n\r\n") else { return Got::Broken };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let head = head.to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        let (mut rest, mut whole) = (body, String::new());
        while let Some((size, after)) = rest.split_once("\r\n") {
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                return if after.ends_with("\r\n") { Got::Whole(status, whole) } else { Got::Broken };
            }
            if after.len() < size + 2 {
                return Got::Broken;
            }
            whole.push_str(&after[..size]);
            rest = &after[size + 2..];
        }
        return Got::Broken;
    }
    let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    match length {
        Some(length) if body.len() == length => Got::Whole(status, body.to_owned()),
        Some(length) => {
            assert!(body.len() < length, "more than the answer: {bytes}");
            Got::Broken
        }
        // Ended by the connection's end: always whole for a client.
        None => Got::Whole(status, body.to_owned()),
    }
}

async fn ask(at: SocketAddr, version: Version, method: &str, host: &str, path: &str) -> Got {
    let body = if method == "POST" { "body" } else { "" };
    if version == Version::HTTP_11 {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        return read_h1(&send(at, &request).await);
    }
    let exchange = async {
        let stream = TcpStream::connect(at).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let driving = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{host}{path}"))
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let got = match sender.send_request(request).await {
            Err(_) => Got::Broken,
            Ok(response) => {
                let status = response.status().as_u16();
                match response.into_body().collect().await {
                    Ok(body) => Got::Whole(status, String::from_utf8_lossy(&body.to_bytes()).into_owned()),
                    Err(_) => Got::Broken,
                }
            }
        };
        driving.abort();
        got
    };
    tokio::time::timeout(LIMIT, exchange).await.expect("an end in time")
}

/// F-PX-13: 156 ways to break off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_off_is_never_taken_for_whole() {
    let (at, _proxy) = edge().await;
    let (mut cases, mut broken, mut refused) = (0, 0, 0);
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for method in ["GET", "POST"] {
            let h1 = (0..CUTS.len()).flat_map(|cut| [End::Fin, End::Rst].map(|end| ("h1", cut, end)));
            let h2 =
                (0..H2_CUTS).flat_map(|cut| [End::Fin, End::Rst, End::Stream].map(|end| ("h2", cut, end)));
            for (host, cut, end) in h1.chain(h2) {
                let case = format!("{version:?} {method} {host} cut {cut} {end:?}");
                // A warm connection, so that the broken one may be a reused one.
                let whole = format!("/whole/{cases}");
                let got = ask(at, version, "GET", host, &whole).await;
                assert_eq!(got, Got::Whole(200, whole), "before {case}");
                match ask(at, version, method, host, &format!("/cut/{cut}/{end:?}")).await {
                    Got::Broken => broken += 1,
                    Got::Whole(502 | 503, _) => refused += 1,
                    got => panic!("{case}: {got:?}"),
                }
                let whole = format!("/after/{cases}");
                let got = ask(at, version, method, host, &whole).await;
                assert_eq!(got, Got::Whole(200, whole), "after {case}");
                cases += 1;
            }
        }
    }
    // The guard: both kinds were met, and the matrix is what it says.
    assert_eq!(cases, 4 * (CUTS.len() * 2 + H2_CUTS * 3));
    assert!(broken >= cases / 2 && refused >= cases / 8, "{broken} broken, {refused} refused of {cases}");
}

/// F-PX-13 for gRPC: a call that breaks off is UNAVAILABLE or a broken stream, never a status that says it is well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_call_that_breaks_off_does_not_end_well() {
    let (at, _proxy) = edge().await;
    let mut unavailable = 0;
    for cut in 0..H2_CUTS {
        for end in [End::Fin, End::Rst, End::Stream] {
            let stream = TcpStream::connect(at).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            let driving = tokio::spawn(connection);
            let request = Request::post(format!("http://h2/cut/{cut}/{end:?}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Full::new(Bytes::from_static(b"\0\0\0\0\0")))
                .unwrap();
            let response = sender.send_request(request).await;
            match response {
                Ok(response) if response.headers().get("grpc-status").is_some() => {
                    assert_eq!(response.status(), StatusCode::OK);
                    assert_eq!(response.headers()["grpc-status"], "14");
                    unavailable += 1;
                }
                Ok(response) => {
                    let body = response.into_body().collect().await;
                    assert!(body.is_err(), "cut {cut} {end:?}: {:?}", body.unwrap().trailers());
                }
                // A reset may overtake the head that it follows.
                Err(_) => {}
            }
            driving.abort();
        }
    }
    // Those without a head, and a head that a reset overtook.
    assert!((3..=6).contains(&unavailable), "{unavailable}");
}

/// An origin that answers at the head and takes what follows for the next request.
async fn hasty(smuggled: Arc<AtomicU32>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let smuggled = Arc::clone(&smuggled);
            tokio::spawn(async move {
                while let Some(head) = head(&mut stream).await {
                    let path = head.split(' ').nth(1).unwrap_or("").to_owned();
                    let parts: Vec<&str> = path.split('/').collect();
                    let (status, text) = match parts[..] {
                        ["", "early", status, ..] => (status, "early"),
                        ["", "smuggled"] => {
                            smuggled.fetch_add(1, Ordering::SeqCst);
                            ("200", "smuggled")
                        }
                        _ => ("200", path.as_str()),
                    };
                    let mut answer = String::new();
                    if parts.contains(&"continue") {
                        answer.push_str("HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    answer.push_str(&format!(
                        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{text}",
                        text.len()
                    ));
                    if stream.write_all(answer.as_bytes()).await.is_err() || parts.contains(&"close") {
                        return;
                    }
                }
            });
        }
    });
    at
}

/// F-PX-14: the early answer arrives; what is left of the body never becomes somebody's answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_costs_its_connection_and_nothing_else() {
    let smuggled = Arc::new(AtomicU32::new(0));
    let origin = hasty(Arc::clone(&smuggled)).await;
    let at = free_port();
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "app")])], None);
    let resources = StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("app", &[origin], Speak::Http1, None)],
        ..StaticResources::default()
    };
    let _proxy = Proxy::start("edge", resources);
    let inner = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut cases = 0;
    for status in ["200", "413", "417", "500"] {
        for ending in ["", "/close", "/continue"] {
            for expect in ["", "expect: 100-continue\r\n"] {
                for chunked in [false, true] {
                    let case = format!("{status}{ending} {expect:?} chunked {chunked}");
                    let (frame, body) = if chunked {
                        let body = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
                        ("transfer-encoding: chunked\r\n".to_owned(), body)
                    } else {
                        (format!("content-length: {}\r\n", inner.len()), inner.to_owned())
                    };
                    let mut client = TcpStream::connect(at).await.unwrap();
                    let request =
                        format!("POST /early/{status}{ending} HTTP/1.1\r\nhost: a\r\n{frame}{expect}\r\n");
                    client.write_all(request.as_bytes()).await.unwrap();
                    // The answer first, then the body: it is early.
                    let mut head = mesh::read_head(&mut client).await;
                    if head.starts_with("HTTP/1.1 100") {
                        head = mesh::read_head(&mut client).await;
                    }
                    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{case}: {head}");
                    let mut text = [0; 5];
                    client.read_exact(&mut text).await.unwrap();
                    assert_eq!(&text, b"early", "{case}");
                    let _ = client.write_all(body.as_bytes()).await;
                    // Others meet no answer but their own, whatever connection they get.
                    let others = (0..4).map(|n| async move {
                        let path = format!("/own/{n}");
                        (ask(at, Version::HTTP_11, "GET", "a", &path).await, path)
                    });
                    for (got, path) in futures_util::future::join_all(others).await {
                        assert_eq!(got, Got::Whole(200, path), "{case}");
                    }
                    // And the client itself: closed, or in step.
                    let _ = client
                        .write_all(b"GET /own/last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                        .await;
                    let mut rest = String::new();
                    let reading = tokio::time::timeout(LIMIT, client.read_to_string(&mut rest));
                    let read = reading.await.expect("an end in time");
                    if read.is_ok() && !rest.is_empty() {
                        assert_eq!(read_h1(&rest), Got::Whole(200, "/own/last".to_owned()), "{case}");
                    }
                    cases += 1;
                }
            }
        }
    }
    assert_eq!(cases, 48);
    // The guard: the origin does take bodies for requests, so that a reused connection would have shown it.
    let before = smuggled.load(Ordering::SeqCst);
    let told =
        format!("POST /early/200 HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{inner}", inner.len());
    let mut direct = TcpStream::connect(origin).await.unwrap();
    direct.write_all(told.as_bytes()).await.unwrap();
    mesh::eventually("the body taken for a request", async || smuggled.load(Ordering::SeqCst) > before).await;
}

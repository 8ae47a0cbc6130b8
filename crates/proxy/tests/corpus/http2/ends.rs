//! How streams end, and what each side is told of the other's end.

use std::{
    io::Read,
    net::{Shutdown, SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use bytes::Bytes;
use weft_proxy::static_config::StaticResources;

use super::origin::Origin;
use crate::{
    edge::Edge,
    h2::{
        Client, DATA, END_HEADERS, END_STREAM, End, GET, GOAWAY, HEADERS, RST_STREAM, SETTINGS, block, frame,
    },
    mesh::{
        LIMIT, Proxy, eventually, free_port, metric,
        xds::{Speak, cluster, http, listener, plain_chain, to, vhost, with_access_log},
    },
};

const CANCEL: u32 = 8;
const REFUSED_STREAM: u32 = 7;

/// A proxy before this origin, and where it logs.
fn edge(origin: SocketAddr) -> (SocketAddr, Edge, std::path::PathBuf) {
    let at = free_port();
    let log = std::env::temp_dir().join(format!("weft-ends-{:x}.log", fastrand::u64(..)));
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let web = with_access_log(web, &log, "%RESPONSE_CODE% %RESPONSE_FLAGS%\n");
    let edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("o", &[origin], Speak::Http2, None)],
        ..StaticResources::default()
    });
    (at, edge, log)
}

fn get(client: &mut Client, stream: u32, path: &str) {
    assert!(client.request(stream, &[GET[0], GET[1], GET[2], (b":path", path.as_bytes())], true));
}

/// Streams beyond what our SETTINGS allow are refused, and cost those within nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_streams_are_open_and_no_more() {
    let origin = Origin::start(1000).await;
    let (at, _edge, log) = edge(origin.at);
    let asking = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(at, &[]);
        let streams: Vec<u32> = (0..101).map(|n| 1 + 2 * n).collect();
        for stream in &streams {
            get(&mut client, *stream, "/slow");
        }
        let (mut whole, mut refused) = (0, Vec::new());
        while whole + refused.len() < streams.len() {
            let frame = client.next(LIMIT).expect("an end of each stream");
            match frame.kind {
                HEADERS | DATA if frame.flags & END_STREAM != 0 => whole += 1,
                RST_STREAM => refused.push((frame.stream, crate::h2::error_code(&frame.payload))),
                _ => {}
            }
        }
        assert_eq!((whole, refused), (100, vec![(201, REFUSED_STREAM)]));
        get(&mut client, 203, "/");
        assert!(matches!(client.end_of(203), End::Status(200, _)), "there is room again");
    });
    asking.await.unwrap();
    let _ = std::fs::remove_file(log);
}

/// Both directions of a client's RST_STREAM: the endpoint hears of it, and the log says who left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_cancels_has_left() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = listener.local_addr().unwrap();
    let (told, hears) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut told = Some(told);
        while let Some(Ok((_request, mut respond))) = connection.accept().await {
            let told = told.take();
            tokio::spawn(async move {
                let mut out: h2::SendStream<Bytes> =
                    respond.send_response(http::Response::new(()), false).unwrap();
                out.send_data(Bytes::from_static(b"a part"), false).unwrap();
                let reason = std::future::poll_fn(|cx| out.poll_reset(cx)).await;
                if let (Some(told), Ok(reason)) = (told, reason) {
                    let _ = told.send(u32::from(reason));
                }
            });
        }
    });
    let (at, _edge, log) = edge(origin);
    let asking = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(at, &[]);
        get(&mut client, 1, "/");
        while client.next(LIMIT).expect("a part").kind != DATA {}
        assert!(client.send(&frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes())));
        client
    });
    let _client = asking.await.unwrap();
    let reason = tokio::time::timeout(LIMIT, hears).await.expect("the endpoint hears of it").unwrap();
    assert_eq!(reason, CANCEL);
    let started = Instant::now();
    let mut lines = String::new();
    while lines.is_empty() && started.elapsed() < LIMIT {
        tokio::time::sleep(Duration::from_millis(20)).await;
        lines = std::fs::read_to_string(&log).unwrap_or_default();
    }
    assert_eq!(lines, "200 DC\n");
    let _ = std::fs::remove_file(log);
}

/// Also before anybody has looked at the request: it is logged and counted once, and the origin sees nothing of it. Who
/// does nothing else writes no more lines than a connection may have such requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_takes_back_at_once_has_its_line() {
    let (origin, at) = (Origin::start(1000).await, free_port());
    let log = std::env::temp_dir().join(format!("weft-ends-{:x}.log", fastrand::u64(..)));
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let format =
        "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n";
    let proxy = Proxy::start(
        "web",
        StaticResources {
            listeners: vec![listener("web", at, vec![plain_chain(with_access_log(web, &log, format))])],
            clusters: vec![cluster("o", &[origin.at], Speak::Http2, None)],
            ..StaticResources::default()
        },
    );
    let taken_back = |stream: u32, path: &str| {
        let fields = [GET[0], GET[1], GET[2], (b":path", path.as_bytes())];
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields));
        [head, frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
    };
    let goes = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(at, &[]);
        assert!(client.send(&taken_back(1, "/taken")));
        get(&mut client, 3, "/kept");
        assert!(matches!(client.end_of(3), End::Status(200, _)));
        let mut flood = Client::connect(at, &[]);
        let all: Vec<u8> = (0..3000).flat_map(|n| taken_back(1 + 2 * n, "/flood")).collect();
        let _ = flood.send(&all);
        flood.end_of(1)
    });
    assert_eq!(goes.await.unwrap(), End::GoAway(11));
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    let requests = async || metric(proxy.admin, "weft_requests{code=0xx,listener=web}").await as usize;
    eventually("each has its line", async || lines().lines().count() == requests().await + 1).await;
    let all = lines();
    let first: Vec<_> = all.lines().filter(|line| !line.contains("/flood")).collect();
    assert_eq!(
        first,
        ["GET /taken HTTP/2 0 DC downstream_remote_disconnect", "GET /kept HTTP/2 200 - via_upstream"]
    );
    assert!(all.lines().filter(|line| line.contains("/flood")).all(|line| line.contains(" 0 DC ")));
    let flood = all.matches("/flood").count();
    assert!((100..=1001).contains(&flood), "{flood} lines of 3000 requests");
    assert_eq!(origin.requests(), 1);
    let _ = std::fs::remove_file(log);
}

/// No word of an upstream's makes half an answer a whole one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_an_answer_is_never_whole() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let reason: u32 = request.uri().path()[1..].parse().unwrap();
                        let mut out = respond.send_response(http::Response::new(()), false).unwrap();
                        out.send_data(Bytes::from_static(b"half"), false).unwrap();
                        // Apart, so that the head is not overtaken.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        out.send_reset(reason.into());
                    });
                }
            });
        }
    });
    let (at, _edge, log) = edge(origin);
    let asking = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(at, &[]);
        for (n, reason) in (0..14).enumerate() {
            let stream = 1 + 2 * n as u32;
            get(&mut client, stream, &format!("/{reason}"));
            let mut told = None;
            while told.is_none() {
                let frame = client.next(LIMIT).expect("an end of the stream");
                assert!(frame.kind != GOAWAY, "{reason}");
                let ends = matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
                assert!(!ends, "a clean end after RST_STREAM {reason}");
                if frame.kind == RST_STREAM && frame.stream == stream {
                    told = Some(crate::h2::error_code(&frame.payload));
                }
            }
            assert_ne!(told, Some(0), "{reason}");
        }
    });
    asking.await.unwrap();
    let _ = std::fs::remove_file(log);
}

/// An answer that is whole before its request is: what the endpoint says then ends the request, not the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_is_whole() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let mut out = respond.send_response(http::Response::new(()), false).unwrap();
                    out.send_data(Bytes::from_static(b"enough"), true).unwrap();
                    drop(request); // RST_STREAM with NO_ERROR comes after the answer
                }
            });
        }
    });
    let (at, _edge, log) = edge(origin);
    let asking = tokio::task::spawn_blocking(move || {
        for _ in 0..20 {
            let mut client = Client::connect(at, &[]);
            let fields = [(&b":method"[..], &b"POST"[..]), GET[1], GET[2], GET[3]];
            assert!(client.request(1, &fields, false));
            assert_eq!(client.end_of(1), End::Status(200, "enough".to_owned()));
        }
    });
    asking.await.unwrap();
    let _ = std::fs::remove_file(log);
}

/// GOAWAY names the streams that were looked at; others are asked again, on another connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_goaway_leaves_out_is_tried_again() {
    let bound = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = bound.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        // The first connection reads a request and looks at none.
        let (mut stream, _) = bound.accept().unwrap();
        let mut bytes = Vec::new();
        let head_of_1 = [HEADERS, END_HEADERS | END_STREAM, 0, 0, 0, 1];
        while !bytes.windows(6).any(|window| window == head_of_1) {
            let mut more = [0; 4096];
            let count = stream.read(&mut more).unwrap();
            assert!(count > 0);
            bytes.extend_from_slice(&more[..count]);
        }
        let words = [frame(SETTINGS, 0, 0, &[]), frame(GOAWAY, 0, 0, &[0; 8])].concat();
        std::io::Write::write_all(&mut stream, &words).unwrap();
        let _ = stream.shutdown(Shutdown::Write);
        // The second one serves.
        let (mut other, _) = bound.accept().unwrap();
        let mut read = 0;
        while read < 24 {
            read += other.read(&mut [0; 4096]).unwrap();
        }
        let answer = block(&[(b":status", b"200")]);
        let words =
            [frame(SETTINGS, 0, 0, &[]), frame(HEADERS, END_HEADERS | END_STREAM, 1, &answer)].concat();
        std::thread::sleep(Duration::from_millis(100)); // the request may come after the preface
        std::io::Write::write_all(&mut other, &words).unwrap();
        while other.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
    });
    let (at, edge, log) = edge(origin);
    let asking = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(at, &[]);
        get(&mut client, 1, "/");
        assert_eq!(client.end_of(1), End::Status(200, String::new()));
    });
    asking.await.unwrap();
    drop(edge);
    serving.join().unwrap();
    let _ = std::fs::remove_file(log);
}

//! Row S-H2-07: gRPC callers get gRPC's status, whatever breaks, and never wait for ever.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use weft_proxy::static_config::StaticResources;

use crate::{
    edge::Edge,
    mesh::{
        LIMIT, free_port,
        xds::{Speak, cluster, http, listener, plain_chain, to, to_with_timeout, vhost},
    },
};

/// An HTTP/2 origin that answers calls by their path.
async fn origin() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut connection) = ::h2::server::handshake(stream).await else { return };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(answer(request, respond));
                }
            });
        }
    });
    at
}

async fn answer(request: Request<::h2::RecvStream>, mut respond: ::h2::server::SendResponse<Bytes>) {
    let path = request.uri().path().to_owned();
    if path == "/never" {
        return std::future::pending().await;
    }
    let mut head = Response::builder().header("content-type", "application/grpc");
    if path == "/status-twice" {
        head = head.header("grpc-status", "0");
    }
    // What the caller's timeout was, as the app sees it.
    if let Some(timeout) = request.headers().get("grpc-timeout") {
        head = head.header("x-timeout", timeout);
    }
    let Ok(mut stream) = respond.send_response(head.body(()).unwrap(), false) else { return };
    let (data, status): (&[u8], Option<&str>) = match path.as_str() {
        "/huge-length" => (b"\0\xff\xff\xff\xffhi", Some("0")),
        "/bad-prefix" => (b"\x07\0\0", Some("0")),
        "/failed" => (b"", Some("9")),
        "/status-twice" => (b"\0\0\0\0\x02hi", Some("13")),
        "/no-trailers" | "/reset" => (b"\0\0\0\0\x02hi", None),
        _ => (b"\0\0\0\0\x02hi", Some("0")),
    };
    let _ = stream.send_data(Bytes::from_static(data), path == "/no-trailers");
    if path == "/reset" {
        // The data before it should be on its way.
        tokio::time::sleep(Duration::from_millis(100)).await;
        return stream.send_reset(::h2::Reason::INTERNAL_ERROR);
    }
    if let Some(status) = status {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.parse().unwrap());
        trailers.insert("grpc-message", "said%20so".parse().unwrap());
        let _ = stream.send_trailers(trailers);
    }
}

/// What the caller gets: HTTP status, gRPC status in the head, data, gRPC status in the trailers.
#[derive(Debug, PartialEq)]
struct Got {
    status: u16,
    head: Option<String>,
    data: Vec<u8>,
    /// `Err`: the stream was reset.
    trailers: Result<Option<String>, ()>,
    timeout: Option<String>,
}

async fn call(at: SocketAddr, path: &str, content_type: &str, timeout: Option<&str>) -> Got {
    let work = async {
        let stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let (client, connection) = ::h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::post(format!("http://a{path}"))
            .header("content-type", content_type)
            .header("te", "trailers");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let mut client = client.ready().await.unwrap();
        let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        let response = response.await.unwrap();
        let said = |name: &str, headers: &HeaderMap| {
            headers.get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let mut got = Got {
            status: response.status().as_u16(),
            head: said("grpc-status", response.headers()),
            data: Vec::new(),
            trailers: Ok(None),
            timeout: said("x-timeout", response.headers()),
        };
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            match data {
                Ok(data) => got.data.extend_from_slice(&data),
                Err(_) => {
                    got.trailers = Err(());
                    return got;
                }
            }
        }
        got.trailers = match body.trailers().await {
            Ok(trailers) => Ok(trailers.and_then(|trailers| said("grpc-status", &trailers))),
            Err(_) => Err(()),
        };
        got
    };
    tokio::time::timeout(LIMIT, work).await.expect("an end in time")
}

/// S-H2-07: the right status, trailers as they were, and an end to everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_end_with_their_status() {
    let (at, app) = (free_port(), origin().await);
    let routes = vec![
        to("/app/", "nowhere"),
        to_with_timeout("/never", "app", Duration::from_millis(300)),
        to_with_timeout("/no-limit", "app", Duration::from_secs(5)),
        to("/ok", "app"),
        to("/failed", "app"),
        to("/huge-length", "app"),
        to("/bad-prefix", "app"),
        to("/no-trailers", "app"),
        to("/status-twice", "app"),
        to("/reset", "app"),
    ];
    let web = http("web", vec![vhost("all", &["*"], routes)], None);
    let edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![
            cluster("app", &[app], Speak::Http2, None),
            cluster("nowhere", &[free_port()], Speak::Http2, None),
        ],
        ..StaticResources::default()
    });
    const GRPC: &str = "application/grpc";
    let hi = b"\0\0\0\0\x02hi".to_vec();
    let text = |code: &str| Some(code.to_owned());
    let got = |head: Option<&str>, data: &[u8], trailers: Result<Option<&str>, ()>| Got {
        status: 200,
        head: head.and_then(text),
        data: data.to_vec(),
        trailers: trailers.map(|code| code.and_then(text)),
        timeout: None,
    };
    let rows: Vec<(&str, Got)> = vec![
        ("/ok", got(None, &hi, Ok(Some("0")))),
        ("/failed", got(None, b"", Ok(Some("9")))),
        // The proxy looks into no message: a length that lies is the caller's to see.
        ("/huge-length", got(None, b"\0\xff\xff\xff\xffhi", Ok(Some("0")))),
        ("/bad-prefix", got(None, b"\x07\0\0", Ok(Some("0")))),
        ("/no-trailers", got(None, &hi, Ok(None))),
        ("/status-twice", got(Some("0"), &hi, Ok(Some("13")))),
        ("/reset", got(None, &hi, Err(()))),
        // The proxy's own answers: no route, no connection, no answer in time.
        ("/unknown", got(Some("12"), b"", Ok(None))),
        ("/app/x", got(Some("14"), b"", Ok(None))),
        ("/never", got(Some("14"), b"", Ok(None))),
    ];
    let count = rows.len();
    for (path, expected) in rows {
        assert_eq!(call(at, path, GRPC, None).await, expected, "{path}");
    }
    for timeout in ["99999999H", "-1S", "1", "1x", "999999999999999999999S", "0n"] {
        let got = call(at, "/ok", GRPC, Some(timeout)).await;
        assert_eq!((got.trailers, got.timeout), (Ok(text("0")), text(timeout)), "grpc-timeout: {timeout}");
    }
    for (content_type, is_grpc) in [
        ("application/grpc+proto", true),
        ("application/grpc;x=y", true),
        ("application/grpc-web", false),
        ("application/grpcx", false),
        ("text/application/grpc", false),
        ("Application/GRPC", true),
    ] {
        let got = call(at, "/unknown", content_type, None).await;
        assert_eq!(got.status, if is_grpc { 200 } else { 404 }, "{content_type}: {got:?}");
        assert_eq!(got.head.is_some(), is_grpc, "{content_type}");
    }
    println!("S-H2-07: {count} calls, 6 timeouts, 6 content types");
    tokio::task::spawn_blocking(move || drop(edge)).await.unwrap();
}

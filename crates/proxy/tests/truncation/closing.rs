//! Answers that are the last of their connections: the client gets all of them, and is told.

use std::net::SocketAddr;

use envoy_types::pb::{
    envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager,
    google::protobuf::UInt32Value,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use weft_proxy::static_config::StaticResources;

use crate::mesh::{
    LIMIT, Proxy, free_port, millis, read_head, status, try_head,
    xds::{Speak, cluster, direct, http, listener, managed, plain_chain, to, vhost},
};

/// More than a slow client's connection holds.
const LARGE: usize = 3_000_000;

async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                while try_head(&mut stream).await.is_some() {
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
                    let answer = [head.as_bytes(), &vec![b'y'; LARGE]].concat();
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    at
}

async fn edge(change: impl FnOnce(&mut HttpConnectionManager)) -> (SocketAddr, Proxy) {
    let (at, origin) = (free_port(), origin().await);
    let routes = vec![direct("/direct", 200, "hi"), to("/", "app")];
    let web = managed(http("web", vec![vhost("all", &["*"], routes)], None), change);
    let resources = StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("app", &[origin], Speak::Http1, None)],
        ..StaticResources::default()
    };
    (at, Proxy::start("edge", resources))
}

/// RFC 9112 section 9.6: what a client has sent ahead, and nobody reads, is answered with a reset by the kernel, which
/// forgets what is left of the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_answer_arrives_whole_however_much_was_sent_ahead() {
    let (at, _proxy) = edge(|manager| {
        let options = manager.common_http_protocol_options.get_or_insert_default();
        options.max_requests_per_connection = Some(UInt32Value { value: 1 });
    })
    .await;
    for count in [1, 100, 1000] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        let (mut reader, mut writer) = socket.connect(at).await.unwrap().into_split();
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "z".repeat(300));
        let writing = tokio::spawn(async move {
            let _ = writer.write_all(request.repeat(count).as_bytes()).await;
            writer // its end would be ours
        });
        sleep(millis(300)).await;
        let (mut block, mut got) = (vec![0; 16 * 1024], Vec::new());
        loop {
            match timeout(LIMIT, reader.read(&mut block)).await.expect("an end in time") {
                Ok(0) => break,
                Ok(read) => got.extend_from_slice(&block[..read]),
                Err(error) => panic!("{count} sent ahead, {} bytes came, then {error}", got.len()),
            }
            sleep(millis(1)).await;
        }
        let head = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(got.len() - head, LARGE, "{count} sent ahead");
        assert!(
            String::from_utf8_lossy(&got[..head]).contains("Connection: close\r\n"),
            "{count} sent ahead"
        );
        drop(writing);
    }
}

/// The answer to a request's head, which says whether the connection ends.
async fn told(at: SocketAddr, fields: &str) -> (bool, TcpStream) {
    let mut client = TcpStream::connect(at).await.unwrap();
    client.write_all(format!("POST /direct HTTP/1.1\r\nhost: a\r\n{fields}\r\n").as_bytes()).await.unwrap();
    let head = read_head(&mut client).await;
    assert_eq!(status(&head), 200, "{head}");
    client.read_exact(&mut [0; 2]).await.unwrap();
    (head.contains("Connection: close\r\n"), client)
}

/// An answer that does not wait for the request's body, and ends the connection for it, says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_says_that_its_connection_ends() {
    let (at, _proxy) = edge(|_| {}).await;
    for fields in [
        "content-length: 50\r\nexpect: 100-continue\r\n",
        "transfer-encoding: chunked\r\nexpect: 100-continue\r\n",
        "content-length: 1000000\r\n",
    ] {
        let (closes, mut client) = told(at, fields).await;
        assert!(closes, "{fields}");
        let mut rest = Vec::new();
        timeout(LIMIT, client.read_to_end(&mut rest)).await.expect("an end in time").unwrap();
        assert!(rest.is_empty(), "{fields}: {rest:?}");
    }
    // A little is read away, and the connection goes on.
    let (closes, mut client) = told(at, "content-length: 50\r\n").await;
    assert!(!closes);
    let next = format!("{}GET /direct HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(50));
    client.write_all(next.as_bytes()).await.unwrap();
    assert_eq!(status(&read_head(&mut client).await), 200);
}

//! Answers that begin before their requests have ended: each direction goes on, whatever the other one does.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use weft_identity::tls;
use weft_proxy::static_config::StaticResources;

use crate::mesh::{
    Ca, LIMIT, Proxy, free_port, id, millis, read_head, status, usage,
    xds::{Speak, cluster, http, listener, plain_chain, to, vhost},
};

/// More than the kernel holds for anybody.
const MUCH: usize = 16 * 1024 * 1024;

async fn head_of<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
}

fn edge(ca: &Ca, origin: SocketAddr, mtls: Option<(&str, &str)>) -> (SocketAddr, Proxy) {
    let at = free_port();
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "app")])], None);
    let resources = StaticResources {
        identity: Some(ca.identity("edge")),
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("app", &[origin], Speak::Http1, mtls)],
        ..StaticResources::default()
    };
    (at, Proxy::start("edge", resources))
}

/// An origin over TLS that answers at the head, and reads the body once it is told to.
async fn late_reader(ca: &Ca, reads: Arc<Notify>) -> SocketAddr {
    let (svid, bundle) = ca.identity("app");
    let acceptor = TlsAcceptor::from(tls::server_config(&svid, &bundle, &[]).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        head_of(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab").await.unwrap();
        stream.flush().await.unwrap();
        reads.notified().await;
        let (mut block, mut tail) = (vec![0; 64 * 1024], Vec::new());
        while !tail.ends_with(b"\r\n0\r\n\r\n") {
            let count = stream.read(&mut block).await.unwrap();
            assert!(count > 0, "the body ends before its end");
            tail.extend_from_slice(&block[..count]);
            tail.drain(..tail.len().saturating_sub(7));
        }
        stream.write_all(b"cd").await.unwrap();
        stream.flush().await.unwrap();
        std::future::pending::<()>().await;
    });
    at
}

/// The last of a body waits in TLS, since the kernel was full; the answer's head has long been there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tail_of_a_body_leaves_tls_after_the_answers_head() {
    let (ca, reads) = (Ca::new(), Arc::<Notify>::default());
    let origin = late_reader(&ca, Arc::clone(&reads)).await;
    let (at, _proxy) = edge(&ca, origin, Some(("app", &id("app"))));
    let mut client = TcpStream::connect(at).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    assert_eq!(status(&read_head(&mut client).await), 200);
    // So much that the kernel has no room for the last pieces, and TLS has.
    let piece = [b"4000\r\n", &[b'x'; 16 * 1024][..], b"\r\n"].concat();
    let mut sent = 0;
    let has_tail = |sent: usize| usage::queued(origin) + 2 * piece.len() <= sent;
    loop {
        client.write_all(&piece).await.unwrap();
        sent += piece.len();
        sleep(millis(5)).await;
        if has_tail(sent) {
            sleep(millis(200)).await; // it may only be on its way
            if has_tail(sent) {
                break;
            }
        }
        assert!(sent < 4 * MUCH, "the guard: the kernel takes all");
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    sleep(millis(200)).await;
    reads.notify_one();
    let mut answer = [0; 4];
    let got = timeout(LIMIT, client.read_exact(&mut answer)).await;
    assert!(got.is_ok_and(|got| got.is_ok()), "the rest of the answer, which waits for the body");
    assert_eq!(&answer, b"abcd");
}

/// An origin that answers with as much as it reads, both at once.
async fn both_at_once() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        head_of(&mut stream).await;
        let (mut reader, mut writer) = stream.into_split();
        let answering = async {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {MUCH}\r\n\r\n");
            writer.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..MUCH / 65536 {
                writer.write_all(&[b'y'; 65536]).await.unwrap();
            }
        };
        let reading = async {
            let (mut block, mut got) = (vec![0; 64 * 1024], 0);
            while got < MUCH {
                got += reader.read(&mut block).await.unwrap();
            }
        };
        tokio::join!(answering, reading);
    });
    at
}

/// The client reads nothing of its answer before it has sent all of its request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_waits_for_its_client_does_not_stop_the_request() {
    let (ca, origin) = (Ca::new(), both_at_once().await);
    let (at, _proxy) = edge(&ca, origin, None);
    let mut client = TcpStream::connect(at).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {MUCH}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(status(&read_head(&mut client).await), 200);
    sleep(millis(300)).await;
    let sending = async {
        for _ in 0..MUCH / 65536 {
            client.write_all(&[b'x'; 65536]).await.unwrap();
        }
    };
    assert!(timeout(LIMIT, sending).await.is_ok(), "the request goes on");
    let (mut block, mut got) = (vec![0; 64 * 1024], 0);
    while got < MUCH {
        got += match timeout(LIMIT, client.read(&mut block)).await.expect("more of the answer") {
            Ok(count @ 1..) => count,
            ended => panic!("{got} of the answer, and then {ended:?}"),
        };
    }
    assert_eq!(got, MUCH);
}

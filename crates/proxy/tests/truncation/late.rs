//! Answers that are cut by their time, whoever is slow.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use weft_proxy::static_config::StaticResources;

use crate::mesh::{
    LIMIT, Proxy, free_port, millis, status, try_head,
    xds::{Speak, cluster, duration, http, listener, managed, plain_chain, to_with_timeout, vhost},
};

const ALLOWED: Duration = Duration::from_millis(800);

/// An origin that answers without end, or begins and says no more. Of each request it tells when the proxy had enough.
async fn origin(ends: mpsc::UnboundedSender<Duration>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let ends = ends.clone();
            tokio::spawn(async move {
                let Some(head) = try_head(&mut stream).await else { return };
                let began = Instant::now();
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\nabcde")
                    .await
                    .unwrap();
                if head.starts_with("GET /endless") {
                    while stream.write_all(&[b'x'; 64 * 1024]).await.is_ok() {}
                } else {
                    let _ = stream.read(&mut [0; 8]).await;
                }
                let _ = ends.send(began.elapsed());
            });
        }
    });
    at
}

/// The host `timed` limits the answer, `quiet` the time in which nothing moves.
async fn edge() -> (SocketAddr, Proxy, mpsc::UnboundedReceiver<Duration>) {
    let (sender, ends) = mpsc::unbounded_channel();
    let (at, origin) = (free_port(), origin(sender).await);
    let hosts = [("timed", ALLOWED), ("quiet", Duration::ZERO)];
    let hosts = hosts.map(|(name, time)| vhost(name, &[name], vec![to_with_timeout("/", "app", time)]));
    let web = managed(http("web", hosts.into(), None), |manager| {
        manager.stream_idle_timeout = duration(ALLOWED * 2);
    });
    let resources = StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("app", &[origin], Speak::Http1, None)],
        ..StaticResources::default()
    };
    (at, Proxy::start("edge", resources), ends)
}

/// Asks for an answer without end, and reads so much at once, each time after such a pause.
async fn endless(at: SocketAddr, block: usize, pause: Duration) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let mut client = socket.connect(at).await.unwrap();
    client.write_all(b"GET /endless HTTP/1.1\r\nhost: timed\r\n\r\n").await.unwrap();
    let mut block = vec![0; block];
    while let Ok(1..) = client.read(&mut block).await {
        sleep(pause).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answers_time_ends_whether_its_client_is_slow_or_fast() {
    let (at, _proxy, mut ends) = edge().await;
    for (name, block, pause) in
        [("slow", 64 * 1024, millis(50)), ("silent", 1, LIMIT * 2), ("fast", 1024 * 1024, Duration::ZERO)]
    {
        let client = tokio::spawn(endless(at, block, pause));
        let end = timeout(ALLOWED * 8, ends.recv()).await;
        let end = end.unwrap_or_else(|_| panic!("a {name} client is served for ever")).unwrap();
        assert!(end >= ALLOWED / 2 && end < ALLOWED * 4, "a {name} client after {end:?}");
        client.abort();
    }
}

/// An endpoint that does not take the upgrade answers like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declined_upgrade_has_the_times_of_an_answer() {
    let (at, _proxy, mut ends) = edge().await;
    for (host, allowed) in [("timed", ALLOWED), ("quiet", ALLOWED * 2)] {
        let mut client = TcpStream::connect(at).await.unwrap();
        let request = format!(
            "GET /ws HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let end = timeout(allowed * 6, ends.recv()).await;
        let end = end.unwrap_or_else(|_| panic!("{host}: it waits for ever")).unwrap();
        assert!(end >= allowed / 2, "{host}: after {end:?}");
        let mut answer = String::new();
        let _ = timeout(LIMIT, client.read_to_string(&mut answer)).await.expect("an end in time");
        assert_eq!(status(&answer), 200, "{host}: {answer}");
        assert!(answer.ends_with("\r\n\r\nabcde"), "{host}: {answer}");
    }
}

//! Streams of many small messages whose readers are slow: what waits is bounded by windows, and costs no connection.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use http::Request;
use weft_proxy::static_config::StaticResources;

use crate::{
    edge::Edge,
    mesh::{
        LIMIT, free_port,
        xds::{Speak, cluster, http, listener, plain_chain, to, vhost},
    },
};

const STREAMS: usize = 16;
const MESSAGES: usize = 1500;
const MESSAGE_BYTES: usize = 100;
/// Until all windows are full.
const SLOW: Duration = Duration::from_millis(500);

/// The ends are patient; it is the proxy between them that is asked.
const BUDGET: usize = 1 << 30;

async fn client(to: std::net::SocketAddr) -> h2::client::SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(to).await.unwrap();
    let mut client = h2::client::Builder::new();
    let (client, connection) = client.data_frame_budget(BUDGET).handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

/// Each message in a frame of its own.
async fn send(stream: &mut h2::SendStream<Bytes>) -> Result<(), h2::Error> {
    for left in (0..MESSAGES).rev() {
        let mut message = Bytes::from_static(&[b'm'; MESSAGE_BYTES]);
        while !message.is_empty() {
            stream.reserve_capacity(message.len());
            let Some(room) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return Ok(()) };
            let part = message.split_to(room?.min(message.len()));
            stream.send_data(part, left == 0 && message.is_empty())?;
        }
    }
    Ok(())
}

async fn read(mut body: h2::RecvStream) -> Result<usize, h2::Error> {
    tokio::time::sleep(SLOW).await;
    let mut bytes = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        bytes += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(bytes)
}

/// Both directions at once: the origin sends as many as it gets.
async fn origin() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = h2::server::Builder::new();
                let server = server.data_frame_budget(BUDGET).handshake(stream);
                let mut connection = server.await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let mut out = respond.send_response(http::Response::new(()), false).unwrap();
                        let (sent, read) = tokio::join!(send(&mut out), read(request.into_body()));
                        assert!(sent.is_ok() && read.is_ok_and(|bytes| bytes == MESSAGES * MESSAGE_BYTES));
                    });
                }
            });
        }
    });
    at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_messages_to_and_from_slow_readers_all_arrive() {
    let (origin, at) = (origin().await, free_port());
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let _edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("o", &[origin], Speak::Http2, None)],
        ..StaticResources::default()
    });
    let client = client(at).await;
    let calls: Vec<_> = (0..STREAMS)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut client = client.ready().await?;
                let request = Request::post("http://a/").body(()).unwrap();
                let (answer, mut out) = client.send_request(request, false)?;
                let reading = async { read(answer.await?.into_body()).await };
                let (sent, read) = tokio::join!(send(&mut out), reading);
                sent.and(read)
            })
        })
        .collect();
    for call in calls {
        let bytes = tokio::time::timeout(LIMIT, call).await.expect("an end in time").unwrap();
        assert_eq!(bytes.expect("a whole answer"), MESSAGES * MESSAGE_BYTES);
    }
}

/// A request goes on though nobody reads the answer that came before its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_goes_on_while_its_answer_is_not_read() {
    let bound = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (origin, at) = (bound.local_addr().unwrap(), free_port());
    let (whole, arrived) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (stream, _) = bound.accept().await.unwrap();
        let mut connection =
            h2::server::Builder::new().data_frame_budget(BUDGET).handshake(stream).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        tokio::spawn(async move { while let Some(Ok(_)) = connection.accept().await {} });
        let mut out = respond.send_response(http::Response::new(()), false).unwrap();
        let sending = async {
            for _ in 0..10 {
                out.reserve_capacity(1);
                poll_fn(|cx| out.poll_capacity(cx)).await.unwrap().unwrap();
                out.send_data(Bytes::from(vec![b'x'; 100_000]), false).unwrap();
            }
            out.send_data(Bytes::new(), true).unwrap();
        };
        let reading = async { whole.send(read(request.into_body()).await.unwrap()) };
        let _ = tokio::join!(sending, reading);
    });
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let _edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("o", &[origin], Speak::Http2, None)],
        ..StaticResources::default()
    });
    let mut client = client(at).await;
    let request = Request::post("http://a/").body(()).unwrap();
    let (answer, mut out) = client.send_request(request, false).unwrap();
    let body = tokio::time::timeout(LIMIT, answer).await.unwrap().unwrap().into_body();
    tokio::time::sleep(SLOW).await; // its windows are full
    tokio::time::timeout(LIMIT, send(&mut out)).await.expect("room for the request").unwrap();
    assert_eq!(tokio::time::timeout(LIMIT, arrived).await.unwrap().unwrap(), MESSAGES * MESSAGE_BYTES);
    let read = tokio::time::timeout(LIMIT, read(body)).await.expect("the answer in time");
    assert_eq!(read.unwrap(), 1_000_000);
}

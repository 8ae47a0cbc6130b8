//! A gRPC server that answers calls by their path, well and badly.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Request, Response};

use super::client::message;

pub struct Origin {
    pub at: SocketAddr,
    /// Bytes of `/endless` that went out.
    pub sent: Arc<AtomicU64>,
}

impl Origin {
    pub async fn start() -> Origin {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let sent = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let counter = Arc::clone(&counter);
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(answer(request, respond, Arc::clone(&counter)));
                    }
                });
            }
        });
        Origin { at, sent }
    }
}

fn trailers(status: &str) -> HeaderMap {
    HeaderMap::from_iter([
        ("grpc-status".parse().unwrap(), status.parse().unwrap()),
        ("grpc-message".parse().unwrap(), "said%20so".parse().unwrap()),
    ])
}

/// What the request's head says to a gRPC server.
fn seen(request: &Request<RecvStream>) -> String {
    let said = |name: &str| match request.headers().get(name) {
        Some(value) => value.to_str().unwrap().to_owned(),
        None => "-".to_owned(),
    };
    let names = ["content-type", "te", "grpc-accept-encoding", "content-length"];
    names.map(said).join(" ")
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, sent: Arc<AtomicU64>) {
    let path = request.uri().path().to_owned();
    let head =
        Response::builder().header("content-type", "application/grpc").header("x-seen", seen(&request));
    let mut body = request.into_body();
    match path.as_str() {
        "/only" => {
            let head = head.header("grpc-status", "5").header("grpc-message", "none").body(()).unwrap();
            let _ = respond.send_response(head, true);
            return;
        }
        "/nothing" => {
            let _ = respond.send_response(head.body(()).unwrap(), true);
            return;
        }
        "/page" | "/page200" => {
            let status = if path == "/page" { 503 } else { 200 };
            let head =
                Response::builder().status(status).header("content-type", "text/html").body(()).unwrap();
            let Ok(mut stream) = respond.send_response(head, false) else { return };
            let _ = stream.send_data("<p>busy".into(), true);
            return;
        }
        _ => {}
    }
    let hi = Bytes::from(message(0, b"hi"));
    if path == "/unary" {
        return unary(head.body(()).unwrap(), &mut body, respond).await;
    }
    let Ok(mut stream) = respond.send_response(head.body(()).unwrap(), false) else { return };
    match path.as_str() {
        // As it comes, to the end, in pieces that are no messages.
        "/echo" => {
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
                for piece in data.chunks(7) {
                    let _ = stream.send_data(Bytes::copy_from_slice(piece), false);
                }
            }
            if body.is_end_stream() {
                let _ = stream.send_trailers(trailers("0"));
            } else {
                stream.send_reset(h2::Reason::CANCEL);
            }
        }
        "/late" => {
            let _ = stream.send_data([hi.clone(), hi].concat().into(), false);
            let _ = stream.send_trailers(trailers("9"));
        }
        // What only a head may say is for nobody to believe.
        "/sly" => {
            let mut sly = trailers("0");
            sly.insert("content-length", "3".parse().unwrap());
            sly.insert("set-cookie", "a=b".parse().unwrap());
            let _ = stream.send_data(hi, false);
            let _ = stream.send_trailers(sly);
        }
        "/no-status" => {
            let _ = stream.send_data(hi, false);
            let _ = stream.send_trailers(HeaderMap::new());
        }
        "/no-trailers" => {
            let _ = stream.send_data(hi, true);
        }
        "/cut" => {
            let _ = stream.send_data(hi.slice(..6), false);
            let _ = stream.send_trailers(trailers("0"));
        }
        "/cut-without-trailers" => {
            let _ = stream.send_data(hi.slice(..6), true);
        }
        "/forged" => {
            let forged = message(0x80, b"grpc-status: 0\r\n");
            let _ = stream.send_data([&hi[..], &forged].concat().into(), false);
            let _ = stream.send_trailers(trailers("7"));
        }
        "/reset" => {
            let _ = stream.send_data(hi, false);
            tokio::time::sleep(std::time::Duration::from_millis(100)).await; // the data before it is on its way
            stream.send_reset(h2::Reason::INTERNAL_ERROR);
        }
        "/endless" => endless(&mut stream, &sent).await,
        // Each message is answered by its like, at once.
        "/chat" => chat(&mut stream, &mut body).await,
        _ => stream.send_reset(h2::Reason::REFUSED_STREAM),
    }
}

/// Answers nothing before it has heard all.
async fn unary(head: Response<()>, body: &mut RecvStream, mut respond: SendResponse<Bytes>) {
    let mut whole = Vec::new();
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return };
        whole.extend_from_slice(&data);
    }
    let Ok(mut stream) = respond.send_response(head, false) else { return };
    let _ = stream.send_data(whole.into(), false);
    let _ = stream.send_trailers(trailers("0"));
}

async fn chat(stream: &mut SendStream<Bytes>, body: &mut RecvStream) {
    let mut held = BytesMut::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        held.extend_from_slice(&data);
        while held.len() >= 5 {
            let length = u32::from_be_bytes(held[1..5].try_into().unwrap()) as usize;
            if held.len() < 5 + length {
                break;
            }
            let _ = stream.send_data(held.split_to(5 + length).freeze(), false);
        }
    }
    if body.is_end_stream() {
        let _ = stream.send_trailers(trailers("0"));
    }
}

/// 32 MiB in messages of 64 KiB, as fast as it is taken.
async fn endless(stream: &mut SendStream<Bytes>, sent: &AtomicU64) {
    for _ in 0..512 {
        let mut left = Bytes::from(message(0, &vec![b'x'; 64 * 1024 - 5]));
        while !left.is_empty() {
            stream.reserve_capacity(left.len());
            let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
            let now = left.split_to(room.min(left.len()));
            sent.fetch_add(now.len() as u64, Ordering::SeqCst);
            if stream.send_data(now, false).is_err() {
                return;
            }
        }
    }
    let _ = stream.send_trailers(trailers("0"));
}

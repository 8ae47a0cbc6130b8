//! Origins that end in the middle of an answer, at each place, by each end, over each protocol.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::mesh::try_head;

const BODY: &str = "0123456789";

/// How the origin ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    Fin,
    Rst,
    /// HTTP/2 only: of the stream.
    Stream,
}

/// Answers over HTTP/1 as far as the origin gets with them.
pub const CUTS: [(&str, &str); 12] = [
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

fn abort(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// An HTTP/1 origin: `/cut/N/END` breaks off, everything else is answered with its own path. Requests on a connection
/// that broke off are counted.
pub async fn origin_h1(reused: Arc<AtomicU32>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let reused = Arc::clone(&reused);
            tokio::spawn(async move {
                let mut broken = false;
                while let Some(head) = try_head(&mut stream).await {
                    if broken {
                        reused.fetch_add(1, Ordering::SeqCst);
                    }
                    if head.contains("content-length: 4") {
                        let _ = stream.read_exact(&mut [0; 4]).await;
                    }
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let parts: Vec<&str> = path.split('/').collect();
                    if let ["", "cut", cut, end] = parts[..] {
                        let (_, text) = CUTS[cut.parse::<usize>().unwrap()];
                        let _ = stream.write_all(text.as_bytes()).await;
                        // What was written is to arrive before the end does.
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        if end == "Rst" {
                            abort(&stream);
                            return;
                        }
                        let _ = stream.shutdown().await;
                        broken = true;
                        continue;
                    }
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len());
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    at
}

/// The same over HTTP/2. The cuts: no head, a head, one byte, all but one, all but the trailers.
pub const H2_CUTS: usize = 5;

pub async fn origin_h2() -> SocketAddr {
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

//! A client that is as strict as one should be, over both protocols.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Version};
use tokio::net::TcpStream;

use crate::mesh::{LIMIT, send};

/// What a client takes an answer for.
#[derive(Debug, PartialEq)]
pub enum Got {
    Whole(u16, String),
    Broken,
    /// More than the answer.
    TooMuch,
}

/// As strict as a client should be: without all of its frame an answer is none.
pub fn read_h1(bytes: &str) -> Got {
    let Some((head, body)) = bytes.split_once("\r\n\r\n") else { return Got::Broken };
    let Some(status) = head.split(' ').nth(1).and_then(|code| code.parse().ok()) else { return Got::Broken };
    let head = head.to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        let (mut rest, mut whole) = (body, String::new());
        while let Some((size, after)) = rest.split_once("\r\n") {
            let Ok(size) = usize::from_str_radix(size, 16) else { return Got::Broken };
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
        Some(length) if body.len() > length => Got::TooMuch,
        Some(_) => Got::Broken,
        // Ended by the connection's end: always whole for a client.
        None => Got::Whole(status, body.to_owned()),
    }
}

/// What came over HTTP/2, to its end.
pub struct Answer {
    pub head: http::response::Parts,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

/// On a connection of its own. Not by hyper: its client takes a stream that was cancelled, or reset without an error,
/// for one that ended.
pub async fn http2(at: SocketAddr, request: Request<()>, body: &'static str) -> Result<Answer, h2::Error> {
    let exchange = async {
        let (sender, connection) = h2::client::handshake(TcpStream::connect(at).await.unwrap()).await?;
        let driving = tokio::spawn(connection);
        let answer = async {
            let (response, mut send) = sender.ready().await?.send_request(request, body.is_empty())?;
            if !body.is_empty() {
                send.send_data(Bytes::from(body), true)?;
            }
            let (head, mut stream) = response.await?.into_parts();
            let mut body = Vec::new();
            while let Some(data) = stream.data().await {
                body.extend_from_slice(&data?);
            }
            Ok(Answer { head, body, trailers: stream.trailers().await? })
        };
        let answer = answer.await;
        driving.abort();
        answer
    };
    tokio::time::timeout(LIMIT, exchange).await.expect("an end in time")
}

pub async fn ask(at: SocketAddr, version: Version, method: &str, host: &str, path: &str) -> Got {
    let body = if method == "POST" { "body" } else { "" };
    if version == Version::HTTP_11 {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        return read_h1(&send(at, &request).await);
    }
    let mut request = Request::builder().method(method).uri(format!("http://{host}{path}"));
    if !body.is_empty() {
        request = request.header("content-length", body.len());
    }
    let request = request.body(()).unwrap();
    match http2(at, request, body).await {
        Ok(answer) => {
            Got::Whole(answer.head.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned())
        }
        Err(_) => Got::Broken,
    }
}

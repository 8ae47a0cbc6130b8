//! A client of gRPC-Web over HTTP/1.1 and HTTP/2, which reads as a browser does: the whole body, then its frames.

use std::{io::Write as _, net::SocketAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::Request;

use crate::edge::{answers, connect, read_to_end};

pub const BINARY: &str = "application/grpc-web+proto";
pub const TEXT: &str = "application/grpc-web-text+proto";

pub fn message(flags: u8, body: &[u8]) -> Vec<u8> {
    [&[flags][..], &u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http {
    V1,
    V2,
}

#[derive(Debug, Clone)]
pub struct Call {
    pub path: &'static str,
    pub media_type: &'static str,
    pub accept: Option<&'static str>,
    pub body: Vec<u8>,
}

impl Call {
    /// One message, in the form that is asked for and accepted.
    pub fn new(path: &'static str, media_type: &'static str) -> Call {
        let hi = message(0, b"hi");
        let body = if media_type == TEXT { STANDARD.encode(hi).into() } else { hi };
        Call { path, media_type, accept: Some(media_type), body }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// It ended as its protocol says.
    pub whole: bool,
}

impl Call {
    pub async fn make(&self, http: Http, at: SocketAddr) -> Got {
        let work = async {
            match http {
                Http::V1 => {
                    let call = self.clone();
                    tokio::task::spawn_blocking(move || call.over_http1(at)).await.unwrap()
                }
                Http::V2 => self.over_http2(at).await,
            }
        };
        tokio::time::timeout(crate::mesh::LIMIT, work).await.expect("an end in time")
    }

    /// The head and the bytes of a request that ends its connection.
    fn over_http1(&self, at: SocketAddr) -> Got {
        let accept = self.accept.map_or(String::new(), |accept| format!("accept: {accept}\r\n"));
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: {}\r\n{accept}content-length: {}\r\n\r\n",
            self.path,
            self.media_type,
            self.body.len()
        );
        let mut stream = connect(at);
        stream.write_all(&[head.as_bytes(), &self.body].concat()).unwrap();
        let bytes = read_to_end(&mut stream);
        let all = answers(&bytes);
        let [answer] = &all[..] else { panic!("{}: {}", self.path, bytes.escape_ascii()) };
        let headers = answer.head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
        Got {
            status: answer.status,
            headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
            body: answer.body.clone(),
            whole: answer.whole,
        }
    }

    async fn over_http2(&self, at: SocketAddr) -> Got {
        let stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let (response, mut body) = client.send_request(self.head(), false).unwrap();
        body.send_data(self.body.clone().into(), true).unwrap();
        let response = response.await.unwrap();
        let said = response.headers().iter();
        let mut got = Got {
            status: response.status().as_u16(),
            headers: said
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect(),
            body: Vec::new(),
            whole: false,
        };
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            let Ok(data) = data else { return got };
            let _ = body.flow_control().release_capacity(data.len());
            got.body.extend_from_slice(&data);
        }
        // A browser shows nobody any trailers.
        got.whole = matches!(body.trailers().await, Ok(None));
        got
    }

    pub fn head(&self) -> Request<()> {
        let request = Request::post(format!("http://a{}", self.path)).header("content-type", self.media_type);
        match self.accept {
            Some(accept) => request.header("accept", accept),
            None => request,
        }
        .body(())
        .unwrap()
    }
}

impl Got {
    pub fn one(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    fn is_text(&self) -> bool {
        self.one("content-type").is_some_and(|media_type| media_type.contains("grpc-web-text"))
    }

    /// In words: the HTTP status, the messages, the status of gRPC and where it stood, and whether there was an end.
    pub fn told(&self) -> String {
        let mut words = vec![self.status.to_string()];
        let mut body = match self.is_text() {
            true => decode(&self.body),
            false => self.body.clone(),
        };
        if !self.one("content-type").is_some_and(|media_type| media_type.starts_with("application/grpc-web"))
        {
            words.push(format!("{:?}", String::from_utf8_lossy(&body)));
            body.clear();
        }
        let mut rest = &body[..];
        let mut trailers = None;
        while let [flags, l0, l1, l2, l3, after @ ..] = rest {
            let length = u32::from_be_bytes([*l0, *l1, *l2, *l3]) as usize;
            let Some((frame, after)) = after.split_at_checked(length) else { break };
            let frame = String::from_utf8_lossy(frame);
            match flags {
                0x80 => {
                    assert!(trailers.is_none(), "trailers twice: {}", body.escape_ascii());
                    trailers = Some(frame.into_owned());
                }
                _ => {
                    assert!(trailers.is_none(), "a message behind the trailers: {}", body.escape_ascii());
                    words.push(frame.into_owned());
                }
            }
            rest = after;
        }
        if !rest.is_empty() {
            words.push("half a message".to_owned());
        }
        if let Some(status) = self.one("grpc-status") {
            words.push(format!("head {status}"));
        }
        if let Some(trailers) = trailers {
            let lines = trailers.lines().filter_map(|line| line.split_once(':'));
            for name in ["content-length", "set-cookie"] {
                assert!(!trailers.contains(name), "{trailers}");
            }
            let status =
                lines.filter(|(name, _)| *name == "grpc-status").map(|(_, value)| value.trim().to_owned());
            words.push(format!("trailers {}", status.collect::<Vec<_>>().join(",")));
        }
        if !self.whole {
            words.push("cut".to_owned());
        }
        words.join(" ")
    }
}

/// Group by group: padding may stand anywhere. What is no group at the end was cut off.
pub fn decode(text: &[u8]) -> Vec<u8> {
    let groups = text.chunks_exact(4);
    groups.flat_map(|group| STANDARD.decode(group).expect("base64")).collect()
}

/// A call on HTTP/2 that goes on.
pub struct Stream {
    pub send: h2::SendStream<Bytes>,
    pub receive: h2::RecvStream,
}

impl Stream {
    pub async fn open(at: SocketAddr, call: &Call) -> Stream {
        let stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let (response, mut send) = client.send_request(call.head(), false).unwrap();
        send.send_data(call.body.clone().into(), false).unwrap();
        let response = tokio::time::timeout(crate::mesh::LIMIT, response).await.expect("an answer in time");
        Stream { send, receive: response.unwrap().into_body() }
    }

    /// The next piece.
    pub async fn next(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let next =
            tokio::time::timeout(crate::mesh::LIMIT, self.receive.data()).await.expect("a piece in time");
        if let Some(Ok(data)) = &next {
            let _ = self.receive.flow_control().release_capacity(data.len());
        }
        next
    }
}

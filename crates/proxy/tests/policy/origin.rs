//! An origin that reads heads byte for byte and sends each back as its answer's body, and a client that writes
//! whatever bytes it is given. No HTTP library on either side: none may tidy what is being tested.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::mesh::LIMIT;

const HEAD_BYTES_MAX: usize = 128 * 1024;

/// An app that shows what reached it.
pub struct Origin {
    pub address: SocketAddr,
    heads: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

impl Origin {
    pub async fn start() -> Origin {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heads, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counters = (Arc::clone(&heads), Arc::clone(&bytes));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (heads, bytes) = (Arc::clone(&counters.0), Arc::clone(&counters.1));
                tokio::spawn(async move {
                    let _ = answer(stream, &heads, &bytes).await;
                });
            }
        });
        Origin { address, heads, bytes }
    }

    /// Whole request heads so far.
    pub fn heads(&self) -> usize {
        self.heads.load(Ordering::SeqCst)
    }

    /// Bytes so far, whole or not.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }
}

async fn answer(mut stream: TcpStream, heads: &AtomicUsize, bytes: &AtomicUsize) -> std::io::Result<()> {
    let mut held = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = held.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let count = stream.read_buf(&mut held).await?;
            bytes.fetch_add(count, Ordering::SeqCst);
            if count == 0 || held.len() > HEAD_BYTES_MAX {
                return Ok(());
            }
        };
        let head: Vec<u8> = held.drain(..end).collect();
        heads.fetch_add(1, Ordering::SeqCst);
        let mut response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", head.len()).into_bytes();
        response.extend_from_slice(&head);
        stream.write_all(&response).await?;
    }
}

/// Addresses that nothing else takes, not even the client's end of another test's connection: each caller has a
/// `number` of its own.
pub fn addresses(number: u8, count: u16) -> Vec<SocketAddr> {
    let address = weft_testkit::own_loopback(number);
    (10_000..10_000 + count).map(|port| SocketAddr::from((address, port))).collect()
}

/// What came back: status 0 when nothing that looks like HTTP did.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    fn of(bytes: &[u8]) -> Answer {
        let text = String::from_utf8_lossy(bytes);
        let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0);
        let start =
            bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        Answer { status, body: bytes[start..].to_vec() }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The target in the first line of the head that the origin saw.
    pub fn forwarded(&self) -> Option<Vec<u8>> {
        if self.status != 200 {
            return None;
        }
        let line = self.body.split(|byte| *byte == b'\r').next()?;
        let (first, last) =
            (line.iter().position(|byte| *byte == b' ')?, line.iter().rposition(|byte| *byte == b' ')?);
        line.get(first + 1..last).map(<[u8]>::to_vec)
    }
}

/// Writes these bytes on a new connection and reads until the other side closes.
pub async fn exchange(to: SocketAddr, bytes: &[u8]) -> Answer {
    let stream = TcpStream::connect(to).await.unwrap();
    exchange_on(stream, bytes).await
}

/// The same on a stream that is open.
pub async fn exchange_on<T: AsyncRead + AsyncWrite + Unpin>(mut stream: T, bytes: &[u8]) -> Answer {
    let both = async {
        let mut answer = Vec::new();
        if stream.write_all(bytes).await.is_ok() {
            let _ = stream.read_to_end(&mut answer).await;
        }
        Answer::of(&answer)
    };
    tokio::time::timeout(LIMIT, both).await.expect("an answer or an end in time")
}

/// `GET target` with further header lines (each with its line end).
pub fn request(target: &[u8], lines: &[u8]) -> Vec<u8> {
    [b"GET ", target, b" HTTP/1.1\r\n", lines, b"connection: close\r\n\r\n"].concat()
}

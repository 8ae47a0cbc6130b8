//! An origin that says 1xx before it answers, and clients that note what they hear; HTTP/2 is the `h2` crate's, which
//! drops a 1xx that comes between two polls: its connection and its users are on one thread.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::mesh::{status, try_head};

/// What an origin says before it answers 200, and what its client does.
pub struct Say {
    pub hints: Vec<u16>,
    /// Only once the client has heard all of them.
    pub waits: bool,
    pub heard: Semaphore,
    /// Bytes of a field in each.
    pub pad: usize,
    pub every: Duration,
    /// The try that is answered; those before break off after the hints.
    pub tries: u32,
    /// The client has no body.
    pub gets: bool,
    /// The client waits for a 100 before it sends the body.
    pub expects: bool,
}

impl Default for Say {
    fn default() -> Say {
        Say {
            hints: Vec::new(),
            waits: false,
            heard: Semaphore::new(0),
            pad: 0,
            every: Duration::ZERO,
            tries: 1,
            gets: false,
            expects: false,
        }
    }
}

impl Say {
    async fn answer_is_due(&self) {
        if self.waits {
            self.heard.acquire().await.unwrap().forget();
        }
    }

    /// The client has heard so many heads.
    fn on_head(&self, count: usize) {
        if self.waits && count == self.hints.len() {
            self.heard.add_permits(1);
        }
    }

    fn link(&self) -> String {
        format!("</a.css>; rel=preload{}", "x".repeat(self.pad.saturating_sub(10)))
    }
}

/// The heads that a client got, the final one last.
#[derive(Debug, Default)]
pub struct Heads(pub Vec<(u16, BTreeMap<String, String>)>);

impl Heads {
    pub fn statuses(&self) -> Vec<u16> {
        self.0.iter().map(|(status, _)| *status).collect()
    }

    fn push(&mut self, status: u16, fields: BTreeMap<String, String>, say: &Say) {
        self.0.push((status, fields));
        say.on_head(self.0.len());
    }
}

pub struct Origin {
    pub at: SocketAddr,
    pub version: Version,
}

impl Origin {
    pub async fn start(version: Version, say: Arc<Say>) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let tries = Arc::<AtomicU32>::default();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (say, tries) = (Arc::clone(&say), Arc::clone(&tries));
                tokio::spawn(async move {
                    if version == Version::HTTP_2 {
                        serve_h2(stream, say, tries).await;
                    } else {
                        serve_h1(stream, say, tries).await;
                    }
                });
            }
        });
        Origin { at, version }
    }
}

async fn serve_h1(mut stream: TcpStream, say: Arc<Say>, tries: Arc<AtomicU32>) {
    while let Some(head) = try_head(&mut stream).await {
        let number = tries.fetch_add(1, Ordering::SeqCst) + 1;
        let path = head.split(' ').nth(1).unwrap().to_owned();
        for hint in &say.hints {
            let text = format!(
                "HTTP/1.1 {hint} Hint\r\nlink: {}\r\nx-path: {path}\r\nx-try: {number}\r\nconnection: x-hop\r\n\
                 x-hop: 1\r\nkeep-alive: timeout=5\r\n\r\n",
                say.link()
            );
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
            tokio::time::sleep(say.every).await;
        }
        if number < say.tries {
            return;
        }
        say.answer_is_due().await;
        let mut body = [0; 4];
        if !head.starts_with("GET") {
            stream.read_exact(&mut body).await.unwrap();
        }
        let body = String::from_utf8_lossy(&body).trim_matches('\0').to_owned();
        let expect = if head.to_lowercase().contains("expect:") { "x-expect: 1\r\n" } else { "" };
        let text = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-path: {path}\r\nx-try: {number}\r\nx-body: {body}\r\n\
             {expect}\r\nok"
        );
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn serve_h2(stream: TcpStream, say: Arc<Say>, tries: Arc<AtomicU32>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let number = tries.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::spawn(answer_h2(request, respond, Arc::clone(&say), number));
    }
}

async fn answer_h2(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    say: Arc<Say>,
    number: u32,
) {
    let path = request.uri().path().to_owned();
    for hint in &say.hints {
        let hint = Response::builder().status(*hint).header("link", say.link());
        let hint = hint.header("x-path", &path).header("x-try", number).body(()).unwrap();
        if respond.send_informational(hint).is_err() {
            return;
        }
        tokio::time::sleep(say.every).await;
    }
    if number < say.tries {
        // What was said is to be written before.
        tokio::time::sleep(Duration::from_millis(50)).await;
        return respond.send_reset(h2::Reason::INTERNAL_ERROR);
    }
    say.answer_is_due().await;
    let (parts, mut body) = request.into_parts();
    let mut read = Vec::new();
    while let Some(data) = body.data().await {
        read.extend_from_slice(&data.unwrap());
    }
    let mut answer =
        Response::builder().header("content-length", 2).header("x-path", &path).header("x-try", number);
    answer = answer.header("x-body", String::from_utf8(read).unwrap());
    if parts.headers.contains_key("expect") {
        answer = answer.header("x-expect", 1);
    }
    if let Ok(mut out) = respond.send_response(answer.body(()).unwrap(), false) {
        let _ = out.send_data(Bytes::from_static(b"ok"), true);
    }
}

/// Asks on a connection of its own.
pub async fn ask(version: Version, at: SocketAddr, path: &str, say: &Say) -> Heads {
    if version == Version::HTTP_2 {
        ask_h2(h2_client(at).await, path, say).await
    } else {
        H1::connect(at).await.ask(path, "1.1", say).await
    }
}

pub struct H1(TcpStream);

impl H1 {
    pub async fn connect(at: SocketAddr) -> H1 {
        H1(TcpStream::connect(at).await.unwrap())
    }

    pub async fn ask(&mut self, path: &str, version: &str, say: &Say) -> Heads {
        let expect = if say.expects { "expect: 100-continue\r\n" } else { "" };
        let body = if say.expects || say.gets { "" } else { "body" };
        let (method, length) = if say.gets { ("GET", "") } else { ("PUT", "content-length: 4\r\n") };
        let asked = format!("{method} {path} HTTP/{version}\r\nhost: a\r\n{length}{expect}\r\n{body}");
        self.0.write_all(asked.as_bytes()).await.unwrap();
        let mut heads = Heads::default();
        loop {
            let head = try_head(&mut self.0).await.expect("a head");
            let status = status(&head);
            let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
            let fields: BTreeMap<_, _> =
                lines.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
            let length = fields.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            heads.push(status, fields, say);
            if status == 100 && say.expects {
                self.0.write_all(b"body").await.unwrap();
            }
            if status >= 200 {
                self.0.read_exact(&mut vec![0; length]).await.unwrap();
                return heads;
            }
        }
    }
}

pub async fn h2_client(at: SocketAddr) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(TcpStream::connect(at).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

fn fields(headers: &HeaderMap) -> BTreeMap<String, String> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

pub async fn ask_h2(mut client: SendRequest<Bytes>, path: &str, say: &Say) -> Heads {
    let method = if say.gets { Method::GET } else { Method::PUT };
    let mut request = Request::builder().method(method).uri(format!("http://a{path}"));
    if say.expects {
        request = request.header("expect", "100-continue");
    }
    if !say.gets {
        request = request.header("content-length", 4);
    }
    let (mut answer, mut send) = client.send_request(request.body(()).unwrap(), say.gets).unwrap();
    if !say.expects && !say.gets {
        send.send_data(Bytes::from_static(b"body"), true).unwrap();
    }
    let mut heads = Heads::default();
    loop {
        let next = poll_fn(|cx| {
            if let Poll::Ready(Some(hint)) = answer.poll_informational(cx) {
                return Poll::Ready(Ok(hint.unwrap()));
            }
            std::pin::Pin::new(&mut answer).poll(cx).map(Err)
        });
        match next.await {
            Ok(hint) => {
                let hint: Response<()> = hint;
                heads.push(hint.status().as_u16(), fields(hint.headers()), say);
                if hint.status() == StatusCode::CONTINUE && say.expects {
                    send.send_data(Bytes::from_static(b"body"), true).unwrap();
                }
            }
            Err(answered) => {
                let answered = answered.unwrap();
                heads.push(answered.status().as_u16(), fields(answered.headers()), say);
                return heads;
            }
        }
    }
}

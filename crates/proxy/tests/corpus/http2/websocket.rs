//! Upgrades on both versions: HTTP/1.1 in, HTTP/2 between, HTTP/1.1 out, and each alone (RFC 8441).

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest, ext::Protocol};
use http::{Method, Request, Response};
use weft_proxy::static_config::StaticResources;

use super::{client, cluster_with, speaking};
use crate::{
    edge::{Edge, connect, find},
    mesh::{
        LIMIT, free_port,
        xds::{Speak, cluster, http, listener, plain_chain, to, vhost},
    },
    oracle::{Event, Next, Oracle, plain},
    strict::Request as Seen,
};

/// `/echo` switches and says what it hears, others are answered.
fn app(request: &Seen, stream: &mut TcpStream) -> Next {
    if request.target == "/forbidden" {
        let _ = stream.write_all(b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno");
        return Next::Keep;
    }
    let (Some("websocket"), Some(key)) = (request.one("upgrade"), request.one("sec-websocket-key")) else {
        return plain(request, stream);
    };
    let accept = match request.target.as_str() {
        "/echo" => accept(key),
        "/wrong" => "wrong".to_owned(),
        _ => return plain(request, stream),
    };
    let _ = write!(
        stream,
        "HTTP/1.1 101 Up\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    let mut bytes = [0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        let _ = stream.write_all(&bytes[..count]);
    }
    Next::Close
}

fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// Passes bytes on, and counts connections by what they begin with.
struct Wire {
    at: SocketAddr,
    h1: Arc<AtomicU32>,
    h2: Arc<AtomicU32>,
}

impl Wire {
    async fn to(there: SocketAddr) -> Wire {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Wire { at: listener.local_addr().unwrap(), h1: Arc::default(), h2: Arc::default() };
        let (h1, h2) = (Arc::clone(&wire.h1), Arc::clone(&wire.h2));
        tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let (h1, h2) = (Arc::clone(&h1), Arc::clone(&h2));
                tokio::spawn(async move {
                    let mut first = [0; 3];
                    if here.peek(&mut first).await.is_ok_and(|count| count > 0) {
                        if &first == b"PRI" { &h2 } else { &h1 }.fetch_add(1, Ordering::SeqCst);
                        let mut there = tokio::net::TcpStream::connect(there).await.unwrap();
                        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                    }
                });
            }
        });
        wire
    }

    fn counts(&self) -> (u32, u32) {
        (self.h1.load(Ordering::SeqCst), self.h2.load(Ordering::SeqCst))
    }
}

/// Two hops: `outer` sends over HTTP/2 to `inner`, which sends over HTTP/1.1 to the app.
struct Chain {
    app: Oracle,
    outer: SocketAddr,
    inner: SocketAddr,
    wire: Wire,
    _edge: Edge,
}

/// `offers`: the inner one says that it takes extended CONNECTs.
async fn chain(offers: bool) -> Chain {
    let (app, outer, inner) = (Oracle::answering(app), free_port(), free_port());
    let wire = Wire::to(inner).await;
    let manager = |to_cluster: &str, offers: bool| {
        let web = http("web", vec![vhost("all", &["*"], vec![to("/", to_cluster)])], None);
        plain_chain(speaking(web, |http2| http2.allow_connect = offers))
    };
    let hop = cluster("hop", &[wire.at], Speak::Http2, None);
    let edge = Edge::start(StaticResources {
        listeners: vec![
            listener("outer", outer, vec![manager("hop", true)]),
            listener("inner", inner, vec![manager("app", offers)]),
        ],
        clusters: vec![
            cluster_with(&hop, |http2, _| http2.allow_connect = true),
            cluster("app", &[app.address], Speak::Http1, None),
        ],
        ..StaticResources::default()
    });
    Chain { app, outer, inner, wire, _edge: edge }
}

/// An upgrade over HTTP/1.1: the answer's head, lower case, and the stream behind it.
fn upgrade_h1(at: SocketAddr, path: &str, key: &str) -> (String, TcpStream) {
    let mut stream = connect(at);
    let asked = format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    );
    stream.write_all(asked.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    while find(&bytes, b"\r\n\r\n").is_none() {
        let mut one = [0];
        assert_eq!(stream.read(&mut one).unwrap(), 1, "{}", String::from_utf8_lossy(&bytes));
        bytes.push(one[0]);
    }
    (String::from_utf8(bytes).unwrap(), stream)
}

fn echoes_h1(mut stream: TcpStream) {
    let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut writer, all) = (stream.try_clone().unwrap(), sent.clone());
    let writing = std::thread::spawn(move || writer.write_all(&all).unwrap());
    let mut back = vec![0; sent.len()];
    stream.read_exact(&mut back).unwrap();
    writing.join().unwrap();
    assert!(back == sent, "what comes back is what was sent");
}

/// An upgrade over HTTP/2.
async fn upgrade_h2(
    client: &SendRequest<Bytes>,
    path: &str,
    protocol: &'static str,
) -> (Response<RecvStream>, SendStream<Bytes>) {
    let work = async {
        let mut client = client.clone().ready().await.unwrap();
        while !client.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = format!("http://a{path}").parse().unwrap();
        request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
        request.extensions_mut().insert(Protocol::from_static(protocol));
        let (response, stream) = client.send_request(request, false).unwrap();
        (response.await.unwrap(), stream)
    };
    tokio::time::timeout(LIMIT, work).await.expect("an answer in time")
}

async fn echoes_h2(response: Response<RecvStream>, mut stream: SendStream<Bytes>) {
    let mut body = response.into_body();
    let work = async {
        for n in 0..50_u8 {
            stream.send_data(Bytes::from(vec![n; 1000]), false).unwrap();
            let mut got = 0;
            while got < 1000 {
                let data = body.data().await.unwrap().unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                assert!(data.iter().all(|byte| *byte == n));
                got += data.len();
            }
        }
        stream.send_data(Bytes::new(), true).unwrap();
        // Our end is passed on, and the app's comes back, perhaps with a last empty frame.
        while let Some(data) = body.data().await {
            assert_eq!(data.unwrap(), "");
        }
    };
    tokio::time::timeout(LIMIT, work).await.expect("an echo in time");
}

/// HTTP/1.1 in, a shared HTTP/2 connection between, HTTP/1.1 out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_share_the_hop() {
    let chain = chain(true).await;
    let outer = chain.outer;
    let asking = move || {
        let mut open = Vec::new();
        for n in 0..5 {
            let key = STANDARD.encode([n; 16]);
            let (head, stream) = upgrade_h1(outer, "/echo", &key);
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            let head = head.to_ascii_lowercase();
            assert!(head.contains("connection: upgrade") && head.contains("upgrade: websocket"), "{head}");
            let accept = format!("sec-websocket-accept: {}", accept(&key).to_ascii_lowercase());
            assert_eq!(head.matches(&accept).count(), 1, "{head}");
            open.push(stream);
        }
        open.into_iter().for_each(echoes_h1);
    };
    tokio::task::spawn_blocking(asking).await.unwrap();
    assert_eq!(chain.wire.counts(), (0, 1), "all of them on one connection");
    let events = chain.app.take();
    assert!(!events.iter().any(|event| matches!(event, Event::Problem(_))), "{events:?}");
}

/// The other side does not offer it: a connection of HTTP/1.1 for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_not_offered_upgrades_go_as_http1() {
    let chain = chain(false).await;
    let outer = chain.outer;
    let asking = move || {
        for _ in 0..2 {
            let (head, stream) = upgrade_h1(outer, "/echo", &STANDARD.encode([7; 16]));
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            echoes_h1(stream);
        }
    };
    tokio::task::spawn_blocking(asking).await.unwrap();
    assert_eq!(chain.wire.counts(), (2, 1));
}

/// HTTP/2 in: to an app of HTTP/1.1, and through the hop. What a client of HTTP/2 needs no key for, the app gets one for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_http2_upgrade_too() {
    let chain = chain(true).await;
    for at in [chain.inner, chain.outer] {
        let client = client(at).await;
        let (response, stream) = upgrade_h2(&client, "/echo", "websocket").await;
        assert_eq!(response.status(), 200);
        for name in ["sec-websocket-accept", "upgrade", "connection"] {
            assert!(!response.headers().contains_key(name), "{:?}", response.headers());
        }
        echoes_h2(response, stream).await;
        let seen = chain.app.wait_for("/echo");
        let Some(Event::Request(seen)) = seen.last() else { panic!("{seen:?}") };
        assert_eq!((seen.method.as_str(), seen.one("connection")), ("GET", Some("upgrade")), "{seen:?}");
        // What is no upgrade is told as that, and nothing becomes a tunnel by mistake.
        for (path, protocol, status) in [
            ("/plain", "websocket", 502),
            ("/wrong", "websocket", 502),
            ("/forbidden", "websocket", 403),
            ("/echo", "connect-udp", 404), // no route takes such a CONNECT
        ] {
            let (response, _stream) = upgrade_h2(&client, path, protocol).await;
            assert_eq!(response.status(), status, "{path} {protocol}");
        }
    }
    // Plain requests on the same connections go on as they did.
    let mut client = client(chain.inner).await.ready().await.unwrap();
    let request = Request::get("http://a/plain").body(()).unwrap();
    assert_eq!(client.send_request(request, true).unwrap().0.await.unwrap().status(), 200);
}

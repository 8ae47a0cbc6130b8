//! A member's proxy that only keeps its callers busy.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use weft_identity::tls::server_config;

use crate::{
    mesh::{
        Ca, LIMIT, eventually, free_port,
        xds::{listener, plain_chain},
    },
    to_db, tunnelled,
    worker::Member,
};

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ENHANCE_YOUR_CALM: u8 = 11;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// The next frame's kind and payload; `None`: there is none.
async fn next<T: AsyncRead + Unpin>(stream: &mut T) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], payload))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_members_proxy_that_floods_its_caller_is_left() {
    let (ca, at) = (Ca::new(), free_port());
    let (svid, bundle) = ca.identity("db");
    let tls = TlsAcceptor::from(server_config(&svid, &bundle, &["h2"]).unwrap());
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let db = to_db(socket.local_addr().unwrap());
    let fe =
        Member::start(&ca, "fe", vec![listener("vip|1|5432", at, vec![plain_chain(tunnelled())])], vec![db]);
    let (flood, begin) = tokio::sync::oneshot::channel();
    let serving = tokio::spawn(async move {
        let mut stream = tls.accept(socket.accept().await.unwrap().0).await.unwrap();
        stream.read_exact(&mut [0; b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()]).await.unwrap();
        stream.write_all(&[frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, 1, 0, &[])].concat()).await.unwrap();
        while next(&mut stream).await.expect("a CONNECT").0 != HEADERS {}
        stream.write_all(&frame(HEADERS, 4, 1, &[0x88])).await.unwrap(); // 200
        begin.await.unwrap();
        let _ = stream.write_all(&frame(PING, 0, 0, &[0; 8]).repeat(2000)).await;
        let mut told = None;
        while let Some((kind, payload)) = next(&mut stream).await {
            if kind == GOAWAY {
                told = payload.get(7).copied();
            }
        }
        told
    });
    let mut tunnel = timeout(LIMIT, TcpStream::connect(at)).await.unwrap().unwrap();
    let quiet = timeout(Duration::from_millis(300), tunnel.read_u8()).await;
    assert!(quiet.is_err(), "the guard: the tunnel is open: {quiet:?}");
    flood.send(()).unwrap();
    let told = timeout(LIMIT, serving).await.expect("its connection ends").unwrap();
    assert_eq!(told, Some(ENHANCE_YOUR_CALM));
    assert!(timeout(LIMIT, tunnel.read_u8()).await.expect("an end in time").is_err());
    eventually("it is counted", async || fe.counter("weft_upstream_http2_floods").await == 1).await;
}

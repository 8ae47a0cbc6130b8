//! GOAWAY without an error, from each side: what is open comes to its end, what comes later goes elsewhere.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::config::cluster::v3::{CircuitBreakers, Cluster, circuit_breakers::Thresholds},
    google::protobuf::UInt32Value,
};
use http::{Request, Response};
use weft_proxy::static_config::StaticResources;

use super::{client, living, origin::Origin};
use crate::{
    edge::Edge,
    h2::{ACK, Client, DATA, END_STREAM, GET, PING, WINDOW_UPDATE, frame},
    mesh::{
        LIMIT, free_port,
        xds::{Speak, changed, cluster, http, listener, plain_chain, to, vhost, with_access_log},
    },
};

/// Allows one stream, and leaves while its first request is open.
async fn leaving_origin() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut builder = h2::server::Builder::new();
                builder.max_concurrent_streams(1);
                let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
                let (_, mut respond) = connection.accept().await.unwrap().unwrap();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(600)).await;
                    let _ = respond.send_response(Response::new(()), true);
                });
                let _ = tokio::time::timeout(Duration::from_millis(200), connection.accept()).await;
                connection.graceful_shutdown();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let _ = respond.send_response(Response::new(()), true);
                }
            });
        }
    });
    at
}

/// Nor is it a failure of the endpoint's, or a try: whoever waits there, and whoever comes later, has a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_s_connection_that_leaves_gets_no_request() {
    let (origin, at) = (leaving_origin().await, free_port());
    let log = std::env::temp_dir().join(format!("weft-leaving-{:x}.log", fastrand::u64(..)));
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let web = with_access_log(web, &log, "%RESPONSE_CODE% %UPSTREAM_REQUEST_ATTEMPT_COUNT%\n");
    let one = cluster("o", &[origin], Speak::Http2, None);
    let one = changed::<Cluster>(&one, |cluster| {
        let one = Thresholds { max_connections: Some(UInt32Value { value: 1 }), ..Thresholds::default() };
        let thresholds = vec![one];
        cluster.circuit_breakers = Some(CircuitBreakers { thresholds, ..CircuitBreakers::default() });
    });
    let _edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![one],
        ..StaticResources::default()
    });
    let client = client(at).await;
    let mut asked = Vec::new();
    // The first is open when its connection leaves; the second waits for its end there; the third comes later.
    for wait in [100, 300, 0] {
        let mut ready = client.clone().ready().await.unwrap();
        let request = Request::get("http://a/").body(()).unwrap();
        asked.push(ready.send_request(request, true).unwrap().0);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    for answer in asked {
        let answer = tokio::time::timeout(LIMIT, answer).await.expect("an answer in time").unwrap();
        assert_eq!(answer.status(), 200);
    }
    let mut lines = String::new();
    let mut looks = 0;
    while lines.lines().count() < 3 && looks < 100 {
        looks += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
        lines = std::fs::read_to_string(&log).unwrap_or_default();
    }
    assert_eq!(lines, "200 1\n".repeat(3));
    let _ = std::fs::remove_file(log);
}

/// What the client says while it reads must not take the rest from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_answer_of_a_connection_arrives_however_slowly_it_is_read() {
    const BYTES: usize = 2_000_000;
    let (origin, at) = (Origin::start(100).await, free_port());
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let web = living(web, |common| common.max_requests_per_connection = Some(UInt32Value { value: 1 }));
    let _edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("o", &[origin.at], Speak::Http2, None)],
        ..StaticResources::default()
    });
    let reading = tokio::task::spawn_blocking(move || {
        let (mut client, window) = (Client::connect(at, &[(4, 1 << 30)]), 1_u32 << 30);
        client.send(&frame(WINDOW_UPDATE, 0, 0, &window.to_be_bytes()));
        let path = format!("/bytes/{BYTES}");
        client.request(1, &[GET[0], GET[1], GET[2], (b":path", path.as_bytes())], true);
        let (mut got, mut ended) = (0, false);
        while let Some(frame) = client.next(LIMIT) {
            match frame.kind {
                DATA => {
                    got += frame.payload.len();
                    ended |= frame.flags & END_STREAM != 0;
                    std::thread::sleep(Duration::from_millis(10));
                    client.send(&self::frame(WINDOW_UPDATE, 0, 0, &[0, 0, 64, 0]));
                }
                PING if frame.flags & ACK == 0 => {
                    client.send(&self::frame(PING, ACK, 0, &frame.payload));
                }
                _ => {}
            }
        }
        (got, ended)
    });
    assert_eq!(reading.await.unwrap(), (BYTES, true));
}

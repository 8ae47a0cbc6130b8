//! Streams of one connection do not stand in each other's way, and each is a request of its own.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use weft_proxy::static_config::StaticResources;

use super::{client, origin::Origin};
use crate::{
    edge::Edge,
    h2::{Client, End, GET, SETTINGS, frame},
    mesh::{
        LIMIT, free_port,
        xds::{Speak, cluster, duration, http, listener, managed, plain_chain, to, vhost},
    },
};

fn edge(origins: &[&Origin]) -> (std::net::SocketAddr, Edge) {
    let at = free_port();
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let endpoints: Vec<_> = origins.iter().map(|origin| origin.at).collect();
    let edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("o", &endpoints, Speak::Http2, None)],
        ..StaticResources::default()
    });
    (at, edge)
}

/// Status and body's length.
async fn get(client: &SendRequest<Bytes>, path: &str) -> (u16, usize) {
    let work = async {
        let mut client = client.clone().ready().await.unwrap();
        let request = Request::get(format!("http://a{path}")).body(()).unwrap();
        let response = client.send_request(request, true).unwrap().0.await.unwrap();
        let status = response.status().as_u16();
        let (mut body, mut bytes) = (response.into_body(), 0);
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            bytes += data.len();
        }
        (status, bytes)
    };
    tokio::time::timeout(LIMIT, work).await.expect("an answer in time")
}

/// gRPC's way: one connection for all calls, whose requests go to every endpoint all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_one_connection_go_to_all_endpoints() {
    let (a, b, c) = (Origin::start(100).await, Origin::start(100).await, Origin::start(100).await);
    let (at, _edge) = edge(&[&a, &b, &c]);
    let client = client(at).await;
    for _ in 0..300 {
        assert_eq!(get(&client, "/").await, (200, 2));
    }
    let counts = [a.requests(), b.requests(), c.requests()];
    println!("300 calls of one connection: {counts:?}");
    assert_eq!(counts, [100; 3], "round robin");
    assert_eq!([a.connections(), b.connections(), c.connections()], [1; 3]);
}

/// A refused stream was not looked at, so it is asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_streams_are_tried_again() {
    let origin = Origin::start(100).await;
    let (at, _edge) = edge(&[&origin]);
    let client = client(at).await;
    for _ in 0..50 {
        assert_eq!(get(&client, "/refuse-some").await, (200, 2));
    }
    assert_eq!(origin.requests(), 56, "six were refused and came again");
}

/// An origin that allows few streams gets more connections, and no request waits for another's end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_allowed_streams_make_more_connections() {
    let origin = Origin::start(1).await;
    let (at, _edge) = edge(&[&origin]);
    let client = client(at).await;
    assert_eq!(get(&client, "/").await, (200, 2)); // its SETTINGS are known now
    let started = Instant::now();
    let slow: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { get(&client, "/slow").await })
        })
        .collect();
    for one in slow {
        assert_eq!(one.await.unwrap(), (200, 2));
    }
    println!("4 slow requests: {:?}, {} connections", started.elapsed(), origin.connections());
    assert_eq!(origin.connections(), 4);
}

/// A client that opens no window, and lives: its streams end, and what the origin would still send goes with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_reads_ends() {
    let (origin, at) = (Origin::start(100).await, free_port());
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let web = managed(web, |manager| manager.stream_idle_timeout = duration(Duration::from_millis(700)));
    let _edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("o", &[origin.at], Speak::Http2, None)],
        ..StaticResources::default()
    });
    let asking = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(at, &[(4, 0)]);
        let path: (&[u8], &[u8]) = (b":path", b"/bytes/1000000");
        client.request(1, &[GET[0], GET[1], GET[2], path], true);
        let started = Instant::now();
        let end = client.end_of(1);
        println!("{end:?} after {:?}", started.elapsed());
        assert!(matches!(end, End::Cut(200)) && started.elapsed() >= Duration::from_millis(600), "{end:?}");
        // Its connection goes on.
        client.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]));
        client.request(3, &GET, true);
        assert!(matches!(client.end_of(3), End::Status(200, _)));
    });
    asking.await.unwrap();
}

/// Uploads that their endpoint does not read hold their own windows; one connection from client to proxy is for others
/// too, as a hop of the mesh is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_nobody_reads_do_not_stop_others() {
    const HELD: usize = 60;
    let (holding, reading, at) = (Origin::start(100).await, Origin::start(100).await, free_port());
    let web = http("web", vec![vhost("all", &["*"], vec![to("/hold", "h"), to("/", "o")])], None);
    let _edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![
            cluster("h", &[holding.at], Speak::Http2, None),
            cluster("o", &[reading.at], Speak::Http2, None),
        ],
        ..StaticResources::default()
    });
    let client = client(at).await;
    let post = async |path: &str, bytes: usize, ends: bool| {
        let mut ready = client.clone().ready().await.unwrap();
        let request = Request::post(format!("http://a{path}")).body(()).unwrap();
        let (response, mut body) = ready.send_request(request, false).unwrap();
        body.send_data(Bytes::from(vec![b'x'; bytes]), ends).unwrap();
        (response, body)
    };
    let mut held = Vec::new();
    for _ in 0..HELD {
        held.push(post("/hold", 200_000, false).await);
    }
    tokio::time::sleep(Duration::from_millis(200)).await; // until their windows are full
    for _ in 0..10 {
        let (response, _body) = post("/read", 100_000, true).await;
        // Before the held ones have had their time.
        let soon = Duration::from_secs(5);
        let response = tokio::time::timeout(soon, response).await.expect("an answer in time").unwrap();
        assert_eq!(response.status(), 200);
    }
    drop(held);
}

/// Streams whose readers stop hold their own windows, and others on the same connections go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_streams_do_not_stop_others() {
    // What 64 KiB each leave of the megabyte that an upstream connection has.
    const STALLED: usize = 15;
    let origin = Origin::start(100).await;
    let (at, _edge) = edge(&[&origin]);
    let client = client(at).await;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut ready = client.clone().ready().await.unwrap();
        let request = Request::get("http://a/bytes/10000000").body(()).unwrap();
        let response = ready.send_request(request, true).unwrap().0;
        let response = tokio::time::timeout(LIMIT, response).await.unwrap().unwrap();
        stalled.push(response.into_body()); // never read, so no window is given back
    }
    tokio::time::sleep(Duration::from_millis(200)).await; // until their windows are full
    // Of its own, since the stalled streams have used up the first client's window for its connection.
    let other = self::client(at).await;
    let started = Instant::now();
    for _ in 0..200 {
        assert_eq!(get(&other, "/bytes/20000").await, (200, 20_000));
    }
    println!("beside {STALLED} stalled streams: 200 answers of 20 kB in {:?}", started.elapsed());
    assert_eq!(origin.connections(), 1, "they share the upstream's connection with the stalled ones");
    drop(stalled);
}

//! How long connections live: requests, time, and peers that are gone.

use std::time::{Duration, Instant};

use envoy_types::pb::{
    envoy::config::{core::v3::KeepaliveSettings, listener::v3::Filter},
    google::protobuf::UInt32Value,
};
use weft_proxy::static_config::StaticResources;

use super::{cluster_with, living, origin::Origin, speaking};
use crate::{
    edge::{Edge, connect},
    h2::{ACK, Client, DATA, END_STREAM, End, GET, GOAWAY, PING, WINDOW_UPDATE, error_code, frame},
    mesh::{
        LIMIT, free_port,
        xds::{Speak, cluster, duration, http, listener, plain_chain, to, vhost},
    },
    oracle::Oracle,
};

fn requests(max: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value: max })
}

fn edge(change: impl FnOnce(Filter) -> Filter) -> (Oracle, std::net::SocketAddr, Edge) {
    let (oracle, at) = (Oracle::start(), free_port());
    let web = change(http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None));
    let edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("o", &[oracle.address], Speak::Http1, None)],
        ..StaticResources::default()
    });
    (oracle, at, edge)
}

/// Reads until the connection is over: whether a GOAWAY came, and what the error was.
fn last_word(client: &mut Client) -> Option<u32> {
    let mut word = None;
    while let Some(frame) = client.next(LIMIT) {
        match frame.kind {
            GOAWAY => word = Some(error_code(&frame.payload[4..])),
            // Else the last GOAWAY does not come: it waits for streams that were on their way.
            PING if frame.flags & ACK == 0 => {
                client.send(&self::frame(PING, ACK, 0, &frame.payload));
            }
            _ => {}
        }
    }
    word
}

#[test]
fn a_connection_ends_after_its_requests() {
    let (_oracle, at, _edge) =
        edge(|web| living(web, |common| common.max_requests_per_connection = requests(3)));
    let mut client = Client::connect(at, &[]);
    for stream in [1, 3, 5] {
        client.request(stream, &GET, true);
        if stream < 5 {
            assert_eq!(client.end_of(stream), End::Status(200, "GET /".to_owned()));
        }
    }
    assert_eq!(last_word(&mut client), Some(0), "NO_ERROR");
    let mut stream = connect(at);
    let mut ends = 0;
    for n in 0..3 {
        use std::io::{Read, Write};
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..count]).to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{n}: {text}");
        ends += u32::from(text.contains("connection: close"));
    }
    assert_eq!(ends, 1, "only the last one says so");
    assert!(crate::edge::read_to_end(&mut stream).is_empty());
}

#[test]
fn an_old_connection_is_asked_to_leave() {
    let (_oracle, at, _edge) = edge(|web| {
        living(web, |common| {
            common.max_connection_duration = duration(Duration::from_millis(400));
        })
    });
    let started = Instant::now();
    let mut client = Client::connect(at, &[]);
    client.request(1, &GET, false); // stays open
    assert_eq!(last_word_and_end(&mut client), End::Status(200, "GET /".to_owned()));
    println!("GOAWAY, the open stream's end and the connection's after {:?}", started.elapsed());
    assert!(started.elapsed() >= Duration::from_millis(400));
}

/// The first GOAWAY leaves the open stream be: it ends as if nothing were.
fn last_word_and_end(client: &mut Client) -> End {
    while let Some(frame) = client.next(LIMIT) {
        if frame.kind == GOAWAY {
            assert_eq!(error_code(&frame.payload[4..]), 0);
            client.send(&self::frame(DATA, END_STREAM, 1, b"late"));
            let mut end = client.end_of(1);
            while matches!(end, End::GoAway(0)) {
                end = client.end_of(1);
            }
            return end;
        }
    }
    End::Closed
}

#[test]
fn a_silent_client_is_asked_and_then_left() {
    let (_oracle, at, _edge) = edge(|web| {
        speaking(web, |http2| {
            http2.connection_keepalive = Some(KeepaliveSettings {
                interval: duration(Duration::from_millis(200)),
                timeout: duration(Duration::from_millis(300)),
                ..KeepaliveSettings::default()
            });
        })
    });
    for answers in [true, false] {
        let started = Instant::now();
        let mut client = Client::connect(at, &[]);
        let mut pings = 0;
        while pings < 5 {
            let Some(frame) = client.next(LIMIT) else { break };
            if frame.kind == PING && frame.flags & ACK == 0 {
                pings += 1;
                if answers {
                    client.send(&self::frame(PING, ACK, 0, &frame.payload));
                }
            }
        }
        println!("answers {answers}: {pings} PINGs in {:?}", started.elapsed());
        assert_eq!(pings, if answers { 5 } else { 1 });
    }
}

/// Megabytes before the PING, in the kernels' buffers, take it longer than the client may be silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_slowly_is_not_silent() {
    const BYTES: usize = 16_000_000;
    let (origin, at) = (Origin::start(100).await, free_port());
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let web = speaking(web, |http2| {
        http2.connection_keepalive = Some(KeepaliveSettings {
            interval: duration(Duration::from_millis(200)),
            timeout: duration(Duration::from_millis(200)),
            ..KeepaliveSettings::default()
        });
    });
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
        let (mut got, mut pauses, mut pings) = (0, 0, 0);
        while let Some(frame) = client.next(LIMIT) {
            match frame.kind {
                DATA => got += frame.payload.len(),
                PING if frame.flags & ACK == 0 => {
                    pings += 1;
                    client.send(&self::frame(PING, ACK, 0, &frame.payload));
                }
                _ => {}
            }
            if frame.kind == DATA && frame.flags & END_STREAM != 0 {
                break;
            }
            if got / 400_000 > pauses {
                pauses += 1;
                std::thread::sleep(Duration::from_millis(60));
            }
        }
        (got, pings)
    });
    let (got, pings) = reading.await.unwrap();
    println!("{got} bytes, {pings} PINGs");
    assert_eq!(got, BYTES);
}

/// Nor does it answer the PING that follows a GOAWAY, which must not keep its connection.
#[test]
fn a_client_that_never_asks_is_left_after_its_idle_time() {
    let (_oracle, at, _edge) =
        edge(|web| living(web, |common| common.idle_timeout = duration(Duration::from_millis(300))));
    let started = Instant::now();
    let mut client = Client::connect(at, &[]);
    let mut told = false;
    while let Some(frame) = client.next(LIMIT) {
        told |= frame.kind == GOAWAY;
    }
    let took = started.elapsed();
    println!("GOAWAY {told}, the end after {took:?}");
    assert!(told && took >= Duration::from_millis(300) && took < LIMIT, "{took:?}");
}

/// The same towards endpoints, where the pool lets go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_connection_carries_no_more_than_it_may() {
    let (origin, at) = (Origin::start(100).await, free_port());
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let one = cluster("o", &[origin.at], Speak::Http2, None);
    let _edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster_with(&one, |_, common| common.max_requests_per_connection = requests(2))],
        ..StaticResources::default()
    });
    let asking = tokio::task::spawn_blocking(move || {
        for _ in 0..6 {
            let mut client = Client::connect(at, &[]);
            client.request(1, &GET, true);
            assert!(matches!(client.end_of(1), End::Status(200, _)));
        }
    });
    asking.await.unwrap();
    assert_eq!((origin.requests(), origin.connections()), (6, 3));
}

//! Who may call whom and what, by which connection, and until when.

use std::{io, time::Duration};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::config::cluster::v3::{CircuitBreakers, Cluster, circuit_breakers::Thresholds},
    google::protobuf::UInt32Value,
};
use http::{Method, Request, StatusCode, Uri};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use weft_identity::{IdentityMatch, SpiffeId, tls};
use weft_proxy::worker::{Command, Direction};

use crate::{
    Pair, SNI, app, greeting, inbound,
    mesh::{
        LIMIT, eventually, id,
        xds::{changed, http, member_chain, to, vhost},
    },
    raw, read_all, read_line, read_line_or_end, to_app, tunnels,
};

const WEB: &str = "p8080.mesh.internal";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_the_policy_denies_gets_no_byte_and_a_new_deny_cuts() {
    let server = greeting().await;
    let other = id("other");
    let pair = Pair::with(server, vec![tunnels(SNI, &[&other]), raw(SNI)], |cluster| cluster).await;
    let mut stream = pair.connect().await;
    assert!(!matches!(read_all(&mut stream).await, Ok(text) if !text.is_empty()));
    pair.expect(&[("fe", "inbound", "mtls", 0, 1, 1)]).await;

    let fe = id("fe");
    pair.db.set(inbound(pair.inbound, vec![tunnels(SNI, &[&fe]), raw(SNI)]), to_app(server));
    let mut stream = None;
    eventually("the new policy", async || {
        let mut one = pair.connect().await;
        let greeted = matches!(one.read_u8().await, Ok(b'w'));
        stream = Some(one);
        greeted
    })
    .await;
    let mut stream = stream.unwrap();
    assert_eq!(read_line(&mut stream).await, "elcome\n");
    pair.db.set(inbound(pair.inbound, vec![tunnels(SNI, &[&other]), raw(SNI)]), to_app(server));
    let end = timeout(Duration::from_secs(2), stream.read_u8()).await.expect("the cut in time");
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "it is no end of the server's");
    // On the same connection between the proxies.
    let mut stream = pair.connect().await;
    assert!(read_line_or_end(&mut stream).await.is_none(), "a new one is denied too");
    assert_eq!(pair.relay.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_no_tunnels_gets_the_bytes_as_they_are() {
    let pair = Pair::with(greeting().await, vec![raw(SNI)], |cluster| cluster).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = pair.connect().await;
        assert_eq!(read_line(&mut stream).await, "welcome\n");
        streams.push(stream);
    }
    assert_eq!(pair.relay.accepted(), 3, "each has its own connection");
    for stream in &mut streams {
        stream.write_all(b"bye").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(read_all(stream).await.unwrap(), "3 bytes\n");
    }
    pair.expect(&[("fe", "inbound", "mtls", 0, 3, 0)]).await;
    // It learns tunnels while it runs.
    let fe = id("fe");
    pair.db.set(inbound(pair.inbound, vec![tunnels(SNI, &[&fe]), raw(SNI)]), to_app(greeting().await));
    eventually("tunnels", async || {
        let before = pair.relay.accepted();
        for _ in 0..3 {
            assert_eq!(read_line(&mut pair.connect().await).await, "welcome\n");
        }
        pair.relay.accepted() == before
    })
    .await;
}

/// A connection carries one source identity: after a change of it, new tunnels go by another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_carries_two_source_identities() {
    let (fe, second) = (id("fe"), id("second"));
    let server = greeting().await;
    let pair = Pair::with(server, vec![tunnels(SNI, &[&fe, &second]), raw(SNI)], |cluster| cluster).await;
    let mut before = pair.connect().await;
    assert_eq!(read_line(&mut before).await, "welcome\n");
    for generation in [100, 101] {
        pair.fe.become_another(&pair.ca, "second", generation);
        let accepted = pair.relay.accepted();
        for _ in 0..2 {
            let mut after = pair.connect().await;
            assert_eq!(read_line(&mut after).await, "welcome\n");
            after.shutdown().await.unwrap();
            assert_eq!(read_all(&mut after).await.unwrap(), "0 bytes\n");
        }
        assert_eq!(pair.relay.accepted(), accepted + 1, "a new one for each generation, and only one");
    }
    // The older one finishes what it carries.
    before.write_all(b"abc").await.unwrap();
    before.shutdown().await.unwrap();
    assert_eq!(read_all(&mut before).await.unwrap(), "3 bytes\n");
    pair.expect(&[("fe", "inbound", "mtls", 0, 1, 0), ("second", "inbound", "mtls", 0, 4, 0)]).await;
}

/// A member's client that says of itself what it likes.
async fn member_client(pair: &Pair, sni: &str) -> h2::client::SendRequest<Bytes> {
    let (svid, bundle) = pair.ca.identity("fe");
    let expected = IdentityMatch::Exact(vec![SpiffeId::parse(&id("db")).unwrap()]);
    let config = tls::client_config(&svid, &bundle, expected, &["h2"]).unwrap();
    let stream = TcpStream::connect(pair.inbound).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from(sni.to_owned()).unwrap();
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

fn connect(authority: &str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = Uri::builder().authority(authority).build().unwrap();
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_reaches_the_chains_own_port_and_no_other() {
    let secret = app(|mut stream| async move { stream.write_all(b"secret\n").await }).await;
    let fe = id("fe");
    let all = vec![vhost("all", &["*"], vec![to("/", "inbound|5432")])];
    let web = member_chain(WEB, &["h2", "http/1.1"], http("inbound|8080", all, None));
    let chains = vec![tunnels(SNI, &[&fe]), raw(SNI), web];
    let pair = Pair::with(greeting().await, chains, |cluster| cluster).await;
    let mut client = member_client(&pair, SNI).await;
    for authority in [secret.to_string(), "db:5432".to_owned(), "x".to_owned()] {
        let (answer, mut send) = client.send_request(connect(&authority), false).unwrap();
        let answer = timeout(LIMIT, answer).await.unwrap().unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{authority}");
        let mut body = answer.into_body();
        let said = timeout(LIMIT, body.data()).await.unwrap().unwrap().unwrap();
        assert_eq!(&said[..], b"welcome\n", "{authority}");
        send.send_data(Bytes::new(), true).unwrap();
    }
    // Nothing but CONNECT is taken.
    let (answer, _) = client.send_request(Request::get("https://db/").body(()).unwrap(), true).unwrap();
    assert_eq!(timeout(LIMIT, answer).await.unwrap().unwrap().status(), StatusCode::NOT_FOUND);
    // And no port of HTTP takes CONNECT.
    let mut client = member_client(&pair, WEB).await;
    let (answer, _) = client.send_request(connect(&secret.to_string()), false).unwrap();
    let status = timeout(LIMIT, answer).await.unwrap().unwrap().status();
    assert!(status.is_client_error(), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_lets_tunnels_finish_and_takes_no_more() {
    let pair = Pair::start(greeting().await).await;
    let mut open = pair.connect().await;
    assert_eq!(read_line(&mut open).await, "welcome\n");
    pair.db.mailbox.send(Command::Drain(Direction::Inbound));
    // The next one finds another connection, which the closed socket no longer takes, but the first is not cut.
    eventually("the end of new tunnels", async || {
        read_line_or_end(&mut pair.connect().await).await.is_none()
    })
    .await;
    tokio::time::sleep(Duration::from_millis(800)).await; // longer than the silent are waited for
    open.write_all(b"finished").await.unwrap();
    open.shutdown().await.unwrap();
    assert_eq!(read_all(&mut open).await.unwrap(), "8 bytes\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_connections_counts_tunnels() {
    let fe = id("fe");
    let chains = vec![tunnels(SNI, &[&fe]), raw(SNI)];
    let pair = Pair::with(greeting().await, chains, |cluster| {
        changed(&cluster, |cluster: &mut Cluster| {
            let two = Thresholds { max_connections: Some(UInt32Value { value: 2 }), ..Thresholds::default() };
            cluster.circuit_breakers =
                Some(CircuitBreakers { thresholds: vec![two], ..CircuitBreakers::default() });
        })
    })
    .await;
    let (mut one, mut two) = (pair.connect().await, pair.connect().await);
    assert_eq!(
        (read_line(&mut one).await, read_line(&mut two).await),
        ("welcome\n".into(), "welcome\n".into())
    );
    assert_eq!(read_line_or_end(&mut pair.connect().await).await, None, "a third one");
    drop(one);
    eventually("room again", async || read_line_or_end(&mut pair.connect().await).await.is_some()).await;
}

//! Two proxies, outbound and inbound, with mTLS between them, on real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is a failed test, also in the helpers"
)]

mod mesh;

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::{
    App, Ca, LIMIT, Proxy, echo, free_port, get, id, read_head, send,
    xds::{
        self, Speak, allow, cluster, connect_to, direct, http, listener, member_chain, pass_through_chain,
        plain_chain, redirect, tcp, to, to_with_retries, to_with_timeout, vhost,
    },
};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use weft_proxy::static_config::StaticResources;

const WEB: &str = "p8080.mesh.internal";
const GRPC: &str = "p9090.mesh.internal";
const TCP: &str = "p5432.mesh.internal";

/// `fe` calls `be` through both proxies.
struct Pair {
    outbound: SocketAddr,
    inbound: SocketAddr,
    app: App,
    _fe: Proxy,
    be: Proxy,
}

impl Pair {
    async fn start() -> Pair {
        let ca = Ca::new();
        let app = App::start().await;
        let tcp_app = echo().await;
        let (outbound, inbound, dead) = (free_port(), free_port(), free_port());
        let fe_id = id("fe");
        let web = |name: &str| {
            let routes = vec![to("/", "inbound|8080")];
            let policies = vec![
                allow("AccessPolicy/default/fe", &[&fe_id], Some("/open")),
                allow("AccessPolicy/default/fe-ws", &[&fe_id], Some("/ws")),
                allow("AccessPolicy/default/fe-rest", &[&fe_id], Some("/flaky")),
                allow("AccessPolicy/default/fe-slow", &[&fe_id], Some("/slow")),
            ];
            http(name, vec![vhost("all", &["*"], routes)], Some(policies))
        };
        let all = vec![vhost("all", &["*"], vec![to("/", "inbound|9090")])];
        let grpc = http("inbound|9090", all, Some(vec![allow("AccessPolicy/default/fe", &[&fe_id], None)]));
        let be = Proxy::start(
            "be",
            StaticResources {
                listeners: vec![listener(
                    "inbound",
                    inbound,
                    vec![
                        member_chain(WEB, &["h2", "http/1.1"], web("inbound|8080")),
                        member_chain(GRPC, &["h2", "http/1.1"], grpc),
                        member_chain(TCP, &[], tcp("inbound|5432")),
                    ],
                )],
                clusters: vec![
                    cluster("inbound|8080", &[app.address], Speak::Http1, None),
                    cluster("inbound|9090", &[app.address], Speak::Http2, None),
                    cluster("inbound|5432", &[tcp_app], Speak::Tcp, None),
                ],
                identity: Some(ca.identity("be")),
                ..StaticResources::default()
            },
        );
        let be_id = id("be");
        let member = |name: &str, endpoints: &[SocketAddr], who: &str| {
            cluster(name, endpoints, Speak::Http2, Some((WEB, who)))
        };
        let hosts = vec![
            vhost(
                "be",
                &["be", "be:80"],
                vec![
                    redirect("/moved", "elsewhere"),
                    direct("/direct", 418, "teapot"),
                    to_with_retries("/flaky", "outbound|80|be.default"),
                    to_with_timeout("/slow", "outbound|80|be.default", Duration::from_millis(200)),
                    to("/", "outbound|80|be.default"),
                ],
            ),
            vhost("grpc", &["grpc"], vec![to("/", "outbound|9090|grpc.default")]),
            vhost("impostor", &["impostor"], vec![to("/", "outbound|80|impostor.default")]),
            vhost("halfdead", &["halfdead"], vec![to("/", "outbound|80|halfdead.default")]),
            vhost("dead", &["dead"], vec![to("/", "outbound|80|dead.default")]),
            vhost("empty", &["empty"], vec![to("/", "outbound|80|empty.default")]),
            vhost("db", &["db:5432"], vec![connect_to("outbound|5432|db.default")]),
        ];
        let fe = Proxy::start(
            "fe",
            StaticResources {
                listeners: vec![listener(
                    "outbound",
                    outbound,
                    vec![plain_chain(http("outbound", hosts, None))],
                )],
                clusters: vec![
                    member("outbound|80|be.default", &[inbound], &be_id),
                    cluster("outbound|9090|grpc.default", &[inbound], Speak::Http2, Some((GRPC, &be_id))),
                    member("outbound|80|impostor.default", &[inbound], &id("somebody-else")),
                    member("outbound|80|halfdead.default", &[dead, inbound], &be_id),
                    member("outbound|80|dead.default", &[dead], &be_id),
                    member("outbound|80|empty.default", &[], &be_id),
                    cluster("outbound|5432|db.default", &[inbound], Speak::Tcp, Some((TCP, &be_id))),
                ],
                identity: Some(ca.identity("fe")),
                ..StaticResources::default()
            },
        );
        Pair { outbound, inbound, app, _fe: fe, be }
    }
}

#[track_caller]
fn status(answer: &str, expected: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "expected {expected}, got: {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_through_both_proxies() {
    let pair = Pair::start().await;
    let answer = get(pair.outbound, "be", "/open/hello?x=1").await;
    status(&answer, 200);
    assert!(answer.contains("GET /open/hello?x=1\n"), "{answer}");
    assert!(
        answer.contains(&format!("x-forwarded-client-cert: By={};URI={}\n", id("be"), id("fe"))),
        "{answer}"
    );
    assert!(answer.contains("\nhost: be\n"), "{answer}");
    assert!(answer.contains("\nx-request-id: "), "{answer}");
    let (_, seen) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!seen.contains("connection: "), "{answer}");

    // An app that uses HTTP_PROXY sends absolute targets.
    let absolute = "GET http://be:80/open HTTP/1.1\r\nhost: ignored\r\nconnection: close\r\n\r\n";
    let answer = send(pair.outbound, absolute).await;
    status(&answer, 200);
    assert!(answer.contains("GET /open\n"), "{answer}");

    // Bodies go through, and a caller cannot claim to be somebody.
    let post = "POST /open HTTP/1.1\r\nhost: be\r\nconnection: close\r\nx-forwarded-client-cert: URI=me\r\n\
                content-length: 5\r\n\r\nhello";
    let answer = send(pair.outbound, post).await;
    status(&answer, 200);
    assert!(answer.ends_with("hello\r\n0\r\n\r\n") || answer.ends_with("hello"), "{answer}");
    assert!(!answer.contains("URI=me"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_and_answers_of_the_proxy() {
    let pair = Pair::start().await;
    let denied = get(pair.outbound, "be", "/secret").await;
    status(&denied, 403);
    assert!(!denied.contains("AccessPolicy"), "{denied}");
    let id = denied.lines().find_map(|line| line.strip_prefix("x-request-id: "));
    assert!(id.is_some_and(|id| id.trim_end().len() == 36), "{denied}");
    // A path that only looks allowed is judged by what it means.
    status(&get(pair.outbound, "be", "/open/../secret").await, 403);
    status(&get(pair.outbound, "nobody", "/").await, 404);
    status(&get(pair.outbound, "be", "/direct").await, 418);
    let moved = get(pair.outbound, "be", "/moved/x").await;
    status(&moved, 302);
    assert!(moved.contains("location: http://elsewhere/moved/x\r\n"), "{moved}");
    status(&get(pair.outbound, "empty", "/").await, 503);
    status(&get(pair.outbound, "dead", "/").await, 503);
    status(&get(pair.outbound, "be", "/slow").await, 504);
    let two_hosts = "GET / HTTP/1.1\r\nhost: be\r\nhost: other\r\nconnection: close\r\n\r\n";
    status(&send(pair.outbound, two_hosts).await, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_identities_are_refused() {
    let pair = Pair::start().await;
    // The server is `be`, the cluster wants somebody else.
    status(&get(pair.outbound, "impostor", "/open").await, 503);
    // Plaintext to the inbound port: closed without an answer.
    assert_eq!(get(pair.inbound, "be", "/open").await, "");
    let stats = get(pair.be.admin, "admin", "/stats").await;
    assert!(stats.contains("weft_no_filter_chain{listener=inbound}: 1\n"), "{stats}");
    assert!(stats.contains("weft_tls_failures{listener=inbound,reason="), "{stats}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_tries_are_made_again() {
    let pair = Pair::start().await;
    for _ in 0..6 {
        // One of two endpoints is dead: nobody notices.
        status(&get(pair.outbound, "halfdead", "/open").await, 200);
    }
    status(&get(pair.outbound, "be", "/flaky").await, 200);
    assert_eq!(pair.app.flaky.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_go_through() {
    let pair = Pair::start().await;
    let stream = TcpStream::connect(pair.outbound).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .version(Version::HTTP_2)
        .uri("http://grpc/trailers")
        .header("te", "trailers")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let response = tokio::time::timeout(LIMIT, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(collected.to_bytes(), "body");

    // A gRPC caller gets a gRPC status from the proxies too.
    let request = Request::builder()
        .version(Version::HTTP_2)
        .uri("http://nobody/x")
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let response = tokio::time::timeout(LIMIT, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (200, &"12".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websocket_echoes() {
    let pair = Pair::start().await;
    let mut stream = TcpStream::connect(pair.outbound).await.unwrap();
    let request = "GET /ws HTTP/1.1\r\nhost: be\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    status(&head, 101);
    assert!(head.to_lowercase().contains("upgrade: websocket\r\n"), "{head}");
    stream.write_all(b"ping").await.unwrap();
    let mut echoed = [0; 4];
    tokio::time::timeout(LIMIT, stream.read_exact(&mut echoed)).await.unwrap().unwrap();
    assert_eq!(&echoed, b"ping");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_tunnels_tcp() {
    let pair = Pair::start().await;
    let mut stream = TcpStream::connect(pair.outbound).await.unwrap();
    stream.write_all(b"CONNECT db:5432 HTTP/1.1\r\nhost: db:5432\r\n\r\n").await.unwrap();
    status(&read_head(&mut stream).await, 200);
    stream.write_all(b"select 1").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut echoed = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut echoed)).await.unwrap().unwrap();
    assert_eq!(echoed, b"select 1");
    let answer =
        send(pair.outbound, "CONNECT nobody:1 HTTP/1.1\r\nhost: nobody:1\r\nconnection: close\r\n\r\n").await;
    status(&answer, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_passes_through_by_its_name() {
    let app = echo().await;
    let at = free_port();
    let _proxy = Proxy::start(
        "edge",
        StaticResources {
            listeners: vec![listener("vip", at, vec![pass_through_chain("shop.example", "shop")])],
            clusters: vec![cluster("shop", &[app], Speak::Tcp, None)],
            ..StaticResources::default()
        },
    );
    let hello = |name: &str| {
        let config = rustls::ClientConfig::builder_with_provider(weft_identity::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = name.to_owned().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    };
    let known = hello("shop.example");
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(&known).await.unwrap();
    let mut echoed = vec![0; known.len()];
    tokio::time::timeout(LIMIT, stream.read_exact(&mut echoed)).await.unwrap().unwrap();
    assert_eq!(echoed, known);
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(&hello("other.example")).await.unwrap();
    let mut nothing = Vec::new();
    let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut nothing)).await.unwrap();
    assert!(nothing.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taken_port_is_one_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let resources = StaticResources {
        listeners: vec![listener("outbound", at, vec![plain_chain(http("outbound", Vec::new(), None))])],
        ..StaticResources::default()
    };
    let Err(error) = Proxy::try_start("fe", resources) else { panic!("the port is taken") };
    assert!(error.to_string().contains(&format!("port {at} is taken by another process")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_finishes_what_is_open() {
    let at = free_port();
    let app = App::start().await;
    let proxy = Proxy::start(
        "edge",
        StaticResources {
            listeners: vec![listener(
                "web",
                at,
                vec![plain_chain(http("web", vec![vhost("all", &["*"], vec![to("/", "app")])], None))],
            )],
            clusters: vec![xds::cluster("app", &[app.address], Speak::Http1, None)],
            ..StaticResources::default()
        },
    );
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n1").await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let stopping = tokio::task::spawn_blocking(move || proxy.stop());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(TcpStream::connect(at).await.is_err(), "a draining proxy takes no new connections");
    stream.write_all(b"2").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    status(&answer, 200);
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_what_the_caller_is_not_told() {
    let at = free_port();
    let app = App::start().await;
    let log = std::env::temp_dir().join(format!("weft-access-{:x}.log", fastrand::u64(..)));
    let hosts = vec![vhost("all", &["*"], vec![to("/", "app")])];
    let web = http("web", hosts, Some(vec![allow("AccessPolicy/default/nobody", &[&id("nobody")], None)]));
    let format = "%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n";
    let proxy = Proxy::start(
        "edge",
        StaticResources {
            listeners: vec![listener("web", at, vec![plain_chain(xds::with_access_log(web, &log, format))])],
            clusters: vec![cluster("app", &[app.address], Speak::Http1, None)],
            ..StaticResources::default()
        },
    );
    status(&get(at, "a", "/x?secret=1").await, 403);
    proxy.stop();
    let lines = std::fs::read_to_string(&log).unwrap();
    assert_eq!(lines, "GET /x 403 - rbac_access_denied_matched_policy[none]\n");
    std::fs::remove_file(&log).unwrap();
}

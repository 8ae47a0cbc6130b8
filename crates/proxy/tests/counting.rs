//! Each request between members is counted once, by the proxy that knows how it ended, and health checks never are.
//!
//! Two workers without a control plane stand for two members; what they would send is taken from them and added up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

mod mesh;
mod worker;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{CircuitBreakers, Cluster, circuit_breakers::Thresholds, cluster::CommonLbConfig},
            core::v3::{HealthCheck, health_check},
        },
        r#type::v3::Percent,
    },
    google::protobuf::{Any, UInt32Value},
};
use http::Request;
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::{
    App, Ca, LIMIT, echo, free_port, get, id, status,
    xds::{
        Speak, changed, cluster, duration, http, listener, member_chain, plain_chain, tcp, to,
        to_with_retries, to_with_timeout, vhost,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use weft_identity::{IdentityMatch, SpiffeId};
use weft_proxy::{upstream::health, worker::Command};
use weft_telemetry::buckets::{Cell, CellKey};
use worker::Member;

const SNI: &str = "p8080.mesh.internal";

/// What was counted: requests and errors by (caller, service, direction, code).
type Counted = BTreeMap<(String, String, String, u32), (u64, u64)>;

fn add(counted: &mut Counted, key: &CellKey, cell: &Cell) {
    let series = &key.series;
    let name = |text: &str| text.trim_start_matches("default/").to_owned();
    let key = (name(&series.caller), name(&series.service), series.direction.clone(), key.code);
    let sum = counted.entry(key).or_default();
    sum.0 += cell.requests;
    sum.1 += cell.errors;
}

/// Takes what the members counted until it is `expected` and stays so.
#[track_caller]
fn expect_counts(
    members: &[&Member],
    expected: &[(&str, &str, &str, u32, u64, u64)],
) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let expected: Counted = expected
            .iter()
            .map(|(caller, service, direction, code, requests, errors)| {
                let key = ((*caller).to_owned(), (*service).to_owned(), (*direction).to_owned(), *code);
                (key, (*requests, *errors))
            })
            .collect();
        let end = Instant::now() + Duration::from_secs(5);
        let mut counted = Counted::new();
        let mut stable = 0;
        while stable < 4 && Instant::now() < end {
            for member in members {
                member.take(|key, cell| add(&mut counted, key, cell)).await;
            }
            stable = if counted == expected { stable + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert_eq!(counted, expected, "at {place}");
    }
}

fn callee(ca: &Ca, service: &str, app: SocketAddr) -> (SocketAddr, Member) {
    let at = free_port();
    let web = http("inbound|8080", vec![vhost("all", &["*"], vec![to("/", "inbound|8080")])], None);
    let chain = member_chain(SNI, &["h2", "http/1.1"], web);
    let clusters = vec![cluster("inbound|8080", &[app], Speak::Http1, None)];
    (at, Member::start(ca, service, vec![listener("inbound", at, vec![chain])], clusters))
}

fn outbound(service: &str, endpoints: &[SocketAddr], speak: Speak) -> Any {
    cluster(&format!("outbound|80|{service}.default"), endpoints, speak, Some((SNI, &id(service))))
}

/// The rule of `record.rs`, case by case: one row for each request, with the code that somebody got.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_between_members_is_counted_once() {
    let (ca, app) = (Ca::new(), App::start().await);
    let (be_at, be) = callee(&ca, "be", app.address);
    let (dying_at, dying) = callee(&ca, "dying", app.address);
    let full = changed(&outbound("full", &[be_at], Speak::Http2), |cluster: &mut Cluster| {
        let none = Thresholds { max_requests: Some(UInt32Value { value: 0 }), ..Thresholds::default() };
        cluster.circuit_breakers =
            Some(CircuitBreakers { thresholds: vec![none], ..CircuitBreakers::default() });
    });
    // A version of a service by a Service of its own: what was wanted is known, who would have answered is not.
    let version = cluster("outbound|80|be-v2.default", &[], Speak::Http2, Some((SNI, &id("be"))));
    let name = |service: &str| format!("outbound|80|{service}.default");
    let plain = |service: &str| vhost(service, &[service], vec![to("/", &name(service))]);
    let hosts = vec![
        vhost(
            "be",
            &["be"],
            vec![
                to_with_timeout("/slow", &name("be"), Duration::from_millis(300)),
                to_with_retries("/flaky", &name("be")),
                to("/", &name("be")),
            ],
        ),
        plain("gone"),
        plain("full"),
        plain("be-v2"),
        plain("dying"),
    ];
    let clusters = vec![
        outbound("be", &[be_at], Speak::Http2),
        outbound("gone", &[free_port()], Speak::Http2),
        outbound("dying", &[dying_at], Speak::Http2),
        full,
        version,
    ];
    let at = free_port();
    let fe = Member::start(
        &ca,
        "fe",
        vec![listener("outbound", at, vec![plain_chain(http("outbound", hosts, None))])],
        clusters,
    );
    let all = [&fe, &be, &dying];

    // Answered: the callee's word.
    for path in ["/", "/broken"] {
        for _ in 0..3 {
            get(at, "be", path).await;
        }
    }
    expect_counts(&all, &[("fe", "be", "inbound", 200, 3, 0), ("fe", "be", "inbound", 500, 3, 3)]).await;

    // Not sent at all: the caller's.
    for (host, row) in [("gone", "gone"), ("full", "full"), ("be-v2", "be-v2")] {
        assert_eq!(status(&get(at, host, "/").await), 503, "{host}");
        expect_counts(&all, &[("fe", row, "external", 503, 1, 1)]).await;
    }

    // Given up by the caller: the callee saw it, and knows why it ended.
    assert_eq!(status(&get(at, "be", "/slow").await), 504);
    expect_counts(&all, &[("fe", "be", "inbound", 504, 1, 1)]).await;

    // The client left: the callee saw it, and nobody got a code.
    let client = TcpStream::connect(at).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    let driving = tokio::spawn(connection);
    let request = Request::get("http://dying/slow").body(Empty::<Bytes>::new()).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(150), sender.send_request(request)).await.is_err());
    expect_counts(&all, &[("fe", "dying", "inbound", 0, 1, 1)]).await;
    driving.abort();

    // Tries: each is one for the callee, none for the caller.
    assert_eq!(status(&get(at, "be", "/flaky").await), 200);
    expect_counts(&all, &[("fe", "be", "inbound", 503, 2, 2), ("fe", "be", "inbound", 200, 1, 0)]).await;

    // The callee's proxy dies with the request in it, and its count.
    let asking = tokio::spawn(async move { get(at, "dying", "/slow").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    dying.mailbox.send(Command::Stop);
    assert_eq!(status(&asking.await.unwrap()), 503);
    expect_counts(&[&fe, &be], &[("fe", "dying", "external", 503, 1, 1)]).await;
}

/// TCP connections: the callee counts what reached it, the caller what did not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_is_counted_once() {
    let (ca, echo) = (Ca::new(), echo().await);
    let (be_at, at, gone_at) = (free_port(), free_port(), free_port());
    let chain = member_chain(SNI, &[], tcp("inbound|9000"));
    let be = Member::start(
        &ca,
        "be",
        vec![listener("inbound", be_at, vec![chain])],
        vec![cluster("inbound|9000", &[echo], Speak::Tcp, None)],
    );
    let fe = Member::start(
        &ca,
        "fe",
        vec![
            listener("vip|1|9000", at, vec![plain_chain(tcp("outbound|80|be.default"))]),
            listener("vip|2|9000", gone_at, vec![plain_chain(tcp("outbound|80|gone.default"))]),
        ],
        vec![outbound("be", &[be_at], Speak::Tcp), outbound("gone", &[free_port()], Speak::Tcp)],
    );
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    drop(stream);
    expect_counts(&[&fe, &be], &[("fe", "be", "inbound", 0, 1, 0)]).await;
    let mut stream = TcpStream::connect(gone_at).await.unwrap();
    let _ = tokio::time::timeout(LIMIT, stream.read(&mut back)).await.expect("an end in time");
    expect_counts(&[&fe, &be], &[("fe", "gone", "external", 0, 1, 1)]).await;
}

/// An app that notes what it is asked.
async fn noting(heads: Arc<std::sync::Mutex<Vec<String>>>, ill: Arc<AtomicU32>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (heads, ill) = (Arc::clone(&heads), Arc::clone(&ill));
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    head.push(byte);
                }
                heads.lock().unwrap().push(String::from_utf8(head).unwrap());
                let code = if ill.load(Ordering::SeqCst) == 1 { "503 Ill" } else { "200 OK" };
                let answer = format!("HTTP/1.1 {code}\r\ncontent-length: 6\r\nx-said: yes\r\n\r\nsecret");
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    at
}

/// What an app can say to another member's proxy when it goes round its own.
async fn as_member(ca: &Ca, at: SocketAddr, request: &str) -> String {
    let (svid, bundle) = ca.identity("fe");
    let be = IdentityMatch::Exact(vec![SpiffeId::parse(&id("be")).unwrap()]);
    let config = weft_identity::tls::client_config(&svid, &bundle, be, &["http/1.1"]).unwrap();
    let exchange = async {
        let stream = TcpStream::connect(at).await.unwrap();
        let name = SNI.try_into().unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(LIMIT, exchange).await.expect("an answer in time")
}

/// Checks reach the verdict, the app is asked seldom, and nothing of it is traffic. Whoever forges a check can send
/// nothing and read nothing but a status.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_checks_are_no_traffic_and_hide_none() {
    let ca = Ca::new();
    let (heads, ill) = (Arc::default(), Arc::<AtomicU32>::default());
    let app = noting(Arc::clone(&heads), Arc::clone(&ill)).await;
    let (be_at, be) = callee(&ca, "be", app);
    let checked = changed(&outbound("be", &[be_at], Speak::Http2), |cluster: &mut Cluster| {
        cluster.health_checks = vec![HealthCheck {
            timeout: duration(Duration::from_secs(1)),
            interval: duration(Duration::from_millis(100)),
            unhealthy_threshold: Some(UInt32Value { value: 1 }),
            healthy_threshold: Some(UInt32Value { value: 1 }),
            health_checker: Some(health_check::HealthChecker::HttpHealthCheck(
                health_check::HttpHealthCheck {
                    path: "/healthz".to_owned(),
                    codec_client_type: 1,
                    ..Default::default()
                },
            )),
            ..HealthCheck::default()
        }];
        let never = Some(Percent { value: 0.0 });
        cluster.common_lb_config =
            Some(CommonLbConfig { healthy_panic_threshold: never, ..CommonLbConfig::default() });
    });
    let at = free_port();
    let hosts = vec![vhost("be", &["*"], vec![to("/", "outbound|80|be.default")])];
    let fe = Member::start(
        &ca,
        "fe",
        vec![listener("outbound", at, vec![plain_chain(http("outbound", hosts, None))])],
        vec![checked],
    );
    tokio::spawn(health::keep(fe.feed.clone(), fe.identity.clone(), vec![fe.mailbox.clone()]));
    let started = Instant::now();
    while be.counter("weft_health_checks_answered").await < 12 && started.elapsed() < LIMIT {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answered = be.counter("weft_health_checks_answered").await;
    assert!(answered >= 12, "{answered} checks");
    let asked = heads.lock().unwrap().len();
    assert!(
        asked >= 1 && asked * 2 <= answered as usize,
        "the app was asked {asked} times for {answered} checks"
    );
    expect_counts(&[&fe, &be], &[]).await;

    // The same question as traffic is traffic, which is what makes the line above mean something.
    assert_eq!(status(&get(at, "be", "/healthz").await), 200);
    expect_counts(&[&fe, &be], &[("fe", "be", "inbound", 200, 1, 0)]).await;

    // The app's word arrives: nobody is left to call.
    ill.store(1, Ordering::SeqCst);
    let started = Instant::now();
    let mut answer = String::new();
    while !answer.contains("no healthy upstream") && started.elapsed() < LIMIT {
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = get(at, "be", "/x").await;
    }
    let (mut counted, took) = (Counted::new(), started.elapsed());
    fe.take(|key, cell| add(&mut counted, key, cell)).await;
    be.take(|key, cell| add(&mut counted, key, cell)).await;
    assert!(answer.contains("no healthy upstream"), "after {took:?}: {answer}");
    ill.store(0, Ordering::SeqCst);
    while status(&get(at, "be", "/y").await) != 200 && started.elapsed() < LIMIT {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fe.take(|key, cell| add(&mut counted, key, cell)).await;
    be.take(|key, cell| add(&mut counted, key, cell)).await;

    // Forged by an app with its member's certificate: what carries something is counted, what is not counted carries nothing.
    heads.lock().unwrap().clear();
    let forged = |method: &str, path: &str, more: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: be\r\nx-weft-health-check: 1\r\nx-loot: gold\r\nconnection: close\r\n{more}\r\n"
        )
    };
    let mut expected = 0;
    for (request, is_counted) in [
        (forged("POST", "/steal", "content-length: 0\r\n"), true),
        (forged("GET", "/steal?loot=gold", ""), true),
        (forged("GET", "/steal", "content-length: 4\r\n") + "gold", true),
        (forged("GET", "/steal", ""), false),
    ] {
        let answer = as_member(&ca, be_at, &request).await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert_eq!(answer.contains("secret") && answer.contains("x-said"), is_counted, "{answer}");
        expected += u64::from(is_counted);
    }
    let seen = heads.lock().unwrap().clone();
    let quiet: Vec<&String> =
        seen.iter().filter(|head| head.starts_with("GET /steal HTTP") && !head.contains("x-loot")).collect();
    assert_eq!(quiet.len(), 1, "{seen:?}");
    // Many different ones are traffic again.
    for n in 0..20 {
        as_member(&ca, be_at, &forged("GET", &format!("/covert/{n}"), "")).await;
    }
    let mut counted = Counted::new();
    let end = Instant::now() + Duration::from_secs(5);
    let sum = |counted: &Counted| counted.values().map(|sums| sums.0).sum::<u64>();
    while sum(&counted) < expected + 12 && Instant::now() < end {
        be.take(|key, cell| add(&mut counted, key, cell)).await;
        fe.take(|key, cell| add(&mut counted, key, cell)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(sum(&counted) >= expected + 12, "{counted:?}");
}

//! Row S-H2-02: HTTP/2 requests that would become something else as HTTP/1, to an HTTP/1 and to an HTTP/2 origin.

use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use weft_proxy::static_config::StaticResources;

use crate::{
    beside::{Peer, Speak as PeerSpeak, figure},
    edge::Edge,
    h2::{Client, End, GET},
    mesh::{
        free_port,
        xds::{Speak, cluster, http, listener, plain_chain, to, vhost},
    },
    oracle::{Event, Oracle},
};

struct Case {
    name: &'static str,
    fields: Vec<(&'static [u8], &'static [u8])>,
}

/// The four pseudo fields, some replaced (an empty list of values takes the field away), then others.
fn case(
    name: &'static str,
    replaced: &[(&'static [u8], Option<&'static [u8]>)],
    more: &[(&'static [u8], &'static [u8])],
) -> Case {
    let mut fields = Vec::new();
    for (field, value) in GET {
        match replaced.iter().find(|(name, _)| *name == field) {
            Some((_, Some(other))) => fields.push((field, *other)),
            Some((_, None)) => {}
            None => fields.push((field, value)),
        }
    }
    fields.extend_from_slice(more);
    Case { name, fields }
}

/// Those that go on.
const MAY_PASS: &[&str] = &["ok", "host is not authority"];

fn cases() -> Vec<Case> {
    const SMUGGLE: &[u8] = b"/ HTTP/1.1\r\nHost: a\r\n\r\nGET /smug HTTP/1.1\r\nHost: a\r\n\r\n";
    let one = |name, field: &'static [u8], value: &'static [u8]| case(name, &[], &[(field, value)]);
    let pseudo = |name, field: &'static [u8], value: &'static [u8]| case(name, &[(field, Some(value))], &[]);
    let without = |name, field: &'static [u8]| case(name, &[(field, None)], &[]);
    let mut late = case("pseudo field after another", &[(b":path", None)], &[(b"x", b"y"), (b":path", b"/")]);
    late.fields.push((b"z", b"1"));
    vec![
        case("ok", &[], &[(b"x", b"y")]),
        one("CRLF in value", b"x", b"a\r\nsmug: 1"),
        one("LF in value", b"x", b"a\nsmug: 1"),
        one("CR in value", b"x", b"a\rsmug: 1"),
        one("NUL in value", b"x", b"a\0b"),
        one("control in value", b"x", b"a\x01b"),
        one("CRLF in name", b"x\r\nsmug", b"1"),
        one("colon in name", b"x:y", b"1"),
        one("space in name", b"x y", b"1"),
        one("uppercase in name", b"Xy", b"1"),
        one("empty name", b"", b"1"),
        pseudo("path with CRLF and a request", b":path", SMUGGLE),
        pseudo("path with space", b":path", b"/a b"),
        pseudo("path without slash", b":path", b"admin"),
        pseudo("empty path", b":path", b""),
        pseudo("absolute path", b":path", b"http://b/"),
        pseudo("path with fragment", b":path", b"/a#b"),
        pseudo("asterisk on GET", b":path", b"*"),
        pseudo("method with CRLF", b":method", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET"),
        pseudo("method with space", b":method", b"GET /smug"),
        pseudo("scheme with host", b":scheme", b"http://b/?"),
        pseudo("scheme with CRLF", b":scheme", b"http\r\nsmug: 1"),
        pseudo("authority with CRLF", b":authority", b"a\r\nsmug: 1"),
        pseudo("authority with userinfo", b":authority", b"u@a"),
        pseudo("authority with slash", b":authority", b"a/b"),
        pseudo("authority list", b":authority", b"a, b"),
        one("transfer-encoding", b"transfer-encoding", b"chunked"),
        one("connection", b"connection", b"close"),
        one("keep-alive", b"keep-alive", b"timeout=5"),
        one("proxy-connection", b"proxy-connection", b"close"),
        one("upgrade", b"upgrade", b"websocket"),
        one("te: gzip", b"te", b"gzip"),
        one("host is not authority", b"host", b"b"),
        case("two host", &[(b":authority", None)], &[(b"host", b"a"), (b"host", b"b")]),
        without("neither authority nor host", b":authority"),
        one("two paths", b":path", b"/other"),
        late,
        one("unknown pseudo field", b":foo", b"1"),
        one("status in a request", b":status", b"200"),
        without("no method", b":method"),
        without("no scheme", b":scheme"),
        one("content-length 5 and no body", b"content-length", b"5"),
        case("two equal content-length", &[], &[(b"content-length", b"0"), (b"content-length", b"0")]),
        one("content-length +0", b"content-length", b"+0"),
        pseudo("CONNECT with path", b":method", b"CONNECT"),
        one("space before value", b"x", b" a"),
        one("space after value", b"x", b"a "),
    ]
}

/// An HTTP/2 origin that keeps the requests' heads.
fn http2_origin() -> (std::net::SocketAddr, Arc<Mutex<Vec<String>>>) {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let at = socket.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = tokio::net::TcpListener::from_std(socket).unwrap();
            while let Ok((stream, _)) = socket.accept().await {
                let seen = Arc::clone(&seen);
                let service =
                    hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        seen.lock().unwrap().push(format!(
                            "{} {} {:?}",
                            request.method(),
                            request.uri(),
                            request.headers()
                        ));
                        async move {
                            let _ = request.into_body().collect().await;
                            Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(
                                bytes::Bytes::from_static(b"h2"),
                            )))
                        }
                    });
                tokio::spawn(
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
    });
    (at, heads)
}

/// Those that were answered by the origin, of all.
fn forwarded(at: std::net::SocketAddr, cases: &[Case]) -> Vec<&'static str> {
    let mut passed = Vec::new();
    for case in cases {
        let mut client = Client::connect(at, &[]);
        client.request(1, &case.fields, true);
        match client.end_of(1) {
            End::Status(200, _) => passed.push(case.name),
            End::Status(300..=399 | 502..=504, _) => passed.push("(answered in another way)"),
            _ => {}
        }
    }
    passed
}

fn line(cases: usize) -> String {
    format!("{cases} HTTP/2 requests: forwarded / unreadable at the origin")
}

/// S-H2-02 with Envoy and HAProxy in our place, to an HTTP/1 origin.
#[test]
fn downgrades_beside_peers() {
    let cases = cases();
    for peer in [Peer::Envoy, Peer::HaProxy] {
        let (oracle, at) = (Oracle::start(), free_port());
        let Some(_running) = peer.start(PeerSpeak::Http2, &[(at, oracle.address)]) else { return };
        let passed = forwarded(at, &cases);
        let odd: Vec<Event> = oracle
            .take()
            .into_iter()
            .filter(|event| matches!(event, Event::Problem(_) | Event::Ambiguous(_)))
            .collect();
        println!(
            "S-H2-02 {}: {} cases; forwarded {passed:?}; origin could not read {}",
            peer.name(),
            cases.len(),
            odd.len()
        );
        figure(&line(cases.len()), peer.name(), format!("{} / {}", passed.len(), odd.len()));
        assert!(passed.contains(&"ok"), "{peer:?} was not there");
    }
}

/// S-H2-02: what is forwarded is at most what the list allows, and the origin reads it in one way.
#[test]
fn downgrades_smuggle_nothing() {
    let oracle = Oracle::start();
    let (h2, heads) = http2_origin();
    let (first, second) = (free_port(), free_port());
    let road = |name: &str| http(name, vec![vhost("all", &["*"], vec![to("/", name)])], None);
    let _edge = Edge::start(StaticResources {
        listeners: vec![
            listener("one", first, vec![plain_chain(road("one"))]),
            listener("two", second, vec![plain_chain(road("two"))]),
        ],
        clusters: vec![
            cluster("one", &[oracle.address], Speak::Http1, None),
            cluster("two", &[h2], Speak::Http2, None),
        ],
        ..StaticResources::default()
    });
    let cases = cases();
    let mut passed = [Vec::new(), Vec::new()];
    for case in &cases {
        for (number, at) in [first, second].into_iter().enumerate() {
            let mut client = Client::connect(at, &[]);
            client.request(1, &case.fields, true);
            let end = client.end_of(1);
            let refused = matches!(end, End::Reset(_) | End::GoAway(_) | End::Status(400..=499, _));
            if !refused {
                assert!(matches!(end, End::Status(200, _)), "{}: {end:?}", case.name);
                passed[number].push(case.name);
            }
        }
    }
    // A last request ends the list of what came.
    let mut client = Client::connect(first, &[]);
    client.request(1, &[GET[0], GET[1], GET[2], (b":path", b"/last")], true);
    assert_eq!(client.end_of(1), End::Status(200, "GET /last".to_owned()));
    let events = oracle.wait_for("/last");
    println!(
        "S-H2-02: {} cases; forwarded to HTTP/1 {:?}, to HTTP/2 {:?}",
        cases.len(),
        passed[0],
        passed[1]
    );
    let problems = events.iter().filter(|event| matches!(event, Event::Problem(_) | Event::Cut)).count();
    figure(&line(cases.len()), "Weft", format!("{} / {problems}", passed[0].len()));
    assert!(cases.len() >= 46);
    assert_eq!(passed, [MAY_PASS, MAY_PASS]);
    let problems: Vec<_> =
        events.iter().filter(|event| matches!(event, Event::Problem(_) | Event::Cut)).collect();
    assert!(problems.is_empty(), "{problems:?}");
    let requests: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Request(request) => Some(request),
            _ => None,
        })
        .collect();
    assert_eq!(requests.len(), MAY_PASS.len() + 1, "{requests:#?}");
    assert!(
        requests.iter().all(|request| request.one("host") == Some("a")),
        "the authority wins: {requests:#?}"
    );
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), MAY_PASS.len(), "{heads:#?}");
    assert!(
        heads.iter().all(|head| head.starts_with("GET http://a/") && !head.contains("\"host\"")),
        "{heads:#?}"
    );
}

//! Browsers' calls: gRPC-Web in, gRPC behind, beside Envoy's filter of the same name.

mod client;
mod origin;

use std::{collections::HashMap, io::Write as _, sync::atomic::Ordering, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use envoy_types::pb::envoy::{
    config::{
        listener::v3::Filter,
        rbac::v3::{Permission, Policy, Principal, Rbac, permission, principal, rbac::Action},
        route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
    },
    extensions::filters::{
        http::{grpc_web::v3::GrpcWeb, rbac::v3::Rbac as HttpRbac},
        network::http_connection_manager::v3::{HttpFilter, http_filter::ConfigType},
    },
    r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
};
use prost::{Message, Name};
use weft_proxy::static_config::StaticResources;

use self::{
    client::{BINARY, Call, Http, Stream, TEXT, decode, message},
    origin::Origin,
};
use crate::{
    beside::{Origin as Behind, Peer, Speak as PeerSpeak, Way},
    edge::{Edge, connect},
    mesh::{
        LIMIT, free_port,
        xds::{Speak, any, cluster, http, listener, managed, plain_chain, to, vhost, with_access_log},
    },
};

fn filter<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    let config_type = Some(ConfigType::TypedConfig(any(config)));
    HttpFilter { name: name.to_owned(), config_type, ..HttpFilter::default() }
}

/// The same manager with these filters before its router.
fn with(manager: Filter, filters: Vec<HttpFilter>) -> Filter {
    managed(manager, |manager| {
        manager.http_filters.splice(..0, filters);
    })
}

fn web() -> HttpFilter {
    filter("envoy.filters.http.grpc_web", &GrpcWeb::default())
}

/// Paths that lead nowhere, and all others to the origin.
fn manager() -> Filter {
    let routes = vec![to("/nowhere", "nowhere"), to("/", "app")];
    http("web", vec![vhost("all", &["a"], routes)], None)
}

fn edge(at: std::net::SocketAddr, origin: &Origin, manager: Filter) -> Edge {
    Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(manager)])],
        clusters: vec![
            cluster("app", &[origin.at], Speak::Http2, None),
            cluster("nowhere", &[free_port()], Speak::Http2, None),
        ],
        ..StaticResources::default()
    })
}

async fn end(edge: Edge) {
    tokio::task::spawn_blocking(move || drop(edge)).await.unwrap();
}

/// What a server answers, and what a browser reads of it: from Weft, and from Envoy where that differs.
const ANSWERS: &[(&str, &str, Option<&str>)] = &[
    ("/unary", "200 hi trailers 0", None),
    ("/echo", "200 hi trailers 0", None),
    ("/late", "200 hi hi trailers 9", None),
    ("/only", "200 head 5", None),
    ("/page200", "200 \"<p>busy\" head 2", Some("200 head 2")),
    ("/page", "503 \"<p>busy\" head 14", Some("503 head 14")),
    ("/reset", "200 hi cut", None),
    // No answer without a status is whole, and none is given one that it has not.
    ("/nothing", "200 head 13", Some("200")),
    ("/no-status", "200 hi trailers 13", Some("200 hi trailers ")),
    ("/no-trailers", "200 hi trailers 13", Some("200 hi")),
    ("/sly", "200 hi trailers 0", Some("*")),
    ("/forged", "200 hi trailers 13", Some("*")),
    ("/cut", "200 half a message cut", Some("*")),
    ("/cut-without-trailers", "200 half a message cut", Some("*")),
];

/// Bodies that are none. Envoy looks at base64, not at messages.
fn bad_requests() -> Vec<(&'static str, Vec<u8>, bool)> {
    let hi = message(0, b"hi");
    let text = |bytes: &[u8]| STANDARD.encode(bytes).into_bytes();
    vec![
        (TEXT, b"%%%%%%%%".to_vec(), true),
        (TEXT, b"AAAAAAJoaQ".to_vec(), true),
        (TEXT, text(&hi[..6]), false),
        (TEXT, text(&message(0x80, b"grpc-status: 0\r\n")), false),
        (TEXT, [text(&hi), b"AA=A".to_vec()].concat(), true),
        (BINARY, hi[..6].to_vec(), false),
        (BINARY, hi[..3].to_vec(), false),
        (BINARY, b"\0\xff\xff\xff\xffhi".to_vec(), false),
        (BINARY, [&hi[..], &message(0x81, b"")].concat(), false),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_browsers_beside_envoy() {
    let origin = Origin::start().await;
    let (weft, envoy) = (free_port(), free_port());
    let edge = edge(weft, &origin, with(manager(), vec![web()]));
    let behind = Behind { host: "*", at: origin.at, http2: true };
    let way = Way { origins: vec![behind], ..Way::plain(PeerSpeak::Either, envoy, origin.at) };
    let running = tokio::task::spawn_blocking(move || Peer::Envoy.start_limited(&[way], &Default::default()))
        .await
        .unwrap();
    let mut calls = 0;
    for http in [Http::V1, Http::V2] {
        for media_type in [BINARY, TEXT] {
            for (path, ours, theirs) in ANSWERS {
                let call = Call::new(path, media_type);
                let got = call.make(http, weft).await;
                assert_eq!(got.told(), *ours, "Weft: {http:?} {call:?}: {got:?}");
                calls += 1;
                if running.is_none() || *theirs == Some("*") {
                    continue;
                }
                let beside = call.make(http, envoy).await;
                assert_eq!(beside.told(), theirs.unwrap_or(ours), "Envoy: {http:?} {call:?}: {beside:?}");
                if theirs.is_none() && media_type == TEXT && *path != "/only" {
                    // The same text to the last sign, but for how the trailers are written.
                    let messages = STANDARD.encode(message(0, b"hi"));
                    for body in [&got.body, &beside.body] {
                        assert!(body.starts_with(messages.as_bytes()), "{}", body.escape_ascii());
                    }
                }
            }
        }
        for (media_type, body, both) in bad_requests() {
            let call = Call { body, ..Call::new("/unary", media_type) };
            let got = call.make(http, weft).await;
            assert_eq!(got.told(), "400 head 13", "Weft: {http:?} {call:?}: {got:?}");
            calls += 1;
            if both && running.is_some() {
                let beside = call.make(http, envoy).await;
                assert_eq!(beside.told(), "400 head 13", "Envoy: {http:?} {call:?}: {beside:?}");
            }
        }
    }
    println!("gRPC-Web: {calls} calls");
    tokio::task::spawn_blocking(move || drop((edge, running))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_on_as_grpc_and_comes_back_as_was_asked() {
    let origin = Origin::start().await;
    let at = free_port();
    let edge = edge(at, &origin, with(manager(), vec![web()]));
    const GRPC: &str = "application/grpc";
    const WEB: &str = "application/grpc-web";
    const WEB_TEXT: &str = "application/grpc-web-text";
    for http in [Http::V1, Http::V2] {
        for (media_type, accept, upstream, downstream) in [
            (WEB, None, GRPC, WEB),
            (BINARY, Some("*/*"), "application/grpc+proto", WEB),
            ("application/grpc-web+json", Some("application/grpc-web+json"), "application/grpc+json", WEB),
            (WEB_TEXT, None, GRPC, WEB_TEXT),
            (TEXT, Some("*/*"), "application/grpc+proto", WEB_TEXT),
            (TEXT, Some(BINARY), "application/grpc+proto", WEB),
            (BINARY, Some("text/plain, application/grpc-web-text"), "application/grpc+proto", WEB_TEXT),
        ] {
            let form = if media_type.contains("-text") { TEXT } else { BINARY };
            let call = Call { media_type, accept, ..Call::new("/echo", form) };
            let got = call.make(http, at).await;
            assert_eq!(got.told(), "200 hi trailers 0", "{call:?}: {got:?}");
            assert_eq!(got.one("content-type"), Some(downstream), "{call:?}");
            let seen = format!("{upstream} trailers identity -");
            assert_eq!(got.one("x-seen"), Some(&*seen), "{call:?}");
        }
        // The proxy's own words keep their HTTP status, which a browser always shows.
        let got = Call::new("/nowhere", BINARY).make(http, at).await;
        assert_eq!((got.told().as_str(), got.one("content-type")), ("503 head 14", Some(WEB)), "{got:?}");
        // What is not gRPC-Web goes by.
        let got =
            Call { media_type: "application/grpc-webs", ..Call::new("/echo", BINARY) }.make(http, at).await;
        assert!(got.one("x-seen").unwrap().starts_with("application/grpc-webs - -"), "{got:?}");
    }
    end(edge).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_filter_it_is_nobodys_protocol() {
    let origin = Origin::start().await;
    let at = free_port();
    let edge = edge(at, &origin, manager());
    for http in [Http::V1, Http::V2] {
        let got = Call::new("/echo", TEXT).make(http, at).await;
        assert_eq!(
            (got.one("content-type"), got.one("grpc-status")),
            (Some("application/grpc"), None),
            "{got:?}"
        );
        assert!(got.one("x-seen").unwrap().starts_with(TEXT), "{got:?}");
        let got = Call::new("/nowhere", TEXT).make(http, at).await;
        assert_eq!((got.status, got.one("grpc-status")), (503, None), "{got:?}");
    }
    end(edge).await;
}

/// A message is there when its last byte is, in both directions; what is wrong after that is said at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_go_message_by_message() {
    let origin = Origin::start().await;
    let at = free_port();
    let edge = edge(at, &origin, with(manager(), vec![web()]));
    for media_type in [BINARY, TEXT] {
        let form = |bytes: &[u8]| match media_type {
            TEXT => STANDARD.encode(bytes).into_bytes(),
            _ => bytes.to_vec(),
        };
        let read = |bytes: &[u8]| if media_type == TEXT { decode(bytes) } else { bytes.to_vec() };
        for bad in [&b"\x81\0\0\0\0"[..], b""] {
            let mut stream = Stream::open(at, &Call::new("/chat", media_type)).await;
            for length in [2_usize, 3, 4, 5, 40_000] {
                let expected = message(0, &vec![b'z'; length]);
                if length > 2 {
                    // Cut where neither a message nor a group of base64 ends.
                    let sent = form(&expected);
                    let (first, second) = sent.split_at(5);
                    stream.send.send_data(first.to_vec().into(), false).unwrap();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    stream.send.send_data(second.to_vec().into(), false).unwrap();
                }
                let mut got = Vec::new();
                while read(&got).len() < expected.len() {
                    got.extend_from_slice(&stream.next().await.expect("more").unwrap());
                }
                assert_eq!(read(&got).len(), expected.len(), "{media_type}: a message of {length}");
            }
            stream.send.send_data(form(bad).into(), true).unwrap();
            let mut last = Vec::new();
            while let Some(data) = stream.next().await {
                last.extend_from_slice(&data.unwrap());
            }
            let last = read(&last);
            let last = String::from_utf8_lossy(&last);
            let (status, why) = if bad.is_empty() { ("0", "said%20so") } else { ("13", "flags") };
            assert!(last.contains(&format!("grpc-status: {status}\r\n")) && last.contains(why), "{last}");
        }
    }
    end(edge).await;
}

/// A client that stops reading stops the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn back_pressure_reaches_the_server() {
    let origin = Origin::start().await;
    let at = free_port();
    let edge = edge(at, &origin, with(manager(), vec![web()]));
    let sent = std::sync::Arc::clone(&origin.sent);
    let work = tokio::task::spawn_blocking(move || {
        let mut stream = connect(at);
        let head = format!(
            "POST /endless HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: {TEXT}\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let (mut last, mut still) = (0, 0);
        weft_testkit::eventually("the server stands still", LIMIT, || {
            let now = sent.load(Ordering::SeqCst);
            still = if now > 0 && now == last { still + 1 } else { 0 };
            last = now;
            weft_testkit::pause(Duration::from_millis(20));
            (still > 10).then_some(())
        });
        // Kernels hold megabytes of it by themselves.
        assert!(last < 16 << 20, "{last} bytes went out to a client that reads nothing");
        let answer = crate::edge::answers(&crate::edge::read_to_end(&mut stream)).remove(0);
        assert!(answer.whole);
        // Messages of one length, each padded by itself.
        let mut parts: Vec<_> = answer.body.chunks(STANDARD.encode([0; 64 * 1024]).len()).collect();
        let trailers = decode(parts.pop().unwrap());
        assert_eq!(parts.len(), 512);
        for part in parts {
            let message = STANDARD.decode(part).unwrap();
            assert!(message.len() == 64 * 1024 && message.starts_with(&[0, 0, 0, 0xff, 0xfb, b'x']));
        }
        assert!(
            trailers.starts_with(b"\x80") && String::from_utf8_lossy(&trailers).contains("grpc-status: 0")
        );
    });
    work.await.unwrap();
    end(edge).await;
}

/// The log, and with it whoever counts, knows gRPC's status of each call. Of one that goes by it knows the head's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_knows_the_status() {
    let origin = Origin::start().await;
    let log = std::env::temp_dir().join(format!("weft-grpc-web-{:x}.log", fastrand::u64(..)));
    let format =
        "%REQ(:PATH)% %RESPONSE_CODE% %GRPC_STATUS_NUMBER% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n";
    for filters in [vec![web()], Vec::new()] {
        let at = free_port();
        let paths: &[&'static str] = match filters.is_empty() {
            false => &["/late", "/only", "/no-trailers", "/page", "/nowhere"],
            true => &["/only"],
        };
        let edge = edge(at, &origin, with_access_log(with(manager(), filters.clone()), &log, format));
        for path in paths {
            Call::new(path, TEXT).make(Http::V1, at).await;
        }
        if !filters.is_empty() {
            Call { body: b"%%%%".to_vec(), ..Call::new("/unary", TEXT) }.make(Http::V2, at).await;
        }
        end(edge).await;
    }
    let lines = std::fs::read_to_string(&log).unwrap();
    let _ = std::fs::remove_file(&log);
    assert_eq!(
        lines.lines().collect::<Vec<_>>(),
        [
            "/late 200 9 - via_upstream",
            "/only 200 5 - via_upstream",
            "/no-trailers 200 13 UPE grpc_web_no_status",
            "/page 503 14 - via_upstream",
            "/nowhere 503 14 URX upstream_connection_failure",
            "/unary 400 13 DPE grpc_web_bad_base64",
            "/only 200 5 - via_upstream",
        ]
    );
}

/// Denies requests whose content type starts so.
fn deny(media_type: &str) -> HttpFilter {
    let matcher = StringMatcher {
        match_pattern: Some(MatchPattern::Prefix(media_type.to_owned())),
        ..StringMatcher::default()
    };
    let header = HeaderMatcher {
        name: "content-type".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(matcher)),
        ..HeaderMatcher::default()
    };
    let policy = Policy {
        permissions: vec![Permission { rule: Some(permission::Rule::Header(header)) }],
        principals: vec![Principal { identifier: Some(principal::Identifier::Any(true)) }],
        ..Policy::default()
    };
    let policies = HashMap::from([("p".to_owned(), policy)]);
    let rules = Some(Rbac { action: Action::Deny as i32, policies, ..Rbac::default() });
    filter("envoy.filters.http.rbac", &HttpRbac { rules, ..HttpRbac::default() })
}

/// Policies see the request as the filters before them left it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_see_what_their_place_shows() {
    let origin = Origin::start().await;
    for (filters, told) in [
        (vec![deny("application/grpc-web"), web()], "403 head 7"),
        (vec![web(), deny("application/grpc-web")], "200 hi trailers 0"),
        (vec![web(), deny("application/grpc")], "403 head 7"),
        (vec![deny("application/grpc+"), web()], "200 hi trailers 0"),
    ] {
        let at = free_port();
        let edge = edge(at, &origin, with(manager(), filters.clone()));
        let names: Vec<_> = filters.iter().map(|filter| &filter.name).collect();
        assert_eq!(Call::new("/echo", BINARY).make(Http::V2, at).await.told(), told, "{names:?}");
        end(edge).await;
    }
}

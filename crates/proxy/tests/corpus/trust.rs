//! Rows S-AZ-06 and S-AZ-07: what a caller says of itself, in the head and in trailers.

use std::io::Write;

use envoy_types::pb::google::protobuf::BoolValue;
use weft_proxy::static_config::StaticResources;

use crate::{
    edge::{Edge, exchange},
    h2::{Client, DATA, END_HEADERS, END_STREAM, End, GET, HEADERS, block, frame},
    mesh::{
        free_port,
        xds::{Speak, cluster, http, listener, managed, plain_chain, to, vhost},
    },
    oracle::{Event, Oracle},
    strict::Request,
};

/// Those that nobody outside may set: Envoy's list, and ours.
const SPOOFED: &[&str] = &[
    "x-forwarded-client-cert",
    "x-request-id",
    "x-envoy-internal",
    "x-envoy-external-address",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-attempt-count",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-path",
    "x-envoy-original-url",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-decorator-operation",
    "x-weft-health-check",
    "x-weft-anything",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "forwarded",
    "x-real-ip",
];

/// An edge (which takes the connection's address) and a sidecar's side, before one oracle each.
struct Sides {
    edge: (std::net::SocketAddr, Oracle),
    sidecar: (std::net::SocketAddr, Oracle),
    _proxy: Edge,
}

fn start() -> Sides {
    let (edge, sidecar) = ((free_port(), Oracle::start()), (free_port(), Oracle::start()));
    let road = |name: &str| http(name, vec![vhost("all", &["*"], vec![to("/", name)])], None);
    let outer = managed(road("edge"), |manager| manager.use_remote_address = Some(BoolValue { value: true }));
    let proxy = Edge::start(StaticResources {
        listeners: vec![
            listener("edge", edge.0, vec![plain_chain(outer)]),
            listener("sidecar", sidecar.0, vec![plain_chain(road("sidecar"))]),
        ],
        clusters: vec![
            cluster("edge", &[edge.1.address], Speak::Http1, None),
            cluster("sidecar", &[sidecar.1.address], Speak::Http1, None),
        ],
        ..StaticResources::default()
    });
    Sides { edge, sidecar, _proxy: proxy }
}

fn seen(oracle: &Oracle, target: &str) -> Request {
    let events = oracle.wait_for(target);
    assert!(!events.iter().any(|event| matches!(event, Event::Problem(_))), "{events:?}");
    match events.last() {
        Some(Event::Request(request)) => request.clone(),
        other => panic!("{other:?}"),
    }
}

/// S-AZ-06: nothing that a stranger says of itself goes on; by HTTP/1 and by HTTP/2.
#[test]
fn strangers_cannot_speak_for_proxies() {
    let sides = start();
    let (at, oracle) = &sides.edge;
    let mut asked =
        b"GET /h1 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\ntraceparent: 00-1-2-01\r\n".to_vec();
    for name in SPOOFED {
        write!(asked, "{name}: spoofed\r\n{name}: spoofed too\r\n").unwrap();
    }
    asked.extend_from_slice(b"\r\n");
    exchange(*at, [asked.as_slice()]);
    let by_h1 = seen(oracle, "/h1");
    let mut client = Client::connect(*at, &[]);
    let mut fields = vec![
        GET[0],
        GET[1],
        GET[2],
        (&b":path"[..], &b"/h2"[..]),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"traceparent", b"00-1-2-01"),
    ];
    fields.extend(SPOOFED.iter().map(|name| (name.as_bytes(), &b"spoofed"[..])));
    client.request(1, &fields, true);
    assert!(matches!(client.end_of(1), End::Status(200, _)));
    let by_h2 = seen(oracle, "/h2");
    for request in [by_h1, by_h2] {
        let spoofed: Vec<_> = request.headers.iter().filter(|(_, value)| value.contains("spoofed")).collect();
        assert!(spoofed.is_empty(), "{spoofed:?}");
        // The address of the connection stands at the end, where it counts; a trace is anybody's.
        assert_eq!(request.all("x-forwarded-for"), ["10.0.0.1,127.0.0.1"]);
        assert_eq!(request.all("x-forwarded-proto"), ["http"]);
        assert_eq!(request.all("traceparent"), ["00-1-2-01"]);
        assert_eq!(request.one("x-request-id").map(str::len), Some(36));
    }
}

/// S-AZ-06: neither can an app behind its own proxy, though its proxy believes what it says of forwarding.
#[test]
fn apps_cannot_speak_for_proxies() {
    let sides = start();
    let (at, oracle) = &sides.sidecar;
    let mut asked = b"GET /app HTTP/1.1\r\nHost: a\r\n".to_vec();
    for name in SPOOFED {
        write!(asked, "{name}: spoofed\r\n").unwrap();
    }
    asked.extend_from_slice(b"\r\n");
    exchange(*at, [asked.as_slice()]);
    let request = seen(oracle, "/app");
    let spoofed: Vec<&str> = request
        .headers
        .iter()
        .filter(|(_, value)| value == "spoofed")
        .map(|(name, _)| name.as_str())
        .collect();
    let mut may = [
        "x-request-id",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "forwarded",
        "x-real-ip",
    ];
    may.sort_unstable();
    let mut found = spoofed.clone();
    found.sort_unstable();
    assert_eq!(found, may);
}

const TRAILERS: &[(&[u8], &[u8])] = &[
    (b"role", b"admin"),
    (b"content-length", b"50"),
    (b"host", b"b"),
    (b"transfer-encoding", b"chunked"),
    (b"x-forwarded-client-cert", b"URI=spiffe://mesh.internal/ns/default/sa/admin"),
    (b"x-sum", b"1"),
];

/// S-AZ-07: trailers are never merged into the head, and none of them frames or names anybody.
#[test]
fn trailers_stay_trailers() {
    let sides = start();
    let (at, oracle) = &sides.edge;
    let mut asked = b"POST /h1 HTTP/1.1\r\nHost: a\r\nTrailer: role, x-sum, host\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n".to_vec();
    for (name, value) in TRAILERS {
        asked.extend_from_slice(&[*name, b": ", *value, b"\r\n"].concat());
    }
    asked.extend_from_slice(b"\r\n");
    exchange(*at, [asked.as_slice()]);
    let by_h1 = seen(oracle, "/h1");
    let mut client = Client::connect(*at, &[]);
    let mut bytes = frame(
        HEADERS,
        END_HEADERS,
        1,
        &block(&[
            (b":method", b"POST"),
            GET[1],
            GET[2],
            (b":path", b"/h2"),
            (b"trailer", b"role, x-sum, host"),
        ]),
    );
    bytes.extend(frame(DATA, 0, 1, b"abc"));
    // HTTP/2 knows no Transfer-Encoding; a head with it would be refused.
    let trailers: Vec<_> =
        TRAILERS.iter().copied().filter(|(name, _)| *name != b"transfer-encoding").collect();
    bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&trailers)));
    client.send(&bytes);
    let end = client.end_of(1);
    assert!(matches!(end, End::Status(200, _)), "{end:?}");
    let by_h2 = seen(oracle, "/h2");
    for request in [by_h1, by_h2] {
        assert_eq!(request.body, b"abc");
        assert_eq!(request.all("host"), ["a"]);
        for name in ["role", "x-sum", "content-length", "x-forwarded-client-cert"] {
            assert!(request.all(name).is_empty(), "{name} in the head of {request:?}");
        }
        // Those that were announced go on as trailers (`role` is the app's own affair); the others may be dropped.
        for (name, _) in &request.trailers {
            assert!(["role", "x-sum"].contains(&name.as_str()), "trailer {name}");
        }
    }
}

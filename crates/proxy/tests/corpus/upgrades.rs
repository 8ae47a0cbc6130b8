//! Row S-WS-01: requests that want to become something else, and bytes that come before they may.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use weft_proxy::static_config::StaticResources;

use crate::{
    edge::{Edge, answers, connect, exchange, find, read_to_end},
    h2::{Client, End},
    mesh::{
        free_port,
        xds::{Speak, cluster, http, listener, plain_chain, to, vhost},
    },
    oracle::{Event, Next, Oracle, plain},
    strict::Request,
};

const SMUGGLED: &str = "GET /smug HTTP/1.1\r\nHost: a\r\n\r\n";

/// `/accept` switches, if it was asked to; whatever else is answered plainly.
fn behave(request: &Request, stream: &mut TcpStream) -> Next {
    if request.target != "/accept" || request.one("upgrade") != Some("websocket") {
        return plain(request, stream);
    }
    // Nothing may come before the switch.
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let early = stream.peek(&mut [0; 1]).is_ok_and(|count| count > 0);
    stream.set_read_timeout(Some(crate::mesh::LIMIT)).unwrap();
    let _ = write!(
        stream,
        "HTTP/1.1 101 Up\r\nConnection: upgrade\r\nUpgrade: websocket\r\nx-early: {early}\r\n\r\n"
    );
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        let _ = stream.write_all(&bytes[..count]);
    }
    Next::Close
}

fn start() -> (Oracle, SocketAddr, Edge) {
    let (oracle, at) = (Oracle::answering(behave), free_port());
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("o", &[oracle.address], Speak::Http1, None)],
        ..StaticResources::default()
    });
    (oracle, at, edge)
}

/// S-WS-01: an upgrade that is done properly, and bytes sent too early are held until the switch.
#[test]
fn bytes_wait_for_the_switch() {
    let (_oracle, at, _edge) = start();
    let asked = "GET /accept HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut stream = connect(at);
    stream.write_all(format!("{asked}{SMUGGLED}").as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    while find(&bytes, SMUGGLED.as_bytes()).is_none() {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => bytes.extend_from_slice(&buffer[..count]),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.starts_with("HTTP/1.1 101 ") && text.contains("x-early: false"), "{text}");
    assert!(text.ends_with(SMUGGLED), "the bytes come back as they are: {text}");
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(read_to_end(&mut stream).is_empty());
}

/// S-WS-01: what is not an upgrade is a request like others, and what follows it is the next request.
#[test]
fn refused_upgrades_smuggle_nothing() {
    let (oracle, at, _edge) = start();
    let cases: [(&str, &str, &str); 9] = [
        ("declined with 200", "GET /plain HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        (
            "two protocols in a list",
            "GET /accept HTTP/1.1",
            "Connection: Upgrade\r\nUpgrade: websocket, foo\r\n",
        ),
        (
            "two fields",
            "GET /accept HTTP/1.1",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: foo\r\n",
        ),
        ("no Connection", "GET /accept HTTP/1.1", "Upgrade: websocket\r\n"),
        ("another protocol", "GET /accept HTTP/1.1", "Connection: Upgrade\r\nUpgrade: foo\r\n"),
        (
            "h2c",
            "GET /accept HTTP/1.1",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        ),
        (
            "POST",
            "POST /accept HTTP/1.1",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n",
        ),
        ("HTTP/1.0", "GET /accept HTTP/1.0", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        (
            "with a body",
            "GET /accept HTTP/1.1",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n",
        ),
    ];
    for (name, line, fields) in cases {
        let body = if name == "with a body" { "abc" } else { "" };
        let asked = format!("{line}\r\nHost: a\r\n{fields}\r\n{body}{SMUGGLED}");
        let told = answers(&exchange(at, [asked.as_bytes()]));
        let last = format!("/last-{}", name.replace(' ', "-"));
        exchange(at, [format!("GET {last} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()]);
        let events = oracle.wait_for(&last);
        let requests: Vec<&Request> = events
            .iter()
            .filter_map(|event| match event {
                Event::Request(request) if request.target != last => Some(request),
                _ => None,
            })
            .collect();
        let problems = events.iter().any(|event| matches!(event, Event::Problem(_)));
        assert!(!problems, "{name}: {events:?}");
        assert!(told.iter().all(|answer| answer.status != 101), "{name}: {told:?}");
        let smuggled = requests.iter().filter(|request| request.target == "/smug").count();
        let answered = told.iter().filter(|answer| answer.text() == "GET /smug").count();
        assert_eq!(smuggled, answered, "{name}: told {told:?}, seen {requests:?}");
        for request in requests.iter().filter(|request| request.target == "/accept") {
            assert!(
                request.all("upgrade").is_empty() && request.all("http2-settings").is_empty(),
                "{name}: {request:?}"
            );
        }
    }
}

/// S-WS-01: CONNECT with a protocol is refused where the settings do not offer it.
#[test]
fn extended_connect_is_not_spoken_unless_offered() {
    let (oracle, at, _edge) = start();
    let mut client = Client::connect(at, &[]);
    let fields: [(&[u8], &[u8]); 5] = [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"http"),
        (b":path", b"/accept"),
        (b":authority", b"a"),
    ];
    client.request(1, &fields, false);
    let end = client.end_of(1);
    assert!(matches!(end, End::Reset(_) | End::GoAway(_) | End::Status(400..=499, _)), "{end:?}");
    assert!(!oracle.take().iter().any(|event| matches!(event, Event::Request(_))));
}

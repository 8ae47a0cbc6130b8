//! TCP and TLS whose bytes are not ours: PROXY headers in and out, pass-through by SNI, and bulk as it arrives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

mod mesh;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::{CidrRange, ProxyProtocolConfig},
            listener::v3::{
                Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, filter, listener_filter,
            },
            rbac::v3::{Permission, Policy, Principal, Rbac as Rules, permission, principal, rbac::Action},
        },
        extensions::{
            filters::{
                listener::{proxy_protocol::v3::ProxyProtocol, tls_inspector::v3::TlsInspector},
                network::rbac::v3::Rbac as NetworkRbac,
            },
            transport_sockets::{
                proxy_protocol::v3::ProxyProtocolUpstreamTransport, raw_buffer::v3::RawBuffer,
            },
        },
    },
    google::protobuf::{Any, UInt32Value},
};
use mesh::{
    App, LIMIT, Proxy, free_port, get, millis, send,
    xds::{
        Speak, any, changed, cluster, duration, http, listener, pass_through_chain, plain_chain, tcp, to,
        transport_socket, vhost,
    },
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_proxy::static_config::StaticResources;

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

fn start(listeners: Vec<Any>, clusters: Vec<Any>) -> Proxy {
    Proxy::start("edge", StaticResources { listeners, clusters, ..StaticResources::default() })
}

fn filtered(listener: &Any, name: &str, config: Any) -> Any {
    changed(listener, |listener: &mut Listener| {
        listener.listener_filters.push(ListenerFilter {
            name: name.to_owned(),
            config_type: Some(listener_filter::ConfigType::TypedConfig(config.clone())),
            ..ListenerFilter::default()
        });
    })
}

// ---- PROXY headers ----

fn takes_headers(listener: &Any, config: &ProxyProtocol) -> Any {
    filtered(listener, "proxy_protocol", any(config))
}

fn says_header(cluster: &Any, version: i32) -> Any {
    let wrapper = ProxyProtocolUpstreamTransport {
        config: Some(ProxyProtocolConfig { version, ..ProxyProtocolConfig::default() }),
        transport_socket: transport_socket(any(&RawBuffer::default())),
        ..ProxyProtocolUpstreamTransport::default()
    };
    changed(cluster, |cluster: &mut Cluster| cluster.transport_socket = transport_socket(any(&wrapper)))
}

/// Allows these of them only.
fn only(principal: principal::Identifier) -> Filter {
    let policy = Policy {
        permissions: vec![Permission { rule: Some(permission::Rule::Any(true)) }],
        principals: vec![Principal { identifier: Some(principal) }],
        ..Policy::default()
    };
    let rules = Rules {
        action: Action::Allow as i32,
        policies: [("some".to_owned(), policy)].into(),
        ..Rules::default()
    };
    let config = NetworkRbac { rules: Some(rules), stat_prefix: "some".to_owned(), ..NetworkRbac::default() };
    Filter { name: "rbac".to_owned(), config_type: Some(filter::ConfigType::TypedConfig(any(&config))) }
}

fn range(address: &str, length: u32) -> CidrRange {
    CidrRange { address_prefix: address.to_owned(), prefix_len: Some(UInt32Value { value: length }) }
}

/// Says whole what it got up to the client's end, behind `got `.
async fn parrot() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut got = b"got ".to_vec();
                let _ = stream.read_to_end(&mut got).await;
                let _ = stream.write_all(&got).await;
            });
        }
    });
    address
}

/// Sends these pieces, each by itself, and the end; what came back, and from which address it was asked.
async fn ask(at: SocketAddr, pieces: &[&[u8]]) -> (Vec<u8>, SocketAddr) {
    ask_from([127, 0, 0, 1], at, pieces).await
}

/// The same, from an address of this machine.
async fn ask_from(from: [u8; 4], at: SocketAddr, pieces: &[&[u8]]) -> (Vec<u8>, SocketAddr) {
    within("an answer", async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut stream = socket.connect(at).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let from = stream.local_addr().unwrap();
        let mut answer = Vec::new();
        for piece in pieces {
            if stream.write_all(piece).await.is_err() {
                break; // refused already
            }
            tokio::task::yield_now().await;
        }
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut answer).await;
        (answer, from)
    })
    .await
}

#[expect(deprecated, reason = "Envoy has no other name for a source that honours the PROXY header alone")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_says_who_the_caller_is_and_is_passed_on() {
    let app = parrot().await;
    let [by_source, by_direct, optional] = [free_port(), free_port(), free_port()];
    let chain = |rule, cluster: &str| FilterChain {
        filters: vec![only(rule), tcp(cluster)],
        ..FilterChain::default()
    };
    let source = principal::Identifier::SourceIp(range("192.0.2.0", 24));
    let direct = principal::Identifier::DirectRemoteIp(range("127.0.0.0", 8));
    let required = ProxyProtocol::default();
    let either = ProxyProtocol { allow_requests_without_proxy_protocol: true, ..ProxyProtocol::default() };
    let plain = cluster("plain", &[app], Speak::Tcp, None);
    let proxy = start(
        vec![
            takes_headers(&listener("source", by_source, vec![chain(source, "plain")]), &required),
            takes_headers(&listener("direct", by_direct, vec![chain(direct, "one")]), &required),
            takes_headers(&listener("optional", optional, vec![plain_chain(tcp("two"))]), &either),
        ],
        vec![
            plain.clone(),
            says_header(&cluster("one", &[app], Speak::Tcp, None), 0),
            says_header(&cluster("two", &[app], Speak::Tcp, None), 1),
        ],
    );
    let header = b"PROXY TCP4 192.0.2.7 203.0.113.9 4711 443\r\n";
    // The policy asks who called, not which balancer stands between.
    assert_eq!(ask(by_source, &[header, b"hello"]).await.0, b"got hello");
    let split: Vec<&[u8]> = header.chunks(1).chain([&b"hello"[..]]).collect();
    assert_eq!(ask(by_source, &split).await.0, b"got hello");
    assert_eq!(ask(by_source, &[b"PROXY TCP4 198.51.100.1 203.0.113.9 1 443\r\n", b"hello"]).await.0, b"");
    // A balancer that speaks for itself is itself.
    assert_eq!(ask(by_source, &[b"PROXY UNKNOWN\r\nhello"]).await.0, b"");
    assert_eq!(ask(by_source, &[b"hello, no header"]).await.0, b"");
    assert_eq!(ask(by_source, &[b"PROXY TCP4 nonsense\r\nhello"]).await.0, b"");
    let stats = get(proxy.admin, "admin", "/stats/prometheus").await;
    for reason in ["absent", "malformed"] {
        let line = format!("weft_proxy_headers_refused_total{{listener=\"source\",reason=\"{reason}\"}} 1");
        assert!(stats.contains(&line), "{line}: {stats}");
    }
    // Who is directly there is the balancer, whatever it says; and the next one is told what we were told.
    let (passed_on, _) = ask(by_direct, &[header, b"hello"]).await;
    assert_eq!(passed_on, [b"got ", &header[..], b"hello"].concat(), "{}", passed_on.escape_ascii());
    // Without a header the connection's own addresses count.
    let (own, from) = ask(optional, &[b"hello"]).await;
    let SocketAddr::V4(from) = from else { panic!() };
    let mut expected = b"got \r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    expected.extend([from.ip().octets(), from.ip().octets()].concat());
    expected.extend([from.port().to_be_bytes(), optional.port().to_be_bytes()].concat());
    expected.extend(b"hello");
    assert_eq!(own, expected, "{}", own.escape_ascii());
}

/// Our own filter, as the control plane writes it.
#[derive(Clone, PartialEq, prost::Message)]
struct Believing {
    #[prost(message, repeated, tag = "1")]
    from: Vec<CidrRange>,
}

fn believes(listener: &Any, from: Vec<CidrRange>) -> Any {
    let config = Any {
        type_url: "type.googleapis.com/weft.listener.v1.ProxyProtocol".to_owned(),
        value: prost::Message::encode_to_vec(&Believing { from }),
    };
    filtered(listener, "weft.proxy_protocol", config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_of_somebody_who_is_not_believed_is_bytes_like_others() {
    let app = parrot().await;
    let web = App::start().await;
    let [bytes, requests, ports] = [free_port(), free_port(), free_port()];
    let balancer = || vec![range("127.0.0.7", 32)];
    let on_port = |port: u16, cluster: &str| {
        let wanted = FilterChainMatch {
            destination_port: Some(UInt32Value { value: port.into() }),
            ..Default::default()
        };
        let name = cluster.to_owned();
        FilterChain { name, filter_chain_match: Some(wanted), ..plain_chain(tcp(cluster)) }
    };
    let good = http("web", vec![vhost("good", &["good"], vec![to("/", "good")])], None);
    let filter = mesh::xds::managed(good, |config| {
        config.use_remote_address = Some(envoy_types::pb::google::protobuf::BoolValue { value: true });
    });
    let proxy = start(
        vec![
            believes(&listener("bytes", bytes, vec![plain_chain(tcp("app"))]), balancer()),
            believes(&listener("web", requests, vec![plain_chain(filter)]), balancer()),
            believes(
                &listener("ports", ports, vec![on_port(443, "nowhere"), on_port(ports.port(), "app")]),
                balancer(),
            ),
        ],
        vec![
            says_header(&cluster("app", &[app], Speak::Tcp, None), 0),
            cluster("nowhere", &[free_port()], Speak::Tcp, None),
            cluster("good", &[web.address], Speak::Http1, None),
        ],
    );
    let header = b"PROXY TCP4 192.0.2.7 203.0.113.9 4711 443\r\n";
    let (balancer, stranger) = ([127, 0, 0, 7], [127, 0, 0, 8]);
    assert_eq!(
        ask_from(balancer, bytes, &[header, b"hello"]).await.0,
        [b"got ", &header[..], b"hello"].concat()
    );
    assert_eq!(ask_from(balancer, bytes, &[b"hello, no header"]).await.0, b"");
    // The balancer's port chooses no chain, and the app is told of it.
    assert_eq!(
        ask_from(balancer, ports, &[header, b"hello"]).await.0,
        [b"got ", &header[..], b"hello"].concat()
    );
    let line = "weft_proxy_headers_refused_total{listener=\"bytes\",reason=\"absent\"} 1";
    let stats = get(proxy.admin, "admin", "/stats/prometheus").await;
    assert!(stats.contains(line), "{stats}");
    // The app is told who the stranger is, and then gets what the stranger said.
    let (said, from) = ask_from(stranger, bytes, &[header, b"hello"]).await;
    let truth = format!("got PROXY TCP4 127.0.0.8 127.0.0.1 {} {}\r\n", from.port(), bytes.port());
    assert_eq!(said, [truth.as_bytes(), &header[..], b"hello"].concat(), "{}", said.escape_ascii());
    let request = b"GET /x HTTP/1.1\r\nhost: good\r\nconnection: close\r\n\r\n";
    let answer = |said: Vec<u8>| String::from_utf8(said).unwrap();
    let served = answer(ask_from(balancer, requests, &[header, request]).await.0);
    assert!(served.starts_with("HTTP/1.1 200 ") && served.contains("192.0.2.7"), "{served}");
    let own = answer(ask_from(stranger, requests, &[request]).await.0);
    assert!(own.starts_with("HTTP/1.1 200 ") && own.contains("127.0.0.8"), "{own}");
    let lied = answer(ask_from(stranger, requests, &[header, request]).await.0);
    assert!(lied.starts_with("HTTP/1.1 400 ") && !lied.contains("192.0.2.7"), "{lied}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_knows_the_caller_by_the_header_and_shares_no_connection_that_names_one() {
    let app = App::start().await;
    let at = free_port();
    let vhosts = ["good", "named"].map(|name| vhost(name, &[name], vec![to("/", name)]));
    let filter = mesh::xds::managed(http("web", vhosts.into(), None), |config| {
        config.use_remote_address = Some(envoy_types::pb::google::protobuf::BoolValue { value: true });
    });
    let _proxy = start(
        vec![takes_headers(&listener("web", at, vec![plain_chain(filter)]), &ProxyProtocol::default())],
        vec![
            cluster("good", &[app.address], Speak::Http1, None),
            says_header(&cluster("named", &[app.address], Speak::Http1, None), 0),
        ],
    );
    let ask = async |host: &str| {
        let header = "PROXY TCP4 192.0.2.7 203.0.113.9 4711 443\r\n";
        send(at, &format!("{header}GET /x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await
    };
    let answer = ask("good").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("192.0.2.7"), "{answer}");
    let answer = ask("named").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

// ---- SNI ----

/// A TLS server that says its name to whoever comes, and its certificate.
async fn tls_server(name: &'static str) -> (SocketAddr, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let certificate = made.cert.der().clone();
    let config = rustls::ServerConfig::builder_with_provider(weft_identity::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.write_all(format!("I am {name}").as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (address, certificate)
}

/// Writes one byte at a time, each a segment of its own.
struct Trickle(TcpStream);

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &buf[..buf.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// What the server on the other side of `at` says, if its certificate is one of `roots`.
async fn tls_ask(
    at: SocketAddr,
    name: &str,
    sni: bool,
    roots: &[CertificateDer<'static>],
) -> io::Result<String> {
    let mut store = rustls::RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).unwrap();
    }
    let mut config = rustls::ClientConfig::builder_with_provider(weft_identity::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    config.enable_sni = sni;
    within("a TLS exchange", async {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, Trickle(stream)).await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        Ok(said)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_passes_through_by_its_name_and_without_one_nowhere() {
    let (first, first_root) = tls_server("first.example").await;
    let (second, second_root) = tls_server("www.second.example").await;
    let at = free_port();
    let proxy = start(
        vec![listener(
            "sni",
            at,
            vec![
                pass_through_chain("first.example", "first"),
                pass_through_chain("*.second.example", "second"),
            ],
        )],
        vec![cluster("first", &[first], Speak::Tcp, None), cluster("second", &[second], Speak::Tcp, None)],
    );
    let roots = [first_root, second_root];
    assert_eq!(tls_ask(at, "first.example", true, &roots).await.unwrap(), "I am first.example");
    assert_eq!(tls_ask(at, "www.second.example", true, &roots).await.unwrap(), "I am www.second.example");
    // No name, a name that is nobody's (the outer one of an encrypted hello too), and what is no hello at all.
    tls_ask(at, "first.example", false, &roots).await.unwrap_err();
    tls_ask(at, "cloudflare-ech.example", true, &roots).await.unwrap_err();
    tls_ask(at, "second.example", true, &roots).await.unwrap_err();
    assert_eq!(ask(at, &[b"GET / HTTP/1.1\r\nhost: first.example\r\n\r\n"]).await.0, b"");
    assert_eq!(ask(at, &[b"\x16\x03\x01\0\x05\x01\0\0\x01\0"]).await.0, b"", "a hello of one byte");
    let stats = get(proxy.admin, "admin", "/stats/prometheus").await;
    assert!(stats.contains("weft_no_filter_chain_total{listener=\"sni\"} 4"), "{stats}");
}

// ---- TLS or not ----

/// Bytes in the clear beside TLS, as where a mesh is on its way to mTLS.
fn either(name: &str, at: SocketAddr, wait: Duration, goes_on: bool) -> Any {
    let wanted = FilterChainMatch { transport_protocol: "raw_buffer".to_owned(), ..Default::default() };
    let plain = FilterChain { filter_chain_match: Some(wanted), ..plain_chain(tcp("plain")) };
    let both = listener(name, at, vec![pass_through_chain("first.example", "first"), plain]);
    let inspected = filtered(&both, "tls_inspector", any(&TlsInspector::default()));
    changed(&inspected, |listener: &mut Listener| {
        listener.listener_filters_timeout = duration(wait);
        listener.continue_on_listener_filters_timeout = goes_on;
    })
}

const GREETING: &[u8] = b"220 ready\r\n";

/// Greets, then says what it hears.
async fn greeter() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                let _ = writer.write_all(GREETING).await;
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    address
}

/// Sends this and no end; what comes back up to this length, and after what time.
async fn hear(at: SocketAddr, said: &[u8], length: usize) -> (Vec<u8>, Duration) {
    within("an answer without an end", async {
        let began = Instant::now();
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut heard = Vec::new();
        let _ = stream.take(length as u64).read_to_end(&mut heard).await;
        (heard, began.elapsed())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_tls_goes_on_with_its_first_byte_and_silence_when_its_time_is_over() {
    let (first, root) = tls_server("first.example").await;
    let app = greeter().await;
    let wait = millis(1500);
    let [goes_on, ends] = [free_port(), free_port()];
    let _proxy = start(
        vec![either("goes on", goes_on, wait, true), either("ends", ends, wait, false)],
        vec![cluster("first", &[first], Speak::Tcp, None), cluster("plain", &[app], Speak::Tcp, None)],
    );
    for said in ["HELLO", "12345", "SET key value", "GET / HT"] {
        let answer = [GREETING, said.as_bytes()].concat();
        let (heard, after) = hear(ends, said.as_bytes(), answer.len()).await;
        assert!(heard == answer && after < wait / 2, "{said}: {} after {after:?}", heard.escape_ascii());
    }
    // What was said before the end of stream is passed on, and the end behind it.
    for said in ["PING", "", "\x16"] {
        let pieces: &[&[u8]] = if said.is_empty() { &[] } else { &[said.as_bytes()] };
        let (heard, _) = ask(ends, pieces).await;
        assert_eq!(heard, [GREETING, said.as_bytes()].concat(), "{said:?}: {}", heard.escape_ascii());
    }
    let (heard, after) = hear(goes_on, b"", GREETING.len()).await;
    assert!(heard == GREETING && after >= wait && after < wait * 3, "after {after:?}");
    assert_eq!(hear(ends, b"", 1).await.0, b"", "nobody said that it may go on");
    // Half a hello is not silence.
    assert_eq!(hear(goes_on, b"\x16\x03\x01\x02\0\x01", 1).await.0, b"");
    assert_eq!(tls_ask(goes_on, "first.example", true, &[root]).await.unwrap(), "I am first.example");
}

// ---- Bytes ----

/// Bytes that repeat after a prime number of them, so that a lost or moved block shows.
fn pattern(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(1_000_003).collect()
}

async fn send_all(mut to: impl AsyncWrite + Unpin, seed: u64, count: usize) {
    let (block, mut left) = (pattern(seed), count);
    while left > 0 {
        let piece = left.min(block.len());
        to.write_all(&block[..piece]).await.unwrap();
        left -= piece;
    }
    to.shutdown().await.unwrap();
}

async fn get_all(mut from: impl AsyncRead + Unpin, seed: u64, count: usize) {
    let block = pattern(seed);
    let mut piece = vec![0; block.len()];
    let mut left = count;
    while left > 0 {
        let size = left.min(block.len());
        from.read_exact(&mut piece[..size]).await.unwrap();
        assert!(piece[..size] == block[..size], "other bytes than were sent, {left} before the end");
        left -= size;
    }
    assert_eq!(from.read(&mut piece).await.unwrap(), 0, "more than was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_speaks_first_and_bulk_goes_both_ways_until_both_have_ended() {
    const COUNT: usize = 64 << 20;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = free_port();
    let proxy = start(
        vec![listener("bytes", at, vec![plain_chain(tcp("server"))])],
        vec![cluster("server", &[server.local_addr().unwrap()], Speak::Tcp, None)],
    );
    let serving = tokio::spawn(async move {
        let (mut stream, _) = server.accept().await.unwrap();
        stream.write_all(b"220 ready\r\n").await.unwrap();
        let (reader, writer) = stream.into_split();
        tokio::join!(get_all(reader, seed, COUNT), send_all(writer, seed + 1, COUNT));
    });
    within("64 MiB both ways", async {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let mut greeting = [0; 11];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"220 ready\r\n");
        let (reader, writer) = stream.into_split();
        tokio::join!(get_all(reader, seed + 1, COUNT), send_all(writer, seed, COUNT));
        serving.await.unwrap();
    })
    .await;
    // Nothing of it is left open.
    mesh::eventually("the connection's end", async || {
        let stats = get(proxy.admin, "admin", "/stats/prometheus").await;
        stats.contains("weft_open_connections{listener=\"bytes\"} 0")
    })
    .await;
}

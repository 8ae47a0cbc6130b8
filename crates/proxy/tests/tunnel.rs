//! TCP between members in tunnels: CONNECT streams over few shared connections of mutual TLS, and bytes as they are
//! where the other side takes no tunnels.
//!
//! Two workers without a control plane stand for two members. Between them stands a relay that counts connections.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

mod mesh;

use std::{
    collections::BTreeMap,
    io,
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
            cluster::v3::{CircuitBreakers, Cluster, circuit_breakers::Thresholds},
            listener::v3::{Filter, FilterChain, filter},
        },
        extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy::TunnelingConfig},
    },
    google::protobuf::{Any, UInt32Value},
};
use http::{Method, Request, StatusCode, Uri};
use mesh::{
    Ca, LIMIT, eventually, free_port, id,
    xds::{
        Speak, allow, changed, cluster, connect_to, http, listener, member_chain, plain_chain, tcp, to, vhost,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};
use weft_identity::{IdentityMatch, SpiffeId, tls};
use weft_proxy::{
    certificates::{Credentials, Identity},
    config_feed::ConfigFeed,
    static_config::StaticResources,
    worker::{self, Command, Direction, Mailbox, WorkerSettings},
};
use weft_routing::Strictness;
use weft_telemetry::Registry;

const SNI: &str = "p5432.mesh.internal";
const WEB: &str = "p8080.mesh.internal";
const BULK_BYTES: usize = 64 << 20;

/// A member: one worker with its configuration and identity.
struct Member {
    mailbox: Mailbox,
    feed: ConfigFeed,
}

/// What was counted: connections, errors, and bytes each way, by (caller, direction, TLS, code).
type Counted = BTreeMap<(String, String, String, u32), (u64, u64, u64, u64)>;

impl Member {
    fn start(ca: &Ca, service: &str, listeners: Vec<Any>, clusters: Vec<Any>) -> Member {
        let settings = WorkerSettings {
            overload: weft_proxy::overload::Overload::new(&weft_proxy::Limits::default(), 1),
            access_log: weft_proxy::access_log::Writer::start().unwrap().0,
            registry: Registry::new(),
            service: Arc::from(format!("default/{service}")),
            version: Arc::from(""),
        };
        let (mailbox, _) = worker::spawn(0, settings).unwrap();
        let (svid, bundle) = ca.identity(service);
        let identity = Identity::fixed(svid, bundle);
        mailbox.send(Command::Credentials(identity.credentials().unwrap()));
        let member = Member { feed: ConfigFeed::new(vec![mailbox.clone()], Strictness::Own), mailbox };
        member.set(listeners, clusters);
        member
    }

    fn set(&self, listeners: Vec<Any>, clusters: Vec<Any>) {
        let resources = StaticResources { listeners, clusters, ..StaticResources::default() };
        self.feed.set_static(resources.staged(Strictness::Own).unwrap()).unwrap();
    }

    /// Is somebody else from now on.
    fn become_another(&self, ca: &Ca, service: &str, generation: u64) {
        let (svid, bundle) = ca.identity(service);
        let credentials = Credentials { generation, svid: Arc::new(svid), bundle: Arc::new(bundle) };
        self.mailbox.send(Command::Credentials(Arc::new(credentials)));
    }

    async fn take(&self, into: &mut Counted) {
        let (answer, taken) = oneshot::channel();
        self.mailbox.send(Command::TakeWindow(answer));
        for (key, cell) in taken.await.unwrap().into_iter().flat_map(|increment| increment.cells) {
            let series = &key.series;
            let caller = series.caller.trim_start_matches("default/").to_owned();
            let sum =
                into.entry((caller, series.direction.clone(), series.tls.clone(), key.code)).or_default();
            sum.0 += cell.requests;
            sum.1 += cell.errors;
            sum.2 += cell.request_bytes;
            sum.3 += cell.response_bytes;
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.mailbox.send(Command::Stop);
    }
}

/// Carries bytes to `to`, and counts the connections that come.
struct Relay {
    at: SocketAddr,
    accepted: Arc<AtomicU32>,
}

impl Relay {
    async fn start(to: SocketAddr) -> Relay {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        let accepted = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            loop {
                let (mut from, _) = socket.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let Ok(mut on) = TcpStream::connect(to).await else { return };
                    let (one, other) = (256 << 10, 256 << 10);
                    let _ = tokio::io::copy_bidirectional_with_sizes(&mut from, &mut on, one, other).await;
                });
            }
        });
        Relay { at, accepted }
    }

    fn accepted(&self) -> u32 {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// An app that does `serve` with each connection.
async fn app<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            tokio::spawn(serve(stream));
        }
    });
    at
}

/// Speaks first, as a database does; then says how much it was sent, once that has ended.
async fn greeting() -> SocketAddr {
    app(|mut stream| async move {
        stream.write_all(b"welcome\n").await?;
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked).await?;
        stream.write_all(format!("{} bytes\n", asked.len()).as_bytes()).await?;
        stream.shutdown().await
    })
    .await
}

/// The chain that takes tunnels, for these callers.
fn tunnels(sni: &str, callers: &[&str]) -> FilterChain {
    let policies = vec![allow("AccessPolicy/default/callers", callers, None)];
    let hosts = vec![vhost("all", &["*"], vec![connect_to("inbound|5432")])];
    let mut chain = member_chain(sni, &["h2"], http("inbound|5432", hosts, Some(policies)));
    chain.name = format!("{sni}|h2");
    chain.filter_chain_match.as_mut().unwrap().application_protocols = vec!["h2".to_owned()];
    chain
}

/// The chain that takes bytes as they are.
fn raw(sni: &str) -> FilterChain {
    member_chain(sni, &[], tcp("inbound|5432"))
}

fn inbound(at: SocketAddr, chains: Vec<FilterChain>) -> Vec<Any> {
    vec![listener("inbound", at, chains)]
}

fn to_app(app: SocketAddr) -> Vec<Any> {
    vec![cluster("inbound|5432", &[app], Speak::Tcp, None)]
}

/// Captured connections, by tunnels.
fn tunnelled() -> Filter {
    let Filter { name, config_type: Some(filter::ConfigType::TypedConfig(config)) } =
        tcp("outbound|5432|db.default")
    else {
        panic!("a typed filter")
    };
    let config = changed(&config, |proxy: &mut TcpProxy| {
        let hostname = "db.default.mesh.internal:5432".to_owned();
        proxy.tunneling_config = Some(TunnelingConfig { hostname, ..TunnelingConfig::default() });
    });
    Filter { name, config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

fn to_db(at: SocketAddr) -> Any {
    cluster("outbound|5432|db.default", &[at], Speak::Http2, Some((SNI, &id("db"))))
}

/// `fe` calls `db`, with a relay between.
struct Pair {
    at: SocketAddr,
    inbound: SocketAddr,
    relay: Relay,
    ca: Ca,
    fe: Member,
    db: Member,
}

impl Pair {
    async fn start(app: SocketAddr) -> Pair {
        let fe = id("fe");
        Pair::with(app, vec![tunnels(SNI, &[&fe]), raw(SNI)], |cluster| cluster).await
    }

    async fn with(app: SocketAddr, chains: Vec<FilterChain>, change: impl FnOnce(Any) -> Any) -> Pair {
        let ca = Ca::new();
        let (at, inbound_at) = (free_port(), free_port());
        let db = Member::start(&ca, "db", inbound(inbound_at, chains), to_app(app));
        let relay = Relay::start(inbound_at).await;
        let listeners = vec![listener("vip|1|5432", at, vec![plain_chain(tunnelled())])];
        let fe = Member::start(&ca, "fe", listeners, vec![change(to_db(relay.at))]);
        Pair { at, inbound: inbound_at, relay, ca, fe, db }
    }

    async fn connect(&self) -> TcpStream {
        timeout(LIMIT, TcpStream::connect(self.at)).await.unwrap().unwrap()
    }

    /// Takes what both members counted until it is `expected`.
    async fn expect(&self, expected: &[(&str, &str, &str, u32, u64, u64)]) {
        let expected: BTreeMap<_, _> = expected
            .iter()
            .map(|(caller, direction, tls, code, connections, errors)| {
                let key = ((*caller).to_owned(), (*direction).to_owned(), (*tls).to_owned(), *code);
                (key, (*connections, *errors))
            })
            .collect();
        let mut counted = Counted::new();
        let end = Instant::now() + Duration::from_secs(5);
        let mut stable = 0;
        let mut seen = BTreeMap::new();
        while stable < 4 && Instant::now() < end {
            self.fe.take(&mut counted).await;
            self.db.take(&mut counted).await;
            seen = counted.iter().map(|(key, sums)| (key.clone(), (sums.0, sums.1))).collect();
            stable = if seen == expected { stable + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert_eq!(seen, expected);
    }
}

async fn read_all(stream: &mut TcpStream) -> io::Result<String> {
    let mut all = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut all)).await.expect("an end in time")?;
    Ok(String::from_utf8(all).unwrap())
}

async fn read_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        line.push(timeout(LIMIT, stream.read_u8()).await.expect("a line in time").unwrap());
    }
    String::from_utf8(line).unwrap()
}

/// A stream of bytes that no mix-up leaves as it was.
fn pattern(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let block: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(65_521).collect();
    // By whole blocks: an iterator of so many bytes takes seconds, in which nobody would carry them.
    let mut all = block.repeat(bytes.div_ceil(block.len()));
    all.truncate(bytes);
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_first_is_heard_and_the_caller_is_known() {
    let pair = Pair::start(greeting().await).await;
    for _ in 0..3 {
        let mut stream = pair.connect().await;
        assert_eq!(read_line(&mut stream).await, "welcome\n");
        stream.write_all(b"SELECT 1").await.unwrap();
        stream.shutdown().await.unwrap();
        // The caller's half has ended, the server's has not.
        assert_eq!(read_all(&mut stream).await.unwrap(), "8 bytes\n");
    }
    assert_eq!(pair.relay.accepted(), 1, "one connection carries them all");
    // As without tunnels: code 0, by the callee alone.
    pair.expect(&[("fe", "inbound", "mtls", 0, 3, 0)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_may_close_its_half_first() {
    let (say, heard) = tokio::sync::mpsc::unbounded_channel();
    let server = app(move |mut stream| {
        let say = say.clone();
        async move {
            stream.write_all(b"all that I have").await?;
            stream.shutdown().await?;
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await?;
            say.send(rest).unwrap();
            Ok(())
        }
    });
    let (pair, mut heard) = (Pair::start(server.await).await, heard);
    let mut stream = pair.connect().await;
    assert_eq!(read_all(&mut stream).await.unwrap(), "all that I have");
    stream.write_all(b"still ").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.write_all(b"here").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(timeout(LIMIT, heard.recv()).await.unwrap().unwrap(), "still here");
    pair.expect(&[("fe", "inbound", "mtls", 0, 1, 0)]).await;
}

/// Both ways at once, and how long it took.
async fn bulk(pair: &Pair) -> Duration {
    let mut stream = pair.connect().await;
    let started = Instant::now();
    let (mut reader, mut writer) = stream.split();
    let (up, down) = (pattern(1, BULK_BYTES), pattern(2, BULK_BYTES));
    let sending = async {
        writer.write_all(&up).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let reading = async {
        let mut all = Vec::with_capacity(down.len() + 1);
        reader.read_to_end(&mut all).await.unwrap();
        assert!(all == down, "{} bytes came, and not those that were sent", all.len());
    };
    timeout(Duration::from_secs(60), async { tokio::join!(sending, reading) }).await.expect("bulk in time");
    started.elapsed()
}

async fn bulk_server() -> SocketAddr {
    app(|mut stream| async move {
        let (mut reader, mut writer) = stream.split();
        let (up, down) = (pattern(1, BULK_BYTES), pattern(2, BULK_BYTES));
        let sending = async {
            writer.write_all(&down).await?;
            Ok::<_, io::Error>(())
        };
        let reading = async {
            let mut all = Vec::with_capacity(up.len() + 1);
            reader.read_to_end(&mut all).await?;
            assert!(all == up, "{} bytes came, and not those that were sent", all.len());
            Ok(())
        };
        tokio::try_join!(sending, reading)?;
        stream.shutdown().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_arrives_whole_both_ways() {
    let pair = Pair::start(bulk_server().await).await;
    eprintln!("64 MiB both ways: {:?}", bulk(&pair).await);
    let mut counted = Counted::new();
    eventually("the bytes in the record", async || {
        pair.db.take(&mut counted).await;
        let bytes = counted.values().map(|sums| (sums.2, sums.3)).next();
        bytes == Some((BULK_BYTES as u64, BULK_BYTES as u64))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_share_few_connections() {
    let pair = Pair::start(greeting().await).await;
    let mut streams = Vec::new();
    for stream in futures_util::future::join_all((0..200).map(|_| pair.connect())).await {
        streams.push(stream);
    }
    for stream in &mut streams {
        assert_eq!(read_line(stream).await, "welcome\n");
    }
    let shared = pair.relay.accepted();
    assert!(shared <= 3, "{shared} connections for 200 tunnels");
    for (index, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&vec![b'x'; index]).await.unwrap();
        stream.shutdown().await.unwrap();
    }
    for (index, stream) in streams.iter_mut().enumerate() {
        assert_eq!(read_all(stream).await.unwrap(), format!("{index} bytes\n"));
    }
    pair.expect(&[("fe", "inbound", "mtls", 0, 200, 0)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_that_nobody_reads_stops_no_other() {
    let pair = Pair::start(mesh::echo().await).await;
    // The echo of these comes back until there is no room anywhere.
    let mut stuck = Vec::new();
    for _ in 0..4 {
        let stream = pair.connect().await;
        let full = async {
            loop {
                stream.writable().await.unwrap();
                let _ = stream.try_write(&[0; 64 << 10]);
            }
        };
        let _: Result<(), _> = timeout(Duration::from_millis(300), full).await;
        stuck.push(stream);
    }
    let mut stream = pair.connect().await;
    for _ in 0..10 {
        stream.write_all(b"ping").await.unwrap();
        let mut back = [0; 4];
        timeout(LIMIT, stream.read_exact(&mut back)).await.expect("an echo in time").unwrap();
    }
    assert_eq!(pair.relay.accepted(), 1, "they share a connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_arrives_as_a_reset_in_both_directions() {
    let (say, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let server = app(move |mut stream| {
        let say = say.clone();
        async move {
            stream.write_all(b"half of it\n").await?;
            let mut asked = [0; 3];
            stream.read_exact(&mut asked).await?;
            if &asked == b"RST" {
                stream.set_zero_linger()?;
                return Ok(());
            }
            let end = stream.read(&mut asked).await;
            say.send(end.map_err(|error| error.kind())).unwrap();
            Ok(())
        }
    })
    .await;
    let pair = Pair::start(server).await;
    let mut stream = pair.connect().await;
    assert_eq!(read_line(&mut stream).await, "half of it\n");
    stream.write_all(b"RST").await.unwrap();
    let end = read_all(&mut stream).await.map_err(|error| error.kind());
    assert_eq!(end, Err(io::ErrorKind::ConnectionReset), "what the server broke off looks whole");

    let mut stream = pair.connect().await;
    assert_eq!(read_line(&mut stream).await, "half of it\n");
    stream.write_all(b"...").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    let end = timeout(LIMIT, heard.recv()).await.unwrap().unwrap();
    assert_eq!(end, Err(io::ErrorKind::ConnectionReset), "what the client broke off looks whole");
    pair.expect(&[("fe", "inbound", "mtls", 0, 2, 0)]).await;
}

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

async fn read_line_or_end(stream: &mut TcpStream) -> Option<u8> {
    timeout(LIMIT, stream.read_u8()).await.expect("an end in time").ok()
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

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

mod callers;
mod carried;
mod floods;
#[path = "../mesh/mod.rs"]
mod mesh;
#[path = "../worker/mod.rs"]
mod worker;

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

use envoy_types::pb::{
    envoy::{
        config::listener::v3::{Filter, FilterChain, filter},
        extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy::TunnelingConfig},
    },
    google::protobuf::Any,
};
use mesh::{
    Ca, LIMIT, free_port, id,
    xds::{
        Speak, allow, changed, cluster, connect_to, http, listener, member_chain, plain_chain, tcp, vhost,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use weft_telemetry::buckets::{Cell, CellKey};
use worker::Member;

const SNI: &str = "p5432.mesh.internal";

/// What was counted: connections and errors, by (caller, direction, TLS, code).
type Counted = BTreeMap<(String, String, String, u32), (u64, u64)>;

fn add(counted: &mut Counted, key: &CellKey, cell: &Cell) {
    let series = &key.series;
    let caller = series.caller.trim_start_matches("default/").to_owned();
    let sum = counted.entry((caller, series.direction.clone(), series.tls.clone(), key.code)).or_default();
    sum.0 += cell.requests;
    sum.1 += cell.errors;
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
        while stable < 4 && Instant::now() < end {
            for member in [&self.fe, &self.db] {
                member.take(|key, cell| add(&mut counted, key, cell)).await;
            }
            stable = if counted == expected { stable + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert_eq!(counted, expected);
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

async fn read_line_or_end(stream: &mut TcpStream) -> Option<u8> {
    timeout(LIMIT, stream.read_u8()).await.expect("an end in time").ok()
}

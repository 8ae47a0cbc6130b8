//! Datagrams through the proxy: sessions, what ends them, and what is counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

mod mesh;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{Address, SocketAddress, address, socket_address},
            listener::v3::{Listener, ListenerFilter, UdpListenerConfig, listener_filter},
        },
        extensions::filters::udp::udp_proxy::v3::{UdpProxyConfig, udp_proxy_config::RouteSpecifier},
    },
    google::protobuf::Any,
};
use mesh::{
    App, LIMIT, Proxy, eventually, free_port, get,
    xds::{Speak, any, changed, cluster, duration, http, listener, plain_chain, to, vhost},
};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::net::{TcpStream, UdpSocket};
use weft_proxy::static_config::StaticResources;

#[expect(deprecated, reason = "the field's other name for it is a tree of matchers")]
fn datagrams(name: &str, at: SocketAddr, cluster: &str, idle: Duration) -> Any {
    let config = UdpProxyConfig {
        stat_prefix: name.to_owned(),
        route_specifier: Some(RouteSpecifier::Cluster(cluster.to_owned())),
        idle_timeout: duration(idle),
        ..UdpProxyConfig::default()
    };
    any(&Listener {
        name: name.to_owned(),
        address: Some(Address {
            address: Some(address::Address::SocketAddress(SocketAddress {
                protocol: socket_address::Protocol::Udp as i32,
                address: at.ip().to_string(),
                port_specifier: Some(socket_address::PortSpecifier::PortValue(u32::from(at.port()))),
                ..SocketAddress::default()
            })),
        }),
        udp_listener_config: Some(UdpListenerConfig::default()),
        listener_filters: vec![ListenerFilter {
            name: "udp_proxy".to_owned(),
            config_type: Some(listener_filter::ConfigType::TypedConfig(any(&config))),
            ..ListenerFilter::default()
        }],
        ..Listener::default()
    })
}

fn start(listeners: Vec<Any>, clusters: Vec<Any>) -> Proxy {
    Proxy::start("edge", StaticResources { listeners, clusters, ..StaticResources::default() })
}

async fn socket() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// Sends every datagram back, with its own name in front.
async fn echo(name: &'static str) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let socket = socket().await;
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = vec![0; 65536];
        loop {
            let (count, from) = socket.recv_from(&mut buffer).await.unwrap();
            let answer = [name.as_bytes(), &buffer[..count]].concat();
            let _ = socket.send_to(&answer, from).await;
        }
    });
    (address, task)
}

/// One datagram there and the answer; None if none came in time.
async fn ask(client: &UdpSocket, at: SocketAddr, datagram: &[u8], patience: Duration) -> Option<Vec<u8>> {
    client.send_to(datagram, at).await.unwrap();
    let mut buffer = vec![0; 65536];
    let received = tokio::time::timeout(patience, client.recv_from(&mut buffer)).await.ok()?;
    let (count, from) = received.ok()?;
    assert_eq!(from, at, "the answer comes from where the question went");
    buffer.truncate(count);
    Some(buffer)
}

async fn metric(proxy: &Proxy, line: &str) -> Option<u64> {
    let stats = get(proxy.admin, "admin", "/stats/prometheus").await;
    stats.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_source_has_a_session_and_whole_datagrams() {
    let (server, _serving) = echo("").await;
    let at = free_port();
    let proxy = start(
        vec![datagrams("dns", at, "server", Duration::from_millis(700))],
        vec![cluster("server", &[server], Speak::Tcp, None)],
    );
    let clients = [socket().await, socket().await, socket().await];
    for (index, client) in clients.iter().enumerate() {
        let asked = vec![index as u8; 65_000];
        assert_eq!(ask(client, at, &asked, LIMIT).await.unwrap(), asked);
        assert_eq!(ask(client, at, b"", LIMIT).await.unwrap(), b"", "an empty datagram is one");
        assert_eq!(ask(client, at, b"again", LIMIT).await.unwrap(), b"again");
    }
    let of = |name: &str, more: &str| format!("{name}{{{more}listener=\"dns\"}}");
    assert_eq!(metric(&proxy, &of("weft_udp_sessions_total", "")).await, Some(3));
    assert_eq!(metric(&proxy, &of("weft_udp_open_sessions", "")).await, Some(3));
    let bytes = Some(3 * (65_000 + 5));
    for direction in ["direction=\"request\",", "direction=\"response\","] {
        assert_eq!(metric(&proxy, &of("weft_udp_datagrams_total", direction)).await, Some(9));
        assert_eq!(metric(&proxy, &of("weft_udp_bytes_total", direction)).await, bytes);
    }
    // Silent ones are forgotten; who speaks again has a new session.
    eventually("the end of the sessions", async || {
        metric(&proxy, &of("weft_udp_open_sessions", "")).await == Some(0)
    })
    .await;
    assert_eq!(ask(&clients[0], at, b"later", LIMIT).await.unwrap(), b"later");
    assert_eq!(metric(&proxy, &of("weft_udp_sessions_total", "")).await, Some(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_stays_with_its_endpoint_until_that_is_gone() {
    let (first, first_serving) = echo("first ").await;
    let (second, _serving) = echo("second ").await;
    let at = free_port();
    let proxy = start(
        vec![datagrams("game", at, "servers", Duration::from_secs(60))],
        vec![cluster("servers", &[first, second], Speak::Tcp, None)],
    );
    // Sources are spread, each stays where it is.
    let (mut at_first, mut at_second) = (Vec::new(), 0);
    for _ in 0..16 {
        let client = socket().await;
        let said = ask(&client, at, b"hello", LIMIT).await.unwrap();
        for _ in 0..5 {
            assert_eq!(ask(&client, at, b"hello", LIMIT).await.unwrap(), said);
        }
        if said == b"first hello" { at_first.push(client) } else { at_second += 1 }
    }
    assert!(!at_first.is_empty() && at_second > 0, "{} and {at_second}", at_first.len());
    // Its machine says that nobody is there; the next datagrams find the other.
    first_serving.abort();
    let _ = first_serving.await;
    for client in &at_first {
        eventually("an answer of the second", async || {
            ask(client, at, b"moved", Duration::from_millis(200)).await.as_deref() == Some(b"second moved")
        })
        .await;
    }
    assert!(
        metric(&proxy, "weft_udp_sessions_total{listener=\"game\"}").await.unwrap()
            >= 16 + at_first.len() as u64
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_endpoint_datagrams_are_dropped_and_counted() {
    let at = free_port();
    let proxy = start(
        vec![datagrams("none", at, "none", Duration::from_secs(60))],
        vec![cluster("none", &[], Speak::Tcp, None)],
    );
    let client = socket().await;
    assert_eq!(ask(&client, at, b"hello", Duration::from_millis(100)).await, None);
    let line = "weft_udp_dropped_total{listener=\"none\",reason=\"no_endpoint\"}";
    eventually("the count", async || metric(&proxy, line).await == Some(1)).await;
}

/// Says that the process may have few descriptors.
const FEW: &str = "WEFT_TEST_FEW_DESCRIPTORS";

/// In a process of its own, since the limit is one.
#[test]
fn invented_sources_leave_descriptors_for_connections() {
    if std::env::var_os(FEW).is_none() {
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "invented_sources_leave_descriptors_for_connections", "--nocapture"]);
        assert!(again.env(FEW, "1").status().unwrap().success());
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum: Some(256) }).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(flooded_by_sources());
}

/// 256 descriptors, of which clients may have 168 and sources a quarter of those.
async fn flooded_by_sources() {
    let (server, _serving) = echo("").await;
    let app = App::start().await;
    let (at, web) = (free_port(), free_port());
    let routes = http("web", vec![vhost("all", &["*"], vec![to("/", "app")])], None);
    let proxy = start(
        vec![
            datagrams("dns", at, "server", Duration::from_secs(60)),
            listener("web", web, vec![plain_chain(routes)]),
        ],
        vec![
            cluster("server", &[server], Speak::Tcp, None),
            cluster("app", &[app.address], Speak::Http1, None),
        ],
    );
    let dropped = |reason: &str| format!("weft_udp_dropped_total{{listener=\"dns\",reason=\"{reason}\"}}");
    let invented = async || socket().await.send_to(b"hello", at).await.unwrap();
    for _ in 0..400 {
        invented().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    eventually("the count", async || {
        metric(&proxy, &dropped("sessions")).await.is_some_and(|count| count > 300)
    })
    .await;
    assert_eq!(metric(&proxy, "weft_udp_open_sessions{listener=\"dns\"}").await, Some(42));
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(TcpStream::connect(web).await.unwrap());
        let answer = get(web, "a", "/").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    drop(held);
    // Short of descriptors: whoever is new waits for better times.
    assert_eq!(metric(&proxy, &dropped("overload")).await, Some(0));
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut files = Vec::new();
    while open() < 165 {
        files.push(std::fs::File::open("/dev/null").unwrap());
    }
    eventually("the level", async || {
        metric(&proxy, "weft_overload_level{resource=\"descriptors\"}").await.is_some_and(|level| level >= 2)
    })
    .await;
    invented().await;
    eventually("the count", async || metric(&proxy, &dropped("overload")).await == Some(1)).await;
}

/// Takes IPv4 too.
fn ipv4_compat(any: &Any) -> Any {
    changed(any, |listener: &mut Listener| {
        let address = listener.address.as_mut().unwrap().address.as_mut().unwrap();
        let address::Address::SocketAddress(address) = address else { panic!() };
        address.ipv4_compat = true;
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_has_a_listener_for_each_family_or_one_for_both() {
    let (four, six) = (echo("four ").await.0, echo("six ").await.0);
    let app = App::start().await;
    let port = free_port().port();
    let clusters = vec![
        cluster("four", &[four], Speak::Tcp, None),
        cluster("six", &[six], Speak::Tcp, None),
        cluster("app", &[app.address], Speak::Http1, None),
    ];
    let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), port);
    let udp = |name: &str, ip: &str| datagrams(&format!("udp {name}"), at(ip), name, Duration::from_secs(60));
    let tcp = |name: &str, ip: &str| {
        let routes = http("web", vec![vhost("all", &["*"], vec![to("/", "app")])], None);
        listener(&format!("tcp {name}"), at(ip), vec![plain_chain(routes)])
    };
    let heard = async |client: &str, server: &str, patience| {
        let client = UdpSocket::bind(SocketAddr::new(client.parse().unwrap(), 0)).await.unwrap();
        ask(&client, at(server), b"hello", patience).await
    };
    let both = vec![udp("four", "0.0.0.0"), udp("six", "::"), tcp("four", "0.0.0.0"), tcp("six", "::")];
    let proxy = start(both, clusters.clone());
    assert_eq!(heard("127.0.0.1", "127.0.0.1", LIMIT).await.unwrap(), b"four hello");
    assert_eq!(heard("::1", "::1", LIMIT).await.unwrap(), b"six hello");
    for ip in ["127.0.0.1", "::1"] {
        assert!(get(at(ip), "a", "/").await.starts_with("HTTP/1.1 200"), "{ip}");
    }
    proxy.stop();
    let proxy = start(vec![udp("six", "::"), tcp("six", "::")], clusters.clone());
    assert_eq!(heard("::1", "::1", LIMIT).await.unwrap(), b"six hello");
    assert_eq!(heard("127.0.0.1", "127.0.0.1", Duration::from_millis(200)).await, None);
    assert!(TcpStream::connect(at("127.0.0.1")).await.is_err());
    proxy.stop();
    let compat = [udp("six", "::"), tcp("six", "::")].iter().map(ipv4_compat).collect();
    let _proxy = start(compat, clusters);
    for ip in ["127.0.0.1", "::1"] {
        assert_eq!(heard(ip, ip, LIMIT).await.unwrap(), b"six hello", "{ip}");
        assert!(get(at(ip), "a", "/").await.starts_with("HTTP/1.1 200"), "{ip}");
    }
}

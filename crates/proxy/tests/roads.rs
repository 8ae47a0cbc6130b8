//! Roads out of the mesh and from other control planes: names by DNS, TLS to the outside, delta xDS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

mod mesh;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig},
            },
            core::v3::{DataSource, address, data_source},
            endpoint::v3::lb_endpoint::HostIdentifier,
        },
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, CommonTlsContext, UpstreamTlsContext, common_tls_context,
        },
    },
    google::protobuf::Any,
};
use mesh::{
    App, LIMIT, Proxy, free_port, get,
    xds::{
        Speak, ads, any, changed, cluster, direct, http, listener, plain_chain, to, transport_socket, vhost,
    },
};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::{Status, transport::Server};
use weft_proxy::{
    Config, PortsWanted,
    config::{ForeignXds, XdsMode},
    config_feed::ConfigFeed,
    static_config::StaticResources,
};
use weft_routing::{Address, ClusterKind, Strictness};
use weft_xds::{
    CDS, EDS, LDS, Node, Resource, Resources,
    client::{Handler as _, Update},
    server::{Peer, Source, Subscription},
};

const OUTSIDE: &str = "shop.example";

/// TLS in front of an app, with a certificate of its own; and the PEM that trusts it.
async fn outside(app: SocketAddr) -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed([OUTSIDE.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut config = rustls::ServerConfig::builder_with_provider(weft_identity::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut plain = TcpStream::connect(app).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut plain).await;
            });
        }
    });
    (address, made.cert.pem())
}

/// A cluster by the name `localhost`.
fn by_dns(name: &str, port: u16) -> Any {
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    changed(&cluster(name, &[at], Speak::Http1, None), |cluster: &mut Cluster| {
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::StrictDns as i32));
        cluster.dns_lookup_family = DnsLookupFamily::V4Only as i32;
        let member = &mut cluster.load_assignment.as_mut().unwrap().endpoints[0].lb_endpoints[0];
        let Some(HostIdentifier::Endpoint(endpoint)) = &mut member.host_identifier else { panic!() };
        let Some(address::Address::SocketAddress(socket)) = &mut endpoint.address.as_mut().unwrap().address
        else {
            panic!()
        };
        socket.address = "localhost".to_owned();
    })
}

/// The same over TLS with these roots.
fn by_name(name: &str, port: u16, roots: &str) -> Any {
    let validation = CertificateValidationContext {
        trusted_ca: Some(DataSource {
            specifier: Some(data_source::Specifier::InlineString(roots.to_owned())),
            ..DataSource::default()
        }),
        ..CertificateValidationContext::default()
    };
    let context = UpstreamTlsContext {
        sni: OUTSIDE.to_owned(),
        common_tls_context: Some(CommonTlsContext {
            validation_context_type: Some(common_tls_context::ValidationContextType::ValidationContext(
                validation,
            )),
            ..CommonTlsContext::default()
        }),
        ..UpstreamTlsContext::default()
    };
    changed(&by_dns(name, port), |cluster: &mut Cluster| {
        cluster.transport_socket = transport_socket(any(&context));
    })
}

/// A feed with a listener that needs no cluster, and an update of one type.
fn fed() -> ConfigFeed {
    let mut feed = ConfigFeed::new(Vec::new(), Strictness::Own);
    feed.apply(LDS, update(vec![("web", told_listener(free_port(), "web"))])).unwrap();
    feed
}

fn update(added: Vec<(&str, Any)>) -> Update {
    let added = added.into_iter().map(|(name, body)| Arc::new(Resource::new(name, body))).collect();
    Update { added, removed: Vec::new(), full: false, version: "1".to_owned() }
}

/// The ports of the only cluster's endpoints.
fn ports(feed: &ConfigFeed) -> Vec<u16> {
    let all = feed.clusters_with_endpoints();
    let endpoints = all.iter().filter_map(|(_, endpoints)| endpoints.as_ref()).flat_map(|one| &one.all);
    endpoints
        .filter_map(|one| if let Address::Ip(at) = one.address { Some(at.port()) } else { None })
        .collect()
}

/// What DNS said of a cluster is of no use once its name is another's, nor is an answer that comes only then.
#[test]
fn addresses_of_dns_end_with_their_cluster() {
    let fixed = |port| cluster("c", &[SocketAddr::from(([127, 0, 0, 1], port))], Speak::Http1, None);
    let found = |port| match weft_routing::cluster(&fixed(port), Strictness::Own).unwrap().value.kind {
        ClusterKind::Static(endpoints) => endpoints,
        _ => panic!(),
    };
    let mut feed = fed();
    feed.apply(CDS, update(vec![("c", by_dns("c", 1))])).unwrap();
    let first = feed.clusters().remove(0);
    feed.set_resolved(&first, found(11));
    assert_eq!(ports(&feed), [11]);

    feed.apply(CDS, update(vec![("c", by_dns("c", 2))])).unwrap();
    assert_eq!(ports(&feed), [11], "until its new name is looked up");
    let second = feed.clusters().remove(0);
    feed.set_resolved(&second, found(12));
    feed.set_resolved(&first, found(11));
    assert_eq!(ports(&feed), [12]);

    feed.apply(CDS, update(vec![("c", fixed(3))])).unwrap();
    assert_eq!(ports(&feed), [3]);
    feed.set_resolved(&second, found(12));
    assert_eq!(ports(&feed), [3]);
}

/// Delta: endpoints that the server says are not there hold nothing up, and what a cluster had it keeps.
#[test]
fn removed_endpoints_hold_nothing_up() {
    let fixed = cluster("c", &[SocketAddr::from(([127, 0, 0, 1], 1))], Speak::Http1, None);
    let mut load = None;
    let by_eds = changed(&fixed, |cluster: &mut Cluster| {
        load = cluster.load_assignment.take();
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32));
        cluster.eds_cluster_config =
            Some(EdsClusterConfig { eds_config: Some(ads()), ..EdsClusterConfig::default() });
    });
    let removed = || Update { removed: vec!["c".to_owned()], ..update(Vec::new()) };
    let mut feed = fed();
    feed.apply(CDS, update(vec![("c", by_eds)])).unwrap();
    assert_eq!(feed.clusters().len(), 0, "it waits for its endpoints");
    feed.apply(EDS, removed()).unwrap();
    assert_eq!((feed.clusters().len(), ports(&feed)), (1, vec![]));
    feed.apply(EDS, update(vec![("c", any(&load.unwrap()))])).unwrap();
    assert_eq!(ports(&feed), [1]);
    feed.apply(EDS, removed()).unwrap();
    feed.apply(LDS, update(vec![("web", told_listener(free_port(), "another"))])).unwrap();
    assert_eq!((feed.status().tables, ports(&feed)), (5, vec![1]));
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + LIMIT;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_resolve_and_tls_is_proven() {
    let app = App::start().await;
    let (server, roots) = outside(app.address).await;
    let (_, other_roots) = outside(app.address).await;
    let at = free_port();
    let hosts = ["good", "wrong"].map(|name| vhost(name, &[name], vec![to("/", name)]));
    let _proxy = Proxy::start(
        "edge",
        StaticResources {
            listeners: vec![listener("web", at, vec![plain_chain(http("web", hosts.into(), None))])],
            clusters: vec![
                by_name("good", server.port(), &roots),
                by_name("wrong", server.port(), &other_roots),
            ],
            ..StaticResources::default()
        },
    );
    eventually("an answer from the outside", async || {
        get(at, "good", "/x").await.starts_with("HTTP/1.1 200 ")
    })
    .await;
    let refused = get(at, "wrong", "/x").await;
    assert!(
        refused.starts_with("HTTP/1.1 503 ") && refused.ends_with("no connection to the upstream\n"),
        "{refused}"
    );
}

/// Gives everybody the same.
struct Given(tokio::sync::watch::Sender<Arc<Resources>>);

impl Source for Given {
    fn subscribe(&self, _: &Peer, _: &Node) -> Result<Subscription, Status> {
        Ok(Subscription { resources: self.0.subscribe(), report: Box::new(|_| {}) })
    }
}

fn told_listener(at: SocketAddr, text: &str) -> Any {
    let hosts = vec![vhost("all", &["*"], vec![direct("/", 200, text)])];
    listener("web", at, vec![plain_chain(http("web", hosts, None))])
}

fn told(at: SocketAddr, text: &str) -> Arc<Resources> {
    let mut builder = Resources::builder();
    builder.put(Resource::new("web", told_listener(at, text)));
    Arc::new(builder.build(text))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_come_as_deltas() {
    let at = free_port();
    let source = Arc::new(Given(tokio::sync::watch::Sender::new(told(at, "one"))));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = socket.local_addr().unwrap();
    let service = weft_xds::server::service(Arc::clone(&source) as Arc<dyn Source>);
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(socket);
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));

    let state = std::env::temp_dir().join(format!("weft-delta-{:x}", fastrand::u64(..)));
    let mut config = Config::new("default", "edge", state.clone());
    config.foreign = Some(ForeignXds { address: server.to_string(), tls: None, mode: XdsMode::Delta });
    let admin = Some("127.0.0.1:0".parse().unwrap());
    config.ports = PortsWanted { outbound: None, inbound: None, admin, metrics: None };
    config.drain = weft_proxy::Drain { delay: Duration::ZERO, timeout: Duration::from_secs(2) };
    config.signals = false;
    let stop = config.stop.clone();
    let proxy = std::thread::spawn(move || weft_proxy::run(config));
    let says = async |text: &str| match TcpStream::connect(at).await {
        Ok(_) => get(at, "a", "/").await.ends_with(text),
        Err(_) => false,
    };
    eventually("the first table", async || says("one").await).await;
    source.0.send_replace(told(at, "two"));
    eventually("the change", async || says("two").await).await;
    stop.cancel();
    tokio::task::spawn_blocking(move || proxy.join().unwrap().unwrap()).await.unwrap();
    let _ = std::fs::remove_dir_all(&state);
}

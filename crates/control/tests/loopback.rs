//! The control plane over real loopback sockets: first contact, the link, xDS, and what is refused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::google::protobuf::value::Kind as Word;
use envoy_types::pb::google::protobuf::{Struct, Value};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use weft_control::{Config, Running};
use weft_identity::{Bundle, IdentityMatch, JoinToken, PrivateKey, SpiffeId, Svid, TrustDomain};
use weft_link::{Bin, Buckets, Cell, Down, Hello, JoinRequest, LinkClient, Port, RenewRequest, Up, down};
use weft_model::Kind;
use weft_store::Transaction;

mod revocation;

const PATIENCE: Duration = Duration::from_secs(10);

async fn start(state: &Path) -> Running {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let config = Config {
        state: state.to_owned(),
        api: any,
        xds: any,
        dns: any,
        store: None,
        trust_domain: None,
        advertise: None,
    };
    weft_control::start(config).await.unwrap()
}

async fn channel(at: SocketAddr, tls: Arc<rustls::ClientConfig>) -> Channel {
    let connect = tower::service_fn(move |_: http::Uri| {
        let tls = tokio_rustls::TlsConnector::from(tls.clone());
        async move {
            let stream = tokio::net::TcpStream::connect(at).await?;
            let name = ServerName::try_from("control.mesh.internal").map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, stream).await?))
        }
    });
    Endpoint::from_static("http://control.mesh.internal").connect_with_connector(connect).await.unwrap()
}

fn control(bundle: &Bundle) -> IdentityMatch {
    IdentityMatch::Exact(vec![SpiffeId::control(bundle.trust_domain())])
}

async fn stranger(running: &Running, bundle: &Bundle) -> LinkClient<Channel> {
    let tls = weft_identity::tls::client_config_anonymous(bundle, control(bundle), &["h2"]).unwrap();
    LinkClient::new(channel(running.xds, tls).await)
}

async fn as_member(running: &Running, svid: &Svid, bundle: &Bundle) -> Channel {
    let tls = weft_identity::tls::client_config(svid, bundle, control(bundle), &["h2"]).unwrap();
    channel(running.xds, tls).await
}

async fn token(running: &Running, service: &str) -> JoinToken {
    let core = running.core();
    let ttl = Duration::from_secs(60);
    core.authority.token(core.store.as_ref(), "default", service, ttl, SystemTime::now()).await.unwrap()
}

fn request(token: &JoinToken, service: &str, csr_der: Vec<u8>) -> JoinRequest {
    JoinRequest { token: token.encode(), csr_der, service: service.into(), namespace: "default".into() }
}

fn csr(key: &PrivateKey, service: &str) -> Vec<u8> {
    let td = TrustDomain::new("mesh.internal").unwrap();
    key.csr_der(&SpiffeId::service(&td, "default", service).unwrap()).unwrap()
}

async fn join(running: &Running, service: &str) -> (Svid, Bundle) {
    let token = token(running, service).await;
    let key = PrivateKey::generate().unwrap();
    let mut link = stranger(running, &token.bundle).await;
    let answer = link.join(request(&token, service, csr(&key, service))).await.unwrap().into_inner();
    let chain = answer.chain_der.into_iter().map(CertificateDer::from).collect();
    let td = TrustDomain::new(&answer.trust_domain).unwrap();
    (Svid::new(chain, key).unwrap(), Bundle::from_pem(td, &answer.bundle_pem).unwrap())
}

fn hello(service: &str, workload: &str) -> Hello {
    Hello {
        workload_name: workload.into(),
        namespace: "default".into(),
        service: service.into(),
        labels: [("version".to_owned(), "v1".to_owned())].into(),
        address: "127.0.0.9".into(),
        inbound_port: 15006,
        ports: vec![Port { name: "http".into(), port: 8080 }],
        kind: "weft".into(),
        version: "0.1.0".into(),
        ..Hello::default()
    }
}

async fn say(channel: Channel, first: Hello) -> Result<(mpsc::Sender<Up>, tonic::Streaming<Down>), Status> {
    let (ups, stream) = mpsc::channel(16);
    ups.send(first.into()).await.unwrap();
    let downs = LinkClient::new(channel).connect(ReceiverStream::new(stream)).await?.into_inner();
    Ok((ups, downs))
}

/// What comes next but for the list of what is revoked, which comes when it will.
async fn heard(downs: &mut tonic::Streaming<Down>) -> Option<down::Message> {
    loop {
        let down = tokio::time::timeout(PATIENCE, downs.message()).await.unwrap().unwrap().unwrap();
        if !matches!(down.message, Some(down::Message::Crl(_))) {
            return down.message;
        }
    }
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn put(running: &Running, kind: Kind, name: &str, spec: serde_json::Value) {
    let namespace = if kind.info().namespaced { "default" } else { "" };
    let object = weft_control::seed::object(kind, namespace, name, spec, SystemTime::now());
    let write =
        Transaction::put(weft_control::seed::key(kind, namespace, name), object.to_string().into_bytes());
    running.core().store.commit(write).await.unwrap();
}

fn node(id: &str, cluster: &str) -> Node {
    let text = |text: &str| Value { kind: Some(Word::StringValue(text.to_owned())) };
    let fields = [
        ("kind", text("weft")),
        ("address", text("127.0.0.9")),
        ("outbound_address", text("127.0.0.9:15001")),
    ];
    Node {
        id: id.into(),
        cluster: cluster.into(),
        metadata: Some(Struct { fields: fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect() }),
        ..Default::default()
    }
}

async fn ask(channel: Channel, node: Node, type_url: &str) -> Result<DiscoveryResponse, Status> {
    let (requests, stream) = mpsc::channel(4);
    requests
        .send(DiscoveryRequest { node: Some(node), type_url: type_url.into(), ..Default::default() })
        .await
        .unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let mut answers = client.stream_aggregated_resources(ReceiverStream::new(stream)).await?.into_inner();
    let answer = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap()?;
    drop(requests);
    Ok(answer.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_once_and_only_for_its_service() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let token = token(&running, "fe").await;
    let mut link = stranger(&running, &token.bundle).await;
    let key = PrivateKey::generate().unwrap();

    let wrong = link.join(request(&token, "be1", csr(&key, "be1"))).await.unwrap_err();
    assert_eq!(wrong.code(), Code::PermissionDenied, "{wrong}");
    let other = link.join(request(&token, "fe", csr(&key, "be1"))).await.unwrap_err();
    assert!(other.message().contains("another identity"), "{other}");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.subject_alt_names =
        vec![rcgen::SanType::URI("spiffe://mesh.internal/ns/default/sa/fe".try_into().unwrap())];
    let pair = rcgen::KeyPair::generate().unwrap();
    let authority = params.serialize_request(&pair).unwrap().der().to_vec();
    let refused = link.join(request(&token, "fe", authority)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");

    link.join(request(&token, "fe", csr(&key, "fe"))).await.unwrap();
    let replay = link.join(request(&token, "fe", csr(&key, "fe"))).await.unwrap_err();
    assert!(replay.message().contains("used before"), "{replay}");

    let counters = &running.core().counters;
    for reason in ["other_service", "other_id", "asks_for_ca", "unknown_or_used_token"] {
        assert_eq!(counters.get("join_refused", reason), 1, "{reason}: {:?}", counters.all());
    }
    assert_eq!(counters.get("joined", "token"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_users_of_one_token_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let token = token(&running, "fe").await;
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut link = stranger(&running, &token.bundle).await;
        let key = PrivateKey::generate().unwrap();
        let request = request(&token, "fe", csr(&key, "fe"));
        tries.spawn(async move { link.join(request).await.is_ok() });
    }
    let won = tries.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_joins_is_an_endpoint_measures_and_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    put(
        &running,
        Kind::Service,
        "be4",
        json!({"selector": {"app": "be4"}, "ports": [{"port": 80, "targetPort": 8080}]}),
    )
    .await;
    let (svid, bundle) = join(&running, "be4").await;
    assert_eq!(svid.id().as_str(), "spiffe://mesh.internal/ns/default/sa/be4");
    let member = as_member(&running, &svid, &bundle).await;

    let key = PrivateKey::generate().unwrap();
    LinkClient::new(member.clone()).renew(RenewRequest { csr_der: csr(&key, "be4") }).await.unwrap();
    let stolen =
        LinkClient::new(member.clone()).renew(RenewRequest { csr_der: csr(&key, "fe") }).await.unwrap_err();
    assert_eq!(stolen.code(), Code::PermissionDenied);

    let pretended = say(member.clone(), hello("fe", "fe-1")).await.unwrap_err();
    assert_eq!(pretended.code(), Code::PermissionDenied);
    let (ups, mut downs) = say(member.clone(), hello("be4", "be4-1")).await.unwrap();
    let welcome = downs.message().await.unwrap().unwrap().message;
    assert!(matches!(welcome, Some(down::Message::Welcome(w)) if w.lease_seconds == 15));
    let core = running.core().clone();
    until("the endpoint", async || {
        let now = core.now();
        now.services.values().find(|s| s.id.name == "be4").filter(|s| s.instances.len() == 1).map(|_| ())
    })
    .await;

    let unix = weft_control::clock::unix(SystemTime::now());
    let cell = Cell {
        caller: "default/fe".into(),
        service: "default/be4".into(),
        code: 500,
        grpc_status: -1,
        tls: "mtls".into(),
        direction: "inbound".into(),
        requests: 3,
        errors: 3,
        durations: vec![Bin { index: 50, count: 3 }],
        ..Cell::default()
    };
    let buckets = Buckets { start_unix: unix - unix % 10, sequence: 1, cells: vec![cell] };
    ups.send(buckets.clone().into()).await.unwrap();
    ups.send(buckets.into()).await.unwrap();
    for _ in 0..2 {
        let ack = heard(&mut downs).await;
        assert!(matches!(ack, Some(down::Message::Ack(ack)) if ack.sequence == 1), "{ack:?}");
    }
    assert_eq!(core.history.history().edges(unix - 60, unix + 1).edges[0].counts.requests, 3);

    ups.send(weft_link::Leave {}.into()).await.unwrap();
    until("the endpoint to go", async || core.now().instances.is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_is_its_own_services_or_its_writers() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let (svid, bundle) = join(&running, "be4").await;
    let be4 = as_member(&running, &svid, &bundle).await;
    let (svid, bundle) = join(&running, "be2").await;
    let be2 = as_member(&running, &svid, &bundle).await;
    let (_ups, _downs) = say(be4.clone(), hello("be4", "be4")).await.unwrap();
    put(&running, Kind::Workload, "by-hand", json!({"service": "be2", "address": "127.0.0.8"})).await;

    for name in ["be4", "by-hand"] {
        let refused = say(be2.clone(), hello("be2", name)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert!(refused.message().contains("is taken"), "{refused}");
    }
    let core = running.core();
    assert_eq!(core.counters.get("hello_refused", "workload_taken"), 2);
    let key = weft_control::seed::key(Kind::Workload, "default", "be4");
    let stored = core.store.get(&key).await.unwrap().unwrap();
    let object: serde_json::Value = serde_json::from_slice(&stored.value).unwrap();
    assert_eq!(object["spec"]["identity"], "spiffe://mesh.internal/ns/default/sa/be4");
    // Its own proxy may come back while the older stream still stands.
    say(be4, hello("be4", "be4")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_of_another_name_does_not_prevent_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca");
    let td = TrustDomain::new("prod.example").unwrap();
    weft_identity::Issuer::open(&ca, &td, SystemTime::now()).unwrap();
    let place = dir.path().join("store.redb");
    {
        let store = weft_store::open(place.to_str().unwrap()).unwrap();
        let spec = json!({"trustDomain": "other.example"});
        let mesh = weft_control::seed::object(Kind::Mesh, "", "default", spec, SystemTime::now());
        let key = weft_control::seed::key(Kind::Mesh, "", "default");
        store.commit(Transaction::put(key, mesh.to_string().into_bytes())).await.unwrap();
    }
    let mut tries = 0;
    let running = loop {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let config = Config {
            state: dir.path().to_owned(),
            api: any,
            xds: any,
            dns: any,
            store: None,
            trust_domain: None,
            advertise: None,
        };
        match weft_control::start(config).await {
            Ok(running) => break running,
            Err(error) if tries > 50 => unreachable!("{error:#}"),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(running.core().trust_domain, "prod.example");
}

#[tokio::test(flavor = "multi_thread")]
async fn xds_is_for_members_and_only_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    put(&running, Kind::Service, "fe", json!({"selector": {"app": "fe"}, "ports": [{"port": 80}]})).await;
    let core = running.core().clone();
    until("the service", async || core.now().services.values().any(|s| s.vip.is_some()).then_some(())).await;
    let (svid, bundle) = join(&running, "fe").await;
    let member = as_member(&running, &svid, &bundle).await;

    let answer = ask(member.clone(), node("default/fe-1", "fe"), weft_xds::CDS).await.unwrap();
    assert_eq!(answer.resources.len(), 3, "inbound|80, nowhere, outbound|80|fe.default");

    let of_another = ask(member.clone(), node("default/be4-1", "be4"), weft_xds::CDS).await.unwrap_err();
    assert_eq!(of_another.code(), Code::PermissionDenied, "{of_another}");
    let anonymous = weft_identity::tls::client_config_anonymous(&bundle, control(&bundle), &["h2"]).unwrap();
    let nobody = channel(running.xds, anonymous).await;
    let refused = ask(nobody, node("default/fe-1", "fe"), weft_xds::CDS).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_the_ca_the_workloads_and_the_counts() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let (svid, bundle) = join(&running, "fe").await;
    let member = as_member(&running, &svid, &bundle).await;
    let (_ups, _downs) = say(member, hello("fe", "fe-1")).await.unwrap();
    running.shutdown();
    running.stopped().await;

    // The store's and the history's locks go with their last users; a moment for those to end.
    let running = {
        let mut tries = 0;
        loop {
            let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
            let config = Config {
                state: dir.path().to_owned(),
                api: any,
                xds: any,
                dns: any,
                store: None,
                trust_domain: None,
                advertise: None,
            };
            match weft_control::start(config).await {
                Ok(running) => break running,
                Err(error) if tries > 50 => unreachable!("{error:#}"),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let now = running.core().now();
    assert!(now.instances.values().any(|instance| instance.name == "fe-1"), "one lease of grace");
    // The old certificate is still good: the CA is the same.
    let member = as_member(&running, &svid, &bundle).await;
    say(member, hello("fe", "fe-1")).await.unwrap();
}

/// The addresses and ports of a cluster's endpoints in the newest resources of a view.
fn endpoints(resources: &weft_xds::Resources, cluster: &str) -> Vec<String> {
    use envoy_types::pb::envoy::config::core::v3::address::Address;
    use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier};
    let found = resources.get(weft_xds::EDS, cluster).unwrap().decode::<ClusterLoadAssignment>().unwrap();
    let members = found.endpoints.into_iter().flat_map(|locality| locality.lb_endpoints);
    let addresses = members.map(|member| match member.host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => match endpoint.address.and_then(|it| it.address) {
            Some(Address::SocketAddress(socket)) => socket.address,
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    });
    addresses.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_says_of_its_health_reaches_its_callers_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let spec = json!({"selector": {"app": "be4"}, "ports": [{"port": 80, "targetPort": 8080}]});
    put(&running, Kind::Service, "be4", spec).await;
    let (svid, bundle) = join(&running, "be4").await;
    let member = as_member(&running, &svid, &bundle).await;
    let mut links = Vec::new();
    for (name, address) in [("be4-1", "127.0.0.11"), ("be4-2", "127.0.0.12")] {
        let hello = Hello { address: address.into(), ..hello("be4", name) };
        links.push(say(member.clone(), hello).await.unwrap());
    }
    let core = running.core().clone();
    let view = weft_control::translate::view::ProxyView {
        namespace: "default".into(),
        service: "fe".into(),
        workload: "fe-1".into(),
        kind: weft_control::translate::view::ProxyKind::Weft,
        inbound: "127.0.0.9:15006".parse().unwrap(),
        outbound: "127.0.0.9:15001".parse().unwrap(),
        app: "127.0.0.9".parse().unwrap(),
        secrets: false,
        tunnels: false,
        grpc_web: true,
        proxy_headers: true,
        datagrams: Vec::new(),
    };
    let resources = core.views.subscribe(&view);
    let now = || endpoints(&resources.borrow(), "outbound|80|be4.default");
    let both = vec!["127.0.0.11".to_owned(), "127.0.0.12".to_owned()];
    until("both", async || (now() == both).then_some(())).await;
    // Who is ill or leaves gets nothing; when nobody is left that is well, all get calls rather than none.
    for (who, status, expected) in [
        (0, "Unhealthy", &both[1..]),
        (1, "Unhealthy", &both[..]),
        (0, "Healthy", &both[..1]),
        (1, "Healthy", &both[..]),
        (1, "Draining", &both[..1]),
        (0, "Draining", &both[..]),
        (1, "Healthy", &both[1..]),
    ] {
        let said = tokio::time::Instant::now();
        links[who].0.send(weft_link::Health { status: status.into() }.into()).await.unwrap();
        until(status, async || (now() == expected).then_some(())).await;
        assert!(said.elapsed() < Duration::from_secs(1), "{status} took {:?}", said.elapsed());
    }
    // A word that is none changes nothing, and the stream goes on.
    links[1].0.send(weft_link::Health { status: "Splendid".into() }.into()).await.unwrap();
    links[0].0.send(weft_link::Health { status: "Healthy".into() }.into()).await.unwrap();
    until("both again", async || (now() == both).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ill_app_is_ill_after_a_reconnect_too() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let (svid, bundle) = join(&running, "be4").await;
    let member = as_member(&running, &svid, &bundle).await;
    let core = running.core().clone();
    let stored = async || {
        let info = Kind::Workload.info();
        let key = weft_store::Key::new(info.group, info.plural, "default", "be4-1");
        let found = core.store.get(&key).await.unwrap().unwrap();
        let object: serde_json::Value = serde_json::from_slice(&found.value).unwrap();
        object["spec"]["health"].as_str().unwrap().to_owned()
    };
    // What a hello says of the app, and what is known of it then; the hello is answered after it is written.
    for (said, known) in
        [("", "Healthy"), ("Unhealthy", "Unhealthy"), ("", "Unhealthy"), ("Healthy", "Healthy")]
    {
        let hello = Hello { health: said.into(), ..hello("be4", "be4-1") };
        let _stream = say(member.clone(), hello).await.unwrap();
        assert_eq!(stored().await, known, "after a hello with {said:?}");
    }
    let (ups, _downs) = say(member.clone(), hello("be4", "be4-1")).await.unwrap();
    ups.send(weft_link::Health { status: "Unhealthy".into() }.into()).await.unwrap();
    until("ill", async || (stored().await == "Unhealthy").then_some(())).await;
    let _again = say(member.clone(), hello("be4", "be4-1")).await.unwrap();
    assert_eq!(stored().await, "Unhealthy", "a proxy that says nothing of its app leaves it as it was");
    let wrong = Hello { health: "Splendid".into(), ..hello("be4", "be4-1") };
    assert!(say(member, wrong).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_the_age_of_a_proxy_s_last_known_good() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let (svid, bundle) = join(&running, "be4").await;
    let member = as_member(&running, &svid, &bundle).await;
    let core = running.core().clone();
    let age = || core.proxies.rows(SystemTime::now())[0].lkg_age_s;
    let (ups, _downs) = say(member.clone(), hello("be4", "be4-1")).await.unwrap();
    assert_eq!(age(), None);
    let minute_ago = SystemTime::now() - Duration::from_secs(60);
    let confirmed_unix = minute_ago.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    ups.send(weft_link::Kept { confirmed_unix }.into()).await.unwrap();
    let seconds = until("an age", async || age()).await;
    assert!((60..90).contains(&seconds), "{seconds} s");
    let _again = say(member, hello("be4", "be4-1")).await.unwrap();
    assert_eq!(age(), None, "perhaps another process with another disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_roots_are_told_to_those_who_are_connected() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let (svid, bundle) = join(&running, "fe").await;
    let member = as_member(&running, &svid, &bundle).await;
    let (_ups, mut downs) = say(member, hello("fe", "fe-1")).await.unwrap();
    let welcome = downs.message().await.unwrap().unwrap().message;
    assert!(matches!(welcome, Some(down::Message::Welcome(w)) if w.bundle_pem == bundle.to_pem()));

    let elsewhere = tempfile::tempdir().unwrap();
    let next =
        weft_identity::Issuer::open(elsewhere.path(), bundle.trust_domain(), SystemTime::now()).unwrap();
    let file = dir.path().join("ca").join(weft_control::authority::TRUSTED_FILE);
    std::fs::write(file, next.bundle().to_pem()).unwrap();
    assert!(running.core().authority.refresh(SystemTime::now()).unwrap());
    let told = heard(&mut downs).await;
    let Some(down::Message::Bundle(told)) = told else { unreachable!("{told:?}") };
    let told = Bundle::from_pem(bundle.trust_domain().clone(), &told.bundle_pem).unwrap();
    assert_eq!(told.roots(), [bundle.roots(), next.bundle().roots()].concat());

    // Who comes later is welcomed with both, and a member of the old root is still let in by the new trust.
    let (svid, later) = join(&running, "be1").await;
    assert_eq!(later.roots().len(), 2);
    let member = as_member(&running, &svid, &later).await;
    say(member, hello("be1", "be1-1")).await.unwrap();
}

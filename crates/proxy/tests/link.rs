//! What comes and goes by the link while a proxy runs: new trust bundles down, its app's health up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

mod mesh;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh::{
    App, Ca,
    control::{Control, Plan, Table},
    eventually, get, id,
    member::{Member, Running},
    xds::{Speak, cluster, http, listener, member_chain, plain_chain, to, vhost},
};
use rustls_pki_types::ServerName;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;
use weft_identity::{Bundle, IdentityMatch, SpiffeId, tls};
use weft_link::Bundle as Pushed;
use weft_xds::{Resource, Resources};

const SNI: &str = "p8080.mesh.internal";

/// Not a test by itself.
#[test]
fn is_a_member_when_told_to() {
    mesh::member::be_one_if_told();
}

/// The service `be`, calling itself through both of its sides.
fn resources(outbound: SocketAddr, inbound: SocketAddr, app: SocketAddr) -> Resources {
    let hosts = vec![vhost("be", &["be"], vec![to("/", "outbound|80|be.default")])];
    let web = http("inbound|8080", vec![vhost("all", &["*"], vec![to("/", "inbound|8080")])], None);
    let mtls = Some((SNI, id("be")));
    let mtls = mtls.as_ref().map(|(sni, id)| (*sni, id.as_str()));
    let mut builder = Resources::builder();
    for (name, body) in [
        ("inbound|8080", cluster("inbound|8080", &[app], Speak::Http1, None)),
        ("outbound|80|be.default", cluster("outbound|80|be.default", &[inbound], Speak::Http2, mtls)),
        ("outbound", listener("outbound", outbound, vec![plain_chain(http("outbound", hosts, None))])),
        ("inbound", listener("inbound", inbound, vec![member_chain(SNI, &["h2", "http/1.1"], web)])),
    ] {
        builder.put(Resource::new(name, body));
    }
    builder.build("test")
}

async fn started(app: SocketAddr, ca: &Ca, app_port: Option<u16>) -> (Member, Control, Running) {
    let table: Table = Arc::new(move |outbound, inbound| resources(outbound, inbound, app));
    let plan = Plan { ca: ca.clone(), service: "be".to_owned(), first_ttl: Duration::from_secs(3600), table };
    let control = Control::start(&plan, "127.0.0.1:0".parse().unwrap()).await;
    let mut member = Member::new("be", control.address, Some(plan.token()));
    member.app_port = app_port;
    let running = member.start().await;
    eventually("the configuration", async || get(running.admin, "x", "/ready").await.ends_with("LIVE\n"))
        .await;
    eventually("the link", async || control.seen.lock().unwrap().hello.is_some()).await;
    (member, control, running)
}

async fn certs(running: &Running) -> serde_json::Value {
    let page = get(running.admin, "x", "/certs").await;
    serde_json::from_str(page.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// Whether the proxy's inbound side takes a member of this CA.
async fn takes(running: &Running, ca: &Ca, trusts: &Bundle) -> bool {
    let (svid, _) = ca.identity("fe");
    let wanted = SpiffeId::service(&ca.trust_domain(), "default", "be").unwrap();
    let config = tls::client_config(&svid, trusts, IdentityMatch::Exact(vec![wanted]), &["h2"]).unwrap();
    let stream = TcpStream::connect(running.inbound).await.unwrap();
    let name = ServerName::try_from(SNI).unwrap();
    let Ok(mut stream) = TlsConnector::from(config).connect(name, stream).await else { return false };
    // With TLS 1.3 a client hears of its refusal only when it reads; HTTP/2 servers speak first.
    tokio::time::timeout(mesh::LIMIT, stream.read_u8()).await.expect("an answer in time").is_ok()
}

/// A bundle that is pushed is stored, and in force for new connections of both directions; old ones of the proxy's own
/// are not used any more, requests don't notice, and nonsense changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundle_push_reaches_a_running_proxy() {
    let (ca, next) = (Ca::new(), Ca::new());
    let app = App::start().await;
    let (member, control, running) = started(app.address, &ca, None).await;
    let works = async || get(running.outbound, "be", "/x").await.starts_with("HTTP/1.1 200 ");
    let opened = async || {
        let page = get(running.metrics, "x", "/metrics").await;
        let line = "weft_upstream_connections_total{cluster=\"outbound|80|be.default\"} ";
        page.lines().find_map(|found| found.strip_prefix(line)).map_or(0, |count| count.parse().unwrap())
    };
    assert!(works().await && works().await);
    let before: u64 = opened().await;
    assert_eq!(before, 1, "one connection, kept");
    assert!(takes(&running, &ca, &ca.bundle()).await);
    assert!(!takes(&running, &next, &ca.bundle()).await, "not trusted yet");
    let generation = certs(&running).await["certificates"]["generation"].as_u64().unwrap();

    control.say(Pushed { bundle_pem: "no certificate".to_owned() }.into());
    let both = format!("{}{}", ca.bundle().to_pem(), next.bundle().to_pem());
    control.say(Pushed { bundle_pem: both.clone() }.into());
    eventually("both roots", async || certs(&running).await["certificates"]["roots"] == 2).await;
    assert_eq!(
        certs(&running).await["certificates"]["generation"],
        generation + 1,
        "the nonsense counts for nothing"
    );
    eventually("the new root is trusted", async || takes(&running, &next, &ca.bundle()).await).await;
    assert!(takes(&running, &ca, &ca.bundle()).await, "the old one still");
    assert!(works().await && works().await);
    assert_eq!(opened().await, before + 1, "a connection of the old generation is not used again");
    assert_eq!(std::fs::read_to_string(member.state.join("identity/bundle.pem")).unwrap(), both);
    member.forget();
}

/// An app that is not there is told to the control plane, so is its coming, going and coming back; nothing of it is
/// traffic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn app_health_is_told() {
    let place = mesh::free_port();
    let (member, control, running) = started(place, &Ca::new(), Some(place.port())).await;
    let told = || control.seen.lock().unwrap().health.clone();
    eventually("the first state", async || told() == ["Unhealthy"]).await;
    assert!(get(running.admin, "x", "/ready").await.ends_with("LIVE\n"), "the proxy itself is ready");
    let listen = async || {
        let listener = TcpListener::bind(place).await.unwrap();
        tokio::spawn(async move {
            loop {
                drop(listener.accept().await);
            }
        })
        .abort_handle()
    };
    let app = listen().await;
    eventually("the app is there", async || told() == ["Unhealthy", "Healthy"]).await;
    app.abort();
    let died = Instant::now();
    eventually("the app is gone", async || told().len() == 3).await;
    println!("gone after {:?}", died.elapsed());
    assert!(died.elapsed() < Duration::from_secs(6), "{:?}", died.elapsed());
    let _app = listen().await;
    eventually("it is back", async || told() == ["Unhealthy", "Healthy", "Unhealthy", "Healthy"]).await;
    assert!(control.seen.lock().unwrap().cells.is_empty(), "checks are counted");
    member.forget();
}

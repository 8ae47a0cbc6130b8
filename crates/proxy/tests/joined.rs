//! A proxy that joins a control plane: token, xDS, measurements, agent socket. The control plane is a small fake that
//! speaks the real protocols.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is a failed test, also in the helpers"
)]

mod mesh;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::uri::PathAndQuery;
use mesh::{
    App, Ca, LIMIT,
    control::{Control, Plan},
    eventually, get,
    xds::{Speak, cluster, direct, http, listener, member_chain, plain_chain, to, vhost},
};
use tonic::{Request, Status};
use weft_proxy::{
    Config, PortsWanted,
    workload_api::{Empty, X509SvidResponse},
};
use weft_xds::{Resource, Resources};

const FIRST_TTL: Duration = Duration::from_secs(8);

fn table(outbound: SocketAddr, inbound: SocketAddr, app: SocketAddr, text: &str) -> Resources {
    let own = mesh::id("be");
    let sni = "p8080.mesh.internal";
    let hosts = vec![
        vhost("direct", &["direct"], vec![direct("/", 200, text)]),
        vhost("be", &["be"], vec![to("/", "outbound|80|be.default")]),
    ];
    let web = http("inbound|8080", vec![vhost("all", &["*"], vec![to("/", "inbound|8080")])], None);
    let mut builder = Resources::builder();
    for (name, body) in [
        ("inbound|8080", cluster("inbound|8080", &[app], Speak::Http1, None)),
        (
            "outbound|80|be.default",
            cluster("outbound|80|be.default", &[inbound], Speak::Http2, Some((sni, &own))),
        ),
        ("outbound", listener("outbound", outbound, vec![plain_chain(http("outbound", hosts, None))])),
        ("inbound", listener("inbound", inbound, vec![member_chain(sni, &["h2", "http/1.1"], web)])),
    ] {
        builder.put(Resource::new(name, body));
    }
    builder.build("test")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_joins_serves_measures_and_leaves() {
    let ca = Ca::new();
    let app = App::start().await;
    let at = app.address;
    let plan = Plan {
        ca,
        service: "be".to_owned(),
        first_ttl: FIRST_TTL, // renewed before the test is over
        table: Arc::new(move |outbound, inbound| table(outbound, inbound, at, "one")),
    };
    let control = Control::start(&plan, "127.0.0.1:0".parse().unwrap()).await;
    let seen = Arc::clone(&control.seen);

    let state = std::env::temp_dir().join(format!("weft-joined-{:x}", fastrand::u64(..)));
    let mut config = Config::new("default", "be", state.clone());
    config.control = Some(weft_proxy::Control {
        address: format!("https://{}", control.address),
        token: Some(plan.token()),
    });
    config.node.labels.insert("version".to_owned(), "v2".to_owned());
    let any = Some("127.0.0.1:0".parse().unwrap());
    config.ports = PortsWanted { outbound: any, inbound: any, admin: any, metrics: any };
    config.drain = weft_proxy::Drain { delay: Duration::ZERO, timeout: Duration::from_secs(2) };
    config.signals = false;
    let stop = config.stop.clone();
    let (sender, ready) = std::sync::mpsc::channel();
    config.on_ready = Some(Box::new(move |ports| sender.send(ports).unwrap()));
    let proxy = std::thread::spawn(move || weft_proxy::run(config));
    let ports = ready.recv_timeout(LIMIT).unwrap();
    let (outbound, admin) = (ports.outbound.unwrap(), ports.admin.unwrap());
    let joined = std::time::Instant::now();

    eventually("the first table", async || get(admin, "x", "/ready").await.ends_with("LIVE\n")).await;
    assert!(get(outbound, "direct", "/").await.ends_with("one"));
    for _ in 0..3 {
        let answer = get(outbound, "be", "/x").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    // A change is followed; a bad one is refused and changes nothing.
    let changed = table(outbound, ports.inbound.unwrap(), app.address, "two");
    control.publish(changed);
    eventually("the second table", async || get(outbound, "direct", "/").await.ends_with("two")).await;
    let mut broken = Resources::builder();
    broken.put(Resource::new("outbound", listener("outbound", outbound, Vec::new())));
    control.publish(broken.build("broken"));
    eventually("the refusal", async || {
        !get(admin, "x", "/config_dump").await.contains("\"last_nack\": null")
    })
    .await;
    assert!(get(outbound, "direct", "/").await.ends_with("two"));

    // Every request is counted once, at the callee.
    eventually("the measurements", async || {
        seen.lock().unwrap().cells.iter().map(|cell| cell.requests).sum::<u64>() >= 3
    })
    .await;
    {
        let seen = seen.lock().unwrap();
        let hello = seen.hello.as_ref().unwrap();
        assert_eq!((hello.service.as_str(), hello.labels["version"].as_str()), ("be", "v2"));
        assert_eq!(hello.inbound_port, u32::from(ports.inbound.unwrap().port()));
        for cell in &seen.cells {
            let place =
                (cell.caller.as_str(), cell.service.as_str(), cell.version.as_str(), cell.direction.as_str());
            assert_eq!(place, ("default/be", "default/be", "v2", "inbound"));
            assert_eq!((cell.code, cell.tls.as_str(), cell.grpc_status), (200, "mtls", -1));
        }
        assert_eq!(seen.cells.iter().map(|cell| cell.requests).sum::<u64>(), 3);
    }

    // The agent's socket gives the identity to local apps, if they ask properly.
    let socket = ports.agent.unwrap();
    let svid = fetch(&socket, true).await.unwrap();
    assert_eq!(svid.svids[0].spiffe_id, mesh::id("be"));
    assert_eq!(fetch(&socket, false).await.unwrap_err().code(), tonic::Code::InvalidArgument);

    let metrics = get(ports.metrics.unwrap(), "x", "/metrics").await;
    assert!(metrics.contains("weft_requests_total{code=\"2xx\",listener=\"inbound\"} 3"), "{metrics}");

    // The certificate is renewed in time; requests go on with the new one, after the old one has expired too.
    let first = svid.svids[0].x509_svid.clone();
    eventually("the renewal", async || {
        fetch(&socket, true).await.unwrap().svids[0].x509_svid != first && seen.lock().unwrap().renewals == 1
    })
    .await;
    tokio::time::sleep(FIRST_TTL.saturating_sub(joined.elapsed())).await;
    let answer = get(outbound, "be", "/x").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    stop.cancel();
    tokio::task::spawn_blocking(move || proxy.join().unwrap().unwrap()).await.unwrap();
    assert!(seen.lock().unwrap().left);
    assert!(!socket.exists());
    std::fs::remove_dir_all(&state).unwrap();
}

async fn fetch(socket: &std::path::Path, header: bool) -> Result<X509SvidResponse, Status> {
    let socket = socket.to_owned();
    let channel = tonic::transport::Endpoint::from_static("http://agent")
        .connect_with_connector(tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
        }))
        .await
        .unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let mut request = Request::new(Empty {});
    if header {
        request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    }
    let path = PathAndQuery::from_static("/SpiffeWorkloadAPI/FetchX509SVID");
    let codec = tonic_prost::ProstCodec::<Empty, X509SvidResponse>::default();
    let mut answers = client.server_streaming(request, path, codec).await?.into_inner();
    answers.message().await.map(Option::unwrap)
}

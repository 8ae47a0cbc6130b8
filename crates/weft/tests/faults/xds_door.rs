//! Who may not have configuration gets none (S-CP-05): nothing in plain text, nothing without a member's
//! certificate, and a member nothing but its own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tonic::{Code, Status};
use weft_identity::{Bundle, Issuer, PrivateKey, Svid, TrustDomain};
use weft_testkit::Mesh;

use crate::WEFT;
use crate::join::{channel, count, id, join_as, token};

const TYPES: [&str; 4] = [
    "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    "type.googleapis.com/envoy.service.runtime.v3.Runtime",
];

const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: be1}
spec: {selector: {app: be1}, ports: [{port: 80}]}
---
apiVersion: weft.dev/v1
kind: Workload
metadata: {name: be1-1, labels: {app: be1}}
spec: {service: be1, address: 127.0.0.1, ports: [{port: 8080}], inboundPort: 15006, identity: \"spiffe://mesh.internal/ns/default/sa/be1\"}
";

/// How many resources of all types this caller gets as this node; or why none.
async fn resources(
    mesh: &Mesh,
    bundle: &Bundle,
    svid: Option<&Svid>,
    node: &str,
    cluster: &str,
) -> Result<usize, Status> {
    let channel =
        channel(mesh, bundle, svid).await.map_err(|error| Status::unauthenticated(format!("{error:?}")))?;
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let node = Node { id: node.into(), cluster: cluster.into(), ..Node::default() };
    let requests: Vec<DiscoveryRequest> = TYPES
        .iter()
        .map(|url| DiscoveryRequest {
            node: Some(node.clone()),
            type_url: (*url).to_owned(),
            // Secrets are asked for by name: one's own, somebody else's, the trust bundle.
            resource_names: match url.ends_with("Secret") {
                true => vec!["spiffe://mesh.internal/ns/default/sa/be1".into(), "default".into()],
                false => Vec::new(),
            },
            ..DiscoveryRequest::default()
        })
        .collect();
    // The stream stays open after the requests, as a proxy's does.
    let stream = futures_util::StreamExt::chain(
        tokio_stream::iter(requests),
        futures_util::stream::pending::<DiscoveryRequest>(),
    );
    let mut answers = client.stream_aggregated_resources(stream).await?.into_inner();
    let mut found = 0;
    loop {
        match tokio::time::timeout(Duration::from_millis(1500), answers.message()).await {
            Ok(Ok(Some(answer))) => {
                assert!(
                    !answer.type_url.ends_with("Secret") || answer.resources.is_empty(),
                    "a secret: {answer:?}"
                );
                found += answer.resources.len();
            }
            Ok(Ok(None)) | Err(_) => return Ok(found),
            Ok(Err(status)) => return Err(status),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_is_for_whom_it_is() {
    let mesh = Mesh::start(WEFT).unwrap();
    mesh.apply(OBJECTS).unwrap();
    let ticket = token(&mesh, "fe", "10m");
    let bundle = ticket.bundle.clone();
    let fe = join_as(&mesh, "fe", &ticket).await;

    // The guard: a member with its own certificate and name does get something.
    let own =
        resources(&mesh, &bundle, Some(&fe), "default/fe-1", "fe").await.expect("its own configuration");
    assert!(own > 0, "{own} resources: the other answers would say nothing");

    for (what, node, cluster) in [
        ("another's workload", "default/be1-1", ""),
        ("another's workload under its own service", "default/be1-1", "fe"),
        ("another's service", "default/fe-1", "be1"),
        ("another namespace", "shop/fe-1", "fe"),
    ] {
        let before = count(&mesh, "xds_refused", Code::PermissionDenied.description());
        let refused = resources(&mesh, &bundle, Some(&fe), node, cluster).await.expect_err(what);
        assert_eq!(refused.code(), Code::PermissionDenied, "{what}: {refused}");
        let after = count(&mesh, "xds_refused", Code::PermissionDenied.description());
        assert!(after > before, "{what}: refused and counted");
    }

    let nobody = resources(&mesh, &bundle, None, "default/fe-1", "fe").await.expect_err("no certificate");
    assert_eq!(nobody.code(), Code::PermissionDenied, "{nobody}");

    // The same name from another mesh's CA: not even a handshake.
    let domain = TrustDomain::new("mesh.internal").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let other = Issuer::open(&folder.path().join("ca"), &domain, SystemTime::now()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let csr = key.csr_der(&id("fe")).unwrap();
    let issued = other.issue(&csr, &id("fe"), SystemTime::now(), Duration::from_secs(3600), [1; 16]).unwrap();
    let forged = Svid::new(issued.chain, key).unwrap();
    assert!(resources(&mesh, &bundle, Some(&forged), "default/fe-1", "fe").await.is_err());

    plain_text(&mesh);
    let log = mesh.control.log_text();
    assert!(!log.contains("panicked"), "{log}");
}

/// Nothing is said to who does not speak TLS, whatever it says.
fn plain_text(mesh: &Mesh) {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for (what, said) in [
        ("HTTP/2", &preface[..]),
        ("HTTP/1", b"GET /debug/config_dump HTTP/1.1\r\nHost: control\r\n\r\n"),
        ("rubbish", b"\0\0\0\0\0\0\0\0"),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", mesh.xds)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(said).unwrap();
        let mut answer = Vec::new();
        // An alert and the end, or a reset: both say no.
        let ended = stream.read_to_end(&mut answer);
        let timed_out = ended.is_err_and(|error| {
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        });
        assert!(!timed_out, "{what}: the connection stays open");
        assert!(answer.len() <= 16 && !answer.windows(4).any(|part| part == b"HTTP"), "{what}: {answer:?}");
    }
}

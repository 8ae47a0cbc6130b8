//! What the proxy makes of secrets that its control plane sends, changes, or has not sent yet. Each proxy is a process of
//! its own.

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
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use envoy_types::pb::envoy::{
    config::core::v3::{DataSource, data_source},
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, CommonTlsContext, SdsSecretConfig, Secret, TlsCertificate,
        UpstreamTlsContext, common_tls_context::ValidationContextType, secret,
    },
};
use mesh::{
    Ca,
    control::{Control, Plan, Table},
    eventually, get,
    member::{Member, Running},
    xds::{Speak, ads, any, changed, cluster, http, listener, plain_chain, to, transport_socket, vhost},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::PrivateKeyDer;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};
use weft_identity::tls;
use weft_xds::{Resource, Resources};

const NAME: &str = "client|me.default";
const CLUSTER: &str = "external|80|pay.default";
const SERVER: &str = "pay.example";

/// Not a test by itself.
#[test]
fn is_a_member_when_told_to() {
    mesh::member::be_one_if_told();
}

/// A CA of this test, for servers or for clients.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    fn leaf(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// Takes clients of one CA only, and answers with the place of the certificate that it was shown.
async fn server(
    server_ca: &Authority,
    client_ca: &Authority,
    known: Vec<Vec<u8>>,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let mut roots = RootCertStore::empty();
    roots.add(client_ca.certificate.der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider()).build().unwrap();
    let (leaf, key) = server_ca.leaf(SERVER);
    let config = ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let (count, known) = (Arc::clone(&accepted), Arc::new(known));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(answer(acceptor.clone(), stream, Arc::clone(&known)));
        }
    });
    (at, accepted)
}

async fn answer(acceptor: tokio_rustls::TlsAcceptor, stream: TcpStream, known: Arc<Vec<Vec<u8>>>) {
    use tokio::io::AsyncReadExt as _;
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let place = known.iter().position(|known| *known == shown);
    let body = format!("{place:?}");
    let mut held = Vec::new();
    while stream.read_buf(&mut held).await.is_ok_and(|count| count > 0) {
        if held.ends_with(b"\r\n\r\n") {
            held.clear();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
    }
}

fn inline(text: &str) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(data_source::Specifier::InlineString(text.to_owned())),
        ..DataSource::default()
    })
}

/// What our control plane translates an ExternalService with a `clientSecretRef` to.
fn resources(outbound: SocketAddr, server: SocketAddr, ca: &str, shown: Option<(&str, &str)>) -> Resources {
    let context = UpstreamTlsContext {
        sni: SERVER.to_owned(),
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![SdsSecretConfig {
                name: NAME.to_owned(),
                sds_config: Some(ads()),
            }],
            validation_context_type: Some(ValidationContextType::ValidationContext(
                CertificateValidationContext { trusted_ca: inline(ca), ..Default::default() },
            )),
            ..CommonTlsContext::default()
        }),
        ..UpstreamTlsContext::default()
    };
    let upstream = changed(&cluster(CLUSTER, &[server], Speak::Http1, None), |cluster: &mut EnvoyCluster| {
        cluster.transport_socket = transport_socket(any(&context));
    });
    let hosts = vec![vhost("pay", &["pay"], vec![to("/", CLUSTER)])];
    let mut builder = Resources::builder();
    builder.put(Resource::new(CLUSTER, upstream));
    let chains = vec![plain_chain(http("outbound", hosts, None))];
    builder.put(Resource::new("outbound", listener("outbound", outbound, chains)));
    if let Some((chain, key)) = shown {
        let certificate = TlsCertificate {
            certificate_chain: inline(chain),
            private_key: inline(key),
            ..TlsCertificate::default()
        };
        let secret =
            Secret { name: NAME.to_owned(), r#type: Some(secret::Type::TlsCertificate(certificate)) };
        builder.put(Resource::new(NAME, any(&secret)));
    }
    builder.build("test")
}

type EnvoyCluster = envoy_types::pb::envoy::config::cluster::v3::Cluster;

async fn says(running: &Running, wanted: &str) -> bool {
    let answer = get(running.outbound, "pay", "/").await;
    answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(wanted)
}

/// All files below, one after the other.
fn bytes_below(place: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        match (path.is_dir(), path.is_file()) {
            (true, _) => bytes.extend(bytes_below(&path)),
            (_, true) => bytes.extend(std::fs::read(&path).unwrap()),
            _ => {} // the agent's socket
        }
    }
    bytes
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// A server outside the mesh that wants a client certificate: the proxy shows the one that comes as a secret, follows
/// its rotation, keeps its key off every disk and page, and without it opens no connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_comes_as_a_secret_rotates_and_stays_off_the_disk() {
    let (server_ca, client_ca) = (Authority::new(), Authority::new());
    let (first, first_key) = client_ca.leaf("one.example");
    let (second, second_key) = client_ca.leaf("two.example");
    let known = vec![first.der().to_vec(), second.der().to_vec()];
    let (at, accepted) = server(&server_ca, &client_ca, known).await;
    let roots = server_ca.certificate.pem();
    let (first, first_key) = (first.pem(), first_key.serialize_pem());
    let (second, second_key) = (second.pem(), second_key.serialize_pem());

    let table: Table = {
        let (roots, chain, key) = (roots.clone(), first.clone(), first_key.clone());
        Arc::new(move |outbound, _| resources(outbound, at, &roots, Some((&chain, &key))))
    };
    let plan = Plan { ca: Ca::new(), service: "fe".to_owned(), first_ttl: Duration::from_secs(3600), table };
    let control = Control::start(&plan, "127.0.0.1:0".parse().unwrap()).await;
    let (address, member) = (control.address, Member::new("fe", control.address, Some(plan.token())));
    let running = member.start().await;
    eventually("the first certificate is shown", async || says(&running, "Some(0)").await).await;
    let before = accepted.load(Ordering::SeqCst);
    assert!(says(&running, "Some(0)").await);
    assert_eq!(accepted.load(Ordering::SeqCst), before, "the connection is kept");

    // A rotation: new connections show the new one.
    control.publish(resources(running.outbound, at, &roots, Some((&second, &second_key))));
    eventually("the second certificate is shown", async || {
        let answer = get(running.outbound, "pay", "/").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "no request is lost to a rotation: {answer}");
        answer.ends_with("Some(1)")
    })
    .await;

    // A key that is not the chain's is refused, by name and without its text; the good one serves on.
    control.publish(resources(running.outbound, at, &roots, Some((&first, &second_key))));
    let dump = async || get(running.admin, "x", "/config_dump").await;
    eventually("the refusal", async || dump().await.contains(NAME)).await;
    assert!(says(&running, "Some(1)").await);

    // No page and no disk has the key, though the disk has the cluster that names it.
    let lines = |pem: &str| pem.lines().nth(1).unwrap().to_owned();
    let (old, new) = (lines(&first_key), lines(&second_key));
    eventually("the last known good", async || holds(&bytes_below(&member.state), CLUSTER)).await;
    for (place, bytes) in [("the disk", bytes_below(&member.state)), ("a page", dump().await.into_bytes())] {
        assert!(!holds(&bytes, &old) && !holds(&bytes, &new), "{place} has the key");
    }

    // Without its control plane a restarted proxy has no key: no connection, rather than one without a certificate.
    drop(control);
    running.kill();
    let running = member.start().await;
    let before = accepted.load(Ordering::SeqCst);
    for _ in 0..3 {
        let answer = get(running.outbound, "pay", "/").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    assert_eq!(accepted.load(Ordering::SeqCst), before, "connections without a certificate");
    let _control = Control::start(&plan, address).await;
    eventually("it is shown again", async || says(&running, "Some(0)").await).await;
    member.forget();
}

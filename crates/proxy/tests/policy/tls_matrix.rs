//! S-TLS-01 through whole proxies: certificates as no honest CA makes them, shown by a client to a sidecar's inbound
//! port and by a server to a sidecar that calls it. The reasons, and the rest of the 40 rows, are in `weft-identity`
//! (`tls::tests::matrix`); here it is about bytes: none comes through.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose as Eku, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_identity::{IdentityMatch, tls};
use weft_proxy::static_config::StaticResources;

use crate::{
    member::{Member, WEB},
    mesh::{
        Proxy, get, id,
        xds::{Speak, cluster, http, listener, plain_chain, to, vhost},
    },
    origin::{addresses, exchange_on, request},
};

type Spoil = fn(&mut CertificateParams);

/// What is wrong with a leaf, and whether it passes as a client's and as a server's.
const ROWS: [(&str, Spoil, bool, bool); 17] = [
    ("good", |_| {}, true, true),
    ("7 expired", |leaf| leaf.not_after -= Duration::from_secs(601), false, false),
    ("8 not yet valid", |leaf| leaf.not_before += Duration::from_secs(3600), false, false),
    (
        "5 another trust domain",
        |leaf| leaf.subject_alt_names = vec![uri("spiffe://other.example/ns/default/sa/fe")],
        false,
        false,
    ),
    ("10 two ids", |leaf| leaf.subject_alt_names.push(uri("spiffe://mesh.internal/x")), false, false),
    (
        "11 a DNS name only",
        |leaf| leaf.subject_alt_names = vec![SanType::DnsName("fe.default".try_into().unwrap())],
        false,
        false,
    ),
    ("13 no path", |leaf| leaf.subject_alt_names = vec![uri("spiffe://mesh.internal")], false, false),
    (
        "14 upper case",
        |leaf| leaf.subject_alt_names = vec![uri("spiffe://MESH.INTERNAL/ns/default/sa/fe")],
        false,
        false,
    ),
    (
        "15 a dot segment",
        |leaf| leaf.subject_alt_names = vec![uri("spiffe://mesh.internal/ns/default/sa/x/../fe")],
        false,
        false,
    ),
    (
        "17 https",
        |leaf| leaf.subject_alt_names = vec![uri("https://mesh.internal/ns/default/sa/fe")],
        false,
        false,
    ),
    (
        "19 a NUL",
        |leaf| leaf.subject_alt_names = vec![uri("spiffe://mesh.internal/ns/default/sa/fe\0x")],
        false,
        false,
    ),
    ("22 CA:true", |leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), false, false),
    ("23 keyCertSign", |leaf| leaf.key_usages.push(KeyUsagePurpose::KeyCertSign), false, false),
    ("24 no digitalSignature", |leaf| leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement], false, false),
    ("25 for servers only", |leaf| leaf.extended_key_usages = vec![Eku::ServerAuth], false, true),
    ("26 for clients only", |leaf| leaf.extended_key_usages = vec![Eku::ClientAuth], true, false),
    ("no extKeyUsage", |leaf| leaf.extended_key_usages.clear(), false, false),
];

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// The CA's intermediate, in the hands of a forger.
struct Forger {
    certificate: CertificateDer<'static>,
    issuer: rcgen::Issuer<'static, KeyPair>,
}

type Shown = Arc<SingleCertAndKey>;

impl Forger {
    fn of(member: &Member) -> Forger {
        let read = |name: &str| std::fs::read_to_string(member.file(name)).unwrap();
        let key = KeyPair::from_pem(&read("intermediate.key")).unwrap();
        let certificate = CertificateDer::from_pem_slice(read("intermediate.pem").as_bytes()).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_der(&certificate, key).unwrap();
        Forger { certificate, issuer }
    }

    /// A leaf for `service`, spoilt.
    fn leaf(&self, service: &str, spoil: Spoil) -> Shown {
        let mut params = CertificateParams::default();
        params.not_before = SystemTime::now().into();
        params.not_before -= Duration::from_secs(60);
        params.not_after = SystemTime::now().into();
        params.not_after += Duration::from_secs(600);
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(&id(service))];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![Eku::ServerAuth, Eku::ClientAuth];
        spoil(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        shown(vec![leaf, self.certificate.clone()], &key.serialize_der())
    }
}

fn shown(chain: Vec<CertificateDer<'static>>, key: &[u8]) -> Shown {
    let key = PrivateKeyDer::try_from(key.to_vec()).unwrap();
    let signer = tls::provider().key_provider.load_private_key(key).unwrap();
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, signer)))
}

/// Somebody else's CA of the same name, 3's own hand, and 37's borrowed certificate.
fn strangers(member: &Member, forger: &Forger, service: &str) -> Vec<(&'static str, Shown)> {
    let good = member.svid(service);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(&id(service))];
    let own = params.self_signed(&key).unwrap().der().clone();
    let (other, _) = crate::mesh::Ca::new().identity(service);
    let PrivateKeyDer::Pkcs8(other_key) = other.key().to_der() else { panic!("PKCS#8") };
    let leaf_only = vec![good.chain()[0].clone()];
    let PrivateKeyDer::Pkcs8(good_key) = good.key().to_der() else { panic!("PKCS#8") };
    let ca_key = std::fs::read_to_string(member.file("intermediate.key")).unwrap();
    let ca_key = KeyPair::from_pem(&ca_key).unwrap().serialize_der();
    vec![
        ("3 self-signed", shown(vec![own], &key.serialize_der())),
        ("4 another CA", shown(other.chain().to_vec(), other_key.secret_pkcs8_der())),
        ("27 the intermediate is missing", shown(leaf_only, good_key.secret_pkcs8_der())),
        ("33 the CA's own certificate", shown(vec![forger.certificate.clone()], &ca_key)),
        ("37 somebody else's certificate", shown(good.chain().to_vec(), &key.serialize_der())),
    ]
}

/// S-TLS-01, clients: a refused certificate costs its owner the connection, is counted, and brings no byte to the app.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_a_refused_client_reaches_the_app() {
    let member = Member::start(24).await;
    let forger = Forger::of(&member);
    let mut rows: Vec<(&str, Shown, bool)> = ROWS
        .iter()
        .map(|(what, spoil, as_client, _)| (*what, forger.leaf("fe", *spoil), *as_client))
        .collect();
    rows.extend(strangers(&member, &forger, "fe").into_iter().map(|(what, shown)| (what, shown, false)));
    let mut refused = 0;
    for (what, shown, gets_in) in rows {
        let verifier =
            tls::PeerVerifier::for_servers(member.issuer.bundle().clone(), IdentityMatch::TrustDomain);
        let config = rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(shown);
        let bytes = member.origin.bytes();
        let stream = TcpStream::connect(member.inbound).await.unwrap();
        let connected = TlsConnector::from(Arc::new(config)).connect(WEB.try_into().unwrap(), stream).await;
        let status = match connected {
            Ok(stream) => exchange_on(stream, &request(b"/x", b"host: h\r\n")).await.status,
            Err(_) => 0,
        };
        assert_eq!(status, if gets_in { 200 } else { 0 }, "{what}");
        assert_eq!(member.origin.bytes() > bytes, gets_in, "{what}: bytes at the app");
        refused += u64::from(!gets_in);
    }
    assert!(refused >= 20, "{refused}");
    assert_eq!(member.refused().await, refused, "each refusal is counted once");
}

/// A server that shows this certificate, asks for none, and counts what is said to it.
async fn impostor(shown: Shown) -> (SocketAddr, Arc<AtomicUsize>) {
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let (acceptor, count) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&heard));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await
                && let Ok(bytes) = stream.read(&mut [0; 4096]).await
            {
                count.fetch_add(bytes, Ordering::SeqCst);
            }
        }
    });
    (address, heard)
}

/// S-TLS-01 mirrored, servers: a sidecar says nothing to a server whose certificate is not that of whom it calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_a_request_reaches_an_impostor() {
    let member = Member::start(25).await;
    let forger = Forger::of(&member);
    let mut rows: Vec<(&str, Shown, bool)> = ROWS
        .iter()
        .map(|(what, spoil, _, as_server)| (*what, forger.leaf("be", *spoil), *as_server))
        .collect();
    rows.extend(strangers(&member, &forger, "be").into_iter().map(|(what, shown)| (what, shown, false)));
    rows.push(("6 another member", forger.leaf("be4", |_| {}), false));
    let (mut clusters, mut hosts, mut servers) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (what, shown, taken)) in rows.into_iter().enumerate() {
        let (address, heard) = impostor(shown).await;
        let name = format!("row-{index}");
        clusters.push(cluster(&name, &[address], Speak::Http2, Some((WEB, &id("be")))));
        hosts.push(vhost(&name, &[&name], vec![to("/", &name)]));
        servers.push((name, what, heard, taken));
    }
    let outbound = addresses(26, 1)[0];
    let _fe = Proxy::start(
        "fe",
        StaticResources {
            listeners: vec![listener("outbound", outbound, vec![plain_chain(http("outbound", hosts, None))])],
            clusters,
            identity: Some((member.svid("fe"), member.issuer.bundle().clone())),
            ..StaticResources::default()
        },
    );
    for (name, what, heard, taken) in servers {
        let answer = get(outbound, &name, "/x").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{what}: {answer}");
        assert_eq!(heard.load(Ordering::SeqCst) > 0, taken, "{what}: bytes at the impostor");
        for word in ["certificate", "spiffe", "expired", "issuer", "SAN"] {
            assert!(!answer.contains(word), "{what}: a caller learns no reason: {answer}");
        }
    }
}

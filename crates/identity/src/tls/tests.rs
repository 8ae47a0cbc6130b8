//! Handshakes between rustls connections over memory: who gets in, who doesn't, and for which reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod authority;
mod known;
mod matrix;
mod outside;
mod revoked;

use super::*;
use crate::issuer::{Issuer, IssuerPem};
use crate::key::PrivateKey;
use crate::spiffe::TrustDomain;
use rustls::server::ServerConnection;
use rustls::{ClientConnection, Error, HandshakeKind, NamedGroup, ProtocolVersion};
use rustls_pki_types::ServerName;
use std::time::{Duration, SystemTime};

/// One mesh: an issuer, and what is needed to forge certificates in its name.
struct Mesh {
    issuer: Issuer,
    pem: IssuerPem,
}

fn mesh(trust_domain: &str) -> Mesh {
    let (issuer, pem) = Issuer::create(&TrustDomain::new(trust_domain).unwrap(), SystemTime::now()).unwrap();
    Mesh { issuer, pem }
}

impl Mesh {
    fn id(&self, service: &str) -> SpiffeId {
        SpiffeId::service(self.issuer.trust_domain(), "default", service).unwrap()
    }

    fn svid(&self, service: &str) -> Svid {
        let (id, key) = (self.id(service), PrivateKey::generate().unwrap());
        let csr = key.csr_der(&id).unwrap();
        let issued =
            self.issuer.issue(&csr, &id, SystemTime::now(), Duration::from_secs(600), [7; 16]).unwrap();
        Svid::new(issued.chain, key).unwrap()
    }

    fn only(&self, service: &str) -> IdentityMatch {
        IdentityMatch::Exact(vec![self.id(service)])
    }
}

/// What both sides made of a handshake.
struct Met {
    client: ClientConnection,
    server: ServerConnection,
    client_error: Option<Error>,
    server_error: Option<Error>,
}

impl Met {
    /// `ok`, or the reason of whichever side refused first; what the other side says is only the echo of its
    /// alert.
    fn verdict(&self) -> &'static str {
        let labels =
            [&self.server_error, &self.client_error].map(|e| e.as_ref().map(|e| Refusal::of(e).label()));
        match labels {
            [None, None] => "ok",
            [Some("by_peer") | None, Some(client)] => client,
            [Some(server), _] => server,
        }
    }

    /// Nothing that the client wrote may come out of a server that refused it.
    fn delivered(&mut self) -> usize {
        let mut bytes = [0; 16];
        std::io::Read::read(&mut self.server.reader(), &mut bytes).unwrap_or(0)
    }
}

/// Lets a client talk to a server until both are silent; the client sends `hello` as soon as it may.
fn meet_as(client: Arc<ClientConfig>, server: Arc<ServerConfig>, name: &str) -> Met {
    let mut client = ClientConnection::new(client, ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let (mut client_error, mut server_error) = (None, None);
    std::io::Write::write_all(&mut client.writer(), b"hello").unwrap();
    loop {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let from_client = bytes.len();
        let mut input = &bytes[..];
        while server_error.is_none() && !input.is_empty() {
            server.read_tls(&mut input).unwrap();
            server_error = server.process_new_packets().err();
        }
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let from_server = bytes.len();
        let mut input = &bytes[..];
        while client_error.is_none() && !input.is_empty() {
            client.read_tls(&mut input).unwrap();
            client_error = client.process_new_packets().err();
        }
        if from_client + from_server == 0 {
            return Met { client, server, client_error, server_error };
        }
    }
}

fn meet(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Met {
    meet_as(client, server, "p8080.mesh.internal")
}

#[test]
fn two_members_meet_over_tls13_with_the_post_quantum_group() {
    let mesh = mesh("mesh.internal");
    let (fe, be1) = (mesh.svid("fe"), mesh.svid("be1"));
    let bundle = mesh.issuer.bundle();
    let client = client_config(&fe, bundle, mesh.only("be1"), ALPN_HTTP).unwrap();
    let mut met = meet(client, server_config(&be1, bundle, ALPN_HTTP).unwrap());
    assert_eq!(met.verdict(), "ok");
    assert_eq!(met.delivered(), 5);
    assert_eq!(met.server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let suite = met.server.negotiated_cipher_suite().map(|suite| suite.suite());
    assert_eq!(suite, Some(CipherSuite::TLS13_AES_128_GCM_SHA256));
    assert_eq!(met.server.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    assert_eq!(met.client.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(peer_id(met.server.peer_certificates().unwrap()).unwrap(), mesh.id("fe"));
    assert_eq!(peer_id(met.client.peer_certificates().unwrap()).unwrap(), mesh.id("be1"));
}

#[test]
fn the_expected_identity_decides_and_nothing_else() {
    let mesh = mesh("mesh.internal");
    let be1 = server_config(&mesh.svid("be1"), mesh.issuer.bundle(), ALPN_NONE).unwrap();
    for (expected, verdict) in [
        (mesh.only("be1"), "ok"),
        (mesh.only("be4"), "other_id"),
        (IdentityMatch::Exact(vec![mesh.id("be4"), mesh.id("be1")]), "ok"),
        (IdentityMatch::Exact(vec![]), "other_id"),
        (IdentityMatch::TrustDomain, "ok"),
    ] {
        let client =
            client_config(&mesh.svid("fe"), mesh.issuer.bundle(), expected.clone(), ALPN_NONE).unwrap();
        assert_eq!(meet(client, be1.clone()).verdict(), verdict, "{expected:?}");
    }
}

#[test]
fn each_mesh_believes_its_own_bundle_only() {
    let (ours, theirs) = (mesh("mesh.internal"), mesh("other.example"));
    let server = server_config(&ours.svid("be1"), ours.issuer.bundle(), ALPN_NONE).unwrap();
    // (the client's svid, the bundle that it checks the server by)
    for (svid, bundle, verdict) in [
        (ours.svid("fe"), ours.issuer.bundle(), "ok"),
        (theirs.svid("fe"), ours.issuer.bundle(), "unknown_issuer"),
        (ours.svid("fe"), theirs.issuer.bundle(), "unknown_issuer"),
    ] {
        let client = client_config(&svid, bundle, IdentityMatch::TrustDomain, ALPN_NONE).unwrap();
        assert_eq!(meet(client, server.clone()).verdict(), verdict);
    }
}

#[test]
fn both_roots_are_believed_while_they_overlap() {
    let (old, new) = (mesh("mesh.internal"), mesh("mesh.internal"));
    let roots = [old.issuer.bundle().roots(), new.issuer.bundle().roots()].concat();
    let both = Bundle::new(old.issuer.trust_domain().clone(), roots).unwrap();
    for (client, server) in [(&old, &new), (&new, &old)] {
        let client = client_config(&client.svid("fe"), &both, server.only("be1"), ALPN_NONE).unwrap();
        assert_eq!(
            meet(client, server_config(&server.svid("be1"), &both, ALPN_NONE).unwrap()).verdict(),
            "ok"
        );
    }
}

#[test]
fn without_a_certificate_only_first_contact_gets_in() {
    let mesh = mesh("mesh.internal");
    let (bundle, control) = (mesh.issuer.bundle(), mesh.svid("control"));
    let client = client_config_anonymous(bundle, mesh.only("control"), ALPN_H2).unwrap();

    let mut member = meet(client.clone(), server_config(&control, bundle, ALPN_H2).unwrap());
    assert_eq!((member.verdict(), member.delivered()), ("no_certificate", 0));

    let optional = server_config_optional_client(&control, bundle, ALPN_H2).unwrap();
    let first_contact = meet(client, optional.clone());
    assert_eq!(first_contact.verdict(), "ok");
    assert!(first_contact.server.peer_certificates().is_none());

    // Optional doesn't mean that a bad one passes.
    let stranger = self::mesh("mesh.internal").svid("fe");
    let stranger = client_config(&stranger, bundle, mesh.only("control"), ALPN_H2).unwrap();
    assert_eq!(meet(stranger, optional.clone()).verdict(), "unknown_issuer");
    let known = client_config(&mesh.svid("fe"), bundle, mesh.only("control"), ALPN_H2).unwrap();
    assert_eq!(peer_id(meet(known, optional).server.peer_certificates().unwrap()).unwrap(), mesh.id("fe"));
}

#[test]
fn no_session_is_ever_resumed_between_members() {
    let mesh = mesh("mesh.internal");
    let server = server_config(&mesh.svid("be1"), mesh.issuer.bundle(), ALPN_NONE).unwrap();
    // A client that would resume if it could, as an Envoy does.
    let mut eager = (*client_config(&mesh.svid("fe"), mesh.issuer.bundle(), mesh.only("be1"), ALPN_NONE)
        .unwrap())
    .clone();
    eager.resumption = Resumption::in_memory_sessions(16);
    let eager = Arc::new(eager);
    for _ in 0..2 {
        let met = meet(eager.clone(), server.clone());
        assert_eq!(met.client.tls13_tickets_received(), 0);
        assert_eq!(met.server.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn older_versions_and_unknown_protocols_are_refused() {
    let mesh = mesh("mesh.internal");
    let server = server_config(&mesh.svid("be1"), mesh.issuer.bundle(), ALPN_H2).unwrap();
    let verifier = PeerVerifier::for_servers(mesh.issuer.bundle().clone(), IdentityMatch::TrustDomain);
    let tls12 = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    assert_eq!(meet(Arc::new(tls12), server.clone()).verdict(), "incompatible");

    let http1 =
        client_config(&mesh.svid("fe"), mesh.issuer.bundle(), mesh.only("be1"), &["http/1.1"]).unwrap();
    assert_eq!(meet(http1, server.clone()).verdict(), "no_application_protocol");

    let mut connection = ServerConnection::new(server).unwrap();
    connection.read_tls(&mut &b"GET / HTTP/1.1\r\nHost: be1\r\n\r\n"[..]).unwrap();
    assert_eq!(Refusal::of(&connection.process_new_packets().unwrap_err()).label(), "protocol");
}

#[test]
fn a_refused_peer_learns_no_reason() {
    let mesh = mesh("mesh.internal");
    let server = server_config(&mesh.svid("be1"), mesh.issuer.bundle(), ALPN_NONE).unwrap();
    let client =
        client_config(&self::mesh("mesh.internal").svid("fe"), mesh.issuer.bundle(), mesh.only("be1"), &[]);
    let met = meet(client.unwrap(), server);
    assert_eq!(met.client_error, Some(Error::AlertReceived(rustls::AlertDescription::CertificateUnknown)));
    let reason = Refusal::of(&met.server_error.unwrap());
    assert_eq!(reason, Refusal::UnknownIssuer { trust_domain: "mesh.internal".to_owned() });
}

#[test]
fn the_reason_survives_an_io_error() {
    let io = std::io::Error::new(std::io::ErrorKind::InvalidData, Error::from(Refusal::SeveralIds(2)));
    assert_eq!(Refusal::of_io(&io), Some(Refusal::SeveralIds(2)));
    assert_eq!(Refusal::of_io(&std::io::Error::from(std::io::ErrorKind::ConnectionReset)), None);
}

//! TLS with those who are not members: the API's HTTPS and servers outside the mesh, over ordinary Web PKI.

use super::*;
use std::net::IpAddr;

/// The API's configuration, for `api.example` and 192.0.2.7 beside localhost.
fn api(mesh: &Mesh) -> Arc<ServerConfig> {
    let key = PrivateKey::generate().unwrap();
    let (hosts, ips) = (["api.example".to_owned()], [IpAddr::from([192, 0, 2, 7])]);
    let day = Duration::from_secs(86_400);
    let issued = mesh.issuer.issue_api_server(&key, &hosts, &ips, SystemTime::now(), day, [1; 16]).unwrap();
    plain_server_config(issued.chain, &key).unwrap()
}

#[test]
fn the_api_is_verified_by_name_against_the_meshs_root() {
    let mesh = mesh("mesh.internal");
    let roots = mesh.issuer.bundle().roots();
    let client = origination_config(roots, None, ALPN_HTTP, MinVersion::Tls12).unwrap();
    for (name, reached) in [
        ("localhost", true),
        ("127.0.0.1", true),
        ("::1", true),
        ("api.example", true),
        ("192.0.2.7", true),
        ("evil.example", false),
        ("192.0.2.8", false),
    ] {
        assert_eq!(meet_as(client.clone(), api(&mesh), name).verdict() == "ok", reached, "{name}");
    }
    let stranger =
        origination_config(self::mesh("mesh.internal").issuer.bundle().roots(), None, &[], MinVersion::Tls12);
    assert_eq!(meet_as(stranger.unwrap(), api(&mesh), "localhost").verdict(), "unknown_issuer");
}

#[test]
fn the_apis_certificate_is_no_members() {
    let mesh = mesh("mesh.internal");
    let member =
        client_config(&mesh.svid("fe"), mesh.issuer.bundle(), IdentityMatch::TrustDomain, ALPN_HTTP).unwrap();
    assert_eq!(meet_as(member, api(&mesh), "localhost").verdict(), "no_id");
}

#[test]
fn old_tools_reach_the_api_by_tls12_and_the_minimum_is_kept() {
    let mesh = mesh("mesh.internal");
    let roots = mesh.issuer.bundle().roots();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    let tls12_client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS12])
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    let met = meet_as(Arc::new(tls12_client), api(&mesh), "localhost");
    assert_eq!((met.verdict(), met.server.protocol_version()), ("ok", Some(ProtocolVersion::TLSv1_2)));

    let key = PrivateKey::generate().unwrap();
    let day = Duration::from_secs(86_400);
    let issued = mesh.issuer.issue_api_server(&key, &[], &[], SystemTime::now(), day, [1; 16]).unwrap();
    let tls12_server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(issued.chain, key.to_der())
        .unwrap();
    let tls12_server = Arc::new(tls12_server);
    for (min_version, reached) in [(MinVersion::Tls12, true), (MinVersion::Tls13, false)] {
        let client = origination_config(roots, None, &[], min_version).unwrap();
        assert_eq!(
            meet_as(client, tls12_server.clone(), "localhost").verdict() == "ok",
            reached,
            "{min_version:?}"
        );
    }
}

#[test]
fn origination_can_show_a_client_certificate() {
    let mesh = mesh("mesh.internal");
    let (fe, roots) = (mesh.svid("fe"), mesh.issuer.bundle().roots());
    // An outside server that wants client certificates of the CA and has a name of its own.
    let key = PrivateKey::generate().unwrap();
    let day = Duration::from_secs(86_400);
    let issued = mesh.issuer.issue_api_server(&key, &[], &[], SystemTime::now(), day, [1; 16]).unwrap();
    let server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(TLS13)
        .unwrap()
        .with_client_cert_verifier(Arc::new(PeerVerifier::for_clients(mesh.issuer.bundle().clone())))
        .with_single_cert(issued.chain, key.to_der())
        .unwrap();
    let server = Arc::new(server);
    let with =
        origination_config(roots, Some((fe.chain().to_vec(), fe.key().to_der())), &[], MinVersion::Tls13);
    assert_eq!(meet_as(with.unwrap(), server.clone(), "localhost").verdict(), "ok");
    let without = origination_config(roots, None, &[], MinVersion::Tls13).unwrap();
    assert_eq!(meet_as(without, server, "localhost").verdict(), "no_certificate");
}

#[test]
fn without_a_usable_root_there_is_no_configuration() {
    let junk = CertificateDer::from(vec![1, 2, 3]);
    assert!(matches!(origination_config(&[], None, &[], MinVersion::Tls12), Err(TlsError::NoRoots(0))));
    assert!(matches!(origination_config(&[junk], None, &[], MinVersion::Tls12), Err(TlsError::NoRoots(1))));
}

//! The client authentication matrix, and its mirror: the same certificate shown by a client to our server and
//! by a server to our client. Each refusal has its reason, and no byte of a refused client is delivered.
//!
//! These are the rows of S-TLS-01 but for four: 6 (good identity, not authorized: 403) and 35 (SHA-1, RSA-1024, which
//! only an old tool makes) go through a whole proxy in `proxy/tests/policy`; 9 (revoked) is in `revoked`; 40 (federated,
//! of which the swapped bundle is `each_mesh_believes_its_own_bundle_only`) waits for its feature. Rows 1 and 2 are one
//! in TLS 1.3, where no certificate is an empty message: `without_a_certificate_only_first_contact_gets_in`.

use super::authority::*;
use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose as Eku,
    GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints, OtherNameValue, SanType,
};

const ID: &str = "spiffe://mesh.internal/ns/default/sa/be1";

/// Shows one certificate in both roles; the verdicts as a client and as a server must be these.
#[track_caller]
fn check(what: &str, mesh: &Mesh, shown: &Shown, as_client: &str, as_server: &str) {
    let good = mesh.svid("fe");
    let bundle = mesh.issuer.bundle();
    let server = server_config(&good, bundle, ALPN_NONE).unwrap();
    let mut met = meet(client_showing(shown, mesh), server);
    assert_eq!(
        met.verdict(),
        as_client,
        "as a client: {what}: {:?} {:?}",
        met.server_error,
        met.client_error
    );
    assert_eq!(met.delivered() > 0, as_client == "ok", "payload of {what}");

    let client = client_config(&good, bundle, mesh.only("be1"), ALPN_NONE).unwrap();
    let met = meet(client, server_showing(shown, mesh));
    assert_eq!(
        met.verdict(),
        as_server,
        "as a server: {what}: {:?} {:?}",
        met.server_error,
        met.client_error
    );
}

/// The usual case: our intermediate signed a spoilt leaf, and both roles fare alike.
#[track_caller]
fn spoilt(mesh: &Mesh, what: &str, verdict: &str, spoil: impl FnOnce(&mut CertificateParams)) {
    check(what, mesh, &mesh.intermediate().leaf(ID, spoil), verdict, verdict);
}

#[test]
fn the_forger_can_make_a_good_one() {
    let mesh = mesh("mesh.internal");
    spoilt(&mesh, "good", "ok", |_| {});
    spoilt(&mesh, "with DNS and IP names beside the id", "ok", |leaf| {
        leaf.subject_alt_names.push(SanType::DnsName("be1.example".try_into().unwrap()));
        leaf.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into()));
    });
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    check("P-384", &mesh, &mesh.intermediate().leaf_with(p384, ID, |_| {}), "ok", "ok");
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    check("Ed25519", &mesh, &mesh.intermediate().leaf_with(ed25519, ID, |_| {}), "ok", "ok");
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    check("P-521", &mesh, &mesh.intermediate().leaf_with(p521, ID, |_| {}), "ok", "ok");
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_4096).unwrap();
    check("RSA-4096", &mesh, &mesh.intermediate().leaf_with(rsa, ID, |_| {}), "ok", "ok");
    let straight = mesh.root().leaf(ID, |_| {});
    check("signed by the root itself", &mesh, &straight, "ok", "ok");
}

#[test]
fn who_signed_it() {
    let mesh = mesh("mesh.internal");
    let key = KeyPair::generate().unwrap();
    let self_signed = (vec![good_leaf(ID).self_signed(&key).unwrap().der().clone()], key);
    check("self-signed", &mesh, &self_signed, "unknown_issuer", "unknown_issuer");

    let stranger = self::mesh("mesh.internal").intermediate().leaf(ID, |_| {});
    check("another CA of the same name, the right id", &mesh, &stranger, "unknown_issuer", "unknown_issuer");

    let (mut chain, key) = mesh.intermediate().leaf(ID, |_| {});
    chain.truncate(1);
    check("intermediate missing", &mesh, &(chain, key), "unknown_issuer", "unknown_issuer");

    let (mut chain, key) = self::mesh("mesh.internal").intermediate().leaf(ID, |_| {});
    chain[1] = crate::pem::certificates(&mesh.pem.intermediate).unwrap().remove(0);
    check(
        "our intermediate above a stranger's leaf",
        &mesh,
        &(chain, key),
        "unknown_issuer",
        "unknown_issuer",
    );

    let below_leaf = mesh.root().authority("no CA", |ca| ca.is_ca = IsCa::ExplicitNoCa).leaf(ID, |_| {});
    check("intermediate without CA:true", &mesh, &below_leaf, "issuer_not_allowed", "issuer_not_allowed");

    let too_deep = mesh.intermediate().authority("third", |_| {}).leaf(ID, |_| {});
    check("path length exceeded", &mesh, &too_deep, "issuer_not_allowed", "issuer_not_allowed");

    let (chain, _) = mesh.intermediate().leaf(ID, |_| {});
    let not_held = (chain, KeyPair::generate().unwrap());
    check("another key signs the handshake", &mesh, &not_held, "key_not_held", "key_not_held");
}

#[test]
fn constraints_of_the_ca_hold() {
    let mesh = mesh("mesh.internal");
    let under = |constraint: CustomExtension| {
        mesh.root().authority("constrained", |ca| ca.custom_extensions = vec![constraint]).leaf(ID, |_| {})
    };
    for (what, constraint) in [
        ("permitted: another domain", uri_constraint(true, "other.example")),
        ("excluded: ours", uri_constraint(false, "mesh.internal")),
    ] {
        check(what, &mesh, &under(constraint), "issuer_not_allowed", "issuer_not_allowed");
    }
    let dns_only = mesh
        .root()
        .authority("dns", |ca| {
            let permitted_subtrees = vec![GeneralSubtree::DnsName("good.example".into())];
            ca.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
        })
        .leaf(ID, |leaf| leaf.subject_alt_names.push(SanType::DnsName("evil.example".try_into().unwrap())));
    check(
        "a DNS name that the CA may not give",
        &mesh,
        &dns_only,
        "issuer_not_allowed",
        "issuer_not_allowed",
    );
}

/// Row 32: a critical constraint on DNS names is read; it says nothing of URIs, so a leaf that has only its id is good.
#[test]
fn a_constraint_on_dns_names_does_not_touch_an_id() {
    let mesh = mesh("mesh.internal");
    let shown = mesh
        .root()
        .authority("dns", |ca| {
            let permitted_subtrees = vec![GeneralSubtree::DnsName("good.example".into())];
            ca.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
        })
        .leaf(ID, |_| {});
    check("a DNS constraint and an id", &mesh, &shown, "ok", "ok");
}

#[test]
fn when_it_is_valid() {
    let mesh = mesh("mesh.internal");
    spoilt(&mesh, "expired a second ago", "expired", |leaf| {
        leaf.not_after = SystemTime::now().into();
        leaf.not_after -= Duration::from_secs(1);
    });
    // Whole seconds, no leeway: with 1 the test could see it become valid.
    spoilt(&mesh, "valid in two seconds", "not_yet_valid", |leaf| {
        leaf.not_before = SystemTime::now().into();
        leaf.not_before += Duration::from_secs(2);
    });
}

#[test]
fn what_it_may_be_used_for() {
    let mesh = mesh("mesh.internal");
    spoilt(&mesh, "CA:true", "ca_as_leaf", |leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    for usage in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        spoilt(&mesh, "signs others", "ca_as_leaf", |leaf| leaf.key_usages.push(usage));
    }
    spoilt(&mesh, "no keyUsage", "no_digital_signature", |leaf| leaf.key_usages.clear());
    spoilt(&mesh, "no digitalSignature", "no_digital_signature", |leaf| {
        leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    });
    spoilt(&mesh, "no extKeyUsage", "wrong_usage", |leaf| leaf.extended_key_usages.clear());
    spoilt(&mesh, "extKeyUsage codeSigning", "wrong_usage", |leaf| {
        leaf.extended_key_usages = vec![Eku::CodeSigning]
    });
    spoilt(&mesh, "extKeyUsage any", "wrong_usage", |leaf| leaf.extended_key_usages = vec![Eku::Any]);
    let server_only = mesh.intermediate().leaf(ID, |leaf| leaf.extended_key_usages = vec![Eku::ServerAuth]);
    check("extKeyUsage server only", &mesh, &server_only, "wrong_usage", "ok");
    let client_only = mesh.intermediate().leaf(ID, |leaf| leaf.extended_key_usages = vec![Eku::ClientAuth]);
    check("extKeyUsage client only", &mesh, &client_only, "ok", "wrong_usage");

    let certificate = crate::pem::certificates(&mesh.pem.intermediate).unwrap();
    let ca_itself = (certificate, KeyPair::from_pem(&mesh.pem.intermediate_key).unwrap());
    check("the CA's own certificate", &mesh, &ca_itself, "ca_as_leaf", "ca_as_leaf");

    spoilt(&mesh, "unknown critical extension", "unknown_extension", |leaf| {
        let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55555, 1], vec![5, 0]);
        unknown.set_criticality(true);
        leaf.custom_extensions = vec![unknown];
    });
}

#[test]
fn which_identity_it_names() {
    let mesh = mesh("mesh.internal");
    let names = |what: &str, verdict: &str, names: Vec<SanType>| {
        spoilt(&mesh, what, verdict, |leaf| leaf.subject_alt_names = names);
    };
    names("two ids", "several_ids", vec![uri(ID), uri("spiffe://mesh.internal/ns/default/sa/be4")]);
    names("the same id twice", "several_ids", vec![uri(ID), uri(ID)]);
    names("an id and another URI", "several_ids", vec![uri(ID), uri("https://example.com")]);
    names("no names", "no_id", vec![]);
    names("DNS only", "no_id", vec![SanType::DnsName("be1.default.mesh.internal".try_into().unwrap())]);
    names("the id as DNS", "no_id", vec![SanType::DnsName(ID.try_into().unwrap())]);
    names("the id as mail", "no_id", vec![SanType::Rfc822Name(ID.try_into().unwrap())]);
    let other_name =
        (vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], OtherNameValue::Utf8String(format!("{ID}\0.evil")));
    names("the id as otherName with a NUL", "no_id", vec![SanType::OtherName(other_name)]);
    spoilt(&mesh, "the id in the subject", "no_id", |leaf| {
        leaf.subject_alt_names.clear();
        leaf.distinguished_name.push(DnType::CommonName, ID);
    });
    names(
        "another trust domain",
        "other_trust_domain",
        vec![uri("spiffe://other.example/ns/default/sa/be1")],
    );
    names(
        "a trust domain that begins with ours",
        "other_trust_domain",
        vec![uri("spiffe://mesh.internal.evil/a")],
    );
    for text in [
        "spiffe://mesh.internal",
        "spiffe://MESH.internal/ns/default/sa/be1",
        "SPIFFE://mesh.internal/ns/default/sa/be1",
        "spiffe://mesh.internal/ns/default/sa/%62e1",
        "spiffe://mesh.internal/ns/default/sa/x/../be1",
        "spiffe://mesh.internal/ns/default//sa/be1",
        "spiffe://mesh.internal/ns/default/sa/be1/",
        "spiffe://root@mesh.internal/ns/default/sa/be1",
        "spiffe://mesh.internal:443/ns/default/sa/be1",
        "spiffe://mesh.internal/ns/default/sa/be1?a",
        "spiffe://mesh.internal/ns/default/sa/be1#a",
        "https://mesh.internal/ns/default/sa/be1",
        "spiffe://mesh.internal/ns/default/sa/be1\0.evil",
        "spiffe://mesh.internal/ns/default/sa/be1 ",
        "",
        &format!("{ID}{}", "a".repeat(2049 - ID.len())),
        &format!("spiffe://{}/a", "a".repeat(256)),
    ] {
        names(text, "bad_id", vec![uri(text)]);
    }
    let other = mesh.intermediate().leaf("spiffe://mesh.internal/ns/default/sa/be4", |_| {});
    check("another member", &mesh, &other, "ok", "other_id");
}

#[test]
fn an_endless_chain_is_not_walked() {
    let mesh = mesh("mesh.internal");
    let (mut chain, key) = mesh.intermediate().leaf(ID, |_| {});
    let filler = chain[1].clone();
    chain.extend(std::iter::repeat_n(filler, 10));
    check("12 certificates", &mesh, &(chain, key), "chain_too_long", "chain_too_long");
    // Strangers that certify each other in a circle: path building must end.
    let ring = self::mesh("mesh.internal").root().authority("a", |_| {}).authority("b", |_| {});
    let (mut chain, key) = ring.authority("a", |_| {}).authority("b", |_| {}).leaf(ID, |_| {});
    chain.truncate(5);
    check("a circle of CAs", &mesh, &(chain, key), "unknown_issuer", "unknown_issuer");
    let long = mesh.intermediate().leaf(ID, |leaf| {
        leaf.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55555, 2], vec![0; 40_000])];
    });
    check("40 kB", &mesh, &long, "chain_too_long", "chain_too_long");
    // Beyond 64 KiB the handshake message itself is refused, unread.
    let (mut chain, key) = mesh.intermediate().leaf(ID, |_| {});
    chain.extend(std::iter::repeat_n(long.0[0].clone(), 2));
    check("two more of those", &mesh, &(chain, key), "protocol", "protocol");
}

#[test]
fn garbage_is_a_bad_certificate() {
    let mesh = mesh("mesh.internal");
    let (mut chain, key) = mesh.intermediate().leaf(ID, |_| {});
    chain[0] = CertificateDer::from(vec![0x30, 0x03, 0x02, 0x01, 0x01]);
    check("garbage", &mesh, &(chain, key), "bad_certificate", "bad_certificate");
    let (mut chain, key) = mesh.intermediate().leaf(ID, |_| {});
    let mut longer = chain[0].to_vec();
    longer.push(0);
    chain[0] = CertificateDer::from(longer);
    check("a byte after the certificate", &mesh, &(chain, key), "bad_certificate", "bad_certificate");
}

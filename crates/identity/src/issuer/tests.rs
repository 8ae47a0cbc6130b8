//! What the CA signs, and what it doesn't.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::certificate::Leaf;
use rcgen::DnType;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn td() -> TrustDomain {
    TrustDomain::default()
}

fn be1() -> SpiffeId {
    SpiffeId::service(&td(), "default", "be1").unwrap()
}

fn issue(issuer: &Issuer, ttl: Duration, serial: [u8; 16]) -> Result<Issued, IssueError> {
    let key = PrivateKey::generate().unwrap();
    issuer.issue(&key.csr_der(&be1()).unwrap(), &be1(), now(), ttl, serial)
}

#[test]
fn a_certificate_carries_only_what_the_server_decided() {
    let (issuer, _) = Issuer::create(&td(), now()).unwrap();
    // A request that passes, with all that it may say and the server ignores.
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wish = CertificateParams::default();
    wish.distinguished_name.push(DnType::CommonName, "admin");
    wish.subject_alt_names = vec![SanType::URI(be1().as_str().try_into().unwrap())];
    wish.key_usages = vec![KeyUsagePurpose::DataEncipherment, KeyUsagePurpose::KeyAgreement];
    wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning, ExtendedKeyUsagePurpose::Any];
    let csr = wish.serialize_request(&key).unwrap();

    let day = Duration::from_secs(86_400);
    let issued = issuer.issue(csr.der(), &be1(), now(), day, [0xff; 16]).unwrap();
    let (_, certificate) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    assert_eq!(certificate.subject().as_raw(), [0x30, 0], "an empty subject");
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical, "as RFC 5280 wants it beside an empty subject");
    assert_eq!(names.value.general_names, [GeneralName::URI(be1().as_str())]);
    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && !constraints.value.ca);
    assert_eq!(certificate.key_usage().unwrap().unwrap().value.flags, 1, "digitalSignature alone");
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(
        usage.client_auth && usage.server_auth && !usage.any && !usage.code_signing && usage.other.is_empty()
    );
    assert_eq!(certificate.public_key().raw, rcgen::PublicKeyData::subject_public_key_info(&key));
    assert_eq!(
        certificate.extensions().len(),
        6,
        "SAN, both usages, constraints, both key ids, nothing more"
    );

    assert_eq!(issued.not_before, now() - BACKDATED);
    assert_eq!(issued.not_after, now() + day);
    let leaf = Leaf::parse(&issued.chain[0]).unwrap();
    assert_eq!((leaf.not_before, leaf.not_after), (issued.not_before, issued.not_after));
    assert_eq!(leaf.serial_hex, issued.serial_hex);
    assert_eq!(issued.chain.len(), 2, "leaf and intermediate, no root");
    assert_eq!(issuer.bundle().roots().len(), 1);
}

#[test]
fn serials_are_positive_and_keep_126_random_bits() {
    let (issuer, _) = Issuer::create(&td(), now()).unwrap();
    for (random, expected) in
        [([0; 16], format!("40{}", "00".repeat(15))), ([0xff; 16], format!("7f{}", "ff".repeat(15)))]
    {
        let issued = issue(&issuer, Duration::from_secs(60), random).unwrap();
        assert_eq!(issued.serial_hex, expected);
        assert_eq!(Leaf::parse(&issued.chain[0]).unwrap().serial_hex, expected);
    }
}

#[test]
fn no_leaf_outlives_the_limit_or_its_ca() {
    let (issuer, _) = Issuer::create(&td(), now()).unwrap();
    let long = issue(&issuer, ROOT_TTL, [1; 16]).unwrap();
    assert_eq!(long.not_after, now() + LEAF_TTL_MAX);
    let last_day = issuer.not_after() - DAY;
    let key = PrivateKey::generate().unwrap();
    let csr = key.csr_der(&be1()).unwrap();
    assert_eq!(issuer.issue(&csr, &be1(), last_day, 3 * DAY, [1; 16]).unwrap().not_after, issuer.not_after());
    let late = issuer.issue(&csr, &be1(), issuer.not_after(), DAY, [1; 16]).unwrap_err();
    assert_eq!(late.label(), "ca_expired");
    assert_eq!(issue(&issuer, Duration::ZERO, [1; 16]).unwrap_err().label(), "ca_expired");
}

#[test]
fn the_ca_keeps_to_its_trust_domain_and_its_own_key() {
    let (issuer, pem) = Issuer::create(&td(), now()).unwrap();
    let key = PrivateKey::generate().unwrap();
    for other in ["spiffe://other.example/ns/default/sa/be1", "spiffe://mesh.internal"] {
        let id = SpiffeId::parse(other).unwrap();
        let refused = issuer.issue(&key.csr_der(&id).unwrap(), &id, now(), DAY, [1; 16]).unwrap_err();
        assert_eq!(refused.label(), "other_trust_domain", "{other}");
    }
    for authority in [&pem.intermediate_key, &pem.root_key] {
        let csr = PrivateKey::from_pem(authority).unwrap().csr_der(&be1()).unwrap();
        assert_eq!(issuer.issue(&csr, &be1(), now(), DAY, [1; 16]).unwrap_err().label(), "authority_key");
    }
    let refused = issuer.issue(b"junk", &be1(), now(), DAY, [1; 16]).unwrap_err();
    assert!(matches!(refused, IssueError::Refused(CsrRefusal::BadDer)));
}

#[test]
fn root_and_intermediate_live_as_long_as_they_should() {
    let (issuer, pem) = Issuer::create(&td(), now()).unwrap();
    for (text, life) in [(&pem.root, ROOT_TTL), (&pem.intermediate, INTERMEDIATE_TTL)] {
        let leaf = Leaf::parse(&pem::certificates(text).unwrap()[0]).unwrap();
        assert_eq!((leaf.not_before, leaf.not_after), (now() - BACKDATED, now() + life));
        assert!(
            leaf.is_ca && leaf.key_usage.unwrap().signs_others && !leaf.key_usage.unwrap().digital_signature
        );
        assert_eq!(leaf.uris, ["spiffe://mesh.internal"]);
    }
    assert_eq!(issuer.not_after(), now() + INTERMEDIATE_TTL);
}

#[test]
fn a_ca_on_disk_stays_the_same_and_renews_its_intermediate() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("ca");
    let first = Issuer::open(&dir, &td(), now()).unwrap();
    let again = Issuer::open(&dir, &td(), now() + DAY).unwrap();
    assert_eq!((again.bundle(), &again.intermediate), (first.bundle(), &first.intermediate));

    let renewed = Issuer::open(&dir, &td(), now() + 340 * DAY).unwrap();
    assert_eq!(renewed.bundle(), first.bundle(), "members needn't hear of it");
    assert_ne!(renewed.intermediate, first.intermediate);
    assert_eq!(renewed.not_after(), now() + 340 * DAY + INTERMEDIATE_TTL);
    assert_eq!(Issuer::open(&dir, &td(), now() + 341 * DAY).unwrap().intermediate, renewed.intermediate);

    let other = TrustDomain::new("other.example").unwrap();
    assert!(matches!(Issuer::open(&dir, &other, now()), Err(IssuerError::Unfit { .. })));
}

#[test]
fn a_damaged_ca_is_never_replaced_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("ca");
    Issuer::open(&dir, &td(), now()).unwrap();
    for (file, text) in [("intermediate.pem", None), ("root.pem", Some("junk")), ("root.pem", Some(""))] {
        let path = dir.join(file);
        let before = std::fs::read(&path).unwrap();
        match text {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        assert!(Issuer::open(&dir, &td(), now()).is_err(), "{file} {text:?}");
        std::fs::write(&path, before).unwrap();
    }
    let mut pem = IssuerPem::read(&dir).unwrap();
    pem.intermediate_key = PrivateKey::generate().unwrap().to_pem();
    assert!(matches!(
        Issuer::load(&td(), &pem),
        Err(IssuerError::Unfit { why: "its key is another one", .. })
    ));
}

#[test]
fn a_crash_in_the_first_write_leaves_no_half_of_a_ca() {
    let whole = tempfile::tempdir().unwrap();
    Issuer::open(whole.path(), &td(), now()).unwrap();
    let order = [IssuerPem::INTERMEDIATE_FILE, IssuerPem::ROOT_KEY_FILE, IssuerPem::ROOT_FILE];
    for written in 0..order.len() {
        let dir = tempfile::tempdir().unwrap();
        for file in &order[..written] {
            std::fs::copy(whole.path().join(file), dir.path().join(file)).unwrap();
        }
        assert!(Issuer::open(dir.path(), &td(), now()).is_ok(), "{written} files");
    }
}

//! Requests that ask for more than their due.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::key::PrivateKey;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};

fn id() -> SpiffeId {
    SpiffeId::parse("spiffe://mesh.internal/ns/default/sa/be1").unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn request(spoil: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    request_with(&KeyPair::generate().unwrap(), spoil)
}

fn request_with(key: &KeyPair, spoil: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(id().as_str())];
    spoil(&mut params);
    params.serialize_request(key).unwrap().der().to_vec()
}

/// A subjectAltName extension of its own.
fn second_names(uri: &str) -> rcgen::CustomExtension {
    let length = u8::try_from(uri.len()).unwrap();
    let content = [&[0x30, length + 2, 0x86, length], uri.as_bytes()].concat();
    rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 17], content)
}

fn label(csr: &[u8]) -> &'static str {
    check(csr, &id()).map_or_else(|refusal| refusal.label(), |_| "ok")
}

#[test]
fn our_own_request_passes_and_yields_its_public_key() {
    let key = PrivateKey::generate().unwrap();
    assert_eq!(check(&key.csr_der(&id()).unwrap(), &id()).unwrap(), key.public_der());
}

#[test]
fn abuse_has_a_reason() {
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    for (what, csr, expected) in [
        ("good", request(|_| {}), "ok"),
        ("a subject is ignored", request(|r| r.distinguished_name.push(DnType::CommonName, "admin")), "ok"),
        (
            "further usages are ignored",
            request(|r| {
                r.extended_key_usages =
                    vec![ExtendedKeyUsagePurpose::CodeSigning, ExtendedKeyUsagePurpose::Any];
            }),
            "ok",
        ),
        (
            "another id",
            request(|r| r.subject_alt_names = vec![uri("spiffe://mesh.internal/ns/default/sa/be4")]),
            "other_id",
        ),
        (
            "an id that begins with ours",
            request(|r| r.subject_alt_names = vec![uri(&format!("{}x", id()))]),
            "other_id",
        ),
        ("ours and a NUL", request(|r| r.subject_alt_names = vec![uri(&format!("{}\0", id()))]), "other_id"),
        (
            "ours in upper case",
            request(|r| r.subject_alt_names = vec![uri(&id().as_str().to_uppercase())]),
            "other_id",
        ),
        (
            "two ids",
            request(|r| r.subject_alt_names.push(uri("spiffe://mesh.internal/ns/default/sa/be4"))),
            "several_ids",
        ),
        ("ours twice", request(|r| r.subject_alt_names.push(uri(id().as_str()))), "several_ids"),
        ("no names", request(|r| r.subject_alt_names.clear()), "no_id"),
        ("DNS beside", request(|r| r.subject_alt_names.push(dns("kubernetes.default"))), "asks_for_hosts"),
        ("wildcard beside", request(|r| r.subject_alt_names.push(dns("*.example"))), "asks_for_hosts"),
        ("DNS only", request(|r| r.subject_alt_names = vec![dns("kubernetes.default")]), "asks_for_hosts"),
        (
            "IP beside",
            request(|r| r.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into()))),
            "asks_for_hosts",
        ),
        (
            "mail beside",
            request(|r| r.subject_alt_names.push(SanType::Rfc822Name("a@b".try_into().unwrap()))),
            "asks_for_other_names",
        ),
        ("CA:true", request(|r| r.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "asks_for_ca"),
        ("CA:false said aloud", request(|r| r.is_ca = IsCa::ExplicitNoCa), "ok"),
        ("keyCertSign", request(|r| r.key_usages = vec![KeyUsagePurpose::KeyCertSign]), "asks_for_cert_sign"),
        ("cRLSign", request(|r| r.key_usages = vec![KeyUsagePurpose::CrlSign]), "asks_for_cert_sign"),
        ("digitalSignature", request(|r| r.key_usages = vec![KeyUsagePurpose::DigitalSignature]), "ok"),
        (
            "the control plane's id",
            request(|r| r.subject_alt_names = vec![uri("spiffe://mesh.internal/weft/control")]),
            "other_id",
        ),
        (
            "another trust domain",
            request(|r| r.subject_alt_names = vec![uri("spiffe://other.example/ns/default/sa/be1")]),
            "other_id",
        ),
        (
            "another namespace",
            request(|r| r.subject_alt_names = vec![uri("spiffe://mesh.internal/ns/prod/sa/be1")]),
            "other_id",
        ),
        (
            "the trust domain",
            request(|r| r.subject_alt_names = vec![uri("spiffe://mesh.internal")]),
            "other_id",
        ),
        ("a slash more", request(|r| r.subject_alt_names = vec![uri(&format!("{}/", id()))]), "other_id"),
        ("an empty URI", request(|r| r.subject_alt_names = vec![uri("")]), "other_id"),
        (
            "ours, encoded",
            request(|r| r.subject_alt_names = vec![uri("spiffe://mesh.internal/ns/default/sa/%62e1")]),
            "other_id",
        ),
        (
            "IPv6 beside",
            request(|r| r.subject_alt_names.push(SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into()))),
            "asks_for_hosts",
        ),
        (
            "ours as mail only",
            request(|r| r.subject_alt_names = vec![SanType::Rfc822Name(id().as_str().try_into().unwrap())]),
            "asks_for_other_names",
        ),
        (
            "a second list of names behind the first",
            request(|r| r.custom_extensions = vec![second_names("spiffe://mesh.internal/ns/default/sa/be4")]),
            "several_ids",
        ),
        (
            "nameConstraints are ignored",
            request(|r| {
                let content = vec![0x30, 0];
                r.custom_extensions =
                    vec![rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 30], content)];
            }),
            "ok",
        ),
        ("10,000 names", request(|r| r.subject_alt_names = vec![dns("a.example"); 10_000]), "too_large"),
        ("1 MB of zeros", vec![0; 1 << 20], "too_large"),
        ("nothing", vec![], "bad_der"),
        ("garbage", vec![0x30, 0x82, 0xff, 0xff, 1], "bad_der"),
        ("deep nesting", [0x30, 0x80].repeat(8000), "bad_der"),
    ] {
        assert_eq!(label(&csr), expected, "{what}");
    }
}

#[test]
fn two_requests_in_one_are_refused() {
    let csr = request(|_| {});
    assert_eq!(label(&[csr.clone(), csr].concat()), "bad_der");
}

#[test]
fn keys_that_we_do_not_certify() {
    for (algorithm, expected) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, "ok"),
        (&rcgen::PKCS_ECDSA_P384_SHA384, "ok"),
        (&rcgen::PKCS_ECDSA_P521_SHA512, "unsupported_key"),
        (&rcgen::PKCS_ED25519, "unsupported_key"),
        (&rcgen::PKCS_RSA_SHA256, "unsupported_key"),
    ] {
        assert_eq!(
            label(&request_with(&KeyPair::generate_for(algorithm).unwrap(), |_| {})),
            expected,
            "{algorithm:?}"
        );
    }
}

#[test]
fn no_flipped_bit_gets_another_key_certified() {
    let csr = request(|_| {});
    let key = check(&csr, &id()).unwrap();
    for bit in 0..csr.len() * 8 {
        let mut altered = csr.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        // A bit outside what is signed may pass (the tag of the signature's algorithm: the parser looks at
        // its value alone), but then nothing else comes out.
        if let Ok(certified) = check(&altered, &id()) {
            assert_eq!(certified, key, "bit {bit}");
        }
    }
}

#[test]
fn cut_off_anywhere_is_refused() {
    let csr = request(|_| {});
    for end in 0..csr.len() {
        assert_ne!(label(&csr[..end]), "ok", "{end} bytes");
    }
}

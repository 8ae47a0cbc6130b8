//! Which lists are believed, and what they say.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::issuer::{Issuer, IssuerPem};
use crate::spiffe::TrustDomain;
use rcgen::{
    CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, KeyIdMethod, KeyPair,
    RevokedCertParams, SerialNumber,
};
use std::time::Duration;

const SERIAL: &str = "4a0000000000000000000000000000ff";

fn ca() -> (Issuer, IssuerPem) {
    Issuer::create(&TrustDomain::default(), SystemTime::now()).unwrap()
}

fn revoked(serial_hex: &str) -> Revoked {
    Revoked { serial_hex: serial_hex.to_owned(), at: SystemTime::now(), reason: Reason::KeyCompromise }
}

fn crl(issuer: &Issuer, serials: &[&str]) -> Crl {
    let all: Vec<Revoked> = serials.iter().map(|serial| revoked(serial)).collect();
    issuer.crl(&all, SystemTime::now()).unwrap()
}

/// A list by the real intermediate's key that says what ours never say.
fn forged(pem: &IssuerPem, spoil: impl FnOnce(&mut CertificateRevocationListParams)) -> Vec<u8> {
    let key = KeyPair::from_pem(&pem.intermediate_key).unwrap();
    let signer = rcgen::Issuer::from_ca_cert_pem(&pem.intermediate, key).unwrap();
    let mut params = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 1),
        next_update: rcgen::date_time_ymd(2026, 1, 2),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    spoil(&mut params);
    params.signed_by(&signer).unwrap().der().to_vec()
}

/// One list under another CA's name, or under its own.
fn read(der: &[u8], issuer: &[u8], bundle: &Bundle) -> Result<Crl, CrlError> {
    Crl::read(vec![SignedList { der: der.to_vec(), issuer: issuer.to_vec().into() }], bundle)
}

fn only(crl: &Crl) -> &SignedList {
    assert_eq!(crl.lists().len(), 1);
    &crl.lists()[0]
}

fn intermediate(pem: &IssuerPem) -> CertificateDer<'static> {
    crate::pem::certificates(&pem.intermediate).unwrap().remove(0)
}

#[test]
fn a_list_says_what_was_put_on_it_and_nothing_else() {
    let (issuer, _) = ca();
    // A high bit (DER puts a zero before it), and the spellings that people write.
    let crl = crl(&issuer, &[SERIAL, "ff01", "00:AB:cd"]);
    assert_eq!((crl.len(), crl.is_empty()), (3, false));
    for (serial, held) in [
        (SERIAL, true),
        (&SERIAL.to_uppercase(), true),
        ("ff01", true),
        ("00ff01", true),
        ("abcd", true),
        ("4a0000000000000000000000000000fe", false),
        ("", false),
        ("00", false),
    ] {
        assert_eq!(crl.holds(serial), held, "{serial}");
    }
    let read = Crl::read(crl.lists().to_vec(), issuer.bundle()).unwrap();
    assert_eq!((&read, read.len()), (&crl, 3));
    assert!(!issuer.bundle().revokes(SERIAL), "without a list nobody is revoked");
    assert!(issuer.bundle().clone().with_crl(Some(read)).revokes(SERIAL));
    let empty = self::crl(&issuer, &[]);
    assert!(empty.is_empty() && !empty.holds(SERIAL), "an entry that is taken out is gone");
}

#[test]
fn only_a_ca_of_the_trust_domain_is_believed() {
    let ((ours, _), (theirs, _)) = (ca(), ca());
    let (foreign, own) = (crl(&theirs, &[SERIAL]), crl(&ours, &[SERIAL]));
    let (foreign, own) = (only(&foreign), only(&own));
    let read = |der: &[u8], issuer: &[u8]| read(der, issuer, ours.bundle());
    assert!(read(&own.der, &own.issuer).is_ok());
    assert!(matches!(read(&foreign.der, &foreign.issuer), Err(CrlError::UnknownIssuer)));
    // Their list under our intermediate's name, and ours by a leaf of ours.
    assert!(matches!(read(&foreign.der, &own.issuer), Err(CrlError::UnknownIssuer)));
    let key = crate::PrivateKey::generate().unwrap();
    let id = crate::SpiffeId::service(&TrustDomain::default(), "default", "fe").unwrap();
    let ttl = Duration::from_secs(60);
    let leaf = ours.issue(&key.csr_der(&id).unwrap(), &id, SystemTime::now(), ttl, [7; 16]).unwrap();
    assert!(matches!(read(&own.der, &leaf.chain[0]), Err(CrlError::UnknownIssuer)));
    assert!(matches!(read(&own.der, b"junk"), Err(CrlError::UnknownIssuer)));
    // One good list does not excuse another one.
    assert!(Crl::read(vec![own.clone(), foreign.clone()], ours.bundle()).is_err());
    assert!(Crl::read(Vec::new(), ours.bundle()).is_err());
    // While two roots overlap, both CAs are asked.
    let roots = [ours.bundle().roots(), theirs.bundle().roots()].concat();
    let both = Bundle::new(TrustDomain::default(), roots).unwrap();
    assert!(Crl::read(vec![foreign.clone()], &both).unwrap().holds(SERIAL));
}

#[test]
fn an_intermediate_that_was_replaced_signs_lists_as_long_as_its_certificates_live() {
    let dir = tempfile::tempdir().unwrap();
    let (td, start) = (TrustDomain::default(), SystemTime::now());
    let old = Issuer::open(dir.path(), &td, start).unwrap();
    assert_eq!(old.crl(&[], start).unwrap().lists().len(), 1);
    let late = start + Duration::from_secs(340 * 86_400);
    for _ in 0..2 {
        // The second time it is read from the disk.
        let new = Issuer::open(dir.path(), &td, late).unwrap();
        let crl = new.crl(&[revoked(SERIAL)], late).unwrap();
        let issuers: HashSet<&[u8]> = crl.lists().iter().map(|list| list.issuer.as_ref()).collect();
        assert_eq!((issuers.len(), crl.len()), (2, 1));
        // Who knows nothing of the new one yet believes both.
        assert!(Crl::read(crl.lists().to_vec(), old.bundle()).unwrap().holds(SERIAL));
    }
}

#[test]
fn what_is_damaged_is_refused() {
    let (issuer, pem) = ca();
    let crl = crl(&issuer, &[SERIAL]);
    let good = only(&crl);
    let (_, parsed) = CertificateRevocationList::from_der(&good.der).unwrap();
    let signed = parsed.tbs_cert_list.as_ref();
    let signed_end = good.der.windows(signed.len()).position(|part| part == signed).unwrap() + signed.len();
    for position in 0..good.der.len() {
        let mut bad = good.der.clone();
        bad[position] ^= 1;
        // Of what is not signed, the reader leaves some spelling open; it cannot change what is said.
        match read(&bad, &good.issuer, issuer.bundle()) {
            Err(_) => {}
            Ok(other) => assert!(position >= signed_end && other.revoked == crl.revoked, "byte {position}"),
        }
        assert!(read(&good.der[..position], &good.issuer, issuer.bundle()).is_err(), "cut at {position}");
    }
    let longer = [&good.der, &b"x"[..]].concat();
    assert!(matches!(read(&longer, &good.issuer, issuer.bundle()), Err(CrlError::BadDer)));
    let huge = vec![0x30; CRL_BYTES_MAX + 1];
    assert!(matches!(read(&huge, &good.issuer, issuer.bundle()), Err(CrlError::TooLarge(_))));
    // A part of a list would let the others pass.
    let part = forged(&pem, |params| {
        params.issuing_distribution_point = Some(CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint { uris: vec!["http://x/".to_owned()] },
            scope: None,
        });
    });
    let found = read(&part, &intermediate(&pem), issuer.bundle());
    assert!(matches!(found, Err(CrlError::UnknownExtension)), "{found:?}");
}

#[test]
fn an_old_list_is_better_than_none() {
    let (issuer, pem) = ca();
    let old = forged(&pem, |params| {
        params.revoked_certs = vec![RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[0x4a, 1]),
            revocation_time: rcgen::date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }];
    });
    assert!(read(&old, &intermediate(&pem), issuer.bundle()).unwrap().holds("4a01"));
}

#[test]
fn the_longest_list_fits_its_limit_and_a_longer_one_is_not_made() {
    let (issuer, _) = ca();
    let mut all: Vec<Revoked> = (0..REVOKED_MAX).map(|index| revoked(&format!("4a{index:030x}"))).collect();
    let longest = issuer.crl(&all, SystemTime::now()).unwrap();
    assert_eq!(longest.len(), REVOKED_MAX);
    // Two of them, as after the intermediate was renewed.
    let bytes = 2 * only(&longest).der.len() + 4096;
    assert!(bytes < CRL_BYTES_MAX, "{bytes}");
    all.push(revoked(SERIAL));
    let refused = issuer.crl(&all, SystemTime::now()).unwrap_err();
    assert_eq!(refused.label(), "too_many_revoked");
}

#[test]
fn a_file_is_read_back_and_a_damaged_one_is_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let (issuer, _) = ca();
    assert_eq!(Crl::read_file(dir.path(), issuer.bundle()).unwrap(), None);
    let crl = crl(&issuer, &[SERIAL]);
    crl.write(dir.path()).unwrap();
    assert_eq!(Crl::read_file(dir.path(), issuer.bundle()).unwrap(), Some(crl.clone()));
    assert!(Crl::read_file(dir.path(), ca().0.bundle()).is_err(), "of another CA");
    let path = dir.path().join(CRL_FILE);
    for bad in [String::new(), crl.to_pem(), std::fs::read_to_string(&path).unwrap().replace("MI", "IM")] {
        std::fs::write(&path, bad).unwrap();
        assert!(Crl::read_file(dir.path(), issuer.bundle()).is_err());
    }
}

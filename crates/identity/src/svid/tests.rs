//! An identity on disk: what survives, and what a crash leaves.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::issuer::Issuer;
use crate::spiffe::TrustDomain;
use std::os::unix::fs::PermissionsExt as _;

const TTL: Duration = Duration::from_secs(3600);

fn issuer() -> Issuer {
    Issuer::create(&TrustDomain::default(), SystemTime::now()).unwrap().0
}

fn svid(issuer: &Issuer) -> Svid {
    let id = SpiffeId::service(&TrustDomain::default(), "default", "be1").unwrap();
    let key = PrivateKey::generate().unwrap();
    let csr = key.csr_der(&id).unwrap();
    let serial = crate::random::secure().unwrap();
    Svid::new(issuer.issue(&csr, &id, SystemTime::now(), TTL, serial).unwrap().chain, key).unwrap()
}

#[test]
fn files_are_private_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("deep/identity");
    let issuer = issuer();
    let written = svid(&issuer);
    written.write(issuer.bundle(), &dir).unwrap();
    let (read, bundle) = Svid::read(&dir).unwrap();
    assert_eq!((read.id(), read.serial_hex()), (written.id(), written.serial_hex()));
    assert_eq!((read.chain(), &bundle), (written.chain(), issuer.bundle()));
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn a_crash_between_two_files_leaves_a_pair() {
    let dir = tempfile::tempdir().unwrap();
    let (issuer, files) = (issuer(), ["bundle.pem", "key-next.pem", "chain.pem", "key.pem"]);
    let (old, new) = (svid(&issuer), svid(&issuer));
    for crash_after in 0..=files.len() {
        let (at, next) =
            (dir.path().join(format!("{crash_after}")), dir.path().join(format!("{crash_after}-next")));
        old.write(issuer.bundle(), &at).unwrap();
        new.write(issuer.bundle(), &next).unwrap();
        for file in &files[..crash_after] {
            std::fs::copy(next.join(file), at.join(file)).unwrap();
        }
        let expected = if crash_after >= 3 { &new } else { &old };
        assert_eq!(
            Svid::read(&at).unwrap().0.serial_hex(),
            expected.serial_hex(),
            "after {crash_after} files"
        );
    }
}

#[test]
fn nothing_there_is_not_the_same_as_damage() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Svid::read(dir.path()).unwrap_err().is_missing());
    let issuer = issuer();
    svid(&issuer).write(issuer.bundle(), dir.path()).unwrap();
    std::fs::write(dir.path().join("chain.pem"), "junk").unwrap();
    assert!(!Svid::read(dir.path()).unwrap_err().is_missing());
}

#[test]
fn a_planted_link_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    let issuer = issuer();
    for name in ["key.pem", "key.pem.tmp", "chain.pem.tmp"] {
        std::os::unix::fs::symlink(&victim, dir.path().join(name)).unwrap();
    }
    svid(&issuer).write(issuer.bundle(), dir.path()).unwrap();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn chain_and_key_must_belong_together() {
    let issuer = issuer();
    let (one, other) = (svid(&issuer), svid(&issuer));
    let error = Svid::new(one.chain().to_vec(), other.key().clone()).unwrap_err();
    assert!(matches!(error, SvidError::OtherKey { .. }), "{error}");
    let error = Svid::new(issuer.bundle().roots().to_vec(), one.key().clone()).unwrap_err();
    assert!(matches!(error, SvidError::Leaf(Refusal::BadId(_))), "{error}");
    assert!(matches!(Svid::new(vec![], one.key().clone()), Err(SvidError::Leaf(Refusal::NoCertificate))));
}

#[test]
fn life_is_told() {
    let svid = svid(&issuer());
    let issued = svid.not_before() + crate::rotation::BACKDATED;
    assert_eq!(svid.not_after(), issued + TTL);
    assert_eq!(svid.renew_at(0.5), issued + TTL.mul_f64(0.6));
    assert_eq!(svid.life_left(issued), TTL);
    assert!(!svid.expired(issued) && svid.expired(svid.not_after()));
}

#[test]
fn the_key_does_not_show_in_debug_output() {
    let svid = svid(&issuer());
    let text = format!("{svid:?} {:?}", svid.key());
    assert!(text.contains("be1") && text.contains("[secret]") && text.len() < 200, "{text}");
}

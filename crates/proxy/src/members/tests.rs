use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use weft_identity::{
    Issuer, PrivateKey, Revoked, SpiffeId, TrustDomain,
    revocation::{Reason, canonical},
};

use super::*;

struct Ca(Issuer);

impl Ca {
    fn new() -> Ca {
        Ca(Issuer::create(&TrustDomain::default(), SystemTime::now()).unwrap().0)
    }

    fn chain(&self, serial: u8) -> (Vec<CertificateDer<'static>>, String) {
        let id = SpiffeId::service(&TrustDomain::default(), "default", "fe").unwrap();
        let csr = PrivateKey::generate().unwrap().csr_der(&id).unwrap();
        let ttl = Duration::from_secs(60);
        let issued = self.0.issue(&csr, &id, SystemTime::now(), ttl, [serial; 16]).unwrap();
        (issued.chain, issued.serial_hex)
    }

    fn without(&self, serial: &str) -> Bundle {
        let (at, reason) = (SystemTime::now(), Reason::KeyCompromise);
        let revoked = [Revoked { serial_hex: canonical(serial), at, reason }];
        let crl = self.0.crl(&revoked, SystemTime::now()).unwrap();
        self.0.bundle().clone().with_crl(Some(crl))
    }
}

#[tokio::test]
async fn who_waits_for_a_revoked_peer_is_told_and_the_others_go_on() {
    let (ca, members) = (Ca::new(), Arc::new(Members::default()));
    let (bad, serial) = ca.chain(1);
    let (good, _) = ca.chain(2);
    let open = |chain: &[CertificateDer<'static>]| {
        let (near, far) = duplex(16);
        (Tied::new(near, Some(members.tie(Some(chain)).unwrap())), far)
    };
    let (mut read_bad, _far) = open(&bad);
    let (mut write_bad, _full) = open(&bad);
    let (mut kept, mut other) = open(&good);
    let reading = tokio::spawn(async move { read_bad.read_u8().await.map_err(|error| error.kind()) });
    let writing = tokio::spawn(async move {
        let written = write_bad.write_all(&[0; 64]).await.map_err(|error| error.kind());
        (written, write_bad.read_u8().await.is_err())
    });
    tokio::task::yield_now().await;
    assert_eq!(members.learn(&ca.without(&serial)), 2);
    let ended = Duration::from_secs(5);
    let read = tokio::time::timeout(ended, reading).await.expect("told at once").unwrap();
    assert_eq!(read, Err(io::ErrorKind::ConnectionAborted));
    let written = tokio::time::timeout(ended, writing).await.expect("told at once").unwrap();
    assert_eq!(written, (Err(io::ErrorKind::ConnectionAborted), true));
    other.write_u8(7).await.unwrap();
    assert_eq!(kept.read_u8().await.unwrap(), 7);
    assert_eq!(
        (members.learn(&ca.without(&serial)), members.cut.load(Ordering::Relaxed)),
        (0, 2),
        "once each"
    );
    // A handshake that began before.
    assert_eq!(members.tie(Some(&bad)).unwrap_err(), Refusal::Revoked);
    assert_eq!(members.tie(None).unwrap_err(), Refusal::NoCertificate);
}

#[test]
fn connections_that_are_gone_are_not_kept() {
    let (ca, members) = (Ca::new(), Members::default());
    let (chain, serial) = ca.chain(1);
    let kept = members.tie(Some(&chain)).unwrap();
    for _ in 0..10 * LOOK_AT_MIN {
        drop(members.tie(Some(&chain)).unwrap());
    }
    assert!(members.open.lock().unwrap().connections.len() <= LOOK_AT_MIN);
    assert_eq!(members.learn(&ca.without(&serial)), 1);
    assert!(kept.cut.check().is_err());
}

//! A certificate that was taken back, on both sides of a connection.

use super::*;
use crate::revocation::{Reason, Revoked};
use rustls_pki_types::UnixTime;

impl Mesh {
    /// What is trusted once these were taken back.
    fn without(&self, revoked: &[&Svid]) -> Bundle {
        let (at, reason) = (SystemTime::now(), Reason::KeyCompromise);
        let all: Vec<Revoked> = revoked
            .iter()
            .map(|svid| Revoked { serial_hex: svid.serial_hex().to_owned(), at, reason })
            .collect();
        let crl = self.issuer.crl(&all, SystemTime::now()).unwrap();
        self.issuer.bundle().clone().with_crl(Some(crl))
    }

    fn svid_numbered(&self, service: &str, serial: [u8; 16]) -> Svid {
        let (id, key) = (self.id(service), PrivateKey::generate().unwrap());
        let csr = key.csr_der(&id).unwrap();
        let ttl = Duration::from_secs(600);
        Svid::new(self.issuer.issue(&csr, &id, SystemTime::now(), ttl, serial).unwrap().chain, key).unwrap()
    }
}

#[test]
fn neither_side_believes_a_revoked_peer() {
    let mesh = mesh("mesh.internal");
    let (fe, be1) = (mesh.svid_numbered("fe", [1; 16]), mesh.svid_numbered("be1", [2; 16]));
    let all = mesh.issuer.bundle().clone();
    // (what the client trusts, what the server trusts)
    for (client, server, verdict) in [
        (all.clone(), all.clone(), "ok"),
        (mesh.without(&[]), mesh.without(&[]), "ok"),
        (all.clone(), mesh.without(&[&fe]), "revoked"),
        (mesh.without(&[&be1]), all.clone(), "revoked"),
        // One's own being revoked is for others to say.
        (mesh.without(&[&fe]), mesh.without(&[&be1]), "ok"),
    ] {
        let client = client_config(&fe, &client, mesh.only("be1"), ALPN_NONE).unwrap();
        let mut met = meet(client, server_config(&be1, &server, ALPN_NONE).unwrap());
        assert_eq!(met.verdict(), verdict);
        assert_eq!(met.delivered(), if verdict == "ok" { 5 } else { 0 });
    }
}

#[test]
fn the_next_certificate_of_the_same_member_is_good() {
    let mesh = mesh("mesh.internal");
    let (old, new) = (mesh.svid_numbered("fe", [1; 16]), mesh.svid_numbered("fe", [2; 16]));
    let server = server_config(&mesh.svid("be1"), &mesh.without(&[&old]), ALPN_NONE).unwrap();
    for (svid, verdict) in [(&old, "revoked"), (&new, "ok")] {
        let client = client_config(svid, mesh.issuer.bundle(), mesh.only("be1"), ALPN_NONE).unwrap();
        assert_eq!(meet(client, server.clone()).verdict(), verdict);
    }
}

#[test]
fn what_was_known_as_good_is_forgotten_with_the_next_list() {
    let mesh = mesh("mesh.internal");
    let fe = mesh.svid_numbered("fe", [1; 16]);
    let believe = |verifier: &PeerVerifier| {
        let believed = verifier.believe(&fe.chain()[0], &fe.chain()[1..], UnixTime::now());
        believed.map_or_else(|refusal| refusal.label(), |()| "ok")
    };
    let before = PeerVerifier::for_clients(mesh.issuer.bundle().clone());
    assert_eq!((believe(&before), before.known()), ("ok", 1));
    let after = PeerVerifier::for_clients(mesh.without(&[&fe]));
    assert_eq!((believe(&after), after.known()), ("revoked", 0), "and it is not learned");
}

#[test]
fn a_stranger_is_a_stranger_whatever_its_number() {
    let (mesh, other) = (mesh("mesh.internal"), self::mesh("mesh.internal"));
    let numbered = mesh.svid_numbered("fe", [1; 16]);
    let stranger = other.svid_numbered("fe", [1; 16]);
    let server = server_config(&mesh.svid("be1"), &mesh.without(&[&numbered]), ALPN_NONE).unwrap();
    let client = client_config(&stranger, mesh.issuer.bundle(), mesh.only("be1"), ALPN_NONE).unwrap();
    assert_eq!(meet(client, server).verdict(), "unknown_issuer");
}

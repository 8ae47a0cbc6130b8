//! A chain that was found good once is not good for ever, nor for others.

use super::authority::{good_leaf, uri};
use super::*;
use rustls_pki_types::UnixTime;

fn in_seconds(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + seconds))
}

fn before(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() - seconds))
}

type Chain = Vec<CertificateDer<'static>>;

fn verdict(verifier: &PeerVerifier, chain: &Chain, now: UnixTime) -> &'static str {
    verifier.believe(&chain[0], &chain[1..], now).map_or_else(|refusal| refusal.label(), |()| "ok")
}

#[test]
fn what_was_good_is_asked_for_its_time_only() {
    let mesh = mesh("mesh.internal");
    let (chain, _) = mesh.intermediate().leaf(mesh.id("fe").as_str(), |_| {});
    let verifier = PeerVerifier::for_clients(mesh.issuer.bundle().clone());
    assert_eq!((verdict(&verifier, &chain, in_seconds(0)), verifier.known()), ("ok", 1));
    // Each of these would pass if only the first look counted.
    assert_eq!(verdict(&verifier, &chain, before(3600)), "not_yet_valid");
    assert_eq!((verdict(&verifier, &chain, in_seconds(500)), verifier.known()), ("ok", 1));
    assert_eq!((verdict(&verifier, &chain, in_seconds(3600)), verifier.known()), ("expired", 0));
    assert_eq!(verdict(&verifier, &chain, in_seconds(0)), "ok", "the clock was wrong and is right again");
}

#[test]
fn a_known_chain_s_signatures_are_not_checked_again() {
    // Told that it knows a chain of strangers, the verifier believes it: so a known one costs no signature.
    let (mesh, other) = (mesh("mesh.internal"), self::mesh("mesh.internal"));
    let (chain, _) = other.intermediate().leaf(other.id("fe").as_str(), |_| {});
    let verifier = PeerVerifier::for_clients(mesh.issuer.bundle().clone());
    assert_eq!(verdict(&verifier, &chain, in_seconds(0)), "unknown_issuer");
    verifier.pretend_to_know(&chain);
    assert_eq!(verdict(&verifier, &chain, in_seconds(0)), "ok");
}

#[test]
fn an_intermediate_that_ends_early_ends_the_chain() {
    let mesh = mesh("mesh.internal");
    let short = mesh.root().authority("short", |params| {
        let of_leaf = good_leaf("spiffe://mesh.internal/x");
        (params.not_before, params.not_after) = (of_leaf.not_before, of_leaf.not_before);
        params.not_after += Duration::from_secs(400); // 100 from now, and the leaf's 600
    });
    let (chain, _) = short.leaf(mesh.id("fe").as_str(), |_| {});
    let verifier = PeerVerifier::for_clients(mesh.issuer.bundle().clone());
    assert_eq!(verdict(&verifier, &chain, in_seconds(0)), "ok");
    assert_eq!((verdict(&verifier, &chain, in_seconds(90)), verifier.known()), ("ok", 1));
    assert_eq!(verdict(&verifier, &chain, in_seconds(200)), "expired");
}

#[test]
fn no_other_chain_passes_for_a_known_one() {
    let mesh = mesh("mesh.internal");
    let (chain, _) = mesh.intermediate().leaf(mesh.id("fe").as_str(), |_| {});
    let verifier = PeerVerifier::for_clients(mesh.issuer.bundle().clone());
    assert_eq!(verdict(&verifier, &chain, in_seconds(0)), "ok");
    for (index, certificate) in chain.iter().enumerate() {
        // In the signature, at the end, and in the middle of what is signed.
        for position in [certificate.len() - 1, certificate.len() / 2] {
            let mut forged = certificate.to_vec();
            forged[position] ^= 1;
            let mut other = chain.clone();
            other[index] = forged.into();
            assert_ne!(verdict(&verifier, &other, in_seconds(0)), "ok", "{index} {position}");
        }
    }
    let joined: CertificateDer<'static> =
        chain.iter().flat_map(|one| one.to_vec()).collect::<Vec<_>>().into();
    assert_ne!(verdict(&verifier, &vec![joined], in_seconds(0)), "ok");
    assert_ne!(verdict(&verifier, &vec![chain[0].clone()], in_seconds(0)), "ok");
    assert_eq!(verifier.known(), 1, "what is refused is not kept");
}

#[test]
fn a_new_bundle_knows_nobody_and_each_side_asks_for_itself() {
    let mesh = mesh("mesh.internal");
    let (chain, _) = mesh.intermediate().leaf(mesh.id("fe").as_str(), |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![uri(mesh.id("fe").as_str())];
    });
    let bundle = mesh.issuer.bundle();
    let clients = PeerVerifier::for_clients(bundle.clone());
    assert_eq!(verdict(&clients, &chain, in_seconds(0)), "ok");
    let servers = PeerVerifier::for_servers(bundle.clone(), IdentityMatch::TrustDomain);
    assert_eq!(verdict(&servers, &chain, in_seconds(0)), "wrong_usage");
    let replaced = PeerVerifier::for_clients(self::mesh("mesh.internal").issuer.bundle().clone());
    assert_eq!(verdict(&replaced, &chain, in_seconds(0)), "unknown_issuer");
}

#[test]
fn a_known_member_proves_its_key_each_time() {
    let mesh = mesh("mesh.internal");
    let (fe, be1) = (mesh.svid("fe"), mesh.svid("be1"));
    let server = server_config(&be1, mesh.issuer.bundle(), ALPN_NONE).unwrap();
    let client = client_config(&fe, mesh.issuer.bundle(), mesh.only("be1"), ALPN_NONE).unwrap();
    for _ in 0..2 {
        assert_eq!(meet(Arc::clone(&client), Arc::clone(&server)).verdict(), "ok");
    }
    // Who shows the same chain without its key.
    let shown = (fe.chain().to_vec(), rcgen::KeyPair::generate().unwrap());
    let thief = authority::client_showing(&shown, &mesh);
    assert_eq!(meet(thief, server).verdict(), "key_not_held");
}

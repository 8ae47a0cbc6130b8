//! Names and certificates that a stranger shows.

use weft_identity::{
    Bundle,
    certificate::Leaf,
    csr,
    key::PrivateKey,
    spiffe::{SpiffeId, TrustDomain},
};

/// The grammar of the SPIFFE specification, section 2, written once more.
fn follows_the_grammar(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("spiffe://") else { return false };
    let (domain, path) = rest.find('/').map_or((rest, None), |at| (&rest[..at], Some(&rest[at + 1..])));
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let segment = |text: &str| !matches!(text, "" | "." | "..") && text.bytes().all(good);
    text.len() <= 2048
        && (1..=255).contains(&domain.len())
        && domain.bytes().all(lower)
        && path.is_none_or(|path| path.split('/').all(segment))
}

pub fn spiffe_id(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = SpiffeId::parse(text);
    assert!(parsed.is_err() || follows_the_grammar(text), "{text:?} is taken");
    let Ok(id) = parsed else { return };
    assert_eq!(id.as_str(), text);
    assert_eq!(format!("spiffe://{}{}", id.trust_domain_str(), id.path()), text);
}

pub fn spiffe_seeds() -> Vec<Vec<u8>> {
    [
        "spiffe://mesh.internal/ns/default/sa/be1",
        "spiffe://a",
        "spiffe://a/b/../c",
        "spiffe://A/b",
        "spiffe://a/b/",
        "spiffe://a:80/b",
        "spiffe://a/b%2f",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// The same bytes as a certificate, as a request for one, and as PEM text of a bundle and of a key.
pub fn certificate(data: &[u8]) {
    let _ = Leaf::parse(&data.to_vec().into());
    let expected = SpiffeId::parse("spiffe://mesh.internal/ns/default/sa/a").unwrap();
    // Its key's signature over its own bytes is part of what is checked: no mutation passes but those of the seeds.
    let _ = csr::check(data, &expected);
    if let Ok(text) = std::str::from_utf8(data) {
        let domain = TrustDomain::new("mesh.internal").unwrap();
        if let Ok(bundle) = Bundle::from_pem(domain.clone(), text) {
            assert_eq!(Bundle::from_pem(domain, &bundle.to_pem()).unwrap(), bundle);
        }
        let _ = PrivateKey::from_pem(text);
    }
}

pub fn certificate_seeds() -> Vec<Vec<u8>> {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wanted = rcgen::CertificateParams::default();
    wanted.subject_alt_names =
        vec![rcgen::SanType::URI("spiffe://mesh.internal/ns/default/sa/a".try_into().unwrap())];
    let made = wanted.self_signed(&key).unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    vec![
        made.der().to_vec(),
        request.der().to_vec(),
        made.pem().into_bytes(),
        key.serialize_pem().into_bytes(),
    ]
}

//! The keys that signatures are checked with: JSON Web Keys, certificates and public keys in PEM.

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Text longer than this is no key set that anybody needs in a policy.
const TEXT_MAX: usize = 128 * 1024;
const KEYS_MAX: usize = 64;

/// One public key.
pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) key: DecodingKey,
}

/// All keys of a text; none where it can't be read.
pub(super) fn read(text: &str) -> Vec<Key> {
    if text.len() > TEXT_MAX {
        return Vec::new();
    }
    if text.trim_start().starts_with('{') {
        return web_keys(text);
    }
    // Text behind the one block would be read by others and not by us.
    let behind =
        text.split("-----END ").nth(1).and_then(|rest| rest.split_once("-----")).map(|(_, rest)| rest);
    if behind.is_none_or(|rest| !rest.trim().is_empty()) {
        return Vec::new();
    }
    let key = if text.contains("-----BEGIN CERTIFICATE-----") {
        certificate(text)
    } else if text.contains("-----BEGIN RSA PUBLIC KEY-----") {
        DecodingKey::from_rsa_pem(text.as_bytes()).ok()
    } else {
        let pem = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).ok();
        pem.and_then(|der| {
            let (rest, info) = SubjectPublicKeyInfo::from_der(der.as_ref()).ok()?;
            rest.is_empty().then(|| public(&info)).flatten()
        })
    };
    key.map(|key| Key { id: None, key }).into_iter().collect()
}

/// Each key by itself: one of a kind that nobody here knows spoils no other.
fn web_keys(text: &str) -> Vec<Key> {
    let Ok(mut document) = serde_json::from_str::<serde_json::Value>(text) else { return Vec::new() };
    let keys = match document.get_mut("keys").map(serde_json::Value::take) {
        Some(serde_json::Value::Array(keys)) => keys,
        Some(_) => return Vec::new(),
        None => vec![document],
    };
    let keys = keys.into_iter().take(KEYS_MAX).filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    // A secret among public keys would let whoever reads the set sign.
    let public = keys.filter(|key| !matches!(key.algorithm, AlgorithmParameters::OctetKey(_)));
    public
        .filter_map(|key| {
            let decoding = DecodingKey::from_jwk(&key).ok()?;
            Some(Key { id: key.common.key_id, key: decoding })
        })
        .collect()
}

fn certificate(text: &str) -> Option<DecodingKey> {
    let mut certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    let der = certificates.next()?.ok()?;
    if certificates.next().is_some() {
        return None;
    }
    let (rest, certificate) = X509Certificate::from_der(der.as_ref()).ok()?;
    rest.is_empty().then(|| public(certificate.public_key())).flatten()
}

fn public(info: &SubjectPublicKeyInfo<'_>) -> Option<DecodingKey> {
    let bytes = info.subject_public_key.data.as_ref();
    match info.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => Some(DecodingKey::from_rsa_der(bytes)),
        "1.2.840.10045.2.1" => Some(DecodingKey::from_ec_der(bytes)),
        "1.3.101.112" => Some(DecodingKey::from_ed_der(bytes)),
        _ => None,
    }
}

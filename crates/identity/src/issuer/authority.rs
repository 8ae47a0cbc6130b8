//! The CA's own certificates: what they say, and what is asked of those that come from a disk.

use super::{IssueError, IssuerError};
use crate::certificate::{Leaf, hex};
use crate::key::PrivateKey;
use crate::pem;
use crate::revocation::SignedList;
use crate::rotation::BACKDATED;
use crate::spiffe::TrustDomain;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use std::time::{Duration, SystemTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;

/// What a CA certificate says.
pub(super) fn params(
    trust_domain: &TrustDomain,
    part: &str,
    key: &PrivateKey,
    intermediates_max: u8,
    now: SystemTime,
    ttl: Duration,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(now - BACKDATED);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(now + ttl);
    // The key makes the name unique: after a rotation both roots live side by side, and path building goes by
    // name.
    let fingerprint =
        hex(&aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key.public_der()).as_ref()[..8]);
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Weft");
    name.push(DnType::CommonName, format!("Weft {part} CA {fingerprint}"));
    params.distinguished_name = name;
    // As SPIFFE wants it for a signing certificate: the id of the trust domain, without a path.
    params.subject_alt_names = vec![SanType::URI(trust_domain.uri().as_str().try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(intermediates_max));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The first certificate of a PEM text.
pub(super) fn first_certificate(
    part: &'static str,
    text: &str,
) -> Result<CertificateDer<'static>, IssuerError> {
    let mut certificates = pem::certificates(text).map_err(|source| IssuerError::Pem { part, source })?;
    Ok(certificates.swap_remove(0))
}

/// A CA certificate of this trust domain.
pub(super) fn parse(
    part: &'static str,
    certificate: &CertificateDer<'static>,
    trust_domain: &TrustDomain,
) -> Result<Leaf, IssuerError> {
    let unfit = |why| IssuerError::Unfit { part, trust_domain: trust_domain.clone(), why };
    let leaf = Leaf::parse(certificate).map_err(|_| unfit("it is not well-formed"))?;
    if !leaf.is_ca {
        return Err(unfit("it is not a CA certificate"));
    }
    match leaf.uris[..] {
        // A CA that somebody else made may say nothing of SPIFFE.
        [] => Ok(leaf),
        [ref uri] if *uri == trust_domain.uri() => Ok(leaf),
        _ => Err(unfit(
            "it belongs to another trust domain; start with that one, or with an empty state directory",
        )),
    }
}

/// A CA certificate of this trust domain, with its own key.
pub(super) fn check(
    part: &'static str,
    certificate: &CertificateDer<'static>,
    key: &PrivateKey,
    trust_domain: &TrustDomain,
) -> Result<Leaf, IssuerError> {
    let leaf = parse(part, certificate, trust_domain)?;
    match leaf.public_key == key.public_der() {
        true => Ok(leaf),
        false => Err(IssuerError::Unfit {
            part,
            trust_domain: trust_domain.clone(),
            why: "its key is another one",
        }),
    }
}

/// The list of one CA.
pub(super) fn list(
    certificate: &CertificateDer<'static>,
    signer: &rcgen::Issuer<'static, SharedKey>,
    params: &CertificateRevocationListParams,
) -> Result<SignedList, IssueError> {
    let mut params = params.clone();
    if let Some(identifier) = key_identifier(certificate) {
        params.key_identifier_method = KeyIdMethod::PreSpecified(identifier);
    }
    let made = params
        .signed_by(signer)
        .map_err(|source| IssueError::Sign { subject: "the revocation list".to_owned(), source })?;
    Ok(SignedList { der: made.der().to_vec(), issuer: certificate.clone() })
}

/// By which name its children call it: its subjectKeyIdentifier.
fn key_identifier(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
        _ => None,
    })
}

/// A [`PrivateKey`] as rcgen's signer, so that the issuer owns its key without copying it.
pub(super) struct SharedKey(pub(super) PrivateKey);

impl rcgen::PublicKeyData for SharedKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair().der_bytes()
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        rcgen::PublicKeyData::algorithm(self.pair())
    }
}

impl rcgen::SigningKey for SharedKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        rcgen::SigningKey::sign(self.pair(), message)
    }
}

impl SharedKey {
    fn pair(&self) -> &KeyPair {
        self.0.pair()
    }
}

/// What to add to 1970 for a moment, in whole seconds.
pub(super) fn since_epoch(time: SystemTime) -> Duration {
    Duration::from_secs(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// X.509 knows no fractions of a second.
pub(super) fn whole_seconds(time: SystemTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + since_epoch(time)
}

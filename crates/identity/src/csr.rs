//! The authority's look at a certificate request, before it signs anything.
//!
//! Of a request that passes, the issuer uses nothing but the public key; all else in the certificate it
//! decides itself. A request that asks for more than its one URI SAN is refused all the same: a member of
//! ours never writes such a one, so whoever did is worth a line in the audit log.

use crate::spiffe::SpiffeId;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The largest request that is looked at; ours have about 350 bytes.
pub const CSR_BYTES_MAX: usize = 16 * 1024;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrRefusal {
    /// More than [`CSR_BYTES_MAX`].
    #[error("the certificate request has {0} bytes, at most {CSR_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// Not one well-formed PKCS#10 request.
    #[error("the certificate request is not well-formed PKCS#10 DER")]
    BadDer,
    /// Another key or curve than P-256 and P-384.
    #[error("the certificate request has an unsupported key: use ECDSA P-256 or P-384")]
    UnsupportedKey,
    /// The caller doesn't hold the private key.
    #[error("the certificate request is not signed by its own key")]
    BadSignature,
    /// The key of the authority itself.
    #[error("the certificate request has the authority's own key")]
    AuthorityKey,
    /// basicConstraints CA:true.
    #[error("the certificate request asks to be a CA")]
    AsksForCa,
    /// keyUsage keyCertSign or cRLSign.
    #[error("the certificate request asks to sign certificates or CRLs")]
    AsksForCertSign,
    /// No URI SAN.
    #[error("the certificate request names no SPIFFE id, expected {expected}")]
    NoId {
        /// What the caller may ask for.
        expected: SpiffeId,
    },
    /// More than one URI SAN.
    #[error("the certificate request has {0} URI names, exactly one is allowed")]
    SeveralIds(usize),
    /// A URI SAN that isn't the caller's id.
    #[error("the certificate request asks for another identity than {expected}")]
    OtherId {
        /// What the caller may ask for.
        expected: SpiffeId,
    },
    /// DNS or IP SANs.
    #[error("the certificate request asks for host names or addresses")]
    AsksForHosts,
    /// Any other kind of SAN.
    #[error("the certificate request asks for names that are neither URIs nor hosts")]
    AsksForOtherNames,
}

impl CsrRefusal {
    /// A word for metrics and the audit log.
    pub fn label(&self) -> &'static str {
        match self {
            CsrRefusal::TooLarge(_) => "too_large",
            CsrRefusal::BadDer => "bad_der",
            CsrRefusal::UnsupportedKey => "unsupported_key",
            CsrRefusal::BadSignature => "bad_signature",
            CsrRefusal::AuthorityKey => "authority_key",
            CsrRefusal::AsksForCa => "asks_for_ca",
            CsrRefusal::AsksForCertSign => "asks_for_cert_sign",
            CsrRefusal::NoId { .. } => "no_id",
            CsrRefusal::SeveralIds(_) => "several_ids",
            CsrRefusal::OtherId { .. } => "other_id",
            CsrRefusal::AsksForHosts => "asks_for_hosts",
            CsrRefusal::AsksForOtherNames => "asks_for_other_names",
        }
    }
}

/// Checks a request of a caller that was attested as `expected`; returns the public key
/// (SubjectPublicKeyInfo, DER).
pub fn check(csr_der: &[u8], expected: &SpiffeId) -> Result<Vec<u8>, CsrRefusal> {
    if csr_der.len() > CSR_BYTES_MAX {
        return Err(CsrRefusal::TooLarge(csr_der.len()));
    }
    let (rest, csr) = X509CertificationRequest::from_der(csr_der).map_err(|_| CsrRefusal::BadDer)?;
    if !rest.is_empty() {
        return Err(CsrRefusal::BadDer);
    }
    check_signature(&csr)?;
    check_names(&csr, expected)?;
    Ok(csr.certification_request_info.subject_pki.raw.to_vec())
}

/// The key is of a kind that we certify, and the caller holds its private half.
fn check_signature(csr: &X509CertificationRequest<'_>) -> Result<(), CsrRefusal> {
    let public_key = &csr.certification_request_info.subject_pki;
    let (algorithm, signature_oid): (&dyn VerificationAlgorithm, _) = match curve(public_key) {
        Some(Curve::P256) => (&ECDSA_P256_SHA256_ASN1, OID_SIG_ECDSA_WITH_SHA256),
        Some(Curve::P384) => (&ECDSA_P384_SHA384_ASN1, OID_SIG_ECDSA_WITH_SHA384),
        None => return Err(CsrRefusal::UnsupportedKey),
    };
    // DER leaves one spelling only; the parser is not that strict about bit strings.
    if public_key.subject_public_key.unused_bits != 0 || csr.signature_value.unused_bits != 0 {
        return Err(CsrRefusal::BadDer);
    }
    if csr.signature_algorithm.algorithm != signature_oid || csr.signature_algorithm.parameters.is_some() {
        return Err(CsrRefusal::BadSignature);
    }
    UnparsedPublicKey::new(algorithm, &*public_key.subject_public_key.data)
        .verify(csr.certification_request_info.raw, &csr.signature_value.data)
        .map_err(|_| CsrRefusal::BadSignature)
}

enum Curve {
    P256,
    P384,
}

fn curve(public_key: &SubjectPublicKeyInfo<'_>) -> Option<Curve> {
    if public_key.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY {
        return None;
    }
    let named = public_key.algorithm.parameters.as_ref()?.as_oid().ok()?;
    if named == OID_EC_P256 {
        Some(Curve::P256)
    } else if named == OID_NIST_EC_P384 {
        Some(Curve::P384)
    } else {
        None
    }
}

/// All that the request asks for, over all its attributes: a second extension request must not hide behind
/// the first.
fn check_names(csr: &X509CertificationRequest<'_>, expected: &SpiffeId) -> Result<(), CsrRefusal> {
    let mut uris: Vec<&str> = Vec::new();
    for attribute in csr.certification_request_info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(request) = attribute.parsed_attribute() else { continue };
        for extension in &request.extensions {
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
                    return Err(CsrRefusal::AsksForCa);
                }
                ParsedExtension::KeyUsage(usage) if usage.key_cert_sign() || usage.crl_sign() => {
                    return Err(CsrRefusal::AsksForCertSign);
                }
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        match name {
                            GeneralName::URI(uri) => uris.push(uri),
                            GeneralName::DNSName(_) | GeneralName::IPAddress(_) => {
                                return Err(CsrRefusal::AsksForHosts);
                            }
                            _ => return Err(CsrRefusal::AsksForOtherNames),
                        }
                    }
                }
                ParsedExtension::ParseError { .. } => return Err(CsrRefusal::BadDer),
                // Ignored, as is the subject: nothing of it gets into the certificate.
                _ => {}
            }
        }
    }
    match uris[..] {
        [] => Err(CsrRefusal::NoId { expected: expected.clone() }),
        [one] if one == expected.as_str() => Ok(()),
        [_] => Err(CsrRefusal::OtherId { expected: expected.clone() }),
        _ => Err(CsrRefusal::SeveralIds(uris.len())),
    }
}

#[cfg(test)]
mod tests;

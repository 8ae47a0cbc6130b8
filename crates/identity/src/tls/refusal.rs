//! Why a peer was not believed: one reason per refused handshake, with a word for metrics.
//!
//! The peer itself learns nothing but `certificate_unknown`; the reason is for the operator of this side.

use crate::spiffe::SpiffeIdError;
use rustls::{AlertDescription, CertificateError, Error, OtherError};
use std::sync::Arc;

/// The reason. `Display` is a sentence for logs, [`Refusal::label`] a word for metrics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The peer showed none.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// Not parseable, or contradictory.
    #[error("the peer's certificate is malformed")]
    BadCertificate,
    /// More certificates or bytes than any chain of ours.
    #[error("the peer's certificate chain is too long")]
    ChainTooLong,
    /// No way from the leaf to the trust domain's roots: self-signed, another CA, or a missing intermediate.
    #[error("the peer's certificate does not lead to a root of trust domain {trust_domain}")]
    UnknownIssuer {
        /// Whose roots were tried.
        trust_domain: String,
    },
    /// A signature in the chain is wrong, or of an algorithm that isn't accepted.
    #[error("a signature in the peer's certificate chain is not valid")]
    BadSignature,
    /// NotAfter has passed.
    #[error("the peer's certificate has expired")]
    Expired,
    /// Its CA has taken it back.
    #[error("the peer's certificate was revoked")]
    Revoked,
    /// NotBefore is in the future: often a clock.
    #[error("the peer's certificate is not valid yet; are both clocks right?")]
    NotYetValid,
    /// The chain breaks the rules of its CAs: path length, name constraints, a leaf used as CA.
    #[error("a CA certificate in the peer's chain does not permit this one")]
    IssuerNotAllowed,
    /// An extension that this side doesn't know and mustn't ignore.
    #[error("the peer's certificate has a critical extension that is not supported")]
    UnknownExtension,
    /// CA:true, or may sign certificates.
    #[error("the peer shows a CA certificate as its own")]
    CaAsLeaf,
    /// keyUsage lacks digitalSignature.
    #[error("the peer's certificate may not sign a handshake (keyUsage digitalSignature)")]
    NoDigitalSignature,
    /// extKeyUsage is missing or lacks this side of a connection.
    #[error("the peer's certificate is not for this side of a connection (extKeyUsage)")]
    WrongUsage,
    /// No URI SAN.
    #[error("the peer's certificate has no SPIFFE id")]
    NoId,
    /// More than one URI SAN.
    #[error("the peer's certificate has {0} URI names; an SVID has exactly one")]
    SeveralIds(usize),
    /// The URI SAN is no SPIFFE id.
    #[error("the URI name in the peer's certificate is not a SPIFFE id: {0}")]
    BadId(SpiffeIdError),
    /// Signed by this trust domain's CA, but naming another one.
    #[error("the peer's id {id} is not of trust domain {trust_domain}")]
    OtherTrustDomain {
        /// The peer's.
        id: String,
        /// This side's.
        trust_domain: String,
    },
    /// A good member, but not the one that was meant.
    #[error("the peer is {id}, which is not who was expected")]
    OtherId {
        /// The peer's.
        id: String,
    },
    /// CertificateVerify doesn't fit: the peer doesn't hold the key.
    #[error("the peer does not hold its certificate's private key")]
    KeyNotHeld,
    /// No common version, suite or group; or not TLS.
    #[error("the peer and this side share no TLS version or parameters")]
    Incompatible,
    /// No common application protocol.
    #[error("the peer and this side share no application protocol (ALPN)")]
    NoApplicationProtocol,
    /// The peer refused this side.
    #[error("the peer refused this side: alert {0:?}")]
    ByPeer(AlertDescription),
    /// Anything else: a broken or hostile peer.
    #[error("the TLS handshake failed")]
    Protocol,
}

impl Refusal {
    /// A word for metrics: bounded in number, never taken from the peer's bytes.
    pub fn label(&self) -> &'static str {
        match self {
            Refusal::NoCertificate => "no_certificate",
            Refusal::BadCertificate => "bad_certificate",
            Refusal::ChainTooLong => "chain_too_long",
            Refusal::UnknownIssuer { .. } => "unknown_issuer",
            Refusal::BadSignature => "bad_signature",
            Refusal::Expired => "expired",
            Refusal::Revoked => "revoked",
            Refusal::NotYetValid => "not_yet_valid",
            Refusal::IssuerNotAllowed => "issuer_not_allowed",
            Refusal::UnknownExtension => "unknown_extension",
            Refusal::CaAsLeaf => "ca_as_leaf",
            Refusal::NoDigitalSignature => "no_digital_signature",
            Refusal::WrongUsage => "wrong_usage",
            Refusal::NoId => "no_id",
            Refusal::SeveralIds(_) => "several_ids",
            Refusal::BadId(_) => "bad_id",
            Refusal::OtherTrustDomain { .. } => "other_trust_domain",
            Refusal::OtherId { .. } => "other_id",
            Refusal::KeyNotHeld => "key_not_held",
            Refusal::Incompatible => "incompatible",
            Refusal::NoApplicationProtocol => "no_application_protocol",
            Refusal::ByPeer(_) => "by_peer",
            Refusal::Protocol => "protocol",
        }
    }

    /// The reason behind a failed handshake.
    pub fn of(error: &Error) -> Refusal {
        match error {
            Error::NoCertificatesPresented => Refusal::NoCertificate,
            Error::InvalidCertificate(CertificateError::Other(OtherError(source))) => {
                match source.downcast_ref::<Refusal>() {
                    Some(refusal) => refusal.clone(),
                    None => Refusal::BadCertificate,
                }
            }
            // Ours always come as `Other`; these are of rustls itself, e.g. its check of CertificateVerify.
            Error::InvalidCertificate(CertificateError::BadSignature) => Refusal::KeyNotHeld,
            Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => Refusal::Expired,
            Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            ) => Refusal::NotYetValid,
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                Refusal::UnknownIssuer { trust_domain: "(outside the mesh)".to_owned() }
            }
            Error::InvalidCertificate(_) => Refusal::BadCertificate,
            Error::PeerIncompatible(_) => Refusal::Incompatible,
            Error::NoApplicationProtocol => Refusal::NoApplicationProtocol,
            Error::AlertReceived(alert) => Refusal::ByPeer(*alert),
            _ => Refusal::Protocol,
        }
    }

    /// The reason behind a failed handshake of tokio-rustls and the like, which wrap rustls's error into an
    /// I/O error; `None` when the connection itself failed.
    pub fn of_io(error: &std::io::Error) -> Option<Refusal> {
        error.get_ref()?.downcast_ref::<Error>().map(Refusal::of)
    }

    pub(super) fn of_chain(error: webpki::Error, trust_domain: &str) -> Refusal {
        use webpki::Error as E;
        match error {
            E::CertExpired { .. } | E::InvalidCertValidity => Refusal::Expired,
            E::CertNotValidYet { .. } => Refusal::NotYetValid,
            E::UnknownIssuer => Refusal::UnknownIssuer { trust_domain: trust_domain.to_owned() },
            E::InvalidSignatureForPublicKey
            | E::SignatureAlgorithmMismatch
            | E::UnsupportedSignatureAlgorithmContext(_)
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Refusal::BadSignature,
            E::CaUsedAsEndEntity => Refusal::CaAsLeaf,
            E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Refusal::WrongUsage,
            E::EndEntityUsedAsCa
            | E::PathLenConstraintViolated
            | E::NameConstraintViolation
            | E::UnsupportedNameType
            | E::MalformedNameConstraint => Refusal::IssuerNotAllowed,
            E::UnsupportedCriticalExtension => Refusal::UnknownExtension,
            E::MaximumPathBuildCallsExceeded
            | E::MaximumPathDepthExceeded
            | E::MaximumSignatureChecksExceeded
            | E::MaximumNameConstraintComparisonsExceeded => Refusal::ChainTooLong,
            _ => Refusal::BadCertificate,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

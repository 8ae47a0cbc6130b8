//! What a trust domain trusts: its roots. A certificate of that domain is believed if it chains to one of
//! them, and a certificate of another domain never is; nor is one that was taken back ([`Crl`]).

use crate::pem::{self, PemError};
use crate::revocation::Crl;
use crate::spiffe::TrustDomain;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use std::fmt;
use std::sync::Arc;

/// Why roots make no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not PEM, or no certificate in it.
    #[error("the trust bundle of {trust_domain}")]
    Pem {
        /// Of which trust domain.
        trust_domain: TrustDomain,
        /// Why.
        #[source]
        source: PemError,
    },
    /// One of the roots is no certificate.
    #[error("root {index} in the trust bundle of {trust_domain} is not a certificate")]
    Root {
        /// Of which trust domain.
        trust_domain: TrustDomain,
        /// Which root, from 0.
        index: usize,
        /// Why.
        #[source]
        source: webpki::Error,
    },
    /// A bundle that trusts nobody is a mistake.
    #[error("the trust bundle of {trust_domain} has no root")]
    Empty {
        /// Of which trust domain.
        trust_domain: TrustDomain,
    },
}

/// The roots of one trust domain. Clones share them.
#[derive(Clone)]
pub struct Bundle {
    trust_domain: TrustDomain,
    roots: Arc<[CertificateDer<'static>]>,
    // The same roots, parsed once for all handshakes.
    anchors: Arc<[TrustAnchor<'static>]>,
    crl: Option<Crl>,
}

impl Bundle {
    /// A bundle of these roots; at least one.
    pub fn new(
        trust_domain: TrustDomain,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Bundle, BundleError> {
        if roots.is_empty() {
            return Err(BundleError::Empty { trust_domain });
        }
        let mut anchors = Vec::with_capacity(roots.len());
        for (index, root) in roots.iter().enumerate() {
            match webpki::anchor_from_trusted_cert(root) {
                Ok(anchor) => anchors.push(anchor.to_owned()),
                Err(source) => return Err(BundleError::Root { trust_domain, index, source }),
            }
        }
        Ok(Bundle { trust_domain, roots: roots.into(), anchors: anchors.into(), crl: None })
    }

    /// Reads a bundle file.
    pub fn from_pem(trust_domain: TrustDomain, text: &str) -> Result<Bundle, BundleError> {
        match pem::certificates(text) {
            Ok(roots) => Bundle::new(trust_domain, roots),
            Err(source) => Err(BundleError::Pem { trust_domain, source }),
        }
    }

    /// All roots, one section each.
    pub fn to_pem(&self) -> String {
        pem::encode_certificates(self.roots.iter())
    }

    /// Whose roots these are.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The roots.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The same roots with this list of what was taken back; `None`: nothing is known of any.
    pub fn with_crl(self, crl: Option<Crl>) -> Bundle {
        Bundle { crl, ..self }
    }

    /// What was taken back, if that is known.
    pub fn crl(&self) -> Option<&Crl> {
        self.crl.as_ref()
    }

    /// Whether the certificate of this serial number was taken back.
    pub fn revokes(&self, serial_hex: &str) -> bool {
        self.crl.as_ref().is_some_and(|crl| crl.holds(serial_hex))
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }
}

impl PartialEq for Bundle {
    fn eq(&self, other: &Bundle) -> bool {
        self.trust_domain == other.trust_domain && self.roots == other.roots && self.crl == other.crl
    }
}

impl Eq for Bundle {}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bundle({}, {} roots)", self.trust_domain, self.roots.len())
    }
}

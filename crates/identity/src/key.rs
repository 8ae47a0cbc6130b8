//! A member's private key: P-256, made here, leaving this process only into a file of its owner.

use crate::spiffe::SpiffeId;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData as _, SanType};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::sync::Arc;

/// What can go wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system's source of randomness failed.
    #[error("make a P-256 key")]
    Generate(#[source] rcgen::Error),
    /// Not a P-256 key in PKCS#8.
    #[error("read a private key: expected P-256 in PKCS#8 (`-----BEGIN PRIVATE KEY-----`)")]
    Read(#[source] rcgen::Error),
    /// The request could not be made or signed.
    #[error("make a certificate request for {id}")]
    Request {
        /// For whom.
        id: SpiffeId,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

/// A P-256 key pair. Clones share it. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct PrivateKey {
    pair: Arc<KeyPair>,
}

impl PrivateKey {
    /// A new key from the system's randomness.
    pub fn generate() -> Result<PrivateKey, KeyError> {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(KeyError::Generate)?;
        Ok(PrivateKey { pair: Arc::new(pair) })
    }

    /// Reads `-----BEGIN PRIVATE KEY-----`.
    pub fn from_pem(text: &str) -> Result<PrivateKey, KeyError> {
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(text, &rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(KeyError::Read)?;
        Ok(PrivateKey { pair: Arc::new(pair) })
    }

    /// PKCS#8 PEM: a secret, for a file of mode 0600 or the Workload API's socket.
    pub fn to_pem(&self) -> String {
        crate::pem::encode("PRIVATE KEY", self.pair.serialized_der())
    }

    /// PKCS#8 DER: a secret.
    pub fn to_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pair.serialized_der().to_vec()))
    }

    /// The public half, as a SubjectPublicKeyInfo, DER.
    pub fn public_der(&self) -> Vec<u8> {
        self.pair.subject_public_key_info()
    }

    /// A PKCS#10 request, DER, that asks for exactly one thing: the URI SAN `id`.
    pub fn csr_der(&self, id: &SpiffeId) -> Result<Vec<u8>, KeyError> {
        let failed = |source| KeyError::Request { id: id.clone(), source };
        let mut request = CertificateParams::default();
        request.distinguished_name = DistinguishedName::new();
        request.subject_alt_names = vec![SanType::URI(id.as_str().try_into().map_err(failed)?)];
        let csr = request.serialize_request(&*self.pair).map_err(failed)?;
        Ok(csr.der().to_vec())
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.pair
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey([secret])")
    }
}

//! The certificate by which clients of the API know this control plane.
//!
//! A CA of its own, made on the first start and kept in `STATE/api`, signs a short-lived serving
//! certificate for loopback and the advertised addresses. It is not the mesh's CA: members must not
//! take an API certificate for an identity, and a kubeconfig that went astray opens no mesh
//! connection. Serving certificates live in memory only and are made anew before they expire.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};

use crate::files;

const DAY: Duration = Duration::from_secs(86_400);
const CA_LIFE: Duration = Duration::from_secs(3650 * 86_400);
const SERVING_LIFE: Duration = Duration::from_secs(30 * 86_400);
const RENEW_AFTER: Duration = Duration::from_secs(10 * 86_400);

pub(crate) struct ServingCertificate {
    ca_pem: String,
    ca_key_pem: String,
    names: Vec<String>,
    current: Mutex<Option<(SystemTime, Arc<ServerConfig>)>>,
}

impl ServingCertificate {
    /// Reads the API's CA, or makes it on the first start. `names` are DNS names and addresses.
    pub(crate) fn load(
        state: &Path,
        names: Vec<String>,
        now: SystemTime,
    ) -> anyhow::Result<ServingCertificate> {
        let folder = state.join("api");
        files::private_dir(&folder)?;
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca-key.pem"));
        let (ca_pem, ca_key_pem) = match (files::read(&certificate)?, files::read(&key)?) {
            (Some(certificate), Some(key)) => (certificate, key),
            _ => {
                let (made, made_key) = new_ca(now).context("make the API's CA")?;
                // The key first: a certificate without its key would be made anew and clients forgotten.
                files::replace(&key, made_key.as_bytes())?;
                files::replace(&certificate, made.as_bytes())?;
                (made, made_key)
            }
        };
        let serving = ServingCertificate { ca_pem, ca_key_pem, names, current: Mutex::new(None) };
        serving.config(now).with_context(|| {
            format!("use the API's CA in {}; delete that folder to make a new one", folder.display())
        })?;
        Ok(serving)
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// What TLS handshakes use now; made anew when a third of its life is over.
    pub(crate) fn config(&self, now: SystemTime) -> anyhow::Result<Arc<ServerConfig>> {
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((made, config)) = current.as_ref()
            && now.duration_since(*made).is_ok_and(|age| age < RENEW_AFTER)
        {
            return Ok(config.clone());
        }
        let config = Arc::new(self.issue(now)?);
        *current = Some((now, config.clone()));
        Ok(config)
    }

    fn issue(&self, now: SystemTime) -> anyhow::Result<ServerConfig> {
        let issuer = Issuer::from_ca_cert_pem(&self.ca_pem, KeyPair::from_pem(&self.ca_key_pem)?)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(self.names.clone())?;
        params.not_before = (now - DAY).into();
        params.not_after = (now + SERVING_LIFE).into();
        params.distinguished_name = called("weft api");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_client_cert_verifier(Arc::new(AnyKeyHolder(provider)))
            .with_single_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Takes any client certificate whose key its holder proves to have. Who that is, and whether it is
/// anybody, is asked afterwards by the certificate's hash (see `users`).
#[derive(Debug)]
struct AnyKeyHolder(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyKeyHolder {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn new_ca(now: SystemTime) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.not_before = (now - DAY).into();
    params.not_after = (now + CA_LIFE).into();
    params.distinguished_name = called("weft api CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn called(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is its message")]
    use super::*;

    #[test]
    fn the_ca_stays_and_the_serving_certificate_is_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let names = || vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let first = ServingCertificate::load(dir.path(), names(), now).unwrap();
        let second = ServingCertificate::load(dir.path(), names(), now).unwrap();
        assert_eq!(first.ca_pem(), second.ca_pem());
        let config = first.config(now).unwrap();
        assert!(Arc::ptr_eq(&config, &first.config(now + RENEW_AFTER / 2).unwrap()));
        assert!(!Arc::ptr_eq(&config, &first.config(now + RENEW_AFTER).unwrap()));
    }
}

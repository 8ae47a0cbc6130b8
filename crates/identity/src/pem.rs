//! PEM in and out, for certificates. Keys are written by [`crate::PrivateKey`], which knows what it holds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// How a private key in PKCS#8 begins.
pub(crate) const PRIVATE_KEY_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";

/// Why a text holds no certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Something between the markers can't be read.
    #[error("bad PEM: {0}")]
    Malformed(String),
    /// No `BEGIN CERTIFICATE` at all.
    #[error("no certificate in this PEM text: expected `-----BEGIN CERTIFICATE-----`")]
    Empty,
}

/// One section with a label such as `CERTIFICATE`.
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    // Base64 is ASCII, so each chunk of bytes is a text of its own.
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// All certificates, one section each.
pub fn encode_certificates<'a>(
    certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>,
) -> String {
    certificates.into_iter().map(|certificate| encode("CERTIFICATE", certificate)).collect()
}

/// All certificates of a text; other sections are skipped. At least one.
pub fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| PemError::Malformed(error.to_string()))?;
    match certificates.is_empty() {
        true => Err(PemError::Empty),
        false => Ok(certificates),
    }
}

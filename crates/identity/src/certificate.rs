//! What Weft reads from a leaf certificate, parsed once.
//!
//! This says what stands in it, not whether to believe it: the chain is checked in [`crate::tls`].

use rustls_pki_types::CertificateDer;
use std::time::{Duration, SystemTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

/// The bytes are no certificate, or one of the extensions that decide is malformed or there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a well-formed X.509 certificate")]
pub struct BadCertificate;

/// Fields of a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// All URI SANs, as written.
    pub uris: Vec<String>,
    /// Are there DNS or IP SANs?
    pub names_hosts: bool,
    /// basicConstraints says CA.
    pub is_ca: bool,
    /// keyUsage, when present.
    pub key_usage: Option<LeafKeyUsage>,
    /// extKeyUsage, when present: (client, server).
    pub extended_key_usage: Option<(bool, bool)>,
    /// Valid from.
    pub not_before: SystemTime,
    /// Valid until.
    pub not_after: SystemTime,
    /// The serial number, in lower-case hex.
    pub serial_hex: String,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
}

/// The bits of keyUsage that decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafKeyUsage {
    /// May sign a handshake.
    pub digital_signature: bool,
    /// May sign certificates or CRLs.
    pub signs_others: bool,
}

impl Leaf {
    /// Reads the fields.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Leaf, BadCertificate> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| BadCertificate)?;
        if !rest.is_empty() {
            return Err(BadCertificate);
        }
        let mut leaf = Leaf {
            uris: Vec::new(),
            names_hosts: false,
            is_ca: false,
            key_usage: None,
            extended_key_usage: None,
            not_before: time(certificate.validity().not_before.timestamp()),
            not_after: time(certificate.validity().not_after.timestamp()),
            serial_hex: hex(certificate.raw_serial()),
            public_key: certificate.public_key().raw.to_vec(),
        };
        // Each extension at most once (RFC 5280, 4.2): a second one is how two parsers come to see two
        // identities.
        certificate.extensions_map().map_err(|_| BadCertificate)?;
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        match name {
                            GeneralName::URI(uri) => leaf.uris.push((*uri).to_owned()),
                            GeneralName::DNSName(_) | GeneralName::IPAddress(_) => leaf.names_hosts = true,
                            GeneralName::Invalid(..) => return Err(BadCertificate),
                            _ => {}
                        }
                    }
                }
                ParsedExtension::BasicConstraints(constraints) => leaf.is_ca = constraints.ca,
                ParsedExtension::KeyUsage(usage) => {
                    leaf.key_usage = Some(LeafKeyUsage {
                        digital_signature: usage.digital_signature(),
                        signs_others: usage.key_cert_sign() || usage.crl_sign(),
                    });
                }
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    leaf.extended_key_usage = Some((usage.client_auth, usage.server_auth));
                }
                ParsedExtension::ParseError { .. } => return Err(BadCertificate),
                _ => {}
            }
        }
        Ok(leaf)
    }
}

/// Unix seconds as X.509 has them; years before 1970 count as 1970, which no check of ours accepts by
/// mistake.
fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

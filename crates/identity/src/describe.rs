//! Certificates in words, for `weft identity show` and the like.
//!
//! It describes whatever certificate it is given, ours or not, and believes nothing of it. Texts out of a certificate
//! are escaped: it may come from anybody, and its reader's terminal obeys control characters.

use crate::certificate::{BadCertificate, Leaf};
use crate::pem::{self, PemError};
use crate::tls;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::SystemTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

/// Why a text can't be described.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// Not PEM, or no certificate in it.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A section that is no certificate.
    #[error("certificate {index} of this PEM text")]
    Certificate {
        /// Which, from 0.
        index: usize,
        /// Why.
        #[source]
        source: BadCertificate,
    },
}

/// One certificate in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The SPIFFE id, if it has exactly one and that is valid.
    pub id: Option<String>,
    /// `member` (an SVID), `authority` (a CA) or `other`.
    pub role: &'static str,
    /// All subject alternative names, with their kind.
    pub names: Vec<String>,
    /// The subject; usually empty in an SVID.
    pub subject: String,
    /// Who signed it, as it says itself.
    pub issuer: String,
    /// Lower-case hex.
    pub serial: String,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
    /// E.g. `ECDSA P-256`.
    pub key: String,
}

/// All certificates of a PEM text, in its order.
pub fn describe_pem(text: &str) -> Result<Vec<Description>, DescribeError> {
    let certificates = pem::certificates(text)?;
    let described = certificates.iter().enumerate().map(|(index, certificate)| {
        describe(certificate).map_err(|source| DescribeError::Certificate { index, source })
    });
    described.collect()
}

/// One certificate.
pub fn describe(der: &CertificateDer<'_>) -> Result<Description, BadCertificate> {
    let leaf = Leaf::parse(der)?;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| BadCertificate)?;
    let id = tls::peer_id(std::slice::from_ref(der)).ok();
    Ok(Description {
        role: match (leaf.is_ca, &id) {
            (true, _) => "authority",
            (false, Some(_)) => "member",
            (false, None) => "other",
        },
        id: id.map(|id| id.to_string()),
        names: names(&certificate),
        subject: escaped(&certificate.subject().to_string()),
        issuer: escaped(&certificate.issuer().to_string()),
        serial: leaf.serial_hex,
        not_before: rfc3339(leaf.not_before),
        not_after: rfc3339(leaf.not_after),
        key: key(&certificate),
    })
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(alternative) = extension.parsed_extension() else {
            continue;
        };
        names.extend(alternative.general_names.iter().map(|name| match name {
            GeneralName::URI(text) => format!("URI {}", escaped(text)),
            GeneralName::DNSName(text) => format!("DNS {}", escaped(text)),
            GeneralName::RFC822Name(text) => format!("mail {}", escaped(text)),
            GeneralName::IPAddress(bytes) => format!("IP {}", address(bytes)),
            other => escaped(&other.to_string()),
        }));
    }
    names
}

fn address(bytes: &[u8]) -> String {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        Ipv4Addr::from(v4).to_string()
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        Ipv6Addr::from(v6).to_string()
    } else {
        format!("of {} bytes", bytes.len())
    }
}

fn key(certificate: &X509Certificate<'_>) -> String {
    let public_key = certificate.public_key();
    match public_key.parsed() {
        Ok(PublicKey::EC(_)) => {
            let curve = public_key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
            let curve = match curve {
                Some(oid) if oid == OID_EC_P256 => "P-256",
                Some(oid) if oid == OID_NIST_EC_P384 => "P-384",
                Some(oid) if oid == OID_NIST_EC_P521 => "P-521",
                _ => "of another curve",
            };
            format!("ECDSA {curve}")
        }
        Ok(PublicKey::RSA(rsa)) => format!("RSA {}", rsa.key_size()),
        _ => format!("algorithm {}", public_key.algorithm.algorithm),
    }
}

fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "beyond any calendar".to_owned(), |time| time.to_string())
}

/// Printable ASCII stays; all else becomes `\u{…}`.
fn escaped(text: &str) -> String {
    text.escape_default().to_string().replace("\\'", "'").replace("\\\"", "\"")
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.id.as_deref().unwrap_or("(no SPIFFE id of a member)"))?;
        writeln!(f, "  role         {}", self.role)?;
        for name in &self.names {
            writeln!(f, "  name         {name}")?;
        }
        if !self.subject.is_empty() {
            writeln!(f, "  subject      {}", self.subject)?;
        }
        writeln!(f, "  issuer       {}", self.issuer)?;
        writeln!(f, "  serial       {}", self.serial)?;
        writeln!(f, "  valid from   {}", self.not_before)?;
        writeln!(f, "  valid until  {}", self.not_after)?;
        write!(f, "  key          {}", self.key)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::issuer::Issuer;
    use crate::key::PrivateKey;
    use crate::spiffe::{SpiffeId, TrustDomain};
    use std::time::Duration;

    #[test]
    fn a_chain_reads_leaf_first() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let (issuer, pem) = Issuer::create(&TrustDomain::default(), now).unwrap();
        let id = SpiffeId::parse("spiffe://mesh.internal/ns/default/sa/be1").unwrap();
        let csr = PrivateKey::generate().unwrap().csr_der(&id).unwrap();
        let issued = issuer.issue(&csr, &id, now, Duration::from_secs(3600), [0xff; 16]).unwrap();
        let described = describe_pem(&pem::encode_certificates(&issued.chain)).unwrap();
        assert_eq!(described.len(), 2);
        let text = described[0].to_string();
        let (before_issuer, after) = text.split_once("  issuer       ").unwrap();
        assert_eq!(
            before_issuer,
            "spiffe://mesh.internal/ns/default/sa/be1\n  role         member\n  name         URI \
             spiffe://mesh.internal/ns/default/sa/be1\n"
        );
        assert!(after.starts_with("O=Weft, CN=Weft intermediate CA "), "{after}");
        assert!(
            after.ends_with(
                "\n  serial       7fffffffffffffffffffffffffffffff\n  valid from   2027-01-15T07:55:00Z\n  valid \
                 until  2027-01-15T09:00:00Z\n  key          ECDSA P-256"
            ),
            "{after}"
        );
        assert_eq!((described[1].role, &described[1].id), ("authority", &None));
        assert_eq!(describe_pem(&pem.root).unwrap()[0].issuer, describe_pem(&pem.root).unwrap()[0].subject);
    }

    #[test]
    fn a_hostile_name_cannot_reach_the_terminal() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "a\u{1b}[2Jb\nspiffe://td/admin");
        params.subject_alt_names = vec![
            rcgen::SanType::URI("spiffe://td/a\x1b[31m".try_into().unwrap()),
            rcgen::SanType::IpAddress([192, 0, 2, 1].into()),
        ];
        let text = describe(params.self_signed(&key).unwrap().der()).unwrap().to_string();
        assert!(text.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{text:?}");
        assert!(text.starts_with("(no SPIFFE id of a member)\n"), "{text}");
        assert!(text.contains("  name         IP 192.0.2.1\n") && text.contains("a\\u{1b}[2Jb\\n"), "{text}");
    }

    #[test]
    fn junk_is_named() {
        assert!(matches!(describe_pem("hello"), Err(DescribeError::Pem(PemError::Empty))));
        let junk = pem::encode("CERTIFICATE", b"junk");
        assert!(matches!(describe_pem(&junk), Err(DescribeError::Certificate { index: 0, .. })));
    }
}

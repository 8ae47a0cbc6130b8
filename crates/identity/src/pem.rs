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

/// Certificates that stand one after the other without a separator, as the SPIFFE Workload API sends them.
/// `None` when the bytes are no whole number of DER sequences.
pub fn split_concatenated(mut der: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let mut certificates = Vec::new();
    while !der.is_empty() {
        let (&[tag, first], rest) = der.split_first_chunk::<2>()?;
        // A length below 128 stands for itself; else the low bits count the length's own bytes.
        let (head, length) = match first {
            0..=0x7f => (2, usize::from(first)),
            0x81..=0x84 => {
                let bytes = rest.get(..usize::from(first & 0x7f))?;
                (2 + bytes.len(), bytes.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)))
            }
            _ => return None,
        };
        if tag != 0x30 {
            return None;
        }
        let (one, others) = der.split_at_checked(head.checked_add(length)?)?;
        certificates.push(CertificateDer::from(one.to_vec()));
        der = others;
    }
    Some(certificates)
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

#[cfg(test)]
mod tests {
    use super::split_concatenated;

    #[test]
    fn concatenated_certificates_are_told_apart_by_their_lengths() {
        let long = [&[0x30, 0x81, 0x80][..], &[7; 128]].concat();
        let both = [&[0x30, 2, 1, 2][..], &long].concat();
        let found = split_concatenated(&both).unwrap();
        assert_eq!((found.len(), found[0].as_ref(), found[1].as_ref()), (2, &[0x30, 2, 1, 2][..], &long[..]));
        for bad in [
            &[0x30][..],
            &[0x30, 3, 1],
            &[0x31, 0],
            &[0x30, 0x85, 0, 0, 0, 0, 0],
            &[0x30, 0x84, 255, 255, 255, 255],
        ] {
            assert_eq!(split_concatenated(bad), None, "{bad:?}");
        }
    }
}

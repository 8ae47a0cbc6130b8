//! What a trust domain has taken back: a list of serial numbers, signed by its CA (a CRL, RFC 5280 section 5).
//!
//! [`Issuer::crl`](crate::Issuer::crl) makes one, [`Crl::read`] believes only what a CA of the bundle has signed,
//! [`Bundle::with_crl`] puts it beside the roots, and the verifier of [`crate::tls`] asks it in each handshake.
//! Who is not on the list is not revoked, and without a list nobody is: a mesh does not stop because a list is late.
//!
//! The check is our own and not webpki's, because the same question is asked of connections that are open long since;
//! because a damaged list is found here, when it comes, where webpki would find it in each handshake and refuse
//! everybody; and because any CA of the trust domain may take back any certificate of it here, so that one list is
//! enough. That is safe with serials of 126 random bits: no two certificates share one.

use crate::bundle::Bundle;
use crate::certificate::hex;
use crate::files::{self, FileError};
use crate::pem;
use rcgen::RevocationReason;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use x509_parser::asn1_rs::{BitString, Oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::X509Extension;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Entries of one list.
pub const REVOKED_MAX: usize = 5_000;
/// The largest lists that are looked at, all together; one of [`REVOKED_MAX`] entries has about 260 KB.
pub const CRL_BYTES_MAX: usize = 768 * 1024;
const PEM_LABEL: &str = "X509 CRL";
/// A list in its file, beside `bundle.pem`.
const CRL_FILE: &str = "crl.pem";

/// Why a list is not believed.
#[derive(Debug, thiserror::Error)]
pub enum CrlError {
    /// More than [`CRL_BYTES_MAX`].
    #[error("the revocation list has {0} bytes, at most {CRL_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// Not one well-formed list.
    #[error("the revocation list is not a well-formed CRL")]
    BadDer,
    /// What it means is not known here, e.g. a list that is a part of another one.
    #[error("the revocation list has a critical extension that is not supported")]
    UnknownExtension,
    /// Not a CA of the trust domain, or one that may not sign lists.
    #[error("the revocation list's issuer is no CA of the trust bundle that may sign one")]
    UnknownIssuer,
    /// Not signed by its issuer.
    #[error("the revocation list is not signed by its issuer")]
    BadSignature,
    /// Its PEM text can't be read.
    #[error("the revocation list's PEM text")]
    Pem,
    /// Its file can't be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a certificate was taken back, in the words of RFC 5280.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Nobody says.
    #[default]
    Unspecified,
    /// Somebody else may have the key.
    KeyCompromise,
    /// There is a newer one.
    Superseded,
    /// The service is gone.
    CessationOfOperation,
    /// It may no longer be who it was.
    PrivilegeWithdrawn,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 5] = [
        Reason::Unspecified,
        Reason::KeyCompromise,
        Reason::Superseded,
        Reason::CessationOfOperation,
        Reason::PrivilegeWithdrawn,
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Unspecified => "unspecified",
            Reason::KeyCompromise => "key-compromise",
            Reason::Superseded => "superseded",
            Reason::CessationOfOperation => "cessation-of-operation",
            Reason::PrivilegeWithdrawn => "privilege-withdrawn",
        }
    }

    /// The one of this name.
    pub fn find(name: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// RFC 5280 wants nothing written where nobody says why.
    pub(crate) fn code(self) -> Option<RevocationReason> {
        match self {
            Reason::Unspecified => None,
            Reason::KeyCompromise => Some(RevocationReason::KeyCompromise),
            Reason::Superseded => Some(RevocationReason::Superseded),
            Reason::CessationOfOperation => Some(RevocationReason::CessationOfOperation),
            Reason::PrivilegeWithdrawn => Some(RevocationReason::PrivilegeWithdrawn),
        }
    }
}

/// A certificate that was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Its serial number, as a number of bytes in hex; upper or lower case.
    pub serial_hex: String,
    /// Since when.
    pub at: SystemTime,
    /// Why.
    pub reason: Reason,
}

/// A list as one CA signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedList {
    /// X.509 CRL.
    pub der: Vec<u8>,
    /// The certificate of the CA.
    pub issuer: CertificateDer<'static>,
}

/// What was taken back, by a CA that is believed. Clones share it.
///
/// There may be two lists that say the same: readers of the strict kind (an Envoy is one) want a list of each CA whose
/// certificates they meet, and an intermediate that was renewed has certificates for as long as those live.
#[derive(Clone)]
pub struct Crl {
    lists: Arc<[SignedList]>,
    revoked: Arc<HashSet<String>>,
}

impl Crl {
    /// Reads lists, each of which must be of a CA of `bundle` or of one that such a CA certifies. One that is not
    /// believed spoils them all.
    ///
    /// Their age is not asked: lists are pushed, and an old one is better than none.
    pub fn read(lists: Vec<SignedList>, bundle: &Bundle) -> Result<Crl, CrlError> {
        let bytes = lists.iter().map(|list| list.der.len() + list.issuer.len()).sum();
        if bytes > CRL_BYTES_MAX {
            return Err(CrlError::TooLarge(bytes));
        }
        if lists.is_empty() {
            return Err(CrlError::BadDer);
        }
        let mut revoked = HashSet::new();
        for list in &lists {
            read(list, bundle, &mut revoked)?;
        }
        Ok(Crl { lists: lists.into(), revoked: Arc::new(revoked) })
    }

    /// Whether the certificate of this serial number was taken back.
    pub fn holds(&self, serial_hex: &str) -> bool {
        !self.revoked.is_empty() && self.revoked.contains(&canonical(serial_hex))
    }

    /// How many are on it.
    pub fn len(&self) -> usize {
        self.revoked.len()
    }

    /// Is nobody on it?
    pub fn is_empty(&self) -> bool {
        self.revoked.is_empty()
    }

    /// As they were signed.
    pub fn lists(&self) -> &[SignedList] {
        &self.lists
    }

    /// The lists alone, as other programs read them.
    pub fn to_pem(&self) -> String {
        self.lists.iter().map(|list| pem::encode(PEM_LABEL, &list.der)).collect()
    }

    /// Writes it into `dir`, each list with its issuer.
    pub fn write(&self, dir: &Path) -> Result<(), FileError> {
        let issuers = pem::encode_certificates(self.lists.iter().map(|list| &list.issuer));
        files::write_private(&dir.join(CRL_FILE), &format!("{}{issuers}", self.to_pem()))
    }

    /// Reads what [`Crl::write`] wrote, if there is such a file.
    pub fn read_file(dir: &Path, bundle: &Bundle) -> Result<Option<Crl>, CrlError> {
        let text = match files::read(&dir.join(CRL_FILE)) {
            Ok(text) => text,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let lists = CertificateRevocationListDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| CrlError::Pem)?;
        let issuers = pem::certificates(&text).map_err(|_| CrlError::Pem)?;
        if lists.len() != issuers.len() {
            return Err(CrlError::Pem);
        }
        let signed =
            |(der, issuer): (CertificateRevocationListDer<'_>, _)| SignedList { der: der.to_vec(), issuer };
        Crl::read(lists.into_iter().zip(issuers).map(signed).collect(), bundle).map(Some)
    }
}

impl PartialEq for Crl {
    fn eq(&self, other: &Crl) -> bool {
        self.lists == other.lists
    }
}

impl Eq for Crl {}

impl std::fmt::Debug for Crl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crl({} revoked)", self.revoked.len())
    }
}

fn read(signed: &SignedList, bundle: &Bundle, revoked: &mut HashSet<String>) -> Result<(), CrlError> {
    let (rest, list) = CertificateRevocationList::from_der(&signed.der).map_err(|_| CrlError::BadDer)?;
    if !rest.is_empty() {
        return Err(CrlError::BadDer);
    }
    let (rest, signer) = X509Certificate::from_der(&signed.issuer).map_err(|_| CrlError::UnknownIssuer)?;
    if !rest.is_empty()
        || !may_sign_lists(&signer)
        || !is_of(&signer, &signed.issuer, bundle)
        || list.issuer().as_raw() != signer.subject().as_raw()
    {
        return Err(CrlError::UnknownIssuer);
    }
    let algorithm = &list.signature_algorithm.algorithm;
    if list.tbs_cert_list.signature.algorithm != *algorithm
        || !is_signed(signer.public_key(), algorithm, list.tbs_cert_list.as_ref(), &list.signature_value)
    {
        return Err(CrlError::BadSignature);
    }
    let mut extensions = list.extensions().iter().collect::<Vec<&X509Extension<'_>>>();
    for entry in list.iter_revoked_certificates() {
        extensions.extend(entry.extensions());
        revoked.insert(canonical(&hex(entry.raw_serial())));
    }
    // Such as: only a part of the list, or entries of other issuers.
    if extensions.iter().any(|extension| extension.critical) {
        return Err(CrlError::UnknownExtension);
    }
    Ok(())
}

/// One spelling of a serial number: DER puts a zero before a high bit, people write as they like.
pub fn canonical(serial_hex: &str) -> String {
    let mut text = serial_hex.to_ascii_lowercase();
    text.retain(|c| c != ':');
    match text.trim_start_matches("00") {
        "" => text,
        short => short.to_owned(),
    }
}

fn may_sign_lists(signer: &X509Certificate<'_>) -> bool {
    let is_ca = signer.basic_constraints().is_ok_and(|found| found.is_some_and(|one| one.value.ca));
    is_ca && signer.key_usage().is_ok_and(|found| found.is_none_or(|one| one.value.crl_sign()))
}

/// Whether a CA's certificate is one of the bundle's roots, or signed by one.
pub(crate) fn is_ca_of(certificate: &CertificateDer<'_>, bundle: &Bundle) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, read)| is_of(&read, certificate, bundle))
}

/// One of the roots, or signed by one.
fn is_of(signer: &X509Certificate<'_>, der: &[u8], bundle: &Bundle) -> bool {
    bundle.roots().iter().any(|root| {
        if root.as_ref() == der {
            return true;
        }
        let Ok((_, root)) = X509Certificate::from_der(root) else { return false };
        root.subject().as_raw() == signer.issuer().as_raw()
            && is_signed(
                root.public_key(),
                &signer.signature_algorithm.algorithm,
                signer.tbs_certificate.as_ref(),
                &signer.signature_value,
            )
    })
}

fn is_signed(
    key: &SubjectPublicKeyInfo<'_>,
    algorithm: &Oid<'_>,
    message: &[u8],
    signature: &BitString<'_>,
) -> bool {
    // An AlgorithmIdentifier begins with its OID: tag, length (of one byte for all that there are), bytes.
    let oid = algorithm.as_bytes();
    let named = |id: rustls_pki_types::AlgorithmIdentifier| {
        id.as_ref()
            .strip_prefix(&[0x06])
            .and_then(|rest| rest.split_first())
            .is_some_and(|(length, rest)| usize::from(*length) == oid.len() && rest.starts_with(oid))
    };
    let mut known = crate::tls::provider().signature_verification_algorithms.all.iter();
    // A key of another kind than the algorithm's can't be read by it, and verifies nothing.
    signature.unused_bits == 0
        && known.any(|one| {
            named(one.signature_alg_id())
                && one.verify_signature(&key.subject_public_key.data, message, &signature.data).is_ok()
        })
}

#[cfg(test)]
mod tests;

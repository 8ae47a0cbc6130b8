//! A member's identity in hand: its id, certificate chain and key, in memory and in the files of its state
//! directory.

use crate::bundle::{Bundle, BundleError};
use crate::certificate::Leaf;
use crate::files::{self, FileError};
use crate::key::{KeyError, PrivateKey};
use crate::pem::{self, PemError};
use crate::spiffe::SpiffeId;
use crate::tls::{self, Refusal};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Why chain and key make no SVID.
#[derive(Debug, thiserror::Error)]
pub enum SvidError {
    /// The chain is empty or not PEM.
    #[error("the certificate chain")]
    Chain(#[source] PemError),
    /// The leaf is no SVID.
    #[error("the certificate is not an SVID")]
    Leaf(#[source] Refusal),
    /// The key can't be read.
    #[error("the private key")]
    Key(#[source] KeyError),
    /// Chain and key don't belong together.
    #[error("the private key of {id} is not the one in its certificate")]
    OtherKey {
        /// Whose.
        id: SpiffeId,
    },
    /// rustls won't sign with this key.
    #[error("use the private key of {id}")]
    Signer {
        /// Whose.
        id: SpiffeId,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The bundle beside it can't be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A file can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl SvidError {
    /// Is it only that this member has no identity yet?
    pub fn is_missing(&self) -> bool {
        matches!(self, SvidError::File(error) if error.is_missing())
    }
}

/// An X.509-SVID with its private key. Clones share it.
#[derive(Clone)]
pub struct Svid {
    id: SpiffeId,
    key: PrivateKey,
    not_before: SystemTime,
    not_after: SystemTime,
    serial_hex: String,
    // Chain and signer as rustls wants them, made once for all configurations.
    certified: Arc<CertifiedKey>,
}

impl Svid {
    /// Puts chain (leaf first) and key together; the leaf must be an SVID and the key its own.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKey) -> Result<Svid, SvidError> {
        let id = tls::peer_id(&chain).map_err(SvidError::Leaf)?;
        let first = chain.first().ok_or(SvidError::Leaf(Refusal::NoCertificate))?;
        let leaf = Leaf::parse(first).map_err(|_| SvidError::Leaf(Refusal::BadCertificate))?;
        if leaf.public_key != key.public_der() {
            return Err(SvidError::OtherKey { id });
        }
        let signer = match tls::provider().key_provider.load_private_key(key.to_der()) {
            Ok(signer) => signer,
            Err(source) => return Err(SvidError::Signer { id, source }),
        };
        Ok(Svid {
            id,
            key,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            serial_hex: leaf.serial_hex,
            certified: Arc::new(CertifiedKey::new(chain, signer)),
        })
    }

    /// Reads chain and key from PEM texts.
    pub fn from_pem(chain: &str, key: &str) -> Result<Svid, SvidError> {
        let chain = pem::certificates(chain).map_err(SvidError::Chain)?;
        Svid::new(chain, PrivateKey::from_pem(key).map_err(SvidError::Key)?)
    }

    /// Who this is.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The leaf, then the intermediates.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The chain as PEM.
    pub fn chain_pem(&self) -> String {
        pem::encode_certificates(self.chain())
    }

    /// The private key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Valid from; backdated by [`crate::rotation::BACKDATED`].
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Valid until.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The serial number, lower-case hex.
    pub fn serial_hex(&self) -> &str {
        &self.serial_hex
    }

    /// Is it of no use any more?
    pub fn expired(&self, now: SystemTime) -> bool {
        now >= self.not_after
    }

    /// When to renew it; see [`crate::rotation::renew_at`].
    pub fn renew_at(&self, jitter: f64) -> SystemTime {
        crate::rotation::renew_at(self.not_before, self.not_after, jitter)
    }

    /// How much longer it is valid.
    pub fn life_left(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }

    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// Writes `key.pem`, `chain.pem`, `bundle.pem` and, with a list in it, `crl.pem` into `dir` (0700; files 0600).
    ///
    /// Two files can't be replaced at once. The new key is written beside the old one first, so that
    /// [`Svid::read`] finds a matching pair wherever a crash falls.
    pub fn write(&self, bundle: &Bundle, dir: &Path) -> Result<(), FileError> {
        files::create_private_dir(dir)?;
        let key = self.key.to_pem();
        files::write_private(&dir.join(BUNDLE_FILE), &bundle.to_pem())?;
        // Where nothing is known of a list, the one that was written before stays.
        if let Some(crl) = bundle.crl() {
            crl.write(dir)?;
        }
        files::write_private(&dir.join(NEXT_KEY_FILE), &key)?;
        files::write_private(&dir.join(CHAIN_FILE), &self.chain_pem())?;
        files::write_private(&dir.join(KEY_FILE), &key)
    }

    /// Reads what [`Svid::write`] wrote, but for the list: a damaged one costs nobody its identity, see
    /// [`crate::Crl::read_file`]. Says nothing about validity: ask [`Svid::expired`].
    pub fn read(dir: &Path) -> Result<(Svid, Bundle), SvidError> {
        let chain = files::read(&dir.join(CHAIN_FILE))?;
        let with_key =
            |file| -> Result<Svid, SvidError> { Svid::from_pem(&chain, &files::read(&dir.join(file))?) };
        // Whatever is wrong with the key file, the right key may be beside it.
        let svid = with_key(KEY_FILE).or_else(|error| with_key(NEXT_KEY_FILE).map_err(|_| error))?;
        let bundle = Bundle::from_pem(svid.id.trust_domain(), &files::read(&dir.join(BUNDLE_FILE))?)?;
        Ok((svid, bundle))
    }
}

const KEY_FILE: &str = "key.pem";
const NEXT_KEY_FILE: &str = "key-next.pem";
const CHAIN_FILE: &str = "chain.pem";
const BUNDLE_FILE: &str = "bundle.pem";

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Svid({}, serial {})", self.id, self.serial_hex)
    }
}

#[cfg(test)]
mod tests;

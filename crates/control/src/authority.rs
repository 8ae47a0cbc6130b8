//! The embedded certificate authority: join tokens and SVIDs.
//!
//! The keys live in the state directory and nowhere else. A join token is kept in the store as the
//! hash of its secret beside its own record of service and expiry, so that any control plane on the
//! same store honours it; it is spent by compare-and-swap, so that two users of one token can't both
//! win. Every certificate carries only what was decided here.
//!
//! Whatever leaves this house is in the [`inventory`](crate::inventory), and what was taken back is no evidence for more.
//!
//! The CA does not stand still: [`keep`] looks every minute whether the intermediate must be renewed
//! (in its last month, long before no certificate could live its full life) and whether the directory
//! has other roots. Who follows [`Authority::bundles`] tells members at once. `trusted.pem` beside the
//! CA's own files holds further roots, so that those of a CA to come are trusted before it signs.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use weft_identity::{
    Bundle, Crl, IssueError, Issued, Issuer, IssuerPem, JoinToken, PrivateKey, Revoked, SpiffeId, Svid,
    TokenSecret, TrustDomain,
};
use weft_store::{CommitError, Expect, Key, Selector, Store, StoreError, Transaction, Write};

use crate::clock;
use crate::core::Core;
use crate::inventory::{Asker, Certificate, Evidence, Waiting, barred_key, revoked_key};
use crate::query::trust::Ends;
use crate::seed::INTERNAL_GROUP;

/// How long a join token may be used when nobody says else.
pub const TOKEN_TTL: Duration = Duration::from_secs(600);
/// The longest life of a join token.
pub const TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Unspent tokens kept at once.
const TOKENS_MAX: usize = 10_000;
const TOKENS: &str = "jointokens";
/// Between two looks at the CA's directory and the life of its intermediate.
const LOOK: Duration = Duration::from_secs(60);
/// Roots to trust besides the CA's own, in the CA's directory.
pub const TRUSTED_FILE: &str = "trusted.pem";

/// Why somebody may not join, or why a token can't be made.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The text is no token.
    #[error("the join token can't be read: {0}")]
    Malformed(#[from] weft_identity::TokenError),
    /// Never given out, or spent: the two are not told apart to the caller.
    #[error("the join token is unknown or was used before: make a new one with `weft identity token`")]
    Unknown,
    /// Its time is over.
    #[error("the join token has expired: make a new one with `weft identity token`")]
    Expired,
    /// For another service.
    #[error("the join token is not for {asked}")]
    OtherService {
        /// What the caller wants to be.
        asked: String,
    },
    /// The identity, or the certificate that is to be renewed, was taken back.
    #[error("{id} was revoked: make a new join token with `weft identity token` to let it in again")]
    Revoked {
        /// Whose.
        id: SpiffeId,
    },
    /// The certificate that is to be renewed has expired since the connection began.
    #[error(
        "the certificate of {id} has expired: connect anew, or make a new join token with `weft identity token`"
    )]
    Ended {
        /// Whose.
        id: SpiffeId,
    },
    /// The CSR is not as it must be.
    #[error(transparent)]
    Request(#[from] IssueError),
    /// The name can't be part of an identity.
    #[error("{namespace}/{service} can't be an identity")]
    Name {
        /// The namespace asked for.
        namespace: String,
        /// The service asked for.
        service: String,
    },
    /// Too many tokens wait to be used.
    #[error("{TOKENS_MAX} join tokens wait to be used: let some expire first")]
    TooMany,
    /// The store did not do it.
    #[error("the store can't do it now: {0}")]
    Store(String),
}

impl Refusal {
    /// A word for the counter and the log.
    pub fn label(&self) -> &'static str {
        match self {
            Refusal::Malformed(_) => "malformed_token",
            Refusal::Unknown => "unknown_or_used_token",
            Refusal::Expired => "expired_token",
            Refusal::OtherService { .. } => "other_service",
            Refusal::Revoked { .. } => "revoked",
            Refusal::Ended { .. } => "expired_certificate",
            Refusal::Request(error) => error.label(),
            Refusal::Name { .. } => "bad_name",
            Refusal::TooMany => "too_many_tokens",
            Refusal::Store(_) => "store",
        }
    }
}

/// What the store keeps of a token.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    namespace: String,
    service: String,
    expires_unix: u64,
}

/// The CA of one trust domain.
pub struct Authority {
    dir: PathBuf,
    issuer: RwLock<Arc<Issuer>>,
    bundle: watch::Sender<Bundle>,
    trust_domain: TrustDomain,
    issued: AtomicU64,
    /// What is on the list in force.
    revoked: Mutex<Vec<Revoked>>,
    /// Held from reading the store until the list is told, so that an older reading never comes last.
    looking: tokio::sync::Mutex<()>,
    waiting: Waiting,
}

/// The trust domain of the CA in `dir`, if there is one and its root says so.
pub fn trust_domain(dir: &Path) -> Option<String> {
    let pem = IssuerPem::read(dir).ok()?;
    let roots = weft_identity::pem::certificates(&pem.root).ok()?;
    let root = weft_identity::certificate::Leaf::parse(roots.first()?).ok()?;
    let name = root.uris.first()?.strip_prefix("spiffe://")?;
    Some(name.to_owned())
}

impl Authority {
    /// Opens the CA in `dir`, or makes one there.
    pub fn open(dir: &Path, trust_domain: TrustDomain, now: SystemTime) -> anyhow::Result<Authority> {
        let issuer = Issuer::open(dir, &trust_domain, now)?;
        let (bundle, _) = watch::channel(trusted(dir, &issuer)?);
        Ok(Authority {
            dir: dir.to_owned(),
            issuer: RwLock::new(Arc::new(issuer)),
            bundle,
            trust_domain,
            issued: AtomicU64::new(0),
            revoked: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            waiting: Waiting::default(),
        })
    }

    /// Reads the directory again, and renews the intermediate when it is time. Whether anything is new.
    /// When it fails, everything stays as it was.
    pub fn refresh(&self, now: SystemTime) -> anyhow::Result<bool> {
        // What opens a CA makes one where there is none; a directory that went away must not become a new CA.
        anyhow::ensure!(
            trust_domain(&self.dir).as_deref() == Some(self.trust_domain.as_str()),
            "{} no longer holds the CA of {}",
            self.dir.display(),
            self.trust_domain
        );
        let issuer = Issuer::open(&self.dir, &self.trust_domain, now)?;
        let bundle = trusted(&self.dir, &issuer)?;
        let renewed = issuer.not_after() != self.issuer().not_after();
        if renewed || issuer.bundle().roots() != self.issuer().bundle().roots() {
            *self.issuer.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(issuer);
        }
        // A list is its signer's: a new intermediate signs its own.
        let mut revoked = self.lock_revoked();
        let crl = if renewed { self.list(&revoked, now) } else { None };
        if renewed && crl.is_none() {
            revoked.clear(); // so that the next look tries again
        }
        let told = self.bundle.send_if_modified(|current| {
            let next = bundle.with_crl(crl.or_else(|| current.crl().cloned()));
            let other = *current != next;
            *current = next;
            other
        });
        drop(revoked);
        Ok(renewed || told)
    }

    /// What is revoked now. Members are told if it is anything else than before.
    pub(crate) fn set_revoked(&self, revoked: Vec<Revoked>, now: SystemTime) {
        let mut current = self.lock_revoked();
        if *current == revoked && self.bundle.borrow().crl().is_some() {
            return;
        }
        let Some(crl) = self.list(&revoked, now) else { return };
        tracing::info!(revoked = crl.len(), "a list of what is revoked is signed");
        *current = revoked;
        self.bundle.send_modify(|bundle| *bundle = bundle.clone().with_crl(Some(crl)));
    }

    fn list(&self, revoked: &[Revoked], now: SystemTime) -> Option<Crl> {
        let signed = self.issuer().crl(revoked, now);
        let failed =
            |error| tracing::error!(%error, "no revocation list can be signed; the one in force stays");
        signed.map_err(failed).ok()
    }

    fn lock_revoked(&self) -> std::sync::MutexGuard<'_, Vec<Revoked>> {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One reader of revocations at a time.
    pub(crate) fn looking(&self) -> &tokio::sync::Mutex<()> {
        &self.looking
    }

    /// Certificates that are not in the store yet.
    pub(crate) fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What members trust.
    pub fn bundle(&self) -> Bundle {
        self.bundle.borrow().clone()
    }

    /// The same, and whenever it changes.
    pub fn bundles(&self) -> watch::Receiver<Bundle> {
        self.bundle.subscribe()
    }

    /// When its certificates, and the roots that members trust, end.
    pub fn ends(&self) -> Ends {
        let read = |root| {
            let leaf = weft_identity::certificate::Leaf::parse(root).ok()?;
            Some((leaf.serial_hex, leaf.not_after))
        };
        Ends {
            roots: self.bundle().roots().iter().filter_map(read).collect(),
            intermediate: self.issuer().not_after(),
        }
    }

    /// The CA itself.
    fn issuer(&self) -> Arc<Issuer> {
        Arc::clone(&self.issuer.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Certificates issued since the start.
    pub fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }

    /// The identity of a service here.
    pub fn service_id(&self, namespace: &str, service: &str) -> Result<SpiffeId, Refusal> {
        SpiffeId::service(&self.trust_domain, namespace, service)
            .map_err(|_| Refusal::Name { namespace: namespace.to_owned(), service: service.to_owned() })
    }

    /// Signs a request of somebody whose certificate says that it is `id`.
    pub async fn renew(
        &self,
        store: &dyn Store,
        csr_der: &[u8],
        id: &SpiffeId,
        asker: &Asker,
        now: SystemTime,
        ttl: Duration,
    ) -> Result<Issued, Refusal> {
        let revoked = || Refusal::Revoked { id: id.clone() };
        // The handshake has asked this too, perhaps an hour ago.
        if self.bundle.borrow().revokes(&asker.serial) {
            return Err(revoked());
        }
        let issuer = self.issuer();
        let issued = issuer.issue(csr_der, id, now, ttl, random()?)?;
        let (from, evidence) = (asker.from.clone(), Evidence::Renewal);
        let record = Certificate::of(&issued, id, &issuer.serial_hex(), evidence, from, now);
        let mut expect = vec![Expect::Absent(barred_key(id.as_str()))];
        if !asker.serial.is_empty() {
            expect.push(Expect::Absent(revoked_key(&asker.serial)));
        }
        self.waiting.record(store, expect, record).await.map_err(|_| revoked())?;
        self.given(id, &issued);
        Ok(issued)
    }

    /// Counts and logs a certificate that leaves this house.
    fn given(&self, id: &SpiffeId, issued: &Issued) {
        self.issued.fetch_add(1, Ordering::Relaxed);
        tracing::info!(%id, serial = issued.serial_hex, "certificate issued");
    }

    /// The control plane's own SVID, with a fresh key, good for `addresses` too where a peer goes by them.
    pub fn own_svid(&self, addresses: &[IpAddr], now: SystemTime, ttl: Duration) -> anyhow::Result<Svid> {
        let key = PrivateKey::generate()?;
        let issued = self.issuer().issue_control(&key, &[], addresses, now, ttl, random()?)?;
        self.issued.fetch_add(1, Ordering::Relaxed);
        Ok(Svid::new(issued.chain, key)?)
    }

    /// Records a certificate of the control plane's own.
    pub(crate) async fn record_own(&self, store: &dyn Store, svid: &Svid, now: SystemTime) {
        let record = Certificate::of_own(svid, &self.issuer().serial_hex(), now);
        // Without a condition there is none that could fail.
        let _ = self.waiting.record(store, Vec::new(), record).await;
    }

    /// Makes a join token for one proxy of a service.
    pub async fn token(
        &self,
        store: &dyn Store,
        namespace: &str,
        service: &str,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<JoinToken, Refusal> {
        self.service_id(namespace, service)?;
        self.forget_expired(store, now).await?;
        let expires = now + ttl.min(TOKEN_TTL_MAX);
        let secret = TokenSecret::from_random(random()?);
        let record = Record {
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            expires_unix: clock::unix(expires),
        };
        let value = serde_json::to_vec(&record).map_err(|error| Refusal::Store(error.to_string()))?;
        let write = Transaction::create(key(&secret), value);
        store.commit(write).await.map_err(|error| Refusal::Store(error.to_string()))?;
        Ok(JoinToken {
            secret,
            bundle: self.bundle(),
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            expires,
        })
    }

    /// First contact: checks everything, signs, and only then spends the token; so a bad CSR does not
    /// cost a token, and of two users of one token only one gets its certificate.
    pub async fn join(
        &self,
        store: &dyn Store,
        wanted: (&str, &str),
        token: &str,
        csr_der: &[u8],
        asker: &Asker,
        (now, ttl): (SystemTime, Duration),
    ) -> Result<Issued, Refusal> {
        let (namespace, service) = wanted;
        let token: JoinToken = token.parse()?;
        let key = key(&token.secret);
        let stored = store.get(&key).await.map_err(|error| Refusal::Store(error.to_string()))?;
        let stored = stored.ok_or(Refusal::Unknown)?;
        let record: Record = serde_json::from_slice(&stored.value).map_err(|_| Refusal::Unknown)?;
        if record.expires_unix <= clock::unix(now) {
            return Err(Refusal::Expired);
        }
        if (record.namespace.as_str(), record.service.as_str()) != (namespace, service) {
            return Err(Refusal::OtherService { asked: format!("{namespace}/{service}") });
        }
        let id = self.service_id(namespace, service)?;
        let bar = barred_key(id.as_str());
        let barred = store.get(&bar).await.map_err(|error| Refusal::Store(error.to_string()))?;
        let mut spend = Transaction::delete(key.clone(), stored.modified);
        match barred {
            None => spend.expect.push(Expect::Absent(bar)),
            // Made since: whoever made it lets the identity in again.
            Some(barred) if stored.created > barred.modified => {
                spend.expect.push(Expect::At(bar.clone(), barred.modified));
                spend.writes.push(Write::Delete(bar));
            }
            Some(_) => return Err(Refusal::Revoked { id }),
        }
        // Who loses the race for the token never sees this certificate: it is not counted, not recorded, gone.
        let issuer = self.issuer();
        let issued = issuer.issue(csr_der, &id, now, ttl, random()?)?;
        let (from, evidence) = (asker.from.clone(), Evidence::JoinToken);
        let record = Certificate::of(&issued, &id, &issuer.serial_hex(), evidence, from, now);
        spend.writes.push(record.write());
        match store.commit(spend).await {
            Ok(_) => {
                self.given(&id, &issued);
                Ok(issued)
            }
            Err(CommitError::Conflict { key: found, .. }) if found != key => Err(Refusal::Revoked { id }),
            Err(CommitError::Conflict { .. }) => Err(Refusal::Unknown),
            Err(error) => Err(Refusal::Store(error.to_string())),
        }
    }

    async fn forget_expired(&self, store: &dyn Store, now: SystemTime) -> Result<(), Refusal> {
        let failed = |error: weft_store::StoreError| Refusal::Store(error.to_string());
        let (tokens, _) = store.list(&Selector::kind(INTERNAL_GROUP, TOKENS)).await.map_err(failed)?;
        let now = clock::unix(now);
        let (mut kept, total) = (0, tokens.len());
        for stored in tokens {
            let live = serde_json::from_slice::<Record>(&stored.value).is_ok_and(|r| r.expires_unix > now);
            if live {
                kept += 1;
            } else {
                // Somebody else may have done it already; that is fine too.
                let _ = store.commit(Transaction::delete(stored.key, stored.modified)).await;
            }
        }
        if kept < total {
            tracing::debug!(forgotten = total - kept, "expired join tokens");
        }
        if kept < TOKENS_MAX { Ok(()) } else { Err(Refusal::TooMany) }
    }
}

/// The CA's own root, and those of [`TRUSTED_FILE`].
fn trusted(dir: &Path, issuer: &Issuer) -> anyhow::Result<Bundle> {
    let mut roots = issuer.bundle().roots().to_vec();
    match std::fs::read_to_string(dir.join(TRUSTED_FILE)) {
        Ok(text) => {
            let more = weft_identity::pem::certificates(&text).context(TRUSTED_FILE)?;
            roots.extend(more.into_iter().filter(|root| !issuer.bundle().roots().contains(root)));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).context(TRUSTED_FILE),
    }
    Ok(Bundle::new(issuer.trust_domain().clone(), roots)?)
}

/// Keeps the CA fresh, for ever.
pub async fn keep(core: Arc<Core>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let authority = core.authority.clone();
        // Keys and certificates are read with blocking calls.
        match tokio::task::spawn_blocking(move || authority.refresh(SystemTime::now())).await {
            Ok(Ok(true)) => {
                tracing::info!("the CA has a new intermediate, or members are to trust other roots")
            }
            Ok(Ok(false)) => {}
            Ok(Err(error)) => {
                core.counters.count("ca_refresh", "failed");
                tracing::error!(error = format!("{error:#}"), "the CA can't be read; the one in force stays");
            }
            Err(error) => tracing::error!(%error, "the look at the CA broke off"),
        }
    }
}

/// The unspent tokens of an identity.
pub(crate) async fn tokens_of(store: &dyn Store, id: &SpiffeId) -> Result<Vec<Key>, StoreError> {
    let (tokens, _) = store.list(&Selector::kind(INTERNAL_GROUP, TOKENS)).await?;
    let is_its = |record: Record| {
        id.namespace() == Some(record.namespace.as_str())
            && id.service_account() == Some(record.service.as_str())
    };
    let its = tokens.into_iter().filter(|stored| serde_json::from_slice(&stored.value).is_ok_and(is_its));
    Ok(its.map(|stored| stored.key).collect())
}

fn key(secret: &TokenSecret) -> Key {
    Key::new(INTERNAL_GROUP, TOKENS, "", secret.hash().to_hex())
}

fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Refusal::Store("no randomness from the system".to_owned()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn authority(dir: &Path, now: SystemTime) -> Authority {
        Authority::open(dir, TrustDomain::new("mesh.internal").unwrap(), now).unwrap()
    }

    #[test]
    fn the_intermediate_of_a_running_ca_is_renewed_and_its_root_stays() {
        let dir = tempfile::tempdir().unwrap();
        let start = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let authority = authority(dir.path(), start);
        let (first, bundle) = (authority.issuer().not_after(), authority.bundle());
        assert!(!authority.refresh(start + 300 * DAY).unwrap(), "too early");
        assert!(authority.refresh(start + 340 * DAY).unwrap());
        assert!(authority.issuer().not_after() > first + 300 * DAY);
        assert_eq!(authority.bundle().roots(), bundle.roots(), "who trusted it still does");
        assert!(!authority.refresh(start + 341 * DAY).unwrap(), "once is enough");
        // And the certificates that it signs live their full life, beyond the first intermediate's end.
        let late = start + 360 * DAY;
        let own = authority.own_svid(&[], late, 7 * DAY).unwrap();
        assert!(own.not_after() > first);
    }

    #[test]
    fn further_roots_are_told_and_a_damaged_file_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let authority = authority(dir.path(), now);
        let mut bundles = authority.bundles();
        let other = tempfile::tempdir().unwrap();
        let next = Issuer::open(other.path(), authority.trust_domain(), now).unwrap();
        std::fs::write(dir.path().join(TRUSTED_FILE), next.bundle().to_pem()).unwrap();
        assert!(!bundles.has_changed().unwrap());
        assert!(authority.refresh(now).unwrap());
        assert_eq!(bundles.borrow_and_update().roots().len(), 2);
        std::fs::write(dir.path().join(TRUSTED_FILE), "-----BEGIN CERTIFICATE-----").unwrap();
        assert!(authority.refresh(now).is_err());
        assert_eq!(authority.bundle().roots().len(), 2);
        std::fs::remove_file(dir.path().join(TRUSTED_FILE)).unwrap();
        assert!(authority.refresh(now).unwrap());
        assert_eq!(bundles.borrow_and_update().roots().len(), 1);
    }

    #[test]
    fn a_directory_that_went_away_does_not_become_a_new_ca() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let authority = authority(&dir.path().join("ca"), now);
        std::fs::rename(dir.path().join("ca"), dir.path().join("elsewhere")).unwrap();
        assert!(authority.refresh(now).is_err());
        assert!(!dir.path().join("ca").exists());
        authority.own_svid(&[], now, DAY).unwrap();
    }
}

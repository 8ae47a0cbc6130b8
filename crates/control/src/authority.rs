//! The embedded certificate authority: join tokens and SVIDs.
//!
//! The keys live in the state directory and nowhere else. A join token is kept in the store as the
//! hash of its secret beside its own record of service and expiry, so that any control plane on the
//! same store honours it; it is spent by compare-and-swap, so that two users of one token can't both
//! win. Every certificate carries only what was decided here.

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use weft_identity::{
    Bundle, IssueError, Issued, Issuer, IssuerPem, JoinToken, PrivateKey, SpiffeId, Svid, TokenSecret,
    TrustDomain,
};
use weft_store::{CommitError, Key, Selector, Store, Transaction};

use crate::clock;
use crate::seed::INTERNAL_GROUP;

/// How long a join token may be used when nobody says else.
pub const TOKEN_TTL: Duration = Duration::from_secs(600);
/// The longest life of a join token.
pub const TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Unspent tokens kept at once.
const TOKENS_MAX: usize = 10_000;
const TOKENS: &str = "jointokens";

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
    issuer: Issuer,
    trust_domain: TrustDomain,
    issued: AtomicU64,
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
        Ok(Authority { issuer, trust_domain, issued: AtomicU64::new(0) })
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What members trust.
    pub fn bundle(&self) -> &Bundle {
        self.issuer.bundle()
    }

    /// The CA itself, for certificates of the API's HTTPS.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
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

    /// Signs a request of somebody who has proven to be `id`.
    pub fn sign(
        &self,
        csr_der: &[u8],
        id: &SpiffeId,
        now: SystemTime,
        ttl: Duration,
    ) -> Result<Issued, Refusal> {
        let issued = self.issuer.issue(csr_der, id, now, ttl, random()?)?;
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
        let issued = self.issuer.issue_control(&key, &[], addresses, now, ttl, random()?)?;
        self.issued.fetch_add(1, Ordering::Relaxed);
        Ok(Svid::new(issued.chain, key)?)
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
            bundle: self.bundle().clone(),
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
        now: SystemTime,
        ttl: Duration,
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
        // Who loses the race for the token never sees this certificate: it is not counted, not logged, gone.
        let issued = self.issuer.issue(csr_der, &id, now, ttl, random()?)?;
        match store.commit(Transaction::delete(key, stored.modified)).await {
            Ok(_) => {
                self.given(&id, &issued);
                Ok(issued)
            }
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

fn key(secret: &TokenSecret) -> Key {
    Key::new(INTERNAL_GROUP, TOKENS, "", secret.hash().to_hex())
}

fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Refusal::Store("no randomness from the system".to_owned()))?;
    Ok(bytes)
}

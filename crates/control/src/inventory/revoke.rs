//! Taking certificates back.
//!
//! One certificate, by its serial number: its holder may not use it any more, also not to renew itself; other
//! certificates of the same identity stay good. Or an identity, by its SPIFFE id: all of its certificates, its unspent
//! join tokens, and whatever is asked for on the strength of them later. A join token that is made afterwards lets it
//! in again, and nothing else does: whoever makes one has decided so.
//!
//! Nothing slips through between the steps. The bar is written first; a certificate is recorded only where no bar is, so
//! what was recorded before is found, and what comes later is refused. Which token is older than the bar is told by the
//! store's order of revisions, not by clocks.

use std::time::SystemTime;

use weft_identity::revocation::{REVOKED_MAX, Reason, canonical};
use weft_identity::{SpiffeId, TrustDomain};
use weft_store::{CommitError, Store, StoreError, Transaction, Write};

use super::{Certificate, Revocation, WRITES_MAX, barred, barred_key, certificates, revoked, revoked_key};
use crate::authority::tokens_of;
use crate::clock;

/// Of a serial number; ours have 32, and RFC 5280 allows 40.
const SERIAL_DIGITS_MIN: usize = 8;
const SERIAL_DIGITS_MAX: usize = 40;

/// What is to be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One certificate.
    Serial(String),
    /// An identity.
    Id(SpiffeId),
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Whose certificates.
    pub id: String,
    /// The serial numbers that were taken back now.
    pub revoked: Vec<String>,
    /// Those that had been before.
    pub already: usize,
    /// Unspent join tokens that are void.
    pub tokens: usize,
    /// Those for which the list has no room.
    left: usize,
}

/// Why nothing was taken back.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// Neither a serial number nor a SPIFFE id.
    #[error(
        "{0:?} is neither a serial number in hex nor a SPIFFE id of {1} (spiffe://{1}/ns/NAMESPACE/sa/SERVICE): `weft identity list` shows both"
    )]
    Subject(String, TrustDomain),
    /// Nobody has it.
    #[error("no certificate that is valid now has the serial number {0}: `weft identity list` shows them")]
    UnknownSerial(String),
    /// Nobody is it.
    #[error(
        "{0} has neither a certificate that is valid now nor a join token: `weft identity list` shows who has"
    )]
    UnknownId(SpiffeId),
    /// Without it no proxy would speak to its control plane.
    #[error(
        "{0} is the control plane itself: revoke one of its certificates by serial number, it makes a new one"
    )]
    Control(SpiffeId),
    /// The list has no room.
    #[error(
        "{revoked} certificates are revoked now, but {left} more are not: at most {REVOKED_MAX} can be at once. An identity that was named renews nothing and joins with no older token all the same; ask again when some have expired, or replace the CA"
    )]
    TooMany {
        /// Those that were taken back now.
        revoked: usize,
        /// Those that are good until they expire.
        left: usize,
    },
    /// The store can't be read.
    #[error("the store can't be read")]
    Read(#[from] StoreError),
    /// The store can't be written.
    #[error("the store can't be written")]
    Write(#[from] CommitError),
}

impl Subject {
    /// From what somebody wrote.
    pub fn parse(text: &str, trust_domain: &TrustDomain) -> Result<Subject, RevokeError> {
        let wrong = || RevokeError::Subject(text.to_owned(), trust_domain.clone());
        if text.starts_with("spiffe:") {
            let id = SpiffeId::parse(text).map_err(|_| wrong())?;
            return if id.member_of(trust_domain) { Ok(Subject::Id(id)) } else { Err(wrong()) };
        }
        let serial = canonical(text);
        // `be1` is a service.
        let length = SERIAL_DIGITS_MIN..=SERIAL_DIGITS_MAX;
        let hex = length.contains(&serial.len()) && serial.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hex { Ok(Subject::Serial(serial)) } else { Err(wrong()) }
    }

    /// Is it this one?
    pub fn is(&self, certificate: &Certificate) -> bool {
        match self {
            Subject::Serial(serial) => canonical(&certificate.serial) == *serial,
            Subject::Id(id) => certificate.id == id.as_str(),
        }
    }
}

/// Takes it back.
pub async fn revoke(
    store: &dyn Store,
    subject: &Subject,
    reason: Reason,
    by: &str,
    now: SystemTime,
) -> Result<Done, RevokeError> {
    let revocation = |of: &str, id: &str, not_after| Revocation {
        of: of.to_owned(),
        id: id.to_owned(),
        not_after,
        at: clock::unix(now),
        reason,
        by: by.to_owned(),
    };
    let mut done = Done::default();
    if let Subject::Id(id) = subject {
        if *id == SpiffeId::control(&id.trust_domain()) {
            return Err(RevokeError::Control(id.clone()));
        }
        done.id = id.to_string();
        let tokens = tokens_of(store, id).await?;
        let known = certificates(store, now).await?.iter().any(|one| subject.is(one));
        if !known && tokens.is_empty() {
            return Err(RevokeError::UnknownId(id.clone()));
        }
        // Before anything is counted: whoever makes more certificates than the list takes is out all the same.
        let bar = revocation(id.as_str(), id.as_str(), 0);
        store.commit(Transaction::put(barred_key(id.as_str()), bar.bytes())).await?;
        // Those that were made since the bar are void too: nobody has waited for them yet.
        let tokens = tokens_of(store, id).await?;
        done.tokens = tokens.len();
        if !tokens.is_empty() {
            let writes = tokens.into_iter().map(Write::Delete).collect();
            store.commit(Transaction { expect: Vec::new(), writes }).await?;
        }
    }
    let already = revoked(store, now).await?;
    let mut its = certificates(store, now).await?;
    its.retain(|one| subject.is(one));
    // Where there is no room for all, those that would be good for longest are taken back.
    its.sort_by_key(|one| std::cmp::Reverse(one.not_after));
    let mut room = REVOKED_MAX.saturating_sub(already.len());
    let mut writes = Vec::new();
    for certificate in &its {
        done.id.clone_from(&certificate.id);
        if already.contains_key(&certificate.serial) {
            done.already += 1;
            continue;
        }
        if room == 0 {
            done.left += 1;
            continue;
        }
        room -= 1;
        let record = revocation(&certificate.serial, &certificate.id, certificate.not_after);
        writes.push(Write::Put(revoked_key(&certificate.serial), record.bytes()));
        done.revoked.push(certificate.serial.clone());
    }
    done.revoked.sort();
    // Few transactions, so that members are told few lists.
    for part in writes.chunks(WRITES_MAX) {
        store.commit(Transaction { expect: Vec::new(), writes: part.to_vec() }).await?;
    }
    match subject {
        Subject::Serial(serial) if done.id.is_empty() => Err(RevokeError::UnknownSerial(serial.clone())),
        _ if done.left > 0 => Err(RevokeError::TooMany { revoked: done.revoked.len(), left: done.left }),
        _ => Ok(done),
    }
}

/// Records a certificate whose identity was barred before its record could be written.
pub(super) async fn late(store: &dyn Store, certificate: &Certificate) -> Result<(), CommitError> {
    let read = |error: StoreError| CommitError::Unavailable(error.to_string());
    let bars = barred(store).await.map_err(read)?;
    let mut writes = vec![certificate.write()];
    if let Some(bar) = bars.into_iter().find(|bar| bar.of == certificate.id) {
        let record = Revocation { of: certificate.serial.clone(), not_after: certificate.not_after, ..bar };
        writes.push(Write::Put(revoked_key(&certificate.serial), record.bytes()));
    }
    store.commit(Transaction { expect: Vec::new(), writes }).await.map(drop)
}

//! The certificates that this CA has given out, and those that it took back.
//!
//! A certificate is recorded in the store before it is handed out, so the inventory is what was issued, across restarts
//! and for every control plane on the store. What is taken back is written beside it ([`revoke`]), and [`follow`] makes
//! the signed list of it that members get. A record goes when its certificate has expired: a thousand members with
//! certificates of a minute are some 30 writes a second, which the store gathers, and a few thousand records.
//!
//! Renewal does not depend on the disk: while the store can't write, certificates are given out and their records wait
//! in memory, because a mesh whose identities end is worse than a list that is late. A first contact needs the store
//! anyway, to spend its token.

pub(crate) mod follow;
pub(crate) mod revoke;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use weft_identity::revocation::Reason;
use weft_identity::{Issued, SpiffeId, Svid};
use weft_store::{CommitError, Expect, Key, Selector, Store, StoreError, Transaction, Write};

use crate::clock;
use crate::seed::INTERNAL_GROUP;

const CERTIFICATES: &str = "certificates";
const REVOKED: &str = "revocations";
const BARRED: &str = "barred";
/// Records that wait for a store that can't write.
const WAITING_MAX: usize = 10_000;
/// Records written or deleted in one transaction.
const WRITES_MAX: usize = 500;
/// A peer whose clock is behind may still take an expired certificate for a good one.
const CLOCKS_DIFFER: Duration = Duration::from_secs(600);

/// What a certificate was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// First contact.
    JoinToken,
    /// The certificate before it.
    Renewal,
    /// It is the control plane's own.
    ControlPlane,
}

/// A certificate as it was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its serial number, the key of the record.
    #[serde(skip)]
    pub serial: String,
    /// Whose.
    pub id: String,
    /// The serial number of the CA certificate that signed it.
    pub issuer: String,
    /// In unix seconds.
    pub not_before: u64,
    /// In unix seconds.
    pub not_after: u64,
    /// When it was asked for, in unix seconds.
    pub issued: u64,
    /// By what.
    pub evidence: Evidence,
    /// The address that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// What was taken back: a certificate, or an identity until it joins anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The serial number or the identity, the key of the record.
    #[serde(skip)]
    pub of: String,
    /// Whose.
    pub id: String,
    /// Until then the certificate would be valid, in unix seconds; 0 for an identity.
    #[serde(default)]
    pub not_after: u64,
    /// Since when, in unix seconds.
    pub at: u64,
    /// Why.
    #[serde(default, deserialize_with = "reason")]
    pub reason: Reason,
    /// Who did it.
    pub by: String,
}

/// One that only a newer control plane knows revokes all the same.
fn reason<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<Reason, D::Error> {
    Ok(Reason::find(&String::deserialize(reader)?).unwrap_or_default())
}

/// Who asks for a certificate.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    /// The serial number of the certificate that it shows; empty at first contact.
    pub serial: String,
    /// Its address.
    pub from: Option<String>,
}

impl Revocation {
    fn bytes(&self) -> Vec<u8> {
        // Strings and numbers always make JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Certificate {
    /// Of one that was just signed.
    pub(crate) fn of(
        issued: &Issued,
        id: &SpiffeId,
        issuer: &str,
        evidence: Evidence,
        from: Option<String>,
        now: SystemTime,
    ) -> Certificate {
        Certificate {
            serial: issued.serial_hex.clone(),
            id: id.to_string(),
            issuer: issuer.to_owned(),
            not_before: clock::unix(issued.not_before),
            not_after: clock::unix(issued.not_after),
            issued: clock::unix(now),
            evidence,
            from,
        }
    }

    /// Of the control plane's own.
    pub(crate) fn of_own(svid: &Svid, issuer: &str, now: SystemTime) -> Certificate {
        Certificate {
            serial: svid.serial_hex().to_owned(),
            id: svid.id().to_string(),
            issuer: issuer.to_owned(),
            not_before: clock::unix(svid.not_before()),
            not_after: clock::unix(svid.not_after()),
            issued: clock::unix(now),
            evidence: Evidence::ControlPlane,
            from: None,
        }
    }

    /// The write that records it.
    pub(crate) fn write(&self) -> Write {
        // Strings and numbers always make JSON.
        Write::Put(certificate_key(&self.serial), serde_json::to_vec(self).unwrap_or_default())
    }
}

/// Certificates whose records could not be written yet.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<Vec<Certificate>>);

impl Waiting {
    /// Records a certificate under these conditions. `Err`: one of them does not hold, and nobody may have it.
    pub(crate) async fn record(
        &self,
        store: &dyn Store,
        expect: Vec<Expect>,
        certificate: Certificate,
    ) -> Result<(), CommitError> {
        let transaction = Transaction { expect, writes: vec![certificate.write()] };
        match store.commit(transaction).await {
            Ok(_) => Ok(()),
            Err(error @ CommitError::Conflict { .. }) => Err(error),
            Err(error) => {
                let (id, serial) = (&certificate.id, &certificate.serial);
                tracing::error!(%error, id, serial, "a certificate is given out whose record can't be written yet");
                self.keep(certificate);
                Ok(())
            }
        }
    }

    fn keep(&self, certificate: Certificate) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(certificate);
        if waiting.len() <= WAITING_MAX {
            return;
        }
        // What ends first is the least loss.
        let first = waiting.iter().enumerate().min_by_key(|(_, one)| one.not_after).map(|(index, _)| index);
        if let Some(lost) = first.map(|index| waiting.swap_remove(index)) {
            let (id, serial) = (&lost.id, &lost.serial);
            tracing::error!(
                id,
                serial,
                "the record of a certificate is lost: the store is away for too long"
            );
        }
    }

    /// Writes what waits. Whose identity was barred meanwhile is taken back at once.
    pub(crate) async fn flush(&self, store: &dyn Store) {
        let waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for certificate in waiting {
            let expect = vec![Expect::Absent(barred_key(&certificate.id))];
            let written = store.commit(Transaction { expect, writes: vec![certificate.write()] }).await;
            let written = match written {
                Err(CommitError::Conflict { .. }) => revoke::late(store, &certificate).await,
                other => other.map(drop),
            };
            if let Err(error) = written {
                tracing::debug!(%error, serial = certificate.serial, "the record of a certificate still waits");
                self.keep(certificate);
            }
        }
    }
}

/// All certificates of now, by serial number.
pub(crate) async fn certificates(store: &dyn Store, now: SystemTime) -> Result<Vec<Certificate>, StoreError> {
    let (found, _) = store.list(&Selector::kind(INTERNAL_GROUP, CERTIFICATES)).await?;
    let read = |stored: weft_store::Stored| {
        let record: Certificate = serde_json::from_slice(&stored.value).ok()?;
        Some(Certificate { serial: stored.key.name, ..record })
    };
    let now = clock::unix(now);
    Ok(found.into_iter().filter_map(read).filter(|one| one.not_after > now).collect())
}

/// All certificates that were taken back and would still be believed, by serial number.
pub(crate) async fn revoked(
    store: &dyn Store,
    now: SystemTime,
) -> Result<HashMap<String, Revocation>, StoreError> {
    let all = revocations(store, REVOKED).await?;
    Ok(all.into_iter().filter(|one| is_of_use(one.not_after, now)).map(|one| (one.of.clone(), one)).collect())
}

/// The identities that are to join anew.
pub(crate) async fn barred(store: &dyn Store) -> Result<Vec<Revocation>, StoreError> {
    revocations(store, BARRED).await
}

async fn revocations(store: &dyn Store, kind: &str) -> Result<Vec<Revocation>, StoreError> {
    let (found, _) = store.list(&Selector::kind(INTERNAL_GROUP, kind)).await?;
    let read = |stored: weft_store::Stored| {
        let record: Revocation = serde_json::from_slice(&stored.value).ok()?;
        Some(Revocation { of: stored.key.name, ..record })
    };
    Ok(found.into_iter().filter_map(read).collect())
}

fn is_of_use(not_after: u64, now: SystemTime) -> bool {
    not_after.saturating_add(CLOCKS_DIFFER.as_secs()) > clock::unix(now)
}

/// Deletes the records of what has expired.
pub(crate) async fn sweep(store: &dyn Store, now: SystemTime) -> Result<(), StoreError> {
    let mut gone = Vec::new();
    for (kind, kept) in [(CERTIFICATES, Duration::ZERO), (REVOKED, CLOCKS_DIFFER)] {
        let (found, _) = store.list(&Selector::kind(INTERNAL_GROUP, kind)).await?;
        let expired = found.into_iter().filter(|stored| {
            let record: Option<Expiry> = serde_json::from_slice(&stored.value).ok();
            record.is_none_or(|record| record.not_after.saturating_add(kept.as_secs()) <= clock::unix(now))
        });
        gone.extend(expired.map(|stored| Write::Delete(stored.key)));
    }
    for part in gone.chunks(WRITES_MAX) {
        let transaction = Transaction { expect: Vec::new(), writes: part.to_vec() };
        if let Err(error) = store.commit(transaction).await {
            tracing::warn!(%error, "records of expired certificates stay for now");
            break;
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Expiry {
    not_after: u64,
}

pub(crate) fn certificate_key(serial: &str) -> Key {
    Key::new(INTERNAL_GROUP, CERTIFICATES, "", serial)
}

pub(crate) fn revoked_key(serial: &str) -> Key {
    Key::new(INTERNAL_GROUP, REVOKED, "", serial)
}

pub(crate) fn barred_key(id: &str) -> Key {
    Key::new(INTERNAL_GROUP, BARRED, "", id)
}

#[cfg(test)]
mod tests;

//! Chains that were found good before, whose signatures need no second look: nearly every new connection is of a
//! member that was here already, and two of a handshake's three verified signatures are its chain's.
//!
//! Whether a chain is good depends on its bytes, the roots, what they have revoked, the side and the moment, and on
//! nothing else. So these belong to one verifier, which is of one bundle (a new list of what is revoked is a new bundle)
//! and one side; a chain is known by a digest of all that was shown; and it is
//! good only as long as each of its certificates is valid. What was refused is not kept, and that the peer holds the
//! key it proves in each handshake anew.

use crate::certificate::Leaf;
use aws_lc_rs::digest::{Context, Digest, SHA256};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// When there are more, one makes place for the next: a peer can make many of one good chain, by certificates beside it
/// that nobody needs, and is not to make us forget all others at once.
const KNOWN_MAX: usize = 4096;

/// The good chains of one verifier, by digest, each with the seconds in which it is valid.
#[derive(Debug, Default)]
pub(super) struct KnownChains(Mutex<HashMap<[u8; 32], RangeInclusive<u64>>>);

/// Names a chain; no two chains have the same.
pub(super) struct ChainName([u8; 32]);

impl ChainName {
    pub(super) fn of(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Option<ChainName> {
        let mut context = Context::new(&SHA256);
        for certificate in std::iter::once(leaf).chain(intermediates) {
            // With the lengths, so that the same bytes cut elsewhere are another chain.
            context.update(&u64::try_from(certificate.len()).ok()?.to_be_bytes());
            context.update(certificate);
        }
        let digest: Digest = context.finish();
        digest.as_ref().try_into().ok().map(ChainName)
    }
}

impl KnownChains {
    /// Was it found good, and is all of it valid now?
    pub(super) fn holds(&self, name: &ChainName, now: UnixTime) -> bool {
        let mut known = self.lock();
        let Some(valid) = known.get(&name.0) else { return false };
        if now.as_secs() > *valid.end() {
            known.remove(&name.0);
            return false;
        }
        valid.contains(&now.as_secs())
    }

    /// Keeps a chain that has just been found good.
    pub(super) fn learn(
        &self,
        name: ChainName,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) {
        let mut valid = 0..=u64::MAX;
        for certificate in std::iter::once(leaf).chain(intermediates) {
            let Ok(read) = Leaf::parse(certificate) else { return };
            valid = seconds(read.not_before).max(*valid.start())..=seconds(read.not_after).min(*valid.end());
        }
        let mut known = self.lock();
        if known.len() >= KNOWN_MAX
            && let Some(any) = known.keys().next().copied()
        {
            known.remove(&any);
        }
        known.insert(name.0, valid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], RangeInclusive<u64>>> {
        // What it guards is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

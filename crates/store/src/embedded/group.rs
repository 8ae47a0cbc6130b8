//! Judging transactions: each against the view and those before it, before anything is written.
//!
//! A transaction is checked whole and only then staged, so a refused one leaves nothing behind and
//! needs no undoing.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::Limits;
use super::view::{Revised, View};
use crate::{Change, CommitError, Expect, Key, Revision, Stored, Transaction, Write};

/// Transactions that go to disk together.
pub struct Group {
    /// The view's revision before it.
    pub base: Revision,
    pub revision: Revision,
    pub revised: Vec<Arc<Revised>>,
    pub compacted: Option<Revision>,
}

impl Group {
    pub fn bytes(&self) -> u64 {
        self.revised.iter().map(|revised| revised.bytes as u64).sum()
    }
}

/// Transactions judged one after the other, each seeing those before it.
pub struct Stage<'a> {
    view: &'a View,
    limits: &'a Limits,
    staged: BTreeMap<Vec<u8>, Option<Stored>>,
    revised: Vec<Arc<Revised>>,
    revision: Revision,
}

impl<'a> Stage<'a> {
    pub fn new(view: &'a View, limits: &'a Limits) -> Self {
        Self { view, limits, staged: BTreeMap::new(), revised: Vec::new(), revision: view.revision() }
    }

    pub fn into_group(self) -> Group {
        let compacted = self.view.due(&self.revised, self.limits);
        Group { base: self.view.revision(), revision: self.revision, revised: self.revised, compacted }
    }

    fn found(&self, key: &Key) -> Option<&Stored> {
        let key = key.encode();
        match self.staged.get(&key) {
            Some(staged) => staged.as_ref(),
            None => self.view.get(&key),
        }
    }

    pub fn judge(&mut self, transaction: Transaction) -> Result<Revision, CommitError> {
        check_shape(&transaction, self.limits)?;
        for expect in &transaction.expect {
            let (key, expected) = match expect {
                Expect::Absent(key) => (key, 0),
                Expect::At(key, revision) => (key, *revision),
            };
            let found = self.found(key).map_or(0, |stored| stored.modified);
            if found != expected {
                return Err(CommitError::Conflict { key: key.clone(), expected, found });
            }
        }
        let revision = self.revision + 1;
        let mut changes = Vec::with_capacity(transaction.writes.len());
        for write in transaction.writes {
            let key = write.key().clone();
            let before = self.found(&key).cloned();
            let after = match write {
                Write::Put(key, value) => {
                    let created = before.as_ref().map_or(revision, |before| before.created);
                    Some(Stored { key, created, modified: revision, value: Arc::from(value) })
                }
                Write::Delete(_) => None,
            };
            if before.is_none() && after.is_none() {
                continue;
            }
            changes.push(Change { revision, key, before: before.map(|before| before.value), after });
        }
        for change in &changes {
            self.staged.insert(change.key.encode(), change.after.clone());
        }
        let bytes = changes.iter().map(log_bytes).sum();
        self.revised.push(Arc::new(Revised { revision, changes, bytes }));
        self.revision = revision;
        Ok(revision)
    }
}

fn log_bytes(change: &Change) -> usize {
    let key = &change.key;
    let names = key.group.len() + key.kind.len() + key.namespace.len() + key.name.len();
    let values = change.before.as_ref().map_or(0, |before| before.len())
        + change.after.as_ref().map_or(0, |after| after.value.len());
    names + values + 32
}

pub fn size(transaction: &Transaction) -> usize {
    let value = |write: &Write| match write {
        Write::Put(_, value) => value.len(),
        Write::Delete(_) => 0,
    };
    transaction.writes.iter().map(|write| value(write) + 64).sum()
}

fn check_shape(transaction: &Transaction, limits: &Limits) -> Result<(), CommitError> {
    let writes = transaction.writes.len().max(transaction.expect.len());
    if writes > limits.transaction_writes_max {
        let max = limits.transaction_writes_max;
        return Err(CommitError::TooLarge(format!("{writes} writes or conditions; the most is {max}")));
    }
    let bytes = size(transaction);
    if bytes > limits.transaction_bytes_max {
        let max = limits.transaction_bytes_max;
        return Err(CommitError::TooLarge(format!("{bytes} bytes; the most is {max}")));
    }
    let mut written = HashSet::new();
    for write in &transaction.writes {
        let key = write.key();
        if let Some(problem) = key.problem() {
            return Err(CommitError::Invalid(format!("{key:?}: {problem}")));
        }
        if !written.insert(key) {
            return Err(CommitError::Invalid(format!("{key} is written twice")));
        }
        if let Write::Put(_, value) = write
            && value.len() > limits.value_bytes_max
        {
            let (bytes, max) = (value.len(), limits.value_bytes_max);
            return Err(CommitError::TooLarge(format!(
                "{key}: {bytes} bytes; the most for a value is {max}"
            )));
        }
    }
    Ok(())
}

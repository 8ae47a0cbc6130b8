//! One client's interest in one type: what it asked for, what it holds, what is on its way and
//! what it refused. Answers one question: what is the difference to this snapshot?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::push::named_in;
use crate::resources::OfType;
use crate::{Resource, types};

/// What the client is believed to hold under a name.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// We sent it.
    Sent(Arc<Resource>),
    /// It said so when it connected again (delta).
    Claimed(String),
    /// It has been told that there is no such thing.
    Absent,
    /// It refused a push that would have changed this, and may have taken that part all the same: an
    /// Envoy keeps the good clusters of a push of which it refuses one. What it had before, if anything.
    Doubtful(Option<Arc<Resource>>),
}

impl Held {
    fn is(&self, resource: &Resource) -> bool {
        match self {
            Self::Sent(sent) => sent.version == resource.version,
            Self::Claimed(version) => *version == resource.version,
            Self::Absent | Self::Doubtful(_) => false,
        }
    }
}

/// The push that waits for its answer.
#[derive(Debug)]
pub(super) struct InFlight {
    pub nonce: String,
    pub version: String,
    pub snapshot: String,
    /// All that it carries.
    names: Vec<String>,
    /// Version by name; `None` for a removal. Without what was doubted or dropped since.
    sent: BTreeMap<String, Option<String>>,
    /// What was held before, to go back to on a NACK.
    before: Vec<(String, Option<Held>)>,
}

#[derive(Debug)]
struct Refused {
    version: Option<String>,
    /// The NACK named it.
    named: bool,
}

/// What separates a client from a snapshot.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub changed: Vec<Arc<Resource>>,
    /// Asked for by name, and there is no such thing.
    pub absent: Vec<String>,
    /// Held, and gone from the snapshot.
    pub gone: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Interest {
    wildcard: bool,
    names: BTreeSet<String>,
    /// A list of names came once: from here on an empty list means "nothing".
    named_once: bool,
    pub held: BTreeMap<String, Held>,
    pub in_flight: Option<InFlight>,
    pub last_nonce: String,
    refused: BTreeMap<String, Refused>,
    /// The content that was refused: nothing of it is tried again before it changes.
    refused_version: Option<String>,
    ever_accepted: bool,
    /// The type's version to which there was no difference; saves walking it at every ACK.
    pub level_with: Option<String>,
}

impl Interest {
    pub fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The client took nothing of this type on this stream and is owed a first word, be it "there
    /// is nothing": it may hold things from before.
    pub fn owed_a_word(&self, of_type: &OfType) -> bool {
        !self.ever_accepted
            && self.in_flight.is_none()
            && self.refused_version.as_ref() != Some(&of_type.version)
    }

    pub fn names_count(&self) -> usize {
        self.names.len()
    }

    pub fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// State of the world: each request carries the whole list.
    pub fn replace_names(&mut self, type_url: &str, names: &[String]) {
        let star = names.iter().any(|name| name == "*");
        let wildcard = star || (names.is_empty() && !self.named_once && types::is_full_state(type_url));
        let names: BTreeSet<String> = names.iter().filter(|name| *name != "*").cloned().collect();
        self.named_once |= star || !names.is_empty();
        if wildcard != self.wildcard || names != self.names {
            self.wildcard = wildcard;
            self.names = names;
            self.forget_unwanted();
        }
    }

    /// Delta, first request of the type on this stream.
    pub fn begin(
        &mut self,
        type_url: &str,
        subscribe: &[String],
        initial: impl IntoIterator<Item = (String, String)>,
    ) {
        self.wildcard = subscribe.is_empty() && types::is_full_state(type_url);
        self.add_names(subscribe);
        for (name, version) in initial {
            if self.wants(&name) {
                self.held.insert(name, Held::Claimed(version));
            }
        }
    }

    /// Delta: a name that is asked for again is sent again, whatever we believe.
    pub fn add_names(&mut self, subscribe: &[String]) {
        for name in subscribe {
            self.level_with = None;
            if name == "*" {
                self.wildcard = true;
            } else {
                self.names.insert(name.clone());
                self.doubt(name);
                self.refused.remove(name);
            }
        }
    }

    pub fn remove_names(&mut self, unsubscribe: &[String]) {
        for name in unsubscribe {
            if name == "*" {
                self.wildcard = false;
            } else if self.names.remove(name) && self.wildcard {
                // The client drops it although the wildcard still covers it. A version that
                // nothing has makes the next push restore it or say that it is gone.
                self.doubt(name);
                self.held.insert(name.clone(), Held::Claimed(String::new()));
            }
        }
        if !unsubscribe.is_empty() {
            self.forget_unwanted();
        }
    }

    /// The client began anew on the same stream: nothing that it held counts.
    pub fn restart(&mut self) {
        self.held.clear();
        self.ever_accepted = false;
        self.level_with = None;
    }

    /// Whether some version of it is known to have been taken, so that things may depend on it.
    pub fn accepted_once(&self, name: &str) -> bool {
        !matches!(self.held.get(name), None | Some(Held::Absent | Held::Doubtful(None)))
    }

    /// The next push carries this name even if it did not change.
    pub fn resend(&mut self, name: &str) {
        if let Some(held) = self.held.get_mut(name).filter(|held| !matches!(held, Held::Absent)) {
            // Still held, so that its removal is not forgotten; but of no version that exists.
            *held = Held::Claimed(String::new());
            self.level_with = None;
        }
    }

    /// A stale list says nothing about what is wanted now, but what is not on it was dropped by
    /// the client at that time. Should the client want it again by now, it needs it again.
    pub fn doubt_unlisted(&mut self, names: &[String]) {
        let still_wildcard = names.is_empty() && self.wildcard && !self.named_once;
        if still_wildcard || names.iter().any(|name| name == "*") {
            return;
        }
        let listed: BTreeSet<&String> = names.iter().collect();
        let unlisted = |name: &&String| !listed.contains(name);
        let dropped: BTreeSet<String> =
            self.names.iter().chain(self.held.keys()).filter(unlisted).cloned().collect();
        for name in dropped {
            self.doubt(&name);
        }
    }

    /// The client may have dropped it: neither an ACK nor a NACK of what is in flight brings back
    /// the belief that it is held.
    fn doubt(&mut self, name: &str) {
        self.held.remove(name);
        self.level_with = None;
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.sent.remove(name);
            in_flight.before.retain(|(before, _)| before != name);
        }
    }

    /// Refusals of versions that the snapshot no longer has are history.
    pub fn forget_refusals(&mut self, of_type: &OfType) {
        if self.refused_version.as_ref() != Some(&of_type.version) {
            let version = |name: &String| of_type.by_name.get(name).map(|resource| &resource.version);
            self.refused.retain(|name, refused| refused.version.as_ref() == version(name));
        }
    }

    /// Those of `changed` of which the client holds another version.
    pub fn held_of(&self, changed: &[Arc<Resource>]) -> Vec<String> {
        let held = |resource: &&Arc<Resource>| {
            self.held.get(&resource.name).is_some_and(|held| !matches!(held, Held::Absent))
        };
        changed.iter().filter(held).map(|resource| resource.name.clone()).collect()
    }

    fn forget_unwanted(&mut self) {
        let (wildcard, names) = (self.wildcard, &self.names);
        self.held.retain(|name, _| wildcard || names.contains(name));
        self.refused.retain(|name, _| wildcard || names.contains(name));
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.sent.retain(|name, _| wildcard || names.contains(name));
            in_flight.before.retain(|(name, _)| wildcard || names.contains(name));
        }
        self.level_with = None;
    }

    /// Nothing is left to send of this content. Unless it is what was refused, no refusal stands.
    pub fn level(&mut self, version: &str) {
        self.level_with = Some(version.to_owned());
        if self.refused_version.as_deref() != Some(version) {
            self.refused.clear();
        }
    }

    /// Ignores what is in flight: the caller decides whether it may send.
    pub fn difference(&self, of_type: &OfType) -> Difference {
        let mut difference = Difference::default();
        let mut again = Vec::new();
        let mut compare = |resource: &Arc<Resource>| {
            let same = self.held.get(&resource.name).is_some_and(|held| held.is(resource));
            if same || self.blocked(&resource.name, Some(&resource.version), of_type) {
                return;
            }
            match self.refused.get(&resource.name) {
                Some(refused) if refused.named && refused.version.as_ref() == Some(&resource.version) => {
                    again.push(Arc::clone(resource));
                }
                _ => difference.changed.push(Arc::clone(resource)),
            }
        };
        if self.wildcard {
            of_type.by_name.values().for_each(&mut compare);
        } else {
            self.names.iter().filter_map(|name| of_type.by_name.get(name)).for_each(&mut compare);
        }
        let exists = |name: &String| of_type.by_name.contains_key(name);
        let absent = |name: &&String| !exists(name) && !self.held.contains_key(*name);
        difference.absent = self
            .names
            .iter()
            .filter(absent)
            .filter(|name| !self.blocked(name, None, of_type))
            .cloned()
            .collect();
        for (name, held) in &self.held {
            if !matches!(held, Held::Absent) && !exists(name) && !self.blocked(name, None, of_type) {
                difference.gone.push(name.clone());
            }
        }
        // What was refused by name is tried again alone and last: it must not drag the rest down.
        if difference.changed.is_empty() && difference.absent.is_empty() {
            difference.changed = again;
        }
        difference
    }

    fn blocked(&self, name: &str, version: Option<&String>, of_type: &OfType) -> bool {
        self.refused.get(name).is_some_and(|refused| refused.version.as_ref() == version)
            && self.refused_version.as_ref() == Some(&of_type.version)
    }

    /// Books a push as held by the client; a NACK will take it back.
    pub fn record(
        &mut self,
        nonce: String,
        of_type: &OfType,
        snapshot: &str,
        changed: &[Arc<Resource>],
        removed: &[String],
    ) {
        let mut sent = BTreeMap::new();
        let mut before = Vec::new();
        for resource in changed {
            let name = &resource.name;
            let old = self.held.insert(name.clone(), Held::Sent(Arc::clone(resource)));
            before.push((name.clone(), old));
            sent.insert(name.clone(), Some(resource.version.clone()));
        }
        for name in removed {
            before.push((name.clone(), self.forget(name)));
            sent.insert(name.clone(), None);
        }
        self.refused.retain(|name, _| !sent.contains_key(name));
        self.level_with = None;
        self.last_nonce.clone_from(&nonce);
        self.in_flight = Some(InFlight {
            nonce,
            version: of_type.version.clone(),
            snapshot: snapshot.to_owned(),
            names: Vec::new(),
            sent,
            before,
        });
    }

    /// All that the push just booked carries, the unchanged included.
    pub fn carries(&mut self, resources: &[Arc<Resource>]) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.names = resources.iter().map(|resource| resource.name.clone()).collect();
        }
    }

    /// The client no longer holds it; a name that it asked for stays known to be absent.
    pub fn forget(&mut self, name: &str) -> Option<Held> {
        if self.names.contains(name) {
            self.held.insert(name.to_owned(), Held::Absent)
        } else {
            self.held.remove(name)
        }
    }

    pub fn accepted(&mut self, nonce: &str) -> Option<InFlight> {
        let in_flight = self.answered(nonce)?;
        self.ever_accepted = true;
        for name in &in_flight.names {
            // Dropped and wanted again while this was on its way: it may have been taken.
            if self.wants(name) && !self.held.contains_key(name) {
                self.held.insert(name.clone(), Held::Claimed(String::new()));
                self.level_with = None;
            }
        }
        Some(in_flight)
    }

    fn answered(&mut self, nonce: &str) -> Option<InFlight> {
        self.in_flight.take_if(|in_flight| in_flight.nonce == nonce)
    }

    /// The names that the message speaks of, and the push that it refuses.
    pub fn rejected(&mut self, nonce: &str, message: &str) -> Option<(InFlight, Vec<String>)> {
        let mut in_flight = self.answered(nonce)?;
        let named = named_in(message, in_flight.sent.keys().map(String::as_str));
        for (name, old) in std::mem::take(&mut in_flight.before) {
            let changed = in_flight.sent.get(&name).is_some_and(Option::is_some);
            match old {
                Some(Held::Sent(before) | Held::Doubtful(Some(before))) => {
                    self.held.insert(name, Held::Doubtful(Some(before)));
                }
                None | Some(Held::Absent | Held::Doubtful(None)) if changed => {
                    self.held.insert(name, Held::Doubtful(None));
                }
                Some(Held::Claimed(_)) => {
                    self.held.insert(name, Held::Claimed(String::new()));
                }
                Some(old) => {
                    self.held.insert(name, old);
                }
                None => {
                    self.held.remove(&name);
                }
            }
        }
        for name in &in_flight.names {
            // Dropped and wanted again while this was on its way.
            if self.wants(name) && !self.held.contains_key(name) {
                self.held.insert(name.clone(), Held::Doubtful(None));
            }
        }
        for (name, version) in std::mem::take(&mut in_flight.sent) {
            let named = named.contains(&name);
            self.refused.insert(name, Refused { version, named });
        }
        self.refused_version = Some(in_flight.version.clone());
        self.level_with = None;
        Some((in_flight, named))
    }
}

//! One stream's protocol, pure: requests and snapshots in, pushes and reports out.
//!
//! The rules, in the order in which they bite:
//! - A request whose nonce is not that of the last push of its type is stale: state of the world
//!   ignores it, delta takes its subscription changes (they are never repeated) and nothing else.
//! - At most one push per type waits for its answer; what changes meanwhile is sent afterwards,
//!   straight at the newest snapshot.
//! - Make before break: clusters, endpoints, listeners, routes; a type waits while an earlier one
//!   has something unsent. Clusters and endpoints are taken away last, when all four are answered
//!   and no listener or route was refused (a refused one means that the old one still serves).
//! - A refused push counts as not held and is not tried again before the type's content changes. Then all
//!   that it carried is said anew, because the client may have taken the good part of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};

use super::Report;
use super::interest::{Difference, Held, Interest};
pub use super::push::Push;
use crate::client::Mode;
use crate::resources::OfType;
use crate::{CDS, EDS, LDS, RDS, Resource, Resources, types};

/// Bounds on what one client can make us keep.
const TYPES_MAX: usize = 64;
const NAMES_MAX: usize = 65_536;

/// What the stream has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Out {
    Send(Push),
    Report(Report),
}

/// A request that no correct client sends: the stream ends with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("discovery request without type_url")]
    NoType,
    #[error("this stream serves {only}, not {asked}")]
    OtherType { only: &'static str, asked: String },
    #[error("more than {TYPES_MAX} resource types on one stream")]
    TooManyTypes,
    #[error("more than {NAMES_MAX} names of {type_url} on one stream")]
    TooManyNames { type_url: String },
}

#[derive(Debug)]
pub struct Session {
    mode: Mode,
    only: Option<&'static str>,
    snapshot: Arc<Resources>,
    /// Keyed by rank first, so that iteration is the order of sending.
    interests: BTreeMap<(usize, String), Interest>,
    nonces: u64,
    settled: bool,
}

impl Session {
    pub fn new(mode: Mode, snapshot: Arc<Resources>) -> Self {
        Self { mode, only: None, snapshot, interests: BTreeMap::new(), nonces: 0, settled: false }
    }

    /// A stream of one type, which requests need not name.
    pub fn only(mut self, type_url: &'static str) -> Self {
        self.only = Some(type_url);
        self
    }

    /// State of the world.
    pub fn on_request(&mut self, request: DiscoveryRequest) -> Result<Vec<Out>, Violation> {
        let type_url = self.type_of(request.type_url)?;
        if request.resource_names.len() > NAMES_MAX {
            return Err(Violation::TooManyNames { type_url });
        }
        let mut out = Vec::new();
        let nonce = request.response_nonce.as_str();
        let (interest, first) = self.interest(&type_url)?;
        if !first {
            if nonce.is_empty() {
                // Subscribing before the first answer came, or beginning anew after it.
                if interest.in_flight.is_none() && !interest.last_nonce.is_empty() {
                    interest.restart();
                }
            } else if nonce != interest.last_nonce {
                interest.doubt_unlisted(&request.resource_names);
                return Ok(out);
            }
            let error = request.error_detail.map(|error| error.message);
            out.extend(answer(interest, &type_url, nonce, error));
        }
        interest.replace_names(&type_url, &request.resource_names);
        out.extend(self.pump());
        Ok(out)
    }

    /// Delta.
    pub fn on_delta(&mut self, request: DeltaDiscoveryRequest) -> Result<Vec<Out>, Violation> {
        let type_url = self.type_of(request.type_url)?;
        let mut out = Vec::new();
        let (interest, first) = self.interest(&type_url)?;
        if interest.names_count() + request.resource_names_subscribe.len() > NAMES_MAX {
            return Err(Violation::TooManyNames { type_url });
        }
        if first {
            interest.begin(&type_url, &request.resource_names_subscribe, request.initial_resource_versions);
        } else {
            let error = request.error_detail.map(|error| error.message);
            out.extend(answer(interest, &type_url, &request.response_nonce, error));
            interest.add_names(&request.resource_names_subscribe);
        }
        interest.remove_names(&request.resource_names_unsubscribe);
        out.extend(self.pump());
        Ok(out)
    }

    /// A newer snapshot. Older ones that were never sent are skipped.
    pub fn update(&mut self, snapshot: Arc<Resources>) -> Vec<Out> {
        if self.snapshot.version != snapshot.version {
            self.settled = false;
        }
        self.snapshot = snapshot;
        self.pump()
    }

    fn type_of(&self, asked: String) -> Result<String, Violation> {
        match self.only {
            Some(only) if asked.is_empty() || asked == only => Ok(only.to_owned()),
            Some(only) => Err(Violation::OtherType { only, asked }),
            None if asked.is_empty() => Err(Violation::NoType),
            None => Ok(asked),
        }
    }

    /// The interest in this type, and whether this request is its first.
    fn interest(&mut self, type_url: &str) -> Result<(&mut Interest, bool), Violation> {
        let key = (types::rank(type_url), type_url.to_owned());
        let first = !self.interests.contains_key(&key);
        if first && self.interests.len() == TYPES_MAX {
            return Err(Violation::TooManyTypes);
        }
        Ok((self.interests.entry(key).or_default(), first))
    }

    /// Sends all that the rules allow now.
    fn pump(&mut self) -> Vec<Out> {
        let snapshot = Arc::clone(&self.snapshot);
        let nothing = OfType::default();
        let mut pass =
            Pass { mode: self.mode, snapshot: &snapshot.version, nonces: &mut self.nonces, out: Vec::new() };
        let mut earlier_unsent = false;
        let mut unsent = false;
        let mut breaks = Vec::new();
        // An Envoy warms a changed cluster with the endpoints that come after it, and keeps the
        // old one until they do. By the protocol's default the two have the same name.
        let mut rewarm: Vec<String> = Vec::new();
        for ((_, type_url), interest) in &mut self.interests {
            let of_type = snapshot.of_type(type_url).map_or(&nothing, |of_type| of_type.as_ref());
            interest.forget_refusals(of_type);
            if type_url == EDS {
                for name in &rewarm {
                    interest.resend(name);
                }
            }
            if interest.level_with.as_ref() == Some(&of_type.version) {
                continue;
            }
            let mut difference = interest.difference(of_type);
            if breaks_last(type_url) {
                // What was never accepted is in nobody's way.
                let (held_back, now) = std::mem::take(&mut difference.gone)
                    .into_iter()
                    .partition(|name| interest.accepted_once(name));
                difference.gone = now;
                let held_back: Vec<String> = held_back;
                if !held_back.is_empty() {
                    breaks.push((type_url.clone(), held_back));
                }
            }
            if pass.has_something(interest, type_url, of_type, &difference) {
                let waits = interest.in_flight.is_some() || (is_ordered(type_url) && earlier_unsent);
                if waits {
                    unsent = true;
                    earlier_unsent |= is_ordered(type_url);
                    continue;
                }
                if type_url == CDS {
                    rewarm = interest.held_of(&difference.changed);
                }
                pass.send(interest, type_url, of_type, difference);
            } else if breaks.last().is_none_or(|(last, _)| last != type_url) && interest.in_flight.is_none() {
                pass.note_silently(interest, difference);
                interest.level(&of_type.version);
            }
        }
        let refused = self
            .interests
            .iter()
            .any(|((_, type_url), interest)| (type_url == LDS || type_url == RDS) && interest.has_refused());
        let unanswered = self
            .interests
            .iter()
            .any(|((_, type_url), interest)| is_ordered(type_url) && interest.in_flight.is_some());
        let may_break = !earlier_unsent && !unanswered && !refused;
        if may_break {
            for (type_url, gone) in std::mem::take(&mut breaks) {
                let of_type = snapshot.of_type(&type_url).map_or(&nothing, |of_type| of_type.as_ref());
                let key = (types::rank(&type_url), type_url.clone());
                if let Some(interest) = self.interests.get_mut(&key) {
                    let difference = Difference { gone, ..Difference::default() };
                    pass.send(interest, &type_url, of_type, difference);
                }
            }
        }
        let mut out = pass.out;
        self.settled &= out.is_empty();
        let done = !unsent && (breaks.is_empty() || refused);
        if done {
            out.extend(self.settle());
        }
        out
    }

    /// Says once per snapshot that the client is level with it.
    fn settle(&mut self) -> Option<Out> {
        let waiting = self.interests.values().any(|interest| interest.in_flight.is_some());
        if waiting || self.settled || self.interests.is_empty() {
            return None;
        }
        self.settled = true;
        Some(Out::Report(Report::Settled {
            snapshot: self.snapshot.version.clone(),
            refused: self.interests.values().any(Interest::has_refused),
        }))
    }
}

/// One walk over the types: makes the pushes.
struct Pass<'a> {
    mode: Mode,
    snapshot: &'a str,
    nonces: &'a mut u64,
    out: Vec<Out>,
}

impl Pass<'_> {
    fn has_something(
        &self,
        interest: &Interest,
        type_url: &str,
        of_type: &OfType,
        difference: &Difference,
    ) -> bool {
        // A client that waits for a whole type waits for "there is none" too; and of a type that
        // we have never heard of nothing will ever come, so an empty answer now is the kind one.
        let unheard_of = types::rank(type_url) == types::ORDER.len();
        if interest.owed_a_word(of_type) && (interest.is_wildcard() || unheard_of) {
            return true;
        }
        let says_removals = self.mode == Mode::Delta || types::is_full_state(type_url);
        !difference.changed.is_empty()
            || (says_removals && !(difference.absent.is_empty() && difference.gone.is_empty()))
    }

    fn send(&mut self, interest: &mut Interest, type_url: &str, of_type: &OfType, difference: Difference) {
        let Difference { changed, absent, gone } = difference;
        let removed = [absent, gone].concat();
        let tells = self.mode == Mode::Delta
            || types::is_full_state(type_url)
            || !changed.is_empty()
            || interest.owed_a_word(of_type);
        if !tells {
            // State of the world has no words for the removal of endpoints, routes and secrets:
            // the client drops them with the cluster or listener that named them.
            for name in &removed {
                interest.forget(name);
            }
            return;
        }
        *self.nonces += 1;
        let nonce = format!("{:x}", self.nonces);
        interest.record(nonce.clone(), of_type, self.snapshot, &changed, &removed);
        let resources = if self.mode == Mode::Sotw && types::is_full_state(type_url) {
            all_held(interest)
        } else {
            changed
        };
        interest.carries(&resources);
        let version = if of_type.version.is_empty() { "0".to_owned() } else { of_type.version.clone() };
        self.out.push(Out::Send(Push {
            type_url: type_url.to_owned(),
            version,
            nonce,
            resources,
            removed: if self.mode == Mode::Delta { removed } else { Vec::new() },
        }));
    }

    /// Books what this mode cannot say.
    fn note_silently(&self, interest: &mut Interest, difference: Difference) {
        for name in difference.absent.iter().chain(&difference.gone) {
            interest.forget(name);
        }
    }
}

fn is_ordered(type_url: &str) -> bool {
    [CDS, EDS, LDS, RDS].contains(&type_url)
}

fn breaks_last(type_url: &str) -> bool {
    type_url == CDS || type_url == EDS
}

/// The full set: what has changed, what has not, and what is to go but not yet.
fn all_held(interest: &Interest) -> Vec<Arc<Resource>> {
    interest
        .held
        .values()
        .filter_map(|held| match held {
            Held::Sent(resource) | Held::Doubtful(Some(resource)) => Some(Arc::clone(resource)),
            Held::Claimed(_) | Held::Absent | Held::Doubtful(None) => None,
        })
        .collect()
}

/// Takes an ACK or NACK; a nonce that answers nothing is no answer.
fn answer(interest: &mut Interest, type_url: &str, nonce: &str, error: Option<String>) -> Option<Out> {
    let report = match error {
        None => {
            let in_flight = interest.accepted(nonce)?;
            Report::Ack {
                type_url: type_url.to_owned(),
                version: in_flight.version,
                snapshot: in_flight.snapshot,
            }
        }
        Some(message) => {
            let (in_flight, resources) = interest.rejected(nonce, &message)?;
            Report::Nack {
                type_url: type_url.to_owned(),
                version: in_flight.version,
                snapshot: in_flight.snapshot,
                message,
                resources,
            }
        }
    };
    Some(Out::Report(report))
}

//! The asking end: the rules ([`Session`], pure) and the connect loop ([`run`]).

pub mod backoff;
mod received;
pub mod run;
pub mod session;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::Resource;

pub use run::{Options, run};
pub use session::{Request, Response, Session};

/// The two variants of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// State of the world.
    Sotw,
    /// Incremental.
    Delta,
}

/// What is wanted of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// All that the server has for us (the wildcard).
    All,
    /// These only; none of them = unsubscribed. (State of the world has no words for giving up a
    /// wildcard for nothing; what still comes then is ignored.)
    Only(BTreeSet<String>),
}

impl Names {
    pub fn only<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self::Only(names.into_iter().map(Into::into).collect())
    }

    pub fn contain(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

/// One response, as the handler sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    pub added: Vec<Arc<Resource>>,
    /// Names that the server says are gone (or never existed).
    pub removed: Vec<String>,
    /// `added` is all there is of this type.
    pub full: bool,
    pub version: String,
}

/// What happens to the stream, for metrics and status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Connected,
    Disconnected {
        error: String,
        retry_in: Duration,
    },
    /// Asked for, and not a word about it within [`Options::initial_fetch_timeout`]. No names:
    /// the whole type.
    InitialFetchTimeout {
        type_url: String,
        names: Vec<String>,
    },
}

/// Owner of the configuration: applies updates, all or nothing.
pub trait Handler {
    /// `Err` is the text of the NACK; name the resource and the field's path in it. What was
    /// accepted before stays in force. May call [`Subscriber::set`].
    fn apply(&mut self, type_url: &str, update: Update) -> Result<(), String>;

    fn event(&mut self, _event: Event) {}
}

impl<H: Handler + ?Sized> Handler for &mut H {
    fn apply(&mut self, type_url: &str, update: Update) -> Result<(), String> {
        (**self).apply(type_url, update)
    }

    fn event(&mut self, event: Event) {
        (**self).event(event);
    }
}

/// Changes what [`run`] is subscribed to, at any time, from anywhere. Only the newest wish
/// counts: nothing queues up.
#[derive(Clone, Debug)]
pub struct Subscriber(watch::Sender<BTreeMap<String, Names>>);

impl Subscriber {
    /// Takes the place of what was wanted of this type.
    pub fn set(&self, type_url: &str, names: Names) {
        self.0.send_if_modified(|wanted| {
            if wanted.get(type_url) == Some(&names) {
                return false;
            }
            wanted.insert(type_url.to_owned(), names);
            true
        });
    }

    pub fn wanted(&self) -> BTreeMap<String, Names> {
        self.0.borrow().clone()
    }
}

/// The receiving half of a [`Subscriber`], for [`run`].
#[derive(Debug)]
pub struct Subscriptions(watch::Receiver<BTreeMap<String, Names>>);

/// Both halves, with a first wish.
pub fn subscriptions<'a>(first: impl IntoIterator<Item = (&'a str, Names)>) -> (Subscriber, Subscriptions) {
    let first = first.into_iter().map(|(type_url, names)| (type_url.to_owned(), names)).collect();
    let (sender, receiver) = watch::channel(first);
    (Subscriber(sender), Subscriptions(receiver))
}

//! One client's protocol, pure: wishes and responses in, requests and updates out.
//!
//! It outlives the stream. What was accepted stays known over a reconnect, so that delta asks
//! only for the difference (`initial_resource_versions`) and state of the world can tell what
//! disappeared in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::google::rpc;

use super::received::{self, Received};
use super::{Handler, Mode, Names, Update};
use crate::{Node, types};

/// A NACK's text is cut here; a handler's list of problems can be long.
const NACK_BYTES_MAX: usize = 16 << 10;
/// `google.rpc.Code.INVALID_ARGUMENT`.
const INVALID_ARGUMENT: i32 = 3;

#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Sotw(discovery::DiscoveryRequest),
    Delta(discovery::DeltaDiscoveryRequest),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    Sotw(discovery::DiscoveryResponse),
    Delta(discovery::DeltaDiscoveryResponse),
}

#[derive(Debug)]
pub struct Session {
    mode: Mode,
    node: Node,
    connected: bool,
    node_sent: bool,
    /// Keyed by rank first, so that requests go out in the order of the types.
    topics: BTreeMap<(usize, String), Topic>,
}

/// One type.
#[derive(Debug)]
struct Topic {
    wanted: Names,
    /// Version by name of what the handler accepted.
    held: BTreeMap<String, String>,
    /// Names that the server has said anything about.
    heard: BTreeSet<String>,
    answered: bool,
    /// Of the last accepted response (state of the world).
    version: String,
    /// Of the last response on this stream.
    nonce: String,
    /// What this stream's server has been asked for; `None` before the first request.
    asked: Option<Names>,
    /// Names were sent on this stream: an empty list no longer means "all".
    named_once: bool,
}

impl Session {
    pub fn new(mode: Mode, node: Node) -> Self {
        Self { mode, node, connected: false, node_sent: false, topics: BTreeMap::new() }
    }

    /// Takes the place of what was wanted of this type.
    pub fn subscribe(&mut self, type_url: &str, names: Names) -> Vec<Request> {
        let topic = self.topics.entry(key(type_url)).or_insert_with(Topic::new);
        topic.want(names);
        if !self.connected || topic.asked.as_ref() == Some(&topic.wanted) {
            return Vec::new();
        }
        let request = match (self.mode, topic.asked.is_none()) {
            (_, true) if topic.wants_nothing() => return Vec::new(),
            (Mode::Delta, true) => Request::Delta(topic.first_delta(type_url)),
            (Mode::Delta, false) => Request::Delta(topic.change(type_url)),
            (Mode::Sotw, _) => Request::Sotw(topic.state(type_url)),
        };
        vec![self.introduce(request)]
    }

    /// A new stream is open: the first requests on it.
    pub fn connected(&mut self) -> Vec<Request> {
        self.connected = true;
        self.node_sent = false;
        let mut requests = Vec::new();
        for ((_, type_url), topic) in &mut self.topics {
            topic.nonce.clear();
            topic.asked = None;
            topic.named_once = false;
            if !topic.wants_nothing() {
                requests.push(match self.mode {
                    Mode::Sotw => Request::Sotw(topic.state(type_url)),
                    Mode::Delta => Request::Delta(topic.first_delta(type_url)),
                });
            }
        }
        requests.into_iter().map(|request| self.introduce(request)).collect()
    }

    pub fn disconnected(&mut self) {
        self.connected = false;
    }

    /// Hands a response to the handler and answers it. A response of a type that nobody asked
    /// for, or of the other variant, gets no answer.
    pub fn on_response(
        &mut self,
        response: Response,
        handler: &mut (impl Handler + ?Sized),
    ) -> Option<Request> {
        let (type_url, nonce, received) = match response {
            Response::Sotw(response) if self.mode == Mode::Sotw => received::sotw(response),
            Response::Delta(response) if self.mode == Mode::Delta => received::delta(response),
            _ => return None,
        };
        let topic = self.topics.get_mut(&key(&type_url))?;
        topic.nonce = nonce;
        topic.answered = true;
        let applied = received.and_then(|received| topic.apply(self.mode, &type_url, received, handler));
        let error_detail = applied.err().map(|message| rpc::Status {
            code: INVALID_ARGUMENT,
            message: cut(message),
            details: Vec::new(),
        });
        let request = match self.mode {
            Mode::Sotw => {
                Request::Sotw(discovery::DiscoveryRequest { error_detail, ..topic.state(&type_url) })
            }
            Mode::Delta => Request::Delta(discovery::DeltaDiscoveryRequest {
                type_url,
                response_nonce: topic.nonce.clone(),
                error_detail,
                ..Default::default()
            }),
        };
        Some(self.introduce(request))
    }

    /// What was asked for and has not been spoken of: type by type; no names = the whole type.
    pub fn missing(&self) -> Vec<(String, Vec<String>)> {
        let mut missing = Vec::new();
        for ((_, type_url), topic) in &self.topics {
            match &topic.wanted {
                Names::All if topic.answered => {}
                Names::All => missing.push((type_url.clone(), Vec::new())),
                Names::Only(names) => {
                    let unheard = names.difference(&topic.heard).cloned().collect::<Vec<_>>();
                    if !unheard.is_empty() {
                        missing.push((type_url.clone(), unheard));
                    }
                }
            }
        }
        missing
    }

    /// The version that the handler accepted, by name.
    pub fn held(&self, type_url: &str) -> Option<&BTreeMap<String, String>> {
        self.topics.get(&key(type_url)).map(|topic| &topic.held)
    }

    /// The stream's first request says who asks.
    fn introduce(&mut self, mut request: Request) -> Request {
        if !self.node_sent {
            self.node_sent = true;
            let node = Some(self.node.clone());
            match &mut request {
                Request::Sotw(request) => request.node = node,
                Request::Delta(request) => request.node = node,
            }
        }
        request
    }
}

impl Topic {
    fn new() -> Self {
        Self {
            wanted: Names::Only(BTreeSet::new()),
            held: BTreeMap::new(),
            heard: BTreeSet::new(),
            answered: false,
            version: String::new(),
            nonce: String::new(),
            asked: None,
            named_once: false,
        }
    }

    fn wants_nothing(&self) -> bool {
        matches!(&self.wanted, Names::Only(names) if names.is_empty())
    }

    fn want(&mut self, names: Names) {
        self.held.retain(|name, _| names.contain(name));
        self.heard.retain(|name| names.contain(name));
        self.wanted = names;
    }

    /// State of the world: every request is the whole wish and the last answer.
    fn state(&mut self, type_url: &str) -> discovery::DiscoveryRequest {
        let resource_names = match &self.wanted {
            Names::All if types::is_full_state(type_url) && !self.named_once => Vec::new(),
            Names::All => vec!["*".to_owned()],
            Names::Only(names) => names.iter().cloned().collect(),
        };
        self.named_once |= !resource_names.is_empty();
        self.asked = Some(self.wanted.clone());
        discovery::DiscoveryRequest {
            version_info: self.version.clone(),
            resource_names,
            type_url: type_url.to_owned(),
            response_nonce: self.nonce.clone(),
            ..Default::default()
        }
    }

    fn first_delta(&mut self, type_url: &str) -> discovery::DeltaDiscoveryRequest {
        self.asked = Some(self.wanted.clone());
        discovery::DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: match &self.wanted {
                // The oldest servers know this form only.
                Names::All if types::is_full_state(type_url) => Vec::new(),
                wanted => subscribed(wanted).into_iter().collect(),
            },
            initial_resource_versions: self.held.clone().into_iter().collect(),
            ..Default::default()
        }
    }

    fn change(&mut self, type_url: &str) -> discovery::DeltaDiscoveryRequest {
        let before = self.asked.as_ref().map(subscribed).unwrap_or_default();
        let now = subscribed(&self.wanted);
        self.asked = Some(self.wanted.clone());
        discovery::DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: now.difference(&before).cloned().collect(),
            resource_names_unsubscribe: before.difference(&now).cloned().collect(),
            ..Default::default()
        }
    }

    fn apply(
        &mut self,
        mode: Mode,
        type_url: &str,
        mut received: Received,
        handler: &mut (impl Handler + ?Sized),
    ) -> Result<(), String> {
        // What was on its way when we lost interest in it.
        received.resources.retain(|resource| self.wanted.contain(&resource.name));
        received.removed.retain(|name| self.wanted.contain(name));
        let full = mode == Mode::Sotw && types::is_full_state(type_url);
        if full {
            let present: BTreeSet<&str> =
                received.resources.iter().map(|resource| resource.name.as_str()).collect();
            let gone = |name: &&String| !present.contains(name.as_str());
            received.removed = self.held.keys().filter(gone).cloned().collect();
            if let Names::Only(names) = &self.wanted {
                self.heard.extend(names.iter().cloned());
            }
        }
        let names = received.resources.iter().map(|resource| &resource.name);
        self.heard.extend(names.chain(&received.removed).cloned());
        let update = Update {
            added: received.resources.iter().map(Arc::clone).collect(),
            removed: received.removed.clone(),
            full,
            version: received.version.clone(),
        };
        handler.apply(type_url, update)?;
        for name in &received.removed {
            self.held.remove(name);
        }
        for resource in &received.resources {
            self.held.insert(resource.name.clone(), resource.version.clone());
        }
        self.version = received.version;
        Ok(())
    }
}

fn key(type_url: &str) -> (usize, String) {
    (types::rank(type_url), type_url.to_owned())
}

fn subscribed(names: &Names) -> BTreeSet<String> {
    match names {
        Names::All => BTreeSet::from(["*".to_owned()]),
        Names::Only(names) => names.clone(),
    }
}

fn cut(mut message: String) -> String {
    let mut end = NACK_BYTES_MAX.min(message.len());
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    message
}

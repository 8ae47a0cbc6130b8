//! The serving end: who may ask ([`Source`]), what was answered ([`Report`]), the rules
//! ([`Session`], pure) and the streams ([`service`], [`secret_service`]).

mod interest;
mod push;
pub mod session;
pub mod stream;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::watch;
use tonic::Status;

use crate::{Node, Resources};

pub use push::Push;
pub use session::{Out, Session, Violation};
pub use stream::{secret_service, service};

/// SPIFFE id of the client's certificate. The embedding server, which terminates TLS, inserts
/// it as a request extension; absent counts as `Peer(None)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer(pub Option<String>);

/// Decides what a client sees. Called once per stream, with the first message's node.
pub trait Source: Send + Sync + 'static {
    fn subscribe(&self, peer: &Peer, node: &Node) -> Result<Subscription, Status>;
}

/// What a stream lives on. When the sender of `resources` is dropped the stream ends with
/// `UNAVAILABLE`, which makes the client connect again.
pub struct Subscription {
    pub resources: watch::Receiver<Arc<Resources>>,
    pub report: Box<dyn ReportSink>,
}

/// Receives what a stream learns of its client. Must not block: it is called on the stream's task.
pub trait ReportSink: Send + Sync {
    fn report(&self, report: Report);
}

impl<F: Fn(Report) + Send + Sync> ReportSink for F {
    fn report(&self, report: Report) {
        self(report);
    }
}

/// One thing learnt of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The client accepted a push. `version` is the type's, `snapshot` the whole snapshot's.
    Ack { type_url: String, version: String, snapshot: String },
    /// The client refused a push and keeps what it had. `resources` are the names found in the
    /// message; empty when it names none.
    Nack { type_url: String, version: String, snapshot: String, message: String, resources: Vec<String> },
    /// Nothing is left to send and nothing is unanswered: the client has this snapshot, except
    /// for what it refused.
    Settled { snapshot: String, refused: bool },
    /// The stream ended.
    Closed,
}

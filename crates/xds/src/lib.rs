//! The xDS v3 transport, both ends.
//!
//! A control plane publishes an immutable [`Resources`] snapshot per client; a [`server::Session`]
//! turns it and the client's requests into responses; a [`client::Session`] turns those responses
//! into updates for a [`client::Handler`] and into ACKs or NACKs. Both sessions are pure: they
//! hold no socket, no clock and no task, so every rule of the protocol is tested without a sleep.
//! [`server::service`] and [`client::run`] are the thin parts that await.
//!
//! What this crate deliberately does not do: it does not know what a Cluster is. A resource is a
//! name, a version and bytes. The only knowledge of content is generated from descriptors: which
//! fields are maps (see [`canonical`]), so that equal messages have equal bytes.

pub mod canonical;
pub mod client;
pub mod resources;
pub mod server;
pub mod types;
mod wire;

pub use envoy_types::pb::envoy::config::core::v3::Node;
pub use envoy_types::pb::google::protobuf::Any;
pub use resources::{Builder, Resource, Resources};
pub use types::{CDS, EDS, LDS, ORDER, RDS, SDS};

#[cfg(test)]
mod convergence;

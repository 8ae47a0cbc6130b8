//! xDS → TABLE → ANSWER: Envoy's resources are read with all their problems, compiled to a routing
//! table, and asked: which chain, which route, which endpoint, is it allowed, may it be tried again.
//!
//! Data flows one way: bytes → [`fields`] (is every field understood?) → `decode` (compiled types)
//! → [`table::RoutingTable`] → [`matcher`], [`authorize`], [`balance`], [`retry`]. Nothing here knows
//! a socket, a clock or a source of randomness: time and random numbers come in as arguments.

pub mod authorize;
pub mod balance;
mod decode;
pub mod fields;
pub mod host;
pub mod matcher;
pub mod path;
pub mod retry;
pub mod table;
pub mod types;

pub use decode::{cluster, listener, load_assignment, route_config, secret};
pub use matcher::{ConnectionView, HeadView};
pub use types::*;

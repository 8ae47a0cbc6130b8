//! The control plane: wishes in, standard xDS out.
//!
//! store.watch → [`ingest`] → World (one task owns it) → `Arc<Snapshot>` → [`translate::for_view`], which
//! is pure → [`serve`], one gRPC port for xDS and for our own link. Beside that road stand the embedded
//! CA, the recorded traffic, the Kubernetes-shaped API and DNS; all of them share one [`core::Core`].
//!
//! Nothing here knows the data plane's sockets, and the proxy's crate is never seen.

pub mod api;
pub mod authority;
pub mod bind;
pub mod clock;
pub mod config;
pub mod connections;
pub mod core;
pub mod counters;
pub mod dns;
pub mod files;
pub mod ingest;
pub mod inventory;
pub mod leases;
pub mod measure;
pub mod proxies;
pub mod query;
pub mod running;
pub mod seed;
pub mod serve;
pub mod snapshot;
pub mod translate;
pub mod vip;
pub mod workloads;
pub mod world;

pub use config::Config;
pub use core::Core;
pub use running::{Running, start};

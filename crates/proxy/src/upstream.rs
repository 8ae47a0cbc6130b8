//! The way to other services: clusters with their endpoints, connections and pools. All of it belongs to one worker.

pub mod cluster;
pub mod connect;
pub mod dns;
pub mod health;
pub mod limits;
pub mod members;
pub mod outlier;
pub mod pool;
pub mod probe;
pub mod quarantine;
pub mod tls;
pub mod tunnels;

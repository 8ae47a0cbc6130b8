//! The data plane: one proxy, as sidecar, gateway or node.
//!
//! Start reading at [`http::request`], the story of one request, then [`connection`] and [`worker`]. [`run()`] is the
//! life of the process. Requests live on workers that share nothing; xDS, identity, link and admin live on the control
//! thread, which sends the workers what changed.
//!
//! This crate never sees the control plane's code: it knows xDS and link bytes only.

pub mod access_log;
pub mod admin;
pub mod agent;
pub mod app_health;
pub mod bootstrap;
pub mod bootstrap_static;
pub mod certificates;
pub mod channel;
pub mod config;
pub mod config_feed;
pub mod connection;
pub mod connections;
pub mod cpus;
pub mod drain;
pub mod handover;
pub mod http;
pub mod link_client;
pub mod listener;
pub mod live;
pub mod lkg;
pub mod members;
pub mod meters;
pub mod net;
pub mod overload;
pub mod panics;
pub mod peer;
pub mod record;
pub mod run;
pub mod series;
pub mod static_config;
pub mod tcp;
pub mod tls_server;
pub mod trials;
pub mod trim;
pub mod udp;
pub mod upstream;
pub mod worker;
pub mod workload_api;
pub mod workload_client;
pub mod workload_name;
pub mod xds_client;

pub use config::{AppPort, Config, Control, Drain, Limits, Locality, Node, Ports, PortsWanted};
pub use run::{ProxyError, run};

//! Black-box corpora: what a proxy does with bytes that readers disagree about, that flood, or that lie.
//!
//! The proxy is met over sockets only, so these tests stay as they are when what is behind the sockets changes. The
//! origin is an [`oracle`], which audits every byte; rows are named as in the project's list of tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests stop at the first surprise, on threads of their own"
)]

#[path = "../beside/mod.rs"]
mod beside;
#[path = "../mesh/mod.rs"]
mod mesh;

mod downgrade;
mod edge;
mod floods;
mod grpc;
mod grpc_web;
mod h2;
mod h2spec;
mod http2;
mod interim;
mod ledger;
mod models;
mod oracle;
mod request_cases;
mod requests;
mod responses;
mod reuse;
mod strict;
mod trust;
mod upgrades;

//! What a policy promises, against those who would slip past it: rows S-AZ, S-TLS and S-HO of the reliability list,
//! on real sockets through whole proxies, and beside a real Envoy where the row compares.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is a failed test, also in the helpers"
)]

#[path = "../mesh/mod.rs"]
mod mesh;

mod corpus;
mod envoy;
mod hello;
mod hosts;
mod logs;
mod member;
mod models;
mod order;
mod origin;
mod paths;
mod rules;
mod tls_matrix;
mod tls_protocol;
mod trials;
mod underscores;
mod updates;

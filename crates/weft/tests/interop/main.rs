//! Real peers under our control plane: kubectl, Envoy, a gRPC client, and tshark on the wire.
//!
//! A missing peer is a failed test, unless `cargo xtask test --offline-peers` left them out aloud.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test panics; that is its answer")]

mod capture;
mod envoy;
mod grpc;
mod kubectl;

/// The binary under test.
pub const WEFT: &str = env!("CARGO_BIN_EXE_weft");

//! Real processes, real sockets, one machine: the product as its users meet it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test panics; that is its answer"
)]

mod demo;
mod dns;
mod ledger;
mod prove;
mod split;
mod stat;
mod tcp;

/// The binary under test.
pub const WEFT: &str = env!("CARGO_BIN_EXE_weft");

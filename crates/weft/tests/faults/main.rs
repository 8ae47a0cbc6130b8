//! What must hold when something breaks: a killed control plane, bad configuration, bad callers, taken ports.
//!
//! Each test has a validity guard: too little load, or a fault that did not happen, is a failure too. The
//! short form runs here; `cargo xtask soak` sets WEFT_SOAK for the stated durations.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test panics; that is its answer"
)]

mod control_kill;
mod disk_full;
mod join;
mod nack;
mod ports;
mod xds_door;

/// The binary under test.
pub const WEFT: &str = env!("CARGO_BIN_EXE_weft");

/// How often, or how long: the short form, or the stated one in a soak.
pub fn short_or_stated<T>(short: T, stated: T) -> T {
    if std::env::var_os("WEFT_SOAK").is_some() { stated } else { short }
}

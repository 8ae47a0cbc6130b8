//! Policies as operators write them, requests as strangers do.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod hostile;
mod modules;
mod noise;
mod opa_envoy;
mod opa_suite;
mod policies;
mod read_set;
mod support;
mod tokens;

//! What is proved of which bytes. The bytes are rustls's own, cut, lost, doubled and spoilt.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test panics; that is its answer"
)]

mod flows;
mod noise;
mod packets;
mod records;
mod streams;
mod talk;
mod verdict;

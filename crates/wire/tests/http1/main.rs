//! `http1` against corpora, mutations and a second reader that shares no code with it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed assertion is the answer")]

mod exchange;
mod fuzz;
mod mutations;
mod peers;
mod promises;
mod requests;
mod responses;
mod second;
mod served;
mod strict;
mod turns;

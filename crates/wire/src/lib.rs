//! Bytes to messages, without a socket or a clock.
//!
//! The proxy looks at the first bytes of a connection before it decides what the connection is. This crate makes
//! those decisions: [`detect`] says which protocol starts here, [`tls_hello`] reads the server name and the offered
//! protocols from a TLS ClientHello, [`http1`] reads and writes HTTP/1 messages. Every function takes all bytes received so far and answers with a verdict or
//! with "more bytes", so a peer that sends one byte at a time gets the same answer as one that sends all at once.
//!
//! It does not know what a listener, a route or a certificate is.

pub mod detect;
pub mod http1;
pub mod tls_hello;

pub use detect::{Protocol, detect};
pub use tls_hello::{ClientHello, HelloError};

/// The answer of a parser that has seen only a part of its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<T> {
    /// Nothing can be said yet: read more and ask again with all the bytes.
    More,
    /// The answer. More bytes will not change it.
    Done(T),
}

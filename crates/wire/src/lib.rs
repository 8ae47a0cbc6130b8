//! Bytes to messages, without a socket or a clock.
//!
//! The proxy looks at the first bytes of a connection before it decides what the connection is. This crate makes
//! those decisions: [`detect`] says which protocol starts here, [`tls_hello`] reads the server name and the offered
//! protocols from a TLS ClientHello, [`proxy_protocol`] reads and writes for whom a proxy connects, [`http1`] reads and
//! writes HTTP/1 messages, [`http2_guard`] tells when an HTTP/2 peer only keeps us busy, [`grpc_web`] makes gRPC of
//! gRPC-Web's bodies and back. A peer that sends one byte at a time gets the same answer as one that sends all at once:
//! parsers take all bytes received so far and answer with a verdict or with "more bytes".
//!
//! It does not know what a listener, a route or a certificate is.

pub mod detect;
pub mod grpc_web;
pub mod http1;
pub mod http2;
pub mod http2_guard;
pub mod proxy_protocol;
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

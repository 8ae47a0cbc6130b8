//! What a Weft proxy and its control plane say to each other, next to xDS.
//!
//! One gRPC service, `weft.link.v1.Link`, with three methods:
//! - `Join`: first contact. A join token and a CSR go in, a certificate chain and the trust bundle come out.
//!   The caller has no certificate yet, so it checks the server against the bundle inside its token.
//! - `Renew`: the same for a caller that has a valid certificate; its identity is the one of that certificate.
//! - `Connect`: the one long stream of a running proxy. Up: who it is, what it measured, that it leaves.
//!   Down: its lease, which windows are durable, new trust bundles.
//!
//! The messages are written by hand, with their field numbers in [`messages`], so that the build needs no
//! protocol compiler. This crate knows neither plane: it doesn't know what a route is, nor who may join.

pub mod client;
pub mod messages;
pub mod server;

pub use client::LinkClient;
pub use messages::*;
pub use server::{LinkServer, LinkService};

/// The gRPC name of the service; the first segment of each method's path.
pub const SERVICE_NAME: &str = "weft.link.v1.Link";

/// The largest message that either end decodes. A join is a few KiB; 1 MiB holds about 5,000 cells of one
/// window.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// How many cells a proxy puts into one [`Buckets`] message at most; a longer window is sent in several
/// sequences. With names of ordinary length and 20 duration bins a cell, this stays well below
/// [`MESSAGE_BYTES_MAX`].
pub const CELLS_MAX: usize = 1000;

/// How many connections a page of [`Connections`] has at most: also with the longest of SPIFFE ids it stays below
/// [`MESSAGE_BYTES_MAX`].
pub const CONNECTIONS_MAX: usize = 400;

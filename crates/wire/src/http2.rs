//! HTTP/2 (RFC 9113) without a socket or a clock: bytes in, events and bytes out.
//!
//! A [`Connection`] is one end of a connection. It keeps the rules of frames, streams and windows, answers what the
//! protocol wants answered, and holds what its user has not read yet, never more than its windows allow. Its user moves
//! the bytes, and decides what a request means, when somebody has waited too long, and whom to wake.
//!
//! Heads are [`http`]'s requests and answers, bodies [`Bytes`](bytes::Bytes) as they came: what goes on to another
//! connection is not copied where that would cost more than the copy.

mod connection;
mod control;
mod fields;
mod frame;
mod head;
pub mod hpack;
mod output;
mod receive;
mod send;
mod settings;
mod stream;
#[cfg(test)]
mod tests;

pub use connection::{Connection, Event, Fault, Source};
pub use frame::{PREFACE, Reason};
pub use head::{HeadError, Protocol, RequestHead};
pub use output::Output;
pub use send::{OpenError, Read, Room};
pub use settings::{Config, Role};
pub use stream::{Key, RECEIVING, SENDING, StreamError};

//! HTTP/1.1 and HTTP/1.0 as bytes: both roles, without a socket or a clock.
//!
//! A head is read in place: [`RequestHead`] and [`ResponseHead`] keep ranges into the caller's buffer, and with them all
//! that framing and connection need, so that nobody looks a header up for that. [`Framing`] says where the body ends,
//! [`Body`] finds it in the buffer, [`HeadWriter`] writes the next hop's head from the ranges and the edits, and
//! [`ServerTurn`] and [`ClientTurn`] say what the connection is good for afterwards.
//!
//! Reading is to the letter of RFC 9110 and RFC 9112 wherever two readers could differ: such a message is refused with a
//! [`Refusal`]. What is left is written in one form only. The same bytes have the same verdict however they arrive.
//! Nothing here allocates once the caller's objects have served a message of the same size.
//!
//! A proxy's task does this (`tests/http1/exchange.rs` runs it):
//!
//! ```text
//! loop {
//!     head.restart();
//!     let used = loop {                                             // one buffer, head.. body..
//!         match head.read(&buffer, &limits) {
//!             Ok(Progress::Done(used)) => break used,
//!             Ok(Progress::More) => read_into(&mut buffer),         // its end: close
//!             Err(refusal) => return answer(refusal.status()),      // and close
//!         }
//!     };
//!     let mut turn = ServerTurn::new(&head);
//!     let mut client = ClientTurn::new(head.asked(false), &limits);
//!     // Route by head.method(), head.authority_span(), head.path(..), head.fields(); then:
//!     let mut writer = HeadWriter::request(&mut out, method, path, authority)?;
//!     writer.copy(head.fields(), &buffer, head.announce(), |line| match line.id() {
//!         FieldId::XForwardedClientCert => Edit::Drop,              // said by us alone
//!         _ => Edit::Keep,
//!     })?;
//!     writer.field(b"x-forwarded-client-cert", caller)?;
//!     writer.hop(Hop { trailers: head.takes_trailers(), ..Hop::default() })?;
//!     writer.finish();
//!     body.restart(head.framing());
//!     loop {
//!         match body.next(&buffer[used..], &limits)? {
//!             Part::Data(range) => write_vectored([&out, chunk_head, &buffer[used..][range], CHUNK_END]),
//!             Part::More(more) if more > 0 => used += more,         // go on with the rest
//!             Part::More(_) => read_into(&mut buffer),              // keeps what is not used
//!             Part::End(more) => { used += more; break }            // then BODY_END or write_trailers
//!         }
//!     }
//!     turn.request_ended(); client.request_ended();
//!     // Responses likewise: ResponseHead::read with client.asked(), client.head(&response)?, interim ones again;
//!     // turn.answer(response.framing(), response.announce(), draining) says how to write it. An upstream goes back to
//!     // its pool if client.may_reuse(bytes left); turn.then() says what follows on this side.
//! }
//! ```
//!
//! `Date` and `Server` are not invented, and header case is kept. Paths are given as sent: making them canonical is
//! routing's work.

pub mod limits;
pub mod refusal;

mod body;
mod chunk;
mod field;
mod framing;
mod name;
mod request;
mod response;
mod scan;
mod semantics;
mod turn;
mod write;

pub use body::{Body, Part};
pub use chunk::{BODY_END, CHUNK_END, ChunkHead};
pub use field::{Field, Fields, Span};
pub use framing::{Announce, Asked, Framing};
pub use limits::Limits;
pub use name::FieldId;
pub use refusal::Refusal;
pub use request::{Form, Method, RequestHead, Version};
pub use response::ResponseHead;
pub use turn::{Answer, ClientTurn, ServerTurn, Then};
pub use write::{Edit, HeadWriter, Hop, Line, Persist, Unwritable, write_trailers};

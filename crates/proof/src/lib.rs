//! Is every byte between members encrypted? Decided from packets, without a socket.
//!
//! Packets go in as bytes ([`packet`]); those of hops ([`scope`]) become flows ([`flow`]), whose two directions are put
//! together by sequence numbers ([`stream`]) and walked TLS record by TLS record ([`record`]) from the first byte. What
//! the handshake says is read from it ([`hello`]). Then each flow is looked up in the lists of connections that the
//! proxies gave, and judged ([`judge`]); the answer is a [`report`].
//!
//! Nothing here believes a packet: whatever bytes come, the answer is a count. In doubt it is not the count of what is
//! proved. This crate does not know how packets are captured nor how proxies are asked.

pub mod flow;
pub mod hello;
pub mod judge;
pub mod names;
pub mod packet;
pub mod record;
pub mod report;
pub mod scope;
pub mod stream;

pub use flow::{Flow, Table};
pub use judge::judge;
pub use packet::Segment;
pub use report::{Capture, Report};
pub use scope::{Member, Scope};

//! Sockets: how ports are taken, how a connection's first bytes are looked at, where captured traffic was going.

pub mod descriptors;
pub mod original_dst;
pub mod prefixed;
pub mod proxy_header;
pub mod reserve;

pub use prefixed::Prefixed;
pub use reserve::{Ipv4, PortTaken, Reserved, datagrams, reserve, reserve_datagrams};

//! Connections whose bytes are not looked at: TCP services, TLS pass-through, tunnels and upgrades.

pub mod copy;
pub mod pipe;
pub mod proxy;
pub mod tunnel;
pub mod tunnel_server;

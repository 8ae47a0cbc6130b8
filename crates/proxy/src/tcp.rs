//! Connections whose bytes are not looked at: TCP services, TLS pass-through, tunnels and upgrades.

pub mod copy;
pub mod proxy;

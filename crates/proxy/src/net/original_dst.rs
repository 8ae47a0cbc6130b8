//! Where a redirected connection wanted to go, before the kernel's NAT sent it here.

use std::{net::SocketAddr, os::fd::AsFd};

use socket2::SockRef;

/// The destination before redirection; `None` when the connection was made to us directly.
pub fn original_dst(socket: &impl AsFd, local: SocketAddr) -> Option<SocketAddr> {
    let socket = SockRef::from(socket);
    let found = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    let address = found.ok()?.as_socket()?;
    (address != local).then_some(address)
}

//! Takes a port once, exclusively, then shares it between this process's workers.
//!
//! `SO_REUSEPORT` alone would let a second proxy of the same user bind the same port and steal half of the
//! connections without a word. So the first socket binds and listens **without** the option, which the kernel refuses
//! when anybody else holds the port, and only then permits the other workers' sockets to join it.
//!
//! Linux's limit to that: with several workers, a process of the **same user** that asks for `SO_REUSEPORT` itself (an
//! Envoy does, a second proxy of ours does not) may join later. One worker's port is closed to everybody.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// How many connections the kernel may keep for one worker before they are accepted.
const BACKLOG: i32 = 4096;

/// Why a port could not be taken, as one sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum PortTaken {
    #[error("port {address} is taken by another process; stop it, or choose another port for {purpose}")]
    Taken { address: SocketAddr, purpose: String },
    #[error("cannot listen on {address} for {purpose}")]
    Refused {
        address: SocketAddr,
        purpose: String,
        #[source]
        source: io::Error,
    },
}

/// One listening socket for each worker, all on one address.
#[derive(Debug)]
pub struct Reserved {
    /// The address with the port that the kernel chose, if 0 was asked.
    pub address: SocketAddr,
    pub sockets: Vec<TcpListener>,
}

/// Listens on `address` with `workers` sockets. `purpose` is for the error sentence ("outbound traffic").
pub fn reserve(address: SocketAddr, workers: usize, purpose: &str) -> Result<Reserved, PortTaken> {
    let explain = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => PortTaken::Taken { address, purpose: purpose.to_owned() },
        _ => PortTaken::Refused { address, purpose: purpose.to_owned(), source },
    };
    let first = listening(address, false).map_err(explain)?;
    let address = first.local_addr().map_err(explain)?;
    let mut sockets = Vec::with_capacity(workers.max(1));
    if workers > 1 {
        let shared = Socket::from(first);
        shared.set_reuse_port(true).map_err(explain)?;
        sockets.push(shared.into());
        for _ in 1..workers {
            sockets.push(listening(address, true).map_err(explain)?);
        }
    } else {
        sockets.push(first);
    }
    Ok(Reserved { address, sockets })
}

fn listening(address: SocketAddr, share: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the old connections' TIME_WAIT; listening sockets conflict all the same.
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn workers_share_one_port() {
        let reserved = reserve(ANY, 3, "a test").unwrap();
        assert_eq!(reserved.sockets.len(), 3);
        for socket in &reserved.sockets {
            assert_eq!(socket.local_addr().unwrap(), reserved.address);
        }
    }

    #[test]
    fn second_process_gets_one_sentence() {
        for workers in [1, 2] {
            let first = reserve(ANY, workers, "inbound traffic").unwrap();
            let second = reserve(first.address, workers, "outbound traffic").unwrap_err();
            assert_eq!(
                second.to_string(),
                format!(
                    "port {} is taken by another process; stop it, or choose another port for outbound traffic",
                    first.address
                )
            );
        }
    }

    #[test]
    fn holder_with_reuse_port_is_seen_too() {
        let other = listening(ANY, true).unwrap();
        assert!(matches!(reserve(other.local_addr().unwrap(), 2, "x"), Err(PortTaken::Taken { .. })));
    }
}

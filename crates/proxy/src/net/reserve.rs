//! Takes a port once, exclusively; this process's workers share the one socket.
//!
//! `SO_REUSEPORT` would let any process of the same user bind the same port, now or later, and get a share of the
//! connections without a word: an app could so take calls that are meant for its proxy. So there is one listening
//! socket, without the option, and each worker has a descriptor of it. A new connection wakes the workers that are
//! idle, and the first takes it: a busy worker gets none, and the price is a wake-up for nothing now and then.

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

/// One descriptor of the listening socket for each worker.
#[derive(Debug)]
pub struct Reserved {
    /// The address with the port that the kernel chose, if 0 was asked.
    pub address: SocketAddr,
    pub sockets: Vec<TcpListener>,
}

/// Listens on `address` for `workers`. `purpose` is for the error sentence ("outbound traffic").
pub fn reserve(address: SocketAddr, workers: usize, purpose: &str) -> Result<Reserved, PortTaken> {
    let explain = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => PortTaken::Taken { address, purpose: purpose.to_owned() },
        _ => PortTaken::Refused { address, purpose: purpose.to_owned(), source },
    };
    let socket = listening(address).map_err(explain)?;
    let address = socket.local_addr().map_err(explain)?;
    let mut sockets = Vec::with_capacity(workers.max(1));
    for _ in 1..workers {
        sockets.push(socket.try_clone().map_err(explain)?);
    }
    sockets.push(socket);
    Ok(Reserved { address, sockets })
}

fn listening(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the old connections' TIME_WAIT; listening sockets conflict all the same.
    socket.set_reuse_address(true)?;
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

    /// What anybody may do who wants a share of a port.
    fn sharing(address: SocketAddr) -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(1)?;
        Ok(socket.into())
    }

    #[test]
    fn nobody_joins_a_port_by_reuse_port() {
        for workers in [1, 2] {
            let ours = reserve(ANY, workers, "inbound traffic").unwrap();
            let joined = sharing(ours.address).map(|_| ()).map_err(|error| error.kind());
            assert_eq!(joined, Err(io::ErrorKind::AddrInUse), "{workers} workers");
        }
        // The other way round: that the attempt above can succeed at all.
        let theirs = sharing(ANY).unwrap();
        assert!(sharing(theirs.local_addr().unwrap()).is_ok());
        assert!(matches!(reserve(theirs.local_addr().unwrap(), 2, "x"), Err(PortTaken::Taken { .. })));
    }
}

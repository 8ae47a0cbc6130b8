//! The first bind of a port is exclusive: no `SO_REUSEPORT`, and a port that somebody else holds is
//! one sentence that names it, before anything else starts.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait for `accept`.
const BACKLOG: i32 = 1024;

/// A port that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("port {} ({what}, {address}) is taken: stop what listens there, or choose another with --{flag}", address.port())]
    Taken {
        /// What was to listen there.
        what: &'static str,
        /// The flag that moves it.
        flag: &'static str,
        /// Where.
        address: SocketAddr,
    },
    /// Not ours to bind, no such address, …
    #[error("listen on {address} for {what}")]
    Refused {
        /// What was to listen there.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// The system's word.
        #[source]
        source: io::Error,
    },
}

fn explain(what: &'static str, flag: &'static str, address: SocketAddr, source: io::Error) -> BindError {
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::Taken { what, flag, address },
        _ => BindError::Refused { what, address, source },
    }
}

/// A listening TCP socket, not blocking.
pub fn tcp(what: &'static str, flag: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    let open = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Only so that a restart needn't wait for TIME_WAIT; a live listener still refuses us.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    open().map_err(|source| explain(what, flag, address, source))
}

/// A TCP and a UDP socket on one port; with port 0 the one that the system chose for TCP.
pub fn tcp_and_udp(
    what: &'static str,
    flag: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, UdpSocket), BindError> {
    const TRIES: usize = 16;
    for attempt in 1.. {
        let stream = tcp(what, flag, address)?;
        let chosen = stream.local_addr().map_err(|source| explain(what, flag, address, source))?;
        let open = || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind(chosen)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        match open() {
            Ok(packets) => return Ok((stream, packets)),
            // The system's choice for TCP may be taken for UDP; ask for another.
            Err(_) if address.port() == 0 && attempt < TRIES => {}
            Err(source) => return Err(explain(what, flag, chosen, source)),
        }
    }
    unreachable!("the last try returns")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_one_sentence_that_names_it() {
        let first = tcp("API", "api", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let text = tcp("API", "api", address).unwrap_err().to_string();
        assert!(text.starts_with(&format!("port {} (API, {address}) is taken", address.port())), "{text}");
        assert!(!text.contains('\n'));
    }

    #[test]
    fn tcp_and_udp_share_a_chosen_port() {
        let (stream, packets) = tcp_and_udp("DNS", "dns", "127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(stream.local_addr().unwrap(), packets.local_addr().unwrap());
    }
}

//! Takes a port once, exclusively.
//!
//! `SO_REUSEPORT` would let any process of the same user bind the same port, now or later, and get a share of the
//! connections without a word: an app could so take calls that are meant for its proxy. So there is one listening
//! socket, without the option. One worker accepts from it and deals the connections out, see [`crate::handover`].

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// How many connections the kernel may keep before they are accepted.
const BACKLOG: i32 = 4096;

/// A silent client whose machine is gone is found within 90 s, and not when an idle timeout of hours ends.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

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

/// A listening socket.
#[derive(Debug)]
pub struct Reserved {
    /// The address with the port that the kernel chose, if 0 was asked.
    pub address: SocketAddr,
    pub socket: TcpListener,
}

/// Whether a socket on `::` has the port's IPv4 too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv4 {
    /// As the system does it, for the operator's own addresses.
    AsSystem,
    Too,
    /// So that a listener on `0.0.0.0` may have it.
    LeftAlone,
}

impl Ipv4 {
    /// As a listener's configuration says it.
    pub fn of_listener(ipv4_compat: bool) -> Ipv4 {
        if ipv4_compat { Ipv4::Too } else { Ipv4::LeftAlone }
    }

    fn apply(self, socket: &Socket, address: SocketAddr) -> io::Result<()> {
        if self == Ipv4::AsSystem || address.is_ipv4() {
            return Ok(());
        }
        socket.set_only_v6(self == Ipv4::LeftAlone)
    }
}

/// Listens on `address`. `purpose` is for the error sentence ("outbound traffic").
pub fn reserve(address: SocketAddr, ipv4: Ipv4, purpose: &str) -> Result<Reserved, PortTaken> {
    let explain = |source| explained(source, address, purpose);
    let socket = listening(address, ipv4).map_err(explain)?;
    let address = socket.local_addr().map_err(explain)?;
    Ok(Reserved { address, socket })
}

/// Opens a socket for datagrams. They are taken once a configuration has a listener for them, and an address that can't
/// be had would then hold that configuration up.
pub fn reserve_datagrams(address: SocketAddr) -> Result<std::net::UdpSocket, PortTaken> {
    datagrams(address, Ipv4::AsSystem).map_err(|source| explained(source, address, "datagrams"))
}

/// A socket for datagrams.
pub fn datagrams(address: SocketAddr, ipv4: Ipv4) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    ipv4.apply(&socket, address)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn explained(source: io::Error, address: SocketAddr, purpose: &str) -> PortTaken {
    match source.kind() {
        io::ErrorKind::AddrInUse => PortTaken::Taken { address, purpose: purpose.to_owned() },
        _ => PortTaken::Refused { address, purpose: purpose.to_owned(), source },
    }
}

fn listening(address: SocketAddr, ipv4: Ipv4) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    ipv4.apply(&socket, address)?;
    // A restart must not wait for the old connections' TIME_WAIT; listening sockets conflict all the same.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Connections have it from their listening socket, without a call for each.
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn second_process_gets_one_sentence() {
        let first = reserve(ANY, Ipv4::AsSystem, "inbound traffic").unwrap();
        let second = reserve(first.address, Ipv4::AsSystem, "outbound traffic").unwrap_err();
        assert_eq!(
            second.to_string(),
            format!(
                "port {} is taken by another process; stop it, or choose another port for outbound traffic",
                first.address
            )
        );
    }

    #[test]
    fn datagrams_of_another_process_get_one_sentence() {
        let first = std::net::UdpSocket::bind(ANY).unwrap();
        let taken = first.local_addr().unwrap();
        assert_eq!(
            reserve_datagrams(taken).unwrap_err().to_string(),
            format!(
                "port {taken} is taken by another process; stop it, or choose another port for datagrams"
            )
        );
        drop(first);
        assert!(reserve_datagrams(taken).is_ok());
    }

    #[test]
    fn accepted_connections_are_probed() {
        let ours = reserve(ANY, Ipv4::AsSystem, "inbound traffic").unwrap();
        let _client = std::net::TcpStream::connect(ours.address).unwrap();
        ours.socket.set_nonblocking(false).unwrap();
        let (accepted, _) = ours.socket.accept().unwrap();
        assert!(socket2::SockRef::from(&accepted).keepalive().unwrap());
    }

    #[test]
    fn ipv4_of_a_port_is_left_to_another_listener_unless_asked() {
        let (any, all): (SocketAddr, SocketAddr) =
            ("[::]:0".parse().unwrap(), (std::net::Ipv4Addr::UNSPECIFIED, 0).into());
        for (ipv4, left) in [(Ipv4::LeftAlone, true), (Ipv4::Too, false)] {
            let ours = reserve(any, ipv4, "listener six").unwrap();
            let four = SocketAddr::new(all.ip(), ours.address.port());
            assert_eq!(reserve(four, ipv4, "listener four").is_ok(), left, "{ipv4:?}");
            let ours = datagrams(any, ipv4).unwrap();
            let four = SocketAddr::new(all.ip(), ours.local_addr().unwrap().port());
            assert_eq!(datagrams(four, ipv4).is_ok(), left, "{ipv4:?}, datagrams");
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
        let ours = reserve(ANY, Ipv4::AsSystem, "inbound traffic").unwrap();
        let joined = sharing(ours.address).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(joined, Err(io::ErrorKind::AddrInUse));
        // The other way round: that the attempt above can succeed at all.
        let theirs = sharing(ANY).unwrap();
        assert!(sharing(theirs.local_addr().unwrap()).is_ok());
        assert!(matches!(
            reserve(theirs.local_addr().unwrap(), Ipv4::AsSystem, "x"),
            Err(PortTaken::Taken { .. })
        ));
    }
}

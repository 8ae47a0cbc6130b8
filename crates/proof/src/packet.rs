//! One TCP segment of an IP packet.

use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

/// What a packet says of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub sequence: u32,
    pub syn: bool,
    pub ack: bool,
    pub payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads a packet from its IP header on; `None` if there is no whole TCP header in it. Lengths of zero, as packets
    /// have that the kernel joined for itself, mean all there is.
    pub fn parse(packet: &'a [u8]) -> Option<Segment<'a>> {
        let sliced = LaxSlicedPacket::from_ip(packet).ok()?;
        let (from, to): (IpAddr, IpAddr) = match &sliced.net {
            Some(LaxNetSlice::Ipv4(ip)) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            Some(LaxNetSlice::Ipv6(ip)) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            _ => return None,
        };
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { return None };
        Some(Segment {
            from: SocketAddr::new(from.to_canonical(), tcp.source_port()),
            to: SocketAddr::new(to.to_canonical(), tcp.destination_port()),
            sequence: tcp.sequence_number(),
            syn: tcp.syn(),
            ack: tcp.ack(),
            payload: tcp.payload(),
        })
    }
}

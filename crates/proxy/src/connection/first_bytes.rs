//! What a connection's first bytes say: for the choice of a chain, and of the codec.

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
    time::timeout,
};
use weft_routing::{Codec, HttpConfig, Listener, TransportProtocol};
use weft_wire::{Progress, Protocol, tls_hello};

use super::Stream;
use crate::{http::h1, peer::Peer};

/// Unless the listener says otherwise.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(5);

/// What the first bytes said.
pub(super) struct Seen {
    pub transport: TransportProtocol,
    pub server_name: Option<String>,
    pub alpn: Vec<Vec<u8>>,
}

/// Looks at the first bytes if a chain's choice needs them.
pub(super) async fn inspect(
    listener: &Listener,
    stream: &mut TcpStream,
    first: &mut BytesMut,
) -> io::Result<Seen> {
    let raw = || Seen { transport: TransportProtocol::RawBuffer, server_name: None, alpn: Vec::new() };
    let chains = || listener.chains.iter().chain(&listener.default_chain);
    let needed = listener.tls_inspector
        || listener.http_inspector
        || chains().any(|chain| {
            let wants = &chain.matches;
            wants.transport_protocol.is_some()
                || !wants.server_names.is_empty()
                || !wants.application_protocols.is_empty()
        });
    if !needed {
        // A lone TLS chain needs no look: its handshake tells.
        let tls = chains().all(|chain| chain.tls.is_some());
        let transport = if tls { TransportProtocol::Tls } else { TransportProtocol::RawBuffer };
        return Ok(Seen { transport, ..raw() });
    }
    match timeout(first_bytes_timeout(listener), look(stream, first)).await {
        Ok(seen) => seen,
        // The server speaks first, perhaps.
        Err(_) if listener.continue_on_listener_filters_timeout => Ok(raw()),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

pub(super) fn first_bytes_timeout(listener: &Listener) -> Duration {
    listener.listener_filters_timeout.filter(|limit| !limit.is_zero()).unwrap_or(FIRST_BYTES_TIMEOUT)
}

async fn look(stream: &mut TcpStream, first: &mut BytesMut) -> io::Result<Seen> {
    loop {
        let plain = |alpn: &[u8]| Seen {
            transport: TransportProtocol::RawBuffer,
            server_name: None,
            alpn: vec![alpn.to_vec()],
        };
        match weft_wire::detect(first) {
            Progress::Done(Protocol::Http1) => return Ok(plain(b"http/1.1")),
            Progress::Done(Protocol::Http2) => return Ok(plain(b"h2c")),
            Progress::Done(Protocol::Other) => return Ok(Seen { alpn: Vec::new(), ..plain(b"") }),
            Progress::Done(Protocol::Tls) => match tls_hello::parse(first) {
                Ok(Progress::Done(hello)) => {
                    return Ok(Seen {
                        transport: TransportProtocol::Tls,
                        server_name: hello.server_name,
                        alpn: hello.alpn,
                    });
                }
                Ok(Progress::More) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            },
            Progress::More => {}
        }
        read_more(stream, first).await?;
    }
}

pub async fn read_more<T: AsyncRead + Unpin>(io: &mut T, first: &mut BytesMut) -> io::Result<()> {
    first.reserve(2048);
    match io.read_buf(first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Whether HTTP/2 is spoken; `None`: nothing was, in time.
pub(super) async fn takes_h2(
    peer: &Peer,
    config: &HttpConfig,
    io: &mut Stream,
    first: &mut BytesMut,
    agreed: Option<bool>,
) -> Option<bool> {
    match (config.codec, agreed) {
        (Codec::Http2, _) | (Codec::Auto, Some(true)) => Some(true),
        (Codec::Http1, _) | (Codec::Auto, Some(false)) => Some(false),
        // A client may open a connection long before it speaks.
        (Codec::Auto, None) => tokio::select! {
            h2 = timeout(h1::idle_timeout(config), speaks_h2(io, first)) => h2.ok()?.ok(),
            () = peer.drain.out_of_patience() => None,
        },
    }
}

async fn speaks_h2<T: AsyncRead + Unpin>(io: &mut T, first: &mut BytesMut) -> io::Result<bool> {
    loop {
        match weft_wire::detect(first) {
            Progress::Done(protocol) => return Ok(protocol == Protocol::Http2),
            Progress::More if first.len() >= weft_wire::detect::LINE_BYTES_MAX => return Ok(false),
            Progress::More => read_more(io, first).await?,
        }
    }
}

//! Opens a connection to an endpoint: TCP, then TLS if the cluster says so, each within the connect timeout.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use weft_routing::{Cluster, ProxyVersion, TcpKeepalive};
use weft_wire::proxy_protocol::{self, Addresses, Version};

use crate::{
    connections::{self, Listed},
    http::{h1::io::Io, h2::codec},
    members::{Members, Tie, Tied},
    net::descriptors::Descriptors,
    peer::Peer,
};

/// How TLS is spoken to a cluster's endpoints.
#[derive(Clone)]
pub struct TlsSettings {
    pub config: Arc<rustls::ClientConfig>,
    pub server_name: ServerName<'static>,
    /// The endpoints are members: a connection is good for as long as its member's certificate is.
    pub members: Option<Arc<Members>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("connect to {address}: no answer within {timeout:?}")]
    Timeout { address: SocketAddr, timeout: Duration },
    #[error("connect to {address}")]
    Tcp {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// The other side refused us, or we refused it: wrong identity, expired, unknown issuer, no TLS.
    #[error("TLS with {address}: {source}")]
    Tls {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// The cluster's limits, or the process's.
    #[error("there are as many connections as there may be")]
    Overflow,
    #[error("the proxy has no certificate yet")]
    NoCertificate,
    #[error("TLS settings of the cluster: {reason}")]
    Settings { reason: String },
    #[error("a tunnel by {address}")]
    Tunnel {
        address: SocketAddr,
        #[source]
        source: codec::Error,
    },
    /// The other proxy's word: denied, or it does not reach its app.
    #[error("a tunnel by {address} was refused with {status}")]
    Refused { address: SocketAddr, status: http::StatusCode },
}

/// A connection to an endpoint.
pub enum Stream {
    Plain(TcpStream, Option<Listed>),
    Tls(Box<Secured>),
}

/// One with TLS, and its entry in the process's list.
pub struct Secured {
    tls: Tied<TlsStream<TcpStream>>,
    _listed: Option<Listed>,
}

/// How a cluster's connections are opened.
#[derive(Clone, Copy)]
pub struct Dial {
    pub timeout: Duration,
    pub keepalive: Option<TcpKeepalive>,
    /// How long sent bytes may stay without the other kernel's word. Only for a peer that always reads: a full window
    /// counts as silence too.
    pub unanswered_max: Option<Duration>,
    /// A PROXY header to begin with, and for whom.
    pub header: Option<(ProxyVersion, Option<Addresses>)>,
}

/// An idle connection to a machine that is gone is found within 20 s.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    probes: Some(3),
    time: Some(Duration::from_secs(10)),
    interval: Some(Duration::from_secs(3)),
};

/// ENFILE and EMFILE: the endpoint has nothing to do with it.
const OUR_OWN: [i32; 2] = [23, 24];

impl Dial {
    pub fn of(cluster: &Cluster) -> Dial {
        Dial {
            timeout: cluster.connect_timeout,
            keepalive: cluster.tcp_keepalive,
            unanswered_max: None,
            // Nobody's: a health check.
            header: cluster.proxy_protocol.map(|version| (version, None)),
        }
    }

    /// The connection is for this caller alone, and its PROXY header says so.
    pub fn for_caller(self, peer: &Peer) -> Dial {
        let addresses = peer.told.as_deref().copied();
        let addresses = addresses.unwrap_or(Addresses { source: peer.direct, destination: peer.destination });
        Dial { header: self.header.map(|(version, _)| (version, Some(addresses))), ..self }
    }

    /// Refuses connections that requests or tunnels of several callers would share.
    pub fn shared(cluster: &Cluster) -> Result<Dial, ConnectError> {
        if cluster.proxy_protocol.is_some() {
            let reason = "it begins connections with a PROXY header, which names one caller; \
                          HTTP requests of many share them"
                .to_owned();
            return Err(ConnectError::Settings { reason });
        }
        Ok(Dial::of(cluster))
    }
}

/// Opens one connection. The timeout holds for TCP and TLS together.
pub async fn connect(
    address: SocketAddr,
    tls: Option<&TlsSettings>,
    dial: Dial,
) -> Result<Stream, ConnectError> {
    let timeout = dial.timeout;
    let opening = async {
        let mut tcp = TcpStream::connect(address).await.map_err(|source| match source.raw_os_error() {
            Some(code) if OUR_OWN.contains(&code) => ConnectError::Overflow,
            _ => ConnectError::Tcp { address, source },
        })?;
        if !Descriptors::of_process().may_connect(&tcp) {
            return Err(ConnectError::Overflow);
        }
        // Heads and small bodies are written whole; waiting for more would only add latency.
        let _ = tcp.set_nodelay(true);
        keep_alive(&tcp, dial.keepalive.as_ref().unwrap_or(&KEEPALIVE));
        if let Some(unanswered_max) = dial.unanswered_max {
            limit_unanswered(&tcp, unanswered_max);
        }
        if let Some((version, addresses)) = dial.header {
            let version = match version {
                ProxyVersion::V1 => Version::V1,
                ProxyVersion::V2 => Version::V2,
            };
            let header = proxy_protocol::header(version, addresses);
            tcp.write_all(&header).await.map_err(|source| ConnectError::Tcp { address, source })?;
        }
        let listed = connections::opened_by_us(&tcp);
        let Some(tls) = tls else {
            return Ok(Stream::Plain(tcp, listed));
        };
        let connector = TlsConnector::from(Arc::clone(&tls.config));
        let stream = connector
            .connect(tls.server_name.clone(), tcp)
            .await
            .map_err(|source| ConnectError::Tls { address, source })?;
        let chain = stream.get_ref().1.peer_certificates();
        let tie = tls.members.as_ref().map(|members| members.tie(chain)).transpose().map_err(|refusal| {
            let source = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::from(refusal));
            ConnectError::Tls { address, source }
        })?;
        Ok(Stream::secured(stream, tie, listed))
    };
    tokio::time::timeout(timeout, opening).await.unwrap_or(Err(ConnectError::Timeout { address, timeout }))
}

/// Probes of an idle connection; what is not said is the system's.
fn keep_alive(tcp: &TcpStream, wanted: &TcpKeepalive) {
    let mut probes = socket2::TcpKeepalive::new();
    if let Some(time) = wanted.time {
        probes = probes.with_time(time);
    }
    if let Some(interval) = wanted.interval {
        probes = probes.with_interval(interval);
    }
    if let Some(count) = wanted.probes {
        probes = probes.with_retries(count);
    }
    if let Err(error) = socket2::SockRef::from(tcp).set_tcp_keepalive(&probes) {
        tracing::debug!(%error, "keep-alive probes cannot be set");
    }
}

fn limit_unanswered(tcp: &TcpStream, limit: Duration) {
    let _ = socket2::SockRef::from(tcp).set_tcp_user_timeout(Some(limit));
}

impl Stream {
    /// Of a connection that has shaken hands.
    pub fn secured(tls: TlsStream<TcpStream>, tie: Option<Tie>, listed: Option<Listed>) -> Stream {
        if let Some(listed) = &listed {
            listed.secured(tls.get_ref().1);
        }
        Stream::Tls(Box::new(Secured { tls: Tied::new(tls, tie), _listed: listed }))
    }

    /// As [`Dial::unanswered_max`], once it is known that the peer always reads.
    pub fn limit_unanswered(&self, limit: Duration) {
        match self {
            Stream::Plain(stream, _) => limit_unanswered(stream, limit),
            Stream::Tls(stream) => limit_unanswered(stream.tls.io().get_ref().0, limit),
        }
    }

    /// Whether the peer chose HTTP/2 by ALPN.
    pub fn negotiated_h2(&self) -> bool {
        matches!(self, Stream::Tls(stream) if stream.tls.io().get_ref().1.alpn_protocol() == Some(b"h2"))
    }
}

impl Io for Stream {
    /// TLS has an end of its own, which is not said then.
    fn abort(&self) {
        match self {
            Stream::Plain(stream, _) => stream.abort(),
            Stream::Tls(stream) => stream.tls.io().get_ref().0.abort(),
        }
    }

    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Stream::Plain(stream, _) => Some(stream),
            Stream::Tls(_) => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream, _) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(&mut stream.tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream, _) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(&mut stream.tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream, _) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(&mut stream.tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(&mut stream.tls).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream, _) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(&mut stream.tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

//! What a connection's first bytes say: for the choice of a chain, and of the codec.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use weft_routing::{Codec, FilterChain, HttpConfig, Listener, TransportProtocol};
use weft_wire::{
    Progress, Protocol,
    detect::{is_http2, is_tls},
    tls_hello,
};

use super::Stream;
use crate::{
    http::{life::Life, quiet::Watch},
    peer::Peer,
};

/// Unless the listener says otherwise.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(5);
/// Mostly the whole of what a client says first.
const READ_BYTES: usize = 2048;

/// What the first bytes said.
pub(super) struct Seen {
    pub transport: TransportProtocol,
    pub server_name: Option<String>,
    pub alpn: Vec<Vec<u8>>,
    /// Nothing came for as long as the listener waits.
    pub silent: bool,
}

impl Seen {
    fn raw() -> Seen {
        Seen { transport: TransportProtocol::RawBuffer, server_name: None, alpn: Vec::new(), silent: false }
    }

    fn http(version: &[u8]) -> Seen {
        Seen { alpn: vec![version.to_vec()], ..Seen::raw() }
    }
}

/// Looks at the first bytes if a chain's choice needs them.
pub(super) async fn inspect(
    listener: &Listener,
    stream: &mut TcpStream,
    first: &mut BytesMut,
) -> io::Result<Seen> {
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
        return Ok(Seen { transport, ..Seen::raw() });
    }
    let mut in_clear = chains().filter(|chain| may_be_in_clear(chain)).peekable();
    let takes_clear = in_clear.peek().is_some();
    let http =
        listener.http_inspector || in_clear.any(|chain| !chain.matches.application_protocols.is_empty());
    let goes_on = listener.continue_on_listener_filters_timeout;
    let mut looked = timeout(first_bytes_timeout(listener), look(stream, first, http)).await;
    if looked.is_err() && goes_on && !first.is_empty() {
        // The time was for those who wait for the server to speak.
        looked = timeout(FIRST_BYTES_TIMEOUT, look(stream, first, http)).await;
    }
    let may_be_raw = first.is_empty() || is_tls(first) == Progress::Done(false);
    match looked {
        // A client may have said all that it has to say. Who has said nothing, where nothing is taken in the clear, has
        // looked whether somebody is here.
        Ok(Err(error))
            if error.kind() == io::ErrorKind::UnexpectedEof && is_tls(first) != Progress::Done(true) =>
        {
            if first.is_empty() && !takes_clear {
                Err(error)
            } else {
                Ok(Seen::raw())
            }
        }
        Ok(seen) => seen,
        // The server speaks first, perhaps.
        Err(_) if goes_on && may_be_raw => Ok(Seen { silent: first.is_empty(), ..Seen::raw() }),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Looks again at a connection that was silent, where the server does not speak first either: it may be TLS after all.
pub(super) async fn inspect_late(stream: &mut TcpStream, first: &mut BytesMut) -> io::Result<Seen> {
    let http = true;
    timeout(FIRST_BYTES_TIMEOUT, look(stream, first, http)).await.unwrap_or_else(|_| Ok(Seen::raw()))
}

/// Whether the chain takes anything but TLS.
fn may_be_in_clear(chain: &FilterChain) -> bool {
    let wants = &chain.matches;
    chain.tls.is_none()
        && wants.transport_protocol != Some(TransportProtocol::Tls)
        && wants.server_names.is_empty()
}

/// What is said for those who wait for the server to speak is none of a balancer's, which speaks first.
pub(super) fn proxy_header_timeout(listener: &Listener) -> Duration {
    let limit = first_bytes_timeout(listener);
    if listener.continue_on_listener_filters_timeout { limit.max(FIRST_BYTES_TIMEOUT) } else { limit }
}

fn first_bytes_timeout(listener: &Listener) -> Duration {
    listener.listener_filters_timeout.filter(|limit| !limit.is_zero()).unwrap_or(FIRST_BYTES_TIMEOUT)
}

/// `http`: a chain's choice needs more than whether it is TLS.
async fn look(stream: &mut TcpStream, first: &mut BytesMut, http: bool) -> io::Result<Seen> {
    loop {
        let protocol = match is_tls(first) {
            Progress::Done(false) if !http => Progress::Done(Protocol::Other),
            _ => weft_wire::detect(first),
        };
        match protocol {
            Progress::Done(Protocol::Http1) => return Ok(Seen::http(b"http/1.1")),
            Progress::Done(Protocol::Http2) => return Ok(Seen::http(b"h2c")),
            Progress::Done(Protocol::Other) => return Ok(Seen::raw()),
            Progress::Done(Protocol::Tls) => match tls_hello::parse(first) {
                Ok(Progress::Done(hello)) => {
                    return Ok(Seen {
                        transport: TransportProtocol::Tls,
                        server_name: hello.server_name,
                        alpn: hello.alpn,
                        silent: false,
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
    match poll_fn(|cx| poll_more(io, first, cx)).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Who waits holds no room for what may come.
fn poll_more<T: AsyncRead + Unpin>(
    io: &mut T,
    first: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut room = [MaybeUninit::uninit(); READ_BYTES];
    let mut room = ReadBuf::uninit(&mut room);
    ready!(Pin::new(io).poll_read(cx, &mut room))?;
    first.extend_from_slice(room.filled());
    Poll::Ready(Ok(room.filled().len()))
}

/// Whether HTTP/2 is spoken; `None`: nothing was, in time.
pub(super) async fn takes_h2(
    peer: &Peer,
    config: &Arc<HttpConfig>,
    io: &mut Stream,
    first: &mut BytesMut,
    agreed: Option<bool>,
) -> Option<bool> {
    match (config.codec, agreed) {
        (Codec::Http2, _) | (Codec::Auto, Some(true)) => Some(true),
        (Codec::Http1, _) | (Codec::Auto, Some(false)) => Some(false),
        (Codec::Auto, None) => tokio::select! {
            h2 = speaks_h2(peer, config, io, first) => h2,
            () = peer.drain.out_of_patience() => None,
        },
    }
}

/// A client may open a connection long before it speaks, which is idle until then. Once it has begun it has as long as
/// for a head.
async fn speaks_h2<T: AsyncRead + Unpin>(
    peer: &Peer,
    config: &Arc<HttpConfig>,
    io: &mut T,
    first: &mut BytesMut,
) -> Option<bool> {
    let bounds = peer.worker.bounds.of(config);
    let watch = |begun| match begun {
        true => Watch::new(&peer.worker, Some(bounds.head_timeout), None),
        false => {
            let limit = Life::idle_at_most(&bounds.life, bounds.idle_timeout);
            Some(Watch::idle(&peer.worker, limit))
        }
    };
    let mut waiting = watch(!first.is_empty());
    poll_fn(|cx| {
        loop {
            if let Progress::Done(h2) = is_http2(first) {
                return Poll::Ready(Some(h2));
            }
            let begins = first.is_empty();
            match poll_more(io, first, cx) {
                Poll::Ready(Ok(1..)) if begins => waiting = watch(true),
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending if waiting.as_mut().is_some_and(|watch| watch.on_wait(cx)) => {
                    return Poll::Ready(None);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

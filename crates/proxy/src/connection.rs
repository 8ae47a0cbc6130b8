//! One connection: first bytes → filter chain → TLS → codec, or bytes to be copied.
//!
//! Whatever fails here closes the connection and is counted; an answer needs HTTP, and HTTP needs a chain. What later
//! requests want to know of their connection is resolved once, into a [`Peer`].

mod first_bytes;
mod handshake;

use std::{io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{net::TcpStream, time::timeout};
use weft_routing::{ConnectionView, FilterChain, HttpConfig, NetworkFilter};

use crate::{
    connections, drain,
    http::{
        h1::{self, io::Io, server::Settings},
        h2, request, runner,
    },
    meters,
    net::{
        Prefixed,
        original_dst::original_dst,
        proxy_header::{self, Unread},
    },
    overload::connections::Slot,
    peer::Peer,
    record::{Details, Kind, RequestRecord},
    tcp,
    upstream::probe::HEALTH_CHECK_ALPN,
    worker::{Role, Worker},
};

pub use first_bytes::read_more;

use first_bytes::{Seen, inspect, inspect_late, proxy_header_timeout, takes_h2};
use handshake::{pushed_out, shake, tls_failed};

/// How often a draining connection is looked at, and how many silent looks end it.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const SILENT_LOOKS: u32 = 5;

/// A client's bytes, plain or TLS, for whatever takes them.
type Stream = Box<dyn Io + Send>;

/// A connection that is about to be served.
struct Opened {
    peer: Rc<Peer>,
    chain: Arc<FilterChain>,
    io: Stream,
    /// What was read already.
    first: BytesMut,
    /// Whether ALPN agreed on it, and then whether it is spoken.
    h2: Option<bool>,
    open: OpenConnection,
}

/// Serves one accepted connection until it ends.
///
/// Thousands of them wait most of their time, for the next request of HTTP/1. So this future has room for no more than
/// that: what comes before, and whatever is served otherwise, is on the heap as long as it lasts.
pub fn serve(
    worker: Rc<Worker>,
    role: Role,
    bound: SocketAddr,
    stream: TcpStream,
    remote: SocketAddr,
    slot: Slot,
) -> impl Future<Output = ()> {
    let opening = Box::pin(open(worker, role, bound, stream, remote, slot));
    async move {
        let Some(opened) = opening.await else { return };
        let greeted = Box::pin(greet(opened));
        let Some(Opened { peer, chain, io, first, h2, open }) = greeted.await else { return };
        match &chain.filter {
            NetworkFilter::Http(config) if h2 == Some(false) => {
                let (settings, asking) = (settings(&peer, config), Rc::clone(&peer));
                h1::server::serve(io, first, settings, move |asked| {
                    runner::answer(Rc::clone(&asking), asked)
                })
                .await;
            }
            filter => Box::pin(serve_other(peer, filter, io, first)).await,
        }
        drop(open);
    }
}

/// From the accepted socket to what is served there. `None`: it is over.
async fn open(
    worker: Rc<Worker>,
    role: Role,
    bound: SocketAddr,
    mut stream: TcpStream,
    remote: SocketAddr,
    slot: Slot,
) -> Option<Opened> {
    let drain = Rc::clone(worker.drain(role));
    let counted = drain.connection();
    let live = worker.live();
    let Some(accepting) =
        live.table().listeners.iter().find(|one| one.bind_to_port && one.address == Some(bound))
    else {
        Box::pin(unconfigured(&worker, role, stream)).await;
        return None;
    };
    let local = stream.local_addr().ok()?;
    let listed = connections::opened(true, local, remote);
    let redirected = (accepting.use_original_dst || accepting.original_dst)
        .then(|| original_dst(&stream, local))
        .flatten();
    let destination = redirected.unwrap_or(local);
    let listener = match redirected {
        Some(wanted) if accepting.use_original_dst => live.table().listener_for(wanted).unwrap_or(accepting),
        _ => accepting,
    };
    let meters = live.meters(&listener.name)?;
    worker.shard.borrow_mut().add(meters.connections, 1);
    let mut first = BytesMut::new();
    let direct = remote;
    let (mut remote, mut local, mut destination) = (direct, local, destination);
    let mut told = None;
    if listener.proxy_protocol.is_some() {
        let limit = proxy_header_timeout(listener);
        let read = tokio::select! {
            read = timeout(limit, proxy_header::read(listener, direct.ip(), &mut stream, &mut first)) => {
                read.unwrap_or(Err(Unread::Timeout))
            }
            () = drain.out_of_patience() => return None,
        };
        match read {
            Ok(Some(said)) => {
                remote = said.source;
                told = Some(Box::new(said));
                // Envoy's filter restores where it had gone, and chains are chosen by it. Ours believes who is calling: a
                // balancer's port is none of the app's.
                if listener.proxy_protocol.as_ref().is_some_and(|wanted| wanted.from.is_none()) {
                    (local, destination) = (said.destination, said.destination);
                }
            }
            Ok(None) => {}
            Err(unread) => {
                let counter =
                    meters::proxy_headers_refused(&worker.settings.registry, &listener.name, unread.label());
                worker.shard.borrow_mut().add(counter, 1);
                tracing::info!(%remote, listener = %listener.name, error = %unread, "a connection is refused");
                return None;
            }
        }
    }
    let shakes = listener.chains.iter().chain(&listener.default_chain).any(|chain| chain.tls.is_some());
    let mut handshake = shakes.then(|| worker.handshakes.enter());
    let find = |seen: &Seen| {
        let alpn: Vec<&[u8]> = seen.alpn.iter().map(Vec::as_slice).collect();
        listener.find_chain(&ConnectionView {
            destination,
            source: remote,
            direct,
            transport: seen.transport,
            server_name: seen.server_name.as_deref(),
            application_protocols: &alpn,
        })
    };
    let looking = async {
        let seen = inspect(listener, &mut stream, &mut first).await?;
        // Only bytes may be for a server that speaks first.
        let waits_in_vain = seen.silent && find(&seen).is_some_and(|chain| chain.filter.is_http());
        if waits_in_vain { inspect_late(&mut stream, &mut first).await } else { Ok(seen) }
    };
    let seen = tokio::select! {
        seen = looking => seen,
        () = drain.out_of_patience() => Err(io::ErrorKind::ConnectionAborted.into()),
        () = pushed_out(&mut handshake) => {
            tls_failed(&worker, listener, "pushed_out");
            return None;
        }
    };
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => {
            tracing::debug!(%remote, %error, "a connection ended before it said what it is");
            return None;
        }
    };
    let Some(chain) = find(&seen) else {
        worker.shard.borrow_mut().add(meters.no_chain, 1);
        tracing::debug!(%remote, listener = %listener.name, "no filter chain takes this connection");
        return None;
    };
    let mut peer = Peer::new(&worker, role, listener, chain, meters);
    peer.slot = Some(slot);
    peer.listed = listed;
    peer.direct = direct;
    peer.local = local;
    peer.destination = destination;
    peer.told = told;
    peer.checks_only = seen.alpn.iter().any(|name| name == HEALTH_CHECK_ALPN.as_bytes());
    peer.server_name = seen.server_name;
    let (io, first, h2) = match &chain.tls {
        None => {
            drop(handshake);
            (Box::new(stream) as Stream, first, None)
        }
        Some(wanted) => {
            let stream = Prefixed::new(first, stream);
            let (io, h2) = shake(&worker, listener, chain, wanted, &mut peer, stream, handshake).await?;
            (io, BytesMut::new(), h2)
        }
    };
    let peer = Rc::new(peer);
    let open = OpenConnection::new(&peer, counted);
    if !is_admitted(&peer, chain) {
        return None;
    }
    Some(Opened { peer, chain: Arc::clone(chain), io, first, h2, open })
}

/// Waits until it is known whether HTTP/2 is spoken. By itself, as a client may be silent for an hour here.
async fn greet(mut opened: Opened) -> Option<Opened> {
    let Opened { peer, chain, io, first, h2, .. } = &mut opened;
    if let NetworkFilter::Http(config) = &chain.filter {
        *h2 = Some(takes_h2(peer, config, io, first, *h2).await?);
    }
    Some(opened)
}

/// Asks the chain's network policies. A connection of TCP that they deny is a record by itself.
fn is_admitted(peer: &Rc<Peer>, chain: &FilterChain) -> bool {
    let admitted = peer.admitted(chain);
    if !admitted {
        peer.worker.shard.borrow_mut().add(peer.meters.denied, 1);
        if let NetworkFilter::Tcp(_) = &chain.filter {
            let mut record = RequestRecord::start(peer, Kind::Connection);
            record.failed = true;
            record.details = Details::Fixed("rbac_access_denied");
        }
    }
    admitted
}

fn settings(peer: &Peer, config: &Arc<HttpConfig>) -> Settings {
    let worker = &peer.worker;
    Settings {
        worker: Rc::clone(worker),
        drain: Rc::clone(&peer.drain),
        bounds: worker.bounds.of(config),
        expires: peer.expires,
    }
}

/// Whatever is not HTTP/1.
async fn serve_other(peer: Rc<Peer>, filter: &NetworkFilter, io: Stream, first: BytesMut) {
    let io = Prefixed::new(first, io);
    match filter {
        // Carries no byte, so there is nothing that it could hide.
        NetworkFilter::Tcp(_) if peer.checks_only && peer.principal.is_some() => {
            drop(RequestRecord::start(&peer, Kind::HealthCheck));
        }
        NetworkFilter::Tcp(config) => tcp::proxy::serve(&peer, config, io).await,
        NetworkFilter::Http(config) => serve_h2(&peer, config, io).await,
    }
}

async fn serve_h2(peer: &Rc<Peer>, config: &HttpConfig, io: Prefixed<Stream>) {
    peer.protocol.set("HTTP/2");
    let silent = abandoned(peer, |peer| peer.open_requests.get() == 0);
    if tcp::tunnel_server::takes_only_tunnels(peer) {
        return tcp::tunnel_server::serve(peer, config, h2::guard(io, peer, config), silent).await;
    }
    let answering = Rc::clone(peer);
    let answer = move |asked| runner::answer(Rc::clone(&answering), asked);
    h2::server::serve(io, peer, config, answer, silent).await;
}

/// Waits until the drain has asked the client to leave and it is `silent` all the same: half a head that nobody
/// completes, or a client that is gone without a word.
async fn abandoned(peer: &Peer, silent: impl Fn(&Peer) -> bool) {
    peer.drain.out_of_patience().await;
    let mut silent_looks = 0;
    while silent_looks < SILENT_LOOKS {
        tokio::time::sleep(LOOK_INTERVAL).await;
        silent_looks = if silent(peer) { silent_looks + 1 } else { 0 };
    }
}

/// Before the first table nothing may pass: the outbound side says so, the inbound side closes.
async fn unconfigured(worker: &Rc<Worker>, role: Role, stream: TcpStream) {
    if role == Role::Outbound {
        request::answer_unconfigured(worker, stream).await;
    }
}

/// Holds the gauge of open connections up, and the drain back.
struct OpenConnection {
    peer: Rc<Peer>,
    _counted: drain::Connection,
}

impl OpenConnection {
    fn new(peer: &Rc<Peer>, counted: drain::Connection) -> OpenConnection {
        peer.worker.shard.borrow_mut().gauge_add(peer.meters.open, 1);
        OpenConnection { peer: Rc::clone(peer), _counted: counted }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.peer.worker.shard.borrow_mut().gauge_add(self.peer.meters.open, -1);
    }
}

#[cfg(test)]
mod tests;

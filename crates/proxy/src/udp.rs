//! Datagrams: each source has a session with one endpoint, through a socket of its own.
//!
//! One worker has a listener's socket, and with it all sessions, so nothing is shared. A datagram that cannot be taken
//! at once is dropped and counted, as a network would do. When there are too many sessions, new ones are refused: a
//! source is easily invented, and inventions must not push out those who are served, nor connections. Nothing here is encrypted or
//! identified, so the control plane has to say where datagrams may go.

mod meters;
mod place;
mod session;

use std::{
    cell::RefCell,
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::net::{SendFlags, sendto};
use tokio::net::UdpSocket;
use weft_routing::UdpConfig;

use self::{meters::UdpMeters, place::Place, session::Session};
use crate::{
    net::descriptors::Descriptors,
    upstream::{cluster::EndpointState, connect::ConnectError},
    worker::Worker,
};

/// Sources that one listener serves at a time.
const SESSIONS_MAX: usize = 10_000;
/// No datagram is longer.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;
/// Taken one after the other before somebody else has a turn.
const BURST_MAX: usize = 64;
/// Sessions are looked through so often.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// What the listener and its sessions share.
struct Shared {
    worker: Rc<Worker>,
    socket: UdpSocket,
    meters: UdpMeters,
    /// Every datagram goes through it.
    buffer: RefCell<Box<[u8]>>,
}

/// Serves a listener's socket until it is aborted.
pub async fn serve(worker: Rc<Worker>, address: SocketAddr, socket: std::net::UdpSocket) {
    let socket = match UdpSocket::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%address, %error, "cannot take datagrams");
            return;
        }
    };
    let Some((name, _)) = configured(&worker, address) else { return };
    let meters = UdpMeters::new(&worker.settings.registry, &name);
    let buffer = RefCell::new(vec![0; DATAGRAM_BYTES_MAX].into_boxed_slice());
    let shared = Rc::new(Shared { worker, socket, meters, buffer });
    let mut sessions: HashMap<SocketAddr, Session> = HashMap::new();
    let mut sweeps = tokio::time::interval(SWEEP_INTERVAL);
    sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ready = shared.socket.readable() => match ready {
                Ok(()) => burst(&shared, address, &mut sessions),
                Err(error) => {
                    tracing::error!(%address, %error, "datagrams are no longer taken");
                    return;
                }
            },
            () = shared.worker.tables.notified() => shared.sweep(address, &mut sessions),
            _ = sweeps.tick() => shared.sweep(address, &mut sessions),
        }
        tokio::task::yield_now().await;
    }
}

/// The listener's name and settings as the newest table has them.
fn configured(worker: &Worker, address: SocketAddr) -> Option<(Arc<str>, Arc<UdpConfig>)> {
    worker.live().table().listeners.iter().find_map(|listener| {
        let udp = listener.udp.as_ref().filter(|udp| udp.address == address)?;
        Some((Arc::clone(&listener.name), Arc::clone(udp)))
    })
}

/// Takes what is there, up to a bound.
fn burst(shared: &Rc<Shared>, address: SocketAddr, sessions: &mut HashMap<SocketAddr, Session>) {
    for _ in 0..BURST_MAX {
        let mut buffer = shared.buffer.borrow_mut();
        let (count, source) = match shared.socket.try_recv_from(&mut buffer[..]) {
            Ok(taken) => taken,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            // The kernel's word of an answer that did not arrive; whose, is not said.
            Err(_) => continue,
        };
        shared.count(shared.meters.requests, count);
        let datagram = &buffer[..count];
        if sessions.get(&source).is_some_and(Session::has_failed) {
            sessions.remove(&source).inspect(|failed| shared.on_failed(failed));
        }
        if let Some(session) = sessions.get(&source) {
            session.send(datagram);
            continue;
        }
        match shared.open(address, source, sessions.len()) {
            Ok(session) => {
                session.send(datagram);
                sessions.insert(source, session);
            }
            Err(reason) => shared.drop_one(reason),
        }
    }
}

impl Shared {
    fn count(&self, (datagrams, bytes): meters::Way, count: usize) {
        let mut shard = self.worker.shard.borrow_mut();
        shard.add(datagrams, 1);
        shard.add(bytes, count as u64);
    }

    fn drop_one(&self, reason: meters::Dropped) {
        self.worker.shard.borrow_mut().add(self.meters.dropped[reason as usize], 1);
    }

    fn open(
        self: &Rc<Self>,
        address: SocketAddr,
        source: SocketAddr,
        open: usize,
    ) -> Result<Session, meters::Dropped> {
        let actions = self.worker.settings.overload.actions();
        if actions.ends_connections() || actions.refuses() {
            return Err(meters::Dropped::Overload);
        }
        if open >= SESSIONS_MAX {
            return Err(meters::Dropped::Sessions);
        }
        let place = Place::take().ok_or(meters::Dropped::Sessions)?;
        let (_, config) = configured(&self.worker, address).ok_or(meters::Dropped::NoEndpoint)?;
        let live = self.worker.live();
        let cluster = live.cluster_named(&config.cluster).ok_or(meters::Dropped::NoEndpoint)?;
        let endpoint = cluster.pick(&[], self.worker.random(), None).ok_or(meters::Dropped::NoEndpoint)?;
        let socket = connected(endpoint.address).map_err(|error| {
            tracing::debug!(%source, endpoint = %endpoint.address, %error, "no socket for a session");
            meters::Dropped::Sessions
        })?;
        Ok(Session::start(Rc::clone(self), source, Arc::clone(&config.cluster), endpoint, (socket, place)))
    }

    /// Sends an endpoint's datagram back to its source.
    fn answer(&self, datagram: &[u8], source: SocketAddr) {
        match sendto(&self.socket, datagram, SendFlags::DONTWAIT, &source) {
            Ok(_) => self.count(self.meters.responses, datagram.len()),
            Err(_) => self.drop_one(meters::Dropped::Send),
        }
    }

    /// The endpoint's machine said that nobody is there: others are tried for a while.
    fn on_failed(&self, session: &Session) {
        let live = self.worker.live();
        let Some(cluster) = live.cluster_named(&session.cluster) else { return };
        let refused = ConnectError::Tcp {
            address: session.endpoint.address,
            source: std::io::ErrorKind::ConnectionRefused.into(),
        };
        cluster.note_connection(&session.endpoint, &Err::<(), _>(refused));
    }

    /// Forgets sources that are silent, and those whose endpoint is gone: their next datagram finds another.
    fn sweep(&self, address: SocketAddr, sessions: &mut HashMap<SocketAddr, Session>) {
        let Some((_, config)) = configured(&self.worker, address) else {
            sessions.clear();
            return;
        };
        let live = self.worker.live();
        let now = Instant::now();
        let endpoints = live.cluster_named(&config.cluster).map(|cluster| cluster.endpoints());
        let serves = |endpoint: &Rc<EndpointState>| {
            endpoint.healthy.get()
                && endpoints.iter().flatten().any(|known| known.address == endpoint.address)
        };
        sessions.retain(|_, session| {
            let stays = !session.has_failed()
                && now.saturating_duration_since(session.last()) < config.idle_timeout
                && session.cluster == config.cluster
                && serves(&session.endpoint);
            if session.has_failed() {
                self.on_failed(session);
            }
            stays
        });
    }
}

/// A socket that hears and speaks to one endpoint only.
fn connected(endpoint: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = match endpoint {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = std::net::UdpSocket::bind(any)?;
    if !Descriptors::of_process().may_accept(&socket) {
        return Err(std::io::ErrorKind::QuotaExceeded.into());
    }
    socket.set_nonblocking(true)?;
    socket.connect(endpoint)?;
    UdpSocket::from_std(socket)
}

//! One endpoint's connections, on one worker.
//!
//! HTTP/1 connections are kept in a stack: the last one used is taken first, so that few stay warm and the rest age
//! out. HTTP/2 connections are few and shared: the first with room is taken, a new one is opened only when all are
//! full. All carry the generation of the credentials that they were opened with; when the worker gets new ones, older
//! connections finish what they carry and are not taken again, so one connection never carries two identities.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    connect::{ConnectError, Dial, TlsSettings, connect},
    limits::Raised,
    tunnels::Tunnels,
};
use crate::http::{h1::client::Connection, h2, life::Life};

/// Idle HTTP/1 connections an endpoint may keep.
pub const IDLE_H1_MAX: usize = 256;
/// Streams a shared connection carries before another one is opened; the peer may allow fewer.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 100;
/// HTTP/2 connections to one endpoint.
pub const H2_CONNECTIONS_MAX: usize = 8;

/// Bytes to a machine that is gone: HTTP/2's own windows see to it that a living one always reads.
pub const UNANSWERED_MAX: Duration = Duration::from_secs(10);

/// The version spoken on a connection to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http1,
    Http2,
}

/// How a new connection is opened, when the pool has none.
pub struct Opening {
    pub version: Version,
    pub tls: Option<TlsSettings>,
    pub dial: Dial,
    pub h2: h2::Settings,
    /// Counts the connection for as long as it lives.
    pub held: Held,
    /// The credentials' generation that `tls` was made from.
    pub generation: u64,
    /// For what must not happen at the same time everywhere.
    pub random: u64,
    pub on_flood: h2::guarded::OnFlood,
}

/// The counts of connections, of the cluster and of the endpoint, that a connection holds up.
pub type Held = [Raised; 2];

/// The pool of one endpoint.
pub struct Pool {
    address: SocketAddr,
    h1: RefCell<Vec<IdleH1>>,
    h2: RefCell<Vec<Shared>>,
    /// Held while an HTTP/2 connection is opened, so that a burst of requests opens one and not a hundred.
    opening_h2: tokio::sync::Mutex<()>,
    last_failure: Cell<Option<Instant>>,
    generation: Cell<u64>,
    /// TCP connections over HTTP/2.
    pub tunnels: Tunnels,
}

struct IdleH1 {
    connection: Rc<Connection>,
    since: Instant,
    generation: u64,
}

struct Shared {
    sender: h2::client::Sender,
    last_used: Cell<Instant>,
    life: Life,
}

impl Shared {
    fn has_room(&self, streams_max: u32) -> bool {
        let open = self.sender.state.open.get();
        // The other side may allow fewer. One alone waits there rather than on a connection that allows no more.
        open == 0 || self.sender.is_greeted() && open < streams_max.min(self.sender.streams_max())
    }
}

/// A connection taken for one request.
pub enum Lease {
    H1 { connection: Rc<Connection>, generation: u64, reused: bool },
    H2 { sender: h2::client::Sender, stream: StreamCount, reused: bool },
}

/// What the rest of an answer needs of it.
pub enum InUse {
    H1 { connection: Rc<Connection>, generation: u64 },
    H2 { _stream: StreamCount },
}

/// Counts one stream of a shared connection until it is dropped.
pub struct StreamCount(Rc<h2::client::State>);

impl StreamCount {
    fn new(sender: &h2::client::Sender) -> StreamCount {
        let state = Rc::clone(&sender.state);
        state.open.set(state.open.get() + 1);
        StreamCount(state)
    }
}

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

impl Pool {
    pub fn new(address: SocketAddr) -> Pool {
        Pool {
            address,
            h1: RefCell::default(),
            h2: RefCell::default(),
            opening_h2: tokio::sync::Mutex::new(()),
            last_failure: Cell::new(None),
            generation: Cell::new(0),
            tunnels: Tunnels::default(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A warm connection, if there is one.
    pub fn take(&self, version: Version, generation: u64, streams_max: u32) -> Option<Lease> {
        self.retire_older_than(generation);
        match version {
            Version::Http1 => self.take_h1(generation),
            Version::Http2 => self.take_h2(streams_max),
        }
    }

    /// Opens a connection; for HTTP/2 waits for one that is being opened.
    pub async fn open(&self, opening: Opening) -> Result<Lease, ConnectError> {
        match opening.version {
            Version::Http1 => {
                let stream = connect(self.address, opening.tls.as_ref(), opening.dial).await?;
                let life = Life::new(&opening.h2.life, opening.random);
                life.on_request();
                let connection = Connection::new(stream, opening.held, life);
                Ok(Lease::H1 { connection, generation: opening.generation, reused: false })
            }
            Version::Http2 => self.open_h2(opening).await,
        }
    }

    async fn open_h2(&self, opening: Opening) -> Result<Lease, ConnectError> {
        let asked = Instant::now();
        let _one_at_a_time = self.opening_h2.lock().await;
        // How many streams the newest one takes is known when its endpoint has said it.
        let newest = self.h2.borrow().last().map(|connection| connection.sender.clone());
        if let Some(newest) = newest.filter(|newest| !newest.is_closed()) {
            newest.greeted().await;
        }
        if let Some(lease) = self.take_h2(opening.h2.streams_max) {
            return Ok(lease);
        }
        if self.h2.borrow().len() >= H2_CONNECTIONS_MAX
            && let Some(lease) = self.take_h2(u32::MAX)
        {
            return Ok(lease); // it waits there until a stream ends
        }
        if self.last_failure.get().is_some_and(|failure| failure > asked) {
            // Somebody who waited with us has just learned that it does not work: don't make everybody wait in line.
            let timeout = opening.dial.timeout;
            return Err(ConnectError::Timeout { address: self.address, timeout });
        }
        let generation = opening.generation;
        let life = Life::new(&opening.h2.life, opening.random);
        match self.handshake_h2(opening).await {
            Ok(sender) => {
                let stream = StreamCount::new(&sender);
                if self.generation.get() == generation && !life.on_request() {
                    let last_used = Cell::new(Instant::now());
                    self.h2.borrow_mut().push(Shared { sender: sender.clone(), last_used, life });
                }
                Ok(Lease::H2 { sender, stream, reused: false })
            }
            Err(error) => {
                self.last_failure.set(Some(Instant::now()));
                Err(error)
            }
        }
    }

    async fn handshake_h2(&self, opening: Opening) -> Result<h2::client::Sender, ConnectError> {
        let dial = Dial { unanswered_max: Some(UNANSWERED_MAX), ..opening.dial };
        let stream = connect(self.address, opening.tls.as_ref(), dial).await?;
        Ok(h2::client::open(stream, &opening.h2, opening.random, opening.held, opening.on_flood))
    }

    fn take_h1(&self, generation: u64) -> Option<Lease> {
        let mut idle = self.h1.borrow_mut();
        while let Some(IdleH1 { connection, generation: made, .. }) = idle.pop() {
            if made == generation && !connection.life.is_over() && connection.is_quiet() {
                connection.life.on_request();
                return Some(Lease::H1 { connection, generation, reused: true });
            }
        }
        None
    }

    fn take_h2(&self, streams_max: u32) -> Option<Lease> {
        let mut shared = self.h2.borrow_mut();
        // One whose life is over closes when its last stream has ended.
        shared.retain(|connection| !connection.sender.is_closed() && !connection.life.is_over());
        let connection = match streams_max {
            u32::MAX => shared.iter().min_by_key(|connection| connection.sender.state.open.get()),
            _ => shared.iter().find(|connection| connection.has_room(streams_max)),
        }?;
        connection.last_used.set(Instant::now());
        connection.life.on_request();
        Some(Lease::H2 {
            sender: connection.sender.clone(),
            stream: StreamCount::new(&connection.sender),
            reused: true,
        })
    }

    /// The least full of the shared connections, however full.
    pub fn share_h2(&self) -> Option<Lease> {
        self.take_h2(u32::MAX)
    }

    /// Gives an HTTP/1 connection back, now that its exchange is over.
    pub fn give_back(&self, connection: Rc<Connection>, generation: u64, now: Instant) {
        let mut idle = self.h1.borrow_mut();
        if connection.may_reuse()
            && !connection.life.is_over()
            && generation >= self.generation.get()
            && idle.len() < IDLE_H1_MAX
        {
            idle.push(IdleH1 { connection, since: now, generation });
        }
    }

    /// Lets go of connections that nobody used for `idle_timeout`, and of closed ones.
    pub fn sweep(&self, now: Instant, idle_timeout: Duration) {
        let old = |since: Instant| now.saturating_duration_since(since) > idle_timeout;
        self.h1.borrow_mut().retain(|entry| {
            !old(entry.since) && !entry.connection.life.is_over() && entry.connection.is_quiet()
        });
        self.h2.borrow_mut().retain(|connection| {
            let idle = connection.sender.state.open.get() == 0 && old(connection.last_used.get());
            !connection.sender.is_closed() && !connection.life.is_over() && !idle
        });
        self.tunnels.sweep(now, idle_timeout);
    }

    fn retire_older_than(&self, generation: u64) {
        if self.generation.get() < generation {
            self.generation.set(generation);
            self.clear();
        }
    }

    /// Keeps no connection. Dropping the handles closes each one when its last stream has ended.
    pub fn clear(&self) {
        self.h1.borrow_mut().clear();
        self.h2.borrow_mut().clear();
        self.tunnels.clear();
    }
}

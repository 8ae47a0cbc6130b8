//! The few HTTP/2 connections to one endpoint on which TCP connections travel as CONNECT streams.
//!
//! ALPN decides what is spoken: an endpoint that does not choose `h2` gets the bytes as they are, inside the TLS
//! connection that was just opened, which is then that one TCP connection's. So a mesh may have proxies of both kinds,
//! and a proxy may learn tunnels while it runs.
//!
//! Like [`super::pool`], connections carry the generation of the credentials that they were opened with, and are not
//! taken again once there are newer ones: no connection carries two identities.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, uri::Authority};
use weft_wire::http2_guard::{Guard, Limits};

use super::{
    connect::{ConnectError, Dial, Stream, TlsSettings, connect},
    limits::Raised,
    pool::UNANSWERED_MAX,
};
use crate::{
    http::h2::{
        codec::{Client, RequestHead, Requests, Role},
        guarded::{Guarded, OnFlood},
    },
    tcp::tunnel::{Tunnel, Windows},
};

/// An endpoint that spoke no HTTP/2 is not waited for in line, for as long as this.
const RAW_MEMORY: Duration = Duration::from_secs(10);
/// For the other proxy to reach its app, over what it takes to reach the other proxy.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What a tunnel is opened with.
pub struct Wanted<'a> {
    pub authority: &'a Authority,
    pub tls: Option<&'a TlsSettings>,
    /// The other side is a member's proxy, which takes bytes as they are too.
    pub member: bool,
    /// The credentials' generation that `tls` was made from.
    pub generation: u64,
    pub dial: Dial,
    pub windows: Windows,
    /// What the other side may do, and who hears of it when it does more.
    pub guard: Limits,
    pub on_flood: &'a dyn Fn() -> OnFlood,
}

/// A way to the endpoint's app.
pub enum Road {
    Tunnel(Tunnel<Raised>),
    /// The endpoint speaks no HTTP/2.
    Raw(Stream),
}

/// The connections of one endpoint.
#[derive(Default)]
pub struct Tunnels {
    shared: RefCell<Vec<Rc<Shared>>>,
    /// Held while a connection is opened, so that a burst opens one and not a hundred.
    opening: tokio::sync::Mutex<()>,
    last_failure: Cell<Option<Instant>>,
    last_raw: Cell<Option<Instant>>,
    generation: Cell<u64>,
}

struct Shared {
    requests: Requests,
    streams: Rc<Cell<u32>>,
    streams_max: u32,
    last_used: Cell<Instant>,
    alive: Rc<Cell<bool>>,
}

/// Why a connection carries no tunnel.
enum Unopened {
    /// Nobody has read the request: another connection may.
    Unread,
    Failed(ConnectError),
}

impl Tunnels {
    /// A stream on a connection with room, or on a new one.
    pub async fn open(&self, address: SocketAddr, wanted: Wanted<'_>) -> Result<Road, ConnectError> {
        self.retire_older_than(wanted.generation);
        let asked = Instant::now();
        loop {
            if let Some(shared) = self.with_room() {
                if let Some(tunnel) = self.on(&shared, address, &wanted).await? {
                    return Ok(Road::Tunnel(tunnel));
                }
                continue;
            }
            // Those who would wait for nothing to share open theirs side by side.
            let alone = self.last_raw.get().is_some_and(|raw| raw.elapsed() < RAW_MEMORY);
            let one_at_a_time = if alone { None } else { Some(self.opening.lock().await) };
            if self.with_room().is_some() {
                continue;
            }
            if self.last_failure.get().is_some_and(|failure| failure > asked) {
                // Somebody who waited with us has just learned that it does not work.
                return Err(ConnectError::Timeout { address, timeout: wanted.dial.timeout });
            }
            let stream = self.noted(connect(address, wanted.tls, wanted.dial).await)?;
            if wanted.tls.is_some() && !stream.negotiated_h2() {
                if !wanted.member {
                    let reason = "the other side chose no h2 by ALPN, and tunnels need it".to_owned();
                    return self.noted(Err(ConnectError::Settings { reason }));
                }
                self.last_raw.set(Some(Instant::now()));
                return Ok(Road::Raw(stream));
            }
            self.last_raw.set(None);
            stream.limit_unanswered(UNANSWERED_MAX);
            let shared = self.share(stream, &wanted);
            drop(one_at_a_time);
            if let Some(tunnel) = self.on(&shared, address, &wanted).await? {
                return Ok(Road::Tunnel(tunnel));
            }
            return Err(ConnectError::Timeout { address, timeout: wanted.dial.timeout }); // it left at once
        }
    }

    fn noted<T>(&self, opened: Result<T, ConnectError>) -> Result<T, ConnectError> {
        if opened.is_err() {
            self.last_failure.set(Some(Instant::now()));
        }
        opened
    }

    fn with_room(&self) -> Option<Rc<Shared>> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|connection| connection.alive.get());
        shared.iter().find(|connection| connection.has_room()).cloned()
    }

    /// A tunnel on this connection; `None` when it takes none any more and is out of the pool.
    async fn on(
        &self,
        shared: &Rc<Shared>,
        address: SocketAddr,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Tunnel<Raised>>, ConnectError> {
        let timeout = wanted.dial.timeout + ANSWER_TIMEOUT;
        match tokio::time::timeout(timeout, shared.connect(address, wanted.authority)).await {
            Ok(Ok(tunnel)) => Ok(Some(tunnel)),
            Ok(Err(Unopened::Failed(error))) => Err(error),
            Ok(Err(Unopened::Unread)) => {
                self.shared.borrow_mut().retain(|known| !Rc::ptr_eq(known, shared));
                Ok(None)
            }
            Err(_) => Err(ConnectError::Timeout { address, timeout }),
        }
    }

    fn share(&self, stream: Stream, wanted: &Wanted<'_>) -> Rc<Shared> {
        let io = Guarded::new(stream, Guard::client(wanted.guard), (wanted.on_flood)());
        let (requests, mut connection) = Client::new(io, wanted.windows.codec(Role::Client));
        let alive = Rc::new(Cell::new(true));
        let ending = Rc::clone(&alive);
        tokio::task::spawn_local(async move {
            if let Err(error) = poll_fn(|cx| connection.poll_over(cx)).await {
                tracing::debug!(%error, "a connection of tunnels ended");
            }
            ending.set(false);
        });
        let shared = Rc::new(Shared {
            requests,
            streams: Rc::default(),
            streams_max: wanted.windows.streams_max,
            last_used: Cell::new(Instant::now()),
            alive,
        });
        if self.generation.get() == wanted.generation {
            self.shared.borrow_mut().push(Rc::clone(&shared));
        }
        shared
    }

    /// Lets go of connections that nobody used for `idle_timeout`, and of closed ones.
    pub fn sweep(&self, now: Instant, idle_timeout: Duration) {
        self.shared.borrow_mut().retain(|connection| {
            let unused = now.saturating_duration_since(connection.last_used.get());
            connection.alive.get() && (connection.streams.get() > 0 || unused <= idle_timeout)
        });
    }

    fn retire_older_than(&self, generation: u64) {
        if self.generation.get() < generation {
            self.generation.set(generation);
            self.clear();
        }
    }

    /// Takes no connection again. Each closes when its last tunnel has ended.
    pub fn clear(&self) {
        self.shared.borrow_mut().clear();
    }
}

impl Shared {
    fn has_room(&self) -> bool {
        self.streams.get() < self.streams_max.min(self.requests.streams_max())
    }

    async fn connect(&self, address: SocketAddr, authority: &Authority) -> Result<Tunnel<Raised>, Unopened> {
        let counted = Raised::new(&self.streams);
        self.last_used.set(Instant::now());
        let requests = self.requests.clone();
        poll_fn(|cx| requests.poll_ready(cx)).await.map_err(|_| Unopened::Unread)?;
        let head = RequestHead {
            method: &Method::CONNECT,
            scheme: "",
            authority: Some(authority.as_str().as_bytes()),
            path: "",
            protocol: None,
            headers: &HeaderMap::new(),
        };
        let (answer, send) = requests.open(head, false).map_err(|_| Unopened::Unread)?;
        let (answer, received) = answer.whole().await.map_err(|source| match source.is_unprocessed() {
            true => Unopened::Unread,
            false => Unopened::Failed(ConnectError::Tunnel { address, source }),
        })?;
        let status = answer.status();
        if !status.is_success() {
            return Err(Unopened::Failed(ConnectError::Refused { address, status }));
        }
        Ok(Tunnel::new(send, received, counted))
    }
}

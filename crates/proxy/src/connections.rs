//! The open connections of this process: between whom, since when, with what TLS. For an operator who looks, and for
//! `weft prove`, which holds them against what is on the wire.
//!
//! A connection is entered when it is opened and told its TLS once hands were shaken; requests don't know of this list.
//! An entry is 64 bytes. Closed ones are remembered only while somebody has asked for that, and only so many.

use std::{
    collections::{HashSet, VecDeque},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustls::CommonState;
use slab::Slab;
use tokio::net::TcpStream;
use weft_identity::tls::peer_id;

/// Locks over the connections, so that workers seldom meet.
const SHARDS: usize = 8;
/// Closed connections that a shard remembers.
const CLOSED_MAX: usize = 4096;
/// Identities beyond which those of nobody are looked for.
const IDENTITIES_MAX: usize = 4096;

/// The process's list.
static OF_PROCESS: LazyLock<Connections> = LazyLock::new(|| Connections {
    shards: Default::default(),
    since: Instant::now(),
    since_unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
    remember_until_ms: AtomicU64::new(0),
});

struct Connections {
    shards: [Mutex<Shard>; SHARDS],
    since: Instant,
    since_unix: Duration,
    /// Milliseconds after `since`.
    remember_until_ms: AtomicU64,
}

#[derive(Default)]
struct Shard {
    open: Slab<Entry>,
    closed: VecDeque<Entry>,
    /// Closed ones for which there was no room.
    missed: u64,
    identities: HashSet<Arc<str>>,
}

struct Entry {
    local: Address,
    remote: Address,
    peer: Option<Arc<str>>,
    /// Seconds after the list's beginning.
    opened: u32,
    tls: Tls,
    accepted: bool,
}

/// Most are of IPv4, and thousands may be idle.
enum Address {
    V4(Ipv4Addr, u16),
    Other(Box<SocketAddr>),
}

/// TLS's own numbers; zero where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tls {
    pub version: u16,
    pub cipher: u16,
    pub group: u16,
}

/// A connection as it is told to who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// The other end opened it.
    pub accepted: bool,
    pub tls: Tls,
    /// The other end's SPIFFE id, as verified.
    pub peer: Option<Arc<str>>,
    pub opened: SystemTime,
    pub closed: bool,
}

/// A connection's entry, until it is dropped.
#[derive(Debug)]
pub struct Listed(NonZeroU32);

impl Address {
    fn new(address: SocketAddr) -> Address {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Address::V4(ip, address.port()),
            IpAddr::V6(_) => Address::Other(Box::new(address)),
        }
    }

    fn get(&self) -> SocketAddr {
        match self {
            Address::V4(ip, port) => SocketAddr::from((*ip, *port)),
            Address::Other(address) => **address,
        }
    }
}

/// Enters a connection. `None`: there are more than can be numbered.
pub fn opened(accepted: bool, local: SocketAddr, remote: SocketAddr) -> Option<Listed> {
    let list = &*OF_PROCESS;
    let index = usize::from(remote.port() ^ local.port()) % SHARDS;
    let opened = u32::try_from(list.since.elapsed().as_secs()).unwrap_or(u32::MAX);
    let (local, remote) = (Address::new(local), Address::new(remote));
    let mut shard = lock(&list.shards[index]);
    let key = shard.open.insert(Entry { local, remote, peer: None, opened, tls: Tls::default(), accepted });
    let place = key.checked_mul(SHARDS).and_then(|place| u32::try_from(place + index + 1).ok());
    match place.and_then(NonZeroU32::new) {
        Some(place) => Some(Listed(place)),
        None => {
            shard.open.remove(key);
            None
        }
    }
}

/// Enters a connection that we opened.
pub fn opened_by_us(stream: &TcpStream) -> Option<Listed> {
    opened(false, stream.local_addr().ok()?, stream.peer_addr().ok()?)
}

/// Remembers connections that close within this time. Whoever asks again while it lasts makes it last longer.
pub fn remember(time: Duration) {
    let list = &*OF_PROCESS;
    let until = list.since.elapsed() + time;
    let until_ms = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
    list.remember_until_ms.fetch_max(until_ms, Ordering::Relaxed);
}

/// All that are open, those that were remembered, and how many could not be.
pub fn list() -> (Vec<Connection>, u64) {
    let list = &*OF_PROCESS;
    let (mut all, mut missed) = (Vec::new(), 0);
    for shard in &list.shards {
        let mut shard = lock(shard);
        if !list.remembers() {
            shard.forget();
        }
        missed += shard.missed;
        all.extend(shard.open.iter().map(|(_, entry)| list.told(entry, false)));
        all.extend(shard.closed.iter().map(|entry| list.told(entry, true)));
    }
    (all, missed)
}

impl Connections {
    fn remembers(&self) -> bool {
        let until = Duration::from_millis(self.remember_until_ms.load(Ordering::Relaxed));
        !until.is_zero() && self.since.elapsed() < until
    }

    fn told(&self, entry: &Entry, closed: bool) -> Connection {
        Connection {
            local: entry.local.get(),
            remote: entry.remote.get(),
            accepted: entry.accepted,
            tls: entry.tls,
            peer: entry.peer.clone(),
            opened: UNIX_EPOCH + self.since_unix + Duration::from_secs(entry.opened.into()),
            closed,
        }
    }
}

impl Shard {
    fn forget(&mut self) {
        self.closed = VecDeque::new();
        self.missed = 0;
    }

    fn identity(&mut self, id: &str) -> Arc<str> {
        if let Some(known) = self.identities.get(id) {
            return Arc::clone(known);
        }
        if self.identities.len() >= IDENTITIES_MAX {
            self.identities.retain(|id| Arc::strong_count(id) > 1);
        }
        let id: Arc<str> = id.into();
        self.identities.insert(Arc::clone(&id));
        id
    }
}

impl Listed {
    fn shard_and_key(&self) -> (&'static Mutex<Shard>, usize) {
        let place = self.0.get() as usize - 1;
        (&OF_PROCESS.shards[place % SHARDS], place / SHARDS)
    }

    /// Hands were shaken.
    pub fn secured(&self, session: &CommonState) {
        let tls = Tls {
            version: session.protocol_version().map_or(0, u16::from),
            cipher: session.negotiated_cipher_suite().map_or(0, |suite| suite.suite().into()),
            group: session.negotiated_key_exchange_group().map_or(0, |group| group.name().into()),
        };
        let peer = session.peer_certificates().and_then(|chain| peer_id(chain).ok());
        let (shard, key) = self.shard_and_key();
        let mut shard = lock(shard);
        let peer = peer.map(|id| shard.identity(id.as_str()));
        if let Some(entry) = shard.open.get_mut(key) {
            entry.tls = tls;
            entry.peer = peer;
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let (shard, key) = self.shard_and_key();
        let mut shard = lock(shard);
        let Some(entry) = shard.open.try_remove(key) else { return };
        match OF_PROCESS.remembers() {
            true if shard.closed.len() < CLOSED_MAX => shard.closed.push_back(entry),
            true => shard.missed += 1,
            false if shard.closed.is_empty() => {}
            false => shard.forget(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 77], port))
    }

    fn known(local: SocketAddr) -> Vec<Connection> {
        list().0.into_iter().filter(|one| one.local == local).collect()
    }

    /// One test, because the list is the process's.
    #[test]
    fn closed_connections_are_remembered_only_while_somebody_asks() {
        assert!(size_of::<Entry>() <= 64, "{}", size_of::<Entry>());
        assert_eq!(size_of::<Option<Listed>>(), 4);
        let open = opened(true, at(1), at(2)).unwrap();
        let six = opened(false, "[2001:db8::1]:3".parse().unwrap(), at(4)).unwrap();
        assert_eq!(known(at(1)).len(), 1);
        assert_eq!(known("[2001:db8::1]:3".parse().unwrap())[0].remote, at(4));
        drop((open, six));
        assert!(known(at(1)).is_empty(), "nobody had asked");

        remember(Duration::from_secs(60));
        drop(opened(true, at(1), at(2)).unwrap());
        assert!(known(at(1))[0].closed);
        for _ in 0..CLOSED_MAX {
            drop(opened(true, at(1), at(2)).unwrap());
        }
        let (all, missed) = list();
        assert!(missed >= 1 && all.iter().filter(|one| one.closed).count() <= CLOSED_MAX * SHARDS);

        OF_PROCESS.remember_until_ms.store(1, Ordering::Relaxed);
        while OF_PROCESS.since.elapsed() < Duration::from_millis(1) {
            std::hint::spin_loop(); // all of this may have taken less
        }
        drop(opened(true, at(1), at(2)).unwrap());
        assert!(known(at(1)).is_empty() && list().1 == 0, "the time is over");
    }
}

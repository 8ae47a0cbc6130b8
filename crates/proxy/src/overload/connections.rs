//! How many connections may be open: in the whole proxy, at one listener, and from one source.
//!
//! They are counted when they are accepted, before a byte is read, and for as long as anything of them lives, tunnels
//! too. Workers share the counts: a limit of each worker's own would depend on how the kernel deals them out.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{config::Limits, handover::Carried, net::descriptors::Descriptors, worker::Role};

/// Locks over the sources, so that workers seldom meet.
const SHARDS: usize = 16;
/// Of a listener's connections one source may have this part.
const SOURCE_PART: u32 = 4;

/// Why a connection is closed as soon as it is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Descriptors,
    Overload,
    Proxy,
    Listener,
    Source,
}

impl Refused {
    /// For the metric.
    pub fn label(self) -> &'static str {
        match self {
            Refused::Descriptors => "descriptors",
            Refused::Overload => "overload",
            Refused::Proxy => "max_connections",
            Refused::Listener => "max_connections_per_listener",
            Refused::Source => "max_connections_per_source",
        }
    }

    /// For the log.
    pub fn reason(self) -> &'static str {
        match self {
            Refused::Descriptors => "the process has no file descriptors to spare",
            Refused::Overload => "the proxy is overloaded",
            Refused::Proxy => "too many are open in this proxy",
            Refused::Listener => "too many are open at this listener",
            Refused::Source => "too many are open from this source",
        }
    }
}

/// The counts of one proxy.
pub struct Connections {
    proxy: Arc<AtomicU32>,
    proxy_max: u32,
    listeners: Mutex<HashMap<SocketAddr, Arc<AtomicU32>>>,
    listener_max: u32,
    sources: Arc<Sources>,
    source_max: u32,
    /// The operator named the number: then it holds for this machine's own clients too.
    source_max_is_said: bool,
}

/// How many are open at one listener.
pub struct AtListener(Arc<AtomicU32>);

type Sources = [Mutex<HashMap<u64, u32>>; SHARDS];

/// A connection's place in the counts, until it is dropped.
pub struct Slot {
    _proxy: Raised,
    _listener: Raised,
    _source: Option<FromSource>,
    /// The load of the worker that serves it, where there are several.
    pub carried: Option<Carried>,
}

struct Raised(Arc<AtomicU32>);

impl Raised {
    fn below(count: &Arc<AtomicU32>, max: u32) -> Option<Raised> {
        let raised = (count.fetch_add(1, Ordering::Relaxed), Raised(Arc::clone(count)));
        (raised.0 < max).then_some(raised.1)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct FromSource {
    sources: Arc<Sources>,
    key: u64,
}

impl Drop for FromSource {
    fn drop(&mut self) {
        let mut shard = lock(shard(&self.sources, self.key));
        if let Entry::Occupied(mut count) = shard.entry(self.key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Connections {
    pub fn new(limits: &Limits) -> Connections {
        let listener_max = unlimited_if_zero(limits.connections_per_listener);
        Connections {
            proxy: Arc::default(),
            proxy_max: match limits.connections {
                Some(max) => unlimited_if_zero(max),
                None => Descriptors::of_process().connections_max(),
            },
            listeners: Mutex::default(),
            listener_max,
            sources: Arc::default(),
            source_max: match limits.connections_per_source {
                Some(max) => unlimited_if_zero(max),
                None => (listener_max / SOURCE_PART).max(1),
            },
            source_max_is_said: limits.connections_per_source.is_some(),
        }
    }

    /// A listener's own count, which all workers share.
    pub fn at(&self, listener: SocketAddr) -> AtListener {
        let mut listeners = lock(&self.listeners);
        // Listeners come and go with the configuration.
        listeners.retain(|_, count| Arc::strong_count(count) > 1);
        AtListener(Arc::clone(listeners.entry(listener).or_default()))
    }

    pub fn admit(&self, role: Role, listener: &AtListener, source: SocketAddr) -> Result<Slot, Refused> {
        let proxy = Raised::below(&self.proxy, self.proxy_max).ok_or(Refused::Proxy)?;
        let listener = Raised::below(&listener.0, self.listener_max).ok_or(Refused::Listener)?;
        let source = self.limits_source(role, source).then(|| self.from(source)).transpose()?;
        Ok(Slot { _proxy: proxy, _listener: listener, _source: source, carried: None })
    }

    /// Our own app may open all that there are. Other clients of this machine share one address, and are told from
    /// strangers by it, unless the operator counts them.
    fn limits_source(&self, role: Role, source: SocketAddr) -> bool {
        role != Role::Outbound
            && self.source_max < u32::MAX
            && (self.source_max_is_said || !source.ip().to_canonical().is_loopback())
    }

    fn from(&self, source: SocketAddr) -> Result<FromSource, Refused> {
        let key = key(source.ip());
        let mut shard = lock(shard(&self.sources, key));
        let count = shard.entry(key).or_default();
        if *count >= self.source_max {
            return Err(Refused::Source);
        }
        *count += 1;
        Ok(FromSource { sources: Arc::clone(&self.sources), key })
    }
}

/// Zero switches a limit off.
fn unlimited_if_zero(max: u32) -> u32 {
    if max == 0 { u32::MAX } else { max }
}

/// An IPv4 address, or the half of an IPv6 address that a network gives to one customer: who has a /64 has all of its
/// addresses.
fn key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => 0xffff_0000_0000 | u64::from(address.to_bits()),
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).unwrap_or(0),
    }
}

fn shard(sources: &Sources, key: u64) -> &Mutex<HashMap<u64, u32>> {
    // Whatever is in the low bits of a network's addresses; who picks them gets a lock of their own, no more.
    let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
    &sources[usize::try_from(mixed).unwrap_or(0) % SHARDS]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn limited(connections: u32, per_listener: u32, per_source: Option<u32>) -> Connections {
        Connections::new(&Limits {
            connections: Some(connections),
            connections_per_listener: per_listener,
            connections_per_source: per_source,
            ..Limits::default()
        })
    }

    #[test]
    fn each_limit_holds_and_what_leaves_makes_room() {
        let client = at("192.0.2.1:1000");
        let counts = limited(3, 2, Some(0));
        let (web, other) = (&counts.at(at("127.0.0.1:80")), &counts.at(at("127.0.0.1:81")));
        let admit = |listener| counts.admit(Role::Configured, listener, client);
        let first = admit(web).unwrap();
        let second = admit(web).unwrap();
        assert_eq!(admit(web).err(), Some(Refused::Listener));
        let third = admit(other).unwrap();
        assert_eq!(admit(other).err(), Some(Refused::Proxy));
        drop(first);
        let fourth = admit(web).unwrap();
        drop((second, third, fourth));
        assert_eq!(counts.proxy.load(Ordering::Relaxed), 0, "who was refused counts no more");
        assert!(lock(&counts.listeners).values().all(|count| count.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn a_source_is_an_address_or_a_customer_s_network() {
        for (first, same, other) in [
            ("192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1"),
            ("192.0.2.1:1", "[::ffff:192.0.2.1]:2", "[::ffff:192.0.2.2]:2"),
            ("[2001:db8:0:1::1]:1", "[2001:db8:0:1:ffff::2]:1", "[2001:db8:0:2::1]:1"),
        ] {
            let counts = limited(0, 0, Some(1));
            let web = counts.at(at("[::]:80"));
            let admit = |source| counts.admit(Role::Inbound, &web, at(source));
            let held = admit(first).unwrap();
            assert_eq!(admit(same).err(), Some(Refused::Source), "{same}");
            assert!(admit(other).is_ok(), "{other}");
            drop(held);
            assert!(admit(same).is_ok(), "{same}, after the first has gone");
            assert!(counts.sources.iter().all(|shard| lock(shard).is_empty()), "nobody is remembered");
        }
    }

    #[test]
    fn our_own_app_and_machine_are_not_limited_as_a_source_unless_asked() {
        let (local, far) = (at("127.0.0.1:9"), at("192.0.2.1:9"));
        for (said, role, source, expected) in [
            (None, Role::Configured, far, 2), // a quarter
            (None, Role::Inbound, far, 2),
            (None, Role::Configured, local, 8),
            (None, Role::Outbound, far, 8),
            (Some(3), Role::Configured, local, 3),
            (Some(3), Role::Outbound, local, 8),
            (Some(0), Role::Configured, far, 8),
        ] {
            let counts = limited(0, 8, said);
            let web = counts.at(at("0.0.0.0:80"));
            let slots: Vec<_> = (0..20).map_while(|_| counts.admit(role, &web, source).ok()).collect();
            assert_eq!(slots.len(), expected, "{said:?} {role:?} {source}");
        }
    }
}

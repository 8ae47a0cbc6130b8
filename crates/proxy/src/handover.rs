//! Which worker serves a connection.
//!
//! A listening socket belongs to one worker: with a share in it each of them would wake up for every connection, and a
//! connection would go to whoever is first, though it may stay for days. The worker that accepts gives the connection to
//! the one that has the least to do, by its mailbox, before a byte of it is read. A proxy of one worker has none of this.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    overload::connections::Slot,
    worker::{Command, Mailbox, Role},
};

/// What an open connection weighs beside a worker's busy thousandths: 20 idle ones as much as one that fills a core.
const IDLE_WEIGHT: u64 = 100;
/// A worker with less to do is as good as any: chance must not outweigh the number of connections.
const BUSY_MIN: u64 = 250;
/// Looked at for a shorter time, a thread that happens to run seems to run always.
const LOOK_MIN: Duration = Duration::from_millis(100);

/// What one worker has to do, for all to see.
#[derive(Debug, Default)]
pub struct Load {
    connections: AtomicU32,
    /// Thousandths of the last while that its thread ran.
    busy: AtomicU32,
}

impl Load {
    fn score(&self) -> u64 {
        let (connections, busy) =
            (self.connections.load(Ordering::Relaxed), u64::from(self.busy.load(Ordering::Relaxed)));
        let busy = if busy < BUSY_MIN { 0 } else { busy };
        (u64::from(connections) + 1) * (busy + IDLE_WEIGHT)
    }
}

/// A connection's share in its worker's load, until it is dropped.
#[derive(Debug)]
pub struct Carried(Arc<Load>);

impl Carried {
    fn by(load: &Arc<Load>) -> Carried {
        load.connections.fetch_add(1, Ordering::Relaxed);
        Carried(Arc::clone(load))
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection on its way to the worker that will serve it.
pub struct Accepted {
    pub role: Role,
    /// Of the listening socket.
    pub address: SocketAddr,
    pub stream: TcpStream,
    pub remote: SocketAddr,
    pub slot: Slot,
}

/// All workers of a proxy, as one of them sees them.
pub struct Crew {
    workers: Vec<Mailbox>,
    own: usize,
}

impl Crew {
    /// `None` where there is nobody to give anything to.
    pub fn of(workers: &[Mailbox], own: usize) -> Option<Crew> {
        (workers.len() > 1).then(|| Crew { workers: workers.to_vec(), own })
    }

    /// Chooses who serves the next connection: another one, or `None` for ourselves.
    pub fn choose(&self, slot: &mut Slot) -> Option<&Mailbox> {
        let scores = self.workers.iter().enumerate().map(|(index, worker)| {
            // Of two alike we are the nearer one.
            (worker.load().score(), index != self.own, index)
        });
        let (_, _, index) = scores.min()?;
        let worker = self.workers.get(index)?;
        slot.carried = Some(Carried::by(worker.load()));
        (index != self.own).then_some(worker)
    }

    pub fn load(&self) -> Option<&Arc<Load>> {
        self.workers.get(self.own).map(Mailbox::load)
    }
}

impl Mailbox {
    pub fn give(&self, accepted: Accepted) {
        self.send(Command::Serve(Box::new(accepted)));
    }
}

/// How much of its time a worker's thread runs, looked at by itself.
pub struct Busy {
    ran: Duration,
    at: Instant,
}

impl Busy {
    pub fn new(now: Instant) -> Busy {
        Busy { ran: thread_time(), at: now }
    }

    /// Half of the figure is what was since the last look, a quarter what was before that, and so on.
    pub fn look(&mut self, load: &Load, now: Instant) {
        let ran = thread_time();
        let (ran_since, since) = (ran.saturating_sub(self.ran), now.saturating_duration_since(self.at));
        if since < LOOK_MIN {
            return;
        }
        let share = ran_since.as_micros().saturating_mul(1000) / since.as_micros().max(1);
        let share = u32::try_from(share).unwrap_or(1000).min(1000);
        load.busy.store((load.busy.load(Ordering::Relaxed) + share).div_ceil(2), Ordering::Relaxed);
        (self.ran, self.at) = (ran, now);
    }
}

/// As the scheduler counts it, in nanoseconds (proc(5): `schedstat`). Not the clock of the thread: its call goes by the
/// vDSO, whose look-up valgrind does not survive. Where there is no such file every worker counts as idle.
fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

#[cfg(test)]
mod tests;

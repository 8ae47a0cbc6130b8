//! Too much of something: what the proxy gives up, in which order, so that it is never the kernel that chooses.
//!
//! One thread beside the workers ([`sampler`]) compares what is used with what there is and publishes one byte of
//! [`Actions`]. A worker reads it with one relaxed load where it accepts, begins a request or ends one; nothing else is
//! shared. Each resource has a level, with hysteresis, and each level its actions:
//!
//! | Level | at | Memory | Descriptors | CPU |
//! |---|---|---|---|---|
//! | shrink | 85 % | idle connections close, longest idle first; pools and buffers are given back | the same | |
//! | drain | 92 % | no new connections; the open ones end with their request; answers whose clients are behind are cut | the open ones end with their request | |
//! | refuse | 95 % | requests get 503, flag `OM` | | requests get 503 |
//!
//! New connections are closed, not left waiting: a client learns at once that it has to go elsewhere. Admin, metrics,
//! the control link, our own health checks and the answers to members' checks go on at every level, and `/ready` stays
//! as it is: an orchestrator that takes the loaded ones away gives their load to the others.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use weft_telemetry::{Registry, Shard, Snapshot};

pub mod connections;
pub mod crowd;
pub mod memory;
pub mod sampler;

use connections::{AtListener, Connections, Refused, Slot};

use crate::{config::Limits, worker::Role};

/// Per mille of a resource at which each level begins.
const BEGINS: [u32; 3] = [850, 920, 950];
/// A level ends this far below where it began, so that it is not entered again at once.
const HYSTERESIS: u32 = 30;
/// While memory is short a connection may be idle for this long.
pub const IDLE_WHILE_SHRINKING: Duration = Duration::from_secs(1);

/// How short a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    #[default]
    Normal,
    Shrink,
    Drain,
    Refuse,
}

impl Level {
    const ALL: [Level; 4] = [Level::Normal, Level::Shrink, Level::Drain, Level::Refuse];

    /// The level after this one, when so much is used.
    fn after(self, per_mille: u32) -> Level {
        let lasts = |begins: &u32, past: bool| per_mille >= begins - if past { HYSTERESIS } else { 0 };
        let reached =
            BEGINS.iter().enumerate().filter(|(at, begins)| lasts(begins, *at < self as usize)).count();
        Level::ALL.get(reached).copied().unwrap_or(Level::Refuse)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Normal => "normal",
            Level::Shrink => "shrink",
            Level::Drain => "drain",
            Level::Refuse => "refuse",
        })
    }
}

/// What can be short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Memory,
    Cpu,
    Descriptors,
}

impl Resource {
    pub const ALL: [Resource; 3] = [Resource::Memory, Resource::Cpu, Resource::Descriptors];

    pub fn name(self) -> &'static str {
        match self {
            Resource::Memory => "memory",
            Resource::Cpu => "cpu",
            Resource::Descriptors => "descriptors",
        }
    }

    fn actions(self, level: Level) -> Actions {
        let steps = match self {
            Resource::Memory => {
                [Actions::SHRINK, Actions::LAST | Actions::CLOSED | Actions::CUT, Actions::REFUSE]
            }
            // Each request of a connection that is open may need one more, and the listeners keep some back for that.
            Resource::Descriptors => [Actions::SHRINK, Actions::LAST, 0],
            // To close connections would make new ones, whose handshakes cost more.
            Resource::Cpu => [0, 0, Actions::REFUSE],
        };
        Actions(steps.iter().take(level as usize).fold(0, |all, step| all | step))
    }
}

/// What is to be done, as one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actions(u8);

impl Actions {
    const SHRINK: u8 = 1;
    const LAST: u8 = 2;
    const CLOSED: u8 = 4;
    const REFUSE: u8 = 8;
    const CUT: u8 = 16;

    /// What is idle goes.
    pub fn shrinks(self) -> bool {
        self.0 & Actions::SHRINK != 0
    }

    /// A connection ends with the request that it carries.
    pub fn ends_connections(self) -> bool {
        self.0 & Actions::LAST != 0
    }

    /// No connection comes in.
    pub fn closed(self) -> bool {
        self.0 & Actions::CLOSED != 0
    }

    /// No request is served.
    pub fn refuses(self) -> bool {
        self.0 & Actions::REFUSE != 0
    }

    /// Answers end whose clients are behind with them. Flow control bounds what each of them holds, and nothing what all
    /// do: for as long as they may be quiet, they would keep the door shut.
    pub fn cuts(self) -> bool {
        self.0 & Actions::CUT != 0
    }
}

/// What the sampler found out about one resource.
#[derive(Default)]
struct Reading {
    per_mille: AtomicU32,
    level: AtomicU8,
}

/// When a worker's loop last came round.
#[derive(Default)]
struct Beat {
    /// Microseconds since the start; 0: not yet.
    last: AtomicU64,
    /// The longest delay since the sampler looked.
    late: AtomicU64,
}

/// The state of one proxy, shared by the sampler, the workers and the admin pages.
pub struct Overload {
    actions: AtomicU8,
    readings: [Reading; 3],
    beats: Box<[Beat]>,
    started: Instant,
    requests_refused: AtomicU64,
    idle_closed: AtomicU64,
    answers_cut: AtomicU64,
    connections: Connections,
    release_memory: Option<fn()>,
}

impl Overload {
    pub fn new(limits: &Limits, workers: usize) -> Arc<Overload> {
        Arc::new(Overload {
            actions: AtomicU8::new(0),
            readings: Default::default(),
            beats: (0..workers).map(|_| Beat::default()).collect(),
            started: Instant::now(),
            requests_refused: AtomicU64::new(0),
            idle_closed: AtomicU64::new(0),
            answers_cut: AtomicU64::new(0),
            connections: Connections::new(limits),
            release_memory: limits.release_memory,
        })
    }

    pub fn actions(&self) -> Actions {
        Actions(self.actions.load(Ordering::Relaxed))
    }

    /// `limit`, or less while idle connections are to go.
    pub fn idle_limit(&self, limit: Duration) -> Duration {
        if self.actions().shrinks() { limit.min(IDLE_WHILE_SHRINKING) } else { limit }
    }

    /// This thread's free memory goes back to the kernel.
    #[cold]
    pub fn release_memory(&self) {
        if let Some(release) = self.release_memory {
            release();
        }
    }

    /// The count of the open connections of a listener.
    pub fn listener(&self, address: SocketAddr) -> AtListener {
        self.connections.at(address)
    }

    /// Whether a connection may stay, and its place among the open ones.
    pub fn admit(&self, role: Role, listener: &AtListener, source: SocketAddr) -> Result<Slot, Refused> {
        if self.actions().closed() {
            return Err(Refused::Overload);
        }
        self.connections.admit(role, listener, source)
    }

    #[cold]
    pub fn on_request_refused(&self) {
        self.requests_refused.fetch_add(1, Ordering::Relaxed);
    }

    #[cold]
    pub fn on_idle_closed(&self, count: u64) {
        self.idle_closed.fetch_add(count, Ordering::Relaxed);
    }

    #[cold]
    pub fn on_answer_cut(&self) {
        self.answers_cut.fetch_add(1, Ordering::Relaxed);
    }

    /// A worker's loop came round, as it does every [`sampler::BEAT`].
    pub fn beat(&self, worker: usize) {
        let Some(beat) = self.beats.get(worker) else { return };
        let now = self.micros();
        let last = beat.last.swap(now, Ordering::Relaxed);
        if last != 0 {
            beat.late.fetch_max(sampler::lateness(last, now), Ordering::Relaxed);
        }
    }

    /// The longest delay of any worker since the last look; one that still lasts counts too.
    fn latest(&self) -> Duration {
        let now = self.micros();
        let late = self.beats.iter().map(|beat| {
            let last = beat.last.load(Ordering::Relaxed);
            let lasting = if last == 0 { 0 } else { sampler::lateness(last, now) };
            beat.late.swap(0, Ordering::Relaxed).max(lasting)
        });
        Duration::from_micros(late.max().unwrap_or(0))
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Takes in what a resource shows now, and says it where that changes something.
    fn note(&self, resource: Resource, per_mille: u32) {
        let reading = &self.readings[resource as usize];
        reading.per_mille.store(per_mille, Ordering::Relaxed);
        let before = self.level(resource);
        let level = before.after(per_mille);
        if level == before {
            return;
        }
        reading.level.store(level as u8, Ordering::Relaxed);
        let all = Resource::ALL.iter().fold(0, |all, one| all | one.actions(self.level(*one)).0);
        self.actions.store(all, Ordering::Relaxed);
        let (resource, percent) = (resource.name(), per_mille / 10);
        tracing::warn!(resource, percent, %level, %before, "the overload level has changed");
    }

    pub fn level(&self, resource: Resource) -> Level {
        let level = self.readings[resource as usize].level.load(Ordering::Relaxed);
        Level::ALL.get(usize::from(level)).copied().unwrap_or_default()
    }

    /// The proxy's own numbers about all this, beside those of its workers.
    pub fn measured(&self, registry: &Registry) -> Snapshot {
        let mut shard: Shard = registry.shard();
        let help = "How much of a resource is used, in percent; CPU: how late the workers are, of a second.";
        let level_help = "0 normal, 1 shrink, 2 drain, 3 refuse.";
        for resource in Resource::ALL {
            let labels = [("resource", resource.name())];
            let percent = self.readings[resource as usize].per_mille.load(Ordering::Relaxed) / 10;
            shard.gauge_set(registry.gauge("weft_overload_pressure_percent", help, &labels), percent.into());
            let level = self.level(resource) as i64;
            shard.gauge_set(registry.gauge("weft_overload_level", level_help, &labels), level);
        }
        for (name, help, count) in [
            ("weft_overload_requests_refused", "Requests that got 503 for overload.", &self.requests_refused),
            (
                "weft_overload_idle_closed",
                "Idle connections of clients closed to make room.",
                &self.idle_closed,
            ),
            (
                "weft_overload_answers_cut",
                "Answers that ended early because their clients were behind and there was no memory.",
                &self.answers_cut,
            ),
        ] {
            shard.add(registry.counter(name, help, &[]), count.load(Ordering::Relaxed));
        }
        shard.snapshot()
    }
}

#[cfg(test)]
mod tests;

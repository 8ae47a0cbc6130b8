//! File descriptors are few, and the operator's pages and the log need some when traffic has taken the rest.
//!
//! The kernel gives the lowest free number, so the number of a new socket says how many there are: no counter, no
//! look into `/proc`. Clients' connections stop first, so that those who are served can still be forwarded.

use std::{
    os::fd::{AsRawFd, RawFd},
    sync::OnceLock,
};

use rustix::process::{Resource, getrlimit};

/// Kept for admin, metrics, xDS, DNS, logs and files.
const RESERVED: u64 = 32;

/// What traffic may use of the process's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    accept_below: RawFd,
    connect_below: RawFd,
}

impl Descriptors {
    /// The limit as it was when it was first asked for.
    pub fn of_process() -> Descriptors {
        static OF_PROCESS: OnceLock<Descriptors> = OnceLock::new();
        *OF_PROCESS
            .get_or_init(|| Descriptors::within(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)))
    }

    fn within(limit: u64) -> Descriptors {
        let traffic = limit.saturating_sub(RESERVED);
        let number = |count: u64| RawFd::try_from(count).unwrap_or(RawFd::MAX);
        Descriptors { accept_below: number(traffic / 4 * 3), connect_below: number(traffic) }
    }

    /// How much of what clients may have is open.
    pub fn per_mille(self, open: u64) -> u32 {
        let max = u64::try_from(self.accept_below).unwrap_or(0);
        u32::try_from(open.saturating_mul(1000) / max.max(1)).unwrap_or(u32::MAX)
    }

    /// How many connections clients may open, unless the operator says otherwise: each may need another to an endpoint.
    pub fn connections_max(self) -> u32 {
        u32::try_from(self.connect_below / 2).unwrap_or(0).max(1)
    }

    /// How many sources of datagrams may have one: they are easily invented, and must not be all that clients are.
    pub fn datagrams_max(self) -> u32 {
        u32::try_from(self.accept_below / 4).unwrap_or(0)
    }

    /// Whether a client's connection with this socket may stay.
    pub fn may_accept(self, socket: &impl AsRawFd) -> bool {
        socket.as_raw_fd() < self.accept_below
    }

    /// Whether a connection to an endpoint may.
    pub fn may_connect(self, socket: &impl AsRawFd) -> bool {
        socket.as_raw_fd() < self.connect_below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_stop_before_endpoints_and_both_before_the_end() {
        for (limit, accept_below, connect_below, datagrams_max) in [
            (256, 168, 224, 42),
            (1024, 744, 992, 186),
            (16, 0, 0, 0),
            (u64::MAX, RawFd::MAX, RawFd::MAX, 536_870_911),
        ] {
            let descriptors = Descriptors::within(limit);
            assert_eq!(descriptors, Descriptors { accept_below, connect_below }, "{limit}");
            assert_eq!(descriptors.datagrams_max(), datagrams_max, "{limit}");
        }
    }
}

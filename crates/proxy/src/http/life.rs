//! For how long, and for how many requests, one connection is used. It ends between requests, never within one.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use weft_routing::ConnectionLife;

/// One connection's.
#[derive(Debug)]
pub struct Life {
    leave_at: Option<Instant>,
    requests_left: Cell<u32>,
}

impl Life {
    /// Begins now.
    pub fn new(limits: &ConnectionLife, random: u64) -> Life {
        Life {
            leave_at: limits.duration(random).and_then(|duration| Instant::now().checked_add(duration)),
            requests_left: Cell::new(limits.requests_max.unwrap_or(u32::MAX)),
        }
    }

    /// No longer than until then.
    pub fn until(mut self, end: Option<Instant>) -> Life {
        self.leave_at = match (self.leave_at, end) {
            (Some(at), Some(end)) => Some(at.min(end)),
            (at, end) => at.or(end),
        };
        self
    }

    /// One request more; true: it was the last that the connection may carry.
    pub fn on_request(&self) -> bool {
        let left = self.requests_left.get();
        if left != u32::MAX {
            self.requests_left.set(left.saturating_sub(1));
        }
        left <= 1
    }

    pub fn is_over(&self) -> bool {
        self.requests_left.get() == 0 || self.leave_at.is_some_and(|at| Instant::now() >= at)
    }

    /// Waits until its time is over.
    pub async fn over(&self) {
        match self.leave_at {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }

    /// For a codec that looks only when it waits: an idle connection does not outlive its time by more than that.
    pub fn idle_at_most(limits: &ConnectionLife, idle_timeout: Duration) -> Duration {
        limits.duration_max.map_or(idle_timeout, |duration| duration.min(idle_timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_request_is_known_as_such() {
        let life = Life::new(&ConnectionLife { requests_max: Some(2), ..ConnectionLife::default() }, 0);
        assert!(!life.is_over() && !life.on_request() && !life.is_over());
        assert!(life.on_request() && life.is_over());
        let endless = Life::new(&ConnectionLife::default(), 0);
        assert!((0..10_000).all(|_| !endless.on_request()) && !endless.is_over());
    }

    #[test]
    fn the_first_end_counts() {
        let life = || Life::new(&ConnectionLife::default(), 0);
        let (now, hour) = (Instant::now(), Duration::from_secs(3600));
        assert!(life().until(Some(now)).is_over() && !life().until(Some(now + hour)).is_over());
        assert!(life().until(Some(now)).until(Some(now + hour)).is_over());
        assert!(life().until(Some(now)).until(None).is_over() && !life().until(None).is_over());
    }

    #[test]
    fn time_ends_it_too() {
        let limits =
            ConnectionLife { duration_max: Some(Duration::from_nanos(1)), ..ConnectionLife::default() };
        let life = Life::new(&limits, 0);
        let started = Instant::now();
        while !life.is_over() {
            assert!(started.elapsed() < Duration::from_secs(5));
        }
    }
}

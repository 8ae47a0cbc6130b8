//! A bounded number of those who have yet to prove themselves; one more pushes out who has waited longest.
//!
//! An honest handshake is over after two round trips, a dishonest one is held for as long as it is allowed. To refuse
//! the newest would let a few hundred silent clients keep everybody out; to push out the oldest costs the silent ones.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// Those who wait.
pub struct Crowd {
    max: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// By arrival.
    places: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A place in the crowd, until it is dropped.
pub struct Place {
    crowd: Arc<Crowd>,
    number: u64,
    pushed_out: oneshot::Receiver<()>,
}

impl Crowd {
    pub fn new(max: usize) -> Arc<Crowd> {
        Arc::new(Crowd { max, waiting: Mutex::default() })
    }

    pub fn enter(self: &Arc<Self>) -> Place {
        let (sender, pushed_out) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.places.len() >= self.max {
            waiting.places.pop_first();
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.places.insert(number, sender);
        drop(waiting);
        Place { crowd: Arc::clone(self), number, pushed_out }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until somebody newer needs the place.
    pub async fn pushed_out(&mut self) {
        let _ = (&mut self.pushed_out).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn the_oldest_goes_and_who_left_makes_room() {
        let crowd = Crowd::new(2);
        let (mut first, mut second) = (crowd.enter(), crowd.enter());
        assert!(first.pushed_out().now_or_never().is_none());
        let mut third = crowd.enter();
        first.pushed_out().await;
        assert!(second.pushed_out().now_or_never().is_none());
        drop(first);
        drop(second);
        let _fourth = crowd.enter();
        assert!(third.pushed_out().now_or_never().is_none(), "there was room");
        assert_eq!(crowd.lock().places.len(), 2);
    }
}

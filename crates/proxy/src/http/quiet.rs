//! Streams in which nothing moves: found by a walk over all that wait, not by a timer for each.
//!
//! A stream that has to wait takes a place on its worker's list and leaves its waker there; each frame marks the place.
//! Twice a second the worker looks for places that were not marked for longer than their limit, and wakes those
//! streams, which then end. A place costs a push and a pop, a timer would cost a lock for every answer that waits once.

use std::{
    cmp::Reverse,
    rc::Rc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use super::body::RequestBody;
use crate::{overload::IDLE_WHILE_SHRINKING, worker::Worker};

/// Answers that are cut at once, if there are so many.
const SHED_MIN: usize = 16;

/// What becomes of an answer whose client is behind with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    Waits,
    /// The client has taken nothing for too long.
    TooLong,
    /// There is no memory for it.
    Shed,
}

/// The waiting streams of one worker.
#[derive(Default)]
pub struct Streams {
    places: Vec<Option<Place>>,
    free: Vec<usize>,
}

struct Place {
    waker: Waker,
    limit: Duration,
    /// A connection that waits for a request.
    idle: bool,
    moved: bool,
    quiet_since: Option<Instant>,
    ended: bool,
    /// Bytes that wait for a client that is behind with its answer; 0: it is not.
    held: usize,
    shed: bool,
    /// What the client sends moves the stream too.
    request: Option<RequestBody>,
    request_bytes: u64,
}

impl Streams {
    /// Wakes the streams whose time is over. `shrink`: and an eighth of the idle connections, those that have been idle
    /// for longest; how many those were is the answer.
    pub fn sweep(&mut self, now: Instant, shrink: bool) -> u64 {
        for place in self.places.iter_mut().flatten() {
            let bytes = place.request.as_ref().map_or(0, RequestBody::bytes);
            let moved = std::mem::take(&mut place.moved) || bytes != place.request_bytes;
            place.request_bytes = bytes;
            match place.quiet_since {
                Some(since) if !moved && now.saturating_duration_since(since) >= place.limit => {
                    place.ended = true;
                    place.waker.wake_by_ref();
                }
                Some(_) if !moved => {}
                _ => place.quiet_since = Some(now),
            }
        }
        if shrink { self.end_idle(now) } else { 0 }
    }

    #[cold]
    fn end_idle(&mut self, now: Instant) -> u64 {
        let idle = self.places.iter_mut().flatten().filter(|place| place.idle && !place.ended);
        let mut idle: Vec<_> = idle
            .filter_map(|place| Some((place.quiet_since?, place)))
            .filter(|(since, _)| now.saturating_duration_since(*since) >= IDLE_WHILE_SHRINKING)
            .collect();
        idle.sort_unstable_by_key(|(since, _)| *since);
        let ending = idle.len().div_ceil(8);
        for (_, place) in idle.iter_mut().take(ending) {
            place.ended = true;
            place.waker.wake_by_ref();
        }
        ending as u64
    }

    /// Ends an eighth of the answers whose clients are behind, or a few: first those of which most is held here, by powers
    /// of two as in Envoy, and of like ones those that have been quiet for longest.
    #[cold]
    pub fn shed(&mut self) {
        let behind = |place: &&mut Place| place.held > 0 && !place.ended && !place.shed;
        let mut behind: Vec<_> = self.places.iter_mut().flatten().filter(behind).collect();
        behind.sort_unstable_by_key(|place| (Reverse(place.held.ilog2()), place.quiet_since));
        let ending = behind.len().div_ceil(8).max(SHED_MIN);
        for place in behind.iter_mut().take(ending) {
            place.shed = true;
            place.waker.wake_by_ref();
        }
    }

    /// Wakes all of them, so that they see what happened.
    pub fn wake(&self) {
        for place in self.places.iter().flatten() {
            place.waker.wake_by_ref();
        }
    }

    fn put(&mut self, place: Place) -> usize {
        if let Some(index) = self.free.pop()
            && let Some(empty) = self.places.get_mut(index)
        {
            *empty = Some(place);
            return index;
        }
        self.places.push(Some(place));
        self.places.len() - 1
    }

    fn at(&mut self, index: usize) -> Option<&mut Place> {
        self.places.get_mut(index)?.as_mut()
    }
}

/// One stream's watch; it has a place only once it had to wait.
pub struct Watch {
    worker: Rc<Worker>,
    limit: Duration,
    request: Option<RequestBody>,
    idle: bool,
    place: Option<usize>,
}

impl Watch {
    /// `None`: the stream may be quiet for ever.
    pub fn new(worker: &Rc<Worker>, limit: Option<Duration>, request: Option<RequestBody>) -> Option<Watch> {
        let limit = limit.filter(|limit| !limit.is_zero())?;
        Some(Watch { worker: Rc::clone(worker), limit, request, idle: false, place: None })
    }

    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Of a connection that waits for a request.
    pub fn idle(worker: &Rc<Worker>, limit: Duration) -> Watch {
        Watch { worker: Rc::clone(worker), limit, request: None, idle: true, place: None }
    }

    /// The stream waits. True: for too long.
    pub fn on_wait(&mut self, cx: &Context<'_>) -> bool {
        let mut streams = self.worker.streams.borrow_mut();
        match self.place.and_then(|place| streams.at(place)) {
            Some(place) => {
                if !place.waker.will_wake(cx.waker()) {
                    place.waker.clone_from(cx.waker());
                }
                place.idle = self.idle;
                place.ended
            }
            None => {
                let request = self.request.take();
                let place = Place {
                    waker: cx.waker().clone(),
                    limit: self.limit,
                    idle: self.idle,
                    moved: false,
                    quiet_since: None,
                    ended: false,
                    held: 0,
                    shed: false,
                    request_bytes: request.as_ref().map_or(0, RequestBody::bytes),
                    request,
                };
                self.place = Some(streams.put(place));
                false
            }
        }
    }

    /// Of an answer whose client is behind with it; without a limit it may be so for ever, as long as there is memory.
    pub fn behind(worker: &Rc<Worker>, limit: Option<Duration>) -> Watch {
        let limit = limit.filter(|limit| !limit.is_zero()).unwrap_or(Duration::MAX);
        Watch { worker: Rc::clone(worker), limit, request: None, idle: false, place: None }
    }

    /// The answer waits for its client, with so many bytes of it, which may keep more memory than their own.
    pub fn on_behind(&mut self, cx: &Context<'_>, held: usize) -> Behind {
        let too_long = self.on_wait(cx);
        let shed = self.place.is_some_and(|index| {
            let mut streams = self.worker.streams.borrow_mut();
            streams.at(index).is_some_and(|place| {
                place.held = held.max(1);
                place.shed
            })
        });
        match (shed, too_long) {
            (true, _) => Behind::Shed,
            (_, true) => Behind::TooLong,
            _ => Behind::Waits,
        }
    }

    /// The connection has a request.
    pub fn on_request(&self) {
        if let Some(index) = self.place
            && let Some(place) = self.worker.streams.borrow_mut().at(index)
        {
            place.moved = true;
            place.ended = false;
            place.idle = false;
        }
    }

    /// Something came.
    pub fn on_move(&self) {
        if let Some(index) = self.place
            && let Some(place) = self.worker.streams.borrow_mut().at(index)
        {
            place.moved = true;
            place.ended = false;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(index) = self.place {
            let mut streams = self.worker.streams.borrow_mut();
            let place = streams.places.get_mut(index).and_then(Option::take);
            streams.free.push(index);
            drop(streams);
            drop(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers that hold so many bytes, quiet for so many seconds.
    fn waiting(answers: impl IntoIterator<Item = (usize, u64)>) -> Streams {
        let (mut streams, now) = (Streams::default(), Instant::now() + Duration::from_secs(1000));
        for (held, quiet) in answers {
            streams.put(Place {
                waker: Waker::noop().clone(),
                limit: Duration::MAX,
                idle: false,
                moved: false,
                quiet_since: Some(now - Duration::from_secs(quiet)),
                ended: false,
                held,
                shed: false,
                request: None,
                request_bytes: 0,
            });
        }
        streams
    }

    fn shed(streams: &Streams) -> Vec<usize> {
        let places = streams.places.iter().flatten().enumerate();
        places.filter(|(_, place)| place.shed).map(|(index, _)| index).collect()
    }

    #[test]
    fn the_largest_and_then_the_quietest_are_cut_first() {
        let mut streams = waiting((0..160).map(|index| match index % 8 {
            0 => (100_000 + index, 0),
            1 => (0, 900), // waits for its endpoint
            _ => (20_000, 10),
        }));
        streams.shed();
        assert_eq!(shed(&streams).len(), 18, "an eighth of 140");
        assert!(shed(&streams).iter().all(|index| index % 8 == 0), "of the largest");
        let mut alike = waiting((0..40).map(|index| (20_000 + index, (index as u64 * 7) % 40)));
        alike.shed();
        let quietest = (0..40).filter(|index| (index * 7) % 40 >= 40 - SHED_MIN);
        assert_eq!(shed(&alike), quietest.collect::<Vec<_>>(), "of like sizes");
        for _ in 0..2 {
            alike.shed();
        }
        assert_eq!(shed(&alike).len(), 40, "to the last");
    }
}

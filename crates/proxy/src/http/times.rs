//! The times that a request is held to, and the wait for its answer's head.

use std::{cell::Cell, future::poll_fn, pin::Pin, task::Poll, time::Duration};

use tokio::time::Instant;

use super::{body::RequestBody, forward::Outgoing, quiet::Watch, timer::Timer};
use crate::worker::Worker;

/// To the response's head, unless the route says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// The route's time begins when the request is complete, as Envoy's `RouteAction.timeout` does: how fast a client sends
/// says nothing of an endpoint, and what it keeps back must not look like one that fails. It runs before that for an
/// endpoint that takes nothing of what is there.
#[derive(Clone, Copy)]
pub struct Times {
    /// For the answer; zero: for ever. `None`: for its head only, and as long as usual.
    answer: Option<Duration>,
    /// The stream's end, whoever is slow.
    stream: Option<Instant>,
    /// Between two movements.
    pub idle: Option<Duration>,
    /// When the request was complete, once it was.
    complete: Option<Instant>,
}

/// What a wait ended with.
pub enum Waited<T> {
    Done(T),
    /// For the answer.
    TooLong,
    /// Nothing moved.
    Quiet,
    /// The client did not send all of the request, and nothing moved or the stream's time is over.
    Unsent,
}

impl Times {
    pub fn of(outgoing: &Outgoing<'_>, started: Instant, body: &RequestBody) -> Times {
        let Outgoing { forwarding, cluster, .. } = outgoing;
        let streams = [
            forwarding.max_stream,
            outgoing.view.config.timeouts.max_stream,
            cluster.cluster.http.max_stream,
        ];
        let stream = streams.into_iter().flatten().filter(|limit| !limit.is_zero()).min();
        Times {
            answer: forwarding.timeout,
            stream: stream.map(|limit| started + limit),
            idle: outgoing.idle_timeout(),
            complete: body.ended().then_some(started),
        }
    }

    /// For the answer's head, if the request is complete; else what is known so far.
    pub fn head(&self) -> Option<Instant> {
        self.until(self.answer.unwrap_or(TIMEOUT))
    }

    /// For all of the answer, where the configuration says so.
    pub fn whole(&self) -> Option<Instant> {
        self.until(self.answer.unwrap_or_default())
    }

    fn until(&self, limit: Duration) -> Option<Instant> {
        let answer = self.complete.filter(|_| !limit.is_zero()).map(|complete| complete + limit);
        answer.into_iter().chain(self.stream).min()
    }

    /// For the rest of an answer that began before its request was complete, from when that is.
    pub fn after_request(&self) -> Option<Duration> {
        self.answer.filter(|limit| self.complete.is_none() && self.stream.is_none() && !limit.is_zero())
    }

    /// For how long somebody is told that we wait, who hears it before the request is complete.
    pub fn told(&self, per_try: Option<Duration>) -> Option<Instant> {
        let complete = Some(self.complete.unwrap_or_else(Instant::now));
        Times { complete, ..*self }.end(per_try)
    }

    /// Of a try that begins now, or whose request is complete now.
    fn end(&self, per_try: Option<Duration>) -> Option<Instant> {
        let per_try = per_try.map(|limit| Instant::now() + limit);
        self.head().into_iter().chain(per_try).min()
    }

    /// Waits for `work`, which sends `body` and takes the answer's head. `moved`: something came that is not the answer.
    pub async fn wait<F: Future>(
        &mut self,
        mut work: Pin<&mut F>,
        body: &RequestBody,
        per_try: Option<Duration>,
        moved: &Cell<bool>,
        (worker, timer): (&std::rc::Rc<Worker>, &mut Timer),
    ) -> Waited<F::Output> {
        let mut end = self.complete.and_then(|_| self.end(per_try));
        let mut watch = None;
        let mut stuck = None;
        let mut bytes = 0;
        poll_fn(|cx| {
            let polled = work.as_mut().poll(cx);
            if self.complete.is_none() && body.ended() {
                self.complete = Some(Instant::now());
                end = self.end(per_try);
                watch = None;
            }
            if let Poll::Ready(done) = polled {
                return Poll::Ready(Waited::Done(done));
            }
            if self.complete.is_none() {
                if body.waits() {
                    (stuck, end) = (None, self.stream);
                } else if stuck.is_none() || body.bytes() != bytes {
                    stuck = Some(Instant::now());
                    end = Times { complete: stuck, ..*self }.end(per_try);
                }
                bytes = body.bytes();
            }
            if end.is_some_and(|end| timer.is_over(end, cx)) {
                let taken = self.complete.or(stuck);
                // The time that began with what the endpoint does not take is that of all tries.
                self.complete = taken;
                return Poll::Ready(if taken.is_none() { Waited::Unsent } else { Waited::TooLong });
            }
            if self.complete.is_some() && end.is_some() {
                return Poll::Pending;
            }
            let watch = watch.get_or_insert_with(|| Watch::new(worker, self.idle, Some(body.clone())));
            let Some(watch) = watch else { return Poll::Pending };
            if moved.take() {
                watch.on_move();
            }
            match watch.on_wait(cx) {
                false => Poll::Pending,
                true if self.complete.or(stuck).is_some() => Poll::Ready(Waited::Quiet),
                true => Poll::Ready(Waited::Unsent),
            }
        })
        .await
    }
}

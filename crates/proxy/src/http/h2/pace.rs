//! Ends streams whose clients take no byte more.
//!
//! While a stream's window is shut the codec asks for nothing of the answer's body, so the body's own watch sleeps. The
//! codec runs each stream as a future of its own, begun right after the request was handed to the service: a [`Pace`]
//! joins the two, and the future is dropped, which resets the stream, when it was last run longer ago than the answer
//! may be quiet, and not because of the upstream.

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use crate::{http::quiet::Watch, worker::Worker};

/// What one stream's body tells those who run the stream.
#[derive(Default)]
pub struct Pace {
    /// For how long nothing may move; `None`: for ever, or there is no answer yet.
    limit: Cell<Option<Duration>>,
    waits_for_upstream: Cell<bool>,
}

impl Pace {
    /// The answer's head is out.
    pub fn begin(&self, limit: Option<Duration>) {
        self.limit.set(limit);
    }

    pub fn set_waiting(&self, waiting: bool) {
        self.waits_for_upstream.set(waiting);
    }

    fn stalled(&self) -> Option<Duration> {
        self.limit.get().filter(|_| !self.waits_for_upstream.get())
    }
}

/// hyper's executor for the streams of one connection.
#[derive(Clone)]
pub struct StreamExec {
    worker: Rc<Worker>,
    /// Of the request that the codec has just handed over.
    newest: Rc<RefCell<Option<Rc<Pace>>>>,
}

impl StreamExec {
    pub fn new(worker: &Rc<Worker>) -> StreamExec {
        StreamExec { worker: Rc::clone(worker), newest: Rc::default() }
    }

    /// For the stream that is run next.
    pub fn pace(&self) -> Rc<Pace> {
        let pace = Rc::<Pace>::default();
        self.newest.replace(Some(Rc::clone(&pace)));
        pace
    }
}

impl<F> hyper::rt::Executor<F> for StreamExec
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        // The tasks of upgrades have none: tunnels watch themselves.
        let Some(pace) = self.newest.take() else {
            tokio::task::spawn_local(future);
            return;
        };
        let worker = Rc::clone(&self.worker);
        tokio::task::spawn_local(async move {
            let mut future = pin!(future);
            let mut watch: Option<Watch> = None;
            std::future::poll_fn(|cx| {
                if watch.as_mut().is_some_and(|watch| watch.on_wait(cx)) {
                    tracing::debug!("a client takes nothing of its answer any more");
                    return Poll::Ready(());
                }
                if future.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                watch = pace.stalled().and_then(|limit| Watch::new(&worker, Some(limit), None));
                if let Some(watch) = &mut watch {
                    watch.on_wait(cx);
                }
                Poll::Pending
            })
            .await;
        });
    }
}

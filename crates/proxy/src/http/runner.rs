//! Requests in progress: their state is large, so a worker keeps a few rooms for it and lends them out.
//!
//! A request's future is some KiB. Made anew for each request it would be allocated, filled and moved each time, and as
//! a part of its connection's future it would be there while the connection waits. So a [`Runner`] is a future that
//! answers one request after the other, whoever asks: a connection borrows one for as long as a request of its is
//! served, and polls it in place.
//!
//! A panic is a bug of ours and costs the request that met it, no other: the answer is 500, or a broken stream where
//! the head was out already.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Response, StatusCode};

use super::{body::ResponseBody, h1::server::Asked, request, timer::Timer};
use crate::peer::Peer;

/// Rooms that a worker keeps for its next requests.
const KEPT_MAX: usize = 64;

thread_local! {
    static KEPT: RefCell<Vec<Runner>> = const { RefCell::new(Vec::new()) };
}

/// Room for one request at a time.
struct Runner {
    future: Pin<Box<dyn Future<Output = ()>>>,
    slot: Rc<Slot>,
}

#[derive(Default)]
struct Slot {
    asked: Cell<Option<(Rc<Peer>, Asked)>>,
    answered: Cell<Option<Response<ResponseBody>>>,
}

async fn run(slot: Rc<Slot>) {
    let mut timer = Timer::default();
    loop {
        let (peer, asked) = poll_fn(|_| slot.asked.take().map_or(Poll::Pending, Poll::Ready)).await;
        let response = match asked {
            Ok(request) => {
                #[cfg(debug_assertions)]
                crate::panics::on_path::meet(request.uri().path());
                request::serve(peer, request, &mut timer).await
            }
            Err(refusal) => request::refused(&peer, refusal),
        };
        slot.answered.set(Some(response));
    }
}

/// The answer to come. Dropped before, it takes all that the request held with it.
pub struct Answer {
    runner: Option<Runner>,
}

/// Answers one request of this peer's.
pub fn answer(peer: Rc<Peer>, asked: Asked) -> Answer {
    let runner = KEPT.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
        let slot = Rc::<Slot>::default();
        Runner { future: Box::pin(run(Rc::clone(&slot))), slot }
    });
    runner.slot.asked.set(Some((peer, asked)));
    Answer { runner: Some(runner) }
}

impl Future for Answer {
    type Output = Response<ResponseBody>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<ResponseBody>> {
        let Some(mut runner) = self.runner.take() else { return Poll::Pending };
        let polled = catch_unwind(AssertUnwindSafe(|| runner.future.as_mut().poll(cx)));
        if polled.is_err() {
            // What was being written is dropped with the room, also the request's record, which counts itself.
            return Poll::Ready(broken());
        }
        match runner.slot.answered.take() {
            Some(response) => {
                KEPT.with_borrow_mut(|kept| {
                    if kept.len() < KEPT_MAX {
                        kept.push(runner);
                    }
                });
                Poll::Ready(response)
            }
            None => {
                self.runner = Some(runner);
                Poll::Pending
            }
        }
    }
}

#[cold]
fn broken() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::text(Bytes::from_static(b"internal error\n"), None));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

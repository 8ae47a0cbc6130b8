//! An answer on its way out: its head, its body as it comes, and a client that does not take it.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, Response, StatusCode, header::CONNECTION};
use http_body::Body as _;
use weft_wire::http1::{Answer, Framing, Persist, Then};

use super::{AHEAD_BYTES_MAX, DRAINED_BYTES_MAX, Settings, Turn};
use crate::http::{
    body::ResponseBody,
    h1::{
        encode::{self, Sending},
        heads,
        shared::{Ended, Shared},
    },
    quiet::{Behind, Watch},
};

/// An answer on its way out. It is lent by the worker, as connections that wait have none.
pub(super) struct Outgoing {
    body: Option<ResponseBody>,
    sending: Sending,
    done: bool,
    /// Once the client had to be waited for.
    stall: Option<Watch>,
    /// What it had to take then.
    left: usize,
}

const OUTGOING_KEPT_MAX: usize = 64;

thread_local! {
    #[expect(clippy::vec_box, reason = "they move between here and their connections, and are large")]
    static OUTGOING: RefCell<Vec<Box<Outgoing>>> = const { RefCell::new(Vec::new()) };
}

/// Keeps none.
#[cold]
pub fn release() {
    OUTGOING.take();
}

/// Writes the answer's head to where it is sent from. `None`: there is no way to say it.
pub(super) fn begin_answer(
    shared: &Shared,
    turn: &mut Turn,
    response: Response<ResponseBody>,
    last: bool,
) -> Option<Box<Outgoing>> {
    let (parts, mut body) = response.into_parts();
    let close = turn.is_none() || last || says_close(&parts.headers);
    let sending = {
        let inner = &mut *shared.inner.borrow_mut();
        inner.answered = true;
        let to_head = inner.asked.head;
        let tunnel = parts.status == StatusCode::SWITCHING_PROTOCOLS
            || (inner.asked.connect && parts.status.is_success());
        let (framing, announce) = encode::response_framing(parts.status, to_head, &parts.headers, &body);
        let framing = if tunnel { Framing::Tunnel } else { framing };
        let answer = match turn {
            Some(turn) => {
                let close =
                    close || inner.ended == Ended::Broken || inner.leaves_more_than(DRAINED_BYTES_MAX);
                turn.answer(framing, announce, close)
            }
            None => Answer { framing, announce, persist: Persist::Close },
        };
        if encode::response(&mut inner.out, &parts, answer).is_err() {
            return None;
        }
        inner.ends_by_close = answer.framing == Framing::UntilClose;
        Sending::from(answer.framing)
    };
    heads::give_back_map(parts.headers);
    let done = sending == Sending::Ended;
    if done {
        body.discard();
    }
    let mut outgoing = OUTGOING.with_borrow_mut(Vec::pop).unwrap_or_else(|| Box::new(Outgoing::new()));
    (outgoing.sending, outgoing.done, outgoing.body) = (sending, done, Some(body));
    Some(outgoing)
}

/// Writes the answer while its body comes, and says what becomes of the connection.
pub(super) async fn respond(
    shared: &Shared,
    turn: &mut Turn,
    mut outgoing: Box<Outgoing>,
    settings: &Settings,
) -> Then {
    let written = poll_fn(|cx| outgoing.poll(shared, cx, settings)).await;
    if written.is_ok() {
        shared.inner.borrow_mut().ends_by_close = false;
    }
    let then = match (written, turn) {
        (Err(()), _) => Then::Wait,
        (Ok(()), None) => Then::Close,
        (Ok(()), Some(turn)) => {
            let mut inner = shared.inner.borrow_mut();
            turn.response_ended();
            match inner.ended {
                Ended::Yes => turn.request_ended(),
                Ended::Broken | Ended::Refused => turn.fail(),
                Ended::No => {}
            }
            inner.finish();
            shared.over();
            turn.then()
        }
    };
    outgoing.give_back();
    then
}

fn says_close(headers: &HeaderMap) -> bool {
    headers.get(CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

impl Outgoing {
    fn new() -> Outgoing {
        Outgoing { body: None, sending: Sending::Ended, done: true, stall: None, left: 0 }
    }

    /// Collects what the body has ready and writes it; the head goes out with the first of it.
    fn poll(&mut self, shared: &Shared, cx: &mut Context<'_>, settings: &Settings) -> Poll<Result<(), ()>> {
        loop {
            let mut waits = false;
            while !self.done && shared.inner.borrow().out.has_room() {
                let Some(body) = &mut self.body else { break };
                // Not while it is borrowed: the body may read from this very connection.
                let frame = match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(frame) => frame,
                    Poll::Pending => {
                        waits = true;
                        break;
                    }
                };
                let ended = body.is_end_stream();
                let inner = &mut *shared.inner.borrow_mut();
                let pushed = match frame {
                    // To the body's own end, also where the client has got all of it: trailers may follow.
                    Some(Ok(frame)) => {
                        self.done = ended;
                        self.sending.push(&mut inner.out, frame, ended)
                    }
                    None => {
                        self.done = true;
                        self.sending.end(&mut inner.out)
                    }
                    Some(Err(error)) => {
                        tracing::debug!(error, "an answer broke off");
                        // What came before the break is the client's all the same.
                        let _ = inner.write(cx);
                        return Poll::Ready(Err(()));
                    }
                };
                if pushed.is_err() {
                    return Poll::Ready(Err(()));
                }
            }
            let written = shared.inner.borrow_mut().write(cx);
            match written {
                Poll::Ready(Ok(())) if self.done => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if waits => self.stall = None,
                Poll::Ready(Ok(())) => continue,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(())),
                Poll::Pending => {
                    if let Some(body) = &mut self.body
                        && let Err(error) = body.drive(cx)
                    {
                        tracing::debug!(error, "an answer took too long");
                        return Poll::Ready(Err(()));
                    }
                    let left = shared.inner.borrow().out.left();
                    if self.is_given_up(cx, left, settings) {
                        return Poll::Ready(Err(()));
                    }
                }
            }
            return shared.listen(cx, AHEAD_BYTES_MAX).map(Err);
        }
    }

    /// True: the client takes nothing of its answer, and has not for too long, or there is no memory for its slowness.
    #[cold]
    fn is_given_up(&mut self, cx: &Context<'_>, left: usize, settings: &Settings) -> bool {
        let watch =
            self.stall.get_or_insert_with(|| Watch::behind(&settings.worker, settings.bounds.write_timeout));
        if left != std::mem::replace(&mut self.left, left) {
            watch.on_move();
        }
        let held = left + self.body.as_mut().map_or(0, ResponseBody::held);
        let behind = watch.on_behind(cx, held);
        if behind == Behind::Shed {
            settings.worker.settings.overload.on_answer_cut();
            if let Some(body) = &mut self.body {
                body.shed();
            }
        }
        behind != Behind::Waits
    }

    fn give_back(mut self: Box<Self>) {
        (self.body, self.stall, self.left) = (None, None, 0);
        OUTGOING.with_borrow_mut(|kept| {
            if kept.len() < OUTGOING_KEPT_MAX {
                kept.push(self);
            }
        });
    }
}

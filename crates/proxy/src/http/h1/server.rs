//! A client's connection: one task reads a head, polls the answer in place, writes it, and begins anew.
//!
//! The answer pulls the request's body through a [`RequestBytes`], which reads from the same socket. Where the puller
//! runs in another task (what outlives its answer does), the connection's task reads for it, since a socket wakes one task
//! only. While an answer is awaited the client is listened to: a reset ends the request, an end of its bytes does not.

mod outgoing;

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use http::{Request, Response};
use tokio::{task::coop::has_budget_remaining, time::Sleep};
use weft_wire::{
    Progress,
    http1::{Refusal, RequestHead, ServerTurn, Then},
};

use super::{
    Bounds, decode,
    io::{Input, Io},
    shared::{Ended, Inner, Shared},
};
use crate::{
    drain::Drain,
    http::{body::ResponseBody, inbound::Inbound, life::Life, quiet::Watch},
    worker::Worker,
};

pub use outgoing::release;

use outgoing::{begin_answer, respond};

/// What is read away of a body that nobody wants, so that the client sees the answer and not a reset.
const DRAINED_BYTES_MAX: u64 = 64 * 1024;
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);
/// For half a head, or the first one, once the drain has begun.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a client may send ahead while it waits.
const AHEAD_BYTES_MAX: usize = 16 * 1024;

/// Whose a connection is, and what it is held to.
pub struct Settings {
    pub worker: Rc<Worker>,
    pub drain: Rc<Drain>,
    pub bounds: Rc<Bounds>,
    /// The end of the client's certificate.
    pub expires: Option<Instant>,
}

/// What came in: a request, or bytes that are none.
pub type Asked = Result<Request<Inbound>, Refusal>;

/// Serves one connection until it ends, or until the drain lets the open request finish.
pub fn serve<F, R>(
    io: Box<dyn Io>,
    first: BytesMut,
    settings: Settings,
    answer: F,
) -> impl Future<Output = ()> + use<F, R>
where
    F: Fn(Asked) -> R,
    R: Future<Output = Response<ResponseBody>>,
{
    // Before the future begins: it has room for what it keeps, not for what it was given too.
    let shared = Shared::new(io, first, Rc::clone(&settings.bounds));
    let life = Life::new(&settings.bounds.life, settings.worker.random()).until(settings.expires);
    let idle_timeout = Life::idle_at_most(&settings.bounds.life, settings.bounds.idle_timeout);
    let mut waiting = Waiting {
        idle: Watch::idle(&settings.worker, idle_timeout),
        head: None,
        patience: None,
        served: false,
    };
    async move {
        loop {
            let (asked, mut turn) = match poll_fn(|cx| poll_head(&shared, cx, &settings, &mut waiting)).await
            {
                Some(asked) => asked,
                None => return,
            };
            waiting.on_head();
            let answering = answer(asked);
            let outgoing = {
                let Some(response) = answered(&shared, answering).await else { return };
                let spent = life.on_request() || life.is_over();
                let last = spent
                    || settings.drain.is_started()
                    || settings.worker.settings.overload.actions().ends_connections();
                begin_answer(&shared, &mut turn, response, last)
            };
            let then = match outgoing {
                Some(outgoing) => respond(&shared, &mut turn, outgoing, &settings).await,
                None => Then::Wait,
            };
            waiting.served = true;
            waiting.idle.on_move();
            match then {
                Then::Next => {}
                Then::Drain => {
                    if !Box::pin(read_away(&shared)).await {
                        return;
                    }
                }
                Then::Tunnel => return shared.hand_over(),
                Then::Close => return Box::pin(close(&shared)).await,
                Then::Wait => return, // cut
            }
        }
    }
}

/// The answer, or `None` when its client is gone.
async fn answered<R>(shared: &Shared, answering: R) -> Option<Response<ResponseBody>>
where
    R: Future<Output = Response<ResponseBody>>,
{
    let mut answering = pin!(answering);
    poll_fn(|cx| {
        if let Poll::Ready(response) = answering.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        shared.listen(cx, AHEAD_BYTES_MAX).map(|()| None)
    })
    .await
}

/// For how long a connection may wait.
struct Waiting {
    idle: Watch,
    /// Since a head began.
    head: Option<Box<Watch>>,
    patience: Option<Pin<Box<Sleep>>>,
    served: bool,
}

impl Waiting {
    fn on_head(&mut self) {
        self.head = None;
        self.idle.on_request();
    }

    /// True: the connection ends.
    fn is_over(&mut self, cx: &mut Context<'_>, half: bool, settings: &Settings) -> bool {
        if half && self.head.is_none() {
            self.head = Watch::new(&settings.worker, Some(settings.bounds.head_timeout), None).map(Box::new);
        }
        let watch = if half { self.head.as_deref_mut() } else { Some(&mut self.idle) };
        if watch.is_some_and(|watch| watch.on_wait(cx)) {
            return true;
        }
        if half && settings.worker.settings.overload.actions().refuses() {
            return true; // it would be refused when it is whole, and costs memory until then
        }
        if half {
            self.idle.on_wait(cx); // hears of the drain
            self.idle.on_move();
        }
        if !settings.drain.is_started() {
            return false;
        }
        if self.served && !half {
            return true;
        }
        // A request that is on its way arrives by then.
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        patience.as_mut().poll(cx).is_ready()
    }
}

/// `None`: there is no request to be answered, only a refusal to be said.
type Turn = Option<ServerTurn>;

/// Reads the next head. `None`: the connection is over.
fn poll_head(
    shared: &Rc<Shared>,
    cx: &mut Context<'_>,
    settings: &Settings,
    waiting: &mut Waiting,
) -> Poll<Option<(Asked, Turn)>> {
    let inner = &mut *shared.inner.borrow_mut();
    loop {
        if !inner.input.is_empty() {
            let mut head = inner.head.take().unwrap_or_else(super::heads::request);
            match head.read(inner.input.as_slice(), &settings.bounds.limits) {
                Ok(Progress::Done(used)) => {
                    let asked = begin(shared, inner, &head, used);
                    let turn = Some(ServerTurn::new(&head));
                    super::heads::give_back(head);
                    return Poll::Ready(Some((asked, turn)));
                }
                Ok(Progress::More) => inner.head = Some(head),
                Err(refusal) => {
                    super::heads::give_back(head);
                    inner.refuse();
                    return Poll::Ready(Some((Err(refusal), None)));
                }
            }
        }
        inner.input.keep();
        match inner.fill(cx) {
            Poll::Ready(Ok(1..)) => {}
            Poll::Ready(_) => return Poll::Ready(None),
            Poll::Pending => {
                let half = !inner.input.is_empty();
                return match waiting.is_over(cx, half, settings) {
                    true => Poll::Ready(None),
                    false => Poll::Pending,
                };
            }
        }
    }
}

fn begin(shared: &Rc<Shared>, inner: &mut Inner, head: &RequestHead, used: usize) -> Asked {
    let whole = inner.input.take_copy(used);
    inner.begin(head);
    decode::request(head, &whole, Inbound::Server(shared.body()))
}

/// Reads the rest of a body that nobody wants, within a bound. True: the connection can go on.
#[cold]
async fn read_away(shared: &Rc<Shared>) -> bool {
    let mut read = 0;
    let reading = poll_fn(|cx| {
        let inner = &mut *shared.inner.borrow_mut();
        loop {
            match ready!(inner.poll_part(cx, &shared.bounds.limits)) {
                Some(Ok(frame)) => read += frame.data_ref().map_or(0, |data| data.len() as u64),
                Some(Err(_)) => return Poll::Ready(false),
                None => return Poll::Ready(true),
            }
            if read > DRAINED_BYTES_MAX {
                return Poll::Ready(false);
            }
        }
    });
    let gone_on = tokio::time::timeout(DRAIN_TIME_MAX, reading).await.unwrap_or(false);
    if !gone_on {
        close(shared).await;
    }
    gone_on
}

/// Ends our side. A client that still sends, or has sent ahead, is listened to until it ends too, or for a moment: the
/// kernel answers what nobody reads with a reset, and drops what it still has of the answer (RFC 9112 section 9.6). By the
/// time alone, as a client that sends much may be behind with its answer for that very reason.
async fn close(shared: &Rc<Shared>) {
    let mut lingers = {
        let inner = shared.inner.borrow();
        inner.ended != Ended::Yes || !inner.input.is_empty()
    };
    let shutdown = poll_fn(|cx| shared.inner.borrow_mut().shutdown(cx));
    // TLS has something to say, for which there must be room.
    let limit = shared.bounds.write_timeout.unwrap_or(Duration::MAX);
    if !matches!(tokio::time::timeout(limit, shutdown).await, Ok(Ok(()))) {
        return;
    }
    let reading = poll_fn(|cx| {
        let inner = &mut *shared.inner.borrow_mut();
        loop {
            inner.input = Input::default();
            match inner.fill(cx) {
                Poll::Ready(Ok(1..)) => lingers = true,
                // Without a budget nothing was looked at.
                Poll::Pending if lingers || !has_budget_remaining() => return Poll::Pending,
                _ => return Poll::Ready(()),
            }
        }
    });
    let _ = tokio::time::timeout(DRAIN_TIME_MAX, reading).await;
}

//! A connection of HTTP/2 and those who wait for it, shared by its task and its streams.
//!
//! Everybody lives on one thread. A stream's halves write their frames straight into the connection's output and read
//! what it holds for them; the task moves bytes between that and the socket, and is woken once for all that was written
//! since its last turn, so that frames of many streams leave in one write.

use std::{
    cell::{Ref, RefCell, RefMut},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use tokio::sync::Notify;
use weft_wire::http2::{
    Config, Connection, Event, Key, OpenError, RECEIVING, Read, Reason, RequestHead, Room, SENDING,
    StreamError,
};

use super::Accepted;
use crate::http::h1::io;

/// One end of a connection.
pub struct Mux {
    connection: RefCell<Connection>,
    waiting: RefCell<Waiting>,
    /// A PING is answered.
    pong: Notify,
}

#[derive(Default)]
struct Waiting {
    task: Option<Waker>,
    /// By the slots of their streams.
    streams: Vec<Halves>,
    /// Requests for which the other side has no room yet.
    opening: Vec<Waker>,
}

#[derive(Default)]
struct Halves {
    receiving: Option<Waker>,
    sending: Option<Waker>,
}

fn remember(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(known) if known.will_wake(cx.waker()) => {}
        _ => *place = Some(cx.waker().clone()),
    }
}

impl Mux {
    pub fn new(config: Config) -> Rc<Mux> {
        Rc::new(Mux {
            connection: RefCell::new(Connection::new(config)),
            waiting: RefCell::default(),
            pong: Notify::new(),
        })
    }

    pub fn connection(&self) -> RefMut<'_, Connection> {
        self.connection.borrow_mut()
    }

    pub fn view(&self) -> Ref<'_, Connection> {
        self.connection.borrow()
    }

    /// Lets the task look at what there is to do.
    pub fn wake(&self) {
        if let Some(task) = &self.waiting.borrow().task {
            task.wake_by_ref();
        }
    }

    /// For something that is written: the task will send it.
    fn writing(&self) -> RefMut<'_, Connection> {
        self.wake();
        let mut connection = self.connection.borrow_mut();
        let output = connection.output();
        if output.is_bare() {
            output.lend(io::lend_flat());
        }
        connection
    }

    /// Breaks what is not whole, and tells everybody.
    pub fn close(&self) {
        // In a panic somebody may still be at it.
        let Ok(mut connection) = self.connection.try_borrow_mut() else { return };
        connection.close();
        drop(connection);
        self.dispatch(&mut |_| {});
        let opening = std::mem::take(&mut self.waiting.borrow_mut().opening);
        opening.into_iter().for_each(Waker::wake);
    }

    /// The task that is to be woken.
    pub fn begin(&self, cx: &Context<'_>) {
        remember(&mut self.waiting.borrow_mut().task, cx);
    }

    /// Wakes whom the newest events are for; new requests go to `opened`.
    pub fn dispatch(&self, opened: &mut dyn FnMut(Key)) {
        loop {
            let event = self.connection.borrow_mut().next_event();
            match event {
                None => break,
                Some(Event::Opened(key)) => opened(key),
                // Also whoever sends: the stream may have ended.
                Some(Event::Readable(key)) => {
                    let (receiving, sending) =
                        self.halves(key, |halves| (halves.receiving.take(), halves.sending.take()));
                    [receiving, sending].into_iter().flatten().for_each(Waker::wake);
                }
                Some(Event::Writable(key)) => {
                    let sending = self.halves(key, |halves| halves.sending.take());
                    sending.into_iter().for_each(Waker::wake);
                }
                Some(Event::Settings) => {}
                Some(Event::Pong) => self.pong.notify_waiters(),
                Some(Event::Leaves(reason)) => tracing::debug!(%reason, "an HTTP/2 peer leaves"),
            }
        }
        if !self.waiting.borrow().opening.is_empty() && self.view().can_open() != Err(OpenError::Full) {
            let opening = std::mem::take(&mut self.waiting.borrow_mut().opening);
            opening.into_iter().for_each(Waker::wake);
        }
    }

    fn halves<T>(&self, key: Key, with: impl FnOnce(&mut Halves) -> T) -> T {
        let streams = &mut self.waiting.borrow_mut().streams;
        let slot = key.slot();
        if streams.len() <= slot {
            streams.resize_with(slot + 1, Halves::default);
        }
        match streams.get_mut(slot) {
            Some(halves) => with(halves),
            None => with(&mut Halves::default()), // there is one by now
        }
    }

    /// A stream that was opened by the other side.
    pub fn accept(self: &Rc<Mux>, key: Key) -> Option<Accepted> {
        let request = self.connection.borrow_mut().take_request(key)?;
        let (receiving, sending) = (self.receiving(key), self.sending(key));
        Some(match self.view().error(key) {
            None => Accepted::Open(request, receiving, sending),
            Some(_) => Accepted::TakenBack(request),
        })
    }

    fn receiving(self: &Rc<Mux>, key: Key) -> ReceiveHalf {
        ReceiveHalf { mux: Rc::clone(self), key }
    }

    fn sending(self: &Rc<Mux>, key: Key) -> SendHalf {
        SendHalf { mux: Rc::clone(self), key }
    }

    /// Waits until the other side has room for a stream.
    pub fn poll_ready(&self, cx: &Context<'_>) -> Poll<Result<(), OpenError>> {
        let can_open = self.view().can_open();
        if can_open == Err(OpenError::Full) {
            let opening = &mut self.waiting.borrow_mut().opening;
            if !opening.iter().any(|known| known.will_wake(cx.waker())) {
                opening.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        Poll::Ready(can_open)
    }

    /// Sends a request's head.
    pub fn open(
        self: &Rc<Mux>,
        head: RequestHead<'_>,
        ends: bool,
    ) -> Result<(ReceiveHalf, SendHalf), OpenError> {
        let key = self.writing().open(head, ends)?;
        Ok((self.receiving(key), self.sending(key)))
    }

    /// Asks whether the other side is still there; ready with its answer.
    pub fn ping(&self) -> impl Future<Output = ()> + use<'_> {
        let answered = self.pong.notified();
        self.writing().ping();
        answered
    }

    /// A server's: asks its client to leave.
    pub fn leave(&self) {
        self.writing().leave();
    }

    /// Takes no stream more, whether the client has read that or not.
    pub fn leave_now(&self) {
        self.writing().leave_now();
    }
}

/// The half of a stream that comes in. Dropped, nobody reads it any more.
pub struct ReceiveHalf {
    mux: Rc<Mux>,
    key: Key,
}

impl ReceiveHalf {
    /// The next head of an answer, 1xx ones too.
    pub fn poll_response(&mut self, cx: &Context<'_>) -> Poll<Result<Response<()>, StreamError>> {
        if let Some(response) = self.mux.connection.borrow_mut().take_response(self.key)? {
            return Poll::Ready(Ok(response));
        }
        self.mux.halves(self.key, |halves| remember(&mut halves.receiving, cx));
        Poll::Pending
    }

    /// The next part, never [`Read::Wait`].
    pub fn poll_read(&mut self, cx: &Context<'_>) -> Poll<Result<Read, StreamError>> {
        let (read, writes) = {
            let mut connection = self.mux.connection.borrow_mut();
            (connection.read(self.key), !connection.output().is_empty())
        };
        // What was read may have made a WINDOW_UPDATE, and who waits a 100.
        if writes {
            self.mux.wake();
        }
        match read {
            Ok(Read::Wait) => {
                self.mux.halves(self.key, |halves| remember(&mut halves.receiving, cx));
                Poll::Pending
            }
            other => Poll::Ready(other),
        }
    }

    /// Sends a 1xx answer to the request that comes in here.
    #[cold]
    pub fn interim(&self, status: StatusCode, headers: &HeaderMap) {
        // Whoever sends the answer learns of a stream that is broken.
        let _ = self.mux.writing().answer(self.key, status, headers, false);
    }

    /// Whether all of it was read.
    pub fn is_read(&self) -> bool {
        self.mux.view().is_read(self.key)
    }

    /// How much of it waits here.
    pub fn unread(&self) -> usize {
        self.mux.view().unread(self.key)
    }

    /// How long the whole body is, if its head said so.
    pub fn length(&self) -> Option<u64> {
        self.mux.view().length(self.key)
    }

    /// Whether nothing of the stream has reached the socket.
    pub fn is_unwritten(&self) -> bool {
        self.mux.view().is_unwritten(self.key)
    }
}

impl Drop for ReceiveHalf {
    fn drop(&mut self) {
        if self.mux.view().holds(self.key) {
            self.mux.writing().release(self.key, RECEIVING);
        }
    }
}

/// The half of a stream that goes out. Dropped before its end, it resets the stream.
pub struct SendHalf {
    mux: Rc<Mux>,
    key: Key,
}

impl SendHalf {
    /// How much may be sent now; at least one byte.
    pub fn poll_room(&mut self, cx: &Context<'_>) -> Poll<Result<usize, StreamError>> {
        let room = self.mux.connection.borrow_mut().room(self.key)?;
        match room {
            Room::Bytes(count) => Poll::Ready(Ok(count)),
            Room::Wait => {
                self.mux.halves(self.key, |halves| remember(&mut halves.sending, cx));
                Poll::Pending
            }
        }
    }

    /// Ready when the stream is broken.
    pub fn poll_broken(&mut self, cx: &Context<'_>) -> Poll<StreamError> {
        if let Some(error) = self.mux.view().error(self.key) {
            return Poll::Ready(error);
        }
        self.mux.halves(self.key, |halves| remember(&mut halves.sending, cx));
        Poll::Pending
    }

    /// Sends an answer's head, or a 1xx before it.
    pub fn answer(&mut self, status: StatusCode, headers: &HeaderMap, ends: bool) -> Result<(), StreamError> {
        self.mux.writing().answer(self.key, status, headers, ends)
    }

    /// Sends what there is room for, and takes it off.
    pub fn send_data(&mut self, data: &mut Bytes, ends: bool) -> Result<(), StreamError> {
        self.mux.writing().send_data(self.key, data, ends)
    }

    pub fn send_trailers(&mut self, trailers: &HeaderMap) -> Result<(), StreamError> {
        self.mux.writing().send_trailers(self.key, trailers)
    }

    pub fn reset(&mut self, reason: Reason) {
        self.mux.writing().reset(self.key, reason);
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if self.mux.view().holds(self.key) {
            self.mux.writing().release(self.key, SENDING);
        }
    }
}

//! A client's connection as its task and the reader of a request's body share it.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::{io::AsyncWrite, sync::oneshot};
use weft_wire::http1::{Asked, Framing, Limits, RequestHead, Version};

use super::{
    Bounds,
    decode::{Found, Reader},
    encode, heads,
    io::{Input, Io, Out},
};
use crate::{http::body::BodyError, net::Prefixed};

/// The connection once HTTP is over on it.
pub type Raw = Prefixed<Box<dyn Io>>;

/// What is known of the request's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    No,
    Yes,
    /// The body was cut or is none.
    Broken,
    /// The head was none.
    Refused,
}

pub struct Shared {
    pub inner: RefCell<Inner>,
    pub bounds: Rc<Bounds>,
    /// Counts requests: a body that outlives its own reads nothing.
    number: Cell<u32>,
}

pub struct Inner {
    io: Option<Box<dyn Io>>,
    pub input: Input,
    pub out: Out,
    /// Half a head.
    pub head: Option<Box<RequestHead>>,
    pub asked: Asked,
    pub ended: Ended,
    /// The client has ended its side.
    pub eof: bool,
    /// Something was written that the layer below may still hold.
    flushing: bool,
    /// The client knows 1xx answers.
    takes_interim: bool,
    /// The final head is out, or about to be.
    pub answered: bool,
    /// The answer on its way ends with the connection, so that one which is cut must not look like its end.
    pub ends_by_close: bool,
    /// Of a request that has one; lent by the worker.
    body: Option<Box<Reader>>,
    framing: Framing,
    /// The client waits for a word before it sends the body.
    expects: bool,
    /// The connection's task, and a body's reader in another one.
    task: Option<Waker>,
    reader: Option<Waker>,
    tunnel: Option<Box<oneshot::Sender<Raw>>>,
}

const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl Shared {
    pub fn new(io: Box<dyn Io>, first: BytesMut, bounds: Rc<Bounds>) -> Rc<Shared> {
        let inner = Inner {
            io: Some(io),
            input: Input::new(first),
            out: Out::default(),
            head: None,
            asked: Asked::default(),
            ended: Ended::Yes,
            eof: false,
            flushing: false,
            takes_interim: false,
            answered: false,
            ends_by_close: false,
            body: None,
            framing: Framing::None,
            expects: false,
            task: None,
            reader: None,
            tunnel: None,
        };
        Rc::new(Shared { inner: RefCell::new(inner), bounds, number: Cell::new(0) })
    }

    /// The body of the request that just began.
    pub fn body(self: &Rc<Shared>) -> RequestBytes {
        self.number.set(self.number.get().wrapping_add(1));
        RequestBytes { shared: Rc::clone(self), number: self.number.get() }
    }

    /// The request is over: who still holds its body reads nothing more.
    pub fn over(&self) {
        self.number.set(self.number.get().wrapping_add(1));
    }

    /// Listens to the client while it waits for the answer, and sends what comes before that. Ready: it is gone.
    pub fn listen(&self, cx: &mut Context<'_>, ahead_max: usize) -> Poll<()> {
        let inner = &mut *self.inner.borrow_mut();
        if !inner.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            inner.task = Some(cx.waker().clone());
        }
        if !inner.answered && (inner.flushing || !inner.out.is_empty()) {
            let _ = inner.write(cx); // who takes none of it is seen to be gone, or gets it with the answer
        }
        if let Some(reader) = &inner.reader {
            // For a reader in another task; it takes what was read, or sees the end.
            let reader = reader.clone();
            if inner.fill(cx).is_ready() {
                inner.reader = None;
                reader.wake();
            }
            return Poll::Pending;
        }
        while inner.ended == Ended::Yes && !inner.eof && inner.input.len() < ahead_max {
            match ready!(inner.fill(cx)) {
                Ok(_) => inner.input.keep(),
                Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Gives the connection to whoever asked for it.
    #[cold]
    pub fn hand_over(&self) {
        let inner = &mut *self.inner.borrow_mut();
        let rest = std::mem::take(&mut inner.input).into_rest();
        if let (Some(io), Some(tunnel)) = (inner.io.take(), inner.tunnel.take()) {
            let _ = tunnel.send(Prefixed::new(rest, io));
        }
    }
}

impl Inner {
    /// Reads once. An end is remembered.
    pub fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(io) = self.io.as_mut().filter(|_| !self.eof) else { return Poll::Ready(Ok(0)) };
        let count = ready!(self.input.poll_fill(io, cx))?;
        self.eof = count == 0;
        Poll::Ready(Ok(count))
    }

    pub fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        self.flushing = true;
        ready!(self.out.poll_write(io, cx, &mut 0))?;
        let flushed = Pin::new(io).poll_flush(cx);
        self.flushing = flushed.is_pending();
        flushed
    }

    pub fn shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Ok(())) };
        Pin::new(io).poll_shutdown(cx)
    }

    /// A request's head was read.
    pub fn begin(&mut self, head: &RequestHead) {
        self.framing = head.framing();
        self.take_back();
        if !matches!(self.framing, Framing::None | Framing::Length(0) | Framing::Tunnel) {
            self.body = Some(heads::reader(self.framing));
        }
        self.asked = head.asked(false);
        self.expects = head.expects_continue();
        self.takes_interim = head.version() == Version::Http11;
        self.ended = if self.body.is_none() { Ended::Yes } else { Ended::No };
        self.answered = false;
    }

    /// What came is no request.
    #[cold]
    pub fn refuse(&mut self) {
        self.asked = Asked::default();
        self.ended = Ended::Refused;
        self.answered = false;
    }

    /// So much of the request's body is still to come that nobody will read it away, or it comes only when it is asked
    /// for: who answers now says that the connection ends (RFC 9112 section 9.6).
    pub fn leaves_more_than(&self, most: u64) -> bool {
        let Some(body) = self.body.as_ref().filter(|_| self.ended == Ended::No) else { return false };
        let left = body.left().map_or(0, |left| left.saturating_sub(self.input.len() as u64));
        left > most || self.expects && self.input.is_empty()
    }

    /// The answer is out.
    pub fn finish(&mut self) {
        self.reader = None;
        self.input.keep();
    }

    fn take_back(&mut self) {
        if let Some(reader) = self.body.take() {
            heads::give_back_reader(reader);
        }
    }

    /// The next part of the request's body.
    pub fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.take_part(limits) {
                Some(part) => return Poll::Ready(part),
                None => {
                    self.input.keep();
                    match ready!(self.fill(cx)) {
                        Ok(1..) => {}
                        Ok(0) => {
                            return Poll::Ready(Some(Err(self.broken("the client ended its request early"))));
                        }
                        Err(error) => {
                            self.ended = Ended::Broken;
                            return Poll::Ready(Some(Err(error.into())));
                        }
                    }
                }
            }
        }
    }

    /// From what is at hand; `None`: more is needed.
    fn take_part(&mut self, limits: &Limits) -> Option<Option<Result<Frame<Bytes>, BodyError>>> {
        if matches!(self.ended, Ended::Broken | Ended::Refused) {
            return Some(Some(Err("the request broke off".into())));
        }
        let Some(body) = &mut self.body else { return Some(None) };
        let found = body.next(&mut self.input, limits);
        if body.is_ended() {
            self.ended = Ended::Yes;
            self.take_back();
        }
        match found {
            Ok(Found::Frame(frame)) => Some(Some(Ok(frame))),
            Ok(Found::End) => Some(None),
            Ok(Found::Nothing) => None,
            Err(refusal) => Some(Some(Err(self.broken(refusal.label())))),
        }
    }

    #[cold]
    fn broken(&mut self, reason: &'static str) -> BodyError {
        self.ended = Ended::Broken;
        reason.into()
    }

    /// Tells a client that waits for it to send its body.
    fn go_on(&mut self, cx: &mut Context<'_>) {
        if std::mem::take(&mut self.expects) && !self.answered {
            if self.input.is_empty() {
                self.out.flat().extend_from_slice(GO_ON);
            }
            let _ = self.write(cx); // the rest goes out with the answer
        }
    }
}

impl Drop for Inner {
    /// Also where the whole process ends in the middle of an answer.
    fn drop(&mut self) {
        if let Some(io) = self.io.as_ref().filter(|_| self.ends_by_close) {
            io.abort();
        }
    }
}

/// A request's body, as the answer reads it.
pub struct RequestBytes {
    shared: Rc<Shared>,
    number: u32,
}

impl RequestBytes {
    fn is_current(&self) -> bool {
        self.number == self.shared.number.get()
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.is_current() {
            return Poll::Ready(Some(Err("this request is over".into())));
        }
        let inner = &mut *self.shared.inner.borrow_mut();
        inner.go_on(cx);
        let Some(task) = inner.task.clone().filter(|task| !task.will_wake(cx.waker())) else {
            return inner.poll_part(cx, &self.shared.bounds.limits);
        };
        let part = inner.take_part(&self.shared.bounds.limits);
        if part.is_some() {
            return Poll::Ready(part.flatten());
        }
        if inner.eof {
            return Poll::Ready(Some(Err(inner.broken("the client ended its request early"))));
        }
        inner.reader = Some(cx.waker().clone());
        task.wake();
        Poll::Pending
    }

    /// Sends a 1xx answer to the request whose body this is, unless its client speaks HTTP/1.0 (RFC 9110 section 15.2).
    #[cold]
    pub fn interim(&self, status: StatusCode, headers: &HeaderMap) {
        let inner = &mut *self.shared.inner.borrow_mut();
        if self.is_current() && inner.takes_interim && !inner.answered {
            // What cannot be said is no loss; the connection's task writes the rest.
            let _ = encode::interim(&mut inner.out, status, headers);
        }
    }

    pub fn is_end_stream(&self) -> bool {
        !self.is_current() || self.shared.inner.borrow().ended == Ended::Yes
    }

    pub fn size_hint(&self) -> SizeHint {
        match self.shared.inner.borrow().framing {
            Framing::None => SizeHint::with_exact(0),
            Framing::Length(length) => SizeHint::with_exact(length),
            _ => SizeHint::default(),
        }
    }

    /// The connection itself, once the answer has said that HTTP is over on it.
    pub fn on_upgrade(&self) -> oneshot::Receiver<Raw> {
        let (sender, receiver) = oneshot::channel();
        self.shared.inner.borrow_mut().tunnel = Some(Box::new(sender));
        receiver
    }
}

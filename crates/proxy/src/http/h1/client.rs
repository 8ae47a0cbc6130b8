//! A connection to an endpoint: no task, but a thing in a pool that whoever waits for the answer drives.
//!
//! [`exchange`] writes the head with what the body has ready and waits for the answer's head; from then on the answer's
//! body, [`ResponseBytes`], drives what is left of both. An answer may come before the request is out: both go on. Such
//! a connection is not used again, nor is one that has bytes left that nobody asked for.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use weft_wire::{
    Progress,
    http1::{Asked, ClientTurn, Framing, Limits, Refusal, ResponseHead, Unwritable},
};

use super::{
    decode::{self, Found, Reader},
    encode::{self, Sending, WrongLength},
    heads,
    io::{Input, Out},
};
use crate::{
    http::{
        body::{BodyError, TryBody},
        inbound::Inbound,
        interim::OnInterim,
        life::Life,
        target::Target,
    },
    net::Prefixed,
    upstream::{connect::Stream, pool::Held},
};

/// One connection; the pool, the answer's body and the request's record share it.
pub struct Connection {
    pub life: Life,
    inner: RefCell<Inner>,
}

struct Inner {
    io: Option<Stream>,
    input: Input,
    out: Out,
    head: Option<Box<ResponseHead>>,
    turn: ClientTurn,
    body: Reader,
    framing: Framing,
    /// What is left of the request.
    request: Option<TryBody>,
    /// Why it broke off while nobody asked for the answer.
    failed: Option<BodyError>,
    sending: Sending,
    /// Bytes of the request that the kernel took.
    written: u64,
    /// The layer below may still hold some of it.
    flushing: bool,
    /// Something of the answer came.
    heard: bool,
    eof: bool,
    _held: Held,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the connection ended before the answer did")]
    Ended,
    #[error("the answer is malformed: {0}")]
    Refused(#[from] Refusal),
    #[error("the request cannot be written: {0}")]
    Unwritable(#[from] Unwritable),
    /// The client's fault, or a limit of ours.
    #[error("the request's body broke off: {0}")]
    Request(BodyError),
}

/// An exchange without an answer.
#[derive(Debug)]
pub struct Failed {
    pub cause: Cause,
    /// The other side can have seen something of the request.
    pub written: bool,
    /// Something of an answer came.
    pub heard: bool,
}

impl Connection {
    pub fn new(io: Stream, held: Held, life: Life) -> Rc<Connection> {
        Rc::new(Connection {
            life,
            inner: RefCell::new(Inner {
                io: Some(io),
                input: Input::default(),
                out: Out::default(),
                head: None,
                turn: ClientTurn::new(Asked::default(), &Limits::DEFAULT),
                body: Reader::default(),
                framing: Framing::None,
                request: None,
                failed: None,
                sending: Sending::Ended,
                written: 0,
                flushing: false,
                heard: false,
                eof: false,
                _held: held,
            }),
        })
    }

    /// The exchange ended well, and another may follow.
    pub fn may_reuse(&self) -> bool {
        let inner = self.inner.borrow();
        inner.turn.may_reuse(inner.input.len()) && inner.out.is_empty() && !inner.eof && inner.io.is_some()
    }

    /// Whether an idle connection is still good: it was not closed, and said nothing that nobody asked for.
    pub fn is_quiet(&self) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        let quiet = inner.fill(&mut Context::from_waker(Waker::noop())).is_pending();
        inner.input.keep();
        quiet
    }

    /// The bytes, after an answer that ended HTTP on this connection.
    pub fn into_raw(&self) -> Option<Prefixed<Stream>> {
        let inner = &mut *self.inner.borrow_mut();
        let rest = std::mem::take(&mut inner.input).into_rest();
        Some(Prefixed::new(rest, inner.io.take()?))
    }
}

/// Sends a request and waits for the answer's final head; those before it go to `on_interim`. Dropped before, it leaves a
/// connection that is not used again.
pub async fn exchange(
    connection: &Rc<Connection>,
    target: &mut Target,
    body: TryBody,
    upgrade: bool,
    on_interim: OnInterim<'_>,
) -> Result<Response<Inbound>, Failed> {
    if let Err(error) = connection.inner.borrow_mut().begin(target, body, upgrade) {
        return Err(Failed { cause: error.into(), written: false, heard: false });
    }
    let (head, whole) = loop {
        let answered = poll_fn(|cx| connection.inner.borrow_mut().poll_answer(cx)).await;
        match answered {
            Ok((head, whole)) if head.is_interim() => {
                let interim = decode::response(&head, &whole, ());
                heads::give_back_response(head);
                if let Ok(interim) = interim {
                    on_interim(interim);
                }
            }
            Ok(answered) => break answered,
            Err(cause) => {
                let inner = &mut *connection.inner.borrow_mut();
                inner.end();
                return Err(Failed { cause, written: inner.written > 0, heard: inner.heard });
            }
        }
    };
    let body = Inbound::Client(ResponseBytes { connection: Rc::clone(connection) });
    let response = decode::response(&head, &whole, body);
    heads::give_back_response(head);
    response.map_err(|refusal| Failed { cause: refusal.into(), written: true, heard: true })
}

impl Inner {
    fn begin(&mut self, target: &mut Target, body: TryBody, upgrade: bool) -> Result<(), Unwritable> {
        let method = weft_wire::http1::Method::of(target.method.as_str().as_bytes());
        let asked = Asked {
            head: method == weft_wire::http1::Method::Head,
            connect: method == weft_wire::http1::Method::Connect,
            upgrade,
        };
        self.turn = ClientTurn::new(asked, &Limits::DEFAULT);
        self.written = 0;
        self.heard = false;
        self.sending = encode::request(&mut self.out, target, &body, upgrade)?;
        self.request = (self.sending != Sending::Ended).then_some(body);
        Ok(())
    }

    /// Nothing more is done with this connection.
    fn end(&mut self) {
        self.turn.fail();
        self.request = None;
        self.io = None;
        self.out.clear();
        self.input = Input::default();
    }

    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(io) = self.io.as_mut().filter(|_| !self.eof) else { return Poll::Ready(Ok(0)) };
        let count = ready!(self.input.poll_fill(io, cx))?;
        self.eof = count == 0;
        self.heard |= count > 0;
        Poll::Ready(Ok(count))
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Box<ResponseHead>, Bytes), Cause>> {
        // An answer that is there counts, whatever became of the sending.
        let _ = self.poll_send(cx)?;
        loop {
            if !self.input.is_empty()
                && let Some(answered) = self.read_head()?
            {
                return Poll::Ready(Ok(answered));
            }
            self.input.keep();
            match ready!(self.fill(cx)) {
                Ok(1..) => {}
                Ok(0) => return Poll::Ready(Err(Cause::Ended)),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// The next head, which may be an informational one.
    fn read_head(&mut self) -> Result<Option<(Box<ResponseHead>, Bytes)>, Refusal> {
        let mut head = self.head.take().unwrap_or_else(heads::response);
        match head.read(self.input.as_slice(), self.turn.asked(), &Limits::DEFAULT) {
            Ok(Progress::Done(used)) => {
                self.turn.head(&head)?;
                if !head.is_interim() {
                    self.framing = head.framing();
                    self.body.restart(self.framing);
                }
                let whole = self.input.take_copy(used);
                Ok(Some((head, whole)))
            }
            Ok(Progress::More) => {
                self.head = Some(head);
                Ok(None)
            }
            Err(refusal) => {
                heads::give_back_response(head);
                Err(refusal)
            }
        }
    }

    /// Sends what the request's body has ready. Only the body's own failure is one: what the other side does not take
    /// it may have answered already.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Cause> {
        loop {
            let mut waits = false;
            while self.out.has_room()
                && let Some(body) = &mut self.request
            {
                let frame = match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(frame) => frame,
                    Poll::Pending => {
                        waits = true;
                        break;
                    }
                };
                let ended = body.is_end_stream();
                let pushed = match frame {
                    Some(Ok(frame)) => {
                        let pushed = self.sending.push(&mut self.out, frame, ended);
                        if ended {
                            self.request = None;
                        }
                        pushed
                    }
                    None => {
                        self.request = None;
                        self.sending.end(&mut self.out)
                    }
                    Some(Err(error)) => return Err(Cause::Request(error)),
                };
                pushed.map_err(|WrongLength| Cause::Request(Box::new(WrongLength)))?;
            }
            let Some(io) = &mut self.io else { return Ok(Poll::Ready(())) };
            self.flushing |= !self.out.is_empty();
            let written = match self.out.poll_write(io, cx, &mut self.written) {
                Poll::Ready(Ok(())) if waits || self.request.is_none() => match self.flushing {
                    false => Poll::Ready(Ok(())),
                    // TLS keeps records that the socket had no room for.
                    true => {
                        let flushed = tokio::io::AsyncWrite::poll_flush(Pin::new(io), cx);
                        self.flushing = flushed.is_pending();
                        flushed
                    }
                },
                Poll::Ready(Ok(())) => continue,
                other => other,
            };
            return Ok(match written {
                Poll::Ready(Ok(())) if self.request.is_none() => {
                    self.turn.request_ended();
                    Poll::Ready(())
                }
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "an endpoint does not take the request");
                    self.turn.fail();
                    self.request = None;
                    self.out.clear();
                    self.flushing = false;
                    Poll::Ready(())
                }
            });
        }
    }

    /// Sends on what is left of the request; that it broke off is told with the answer's next part.
    fn drive(&mut self, cx: &mut Context<'_>) {
        let is_sending = self.request.is_some() || !self.out.is_empty() || self.flushing;
        if is_sending && let Err(cause) = self.poll_send(cx) {
            self.failed = Some(self.broken(cause));
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.drive(cx);
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match self.body.next(&mut self.input, &Limits::DEFAULT) {
                Ok(Found::Frame(frame)) => {
                    self.note_end();
                    return Poll::Ready(Some(Ok(frame)));
                }
                Ok(Found::End) => {
                    self.note_end();
                    return Poll::Ready(None);
                }
                Ok(Found::Nothing) => {}
                Err(refusal) => return Poll::Ready(Some(Err(self.broken(refusal.into())))),
            }
            self.input.keep();
            match ready!(self.fill(cx)) {
                Ok(1..) => {}
                Ok(0) => match self.body.close() {
                    Ok(()) => {
                        self.note_end();
                        return Poll::Ready(None);
                    }
                    Err(_) => return Poll::Ready(Some(Err(self.broken(Cause::Ended)))),
                },
                Err(error) => return Poll::Ready(Some(Err(self.broken(error.into())))),
            }
        }
    }

    #[cold]
    fn broken(&mut self, cause: Cause) -> BodyError {
        self.end();
        cause.into()
    }

    fn note_end(&mut self) {
        if self.body.is_ended() {
            self.turn.response_ended();
            self.input.keep();
        }
    }
}

/// An answer's body.
pub struct ResponseBytes {
    connection: Rc<Connection>,
}

impl ResponseBytes {
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.connection.inner.borrow_mut().poll_frame(cx)
    }

    /// The request goes on, also while nobody asks for the answer.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        self.connection.inner.borrow_mut().drive(cx);
    }

    /// Bytes that came and wait to be read.
    pub fn held(&self) -> usize {
        self.connection.inner.borrow().input.len()
    }

    pub fn is_end_stream(&self) -> bool {
        self.connection.inner.borrow().body.is_ended()
    }

    pub fn size_hint(&self) -> SizeHint {
        match self.connection.inner.borrow().framing {
            Framing::None | Framing::Tunnel => SizeHint::with_exact(0),
            Framing::Length(length) => SizeHint::with_exact(length),
            Framing::Chunked | Framing::UntilClose => SizeHint::default(),
        }
    }
}

//! A connection of HTTP/2 over a socket, from each of its ends, and the two halves of a stream.
//!
//! Frames, streams and windows are [`weft_wire::http2`]'s. Here are who waits for them ([`mux`]) and the socket
//! ([`driver`]).

mod driver;
mod mux;

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    rc::{Rc, Weak},
    task::{Context, Poll, ready},
    time::Instant,
};

use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
pub use weft_wire::http2::{Config, Protocol, Read, Reason, RequestHead, Role};
use weft_wire::http2::{HeadError, OpenError, StreamError};

pub use self::mux::{ReceiveHalf, SendHalf};
use self::{
    driver::{Driver, Linger, Over},
    mux::Mux,
};

/// Requests taken back that count no more, every second: who is only impatient is none of those who ask for nothing.
const FORGIVEN_PER_SECOND: u32 = 33;

/// What broke a stream or a connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Connection(#[from] Over),
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl Error {
    /// What the other end of a message is told.
    pub fn reason(&self) -> Reason {
        match self {
            Error::Stream(error) => error.reason(),
            Error::Connection(_) => Reason::INTERNAL_ERROR,
            Error::Open(_) => Reason::REFUSED_STREAM,
        }
    }

    /// Whether the other side says that it has not looked at the stream.
    pub fn is_unprocessed(&self) -> bool {
        match self {
            Error::Stream(error) => error.is_unprocessed(),
            Error::Connection(_) => false,
            Error::Open(_) => true,
        }
    }

    /// Whether the other side leaves, and has not looked at the stream.
    pub fn is_left_out(&self) -> bool {
        matches!(self, Error::Open(OpenError::Left) | Error::Stream(StreamError::Unprocessed))
    }

    /// Whether the other side ended this stream, and not its connection, having looked at it.
    pub fn is_reset_by_peer(&self) -> bool {
        matches!(self, Error::Stream(StreamError::Reset(_))) && !self.is_unprocessed()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match &error {
            Error::Stream(StreamError::Closed) | Error::Connection(_) => io::ErrorKind::BrokenPipe,
            _ => io::ErrorKind::ConnectionReset,
        };
        io::Error::new(kind, error)
    }
}

/// A request as it comes in, or why it is none and can only be refused.
pub type Asked = Result<Request<()>, HeadError>;

/// A stream that a client has opened.
pub enum Accepted {
    Open(Asked, ReceiveHalf, SendHalf),
    /// Its client took it back in the same breath: nobody is to work for it.
    TakenBack(Asked),
}

/// A client's connection. It reads and writes while it is asked for requests.
pub struct Server<T> {
    driver: Driver<T>,
    opened: VecDeque<weft_wire::http2::Key>,
    over: Option<Over>,
    /// All is said, and the client is given time to read it.
    ending: Option<Linger>,
    forgiven: Instant,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Server<T> {
    pub fn new(io: T, config: Config) -> Server<T> {
        let driver = Driver::new(io, Mux::new(config));
        Server { driver, opened: VecDeque::new(), over: None, ending: None, forgiven: Instant::now() }
    }

    /// The next request; `None` when the connection is over.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Accepted, Over>>> {
        let mux = Rc::clone(self.driver.mux());
        mux.begin(cx);
        self.forgive();
        loop {
            if let Some(linger) = self.ending {
                return self.driver.poll_last_words(cx, linger).map(|()| None);
            }
            while let Some(key) = self.opened.pop_front() {
                if let Some(accepted) = mux.accept(key) {
                    return Poll::Ready(Some(Ok(accepted)));
                }
            }
            if self.over.is_some() {
                ready!(self.driver.poll_last_words(cx, Linger::FAULT));
                return Poll::Ready(self.over.take().map(Err));
            }
            match self.driver.poll_receive(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(over)) => self.over = Some(over),
                Poll::Pending => break,
            }
            mux.dispatch(&mut |key| self.opened.push_back(key));
        }
        if let Poll::Ready(Err(error)) = self.driver.poll_send(cx) {
            mux.connection().close();
            self.over = Some(error.into());
        }
        mux.dispatch(&mut |_| {});
        if self.over.is_some() {
            return Poll::Ready(self.over.take().map(Err));
        }
        if !mux.view().has_left() {
            return Poll::Pending;
        }
        let linger = Linger::of_leaving(mux.view().unproven());
        self.ending = Some(linger);
        self.driver.poll_last_words(cx, linger).map(|()| None)
    }

    fn forgive(&mut self) {
        let mut connection = self.driver.mux().connection();
        if connection.cancelled() == 0 {
            return;
        }
        let seconds = u32::try_from(self.forgiven.elapsed().as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            connection.forgive(FORGIVEN_PER_SECOND.saturating_mul(seconds));
            self.forgiven = Instant::now();
        }
    }

    /// Waits for the client's first words.
    pub fn poll_greeted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        let mux = Rc::clone(self.driver.mux());
        mux.begin(cx);
        loop {
            if let Poll::Ready(Err(error)) = self.driver.poll_send(cx) {
                return Poll::Ready(Err(error.into()));
            }
            if mux.view().is_greeted() {
                mux.dispatch(&mut |key| self.opened.push_back(key));
                return Poll::Ready(Ok(()));
            }
            if let Err(over) = ready!(self.driver.poll_receive(cx)) {
                self.over = Some(over);
                ready!(self.driver.poll_last_words(cx, Linger::FAULT));
                return Poll::Ready(self.over.take().map_or(Ok(()), Err));
            }
        }
    }

    /// Says GOAWAY; the connection is over when its streams are.
    pub fn leave(&mut self) {
        self.driver.mux().leave();
    }

    /// Takes no request more, whether the client has read that or not.
    pub fn leave_now(&mut self) {
        self.driver.mux().leave_now();
    }

    pub fn pings(&self) -> Pings {
        Pings(Rc::clone(self.driver.mux()))
    }
}

/// An endpoint's connection, which moves while it is polled.
pub struct Client<T> {
    driver: Driver<T>,
    /// Gone when nobody can open a stream any more.
    openers: Weak<Opener>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    pub fn new(io: T, config: Config) -> (Requests, Client<T>) {
        let mux = Mux::new(config);
        let opener = Rc::new(Opener(Rc::clone(&mux)));
        let openers = Rc::downgrade(&opener);
        (Requests(opener), Client { driver: Driver::new(io, mux), openers })
    }

    /// Ready when the connection is over: after the last stream when nobody has its [`Requests`] any more, or when the
    /// other side leaves.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        let mux = Rc::clone(self.driver.mux());
        mux.begin(cx);
        loop {
            let received = self.driver.poll_receive(cx);
            mux.dispatch(&mut |_| {});
            match received {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(over)) => {
                    // Nobody waits for it, so there is no patience either.
                    let _ = self.driver.poll_send(cx);
                    return Poll::Ready(Err(over));
                }
                Poll::Pending => break,
            }
        }
        let sent = self.driver.poll_send(cx);
        if let Poll::Ready(Err(error)) = sent {
            mux.connection().close();
            mux.dispatch(&mut |_| {});
            return Poll::Ready(Err(error.into()));
        }
        mux.dispatch(&mut |_| {});
        let unused = mux.view().is_left() || self.openers.strong_count() == 0;
        if unused && mux.view().streams() == 0 && sent.is_ready() {
            return self.driver.poll_shutdown(cx).map(|_| Ok(()));
        }
        Poll::Pending
    }

    pub fn pings(&self) -> Pings {
        Pings(Rc::clone(self.driver.mux()))
    }
}

/// Opens streams on an endpoint's connection.
#[derive(Clone)]
pub struct Requests(Rc<Opener>);

struct Opener(Rc<Mux>);

impl Drop for Opener {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl Requests {
    /// Waits until the other side has room for a stream.
    pub fn poll_ready(&self, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        self.0.0.poll_ready(cx).map_err(Error::from)
    }

    pub fn open(&self, head: RequestHead<'_>, ends: bool) -> Result<(Answer, SendHalf), Error> {
        let (receives, sends) = self.0.0.open(head, ends)?;
        Ok((Answer(receives), sends))
    }

    /// Streams that the other side allows, as far as it is known.
    pub fn streams_max(&self) -> u32 {
        self.0.0.view().streams_max()
    }

    pub fn is_greeted(&self) -> bool {
        self.0.0.view().is_greeted()
    }

    /// Whether no stream is taken any more.
    pub fn has_left(&self) -> bool {
        self.0.0.view().can_open() == Err(OpenError::Left)
    }

    pub fn takes_extended_connect(&self) -> bool {
        self.0.0.view().takes_extended_connect()
    }
}

/// The answer to come. Dropped before, it resets the stream.
pub struct Answer(ReceiveHalf);

impl Answer {
    /// The next head: those of 1xx answers, then the final one.
    pub fn poll_head(&mut self, cx: &Context<'_>) -> Poll<Result<Response<()>, Error>> {
        self.0.poll_response(cx).map_err(Error::from)
    }

    /// What comes behind the final head.
    pub fn into_body(self) -> ReceiveHalf {
        self.0
    }

    /// The final head and what comes behind it; 1xx answers go unheard.
    pub async fn whole(mut self) -> Result<(Response<()>, ReceiveHalf), Error> {
        loop {
            let head = poll_fn(|cx| self.poll_head(cx)).await?;
            if !head.status().is_informational() {
                return Ok((head, self.0));
            }
        }
    }

    /// Whether nothing of the request has reached the socket.
    pub fn is_unwritten(&self) -> bool {
        self.0.is_unwritten()
    }
}

/// Asks whether the other side is still there.
pub struct Pings(Rc<Mux>);

impl Pings {
    /// What may have to be read before a PING.
    pub fn unproven(&self) -> u64 {
        self.0.view().unproven()
    }

    /// Until the answer comes.
    pub async fn ping(&self) {
        self.0.ping().await;
    }
}

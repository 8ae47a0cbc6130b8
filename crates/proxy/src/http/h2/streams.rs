//! The two directions of a stream: a body that comes in, and one that goes out as the other side's windows allow.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::codec::{Error, Read, Reason, ReceiveHalf, SendHalf};
use crate::http::{
    body::{BodyError, TryBody},
    h1::heads,
};

/// A body that comes in. The windows follow what is read, and so what could be sent on.
pub struct Received {
    stream: ReceiveHalf,
    /// What is still to come, if the head said how much.
    left: u64,
    rest: Option<Box<Rest>>,
}

/// The head did not say it.
const UNKNOWN: u64 = u64::MAX;

/// What is left of the request whose answer this is. Seldom any, and every body of ours is as large as the largest.
enum Rest {
    Upload(Upload),
    Broken(BodyError),
}

impl Received {
    pub fn new(stream: ReceiveHalf) -> Received {
        let left = stream.length().unwrap_or(UNKNOWN);
        Received { stream, left, rest: None }
    }

    /// An answer's body, and the rest of the request.
    pub fn of_answer(stream: ReceiveHalf, upload: Option<Upload>) -> Received {
        let rest = upload.map(|upload| Box::new(Rest::Upload(upload)));
        let mut received = Received { rest, ..Received::new(stream) };
        received.let_upload_go();
        received
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.drive(cx);
        if self.is_broken()
            && let Some(Rest::Broken(error)) = self.rest.take().map(|rest| *rest)
        {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = ready!(self.poll_received(cx));
        self.let_upload_go();
        Poll::Ready(frame)
    }

    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(match ready!(self.stream.poll_read(cx)) {
            Ok(Read::Data(data)) => {
                if self.left != UNKNOWN {
                    self.left = self.left.saturating_sub(data.len() as u64);
                }
                Some(Ok(Frame::data(data)))
            }
            Ok(Read::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(Read::End | Read::Wait) => None,
            Err(error) => Some(Err(Error::from(error).into())),
        })
    }

    /// Sends on what the request has ready, also while nobody asks for the answer.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(rest) = &mut self.rest
            && let Rest::Upload(upload) = &mut **rest
        {
            match upload.poll(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.rest = None,
                Poll::Ready(Err(error)) => **rest = Rest::Broken(error),
            }
        }
    }

    /// The two directions end apart: a request that is longer than its answer goes on by itself.
    fn let_upload_go(&mut self) {
        if self.rest.is_none() || !self.stream.is_read() {
            return;
        }
        if let Some(Rest::Upload(mut upload)) = self.rest.take().map(|rest| *rest) {
            tokio::task::spawn_local(async move {
                if let Err(error) = std::future::poll_fn(|cx| upload.poll(cx)).await {
                    tracing::debug!(error, "the rest of a request broke off");
                }
            });
        }
    }

    /// Sends a 1xx answer to the request whose body this is.
    pub fn interim(&self, status: StatusCode, headers: &HeaderMap) {
        self.stream.interim(status, headers);
    }

    /// Bytes that came and wait to be read.
    pub fn held(&self) -> usize {
        self.stream.unread()
    }

    pub fn is_end_stream(&self) -> bool {
        !self.is_broken() && self.stream.is_read()
    }

    fn is_broken(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| matches!(**rest, Rest::Broken(_)))
    }

    pub fn size_hint(&self) -> SizeHint {
        if self.left == UNKNOWN { SizeHint::default() } else { SizeHint::with_exact(self.left) }
    }
}

/// A request's body on its way.
pub struct Upload {
    out: Out,
    body: TryBody,
}

impl Upload {
    pub fn new(stream: SendHalf, body: TryBody) -> Upload {
        Upload { out: Out::new(stream), body }
    }

    /// Ready when there is no more to be sent, or the other side wants no more; only the body's own failure is one.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        match self.out.poll(&mut self.body, cx) {
            Ok(Sent::Whole) | Err(Unsent::Stream) => Poll::Ready(Ok(())),
            Ok(Sent::WaitsForBody | Sent::WaitsForPeer) => Poll::Pending,
            Err(Unsent::Body(error)) => {
                self.out.reset(reason_of(&error));
                Poll::Ready(Err(error))
            }
        }
    }
}

/// A body that goes out.
pub struct Out {
    stream: SendHalf,
    /// Read from the body, and waits for a window.
    kept: Bytes,
    /// The body ends with it.
    last: bool,
    moved: bool,
}

/// How far it has got.
pub enum Sent {
    Whole,
    WaitsForBody,
    WaitsForPeer,
}

/// Why it goes no further.
pub enum Unsent {
    Body(BodyError),
    /// The other side has reset the stream, or the connection is gone.
    Stream,
}

impl Out {
    pub fn new(stream: SendHalf) -> Out {
        Out { stream, kept: Bytes::new(), last: false, moved: false }
    }

    /// Sends what the body has ready, as far as the windows are open: what they don't let through stays here, and no
    /// more is asked for.
    pub fn poll<B>(&mut self, body: &mut B, cx: &mut Context<'_>) -> Result<Sent, Unsent>
    where
        B: Body<Data = Bytes, Error = BodyError> + Unpin,
    {
        let gone = |_| Unsent::Stream;
        loop {
            while !self.kept.is_empty() {
                if self.stream.poll_room(cx).map_err(gone)?.is_pending() {
                    return Ok(Sent::WaitsForPeer);
                }
                self.stream.send_data(&mut self.kept, self.last).map_err(gone)?;
                self.moved = true;
            }
            if self.last {
                return Ok(Sent::Whole);
            }
            match std::pin::Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => {
                    return match self.stream.poll_broken(cx) {
                        Poll::Ready(_) => Err(Unsent::Stream),
                        Poll::Pending => Ok(Sent::WaitsForBody),
                    };
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.last = body.is_end_stream();
                        if data.is_empty() && self.last {
                            self.stream.send_data(&mut Bytes::new(), true).map_err(gone)?;
                        } else {
                            self.kept = data;
                        }
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        let sent = self.stream.send_trailers(&trailers);
                        heads::give_back_map(trailers);
                        sent.map_err(gone)?;
                        self.last = true;
                    }
                },
                Poll::Ready(Some(Err(error))) => return Err(Unsent::Body(error)),
                Poll::Ready(None) => {
                    self.stream.send_data(&mut Bytes::new(), true).map_err(gone)?;
                    self.last = true;
                }
            }
        }
    }

    /// Bytes that were read from the body and wait.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Whether something was sent since this was asked last.
    pub fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    pub fn reset(&mut self, reason: Reason) {
        self.stream.reset(reason);
    }
}

/// What one side's end is told to the other.
pub fn reason_of(error: &BodyError) -> Reason {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&**error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<Error>() {
            return error.reason();
        }
        cause = error.source();
    }
    Reason::INTERNAL_ERROR
}

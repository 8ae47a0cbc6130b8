//! Bodies on their way through: never stored, counted, and given back when a try did not touch them.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep_until},
};

use super::{headers::clean_trailers, inbound::Inbound, quiet::Watch};
use crate::record::{Recording, flags};

/// The one error of bodies; its text says which side and what.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body, shared between the tries. A try reads through a [`TryBody`]; as long as none of them has read a
/// frame the whole body is still here for the next.
#[derive(Clone)]
pub struct RequestBody {
    /// `None`: there is no body, or it has ended with the head.
    shared: Option<Rc<Shared>>,
}

struct Shared {
    incoming: RefCell<Option<Inbound>>,
    /// The try that may read now; an abandoned one reads nothing more.
    current: Cell<u32>,
    touched: Cell<bool>,
    bytes: Cell<u64>,
    ended: Cell<bool>,
    /// Mirrors: they get what the first try reads.
    copies: RefCell<Vec<mpsc::Sender<CopyPart>>>,
}

/// What a mirror gets of a body. Without an end the body was not whole.
enum CopyPart {
    Data(Bytes),
    End,
}

/// Frames that a mirror may be behind; a slower one gets no more, since bodies are not stored.
const COPY_FRAMES_MAX: usize = 64;

impl RequestBody {
    pub fn new(incoming: Inbound) -> RequestBody {
        if incoming.is_end_stream() {
            return RequestBody { shared: None };
        }
        RequestBody {
            shared: Some(Rc::new(Shared {
                incoming: RefCell::new(Some(incoming)),
                current: Cell::new(0),
                touched: Cell::new(false),
                bytes: Cell::new(0),
                ended: Cell::new(false),
                copies: RefCell::default(),
            })),
        }
    }

    /// A body that follows this one, for a mirrored request.
    pub fn copy(&self) -> TryBody {
        let Some(shared) = self.shared.as_ref().filter(|shared| !shared.ended.get()) else {
            return TryBody::empty();
        };
        let (sender, receiver) = mpsc::channel(COPY_FRAMES_MAX);
        shared.copies.borrow_mut().push(sender);
        TryBody { copy: Some(receiver), ..TryBody::empty() }
    }

    /// The body for the next try; earlier tries end here.
    pub fn next_try(&self) -> TryBody {
        let Some(shared) = &self.shared else { return TryBody::empty() };
        let current = shared.current.get() + 1;
        shared.current.set(current);
        TryBody { shared: Some(Rc::clone(shared)), number: current, copy: None }
    }

    /// Whether another try could send the same body: nothing of it was read yet.
    pub fn can_repeat(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| !shared.touched.get())
    }

    /// Bytes read from the client so far.
    pub fn bytes(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.bytes.get())
    }

    /// Whether the client has sent all of it.
    pub fn ended(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.ended.get())
    }
}

/// What one try sends upstream.
pub struct TryBody {
    /// `None`: an empty body, for health checks and the like.
    shared: Option<Rc<Shared>>,
    number: u32,
    /// A mirror's.
    copy: Option<mpsc::Receiver<CopyPart>>,
}

impl TryBody {
    pub fn empty() -> TryBody {
        TryBody { shared: None, number: 0, copy: None }
    }
}

impl Shared {
    /// Gives the mirrors their copy; `None` is the end.
    #[cold]
    fn copy_on(&self, data: Option<&Bytes>) {
        self.copies.borrow_mut().retain(|copy| {
            let part = data.map_or(CopyPart::End, |data| CopyPart::Data(data.clone()));
            copy.try_send(part).is_ok()
        });
    }

    fn has_copies(&self) -> bool {
        !self.copies.borrow().is_empty()
    }
}

impl Body for TryBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(copy) = &mut self.copy {
            return Poll::Ready(match std::task::ready!(copy.poll_recv(cx)) {
                Some(CopyPart::Data(data)) => Some(Ok(Frame::data(data))),
                Some(CopyPart::End) => None,
                None => Some(Err("the request that this one mirrors did not end".into())),
            });
        }
        let Some(shared) = &self.shared else {
            return Poll::Ready(None);
        };
        if shared.current.get() != self.number {
            return Poll::Ready(Some(Err("this try was given up".into())));
        }
        let mut incoming = shared.incoming.borrow_mut();
        let Some(body) = incoming.as_mut() else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
        shared.touched.set(true);
        match frame {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    clean_trailers(trailers);
                }
                if let Some(data) = frame.data_ref() {
                    shared.bytes.set(shared.bytes.get() + data.len() as u64);
                    if shared.has_copies() {
                        shared.copy_on(Some(data));
                    }
                }
                if body.is_end_stream() {
                    shared.ended.set(true);
                    if shared.has_copies() {
                        shared.copy_on(None);
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                shared.ended.set(true);
                if shared.has_copies() {
                    shared.copy_on(None);
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.copy.is_none()
            && self
                .shared
                .as_ref()
                .is_none_or(|shared| shared.incoming.borrow().as_ref().is_none_or(Body::is_end_stream))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.shared {
            None if self.copy.is_some() => SizeHint::default(),
            None => SizeHint::with_exact(0),
            Some(shared) => {
                shared.incoming.borrow().as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
            }
        }
    }
}

/// A response's body on the way to the client. It carries the request's record, so that the record is written when
/// the last byte went out, or when the client left.
pub struct ResponseBody {
    source: Source,
    record: Option<Recording>,
    /// Ends an answer in which nothing moves.
    watch: Option<Watch>,
    deadline: Deadline,
}

/// When an answer must be complete, where a route says so; the timer is made only if the answer has to be waited for.
enum Deadline {
    None,
    At(Instant),
    Armed(Pin<Box<Sleep>>),
}

impl Deadline {
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if let Deadline::At(end) = self {
            *self = Deadline::Armed(Box::pin(sleep_until(*end)));
        }
        match self {
            Deadline::Armed(timer) => timer.as_mut().poll(cx).is_ready(),
            _ => false,
        }
    }
}

enum Source {
    Empty,
    Text(Bytes),
    Upstream(Inbound),
}

impl ResponseBody {
    /// Our own answer.
    pub fn text(text: Bytes, record: Option<Recording>) -> ResponseBody {
        let source = if text.is_empty() { Source::Empty } else { Source::Text(text) };
        ResponseBody { source, record, watch: None, deadline: Deadline::None }
    }

    /// An upstream's answer, which must keep moving and be complete at the deadline.
    pub fn upstream(
        incoming: Inbound,
        record: Recording,
        watch: Option<Watch>,
        deadline: Option<Instant>,
    ) -> ResponseBody {
        let deadline = deadline.map_or(Deadline::None, Deadline::At);
        ResponseBody { source: Source::Upstream(incoming), record: Some(record), watch, deadline }
    }

    /// For how long nothing may move.
    pub fn quiet_at_most(&self) -> Option<Duration> {
        self.watch.as_ref().map(Watch::limit)
    }

    /// The client takes no more just now; its request may go on all the same.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if let Source::Upstream(incoming) = &mut self.source {
            incoming.drive(cx);
        }
    }

    /// The record of an answer that the client does not get; its connection is not used again.
    pub fn into_record(mut self) -> Option<Recording> {
        let mut record = self.record.take()?;
        record.lease = None;
        Some(record)
    }

    /// The answer had to wait: for too long?
    fn too_late(&mut self, cx: &mut Context<'_>) -> Option<BodyError> {
        let (flags, details) = if self.watch.as_mut().is_some_and(|watch| watch.on_wait(cx)) {
            (flags::STREAM_IDLE, "stream_idle_timeout")
        } else if self.deadline.is_over(cx) {
            (flags::TIMEOUT, "response_timeout")
        } else {
            return None;
        };
        if let Some(record) = &mut self.record {
            record.on_too_late(flags, details);
        }
        Some(details.into())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match &mut this.source {
            Source::Empty => return Poll::Ready(None),
            Source::Text(text) => {
                let text = std::mem::take(text);
                this.source = Source::Empty;
                Some(Ok(Frame::data(text)))
            }
            Source::Upstream(incoming) => match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    return match this.too_late(cx) {
                        Some(error) => Poll::Ready(Some(Err(error))),
                        None => Poll::Pending,
                    };
                }
            },
        };
        if let Some(watch) = &this.watch {
            watch.on_move();
        }
        let Some(record) = &mut this.record else {
            return Poll::Ready(frame);
        };
        match frame {
            Some(Ok(mut frame)) => {
                if let Some(data) = frame.data_ref() {
                    record.response_bytes += data.len() as u64;
                } else if let Some(trailers) = frame.trailers_mut() {
                    clean_trailers(trailers);
                    record.on_trailers(trailers);
                }
                if this.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                record.on_upstream_broken();
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Text(text) => text.is_empty(),
            Source::Upstream(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Text(text) => SizeHint::with_exact(text.len() as u64),
            Source::Upstream(incoming) => incoming.size_hint(),
        }
    }
}

impl ResponseBody {
    /// The answer goes out without its body, as to a HEAD.
    pub fn discard(&mut self) {
        if !matches!(self.source, Source::Upstream(_)) {
            self.finish();
        }
    }

    /// The answer is complete: a drop after this is not the client's leaving.
    fn finish(&mut self) {
        if let Some(record) = &mut self.record {
            record.complete = true;
        }
        // Before the record gives the connection back: nobody may read from it here then.
        self.source = Source::Empty;
        self.record = None;
        self.watch = None;
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A body that says at once that it has ended is not polled.
        if self.is_end_stream() {
            self.finish();
        }
    }
}

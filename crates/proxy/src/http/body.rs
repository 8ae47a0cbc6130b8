//! Bodies on their way through: never stored, counted, and given back when a try did not touch them.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::record::RequestRecord;

/// The one error of bodies; hyper's text says which side and what.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body, shared between the tries. A try reads through a [`TryBody`]; as long as none of them has read a
/// frame the whole body is still here for the next.
#[derive(Clone)]
pub struct RequestBody {
    shared: Rc<Shared>,
}

struct Shared {
    incoming: RefCell<Option<Incoming>>,
    /// The try that may read now; an abandoned one reads nothing more.
    current: Cell<u32>,
    touched: Cell<bool>,
    bytes: Cell<u64>,
    ended: Cell<bool>,
}

impl RequestBody {
    pub fn new(incoming: Incoming) -> RequestBody {
        let ended = incoming.is_end_stream();
        RequestBody {
            shared: Rc::new(Shared {
                incoming: RefCell::new((!ended).then_some(incoming)),
                current: Cell::new(0),
                touched: Cell::new(false),
                bytes: Cell::new(0),
                ended: Cell::new(ended),
            }),
        }
    }

    /// The body for the next try; earlier tries end here.
    pub fn next_try(&self) -> TryBody {
        let current = self.shared.current.get() + 1;
        self.shared.current.set(current);
        TryBody { shared: Some(Rc::clone(&self.shared)), number: current }
    }

    /// Whether another try could send the same body: nothing of it was read yet.
    pub fn can_repeat(&self) -> bool {
        !self.shared.touched.get()
    }

    /// Bytes read from the client so far.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.get()
    }

    /// Whether the client has sent all of it.
    pub fn ended(&self) -> bool {
        self.shared.ended.get()
    }
}

/// What one try sends upstream.
pub struct TryBody {
    /// `None`: an empty body, for health checks and the like.
    shared: Option<Rc<Shared>>,
    number: u32,
}

impl TryBody {
    pub fn empty() -> TryBody {
        TryBody { shared: None, number: 0 }
    }
}

impl Body for TryBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
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
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    shared.bytes.set(shared.bytes.get() + data.len() as u64);
                }
                if body.is_end_stream() {
                    shared.ended.set(true);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => {
                shared.ended.set(true);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.shared
            .as_ref()
            .is_none_or(|shared| shared.incoming.borrow().as_ref().is_none_or(Body::is_end_stream))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.shared {
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
    record: Option<Box<RequestRecord>>,
}

enum Source {
    Empty,
    Text(Bytes),
    Upstream(Incoming),
}

impl ResponseBody {
    /// Our own answer.
    pub fn text(text: Bytes, record: Option<Box<RequestRecord>>) -> ResponseBody {
        let source = if text.is_empty() { Source::Empty } else { Source::Text(text) };
        ResponseBody { source, record }
    }

    /// An upstream's answer.
    pub fn upstream(incoming: Incoming, record: Box<RequestRecord>) -> ResponseBody {
        ResponseBody { source: Source::Upstream(incoming), record: Some(record) }
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
            Source::Upstream(incoming) => std::task::ready!(Pin::new(incoming).poll_frame(cx)),
        };
        let Some(record) = &mut this.record else {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        };
        match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    record.response_bytes += data.len() as u64;
                } else if let Some(trailers) = frame.trailers_ref() {
                    record.on_trailers(trailers);
                }
                if this.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                record.on_upstream_broken();
                Poll::Ready(Some(Err(error.into())))
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
    /// The answer is complete: a drop after this is not the client's leaving.
    fn finish(&mut self) {
        if let Some(record) = &mut self.record {
            record.complete = true;
        }
        self.record = None;
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // hyper does not poll a body that says at once that it has ended.
        if self.is_end_stream() {
            self.finish();
        }
    }
}

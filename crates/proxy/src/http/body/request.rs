//! A request's body: shared between its tries, and given back when a try did not touch it.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use weft_wire::grpc_web::Format;

use super::BodyError;
use crate::http::{grpc::Translating, headers::clean_trailers, inbound::Inbound};

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
    /// The try wants more, and the client has not sent it.
    waits: Cell<bool>,
    /// Mirrors: they get what the first try reads.
    copies: RefCell<Vec<mpsc::Sender<CopyPart>>>,
    /// What comes is gRPC-Web, and goes on as gRPC.
    translating: Translating,
}

/// What a mirror gets of a body. Without an end the body was not whole.
enum CopyPart {
    Data(Bytes),
    End,
}

/// Frames that a mirror may be behind; a slower one gets no more, since bodies are not stored.
const COPY_FRAMES_MAX: usize = 64;

impl RequestBody {
    /// Also what `incoming` is still good for where there is no body.
    pub fn new(incoming: Inbound) -> (RequestBody, Inbound) {
        if incoming.is_end_stream() {
            return (RequestBody { shared: None }, incoming);
        }
        let body = RequestBody {
            shared: Some(Rc::new(Shared {
                incoming: RefCell::new(Some(incoming)),
                current: Cell::new(0),
                touched: Cell::new(false),
                bytes: Cell::new(0),
                ended: Cell::new(false),
                waits: Cell::new(false),
                copies: RefCell::default(),
                translating: Translating::default(),
            })),
        };
        (body, Inbound::Tunnel(None))
    }

    /// Sends a 1xx answer to the client; `bodiless` is what [`new`](RequestBody::new) gave.
    pub fn interim(&self, bodiless: &Inbound, status: StatusCode, headers: &HeaderMap) {
        match &self.shared {
            None => bodiless.interim(status, headers),
            Some(shared) => {
                if let Some(incoming) = &*shared.incoming.borrow() {
                    incoming.interim(status, headers);
                }
            }
        }
    }

    /// From its first byte on it goes on as gRPC.
    pub fn translate(&self, format: Format) {
        if let Some(shared) = &self.shared {
            shared.translating.begin(format);
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
        shared.waits.set(false);
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

    /// Whether it is the client that is waited for.
    pub fn waits(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.waits.get())
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
        loop {
            let polled = Pin::new(&mut *body).poll_frame(cx);
            shared.waits.set(polled.is_pending());
            let frame = std::task::ready!(polled);
            shared.touched.set(true);
            let mut frame = match frame {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    shared.translating.end()?;
                    shared.ended.set(true);
                    if shared.has_copies() {
                        shared.copy_on(None);
                    }
                    return Poll::Ready(None);
                }
            };
            if let Some(trailers) = frame.trailers_mut() {
                clean_trailers(trailers);
            }
            if let Some(data) = frame.data_ref() {
                shared.bytes.set(shared.bytes.get() + data.len() as u64);
            }
            let ended = body.is_end_stream();
            if shared.translating.is_on() {
                match shared.translating.frame(frame, ended)? {
                    Some(translated) => frame = translated,
                    None => continue,
                }
            }
            if shared.has_copies() {
                if let Some(data) = frame.data_ref() {
                    shared.copy_on(Some(data));
                }
                if ended {
                    shared.copy_on(None);
                }
            }
            if ended {
                shared.ended.set(true);
            }
            return Poll::Ready(Some(Ok(frame)));
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
            Some(shared) if shared.translating.is_on() => SizeHint::default(),
            Some(shared) => {
                shared.incoming.borrow().as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
            }
        }
    }
}

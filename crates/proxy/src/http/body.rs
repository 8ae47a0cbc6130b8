//! Bodies on their way through: never stored, and counted.

mod request;

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    task::coop::unconstrained,
    time::{Instant, Sleep, sleep_until},
};
use weft_wire::grpc_web::Answer;

pub use self::request::{RequestBody, TryBody};
use super::{grpc::WebAnswer, headers::clean_trailers, inbound::Inbound, quiet::Watch};
use crate::record::{Recording, flags};

/// The one error of bodies; its text says which side and what.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A response's body on the way to the client. It carries the request's record, so that the record is written when
/// the last byte went out, or when the client left.
pub struct ResponseBody {
    source: Source,
    record: Option<Recording>,
    /// Ends an answer in which nothing moves.
    watch: Option<Watch>,
    deadline: Deadline,
}

/// When an answer must be complete, where a route says so; the timer is made only if the answer, or its client, has to
/// be waited for.
enum Deadline {
    None,
    /// So long after the request's end.
    AfterRequest(Duration),
    At(Instant),
    Armed(Pin<Box<Sleep>>),
}

impl Deadline {
    /// Asked in a wait, which ends then.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if let Deadline::At(end) = self {
            *self = Deadline::Armed(Box::pin(sleep_until(*end)));
        }
        match self {
            // Where there is always more to do, the task waits only as it has used up its turn, and so has the timer.
            Deadline::Armed(timer) => pin!(unconstrained(timer.as_mut())).poll(cx).is_ready(),
            _ => false,
        }
    }

    /// Asked where there is no wait: one load, and no look at the clock.
    fn has_rung(&self) -> bool {
        matches!(self, Deadline::Armed(timer) if timer.is_elapsed())
    }
}

enum Source {
    Empty,
    Text(Bytes),
    Upstream(Inbound),
    /// From gRPC to gRPC-Web. Seldom, and every body of ours is as large as the largest.
    Web(Box<WebAnswer>),
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

    /// It began before its request was complete, and has so long from then.
    pub fn end_after_request(&mut self, limit: Duration) {
        self.deadline = Deadline::AfterRequest(limit);
    }

    /// An upstream's answer in gRPC, for a client of gRPC-Web.
    pub fn translate(&mut self, answer: Answer, headers: &HeaderMap) {
        if let Source::Upstream(incoming) = std::mem::replace(&mut self.source, Source::Empty) {
            self.source = Source::Web(Box::new(WebAnswer::new(incoming, answer, headers)));
        }
    }

    /// For how long nothing may move.
    pub fn quiet_at_most(&self) -> Option<Duration> {
        self.watch.as_ref().map(Watch::limit)
    }

    /// The client takes no more just now; its request may go on all the same, and so does its time.
    pub fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        match &mut self.source {
            Source::Upstream(incoming) => incoming.drive(cx),
            Source::Web(answer) => answer.incoming().drive(cx),
            Source::Empty | Source::Text(_) => return Ok(()),
        }
        if self.is_over(cx) { Err(self.end_late(flags::TIMEOUT, "response_timeout")) } else { Ok(()) }
    }

    /// Bytes of it that came and wait for the client.
    pub fn held(&mut self) -> usize {
        match &mut self.source {
            Source::Empty => 0,
            Source::Text(text) => text.len(),
            Source::Upstream(incoming) => incoming.held(),
            Source::Web(answer) => answer.incoming().held(),
        }
    }

    /// The answer is cut, since there is no memory for a client that is behind with it.
    #[cold]
    pub fn shed(&mut self) {
        if let Some(record) = &mut self.record {
            record.on_too_late(flags::OVERLOAD, "overload_manager");
        }
    }

    /// A bug of ours ended it, and not the client.
    #[cold]
    pub fn on_panic(&mut self) {
        if let Some(record) = &mut self.record {
            record.on_too_late("", "panic");
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
        } else if self.is_over(cx) {
            (flags::TIMEOUT, "response_timeout")
        } else {
            return None;
        };
        Some(self.end_late(flags, details))
    }

    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if let Deadline::AfterRequest(limit) = self.deadline {
            let request = self.record.as_ref().and_then(|record| record.request_body.as_ref());
            if request.is_none_or(RequestBody::ended) {
                self.deadline = Deadline::At(Instant::now() + limit);
            }
        }
        self.deadline.is_over(cx)
    }

    #[cold]
    fn end_late(&mut self, flags: &'static str, details: &'static str) -> BodyError {
        if let Some(record) = &mut self.record {
            record.on_too_late(flags, details);
        }
        details.into()
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
        if this.deadline.has_rung() {
            return Poll::Ready(Some(Err(this.end_late(flags::TIMEOUT, "response_timeout"))));
        }
        let polled = match &mut this.source {
            Source::Empty => return Poll::Ready(None),
            Source::Text(text) => {
                let text = std::mem::take(text);
                this.source = Source::Empty;
                Poll::Ready(Some(Ok(Frame::data(text))))
            }
            Source::Upstream(incoming) => Pin::new(incoming).poll_frame(cx),
            Source::Web(answer) => answer.poll_frame(cx, this.record.as_deref_mut()),
        };
        let Poll::Ready(frame) = polled else {
            return match this.too_late(cx) {
                Some(error) => Poll::Ready(Some(Err(error))),
                None => Poll::Pending,
            };
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
                    #[cfg(debug_assertions)]
                    crate::panics::on_path::meet_in(data);
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
            Source::Web(answer) => answer.has_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Text(text) => SizeHint::with_exact(text.len() as u64),
            Source::Upstream(incoming) => incoming.size_hint(),
            Source::Web(_) => SizeHint::default(),
        }
    }
}

impl ResponseBody {
    /// The answer goes out without its body, as to a HEAD.
    pub fn discard(&mut self) {
        if !matches!(self.source, Source::Upstream(_) | Source::Web(_)) {
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
        self.deadline = Deadline::None;
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

//! Copies bytes both ways until both directions have ended, and keeps half-closed connections half-closed.
//!
//! Reads go into one block of the worker's and leave it before anybody else reads: a tunnel owns memory only for what
//! its slow receiver has not taken yet, an idle one owns none. Between two sockets without TLS, bulk goes by
//! [`Pipe`] and is not seen here at all.
//!
//! A side that broke has no end, and the other side gets a reset instead of one, after all that the broken side had
//! said. Who can't be written to may still have answered. What we end ourselves, by a policy, for silence or with the
//! process, has no end either.

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{io::ReadBuf, time::Instant};

use super::pipe::Pipe;
use crate::http::h1::io::Io;

/// One read, or several of TLS; then one write.
const BLOCK_BYTES: usize = 64 * 1024;
/// A direction is bulk after so many bytes without a pause.
const BULK_BYTES: u64 = 64 * 1024;
/// A splice that moves less was not worth its calls.
const SPLICE_BYTES_MIN: usize = 8 * 1024;
/// Blocks that one direction moves before the other, and other connections, have their turn.
const ROUNDS_MAX: usize = 16;

thread_local! {
    static BLOCK: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes that went each way, also when the copy ended with an error.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    pub to_upstream: u64,
    pub to_downstream: u64,
}

/// Copies until both ends have finished, one fails, nothing moved for `idle_timeout`, or `forbidden` is ready.
pub async fn copy<A, B>(
    downstream: &mut A,
    upstream: &mut B,
    idle_timeout: Duration,
    forbidden: impl Future<Output = ()>,
) -> (Copied, io::Result<()>)
where
    A: Io,
    B: Io,
{
    let mut ends = Ends { downstream, upstream, up: Direction::default(), down: Direction::default() };
    let idle = tokio::time::sleep(idle_timeout);
    tokio::pin!(idle, forbidden);
    let mut seen = Copied::default();
    let result = poll_fn(|cx| {
        if forbidden.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::PermissionDenied.into()));
        }
        if let Poll::Ready(ended) = ends.poll(cx) {
            return Poll::Ready(ended);
        }
        // The timer is not re-armed per read: it looks when it fires whether something moved since.
        while idle.as_mut().poll(cx).is_ready() {
            let now = ends.copied();
            if now == seen {
                let failure = ends.failure();
                return Poll::Ready(Err(failure.unwrap_or_else(|| io::ErrorKind::TimedOut.into())));
            }
            seen = now;
            idle.as_mut().reset(Instant::now() + idle_timeout);
        }
        Poll::Pending
    })
    .await;
    (ends.copied(), result)
}

/// Both sides, and what goes each way.
struct Ends<'a, A: Io, B: Io> {
    downstream: &'a mut A,
    upstream: &'a mut B,
    up: Direction,
    down: Direction,
}

impl<A: Io, B: Io> Ends<'_, A, B> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let first = self.up.poll(cx, self.downstream, self.upstream)?;
        self.down.distrusts_end = self.up.failure.as_ref().is_some_and(is_no_end);
        let second = self.down.poll(cx, self.upstream, self.downstream)?;
        self.up.distrusts_end = self.down.failure.as_ref().is_some_and(is_no_end);
        if first.is_ready() && second.is_ready() {
            return Poll::Ready(self.failure().map_or(Ok(()), Err));
        }
        Poll::Pending
    }

    fn failure(&mut self) -> Option<io::Error> {
        self.up.failure.take().or_else(|| self.down.failure.take())
    }

    fn copied(&self) -> Copied {
        Copied { to_upstream: self.up.bytes, to_downstream: self.down.bytes }
    }
}

impl<A: Io, B: Io> Drop for Ends<'_, A, B> {
    /// An end that is none must not look like one: half a file is not a file. Whoever ends the copy, also by not going
    /// on with it, comes by here.
    fn drop(&mut self) {
        if !self.down.is_whole() {
            self.downstream.abort();
        }
        if !self.up.is_whole() {
            self.upstream.abort();
        }
    }
}

/// Whether a side to which this happened may still have something to read.
fn may_have_answered(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Whether a side to which this happened never said its end: the system tells of a reset once, and shows an end to
/// whoever reads after that. A pipe breaks where the end came first.
fn is_no_end(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::BrokenPipe
}

/// One direction's progress, and what its writer has not taken yet.
#[derive(Default)]
struct Direction {
    rest: Vec<u8>,
    /// Bytes of `rest` that are written.
    start: usize,
    pipe: Option<Pipe>,
    need_flush: bool,
    ended: Ended,
    bytes: u64,
    /// Bytes since it last was no bulk.
    bulk: u64,
    /// The kernel refused these sockets.
    never_splice: bool,
    /// The writer takes no more, and the reader is not read any more.
    failure: Option<io::Error>,
    reader_failed: bool,
    /// The reader was reset when it was written to.
    distrusts_end: bool,
}

#[derive(Default)]
enum Ended {
    #[default]
    No,
    /// The reader said end, or failed; what was read before is still to be written.
    Reader(io::Result<()>),
    Both,
}

impl Direction {
    /// An error where there is nothing more to do for the other direction either.
    fn poll<R: Io, W: Io>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        if self.failure.is_some() {
            return Poll::Ready(Ok(()));
        }
        let error = match ready!(self.poll_rounds(cx, reader, writer)) {
            Err(error) if !self.reader_failed && may_have_answered(&error) => error,
            ended => return Poll::Ready(ended),
        };
        self.failure = Some(error);
        Poll::Ready(Ok(()))
    }

    fn poll_rounds<R: Io, W: Io>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        for _ in 0..ROUNDS_MAX {
            ready!(self.poll_rest(cx, writer))?;
            match std::mem::take(&mut self.ended) {
                Ended::No => {}
                Ended::Reader(Err(error)) => {
                    self.reader_failed = true;
                    return Poll::Ready(Err(error));
                }
                Ended::Reader(Ok(())) if self.distrusts_end => {
                    self.reader_failed = true;
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Ended::Reader(Ok(())) => {
                    self.ended = Ended::Reader(Ok(()));
                    ready!(Pin::new(&mut *writer).poll_shutdown(cx))?;
                    self.ended = Ended::Both;
                }
                Ended::Both => self.ended = Ended::Both,
            }
            if let Ended::Both = self.ended {
                return Poll::Ready(Ok(()));
            }
            let moved = match (reader.socket(), writer.socket()) {
                (Some(reader), Some(_)) if self.wants_splice() => self.poll_splice(cx, reader),
                _ => self.poll_block(cx, reader, writer),
            };
            match moved {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    self.pipe = None;
                    // TLS keeps records back until it is flushed.
                    if self.need_flush {
                        ready!(Pin::new(&mut *writer).poll_flush(cx))?;
                        self.need_flush = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the reader came to its end in good order, and the writer has it all.
    fn is_whole(&self) -> bool {
        matches!(self.ended, Ended::Both)
    }

    fn wrote(&mut self, count: usize) {
        self.bytes += count as u64;
        self.bulk += count as u64;
        self.need_flush = true;
    }

    /// Writes what is left of earlier reads.
    fn poll_rest<W: Io>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<io::Result<()>> {
        while self.start < self.rest.len() {
            match ready!(Pin::new(&mut *writer).poll_write(cx, &self.rest[self.start..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    self.start += written;
                    self.wrote(written);
                }
            }
        }
        self.rest = Vec::new();
        self.start = 0;
        while let Some(pipe) = self.pipe.as_mut().filter(|pipe| !pipe.is_empty()) {
            let Some(socket) = writer.socket() else { return Poll::Ready(Err(io::ErrorKind::Other.into())) };
            let written = ready!(pipe.poll_drain(cx, socket))?;
            self.wrote(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what is there, as far as the block goes, and writes it; what the writer does not take is kept.
    fn poll_block<R: Io, W: Io>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        let mut block = BLOCK.take();
        if block.is_empty() {
            block = vec![0; BLOCK_BYTES];
        }
        let polled = self.poll_through(cx, &mut block, reader, writer);
        BLOCK.set(block);
        polled
    }

    fn poll_through<R: Io, W: Io>(
        &mut self,
        cx: &mut Context<'_>,
        block: &mut [u8],
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        let mut buffer = ReadBuf::new(block);
        while buffer.remaining() > 0 {
            let before = buffer.filled().len();
            match Pin::new(&mut *reader).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().len() > before => {}
                Poll::Ready(ended) => {
                    self.ended = Ended::Reader(ended);
                    break;
                }
                Poll::Pending if before == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        let mut left = buffer.filled();
        while !left.is_empty() {
            match Pin::new(&mut *writer).poll_write(cx, left) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    left = &left[written..];
                    self.wrote(written);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.rest = left.to_vec();
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn wants_splice(&mut self) -> bool {
        if self.never_splice || self.bulk < BULK_BYTES {
            return false;
        }
        if self.pipe.is_none() {
            self.pipe = Pipe::take();
        }
        if self.pipe.is_none() {
            self.bulk = 0; // no descriptors: asked again after as many bytes
        }
        self.pipe.is_some()
    }

    fn poll_splice(&mut self, cx: &mut Context<'_>, reader: &tokio::net::TcpStream) -> Poll<io::Result<()>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Ok(())) };
        match ready!(pipe.poll_fill(cx, reader)) {
            Ok(0) => self.ended = Ended::Reader(Ok(())),
            Ok(moved) if moved < SPLICE_BYTES_MIN => self.bulk = 0,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.never_splice = true,
            Err(error) => self.ended = Ended::Reader(Err(error)),
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;

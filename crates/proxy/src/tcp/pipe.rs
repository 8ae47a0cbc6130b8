//! A pipe of the kernel's, through which bytes go from one socket to another without being copied to us and back.
//!
//! A pipe costs two descriptors and no memory while it is empty. So a direction has one only while it moves bulk: when
//! there is nothing more to read, it goes back to the worker, which keeps a few for the next.

use std::{cell::RefCell, io, os::fd::OwnedFd, task::Context, task::Poll, task::ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::{io::Interest, net::TcpStream};

use crate::net::descriptors::Descriptors;

/// What one splice moves at most; the kernel may give a pipe less.
const PIPE_BYTES: usize = 256 * 1024;
/// Empty pipes that a worker keeps.
const KEPT_MAX: usize = 8;
const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

thread_local! {
    static KEPT: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

#[cfg(test)]
thread_local! {
    /// Bytes that left pipes on this thread.
    pub static DRAINED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe in use.
pub struct Pipe {
    /// None: it has gone back.
    ends: Option<Ends>,
    /// Bytes inside.
    held: usize,
}

impl Pipe {
    /// None: there are no descriptors to spare for it.
    pub fn take() -> Option<Pipe> {
        let kept = KEPT.with_borrow_mut(Vec::pop);
        Some(Pipe { ends: Some(kept.or_else(made)?), held: 0 })
    }

    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Reads into the pipe, which must be empty, or a full one could not be told from a silent reader. 0 is the end.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, reader: &TcpStream) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
        loop {
            ready!(reader.poll_read_ready(cx))?;
            let moved = reader.try_io(Interest::READABLE, || {
                Ok(splice(reader, None, &ends.write, None, PIPE_BYTES, FLAGS)?)
            });
            match moved {
                Ok(count) => {
                    self.held += count;
                    return Poll::Ready(Ok(count));
                }
                Err(error) if retried(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes from the pipe, once. 0: there was nothing.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, writer: &TcpStream) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
        while self.held > 0 {
            ready!(writer.poll_write_ready(cx))?;
            let moved = writer
                .try_io(Interest::WRITABLE, || Ok(splice(&ends.read, None, writer, None, self.held, FLAGS)?));
            match moved {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    self.held -= count;
                    #[cfg(test)]
                    DRAINED.set(DRAINED.get() + count);
                    return Poll::Ready(Ok(count));
                }
                Err(error) if retried(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(0))
    }
}

impl Drop for Pipe {
    /// Only an empty pipe is anybody's: bytes of one connection must never reach another.
    fn drop(&mut self) {
        let Some(ends) = self.ends.take().filter(|_| self.held == 0) else { return };
        // The thread may be ending; then the ends are just closed.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT_MAX {
                kept.push(ends);
            }
        });
    }
}

#[cold]
fn made() -> Option<Ends> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
    let descriptors = Descriptors::of_process();
    if !descriptors.may_accept(&read) || !descriptors.may_accept(&write) {
        return None;
    }
    // A user's pipes together may hold only so much; a small one works too.
    let _ = fcntl_setpipe_size(&write, PIPE_BYTES);
    Some(Ends { read, write })
}

fn retried(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

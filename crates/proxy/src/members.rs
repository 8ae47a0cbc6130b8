//! Open connections with members, by the certificates that the members showed, so that those whose certificate is
//! revoked end at once, whatever they carry and whoever opened them.
//!
//! A [`Tie`] goes with the bytes of a connection: [`Tied`] asks it before it reads or writes, and leaves its waker with it
//! where it has to wait. So nothing above needs to know: a cut connection is a broken one, its requests fail or are
//! tried elsewhere, and each has its record. A handshake takes a lock here once, a read and a write a flag.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Instant, SystemTime},
};

use futures_util::task::AtomicWaker;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_identity::{Bundle, Refusal, certificate::Leaf};
use weft_telemetry::{Registry, Snapshot};

use crate::http::h1::io::Io;

/// The gone are looked for when there are twice as many as were left the last time, and no fewer than this.
const LOOK_AT_MIN: usize = 64;

/// All of one proxy's.
#[derive(Debug, Default)]
pub struct Members {
    open: Mutex<Open>,
    cut: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    /// The newest; a handshake may have begun with an older one.
    bundle: Option<Bundle>,
    connections: Vec<(Box<str>, Weak<Cut>)>,
    look_at: usize,
}

/// One connection's end, from outside.
#[derive(Debug, Default)]
struct Cut {
    is_cut: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

/// What a connection asks whether it may go on.
#[derive(Debug)]
pub struct Tie {
    cut: Arc<Cut>,
    not_after: SystemTime,
}

impl Members {
    /// A connection whose handshake has just ended well, with a member that showed this chain.
    pub fn tie(&self, chain: Option<&[CertificateDer<'_>]>) -> Result<Tie, Refusal> {
        let leaf = chain.and_then(|chain| chain.first()).ok_or(Refusal::NoCertificate)?;
        let Leaf { serial_hex: serial, not_after, .. } =
            Leaf::parse(leaf).map_err(|_| Refusal::BadCertificate)?;
        let cut = Arc::new(Cut::default());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.bundle.as_ref().is_some_and(|bundle| bundle.revokes(&serial)) {
            return Err(Refusal::Revoked);
        }
        if open.connections.len() >= open.look_at.max(LOOK_AT_MIN) {
            open.connections.retain(|(_, cut)| cut.strong_count() > 0);
            open.look_at = 2 * open.connections.len();
        }
        open.connections.push((serial.into(), Arc::downgrade(&cut)));
        Ok(Tie { cut, not_after })
    }

    /// Cuts what this bundle has revoked; how many connections that were.
    pub fn learn(&self, bundle: &Bundle) -> usize {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.bundle = Some(bundle.clone());
        let mut ended = 0;
        open.connections.retain(|(serial, cut)| {
            let Some(cut) = cut.upgrade() else { return false };
            let revoked = bundle.revokes(serial);
            if revoked {
                cut.end();
                ended += 1;
            }
            !revoked
        });
        self.cut.fetch_add(ended as u64, Ordering::Relaxed);
        ended
    }

    /// For the page of metrics.
    pub fn measured(&self, registry: &Registry) -> Snapshot {
        let mut shard = registry.shard();
        let help = "Connections that were cut because the member's certificate was revoked.";
        shard.add(registry.counter("weft_connections_revoked", help, &[]), self.cut.load(Ordering::Relaxed));
        shard.snapshot()
    }
}

impl Tie {
    /// When the certificate ends.
    pub fn expires(&self) -> Option<Instant> {
        let left = self.not_after.duration_since(SystemTime::now()).unwrap_or_default();
        Instant::now().checked_add(left)
    }
}

impl Cut {
    fn end(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }

    fn check(&self) -> io::Result<()> {
        match self.is_cut.load(Ordering::Acquire) {
            false => Ok(()),
            true => Err(broken()),
        }
    }

    /// What had to wait does so until it is told to go on, or that it is over.
    fn or_cut<T>(
        &self,
        polled: Poll<io::Result<T>>,
        waiting: &AtomicWaker,
        cx: &Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_pending() {
            waiting.register(cx.waker());
            // It may have been cut before it could be told.
            self.check()?;
        }
        polled
    }
}

#[cold]
fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the peer's certificate was revoked")
}

/// A connection that ends when it is told to. Without a tie it is just a connection.
#[derive(Debug)]
pub struct Tied<T> {
    io: T,
    tie: Option<Tie>,
}

impl<T> Tied<T> {
    pub fn new(io: T, tie: Option<Tie>) -> Tied<T> {
        Tied { io, tie }
    }

    pub fn io(&self) -> &T {
        &self.io
    }

    fn check(&self) -> io::Result<()> {
        self.tie.as_ref().map_or(Ok(()), |tie| tie.cut.check())
    }

    fn writing<R>(&self, polled: Poll<io::Result<R>>, cx: &Context<'_>) -> Poll<io::Result<R>> {
        match &self.tie {
            Some(Tie { cut, .. }) => cut.or_cut(polled, &cut.writer, cx),
            None => polled,
        }
    }
}

impl<T: Io> Io for Tied<T> {
    fn abort(&self) {
        self.io.abort();
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Tied<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        match &self.tie {
            Some(Tie { cut, .. }) => cut.or_cut(polled, &cut.reader, cx),
            None => polled,
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tied<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.writing(polled, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.writing(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.writing(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.writing(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;

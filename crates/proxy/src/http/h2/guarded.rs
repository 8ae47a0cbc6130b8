//! Stands between the socket and the codec, and ends connections whose peers only keep us busy.
//!
//! [`Guard`] decides, from the heads of frames. When it does, the codec gets no byte more: the peer is told by a GOAWAY
//! written between two frames of the codec's, then listened to for a moment, since a reset would take the GOAWAY away
//! from it, then the connection breaks for the codec too. Where the codec is stuck within a frame, because the peer does
//! not read, there is nobody to be told.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};
use weft_routing::Http2Options;
use weft_wire::http2_guard::{Flood, Guard, Limits};

use crate::http::h1::io::Io;

/// What is read away after the GOAWAY, and for how long.
const LINGER_BYTES_MAX: usize = 256 * 1024;
const LINGER_TIME_MAX: Duration = Duration::from_millis(500);

/// What a peer may do.
pub fn limits(options: &Http2Options) -> Limits {
    let own = Limits::DEFAULT;
    Limits {
        empty_in_a_row: options.empty_frames_max.or(own.empty_in_a_row),
        priorities_per_stream: options.priorities_per_stream_max.unwrap_or(own.priorities_per_stream),
        window_updates_per_data: options.window_updates_per_data_max.unwrap_or(own.window_updates_per_data),
    }
}

/// Hears which flood ended the connection.
pub type OnFlood = Rc<dyn Fn(Flood)>;

/// A connection of HTTP/2 under guard.
pub struct Guarded<T> {
    io: T,
    guard: Guard,
    since: Instant,
    on_flood: OnFlood,
    on_settings: Option<Box<dyn Fn()>>,
    /// Is set by whatever comes, and when a socket that was full takes more: the peer has read.
    heard: Option<Rc<Cell<bool>>>,
    is_full: bool,
    ending: Option<Box<Ending>>,
}

/// The peer's last moment.
struct Ending {
    flood: Flood,
    goaway: [u8; 17],
    /// Bytes of it that are out; all of them where there is nobody to be told.
    written: usize,
    shut: bool,
    read: usize,
    timer: Pin<Box<Sleep>>,
}

impl<T> Guarded<T> {
    pub fn new(io: T, guard: Guard, on_flood: OnFlood) -> Guarded<T> {
        Guarded {
            io,
            guard,
            since: Instant::now(),
            on_flood,
            on_settings: None,
            heard: None,
            is_full: false,
            ending: None,
        }
    }

    /// Calls `hear` when the peer's SETTINGS come.
    pub fn on_settings(self, hear: impl Fn() + 'static) -> Guarded<T> {
        Guarded { on_settings: Some(Box::new(hear)), ..self }
    }

    /// Sets `heard` whenever something comes, or is taken after all.
    pub fn on_read(self, heard: &Rc<Cell<bool>>) -> Guarded<T> {
        Guarded { heard: Some(Rc::clone(heard)), ..self }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ending.is_none() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            let since = this.since;
            let Err(flood) = this.guard.on_received(&buf.filled()[before..], || since.elapsed()) else {
                if let Some(hear) = &this.on_settings
                    && this.guard.take_settings()
                {
                    hear();
                }
                if let Some(heard) = &this.heard {
                    heard.set(true);
                }
                return Poll::Ready(Ok(()));
            };
            buf.set_filled(before);
            this.end(flood);
        }
        let Some(ending) = &mut this.ending else { return Poll::Pending }; // there is one by now
        let _ = ready!(ending.poll(cx, &mut this.io));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, ending.flood)))
    }
}

impl<T> Guarded<T> {
    fn note(&mut self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending => self.is_full = true,
            Poll::Ready(Ok(1..)) if std::mem::take(&mut self.is_full) => {
                if let Some(heard) = &self.heard {
                    heard.set(true);
                }
            }
            Poll::Ready(_) => {}
        }
    }

    #[cold]
    fn end(&mut self, flood: Flood) {
        (self.on_flood)(flood);
        let goaway = self.guard.goaway();
        let nobody = !self.guard.is_between_frames();
        self.ending = Some(Box::new(Ending {
            flood,
            written: if nobody { goaway.len() } else { 0 },
            goaway,
            shut: nobody,
            read: if nobody { LINGER_BYTES_MAX } else { 0 },
            timer: Box::pin(tokio::time::sleep(LINGER_TIME_MAX)),
        }));
    }
}

impl Ending {
    /// Ready when the connection may break.
    fn poll<T>(&mut self, cx: &mut Context<'_>, io: &mut T) -> Poll<io::Result<()>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        if self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        while let Some(left @ [_, ..]) = self.goaway.get(self.written..) {
            self.written += ready!(Pin::new(&mut *io).poll_write(cx, left))?;
        }
        if !self.shut {
            ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
            self.shut = true;
        }
        let mut away = [0; 4096];
        while self.read < LINGER_BYTES_MAX {
            let mut buf = ReadBuf::new(&mut away);
            ready!(Pin::new(&mut *io).poll_read(cx, &mut buf))?;
            match buf.filled().len() {
                0 => break,
                count => self.read += count,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What the codec writes while its connection ends goes nowhere.
impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ending.is_some() {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.note(&written);
        let count = ready!(written)?;
        this.guard.on_sent(&buf[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ending.is_some() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.note(&written);
        let count = ready!(written)?;
        let mut left = count;
        for buf in bufs {
            let out = left.min(buf.len());
            this.guard.on_sent(&buf[..out]);
            left -= out;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.ending {
            Some(_) => Poll::Ready(Ok(())),
            None => Pin::new(&mut this.io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.ending {
            Some(_) => Poll::Ready(Ok(())),
            None => Pin::new(&mut this.io).poll_shutdown(cx),
        }
    }
}

impl<T: Io> Io for Guarded<T> {
    fn abort(&self) {
        self.io.abort();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

    fn flood() -> Vec<u8> {
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &PING.repeat(600)[..]].concat()
    }

    fn guarded<T>(io: T) -> (Guarded<T>, Rc<Cell<Option<Flood>>>) {
        let heard = Rc::new(Cell::new(None));
        let told = Rc::clone(&heard);
        (Guarded::new(io, Guard::server(Limits::DEFAULT), Rc::new(move |flood| told.set(Some(flood)))), heard)
    }

    #[tokio::test]
    async fn a_flood_gets_its_goaway_and_an_end() {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let (mut guarded, heard) = guarded(ours);
        theirs.write_all(&flood()).await.unwrap();
        let mut bytes = Vec::new();
        let peer = async {
            let mut told = Vec::new();
            theirs.read_to_end(&mut told).await.unwrap();
            drop(theirs);
            told
        };
        let (read, told) = tokio::join!(guarded.read_to_end(&mut bytes), peer);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(told, [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]);
        assert_eq!(heard.get(), Some(Flood::Ping));
        assert!(bytes.len() < PING.len() * 502, "the codec sees nothing of the rest");
    }

    #[tokio::test]
    async fn a_peer_that_goes_on_is_not_listened_to_for_ever() {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let (mut guarded, heard) = guarded(ours);
        theirs.write_all(&flood()).await.unwrap();
        let started = tokio::time::Instant::now();
        let read = guarded.read_to_end(&mut Vec::new()).await; // they neither read nor leave
        assert!(read.is_err() && heard.get().is_some());
        assert!(started.elapsed() >= LINGER_TIME_MAX);
        assert_eq!(guarded.write(b"late").await.unwrap(), 4, "goes nowhere, and does not wait");
    }
}

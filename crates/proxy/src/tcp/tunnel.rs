//! One TCP connection inside HTTP/2: the stream of a CONNECT, read and written like a socket.
//!
//! END_STREAM is the half-close of its direction. Whatever ends before both directions have said END_STREAM ends with
//! RST_STREAM, and the other side's proxy makes a reset of it: half a file must not look like a file.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_routing::Http2Options;

use crate::http::h1::io::Io;

/// What one direction of a tunnel may have on the way; bulk over a millisecond of network moves 250 MB/s with it.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Tunnels on a connection. More need another one.
pub const STREAMS_MAX: u32 = 100;
/// Every frame costs a header, a lock and a record of TLS; fewer and larger ones are for bulk.
pub const FRAME_BYTES_MAX: u32 = 64 * 1024;
/// What a tunnel may have handed to its connection without the connection having sent it.
pub const SEND_BUFFER_BYTES: usize = STREAM_WINDOW_BYTES as usize;
pub const HEAD_BYTES_MAX: u32 = 16 * 1024;

/// How much may be on the way, by configuration or else by our own figures.
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    pub streams_max: u32,
    pub stream: u32,
    pub connection: u32,
}

impl Windows {
    fn new(streams_max: Option<u32>, stream: Option<u32>, connection: Option<u32>) -> Windows {
        let streams_max = streams_max.unwrap_or(STREAMS_MAX).clamp(1, STREAMS_MAX);
        let stream = stream.unwrap_or(STREAM_WINDOW_BYTES);
        // Room for all streams at once: a tunnel that nobody reads stops itself and none of its neighbours.
        let connection = connection.unwrap_or_else(|| stream.saturating_mul(streams_max)).max(stream);
        Windows { streams_max, stream, connection: connection.min(i32::MAX as u32) }
    }

    pub fn of(options: &Http2Options) -> Windows {
        Windows::new(options.streams_max, options.stream_window, options.connection_window)
    }

    /// For how much bookkeeping small frames may wait that nobody reads: a chatty peer of a slow reader must not cost
    /// the connection, and with it the tunnels of others.
    pub fn small_frames_budget(&self) -> usize {
        (self.connection as usize).saturating_mul(2)
    }
}

/// The stream of a CONNECT that was accepted. `C` lives as long as it.
pub struct Tunnel<C> {
    send: SendStream<Bytes>,
    recv: RecvStream,
    unread: Bytes,
    /// The other side said END_STREAM.
    ended: bool,
    /// We said it.
    shut: bool,
    _counted: C,
}

impl<C> Tunnel<C> {
    pub fn new(send: SendStream<Bytes>, recv: RecvStream, counted: C) -> Tunnel<C> {
        Tunnel { send, recv, unread: Bytes::new(), ended: false, shut: false, _counted: counted }
    }
}

impl<C: Unpin> Io for Tunnel<C> {
    /// It ends by RST_STREAM when it is dropped, having no end of its own.
    fn abort(&self) {}
}

impl<C: Unpin> AsyncRead for Tunnel<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match ready!(this.recv.poll_data(cx)) {
                Some(Ok(data)) => this.unread = data,
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                None => {
                    this.ended = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
        let count = this.unread.len().min(buf.remaining());
        buf.put_slice(this.unread.get(..count).unwrap_or_default());
        this.unread.advance(count);
        // Fails only where the stream is gone, which the next read says.
        let _ = this.recv.flow_control().release_capacity(count);
        Poll::Ready(Ok(()))
    }
}

impl<C: Unpin> AsyncWrite for Tunnel<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        // Only while there is something to send: what is reserved is lost to the connection's other streams.
        this.send.reserve_capacity(buf.len());
        while this.send.capacity() == 0 {
            match ready!(this.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        let count = this.send.capacity().min(buf.len());
        let data = Bytes::copy_from_slice(buf.get(..count).unwrap_or_default());
        this.send.send_data(data, false).map_err(io_error)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the connection's own task writes
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.shut {
            this.send.send_data(Bytes::new(), true).map_err(io_error)?;
            this.shut = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl<C> Drop for Tunnel<C> {
    fn drop(&mut self) {
        if !(self.ended && self.shut) {
            // RFC 9113 section 8.5: what a reset is to TCP.
            self.send.send_reset(Reason::CONNECT_ERROR);
        }
    }
}

fn io_error(error: h2::Error) -> io::Error {
    let kind = if error.is_io() { io::ErrorKind::BrokenPipe } else { io::ErrorKind::ConnectionReset };
    io::Error::new(kind, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_streams_have_room_at_once() {
        let usual = Windows::new(None, None, None);
        assert_eq!(usual.connection, usual.stream * usual.streams_max);
        let asked = Windows::new(Some(1000), Some(1 << 20), Some(64 * 1024));
        assert_eq!(
            (asked.streams_max, asked.connection),
            (STREAMS_MAX, 1 << 20),
            "never less than one stream"
        );
        assert_eq!(Windows::new(Some(0), Some(u32::MAX), None).connection, i32::MAX as u32);
    }
}

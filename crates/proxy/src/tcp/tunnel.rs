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
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_routing::Http2Options;

use crate::http::{
    h1::io::Io,
    h2::codec::{Config, Error, Read, Reason, ReceiveHalf, Role, SendHalf},
};

/// What one direction of a tunnel may have on the way; bulk over a millisecond of network moves 250 MB/s with it.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Tunnels on a connection. More need another one.
pub const STREAMS_MAX: u32 = 100;
/// Every frame costs a head; fewer and larger ones are for bulk.
const FRAME_BYTES_MAX: u32 = 64 * 1024;
/// What tunnels may have handed to their connection without the connection having sent it.
const OUT_BYTES_MAX: usize = STREAM_WINDOW_BYTES as usize;
const HEAD_BYTES_MAX: u32 = 16 * 1024;

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

    pub fn codec(&self, role: Role) -> Config {
        Config {
            streams_max: self.streams_max,
            stream_window: self.stream,
            connection_window: self.connection,
            head_bytes_max: HEAD_BYTES_MAX,
            frame_bytes_max: FRAME_BYTES_MAX,
            out_bytes_max: OUT_BYTES_MAX,
            ..Config::new(role)
        }
    }
}

/// The stream of a CONNECT that was accepted. `C` lives as long as it.
pub struct Tunnel<C> {
    send: SendHalf,
    recv: ReceiveHalf,
    unread: Bytes,
    /// The other side said END_STREAM.
    ended: bool,
    /// We said it.
    shut: bool,
    _counted: C,
}

impl<C> Tunnel<C> {
    pub fn new(send: SendHalf, recv: ReceiveHalf, counted: C) -> Tunnel<C> {
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
            match ready!(this.recv.poll_read(cx)).map_err(Error::from)? {
                Read::Data(data) => this.unread = data,
                Read::Trailers(_) => {}
                Read::End | Read::Wait => {
                    this.ended = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
        let count = this.unread.len().min(buf.remaining());
        buf.put_slice(this.unread.get(..count).unwrap_or_default());
        this.unread.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<C: Unpin> AsyncWrite for Tunnel<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let count = ready!(this.send.poll_room(cx)).map_err(Error::from)?.min(buf.len());
        let mut data = Bytes::copy_from_slice(buf.get(..count).unwrap_or_default());
        this.send.send_data(&mut data, false).map_err(Error::from)?;
        // The frames' heads take of the room too.
        Poll::Ready(Ok(count - data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the connection's own task writes
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.shut {
            this.send.send_data(&mut Bytes::new(), true).map_err(Error::from)?;
            this.shut = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl<C> Drop for Tunnel<C> {
    fn drop(&mut self) {
        if !(self.ended && self.shut) {
            // RFC 9113 section 8.5: what a reset is to TCP.
            self.send.reset(Reason::CONNECT_ERROR);
        }
    }
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

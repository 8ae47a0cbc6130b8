//! A connection's bytes, in and out, with as little memory as they need just now.
//!
//! Reads go into one block of the worker's, and what was read is cut out of it without a copy: a connection that waits
//! holds nothing. Only what cannot be used yet, such as half a head, is copied out, so that nobody's few bytes keep a
//! whole block alive. Writes are collected in a buffer lent by the worker and leave with the body's data in one call.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_util::io::poll_read_buf;

use crate::net::Prefixed;

/// One block serves many reads.
const BLOCK_BYTES: usize = 64 * 1024;
/// Room for one read; a read that fills less needs no second one to know that there is no more.
const READ_BYTES_MIN: usize = 16 * 1024;
/// Data shorter than this is copied, so that it does not keep its block.
const COPIED_BYTES_MAX: usize = 4 * 1024;
/// Copies that stand together; as much as the last of them can keep alive.
const COPIES_BYTES: usize = 8 * 1024;
/// Bytes collected before they are written.
pub const FLAT_BYTES_MAX: usize = 16 * 1024;
/// Buffers that a worker keeps for the next writes.
const FLATS_MAX: usize = 32;

thread_local! {
    static BLOCK: RefCell<BytesMut> = RefCell::default();
    /// Two, so that the older one is free again when the other is full.
    static COPIES: RefCell<[BytesMut; 2]> = RefCell::default();
    static FLATS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Keeps no buffer that nobody uses just now.
#[cold]
pub fn release() {
    BLOCK.take();
    FLATS.take();
    COPIES.take();
}

/// A buffer for what is to be written, empty.
pub fn lend_flat() -> Vec<u8> {
    FLATS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Takes a buffer back.
pub fn give_back_flat(mut flat: Vec<u8>) {
    flat.clear();
    if (1..=2 * FLAT_BYTES_MAX).contains(&flat.capacity()) {
        FLATS.with_borrow_mut(|flats| {
            if flats.len() < FLATS_MAX {
                flats.push(flat);
            }
        });
    }
}

/// Bytes of a head or a short part of a body, copied to where many stand together: their memory is used again once all
/// of them are gone, so that most copies allocate nothing.
pub fn copied(bytes: &[u8]) -> Bytes {
    COPIES.with_borrow_mut(|[copies, older]| {
        if copies.capacity() < bytes.len() {
            std::mem::swap(copies, older);
            copies.reserve(COPIES_BYTES.max(bytes.len()));
        }
        copies.extend_from_slice(bytes);
        copies.split().freeze()
    })
}

/// A client's connection, plain or TLS. Virtual, as it costs a call where a system call follows.
pub trait Io: AsyncRead + AsyncWrite + Unpin {
    /// Lets the other side see that the end is none: for an answer that only ends with its connection.
    fn abort(&self);

    /// The socket, if its bytes are the connection's own and none were taken before.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
}

impl Io for TcpStream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn abort(&self) {
        let _ = socket2::SockRef::from(self).set_linger(Some(std::time::Duration::ZERO));
    }
}

impl<T: Io> Io for Prefixed<T> {
    fn abort(&self) {
        self.io().abort();
    }

    fn socket(&self) -> Option<&TcpStream> {
        self.whole()?.socket()
    }
}

impl<T: Io + ?Sized> Io for Box<T> {
    fn abort(&self) {
        (**self).abort();
    }

    fn socket(&self) -> Option<&TcpStream> {
        (**self).socket()
    }
}

impl<T: Io> Io for tokio_rustls::server::TlsStream<T> {
    /// TLS has an end of its own, which is not said then.
    fn abort(&self) {
        self.get_ref().0.abort();
    }
}

/// What was read and not used yet.
#[derive(Default)]
pub struct Input {
    bytes: BytesMut,
    /// The bytes stand in the worker's block.
    lent: bool,
}

impl Input {
    pub fn new(bytes: BytesMut) -> Input {
        Input { bytes, lent: false }
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Reads once; 0 is the end.
    pub fn poll_fill<S>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        S: AsyncRead + Unpin + ?Sized,
    {
        BLOCK.with_borrow_mut(|block| {
            if block.capacity() < READ_BYTES_MIN {
                // Takes the old block again if nobody holds a part of it.
                block.reserve(BLOCK_BYTES);
            }
            let count = ready!(poll_read_buf(Pin::new(io), cx, block))?;
            let fresh = block.split();
            if self.bytes.is_empty() {
                self.bytes = fresh;
                self.lent = true;
            } else {
                self.keep();
                self.bytes.extend_from_slice(&fresh);
            }
            Poll::Ready(Ok(count))
        })
    }

    /// Before a wait: what is left is to stay without its block.
    pub fn keep(&mut self) {
        if self.lent {
            self.lent = false;
            self.bytes = match self.bytes.is_empty() {
                true => BytesMut::new(),
                false => BytesMut::from(&self.bytes[..]),
            };
        } else if self.bytes.is_empty() && self.bytes.capacity() > 0 {
            self.bytes = BytesMut::new();
        }
    }

    pub fn skip(&mut self, count: usize) {
        self.bytes.advance(count.min(self.bytes.len()));
    }

    /// Cuts off the first bytes, for a body.
    pub fn take(&mut self, count: usize) -> Bytes {
        let count = count.min(self.bytes.len());
        if count >= COPIED_BYTES_MAX {
            return self.bytes.split_to(count).freeze();
        }
        self.take_copy(count)
    }

    /// Cuts off the first bytes as memory of their own.
    pub fn take_copy(&mut self, count: usize) -> Bytes {
        let taken = copied(self.bytes.get(..count).unwrap_or_default());
        self.skip(count);
        taken
    }

    /// All that is left, for whoever goes on with the connection.
    pub fn into_rest(mut self) -> BytesMut {
        self.keep();
        self.bytes
    }
}

/// What is to be written: heads and small parts in one piece, then a large part of a body, then what ends that.
#[derive(Default)]
pub struct Out {
    flat: Vec<u8>,
    written: usize,
    data: Bytes,
    tail: &'static [u8],
}

impl Out {
    pub fn is_empty(&self) -> bool {
        self.flat.len() == self.written && self.data.is_empty() && self.tail.is_empty()
    }

    /// Bytes that are to be written.
    pub fn left(&self) -> usize {
        self.flat.len() - self.written + self.data.len() + self.tail.len()
    }

    /// Whether more should be added before it is written.
    pub fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty() && self.flat.len() - self.written < FLAT_BYTES_MAX
    }

    /// The place for the next bytes; only where [`has_room`](Out::has_room).
    pub fn flat(&mut self) -> &mut Vec<u8> {
        if self.flat.capacity() == 0 {
            self.flat = lend_flat();
        }
        &mut self.flat
    }

    /// Adds data of a body and what follows it.
    pub fn push(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() < COPIED_BYTES_MAX {
            let flat = self.flat();
            flat.extend_from_slice(&data);
            flat.extend_from_slice(tail);
        } else {
            self.data = data;
            self.tail = tail;
        }
    }

    /// What was to be written is not any more.
    pub fn clear(&mut self) {
        self.data = Bytes::new();
        self.tail = b"";
        self.release();
    }

    /// Writes all of it, and adds to `count` what the other side took.
    pub fn poll_write<S>(&mut self, io: &mut S, cx: &mut Context<'_>, count: &mut u64) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin + ?Sized,
    {
        if self.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.is_empty() {
            let flat = self.flat.get(self.written..).unwrap_or_default();
            let written = if self.data.is_empty() && self.tail.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, flat))?
            } else {
                let parts = [IoSlice::new(flat), IoSlice::new(&self.data), IoSlice::new(self.tail)];
                let first = usize::from(flat.is_empty());
                let parts = parts.get(first..).unwrap_or_default();
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, parts))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *count += written as u64;
            self.advance(written);
        }
        self.data = Bytes::new();
        self.release();
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        let flat = written.min(self.flat.len() - self.written);
        self.written += flat;
        written -= flat;
        let data = written.min(self.data.len());
        self.data.advance(data);
        written -= data;
        self.tail = self.tail.get(written..).unwrap_or_default();
    }

    fn release(&mut self) {
        self.written = 0;
        give_back_flat(std::mem::take(&mut self.flat));
    }
}

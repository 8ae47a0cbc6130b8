//! What a connection keeps for each stream.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};

use super::{Fault, HeadError, frame::Reason};

/// Names a stream. Numbers are not used again, so one that is gone is never taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub(super) slot: u32,
    pub(super) id: u32,
}

impl Key {
    /// A small number that no other living stream of the connection has.
    pub fn slot(self) -> usize {
        self.slot as usize
    }

    /// The stream's number on the wire.
    pub fn id(self) -> u32 {
        self.id
    }
}

/// Why a stream is over before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error("the peer has reset the stream: {0}")]
    Reset(Reason),
    #[error("{0}")]
    Head(#[from] HeadError),
    #[error("the peer breaks the rules of a stream: {0}")]
    Protocol(&'static str),
    #[error("the peer leaves and has not begun with this stream")]
    Unprocessed,
    #[error("the connection is broken: {0}")]
    Fault(#[from] Fault),
    #[error("the connection is closed")]
    Closed,
    #[error("the stream was reset here: {0}")]
    Cancelled(Reason),
}

impl StreamError {
    /// Whether the other side says that it has done nothing for the stream (RFC 9113 section 8.7).
    pub fn is_unprocessed(&self) -> bool {
        matches!(self, StreamError::Reset(Reason::REFUSED_STREAM) | StreamError::Unprocessed)
    }

    /// What to tell whoever is on the other end of the message.
    pub fn reason(&self) -> Reason {
        match self {
            // Half a message is not a whole one.
            StreamError::Reset(Reason::NO_ERROR) | StreamError::Cancelled(Reason::NO_ERROR) => {
                Reason::INTERNAL_ERROR
            }
            StreamError::Reset(reason) | StreamError::Cancelled(reason) => *reason,
            StreamError::Head(_) | StreamError::Protocol(_) => Reason::PROTOCOL_ERROR,
            StreamError::Unprocessed => Reason::REFUSED_STREAM,
            StreamError::Fault(_) | StreamError::Closed => Reason::INTERNAL_ERROR,
        }
    }
}

/// The newest head of a stream that nobody has taken yet.
#[derive(Debug)]
pub(super) enum Head {
    Request(Request<()>),
    Response(Response<()>),
    /// A request that is to be answered with its error.
    Wrong(HeadError),
}

/// An answer's 1xx heads. Seldom any, so that a stream keeps no room for them.
#[derive(Debug, Default)]
pub(super) struct Interims {
    /// Those that nobody has taken yet.
    pub waiting: VecDeque<Response<()>>,
    /// How many came, and how large they were.
    pub count: u32,
    pub bytes: usize,
}

/// Chunks behind the first one before small ones are put together.
const CHUNKS_MAX: usize = 4;
const SMALL_BYTES: usize = 2 * 1024;

/// Data that waits to be read: as it came, or, when a reader is behind, put together, so that small frames cost no more
/// than their bytes.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Most messages are one chunk, which costs no allocation.
    first: Bytes,
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
}

impl Queue {
    pub fn push(&mut self, data: Bytes) {
        if self.is_empty() {
            self.first = data;
        } else if !self.tail.is_empty() || (self.chunks.len() >= CHUNKS_MAX && data.len() < SMALL_BYTES) {
            self.tail.extend_from_slice(&data);
        } else {
            self.chunks.push_back(data);
        }
    }

    pub fn pop(&mut self) -> Option<Bytes> {
        if !self.first.is_empty() {
            return Some(std::mem::take(&mut self.first));
        }
        self.chunks
            .pop_front()
            .or_else(|| (!self.tail.is_empty()).then(|| std::mem::take(&mut self.tail).freeze()))
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.chunks.is_empty() && self.tail.is_empty()
    }

    /// How much waited.
    pub fn clear(&mut self) -> usize {
        let waited = self.first.len() + self.chunks.iter().map(Bytes::len).sum::<usize>() + self.tail.len();
        *self = Queue::default();
        waited
    }
}

/// The halves of a stream that somebody holds.
pub const RECEIVING: u8 = 1;
pub const SENDING: u8 = 2;

#[derive(Debug)]
pub(super) struct Stream {
    pub id: u32,
    pub held: u8,
    /// It counts among the open ones.
    pub counted: bool,
    pub error: Option<StreamError>,

    /// The other side has not said END_STREAM.
    pub receives: bool,
    /// It has, and what came is a whole message, whatever happens to the stream from now on.
    pub whole: bool,
    pub head: Option<Head>,
    pub interims: Option<Box<Interims>>,
    /// The final head came, what follows it are data and trailers.
    pub headed: bool,
    pub data: Queue,
    pub trailers: Option<HeaderMap>,
    pub receive_window: i64,
    /// Read, but not given back to the window.
    pub uncredited: u32,
    /// How long the body is, if the head says so.
    pub length: Option<u64>,
    /// How much of it no frame has announced yet.
    pub expected: Option<u64>,
    /// There is something to be read that the reader was told of.
    pub told: bool,

    /// We have not said END_STREAM.
    pub sends: bool,
    pub send_window: i64,
    /// A server's: the final head is out.
    pub answered: bool,
    /// It waits for its own window.
    pub shut: bool,
    /// It waits for the connection's window, or for room in the output.
    pub waits: bool,
    /// It has waited, and may send a part.
    pub has_turn: bool,
    /// It was opened by a CONNECT.
    pub tunnel: bool,
    /// The answer to a HEAD has no body, whatever it says.
    pub bodiless: bool,
    /// The client waits for a 100 before it sends the body.
    pub expects: bool,
    /// Where its first frame stands among all bytes that go out.
    pub start: u64,
}

impl Stream {
    /// Both directions have ended, or it is broken.
    pub fn is_closed(&self) -> bool {
        self.error.is_some() || !(self.receives || self.sends)
    }
}

/// The streams of a connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: Vec<Option<Stream>>,
    free: Vec<u32>,
    /// Slots by the numbers of their streams, where nobody else has taken the place since.
    found: Vec<u32>,
}

const PLACES: usize = 128;
/// Slots that an idle connection keeps.
const KEPT_MAX: usize = 8;

fn place(id: u32) -> usize {
    (id >> 1) as usize % PLACES
}

impl Streams {
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn add(&mut self, stream: Stream) -> Key {
        let id = stream.id;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                (self.slots.len() - 1) as u32
            }
        };
        if let Some(free) = self.slots.get_mut(slot as usize) {
            *free = Some(stream);
        }
        if self.found.is_empty() {
            self.found.resize(PLACES, u32::MAX);
        }
        if let Some(found) = self.found.get_mut(place(id)) {
            *found = slot;
        }
        Key { slot, id }
    }

    pub fn find(&self, id: u32) -> Option<Key> {
        let has = |slot: u32| {
            self.slots.get(slot as usize)?.as_ref().filter(|stream| stream.id == id).map(|_| Key { slot, id })
        };
        has(*self.found.get(place(id))?).or_else(|| (0..self.slots.len() as u32).find_map(has))
    }

    pub fn get(&self, key: Key) -> Option<&Stream> {
        self.slots.get(key.slot())?.as_ref().filter(|stream| stream.id == key.id)
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut Stream> {
        self.slots.get_mut(key.slot())?.as_mut().filter(|stream| stream.id == key.id)
    }

    pub fn remove(&mut self, key: Key) {
        if self.get(key).is_none() {
            return;
        }
        if let Some(slot) = self.slots.get_mut(key.slot()) {
            *slot = None;
            self.free.push(key.slot);
        }
        if self.free.len() == self.slots.len() && self.slots.len() > KEPT_MAX {
            // An idle connection keeps nothing of its busiest moment.
            *self = Streams::default();
        }
    }

    pub fn keys(&self) -> impl Iterator<Item = Key> + use<'_> {
        self.slots.iter().enumerate().filter_map(|(slot, stream)| {
            stream.as_ref().map(|stream| Key { slot: slot as u32, id: stream.id })
        })
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().flatten()
    }
}

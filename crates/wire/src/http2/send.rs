//! Messages that go out, and what was read of those that came in.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};

use super::{
    Connection, Event, HeadError, RequestHead,
    frame::{self, HEAD_BYTES, Head, WINDOW_BYTES, flag, kind},
    head,
    stream::{self, Key, Stream, StreamError},
};

/// What one stream may send in its turn, while others wait for theirs.
const TURN_BYTES: usize = 16 * 1024;

/// Why a request cannot go on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the connection takes no more streams")]
    Left,
    #[error("the other side allows no more streams now")]
    Full,
}

/// The next thing that a stream brings.
#[derive(Debug)]
pub enum Read {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
    /// More is to come.
    Wait,
}

/// How much of a body may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Bytes(usize),
    /// Nothing: a [`Event::Writable`] will tell.
    Wait,
}

impl Connection {
    /// Whether a request may be sent.
    pub fn can_open(&self) -> Result<(), OpenError> {
        if self.fault.is_some() || self.left || self.next_ours > frame::STREAM_ID_MAX {
            return Err(OpenError::Left);
        }
        if self.open_ours >= self.theirs.streams_max {
            return Err(OpenError::Full);
        }
        Ok(())
    }

    /// A client's: sends a request's head.
    pub fn open<'a>(&mut self, head: impl Into<RequestHead<'a>>, ends: bool) -> Result<Key, OpenError> {
        self.can_open()?;
        let head = head.into();
        let id = self.next_ours;
        self.next_ours += 2;
        let mut stream = self.stream(id);
        stream.sends = !ends;
        stream.bodiless = *head.method == Method::HEAD;
        stream.tunnel = *head.method == Method::CONNECT;
        self.open_ours += 1;
        let key = self.streams.add(stream);
        let start = self.output.flat().len();
        self.begin_block();
        head::write_request(&mut self.encoder, self.output.flat(), &head);
        self.end_block(start, id, ends);
        Ok(key)
    }

    /// The request of a stream that was [`Opened`](Event::Opened).
    pub fn take_request(&mut self, key: Key) -> Option<Result<Request<()>, HeadError>> {
        let place = &mut self.streams.get_mut(key)?.head;
        match place.take()? {
            stream::Head::Request(request) => Some(Ok(request)),
            stream::Head::Wrong(error) => Some(Err(error)),
            other => {
                *place = Some(other);
                None
            }
        }
    }

    /// The next head of an answer, once it is there: those of 1xx answers, then the final one.
    pub fn take_response(&mut self, key: Key) -> Result<Option<Response<()>>, StreamError> {
        let stream = self.streams.get_mut(key).ok_or(StreamError::Closed)?;
        stream.told = false;
        if let Some(interim) = stream.interims.as_mut().and_then(|interims| interims.waiting.pop_front()) {
            return Ok(Some(interim));
        }
        match stream.head.take() {
            Some(stream::Head::Response(response)) => Ok(Some(response)),
            _ => match stream.error {
                Some(error) => Err(error),
                None => Ok(None),
            },
        }
    }

    /// Takes what comes next of a stream; what is read makes room in its window.
    pub fn read(&mut self, key: Key) -> Result<Read, StreamError> {
        let stream = self.streams.get_mut(key).ok_or(StreamError::Closed)?;
        stream.told = false;
        if let Some(data) = stream.data.pop() {
            stream.uncredited += data.len() as u32;
            self.credit_stream(key);
            return Ok(Read::Data(data));
        }
        if let Some(error) = stream.error.filter(|_| !stream.whole) {
            return Err(error);
        }
        if let Some(trailers) = stream.trailers.take() {
            return Ok(Read::Trailers(trailers));
        }
        if !stream.receives {
            return Ok(Read::End);
        }
        if std::mem::take(&mut stream.expects) {
            self.go_on(key);
        }
        Ok(Read::Wait)
    }

    /// Somebody waits for a body whose client waits for a word (RFC 9110 section 10.1.1).
    #[cold]
    fn go_on(&mut self, key: Key) {
        // Whoever reads learns of a stream that is broken.
        let _ = self.answer(key, StatusCode::CONTINUE, &HeaderMap::new(), false);
    }

    /// Whether a reader has got all of the stream.
    pub fn is_read(&self, key: Key) -> bool {
        self.streams
            .get(key)
            .is_none_or(|stream| stream.whole && stream.data.is_empty() && stream.trailers.is_none())
    }

    /// How many bytes of a stream wait to be read: as much of its window as was neither left nor given back.
    pub fn unread(&self, key: Key) -> usize {
        let window = i64::from(self.config.stream_window.max(WINDOW_BYTES));
        let waits = |stream: &Stream| window - stream.receive_window.max(0) - i64::from(stream.uncredited);
        self.streams.get(key).map_or(0, |stream| usize::try_from(waits(stream)).unwrap_or(0))
    }

    /// How long the whole body is, if its head said so; what an answer to a HEAD says is about another one.
    pub fn length(&self, key: Key) -> Option<u64> {
        self.streams.get(key)?.length
    }

    /// Whether the stream is still known here.
    pub fn holds(&self, key: Key) -> bool {
        self.streams.get(key).is_some()
    }

    /// Whether nothing of the stream has left the output.
    pub fn is_unwritten(&self, key: Key) -> bool {
        self.streams.get(key).is_some_and(|stream| self.output.passed() <= stream.start)
    }

    /// Why the stream is broken.
    pub fn error(&self, key: Key) -> Option<StreamError> {
        match self.streams.get(key) {
            Some(stream) => stream.error,
            None => Some(StreamError::Closed),
        }
    }

    pub(super) fn credit_stream(&mut self, key: Key) {
        let window = self.config.stream_window;
        let Some(stream) = self.streams.get_mut(key) else { return };
        if !stream.receives || stream.uncredited < (window / 2).max(1) {
            return;
        }
        let more = std::mem::take(&mut stream.uncredited);
        stream.receive_window += i64::from(more);
        self.write_window_update(key.id, more);
    }

    pub(super) fn credit_connection(&mut self, count: u32) {
        self.uncredited += count;
        if self.uncredited >= self.config.connection_window.max(WINDOW_BYTES) / 2 && self.fault.is_none() {
            let more = std::mem::take(&mut self.uncredited);
            self.receive_window += i64::from(more);
            self.write_window_update(0, more);
        }
    }

    fn write_window_update(&mut self, stream: u32, more: u32) {
        let flat = self.output.flat();
        Head { len: 4, kind: kind::WINDOW_UPDATE, flags: 0, stream }.write(flat);
        flat.extend_from_slice(&more.to_be_bytes());
    }

    /// A server's: sends an answer's head, or a 1xx before it, which ends nothing.
    pub fn answer(
        &mut self,
        key: Key,
        status: StatusCode,
        headers: &HeaderMap,
        ends: bool,
    ) -> Result<(), StreamError> {
        // Who reads nothing is not collected hints for.
        if status.is_informational() && self.output.len() > self.config.out_bytes_max {
            return Ok(());
        }
        let stream = self.sendable(key)?;
        stream.expects &= status.is_informational();
        stream.answered |= !status.is_informational();
        let start = self.output.flat().len();
        self.begin_block();
        head::write_response(&mut self.encoder, self.output.flat(), status, headers);
        self.end_block(start, key.id, ends);
        self.sent(key, ends);
        Ok(())
    }

    /// Ends a body with trailers.
    pub fn send_trailers(&mut self, key: Key, trailers: &HeaderMap) -> Result<(), StreamError> {
        self.sendable(key)?;
        if trailers.is_empty() {
            return self.send_data(key, &mut Bytes::new(), true);
        }
        let start = self.output.flat().len();
        self.begin_block();
        head::write_trailers(&mut self.encoder, self.output.flat(), trailers);
        self.end_block(start, key.id, true);
        self.sent(key, true);
        Ok(())
    }

    fn sendable(&mut self, key: Key) -> Result<&mut Stream, StreamError> {
        let stream = self.streams.get_mut(key).ok_or(StreamError::Closed)?;
        match stream.error {
            Some(error) => Err(error),
            None if !stream.sends => Err(StreamError::Closed),
            None => Ok(stream),
        }
    }

    fn sent(&mut self, key: Key, ends: bool) {
        if !ends {
            return;
        }
        self.cancelled = self.cancelled.saturating_sub(1);
        if let Some(stream) = self.streams.get_mut(key) {
            stream.sends = false;
        }
        self.after(key);
    }

    /// How much of the body the windows let through. Where streams wait for what they share, the connection's window and
    /// its output, each has its turn.
    pub fn room(&mut self, key: Key) -> Result<Room, StreamError> {
        self.sendable(key)?;
        let room = self.config.out_bytes_max.saturating_sub(self.output.len());
        let (connection, others) = (self.send_window, !self.waiting.is_empty());
        let Some(stream) = self.streams.get_mut(key) else { return Err(StreamError::Closed) };
        if stream.send_window <= 0 {
            stream.shut = true;
            return Ok(Room::Wait);
        }
        if room > 0 && connection > 0 && (!others || stream.has_turn) {
            let most = if others { room.min(TURN_BYTES) } else { room };
            let window = usize::try_from(stream.send_window.min(connection)).unwrap_or(usize::MAX);
            return Ok(Room::Bytes(most.min(window)));
        }
        stream.has_turn = false;
        if !std::mem::replace(&mut stream.waits, true) {
            self.waiting.push_back(key);
        }
        Ok(Room::Wait)
    }

    /// Sends as much of the data as there is [`room`](Connection::room) for, and takes it off; END_STREAM goes with the
    /// last byte.
    pub fn send_data(&mut self, key: Key, data: &mut Bytes, ends: bool) -> Result<(), StreamError> {
        while !data.is_empty() {
            let Room::Bytes(room) = self.room(key)? else { return Ok(()) };
            let len = data.len().min(room).min(self.theirs.frame_bytes_max as usize);
            let part = data.split_to(len);
            let last = ends && data.is_empty();
            self.write_data(key.id, part, last);
            self.send_window -= len as i64;
            if let Some(stream) = self.streams.get_mut(key) {
                stream.send_window -= len as i64;
                stream.has_turn = false;
            }
            self.sent(key, last);
            if last {
                return Ok(());
            }
        }
        if ends {
            self.sendable(key)?;
            self.write_data(key.id, Bytes::new(), true);
            self.sent(key, true);
        }
        Ok(())
    }

    fn write_data(&mut self, stream: u32, data: Bytes, ends: bool) {
        let flags = if ends { flag::END_STREAM } else { 0 };
        Head { len: data.len() as u32, kind: kind::DATA, flags, stream }.write(self.output.flat());
        self.output.push_data(data);
    }

    /// Gives turns to those who wait for the connection, who waited longest first, as far as there is room for them.
    pub(super) fn wake_waiting(&mut self) {
        let room = self.config.out_bytes_max.saturating_sub(self.output.len());
        // A turn is worth its name: what is written frees the rest soon.
        if room < TURN_BYTES.min(self.config.out_bytes_max / 2) {
            return;
        }
        let mut room = i64::try_from(room).unwrap_or(i64::MAX).min(self.send_window);
        // The first gets what there is, if it is only the rest of a window.
        let mut least = 1;
        while room >= least
            && let Some(key) = self.waiting.pop_front()
        {
            if let Some(stream) = self.streams.get_mut(key)
                && stream.error.is_none()
            {
                (stream.waits, stream.has_turn) = (false, true);
                self.events.push_back(Event::Writable(key));
                least = TURN_BYTES as i64;
                room -= least;
            }
        }
    }

    /// A stream's own window is open again.
    pub(super) fn open_window(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key)
            && stream.send_window > 0
            && std::mem::take(&mut stream.shut)
        {
            self.events.push_back(Event::Writable(key));
        }
    }

    /// Room for the head of HEADERS; [`end_block`](Connection::end_block) fills it in.
    fn begin_block(&mut self) {
        self.output.flat().extend_from_slice(&[0; HEAD_BYTES]);
    }

    fn end_block(&mut self, start: usize, stream: u32, ends: bool) {
        let most = self.theirs.frame_bytes_max as usize;
        let flat = self.output.flat();
        let len = flat.len() - start - HEAD_BYTES;
        let ends = if ends { flag::END_STREAM } else { 0 };
        let whole = if len <= most { flag::END_HEADERS } else { 0 };
        let head = Head { len: len.min(most) as u32, kind: kind::HEADERS, flags: ends | whole, stream };
        if let Some(place) = flat.get_mut(start..start + HEAD_BYTES) {
            place.copy_from_slice(&head.bytes());
        }
        if len > most {
            let rest = flat.split_off(start + HEAD_BYTES + most);
            let mut parts = rest.chunks(most).peekable();
            while let Some(part) = parts.next() {
                let flags = if parts.peek().is_none() { flag::END_HEADERS } else { 0 };
                Head { len: part.len() as u32, kind: kind::CONTINUATION, flags, stream }.write(flat);
                flat.extend_from_slice(part);
            }
        }
    }
}

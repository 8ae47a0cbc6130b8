//! Header blocks that come in, and the messages that they begin or end (RFC 9113 sections 4.3 and 8).

use http::{HeaderMap, Response, StatusCode};

use super::{
    Connection, Event, Fault, HeadError,
    connection::{Block, Leaving},
    frame::{self, Head, Reason, flag, kind},
    head::Builder,
    receive::protocol,
    settings::Role,
    stream::{self, Key, Queue, Stream, StreamError},
};

/// Beyond what a decoded head may have; a block is not collected any further.
const BLOCK_BYTES_SPARE: usize = 16 * 1024;
/// What an honest peer needs for the largest block, many times over.
const CONTINUATIONS_MAX: u32 = 64;
/// Of answers that a client does not read, beside what their bodies may be.
const UNREAD_BYTES_MAX: usize = 1024 * 1024;
/// 1xx answers to one request. Their heads together are held to what a final one may be.
const INTERIM_MAX: u32 = 100;

impl Connection {
    pub(super) fn on_fields(&mut self, head: &Head, payload: &[u8], map: HeaderMap) -> Result<(), Fault> {
        if head.kind == kind::CONTINUATION {
            let Some(mut block) = self.block.take() else {
                return Err(protocol("CONTINUATION without HEADERS"));
            };
            block.continuations += 1;
            let most = self.config.head_bytes_max as usize + BLOCK_BYTES_SPARE;
            if block.continuations > CONTINUATIONS_MAX || block.fragments.len() + payload.len() > most {
                return Err(Fault::new(Reason::ENHANCE_YOUR_CALM, "a head without an end"));
            }
            block.fragments.extend_from_slice(payload);
            if !head.has(flag::END_HEADERS) {
                self.block = Some(block);
                return Ok(());
            }
            return self.on_block(block.stream, block.ends, block.depends_on_itself, &block.fragments, map);
        }
        if head.stream == 0 {
            return Err(protocol("HEADERS on no stream"));
        }
        let (fragment, depends_on) =
            frame::unpadded(head, payload).ok_or(protocol("HEADERS with more padding than payload"))?;
        let depends_on_itself = depends_on == Some(head.stream);
        let ends = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.on_block(head.stream, ends, depends_on_itself, fragment, map);
        }
        self.block = Some(Block {
            stream: head.stream,
            ends,
            depends_on_itself,
            fragments: fragment.to_vec(),
            continuations: 0,
        });
        Ok(())
    }

    /// A whole header block. It is always decoded, since the tables of both sides go together.
    fn on_block(
        &mut self,
        id: u32,
        ends: bool,
        depends_on_itself: bool,
        block: &[u8],
        map: HeaderMap,
    ) -> Result<(), Fault> {
        let mut builder = Builder::new(map, self.config.head_bytes_max, self.config.fields_max);
        self.decoder
            .decode(block, |field, size| builder.add(field, size))
            .map_err(|_| Fault::new(Reason::COMPRESSION_ERROR, "a header block that cannot be decoded"))?;
        let key = self.streams.find(id);
        if let Some(key) = key
            && let Some(stream) = self.streams.get(key)
        {
            match stream.error {
                None => {}
                Some(StreamError::Reset(_)) => {
                    return Err(Fault::new(
                        Reason::STREAM_CLOSED,
                        "HEADERS on a stream that the peer has reset",
                    ));
                }
                Some(_) => return Ok(()),
            }
            if !stream.receives {
                if !stream.sends {
                    return Err(Fault::new(Reason::STREAM_CLOSED, "HEADERS on a closed stream"));
                }
                return self.spoil(key, Reason::STREAM_CLOSED, "HEADERS after END_STREAM");
            }
            if depends_on_itself {
                return self.spoil(key, Reason::PROTOCOL_ERROR, "a stream that depends on itself");
            }
            if stream.headed {
                return self.on_trailers(key, ends, builder);
            }
            return self.on_response(key, ends, builder);
        }
        if !self.is_idle(id) {
            if self.may_be_late(id) {
                return Ok(());
            }
            return Err(protocol("HEADERS on a stream that is closed"));
        }
        if self.config.role == Role::Client || self.is_ours(id) {
            return Err(protocol("HEADERS on a stream that nobody opened"));
        }
        self.last_theirs = id;
        if matches!(self.leaving, Leaving::Last(_)) {
            return Ok(()); // it knows by GOAWAY that nothing was done
        }
        self.on_request(id, ends, depends_on_itself, builder)
    }

    fn on_request(
        &mut self,
        id: u32,
        ends: bool,
        depends_on_itself: bool,
        builder: Builder,
    ) -> Result<(), Fault> {
        let most = self.config.streams_max;
        // Who reads no answers gets none made.
        let unread = self.output.len() > self.config.out_bytes_max + UNREAD_BYTES_MAX;
        if unread || self.open_theirs >= most || self.streams.len() >= 2 * most as usize {
            self.count_spoiled()?;
            self.write_reset(id, Reason::REFUSED_STREAM);
            return Ok(());
        }
        let expects = builder.expects() && !ends;
        let request = builder.request(self.config.extended_connect);
        let wrong = depends_on_itself
            || match &request {
                Ok((_, length)) => ends && length.is_some_and(|length| length > 0),
                Err(error) => matches!(error, HeadError::Malformed(_)),
            };
        if wrong {
            self.count_spoiled()?;
            self.write_reset(id, Reason::PROTOCOL_ERROR);
            return Ok(());
        }
        let (head, expected) = match request {
            Ok((request, length)) => (stream::Head::Request(request), length),
            Err(error) => (stream::Head::Wrong(error), None),
        };
        let mut stream = self.stream(id);
        stream.head = Some(head);
        stream.headed = true;
        (stream.receives, stream.whole) = (!ends, ends);
        (stream.length, stream.expected) = (expected, expected);
        stream.expects = expects;
        self.open_theirs += 1;
        let key = self.streams.add(stream);
        self.events.push_back(Event::Opened(key));
        Ok(())
    }

    /// A new stream, as both sides' settings want it.
    pub(super) fn stream(&self, id: u32) -> Stream {
        Stream {
            id,
            held: stream::RECEIVING | stream::SENDING,
            counted: true,
            error: None,
            receives: true,
            whole: false,
            head: None,
            interims: None,
            headed: false,
            data: Queue::default(),
            trailers: None,
            // Until our SETTINGS are known the other side counts from its own beginning.
            receive_window: i64::from(self.config.stream_window.max(frame::WINDOW_BYTES)),
            uncredited: 0,
            length: None,
            expected: None,
            told: false,
            sends: true,
            send_window: i64::from(self.theirs.stream_window),
            answered: false,
            shut: false,
            waits: false,
            has_turn: false,
            tunnel: false,
            bodiless: false,
            expects: false,
            start: self.output.passed() + self.output.len() as u64,
        }
    }

    fn on_trailers(&mut self, key: Key, ends: bool, builder: Builder) -> Result<(), Fault> {
        if !ends {
            return self.spoil(key, Reason::PROTOCOL_ERROR, "trailers that end nothing");
        }
        match builder.trailers() {
            Ok(trailers) => {
                if let Some(stream) = self.streams.get_mut(key)
                    && stream.held & stream::RECEIVING != 0
                {
                    stream.trailers = Some(trailers);
                }
                self.end(key)
            }
            Err(_) => self.spoil(key, Reason::PROTOCOL_ERROR, "malformed trailers"),
        }
    }

    fn on_response(&mut self, key: Key, ends: bool, builder: Builder) -> Result<(), Fault> {
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        let bytes = self.config.head_bytes_max as usize - builder.bytes_left();
        let (response, length) = match builder.response() {
            Ok(made) => made,
            Err(error) => {
                self.count_spoiled()?;
                self.write_reset(key.id, Reason::PROTOCOL_ERROR);
                self.break_stream(key, StreamError::Head(error));
                return Ok(());
            }
        };
        let status = response.status();
        if status.is_informational() {
            return self.on_interim(key, ends, bytes, response);
        }
        stream.headed = true;
        stream.bodiless |= matches!(status.as_u16(), 204 | 304);
        // A tunnel has no length (RFC 9110 section 9.3.6).
        let opens = stream.tunnel && status.is_success();
        stream.expected = length.filter(|_| !stream.bodiless && !opens);
        stream.length = stream.expected;
        stream.head = Some(stream::Head::Response(response));
        self.tell(key);
        if ends { self.end(key) } else { Ok(()) }
    }

    /// A 1xx answer (RFC 9113 section 8.1); its head is of so many bytes.
    #[cold]
    fn on_interim(
        &mut self,
        key: Key,
        ends: bool,
        bytes: usize,
        response: Response<()>,
    ) -> Result<(), Fault> {
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        let is_read = stream.held & stream::RECEIVING != 0;
        let interims = stream.interims.get_or_insert_default();
        interims.count += 1;
        interims.bytes += bytes;
        let flood = interims.count > INTERIM_MAX || interims.bytes > self.config.head_bytes_max as usize;
        if ends || response.status() == StatusCode::SWITCHING_PROTOCOLS || flood {
            return self.spoil(key, Reason::PROTOCOL_ERROR, "a 1xx answer that is none, or too many");
        }
        if is_read {
            interims.waiting.push_back(response);
            self.tell(key);
        }
        Ok(())
    }
}

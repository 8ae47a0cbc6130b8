//! Bytes that come in (RFC 9113 sections 4 to 6).

use super::{
    Connection, Fault, Source,
    connection::{DataFrame, Leaving},
    frame::{HEAD_BYTES, Head, PREFACE, Reason, flag, kind},
    settings::Role,
    stream::{self, Key, StreamError},
};

/// Streams that a peer may spoil more than it lets come to their end.
const SPOILED_MAX: u32 = 1000;

pub(super) fn protocol(what: &'static str) -> Fault {
    Fault::new(Reason::PROTOCOL_ERROR, what)
}

pub(super) fn frame_size(what: &'static str) -> Fault {
    Fault::new(Reason::FRAME_SIZE_ERROR, what)
}

impl Connection {
    /// Takes what came, as far as it goes; the rest stays where it is until more is there. After an error the output
    /// holds the GOAWAY and no byte is looked at any more.
    pub fn receive<S: Source>(&mut self, input: &mut S) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        match self.take_all(input) {
            Ok(()) => Ok(()),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    fn take_all<S: Source>(&mut self, input: &mut S) -> Result<(), Fault> {
        if self.preface < PREFACE.len() && !self.take_preface(input)? {
            return Ok(());
        }
        loop {
            if let Some(frame) = self.data_frame {
                if !self.take_data(frame, input)? {
                    return Ok(());
                }
                continue;
            }
            let Some(head) = Head::parse(input.as_slice()) else { return Ok(()) };
            if head.len > self.config.frame_bytes_max {
                return Err(frame_size("a frame of more bytes than allowed"));
            }
            if !self.has_settings && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
                return Err(protocol("the first frame is not SETTINGS"));
            }
            if let Some(block) = &self.block
                && (head.kind != kind::CONTINUATION || head.stream != block.stream)
            {
                return Err(protocol("a frame between HEADERS and its CONTINUATION"));
            }
            if head.kind == kind::DATA {
                if !self.begin_data(&head, input)? {
                    return Ok(());
                }
                continue;
            }
            let end = HEAD_BYTES + head.len as usize;
            if input.as_slice().len() < end {
                return Ok(());
            }
            if matches!(head.kind, kind::HEADERS | kind::CONTINUATION) {
                let map = input.map();
                let payload = input.as_slice().get(HEAD_BYTES..end).unwrap_or_default();
                self.on_fields(&head, payload, map)?;
            } else {
                let payload = input.as_slice().get(HEAD_BYTES..end).unwrap_or_default();
                self.on_control(&head, payload)?;
            }
            input.skip(end);
        }
    }

    /// True: all of it is there.
    fn take_preface<S: Source>(&mut self, input: &mut S) -> Result<bool, Fault> {
        let wanted = PREFACE.get(self.preface..).unwrap_or_default();
        let came = input.as_slice();
        let count = came.len().min(wanted.len());
        if came.get(..count) != wanted.get(..count) {
            return Err(protocol("no connection preface"));
        }
        input.skip(count);
        self.preface += count;
        Ok(self.preface == PREFACE.len())
    }

    pub(super) fn is_ours(&self, id: u32) -> bool {
        (id & 1 == 1) == (self.config.role == Role::Client)
    }

    /// Nobody has opened it.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        if self.is_ours(id) { id >= self.next_ours } else { id > self.last_theirs }
    }

    /// Whether frames on a stream that is gone may have been sent before the other side knew.
    pub(super) fn may_be_late(&self, id: u32) -> bool {
        if matches!(self.leaving, Leaving::Last(last) if !self.is_ours(id) && id > last) {
            return true;
        }
        id <= self.forgotten || self.resets.contains(&id)
    }

    /// True: the head is taken.
    fn begin_data<S: Source>(&mut self, head: &Head, input: &mut S) -> Result<bool, Fault> {
        if head.stream == 0 || self.is_idle(head.stream) {
            return Err(protocol("DATA on no stream"));
        }
        let (mut padding, mut left) = (0, head.len);
        if head.has(flag::PADDED) {
            if head.len == 0 {
                return Err(frame_size("padded DATA without a length of its padding"));
            }
            let Some(&said) = input.as_slice().get(HEAD_BYTES) else { return Ok(false) };
            padding = u32::from(said);
            left = head.len - 1;
            if padding > left {
                return Err(protocol("more padding than DATA"));
            }
            left -= padding;
            input.skip(HEAD_BYTES + 1);
        } else {
            input.skip(HEAD_BYTES);
        }
        // All of the payload counts (RFC 9113 section 6.9.1).
        self.receive_window -= i64::from(head.len);
        if self.receive_window < 0 {
            return Err(Fault::new(Reason::FLOW_CONTROL_ERROR, "more DATA than the connection's window"));
        }
        let found = self.streams.find(head.stream);
        if found.is_none() && !self.may_be_late(head.stream) {
            return Err(Fault::new(Reason::STREAM_CLOSED, "DATA on a closed stream"));
        }
        let overhead = head.len - left;
        let key = match found.and_then(|key| self.streams.get_mut(key).map(|stream| (key, stream))) {
            Some((key, stream)) if stream.receives => {
                stream.receive_window -= i64::from(head.len);
                let fits = stream.receive_window >= 0;
                let expected = stream.expected.map(|expected| expected.checked_sub(u64::from(left)));
                if !fits {
                    self.spoil(key, Reason::FLOW_CONTROL_ERROR, "more DATA than the stream's window")?;
                    None
                } else if !stream.headed || matches!(expected, Some(None)) || (stream.bodiless && left > 0) {
                    self.spoil(key, Reason::PROTOCOL_ERROR, "DATA that the head does not allow")?;
                    None
                } else {
                    stream.expected = expected.flatten();
                    stream.expects = false; // it did not wait
                    stream.uncredited += overhead;
                    Some(key)
                }
            }
            Some((key, stream)) if stream.error.is_none() => {
                if !stream.sends {
                    return Err(Fault::new(Reason::STREAM_CLOSED, "DATA on a closed stream"));
                }
                self.spoil(key, Reason::STREAM_CLOSED, "DATA after END_STREAM")?;
                None
            }
            Some((_, stream)) if matches!(stream.error, Some(StreamError::Reset(_))) => {
                return Err(Fault::new(Reason::STREAM_CLOSED, "DATA on a stream that the peer has reset"));
            }
            _ => None,
        };
        self.credit_connection(head.len);
        self.data_frame = Some(DataFrame { key, left, padding, ends: head.has(flag::END_STREAM) });
        Ok(true)
    }

    /// Takes what is here of a frame's payload. True: all of it.
    fn take_data<S: Source>(&mut self, mut frame: DataFrame, input: &mut S) -> Result<bool, Fault> {
        let count = input.as_slice().len().min(frame.left as usize);
        if count > 0 {
            match frame.key.and_then(|key| self.streams.get_mut(key)).filter(|stream| stream.receives) {
                Some(stream) if stream.held & stream::RECEIVING != 0 => stream.data.push(input.take(count)),
                // Nobody reads it: its room goes back, so that the other side can come to its end.
                unread => {
                    if let Some(stream) = unread {
                        stream.uncredited += count as u32;
                    }
                    input.skip(count);
                }
            }
            frame.left -= count as u32;
            if let Some(key) = frame.key {
                self.tell(key);
            }
        }
        if frame.left == 0 {
            let count = input.as_slice().len().min(frame.padding as usize);
            input.skip(count);
            frame.padding -= count as u32;
        }
        if frame.left > 0 || frame.padding > 0 {
            self.data_frame = Some(frame);
            return Ok(false);
        }
        self.data_frame = None;
        if let Some(key) = frame.key {
            if frame.ends {
                self.end(key)?;
            } else {
                self.credit_stream(key);
            }
        }
        Ok(true)
    }

    /// The other side has said END_STREAM.
    pub(super) fn end(&mut self, key: Key) -> Result<(), Fault> {
        let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.receives) else { return Ok(()) };
        if stream.expected.is_some_and(|left| left > 0) && !stream.bodiless {
            return self.spoil(key, Reason::PROTOCOL_ERROR, "a body shorter than its Content-Length");
        }
        (stream.receives, stream.whole) = (false, true);
        self.tell(key);
        self.after(key);
        Ok(())
    }

    /// The other side has spoiled a stream. It is reset; who does nothing else is ended.
    pub(super) fn spoil(&mut self, key: Key, reason: Reason, what: &'static str) -> Result<(), Fault> {
        self.count_spoiled()?;
        self.write_reset(key.id, reason);
        self.break_stream(key, StreamError::Protocol(what));
        Ok(())
    }

    pub(super) fn count_spoiled(&mut self) -> Result<(), Fault> {
        self.spoiled += 1;
        if self.spoiled > SPOILED_MAX {
            return Err(Fault::new(Reason::ENHANCE_YOUR_CALM, "too many streams that are none"));
        }
        Ok(())
    }
}

//! Frames about streams and the connection (RFC 9113 sections 6.3 to 6.9).

use super::{
    Connection, Event, Fault,
    frame::{self, HEAD_BYTES, Head, Reason, WINDOW_BYTES_MAX, flag, kind},
    receive::{frame_size, protocol},
    stream::{Key, Stream, StreamError},
};

fn exact<const N: usize>(payload: &[u8], what: &'static str) -> Result<[u8; N], Fault> {
    payload.try_into().map_err(|_| frame_size(what))
}

impl Connection {
    pub(super) fn on_control(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fault> {
        match head.kind {
            kind::PRIORITY => {
                if head.stream == 0 {
                    return Err(protocol("PRIORITY on no stream"));
                }
                let &[a, b, c, d, _] = payload else { return Err(frame_size("PRIORITY of a wrong length")) };
                if u32::from_be_bytes([a & 0x7f, b, c, d]) == head.stream {
                    return Err(protocol("a stream that depends on itself"));
                }
                Ok(())
            }
            kind::RST_STREAM => self.on_reset(head, payload),
            kind::SETTINGS => self.on_settings(head, payload),
            kind::PUSH_PROMISE => Err(protocol("PUSH_PROMISE that nobody allowed")),
            kind::PING => {
                let payload = exact(payload, "PING of a wrong length")?;
                if head.stream != 0 {
                    return Err(protocol("PING on a stream"));
                }
                if head.has(flag::ACK) {
                    self.on_pong(payload);
                    return Ok(());
                }
                self.write_ping(payload, flag::ACK);
                self.reflect(HEAD_BYTES + 8)
            }
            kind::GOAWAY => self.on_goaway(head, payload),
            kind::WINDOW_UPDATE => self.on_window_update(head, payload),
            _ => Ok(()), // RFC 9113 section 5.5
        }
    }

    fn on_reset(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fault> {
        let reason = exact(payload, "RST_STREAM of a wrong length")?;
        if head.stream == 0 || self.is_idle(head.stream) {
            return Err(protocol("RST_STREAM on no stream"));
        }
        if let Some(key) = self.streams.find(head.stream) {
            // Who has begun to read an answer has not asked for nothing.
            let unanswered = |stream: &Stream| stream.sends && !stream.answered;
            if self.streams.get(key).is_some_and(unanswered) && !self.is_ours(head.stream) {
                self.cancelled += 1;
                if self.cancelled > self.config.cancelled_max {
                    return Err(Fault::new(Reason::ENHANCE_YOUR_CALM, "requests that are only taken back"));
                }
            }
            self.break_stream(key, StreamError::Reset(Reason(u32::from_be_bytes(reason))));
        }
        Ok(())
    }

    fn on_settings(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(protocol("SETTINGS on a stream"));
        }
        if head.has(flag::ACK) {
            return if payload.is_empty() { Ok(()) } else { Err(frame_size("SETTINGS ACK with a payload")) };
        }
        let before = self.theirs;
        let smallest = self.theirs.apply(payload, self.config.role)?;
        // Both, where a table was emptied on its way (RFC 7541 section 4.2).
        if smallest < before.header_table {
            self.encoder.set_table_bytes_max(smallest as usize);
        }
        if self.theirs.header_table != smallest {
            self.encoder.set_table_bytes_max(self.theirs.header_table as usize);
        }
        let change = i64::from(self.theirs.stream_window) - i64::from(before.stream_window);
        if change != 0 {
            for stream in self.streams.iter_mut() {
                stream.send_window += change;
                if stream.send_window > WINDOW_BYTES_MAX {
                    return Err(Fault::new(Reason::FLOW_CONTROL_ERROR, "a stream's window beyond 2^31-1"));
                }
            }
            let keys: Vec<Key> = self.streams.keys().collect();
            keys.into_iter().for_each(|key| self.open_window(key));
        }
        self.has_settings = true;
        self.events.push_back(Event::Settings);
        self.write_ack(kind::SETTINGS);
        self.reflect(HEAD_BYTES)
    }

    fn on_goaway(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(protocol("GOAWAY on a stream"));
        }
        let ([last, reason, ..], _) = payload.as_chunks::<4>() else {
            return Err(frame_size("GOAWAY of a wrong length"));
        };
        let (last, reason) = (*last, *reason);
        let last = u32::from_be_bytes(last) & frame::STREAM_ID_MAX;
        self.left = true;
        let unprocessed: Vec<Key> =
            self.streams.keys().filter(|key| self.is_ours(key.id) && key.id > last).collect();
        for key in unprocessed {
            self.break_stream(key, StreamError::Unprocessed);
        }
        self.events.push_back(Event::Leaves(Reason(u32::from_be_bytes(reason))));
        Ok(())
    }

    fn on_window_update(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fault> {
        let more = exact(payload, "WINDOW_UPDATE of a wrong length")?;
        let more = i64::from(u32::from_be_bytes(more) & frame::STREAM_ID_MAX);
        if head.stream == 0 {
            if more == 0 {
                return Err(protocol("WINDOW_UPDATE of nothing"));
            }
            self.send_window += more;
            if self.send_window > WINDOW_BYTES_MAX {
                return Err(Fault::new(Reason::FLOW_CONTROL_ERROR, "the connection's window beyond 2^31-1"));
            }
            self.wake_waiting();
            return Ok(());
        }
        if self.is_idle(head.stream) {
            return Err(protocol("WINDOW_UPDATE on no stream"));
        }
        let Some(key) = self.streams.find(head.stream) else { return Ok(()) };
        let Some(stream) = self.streams.get_mut(key).filter(|stream| !stream.is_closed()) else {
            return Ok(());
        };
        if more == 0 {
            return self.spoil(key, Reason::PROTOCOL_ERROR, "WINDOW_UPDATE of nothing");
        }
        stream.send_window += more;
        if stream.send_window > WINDOW_BYTES_MAX {
            return self.spoil(key, Reason::FLOW_CONTROL_ERROR, "a stream's window beyond 2^31-1");
        }
        self.open_window(key);
        Ok(())
    }
}

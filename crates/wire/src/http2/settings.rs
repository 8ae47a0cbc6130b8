//! What the two sides of a connection tell each other in SETTINGS (RFC 9113 section 6.5, RFC 8441 section 3).

use super::{
    Fault,
    frame::{Head, PAYLOAD_BYTES_MAX, Reason, WINDOW_BYTES, WINDOW_BYTES_MAX, kind},
};

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

const FRAME_BYTES_MAX: u32 = (1 << 24) - 1;

/// Which end of a connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// Our side's choices.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub role: Role,
    /// Streams that the other side may have open.
    pub streams_max: u32,
    /// What may wait here to be read, of each stream.
    pub stream_window: u32,
    /// What may be on its way. It is given back when it arrives: no stream that nobody reads stops another.
    pub connection_window: u32,
    pub frame_bytes_max: u32,
    /// Of a decoded head, each field with 32 bytes more (RFC 9113 section 6.5.2).
    pub head_bytes_max: u32,
    pub fields_max: u32,
    /// Whether requests may be extended CONNECTs.
    pub extended_connect: bool,
    /// DATA that may wait to be written.
    pub out_bytes_max: usize,
    /// Requests that a client may take back unanswered more than it has answered, and than are
    /// [forgiven](super::Connection::forgive).
    pub cancelled_max: u32,
}

impl Config {
    pub fn new(role: Role) -> Config {
        Config {
            role,
            streams_max: 100,
            stream_window: 64 * 1024,
            connection_window: 1024 * 1024,
            frame_bytes_max: PAYLOAD_BYTES_MAX,
            head_bytes_max: 60 * 1024,
            fields_max: 100,
            extended_connect: false,
            out_bytes_max: 64 * 1024,
            cancelled_max: u32::MAX,
        }
    }

    /// The frame that says it.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut said: [Option<(u16, u32)>; 6] = [
            None,
            None,
            (self.stream_window != WINDOW_BYTES).then_some((INITIAL_WINDOW_SIZE, self.stream_window)),
            (self.frame_bytes_max != PAYLOAD_BYTES_MAX).then_some((MAX_FRAME_SIZE, self.frame_bytes_max)),
            Some((MAX_HEADER_LIST_SIZE, self.head_bytes_max)),
            None,
        ];
        match self.role {
            Role::Client => said[0] = Some((ENABLE_PUSH, 0)),
            Role::Server => {
                said[1] = Some((MAX_CONCURRENT_STREAMS, self.streams_max));
                said[5] = self.extended_connect.then_some((ENABLE_CONNECT_PROTOCOL, 1));
            }
        }
        let said = said.into_iter().flatten();
        let len = 6 * said.clone().count() as u32;
        Head { len, kind: kind::SETTINGS, flags: 0, stream: 0 }.write(out);
        for (id, value) in said {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// The other side's choices.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theirs {
    pub header_table: u32,
    pub streams_max: u32,
    pub stream_window: u32,
    pub frame_bytes_max: u32,
    pub extended_connect: bool,
}

impl Theirs {
    pub const DEFAULT: Theirs = Theirs {
        header_table: 4096,
        streams_max: u32::MAX,
        stream_window: WINDOW_BYTES,
        frame_bytes_max: PAYLOAD_BYTES_MAX,
        extended_connect: false,
    };

    /// Takes a frame's payload; the parameters count in their order. Gives the smallest table that it names, or the one
    /// that was.
    pub fn apply(&mut self, payload: &[u8], role: Role) -> Result<u32, Fault> {
        let mut smallest = self.header_table;
        let (parameters, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Fault::new(Reason::FRAME_SIZE_ERROR, "SETTINGS of an odd length"));
        }
        let wrong = |what| Err(Fault::new(Reason::PROTOCOL_ERROR, what));
        for &[a, b, c, d, e, f] in parameters {
            let value = u32::from_be_bytes([c, d, e, f]);
            match u16::from_be_bytes([a, b]) {
                HEADER_TABLE_SIZE => {
                    self.header_table = value;
                    smallest = smallest.min(value);
                }
                ENABLE_PUSH if value > 1 || (role == Role::Client && value == 1) => {
                    return wrong("SETTINGS_ENABLE_PUSH of a wrong value");
                }
                MAX_CONCURRENT_STREAMS => self.streams_max = value,
                INITIAL_WINDOW_SIZE if i64::from(value) > WINDOW_BYTES_MAX => {
                    return Err(Fault::new(
                        Reason::FLOW_CONTROL_ERROR,
                        "SETTINGS_INITIAL_WINDOW_SIZE too large",
                    ));
                }
                INITIAL_WINDOW_SIZE => self.stream_window = value,
                MAX_FRAME_SIZE if !(PAYLOAD_BYTES_MAX..=FRAME_BYTES_MAX).contains(&value) => {
                    return wrong("SETTINGS_MAX_FRAME_SIZE out of bounds");
                }
                MAX_FRAME_SIZE => self.frame_bytes_max = value,
                ENABLE_CONNECT_PROTOCOL if value > 1 || (value == 0 && self.extended_connect) => {
                    return wrong("SETTINGS_ENABLE_CONNECT_PROTOCOL of a wrong value");
                }
                ENABLE_CONNECT_PROTOCOL => self.extended_connect = value == 1,
                _ => {} // MAX_HEADER_LIST_SIZE is advice; others are not known here
            }
        }
        Ok(smallest)
    }
}

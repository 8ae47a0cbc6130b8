//! The origin's HTTP/2: enough of RFC 9113 for a client that behaves; heads are not decoded.

use std::collections::VecDeque;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const PREFACE: usize = 24;

/// Messages in one answer of the streaming port, and the bytes of each with its gRPC prefix.
pub const MESSAGES: u32 = 100;
const MESSAGE: usize = 105;

/// One connection.
pub struct Http2 {
    streaming: bool,
    started: bool,
    /// What the peer lets us send on the whole connection. An answer is smaller than any stream's first window.
    window: i64,
    /// Answers under way: the stream, and how many messages are left of it.
    answers: VecDeque<(u32, u32)>,
}

impl Http2 {
    pub fn new(streaming: bool) -> Http2 {
        Http2 { streaming, started: false, window: 65_535, answers: VecDeque::new() }
    }

    /// Takes the whole frames of `input`, puts the answers into `out`; returns how much it took.
    pub fn input(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let mut from = 0;
        if !self.started {
            if input.len() < PREFACE {
                return Some(0);
            }
            self.started = true;
            from = PREFACE;
            // 1,000 streams at once, windows of 1 MiB.
            frame(out, SETTINGS, 0, 0, &[0, 3, 0, 0, 3, 232, 0, 4, 0, 16, 0, 0]);
            frame(out, WINDOW_UPDATE, 0, 0, &0x0010_0000_u32.to_be_bytes());
        }
        while let Some(header) = input.get(from..from + 9) {
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let (kind, flags) = (header[3], header[4]);
            let id = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & 0x7fff_ffff;
            let Some(payload) = input.get(from + 9..from + 9 + length) else { break };
            match kind {
                SETTINGS if flags & 1 == 0 => frame(out, SETTINGS, 1, 0, &[]),
                PING if flags & 1 == 0 => frame(out, PING, 1, 0, payload),
                DATA if length > 0 => {
                    frame(out, WINDOW_UPDATE, 0, 0, &u32::try_from(length).ok()?.to_be_bytes());
                }
                // A proxy whose caller has gone has had enough of that answer.
                RESET => self.answers.retain(|(answer, _)| *answer != id),
                WINDOW_UPDATE if id == 0 => {
                    self.window += i64::from(u32::from_be_bytes(payload.try_into().ok()?) & 0x7fff_ffff);
                }
                _ => {}
            }
            if (kind == DATA || kind == HEADERS) && flags & 1 == 1 {
                // `:status 200`, `content-type: application/grpc`.
                let head = [&[0x88, 0x0f, 0x10, 16], &b"application/grpc"[..]].concat();
                frame(out, HEADERS, 4, id, &head);
                if self.streaming {
                    self.answers.push_back((id, MESSAGES));
                } else {
                    let message = b"\0\0\0\0\x0d\x0a\x0bHello World";
                    self.window -= message.len() as i64;
                    frame(out, DATA, 0, id, message);
                    trailers(out, id);
                }
            }
            from += 9 + length;
        }
        self.messages(out);
        Some(from)
    }

    /// A message of each answer in turn, as far as the window goes.
    fn messages(&mut self, out: &mut Vec<u8>) {
        let mut message = [b'm'; MESSAGE];
        message[..5].copy_from_slice(&[0, 0, 0, 0, 100]);
        while self.window >= MESSAGE as i64 {
            let Some((id, left)) = self.answers.pop_front() else { return };
            self.window -= MESSAGE as i64;
            frame(out, DATA, 0, id, &message);
            if left == 1 {
                trailers(out, id);
            } else {
                self.answers.push_back((id, left - 1));
            }
        }
    }
}

fn trailers(out: &mut Vec<u8>, id: u32) {
    let trailers = [&[0, 11], &b"grpc-status"[..], &[1, b'0']].concat();
    frame(out, HEADERS, 5, id, &trailers);
}

pub fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(payload);
}

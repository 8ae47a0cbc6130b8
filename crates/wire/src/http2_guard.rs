//! Tells from the heads of HTTP/2 frames whether a peer only keeps us busy.
//!
//! SETTINGS, PING, empty DATA and the like cost their sender nothing and carry nothing. A [`Guard`] follows the frames of
//! one connection, nine bytes each, and holds those against the frames that carry something, in both directions. What
//! clients do for a reason stays far below: a PING for each DATA frame to measure the road, two WINDOW_UPDATEs for each,
//! a PRIORITY or two for each stream. It is not a codec: what is malformed is the codec's business.

mod frames;
#[cfg(test)]
mod tests;

use std::time::Duration;

use frames::{Frame, Frames};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const GOAWAY: u8 = 7;
const SETTINGS: u8 = 4;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const PADDED: u8 = 8;

const ENHANCE_YOUR_CALM: u32 = 11;

/// Frames that carry nothing and that nothing else pays for, in [`BUDGET_TIME`].
const BUDGET: u32 = 500;
const BUDGET_TIME: Duration = Duration::from_secs(5);
/// WINDOW_UPDATEs that need no reason: on large windows a client may make room in many small steps.
const WINDOW_UPDATES_FREE: u64 = 100;

/// What a peer may do; Envoy's meanings and, where it says nothing of its own, Envoy's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// HEADERS, CONTINUATION and DATA in a row that are empty and end no stream. `None`: as many as other idle frames.
    pub empty_in_a_row: Option<u32>,
    /// Of PRIORITY, for the connection and for each stream.
    pub priorities_per_stream: u32,
    /// Of WINDOW_UPDATE, for each DATA frame sent to the peer.
    pub window_updates_per_data: u32,
}

impl Limits {
    pub const DEFAULT: Limits =
        Limits { empty_in_a_row: None, priorities_per_stream: 100, window_updates_per_data: 10 };
}

/// Which flood it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer sends nothing but {}", self.label())]
pub enum Flood {
    Settings,
    Ping,
    Priority,
    WindowUpdate,
    Empty,
    Reset,
    Goaway,
    /// Heads of answers that never become answers.
    Heads,
    Unknown,
}

impl Flood {
    /// For a metric.
    pub fn label(self) -> &'static str {
        match self {
            Flood::Settings => "settings",
            Flood::Ping => "ping",
            Flood::Priority => "priority",
            Flood::WindowUpdate => "window_update",
            Flood::Empty => "empty",
            Flood::Reset => "rst_stream",
            Flood::Goaway => "goaway",
            Flood::Heads => "headers",
            Flood::Unknown => "unknown",
        }
    }
}

/// Follows one connection.
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    is_server: bool,
    received: Frames,
    sent: Frames,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    /// Idle frames that nothing has paid for yet, since `since`.
    unpaid: u32,
    since: Duration,
    empty_in_a_row: u32,
    priorities: u64,
    window_updates: u64,
    data_sent: u64,
    streams: u64,
    settings: bool,
    /// The highest one that the peer has opened.
    last_stream: u32,
}

impl Guard {
    /// For the side that accepted the connection.
    pub fn server(limits: Limits) -> Guard {
        Guard::new(limits, true)
    }

    /// For the side that opened it.
    pub fn client(limits: Limits) -> Guard {
        Guard::new(limits, false)
    }

    fn new(limits: Limits, is_server: bool) -> Guard {
        let (preface, none) = (Frames::behind_preface(), Frames::default());
        let (received, sent) = if is_server { (preface, none) } else { (none, preface) };
        Guard { limits, is_server, received, sent, counts: Counts::default() }
    }

    /// Bytes that came. `age` of the connection is asked for only where it matters.
    pub fn on_received(&mut self, bytes: &[u8], age: impl Fn() -> Duration) -> Result<(), Flood> {
        let Guard { limits, is_server, received, counts, .. } = self;
        received.follow(bytes, |frame| counts.on_received(frame, limits, *is_server, &age))
    }

    /// Bytes that went out.
    pub fn on_sent(&mut self, bytes: &[u8]) {
        let Guard { is_server, sent, counts, .. } = self;
        let followed = sent.follow(bytes, |frame| {
            counts.on_sent(frame, *is_server);
            Ok(())
        });
        debug_assert!(followed.is_ok(), "what we send is never judged");
    }

    /// Whether the peer has sent SETTINGS since it was asked last.
    pub fn take_settings(&mut self) -> bool {
        std::mem::take(&mut self.counts.settings)
    }

    /// Whether a frame may be written here without breaking another one.
    pub fn is_between_frames(&self) -> bool {
        self.sent.is_between()
    }

    /// The frame that ends the connection.
    pub fn goaway(&self) -> [u8; 17] {
        let last = self.counts.last_stream.to_be_bytes();
        let code = ENHANCE_YOUR_CALM.to_be_bytes();
        let mut frame = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        frame[9..13].copy_from_slice(&last);
        frame[13..].copy_from_slice(&code);
        frame
    }
}

impl Counts {
    fn on_received(
        &mut self,
        frame: Frame,
        limits: &Limits,
        is_server: bool,
        age: &impl Fn() -> Duration,
    ) -> Result<(), Flood> {
        let ends = frame.flags & END_STREAM != 0;
        match frame.kind {
            DATA | HEADERS | CONTINUATION if frame.carried == 0 && (!ends || frame.kind == CONTINUATION) => {
                self.empty_in_a_row += 1;
                if limits.empty_in_a_row.is_some_and(|max| self.empty_in_a_row > max) {
                    return Err(Flood::Empty);
                }
                self.spend(Flood::Empty, age)
            }
            DATA => {
                self.empty_in_a_row = 0;
                self.earn();
                Ok(())
            }
            HEADERS => {
                self.empty_in_a_row = 0;
                if is_server && frame.stream > self.last_stream {
                    self.last_stream = frame.stream;
                    self.streams += 1;
                }
                // A server's head that ends nothing may be one of a thousand 1xx: the body pays for it.
                if is_server || ends {
                    self.earn();
                    return Ok(());
                }
                self.spend(Flood::Heads, age)
            }
            CONTINUATION => {
                self.empty_in_a_row = 0; // the codec limits them
                Ok(())
            }
            PRIORITY => {
                self.priorities += 1;
                let allowed = u64::from(limits.priorities_per_stream) * (1 + self.streams);
                if self.priorities > allowed { Err(Flood::Priority) } else { Ok(()) }
            }
            WINDOW_UPDATE => {
                self.window_updates += 1;
                let data = u64::from(limits.window_updates_per_data) * self.data_sent;
                let allowed = WINDOW_UPDATES_FREE + 2 * (self.streams + data);
                if self.window_updates > allowed { Err(Flood::WindowUpdate) } else { Ok(()) }
            }
            SETTINGS => {
                self.settings |= frame.flags & ACK == 0;
                self.spend(Flood::Settings, age)
            }
            PING => self.spend(Flood::Ping, age),
            RST_STREAM => self.spend(Flood::Reset, age),
            GOAWAY => self.spend(Flood::Goaway, age),
            _ => self.spend(Flood::Unknown, age),
        }
    }

    fn on_sent(&mut self, frame: Frame, is_server: bool) {
        match frame.kind {
            DATA => {
                self.data_sent += 1;
                self.earn(); // clients measure the road with a PING for what they got
            }
            HEADERS if !is_server => {
                self.streams += 1;
                self.earn();
            }
            _ => {}
        }
    }

    fn earn(&mut self) {
        self.unpaid = self.unpaid.saturating_sub(1);
    }

    fn spend(&mut self, flood: Flood, age: &impl Fn() -> Duration) -> Result<(), Flood> {
        self.unpaid += 1;
        if self.unpaid <= BUDGET {
            return Ok(());
        }
        let now = age();
        if now.saturating_sub(self.since) < BUDGET_TIME {
            return Err(flood);
        }
        self.since = now;
        self.unpaid = 1;
        Ok(())
    }
}

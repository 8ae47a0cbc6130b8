//! One connection, seen from one of its ends: what it remembers, and how it ends.

use std::collections::VecDeque;

use bytes::Bytes;
use http::HeaderMap;

use super::{
    frame::{Head, PREFACE, Reason, STREAM_ID_MAX, WINDOW_BYTES, flag, kind},
    hpack::{Decoder, Encoder},
    output::Output,
    settings::{Config, Role, Theirs},
    stream::{Key, StreamError, Streams},
};

/// Why a connection ends: the other side breaks its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {what}")]
pub struct Fault {
    pub reason: Reason,
    pub what: &'static str,
}

impl Fault {
    pub(super) fn new(reason: Reason, what: &'static str) -> Fault {
        Fault { reason, what }
    }
}

/// Where received bytes stand.
pub trait Source {
    fn as_slice(&self) -> &[u8];
    fn skip(&mut self, count: usize);
    /// Cuts off the first bytes, which are there.
    fn take(&mut self, count: usize) -> Bytes;
    /// An empty map for the next head.
    fn map(&mut self) -> HeaderMap {
        HeaderMap::new()
    }
}

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A request came: [`take_request`](Connection::take_request).
    Opened(Key),
    /// The stream has a head, data, trailers or an end that were not there before.
    Readable(Key),
    /// A stream that [waited](Connection::room) may go on.
    Writable(Key),
    /// The other side's SETTINGS.
    Settings,
    /// The answer to a [`ping`](Connection::ping).
    Pong,
    /// The other side opens no stream any more and takes none.
    Leaves(Reason),
}

/// How far a server is with its leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// The client is told; what it sent before it knew is still served.
    Announced,
    /// Streams above this one are not served.
    Last(u32),
}

/// The head of DATA whose payload is not all here yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct DataFrame {
    pub key: Option<Key>,
    pub left: u32,
    pub padding: u32,
    pub ends: bool,
}

/// The fields of HEADERS until CONTINUATION brings the rest.
#[derive(Debug)]
pub(super) struct Block {
    pub stream: u32,
    pub ends: bool,
    pub depends_on_itself: bool,
    pub fragments: Vec<u8>,
    pub continuations: u32,
}

/// Resets of ours that are remembered: frames on these streams may still be on their way.
pub(super) const RESETS_MAX: usize = 128;

/// One end of a connection. Bytes go in by [`receive`](Connection::receive), what follows from them comes out as
/// [events](Connection::next_event), and what is to be written stands in [`output`](Connection::output).
pub struct Connection {
    pub(super) config: Config,
    pub(super) theirs: Theirs,
    pub(super) fault: Option<Fault>,
    pub(super) output: Output,
    pub(super) events: VecDeque<Event>,
    pub(super) streams: Streams,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,

    /// Bytes of the preface that came.
    pub(super) preface: usize,
    pub(super) has_settings: bool,
    pub(super) data_frame: Option<DataFrame>,
    pub(super) block: Option<Block>,
    pub(super) receive_window: i64,
    pub(super) uncredited: u32,
    /// The highest stream that the other side has opened.
    pub(super) last_theirs: u32,
    pub(super) open_theirs: u32,
    pub(super) resets: VecDeque<u32>,
    /// No reset of a stream above this one is forgotten.
    pub(super) forgotten: u32,
    /// Streams that the other side spoiled, less those that came to their end.
    pub(super) spoiled: u32,
    /// Requests that their client took back unanswered, less those that were answered and those that time forgives.
    pub(super) cancelled: u32,
    /// Bytes of answers to its control frames that it does not read, and where the last of them ends among all that
    /// goes out.
    pub(super) reflected: usize,
    pub(super) reflected_to: u64,

    pub(super) next_ours: u32,
    pub(super) open_ours: u32,
    pub(super) send_window: i64,
    /// Streams with data for a window that is shut, or an output that is full.
    pub(super) waiting: VecDeque<Key>,
    pub(super) leaving: Leaving,
    /// The other side has said GOAWAY.
    pub(super) left: bool,
    /// Where our PINGs end among all that goes out, and up to where the other side has read, by its answers to them.
    pub(super) pinged: u64,
    pub(super) pinged_leaving: u64,
    pub(super) read_to: u64,
}

const PING: [u8; 8] = *b"weftping";
const LEAVING_PING: [u8; 8] = *b"weftgone";

impl Connection {
    /// The connection's first bytes are in its output.
    pub fn new(config: Config) -> Connection {
        let mut output = Output::default();
        let flat = output.flat();
        if config.role == Role::Client {
            flat.extend_from_slice(PREFACE);
        }
        config.write(flat);
        if let Some(more) = config.connection_window.checked_sub(WINDOW_BYTES).filter(|more| *more > 0) {
            Head { len: 4, kind: kind::WINDOW_UPDATE, flags: 0, stream: 0 }.write(flat);
            flat.extend_from_slice(&more.to_be_bytes());
        }
        let mut encoder = Encoder::new();
        // What is new with each request would cost more to code than its bytes cost to send.
        encoder.set_plain(true);
        Connection {
            theirs: Theirs::DEFAULT,
            fault: None,
            output,
            events: VecDeque::new(),
            streams: Streams::default(),
            decoder: Decoder::new(),
            encoder,
            preface: if config.role == Role::Client { PREFACE.len() } else { 0 },
            has_settings: false,
            data_frame: None,
            block: None,
            receive_window: i64::from(config.connection_window.max(WINDOW_BYTES)),
            uncredited: 0,
            last_theirs: 0,
            open_theirs: 0,
            resets: VecDeque::new(),
            forgotten: 0,
            cancelled: 0,
            spoiled: 0,
            reflected: 0,
            reflected_to: 0,
            next_ours: 1,
            open_ours: 0,
            send_window: i64::from(WINDOW_BYTES),
            waiting: VecDeque::new(),
            leaving: Leaving::No,
            left: false,
            pinged: 0,
            pinged_leaving: 0,
            read_to: 0,
            config,
        }
    }

    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is to be written.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// So many bytes of the output are written; streams that waited for its room may go on.
    pub fn written(&mut self, count: usize) {
        self.output.advance(count);
        if !self.waiting.is_empty() {
            self.wake_waiting();
        }
    }

    /// Streams that somebody holds or that are open.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Streams that the other side allows to be open at once.
    pub fn streams_max(&self) -> u32 {
        self.theirs.streams_max
    }

    pub fn takes_extended_connect(&self) -> bool {
        self.theirs.extended_connect
    }

    /// Whether its SETTINGS are here.
    pub fn is_greeted(&self) -> bool {
        self.has_settings
    }

    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Whether the other side has said that it leaves.
    pub fn is_left(&self) -> bool {
        self.left
    }

    /// Asks whether the other side is still there.
    pub fn ping(&mut self) {
        self.write_ping(PING, 0);
        self.pinged = self.said();
    }

    /// All that goes out, up to the output's end.
    fn said(&self) -> u64 {
        self.output.passed() + self.output.len() as u64
    }

    /// What the other side may not have read yet: all since the last PING that it answered. Most of it may have left the
    /// output, and lie between here and there.
    pub fn unproven(&self) -> u64 {
        self.said() - self.read_to
    }

    pub(super) fn write_ping(&mut self, payload: [u8; 8], flags: u8) {
        let flat = self.output.flat();
        Head { len: 8, kind: kind::PING, flags, stream: 0 }.write(flat);
        flat.extend_from_slice(&payload);
    }

    pub(super) fn on_pong(&mut self, payload: [u8; 8]) {
        if payload == LEAVING_PING {
            self.read_to = self.read_to.max(self.pinged_leaving);
            if self.leaving == Leaving::Announced {
                self.leave_now();
            }
        } else if payload == PING {
            self.read_to = self.read_to.max(self.pinged);
            self.events.push_back(Event::Pong);
        }
    }

    /// A server's: begins to leave. The client is told, and told again which stream was the last one once it has read
    /// that (RFC 9113 section 6.8).
    pub fn leave(&mut self) {
        if self.leaving == Leaving::No && self.fault.is_none() {
            self.leaving = Leaving::Announced;
            self.write_goaway(STREAM_ID_MAX, Reason::NO_ERROR);
            self.write_ping(LEAVING_PING, 0);
            self.pinged_leaving = self.said();
        }
    }

    /// Takes no stream more from now on, whether the client knows or not.
    pub fn leave_now(&mut self) {
        if !matches!(self.leaving, Leaving::Last(_)) && self.fault.is_none() {
            self.leaving = Leaving::Last(self.last_theirs);
            self.write_goaway(self.last_theirs, Reason::NO_ERROR);
        }
    }

    /// Requests taken back that still count.
    pub fn cancelled(&self) -> u32 {
        self.cancelled
    }

    /// Time has passed: so many of the requests taken back count no more.
    pub fn forgive(&mut self, count: u32) {
        self.cancelled = self.cancelled.saturating_sub(count);
    }

    /// Whether it has left: nothing is to be done any more but to write what is in the output.
    pub fn has_left(&self) -> bool {
        matches!(self.leaving, Leaving::Last(_)) && self.streams.len() == 0
    }

    fn write_goaway(&mut self, last: u32, reason: Reason) {
        let flat = self.output.flat();
        Head { len: 8, kind: kind::GOAWAY, flags: 0, stream: 0 }.write(flat);
        flat.extend_from_slice(&last.to_be_bytes());
        flat.extend_from_slice(&reason.0.to_be_bytes());
    }

    /// Ends the connection: the other side is told why, all streams are broken.
    #[cold]
    pub(super) fn fail(&mut self, fault: Fault) -> Fault {
        if self.fault.is_none() {
            self.fault = Some(fault);
            // Never more than was said before (RFC 9113 section 6.8).
            let last = if let Leaving::Last(last) = self.leaving { last } else { self.last_theirs };
            self.write_goaway(last, fault.reason);
            self.break_streams(StreamError::Fault(fault));
        }
        fault
    }

    /// The other side is gone, by a broken connection or its end.
    pub fn close(&mut self) {
        self.break_streams(StreamError::Closed);
        self.left = true;
    }

    fn break_streams(&mut self, error: StreamError) {
        let keys: Vec<Key> = self.streams.keys().collect();
        for key in keys {
            self.break_stream(key, error);
        }
    }

    /// Takes a stream out of its course; whoever holds it learns why.
    pub(super) fn break_stream(&mut self, key: Key, error: StreamError) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if !stream.is_closed() {
            stream.error = Some(error);
            stream.told = false; // it is news, also to a reader who has not come for the last
        }
        (stream.receives, stream.sends) = (false, false);
        if !stream.whole {
            stream.data.clear();
            stream.trailers = None;
        }
        self.tell(key);
        self.after(key);
    }

    /// Says RST_STREAM.
    pub fn reset(&mut self, key: Key, reason: Reason) {
        let Some(stream) = self.streams.get(key) else { return };
        if stream.is_closed() {
            return;
        }
        self.write_reset(key.id, reason);
        self.break_stream(key, StreamError::Cancelled(reason));
    }

    pub(super) fn write_reset(&mut self, stream: u32, reason: Reason) {
        if self.resets.len() == RESETS_MAX {
            self.forgotten = self.forgotten.max(self.resets.pop_front().unwrap_or_default());
        }
        self.resets.push_back(stream);
        let flat = self.output.flat();
        Head { len: 4, kind: kind::RST_STREAM, flags: 0, stream }.write(flat);
        flat.extend_from_slice(&reason.0.to_be_bytes());
    }

    /// Nobody reads the stream, or writes it, any more ([`RECEIVING`](super::RECEIVING), [`SENDING`](super::SENDING)).
    pub fn release(&mut self, key: Key, half: u8) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.held &= !half;
        if half == super::RECEIVING {
            let waited = stream.data.clear() as u32;
            (stream.head, stream.trailers) = (None, None);
            if let Some(interims) = &mut stream.interims {
                interims.waiting.clear();
            }
            stream.uncredited += waited;
            self.credit_stream(key);
        }
        let Some(stream) = self.streams.get(key) else { return };
        let is_client = self.config.role == Role::Client;
        // A client's stream is for its answer, a server's for what it sends.
        let unwanted = stream.held & (if is_client { super::RECEIVING } else { super::SENDING }) == 0;
        if unwanted && !stream.is_closed() {
            // RFC 9113 section 8.1: an answer may be whole before its request is.
            let reason = if stream.sends || is_client { Reason::CANCEL } else { Reason::NO_ERROR };
            let half_open = is_client && !stream.receives && stream.held & super::SENDING != 0;
            if !half_open {
                return self.reset(key, reason);
            }
        }
        self.after(key);
    }

    /// After each step that may have closed a stream.
    pub(super) fn after(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if !stream.is_closed() {
            return;
        }
        if std::mem::take(&mut stream.counted) {
            if stream.error.is_none() {
                self.spoiled = self.spoiled.saturating_sub(1);
            }
            match key.id & 1 == u32::from(self.config.role == Role::Client) {
                true => self.open_ours -= 1,
                false => self.open_theirs -= 1,
            }
        }
        let waits = stream.waits;
        if stream.held == 0 {
            self.streams.remove(key);
        }
        if waits {
            self.waiting.retain(|waiting| *waiting != key);
        }
        if !self.waiting.is_empty() {
            // It may have had leave to send, and used none of it.
            self.wake_waiting();
        }
    }

    /// Tells the reader of a stream that there is something new.
    pub(super) fn tell(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key)
            && !std::mem::replace(&mut stream.told, true)
        {
            self.events.push_back(Event::Readable(key));
        }
    }

    /// Answers to control frames are not collected for one who does not read them.
    pub(super) fn reflect(&mut self, bytes: usize) -> Result<(), Fault> {
        const REFLECTED_MAX: usize = 64 * 1024;
        if self.output.passed() >= self.reflected_to {
            self.reflected = 0;
        }
        self.reflected += bytes;
        self.reflected_to = self.said();
        if self.reflected > REFLECTED_MAX {
            return Err(Fault::new(Reason::ENHANCE_YOUR_CALM, "answers that nobody reads"));
        }
        Ok(())
    }

    pub(super) fn write_ack(&mut self, kind: u8) {
        Head { len: 0, kind, flags: flag::ACK, stream: 0 }.write(self.output.flat());
    }
}

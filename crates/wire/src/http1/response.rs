//! The head of a response, read in place on the client's side.

use super::{
    field::{Field, Fields, Span, line_ends},
    framing::{self, Announce, Asked, Framing},
    limits::Limits,
    refusal::Refusal,
    request::{VERSION_BYTES, Version, read_version},
    scan,
};
use crate::Progress;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Stage {
    #[default]
    Begin,
    Reason,
    Fields,
    Done,
}

/// The head of a response. One of it serves response after response and keeps its memory.
#[derive(Debug, Default)]
pub struct ResponseHead {
    fields: Fields,
    stage: Stage,
    at: usize,
    end: usize,
    reason: Span,
    status: u16,
    version: Version,
    framing: Framing,
    announce: Announce,
}

/// Place of the status code, and of the byte behind it.
const STATUS: usize = VERSION_BYTES + 1;
const STATUS_END: usize = STATUS + 3;

impl ResponseHead {
    /// Forgets the response; the next [`read`](ResponseHead::read) begins another.
    pub fn restart(&mut self) {
        self.stage = Stage::Begin;
        self.at = 0;
        self.end = 0;
        self.fields.restart(0);
    }

    /// Reads the head of an answer to what was `asked`, under the same contract as
    /// [`RequestHead::read`](super::RequestHead::read).
    ///
    /// Any refusal means 502 to the caller and the end of this connection.
    #[inline]
    pub fn read(&mut self, bytes: &[u8], asked: Asked, limits: &Limits) -> Result<Progress<usize>, Refusal> {
        let window = bytes.get(..limits.head_bytes_max as usize).unwrap_or(bytes);
        match self.read_window(window, asked, limits)? {
            Progress::More if window.len() >= limits.head_bytes_max as usize => Err(Refusal::LongHead),
            progress => Ok(progress),
        }
    }

    fn read_window(
        &mut self,
        bytes: &[u8],
        asked: Asked,
        limits: &Limits,
    ) -> Result<Progress<usize>, Refusal> {
        if self.stage < Stage::Fields && self.read_line(bytes)? == Progress::More {
            return Ok(Progress::More);
        }
        if self.stage == Stage::Fields {
            let Progress::Done(end) = self.fields.read(bytes, limits.fields_max)? else {
                return Ok(Progress::More);
            };
            self.end = end;
            self.conclude(asked)?;
            self.stage = Stage::Done;
        }
        Ok(Progress::Done(self.end))
    }

    /// RFC 9112 section 4. The space behind the status may be missing when there is no reason: common, and harmless
    /// once it is written anew.
    fn read_line(&mut self, bytes: &[u8]) -> Result<Progress<()>, Refusal> {
        if self.stage == Stage::Begin {
            match read_version(bytes, 0).map_err(bad_status)? {
                Progress::More => return Ok(Progress::More),
                Progress::Done(version) => self.version = version,
            }
            let Some(digits) = read_status(bytes)? else { return Ok(Progress::More) };
            self.status = digits;
            self.at = STATUS_END;
            match bytes.get(STATUS_END) {
                None => return Ok(Progress::More),
                Some(b' ') => self.at += 1,
                Some(b'\r' | b'\n') => {}
                Some(_) => return Err(Refusal::BadStatus),
            }
            self.reason = Span::new(self.at, self.at);
            self.stage = Stage::Reason;
        }
        self.at = scan::value_end(bytes, self.at);
        if !line_ends(bytes, self.at)? {
            return Ok(Progress::More);
        }
        self.reason = Span::new(self.reason.start as usize, self.at);
        self.fields.restart(self.at + 2);
        self.stage = Stage::Fields;
        Ok(Progress::Done(()))
    }

    fn conclude(&mut self, asked: Asked) -> Result<(), Refusal> {
        let http11 = self.version == Version::Http11;
        let announced = framing::announced(&self.fields.seen, http11)?;
        if self.status == 101 && !(asked.upgrade && http11 && self.switches()) {
            return Err(Refusal::MisplacedSwitch);
        }
        (self.framing, self.announce) = framing::response(announced, asked, self.status)?;
        Ok(())
    }

    /// RFC 9110 section 15.2.2: a 101 names what it switches to.
    fn switches(&self) -> bool {
        self.fields.seen.upgrades() && self.upgrade().is_some()
    }

    /// How long the head is, with its blank line.
    pub(super) fn bytes(&self) -> usize {
        self.end
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    /// May be empty.
    pub fn reason_span(&self) -> Span {
        self.reason
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// 1xx but 101: the final response is still to come.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// What the head may say of its length when it is sent on with the same framing.
    pub fn announce(&self) -> Announce {
        self.announce
    }

    /// The sender takes another request on this connection (RFC 9112 section 9.3), if nothing else speaks against it.
    pub fn keeps_alive(&self) -> bool {
        let ends = matches!(self.framing, Framing::UntilClose | Framing::Tunnel);
        !ends && self.fields.seen.persists(self.version == Version::Http11)
    }

    /// The `Upgrade` field, if there is exactly one: of a 101, of a 426, or an offer.
    pub fn upgrade(&self) -> Option<&Field> {
        self.fields.get(self.fields.seen.upgrade.index()?).filter(|field| !field.value().is_empty())
    }
}

/// A response's version that is not ours is as wrong as any other start.
fn bad_status(_: Refusal) -> Refusal {
    Refusal::BadStatus
}

/// Three digits from 100 on. Above 599 is not defined, but forwarded: RFC 9110 section 15 has clients take it as a 5xx.
fn read_status(bytes: &[u8]) -> Result<Option<u16>, Refusal> {
    let rest = bytes.get(VERSION_BYTES..).unwrap_or_default();
    let mut status = 0;
    for (place, byte) in rest.iter().take(STATUS_END - VERSION_BYTES).enumerate() {
        match (place, byte) {
            (0, b' ') => {}
            (1, b'1'..=b'9') | (2.., b'0'..=b'9') => status = status * 10 + u16::from(byte - b'0'),
            _ => return Err(Refusal::BadStatus),
        }
    }
    Ok((rest.len() >= STATUS_END - VERSION_BYTES).then_some(status))
}

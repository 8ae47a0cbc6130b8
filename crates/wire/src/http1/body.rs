//! A message's body, found in the caller's buffer and left there.

use std::ops::Range;

use super::{
    chunk::{ChunkReader, Next},
    field::Fields,
    framing::Framing,
    limits::Limits,
    refusal::Refusal,
};
use crate::Progress;

/// What stands at the beginning of the bytes shown to [`Body::next`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The bytes in this range are data; all up to its end is used.
    Data(Range<usize>),
    /// So many bytes are used. Ask again with what is left if that is anything and something was used; else with what
    /// is left and more.
    More(usize),
    /// The message ended; so many bytes are used, and those behind belong to what comes next.
    End(usize),
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    Length(u64),
    Chunked(ChunkReader),
    Trailers,
    UntilClose,
    #[default]
    Ended,
}

/// Reads one body, then another. Call [`next`](Body::next) until `More` or `End`, each time with the bytes behind those
/// used.
#[derive(Debug, Default)]
pub struct Body {
    state: State,
    trailers: Fields,
}

impl Body {
    pub fn new(framing: Framing) -> Body {
        let mut body = Body::default();
        body.restart(framing);
        body
    }

    /// Begins the body of another message. A tunnel has none: its bytes are not read here.
    pub fn restart(&mut self, framing: Framing) {
        self.trailers.restart(0);
        self.state = match framing {
            Framing::None | Framing::Length(0) | Framing::Tunnel => State::Ended,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(ChunkReader::default()),
            Framing::UntilClose => State::UntilClose,
        };
    }

    /// Nothing of the message is left to read.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Bytes of it that are still to come, where the head said how many.
    pub fn left(&self) -> Option<u64> {
        if let State::Length(left) = self.state { Some(left) } else { None }
    }

    /// The trailers, when [`next`](Body::next) has said `End`: ranges of the bytes shown to that call.
    pub fn trailers(&self) -> &Fields {
        &self.trailers
    }

    /// The next part.
    #[inline]
    pub fn next(&mut self, bytes: &[u8], limits: &Limits) -> Result<Part, Refusal> {
        match &mut self.state {
            State::Ended => Ok(Part::End(0)),
            _ if bytes.is_empty() => Ok(Part::More(0)),
            State::UntilClose => Ok(Part::Data(0..bytes.len())),
            State::Length(left) => {
                let taken = at_most(bytes.len(), *left);
                *left -= taken as u64;
                if *left == 0 {
                    self.state = State::Ended;
                }
                Ok(Part::Data(0..taken))
            }
            State::Chunked(reader) => match reader.next(bytes, limits)? {
                Next::Data(at, size) => {
                    let taken = at_most(bytes.len() - at, size);
                    reader.took(taken as u64);
                    // Without data at hand the range is empty; say what is needed instead.
                    Ok(if taken == 0 { Part::More(at) } else { Part::Data(at..at + taken) })
                }
                Next::More => Ok(Part::More(bytes.len())),
                Next::Trailers(at) => {
                    self.state = State::Trailers;
                    // With a blank line alone, the common case, all is over in this call. Else the section is shown
                    // again from its beginning, so that its ranges have one base.
                    match bytes.get(at..) {
                        Some([b'\r', b'\n', ..]) => {
                            self.state = State::Ended;
                            Ok(Part::End(at + 2))
                        }
                        _ => Ok(Part::More(at)),
                    }
                }
            },
            State::Trailers => Ok(match self.read_trailers(bytes, limits)? {
                Progress::More => Part::More(0),
                Progress::Done(used) => Part::End(used),
            }),
        }
    }

    /// Fields that trailers may not carry are marked as ending here, so the writer leaves them out.
    fn read_trailers(&mut self, bytes: &[u8], limits: &Limits) -> Result<Progress<usize>, Refusal> {
        let max = limits.trailer_bytes_max as usize;
        let window = bytes.get(..max).unwrap_or(bytes);
        let read =
            self.trailers.read(window, limits.trailer_fields_max).map_err(|refusal| match refusal {
                Refusal::ManyFields => Refusal::LongTrailers,
                refusal => refusal,
            })?;
        let Progress::Done(used) = read else {
            return if window.len() >= max { Err(Refusal::LongTrailers) } else { Ok(Progress::More) };
        };
        for field in self.trailers.iter_mut().filter(|field| field.id().is_barred_from_trailers()) {
            field.end_here();
        }
        self.state = State::Ended;
        Ok(Progress::Done(used))
    }

    /// The connection ended. Only then does a body without a length end; any other that did not end is cut.
    pub fn close(&mut self) -> Result<(), Refusal> {
        match self.state {
            State::Ended | State::UntilClose => {
                self.state = State::Ended;
                Ok(())
            }
            _ => Err(Refusal::Truncated),
        }
    }
}

fn at_most(bytes: usize, left: u64) -> usize {
    usize::try_from(left).map_or(bytes, |left| left.min(bytes))
}

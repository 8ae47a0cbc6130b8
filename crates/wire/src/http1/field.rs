//! Field lines, read in place: each is kept as ranges into the caller's buffer.
//!
//! [`Fields::read`] goes on where it stopped, so a byte is looked at once however the head arrives. What the codec has
//! to know of `Host`, `Content-Length`, `Transfer-Encoding`, `Connection`, `Expect`, `Upgrade` and `TE` is taken from a
//! line when it is complete; nobody searches the list for it afterwards.

use super::{
    limits::NAME_BYTES_MAX,
    name::{self, FieldId},
    refusal::Refusal,
    scan,
    semantics::Seen,
};
use crate::Progress;

/// A range of the buffer that the head was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    #[inline]
    pub(super) fn new(start: usize, end: usize) -> Span {
        // Heads are shorter than 4 GiB: `Limits` counts them in u32.
        Span { start: start as u32, end: end as u32 }
    }

    /// The bytes, from the same buffer (from the same first byte on) that was read.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// Never copied to the next hop.
const HOP: u8 = 1;
/// The line is `name: value CRLF` with one space and nothing behind the value, so it can be copied as it is.
const PLAIN: u8 = 2;
/// The name has an underscore.
const UNDERSCORE: u8 = 4;

/// One field line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    start: u32,
    value_start: u32,
    value_end: u32,
    name_bytes: u16,
    id: FieldId,
    marks: u8,
}

impl Field {
    #[inline]
    pub fn id(&self) -> FieldId {
        self.id
    }

    #[inline]
    pub fn name(&self) -> Span {
        Span { start: self.start, end: self.start + u32::from(self.name_bytes) }
    }

    /// Without the white space around it.
    #[inline]
    pub fn value(&self) -> Span {
        Span { start: self.value_start, end: self.value_end }
    }

    /// The field ends at this hop: by its name, because `Connection` lists it, or because it disguises a known name.
    #[inline]
    pub fn is_hop_by_hop(&self) -> bool {
        self.marks & HOP != 0
    }

    /// `X_Y` and `X-Y` are one to many applications; a proxy that sets `X-Y` may want to drop `X_Y`.
    #[inline]
    pub fn has_underscore(&self) -> bool {
        self.marks & UNDERSCORE != 0
    }

    /// The whole line with its CRLF, if it can be copied as it is.
    #[inline]
    pub(super) fn plain_line(&self) -> Option<Span> {
        (self.marks & PLAIN != 0).then_some(Span { start: self.start, end: self.value_end + 2 })
    }

    pub(super) fn end_here(&mut self) {
        self.marks |= HOP;
    }

    /// Takes bytes off the value's end; the line is no longer plain.
    pub(super) fn shorten(&mut self, bytes: u32) {
        self.value_end = self.value_end.saturating_sub(bytes).max(self.value_start);
        self.marks &= !PLAIN;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Stage {
    #[default]
    Line,
    Name,
    Space,
    Value,
    Done,
}

/// The lines of a head or of a trailer section. Keeps its memory from message to message.
#[derive(Debug, Default)]
pub struct Fields {
    list: Vec<Field>,
    pub(super) seen: Seen,
    stage: Stage,
    /// Everything before was looked at.
    at: usize,
    line: usize,
    colon: usize,
    value: usize,
}

impl Fields {
    /// Begins anew with the first line at `at`.
    #[inline]
    pub(super) fn restart(&mut self, at: usize) {
        self.list.clear();
        self.seen.clear();
        self.stage = Stage::Line;
        self.at = at;
    }

    #[inline]
    pub fn iter(&self) -> std::slice::Iter<'_, Field> {
        self.list.iter()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The first value of a known field.
    pub fn value<'a>(&self, id: FieldId, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.list.iter().find(|field| field.id == id).map(|field| field.value().of(bytes))
    }

    /// All values of a field by its name in any case, in their order.
    pub fn values<'a>(&'a self, name: &'a [u8], bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.list
            .iter()
            .filter(move |field| field.name().of(bytes).eq_ignore_ascii_case(name))
            .map(|field| field.value().of(bytes))
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Field> {
        self.list.get_mut(index)
    }

    pub(super) fn get(&self, index: usize) -> Option<&Field> {
        self.list.get(index)
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Field> {
        self.list.iter_mut()
    }

    /// Reads to the blank line; `Done` carries the place behind it. `bytes` begins where it began in the calls before.
    #[inline]
    pub(super) fn read(&mut self, bytes: &[u8], fields_max: u32) -> Result<Progress<usize>, Refusal> {
        loop {
            if self.stage == Stage::Line {
                match bytes.get(self.at) {
                    None => return Ok(Progress::More),
                    Some(b'\r') => return self.blank_line(bytes),
                    Some(b' ' | b'\t') => return Err(Refusal::Folded),
                    Some(_) if self.list.len() >= fields_max as usize => return Err(Refusal::ManyFields),
                    Some(_) => {}
                }
                self.line = self.at;
                self.stage = Stage::Name;
            }
            if self.stage == Stage::Name {
                self.at = scan::token_end(bytes, self.at);
                if self.at - self.line > NAME_BYTES_MAX {
                    return Err(Refusal::LongHead);
                }
                match bytes.get(self.at) {
                    None => return Ok(Progress::More),
                    Some(b':') if self.at > self.line => {}
                    Some(byte) => return Err(bad_name_byte(*byte)),
                }
                self.colon = self.at;
                self.at += 1;
                self.stage = Stage::Space;
            }
            if self.stage == Stage::Space {
                while matches!(bytes.get(self.at), Some(b' ' | b'\t')) {
                    self.at += 1;
                }
                if self.at == bytes.len() {
                    return Ok(Progress::More);
                }
                self.value = self.at;
                self.stage = Stage::Value;
            }
            self.at = scan::value_end(bytes, self.at);
            if !line_ends(bytes, self.at)? {
                return Ok(Progress::More);
            }
            self.line_done(bytes)?;
            self.at += 2;
            self.stage = Stage::Line;
        }
    }

    #[inline]
    fn blank_line(&mut self, bytes: &[u8]) -> Result<Progress<usize>, Refusal> {
        if !line_ends(bytes, self.at)? {
            return Ok(Progress::More);
        }
        if self.seen.lists_names() {
            self.mark_listed(bytes)?;
        }
        self.stage = Stage::Done;
        Ok(Progress::Done(self.at + 2))
    }

    #[inline]
    fn line_done(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let mut end = self.at;
        while end > self.value && matches!(bytes.get(end - 1), Some(b' ' | b'\t')) {
            end -= 1;
        }
        let name = bytes.get(self.line..self.colon).unwrap_or_default();
        let id = FieldId::of(name);
        let mut marks = if id.is_hop_by_hop() { HOP } else { 0 };
        let one_space = self.value == self.colon + 2 && bytes.get(self.colon + 1) == Some(&b' ');
        if one_space && end == self.at {
            marks |= PLAIN;
        }
        if id == FieldId::Other && name.contains(&b'_') {
            marks |= UNDERSCORE;
            if name::disguised(name) != FieldId::Other {
                marks |= HOP;
            }
        }
        let value = Span::new(self.value, end);
        self.list.push(Field {
            start: self.line as u32,
            value_start: value.start,
            value_end: value.end,
            name_bytes: name.len() as u16, // at most NAME_BYTES_MAX
            id,
            marks,
        });
        if id.is_read() { self.seen.note(id, value, bytes, self.list.len() - 1) } else { Ok(()) }
    }

    /// Fields that `Connection` lists end here (RFC 9110 section 7.6.1). Rare.
    #[cold]
    fn mark_listed(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        for listed in self.seen.listed() {
            let listed = listed.of(bytes);
            if FieldId::of(listed).is_end_to_end() || name::disguised(listed).is_end_to_end() {
                return Err(Refusal::ConnectionNamesEndToEnd);
            }
            for field in &mut self.list {
                if field.name().of(bytes).eq_ignore_ascii_case(listed) {
                    field.marks |= HOP;
                }
            }
        }
        Ok(())
    }
}

/// Whether CRLF stands at `at`; an error if something else does; false if more bytes must tell.
#[inline]
pub(super) fn line_ends(bytes: &[u8], at: usize) -> Result<bool, Refusal> {
    match (bytes.get(at), bytes.get(at + 1)) {
        (Some(b'\r'), Some(b'\n')) => Ok(true),
        (None, _) | (Some(b'\r'), None) => Ok(false),
        (Some(b'\r'), Some(_)) => Err(Refusal::BareCr),
        (Some(b'\n'), _) => Err(Refusal::BareLf),
        (Some(_), _) => Err(Refusal::BadFieldValue),
    }
}

#[cold]
fn bad_name_byte(byte: u8) -> Refusal {
    match byte {
        b'\n' => Refusal::BareLf,
        _ => Refusal::BadFieldName,
    }
}

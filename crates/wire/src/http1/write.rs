//! Writes heads: a start line of its own, lines of a head that was read, copied or edited, and lines that are added.
//!
//! Lines that stay as they are and stand side by side are copied in one piece. Fields of one hop never pass, `Host` is
//! written first and once, and the message's length is said once, in the place and under the name where the sender said
//! it. Nobody can add a second length or a line end: what the codec writes itself is refused from outside, and so are
//! bytes that no value may have.

use http::HeaderMap;

use super::{
    field::{Field, Fields, Span},
    framing::Announce,
    name::FieldId,
    scan,
    semantics::Authority,
};

/// What happens to a line that could pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit<'a> {
    Keep,
    Drop,
    /// The name stays in its case, the value is this.
    Value(&'a [u8]),
}

/// A line that is looked at on its way.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    field: &'a Field,
    bytes: &'a [u8],
}

impl<'a> Line<'a> {
    #[inline]
    pub fn id(&self) -> FieldId {
        self.field.id()
    }

    pub fn name(&self) -> &'a [u8] {
        self.field.name().of(self.bytes)
    }

    pub fn value(&self) -> &'a [u8] {
        self.field.value().of(self.bytes)
    }

    pub fn has_underscore(&self) -> bool {
        self.field.has_underscore()
    }
}

/// What the next hop is told of the connection (RFC 9110 section 7.6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hop<'a> {
    pub persist: Persist,
    /// `TE: trailers`, in a request.
    pub trailers: bool,
    /// The `Upgrade` field's value, of a request that asks, of a 101 or of a 426.
    pub upgrade: Option<&'a [u8]>,
}

/// Whether the connection's end or its life has to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Persist {
    /// What the version says by itself.
    #[default]
    Silent,
    Close,
    /// To an HTTP/1.0 client that asked for it.
    KeepAlive,
}

/// What cannot be written. Nothing of it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    #[error("the method is no token")]
    Method,
    #[error("the target is empty or has a byte that no target may have")]
    Target,
    #[error("the authority is no host with or without a port")]
    Authority,
    #[error("the status is not between 100 and 999, or its reason has a control byte")]
    Status,
    #[error("the field name is no token")]
    Name,
    #[error("the field value has a control byte")]
    Value,
    #[error(
        "the field is one that the codec writes itself: of framing, of the connection, or Host in a request"
    )]
    Reserved,
}

/// Writes one head behind what `out` holds.
#[derive(Debug)]
pub struct HeadWriter<'o> {
    out: &'o mut Vec<u8>,
    request: bool,
}

impl<'o> HeadWriter<'o> {
    /// Begins a request with its line and its `Host`. `authority` may be empty only for a request that had none: then
    /// the empty `Host` of RFC 9110 section 7.2 is sent.
    #[inline]
    pub fn request(
        out: &'o mut Vec<u8>,
        method: &[u8],
        target: &[u8],
        authority: &[u8],
    ) -> Result<HeadWriter<'o>, Unwritable> {
        if !scan::is_token(method) {
            return Err(Unwritable::Method);
        }
        if !scan::is_target(target) {
            return Err(Unwritable::Target);
        }
        if !authority.is_empty() && Authority::parse(authority).is_err() {
            return Err(Unwritable::Authority);
        }
        out.extend_from_slice(method);
        out.push(b' ');
        out.extend_from_slice(target);
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        out.extend_from_slice(authority);
        out.extend_from_slice(b"\r\n");
        Ok(HeadWriter { out, request: true })
    }

    /// Begins a response. The reason may be empty.
    #[inline]
    pub fn response(out: &'o mut Vec<u8>, status: u16, reason: &[u8]) -> Result<HeadWriter<'o>, Unwritable> {
        if !(100..=999).contains(&status) || !scan::is_value(reason) {
            return Err(Unwritable::Status);
        }
        let digit = |place: u16| b'0' + (status / place % 10) as u8;
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(&[digit(100), digit(10), digit(1), b' ']);
        out.extend_from_slice(reason);
        out.extend_from_slice(b"\r\n");
        Ok(HeadWriter { out, request: false })
    }

    /// Copies the lines of a head that was read from `bytes`, with what `edit` says of each, and says the length.
    ///
    /// `edit` is not asked of fields that never pass, nor of those that the codec writes itself. A value that cannot be
    /// written ends the copying: the head is not to be sent then.
    #[inline]
    pub fn copy<'e>(
        &mut self,
        fields: &Fields,
        bytes: &[u8],
        announce: Announce,
        mut edit: impl FnMut(Line<'_>) -> Edit<'e>,
    ) -> Result<(), Unwritable> {
        let mut run = Run { lines: Span::default(), bytes };
        let mut told = announce == Announce::Nothing;
        for field in fields.iter() {
            let id = field.id();
            let decision = match id {
                FieldId::ContentLength | FieldId::TransferEncoding => {
                    if told || !says(id, announce) {
                        continue;
                    }
                    told = true;
                    if !is_canonical(field, bytes, announce) {
                        run.flush(self.out);
                        write_length(self.out, field.name().of(bytes), announce);
                        continue;
                    }
                    Edit::Keep
                }
                FieldId::Host if self.request => continue,
                _ if field.is_hop_by_hop() => continue,
                _ => edit(Line { field, bytes }),
            };
            match decision {
                Edit::Drop => {}
                Edit::Keep => match field.plain_line() {
                    Some(line) => run.add(line, self.out),
                    None => {
                        run.flush(self.out);
                        write_line(self.out, field.name().of(bytes), field.value().of(bytes));
                    }
                },
                Edit::Value(value) => {
                    if !scan::is_value(value) {
                        return Err(Unwritable::Value);
                    }
                    run.flush(self.out);
                    write_line(self.out, field.name().of(bytes), value);
                }
            }
        }
        run.flush(self.out);
        if !told {
            self.announce(announce);
        }
        Ok(())
    }

    /// Says the length of a message that was not copied.
    #[inline]
    pub fn announce(&mut self, announce: Announce) {
        let name: &[u8] = match announce {
            Announce::Nothing => return,
            Announce::Length(_) => b"Content-Length",
            Announce::Chunked => b"Transfer-Encoding",
        };
        write_length(self.out, name, announce);
    }

    /// Adds a line. Static text and text from outside are checked alike.
    #[inline]
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Unwritable> {
        if !scan::is_token(name) {
            return Err(Unwritable::Name);
        }
        if !scan::is_value(value) {
            return Err(Unwritable::Value);
        }
        if self.writes_itself(name) {
            return Err(Unwritable::Reserved);
        }
        write_line(self.out, name, value);
        Ok(())
    }

    /// Adds lines whose names and values were checked when they were made, but for those that the codec writes itself.
    #[inline]
    pub fn fields(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            let name = name.as_str().as_bytes();
            if !self.writes_itself(name) {
                write_line(self.out, name, value.as_bytes());
            }
        }
    }

    #[inline]
    fn writes_itself(&self, name: &[u8]) -> bool {
        let id = FieldId::of(name);
        id == FieldId::ContentLength || id.is_hop_by_hop() || (id == FieldId::Host && self.request)
    }

    /// Says what is to be said of the connection.
    pub fn hop(&mut self, hop: Hop<'_>) -> Result<(), Unwritable> {
        if hop == Hop::default() {
            return Ok(());
        }
        self.write_hop(hop)
    }

    #[cold]
    fn write_hop(&mut self, hop: Hop<'_>) -> Result<(), Unwritable> {
        if hop.upgrade.is_some_and(|value| value.is_empty() || !scan::is_value(value)) {
            return Err(Unwritable::Value);
        }
        let persist = match hop.persist {
            Persist::Silent => None,
            Persist::Close => Some(&b"close"[..]),
            Persist::KeepAlive => Some(&b"keep-alive"[..]),
        };
        let te = hop.trailers.then_some(&b"TE"[..]);
        let upgrade = hop.upgrade.map(|_| &b"upgrade"[..]);
        self.out.extend_from_slice(b"Connection: ");
        for (place, option) in [persist, te, upgrade].into_iter().flatten().enumerate() {
            if place > 0 {
                self.out.extend_from_slice(b", ");
            }
            self.out.extend_from_slice(option);
        }
        self.out.extend_from_slice(b"\r\n");
        if hop.trailers {
            write_line(self.out, b"TE", b"trailers");
        }
        if let Some(value) = hop.upgrade {
            write_line(self.out, b"Upgrade", value);
        }
        Ok(())
    }

    /// Ends the head.
    #[inline]
    pub fn finish(self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Writes the end of a chunked body: the last chunk, the trailers that may pass and that `keep` keeps, the blank line.
pub fn write_trailers(
    out: &mut Vec<u8>,
    trailers: &Fields,
    bytes: &[u8],
    mut keep: impl FnMut(Line<'_>) -> bool,
) {
    out.extend_from_slice(b"0\r\n");
    for field in trailers.iter() {
        if !field.is_hop_by_hop() && keep(Line { field, bytes }) {
            write_line(out, field.name().of(bytes), field.value().of(bytes));
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Neighbouring lines that are copied in one piece.
struct Run<'a> {
    lines: Span,
    bytes: &'a [u8],
}

impl Run<'_> {
    #[inline]
    fn add(&mut self, line: Span, out: &mut Vec<u8>) {
        if line.start != self.lines.end {
            self.flush(out);
            self.lines.start = line.start;
        }
        self.lines.end = line.end;
    }

    #[inline]
    fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.lines.of(self.bytes));
        self.lines.start = self.lines.end;
    }
}

fn says(id: FieldId, announce: Announce) -> bool {
    match announce {
        Announce::Nothing => false,
        Announce::Length(_) => id == FieldId::ContentLength,
        Announce::Chunked => id == FieldId::TransferEncoding,
    }
}

/// The line says `announce` already, in the shortest way.
fn is_canonical(field: &Field, bytes: &[u8], announce: Announce) -> bool {
    let value = field.value().of(bytes);
    field.plain_line().is_some()
        && match announce {
            Announce::Nothing => false,
            Announce::Length(length) => value == Decimal::new(length).as_bytes(),
            Announce::Chunked => value == b"chunked",
        }
}

fn write_length(out: &mut Vec<u8>, name: &[u8], announce: Announce) {
    match announce {
        Announce::Nothing => {}
        Announce::Length(length) => write_line(out, name, Decimal::new(length).as_bytes()),
        Announce::Chunked => write_line(out, name, b"chunked"),
    }
}

#[inline]
fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A number in decimal digits, without an allocation.
struct Decimal {
    text: [u8; 20],
    start: usize,
}

impl Decimal {
    fn new(mut number: u64) -> Decimal {
        let mut decimal = Decimal { text: [b'0'; 20], start: 20 };
        loop {
            decimal.start -= 1;
            decimal.text[decimal.start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return decimal;
            }
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.text.get(self.start..).unwrap_or_default()
    }
}

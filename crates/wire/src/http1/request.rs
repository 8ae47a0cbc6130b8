//! The head of a request, read in place on the server's side.

use std::borrow::Cow;

use super::{
    field::{Field, Fields, Span, line_ends},
    framing::{self, Announce, Asked, Framing},
    limits::{Limits, METHOD_BYTES_MAX},
    refusal::Refusal,
    scan,
    semantics::{Authority, Expect, Once},
};
use crate::Progress;

/// A request method. Names are case-sensitive (RFC 9110 section 9.1): `get` is [`Method::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    #[default]
    Other,
}

impl Method {
    pub fn of(name: &[u8]) -> Method {
        match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"CONNECT" => Method::Connect,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            _ => Method::Other,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    Http10,
    #[default]
    Http11,
}

/// The four forms of RFC 9112 section 3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    #[default]
    Origin,
    /// `http://…`, or `https://…`.
    Absolute { https: bool },
    /// `host:port` of CONNECT.
    Authority,
    /// `*` of OPTIONS.
    Asterisk,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Stage {
    #[default]
    Begin,
    Method,
    Target,
    Version,
    Fields,
    Done,
}

/// The head of a request. One of it serves request after request and keeps its memory.
#[derive(Debug, Default)]
pub struct RequestHead {
    fields: Fields,
    stage: Stage,
    at: usize,
    end: usize,
    name: Span,
    target: Span,
    authority: Span,
    path: Span,
    method: Method,
    version: Version,
    form: Form,
    framing: Framing,
}

impl RequestHead {
    /// Forgets the request; the next [`read`](RequestHead::read) begins another.
    pub fn restart(&mut self) {
        self.stage = Stage::Begin;
        self.at = 0;
        self.end = 0;
        self.fields.restart(0);
    }

    /// Reads the head from all the bytes received of it so far; `bytes` begins where it began in the calls before.
    ///
    /// `Done` carries the head's length, the blank line with it; body bytes may stand behind. Time is linear in the
    /// bytes, however they arrive. Until the head is done its accessors mean nothing. After a refusal nothing more is
    /// read from the connection.
    #[inline]
    pub fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Progress<usize>, Refusal> {
        // Nothing beyond the limit is looked at, so the same byte is refused whether or not it came in one piece.
        let window = bytes.get(..limits.head_bytes_max as usize).unwrap_or(bytes);
        match self.read_window(window, limits)? {
            Progress::More if window.len() >= limits.head_bytes_max as usize => Err(Refusal::LongHead),
            progress => Ok(progress),
        }
    }

    fn read_window(&mut self, bytes: &[u8], limits: &Limits) -> Result<Progress<usize>, Refusal> {
        if self.stage < Stage::Fields && self.read_line(bytes, limits)? == Progress::More {
            return Ok(Progress::More);
        }
        if self.stage == Stage::Fields {
            let Progress::Done(end) = self.fields.read(bytes, limits.fields_max)? else {
                return Ok(Progress::More);
            };
            self.end = end;
            self.conclude(bytes)?;
            self.stage = Stage::Done;
        }
        Ok(Progress::Done(self.end))
    }

    /// RFC 9112 section 3: exactly one space on either side of the target.
    fn read_line(&mut self, bytes: &[u8], limits: &Limits) -> Result<Progress<()>, Refusal> {
        if self.stage == Stage::Begin {
            // One empty line before a request is read over (RFC 9112 section 2.2).
            match bytes.first() {
                None => return Ok(Progress::More),
                Some(b'\r' | b'\n') if !line_ends(bytes, 0)? => return Ok(Progress::More),
                Some(b'\r') => self.at = 2,
                Some(_) => {}
            }
            self.name = Span::new(self.at, self.at);
            self.stage = Stage::Method;
        }
        if self.stage == Stage::Method {
            let start = self.name.start as usize;
            self.at = scan::token_end(bytes, self.at);
            if self.at - start > METHOD_BYTES_MAX {
                return Err(Refusal::LongMethod);
            }
            match bytes.get(self.at) {
                None => return Ok(Progress::More),
                Some(b' ') if self.at > start => {}
                Some(_) => return Err(Refusal::BadMethod),
            }
            self.name = Span::new(start, self.at);
            self.method = Method::of(self.name.of(bytes));
            self.at += 1;
            self.target = Span::new(self.at, self.at);
            self.stage = Stage::Target;
        }
        if self.stage == Stage::Target {
            let start = self.target.start as usize;
            self.at = scan::target_end(bytes, self.at);
            if self.at - start > limits.uri_bytes_max as usize {
                return Err(Refusal::LongTarget);
            }
            match bytes.get(self.at) {
                None => return Ok(Progress::More),
                Some(b' ') if self.at > start => {}
                Some(b'\r' | b'\n') => return Err(Refusal::BadVersion), // HTTP/0.9 has none
                Some(_) => return Err(Refusal::BadTarget),
            }
            self.target = Span::new(start, self.at);
            self.at += 1;
            self.stage = Stage::Version;
        }
        match read_version(bytes, self.at)? {
            Progress::More => return Ok(Progress::More),
            Progress::Done(version) => self.version = version,
        }
        let end = self.at + VERSION_BYTES;
        match line_ends(bytes, end) {
            Ok(true) => {}
            Ok(false) => return Ok(Progress::More),
            Err(Refusal::BadFieldValue) => return Err(Refusal::BadVersion),
            Err(refusal) => return Err(refusal),
        }
        self.read_form(bytes)?;
        self.fields.restart(end + 2);
        self.stage = Stage::Fields;
        Ok(Progress::Done(()))
    }

    /// Which form the target has, and whether the method may have it.
    fn read_form(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let target = self.target.of(bytes);
        self.path = self.target;
        self.authority = Span::default();
        self.form = match (self.method, target) {
            (Method::Connect, _) => Form::Authority,
            (_, [b'/', ..]) => Form::Origin,
            (Method::Options, b"*") => Form::Asterisk,
            _ => return self.read_absolute(target),
        };
        if self.form == Form::Authority {
            self.authority = self.target;
            self.path = Span::default();
            let port = Authority::parse(target).map_err(|_| Refusal::BadTarget)?.port;
            if port.is_none_or(|port| port == 0) {
                return Err(Refusal::BadTarget); // RFC 9110 section 9.3.6: the port is needed
            }
        }
        Ok(())
    }

    #[cold]
    fn read_absolute(&mut self, target: &[u8]) -> Result<(), Refusal> {
        let scheme_bytes = target.iter().take_while(|byte| **byte != b':').count();
        let (scheme, rest) = target.split_at_checked(scheme_bytes).unwrap_or_default();
        let https = scheme.eq_ignore_ascii_case(b"https");
        if !(https || scheme.eq_ignore_ascii_case(b"http")) || !rest.starts_with(b"://") {
            return Err(Refusal::BadTarget);
        }
        let start = scheme_bytes + 3;
        let authority_bytes =
            target.iter().skip(start).take_while(|byte| **byte != b'/' && **byte != b'?').count();
        let authority = target.get(start..start + authority_bytes).unwrap_or_default();
        let bare_colon = Authority::parse(authority)?.bare_colon;
        let base = self.target.start as usize + start;
        self.authority = Span::new(base, base + authority_bytes - usize::from(bare_colon));
        self.path = Span { start: (base + authority_bytes) as u32, end: self.target.end };
        self.form = Form::Absolute { https };
        Ok(())
    }

    /// What only the whole head can say.
    fn conclude(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let http11 = self.version == Version::Http11;
        self.conclude_host(bytes)?;
        let announced = framing::announced(&self.fields.seen, http11)?;
        let bodiless = matches!(self.method, Method::Connect | Method::Trace);
        self.framing = framing::request(announced, bodiless)?;
        if self.fields.seen.expect != Expect::Nothing {
            self.conclude_expectation(http11)?;
        }
        Ok(())
    }

    /// RFC 9112 section 3.2: one `Host`, well-formed. Of an absolute target and a `Host` a proxy takes the target and
    /// writes the `Host` anew (section 3.2.2); CONNECT's must not differ.
    fn conclude_host(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let index = match self.fields.seen.host {
            Once::At(index) => index as usize,
            Once::Repeated => return Err(Refusal::ManyHosts),
            Once::Absent if self.version == Version::Http11 => return Err(Refusal::NoHost),
            Once::Absent => return Ok(()),
        };
        let Some(field) = self.fields.get_mut(index) else { return Ok(()) };
        let host = Authority::parse(field.value().of(bytes))?;
        if host.bare_colon {
            field.shorten(1);
        }
        if self.authority.is_empty() {
            self.authority = field.value();
            return Ok(());
        }
        let target = Authority::parse(self.authority.of(bytes))?;
        if matches!(self.form, Form::Absolute { .. }) {
            return Ok(());
        }
        let same_port = host.port.is_none() || host.port == target.port;
        if same_port && target.host.eq_ignore_ascii_case(host.host) {
            Ok(())
        } else {
            Err(Refusal::HostDiffers)
        }
    }

    /// RFC 9110 section 10.1.1: of HTTP/1.0, and without a body, the expectation means nothing and ends here.
    #[cold]
    fn conclude_expectation(&mut self, http11: bool) -> Result<(), Refusal> {
        if http11 && self.fields.seen.expect == Expect::Unknown {
            return Err(Refusal::UnknownExpectation);
        }
        if !self.expects_continue() {
            for field in self.fields.iter_mut().filter(|field| field.id() == super::FieldId::Expect) {
                field.end_here();
            }
        }
        Ok(())
    }

    pub fn method(&self) -> Method {
        self.method
    }

    pub fn method_span(&self) -> Span {
        self.name
    }

    /// The whole target as it was sent.
    pub fn target_span(&self) -> Span {
        self.target
    }

    pub fn form(&self) -> Form {
        self.form
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// The target's authority, else `Host`: with its port if it has one, in the sender's case. Empty only for an
    /// HTTP/1.0 request without either.
    pub fn authority_span(&self) -> Span {
        self.authority
    }

    /// Path and query as sent, without scheme and authority; empty for CONNECT.
    ///
    /// An absolute target without a path has the path `/`, or `*` when the method is OPTIONS (RFC 9112 section 3.2.4).
    pub fn path<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match self.path.of(bytes) {
            [] if self.form == Form::Authority => Cow::Borrowed(b""),
            [] if self.method == Method::Options => Cow::Borrowed(b"*"),
            [] => Cow::Borrowed(b"/"),
            query @ [b'?', ..] => Cow::Owned([b"/", query].concat()),
            path => Cow::Borrowed(path),
        }
    }

    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    pub fn framing(&self) -> Framing {
        self.framing
    }

    pub fn announce(&self) -> Announce {
        self.framing.into()
    }

    /// The sender takes another response on this connection (RFC 9112 section 9.3). False for an HTTP/1.0 request in
    /// absolute form: to a proxy such a connection may not persist.
    pub fn keeps_alive(&self) -> bool {
        let http11 = self.version == Version::Http11;
        let proxied = matches!(self.form, Form::Absolute { .. });
        self.fields.seen.persists(http11) && (http11 || !proxied)
    }

    /// The sender waits for 100 (or a final status) before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.fields.seen.expect == Expect::Continue
            && self.version == Version::Http11
            && !self.framing.is_empty()
    }

    /// `TE: trailers`.
    pub fn takes_trailers(&self) -> bool {
        self.fields.seen.te_trailers
    }

    /// The `Upgrade` field of a request that asks for another protocol properly: HTTP/1.1, `Connection: upgrade`, the
    /// field once, no body, not CONNECT. In any other case an `Upgrade` is not for us and ends here.
    pub fn upgrade(&self) -> Option<&Field> {
        let asks = self.version == Version::Http11
            && self.fields.seen.upgrades()
            && self.method != Method::Connect
            && self.framing.is_empty();
        if !asks {
            return None;
        }
        self.fields.get(self.fields.seen.upgrade.index()?).filter(|field| !field.value().is_empty())
    }

    /// What the response's framing has to know when this request is sent on; `upgrade` if the upgrade is sent too.
    pub fn asked(&self, upgrade: bool) -> Asked {
        Asked { head: self.method == Method::Head, connect: self.method == Method::Connect, upgrade }
    }
}

pub(super) const VERSION_BYTES: usize = 8;

/// `HTTP/1.0` or `HTTP/1.1` at `at`. Bytes are judged as they come, so the verdict does not wait for the whole word.
#[inline]
pub(super) fn read_version(bytes: &[u8], at: usize) -> Result<Progress<Version>, Refusal> {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest.first_chunk::<VERSION_BYTES>() {
        Some(b"HTTP/1.1") => Ok(Progress::Done(Version::Http11)),
        Some(b"HTTP/1.0") => Ok(Progress::Done(Version::Http10)),
        _ => read_odd_version(rest),
    }
}

#[cold]
fn read_odd_version(rest: &[u8]) -> Result<Progress<Version>, Refusal> {
    for (place, byte) in rest.iter().take(VERSION_BYTES).enumerate() {
        let fits = match (place, b"HTTP/".get(place)) {
            (_, Some(expected)) => byte == expected,
            (6, _) => *byte == b'.',
            _ => byte.is_ascii_digit(),
        };
        if !fits {
            return Err(Refusal::BadVersion);
        }
    }
    if rest.len() < VERSION_BYTES { Ok(Progress::More) } else { Err(Refusal::UnknownVersion) }
}

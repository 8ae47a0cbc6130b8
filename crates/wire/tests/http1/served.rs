//! A server and a client around the codec, fed in pieces. What they saw is told in one line, so that two runs compare.
//!
//! `METHOD target authority =body +trailer: value` for each request that passed, `| refused LABEL` if one was refused,
//! `| more` if the bytes ended within a message.

use std::fmt::Write;

use weft_wire::{
    Progress,
    http1::{
        Asked, BODY_END, Body, CHUNK_END, ChunkHead, ClientTurn, Edit, Fields, Framing, HeadWriter, Hop,
        Limits, Method, Part, Refusal, RequestHead, ResponseHead, write_trailers,
    },
};

pub const LIMITS: Limits = Limits::DEFAULT;

/// What went in comes out of this piece by piece.
pub struct Feed<'a> {
    bytes: &'a [u8],
    /// Places before which a piece ends, rising.
    cuts: &'a [usize],
    at: usize,
    fed: usize,
}

impl<'a> Feed<'a> {
    pub fn new(bytes: &'a [u8], cuts: &'a [usize]) -> Feed<'a> {
        Feed { bytes, cuts, at: 0, fed: 0 }
    }

    fn seen(&self) -> &'a [u8] {
        &self.bytes[self.at..self.fed]
    }

    /// False at the end.
    fn more(&mut self) -> bool {
        while let [cut, rest @ ..] = self.cuts {
            self.cuts = rest;
            if *cut > self.fed && *cut < self.bytes.len() {
                self.fed = *cut;
                return true;
            }
        }
        let more = self.fed < self.bytes.len();
        self.fed = self.bytes.len();
        more
    }
}

/// What passed, as a sentence and as the bytes that were sent on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub line: String,
    /// Each message that passed whole, as it was sent on.
    pub messages: Vec<Vec<u8>>,
    /// The last of them opened a tunnel.
    pub tunnel: bool,
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Why a message did not pass.
enum Stop {
    Refused(Refusal),
    /// The bytes ended.
    More,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl Told {
    fn stopped(&mut self, stop: Stop) {
        if !self.line.is_empty() {
            self.line.push_str(" | ");
        }
        match stop {
            Stop::Refused(refusal) => self.line += &format!("refused {}", refusal.label()),
            Stop::More => self.line += "more",
        }
    }
}

/// Serves all requests in `bytes`.
pub fn serve(bytes: &[u8], cuts: &[usize]) -> Told {
    let mut feed = Feed::new(bytes, cuts);
    let mut told = Told::default();
    let (mut head, mut body) = (RequestHead::default(), Body::default());
    loop {
        if feed.seen().is_empty() && !feed.more() {
            return told;
        }
        head.restart();
        let used = loop {
            match head.read(feed.seen(), &LIMITS) {
                Ok(Progress::Done(used)) => break used,
                Ok(Progress::More) if feed.more() => {}
                Ok(Progress::More) => {
                    told.stopped(Stop::More);
                    return told;
                }
                Err(refusal) => {
                    told.stopped(refusal.into());
                    return told;
                }
            }
        };
        let mut message = Vec::new();
        send_on(&head, feed.seen(), &mut message);
        if !told.line.is_empty() {
            told.line.push_str(" | ");
        }
        let seen = feed.seen();
        let named = [head.method_span().of(seen), &head.path(seen), head.authority_span().of(seen)];
        told.line += &named.map(text).join(" ");
        if head.expects_continue() {
            told.line.push_str(" expects");
        }
        feed.at += used;
        if head.method() == Method::Connect {
            told.messages.push(message);
            write!(told.line, " | tunnel {}", bytes.len() - feed.at).unwrap();
            return told;
        }
        body.restart(head.framing());
        if let Err(stop) = carry(&mut feed, &mut body, head.framing(), &mut message, &mut told) {
            told.stopped(stop);
            return told;
        }
        told.messages.push(message);
        if !head.keeps_alive() {
            told.line.push_str(" closes");
            return told;
        }
    }
}

fn send_on(head: &RequestHead, bytes: &[u8], out: &mut Vec<u8>) {
    let target = match head.method() {
        Method::Connect => head.target_span().of(bytes).into(),
        _ => head.path(bytes),
    };
    let (method, authority) = (head.method_span().of(bytes), head.authority_span().of(bytes));
    let mut writer = HeadWriter::request(out, method, &target, authority).unwrap();
    writer.copy(head.fields(), bytes, head.announce(), |_| Edit::Keep).unwrap();
    writer.hop(Hop { trailers: head.takes_trailers(), ..Hop::default() }).unwrap();
    writer.finish();
}

/// Carries the body over; `told` gets its data and trailers.
fn carry(
    feed: &mut Feed<'_>,
    body: &mut Body,
    framing: Framing,
    out: &mut Vec<u8>,
    told: &mut Told,
) -> Result<(), Stop> {
    let mut data = Vec::new();
    let end = loop {
        let seen = feed.seen();
        match body.next(seen, &LIMITS) {
            Ok(Part::Data(range)) => {
                assert!(!range.is_empty() && range.end <= seen.len());
                data.extend_from_slice(&seen[range.clone()]);
                if framing != Framing::Chunked {
                    out.extend_from_slice(&seen[range.clone()]);
                } else if let Some(head) = ChunkHead::new(range.len()) {
                    out.extend_from_slice(head.as_bytes());
                    out.extend_from_slice(&seen[range.clone()]);
                    out.extend_from_slice(CHUNK_END);
                }
                feed.at += range.end;
            }
            Ok(Part::More(used)) => {
                feed.at += used;
                let again = used > 0 && used < seen.len();
                if !again && !feed.more() {
                    break body.close().map(|()| feed.seen()).map_err(|_| Stop::More);
                }
            }
            Ok(Part::End(used)) => {
                feed.at += used;
                break Ok(seen);
            }
            Err(refusal) => break Err(refusal.into()),
        }
    };
    if !data.is_empty() {
        told.line += &format!(" ={}", text(&data));
    }
    let seen = end?;
    if framing == Framing::Chunked {
        finish_chunked(body.trailers(), seen, out, told);
    }
    Ok(())
}

fn finish_chunked(trailers: &Fields, seen: &[u8], out: &mut Vec<u8>, told: &mut Told) {
    for field in trailers.iter().filter(|field| !field.is_hop_by_hop()) {
        told.line += &format!(" +{}: {}", text(field.name().of(seen)), text(field.value().of(seen)));
    }
    if trailers.is_empty() {
        out.extend_from_slice(BODY_END);
    } else {
        write_trailers(out, trailers, seen, |_| true);
    }
}

/// Reads the responses to what was asked until the final one ended. The line ends with ` reuse` if the connection may
/// carry another request, and with ` tunnel N` if it became one.
pub fn receive(bytes: &[u8], asked: Asked, cuts: &[usize]) -> Told {
    let mut feed = Feed::new(bytes, cuts);
    let mut told = Told::default();
    let (mut head, mut body) = (ResponseHead::default(), Body::default());
    let mut turn = ClientTurn::new(asked, &LIMITS);
    turn.request_ended();
    loop {
        head.restart();
        let read = loop {
            match head.read(feed.seen(), turn.asked(), &LIMITS) {
                Ok(Progress::Done(used)) => break turn.head(&head).map(|()| used).map_err(Stop::from),
                Ok(Progress::More) if feed.more() => {}
                Ok(Progress::More) => break Err(Stop::More),
                Err(refusal) => break Err(refusal.into()),
            }
        };
        let used = match read {
            Ok(used) => used,
            Err(stop) => {
                told.stopped(stop);
                return told;
            }
        };
        let seen = feed.seen();
        let mut message = Vec::new();
        let mut writer =
            HeadWriter::response(&mut message, head.status(), head.reason_span().of(seen)).unwrap();
        writer.copy(head.fields(), seen, head.announce(), |_| Edit::Keep).unwrap();
        let upgrade = head.upgrade().filter(|_| head.status() == 101).map(|field| field.value().of(seen));
        writer.hop(Hop { upgrade, ..Hop::default() }).unwrap();
        writer.finish();
        if !told.line.is_empty() {
            told.line.push_str(" | ");
        }
        write!(told.line, "{}", head.status()).unwrap();
        feed.at += used;
        if head.is_interim() {
            told.messages.push(message);
            continue;
        }
        if head.framing() == Framing::Tunnel {
            told.messages.push(message);
            told.tunnel = true;
            write!(told.line, " tunnel {}", bytes.len() - feed.at).unwrap();
            return told;
        }
        body.restart(head.framing());
        if let Err(stop) = carry(&mut feed, &mut body, head.framing(), &mut message, &mut told) {
            told.stopped(stop);
            return told;
        }
        told.messages.push(message);
        turn.response_ended();
        if turn.may_reuse(bytes.len() - feed.at) {
            told.line.push_str(" reuse");
        }
        return told;
    }
}

/// The verdict of the bytes in one piece, checked against every split in two and against single bytes. Of long inputs
/// not every split is tried.
pub fn however_cut(bytes: &[u8], run: impl Fn(&[u8], &[usize]) -> Told) -> Told {
    let whole = run(bytes, &[]);
    let singles: Vec<usize> = (1..bytes.len()).collect();
    let told = run(bytes, &singles);
    assert_eq!(told.line, whole.line, "byte by byte: {}", text(&bytes[..bytes.len().min(300)]));
    let few = bytes.len() > 2000;
    for cut in 1..bytes.len() {
        if few && cut > 100 && cut + 100 < bytes.len() && cut % 4999 != 0 {
            continue;
        }
        let told = run(bytes, &[cut]);
        assert_eq!(told.line, whole.line, "cut at {cut}: {}", text(&bytes[..bytes.len().min(300)]));
    }
    whole
}

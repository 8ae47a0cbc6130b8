//! How origins read HTTP/1.1 that is not quite HTTP/1.1. Bytes that no strict reader takes are ambiguous if two of these
//! read other requests in them: one of the two is not the reading of the proxy that sent them.

use crate::strict::{Request, show};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    /// Digits only.
    Strict,
    /// The digits it begins with, as `strtol` does, after spaces and a sign; what is too large is the largest.
    Prefix,
    /// The same in 64 bits that overflow.
    Wrapped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Both {
    Refused,
    Coding,
    Length,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Refused,
    First,
    Last,
}

/// What one kind of origin does with what the RFC forbids.
#[derive(Debug, Clone, Copy)]
struct Model {
    name: &'static str,
    /// LF alone ends a line.
    bare_lf: bool,
    /// CR alone ends a line.
    bare_cr: bool,
    /// A line that begins with a space goes on with the one before; else it is a line of its own, or refused.
    folds: bool,
    /// Spaces before the colon are taken off; else the name has them.
    trims_names: bool,
    /// NUL ends what it is in.
    nul_ends: bool,
    number: Number,
    both: Both,
    lengths: Which,
    hosts: Which,
    /// `chunked` anywhere in the value; else as the last word of it.
    contains_chunked: bool,
}

const STRICT: Model = Model {
    name: "strict",
    bare_lf: false,
    bare_cr: false,
    folds: false,
    trims_names: false,
    nul_ends: false,
    number: Number::Strict,
    both: Both::Refused,
    lengths: Which::Refused,
    hosts: Which::Refused,
    contains_chunked: false,
};

const LENIENT: Model = Model {
    name: "lenient",
    bare_lf: true,
    folds: true,
    trims_names: true,
    number: Number::Prefix,
    both: Both::Coding,
    lengths: Which::First,
    hosts: Which::First,
    contains_chunked: true,
    ..STRICT
};

const MODELS: &[Model] = &[
    STRICT,
    LENIENT,
    Model { name: "lenient, last of two", lengths: Which::Last, hosts: Which::Last, ..LENIENT },
    Model { name: "length before coding", both: Both::Length, contains_chunked: false, ..LENIENT },
    Model { name: "C strings", nul_ends: true, number: Number::Wrapped, ..LENIENT },
    Model { name: "CR ends lines", bare_cr: true, ..LENIENT },
    Model {
        name: "lines by CR LF only, names as sent",
        bare_lf: false,
        trims_names: false,
        folds: false,
        ..LENIENT
    },
    Model { name: "strict numbers", number: Number::Strict, ..LENIENT },
];

/// Which two models read other requests in these bytes, if any do.
pub fn differ(bytes: &[u8]) -> Option<String> {
    let readings: Vec<Reading> = MODELS.iter().map(|model| model.read_all(bytes)).collect();
    // RFC 9112, 3.2: a request without Host must be refused; whoever takes it guesses.
    if readings.iter().any(|reading| reading.requests.iter().any(|request| request.all("host").is_empty())) {
        return Some("a request without Host".to_owned());
    }
    for (one, first) in readings.iter().enumerate() {
        for (other, second) in readings.iter().enumerate().skip(one + 1) {
            if !first.agrees(second) {
                return Some(format!(
                    "\"{}\" reads {}, \"{}\" reads {}",
                    MODELS[one].name,
                    first.text(),
                    MODELS[other].name,
                    second.text()
                ));
            }
        }
    }
    None
}

#[derive(Debug, Default)]
struct Reading {
    requests: Vec<Request>,
    /// It would answer 400 and close: nothing behind this point is read at all.
    refused: bool,
}

impl Reading {
    fn agrees(&self, other: &Reading) -> bool {
        let (short, long) =
            if self.requests.len() < other.requests.len() { (self, other) } else { (other, self) };
        let same = |(one, other): (&Request, &Request)| {
            (&one.method, &one.target, &one.body, &one.headers)
                == (&other.method, &other.target, &other.body, &other.headers)
        };
        short.requests.iter().zip(&long.requests).all(same)
            && (short.requests.len() == long.requests.len() || short.refused)
    }

    fn text(&self) -> String {
        let all: Vec<String> = self
            .requests
            .iter()
            .map(|one| format!("{} {} {:?} {:?}", one.method, one.target, one.headers, show(&one.body)))
            .collect();
        format!("{all:?}{}", if self.refused { " and refuses" } else { "" })
    }
}

/// Why a reading ended.
enum Stop {
    More,
    Refused,
}

impl Model {
    fn read_all(&self, bytes: &[u8]) -> Reading {
        let mut reading = Reading::default();
        let mut at = 0;
        while at < bytes.len() {
            match self.read(bytes, &mut at) {
                Ok(request) => reading.requests.push(request),
                Err(stop) => {
                    reading.refused = matches!(stop, Stop::Refused);
                    break;
                }
            }
        }
        reading
    }

    fn read(&self, bytes: &[u8], at: &mut usize) -> Result<Request, Stop> {
        let line = self.line(bytes, at)?;
        let words: Vec<&[u8]> =
            line.split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty()).collect();
        let [method, target, version] = words[..] else { return Err(Stop::Refused) };
        if !version.starts_with(b"HTTP/1.") {
            return Err(Stop::Refused);
        }
        let headers = self.fields(bytes, at)?;
        let (method, target) = (show(method), show(target));
        let mut request = Request { method, target, headers, ..Request::default() };
        let hosts = self.choose(self.hosts, &request.all("host"))?.map(str::to_owned);
        let length = self.choose(self.lengths, &request.all("content-length"))?;
        let length = length.map(|text| self.number(text.as_bytes(), 10).ok_or(Stop::Refused)).transpose()?;
        let coding = request.all("transfer-encoding").join(",").to_ascii_lowercase();
        let last = coding.rsplit(',').next().unwrap_or_default().trim();
        let chunked = if self.contains_chunked { coding.contains("chunked") } else { last == "chunked" };
        let chunked = match (chunked, length.is_some(), self.both) {
            (true, true, Both::Refused) => return Err(Stop::Refused),
            (true, true, Both::Length) => false,
            _ => chunked,
        };
        if !chunked && !coding.is_empty() && self.both == Both::Refused {
            return Err(Stop::Refused);
        }
        if chunked {
            self.chunks(bytes, at, &mut request.body)?;
        } else if let Some(length) = length {
            let end = at.checked_add(length).ok_or(Stop::More)?;
            request.body = bytes.get(*at..end).ok_or(Stop::More)?.to_vec();
            *at = end;
        }
        // How a message is framed was read already; here it is what the message says.
        request
            .headers
            .retain(|(name, _)| !["host", "content-length", "transfer-encoding"].contains(&name.as_str()));
        request.headers.extend(hosts.map(|host| ("host".to_owned(), host)));
        Ok(request)
    }

    fn choose<'a>(&self, which: Which, values: &[&'a str]) -> Result<Option<&'a str>, Stop> {
        match (which, values) {
            (_, []) => Ok(None),
            (_, [one]) => Ok(Some(one)),
            (Which::Refused, _) => Err(Stop::Refused),
            (Which::First, [first, ..]) => Ok(Some(first)),
            (Which::Last, [.., last]) => Ok(Some(last)),
        }
    }

    fn chunks(&self, bytes: &[u8], at: &mut usize, body: &mut Vec<u8>) -> Result<(), Stop> {
        loop {
            let line = self.line(bytes, at)?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let size = self.number(size.trim_ascii_end(), 16).ok_or(Stop::Refused)?;
            if size == 0 {
                return self.fields(bytes, at).map(drop);
            }
            let end = at.checked_add(size).ok_or(Stop::More)?;
            body.extend_from_slice(bytes.get(*at..end).ok_or(Stop::More)?);
            *at = end;
            if !self.line(bytes, at)?.is_empty() {
                return Err(Stop::Refused);
            }
        }
    }

    fn number(&self, text: &[u8], radix: u32) -> Option<usize> {
        if self.number == Number::Strict {
            let digits = !text.is_empty() && text.iter().all(|byte| char::from(*byte).is_digit(radix));
            return usize::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok().filter(|_| digits);
        }
        let text = text.trim_ascii_start();
        let text = text.strip_prefix(b"+").unwrap_or(text);
        let text = if radix == 16 { text.strip_prefix(b"0x").unwrap_or(text) } else { text };
        let mut number: usize = 0;
        for digit in text.iter().map_while(|byte| char::from(*byte).to_digit(radix)) {
            let (radix, digit) = (radix as usize, digit as usize);
            number = match self.number {
                Number::Wrapped => number.wrapping_mul(radix).wrapping_add(digit),
                _ => number.saturating_mul(radix).saturating_add(digit),
            };
        }
        Some(number)
    }

    fn fields(&self, bytes: &[u8], at: &mut usize) -> Result<Vec<(String, String)>, Stop> {
        let mut fields: Vec<(String, String)> = Vec::new();
        loop {
            let line = self.line(bytes, at)?;
            if line.is_empty() {
                return Ok(fields);
            }
            if line.starts_with(b" ") || line.starts_with(b"\t") {
                match fields.last_mut().filter(|_| self.folds) {
                    Some((_, value)) => {
                        *value = format!("{value} {}", show(line.trim_ascii())).trim().to_owned()
                    }
                    None => return Err(Stop::Refused),
                }
                continue;
            }
            let colon = line.iter().position(|byte| *byte == b':').ok_or(Stop::Refused)?;
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            let name = if self.trims_names { name.trim_ascii_end() } else { name };
            fields.push((show(name).to_ascii_lowercase(), show(value.trim_ascii())));
        }
    }

    /// A line without its end.
    fn line<'a>(&self, bytes: &'a [u8], at: &mut usize) -> Result<&'a [u8], Stop> {
        let rest = &bytes[*at..];
        let strict = !self.bare_lf && self.number == Number::Strict;
        let mut end = 0;
        let (length, used) = loop {
            match rest.get(end..).unwrap_or_default() {
                [b'\r', b'\n', ..] => break (end, end + 2),
                [b'\r', _, ..] if self.bare_cr => break (end, end + 1),
                [b'\n', ..] if self.bare_lf => break (end, end + 1),
                [] => return Err(Stop::More),
                [b'\n' | 0, ..] | [b'\r', _, ..] if strict => return Err(Stop::Refused),
                _ => end += 1,
            }
        };
        *at += used;
        let line = &rest[..length];
        let end = line.iter().position(|byte| self.nul_ends && *byte == 0).unwrap_or(line.len());
        Ok(&line[..end])
    }
}

#[test]
fn readers_agree_on_what_is_clear_and_not_on_what_is_not() {
    for clear in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        // Some read it and the others refuse it.
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        // Odd, and read by all in the same way.
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    ] {
        assert_eq!(differ(clear.as_bytes()), None, "{clear:?}");
    }
    for unclear in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smug HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551619\r\n\r\nabc",
        "GET / HTTP/1.1\r\nHost: a\0.b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rSmug: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ] {
        assert!(differ(unclear.as_bytes()).is_some(), "{unclear:?}");
    }
}

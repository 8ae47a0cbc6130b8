//! Compiled comparisons of text and of headers, as Envoy's StringMatcher and HeaderMatcher mean them.

use std::sync::Arc;

use http::HeaderName;
use regex::Regex;

/// One comparison of a text. Letters are ASCII-folded where `ignore_case` is set.
#[derive(Debug, Clone)]
pub enum StringMatch {
    Exact {
        value: Arc<str>,
        ignore_case: bool,
    },
    Prefix {
        value: Arc<str>,
        ignore_case: bool,
    },
    Suffix {
        value: Arc<str>,
        ignore_case: bool,
    },
    Contains {
        value: Arc<str>,
        ignore_case: bool,
    },
    /// Anchored at both ends, as Envoy's full match.
    Regex(Regex),
}

impl PartialEq for StringMatch {
    fn eq(&self, other: &StringMatch) -> bool {
        use StringMatch::{Contains, Exact, Prefix, Regex, Suffix};
        match (self, other) {
            (Exact { value: a, ignore_case: x }, Exact { value: b, ignore_case: y })
            | (Prefix { value: a, ignore_case: x }, Prefix { value: b, ignore_case: y })
            | (Suffix { value: a, ignore_case: x }, Suffix { value: b, ignore_case: y })
            | (Contains { value: a, ignore_case: x }, Contains { value: b, ignore_case: y }) => {
                a == b && x == y
            }
            (Regex(a), Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

/// A header as seen in a request: the pseudo headers are fields of the head, not of the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderKey {
    Method,
    Authority,
    Path,
    Scheme,
    Protocol,
    Name(HeaderName),
}

#[derive(Debug, Clone)]
pub struct HeaderMatch {
    pub key: HeaderKey,
    pub test: HeaderTest,
    /// The verdict is turned round (`invert_match`).
    pub invert: bool,
    /// A missing header is compared as if it were empty.
    pub missing_as_empty: bool,
}

#[derive(Debug, Clone)]
pub enum HeaderTest {
    /// The header is there (`true`) or is not there (`false`).
    Present(bool),
    Text(StringMatch),
    /// A whole number in start..end.
    Range {
        start: i64,
        end: i64,
    },
}

#[derive(Debug, Clone)]
pub struct QueryMatch {
    pub name: Arc<str>,
    /// None: present is enough.
    pub value: Option<StringMatch>,
}

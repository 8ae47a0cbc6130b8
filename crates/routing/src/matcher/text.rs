//! Comparisons of one text, one header, one query parameter.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::HeadView;
use crate::types::{HeaderMatch, HeaderTest, QueryMatch, StringMatch};

impl StringMatch {
    /// What the configuration wrote.
    pub(crate) fn text(&self) -> &str {
        match self {
            StringMatch::Exact { value, .. }
            | StringMatch::Prefix { value, .. }
            | StringMatch::Suffix { value, .. }
            | StringMatch::Contains { value, .. } => value,
            StringMatch::Regex(regex) => regex.as_str(),
        }
    }

    pub fn matches(&self, text: &str) -> bool {
        match self {
            StringMatch::Exact { value, ignore_case: false } => **value == *text,
            StringMatch::Exact { value, ignore_case: true } => value.eq_ignore_ascii_case(text),
            StringMatch::Prefix { value, ignore_case } => starts_with(text, value, *ignore_case),
            StringMatch::Suffix { value, ignore_case: false } => text.ends_with(&**value),
            StringMatch::Suffix { value, ignore_case: true } => text
                .len()
                .checked_sub(value.len())
                .and_then(|start| text.as_bytes().get(start..))
                .is_some_and(|end| end.eq_ignore_ascii_case(value.as_bytes())),
            StringMatch::Contains { value, ignore_case: false } => text.contains(&**value),
            StringMatch::Contains { value, ignore_case: true } => {
                value.is_empty()
                    || text
                        .as_bytes()
                        .windows(value.len())
                        .any(|window| window.eq_ignore_ascii_case(value.as_bytes()))
            }
            StringMatch::Regex(regex) => regex.is_match(text),
        }
    }
}

pub(crate) fn starts_with(text: &str, prefix: &str, ignore_case: bool) -> bool {
    if ignore_case {
        text.as_bytes().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    } else {
        text.starts_with(prefix)
    }
}

impl HeaderTest {
    /// On a value that is there; `invert` is the caller's to apply.
    pub(crate) fn holds(&self, value: &str) -> bool {
        match self {
            HeaderTest::Present(wanted) => *wanted,
            HeaderTest::Text(test) => test.matches(value),
            HeaderTest::Range { start, end } => {
                value.parse::<i64>().is_ok_and(|number| (*start..*end).contains(&number))
            }
        }
    }
}

impl HeaderMatch {
    /// Envoy's meaning for routes: several values are compared joined; a missing header fits
    /// nothing but a test of presence, turned round or not.
    pub fn matches(&self, head: &HeadView<'_>) -> bool {
        let value = match head.header(&self.key) {
            Some(value) => value,
            None if self.missing_as_empty => Cow::Borrowed(""),
            None => {
                return match self.test {
                    HeaderTest::Present(wanted) => wanted == self.invert,
                    _ => false,
                };
            }
        };
        self.test.holds(&value) != self.invert
    }
}

impl QueryMatch {
    pub fn matches(&self, query: Option<&str>) -> bool {
        // The first of several counts, as in Envoy.
        let found = query.unwrap_or_default().split('&').find_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name) == *self.name).then_some(value)
        });
        match (found, &self.value) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(value), Some(test)) => test.matches(&decoded(value)),
        }
    }
}

fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

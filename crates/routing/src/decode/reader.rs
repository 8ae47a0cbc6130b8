//! Where the reading is (a path) and what was wrong so far.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::google::protobuf::{Any, Duration as PbDuration};
use prost::Message;
use regex::{Regex, RegexBuilder};

/// Envoy's own limit on names in configuration is lower; patterns beyond it are mistakes.
const REGEX_CHARS_MAX: usize = 1024;
/// Compiled size of one pattern, bytes.
const REGEX_BYTES_MAX: usize = 256 << 10;
/// Patterns in one resource.
const REGEXES_MAX: u32 = 4096;
/// A NACK's text must stay readable and small.
const PROBLEMS_MAX: usize = 64;
/// 10,000 years, the limit of protobuf.
const DURATION_SECONDS_MAX: i64 = 315_576_000_000;

pub(super) struct Reader {
    pub resource: Arc<str>,
    path: String,
    problems: Vec<(String, String)>,
    not_done: Vec<(String, &'static str)>,
    regexes_left: u32,
}

impl Reader {
    pub fn new(resource: &str) -> Reader {
        Reader {
            resource: resource.into(),
            path: String::new(),
            problems: Vec::new(),
            not_done: Vec::new(),
            regexes_left: REGEXES_MAX,
        }
    }

    /// What is set and done in another way: a warning or a problem, as whoever wrote it is.
    pub fn take_not_done(&mut self) -> Vec<(String, &'static str)> {
        std::mem::take(&mut self.not_done)
    }

    pub fn into_problems(self) -> Vec<(String, String)> {
        self.problems
    }

    /// Reads what is at `step` below here.
    pub fn at<T>(&mut self, step: &str, read: impl FnOnce(&mut Reader) -> T) -> T {
        let length = self.path.len();
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(step);
        let value = read(self);
        self.path.truncate(length);
        value
    }

    /// Reads every item; those with problems are left out.
    pub fn list<T, U>(
        &mut self,
        step: &str,
        items: &[T],
        mut read: impl FnMut(&mut Reader, &T) -> Option<U>,
    ) -> Vec<U> {
        items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| self.at(&format!("{step}[{index}]"), |reader| read(reader, item)))
            .collect()
    }

    /// What is at this path is wrong.
    pub fn problem(&mut self, message: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push((self.path.clone(), message.into()));
        }
    }

    pub fn problem_at(&mut self, step: &str, message: impl Into<String>) {
        self.at(step, |reader| reader.problem(message));
    }

    pub fn not_done_at(&mut self, step: &str, why: &'static str) {
        self.at(step, |reader| {
            let path = reader.path.clone();
            reader.not_done.push((path, why));
        });
    }

    /// A message that must be there.
    pub fn required<'a, T>(&mut self, step: &str, value: Option<&'a T>) -> Option<&'a T> {
        if value.is_none() {
            self.problem_at(step, "is required");
        }
        value
    }

    pub fn required_text(&mut self, step: &str, text: &str) -> Option<Arc<str>> {
        if text.is_empty() {
            self.problem_at(step, "is required");
            return None;
        }
        Some(text.into())
    }

    pub fn duration(&mut self, step: &str, duration: Option<&PbDuration>) -> Option<Duration> {
        let duration = duration?;
        let nanos = u32::try_from(duration.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
        let seconds =
            u64::try_from(duration.seconds).ok().filter(|_| duration.seconds <= DURATION_SECONDS_MAX);
        match (seconds, nanos) {
            (Some(seconds), Some(nanos)) => Some(Duration::new(seconds, nanos)),
            _ => {
                self.problem_at(
                    step,
                    format!("is no duration: {} s, {} ns", duration.seconds, duration.nanos),
                );
                None
            }
        }
    }

    /// A duration that zero makes no sense for.
    pub fn positive_duration(&mut self, step: &str, duration: Option<&PbDuration>) -> Option<Duration> {
        let duration = self.duration(step, duration)?;
        if duration.is_zero() {
            self.problem_at(step, "must be more than 0 s");
            return None;
        }
        Some(duration)
    }

    pub fn port(&mut self, step: &str, port: u32) -> Option<u16> {
        let found = u16::try_from(port).ok().filter(|port| *port != 0);
        if found.is_none() {
            self.problem_at(step, format!("is no port from 1 to 65535: {port}"));
        }
        found
    }

    /// An enum's number; unknown ones come from a newer control plane.
    pub fn choice<E: TryFrom<i32>>(&mut self, step: &str, number: i32) -> Option<E> {
        let choice = E::try_from(number).ok();
        if choice.is_none() {
            self.problem_at(step, format!("is {number}, which is not known here"));
        }
        choice
    }

    /// Here stands a pattern; it must fit the whole text.
    pub fn regex(&mut self, pattern: &str) -> Option<Regex> {
        if pattern.is_empty() {
            self.problem("is an empty pattern");
            return None;
        }
        if pattern.chars().count() > REGEX_CHARS_MAX {
            self.problem(format!("is a pattern of more than {REGEX_CHARS_MAX} characters"));
            return None;
        }
        // Alone first: `a)|(b` would be well-formed only inside our brackets.
        let compiled = self.compile(pattern)?;
        drop(compiled);
        self.compile(&format!(r"\A(?:{pattern})\z"))
    }

    /// Here stands a pattern to search and replace.
    pub fn search(&mut self, pattern: &str) -> Option<Regex> {
        if pattern.is_empty() || pattern.chars().count() > REGEX_CHARS_MAX {
            self.problem(format!("is a pattern of none or more than {REGEX_CHARS_MAX} characters"));
            return None;
        }
        self.compile(pattern)
    }

    fn compile(&mut self, pattern: &str) -> Option<Regex> {
        let Some(left) = self.regexes_left.checked_sub(1) else {
            self.problem(format!("is one of more than {REGEXES_MAX} patterns in one resource"));
            return None;
        };
        self.regexes_left = left;
        match RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build() {
            Ok(regex) => Some(regex),
            Err(error) => {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default();
                self.problem(format!("is no pattern that can be used: {last}"));
                None
            }
        }
    }

    /// An Any whose type the scan has already held against the table.
    pub fn any<M: Message + Default>(&mut self, any: &Any) -> Option<M> {
        match M::decode(any.value.as_slice()) {
            Ok(message) => Some(message),
            Err(error) => {
                self.problem(format!("does not decode: {error}"));
                None
            }
        }
    }
}

//! The path of a request in one canonical form, or its refusal.
//!
//! Dot segments are resolved as RFC 3986 says, raw backslashes, NUL, controls and fragments are
//! refused, always. Encoded slashes and `//` follow [`Slashes`]: where a policy or a route looks at
//! paths they must not be able to hide one. What comes out, put in again, comes out the same.

use std::borrow::Cow;

use crate::types::{EscapedSlashes, PathPolicy};

/// What is done with `%2F`, `%5C` and `//`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slashes {
    pub escaped: Escaped,
    pub merge: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escaped {
    #[default]
    Keep,
    Refuse,
    /// Turned into `/` and `\`→`/` before the dot segments are resolved.
    Unescape,
}

impl Slashes {
    /// Where a path policy or a path route applies.
    pub const STRICT: Slashes = Slashes { escaped: Escaped::Refuse, merge: true };
    /// Elsewhere: as sent.
    pub const KEEP: Slashes = Slashes { escaped: Escaped::Keep, merge: false };

    /// As a listener says.
    pub fn of(policy: &PathPolicy) -> Slashes {
        Slashes {
            escaped: match policy.escaped_slashes {
                EscapedSlashes::Keep => Escaped::Keep,
                EscapedSlashes::Refuse => Escaped::Refuse,
                EscapedSlashes::UnescapeAndForward | EscapedSlashes::UnescapeAndRedirect => Escaped::Unescape,
            },
            merge: policy.merge_slashes,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathRefusal {
    #[error("the path does not start with /")]
    Relative,
    #[error("the path holds a backslash")]
    Backslash,
    #[error("the path holds a control character or NUL")]
    Control,
    #[error("the path holds a fragment")]
    Fragment,
    #[error("the path holds an escaped slash or backslash")]
    EscapedSlash,
}

/// Path and query of a request target in origin form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical<'a> {
    pub path: Cow<'a, str>,
    pub query: Option<&'a str>,
}

/// `target` is path and query as received; `*` (of OPTIONS) stays.
pub fn canonical(target: &str, slashes: Slashes) -> Result<Canonical<'_>, PathRefusal> {
    let mut dots = false;
    for byte in target.bytes() {
        match byte {
            b'#' => return Err(PathRefusal::Fragment),
            b'\\' => return Err(PathRefusal::Backslash),
            0..=0x20 | 0x7f => return Err(PathRefusal::Control),
            b'.' | b'%' => dots = true,
            _ => {}
        }
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    if path == "*" {
        return Ok(Canonical { path: Cow::Borrowed(path), query });
    }
    if !path.starts_with('/') {
        return Err(PathRefusal::Relative);
    }
    // The common road: nothing to resolve, nothing to copy.
    let merges = slashes.merge && path.contains("//");
    if !dots && !merges {
        return Ok(Canonical { path: Cow::Borrowed(path), query });
    }
    let path = unescaped(path, slashes.escaped)?;
    let resolved = resolved(&path, slashes.merge);
    let path = if resolved == *path { path } else { Cow::Owned(resolved) };
    Ok(Canonical { path, query })
}

/// Looks at `%00`, `%2F` and `%5C`.
fn unescaped(path: &str, escaped: Escaped) -> Result<Cow<'_, str>, PathRefusal> {
    let mut found = false;
    for (at, _) in path.match_indices('%') {
        match code(path, at) {
            Some(0) => return Err(PathRefusal::Control),
            Some(b'/' | b'\\') if escaped == Escaped::Refuse => return Err(PathRefusal::EscapedSlash),
            Some(b'/' | b'\\') => found = true,
            _ => {}
        }
    }
    if !found || escaped == Escaped::Keep {
        return Ok(Cow::Borrowed(path));
    }
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let skip = match code(rest, at) {
            Some(b'/' | b'\\') => {
                out.push('/');
                3
            }
            _ => {
                out.push('%');
                1
            }
        };
        rest = &after[skip..];
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// The byte that `%xx` at `at` stands for.
fn code(path: &str, at: usize) -> Option<u8> {
    let bytes = path.as_bytes();
    let digit = |index: usize| bytes.get(index).and_then(|byte| char::from(*byte).to_digit(16));
    u8::try_from(digit(at + 1)? * 16 + digit(at + 2)?).ok()
}

/// RFC 3986, 5.2.4; `%2e` is a dot. With `merge`, empty segments go first.
fn resolved(path: &str, merge: bool) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments = path.strip_prefix('/').unwrap_or(path);
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match dots(segment) {
            Some(1) => {}
            Some(_) => {
                kept.pop();
            }
            None if merge && segment.is_empty() && !last => continue,
            None => {
                kept.push(segment);
                continue;
            }
        }
        // `/a/.` and `/a/b/..` name a folder: the slash stays.
        if last {
            kept.push("");
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() {
        out.push('/');
    }
    out
}

/// 1 for `.`, 2 for `..`, dots written as `%2e` too.
fn dots(segment: &str) -> Option<u8> {
    let mut rest = segment;
    let mut count = 0u8;
    while !rest.is_empty() {
        rest = match rest.strip_prefix('.') {
            Some(rest) => rest,
            None if rest.get(..3).is_some_and(|code| code.eq_ignore_ascii_case("%2e")) => rest.get(3..)?,
            None => return None,
        };
        count += 1;
        if count > 2 {
            return None;
        }
    }
    (count > 0).then_some(count)
}

#[cfg(test)]
mod tests;

//! The path of a request in one canonical form, or its refusal.
//!
//! Encoded unreserved bytes are decoded and dot segments resolved as RFC 3986 says, raw backslashes, NUL, controls and fragments are
//! refused, always. Encoded slashes, overlong UTF-8 and `//` follow [`Slashes`]: where a policy or a route looks at
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
    /// And with them overlong UTF-8, which old decoders take for a slash.
    Refuse,
    /// Turned into `/` and `\`→`/` before the dot segments are resolved.
    Unescape,
}

impl Slashes {
    /// Where a path policy or a path route applies.
    pub const STRICT: Slashes = Slashes { escaped: Escaped::Refuse, merge: true };
    /// Elsewhere: slashes as sent.
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
    #[error("the path holds an overlong encoding")]
    Overlong,
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
    // Most dots are within names, as in a gRPC service's.
    let merges = slashes.merge && path.contains("//");
    if !merges && !path.contains("/.") {
        return Ok(Canonical { path, query });
    }
    let resolved = resolved(&path, slashes.merge);
    let path = if resolved == *path { path } else { Cow::Owned(resolved) };
    Ok(Canonical { path, query })
}

/// Decodes the unreserved bytes (RFC 3986, 6.2.2.2), so that `/%61` is `/a` for all who look at it, and looks at `%00`,
/// `%2F` and `%5C`. One round only: `%2561` stays. But where a `%` that stands for nothing becomes an escape by what
/// follows it (`%%36%31`), that one is decoded too: else the next one to look would find another path.
fn unescaped(path: &str, escaped: Escaped) -> Result<Cow<'_, str>, PathRefusal> {
    if !path.contains('%') {
        return Ok(Cow::Borrowed(path));
    }
    let mut out = String::with_capacity(path.len());
    for character in path.chars() {
        out.push(character);
        while let Some(code) = last_code(&out) {
            let stands_for = match code {
                0 => return Err(PathRefusal::Control),
                b'/' | b'\\' if escaped == Escaped::Refuse => return Err(PathRefusal::EscapedSlash),
                0x80.. if escaped == Escaped::Refuse && overlong(&out) => return Err(PathRefusal::Overlong),
                b'/' | b'\\' if escaped == Escaped::Unescape => '/',
                b'-' | b'.' | b'_' | b'~' => char::from(code),
                _ if code.is_ascii_alphanumeric() => char::from(code),
                _ => break,
            };
            out.truncate(out.len() - 3);
            out.push(stands_for);
        }
    }
    Ok(if out == path { Cow::Borrowed(path) } else { Cow::Owned(out) })
}

/// Two escapes at the end that begin a character in more bytes than it needs. UTF-8 knows none such; decoders that take
/// them find a slash or a dot in `%C0%AF` and `%C0%AE`.
fn overlong(path: &str) -> bool {
    let first = path.len().checked_sub(3).and_then(|end| last_code(path.get(..end)?));
    match (first, last_code(path)) {
        (Some(0xc0 | 0xc1), Some(second)) => second < 0xc0,
        (Some(0xe0), Some(second)) => second < 0xa0,
        (Some(0xf0), Some(second)) => second < 0x90,
        _ => false,
    }
}

/// The byte that `%xx` at the end stands for.
fn last_code(path: &str) -> Option<u8> {
    code_at_end(path.as_bytes())
}

fn code_at_end(path: &[u8]) -> Option<u8> {
    let [.., b'%', high, low] = path else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

/// RFC 3986, 5.2.4. With `merge`, empty segments go first.
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

/// The path as an app sees it that cuts the parameters off its segments (`/a;x/..;/b` is `/b` to a servlet); None where
/// there are none. Policies ask for it; what is sent on keeps its parameters.
pub(crate) fn without_parameters(path: &str) -> Option<String> {
    let cut = |segment: &str| {
        let encoded = segment.as_bytes().windows(3).position(|code| code.eq_ignore_ascii_case(b"%3b"));
        let end = segment.find(';').into_iter().chain(encoded).min();
        end.map(|end| segment[..end].to_owned())
    };
    let some = path.contains(';') || path.contains('%') && cut(path).is_some();
    if !some {
        return None;
    }
    let plain: Vec<Cow<'_, str>> =
        path.split('/').map(|segment| cut(segment).map_or(Cow::Borrowed(segment), Cow::Owned)).collect();
    Some(resolved(&plain.join("/"), true))
}

/// The path as an app sees it that decodes every escape, but for those of slashes and NUL; None where nothing changes.
/// Policies ask for it too; what is sent on keeps its escapes, which may matter to the app (RFC 3986 section 2.2).
pub(crate) fn decoded(path: &str) -> Option<String> {
    if !path.contains('%') {
        return None;
    }
    let mut out = Vec::with_capacity(path.len());
    for byte in path.bytes() {
        out.push(byte);
        if let Some(code) = code_at_end(&out)
            && !matches!(code, 0 | b'/' | b'\\')
        {
            out.truncate(out.len() - 3);
            out.push(code);
        }
    }
    let decoded = String::from_utf8_lossy(&out);
    (*decoded != *path).then(|| decoded.into_owned())
}

/// 1 for `.`, 2 for `..`; none is written as `%2e` any more.
fn dots(segment: &str) -> Option<u8> {
    match segment {
        "." => Some(1),
        ".." => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

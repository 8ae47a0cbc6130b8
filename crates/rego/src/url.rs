//! A request's path and query, taken apart as OPA's plugin for Envoy does.

use percent_encoding::percent_decode_str;

/// The path, and the query without its `?`.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.split_once('?').unwrap_or((path, ""))
}

/// The segments of a path. Every slash at its start goes: what follows `//` is a path here and never an
/// authority (CVE-2026-26205).
pub(crate) fn segments(path: &str) -> Result<Vec<String>, String> {
    let decoded = decode(path, false)?;
    Ok(decoded.trim_start_matches('/').split('/').map(str::to_owned).collect())
}

/// Names and values of a query, or of a form, in the order in which they stand.
pub(crate) fn pairs(query: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        if part.contains(';') {
            return Err("a query may not have a semicolon".to_owned());
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        pairs.push((decode(name, true)?, decode(value, true)?));
    }
    Ok(pairs)
}

/// A name in a query as it is meant; what can't be decoded stays as it is.
pub(crate) fn plain(text: &str) -> String {
    decode(text, true).unwrap_or_else(|_| text.to_owned())
}

/// As a name or value of a query, everything but letters, digits and `-._~` as escapes.
pub(crate) fn escaped(text: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(text, KEPT).to_string()
}

fn decode(text: &str, plus: bool) -> Result<String, String> {
    let bytes = text.as_bytes();
    for (index, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
        if !digit(index + 1) || !digit(index + 2) {
            return Err("a % is not followed by two hexadecimal digits".to_owned());
        }
    }
    let spaced;
    let text = if plus && text.contains('+') {
        spaced = text.replace('+', " ");
        &spaced
    } else {
        text
    };
    Ok(percent_decode_str(text).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: &[&str]) {
        assert_eq!(segments(split(path).0).unwrap(), expected, "{path}");
    }

    #[test]
    fn two_slashes_are_no_authority() {
        check("//admin/x", &["admin", "x"]);
        check("///admin//x", &["admin", "", "x"]);
        check("//admin/x?//y", &["admin", "x"]);
        check("/", &[""]);
        check("", &[""]);
        check("/my/test/path?a=1", &["my", "test", "path"]);
        check("/a%2Fb/c%20d/", &["a", "b", "c d", ""]);
        check("/a+b", &["a+b"]);
        // Nor is what looks like a scheme.
        check("http://admin/x", &["http:", "", "admin", "x"]);
    }

    #[test]
    fn broken_escapes_are_refused() {
        assert!(segments("/%").is_err());
        assert!(segments("/%4").is_err());
        assert!(segments("/%zz").is_err());
        assert!(pairs("a=%").is_err());
        assert!(pairs("a=1;b=2").is_err());
    }

    #[test]
    fn a_query_keeps_its_order() {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(
            pairs("a=1&a=2&x=y+z%2B&&flag").unwrap(),
            owned(&[("a", "1"), ("a", "2"), ("x", "y z+"), ("flag", "")])
        );
    }
}

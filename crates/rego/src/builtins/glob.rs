//! `glob.match`: `*` and `?` stop at delimiters, `**` does not; `[a-z]`, `[!a-z]`, `{a,b}`, `\` escapes.

use regorus::Value;

use super::context::{Answer, Context, Fault, text};
use super::pattern::Patterns;

/// Compiled globs by their text and delimiters.
pub(crate) struct Globs(Patterns);

impl Globs {
    pub(crate) fn new() -> Self {
        Self(Patterns::new())
    }
}

pub(super) fn matches(context: &mut Context, arguments: &[Value]) -> Answer {
    let (pattern, subject) = (text(arguments, 0)?, text(arguments, 2)?);
    let delimiters = match arguments.get(1) {
        Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) if items.is_empty() => vec!['.'],
        Some(Value::Array(items)) => items.iter().map(delimiter).collect::<Result<Vec<char>, Fault>>()?,
        _ => return Err(Fault::Undefined),
    };
    let mut key: String = delimiters.iter().collect();
    key.push('\n');
    key.push_str(pattern);
    // A bracket alone is no expression either.
    let regex = || translate(pattern, &delimiters).unwrap_or_else(|| "[".to_owned());
    let compiled = context.globs.0.get(&key, regex)?;
    Ok(Value::Bool(compiled.ok_or(Fault::Undefined)?.is_match(subject)))
}

fn delimiter(item: &Value) -> Result<char, Fault> {
    let Value::String(text) = item else { return Err(Fault::Undefined) };
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(Fault::Undefined),
    }
}

/// The regular expression that a glob means, `None` where it is none.
fn translate(glob: &str, delimiters: &[char]) -> Option<String> {
    let mut other: String = delimiters.iter().map(|one| escaped(*one)).collect();
    other = if other.is_empty() { ".".to_owned() } else { format!("[^{other}]") };
    let mut regex = "(?s)^".to_owned();
    let mut open = 0_u32;
    let mut chars = glob.chars().peekable();
    while let Some(one) = chars.next() {
        match one {
            '*' => {
                let mut stars = 1;
                while chars.next_if_eq(&'*').is_some() {
                    stars += 1;
                }
                regex.push_str(if stars > 1 { ".*" } else { "" });
                if stars == 1 {
                    regex.push_str(&other);
                    regex.push('*');
                }
            }
            '?' => regex.push_str(&other),
            '\\' => regex.push_str(&escaped(chars.next()?)),
            '{' => {
                open += 1;
                regex.push_str("(?:");
            }
            '}' if open > 0 => {
                open -= 1;
                regex.push(')');
            }
            ',' if open > 0 => regex.push('|'),
            '[' => {
                regex.push('[');
                if chars.next_if_eq(&'!').is_some() {
                    regex.push('^');
                }
                let mut empty = true;
                loop {
                    match chars.next()? {
                        ']' if !empty => break,
                        '-' if !empty && chars.peek() != Some(&']') => regex.push('-'),
                        '\\' => regex.push_str(&escaped(chars.next()?)),
                        inner => regex.push_str(&escaped(inner)),
                    }
                    empty = false;
                }
                regex.push(']');
            }
            other => regex.push_str(&escaped(other)),
        }
    }
    if open > 0 {
        return None;
    }
    regex.push('$');
    Some(regex)
}

fn escaped(one: char) -> String {
    // Inside a class `&`, `~` and `-` have meanings of their own.
    if matches!(one, '&' | '~' | '-') {
        format!("\\{one}")
    } else {
        regex::escape(one.encode_utf8(&mut [0; 4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(glob: &str, delimiters: &[char], subject: &str, expected: bool) {
        let regex = regex::Regex::new(&translate(glob, delimiters).unwrap()).unwrap();
        assert_eq!(regex.is_match(subject), expected, "{glob} {delimiters:?} {subject}");
    }

    #[test]
    fn stars_stop_at_delimiters() {
        check("*.github.com", &['.'], "api.github.com", true);
        check("*.github.com", &['.'], "api.cdn.github.com", false);
        check("*hub.com", &['.'], "api.cdn.github.com", false);
        check("*:github:com", &[':'], "api:github:com", true);
        check("api.**.com", &['.'], "api.github.com", true);
        check("api.**.com", &['.'], "api.cdn.github.com", true);
        check("api.**.com", &['.'], "api.github.net", false);
        check("/people*", &['.'], "/people/1/2", true);
        check("/people/*", &['/'], "/people/1/2", false);
        check("**", &['/'], "/a\n/b", true);
    }

    #[test]
    fn classes_alternatives_and_escapes() {
        check("?at", &['.'], "cat", true);
        check("?at", &['.'], "at", false);
        check("[abc]at", &['.'], "bat", true);
        check("[!abc]at", &['.'], "cat", false);
        check("[a-c]at", &['.'], "cat", true);
        check("[!a-c]at", &['.'], "lat", true);
        check("{cat,bat,[fr]at}", &['.'], "rat", true);
        check("{cat,bat,[fr]at}", &['.'], "at", false);
        check(r"\*", &['.'], "*", true);
        check(r"\*", &['.'], "x", false);
        check("a&&b", &[], "a&&b", true);
        assert_eq!(translate("[abc", &[]), None);
        assert_eq!(translate("{a", &[]), None);
    }
}

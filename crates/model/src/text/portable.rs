//! Regular expressions that every proxy reads alike: ours by Rust's `regex`, Envoys by RE2.

use super::{Complaint, complain, quote};

/// What our engine and RE2, which Envoys use, would read differently, or only one of them at all.
pub(super) fn portable(text: &str) -> Result<(), Complaint> {
    let stray = |part: &str, hint: &str| {
        complain(format!("{} has {part}, which not every proxy reads alike", quote(text)), hint)
    };
    if text.is_empty() {
        return complain("is empty", ".* for everything");
    }
    let mut rest = text;
    let mut in_class = false;
    let mut counted = Counted::default();
    while let Some(first) = rest.chars().next() {
        let escaped = rest.strip_prefix('\\').and_then(|after| after.chars().next());
        if !in_class {
            match counted.next(rest) {
                Ok(()) => {}
                Err(TooMuch::Repeated) => {
                    return stray("one repetition right after another", "put the first one in (?: )");
                }
                Err(TooMuch::Times) => {
                    return stray(
                        "more than 1000 repetitions, one within the other counted",
                        "smaller counts, or *",
                    );
                }
            }
        }
        match (first, escaped) {
            ('[', _) if in_class && rest.starts_with("[:") && !is_posix_class(rest) => {
                return stray("an unknown [: :]", "[:alpha:], [:digit:] and their like");
            }
            ('\\', Some(letter @ ('u' | 'U' | '<' | '>'))) => {
                return stray(&format!("\\{letter}"), "write the character itself");
            }
            ('\\', Some('b')) if rest.starts_with("\\b{") => return stray("\\b{", "\\b alone"),
            ('[', _) if in_class && !rest.starts_with("[:") => {
                return stray("a [ within brackets", "\\[ for the character");
            }
            _ if in_class && ["&&", "--", "~~"].iter().any(|operator| rest.starts_with(operator)) => {
                return stray("an operation of sets", "list the characters that are meant");
            }
            ('(', _) if rest.starts_with("(?") => {
                let mut flags =
                    rest[2..].chars().take_while(|letter| letter.is_ascii_alphabetic() || *letter == '-');
                if flags.any(|flag| matches!(flag, 'x' | 'R' | 'u')) {
                    return stray("a flag x, R or u", "i, m, s and U are known everywhere");
                }
            }
            _ => {}
        }
        // The first `]` of a class is a character of it.
        let opening = ["[^]", "[]", "[^", "["].into_iter().find(|start| !in_class && rest.starts_with(start));
        let repeated = repetition(rest).filter(|_| !in_class);
        let taken = match (first, escaped, opening) {
            _ if repeated.is_some() => repeated.map_or(1, |(_, length)| length),
            ('\\', Some(letter), _) => 1 + letter.len_utf8(),
            ('[', _, Some(opening)) => {
                in_class = true;
                opening.len()
            }
            ('[', _, None) if in_class => rest.find(":]").map_or(1, |end| end + 2),
            (']', ..) => {
                in_class = false;
                1
            }
            _ => first.len_utf8(),
        };
        rest = &rest[taken..];
    }
    Ok(())
}

fn is_posix_class(rest: &str) -> bool {
    const NAMES: [&str; 14] = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
        "upper", "word", "xdigit",
    ];
    let name = rest.strip_prefix("[:").and_then(|name| name.split_once(":]")).map(|(name, _)| name);
    name.is_some_and(|name| NAMES.contains(&name.strip_prefix('^').unwrap_or(name)))
}

/// How often RE2 lets an expression repeat, counts within counts multiplied.
const TIMES_MAX: u32 = 1000;

enum TooMuch {
    Repeated,
    Times,
}

/// The repetitions of an expression, outside of classes.
#[derive(Default)]
struct Counted {
    /// How often the last thing is repeated within itself; a group as its most repeated part.
    last: u32,
    /// The most of each open group.
    groups: Vec<u32>,
    /// The last thing was a repetition, and whether its `?` has come.
    after: Option<bool>,
}

impl Counted {
    /// At the beginning of a thing.
    fn next(&mut self, rest: &str) -> Result<(), TooMuch> {
        let times = repetition(rest);
        match (rest.as_bytes().first(), times, self.after) {
            (Some(b'?'), _, Some(false)) => self.after = Some(true),
            (_, Some(_), Some(_)) => return Err(TooMuch::Repeated),
            (_, Some((times, _)), None) => {
                self.last = self.last.max(1).saturating_mul(times);
                if self.last > TIMES_MAX {
                    return Err(TooMuch::Times);
                }
                if let Some(group) = self.groups.last_mut() {
                    *group = self.last.max(*group);
                }
                self.after = Some(false);
            }
            (Some(b'('), ..) => {
                self.groups.push(1);
                (self.last, self.after) = (1, None);
            }
            (Some(b')'), ..) => {
                self.last = self.groups.pop().unwrap_or(1);
                if let Some(outer) = self.groups.last_mut() {
                    *outer = self.last.max(*outer);
                }
                self.after = None;
            }
            _ => (self.last, self.after) = (1, None),
        }
        Ok(())
    }
}

/// The most that a repetition repeats, if one begins here, and its length; without a bound it does not count.
fn repetition(rest: &str) -> Option<(u32, usize)> {
    match rest.as_bytes().first()? {
        b'*' | b'+' | b'?' => Some((1, 1)),
        b'{' => {
            let (inside, _) = rest.strip_prefix('{')?.split_once('}')?;
            let (least, most) = inside.split_once(',').unwrap_or((inside, inside));
            let number = |text: &str| {
                text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().unwrap_or(u32::MAX))
            };
            let least = number(least)?;
            let most: u32 = if most.is_empty() { least } else { number(most)?.max(least) };
            Some((most, inside.len() + 2))
        }
        _ => None,
    }
}

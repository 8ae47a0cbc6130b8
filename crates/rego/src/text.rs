//! What a module's text may look like before anybody parses it.
//!
//! The engine's parser and interpreter go down one frame for each level of a tree, and a number's digits are
//! computed in full. So nesting, runs of operators and the length of numbers are bounded here, on the text.

use crate::problem::Problem;

/// Operators, dots and indices in one expression.
const RUN_MAX: u32 = 200;
/// Brackets within brackets.
const NESTING_MAX: usize = 48;
const DIGITS_MAX: usize = 100;
const EXPONENT_MAX: u32 = 308;

/// The first thing in `text` that is too deep or too large.
pub(crate) fn check(module: &str, text: &str) -> Option<Problem> {
    Reader { module, text: text.as_bytes(), at: 0, line: 1, line_start: 0, runs: vec![0], last: 0 }.read()
}

/// A call's text from its opening bracket: where its last comma stands outside of inner brackets, texts and
/// comments, and where its closing bracket.
pub(crate) fn call(text: &str, open: usize) -> Option<(Option<usize>, usize)> {
    let mut reader = Reader {
        module: "",
        text: text.as_bytes(),
        at: open,
        line: 1,
        line_start: 0,
        runs: Vec::new(),
        last: 0,
    };
    let (mut depth, mut comma, mut latest) = (0, None, None);
    while let Some(&byte) = reader.text.get(reader.at) {
        // A comma before the closing bracket has nothing behind it.
        let nothing = matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'#');
        if !nothing && (depth != 1 || byte != b')') {
            comma = latest.or(comma);
        }
        match byte {
            b'"' => {
                reader.skip_string();
                continue;
            }
            b'`' => {
                reader.skip_raw();
                continue;
            }
            b'#' => {
                reader.skip_line();
                continue;
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some((comma, reader.at));
                }
            }
            b',' if depth == 1 => latest = Some(reader.at),
            _ => {}
        }
        reader.at += 1;
    }
    None
}

struct Reader<'a> {
    module: &'a str,
    text: &'a [u8],
    at: usize,
    line: u32,
    line_start: usize,
    /// Operators so far, one count for each open bracket.
    runs: Vec<u32>,
    /// The last byte that is neither space nor comment.
    last: u8,
}

impl Reader<'_> {
    fn read(&mut self) -> Option<Problem> {
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'\n' => {
                    self.at += 1;
                    self.line += 1;
                    self.line_start = self.at;
                    if !goes_on(self.last) && !goes_on(self.peek()) {
                        self.reset();
                    }
                    continue;
                }
                b'#' => {
                    self.skip_line();
                    continue;
                }
                b' ' | b'\t' | b'\r' => {
                    self.at += 1;
                    continue;
                }
                b'"' => self.skip_string(),
                b'`' => self.skip_raw(),
                b'(' | b'[' | b'{' => {
                    if byte == b'['
                        && let Some(problem) = self.count()
                    {
                        return Some(problem);
                    }
                    self.runs.push(0);
                    if self.runs.len() > NESTING_MAX {
                        return Some(self.problem(format!("brackets nest deeper than {NESTING_MAX}")));
                    }
                    self.at += 1;
                }
                b')' | b']' | b'}' => {
                    if self.runs.len() > 1 {
                        self.runs.pop();
                    }
                    self.at += 1;
                }
                b',' | b';' => {
                    self.reset();
                    self.at += 1;
                }
                b'0'..=b'9' if !in_name(self.last_byte()) => {
                    if let Some(problem) = self.number() {
                        return Some(problem);
                    }
                }
                _ if operator(byte) => {
                    if let Some(problem) = self.count() {
                        return Some(problem);
                    }
                    self.at += 1;
                }
                _ => self.at += 1,
            }
            self.last = byte;
        }
        None
    }

    fn count(&mut self) -> Option<Problem> {
        let run = self.runs.last_mut()?;
        *run += 1;
        (*run > RUN_MAX).then(|| self.problem(format!("an expression has more than {RUN_MAX} operators")))
    }

    fn reset(&mut self) {
        if let Some(run) = self.runs.last_mut() {
            *run = 0;
        }
    }

    fn last_byte(&self) -> u8 {
        self.at.checked_sub(1).and_then(|at| self.text.get(at)).copied().unwrap_or(b' ')
    }

    /// The next byte that is neither space nor in a comment.
    fn peek(&self) -> u8 {
        let mut comment = false;
        for &byte in self.text.get(self.at..).unwrap_or_default() {
            match byte {
                b'\n' => comment = false,
                b'#' => comment = true,
                b' ' | b'\t' | b'\r' => {}
                _ if comment => {}
                _ => return byte,
            }
        }
        0
    }

    fn skip_line(&mut self) {
        while self.text.get(self.at).is_some_and(|byte| *byte != b'\n') {
            self.at += 1;
        }
    }

    fn skip_string(&mut self) {
        self.at += 1;
        while let Some(&byte) = self.text.get(self.at) {
            self.at += if byte == b'\\' { 2 } else { 1 };
            // An unended string is the parser's to refuse.
            if byte == b'"' || byte == b'\n' {
                if byte == b'\n' {
                    self.at -= 1;
                }
                return;
            }
        }
    }

    fn skip_raw(&mut self) {
        self.at += 1;
        while let Some(&byte) = self.text.get(self.at) {
            self.at += 1;
            match byte {
                b'`' => return,
                b'\n' => {
                    self.line += 1;
                    self.line_start = self.at;
                }
                _ => {}
            }
        }
    }

    fn number(&mut self) -> Option<Problem> {
        let start = self.at;
        let mut exponent: Option<u32> = None;
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'0'..=b'9' => {
                    if let Some(value) = exponent.as_mut() {
                        *value = value.saturating_mul(10).saturating_add(u32::from(byte - b'0'));
                    }
                }
                b'e' | b'E' => {
                    exponent = Some(0);
                    if matches!(self.text.get(self.at + 1), Some(b'+' | b'-')) {
                        self.at += 1;
                    }
                }
                b'.' | b'_' => {}
                _ => break,
            }
            self.at += 1;
        }
        if self.at - start > DIGITS_MAX || exponent.is_some_and(|exponent| exponent > EXPONENT_MAX) {
            self.at = start;
            return Some(self.problem(format!(
                "a number has more than {DIGITS_MAX} digits or an exponent above {EXPONENT_MAX}"
            )));
        }
        None
    }

    fn problem(&self, message: String) -> Problem {
        let column = u32::try_from(self.at - self.line_start + 1).unwrap_or(u32::MAX);
        Problem::new(self.module, (self.line, column), message)
            .hint("split it over several rules, or move it into data")
    }
}

fn operator(byte: u8) -> bool {
    matches!(byte, b'+' | b'-' | b'*' | b'/' | b'%' | b'|' | b'&' | b'.' | b'=' | b'<' | b'>' | b'!' | b':')
}

/// Whether an expression goes on across the line's end next to this byte.
fn goes_on(byte: u8) -> bool {
    operator(byte)
}

fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Option<(u32, u32)> {
        check("m", text).map(|problem| (problem.line, problem.column))
    }

    #[test]
    fn ordinary_text_passes() {
        let text =
            "package a\n\n# a comment (((((\nx := [1, 2.5e3, \"((((\", `\n((((`]\ny := a.b.c[_].d + 1\n";
        assert_eq!(place(text), None);
    }

    #[test]
    fn runs_of_operators_end() {
        let chain = |separator: &str| format!("package a\nx := 1{}", format!("{separator}1").repeat(300));
        assert!(place(&chain("+")).is_some());
        assert!(place(&chain(" +\n")).is_some());
        assert!(place(&chain("\n + ")).is_some());
        assert!(place(&format!("package a\nx := a{}", ".b".repeat(300))).is_some());
        assert!(place(&format!("package a\nx := a{}", "[0]".repeat(300))).is_some());
        assert!(place(&format!("package a\nx := {}1", "-".repeat(300))).is_some());
        assert!(place(&format!("package a\nx := 1{}", " + (1)".repeat(300))).is_some());
        // Statements and elements begin anew.
        assert_eq!(place(&format!("package a\n{}", "x := 1 + 1\n".repeat(300))), None);
        assert_eq!(place(&format!("package a\nx := [{}]", "1 + 1, ".repeat(300))), None);
    }

    #[test]
    fn a_calls_brackets_and_commas() {
        assert_eq!(call("f(a, [b, c]) == 1", 1), Some((Some(3), 11)));
        assert_eq!(call("f(\",\", `,)`, {x: \"y\\\",\"})", 1), Some((Some(11), 24)));
        assert_eq!(call("f(a)", 1), Some((None, 3)));
        assert_eq!(call("f(a, b, # c\n)", 1), Some((Some(3), 12)));
        assert_eq!(call("f(a", 1), None);
    }

    #[test]
    fn nesting_and_numbers_end() {
        assert_eq!(place(&format!("package a\nx := {}", "[".repeat(60))), Some((2, 53)));
        assert_eq!(place("package a\nx := 1e1000000000"), Some((2, 6)));
        assert_eq!(place(&format!("package a\nx := {}", "9".repeat(101))), Some((2, 6)));
        assert_eq!(place("package a\nx1000000e9999 := 1"), None);
    }
}

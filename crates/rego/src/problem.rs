//! What is wrong with a policy, said so that its author can mend it: module, line, column, what, what next.

use std::fmt;

/// One mistake in one module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The module's name, or empty where the whole set is meant.
    pub module: String,
    /// From 1; 0 where there is no place to point at.
    pub line: u32,
    /// From 1; 0 where there is no place to point at.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it, where we know.
    pub hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(module: &str, place: (u32, u32), message: impl Into<String>) -> Self {
        Self {
            module: module.to_owned(),
            line: place.0,
            column: place.1,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// From the engine's text, which carries its place as `--> FILE:LINE:COLUMN` and then `error: WHAT`.
    pub(crate) fn from_engine(module: &str, text: &str) -> Self {
        let place = text.split("--> ").nth(1).and_then(|rest| rest.lines().next()).and_then(|line| {
            let mut parts = line.rsplitn(3, ':');
            let column = parts.next()?.trim().parse().ok()?;
            let line = parts.next()?.trim().parse().ok()?;
            Some((parts.next()?, line, column))
        });
        let message = match text.split("error: ").nth(1) {
            Some(message) => message,
            None => text,
        };
        let message = message.trim().lines().next().unwrap_or("the engine gave no reason");
        match place {
            Some((file, line, column)) => Self::new(file, (line, column), message),
            None => Self::new(module, (0, 0), message),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.module.is_empty() {
            write!(out, "{}", self.module)?;
            if self.line > 0 {
                write!(out, ":{}:{}", self.line, self.column)?;
            }
            write!(out, ": ")?;
        }
        write!(out, "{}", self.message)?;
        match &self.hint {
            Some(hint) => write!(out, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

/// Every mistake that was found, never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            write!(out, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_place_is_read_from_its_text() {
        let text = "\n--> a:b.rego:7:12\n  |\n7 | x := \n  |      ^\nerror: expecting expression";
        let problem = Problem::from_engine("m", text);
        assert_eq!(
            (problem.module.as_str(), problem.line, problem.column, problem.message.as_str()),
            ("a:b.rego", 7, 12, "expecting expression")
        );
        assert_eq!(problem.to_string(), "a:b.rego:7:12: expecting expression");
        assert_eq!(
            Problem::from_engine("m", "not a valid rule path").to_string(),
            "m: not a valid rule path"
        );
    }
}

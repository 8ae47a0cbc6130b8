//! What is wrong with one object, said so that its writer can mend it.
//!
//! A [`Problem`] is about one object alone (its shape, its values). What is wrong *between* objects
//! is a [`crate::Finding`]. Both carry a [`Severity`]; only an error keeps an object out.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How bad it is. Ordered: `Error` is the worst and sorts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object is refused.
    Error,
    /// The object is taken, but a part of it has no effect or is risky.
    Warning,
    /// Worth knowing; nothing to do.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        })
    }
}

/// One mistake in one object, with the place where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub severity: Severity,
    /// The file as the user named it; `None` for input of the API.
    pub file: Option<String>,
    /// Line of the field, or of its nearest parent when the field is missing. Counted from 1.
    pub line: Option<u32>,
    /// `HTTPRoute default/be1`; for a document that does not say what it is: `document 2`.
    pub object: String,
    /// `spec.rules[0].backendRefs[1].weight`; empty for the object as a whole.
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
}

impl Problem {
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: ")?,
            (Some(file), None) => write!(f, "{file}: ")?,
            (None, Some(line)) => write!(f, "line {line}: ")?,
            (None, None) => {}
        }
        if self.severity != Severity::Error {
            write!(f, "{}: ", self.severity)?;
        }
        f.write_str(&self.object)?;
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

/// Whether any of these keeps its object out.
#[must_use]
pub fn any_error(problems: &[Problem]) -> bool {
    problems.iter().any(Problem::is_error)
}

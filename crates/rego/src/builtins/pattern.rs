//! `regex.match`, with this worker's own compiled patterns.

use std::collections::HashMap;

use regex::{Regex, RegexBuilder};
use regorus::Value;

use super::context::{Answer, Context, Fault, text};

const PATTERNS_MAX: usize = 256;
const PATTERN_BYTES_MAX: usize = 4096;
/// The engine's own bound for its other `regex.*`.
const COMPILED_BYTES_MAX: usize = 100 * 1024;

/// Compiled patterns by their text.
pub(crate) struct Patterns {
    known: HashMap<String, Option<Regex>, foldhash::fast::RandomState>,
}

impl Patterns {
    pub(crate) fn new() -> Self {
        Self { known: HashMap::default() }
    }

    /// `None` where the text is no pattern. `key` tells patterns apart that come of other texts.
    pub(crate) fn get(&mut self, key: &str, make: impl FnOnce() -> String) -> Result<Option<&Regex>, Fault> {
        if !self.known.contains_key(key) {
            if key.len() > PATTERN_BYTES_MAX {
                return Err(Fault::Limit);
            }
            let built = RegexBuilder::new(&make())
                .size_limit(COMPILED_BYTES_MAX)
                .dfa_size_limit(COMPILED_BYTES_MAX)
                .build();
            let pattern = match built {
                Ok(pattern) => Some(pattern),
                Err(regex::Error::CompiledTooBig(_)) => return Err(Fault::Limit),
                Err(_) => None,
            };
            // A policy that makes patterns of what comes in begins anew now and then.
            if self.known.len() >= PATTERNS_MAX {
                self.known.clear();
            }
            self.known.insert(key.to_owned(), pattern);
        }
        Ok(self.known.get(key).and_then(Option::as_ref))
    }
}

pub(super) fn matches(context: &mut Context, arguments: &[Value]) -> Answer {
    let (pattern, subject) = (text(arguments, 0)?, text(arguments, 1)?);
    let compiled = context.patterns.get(pattern, || pattern.to_owned())?;
    Ok(Value::Bool(compiled.ok_or(Fault::Undefined)?.is_match(subject)))
}

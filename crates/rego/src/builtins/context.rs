//! What the builtins of one worker share: the time of this decision, what it may still build, and caches.

use std::collections::BTreeSet;

use regorus::{Engine, Value};

use super::glob::Globs;
use super::pattern::Patterns;

/// Why a builtin gives no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// As OPA has it: the call is undefined, and the policy goes on.
    Undefined,
    /// The decision ends here.
    Limit,
}

/// What a builtin gives.
pub(crate) type Answer = Result<Value, Fault>;

/// A value's own weight beside its text: the value in its list, and the counts before what it points to.
const NODE: usize = 40;

/// Shared by the builtins of one worker.
pub(crate) struct Context {
    /// The time of this decision.
    pub(crate) now_ns: i64,
    /// Whether `io.jwt.decode_verify` insists on `exp`.
    pub(crate) jwt_without_exp: bool,
    bytes_left: usize,
    /// The builtin that went over a limit.
    pub(crate) over: Option<&'static str>,
    pub(crate) patterns: Patterns,
    pub(crate) globs: Globs,
    second: Engine,
    /// In the order of the second engine's rules.
    asked: Vec<&'static str>,
}

impl Context {
    pub(crate) fn new(called: &BTreeSet<&'static str>, jwt_without_exp: bool) -> Result<Self, String> {
        let (text, asked) = super::asked(called);
        let mut second = Engine::new();
        second.set_strict_builtin_errors(false);
        if !asked.is_empty() {
            second.add_policy("builtins".to_owned(), text).map_err(|error| error.to_string())?;
        }
        Ok(Self {
            now_ns: 0,
            jwt_without_exp,
            bytes_left: 0,
            over: None,
            patterns: Patterns::new(),
            globs: Globs::new(),
            second,
            asked,
        })
    }

    /// Before each decision.
    pub(crate) fn begin(&mut self, now_ns: i64, bytes: usize) {
        self.now_ns = now_ns;
        self.bytes_left = bytes;
        self.over = None;
    }

    /// Of what this decision may still build.
    pub(crate) fn bytes_left(&self) -> usize {
        self.bytes_left
    }

    /// Whether as much as this may be built.
    pub(crate) fn room(&self, bytes: usize) -> Result<(), Fault> {
        if bytes > self.bytes_left { Err(Fault::Limit) } else { Ok(()) }
    }

    /// The engine's own builtin.
    pub(crate) fn ask(&mut self, name: &'static str, arguments: Vec<Value>) -> Answer {
        let index = self.asked.iter().position(|asked| *asked == name).ok_or(Fault::Undefined)?;
        self.second.set_input(Value::from(arguments));
        let answer = self.second.eval_rule(format!("data.weft.f{index}"));
        self.second.set_input(Value::Undefined);
        answer.map_err(|error| match error.downcast_ref::<regorus::LimitError>() {
            Some(_) => Fault::Limit,
            None => Fault::Undefined,
        })
    }

    /// As the engine takes it: what is undefined is a value, what ends the decision an error.
    pub(crate) fn settle(&mut self, name: &'static str, answer: Answer) -> anyhow::Result<Value> {
        let answer = answer.and_then(|value| {
            let mut left = self.bytes_left;
            if !weigh(&value, &mut left) {
                return Err(Fault::Limit);
            }
            self.bytes_left = left;
            Ok(value)
        });
        match answer {
            Ok(value) => Ok(value),
            Err(Fault::Undefined) => Ok(Value::Undefined),
            Err(Fault::Limit) => {
                self.over = Some(name);
                Err(anyhow::anyhow!("{name} went over a limit"))
            }
        }
    }
}

/// Takes a value's weight from `left`; false where that is not enough. What is shared counts each time: that
/// is what walking over it costs.
pub(crate) fn weigh(value: &Value, left: &mut usize) -> bool {
    let own = match value {
        Value::String(text) => NODE + text.len(),
        Value::Number(number) if number.as_i64().is_none() && number.as_u64().is_none() => {
            NODE + number
                .as_big()
                .map_or(0, |big| usize::try_from(big.bits() / 8).unwrap_or(usize::MAX - NODE))
        }
        _ => NODE,
    };
    let Some(rest) = left.checked_sub(own) else { return false };
    *left = rest;
    match value {
        Value::Array(items) => items.iter().all(|item| weigh(item, left)),
        Value::Set(items) => items.iter().all(|item| weigh(item, left)),
        Value::Object(fields) => fields.iter().all(|(key, value)| weigh(key, left) && weigh(value, left)),
        _ => true,
    }
}

/// A builtin's argument as text.
pub(crate) fn text(arguments: &[Value], index: usize) -> Result<&str, Fault> {
    match arguments.get(index) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(Fault::Undefined),
    }
}

/// A list's or set's elements as text.
pub(crate) fn texts(value: Option<&Value>) -> Result<Vec<&str>, Fault> {
    match value {
        Some(Value::Array(items)) => items.iter().map(as_text).collect(),
        Some(Value::Set(items)) => items.iter().map(as_text).collect(),
        _ => Err(Fault::Undefined),
    }
}

fn as_text(item: &Value) -> Result<&str, Fault> {
    match item {
        Value::String(text) => Ok(text),
        _ => Err(Fault::Undefined),
    }
}

/// A builtin's argument as a whole number.
pub(crate) fn integer(arguments: &[Value], index: usize) -> Result<i64, Fault> {
    match arguments.get(index) {
        Some(Value::Number(number)) if number.is_integer() => number.as_i64().ok_or(Fault::Undefined),
        _ => Err(Fault::Undefined),
    }
}

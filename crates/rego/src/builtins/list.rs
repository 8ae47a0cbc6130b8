//! Lists and objects: the builtins that every policy calls, and those that could make a list of any length.

use regorus::Value;

use super::context::{Answer, Context, Fault, integer};

/// What an element of a list of numbers weighs.
const ELEMENT: usize = 40;

pub(super) fn count(_: &mut Context, arguments: &[Value]) -> Answer {
    let count = match arguments.first() {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Set(items)) => items.len(),
        Some(Value::Object(fields)) => fields.len(),
        Some(Value::String(text)) => text.chars().count(),
        _ => return Err(Fault::Undefined),
    };
    Ok(Value::from(count))
}

pub(super) fn concat(context: &mut Context, arguments: &[Value]) -> Answer {
    let (Some(Value::Array(left)), Some(Value::Array(right))) = (arguments.first(), arguments.get(1)) else {
        return Err(Fault::Undefined);
    };
    context.room((left.len() + right.len()).saturating_mul(ELEMENT))?;
    Ok(Value::from(left.iter().chain(right.iter()).cloned().collect::<Vec<_>>()))
}

/// A field, or what lies along a path of keys and indices.
pub(super) fn get(_: &mut Context, arguments: &[Value]) -> Answer {
    let [object, path, default] = arguments else { return Err(Fault::Undefined) };
    let Value::Object(fields) = object else { return Err(Fault::Undefined) };
    let Value::Array(path) = path else { return Ok(fields.get(path).unwrap_or(default).clone()) };
    let mut at = object;
    for key in path.iter() {
        let next = match at {
            Value::Object(fields) => fields.get(key),
            Value::Set(items) => items.get(key),
            Value::Array(items) => {
                let index = match key {
                    Value::Number(index) => index.as_u64().and_then(|index| usize::try_from(index).ok()),
                    _ => None,
                };
                index.and_then(|index| items.get(index))
            }
            _ => None,
        };
        match next {
            Some(next) => at = next,
            None => return Ok(default.clone()),
        }
    }
    Ok(at.clone())
}

/// Every value in a document with the path to it, the whole first. The engine's own makes the list whatever
/// its length.
pub(super) fn walk(context: &mut Context, arguments: &[Value]) -> Answer {
    let root = arguments.first().ok_or(Fault::Undefined)?;
    let mut walk = Walk { path: Vec::new(), seen: Vec::new(), left: context.bytes_left() };
    walk.visit(root)?;
    Ok(Value::from(walk.seen))
}

struct Walk {
    path: Vec<Value>,
    seen: Vec<Value>,
    left: usize,
}

impl Walk {
    fn visit(&mut self, value: &Value) -> Result<(), Fault> {
        let bytes = ELEMENT * (self.path.len() + 4);
        self.left = self.left.checked_sub(bytes).ok_or(Fault::Limit)?;
        self.seen.push(Value::from(vec![Value::from(self.path.clone()), value.clone()]));
        match value {
            Value::Array(items) => {
                items.iter().enumerate().try_for_each(|(at, item)| self.step(Value::from(at), item))
            }
            Value::Set(items) => items.iter().try_for_each(|item| self.step(item.clone(), item)),
            Value::Object(fields) => {
                fields.iter_sorted().try_for_each(|(key, item)| self.step(key.clone(), item))
            }
            _ => Ok(()),
        }
    }

    fn step(&mut self, key: Value, value: &Value) -> Result<(), Fault> {
        self.path.push(key);
        self.visit(value)?;
        self.path.pop();
        Ok(())
    }
}

pub(super) fn range(context: &mut Context, arguments: &[Value]) -> Answer {
    let (from, to) = (integer(arguments, 0)?, integer(arguments, 1)?);
    steps(context, from, to, 1)
}

pub(super) fn range_step(context: &mut Context, arguments: &[Value]) -> Answer {
    let (from, to) = (integer(arguments, 0)?, integer(arguments, 1)?);
    let step = match arguments.get(2) {
        // So far that nothing follows the first.
        Some(Value::Number(step)) if step.is_integer() && step.is_positive() => {
            step.as_i64().unwrap_or(i64::MAX)
        }
        _ => return Err(Fault::Undefined),
    };
    if step <= 0 {
        return Err(Fault::Undefined);
    }
    steps(context, from, to, step)
}

fn steps(context: &mut Context, from: i64, to: i64, step: i64) -> Answer {
    let count = (from.abs_diff(to) / step.unsigned_abs()).saturating_add(1);
    let count = usize::try_from(count).map_err(|_| Fault::Limit)?;
    context.room(count.saturating_mul(ELEMENT))?;
    let mut list = Vec::with_capacity(count);
    let mut at = from;
    for _ in 0..count {
        list.push(Value::from(at));
        at = if from <= to { at.saturating_add(step) } else { at.saturating_sub(step) };
    }
    Ok(Value::from(list))
}

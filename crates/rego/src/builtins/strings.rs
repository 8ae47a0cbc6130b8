//! The texts' builtins that nearly every policy calls.

use regorus::Value;

use super::context::{Answer, Context, Fault, text, texts};

/// Letters times pairs.
const COMPARISONS_MAX: usize = 1 << 20;

pub(super) fn concat(context: &mut Context, arguments: &[Value]) -> Answer {
    let between = text(arguments, 0)?;
    let parts = texts(arguments.get(1))?;
    let size: usize = parts.iter().map(|part| part.len() + between.len()).sum();
    context.room(size)?;
    Ok(Value::from(parts.join(between)))
}

pub(super) fn contains(_: &mut Context, arguments: &[Value]) -> Answer {
    Ok(Value::Bool(text(arguments, 0)?.contains(text(arguments, 1)?)))
}

pub(super) fn ends_with(_: &mut Context, arguments: &[Value]) -> Answer {
    Ok(Value::Bool(text(arguments, 0)?.ends_with(text(arguments, 1)?)))
}

pub(super) fn starts_with(_: &mut Context, arguments: &[Value]) -> Answer {
    Ok(Value::Bool(text(arguments, 0)?.starts_with(text(arguments, 1)?)))
}

pub(super) fn lower(_: &mut Context, arguments: &[Value]) -> Answer {
    Ok(Value::from(text(arguments, 0)?.to_lowercase()))
}

pub(super) fn upper(_: &mut Context, arguments: &[Value]) -> Answer {
    Ok(Value::from(text(arguments, 0)?.to_uppercase()))
}

pub(super) fn replace(context: &mut Context, arguments: &[Value]) -> Answer {
    let (subject, old, new) = (text(arguments, 0)?, text(arguments, 1)?, text(arguments, 2)?);
    let pieces = subject.matches(old).count();
    context.room(subject.len().saturating_add(pieces.saturating_mul(new.len())))?;
    Ok(Value::from(subject.replace(old, new)))
}

/// All pairs at once from left to right: what was put in is not looked at again.
pub(super) fn replace_n(context: &mut Context, arguments: &[Value]) -> Answer {
    let Some(Value::Object(fields)) = arguments.first() else { return Err(Fault::Undefined) };
    let mut pairs = Vec::with_capacity(fields.len());
    for (old, new) in fields.iter_sorted() {
        let (Value::String(old), Value::String(new)) = (old, new) else { return Err(Fault::Undefined) };
        pairs.push((old.as_ref(), new.as_ref()));
    }
    let mut rest = text(arguments, 1)?;
    if rest.len().saturating_mul(pairs.len()) > COMPARISONS_MAX {
        return Err(Fault::Limit);
    }
    let mut result = String::new();
    // An empty text stands before each letter, but not twice in a place.
    let mut after_empty = false;
    loop {
        let mut fitting = pairs.iter().filter(|(old, _)| rest.starts_with(old));
        match fitting.find(|(old, _)| !(old.is_empty() && after_empty)) {
            Some((old, new)) => {
                result.push_str(new);
                rest = rest.get(old.len()..).unwrap_or_default();
                after_empty = old.is_empty();
            }
            None => {
                let mut letters = rest.chars();
                let Some(letter) = letters.next() else { break };
                result.push(letter);
                rest = letters.as_str();
                after_empty = false;
            }
        }
        context.room(result.len())?;
    }
    Ok(Value::from(result))
}

pub(super) fn count(_: &mut Context, arguments: &[Value]) -> Answer {
    Ok(Value::from(text(arguments, 0)?.matches(text(arguments, 1)?).count()))
}

pub(super) fn split(context: &mut Context, arguments: &[Value]) -> Answer {
    let (subject, between) = (text(arguments, 0)?, text(arguments, 1)?);
    let pieces = if between.is_empty() { subject.len() } else { subject.matches(between).count() + 1 };
    context.room(pieces.saturating_mul(48).saturating_add(subject.len()))?;
    let parts: Vec<Value> = if between.is_empty() {
        subject.chars().map(|one| Value::from(one.to_string())).collect()
    } else {
        subject.split(between).map(Value::from).collect()
    };
    Ok(Value::from(parts))
}

pub(super) fn trim_prefix(_: &mut Context, arguments: &[Value]) -> Answer {
    let (subject, prefix) = (text(arguments, 0)?, text(arguments, 1)?);
    Ok(Value::from(subject.strip_prefix(prefix).unwrap_or(subject)))
}

pub(super) fn trim_suffix(_: &mut Context, arguments: &[Value]) -> Answer {
    let (subject, suffix) = (text(arguments, 0)?, text(arguments, 1)?);
    Ok(Value::from(subject.strip_suffix(suffix).unwrap_or(subject)))
}

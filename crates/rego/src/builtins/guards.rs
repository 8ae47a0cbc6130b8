//! What is asked before the engine's own builtin may run: is it small enough for one decision?

use regorus::Value;

use super::context::{Context, Fault, text, weigh};

/// As many times the arguments' weight as any of these builtins gives back: URL escapes are three for one,
/// JSON's six.
const GROWTH: usize = 6;
const SHIFT_MAX: u64 = 4096;
const EXPANDED_MAX: u32 = 4096;
const PRODUCT_BYTES_MAX: usize = 64 * 1024;

/// The usual guard: the arguments are small enough that what comes of them fits.
pub(super) fn weight(context: &Context, arguments: &[Value]) -> Result<(), Fault> {
    let mut left = context.bytes_left() / GROWTH;
    if arguments.iter().all(|argument| weigh(argument, &mut left)) { Ok(()) } else { Err(Fault::Limit) }
}

/// A product has the digits of all its factors.
pub(super) fn product(context: &Context, arguments: &[Value]) -> Result<(), Fault> {
    let mut left = PRODUCT_BYTES_MAX.min(context.bytes_left());
    if arguments.iter().all(|argument| weigh(argument, &mut left)) { Ok(()) } else { Err(Fault::Limit) }
}

pub(super) fn shift(context: &Context, arguments: &[Value]) -> Result<(), Fault> {
    weight(context, arguments)?;
    match arguments.get(1) {
        Some(Value::Number(bits)) if bits.as_u64().is_some_and(|bits| bits > SHIFT_MAX) => Err(Fault::Limit),
        _ => Ok(()),
    }
}

/// A number with its unit: short, and no exponent that would have to be computed.
pub(super) fn number_text(_: &Context, arguments: &[Value]) -> Result<(), Fault> {
    let text = text(arguments, 0)?;
    let exponent = |at: usize| {
        let rest = text.get(at + 1..).unwrap_or_default();
        let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        rest.bytes().take_while(u8::is_ascii_digit).count() > 3
    };
    let computed = text.bytes().enumerate().any(|(at, byte)| matches!(byte, b'e' | b'E') && exponent(at));
    if text.len() > 64 || computed { Err(Fault::Undefined) } else { Ok(()) }
}

/// Widths and decimals of a format are a few digits.
pub(super) fn format(context: &Context, arguments: &[Value]) -> Result<(), Fault> {
    weight(context, arguments)?;
    let mut digits = 0;
    let mut verbs = 0;
    let mut wide = false;
    for byte in text(arguments, 0)?.bytes() {
        match byte {
            b'%' => {
                verbs += 1;
                digits = 0;
                wide = true;
            }
            b'0'..=b'9' if wide => {
                digits += 1;
                if digits > 3 {
                    return Err(Fault::Limit);
                }
            }
            b'.' if wide => digits = 0,
            _ => wide = false,
        }
    }
    context.room(verbs * 1000)
}

/// Of each replaced piece may come the whole new text.
pub(super) fn replace(context: &Context, arguments: &[Value]) -> Result<(), Fault> {
    weight(context, arguments)?;
    let (subject, new) = (text(arguments, 0)?, text(arguments, 2)?);
    context.room((subject.len() + 1).saturating_mul(new.len() + 1))
}

pub(super) fn marshal(context: &Context, arguments: &[Value]) -> Result<(), Fault> {
    weight(context, arguments)?;
    let indent = arguments.get(1).map_or(0, |options| match (&options["indent"], &options["prefix"]) {
        (Value::String(indent), Value::String(prefix)) => indent.len() + prefix.len(),
        (Value::String(text), _) | (_, Value::String(text)) => text.len(),
        _ => 0,
    });
    if indent > 16 { Err(Fault::Limit) } else { Ok(()) }
}

/// A network of few addresses.
pub(super) fn expand(_: &Context, arguments: &[Value]) -> Result<(), Fault> {
    let text = text(arguments, 0)?;
    let (address, length) = text.split_once('/').ok_or(Fault::Undefined)?;
    let bits = if address.contains(':') { 128 } else { 32 };
    let length: u32 = length.parse().map_err(|_| Fault::Undefined)?;
    let free = u32::checked_sub(bits, length).ok_or(Fault::Undefined)?;
    if 1_u32.checked_shl(free).is_none_or(|addresses| addresses > EXPANDED_MAX) {
        return Err(Fault::Limit);
    }
    Ok(())
}

//! JSON, base64 and numbers from text, and the time.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use regorus::Value;

use super::context::{Answer, Context, Fault, text};
use crate::json;

/// JSON is a value for every second or third byte at worst; each weighs this much.
const VALUE: usize = 20;

pub(super) fn json_unmarshal(context: &mut Context, arguments: &[Value]) -> Answer {
    let text = text(arguments, 0)?;
    context.room(text.len().saturating_mul(VALUE))?;
    json::parse(text.as_bytes()).map_err(|_| Fault::Undefined)
}

pub(super) fn json_is_valid(context: &mut Context, arguments: &[Value]) -> Answer {
    let Ok(text) = text(arguments, 0) else { return Ok(Value::Bool(false)) };
    context.room(text.len().saturating_mul(VALUE))?;
    Ok(Value::Bool(json::parse(text.as_bytes()).is_ok()))
}

pub(super) fn to_number(_: &mut Context, arguments: &[Value]) -> Answer {
    match arguments.first() {
        Some(Value::Null) => Ok(Value::from(0_u64)),
        Some(Value::Bool(value)) => Ok(Value::from(u64::from(*value))),
        Some(number @ Value::Number(_)) => Ok(number.clone()),
        Some(Value::String(text)) if text.len() <= 400 => match json::parse(text.as_bytes()) {
            Ok(number @ Value::Number(_)) => Ok(number),
            _ => Err(Fault::Undefined),
        },
        _ => Err(Fault::Undefined),
    }
}

/// With padding or without, as OPA takes both.
pub(super) fn base64url_decode(_: &mut Context, arguments: &[Value]) -> Answer {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::URL_SAFE,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let bytes = LENIENT.decode(text(arguments, 0)?).map_err(|_| Fault::Undefined)?;
    Ok(Value::from(String::from_utf8_lossy(&bytes).as_ref()))
}

pub(super) fn now(context: &mut Context, _: &[Value]) -> Answer {
    Ok(Value::from(context.now_ns))
}

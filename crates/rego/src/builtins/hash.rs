//! Digests and message authentication codes, as lower-case hexadecimal text.

use aws_lc_rs::{constant_time, digest, hmac};
use regorus::Value;

use super::context::{Answer, Context, text};

pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn digest(algorithm: &'static digest::Algorithm, arguments: &[Value]) -> Answer {
    Ok(Value::from(hex(digest::digest(algorithm, text(arguments, 0)?.as_bytes()).as_ref())))
}

fn code(algorithm: hmac::Algorithm, arguments: &[Value]) -> Answer {
    let key = hmac::Key::new(algorithm, text(arguments, 1)?.as_bytes());
    Ok(Value::from(hex(hmac::sign(&key, text(arguments, 0)?.as_bytes()).as_ref())))
}

pub(super) fn sha1(_: &mut Context, arguments: &[Value]) -> Answer {
    digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, arguments)
}

pub(super) fn sha256(_: &mut Context, arguments: &[Value]) -> Answer {
    digest(&digest::SHA256, arguments)
}

pub(super) fn hmac_sha1(_: &mut Context, arguments: &[Value]) -> Answer {
    code(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, arguments)
}

pub(super) fn hmac_sha256(_: &mut Context, arguments: &[Value]) -> Answer {
    code(hmac::HMAC_SHA256, arguments)
}

pub(super) fn hmac_sha512(_: &mut Context, arguments: &[Value]) -> Answer {
    code(hmac::HMAC_SHA512, arguments)
}

/// In a time that tells nothing about where the two differ.
pub(super) fn hmac_equal(_: &mut Context, arguments: &[Value]) -> Answer {
    let (left, right) = (text(arguments, 0)?.as_bytes(), text(arguments, 1)?.as_bytes());
    Ok(Value::Bool(constant_time::verify_slices_are_equal(left, right).is_ok()))
}

//! `io.jwt.*`: JSON Web Tokens, taken apart and checked.
//!
//! Stricter than OPA where OPA is lenient: a token with `crit` or with a token inside is never valid, nor one
//! without `exp` where claims are judged; a secret that looks like a public key is no secret.

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use regorus::Value;
use regorus::value::Object;

use super::context::{Answer, Context, Fault, text};
use super::hash::hex;
use super::keys;
use crate::json;

/// Longer tokens are nobody's.
const TOKEN_MAX: usize = 32 * 1024;
/// Tokens in tokens.
const NESTED_MAX: u32 = 4;

struct Token<'a> {
    header: Value,
    payload: Value,
    signature: &'a str,
    /// Header and payload as they were signed.
    signed: &'a str,
}

impl<'a> Token<'a> {
    fn read(text: &'a str) -> Result<Self, Fault> {
        if text.len() > TOKEN_MAX {
            return Err(Fault::Undefined);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Fault::Undefined)?;
        let (header, payload) = signed.split_once('.').ok_or(Fault::Undefined)?;
        let part = |text: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Fault::Undefined)?;
            match json::parse(&bytes) {
                Ok(value @ Value::Object(_)) => Ok(value),
                _ => Err(Fault::Undefined),
            }
        };
        let header = part(header)?;
        // Encrypted ones have a header of their own, and five parts.
        if header["enc"] != Value::Undefined {
            return Err(Fault::Undefined);
        }
        Ok(Self { header, payload: part(payload)?, signature, signed })
    }

    /// Whether this is a token of the plain kind, that says all it means by its algorithm and its claims.
    fn plain(&self) -> bool {
        self.header["crit"] == Value::Undefined && !holds_token(&self.header)
    }

    fn signed_by(&self, scheme: Scheme, key: &DecodingKey) -> bool {
        match scheme {
            Scheme::Known(algorithm) => {
                key.family() == family(algorithm)
                    && jsonwebtoken::crypto::verify(self.signature, self.signed.as_bytes(), key, algorithm)
                        .unwrap_or(false)
            }
            Scheme::Es512 => {
                let (Ok(point), Ok(signature)) =
                    (key.try_get_as_bytes(), URL_SAFE_NO_PAD.decode(self.signature))
                else {
                    return false;
                };
                key.family() == AlgorithmFamily::Ec
                    && UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point)
                        .verify(self.signed.as_bytes(), &signature)
                        .is_ok()
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Scheme {
    Known(Algorithm),
    /// On the curve P-521, which the token library leaves out.
    Es512,
}

impl Scheme {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::Known(Algorithm::HS256),
            "HS384" => Self::Known(Algorithm::HS384),
            "HS512" => Self::Known(Algorithm::HS512),
            "RS256" => Self::Known(Algorithm::RS256),
            "RS384" => Self::Known(Algorithm::RS384),
            "RS512" => Self::Known(Algorithm::RS512),
            "PS256" => Self::Known(Algorithm::PS256),
            "PS384" => Self::Known(Algorithm::PS384),
            "PS512" => Self::Known(Algorithm::PS512),
            "ES256" => Self::Known(Algorithm::ES256),
            "ES384" => Self::Known(Algorithm::ES384),
            "ES512" => Self::Es512,
            "EdDSA" => Self::Known(Algorithm::EdDSA),
            _ => return None,
        })
    }

    fn with_secret(self) -> bool {
        matches!(self, Self::Known(algorithm) if family(algorithm) == AlgorithmFamily::Hmac)
    }
}

fn family(algorithm: Algorithm) -> AlgorithmFamily {
    algorithm.family()
}

/// The three parts, unjudged: header, payload, and the signature in hexadecimal. Of a token in a token, the
/// inner one's.
pub(super) fn decode(_: &mut Context, arguments: &[Value]) -> Answer {
    let mut text = std::borrow::Cow::Borrowed(text(arguments, 0)?);
    for _ in 0..NESTED_MAX {
        if let Some(inner) = inner(&text) {
            text = inner.into();
            continue;
        }
        let token = Token::read(&text)?;
        let signature = URL_SAFE_NO_PAD.decode(token.signature).map_err(|_| Fault::Undefined)?;
        return Ok(Value::from(vec![token.header, token.payload, Value::from(hex(&signature))]));
    }
    Err(Fault::Undefined)
}

/// The token that another's payload is.
fn inner(text: &str) -> Option<String> {
    let (signed, _) = text.rsplit_once('.').filter(|_| text.len() <= TOKEN_MAX)?;
    let (header, payload) = signed.split_once('.')?;
    let header = json::parse(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    if !holds_token(&header) {
        return None;
    }
    let payload = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    // As it is, or as JSON's text.
    Some(payload.trim_matches('"').to_owned())
}

fn holds_token(header: &Value) -> bool {
    matches!(&header["cty"], Value::String(kind) if kind.to_ascii_lowercase().contains("jwt"))
}

fn verify(scheme: Scheme, arguments: &[Value]) -> Answer {
    let token = Token::read(text(arguments, 0)?)?;
    let key = text(arguments, 1)?;
    let valid = token.plain()
        && if scheme.with_secret() {
            secret(key).is_some_and(|key| token.signed_by(scheme, &key))
        } else {
            let keys = keys::read(key);
            if keys.is_empty() {
                return Err(Fault::Undefined);
            }
            keys.iter().any(|key| token.signed_by(scheme, &key.key))
        };
    Ok(Value::Bool(valid))
}

/// A shared secret. What stands in a certificate or a key set is known to all.
fn secret(text: &str) -> Option<DecodingKey> {
    let public = text.contains("-----BEGIN") || text.trim_start().starts_with("{\"k");
    (!text.is_empty() && !public).then(|| DecodingKey::from_secret(text.as_bytes()))
}

macro_rules! verifiers {
    ($($name:ident = $scheme:expr),* $(,)?) => {
        $(pub(super) fn $name(_: &mut Context, arguments: &[Value]) -> Answer {
            verify($scheme, arguments)
        })*
    };
}

verifiers! {
    verify_rs256 = Scheme::Known(Algorithm::RS256),
    verify_rs384 = Scheme::Known(Algorithm::RS384),
    verify_rs512 = Scheme::Known(Algorithm::RS512),
    verify_ps256 = Scheme::Known(Algorithm::PS256),
    verify_ps384 = Scheme::Known(Algorithm::PS384),
    verify_ps512 = Scheme::Known(Algorithm::PS512),
    verify_es256 = Scheme::Known(Algorithm::ES256),
    verify_es384 = Scheme::Known(Algorithm::ES384),
    verify_es512 = Scheme::Es512,
    verify_eddsa = Scheme::Known(Algorithm::EdDSA),
    verify_hs256 = Scheme::Known(Algorithm::HS256),
    verify_hs384 = Scheme::Known(Algorithm::HS384),
    verify_hs512 = Scheme::Known(Algorithm::HS512),
}

/// `[valid, header, payload]`: signature, issuer, audience and times at once.
pub(super) fn decode_verify(context: &mut Context, arguments: &[Value]) -> Answer {
    let Some(Value::Object(given)) = arguments.get(1) else { return Err(Fault::Undefined) };
    let known = ["cert", "secret", "alg", "iss", "aud", "time"];
    if !given.keys().all(|key| matches!(key, Value::String(key) if known.contains(&key.as_ref()))) {
        return Err(Fault::Undefined);
    }
    let wanted = |name: &str| given.get(&Value::from(name));
    let wanted_text = |name: &str| match wanted(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_ref())),
        Some(_) => Err(Fault::Undefined),
    };
    let (cert, shared) = (wanted_text("cert")?, wanted_text("secret")?);
    let (alg, iss, aud) = (wanted_text("alg")?, wanted_text("iss")?, wanted_text("aud")?);
    let now_ns = match wanted("time") {
        None => i128::from(context.now_ns),
        Some(time) => nanoseconds(time, 1).ok_or(Fault::Undefined)?,
    };
    if cert.is_some() == shared.is_some() {
        return Err(Fault::Undefined);
    }
    let token = Token::read(text(arguments, 0)?)?;
    let scheme = match &token.header["alg"] {
        Value::String(name) if alg.is_none_or(|alg| alg == name.as_ref()) => Scheme::named(name),
        _ => None,
    };
    let Some(scheme) = scheme.filter(|_| token.plain()) else { return Ok(invalid()) };
    let signed = match (cert, shared) {
        (Some(cert), _) if !scheme.with_secret() => by_one_of(&token, scheme, &keys::read(cert)),
        (_, Some(shared)) if scheme.with_secret() => {
            secret(shared).is_some_and(|key| token.signed_by(scheme, &key))
        }
        _ => false,
    };
    let claims = Claims { payload: &token.payload, now_ns, exp_needed: !context.jwt_without_exp };
    if signed && claims.issued_by(iss) && claims.meant_for(aud) && claims.in_time() {
        return Ok(Value::from(vec![Value::Bool(true), token.header, token.payload]));
    }
    Ok(invalid())
}

fn invalid() -> Value {
    let empty = || Object::new().into_value();
    Value::from(vec![Value::Bool(false), empty(), empty()])
}

/// The key that the token names, where there is one; the name is compared and nothing else.
fn by_one_of(token: &Token<'_>, scheme: Scheme, keys: &[keys::Key]) -> bool {
    let named = match &token.header["kid"] {
        Value::String(id) => keys.iter().find(|key| key.id.as_deref() == Some(id.as_ref())),
        _ => None,
    };
    match named {
        Some(key) => token.signed_by(scheme, &key.key),
        None => keys.iter().any(|key| token.signed_by(scheme, &key.key)),
    }
}

struct Claims<'a> {
    payload: &'a Value,
    now_ns: i128,
    exp_needed: bool,
}

impl Claims<'_> {
    fn issued_by(&self, wanted: Option<&str>) -> bool {
        match (wanted, &self.payload["iss"]) {
            (None, _) => true,
            (Some(wanted), Value::String(iss)) => wanted == iss.as_ref(),
            _ => false,
        }
    }

    /// A token that names its audience is for nobody else.
    fn meant_for(&self, wanted: Option<&str>) -> bool {
        match (wanted, &self.payload["aud"]) {
            (None, aud) => *aud == Value::Undefined,
            (Some(wanted), Value::String(aud)) => wanted == aud.as_ref(),
            (Some(wanted), Value::Array(all)) => {
                all.iter().any(|aud| matches!(aud, Value::String(aud) if wanted == aud.as_ref()))
            }
            _ => false,
        }
    }

    fn in_time(&self) -> bool {
        let time = |name: &str| match &self.payload[name] {
            Value::Undefined => Ok(None),
            seconds => nanoseconds(seconds, 1_000_000_000).map(Some).ok_or(()),
        };
        match (time("exp"), time("nbf")) {
            (Ok(exp), Ok(nbf)) => {
                let ended = exp.map_or(self.exp_needed, |exp| self.now_ns >= exp);
                !ended && nbf.is_none_or(|nbf| self.now_ns >= nbf)
            }
            _ => false,
        }
    }
}

/// A number of `unit` nanoseconds each.
fn nanoseconds(value: &Value, unit: i64) -> Option<i128> {
    let Value::Number(number) = value else { return None };
    if let Some(whole) = number.as_i64() {
        return Some(i128::from(whole) * i128::from(unit));
    }
    // Whatever comes as text comes through text: the engine shows no float of its own that is not whole.
    let float: f64 = number.format_decimal().parse().ok()?;
    float.is_finite().then(|| (float * unit as f64).round() as i128)
}

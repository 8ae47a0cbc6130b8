//! Join tokens: how a proxy that has nothing yet gets its first certificate.
//!
//! A token is one line of text, `weft1.` + base64url of a JSON object. Its secret proves to the control plane
//! who may join as what; its CA certificates let the proxy prove the control plane, so that first contact
//! needs no trust on first use. The control plane keeps only the hash of the secret, beside its own record of
//! service and expiry: what the text says about those is for the proxy's convenience and never believed.

use crate::bundle::{Bundle, BundleError};
use crate::spiffe::{SpiffeIdError, TrustDomain};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

const PREFIX: &str = "weft1.";
/// How much randomness a secret has: 256 bits.
pub const SECRET_BYTES: usize = 32;
/// The longest token that is looked at.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// Why a text is no join token. Never quotes the text: it may be a secret with a typing error.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Something else altogether, or a token of another version.
    #[error("not a join token: expected `{PREFIX}…`, as `weft identity token` prints it")]
    Prefix,
    /// More than [`TOKEN_BYTES_MAX`].
    #[error("the join token has {0} bytes, at most {TOKEN_BYTES_MAX} are possible")]
    TooLong(usize),
    /// Cut off or altered.
    #[error("the join token is damaged; copy it as a whole, without line breaks")]
    Damaged,
    /// Its secret isn't of [`SECRET_BYTES`].
    #[error("the join token's secret must have {SECRET_BYTES} bytes")]
    Secret,
    /// Its trust domain is none.
    #[error("the join token's trust domain")]
    TrustDomain(#[source] SpiffeIdError),
    /// Its service isn't `NAMESPACE/NAME`.
    #[error("the join token names no service as `NAMESPACE/NAME`")]
    Service,
    /// Its CA certificates are no bundle.
    #[error("the join token's CA certificates")]
    Bundle(#[source] BundleError),
}

/// The secret of a token. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct TokenSecret([u8; SECRET_BYTES]);

impl TokenSecret {
    /// A secret of these random bytes.
    pub fn from_random(random: [u8; SECRET_BYTES]) -> TokenSecret {
        TokenSecret(random)
    }

    /// What the control plane keeps.
    pub fn hash(&self) -> TokenHash {
        let mut hash = [0; SECRET_BYTES];
        hash.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        TokenHash(hash)
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret([secret])")
    }
}

/// The SHA-256 of a [`TokenSecret`]: safe to store and to show.
///
/// A secret has 256 random bits, so a slow hash or a salt would add nothing.
#[derive(Debug, Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Does this secret have this hash? Takes the same time for each wrong one.
    pub fn matches(&self, secret: &TokenSecret) -> bool {
        *self == secret.hash()
    }

    /// 64 lower-case hex digits.
    pub fn to_hex(&self) -> String {
        crate::certificate::hex(&self.0)
    }

    /// Reads [`TokenHash::to_hex`].
    pub fn from_hex(text: &str) -> Option<TokenHash> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(TokenHash(hash))
    }
}

// Constant time, so that no caller can compare in any other way.
impl PartialEq for TokenHash {
    fn eq(&self, other: &TokenHash) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for TokenHash {}

/// All that a token says. `to_string()` is the text to hand over: a secret.
#[derive(Debug, Clone)]
pub struct JoinToken {
    /// Proves that the caller may join.
    pub secret: TokenSecret,
    /// Of the trust domain to join, with the roots to check the control plane by.
    pub bundle: Bundle,
    /// The namespace of the service to join as.
    pub namespace: String,
    /// The service to join as.
    pub service: String,
    /// When the control plane stops taking it.
    pub expires: SystemTime,
}

/// The JSON inside; field names are short because people paste it.
#[derive(Serialize, Deserialize)]
struct Wire {
    t: String,
    td: String,
    ca: String,
    svc: String,
    exp: u64,
}

impl JoinToken {
    /// The trust domain to join.
    pub fn trust_domain(&self) -> &TrustDomain {
        self.bundle.trust_domain()
    }

    /// Is it too late to use it?
    pub fn expired(&self, now: SystemTime) -> bool {
        now >= self.expires
    }

    /// The text: a secret.
    pub fn encode(&self) -> String {
        let wire = Wire {
            t: URL_SAFE_NO_PAD.encode(self.secret.0),
            td: self.trust_domain().to_string(),
            ca: self.bundle.to_pem(),
            svc: format!("{}/{}", self.namespace, self.service),
            exp: self.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
        };
        // A struct of strings and a number always serialises.
        let json = serde_json::to_vec(&wire).unwrap_or_default();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<JoinToken, TokenError> {
        let text = text.trim(); // From a file, it ends with a line break.
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong(text.len()));
        }
        let body = text.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| TokenError::Damaged)?;
        let wire: Wire = serde_json::from_slice(&json).map_err(|_| TokenError::Damaged)?;
        let secret = URL_SAFE_NO_PAD.decode(&wire.t).map_err(|_| TokenError::Secret)?;
        let secret: [u8; SECRET_BYTES] = secret.try_into().map_err(|_| TokenError::Secret)?;
        let trust_domain = TrustDomain::new(&wire.td).map_err(TokenError::TrustDomain)?;
        let (namespace, service) = match wire.svc.split_once('/') {
            Some((namespace, service))
                if !namespace.is_empty() && !service.is_empty() && !service.contains('/') =>
            {
                (namespace.to_owned(), service.to_owned())
            }
            _ => return Err(TokenError::Service),
        };
        let expires =
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(wire.exp)).ok_or(TokenError::Damaged)?;
        Ok(JoinToken {
            secret: TokenSecret(secret),
            bundle: Bundle::from_pem(trust_domain, &wire.ca).map_err(TokenError::Bundle)?,
            namespace,
            service,
            expires,
        })
    }
}

#[cfg(test)]
mod tests;

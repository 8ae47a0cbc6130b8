//! SPIFFE ids and trust domains, parsed once to the letter of the SPIFFE-ID standard.
//!
//! Whoever holds a [`SpiffeId`] holds a valid one, in the one spelling there is: no percent-encoding, no dot
//! segments, no upper case in the trust domain. So comparing two ids is comparing two strings.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest id, in bytes, as the standard fixes it.
pub const ID_BYTES_MAX: usize = 2048;
/// The longest name of a trust domain, in bytes, as the standard fixes it.
pub const TRUST_DOMAIN_BYTES_MAX: usize = 255;
/// The trust domain of a mesh that doesn't name its own.
pub const DEFAULT_TRUST_DOMAIN: &str = "mesh.internal";

const SCHEME: &str = "spiffe://";

/// Why a text is no SPIFFE id or no trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// Longer than [`ID_BYTES_MAX`].
    #[error("a SPIFFE id has at most {ID_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// Does not begin with `spiffe://`.
    #[error("a SPIFFE id begins with `spiffe://`")]
    Scheme,
    /// Nothing between `spiffe://` and the path.
    #[error("the trust domain is empty")]
    NoTrustDomain,
    /// Longer than [`TRUST_DOMAIN_BYTES_MAX`].
    #[error("a trust domain has at most {TRUST_DOMAIN_BYTES_MAX} bytes, this one has {0}")]
    TrustDomainTooLong(usize),
    /// Something else than `a-z`, `0-9`, `.`, `-`, `_`.
    #[error("{0:?} in a trust domain: only a-z, 0-9, `.`, `-` and `_` are allowed")]
    TrustDomainCharacter(char),
    /// `user@`.
    #[error("a SPIFFE id has no user info")]
    UserInfo,
    /// `:443`.
    #[error("a SPIFFE id has no port")]
    Port,
    /// `?`.
    #[error("a SPIFFE id has no query")]
    Query,
    /// `#`.
    #[error("a SPIFFE id has no fragment")]
    Fragment,
    /// `%2e`.
    #[error("a SPIFFE id has no percent-encoding")]
    PercentEncoding,
    /// Something else than `a-z`, `A-Z`, `0-9`, `.`, `-`, `_`.
    #[error("{0:?} in a path: only letters, digits, `.`, `-` and `_` are allowed")]
    PathCharacter(char),
    /// `//`.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `/./` or `/../`.
    #[error("the path has the segment `.` or `..`")]
    DotSegment,
    /// `spiffe://td/a/`.
    #[error("the path ends with a slash")]
    TrailingSlash,
    /// `spiffe://td` where the id of a workload is needed.
    #[error("the id has no path: it names a trust domain, not a member of it")]
    NoPath,
}

/// The name of a trust domain, e.g. `mesh.internal`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses the name alone, without `spiffe://`.
    pub fn new(name: &str) -> Result<TrustDomain, SpiffeIdError> {
        check_trust_domain(name)?;
        Ok(TrustDomain(name.into()))
    }

    /// The name, e.g. `mesh.internal`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `spiffe://NAME`, as CA certificates carry it.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }
}

impl Default for TrustDomain {
    fn default() -> TrustDomain {
        TrustDomain(DEFAULT_TRUST_DOMAIN.into())
    }
}

/// A SPIFFE id, e.g. `spiffe://mesh.internal/ns/default/sa/be1`. Cloning it is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    // Where the path begins in `text`; `text.len()` without one.
    path_start: usize,
}

impl SpiffeId {
    /// Parses the whole id.
    pub fn parse(text: &str) -> Result<SpiffeId, SpiffeIdError> {
        // First, so that nothing below ever walks over a long text.
        if text.len() > ID_BYTES_MAX {
            return Err(SpiffeIdError::TooLong(text.len()));
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let (trust_domain, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        check_trust_domain(trust_domain)?;
        check_path(path)?;
        Ok(SpiffeId { text: text.into(), path_start: SCHEME.len() + trust_domain.len() })
    }

    /// The id of a service: `spiffe://TD/ns/NAMESPACE/sa/SERVICE`.
    pub fn service(
        trust_domain: &TrustDomain,
        namespace: &str,
        service: &str,
    ) -> Result<SpiffeId, SpiffeIdError> {
        for segment in [namespace, service] {
            if let Some(slash) = segment.chars().find(|&c| c == '/') {
                return Err(SpiffeIdError::PathCharacter(slash));
            }
        }
        SpiffeId::parse(&format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{service}"))
    }

    /// The id of the control plane: `spiffe://TD/weft/control`.
    pub fn control(trust_domain: &TrustDomain) -> SpiffeId {
        let path_start = SCHEME.len() + trust_domain.as_str().len();
        SpiffeId { text: format!("{SCHEME}{trust_domain}/weft/control").into(), path_start }
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.trust_domain_str().into())
    }

    /// The name of the trust domain, borrowed.
    pub fn trust_domain_str(&self) -> &str {
        &self.text[SCHEME.len()..self.path_start]
    }

    /// The path with its leading slash; empty for an id that names a trust domain.
    pub fn path(&self) -> &str {
        &self.text[self.path_start..]
    }

    /// Is this an id of that trust domain?
    pub fn member_of(&self, trust_domain: &TrustDomain) -> bool {
        self.trust_domain_str() == trust_domain.as_str()
    }

    /// The namespace, when the path is `/ns/NAMESPACE/sa/SERVICE`.
    pub fn namespace(&self) -> Option<&str> {
        self.service_path().map(|(namespace, _)| namespace)
    }

    /// The service, when the path is `/ns/NAMESPACE/sa/SERVICE`.
    pub fn service_account(&self) -> Option<&str> {
        self.service_path().map(|(_, service)| service)
    }

    fn service_path(&self) -> Option<(&str, &str)> {
        let (namespace, rest) = self.path().strip_prefix("/ns/")?.split_once('/')?;
        let service = rest.strip_prefix("sa/")?;
        (!service.contains('/')).then_some((namespace, service))
    }
}

fn check_trust_domain(name: &str) -> Result<(), SpiffeIdError> {
    if name.is_empty() {
        return Err(SpiffeIdError::NoTrustDomain);
    }
    // The reason before the length: a port is a better hint than a count.
    for c in name.chars() {
        match c {
            'a'..='z' | '0'..='9' | '.' | '-' | '_' => {}
            '@' => return Err(SpiffeIdError::UserInfo),
            // `user:password@` has a colon too; the port is what people write.
            ':' if name.contains('@') => return Err(SpiffeIdError::UserInfo),
            ':' => return Err(SpiffeIdError::Port),
            '?' => return Err(SpiffeIdError::Query),
            '#' => return Err(SpiffeIdError::Fragment),
            '%' => return Err(SpiffeIdError::PercentEncoding),
            other => return Err(SpiffeIdError::TrustDomainCharacter(other)),
        }
    }
    match name.len() > TRUST_DOMAIN_BYTES_MAX {
        true => Err(SpiffeIdError::TrustDomainTooLong(name.len())),
        false => Ok(()),
    }
}

fn check_path(path: &str) -> Result<(), SpiffeIdError> {
    let Some(inner) = path.strip_prefix('/') else {
        return Ok(()); // No path at all.
    };
    for c in inner.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' | '/' => {}
            '?' => return Err(SpiffeIdError::Query),
            '#' => return Err(SpiffeIdError::Fragment),
            '%' => return Err(SpiffeIdError::PercentEncoding),
            other => return Err(SpiffeIdError::PathCharacter(other)),
        }
    }
    if path.ends_with('/') {
        return Err(SpiffeIdError::TrailingSlash);
    }
    for segment in inner.split('/') {
        match segment {
            "" => return Err(SpiffeIdError::EmptySegment),
            "." | ".." => return Err(SpiffeIdError::DotSegment),
            _ => {}
        }
    }
    Ok(())
}

macro_rules! text_like {
    ($type:ident, $parse:path) => {
        impl FromStr for $type {
            type Err = SpiffeIdError;
            fn from_str(text: &str) -> Result<$type, SpiffeIdError> {
                $parse(text)
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let text = String::deserialize(deserializer)?;
                $parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
text_like!(TrustDomain, TrustDomain::new);
text_like!(SpiffeId, SpiffeId::parse);

#[cfg(test)]
mod tests;

//! Names of values: what a key is, what a selector takes, and the bytes that keep their order.
//!
//! The encoded form is the four parts with a zero byte between them. No part may hold a zero byte
//! (checked at commit), so byte order is the order of `(group, kind, namespace, name)` and a selector
//! that fixes the leading parts is a range of bytes.

use std::fmt;

/// The longest encoded key: above this a transaction is refused.
pub const KEY_BYTES_MAX: usize = 4096;

/// What a value is stored under. `kind` is the plural of the API, `namespace` is empty for what has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub group: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(
        group: impl Into<String>,
        kind: impl Into<String>,
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self { group: group.into(), kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }

    /// Why this can't be a key, if it can't.
    pub fn problem(&self) -> Option<String> {
        let parts = [&self.group, &self.kind, &self.namespace, &self.name];
        if parts.iter().any(|part| part.contains('\0')) {
            return Some("a part of the key holds a zero byte".to_owned());
        }
        if self.kind.is_empty() || self.name.is_empty() {
            return Some("a key needs a kind and a name".to_owned());
        }
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>() + 3;
        (bytes > KEY_BYTES_MAX).then(|| format!("the key has {bytes} bytes; the most is {KEY_BYTES_MAX}"))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        [&self.group, &self.kind, &self.namespace, &self.name].map(|part| part.as_bytes()).join(&0)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut parts = text.split('\0');
        let key = Self::new(parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        parts.next().is_none().then_some(key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.kind)?;
        if !self.group.is_empty() {
            write!(out, ".{}", self.group)?;
        }
        if !self.namespace.is_empty() {
            write!(out, " {}/{}", self.namespace, self.name)
        } else {
            write!(out, " {}", self.name)
        }
    }
}

/// Which keys; `None` is any. `Selector::default()` is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    pub group: Option<String>,
    pub kind: Option<String>,
    pub namespace: Option<String>,
}

impl Selector {
    pub fn all() -> Self {
        Self::default()
    }

    pub fn kind(group: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { group: Some(group.into()), kind: Some(kind.into()), namespace: None }
    }

    pub fn matches(&self, key: &Key) -> bool {
        fn fits(wanted: Option<&String>, found: &str) -> bool {
            wanted.is_none_or(|wanted| wanted == found)
        }
        fits(self.group.as_ref(), &key.group)
            && fits(self.kind.as_ref(), &key.kind)
            && fits(self.namespace.as_ref(), &key.namespace)
    }

    /// The bytes with which every key that matches begins.
    pub(crate) fn prefix(&self) -> Vec<u8> {
        let mut prefix = Vec::new();
        for part in [&self.group, &self.kind, &self.namespace] {
            let Some(part) = part else { break };
            prefix.extend_from_slice(part.as_bytes());
            prefix.push(0);
        }
        prefix
    }
}

//! What the data plane works with: resources after reading, with nothing left to check.
//!
//! Values are compiled once (regexes, header names, addresses) and shared by `Arc`, so that a
//! request only compares and copies handles. None of these types knows protobuf.

mod cluster;
mod http;
mod listener;
mod policy;
mod route;
mod text;

use std::fmt;
use std::sync::Arc;

pub use cluster::*;
pub use http::*;
pub use listener::*;
pub use policy::*;
pub use route::*;
pub use text::*;

/// Who wrote the configuration, so how much of it may be passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// Our own control plane: whatever we do not do is a problem.
    Own,
    /// A control plane the operator declared foreign: fields that only observe may be passed over with a warning.
    DeclaredForeign,
}

/// Why a resource is refused: it becomes the text of a NACK.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub resource: String,
    /// Path of the field inside the resource, like `virtual_hosts[2].routes[0].route.hash_policy`.
    pub path: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "{}: {}", self.resource, self.message)
        } else {
            write!(f, "{}: {}: {}", self.resource, self.path, self.message)
        }
    }
}

/// A field that is not done and whose absence changes what is observed, not what is decided.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    pub resource: String,
    pub path: String,
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.resource, self.path, self.message)
    }
}

/// A resource that was read, and what was passed over on the way.
#[derive(Debug, Clone)]
pub struct Decoded<T> {
    pub value: T,
    pub warnings: Vec<Warning>,
}

/// The object behind a resource: `metadata.filter_metadata["weft.dev"]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamp {
    pub kind: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    /// Path of the field in the object, like `spec.rules[0]`.
    pub field: Arc<str>,
    pub revision: Arc<str>,
}

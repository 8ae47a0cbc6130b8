//! What a control plane offers to one client at one moment: an immutable snapshot.
//!
//! A resource's version is the hash of its canonical bytes, so equality is per resource: a new
//! snapshot that differs in one endpoint re-sends one endpoint. [`Builder::after`] takes the
//! previous snapshot and keeps its allocations for everything that did not change.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::{DecodeError, Message, Name};

use crate::{Any, canonical};

/// A named, versioned, opaque message.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    pub name: String,
    /// Hash of the canonical bytes: equal content, equal version, on every replica.
    pub version: String,
    pub body: Any,
}

impl Resource {
    pub fn new(name: impl Into<String>, mut body: Any) -> Self {
        body.value = canonical::bytes(&body.type_url, body.value);
        Self { name: name.into(), version: hash(&body), body }
    }

    /// As it came from a server: the bytes stay as they are, and the version is the server's
    /// where it gave one.
    pub fn received(name: String, version: Option<String>, body: Any) -> Self {
        Self { version: version.unwrap_or_else(|| hash(&body)), name, body }
    }

    /// From a typed message; its type URL is the one that `prost::Name` gives.
    pub fn of<M: Message + Name>(name: impl Into<String>, message: &M) -> Self {
        Self::new(name, Any { type_url: M::type_url(), value: message.encode_to_vec() })
    }

    pub fn type_url(&self) -> &str {
        &self.body.type_url
    }

    pub fn decode<M: Message + Default>(&self) -> Result<M, DecodeError> {
        M::decode(self.body.value.as_slice())
    }
}

fn hash(body: &Any) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&body.value))
}

/// All resources of one type, by name, and one version for all of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OfType {
    pub version: String,
    pub by_name: BTreeMap<String, Arc<Resource>>,
}

/// The snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// Of the whole snapshot: the builder's label (a store revision, say) and a hash of the content.
    pub version: String,
    types: BTreeMap<String, Arc<OfType>>,
}

impl Resources {
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub fn of_type(&self, type_url: &str) -> Option<&Arc<OfType>> {
        self.types.get(type_url)
    }

    pub fn get(&self, type_url: &str, name: &str) -> Option<&Arc<Resource>> {
        self.types.get(type_url)?.by_name.get(name)
    }

    /// Version of one type; empty when the snapshot has nothing of it.
    pub fn type_version(&self, type_url: &str) -> &str {
        self.types.get(type_url).map_or("", |of_type| &of_type.version)
    }

    /// Type by type, in the alphabetic order of the URLs.
    pub fn types(&self) -> impl Iterator<Item = (&str, &OfType)> {
        self.types.iter().map(|(url, of_type)| (url.as_str(), of_type.as_ref()))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.types.values().flat_map(|of_type| of_type.by_name.values())
    }

    pub fn len(&self) -> usize {
        self.types.values().map(|of_type| of_type.by_name.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Collects resources; a second one of the same type and name replaces the first.
#[derive(Debug, Default)]
pub struct Builder {
    previous: Option<Arc<Resources>>,
    types: BTreeMap<String, BTreeMap<String, Arc<Resource>>>,
}

impl Builder {
    /// Shares every unchanged allocation with `previous`.
    pub fn after(previous: Arc<Resources>) -> Self {
        Self { previous: Some(previous), types: BTreeMap::new() }
    }

    pub fn put(&mut self, resource: impl Into<Arc<Resource>>) -> &mut Self {
        let mut resource = resource.into();
        let old =
            self.previous.as_ref().and_then(|previous| previous.get(resource.type_url(), &resource.name));
        if let Some(old) = old.filter(|old| old.version == resource.version) {
            resource = Arc::clone(old);
        }
        let of_type = match self.types.get_mut(resource.type_url()) {
            Some(of_type) => of_type,
            None => self.types.entry(resource.type_url().to_owned()).or_default(),
        };
        of_type.insert(resource.name.clone(), resource);
        self
    }

    /// Shorthand for `put(Resource::of(name, message))`.
    pub fn message<M: Message + Name>(&mut self, name: impl Into<String>, message: &M) -> &mut Self {
        self.put(Resource::of(name, message))
    }

    /// `label` goes in front of the content hash in [`Resources::version`]; may be empty.
    pub fn build(&mut self, label: &str) -> Resources {
        let mut whole = xxhash_rust::xxh3::Xxh3::new();
        let mut types = BTreeMap::new();
        for (type_url, by_name) in std::mem::take(&mut self.types) {
            let version = type_version(&by_name);
            whole.update(type_url.as_bytes());
            whole.update(version.as_bytes());
            let old = self.previous.as_ref().and_then(|previous| previous.of_type(&type_url));
            let of_type = match old.filter(|old| old.version == version) {
                Some(old) => Arc::clone(old),
                None => Arc::new(OfType { version, by_name }),
            };
            types.insert(type_url, of_type);
        }
        let hash = format!("{:016x}", whole.digest());
        let version = if label.is_empty() { hash } else { format!("{label}-{hash}") };
        Resources { version, types }
    }
}

fn type_version(by_name: &BTreeMap<String, Arc<Resource>>) -> String {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for (name, resource) in by_name {
        // Length first: ("ab", "c") and ("a", "bc") are different content.
        hash.update(&(name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update(resource.version.as_bytes());
    }
    format!("{:016x}", hash.digest())
}

//! One response before it is encoded. It holds the snapshot's own allocations, so that a push
//! that waits behind a slow reader costs pointers, not bytes.

use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3 as discovery;

use crate::Resource;

#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    pub type_url: String,
    pub version: String,
    pub nonce: String,
    pub resources: Vec<Arc<Resource>>,
    /// Delta only.
    pub removed: Vec<String>,
}

impl Push {
    pub fn names(&self) -> Vec<&str> {
        self.resources.iter().map(|resource| resource.name.as_str()).collect()
    }

    pub fn into_sotw(self) -> discovery::DiscoveryResponse {
        discovery::DiscoveryResponse {
            version_info: self.version,
            resources: self.resources.iter().map(|resource| resource.body.clone()).collect(),
            type_url: self.type_url,
            nonce: self.nonce,
            ..Default::default()
        }
    }

    pub fn into_delta(self) -> discovery::DeltaDiscoveryResponse {
        let resource = |resource: &Arc<Resource>| discovery::Resource {
            name: resource.name.clone(),
            version: resource.version.clone(),
            resource: Some(resource.body.clone()),
            ..Default::default()
        };
        discovery::DeltaDiscoveryResponse {
            system_version_info: self.version,
            resources: self.resources.iter().map(resource).collect(),
            type_url: self.type_url,
            removed_resources: self.removed,
            nonce: self.nonce,
            ..Default::default()
        }
    }
}

/// Which of `names` a NACK's text speaks of. A name counts where it stands alone: `be1` is not
/// found in `be10`, and not in `be1-canary` when that is itself a name and covers the place.
pub fn named_in<'a>(message: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    names.sort_by_key(|name| (std::cmp::Reverse(name.len()), *name));
    names.dedup();
    let mut taken: Vec<(usize, usize)> = Vec::new();
    let mut found: Vec<String> = Vec::new();
    for name in names {
        for (start, _) in message.match_indices(name) {
            let end = start + name.len();
            let inside = taken.iter().any(|(from, to)| *from <= start && end <= *to);
            if stands_alone(message, start, end) && !inside {
                taken.push((start, end));
                if found.last().is_none_or(|last| last != name) {
                    found.push(name.to_owned());
                }
            }
        }
    }
    found.sort();
    found
}

fn stands_alone(message: &str, start: usize, end: usize) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let before = message.get(..start).and_then(|head| head.chars().next_back());
    let after = message.get(end..).and_then(|tail| tail.chars().next());
    !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
}

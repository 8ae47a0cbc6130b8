//! Virtual addresses: one for each Service without an address of its own, so that two TCP services
//! on one port don't clash. The lowest free one, in the order of the objects; kept for ever in the
//! object's annotation, and remembered here for an object that somebody replaced without it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::Value;
pub use weft_model::names::VIP_ANNOTATION as ANNOTATION;
use weft_store::{Key, Revision};

use crate::world::World;

/// An object to write back.
#[derive(Debug)]
pub struct Assignment {
    /// Which.
    pub key: Key,
    /// As of which revision.
    pub at: Revision,
    /// Its JSON with the annotation.
    pub value: Vec<u8>,
}

/// Chooses addresses for what has none. The World knows them at once, the store soon after.
pub fn allocate(world: &mut World) -> Vec<Assignment> {
    let range = world.vip_range();
    let mut taken: BTreeSet<Ipv4Addr> = world.vips_taken();
    let mut free = Free { range, next: 1 };
    let mut assignments = Vec::new();
    for (key, at, mut value) in world.without_vip() {
        let vip = match world.vip_remembered(&key) {
            Some(vip) if !taken.contains(&vip) && range.contains(&vip) => vip,
            _ => match free.take(&taken) {
                Some(vip) => vip,
                None => {
                    tracing::warn!(%key, %range, "no virtual address is free");
                    continue;
                }
            },
        };
        taken.insert(vip);
        world.remember_vip(&key, vip);
        if annotate(&mut value, vip)
            && let Ok(value) = serde_json::to_vec(&value)
        {
            assignments.push(Assignment { key, at, value });
        }
    }
    assignments
}

fn annotate(object: &mut Value, vip: Ipv4Addr) -> bool {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return false };
    let annotations = metadata.entry("annotations").or_insert_with(|| Value::Object(Default::default()));
    if annotations.is_null() {
        *annotations = Value::Object(Default::default());
    }
    let Some(annotations) = annotations.as_object_mut() else { return false };
    annotations.insert(ANNOTATION.to_owned(), Value::String(vip.to_string()));
    true
}

struct Free {
    range: Ipv4Net,
    /// The lowest offset that may be free: 0 is the network itself.
    next: u32,
}

impl Free {
    fn take(&mut self, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        loop {
            let address = u32::from(self.range.network()).checked_add(self.next).map(Ipv4Addr::from)?;
            if !self.range.contains(&address) || address == self.range.broadcast() {
                return None;
            }
            self.next += 1;
            if !taken.contains(&address) {
                return Some(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_address_and_never_the_edges() {
        let mut free = Free { range: "10.0.0.0/29".parse().unwrap(), next: 1 };
        let taken = BTreeSet::from(["10.0.0.2".parse().unwrap()]);
        let mut all = Vec::new();
        while let Some(address) = free.take(&taken) {
            all.push(address.to_string());
        }
        assert_eq!(all, ["10.0.0.1", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    }

    #[test]
    fn an_annotation_is_added_to_what_is_there() {
        let mut object =
            serde_json::json!({"metadata": {"name": "a", "annotations": {"x": "y"}}, "spec": {"odd": 1}});
        assert!(annotate(&mut object, Ipv4Addr::new(240, 240, 0, 1)));
        assert_eq!(object["metadata"]["annotations"]["weft.dev/vip"], "240.240.0.1");
        assert_eq!(
            (&object["metadata"]["annotations"]["x"], &object["spec"]["odd"]),
            (&"y".into(), &1.into())
        );
    }
}

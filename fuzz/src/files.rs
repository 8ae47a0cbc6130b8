//! Files that a proxy wrote and finds again after who knows what.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use weft_proxy::lkg::{
    Good, Kept, Owner, Places,
    file::{open, seal},
};
use weft_xds::{Any, Resource};

const DAY: Duration = Duration::from_secs(86_400);

fn key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &[7; 32])
}

fn owner() -> Owner {
    Owner { identity: "spiffe://mesh.internal/ns/default/sa/a".to_owned(), node: "default/a-1".to_owned() }
}

fn then() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// The bytes as they are; then as the body of a file with a right MAC, which is what damage before the sealing, or
/// another version's body, would look like.
pub fn last_known_good(data: &[u8]) {
    let (key, owner) = (key(), owner());
    // Nobody else has the key.
    if let Ok(kept) = open(&key, &owner, data, then(), DAY) {
        assert_eq!(seal(&key, &owner, &kept), data, "believed, and not as we write it");
    }
    let mut whole = b"WEFT-LKG\0\0\0\x01".to_vec();
    let tag = hmac::sign(&key, &[&whole[..], data].concat());
    whole.extend_from_slice(tag.as_ref());
    whole.extend_from_slice(data);
    if let Ok(kept) = open(&key, &owner, &whole, then(), DAY) {
        // It is written in its own order, and that once and for all.
        let again = seal(&key, &owner, &kept);
        let second = open(&key, &owner, &again, then(), DAY).unwrap();
        assert_eq!(seal(&key, &owner, &second), again);
    }
}

pub fn last_known_good_seeds() -> Vec<Vec<u8>> {
    let body = Any { type_url: "type.googleapis.com/a.b.C".to_owned(), value: vec![10, 1, b'a'] };
    let kept = Kept {
        good: Good {
            confirmed: then(),
            versions: BTreeMap::from([("clusters".to_owned(), "7".to_owned())]),
            resources: vec![Arc::new(Resource::new("a", body))],
        },
        places: Places { outbound: Some(([127, 0, 0, 1], 15001).into()), inbound: None },
    };
    let sealed = seal(&key(), &owner(), &kept);
    vec![sealed[44..].to_vec(), sealed]
}
